// SPDX-License-Identifier: Apache-2.0
// Goal: a Vulkan device is compared with the CPU before it is used, in exact search before the
// first one. What it does wrongly in one way is done in another and named; what it does wrongly in
// all is an error that names it.
//
// Method: the table of Vulkan's functions is patched so that the driver gets other kernels than
// ours, which subtract where they should add, or leaves a dispatch out. The software device says
// that it is a GPU where ways are counted that software does not take. Only one test lets a device
// multiply by cooperative matrices, which not every one has and beside which no other way is looked
// at.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/bytes.h"
#include "proto/base/mem.h"
#include "shaders/gpu/gpu_internal.h"
#include "shaders/kernels/kernel_table.h"
#include "shaders/ops/ops.h"
#include "tests/support/vulkan_device.h"

enum { OP_FADD = 129, OP_FSUB = 131, HEADER_WORDS = 5, HEAD = 20 };

static struct gpu_api real;

#define REPLACE(name)                                                                              \
    if (api->name && api->name != fake_##name) {                                                   \
        real.name = api->name;                                                                     \
        api->name = fake_##name;                                                                   \
    }

static char uuid[GPU_UUID_BYTES];
static uint64_t binding_bytes_max;
static const char *cache_file; // the file of what is known of the device

static void find_device(void)
{
    struct gpu_device device;
    cr_assert(vulkan_device_find(&device));
    cr_assert(eq(int, setenv("RECO_GPU", "single", 1), 0));
    memcpy(uuid, device.uuid, sizeof(uuid));
    binding_bytes_max = device.binding_bytes_max;
    cache_file = vulkan_device_own_cache(uuid);
}

TestSuite(gpu_canary, .init = find_device, .fini = vulkan_device_own_cache_end);

// --- kernels that are wrong

static const uint32_t *seen; // words of the module that was made last
static size_t seen_bytes;
// Which pipelines are spoiled: of this kernel, where constant `constant` has this value.
static struct {
    const uint32_t *words; // NULL: none
    uint32_t constant;
    uint32_t value;
    bool any_value;
} spoil;
static uint32_t spoiled; // pipelines

static VKAPI_ATTR VkResult VKAPI_CALL fake_CreateShaderModule(VkDevice device,
                                                              const VkShaderModuleCreateInfo *info,
                                                              const VkAllocationCallbacks *memory,
                                                              VkShaderModule *out)
{
    seen = info->pCode;
    seen_bytes = info->codeSize;
    return real.CreateShaderModule(device, info, memory, out);
}

// The same kernel with every sum of two floats a difference.
static VkShaderModule wrong_module(VkDevice device)
{
    size_t count = seen_bytes / sizeof(seen[0]);
    uint32_t *words = mem_alloc(seen_bytes);
    uint32_t changed = 0;
    memcpy(words, seen, seen_bytes);
    for (size_t i = HEADER_WORDS; i < count; i += words[i] >> 16) {
        if ((words[i] & 0xffff) == OP_FADD) {
            words[i] = (words[i] & 0xffff0000) | OP_FSUB;
            changed++;
        }
    }
    cr_assert(changed > 0);
    const VkShaderModuleCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
        .codeSize = seen_bytes,
        .pCode = words,
    };
    VkShaderModule module = VK_NULL_HANDLE;
    cr_assert(eq(int, real.CreateShaderModule(device, &info, NULL, &module), VK_SUCCESS));
    mem_free(words);
    return module;
}

static bool is_spoiled(const VkComputePipelineCreateInfo *info)
{
    const uint32_t *constants = info->stage.pSpecializationInfo->pData;
    return spoil.words == seen && (spoil.any_value || constants[spoil.constant] == spoil.value);
}

static VKAPI_ATTR VkResult VKAPI_CALL fake_CreateComputePipelines(
    VkDevice device, VkPipelineCache cache, uint32_t count, const VkComputePipelineCreateInfo *info,
    const VkAllocationCallbacks *memory, VkPipeline *out)
{
    if (!is_spoiled(info))
        return real.CreateComputePipelines(device, cache, count, info, memory, out);
    VkComputePipelineCreateInfo other = *info;
    other.stage.module = wrong_module(device);
    VkResult result = real.CreateComputePipelines(device, cache, count, &other, memory, out);
    real.DestroyShaderModule(device, other.stage.module, NULL);
    spoiled++;
    return result;
}

static void patch_kernels(struct gpu_api *api)
{
    real.DestroyShaderModule = api->DestroyShaderModule;
    REPLACE(CreateShaderModule)
    REPLACE(CreateComputePipelines)
}

static void forget(void)
{
    cr_assert(eq(int, unlink(cache_file), 0));
}

static void spoil_kernel(enum kernel_id id)
{
    memset(&spoil, 0, sizeof(spoil));
    spoil.words = kernel_table_entry(id)->words;
    spoil.any_value = true;
}

Test(gpu_canary, a_kernel_that_a_driver_makes_wrongly_refuses_the_device_and_is_named)
{
    static const struct {
        enum kernel_id id;
        const char *name;
    } kernels[] = {
        {KERNEL_GEMM_DIRECT_F32, "a product"}, {KERNEL_LAYERNORM, "layernorm"},
        {KERNEL_EMBED_TOKENS, "embed_tokens"}, {KERNEL_EMBED_PATCHES, "embed_patches"},
        {KERNEL_NORMALISE, "normalise"},
    };
    gpu_api_patch = patch_kernels;
    for (size_t i = 0; i < sizeof(kernels) / sizeof(kernels[0]); i++) {
        struct ops *ops = NULL;
        struct reason why = {.text = ""};
        spoil_kernel(kernels[i].id);
        spoiled = 0;
        cr_expect(eq(int, ops_open(uuid, 1, &ops, &why), STATUS_UNAVAILABLE), "%s",
                  kernels[i].name);
        cr_expect(strstr(why.text, kernels[i].name) != NULL, "%s: '%s'", kernels[i].name, why.text);
        cr_expect(eq(ptr, ops, NULL));
        cr_expect(ge(u32, spoiled, 1));
    }
}

Test(gpu_canary, attention_is_compared_for_each_dimension_of_heads_before_it_is_used)
{
    struct ops *ops = NULL;
    struct reason why = {.text = ""};
    gpu_api_patch = patch_kernels;
    memset(&spoil, 0, sizeof(spoil));
    spoil.words = kernel_table_entry(KERNEL_ATTENTION)->words;
    spoil.constant = 1; // groups of four floats in a head
    spoil.value = HEAD / 4;
    cr_assert(eq(int, ops_open(uuid, 1, &ops, &why), STATUS_OK), "%s", why.text);
    cr_expect(eq(int, ops_prepare_attention(ops, HEAD + 4, &why), STATUS_OK), "%s", why.text);
    for (int again = 0; again < 2; again++) {
        cr_expect(eq(int, ops_prepare_attention(ops, HEAD, &why), STATUS_UNAVAILABLE));
        cr_expect(strstr(why.text, "attention is wrong there") != NULL, "%s", why.text);
    }
    cr_expect(eq(int, ops_prepare_attention(ops, 129, &why), STATUS_UNSUPPORTED));
    cr_expect(strstr(why.text, "at most 128") != NULL, "%s", why.text);
    ops_close(&ops);
}

// --- a way that is wrong

// The device says that it is a GPU with small workgroups: so that few ways are possible.
static VKAPI_ATTR void VKAPI_CALL fake_GetPhysicalDeviceProperties(VkPhysicalDevice physical,
                                                                   VkPhysicalDeviceProperties *out)
{
    real.GetPhysicalDeviceProperties(physical, out);
    out->deviceType = VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU;
    out->limits.maxComputeWorkGroupInvocations = 64;
}

static void patch_as_gpu(struct gpu_api *api)
{
    patch_kernels(api);
    REPLACE(GetPhysicalDeviceProperties)
}

// Whether a product with few rows and one with many are right.
static void check_products(struct ops *ops)
{
    enum { DEPTH = 2, COLUMNS = 3, ROWS_MAX = 40 };
    static const float weights[COLUMNS * DEPTH] = {1, 2, 3, 4, 5, 6};
    struct ops_matrix *matrix = NULL;
    struct ops_buffer *source = NULL;
    struct ops_buffer *target = NULL;
    float rows[ROWS_MAX * DEPTH];
    float got[ROWS_MAX * COLUMNS];
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        rows[i] = (float)(i % 7);
    const struct ops_matrix_params params = {
        .weights = weights, .columns = COLUMNS, .depth = DEPTH, .epilogue = OPS_PLAIN};
    cr_assert(eq(int, ops_matrix_create(ops, &params, &matrix, NULL), STATUS_OK));
    cr_assert(eq(int, ops_alloc(ops, sizeof(rows) / 4, &source, NULL), STATUS_OK));
    cr_assert(eq(int, ops_alloc(ops, sizeof(got) / 4, &target, NULL), STATUS_OK));
    cr_assert(eq(int, ops_upload(ops, source, 0, rows, sizeof(rows) / 4, NULL), STATUS_OK));
    for (size_t count = 3; count <= ROWS_MAX; count += 37) {
        const struct ops_view from = {source, 0, count, DEPTH};
        const struct ops_view to = {target, 0, count, COLUMNS};
        cr_assert(eq(int, ops_product(ops, matrix, from, to, NULL), STATUS_OK));
        cr_assert(eq(int, ops_download(ops, target, 0, got, count * COLUMNS, NULL), STATUS_OK));
        for (size_t i = 0; i < count * COLUMNS; i++) {
            const float *row = rows + i / COLUMNS * DEPTH;
            const float *weight = weights + i % COLUMNS * DEPTH;
            cr_expect(eq(flt, got[i], row[0] * weight[0] + row[1] * weight[1]));
        }
    }
    ops_free(ops, &source);
    ops_free(ops, &target);
    ops_matrix_destroy(ops, &matrix);
}

Test(gpu_canary, a_way_that_is_wrong_is_named_and_another_is_taken)
{
    struct ops *ops = NULL;
    struct reason why = {.text = ""};
    char dropped[OPS_DROPPED_BYTES];
    gpu_api_patch = patch_as_gpu;

    memset(&spoil, 0, sizeof(spoil));
    cr_assert(eq(int, ops_open(uuid, 1, &ops, &why), STATUS_OK), "%s", why.text);
    ops_dropped(ops, dropped);
    cr_expect(eq(int, strcmp(dropped, ""), 0), "%s", dropped);
    check_products(ops);
    // Batches are larger than those of software, as far as one binding has room.
    cr_expect(eq(sz, ops_batch_rows(ops, 768), 8192));
    cr_expect(eq(sz, ops_batch_rows(ops, binding_bytes_max / 4 / 4096), 4096));
    cr_expect(eq(sz, ops_batch_rows(ops, binding_bytes_max), 1));
    ops_close(&ops);

    forget();
    spoil_kernel(KERNEL_GEMM_TILED_F32);
    cr_assert(eq(int, ops_open(uuid, 1, &ops, &why), STATUS_OK), "%s", why.text);
    ops_dropped(ops, dropped);
    cr_expect(eq(int, strcmp(dropped, "products in tiles of 32 rows"), 0), "%s", dropped);
    check_products(ops);

    // Attention through shared memory; what is left is attention without.
    memset(&spoil, 0, sizeof(spoil));
    spoil.words = kernel_table_entry(KERNEL_ATTENTION)->words;
    spoil.constant = 3;
    spoil.value = 1;
    cr_assert(eq(int, ops_prepare_attention(ops, HEAD, &why), STATUS_OK), "%s", why.text);
    ops_dropped(ops, dropped);
    cr_expect(
        eq(int, strcmp(dropped, "products in tiles of 32 rows, attention in shared memory"), 0),
        "%s", dropped);
    ops_close(&ops);

    // All this is known again, without trying: what is spoiled now is not seen.
    spoil_kernel(KERNEL_GEMM_TILED_F32);
    cr_assert(eq(int, ops_open(uuid, 1, &ops, &why), STATUS_OK), "%s", why.text);
    spoil_kernel(KERNEL_ATTENTION);
    cr_expect(eq(int, ops_prepare_attention(ops, HEAD, &why), STATUS_OK), "%s", why.text);
    ops_dropped(ops, dropped);
    cr_expect(
        eq(int, strcmp(dropped, "products in tiles of 32 rows, attention in shared memory"), 0),
        "%s", dropped);
    check_products(ops);
    ops_close(&ops);
}

// Where there are cooperative matrices.
Test(gpu_canary, matrices_that_are_wrong_are_named_and_another_way_is_taken)
{
    struct ops *ops = NULL;
    struct reason why = {.text = ""};
    char dropped[OPS_DROPPED_BYTES];
    cr_assert(eq(int, unsetenv("RECO_GPU"), 0));
    if (!vulkan_device_is_half())
        cr_skip("the device or the compiler of its kernels has no cooperative matrices");
    gpu_api_patch = patch_kernels;

    spoil_kernel(KERNEL_ATTENTION_MATRIX);
    cr_assert(eq(int, ops_open(uuid, 1, &ops, &why), STATUS_OK), "%s", why.text);
    ops_dropped(ops, dropped);
    cr_expect(eq(int, strcmp(dropped, ""), 0), "%s", dropped);
    cr_assert(eq(int, ops_prepare_attention(ops, HEAD, &why), STATUS_OK), "%s", why.text);
    ops_dropped(ops, dropped);
    cr_expect(eq(int, strcmp(dropped, "attention by cooperative matrices"), 0), "%s", dropped);
    check_products(ops);
    ops_close(&ops);

    forget();
    spoil_kernel(KERNEL_GEMM_MATRIX);
    cr_assert(eq(int, ops_open(uuid, 1, &ops, &why), STATUS_OK), "%s", why.text);
    ops_dropped(ops, dropped);
    cr_expect(eq(int, strcmp(dropped, "products by cooperative matrices"), 0), "%s", dropped);
    check_products(ops);
    ops_close(&ops);
}

// --- an operation that is not done

static uint32_t dispatches;
static uint32_t left_out; // the number of the one that is not done

static VKAPI_ATTR void VKAPI_CALL fake_CmdDispatch(VkCommandBuffer buffer, uint32_t x, uint32_t y,
                                                   uint32_t z)
{
    if (++dispatches != left_out)
        real.CmdDispatch(buffer, x, y, z);
}

static void patch_dispatch(struct gpu_api *api){REPLACE(CmdDispatch)}

Test(gpu_canary, each_operation_is_tried_and_each_trial_counts)
{
    struct ops *ops = NULL;
    struct reason why = {.text = ""};
    uint32_t refused = 0;
    gpu_api_patch = patch_dispatch;
    for (left_out = 1;; left_out++, refused++) {
        dispatches = 0;
        enum status status = ops_open(uuid, 1, &ops, &why);
        if (status == STATUS_OK)
            break;
        cr_assert(eq(int, status, STATUS_UNAVAILABLE), "%s", why.text);
        cr_assert(eq(ptr, ops, NULL));
        cr_expect(strstr(why.text, "so it is not used") != NULL, "%s", why.text);
    }
    ops_close(&ops);
    cr_expect(eq(u32, refused, dispatches)); // all of them were needed
    cr_expect(ge(u32, refused, 14));
}

// --- exact search

static enum status search(struct ops *ops, struct reason *why)
{
    enum { ROWS = 3, DEPTH = 4, K = 2 };
    static const float query[DEPTH] = {1, 2, 3, 4};
    static const uint16_t one = 0x3c00; // as a half
    const uint16_t rows[ROWS * DEPTH] = {[2] = one, [7] = one, [8] = one};
    struct ops_buffer *buffers[4] = {NULL};
    static const size_t counts[4] = {DEPTH, ROWS * DEPTH / 2, K, K};
    for (size_t i = 0; i < 4; i++)
        cr_assert(eq(int, ops_alloc(ops, counts[i], &buffers[i], NULL), STATUS_OK));
    cr_assert(eq(int, ops_upload(ops, buffers[0], 0, query, counts[0], NULL), STATUS_OK));
    cr_assert(eq(int, ops_upload(ops, buffers[1], 0, rows, counts[1], NULL), STATUS_OK));
    const struct ops_score_topk args = {
        .queries = {buffers[0], 0, 1, DEPTH},
        .rows = {buffers[1], 0, ROWS, DEPTH / 2},
        .ids = {buffers[2], 0, 1, K},
        .scores = {buffers[3], 0, 1, K},
    };
    enum status status = ops_score_topk(ops, &args, why);
    uint32_t ids[K] = {9, 9};
    if (status == STATUS_OK)
        cr_assert(eq(int, ops_download(ops, buffers[2], 0, ids, K, NULL), STATUS_OK));
    cr_expect(status != STATUS_OK || (ids[0] == 1 && ids[1] == 0), "%u, %u", ids[0], ids[1]);
    for (size_t i = 0; i < 4; i++)
        ops_free(ops, &buffers[i]);
    return status;
}

static void patch_all(struct gpu_api *api)
{
    patch_kernels(api);
    patch_dispatch(api);
}

Test(gpu_canary, search_is_compared_before_it_is_used_and_found_right_only_once)
{
    enum { OF_SEARCH = 2, OF_TRIALS = 2 * OF_SEARCH };
    struct ops *ops = NULL;
    struct reason why = {.text = ""};
    gpu_api_patch = patch_all;
    left_out = 0;
    memset(&spoil, 0, sizeof(spoil));
    cr_assert(eq(int, ops_open(uuid, 1, &ops, &why), STATUS_OK), "%s", why.text);

    // Each of the two kernels, in each of the two trials, is needed.
    for (left_out = 1; left_out <= OF_TRIALS; left_out++) {
        dispatches = 0;
        cr_expect(eq(int, search(ops, &why), STATUS_UNAVAILABLE), "dispatch %u", left_out);
        cr_expect(strstr(why.text, "search is wrong there") != NULL, "%s", why.text);
    }
    ops_close(&ops);

    cr_assert(eq(int, ops_open(uuid, 1, &ops, &why), STATUS_OK), "%s", why.text);
    spoil_kernel(KERNEL_SCORE_TOPK);
    spoiled = 0;
    cr_expect(eq(int, search(ops, &why), STATUS_UNAVAILABLE));
    cr_expect(strstr(why.text, "search is wrong there") != NULL, "%s", why.text);
    cr_expect(eq(u32, spoiled, 1));
    ops_close(&ops);

    for (uint32_t of_trials = OF_TRIALS;; of_trials = 0) {
        memset(&spoil, 0, sizeof(spoil));
        dispatches = 0;
        left_out = 0;
        cr_assert(eq(int, ops_open(uuid, 1, &ops, &why), STATUS_OK), "%s", why.text);
        cr_expect(eq(u32, dispatches, 0), "the rest is known");
        for (uint32_t i = 1; i <= 2; i++) {
            cr_expect(eq(int, search(ops, &why), STATUS_OK), "%s", why.text);
            cr_expect(eq(u32, dispatches, of_trials + i * OF_SEARCH));
        }
        ops_close(&ops);
        if (of_trials == 0)
            break;
    }
}

// --- what is kept

static uint32_t trials(void)
{
    struct ops *ops = NULL;
    struct reason why = {.text = ""};
    dispatches = 0;
    left_out = 0;
    cr_assert(eq(int, ops_open(uuid, 1, &ops, &why), STATUS_OK), "%s", why.text);
    ops_close(&ops);
    return dispatches;
}

static void write_cache(const void *data, size_t count)
{
    FILE *file = fopen(cache_file, "wb");
    cr_assert(file != NULL);
    cr_assert(eq(sz, fwrite(data, 1, count, file), count));
    cr_assert(eq(int, fclose(file), 0));
}

Test(gpu_canary, what_is_known_of_a_device_is_kept_and_believed_only_when_it_is_whole)
{
    gpu_api_patch = patch_dispatch;
    cr_expect(ge(u32, trials(), 14));
    cr_expect(eq(u32, trials(), 0));

    struct buffer file = {0};
    cr_assert(eq(int, bytes_read_file(cache_file, 1 << 20, &file), STATUS_OK));
    write_cache(file.data, file.count / 2);
    cr_expect(ge(u32, trials(), 14), "cut");
    cr_expect(eq(u32, trials(), 0), "and made anew");

    file.data[60] ^= 1; // of the note
    write_cache(file.data, file.count);
    cr_expect(ge(u32, trials(), 14), "damaged");
    file.data[60] ^= 1;

    write_cache("", 0);
    cr_expect(ge(u32, trials(), 14), "empty");
    cr_expect(eq(u32, trials(), 0));

    // A link may lead to what is not this user's.
    char real_file[256];
    (void)snprintf(real_file, sizeof(real_file), "%s.real", cache_file);
    cr_assert(eq(int, rename(cache_file, real_file), 0));
    cr_assert(eq(int, symlink(real_file, cache_file), 0));
    cr_expect(ge(u32, trials(), 14), "a link");
    cr_expect(eq(u32, trials(), 0));
    cr_assert(eq(int, unlink(real_file), 0));
    buffer_deinit(&file);

    forget();
    cr_assert(eq(int, setenv("XDG_CACHE_HOME", "/dev/null", 1), 0));
    cr_expect(ge(u32, trials(), 14), "no folder");
    cr_expect(ge(u32, trials(), 14), "again");
}

// A driver that gives more than lavapipe does, behind its own beginning.
enum { COMPILED = 1000 };
static size_t given; // bytes that it got back at the opening
static bool given_right;

static VKAPI_ATTR VkResult VKAPI_CALL fake_GetPipelineCacheData(VkDevice device,
                                                                VkPipelineCache pipelines,
                                                                size_t *bytes, void *out)
{
    // With a room, it is what was asked for before.
    *bytes -= out ? COMPILED : 0;
    VkResult result = real.GetPipelineCacheData(device, pipelines, bytes, out);
    if (out)
        memset((uint8_t *)out + *bytes, 0x5a, COMPILED);
    *bytes += COMPILED;
    return result;
}

static VKAPI_ATTR VkResult VKAPI_CALL
fake_CreatePipelineCache(VkDevice device, const VkPipelineCacheCreateInfo *info,
                         const VkAllocationCallbacks *memory, VkPipelineCache *out)
{
    const uint8_t *data = info->pInitialData;
    given = info->initialDataSize;
    given_right = given > COMPILED;
    for (size_t i = 0; i < COMPILED && given_right; i++)
        given_right = data[given - 1 - i] == 0x5a;
    VkPipelineCacheCreateInfo plain = *info;
    plain.initialDataSize = 0;
    plain.pInitialData = NULL;
    return real.CreatePipelineCache(device, &plain, memory, out);
}

static void patch_cache(struct gpu_api *api)
{
    patch_dispatch(api);
    REPLACE(GetPipelineCacheData)
    REPLACE(CreatePipelineCache)
}

Test(gpu_canary, what_a_driver_compiled_is_given_back_to_it)
{
    gpu_api_patch = patch_cache;
    cr_expect(ge(u32, trials(), 14));
    cr_expect(eq(sz, given, 0));
    cr_expect(eq(u32, trials(), 0));
    cr_expect(given_right, "%zu bytes", given);
}

int main(int argc, char **argv)
{
    return vulkan_device_main(argc, argv);
}
