// SPDX-License-Identifier: Apache-2.0
// gpu_internal.h - what the files of the Vulkan runtime share, and the table of functions
// through which every call of Vulkan goes: tests replace entries to make calls fail.
//
// Thread-safety: as gpu.h.

#ifndef RECO_SHADERS_GPU_GPU_INTERNAL_H
#define RECO_SHADERS_GPU_GPU_INTERNAL_H

#define VK_NO_PROTOTYPES
#include <vulkan/vulkan_core.h>

#include "proto/base/bytes.h"
#include "shaders/gpu/gpu.h"

// Every function of Vulkan that is used, by the object that it is asked from.
#define GPU_API_GLOBAL(X)                                                                          \
    X(CreateInstance)                                                                              \
    X(EnumerateInstanceVersion)

#define GPU_API_INSTANCE(X)                                                                        \
    X(DestroyInstance)                                                                             \
    X(EnumeratePhysicalDevices)                                                                    \
    X(EnumerateDeviceExtensionProperties)                                                          \
    X(GetPhysicalDeviceProperties)                                                                 \
    X(GetPhysicalDeviceProperties2)                                                                \
    X(GetPhysicalDeviceFeatures2)                                                                  \
    X(GetPhysicalDeviceMemoryProperties)                                                           \
    X(GetPhysicalDeviceQueueFamilyProperties)                                                      \
    X(CreateDevice)                                                                                \
    X(GetDeviceProcAddr)

#define GPU_API_DEVICE(X)                                                                          \
    X(DestroyDevice)                                                                               \
    X(GetDeviceQueue)                                                                              \
    X(DeviceWaitIdle)                                                                              \
    X(AllocateMemory)                                                                              \
    X(FreeMemory)                                                                                  \
    X(MapMemory)                                                                                   \
    X(CreateBuffer)                                                                                \
    X(DestroyBuffer)                                                                               \
    X(GetBufferMemoryRequirements)                                                                 \
    X(BindBufferMemory)                                                                            \
    X(CreateShaderModule)                                                                          \
    X(DestroyShaderModule)                                                                         \
    X(CreateDescriptorSetLayout)                                                                   \
    X(DestroyDescriptorSetLayout)                                                                  \
    X(CreatePipelineLayout)                                                                        \
    X(DestroyPipelineLayout)                                                                       \
    X(CreatePipelineCache)                                                                         \
    X(DestroyPipelineCache)                                                                        \
    X(GetPipelineCacheData)                                                                        \
    X(CreateComputePipelines)                                                                      \
    X(DestroyPipeline)                                                                             \
    X(CreateDescriptorPool)                                                                        \
    X(DestroyDescriptorPool)                                                                       \
    X(ResetDescriptorPool)                                                                         \
    X(AllocateDescriptorSets)                                                                      \
    X(UpdateDescriptorSets)                                                                        \
    X(CreateCommandPool)                                                                           \
    X(DestroyCommandPool)                                                                          \
    X(ResetCommandPool)                                                                            \
    X(AllocateCommandBuffers)                                                                      \
    X(BeginCommandBuffer)                                                                          \
    X(EndCommandBuffer)                                                                            \
    X(CmdBindPipeline)                                                                             \
    X(CmdBindDescriptorSets)                                                                       \
    X(CmdPushConstants)                                                                            \
    X(CmdDispatch)                                                                                 \
    X(CmdPipelineBarrier)                                                                          \
    X(CmdCopyBuffer)                                                                               \
    X(CmdFillBuffer)                                                                               \
    X(CreateQueryPool)                                                                             \
    X(DestroyQueryPool)                                                                            \
    X(GetQueryPoolResults)                                                                         \
    X(CmdResetQueryPool)                                                                           \
    X(CmdWriteTimestamp)                                                                           \
    X(CreateSemaphore)                                                                             \
    X(DestroySemaphore)                                                                            \
    X(QueueSubmit)                                                                                 \
    X(WaitSemaphores)                                                                              \
    X(GetSemaphoreCounterValue)

struct gpu_api {
    PFN_vkGetInstanceProcAddr GetInstanceProcAddr;
#define GPU_API_ENTRY(name) PFN_vk##name name;
    GPU_API_GLOBAL(GPU_API_ENTRY)
    GPU_API_INSTANCE(GPU_API_ENTRY)
    GPU_API_DEVICE(GPU_API_ENTRY)
#undef GPU_API_ENTRY
};

#define GPU_BLOCKS_MAX 8 // allocations of device memory; two more are the host's
#define GPU_SLOTS 3      // command buffers in turn
#define GPU_SETS_MAX 256 // dispatches of a command buffer
#define GPU_UPLOAD_BYTES (UINT64_C(4) << 20) // of a command buffer, and so is
#define GPU_FETCH_BYTES (UINT64_C(1) << 20)
#define GPU_FETCHES_MAX 16 // of a command buffer

// A piece of a block, in use or free; pieces lie in the order of their offsets.
struct gpu_piece {
    uint64_t offset;
    uint64_t bytes;
    bool used;
    struct gpu_piece *next;
};

// One allocation with one buffer over all of it.
struct gpu_block {
    VkDeviceMemory memory;
    VkBuffer buffer;
    uint64_t bytes;
    struct gpu_piece *pieces;
};

struct gpu_buffer {
    struct gpu_block *block;
    uint64_t offset; // in the block
    uint64_t bytes;
};

// Memory that both sides see, mapped all the time.
struct gpu_host {
    VkDeviceMemory memory;
    VkBuffer buffer;
    uint8_t *mapped;
};

struct gpu_kernel {
    const char *name;
    VkPipeline pipeline;
    uint32_t bindings;
    uint32_t push_bytes;
};

// What the host copies when the device is done; it lies in the slot's part of gpu->download.
struct gpu_fetch {
    uint8_t *data;
    uint64_t bytes;
};

// A command buffer with its descriptors and its parts of the staging buffers; `ticket` is the
// semaphore's value when it is done.
struct gpu_slot {
    VkCommandPool commands;
    VkCommandBuffer buffer;
    VkDescriptorPool descriptors;
    uint64_t ticket;
    bool timed;        // its times were not read yet
    uint64_t uploaded; // bytes of its part of gpu->upload
    uint64_t fetched;  // and of gpu->download, one fetch behind the other
    struct gpu_fetch fetches[GPU_FETCHES_MAX];
    uint32_t fetch_count;
};

struct gpu_clock {
    bool on;
    VkQueryPool queries; // made when it is first wanted
    uint64_t mask;       // of the bits that count
    double tick_s;
    double seconds; // that the device worked since they were last taken
};

// Whose a cache is; all must be equal.
struct gpu_cache_identity {
    uint32_t vendor;
    uint32_t device;
    uint32_t driver; // its version
    uint8_t cache_uuid[VK_UUID_SIZE];
    uint64_t words; // hash of the device and its driver in words
    uint64_t key;   // the opener's
};

struct gpu_cache {
    char *path; // NULL: nothing is kept
    struct gpu_cache_identity identity;
    VkPipelineCache pipelines; // may be none
    uint64_t written;          // hash of the file, 0 where there is none
};

struct gpu {
    struct gpu_api vk;
    struct gpu_device info;
    VkInstance instance;
    VkPhysicalDevice physical;
    VkDevice device;
    VkQueue queue;
    uint32_t family;
    VkPhysicalDeviceMemoryProperties memory;

    struct gpu_block blocks[GPU_BLOCKS_MAX];
    uint32_t block_count;
    uint64_t block_bytes;     // of all blocks
    struct gpu_host upload;   // GPU_UPLOAD_BYTES of each slot
    struct gpu_host download; // GPU_FETCH_BYTES of each

    VkDescriptorSetLayout set_layout[GPU_BINDINGS_MAX]; // for 1 .. GPU_BINDINGS_MAX bindings
    VkPipelineLayout layout[GPU_BINDINGS_MAX];

    struct gpu_cache cache;
    struct gpu_clock clock;

    VkSemaphore done;   // its value is the last ticket that is finished
    uint64_t submitted; // last ticket
    uint64_t settled;   // all up to this one are known to be done
    struct gpu_slot slots[GPU_SLOTS];
    uint32_t slot; // being recorded, or next
    bool recording;
    uint32_t sets; // taken in the slot
    double work;   // recorded in the slot
    bool failed;   // nothing more is recorded
    bool silent;   // it does not answer: whatever it is asked may never return
};

// --- gpu_api.c

// Set by tests: called with the table after each part of it is filled.
extern void (*gpu_api_patch)(struct gpu_api *api);

// Opens libvulkan, once in the life of the process, and an instance. STATUS_UNAVAILABLE where
// there is none.
enum status gpu_api_open(struct gpu_api *api, VkInstance *instance, struct reason *why) MUST_CHECK;
enum status gpu_api_load_device(struct gpu_api *api, VkDevice device,
                                struct reason *why) MUST_CHECK;

// A failed call in our words; nothing is lost by it.
enum status gpu_api_failed(const char *call, VkResult result, struct reason *why);

// --- gpu_device.c

struct gpu_found {
    VkPhysicalDevice physical;
    uint32_t family; // of queues
    struct gpu_device info;
};

// What the instance has, with duplicates and what is unusable marked.
enum status gpu_device_find(const struct gpu_api *api, VkInstance instance,
                            struct gpu_found found[GPU_DEVICES_MAX], size_t *count,
                            struct reason *why) MUST_CHECK;

// --- gpu_memory.c

// The two staging buffers; what is there after a failure is freed by gpu_memory_deinit().
enum status gpu_memory_init(struct gpu *gpu, struct reason *why) MUST_CHECK;
void gpu_memory_deinit(struct gpu *gpu);

// --- gpu_kernel.c

enum status gpu_kernel_init(struct gpu *gpu, struct reason *why) MUST_CHECK;
void gpu_kernel_deinit(struct gpu *gpu);

// --- gpu_cache.c

struct gpu_cache_content {
    uint8_t note[GPU_NOTE_BYTES];
    struct bytes pipelines; // the driver's, may be empty
};

// Reads a file; out->pipelines points into it. False, with *out unchanged, when it is not whole or
// of another identity.
bool gpu_cache_read(const struct gpu_cache_identity *identity, struct bytes file,
                    struct gpu_cache_content *out);

// Appends the file to *out. STATUS_NO_MEMORY when it is too large.
enum status gpu_cache_write(const struct gpu_cache_identity *identity,
                            const struct gpu_cache_content *content, struct buffer *out) MUST_CHECK;

void gpu_cache_deinit(struct gpu *gpu);

// --- gpu_clock.c: around what the current slot records, and when a slot's ticket is reached

void gpu_clock_begin(struct gpu *gpu);
void gpu_clock_end(struct gpu *gpu);
VkResult gpu_clock_read(struct gpu *gpu, uint32_t slot) MUST_CHECK;
void gpu_clock_deinit(struct gpu *gpu);

// --- gpu_queue.c

enum status gpu_queue_init(struct gpu *gpu, struct reason *why) MUST_CHECK;
void gpu_queue_deinit(struct gpu *gpu);

// How long the device may be without reaching any ticket before it is given up; tests set it.
extern int64_t gpu_queue_silence_us;

// Waits until nothing is in flight, before something is destroyed that may be in use.
void gpu_queue_settle(struct gpu *gpu);

// --- gpu_matrix.c: cooperative matrices

struct gpu_matrix_features { // as the device knows them
    VkStructureType type;
    const void *next;
    VkBool32 cooperative_matrix;
    VkBool32 robust;
};

// Fills in the sizes of `info`, whose half_arithmetic is known.
void gpu_matrix_describe(const struct gpu_api *api, VkInstance instance, VkPhysicalDevice physical,
                         struct gpu_device *info);

// Asks for them where `info` has sizes; `features` must live until the device is created.
void gpu_matrix_enable(const struct gpu_device *info, struct gpu_matrix_features *features,
                       VkDeviceCreateInfo *create);

#endif
