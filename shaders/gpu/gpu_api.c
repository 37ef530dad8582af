// SPDX-License-Identifier: Apache-2.0
// libvulkan is opened when somebody asks for a device and stays until the process ends:
// drivers keep threads and handlers that would be left without their code.

#include <assert.h>
#include <dlfcn.h>
#include <string.h>

#include "shaders/gpu/gpu_internal.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

void (*gpu_api_patch)(struct gpu_api *api);

static const char *result_text(VkResult result)
{
    // Vulkan has dozens of results; these are the ones that the calls here may give.
    static const struct {
        VkResult result;
        const char *text;
    } texts[] = {
        {VK_NOT_READY, "not ready"},
        {VK_TIMEOUT, "timeout"},
        {VK_INCOMPLETE, "incomplete"},
        {VK_ERROR_OUT_OF_HOST_MEMORY, "out of host memory"},
        {VK_ERROR_OUT_OF_DEVICE_MEMORY, "out of device memory"},
        {VK_ERROR_INITIALIZATION_FAILED, "initialization failed"},
        {VK_ERROR_DEVICE_LOST, "device lost"},
        {VK_ERROR_MEMORY_MAP_FAILED, "memory map failed"},
        {VK_ERROR_LAYER_NOT_PRESENT, "layer not present"},
        {VK_ERROR_EXTENSION_NOT_PRESENT, "extension not present"},
        {VK_ERROR_FEATURE_NOT_PRESENT, "feature not present"},
        {VK_ERROR_INCOMPATIBLE_DRIVER, "incompatible driver"},
        {VK_ERROR_TOO_MANY_OBJECTS, "too many objects"},
        {VK_ERROR_FRAGMENTED_POOL, "fragmented pool"},
        {VK_ERROR_OUT_OF_POOL_MEMORY, "out of pool memory"},
    };
    for (size_t i = 0; i < COUNT(texts); i++) {
        if (texts[i].result == result)
            return texts[i].text;
    }
    return "error";
}

static bool is_memory(VkResult result)
{
    return result == VK_ERROR_OUT_OF_HOST_MEMORY || result == VK_ERROR_OUT_OF_DEVICE_MEMORY ||
           result == VK_ERROR_OUT_OF_POOL_MEMORY || result == VK_ERROR_FRAGMENTED_POOL ||
           result == VK_ERROR_TOO_MANY_OBJECTS || result == VK_ERROR_MEMORY_MAP_FAILED;
}

static bool is_absence(VkResult result)
{
    return result == VK_ERROR_INCOMPATIBLE_DRIVER || result == VK_ERROR_INITIALIZATION_FAILED ||
           result == VK_ERROR_LAYER_NOT_PRESENT || result == VK_ERROR_DEVICE_LOST ||
           result == VK_TIMEOUT;
}

enum status gpu_api_failed(const char *call, VkResult result, struct reason *why)
{
    assert(result != VK_SUCCESS);

    enum status status = STATUS_INTERNAL;
    if (is_memory(result))
        status = STATUS_NO_MEMORY;
    else if (is_absence(result))
        status = STATUS_UNAVAILABLE;
    return reason_set(why, status, "device", "vk%s: %s (%d)", call, result_text(result),
                      (int)result);
}

// The library's one entry, or NULL.
static PFN_vkGetInstanceProcAddr open_library(void)
{
    static void *library; // never closed; opening it again gives the same
    if (!library)
        library = dlopen("libvulkan.so.1", RTLD_NOW | RTLD_LOCAL);
    void *symbol = library ? dlsym(library, "vkGetInstanceProcAddr") : NULL;
    // ISO C has no conversion between pointers to objects and to functions.
    PFN_vkGetInstanceProcAddr entry = NULL;
    memcpy(&entry, &symbol, sizeof(entry));
    return entry;
}

// A function's name and its place in the table.
struct entry {
    const char *name;
    size_t place;
};
#define ENTRY(name) {"vk" #name, offsetof(struct gpu_api, name)},
static const struct entry global_entries[] = {GPU_API_GLOBAL(ENTRY)};
static const struct entry instance_entries[] = {GPU_API_INSTANCE(ENTRY)};
static const struct entry device_entries[] = {GPU_API_DEVICE(ENTRY)};
#undef ENTRY

// Pointers to functions all have one form, whatever their arguments.
static enum status enter(struct gpu_api *api, const struct entry *entry,
                         PFN_vkVoidFunction function, struct reason *why)
{
    if (!function)
        return reason_set(why, STATUS_UNAVAILABLE, "device", "libvulkan or the driver has no %s",
                          entry->name);
    memcpy((char *)api + entry->place, &function, sizeof(function));
    return STATUS_OK;
}

static enum status load_from_instance(struct gpu_api *api, VkInstance instance,
                                      const struct entry *entries, size_t count, struct reason *why)
{
    for (size_t i = 0; i < count; i++) {
        enum status status =
            enter(api, &entries[i], api->GetInstanceProcAddr(instance, entries[i].name), why);
        if (status != STATUS_OK)
            return status;
    }
    if (gpu_api_patch)
        gpu_api_patch(api);
    return STATUS_OK;
}

enum status gpu_api_load_device(struct gpu_api *api, VkDevice device, struct reason *why)
{
    for (size_t i = 0; i < COUNT(device_entries); i++) {
        enum status status = enter(api, &device_entries[i],
                                   api->GetDeviceProcAddr(device, device_entries[i].name), why);
        if (status != STATUS_OK)
            return status;
    }
    if (gpu_api_patch)
        gpu_api_patch(api);
    return STATUS_OK;
}

static enum status load_global(struct gpu_api *api, struct reason *why)
{
    api->GetInstanceProcAddr = open_library();
    if (!api->GetInstanceProcAddr)
        return reason_set(why, STATUS_UNAVAILABLE, "device", "there is no libvulkan.so.1 here");
    return load_from_instance(api, NULL, global_entries, COUNT(global_entries), why);
}

enum status gpu_api_open(struct gpu_api *api, VkInstance *instance, struct reason *why)
{
    *api = (struct gpu_api){0};
    enum status status = load_global(api, why);
    if (status != STATUS_OK)
        return status;

    uint32_t version = 0;
    VkResult result = api->EnumerateInstanceVersion(&version);
    if (result != VK_SUCCESS)
        return gpu_api_failed("EnumerateInstanceVersion", result, why);
    if (version < VK_API_VERSION_1_2)
        return reason_set(why, STATUS_UNAVAILABLE, "device", "libvulkan is of before Vulkan 1.2");

    const VkApplicationInfo application = {
        .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
        .pApplicationName = "reco",
        .apiVersion = VK_API_VERSION_1_2,
    };
    const VkInstanceCreateInfo create = {
        .sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
        .pApplicationInfo = &application,
    };
    VkInstance made = VK_NULL_HANDLE;
    result = api->CreateInstance(&create, NULL, &made);
    if (result != VK_SUCCESS)
        return gpu_api_failed("CreateInstance", result, why);
    status = load_from_instance(api, made, instance_entries, COUNT(instance_entries), why);
    if (status != STATUS_OK) {
        if (api->DestroyInstance)
            api->DestroyInstance(made, NULL);
        return status;
    }
    *instance = made;
    return STATUS_OK;
}
