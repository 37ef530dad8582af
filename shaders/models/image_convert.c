// SPDX-License-Identifier: Apache-2.0
// From what a file holds to RGB, with Pillow's integer arithmetic: its
// alpha_composite over opaque white, its CMYK, its premultiplied alpha. The facts
// are those of libImaging/AlphaComposite.c and Convert.c of Pillow 13.

#include <assert.h>
#include <string.h>

#include "proto/base/mem.h"
#include "shaders/models/image_internal.h"

// --- single values

// a * b / 255, rounded.
static uint8_t multiply_255(uint32_t a, uint32_t b)
{
    uint32_t product = a * b + 128;
    return (uint8_t)(((product >> 8) + product) >> 8);
}

// A colour of opacity `alpha` over white. Pillow weighs with seven more bits.
static uint8_t over_white(uint32_t colour, uint32_t alpha)
{
    if (alpha == 0)
        return 255;
    uint32_t sum = colour * (alpha << 7) + 255 * ((255 - alpha) << 7) + (0x80 << 7);
    return (uint8_t)((((sum >> 8) + sum) >> 8) >> 7);
}

static uint8_t grey16_to_8(uint16_t value, enum image_profile profile)
{
    if (profile == IMAGE_PROFILE_RECO)
        return (uint8_t)(value >> 8);
    return value > 255 ? 255 : (uint8_t)value;
}

static void put_grey(uint8_t *rgb, uint8_t grey)
{
    rgb[0] = grey;
    rgb[1] = grey;
    rgb[2] = grey;
}

// --- rows of pixels; where source and target are the same memory, writing stays behind reading

static void convert_grey(const struct image_raw *raw, size_t count, uint8_t *rgb)
{
    for (size_t i = 0; i < count; i++)
        put_grey(rgb + 3 * i, raw->data[i]);
}

static void convert_grey16(const struct image_raw *raw, size_t count, enum image_profile profile,
                           uint8_t *rgb)
{
    for (size_t i = 0; i < count; i++) {
        uint16_t value;
        memcpy(&value, raw->data + 2 * i, sizeof(value));
        put_grey(rgb + 3 * i, grey16_to_8(value, profile));
    }
}

static void convert_grey_alpha(const struct image_raw *raw, size_t count, bool white, uint8_t *rgb)
{
    for (size_t i = 0; i < count; i++) {
        const uint8_t *source = raw->data + 2 * i;
        put_grey(rgb + 3 * i, white ? over_white(source[0], source[1]) : source[0]);
    }
}

static void convert_palette(const struct image_raw *raw, size_t count, bool white, uint8_t *rgb)
{
    uint8_t colours[256][3];
    for (size_t i = 0; i < 256; i++) {
        const uint8_t *entry = raw->palette[i];
        for (size_t c = 0; c < 3; c++)
            colours[i][c] = white ? over_white(entry[c], entry[3]) : entry[c];
    }
    for (size_t i = 0; i < count; i++)
        memcpy(rgb + 3 * i, colours[raw->data[i]], 3);
}

static void convert_rgba(uint8_t *data, size_t count, bool white)
{
    for (size_t i = 0; i < count; i++) {
        const uint8_t *source = data + 4 * i;
        uint8_t alpha = white ? source[3] : 255;
        for (size_t c = 0; c < 3; c++)
            data[3 * i + c] = alpha == 255 ? source[c] : over_white(source[c], alpha);
    }
}

static void convert_cmyk(uint8_t *data, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const uint8_t *source = data + 4 * i;
        uint32_t light = 255u - source[3];
        for (size_t c = 0; c < 3; c++)
            data[3 * i + c] = (uint8_t)(light - multiply_255(source[c], light));
    }
}

enum status image_convert_to_rgb(struct image_raw *raw, enum image_profile profile,
                                 struct image *out, struct reason *why)
{
    assert(raw->data);

    size_t count = (size_t)raw->width * raw->height;
    bool white = profile != IMAGE_PROFILE_OPENAI;
    uint8_t *rgb = raw->data;
    if (image_mode_bytes(raw->mode) < 3) {
        rgb = mem_try_alloc_array(count, 3);
        if (!rgb)
            return reason_set(why, STATUS_NO_MEMORY, IMAGE_FIELD, "no memory for %u x %u pixels",
                              raw->width, raw->height);
    }

    switch (raw->mode) {
    case IMAGE_BILEVEL:
    case IMAGE_GREY:
        convert_grey(raw, count, rgb);
        break;
    case IMAGE_GREY16:
        convert_grey16(raw, count, profile, rgb);
        break;
    case IMAGE_GREY_ALPHA:
        convert_grey_alpha(raw, count, white, rgb);
        break;
    case IMAGE_PALETTE:
        convert_palette(raw, count, white, rgb);
        break;
    case IMAGE_RGBA:
        convert_rgba(rgb, count, white);
        break;
    case IMAGE_CMYK:
        convert_cmyk(rgb, count);
        break;
    case IMAGE_RGB:
        break;
    }

    *out = (struct image){.width = raw->width, .height = raw->height, .rgb = rgb};
    if (rgb == raw->data)
        raw->data = NULL;
    image_raw_deinit(raw);
    return STATUS_OK;
}

// --- alpha around a resize

static void premultiply(uint8_t *pixel, uint32_t colours)
{
    for (uint32_t c = 0; c < colours; c++)
        pixel[c] = multiply_255(pixel[c], pixel[colours]);
}

static void unpremultiply(uint8_t *pixel, uint32_t colours)
{
    uint32_t alpha = pixel[colours];
    if (alpha == 0 || alpha == 255)
        return;
    for (uint32_t c = 0; c < colours; c++) {
        uint32_t value = 255u * pixel[c] / alpha;
        pixel[c] = value > 255 ? 255 : (uint8_t)value;
    }
}

void image_convert_premultiply(struct image_raw *raw)
{
    uint32_t bytes = image_mode_bytes(raw->mode);
    size_t count = (size_t)raw->width * raw->height;
    for (size_t i = 0; i < count; i++)
        premultiply(raw->data + i * bytes, bytes - 1);
}

void image_convert_unpremultiply(struct image_raw *raw)
{
    uint32_t bytes = image_mode_bytes(raw->mode);
    size_t count = (size_t)raw->width * raw->height;
    for (size_t i = 0; i < count; i++)
        unpremultiply(raw->data + i * bytes, bytes - 1);
}

// --- orientation
//
//   1 as it is       2 mirrored        3 half turn        4 upside down mirrored
//   5 transposed     6 quarter left    7 transverse       8 quarter right
//
// An orientation says where the first row and column of the file belong. 5 to 8
// exchange rows and columns.

static void swap_pixels(uint8_t *a, uint8_t *b)
{
    uint8_t spare[3];
    memcpy(spare, a, 3);
    memcpy(a, b, 3);
    memcpy(b, spare, 3);
}

static void mirror(struct image *image)
{
    for (uint32_t y = 0; y < image->height; y++) {
        uint8_t *row = image->rgb + (size_t)y * image->width * 3;
        for (uint32_t x = 0; x < image->width / 2; x++)
            swap_pixels(row + (size_t)x * 3, row + (size_t)(image->width - 1 - x) * 3);
    }
}

static void half_turn(struct image *image)
{
    size_t count = (size_t)image->width * image->height;
    for (size_t i = 0; i < count / 2; i++)
        swap_pixels(image->rgb + 3 * i, image->rgb + 3 * (count - 1 - i));
}

// Writes row y of the file to column y of the result, or to the mirrored one, from the top
// or from the bottom.
static enum status transpose(struct image *image, bool mirrored, bool from_bottom,
                             struct reason *why)
{
    uint32_t width = image->height;
    uint32_t height = image->width;
    uint8_t *turned = mem_try_alloc_array((size_t)width * height, 3);
    if (!turned)
        return reason_set(why, STATUS_NO_MEMORY, IMAGE_FIELD, "no memory to turn %u x %u pixels",
                          image->width, image->height);
    const uint8_t *source = image->rgb;
    for (uint32_t y = 0; y < image->height; y++) {
        size_t column = mirrored ? width - 1 - y : y;
        for (uint32_t x = 0; x < image->width; x++, source += 3) {
            size_t row = from_bottom ? height - 1 - x : x;
            memcpy(turned + (row * width + column) * 3, source, 3);
        }
    }
    mem_free(image->rgb);
    *image = (struct image){.width = width, .height = height, .rgb = turned};
    return STATUS_OK;
}

enum status image_convert_turn(struct image *image, uint32_t orientation, struct reason *why)
{
    switch (orientation) {
    case 2:
        mirror(image);
        return STATUS_OK;
    case 3:
        half_turn(image);
        return STATUS_OK;
    case 4:
        half_turn(image);
        mirror(image);
        return STATUS_OK;
    case 5:
        return transpose(image, false, false, why);
    case 6:
        return transpose(image, true, false, why);
    case 7:
        return transpose(image, true, true, why);
    case 8:
        return transpose(image, false, true, why);
    default:
        return STATUS_OK;
    }
}
