// SPDX-License-Identifier: Apache-2.0
// A kernel is a pipeline. All kernels with as many bindings share one layout: that many storage
// buffers, and the push constants that every device has room for.

#include <assert.h>

#include "proto/base/mem.h"
#include "shaders/gpu/gpu_internal.h"

static enum status create_layout(struct gpu *gpu, uint32_t bindings, struct reason *why)
{
    VkDescriptorSetLayoutBinding binding[GPU_BINDINGS_MAX];
    for (uint32_t i = 0; i < bindings; i++) {
        binding[i] = (VkDescriptorSetLayoutBinding){
            .binding = i,
            .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
            .descriptorCount = 1,
            .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT,
        };
    }
    const VkDescriptorSetLayoutCreateInfo set = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
        .bindingCount = bindings,
        .pBindings = binding,
    };
    VkDescriptorSetLayout *set_layout = &gpu->set_layout[bindings - 1];
    VkResult result = gpu->vk.CreateDescriptorSetLayout(gpu->device, &set, NULL, set_layout);
    if (result != VK_SUCCESS) {
        *set_layout = VK_NULL_HANDLE;
        return gpu_api_failed("CreateDescriptorSetLayout", result, why);
    }
    const VkPushConstantRange push = {VK_SHADER_STAGE_COMPUTE_BIT, 0, GPU_PUSH_BYTES_MAX};
    const VkPipelineLayoutCreateInfo create = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
        .setLayoutCount = 1,
        .pSetLayouts = set_layout,
        .pushConstantRangeCount = 1,
        .pPushConstantRanges = &push,
    };
    VkPipelineLayout *layout = &gpu->layout[bindings - 1];
    result = gpu->vk.CreatePipelineLayout(gpu->device, &create, NULL, layout);
    if (result != VK_SUCCESS) {
        *layout = VK_NULL_HANDLE;
        return gpu_api_failed("CreatePipelineLayout", result, why);
    }
    return STATUS_OK;
}

enum status gpu_kernel_init(struct gpu *gpu, struct reason *why)
{
    for (uint32_t bindings = 1; bindings <= GPU_BINDINGS_MAX; bindings++) {
        enum status status = create_layout(gpu, bindings, why);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

void gpu_kernel_deinit(struct gpu *gpu)
{
    for (uint32_t i = 0; i < GPU_BINDINGS_MAX; i++) {
        if (gpu->layout[i])
            gpu->vk.DestroyPipelineLayout(gpu->device, gpu->layout[i], NULL);
        if (gpu->set_layout[i])
            gpu->vk.DestroyDescriptorSetLayout(gpu->device, gpu->set_layout[i], NULL);
    }
}

static enum status create_pipeline(struct gpu *gpu, const struct gpu_kernel_params *params,
                                   VkPipeline *out, struct reason *why)
{
    const VkShaderModuleCreateInfo code = {
        .sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
        .codeSize = params->word_count * sizeof(params->words[0]),
        .pCode = params->words,
    };
    VkShaderModule module = VK_NULL_HANDLE;
    VkResult result = gpu->vk.CreateShaderModule(gpu->device, &code, NULL, &module);
    if (result != VK_SUCCESS)
        return gpu_api_failed("CreateShaderModule", result, why);

    VkSpecializationMapEntry entries[GPU_CONSTANTS_MAX];
    for (uint32_t i = 0; i < params->constant_count; i++)
        entries[i] = (VkSpecializationMapEntry){i, i * 4, 4};
    const VkSpecializationInfo constants = {
        .mapEntryCount = params->constant_count,
        .pMapEntries = entries,
        .dataSize = params->constant_count * sizeof(uint32_t),
        .pData = params->constants,
    };
    const VkComputePipelineCreateInfo create = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .stage =
            {
                .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                .module = module,
                .pName = "main",
                .pSpecializationInfo = &constants,
            },
        .layout = gpu->layout[params->bindings - 1],
        .basePipelineIndex = -1,
    };
    result =
        gpu->vk.CreateComputePipelines(gpu->device, gpu->cache.pipelines, 1, &create, NULL, out);
    gpu->vk.DestroyShaderModule(gpu->device, module, NULL);
    return result == VK_SUCCESS ? STATUS_OK : gpu_api_failed("CreateComputePipelines", result, why);
}

enum status gpu_kernel_create(struct gpu *gpu, const struct gpu_kernel_params *params,
                              struct gpu_kernel **out, struct reason *why)
{
    assert(gpu);
    assert(params && params->name && params->words && params->word_count > 0);
    assert(params->bindings >= 1 && params->bindings <= GPU_BINDINGS_MAX);
    assert(params->push_bytes <= GPU_PUSH_BYTES_MAX && params->push_bytes % 4 == 0);
    assert(params->constant_count <= GPU_CONSTANTS_MAX);
    assert(out);

    struct reason inner = {0};
    VkPipeline pipeline = VK_NULL_HANDLE;
    enum status status = create_pipeline(gpu, params, &pipeline, &inner);
    if (status != STATUS_OK)
        return reason_set(why, status, inner.field, "kernel %s: %s", params->name, inner.text);
    struct gpu_kernel *kernel = mem_alloc(sizeof(*kernel));
    *kernel = (struct gpu_kernel){
        .name = params->name,
        .pipeline = pipeline,
        .bindings = params->bindings,
        .push_bytes = params->push_bytes,
    };
    *out = kernel;
    return STATUS_OK;
}

void gpu_kernel_destroy(struct gpu *gpu, struct gpu_kernel **kernel)
{
    assert(gpu);
    assert(kernel);

    if (!*kernel)
        return;
    gpu_queue_settle(gpu); // it may be in use
    if (!gpu->silent)
        gpu->vk.DestroyPipeline(gpu->device, (*kernel)->pipeline, NULL);
    mem_free(*kernel);
    *kernel = NULL;
}
