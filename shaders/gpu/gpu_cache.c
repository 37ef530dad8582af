// SPDX-License-Identifier: Apache-2.0
// What a driver compiled is kept in a file, with a note of who opened the device:
//
//     bytes  0..7    "recogpu1"
//            8..19   vendor, device and version of the driver, u32 each
//           20..35   the driver's UUID for caches
//           36..43   hash of the device's name, UUID and driver in words
//           44..51   the key that the opener gave
//           52..83   the note
//           84..     what the driver gave (VkPipelineCache), or nothing
//     last 8         XXH3-64 of all before
//
// Numbers are little-endian. Drivers have crashed on caches that were not theirs, so what they get
// is compared with all of this first, and with the beginning that Vulkan defines for it.

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/cache_file.h"
#include "proto/base/hash.h"
#include "proto/base/mem.h"
#include "shaders/gpu/gpu_internal.h"

#define AT_VENDOR 8u
#define AT_UUID 20u
#define AT_WORDS 36u
#define AT_KEY 44u
#define AT_NOTE 52u
#define AT_PIPELINES 84u
#define HASH_BYTES 8u
#define FILE_BYTES_MAX ((size_t)64 << 20)

_Static_assert(AT_NOTE + GPU_NOTE_BYTES == AT_PIPELINES, "the note fits");

// --- the file

static void put_head(const struct gpu_cache_identity *identity, uint8_t head[AT_NOTE])
{
    static const char magic[AT_VENDOR] = {'r', 'e', 'c', 'o', 'g', 'p', 'u', '1'};
    memcpy(head, magic, sizeof(magic));
    bytes_put_u32_le(head + AT_VENDOR, identity->vendor);
    bytes_put_u32_le(head + AT_VENDOR + 4, identity->device);
    bytes_put_u32_le(head + AT_VENDOR + 8, identity->driver);
    memcpy(head + AT_UUID, identity->cache_uuid, VK_UUID_SIZE);
    bytes_put_u64_le(head + AT_WORDS, identity->words);
    bytes_put_u64_le(head + AT_KEY, identity->key);
}

// Whether it begins as Vulkan says a cache of this driver does.
static bool is_of_driver(const struct gpu_cache_identity *identity, struct bytes pipelines)
{
    enum { HEADER_BYTES = 16 + VK_UUID_SIZE };
    if (pipelines.count == 0)
        return true;
    if (pipelines.count < HEADER_BYTES)
        return false;
    const uint8_t *at = pipelines.data;
    uint32_t header = bytes_get_u32_le(at);
    return header >= HEADER_BYTES && header <= pipelines.count &&
           bytes_get_u32_le(at + 4) == VK_PIPELINE_CACHE_HEADER_VERSION_ONE &&
           bytes_get_u32_le(at + 8) == identity->vendor &&
           bytes_get_u32_le(at + 12) == identity->device &&
           memcmp(at + 16, identity->cache_uuid, VK_UUID_SIZE) == 0;
}

bool gpu_cache_read(const struct gpu_cache_identity *identity, struct bytes file,
                    struct gpu_cache_content *out)
{
    uint8_t head[AT_NOTE];
    if (file.count < AT_PIPELINES + HASH_BYTES || file.count > FILE_BYTES_MAX)
        return false;
    put_head(identity, head);
    size_t end = file.count - HASH_BYTES;
    if (memcmp(file.data, head, sizeof(head)) != 0 ||
        bytes_get_u64_le(file.data + end) != hash_id(file.data, end))
        return false;
    struct gpu_cache_content content = {
        .pipelines = {file.data + AT_PIPELINES, end - AT_PIPELINES},
    };
    if (!is_of_driver(identity, content.pipelines))
        return false;
    memcpy(content.note, file.data + AT_NOTE, sizeof(content.note));
    *out = content;
    return true;
}

enum status gpu_cache_write(const struct gpu_cache_identity *identity,
                            const struct gpu_cache_content *content, struct buffer *out)
{
    uint8_t head[AT_NOTE];
    uint8_t hash[HASH_BYTES];
    put_head(identity, head);
    out->count_max = FILE_BYTES_MAX;
    enum status status = buffer_append(out, head, sizeof(head));
    if (status == STATUS_OK)
        status = buffer_append(out, content->note, sizeof(content->note));
    if (status == STATUS_OK && content->pipelines.count > 0)
        status = buffer_append(out, content->pipelines.data, content->pipelines.count);
    if (status != STATUS_OK)
        return status;
    bytes_put_u64_le(hash, hash_id(out->data, out->count));
    return buffer_append(out, hash, sizeof(hash));
}

// --- a device's

static void identify(struct gpu *gpu, uint64_t key)
{
    VkPhysicalDeviceProperties properties;
    char words[GPU_UUID_BYTES + 3 * GPU_NAME_BYTES];
    gpu->vk.GetPhysicalDeviceProperties(gpu->physical, &properties);
    int count = snprintf(words, sizeof(words), "%s %s %s", gpu->info.uuid, gpu->info.name,
                         gpu->info.driver);
    struct gpu_cache_identity *identity = &gpu->cache.identity;
    *identity = (struct gpu_cache_identity){
        .vendor = properties.vendorID,
        .device = properties.deviceID,
        .driver = properties.driverVersion,
        .words = hash_id(words, (size_t)count),
        .key = key,
    };
    memcpy(identity->cache_uuid, properties.pipelineCacheUUID, VK_UUID_SIZE);
}

void gpu_cache_open(struct gpu *gpu, const char *folder, uint64_t key, uint8_t note[GPU_NOTE_BYTES])
{
    assert(gpu);
    assert(folder);
    assert(!gpu->cache.path);

    char path[CACHE_FILE_PATH_BYTES];
    int bytes = snprintf(path, sizeof(path), "%s/vulkan-%s.cache", folder, gpu->info.uuid);
    memset(note, 0, GPU_NOTE_BYTES);
    if (bytes < 0 || bytes >= CACHE_FILE_PATH_BYTES)
        return;
    identify(gpu, key);
    gpu->cache.path = mem_copy_text(path);

    struct buffer file = {0};
    struct gpu_cache_content content = {.pipelines = {NULL, 0}};
    // A file of somebody else's is not given to a driver.
    if (cache_file_read(path, FILE_BYTES_MAX, &file) &&
        gpu_cache_read(&gpu->cache.identity, (struct bytes){file.data, file.count}, &content)) {
        memcpy(note, content.note, GPU_NOTE_BYTES);
        gpu->cache.written = hash_id(file.data, file.count);
    }
    const VkPipelineCacheCreateInfo create = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO,
        .initialDataSize = content.pipelines.count,
        .pInitialData = content.pipelines.data,
    };
    if (gpu->vk.CreatePipelineCache(gpu->device, &create, NULL, &gpu->cache.pipelines) !=
        VK_SUCCESS)
        gpu->cache.pipelines = VK_NULL_HANDLE;
    mem_free(file.data);
}

// What the driver has to keep, which may be nothing. The caller frees it.
static uint8_t *take_pipelines(struct gpu *gpu, size_t *count)
{
    *count = 0;
    if (!gpu->cache.pipelines || gpu->failed)
        return NULL;
    size_t bytes = 0;
    VkResult result = gpu->vk.GetPipelineCacheData(gpu->device, gpu->cache.pipelines, &bytes, NULL);
    uint8_t *data = result == VK_SUCCESS && bytes > 0 && bytes < FILE_BYTES_MAX
                        ? mem_try_alloc_array(bytes, 1)
                        : NULL;
    if (!data)
        return NULL;
    if (gpu->vk.GetPipelineCacheData(gpu->device, gpu->cache.pipelines, &bytes, data) == VK_SUCCESS)
        *count = bytes;
    return data;
}

enum status gpu_cache_save(struct gpu *gpu, const uint8_t note[GPU_NOTE_BYTES], struct reason *why)
{
    assert(gpu);
    assert(note);

    if (!gpu->cache.path)
        return STATUS_OK;
    struct gpu_cache_content content;
    struct buffer file = {0};
    uint8_t *data = take_pipelines(gpu, &content.pipelines.count);
    content.pipelines.data = data;
    memcpy(content.note, note, GPU_NOTE_BYTES);
    enum status status = gpu_cache_write(&gpu->cache.identity, &content, &file);
    if (status == STATUS_OK) {
        uint64_t hash = hash_id(file.data, file.count);
        if (hash != gpu->cache.written)
            status = bytes_replace_file(gpu->cache.path, file.data, file.count);
        if (status == STATUS_OK)
            gpu->cache.written = hash;
    }
    buffer_deinit(&file);
    mem_free(data);
    if (status == STATUS_OK)
        return status;
    return reason_set(why, status, "cache", "%s cannot be written", gpu->cache.path);
}

void gpu_cache_deinit(struct gpu *gpu)
{
    if (gpu->cache.pipelines)
        gpu->vk.DestroyPipelineCache(gpu->device, gpu->cache.pipelines, NULL);
}
