// SPDX-License-Identifier: Apache-2.0
// The list is asked for once in a process: loading drivers takes a while.

#include "tests/support/vulkan_device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "shaders/kernels/kernel_table.h"

bool vulkan_device_find(struct gpu_device *out)
{
    struct gpu_device devices[GPU_DEVICES_MAX];
    size_t count = 0;
    if (gpu_list(devices, GPU_DEVICES_MAX, &count, NULL) != STATUS_OK)
        return false;
    for (size_t i = 0; i < count; i++) {
        if (devices[i].usable) {
            *out = devices[i];
            return true;
        }
    }
    return false;
}

static bool is_wanted(void)
{
    const char *wanted = getenv("RECO_TEST_DEVICE");
    return wanted && strcmp(wanted, "vulkan") == 0;
}

const char *vulkan_device_name(void)
{
    static struct gpu_device device;
    if (!is_wanted())
        return "cpu";
    if (device.uuid[0] == '\0')
        cr_assert(vulkan_device_find(&device));
    return device.uuid;
}

bool vulkan_device_is_half(void)
{
    struct gpu_device device;
    const char *precision = getenv("RECO_GPU");
    if (!is_wanted() || (precision && strcmp(precision, "single") == 0))
        return false;
    return precision || (vulkan_device_find(&device) && device.matrix_m > 0 &&
                         kernel_table_entry(KERNEL_GEMM_MATRIX)->words);
}

static char own_folder[] = "/tmp/reco-test-XXXXXX";
static char own_file[sizeof(own_folder) + GPU_UUID_BYTES + 32];

const char *vulkan_device_own_cache(const char *uuid)
{
    const char *before = getenv("XDG_CACHE_HOME");
    if (before)
        cr_assert(eq(int, setenv("MESA_SHADER_CACHE_DIR", before, 1), 0));
    cr_assert(ne(ptr, mkdtemp(own_folder), NULL));
    cr_assert(eq(int, setenv("XDG_CACHE_HOME", own_folder, 1), 0));
    (void)snprintf(own_file, sizeof(own_file), "%s/reco/vulkan-%s.cache", own_folder, uuid);
    return own_file;
}

void vulkan_device_own_cache_end(void)
{
    (void)unlink(own_file);
    *strrchr(own_file, '/') = '\0';
    (void)rmdir(own_file);
    cr_expect(eq(int, rmdir(own_folder), 0));
}

int vulkan_device_main(int argc, char **argv)
{
    struct gpu_device device;
    if (is_wanted() && !vulkan_device_find(&device)) {
        puts("skipped: there is no Vulkan device here");
        return 77;
    }
    struct criterion_test_set *tests = criterion_initialize();
    int result = 0;
    if (criterion_handle_args(argc, argv, true))
        result = !criterion_run_all_tests(tests);
    criterion_finalize(tests);
    return result;
}
