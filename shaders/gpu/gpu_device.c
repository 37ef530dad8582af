// SPDX-License-Identifier: Apache-2.0
// Finds devices, says what they can do and why one is not used, and opens one.

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/mem.h"
#include "shaders/gpu/gpu_internal.h"

#define FAMILIES_MAX 32
#define NAMES_BYTES 256

const char *gpu_kind_name(enum gpu_kind kind)
{
    static const char *const names[] = {
        [GPU_OTHER] = "other",     [GPU_INTEGRATED] = "integrated", [GPU_DISCRETE] = "discrete",
        [GPU_VIRTUAL] = "virtual", [GPU_SOFTWARE] = "software",
    };
    return names[kind];
}

static enum gpu_kind kind_of(VkPhysicalDeviceType type)
{
    static const enum gpu_kind kinds[] = {
        [VK_PHYSICAL_DEVICE_TYPE_OTHER] = GPU_OTHER,
        [VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU] = GPU_INTEGRATED,
        [VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU] = GPU_DISCRETE,
        [VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU] = GPU_VIRTUAL,
        [VK_PHYSICAL_DEVICE_TYPE_CPU] = GPU_SOFTWARE,
    };
    return (size_t)type < sizeof(kinds) / sizeof(kinds[0]) ? kinds[type] : GPU_OTHER;
}

// --- what a device is

static void write_uuid(const uint8_t bytes[VK_UUID_SIZE], char text[GPU_UUID_BYTES])
{
    size_t at = 0;
    for (size_t i = 0; i < VK_UUID_SIZE; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            text[at++] = '-';
        (void)snprintf(text + at, 3, "%02x", bytes[i]);
        at += 2;
    }
}

static int lower(char c)
{
    return c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c;
}

static bool same_uuid(const char *a, const char *b)
{
    while (*a && lower(*a) == lower(*b)) {
        a++;
        b++;
    }
    return *a == *b;
}

static uint64_t own_memory(const VkPhysicalDeviceMemoryProperties *memory)
{
    uint64_t most = 0;
    for (uint32_t i = 0; i < memory->memoryHeapCount; i++) {
        const VkMemoryHeap *heap = &memory->memoryHeaps[i];
        if ((heap->flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT) && heap->size > most)
            most = heap->size;
    }
    return most;
}

// A family that computes, rather one that does nothing else: its work does not wait behind a
// desktop's. UINT32_MAX without one.
static uint32_t compute_family(const struct gpu_api *api, VkPhysicalDevice physical)
{
    VkQueueFamilyProperties families[FAMILIES_MAX];
    uint32_t count = FAMILIES_MAX;
    api->GetPhysicalDeviceQueueFamilyProperties(physical, &count, families);
    uint32_t best = UINT32_MAX;
    for (uint32_t i = 0; i < count; i++) {
        if (!(families[i].queueFlags & VK_QUEUE_COMPUTE_BIT) || families[i].queueCount == 0)
            continue;
        if (!(families[i].queueFlags & VK_QUEUE_GRAPHICS_BIT))
            return i;
        if (best == UINT32_MAX)
            best = i;
    }
    return best;
}

static void refuse(struct gpu_device *info, const char *why)
{
    info->usable = false;
    (void)snprintf(info->why_not, sizeof(info->why_not), "%s", why);
}

// Properties and features that Vulkan 1.2 tells; whether what is needed is there.
static void describe(const struct gpu_api *api, struct gpu_found *found)
{
    struct gpu_device *info = &found->info;
    VkPhysicalDeviceSubgroupProperties subgroup = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES,
    };
    VkPhysicalDeviceMaintenance3Properties sizes = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES,
        .pNext = &subgroup,
    };
    VkPhysicalDeviceDriverProperties driver = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES,
        .pNext = &sizes,
    };
    VkPhysicalDeviceIDProperties id = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_ID_PROPERTIES,
        .pNext = &driver,
    };
    VkPhysicalDeviceProperties2 properties = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
        .pNext = &id,
    };
    api->GetPhysicalDeviceProperties2(found->physical, &properties);

    VkPhysicalDeviceVulkan12Features features12 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
    };
    VkPhysicalDeviceVulkan11Features features11 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES,
        .pNext = &features12,
    };
    VkPhysicalDeviceFeatures2 features = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
        .pNext = &features11,
    };
    api->GetPhysicalDeviceFeatures2(found->physical, &features);

    write_uuid(id.deviceUUID, info->uuid);
    (void)snprintf(info->driver, sizeof(info->driver), "%.255s %.255s", driver.driverName,
                   driver.driverInfo);
    info->allocation_bytes_max = sizes.maxMemoryAllocationSize;
    info->subgroup = subgroup.subgroupSize;
    info->half_storage = features11.storageBuffer16BitAccess;
    info->half_arithmetic = features12.shaderFloat16;

    if (!info->half_storage)
        refuse(info, "it has no 16-bit storage (storageBuffer16BitAccess)");
    else if (!features12.timelineSemaphore)
        refuse(info, "it has no timeline semaphores");
}

static void inspect(const struct gpu_api *api, VkPhysicalDevice physical, struct gpu_found *found)
{
    VkPhysicalDeviceProperties properties;
    VkPhysicalDeviceMemoryProperties memory;
    api->GetPhysicalDeviceProperties(physical, &properties);
    api->GetPhysicalDeviceMemoryProperties(physical, &memory);

    struct gpu_device *info = &found->info;
    found->physical = physical;
    found->family = compute_family(api, physical);
    (void)snprintf(info->name, sizeof(info->name), "%.255s", properties.deviceName);
    info->kind = kind_of(properties.deviceType);
    info->api_major = VK_API_VERSION_MAJOR(properties.apiVersion);
    info->api_minor = VK_API_VERSION_MINOR(properties.apiVersion);
    info->memory_bytes = own_memory(&memory);
    info->binding_bytes_max = properties.limits.maxStorageBufferRange;
    info->shared_bytes_max = properties.limits.maxComputeSharedMemorySize;
    info->invocations_max = properties.limits.maxComputeWorkGroupInvocations;
    info->usable = true;
    if (properties.apiVersion < VK_API_VERSION_1_2) {
        refuse(info, "it knows Vulkan before 1.2 only");
        return;
    }
    describe(api, found);
    if (info->usable && found->family == UINT32_MAX)
        refuse(info, "it has no queue that computes");
}

// --- which of them

// One GPU may have two drivers; the first in the loader's order stays, unless only the other works.
static void mark_duplicates(struct gpu_found *found, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        for (size_t j = 0; j < i; j++) {
            struct gpu_device *first = &found[j].info;
            struct gpu_device *again = &found[i].info;
            if (!first->usable || !again->usable || !same_uuid(first->uuid, again->uuid))
                continue;
            char text[GPU_REASON_BYTES];
            (void)snprintf(text, sizeof(text), "the same GPU is used by driver %.100s",
                           first->driver);
            refuse(again, text);
        }
    }
}

enum status gpu_device_find(const struct gpu_api *api, VkInstance instance,
                            struct gpu_found found[GPU_DEVICES_MAX], size_t *count,
                            struct reason *why)
{
    VkPhysicalDevice devices[GPU_DEVICES_MAX];
    uint32_t got = GPU_DEVICES_MAX;
    VkResult result = api->EnumeratePhysicalDevices(instance, &got, devices);
    // More devices than there is room for: the rest is not listed.
    if (result != VK_SUCCESS && result != VK_INCOMPLETE)
        return gpu_api_failed("EnumeratePhysicalDevices", result, why);
    for (uint32_t i = 0; i < got; i++) {
        found[i] = (struct gpu_found){0};
        inspect(api, devices[i], &found[i]);
        if (found[i].info.usable)
            gpu_matrix_describe(api, instance, devices[i], &found[i].info);
    }
    mark_duplicates(found, got);
    *count = got;
    return STATUS_OK;
}

enum status gpu_list(struct gpu_device *out, size_t max, size_t *count, struct reason *why)
{
    assert(out);
    assert(count);

    struct gpu_api api;
    VkInstance instance = VK_NULL_HANDLE;
    *count = 0;
    enum status status = gpu_api_open(&api, &instance, why);
    if (status == STATUS_UNAVAILABLE)
        return STATUS_OK;
    if (status != STATUS_OK)
        return status;

    struct gpu_found found[GPU_DEVICES_MAX];
    size_t got = 0;
    status = gpu_device_find(&api, instance, found, &got, why);
    api.DestroyInstance(instance, NULL);
    if (status == STATUS_UNAVAILABLE)
        return STATUS_OK;
    if (status != STATUS_OK)
        return status;
    if (got == 0)
        (void)reason_set(why, STATUS_OK, "device", "libvulkan has no driver here");
    for (size_t i = 0; i < got && i < max; i++)
        out[i] = found[i].info;
    *count = got < max ? got : max;
    return STATUS_OK;
}

// --- opening

static enum status not_found(const char *uuid, const struct gpu_found *found, size_t count,
                             struct reason *why)
{
    char names[NAMES_BYTES] = "";
    size_t at = 0;
    for (size_t i = 0; i < count && at + GPU_UUID_BYTES + 2 < sizeof(names); i++) {
        if (found[i].info.usable)
            at += (size_t)snprintf(names + at, sizeof(names) - at, "%s%s", at > 0 ? ", " : "",
                                   found[i].info.uuid);
    }
    return reason_set(why, STATUS_NOT_FOUND, "device", "no device '%.40s'; there is %s", uuid,
                      at > 0 ? names : "none that could be used");
}

static enum status choose(struct gpu *gpu, const char *uuid, struct reason *why)
{
    struct gpu_found found[GPU_DEVICES_MAX];
    size_t count = 0;
    enum status status = gpu_device_find(&gpu->vk, gpu->instance, found, &count, why);
    if (status != STATUS_OK)
        return status;

    const struct gpu_found *refused = NULL;
    for (size_t i = 0; i < count; i++) {
        if (!same_uuid(found[i].info.uuid, uuid))
            continue;
        if (found[i].info.usable) {
            gpu->info = found[i].info;
            gpu->physical = found[i].physical;
            gpu->family = found[i].family;
            return STATUS_OK;
        }
        refused = &found[i];
    }
    if (refused)
        return reason_set(why, STATUS_UNSUPPORTED, "device", "'%.40s', %.100s: %s", uuid,
                          refused->info.name, refused->info.why_not);
    return not_found(uuid, found, count, why);
}

static enum status create_device(struct gpu *gpu, struct reason *why)
{
    const float priority = 1.0f;
    const VkDeviceQueueCreateInfo queue = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
        .queueFamilyIndex = gpu->family,
        .queueCount = 1,
        .pQueuePriorities = &priority,
    };
    VkPhysicalDeviceVulkan12Features features12 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
        .timelineSemaphore = VK_TRUE,
        .shaderFloat16 = gpu->info.half_arithmetic,
        .vulkanMemoryModel = gpu->info.matrix_m > 0,
        .vulkanMemoryModelDeviceScope = gpu->info.matrix_m > 0,
    };
    VkPhysicalDeviceVulkan11Features features11 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES,
        .pNext = &features12,
        .storageBuffer16BitAccess = VK_TRUE,
    };
    VkDeviceCreateInfo create = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
        .pNext = &features11,
        .queueCreateInfoCount = 1,
        .pQueueCreateInfos = &queue,
    };
    struct gpu_matrix_features matrix;
    gpu_matrix_enable(&gpu->info, &matrix, &create);
    VkResult result = gpu->vk.CreateDevice(gpu->physical, &create, NULL, &gpu->device);
    if (result != VK_SUCCESS) {
        gpu->device = VK_NULL_HANDLE;
        return gpu_api_failed("CreateDevice", result, why);
    }
    enum status status = gpu_api_load_device(&gpu->vk, gpu->device, why);
    if (status != STATUS_OK)
        return status;
    gpu->vk.GetDeviceQueue(gpu->device, gpu->family, 0, &gpu->queue);
    gpu->vk.GetPhysicalDeviceMemoryProperties(gpu->physical, &gpu->memory);
    return STATUS_OK;
}

enum status gpu_open(const char *uuid, struct gpu **out, struct reason *why)
{
    assert(uuid);
    assert(out);

    struct gpu *gpu = mem_alloc(sizeof(*gpu));
    enum status status = gpu_api_open(&gpu->vk, &gpu->instance, why);
    if (status == STATUS_OK)
        status = choose(gpu, uuid, why);
    if (status == STATUS_OK)
        status = create_device(gpu, why);
    if (status == STATUS_OK)
        status = gpu_queue_init(gpu, why);
    if (status == STATUS_OK)
        status = gpu_memory_init(gpu, why);
    if (status == STATUS_OK)
        status = gpu_kernel_init(gpu, why);
    if (status != STATUS_OK) {
        gpu_close(&gpu);
        return status;
    }
    *out = gpu;
    return STATUS_OK;
}

static void close_device(struct gpu *it)
{
    // A table that is not filled belongs to a device that made nothing.
    if (it->device && it->vk.GetSemaphoreCounterValue) {
        gpu_queue_settle(it);
        gpu_cache_deinit(it);
        gpu_clock_deinit(it);
        gpu_kernel_deinit(it);
        gpu_memory_deinit(it);
        gpu_queue_deinit(it);
    }
    if (it->device && it->vk.DestroyDevice)
        it->vk.DestroyDevice(it->device, NULL);
    if (it->instance)
        it->vk.DestroyInstance(it->instance, NULL);
}

void gpu_close(struct gpu **gpu)
{
    assert(gpu);

    struct gpu *it = *gpu;
    if (!it)
        return;
    // A device that does not answer keeps what it has until the process ends.
    if (!it->silent)
        close_device(it);
    mem_free(it->cache.path);
    mem_free(it);
    *gpu = NULL;
}

const struct gpu_device *gpu_device(const struct gpu *gpu)
{
    assert(gpu);

    return &gpu->info;
}
