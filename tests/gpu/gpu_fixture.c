// SPDX-License-Identifier: Apache-2.0
// A guard is 256 bytes, so that arrays begin where views may begin.

#include "tests/gpu/gpu_fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "tests/reference/reference.h"

#define GUARD 64u                   // elements
#define POISON UINT32_C(0x7fc5a5a5) // a NaN

#define KERNELS_KEPT 16

static struct gpu *gpu;
// The kernels of the last runs: software devices take seconds to compile one.
static struct gpu_kernel *kernels[KERNELS_KEPT];
static struct gpu_kernel_params kernel_params[KERNELS_KEPT];
static size_t kernels_made;

// --- the device

static bool choose(char uuid[GPU_UUID_BYTES])
{
    struct gpu_device devices[GPU_DEVICES_MAX];
    size_t count = 0;
    struct reason why = {0};
    const char *wanted = getenv("RECO_TEST_GPU");
    if (gpu_list(devices, COUNT(devices), &count, &why) != STATUS_OK || count == 0) {
        (void)fprintf(stderr, "no Vulkan device: %s\n", why.text);
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (wanted ? strcmp(devices[i].uuid, wanted) == 0 : devices[i].usable) {
            memcpy(uuid, devices[i].uuid, GPU_UUID_BYTES);
            return true;
        }
    }
    (void)fprintf(stderr, "no usable Vulkan device among %zu\n", count);
    return false;
}

int gpu_fixture_main(int argc, char **argv)
{
    char uuid[GPU_UUID_BYTES];
    if (!kernel_table_is_built()) {
        (void)fprintf(stderr, "skipped: this build has no kernels\n");
        return 77;
    }
    if (!choose(uuid)) {
        (void)fprintf(stderr, "skipped\n");
        return 77;
    }
    struct criterion_test_set *tests = criterion_initialize();
    int result = 0;
    if (criterion_handle_args(argc, argv, true))
        result = criterion_run_all_tests(tests) ? 0 : 1;
    criterion_finalize(tests);
    return result;
}

void gpu_fixture_open(void)
{
    char uuid[GPU_UUID_BYTES];
    struct reason why = {0};
    cr_assert(choose(uuid));
    cr_assert(eq(int, gpu_open(uuid, &gpu, &why), STATUS_OK), "%s", why.text);
}

void gpu_fixture_close(void)
{
    for (size_t i = 0; i < KERNELS_KEPT; i++)
        gpu_kernel_destroy(gpu, &kernels[i]);
    gpu_close(&gpu);
}

struct kernel_matrix gpu_fixture_matrix(void)
{
    const struct gpu_device *device = gpu_device(gpu);
    return (struct kernel_matrix){
        .m = device->matrix_m,
        .n = device->matrix_n,
        .k = device->matrix_k,
        .subgroup = device->subgroup,
        .shared_bytes_max = device->shared_bytes_max,
        .threads_max = device->invocations_max,
    };
}

// --- arrays

static struct guarded guarded_new(size_t count)
{
    struct guarded array = {NULL, count};
    struct reason why = {0};
    uint64_t bytes = (count + 2u * GUARD) * 4;
    cr_assert(eq(int, gpu_alloc(gpu, bytes, &array.buffer, &why), STATUS_OK), "%s", why.text);
    cr_assert(eq(int, gpu_fill(gpu, array.buffer, 0, bytes, POISON, &why), STATUS_OK), "%s",
              why.text);
    return array;
}

struct guarded guarded_poisoned(size_t count)
{
    return guarded_new(count);
}

struct guarded guarded_with(const void *data, size_t count)
{
    struct guarded array = guarded_new(count);
    struct reason why = {0};
    cr_assert(eq(int, gpu_upload(gpu, array.buffer, (uint64_t)GUARD * 4, data, count * 4, &why),
                 STATUS_OK),
              "%s", why.text);
    return array;
}

void guarded_end(struct guarded *array, void *target)
{
    size_t count = array->count + 2u * GUARD;
    uint32_t *all = malloc(count * 4);
    struct reason why = {0};
    cr_assert(eq(int, gpu_download(gpu, array->buffer, 0, all, count * 4, &why), STATUS_OK), "%s",
              why.text);
    for (size_t i = 0; i < GUARD; i++) {
        cr_assert(eq(u32, all[i], POISON), "written %zu elements before an array of %zu",
                  (size_t)GUARD - i, array->count);
        cr_assert(eq(u32, all[GUARD + array->count + i], POISON),
                  "written %zu elements behind an array of %zu", i, array->count);
    }
    if (target)
        memcpy(target, all + GUARD, array->count * 4);
    free(all);
    gpu_free(gpu, &array->buffer);
}

bool is_poison(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits == POISON;
}

// --- kernels

static struct gpu_kernel *kernel_of(const struct kernel_run *run)
{
    const struct kernel_entry *entry = kernel_table_entry(run->id);
    cr_assert(entry->words != NULL, "%s is not part of this build", entry->name);
    struct gpu_kernel_params params = {
        .name = entry->name,
        .words = entry->words,
        .word_count = entry->bytes / 4,
        .bindings = entry->bindings,
        .push_bytes = entry->args_bytes,
        .constant_count = entry->constants,
    };
    memcpy(params.constants, run->constants, entry->constants * sizeof(uint32_t));
    for (size_t i = 0; i < KERNELS_KEPT; i++) {
        if (kernels[i] && memcmp(&params, &kernel_params[i], sizeof(params)) == 0)
            return kernels[i];
    }
    size_t at = kernels_made++ % KERNELS_KEPT;
    struct reason why = {0};
    gpu_kernel_destroy(gpu, &kernels[at]);
    cr_assert(eq(int, gpu_kernel_create(gpu, &params, &kernels[at], &why), STATUS_OK), "%s: %s",
              entry->name, why.text);
    kernel_params[at] = params;
    return kernels[at];
}

void gpu_fixture_run(const struct kernel_run *run)
{
    const struct kernel_entry *entry = kernel_table_entry(run->id);
    struct gpu_dispatch dispatch = {.kernel = kernel_of(run), .push = run->args, .work = 1e6};
    memcpy(dispatch.groups, run->groups, sizeof(dispatch.groups));
    for (uint32_t b = 0; b < entry->bindings; b++)
        dispatch.views[b] =
            (struct gpu_view){run->arrays[b].buffer, (uint64_t)GUARD * 4, run->arrays[b].count * 4};
    struct reason why = {0};
    cr_assert(eq(int, gpu_dispatch(gpu, &dispatch, &why), STATUS_OK), "%s: %s", entry->name,
              why.text);
}

// --- numbers

void *copy_of(const void *data, size_t bytes)
{
    void *copy = malloc(bytes + 1);
    memcpy(copy, data, bytes);
    return copy;
}

void expect_close(const char *what, const float *got, const double *expected, size_t count,
                  double bound)
{
    for (size_t i = 0; i < count; i++)
        cr_assert(isfinite(got[i]), "%s: element %zu of %zu is %g", what, i, count, (double)got[i]);
    double error = reference_squared_error(got, expected, count);
    cr_expect(error < bound, "%s: normalised squared error %g, allowed %g", what, error, bound);
}

void expect_bits(const char *what, const float *got, const float *expected, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (memcmp(&got[i], &expected[i], sizeof(float)) != 0)
            cr_fail("%s: element %zu of %zu is %.9g instead of %.9g", what, i, count,
                    (double)got[i], (double)expected[i]);
    }
}
