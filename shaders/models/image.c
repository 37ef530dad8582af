// SPDX-License-Identifier: Apache-2.0
// Tells the format, and leads a picture from its file to the model's floats.
//
// A byte has 256 values, so that scaling and normalising are one table for each
// channel, computed with exactly the types and the order of the program that the
// profile names.

#include "shaders/models/image.h"

#include <assert.h>
#include <string.h>
#include <time.h>

#include "proto/base/limits.h"
#include "proto/base/mem.h"
#include "shaders/models/image_internal.h"

// --- names

static const char *const profile_names[] = {
    [IMAGE_PROFILE_RECO] = "reco",
    [IMAGE_PROFILE_HF] = "hf",
    [IMAGE_PROFILE_OPENAI] = "openai",
};

const char *image_profile_name(enum image_profile profile)
{
    assert((size_t)profile < sizeof(profile_names) / sizeof(profile_names[0]));
    return profile_names[profile];
}

// --- raw pictures

uint32_t image_mode_bytes(enum image_mode mode)
{
    switch (mode) {
    case IMAGE_BILEVEL:
    case IMAGE_PALETTE:
    case IMAGE_GREY:
        return 1;
    case IMAGE_GREY16:
    case IMAGE_GREY_ALPHA:
        return 2;
    case IMAGE_RGB:
        return 3;
    case IMAGE_RGBA:
    case IMAGE_CMYK:
        return 4;
    }
    assert(false);
    return 0;
}

enum status image_check_size(uint64_t width, uint64_t height, struct reason *why)
{
    if (width == 0 || height == 0)
        return reason_set(why, STATUS_INVALID, IMAGE_FIELD,
                          "the picture has %llu x %llu pixels; at least 1 x 1 are needed",
                          (unsigned long long)width, (unsigned long long)height);
    if (width > IMAGE_PIXELS_MAX || height > IMAGE_PIXELS_MAX || width * height > IMAGE_PIXELS_MAX)
        return reason_set(why, STATUS_INVALID, IMAGE_FIELD,
                          "the picture has %llu x %llu pixels; at most %u in all are allowed",
                          (unsigned long long)width, (unsigned long long)height, IMAGE_PIXELS_MAX);
    if (width > IMAGE_EDGE_MAX || height > IMAGE_EDGE_MAX)
        return reason_set(why, STATUS_INVALID, IMAGE_FIELD,
                          "the picture has %llu x %llu pixels; an edge may have at most %u",
                          (unsigned long long)width, (unsigned long long)height, IMAGE_EDGE_MAX);
    return STATUS_OK;
}

// The size is known to be allowed.
static enum status check_unfolding(uint64_t width, uint64_t height, size_t file_bytes,
                                   struct reason *why)
{
    const uint64_t pixels = width * height;
    if (file_bytes == 0 || pixels <= IMAGE_UNFOLD_PIXELS ||
        pixels / IMAGE_UNFOLD_SHARE <= file_bytes)
        return STATUS_OK;
    return reason_set(why, STATUS_INVALID, IMAGE_FIELD,
                      "a file of %zu bytes says that it has %llu x %llu pixels; above %u pixels it "
                      "must have a byte for each %u",
                      file_bytes, (unsigned long long)width, (unsigned long long)height,
                      IMAGE_UNFOLD_PIXELS, IMAGE_UNFOLD_SHARE);
}

enum status image_raw_init(struct image_raw *raw, uint64_t width, uint64_t height,
                           enum image_mode mode, struct reason *why)
{
    const size_t file_bytes = raw->file_bytes;
    *raw = (struct image_raw){.mode = mode, .orientation = 1, .file_bytes = file_bytes};
    enum status status = image_check_size(width, height, why);
    if (status == STATUS_OK)
        status = check_unfolding(width, height, file_bytes, why);
    if (status != STATUS_OK)
        return status;
    raw->width = (uint32_t)width;
    raw->height = (uint32_t)height;
    for (size_t i = 0; i < 256; i++) {
        memset(raw->palette[i], (int)i, 3);
        raw->palette[i][3] = 255;
    }
    raw->data = mem_try_alloc_array((size_t)width * height, image_mode_bytes(mode));
    if (!raw->data)
        return reason_set(why, STATUS_NO_MEMORY, IMAGE_FIELD, "no memory for %u x %u pixels",
                          raw->width, raw->height);
    return STATUS_OK;
}

void image_raw_deinit(struct image_raw *raw)
{
    mem_free(raw->data);
    raw->data = NULL;
}

// --- files

static bool starts_with(struct bytes file, const void *magic, size_t count)
{
    return file.count >= count && memcmp(file.data, magic, count) == 0;
}

static enum status unknown_format(struct bytes file, struct reason *why)
{
    if (file.count == 0)
        return reason_set(why, STATUS_INVALID, IMAGE_FIELD,
                          "the file is empty; JPEG, PNG, WebP and GIF are allowed");
    uint8_t head[4] = {0};
    memcpy(head, file.data, file.count < 4 ? file.count : 4);
    return reason_set(why, STATUS_INVALID, IMAGE_FIELD,
                      "no known format (the first bytes are %02x %02x %02x %02x); JPEG, PNG, WebP "
                      "and GIF are allowed",
                      head[0], head[1], head[2], head[3]);
}

static enum status read_file(struct bytes file, enum image_profile profile, struct image_raw *raw,
                             struct reason *why)
{
    *raw = (struct image_raw){.file_bytes = file.count};
    enum status status;
    if (starts_with(file, "\xFF\xD8\xFF", 3))
        status = image_jpeg_read(file, raw, why);
    else if (starts_with(file, "\x89PNG\r\n\x1A\n", 8))
        status = image_png_read(file, profile, raw, why);
    else if (starts_with(file, "RIFF", 4) && file.count >= 12 &&
             memcmp(file.data + 8, "WEBP", 4) == 0)
        status = image_webp_read(file, raw, why);
    else if (starts_with(file, "GIF87a", 6) || starts_with(file, "GIF89a", 6))
        status = image_gif_read(file, profile, raw, why);
    else
        status = unknown_format(file, why);
    if (status != STATUS_OK)
        image_raw_deinit(raw);
    return status;
}

enum status image_decode(struct bytes file, enum image_profile profile, struct image *out,
                         struct reason *why)
{
    assert(out && (file.data || file.count == 0));

    struct image_raw raw;
    enum status status = read_file(file, profile, &raw, why);
    if (status != STATUS_OK)
        return status;
    uint32_t orientation = profile == IMAGE_PROFILE_RECO ? raw.orientation : 1;
    struct image image;
    status = image_convert_to_rgb(&raw, profile, &image, why);
    if (status != STATUS_OK) {
        image_raw_deinit(&raw);
        return status;
    }
    status = image_convert_turn(&image, orientation, why);
    if (status != STATUS_OK) {
        image_deinit(&image);
        return status;
    }
    *out = image;
    return STATUS_OK;
}

void image_deinit(struct image *image)
{
    assert(image);

    mem_free(image->rgb);
    *image = (struct image){0};
}

// --- preprocessing

static double now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

// The length of an edge when the shortest one becomes `size`.
static uint64_t resized_edge(uint32_t edge, uint32_t shortest, uint32_t size)
{
    return (uint64_t)size * edge / shortest;
}

static struct image_window centre_window(uint32_t full, uint32_t size, enum image_crop crop)
{
    uint32_t margin = full - size;
    uint32_t first = margin / 2;
    if (crop == IMAGE_CROP_HALF_EVEN && margin % 2 == 1)
        first += first % 2;
    return (struct image_window){full, first, size};
}

static enum status make_windows(uint32_t width, uint32_t height, const struct image_params *params,
                                struct image_window windows[2], struct reason *why)
{
    assert(width > 0 && height > 0);
    uint32_t shortest = width < height ? width : height;
    uint64_t edges[2] = {resized_edge(width, shortest, params->size),
                         resized_edge(height, shortest, params->size)};
    if (edges[0] > IMAGE_EDGE_MAX || edges[1] > IMAGE_EDGE_MAX)
        return reason_set(why, STATUS_INVALID, IMAGE_FIELD,
                          "the picture has %u x %u pixels: with a shortest edge of %u its longest "
                          "would have %llu; at most %u are allowed",
                          width, height, params->size,
                          (unsigned long long)(edges[0] > edges[1] ? edges[0] : edges[1]),
                          IMAGE_EDGE_MAX);
    enum image_crop crop =
        params->profile == IMAGE_PROFILE_OPENAI ? IMAGE_CROP_HALF_EVEN : params->crop;
    windows[0] = centre_window((uint32_t)edges[0], params->size, crop);
    windows[1] = centre_window((uint32_t)edges[1], params->size, crop);
    return STATUS_OK;
}

// Scaled in double precision, as Hugging Face's program does. OpenAI's divides by 255 in single,
// which gives the same bits for every byte where `rescale` is 1 / 255. Both normalise in single
// precision.
void image_table(const struct image_params *params, float table[3][256])
{
    assert(params);

    for (size_t c = 0; c < 3; c++) {
        for (int value = 0; value < 256; value++) {
            float scaled = (float)((double)value * params->rescale);
            table[c][value] = (scaled - params->mean[c]) / params->std[c];
        }
    }
}

// Pictures whose number of bytes is no multiple of four end with zeros.
static void fill_up(const struct image_params *params, uint8_t *picture)
{
    const size_t bytes = (size_t)3 * params->size * params->size;
    memset(picture + bytes, 0, IMAGE_PICTURE_BYTES(params->size) - bytes);
}

static enum status prepare_rgb(const struct image *image, const struct image_params *params,
                               uint8_t *picture, struct reason *why)
{
    struct image_window windows[2] = {{0, 0, 0}, {0, 0, 0}};
    enum status status = make_windows(image->width, image->height, params, windows, why);
    if (status != STATUS_OK)
        return status;
    const struct image_plane plane = {image->rgb, image->width, image->height, 3};
    return image_resize_plane(&plane, windows[0], windows[1], picture, why);
}

static enum status prepare_raw(struct image_raw *raw, const struct image_params *params,
                               uint8_t *picture, struct reason *why)
{
    struct image_window windows[2] = {{0, 0, 0}, {0, 0, 0}};
    enum status status = make_windows(raw->width, raw->height, params, windows, why);
    if (status != STATUS_OK)
        return status;
    struct image_raw resized;
    status = image_resize_raw(raw, windows[0], windows[1], &resized, why);
    if (status != STATUS_OK)
        return status;
    struct image image;
    status = image_convert_to_rgb(&resized, params->profile, &image, why);
    if (status != STATUS_OK) {
        image_raw_deinit(&resized);
        return status;
    }
    memcpy(picture, image.rgb, (size_t)3 * params->size * params->size);
    image_deinit(&image);
    return STATUS_OK;
}

enum status image_prepare(struct bytes file, const struct image_params *params, uint8_t *picture,
                          struct image_timing *timing, struct reason *why)
{
    assert(params && params->size >= 1 && params->size <= IMAGE_SIZE_MAX);
    assert(params->filter == IMAGE_FILTER_BICUBIC);
    assert(picture && (file.data || file.count == 0));

    double start = now_ms();
    double decoded;
    enum status status;
    if (params->profile == IMAGE_PROFILE_OPENAI) {
        struct image_raw raw;
        status = read_file(file, params->profile, &raw, why);
        decoded = now_ms();
        if (status == STATUS_OK)
            status = prepare_raw(&raw, params, picture, why);
        image_raw_deinit(&raw);
    } else {
        struct image image = {0};
        status = image_decode(file, params->profile, &image, why);
        decoded = now_ms();
        if (status == STATUS_OK)
            status = prepare_rgb(&image, params, picture, why);
        image_deinit(&image);
    }
    if (status != STATUS_OK)
        return status;
    fill_up(params, picture);
    if (timing)
        *timing = (struct image_timing){decoded - start, now_ms() - decoded};
    return STATUS_OK;
}

enum status image_preprocess(struct bytes file, const struct image_params *params, float *pixels,
                             struct image_timing *timing, struct reason *why)
{
    assert(params && pixels);

    uint8_t *picture = mem_try_alloc(IMAGE_PICTURE_BYTES(params->size));
    if (!picture)
        return reason_set(why, STATUS_NO_MEMORY, IMAGE_FIELD, "no memory to resize the picture");
    enum status status = image_prepare(file, params, picture, timing, why);
    if (status == STATUS_OK) {
        float table[3][256];
        size_t count = (size_t)params->size * params->size;
        image_table(params, table);
        for (size_t i = 0; i < 3 * count; i++)
            pixels[i % 3 * count + i / 3] = table[i % 3][picture[i]];
    }
    mem_free(picture);
    return status;
}
