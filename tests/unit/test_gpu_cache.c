// SPDX-License-Identifier: Apache-2.0
// Goal: a file of compiled kernels is believed only as it was written, for the same device, driver
// and kernels.
//
// Method: one file; every field, every byte and every length of it changed. How a device uses it is
// in test_gpu_canary.

#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "shaders/gpu/gpu_internal.h"

enum { PIPELINES = 40, TOO_LARGE = (64 << 20) + 1 };

static const struct gpu_cache_identity identity = {
    .vendor = 0x10de, .device = 0x2335, .driver = 7, .cache_uuid = {1, 2, 3}, .words = 4, .key = 5};

// What a driver of this identity gives.
static void make_pipelines(uint8_t pipelines[PIPELINES])
{
    memset(pipelines, 9, PIPELINES);
    bytes_put_u32_le(pipelines, 32);
    bytes_put_u32_le(pipelines + 4, 1);
    bytes_put_u32_le(pipelines + 8, identity.vendor);
    bytes_put_u32_le(pipelines + 12, identity.device);
    memcpy(pipelines + 16, identity.cache_uuid, sizeof(identity.cache_uuid));
}

static void make_file(const uint8_t *pipelines, size_t count, struct buffer *file)
{
    const struct gpu_cache_content content = {.note = {7, 8}, .pipelines = {pipelines, count}};
    *file = (struct buffer){0};
    cr_assert(eq(int, gpu_cache_write(&identity, &content, file), STATUS_OK));
}

static bool is_read(const struct gpu_cache_identity *as, const struct buffer *file)
{
    struct gpu_cache_content content;
    return gpu_cache_read(as, (struct bytes){file->data, file->count}, &content);
}

Test(gpu_cache, comes_back_as_it_was_written)
{
    uint8_t pipelines[PIPELINES];
    struct buffer file;
    struct gpu_cache_content content;
    make_pipelines(pipelines);
    for (size_t count = 0; count <= PIPELINES; count += PIPELINES) {
        make_file(pipelines, count, &file);
        cr_assert(gpu_cache_read(&identity, (struct bytes){file.data, file.count}, &content));
        cr_expect(eq(sz, content.pipelines.count, count));
        cr_expect(eq(int, memcmp(content.pipelines.data, pipelines, count), 0));
        cr_expect(eq(u8, content.note[0], 7));
        cr_expect(eq(u8, content.note[1], 8));
        cr_expect(eq(u8, content.note[GPU_NOTE_BYTES - 1], 0));
        buffer_deinit(&file);
    }
}

Test(gpu_cache, of_another_device_driver_or_build_is_ignored)
{
    uint8_t pipelines[PIPELINES];
    struct buffer file;
    struct gpu_cache_identity others[6];
    make_pipelines(pipelines);
    make_file(pipelines, PIPELINES, &file);
    for (size_t i = 0; i < 6; i++)
        others[i] = identity;
    others[0].vendor++;
    others[1].device++;
    others[2].driver++;
    others[3].cache_uuid[15]++;
    others[4].words++;
    others[5].key++;
    for (size_t i = 0; i < 6; i++)
        cr_expect(not(is_read(&others[i], &file)), "%zu", i);
    buffer_deinit(&file);
}

Test(gpu_cache, damaged_cut_or_too_large_is_ignored)
{
    uint8_t pipelines[PIPELINES];
    struct buffer file;
    struct gpu_cache_content content;
    make_pipelines(pipelines);
    make_file(pipelines, PIPELINES, &file);
    for (size_t i = 0; i < file.count; i++) {
        file.data[i] ^= 0x10;
        cr_expect(not(is_read(&identity, &file)), "byte %zu", i);
        file.data[i] ^= 0x10;
    }
    for (size_t count = 0; count < file.count; count++)
        cr_expect(not(gpu_cache_read(&identity, (struct bytes){file.data, count}, &content)), "%zu",
                  count);
    cr_expect(not(gpu_cache_read(&identity, (struct bytes){file.data, TOO_LARGE}, &content)));
    cr_expect(is_read(&identity, &file));
    buffer_deinit(&file);
}

Test(gpu_cache, whose_pipelines_another_driver_made_is_ignored)
{
    uint8_t pipelines[PIPELINES];
    struct buffer file;
    static const size_t places[] = {0, 1, 4, 8, 12, 16, 31};
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        make_pipelines(pipelines);
        pipelines[places[i]] ^= 0x40;
        make_file(pipelines, PIPELINES, &file);
        cr_expect(not(is_read(&identity, &file)), "byte %zu", places[i]);
        buffer_deinit(&file);
    }
    make_pipelines(pipelines);
    make_file(pipelines, 31, &file);
    cr_expect(not(is_read(&identity, &file)));
    buffer_deinit(&file);
}
