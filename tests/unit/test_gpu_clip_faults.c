// SPDX-License-Identifier: Apache-2.0
// Goal: whichever call of Vulkan fails, opening a model and encoding with it ends in an error that
// names the call, leaves no object of Vulkan behind, and does not hang; afterwards the device gives
// the same bits as before.
//
// Method: the table of functions is patched. Every function that returns a result counts, and the
// n-th call fails. A life is that of a model: opened, the device being compared with the CPU, a
// text encoded, closed. The short run takes of each function the first call, the last and a seeded
// one between them; RECO_FAULTS=all takes every call, and a picture is encoded too, with a profile.
// A lost device stays lost. What is created is counted until it is destroyed.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "shaders/gpu/gpu_internal.h"
#include "shaders/models/clip_internal.h"
#include "shaders/ops/ops_profile.h"
#include "tests/support/random_clip_small.h"
#include "tests/support/vulkan_device.h"

enum { CALLS_ROOM = 65536 };

// Every function by a number.
#define NUMBER(name) FN_##name,
enum function { GPU_API_GLOBAL(NUMBER) GPU_API_INSTANCE(NUMBER) GPU_API_DEVICE(NUMBER) FN_COUNT };
#undef NUMBER
#define NAME(name) #name,
static const char *const names[] = {GPU_API_GLOBAL(NAME) GPU_API_INSTANCE(NAME)
                                        GPU_API_DEVICE(NAME)};
#undef NAME

static uint32_t calls;             // that may fail, so far
static uint8_t called[CALLS_ROOM]; // which function each was
static uint32_t fail_at;           // the number of the one that fails, from 1; 0: none
static VkResult failure;
static bool lost;
static bool silent; // no wait ends
static uint32_t waits;
static int objects; // created and not destroyed

static struct gpu_api real;

// Whether this call fails. What a lost device answers is up to the function's own wrapper.
static bool fails(enum function function)
{
    cr_assert(calls < CALLS_ROOM);
    called[calls++] = (uint8_t)function;
    if (calls == fail_at && failure == VK_ERROR_DEVICE_LOST)
        lost = true;
    return calls == fail_at;
}

// A function that gives a result and makes nothing.
#define PLAIN(name, parameters, arguments)                                                         \
    static VKAPI_ATTR VkResult VKAPI_CALL fake_##name parameters                                   \
    {                                                                                              \
        return fails(FN_##name) || lost ? failure : real.name arguments;                           \
    }
// One that makes an object, and the one that ends it.
#define PAIR(make, end, parameters, arguments, owner, kind)                                        \
    static VKAPI_ATTR VkResult VKAPI_CALL fake_##make parameters                                   \
    {                                                                                              \
        if (fails(FN_##make) || lost)                                                              \
            return failure;                                                                        \
        VkResult result = real.make arguments;                                                     \
        objects += result == VK_SUCCESS;                                                           \
        return result;                                                                             \
    }                                                                                              \
    static VKAPI_ATTR void VKAPI_CALL fake_##end(owner it, kind object,                            \
                                                 const VkAllocationCallbacks *memory)              \
    {                                                                                              \
        objects--;                                                                                 \
        real.end(it, object, memory);                                                              \
    }
#define OF_DEVICE(make)                                                                            \
    PAIR(Create##make, Destroy##make,                                                              \
         (VkDevice device, const Vk##make##CreateInfo *info, const VkAllocationCallbacks *memory,  \
          Vk##make *out),                                                                          \
         (device, info, memory, out), VkDevice, Vk##make)

PLAIN(EnumerateInstanceVersion, (uint32_t * version), (version))
PLAIN(EnumerateDeviceExtensionProperties,
      (VkPhysicalDevice physical, const char *layer, uint32_t *count, VkExtensionProperties *out),
      (physical, layer, count, out))
PLAIN(EnumeratePhysicalDevices, (VkInstance instance, uint32_t *count, VkPhysicalDevice *out),
      (instance, count, out))
PLAIN(MapMemory,
      (VkDevice device, VkDeviceMemory memory, VkDeviceSize offset, VkDeviceSize bytes,
       VkMemoryMapFlags flags, void **out),
      (device, memory, offset, bytes, flags, out))
PLAIN(BindBufferMemory,
      (VkDevice device, VkBuffer buffer, VkDeviceMemory memory, VkDeviceSize offset),
      (device, buffer, memory, offset))
PLAIN(ResetDescriptorPool,
      (VkDevice device, VkDescriptorPool pool, VkDescriptorPoolResetFlags flags),
      (device, pool, flags))
PLAIN(AllocateDescriptorSets,
      (VkDevice device, const VkDescriptorSetAllocateInfo *info, VkDescriptorSet *out),
      (device, info, out))
PLAIN(ResetCommandPool, (VkDevice device, VkCommandPool pool, VkCommandPoolResetFlags flags),
      (device, pool, flags))
PLAIN(AllocateCommandBuffers,
      (VkDevice device, const VkCommandBufferAllocateInfo *info, VkCommandBuffer *out),
      (device, info, out))
PLAIN(BeginCommandBuffer, (VkCommandBuffer buffer, const VkCommandBufferBeginInfo *info),
      (buffer, info))
PLAIN(EndCommandBuffer, (VkCommandBuffer buffer), (buffer))
PLAIN(QueueSubmit, (VkQueue queue, uint32_t count, const VkSubmitInfo *info, VkFence fence),
      (queue, count, info, fence))
PLAIN(GetQueryPoolResults,
      (VkDevice device, VkQueryPool pool, uint32_t first, uint32_t count, size_t bytes, void *out,
       VkDeviceSize stride, VkQueryResultFlags flags),
      (device, pool, first, count, bytes, out, stride, flags))
PLAIN(GetPipelineCacheData, (VkDevice device, VkPipelineCache cache, size_t *bytes, void *out),
      (device, cache, bytes, out))
PLAIN(GetSemaphoreCounterValue, (VkDevice device, VkSemaphore semaphore, uint64_t *out),
      (device, semaphore, out))

// Every other wait is over before the device is ready.
static VKAPI_ATTR VkResult VKAPI_CALL fake_WaitSemaphores(VkDevice device,
                                                          const VkSemaphoreWaitInfo *info,
                                                          uint64_t timeout)
{
    if (fails(FN_WaitSemaphores) || lost)
        return failure;
    if (silent || ++waits % 2 == 1)
        return VK_TIMEOUT;
    return real.WaitSemaphores(device, info, timeout);
}

OF_DEVICE(Buffer)
OF_DEVICE(ShaderModule)
OF_DEVICE(DescriptorSetLayout)
OF_DEVICE(PipelineLayout)
OF_DEVICE(DescriptorPool)
OF_DEVICE(CommandPool)
OF_DEVICE(Semaphore)
OF_DEVICE(PipelineCache)
OF_DEVICE(QueryPool)
PAIR(AllocateMemory, FreeMemory,
     (VkDevice device, const VkMemoryAllocateInfo *info, const VkAllocationCallbacks *memory,
      VkDeviceMemory *out),
     (device, info, memory, out), VkDevice, VkDeviceMemory)
PAIR(CreateComputePipelines, DestroyPipeline,
     (VkDevice device, VkPipelineCache cache, uint32_t count,
      const VkComputePipelineCreateInfo *info, const VkAllocationCallbacks *memory,
      VkPipeline *out),
     (device, cache, count, info, memory, out), VkDevice, VkPipeline)

// A device that is lost does nothing any more; this one, which is not, is waited for whatever is
// said.
static VKAPI_ATTR VkResult VKAPI_CALL fake_DeviceWaitIdle(VkDevice device)
{
    VkResult result = real.DeviceWaitIdle(device);
    return fails(FN_DeviceWaitIdle) || lost ? failure : result;
}

static VKAPI_ATTR VkResult VKAPI_CALL fake_CreateInstance(const VkInstanceCreateInfo *info,
                                                          const VkAllocationCallbacks *memory,
                                                          VkInstance *out)
{
    if (fails(FN_CreateInstance))
        return failure;
    VkResult result = real.CreateInstance(info, memory, out);
    objects += result == VK_SUCCESS;
    return result;
}

static VKAPI_ATTR void VKAPI_CALL fake_DestroyInstance(VkInstance instance,
                                                       const VkAllocationCallbacks *memory)
{
    objects--;
    real.DestroyInstance(instance, memory);
}

static VKAPI_ATTR VkResult VKAPI_CALL fake_CreateDevice(VkPhysicalDevice physical,
                                                        const VkDeviceCreateInfo *info,
                                                        const VkAllocationCallbacks *memory,
                                                        VkDevice *out)
{
    if (fails(FN_CreateDevice))
        return failure;
    VkResult result = real.CreateDevice(physical, info, memory, out);
    objects += result == VK_SUCCESS;
    return result;
}

static VKAPI_ATTR void VKAPI_CALL fake_DestroyDevice(VkDevice device,
                                                     const VkAllocationCallbacks *memory)
{
    objects--;
    real.DestroyDevice(device, memory);
}

// The table comes here three times, each time with more of it filled.
static void patch(struct gpu_api *api)
{
#define REPLACE(name)                                                                              \
    if (api->name && api->name != fake_##name) {                                                   \
        real.name = api->name;                                                                     \
        api->name = fake_##name;                                                                   \
    }
#define REPLACE_PAIR(name) REPLACE(Create##name) REPLACE(Destroy##name)
    REPLACE_PAIR(Instance)
    REPLACE_PAIR(Device)
    REPLACE_PAIR(Buffer)
    REPLACE_PAIR(ShaderModule)
    REPLACE_PAIR(DescriptorSetLayout)
    REPLACE_PAIR(PipelineLayout)
    REPLACE_PAIR(DescriptorPool)
    REPLACE_PAIR(CommandPool)
    REPLACE_PAIR(Semaphore)
    REPLACE_PAIR(PipelineCache)
    REPLACE_PAIR(QueryPool)
    REPLACE(GetQueryPoolResults)
    REPLACE(GetPipelineCacheData)
    REPLACE(AllocateMemory)
    REPLACE(FreeMemory)
    REPLACE(CreateComputePipelines)
    REPLACE(DestroyPipeline)
    REPLACE(EnumerateInstanceVersion)
    REPLACE(EnumerateDeviceExtensionProperties)
    REPLACE(EnumeratePhysicalDevices)
    REPLACE(DeviceWaitIdle)
    REPLACE(MapMemory)
    REPLACE(BindBufferMemory)
    REPLACE(ResetDescriptorPool)
    REPLACE(AllocateDescriptorSets)
    REPLACE(ResetCommandPool)
    REPLACE(AllocateCommandBuffers)
    REPLACE(BeginCommandBuffer)
    REPLACE(EndCommandBuffer)
    REPLACE(QueueSubmit)
    REPLACE(WaitSemaphores)
    REPLACE(GetSemaphoreCounterValue)
}

// --- one life of a model

struct life {
    struct buffer file;
    char config[1024];
    char uuid[GPU_UUID_BYTES];
    unsigned towers;
    const char *cache;
    bool knows; // what an earlier life found out of the device
};

static float answer[2 * RANDOM_CLIP_SMALL_DIMENSION];

static void open_life(struct life *life)
{
    struct gpu_device device;
    cr_assert(vulkan_device_find(&device));
    memcpy(life->uuid, device.uuid, sizeof(life->uuid));
    life->cache = vulkan_device_own_cache(device.uuid);
    random_clip_small(&life->file);
    // One layer of each tower is enough.
    static const char layers[] = "\"num_hidden_layers\": ";
    (void)snprintf(life->config, sizeof(life->config), "%s", random_clip_small_config);
    for (char *at = life->config; (at = strstr(at, layers)) != NULL;) {
        at += strlen(layers);
        *at = '1';
    }
}

static enum status encode(struct clip *clip, struct reason *why)
{
    const uint32_t ids[] = {7, 3, 11, RANDOM_CLIP_SMALL_END};
    const uint32_t count = sizeof(ids) / sizeof(ids[0]);
    const struct clip_ids all = {ids, &count, count, 1};
    static float pixels[3 * RANDOM_CLIP_SMALL_IMAGE * RANDOM_CLIP_SMALL_IMAGE];
    for (size_t i = 0; i < sizeof(pixels) / sizeof(pixels[0]); i++)
        pixels[i] = (float)(i % 17) / 17.0f;
    enum status status = clip_encode_ids(clip, &all, answer, why);
    ops_profile(clip->ops, true);
    if (status == STATUS_OK && (clip->towers & CLIP_IMAGES))
        status = clip_encode_pixels(clip, pixels, 1, answer + RANDOM_CLIP_SMALL_DIMENSION, why);
    return status;
}

static enum status live(const struct life *life, uint32_t fail, VkResult result, struct reason *why)
{
    struct weights *weights = NULL;
    struct clip *clip = NULL;
    const struct clip_params params = {.device = life->uuid, .threads = 1, .towers = life->towers};
    const struct clip_files files = {
        .name = "small",
        .config = {(const uint8_t *)life->config, strlen(life->config)},
    };
    cr_assert(eq(
        int, weights_open_bytes((struct bytes){life->file.data, life->file.count}, &weights, NULL),
        STATUS_OK));
    calls = 0;
    fail_at = fail;
    failure = result;
    lost = false;
    waits = 0;
    if (!life->knows)
        (void)unlink(life->cache);
    memset(answer, 0, sizeof(answer));
    enum status status = clip_open_files(&params, &files, weights, &clip, why);
    if (status == STATUS_OK)
        status = encode(clip, why);
    clip_close(&clip);
    weights_close(&weights);
    return status;
}

// --- which calls fail

// A life without failure: its calls and what it computes.
struct healthy {
    uint32_t calls;
    uint8_t called[CALLS_ROOM];
    float answer[2 * RANDOM_CLIP_SMALL_DIMENSION];
};

static void live_well(const struct life *life, struct healthy *out)
{
    struct reason why = {.text = ""};
    cr_assert(eq(int, live(life, 0, VK_SUCCESS, &why), STATUS_OK), "%s", why.text);
    cr_assert(eq(int, objects, 0));
    out->calls = calls;
    memcpy(out->called, called, sizeof(called));
    memcpy(out->answer, answer, sizeof(answer));
}

// Marks the calls of one function that the short run takes.
static void choose(const struct healthy *healthy, enum function function, bool *chosen)
{
    static uint32_t places[CALLS_ROOM];
    uint32_t count = 0;
    for (uint32_t i = 0; i < healthy->calls; i++) {
        if (healthy->called[i] == function)
            places[count++] = i;
    }
    if (count == 0)
        return;
    chosen[places[0]] = true;
    chosen[places[count - 1]] = true;
    chosen[places[(function * 7919u + 13u) % count]] = true;
}

// Where the runtime has another way, or nothing depends on the call.
static bool may_go_on(enum function function, VkResult result)
{
    switch ((int)function) {
    case FN_EnumerateDeviceExtensionProperties: // a device without extensions
    case FN_DeviceWaitIdle:                     // the last wait
    case FN_CreatePipelineCache:                // nothing is kept
    case FN_GetPipelineCacheData:
    case FN_CreateQueryPool: // the host's clock is taken
        return true;
    case FN_CreateBuffer: // a smaller block of memory
    case FN_AllocateMemory:
    case FN_BindBufferMemory:
        return result == VK_ERROR_OUT_OF_DEVICE_MEMORY;
    default:
        return false;
    }
}

static void fail_call(const struct life *life, const struct healthy *healthy, uint32_t n,
                      VkResult result)
{
    enum function function = (enum function)healthy->called[n];
    struct reason said = {.text = ""};
    enum status status = live(life, n + 1, result, &said);
    cr_expect(eq(int, objects, 0), "call %u, vk%s: %d objects are left", n, names[function],
              objects);
    objects = 0;
    if (status == STATUS_OK) {
        cr_expect(may_go_on(function, result), "call %u, vk%s: no error", n, names[function]);
        cr_expect(eq(int, memcmp(answer, healthy->answer, sizeof(answer)), 0));
        return;
    }
    cr_expect(status == STATUS_NO_MEMORY || status == STATUS_UNAVAILABLE, "call %u, vk%s: %s", n,
              names[function], said.text);
    cr_expect(may_go_on(function, result) || strstr(said.text, names[function]) != NULL,
              "call %u, vk%s: '%s'", n, names[function], said.text);
}

static void sweep(VkResult result, bool knows)
{
    static struct life life;
    static struct healthy healthy;
    static struct healthy again;
    static bool chosen[CALLS_ROOM];
    const char *wanted = getenv("RECO_FAULTS");
    bool all = wanted && strcmp(wanted, "all") == 0;
    open_life(&life);
    life.knows = knows;
    life.towers = all ? CLIP_TEXTS | CLIP_IMAGES : CLIP_TEXTS;

    // An instance of our own keeps the drivers loaded between the lives.
    struct gpu_api own;
    VkInstance instance = VK_NULL_HANDLE;
    cr_assert(eq(int, gpu_api_open(&own, &instance, NULL), STATUS_OK));
    gpu_api_patch = patch;
    live_well(&life, &healthy);
    live_well(&life, &healthy); // which may know
    for (int function = 0; function < FN_COUNT; function++)
        choose(&healthy, (enum function)function, chosen);
    uint32_t count = 0;
    for (uint32_t n = 0; n < healthy.calls; n++) {
        if (!all && !chosen[n])
            continue;
        fail_call(&life, &healthy, n, result);
        count++;
    }
    live_well(&life, &again);
    cr_expect(eq(int, memcmp(again.answer, healthy.answer, sizeof(again.answer)), 0));
    gpu_api_patch = NULL;
    own.DestroyInstance(instance, NULL);
    buffer_deinit(&life.file);
    vulkan_device_own_cache_end();
    (void)fprintf(stderr, "%u of %u calls failed\n", count, healthy.calls);
}

Test(gpu_clip_faults, no_memory_at_a_call_is_an_error_that_leaves_nothing)
{
    sweep(VK_ERROR_OUT_OF_DEVICE_MEMORY, false);
}

Test(gpu_clip_faults, a_device_lost_at_a_call_is_an_error_that_leaves_nothing)
{
    sweep(VK_ERROR_DEVICE_LOST, false);
}

Test(gpu_clip_faults, the_same_where_the_device_is_known)
{
    sweep(VK_ERROR_DEVICE_LOST, true);
}

Test(gpu_clip_faults, a_device_that_does_not_answer_is_an_error_and_is_not_waited_for)
{
    static struct life life;
    struct reason why = {.text = ""};
    open_life(&life);
    life.towers = CLIP_TEXTS;
    gpu_api_patch = patch;
    gpu_queue_silence_us = 1000;
    silent = true;
    cr_expect(eq(int, live(&life, 0, VK_SUCCESS, &why), STATUS_UNAVAILABLE));
    cr_expect(strstr(why.text, "vkWaitSemaphores: timeout") != NULL, "%s", why.text);
    // Behind the last wait the driver is not called again: any call might wait too.
    cr_expect(eq(int, called[calls - 1], FN_GetSemaphoreCounterValue));
    buffer_deinit(&life.file);
    vulkan_device_own_cache_end();
}

int main(int argc, char **argv)
{
    return vulkan_device_main(argc, argv);
}
