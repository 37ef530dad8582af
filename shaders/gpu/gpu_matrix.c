// SPDX-License-Identifier: Apache-2.0
// Cooperative matrices (VK_KHR_cooperative_matrix): whether a device multiplies small
// matrices of halves into sums of floats, and of which size. Debian 12's Vulkan headers
// are older than the extension, so its few structs are declared here, by the registry's values.

#include <string.h>

#include "proto/base/mem.h"
#include "shaders/gpu/gpu_internal.h"

#define EXTENSION "VK_KHR_cooperative_matrix"
#define EXTENSIONS_MAX 512
#define SIZES_MAX 64

// Of the registry, which headers from 1.3.255 on have.
#define TYPE_FEATURES ((VkStructureType)1000506000)
#define TYPE_SIZE ((VkStructureType)1000506001)
#define COMPONENT_FLOAT16 0
#define COMPONENT_FLOAT32 1
#define SCOPE_SUBGROUP 3

struct matrix_size { // NOLINT(clang-analyzer-optin.performance.Padding): Vulkan's order
    VkStructureType type;
    void *next;
    uint32_t m;
    uint32_t n;
    uint32_t k;
    uint32_t a;
    uint32_t b;
    uint32_t c;
    uint32_t result;
    VkBool32 saturating;
    uint32_t scope;
};
typedef VkResult(VKAPI_PTR *matrix_sizes_function)(VkPhysicalDevice, uint32_t *,
                                                   struct matrix_size *);

static bool has_extension(const struct gpu_api *api, VkPhysicalDevice physical)
{
    VkExtensionProperties *extensions = mem_alloc_array(EXTENSIONS_MAX, sizeof(extensions[0]));
    uint32_t count = EXTENSIONS_MAX;
    VkResult result = api->EnumerateDeviceExtensionProperties(physical, NULL, &count, extensions);
    if (result != VK_SUCCESS && result != VK_INCOMPLETE)
        count = 0;
    bool has = false;
    for (uint32_t i = 0; i < count && !has; i++)
        has = strcmp(extensions[i].extensionName, EXTENSION) == 0;
    mem_free(extensions);
    return has;
}

// What the kernels can use.
static bool is_fit(const struct matrix_size *size)
{
    return size->a == COMPONENT_FLOAT16 && size->b == COMPONENT_FLOAT16 &&
           size->c == COMPONENT_FLOAT32 && size->result == COMPONENT_FLOAT32 && !size->saturating &&
           size->scope == SCOPE_SUBGROUP && size->n % 8 == 0 && size->k % 8 == 0 &&
           32 % size->k == 0;
}

void gpu_matrix_describe(const struct gpu_api *api, VkInstance instance, VkPhysicalDevice physical,
                         struct gpu_device *info)
{
    // GLSL's matrices come with Vulkan's memory model; under it an atomic operation is of the
    // device.
    VkPhysicalDeviceVulkanMemoryModelFeatures model = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_MEMORY_MODEL_FEATURES,
    };
    struct gpu_matrix_features matrix = {.type = TYPE_FEATURES, .next = &model};
    VkPhysicalDeviceFeatures2 features = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
        .pNext = &matrix,
    };
    if (!info->half_arithmetic || !has_extension(api, physical))
        return;
    api->GetPhysicalDeviceFeatures2(physical, &features);
    matrix_sizes_function list = NULL;
    PFN_vkVoidFunction function =
        api->GetInstanceProcAddr(instance, "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR");
    memcpy(&list, &function, sizeof(list));
    if (!matrix.cooperative_matrix || !model.vulkanMemoryModel ||
        !model.vulkanMemoryModelDeviceScope || !list)
        return;

    struct matrix_size sizes[SIZES_MAX];
    for (uint32_t i = 0; i < SIZES_MAX; i++)
        sizes[i] = (struct matrix_size){.type = TYPE_SIZE};
    uint32_t count = SIZES_MAX;
    VkResult result = list(physical, &count, sizes);
    if (result != VK_SUCCESS && result != VK_INCOMPLETE)
        return;
    for (uint32_t i = 0; i < count; i++) {
        if (!is_fit(&sizes[i]) || sizes[i].m * sizes[i].n * sizes[i].k <=
                                      info->matrix_m * info->matrix_n * info->matrix_k)
            continue;
        info->matrix_m = sizes[i].m;
        info->matrix_n = sizes[i].n;
        info->matrix_k = sizes[i].k;
    }
}

void gpu_matrix_enable(const struct gpu_device *info, struct gpu_matrix_features *features,
                       VkDeviceCreateInfo *create)
{
    static const char *const names[] = {EXTENSION};
    if (info->matrix_m == 0)
        return;
    *features = (struct gpu_matrix_features){
        .type = TYPE_FEATURES,
        .next = create->pNext,
        .cooperative_matrix = VK_TRUE,
    };
    create->pNext = features;
    create->enabledExtensionCount = 1;
    create->ppEnabledExtensionNames = names;
}
