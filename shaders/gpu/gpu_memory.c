// SPDX-License-Identifier: Apache-2.0
// Device memory comes in few large blocks, each with one buffer over it; what callers get are
// pieces of them, first fit. The blocks grow: the next is as large as all before it together,
// so that a small model takes little and a large one few. They stay until the device closes.
//
// Uploads pass through a staging buffer that the host writes and the device copies from, so that
// they keep their place among the operations. Each command buffer has its own part of it: when that
// is full it is submitted, and the next one waits until its last turn is done.

#include <assert.h>
#include <string.h>

#include "proto/base/mem.h"
#include "shaders/gpu/gpu_internal.h"

#define BLOCK_BYTES_MIN (UINT64_C(16) << 20)
#define BLOCK_BYTES_MAX (UINT64_C(1) << 30) // unless one buffer needs more

// The first type of memory, allowed by `mask`, with all these properties; UINT32_MAX without one.
static uint32_t memory_type(const struct gpu *gpu, uint32_t mask, VkMemoryPropertyFlags wanted)
{
    for (uint32_t i = 0; i < gpu->memory.memoryTypeCount; i++) {
        if ((mask & (UINT32_C(1) << i)) &&
            (gpu->memory.memoryTypes[i].propertyFlags & wanted) == wanted)
            return i;
    }
    return UINT32_MAX;
}

static enum status create_buffer(struct gpu *gpu, uint64_t bytes, VkBufferUsageFlags usage,
                                 VkBuffer *out, struct reason *why)
{
    const VkBufferCreateInfo create = {
        .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
        .size = bytes,
        .usage = usage | VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT,
        .sharingMode = VK_SHARING_MODE_EXCLUSIVE,
    };
    VkResult result = gpu->vk.CreateBuffer(gpu->device, &create, NULL, out);
    if (result != VK_SUCCESS) {
        *out = VK_NULL_HANDLE;
        return gpu_api_failed("CreateBuffer", result, why);
    }
    return STATUS_OK;
}

// Memory behind a buffer, of a type with the `wanted` properties, or else the `needed` ones.
struct kind_of_memory {
    VkMemoryPropertyFlags wanted;
    VkMemoryPropertyFlags needed;
};

static enum status back_buffer(struct gpu *gpu, VkBuffer buffer, struct kind_of_memory kind,
                               VkDeviceMemory *out, struct reason *why)
{
    VkMemoryRequirements needs;
    gpu->vk.GetBufferMemoryRequirements(gpu->device, buffer, &needs);
    uint32_t type = memory_type(gpu, needs.memoryTypeBits, kind.wanted);
    if (type == UINT32_MAX)
        type = memory_type(gpu, needs.memoryTypeBits, kind.needed);
    if (type == UINT32_MAX)
        return reason_set(why, STATUS_UNSUPPORTED, "device", "it has no memory of the kind needed");
    const VkMemoryAllocateInfo allocate = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
        .allocationSize = needs.size,
        .memoryTypeIndex = type,
    };
    VkResult result = gpu->vk.AllocateMemory(gpu->device, &allocate, NULL, out);
    if (result != VK_SUCCESS) {
        *out = VK_NULL_HANDLE;
        return gpu_api_failed("AllocateMemory", result, why);
    }
    result = gpu->vk.BindBufferMemory(gpu->device, buffer, *out, 0);
    return result == VK_SUCCESS ? STATUS_OK : gpu_api_failed("BindBufferMemory", result, why);
}

static void free_memory(struct gpu *gpu, VkBuffer *buffer, VkDeviceMemory *memory)
{
    if (*buffer)
        gpu->vk.DestroyBuffer(gpu->device, *buffer, NULL);
    if (*memory)
        gpu->vk.FreeMemory(gpu->device, *memory, NULL); // unmaps it
    *buffer = VK_NULL_HANDLE;
    *memory = VK_NULL_HANDLE;
}

// --- what both sides see

static enum status open_host(struct gpu *gpu, uint64_t bytes, VkMemoryPropertyFlags wanted,
                             struct gpu_host *host, struct reason *why)
{
    const VkMemoryPropertyFlags needed =
        VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    enum status status = create_buffer(gpu, bytes, 0, &host->buffer, why);
    if (status == STATUS_OK)
        status = back_buffer(gpu, host->buffer, (struct kind_of_memory){needed | wanted, needed},
                             &host->memory, why);
    if (status != STATUS_OK)
        return status;
    void *mapped = NULL;
    VkResult result = gpu->vk.MapMemory(gpu->device, host->memory, 0, bytes, 0, &mapped);
    if (result != VK_SUCCESS)
        return gpu_api_failed("MapMemory", result, why);
    host->mapped = mapped;
    return STATUS_OK;
}

enum status gpu_memory_init(struct gpu *gpu, struct reason *why)
{
    enum status status = open_host(gpu, GPU_SLOTS * GPU_UPLOAD_BYTES, 0, &gpu->upload, why);
    // The host reads memory that its caches do not hold very slowly.
    if (status == STATUS_OK)
        status = open_host(gpu, GPU_SLOTS * GPU_FETCH_BYTES, VK_MEMORY_PROPERTY_HOST_CACHED_BIT,
                           &gpu->download, why);
    return status;
}

void gpu_memory_deinit(struct gpu *gpu)
{
    free_memory(gpu, &gpu->upload.buffer, &gpu->upload.memory);
    free_memory(gpu, &gpu->download.buffer, &gpu->download.memory);
    for (uint32_t i = 0; i < gpu->block_count; i++) {
        struct gpu_block *block = &gpu->blocks[i];
        while (block->pieces) {
            struct gpu_piece *piece = block->pieces;
            assert(!piece->used);
            block->pieces = piece->next;
            mem_free(piece);
        }
        free_memory(gpu, &block->buffer, &block->memory);
    }
}

// --- blocks

static enum status open_block(struct gpu *gpu, uint64_t bytes, struct gpu_block *block,
                              struct reason *why)
{
    const VkMemoryPropertyFlags local = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT;
    enum status status =
        create_buffer(gpu, bytes, VK_BUFFER_USAGE_STORAGE_BUFFER_BIT, &block->buffer, why);
    if (status == STATUS_OK)
        status =
            back_buffer(gpu, block->buffer, (struct kind_of_memory){local, 0}, &block->memory, why);
    if (status != STATUS_OK) {
        free_memory(gpu, &block->buffer, &block->memory);
        return status;
    }
    block->bytes = bytes;
    block->pieces = mem_alloc(sizeof(*block->pieces));
    block->pieces->bytes = bytes;
    return STATUS_OK;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

// Adds a block with room for `bytes`, larger if it can be had.
static enum status grow(struct gpu *gpu, uint64_t bytes, struct reason *why)
{
    if (gpu->block_count == GPU_BLOCKS_MAX)
        return reason_set(why, STATUS_NO_MEMORY, "device", "%llu MiB in %d blocks are the limit",
                          (unsigned long long)(gpu->block_bytes >> 20), GPU_BLOCKS_MAX);
    uint64_t size = smaller(gpu->block_bytes, BLOCK_BYTES_MAX);
    size = size > BLOCK_BYTES_MIN ? size : BLOCK_BYTES_MIN;
    size = smaller(size, gpu->info.allocation_bytes_max);
    size = size > bytes ? size : bytes;

    enum status status = STATUS_OK;
    struct gpu_block *block = &gpu->blocks[gpu->block_count];
    while ((status = open_block(gpu, size, block, why)) == STATUS_NO_MEMORY && size > bytes)
        size = size / 2 > bytes ? size / 2 / GPU_ALIGNMENT * GPU_ALIGNMENT : bytes;
    if (status != STATUS_OK)
        return status;
    gpu->block_count++;
    gpu->block_bytes += size;
    return STATUS_OK;
}

// The first free piece with room, cut to `bytes`; NULL without one.
static struct gpu_piece *take_piece(struct gpu_block *block, uint64_t bytes)
{
    struct gpu_piece *piece = block->pieces;
    while (piece && (piece->used || piece->bytes < bytes))
        piece = piece->next;
    if (!piece)
        return NULL;
    if (piece->bytes > bytes) {
        struct gpu_piece *rest = mem_alloc(sizeof(*rest));
        *rest = (struct gpu_piece){
            .offset = piece->offset + bytes,
            .bytes = piece->bytes - bytes,
            .next = piece->next,
        };
        piece->next = rest;
        piece->bytes = bytes;
    }
    piece->used = true;
    return piece;
}

// Gives the piece at `offset` back and joins it with free neighbours.
static void return_piece(struct gpu_block *block, uint64_t offset)
{
    struct gpu_piece *before = NULL;
    struct gpu_piece *piece = block->pieces;
    while (piece->offset != offset) {
        before = piece;
        piece = piece->next;
    }
    assert(piece->used);
    piece->used = false;
    struct gpu_piece *first = before && !before->used ? before : piece;
    while (first->next && !first->next->used) {
        struct gpu_piece *gone = first->next;
        first->bytes += gone->bytes;
        first->next = gone->next;
        mem_free(gone);
    }
}

enum status gpu_alloc(struct gpu *gpu, uint64_t bytes, struct gpu_buffer **out, struct reason *why)
{
    assert(gpu);
    assert(out);

    if (bytes > gpu->info.allocation_bytes_max)
        return reason_set(why, STATUS_UNSUPPORTED, "device",
                          "an array of %llu bytes; %.100s has at most %llu in one",
                          (unsigned long long)bytes, gpu->info.name,
                          (unsigned long long)gpu->info.allocation_bytes_max);
    uint64_t room = (bytes + GPU_ALIGNMENT - 1) / GPU_ALIGNMENT * GPU_ALIGNMENT;
    room = room > 0 ? room : GPU_ALIGNMENT;

    struct gpu_piece *piece = NULL;
    uint32_t index = 0;
    for (; index < gpu->block_count && !piece; index++)
        piece = take_piece(&gpu->blocks[index], room);
    if (!piece) {
        enum status status = grow(gpu, room, why);
        if (status != STATUS_OK)
            return status;
        index = gpu->block_count;
        piece = take_piece(&gpu->blocks[index - 1], room);
        assert(piece);
    }
    struct gpu_buffer *buffer = mem_alloc(sizeof(*buffer));
    *buffer = (struct gpu_buffer){&gpu->blocks[index - 1], piece->offset, room};
    enum status status = gpu_fill(gpu, buffer, 0, room, 0, why);
    if (status != STATUS_OK) {
        gpu_free(gpu, &buffer);
        return status;
    }
    *out = buffer;
    return STATUS_OK;
}

void gpu_free(struct gpu *gpu, struct gpu_buffer **buffer)
{
    assert(gpu);
    assert(buffer);

    if (!*buffer)
        return;
    // Work that is in flight may still use it; who gets the piece next comes after that work.
    return_piece((*buffer)->block, (*buffer)->offset);
    mem_free(*buffer);
    *buffer = NULL;
}
