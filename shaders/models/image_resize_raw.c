// SPDX-License-Identifier: Apache-2.0
// Resizing a picture in its file's own mode, for IMAGE_PROFILE_OPENAI.
//
// Pillow resizes palette and bilevel pictures by nearest neighbour whatever filter is
// asked for, pictures with transparency with premultiplied colours, and 16-bit
// grey in double precision, rounded after each pass. The nearest source is found by
// adding up steps, not by multiplying: the sum's rounding is part of the result.

#include <assert.h>
#include <math.h>
#include <string.h>

#include "proto/base/mem.h"
#include "shaders/models/image_internal.h"

static enum status no_memory(struct reason *why)
{
    return reason_set(why, STATUS_NO_MEMORY, IMAGE_FIELD, "no memory to resize the picture");
}

// --- nearest neighbour

static void nearest_sources(uint32_t source, struct image_window window, uint32_t *nearest)
{
    double step = (double)source / window.full;
    double at = step * 0.5;
    for (uint32_t i = 0; i < window.first + window.count; i++) {
        uint32_t from = (uint32_t)at;
        if (i >= window.first)
            nearest[i - window.first] = from < source ? from : source - 1;
        at += step;
    }
}

static enum status resize_nearest(const struct image_raw *raw, struct image_window across,
                                  struct image_window down, uint8_t *out, struct reason *why)
{
    uint32_t *columns = mem_try_alloc_array((size_t)across.count + down.count, sizeof(*columns));
    if (!columns)
        return no_memory(why);
    uint32_t *rows = columns + across.count;
    nearest_sources(raw->width, across, columns);
    nearest_sources(raw->height, down, rows);
    for (uint32_t y = 0; y < down.count; y++) {
        const uint8_t *source = raw->data + (size_t)rows[y] * raw->width;
        for (uint32_t x = 0; x < across.count; x++)
            *out++ = source[columns[x]];
    }
    mem_free(columns);
    return STATUS_OK;
}

// --- 16-bit grey

static uint16_t to_u16(double sum)
{
    double rounded = sum >= 0.0 ? floor(sum + 0.5) : -floor(-sum + 0.5);
    return (uint16_t)(rounded < 0 ? 0 : rounded > 65535 ? 65535 : rounded);
}

static uint16_t weigh(const uint16_t *source, size_t pitch, const double *weights, uint32_t taps)
{
    double sum = 0.0;
    for (uint32_t i = 0; i < taps; i++)
        sum += source[i * pitch] * weights[i];
    return to_u16(sum);
}

// A part of a 16-bit picture: `data` is the pixel at column `left`, row `top`.
struct grey16 {
    const uint16_t *data;
    size_t pitch; // pixels
    uint32_t left;
    uint32_t top;
};

// The sources [*first, *end) that a window needs.
static void needed(const struct image_axis *axis, struct image_window window, double *weights,
                   uint32_t *first, uint32_t *end)
{
    uint32_t last = 0;
    uint32_t taps = image_resize_weights(axis, window.first + window.count - 1, weights, &last);
    (void)image_resize_weights(axis, window.first, weights, first);
    *end = last + taps;
}

// Both passes take a target at a time, so that its weights are computed once.

static void grey16_across(const struct grey16 *grey, const struct image_axis *axis,
                          struct image_window window, uint32_t rows, double *weights, uint16_t *out)
{
    for (uint32_t t = 0; t < window.count; t++) {
        uint32_t first = 0;
        uint32_t taps = image_resize_weights(axis, window.first + t, weights, &first);
        const uint16_t *source = grey->data + (first - grey->left);
        for (uint32_t y = 0; y < rows; y++, source += grey->pitch)
            out[(size_t)y * window.count + t] = weigh(source, 1, weights, taps);
    }
}

static void grey16_down(const struct grey16 *grey, const struct image_axis *axis,
                        struct image_window window, uint32_t columns, double *weights,
                        uint16_t *out)
{
    for (uint32_t t = 0; t < window.count; t++) {
        uint32_t first = 0;
        uint32_t taps = image_resize_weights(axis, window.first + t, weights, &first);
        const uint16_t *source = grey->data + (first - grey->top) * grey->pitch;
        for (uint32_t x = 0; x < columns; x++)
            *out++ = weigh(source + x, grey->pitch, weights, taps);
    }
}

// `weights` has room for the taps of either axis.
static enum status grey16_both(const struct image_raw *raw, struct image_window across,
                               struct image_window down, double *weights, uint16_t *out)
{
    struct image_axis rows = image_resize_axis(raw->width, across.full);
    struct image_axis columns = image_resize_axis(raw->height, down.full);
    uint32_t left = 0;
    uint32_t right = 0;
    uint32_t top = 0;
    uint32_t bottom = 0;
    needed(&rows, across, weights, &left, &right);
    needed(&columns, down, weights, &top, &bottom);
    const uint16_t *pixels = (const uint16_t *)(const void *)raw->data;
    struct grey16 grey = {pixels + (size_t)top * raw->width + left, raw->width, left, top};

    const struct image_plane plane = {raw->data, raw->width, raw->height, 1};
    bool down_first = image_resize_goes_down_first(&plane, across.full, down.full);
    size_t width = down_first ? right - left : across.count;
    size_t height = down_first ? down.count : bottom - top;
    uint16_t *between = mem_try_alloc_array(width * height, sizeof(*between));
    if (!between)
        return STATUS_NO_MEMORY;
    if (down_first)
        grey16_down(&grey, &columns, down, (uint32_t)width, weights, between);
    else
        grey16_across(&grey, &rows, across, (uint32_t)height, weights, between);
    grey.data = between;
    grey.pitch = width;
    if (down_first)
        grey16_across(&grey, &rows, across, down.count, weights, out);
    else
        grey16_down(&grey, &columns, down, across.count, weights, out);
    mem_free(between);
    return STATUS_OK;
}

static enum status resize_grey16(const struct image_raw *raw, struct image_window across,
                                 struct image_window down, uint8_t *out, struct reason *why)
{
    struct image_axis rows = image_resize_axis(raw->width, across.full);
    struct image_axis columns = image_resize_axis(raw->height, down.full);
    uint32_t taps = image_resize_taps_max(rows.scale > columns.scale ? &rows : &columns);
    double *weights = mem_try_alloc_array(taps, sizeof(*weights));
    enum status status = STATUS_NO_MEMORY;
    if (weights)
        status = grey16_both(raw, across, down, weights, (uint16_t *)(void *)out);
    mem_free(weights);
    return status == STATUS_OK ? STATUS_OK : no_memory(why);
}

// --- all modes

static enum status resize_mode(struct image_raw *raw, struct image_window across,
                               struct image_window down, struct image_raw *out, struct reason *why)
{
    const struct image_plane plane = {raw->data, raw->width, raw->height,
                                      image_mode_bytes(raw->mode)};
    enum status status;
    switch (raw->mode) {
    case IMAGE_PALETTE:
    case IMAGE_BILEVEL:
        return resize_nearest(raw, across, down, out->data, why);
    case IMAGE_GREY16:
        return resize_grey16(raw, across, down, out->data, why);
    case IMAGE_GREY_ALPHA:
    case IMAGE_RGBA:
        if (across.full == raw->width && down.full == raw->height)
            return image_resize_plane(&plane, across, down, out->data, why);
        image_convert_premultiply(raw);
        status = image_resize_plane(&plane, across, down, out->data, why);
        if (status == STATUS_OK)
            image_convert_unpremultiply(out);
        return status;
    case IMAGE_GREY:
    case IMAGE_RGB:
    case IMAGE_CMYK:
        return image_resize_plane(&plane, across, down, out->data, why);
    }
    assert(false);
    return STATUS_INTERNAL;
}

enum status image_resize_raw(struct image_raw *raw, struct image_window across,
                             struct image_window down, struct image_raw *out, struct reason *why)
{
    struct image_raw resized = {.file_bytes = 0};
    enum status status = image_raw_init(&resized, across.count, down.count, raw->mode, why);
    if (status != STATUS_OK)
        return status;
    memcpy(resized.palette, raw->palette, sizeof(resized.palette));
    status = resize_mode(raw, across, down, &resized, why);
    if (status != STATUS_OK) {
        image_raw_deinit(&resized);
        return status;
    }
    *out = resized;
    return STATUS_OK;
}
