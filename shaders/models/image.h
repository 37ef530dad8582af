// SPDX-License-Identifier: Apache-2.0
// image.h - picture files to the pixels that CLIP sees.
//
// JPEG (baseline, progressive; grey, colour, CMYK), PNG (every colour type and
// depth; of an animation the default picture), WebP and GIF (of an animation the
// first frame). The format is told from the content. The number of pixels is
// checked against IMAGE_PIXELS_MAX before any is decoded.
//
// The pixels are those of Pillow 13: shortest edge resized to S with its antialiased
// bicubic filter to the last bit, the middle S x S cut out, scaled, normalised.
//
// What is refused: a file that ends before its picture does; a JPEG of more than
// IMAGE_JPEG_SCANS_MAX scans; a picture, before or after resizing, with an edge above
// IMAGE_EDGE_MAX. What is not looked at: colour profiles and gamma.
//
// Thread-safety: every function may run in many threads at once.

#ifndef RECO_SHADERS_MODELS_IMAGE_H
#define RECO_SHADERS_MODELS_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/bytes.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"

#define IMAGE_SIZE_MAX 1024u // S; CLIP's largest is 336
// A picture larger than this needs a byte of its file for each so many pixels. Photographs have one
// for at most 100; only what is empty all over has fewer.
#define IMAGE_UNFOLD_PIXELS 4000000u
#define IMAGE_UNFOLD_SHARE 1000u
#define IMAGE_EDGE_MAX (1u << 24)    // pixels; a float still counts them one by one
#define IMAGE_JPEG_SCANS_MAX 100     // encoders write 10; each costs time over all pixels
#define IMAGE_CONFIG_BYTES_MAX 65536 // of preprocessor_config.json

// How a picture becomes three channels. The numbers are stable.
enum image_profile {
    // What people expect: transparency lies over white, the EXIF orientation is applied,
    // 16-bit grey gives its high byte.
    IMAGE_PROFILE_RECO = 0,
    // As CLIPImageProcessor of transformers 5 does: transparency lies over white, no
    // orientation, 16-bit grey above 255 is white.
    IMAGE_PROFILE_HF = 1,
    // As OpenAI's program does: resized in the file's own mode first (palette and bilevel
    // pictures by nearest neighbour), then made RGB; transparency is dropped and hidden
    // colours appear, no orientation, 16-bit grey above 255 is white; the crop is rounded.
    IMAGE_PROFILE_OPENAI = 2,
};

// Where the crop starts when the margin is odd.
enum image_crop {
    IMAGE_CROP_FLOOR = 0,     // (length - S) / 2 rounded down
    IMAGE_CROP_HALF_EVEN = 1, // rounded to the nearest, halves to the even number
};

// Pillow's numbers.
enum image_filter {
    IMAGE_FILTER_BICUBIC = 3,
};

struct image_params {
    uint32_t size;              // S: shortest edge and crop, 1..IMAGE_SIZE_MAX
    enum image_crop crop;       // IMAGE_PROFILE_OPENAI rounds to half even whatever this says
    enum image_filter filter;   //
    enum image_profile profile; //
    double rescale;             // of the bytes, before mean and std
    float mean[3];              //
    float std[3];               // not 0
};

struct image {
    uint32_t width;
    uint32_t height;
    uint8_t *rgb; // [height][width][3], owned
};

struct image_timing {
    double decode_ms;     // file to decoded pixels
    double preprocess_ms; // decoded pixels to floats
};

// "reco", "hf" or "openai".
const char *image_profile_name(enum image_profile profile);

// Reads a Hugging Face preprocessor_config.json. `image_size` is the model's (config.json:
// vision_config.image_size); the file must make pictures of that size. A key that is
// absent has the value that CLIPImageProcessor gives it; the profile is
// IMAGE_PROFILE_RECO.
//
// STATUS_INVALID for a value that is wrong, STATUS_UNSUPPORTED for a step that is
// turned off, another filter, padding, or a crop other than the resized shortest edge;
// *out is then unchanged.
enum status image_params_parse(struct bytes preprocessor_json, uint32_t image_size,
                               struct image_params *out, struct reason *why) MUST_CHECK;

// The same from "preprocess_cfg" of an open_clip_config.json; NULL for one without it. The crop is
// that of Hugging Face's layout, so that a model is one space in both; IMAGE_PROFILE_OPENAI is
// open_clip's.
struct json;
enum status image_params_parse_openclip(const struct json *preprocess, uint32_t image_size,
                                        struct image_params *out, struct reason *why) MUST_CHECK;

// Decodes a picture to RGB as `profile` says (IMAGE_PROFILE_OPENAI: the file's own size). The
// caller ends *out with image_deinit().
//
// STATUS_INVALID with field "image" and what is wrong: no known format, broken,
// too large. STATUS_NO_MEMORY. *out is unchanged after a failure.
enum status image_decode(struct bytes file, enum image_profile profile, struct image *out,
                         struct reason *why) MUST_CHECK;

// Frees the pixels and zeroes *image. A zeroed image is allowed.
void image_deinit(struct image *image);

// Resizes with Pillow's bicubic filter. Edges 1..IMAGE_EDGE_MAX and at most
// IMAGE_PIXELS_MAX pixels, else STATUS_INVALID; STATUS_NO_MEMORY.
enum status image_resize(const struct image *image, uint32_t width, uint32_t height,
                         struct image *out, struct reason *why) MUST_CHECK;

// Bytes of a prepared picture: [S][S][3], red first, and what is missing to a multiple of four.
#define IMAGE_PICTURE_BYTES(size) (((size_t)3 * (size) * (size) + 3) / 4 * 4)

// Decodes, resizes and crops: writes picture[IMAGE_PICTURE_BYTES(S)], undefined after a failure.
// `timing` may be NULL. Fails as image_decode() does.
enum status image_prepare(struct bytes file, const struct image_params *params, uint8_t *picture,
                          struct image_timing *timing, struct reason *why) MUST_CHECK;

// What each byte of a prepared picture stands for, scaled and normalised.
void image_table(const struct image_params *params, float table[3][256]);

// Both: writes pixels[3][S][S], on success only.
// `timing` may be NULL. Fails as image_decode() does.
enum status image_preprocess(struct bytes file, const struct image_params *params, float *pixels,
                             struct image_timing *timing, struct reason *why) MUST_CHECK;

#endif
