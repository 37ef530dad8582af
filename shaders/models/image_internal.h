// SPDX-License-Identifier: Apache-2.0
// image_internal.h - what the parts of the picture reader share; private to image_*.c.

#ifndef RECO_SHADERS_MODELS_IMAGE_INTERNAL_H
#define RECO_SHADERS_MODELS_IMAGE_INTERNAL_H

#include <stddef.h>

#include "shaders/models/image.h"

#define IMAGE_FIELD "image" // of every reason about a picture

// How a file says its pixels; one or more bytes each.
enum image_mode {
    IMAGE_BILEVEL,    // 1: 0 or 255
    IMAGE_PALETTE,    // 1: index
    IMAGE_GREY,       // 1
    IMAGE_GREY16,     // 2: uint16_t of this machine
    IMAGE_GREY_ALPHA, // 2
    IMAGE_RGB,        // 3
    IMAGE_RGBA,       // 4
    IMAGE_CMYK,       // 4: 255 is full ink
};

// A decoded file before it is made RGB.
struct image_raw {
    uint32_t width;
    uint32_t height;
    enum image_mode mode;
    uint32_t orientation;    // EXIF's, 1..8
    uint8_t palette[256][4]; // RGBA of IMAGE_PALETTE
    uint8_t *data;           // rows without padding, owned
    size_t file_bytes;       // of the file it is read from; 0: from none
};

uint32_t image_mode_bytes(enum image_mode mode);

// Whether a picture of this size may be decoded; the reason says what is wrong with it.
enum status image_check_size(uint64_t width, uint64_t height, struct reason *why) MUST_CHECK;

// Checks the size and allocates raw->data for it; mode and orientation 1 are set, the
// palette becomes a ramp of opaque greys. image_raw_deinit() frees. raw->file_bytes is set before:
// a few bytes may not unfold into IMAGE_PIXELS_MAX.
enum status image_raw_init(struct image_raw *raw, uint64_t width, uint64_t height,
                           enum image_mode mode, struct reason *why) MUST_CHECK;
void image_raw_deinit(struct image_raw *raw);

// Readers, one for each format. *raw is zeroed before the call; after a failure the
// caller calls image_raw_deinit() all the same. IMAGE_PROFILE_OPENAI asks for
// Pillow's mode; the others for transparency wherever the file says it.
enum status image_jpeg_read(struct bytes file, struct image_raw *raw,
                            struct reason *why) MUST_CHECK;
enum status image_png_read(struct bytes file, enum image_profile profile, struct image_raw *raw,
                           struct reason *why) MUST_CHECK;
enum status image_webp_read(struct bytes file, struct image_raw *raw,
                            struct reason *why) MUST_CHECK;
enum status image_gif_read(struct bytes file, enum image_profile profile, struct image_raw *raw,
                           struct reason *why) MUST_CHECK;

// The orientation that a block of EXIF (a TIFF header and its directories, with or without
// "Exif\0\0" before it) asks for; 1 when there is none or the block is broken.
uint32_t image_exif_orientation(struct bytes exif);

// Makes *raw RGB as `profile` says and empties it. Transparency is laid over white or
// dropped; the orientation is not looked at.
enum status image_convert_to_rgb(struct image_raw *raw, enum image_profile profile,
                                 struct image *out, struct reason *why) MUST_CHECK;

// Turns and mirrors a picture so that EXIF's orientation becomes 1.
enum status image_convert_turn(struct image *image, uint32_t orientation,
                               struct reason *why) MUST_CHECK;

// Colours times alpha, and back, as Pillow does around a resize.
void image_convert_premultiply(struct image_raw *raw);
void image_convert_unpremultiply(struct image_raw *raw);

// A part of a resized axis: `count` pixels from `first` on, of `full`.
struct image_window {
    uint32_t full;
    uint32_t first;
    uint32_t count;
};

// Rows of bytes, 1..4 channels a pixel.
struct image_plane {
    const uint8_t *data;
    uint32_t width;
    uint32_t height;
    uint32_t channels;
};

// Pillow's bicubic resize of 8-bit channels: writes the window of the result to
// out[down.count][across.count][channels].
enum status image_resize_plane(const struct image_plane *plane, struct image_window across,
                               struct image_window down, uint8_t *out,
                               struct reason *why) MUST_CHECK;

// Whether Pillow does the columns before the rows.
bool image_resize_goes_down_first(const struct image_plane *plane, uint32_t width, uint32_t height);

// One axis of Pillow's antialiased bicubic filter.
struct image_axis {
    uint32_t source; // pixels
    double scale;    // source pixels for each target
    double support;  // source pixels on each side that weigh
    double inverse;  // of the filter's stretch
};

struct image_axis image_resize_axis(uint32_t source, uint32_t full);
uint32_t image_resize_taps_max(const struct image_axis *axis);

// Writes the weights of a target, which add up to 1, and its first source; returns how many.
uint32_t image_resize_weights(const struct image_axis *axis, uint32_t target, double *weights,
                              uint32_t *first);

// The same for a picture in its own mode: IMAGE_PALETTE and IMAGE_BILEVEL by nearest neighbour,
// IMAGE_GREY16 with Pillow's arithmetic for it. `raw` is changed (premultiplied).
enum status image_resize_raw(struct image_raw *raw, struct image_window across,
                             struct image_window down, struct image_raw *out,
                             struct reason *why) MUST_CHECK;

#endif
