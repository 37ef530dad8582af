// SPDX-License-Identifier: Apache-2.0
// Work is recorded into one of a few command buffers that take turns:
//
//     recording --submit--> in flight --ticket reached--> free
//
// so the host records and uploads while the device works, until all are in flight. A ticket is a
// value of one timeline semaphore. Before each operation stands a barrier for all memory: nearly
// every operation of a transformer reads what the one before it wrote, and finding the few that do
// not would cost more than it gives.
//
// A command buffer is submitted when its work passes WORK_MAX, so that no submission runs
// for so long that an operating system takes the device for hung.

#include <assert.h>
#include <string.h>

#include "proto/base/clock.h"
#include "shaders/gpu/gpu_internal.h"

// Operations on floats of one submission. What watches over hung devices lets them work for two
// seconds.
#define WORK_MAX 4e9 // 50 ms on a small GPU
#define WORK_MAX_DISCRETE                                                                          \
    4e10 // 0.1 ms on a large one, for which the host records two dozen operations; 0.2 s on an old one
#define WORK_MAX_SOFTWARE 5e8
#define WAIT_SLICE_NS UINT64_C(1000000000)

int64_t gpu_queue_silence_us = INT64_C(120000000);

// --- slots

static enum status init_slot(struct gpu *gpu, struct gpu_slot *slot, struct reason *why)
{
    const VkCommandPoolCreateInfo pool = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
        .flags = VK_COMMAND_POOL_CREATE_TRANSIENT_BIT,
        .queueFamilyIndex = gpu->family,
    };
    VkResult result = gpu->vk.CreateCommandPool(gpu->device, &pool, NULL, &slot->commands);
    if (result != VK_SUCCESS) {
        slot->commands = VK_NULL_HANDLE;
        return gpu_api_failed("CreateCommandPool", result, why);
    }
    const VkCommandBufferAllocateInfo allocate = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
        .commandPool = slot->commands,
        .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
        .commandBufferCount = 1,
    };
    result = gpu->vk.AllocateCommandBuffers(gpu->device, &allocate, &slot->buffer);
    if (result != VK_SUCCESS)
        return gpu_api_failed("AllocateCommandBuffers", result, why);

    const VkDescriptorPoolSize size = {
        .type = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
        .descriptorCount = GPU_SETS_MAX * GPU_BINDINGS_MAX,
    };
    const VkDescriptorPoolCreateInfo descriptors = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
        .maxSets = GPU_SETS_MAX,
        .poolSizeCount = 1,
        .pPoolSizes = &size,
    };
    result = gpu->vk.CreateDescriptorPool(gpu->device, &descriptors, NULL, &slot->descriptors);
    if (result != VK_SUCCESS) {
        slot->descriptors = VK_NULL_HANDLE;
        return gpu_api_failed("CreateDescriptorPool", result, why);
    }
    return STATUS_OK;
}

enum status gpu_queue_init(struct gpu *gpu, struct reason *why)
{
    const VkSemaphoreTypeCreateInfo timeline = {
        .sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
        .semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE,
    };
    const VkSemaphoreCreateInfo create = {
        .sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO,
        .pNext = &timeline,
    };
    VkResult result = gpu->vk.CreateSemaphore(gpu->device, &create, NULL, &gpu->done);
    if (result != VK_SUCCESS) {
        gpu->done = VK_NULL_HANDLE;
        return gpu_api_failed("CreateSemaphore", result, why);
    }
    for (size_t i = 0; i < GPU_SLOTS; i++) {
        enum status status = init_slot(gpu, &gpu->slots[i], why);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

void gpu_queue_deinit(struct gpu *gpu)
{
    for (size_t i = 0; i < GPU_SLOTS; i++) {
        if (gpu->slots[i].descriptors)
            gpu->vk.DestroyDescriptorPool(gpu->device, gpu->slots[i].descriptors, NULL);
        if (gpu->slots[i].commands)
            gpu->vk.DestroyCommandPool(gpu->device, gpu->slots[i].commands, NULL);
    }
    if (gpu->done)
        gpu->vk.DestroySemaphore(gpu->device, gpu->done, NULL);
}

void gpu_queue_settle(struct gpu *gpu)
{
    if (gpu->settled == gpu->submitted || gpu->silent)
        return;
    // Whatever it answers: behind it nothing is in flight, on a lost device neither.
    (void)gpu->vk.DeviceWaitIdle(gpu->device);
    gpu->settled = gpu->submitted;
}

// --- submitting and waiting

// Work that was promised is lost with this call, so nothing may be built on it.
static enum status broken(struct gpu *gpu, const char *call, VkResult result, struct reason *why)
{
    gpu->failed = true;
    gpu->recording = false;
    for (uint32_t i = 0; i < GPU_SLOTS; i++)
        gpu->slots[i].fetch_count = 0; // their owners are told, and may go
    return gpu_api_failed(call, result, why);
}

static enum status refuse(struct reason *why)
{
    return reason_set(why, STATUS_UNAVAILABLE, "device", "it failed before and is not used again");
}

static enum status wait_for(struct gpu *gpu, uint64_t ticket, struct reason *why)
{
    const VkSemaphoreWaitInfo wait = {
        .sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
        .semaphoreCount = 1,
        .pSemaphores = &gpu->done,
        .pValues = &ticket,
    };
    uint64_t reached = 0;
    int64_t since_us = clock_now_us();
    for (;;) {
        VkResult result = gpu->vk.WaitSemaphores(gpu->device, &wait, WAIT_SLICE_NS);
        if (result == VK_SUCCESS)
            return STATUS_OK;
        if (result != VK_TIMEOUT)
            return broken(gpu, "WaitSemaphores", result, why);

        uint64_t now = 0;
        result = gpu->vk.GetSemaphoreCounterValue(gpu->device, gpu->done, &now);
        if (result != VK_SUCCESS)
            return broken(gpu, "GetSemaphoreCounterValue", result, why);
        if (now > reached) {
            reached = now;
            since_us = clock_now_us();
        } else if (clock_now_us() - since_us > gpu_queue_silence_us) {
            gpu->silent = true;
            return broken(gpu, "WaitSemaphores", VK_TIMEOUT, why);
        }
    }
}

static enum status submit(struct gpu *gpu, struct reason *why)
{
    if (!gpu->recording)
        return STATUS_OK;
    struct gpu_slot *slot = &gpu->slots[gpu->slot];
    gpu_clock_end(gpu);
    VkResult result = gpu->vk.EndCommandBuffer(slot->buffer);
    if (result != VK_SUCCESS)
        return broken(gpu, "EndCommandBuffer", result, why);

    uint64_t ticket = gpu->submitted + 1;
    const VkTimelineSemaphoreSubmitInfo values = {
        .sType = VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO,
        .signalSemaphoreValueCount = 1,
        .pSignalSemaphoreValues = &ticket,
    };
    const VkSubmitInfo info = {
        .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
        .pNext = &values,
        .commandBufferCount = 1,
        .pCommandBuffers = &slot->buffer,
        .signalSemaphoreCount = 1,
        .pSignalSemaphores = &gpu->done,
    };
    result = gpu->vk.QueueSubmit(gpu->queue, 1, &info, VK_NULL_HANDLE);
    if (result != VK_SUCCESS)
        return broken(gpu, "QueueSubmit", result, why);
    gpu->submitted = ticket;
    slot->ticket = ticket;
    gpu->slot = (gpu->slot + 1) % GPU_SLOTS;
    gpu->recording = false;
    return STATUS_OK;
}

// Takes what a slot whose ticket is reached has for the host.
static enum status empty_slot(struct gpu *gpu, uint32_t index, struct reason *why)
{
    struct gpu_slot *slot = &gpu->slots[index];
    const uint8_t *from = gpu->download.mapped + index * GPU_FETCH_BYTES;
    for (uint32_t i = 0; i < slot->fetch_count; i++) {
        memcpy(slot->fetches[i].data, from, slot->fetches[i].bytes);
        from += slot->fetches[i].bytes;
    }
    slot->fetch_count = 0;
    slot->fetched = 0;
    slot->uploaded = 0;
    VkResult result = gpu_clock_read(gpu, index);
    return result == VK_SUCCESS ? STATUS_OK : broken(gpu, "GetQueryPoolResults", result, why);
}

enum status gpu_finish(struct gpu *gpu, struct reason *why)
{
    assert(gpu);

    if (gpu->failed)
        return refuse(why);
    enum status status = submit(gpu, why);
    if (status == STATUS_OK)
        status = wait_for(gpu, gpu->submitted, why);
    for (uint32_t i = 0; i < GPU_SLOTS && status == STATUS_OK; i++)
        status = empty_slot(gpu, i, why);
    if (status == STATUS_OK)
        gpu->settled = gpu->submitted;
    return status;
}

// --- recording

static enum status begin(struct gpu *gpu, struct reason *why)
{
    struct gpu_slot *slot = &gpu->slots[gpu->slot];
    enum status status = wait_for(gpu, slot->ticket, why);
    if (status == STATUS_OK)
        status = empty_slot(gpu, gpu->slot, why);
    if (status != STATUS_OK)
        return status;
    VkResult result = gpu->vk.ResetDescriptorPool(gpu->device, slot->descriptors, 0);
    if (result != VK_SUCCESS)
        return broken(gpu, "ResetDescriptorPool", result, why);
    result = gpu->vk.ResetCommandPool(gpu->device, slot->commands, 0);
    if (result != VK_SUCCESS)
        return broken(gpu, "ResetCommandPool", result, why);
    const VkCommandBufferBeginInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
        .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT,
    };
    result = gpu->vk.BeginCommandBuffer(slot->buffer, &info);
    if (result != VK_SUCCESS)
        return broken(gpu, "BeginCommandBuffer", result, why);
    gpu_clock_begin(gpu);
    gpu->recording = true;
    gpu->sets = 0;
    gpu->work = 0;
    return STATUS_OK;
}

static void barrier(struct gpu *gpu, VkPipelineStageFlags stages, VkAccessFlags access)
{
    const VkMemoryBarrier memory = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
        .srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT,
        .dstAccessMask = access,
    };
    gpu->vk.CmdPipelineBarrier(gpu->slots[gpu->slot].buffer,
                               VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT |
                                   VK_PIPELINE_STAGE_TRANSFER_BIT,
                               stages, 0, 1, &memory, 0, NULL, 0, NULL);
}

// Whether the slot that is recorded has no room for one more of something.
static bool is_full(const struct gpu *gpu)
{
    const struct gpu_slot *slot = &gpu->slots[gpu->slot];
    double work_max = gpu->info.kind == GPU_SOFTWARE   ? WORK_MAX_SOFTWARE
                      : gpu->info.kind == GPU_DISCRETE ? WORK_MAX_DISCRETE
                                                       : WORK_MAX;
    return gpu->sets == GPU_SETS_MAX || gpu->work > work_max ||
           slot->uploaded == GPU_UPLOAD_BYTES || slot->fetched == GPU_FETCH_BYTES ||
           slot->fetch_count == GPU_FETCHES_MAX;
}

// A command buffer in which the next operation sees what all before it wrote.
static enum status prepare(struct gpu *gpu, VkPipelineStageFlags stage, struct reason *why)
{
    if (gpu->failed)
        return refuse(why);
    enum status status = STATUS_OK;
    if (gpu->recording && is_full(gpu))
        status = submit(gpu, why);
    if (status == STATUS_OK && !gpu->recording)
        status = begin(gpu, why);
    if (status == STATUS_OK)
        barrier(gpu, stage,
                stage == VK_PIPELINE_STAGE_TRANSFER_BIT
                    ? VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT
                    : VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT);
    return status;
}

static void check_range(const struct gpu_buffer *buffer, uint64_t offset, uint64_t bytes)
{
    assert(buffer && offset <= buffer->bytes && bytes <= buffer->bytes - offset);
    assert(offset % 4 == 0 && bytes % 4 == 0);
}

enum status gpu_fill(struct gpu *gpu, struct gpu_buffer *buffer, uint64_t offset, uint64_t bytes,
                     uint32_t value, struct reason *why)
{
    assert(gpu);
    check_range(buffer, offset, bytes);

    if (bytes == 0)
        return STATUS_OK;
    enum status status = prepare(gpu, VK_PIPELINE_STAGE_TRANSFER_BIT, why);
    if (status == STATUS_OK)
        gpu->vk.CmdFillBuffer(gpu->slots[gpu->slot].buffer, buffer->block->buffer,
                              buffer->offset + offset, bytes, value);
    return status;
}

// --- copies

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

enum status gpu_upload(struct gpu *gpu, struct gpu_buffer *buffer, uint64_t offset,
                       const void *data, uint64_t bytes, struct reason *why)
{
    assert(gpu);
    check_range(buffer, offset, bytes);

    const uint8_t *from = data;
    for (uint64_t done = 0; done < bytes;) {
        enum status status = prepare(gpu, VK_PIPELINE_STAGE_TRANSFER_BIT, why);
        if (status != STATUS_OK)
            return status;
        struct gpu_slot *slot = &gpu->slots[gpu->slot];
        uint64_t at = gpu->slot * GPU_UPLOAD_BYTES + slot->uploaded;
        uint64_t part = smaller(bytes - done, GPU_UPLOAD_BYTES - slot->uploaded);
        memcpy(gpu->upload.mapped + at, from + done, part);
        const VkBufferCopy copy = {at, buffer->offset + offset + done, part};
        gpu->vk.CmdCopyBuffer(slot->buffer, gpu->upload.buffer, buffer->block->buffer, 1, &copy);
        slot->uploaded += part;
        done += part;
    }
    return STATUS_OK;
}

enum status gpu_fetch(struct gpu *gpu, const struct gpu_buffer *buffer, uint64_t offset, void *data,
                      uint64_t bytes, struct reason *why)
{
    assert(gpu);
    check_range(buffer, offset, bytes);

    uint8_t *to = data;
    for (uint64_t done = 0; done < bytes;) {
        enum status status = prepare(gpu, VK_PIPELINE_STAGE_TRANSFER_BIT, why);
        if (status != STATUS_OK)
            return status;
        struct gpu_slot *slot = &gpu->slots[gpu->slot];
        uint64_t at = gpu->slot * GPU_FETCH_BYTES + slot->fetched;
        uint64_t part = smaller(bytes - done, GPU_FETCH_BYTES - slot->fetched);
        const VkBufferCopy copy = {buffer->offset + offset + done, at, part};
        gpu->vk.CmdCopyBuffer(slot->buffer, buffer->block->buffer, gpu->download.buffer, 1, &copy);
        barrier(gpu, VK_PIPELINE_STAGE_HOST_BIT, VK_ACCESS_HOST_READ_BIT);
        slot->fetches[slot->fetch_count++] = (struct gpu_fetch){to + done, part};
        slot->fetched += part;
        done += part;
    }
    return STATUS_OK;
}

enum status gpu_download(struct gpu *gpu, const struct gpu_buffer *buffer, uint64_t offset,
                         void *data, uint64_t bytes, struct reason *why)
{
    enum status status = gpu_fetch(gpu, buffer, offset, data, bytes, why);
    return status == STATUS_OK ? gpu_finish(gpu, why) : status;
}

// --- kernels

static enum status bind_views(struct gpu *gpu, const struct gpu_dispatch *dispatch,
                              VkDescriptorSet *out, struct reason *why)
{
    uint32_t bindings = dispatch->kernel->bindings;
    const VkDescriptorSetAllocateInfo allocate = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
        .descriptorPool = gpu->slots[gpu->slot].descriptors,
        .descriptorSetCount = 1,
        .pSetLayouts = &gpu->set_layout[bindings - 1],
    };
    VkResult result = gpu->vk.AllocateDescriptorSets(gpu->device, &allocate, out);
    if (result != VK_SUCCESS)
        return broken(gpu, "AllocateDescriptorSets", result, why);
    gpu->sets++;

    VkDescriptorBufferInfo buffers[GPU_BINDINGS_MAX];
    VkWriteDescriptorSet writes[GPU_BINDINGS_MAX];
    for (uint32_t i = 0; i < bindings; i++) {
        const struct gpu_view *view = &dispatch->views[i];
        check_range(view->buffer, view->offset, view->bytes);
        assert(view->offset % GPU_ALIGNMENT == 0 && view->bytes > 0);
        buffers[i] = (VkDescriptorBufferInfo){
            view->buffer->block->buffer,
            view->buffer->offset + view->offset,
            view->bytes,
        };
        writes[i] = (VkWriteDescriptorSet){
            .sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
            .dstSet = *out,
            .dstBinding = i,
            .descriptorCount = 1,
            .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
            .pBufferInfo = &buffers[i],
        };
    }
    gpu->vk.UpdateDescriptorSets(gpu->device, bindings, writes, 0, NULL);
    return STATUS_OK;
}

static enum status check_views(const struct gpu *gpu, const struct gpu_dispatch *dispatch,
                               struct reason *why)
{
    for (uint32_t i = 0; i < dispatch->kernel->bindings; i++) {
        if (dispatch->views[i].bytes > gpu->info.binding_bytes_max)
            return reason_set(why, STATUS_UNSUPPORTED, "device",
                              "an array of %llu bytes; kernels of %.100s see at most %llu of one",
                              (unsigned long long)dispatch->views[i].bytes, gpu->info.name,
                              (unsigned long long)gpu->info.binding_bytes_max);
    }
    return STATUS_OK;
}

enum status gpu_dispatch(struct gpu *gpu, const struct gpu_dispatch *dispatch, struct reason *why)
{
    assert(gpu);
    assert(dispatch && dispatch->kernel);
    for (size_t i = 0; i < 3; i++)
        assert(dispatch->groups[i] >= 1 && dispatch->groups[i] <= 65535);

    const struct gpu_kernel *kernel = dispatch->kernel;
    VkDescriptorSet set = VK_NULL_HANDLE;
    enum status status = check_views(gpu, dispatch, why);
    if (status == STATUS_OK)
        status = prepare(gpu, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, why);
    if (status == STATUS_OK)
        status = bind_views(gpu, dispatch, &set, why);
    if (status != STATUS_OK)
        return status;

    VkCommandBuffer commands = gpu->slots[gpu->slot].buffer;
    VkPipelineLayout layout = gpu->layout[kernel->bindings - 1];
    gpu->vk.CmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_COMPUTE, kernel->pipeline);
    gpu->vk.CmdBindDescriptorSets(commands, VK_PIPELINE_BIND_POINT_COMPUTE, layout, 0, 1, &set, 0,
                                  NULL);
    if (kernel->push_bytes > 0)
        gpu->vk.CmdPushConstants(commands, layout, VK_SHADER_STAGE_COMPUTE_BIT, 0,
                                 kernel->push_bytes, dispatch->push);
    gpu->vk.CmdDispatch(commands, dispatch->groups[0], dispatch->groups[1], dispatch->groups[2]);
    gpu->work += dispatch->work;
    return STATUS_OK;
}
