// SPDX-License-Identifier: Apache-2.0
// The device's own clock: the first and the last command of each command buffer write the time,
// which is read when the buffer's ticket is reached.

#include <assert.h>

#include "shaders/gpu/gpu_internal.h"

#define FAMILIES_MAX 32
#define QUERIES 2u // of a slot: its beginning, its end

// What the queue's clock can do; false when it has none.
static bool describe(struct gpu *gpu)
{
    VkPhysicalDeviceProperties properties;
    VkQueueFamilyProperties families[FAMILIES_MAX];
    uint32_t count = FAMILIES_MAX;
    gpu->vk.GetPhysicalDeviceProperties(gpu->physical, &properties);
    gpu->vk.GetPhysicalDeviceQueueFamilyProperties(gpu->physical, &count, families);
    assert(gpu->family < count);
    uint32_t bits = families[gpu->family].timestampValidBits;
    gpu->clock.tick_s = (double)properties.limits.timestampPeriod * 1e-9;
    gpu->clock.mask = bits < 64 ? (UINT64_C(1) << bits) - 1 : UINT64_MAX;
    return bits > 0 && gpu->clock.tick_s > 0;
}

bool gpu_clock(struct gpu *gpu, bool on)
{
    assert(gpu);

    gpu->clock.on = false;
    gpu->clock.seconds = 0;
    if (!on || gpu->failed || !describe(gpu))
        return false;
    if (!gpu->clock.queries) {
        const VkQueryPoolCreateInfo create = {
            .sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
            .queryType = VK_QUERY_TYPE_TIMESTAMP,
            .queryCount = QUERIES * GPU_SLOTS,
        };
        if (gpu->vk.CreateQueryPool(gpu->device, &create, NULL, &gpu->clock.queries) !=
            VK_SUCCESS) {
            gpu->clock.queries = VK_NULL_HANDLE;
            return false;
        }
    }
    gpu->clock.on = true;
    return true;
}

double gpu_clock_take(struct gpu *gpu)
{
    assert(gpu);

    double seconds = gpu->clock.seconds;
    gpu->clock.seconds = 0;
    return seconds;
}

void gpu_clock_begin(struct gpu *gpu)
{
    struct gpu_slot *slot = &gpu->slots[gpu->slot];
    slot->timed = gpu->clock.on;
    if (!slot->timed)
        return;
    gpu->vk.CmdResetQueryPool(slot->buffer, gpu->clock.queries, QUERIES * gpu->slot, QUERIES);
    gpu->vk.CmdWriteTimestamp(slot->buffer, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT,
                              gpu->clock.queries, QUERIES * gpu->slot);
}

void gpu_clock_end(struct gpu *gpu)
{
    struct gpu_slot *slot = &gpu->slots[gpu->slot];
    if (slot->timed)
        gpu->vk.CmdWriteTimestamp(slot->buffer, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT,
                                  gpu->clock.queries, QUERIES * gpu->slot + 1);
}

VkResult gpu_clock_read(struct gpu *gpu, uint32_t slot)
{
    if (!gpu->slots[slot].timed)
        return VK_SUCCESS;
    uint64_t ticks[QUERIES];
    gpu->slots[slot].timed = false;
    VkResult result = gpu->vk.GetQueryPoolResults(
        gpu->device, gpu->clock.queries, QUERIES * slot, QUERIES, sizeof(ticks), ticks,
        sizeof(ticks[0]), VK_QUERY_RESULT_64_BIT | VK_QUERY_RESULT_WAIT_BIT);
    if (result == VK_SUCCESS)
        gpu->clock.seconds += (double)((ticks[1] - ticks[0]) & gpu->clock.mask) * gpu->clock.tick_s;
    return result;
}

void gpu_clock_deinit(struct gpu *gpu)
{
    if (gpu->clock.queries)
        gpu->vk.DestroyQueryPool(gpu->device, gpu->clock.queries, NULL);
}
