// SPDX-License-Identifier: Apache-2.0
// Goal: no picture file makes the reader read or write where it may not, leak, or hang.
//
// Method: decodes and preprocesses the input; the first byte picks the profile. Pictures
// of more than two million pixels are left alone: they cost time and show nothing new.

#include <stddef.h>
#include <stdint.h>

#include "proto/base/mem.h"
#include "shaders/models/image.h"

#define PIXELS_MAX 2000000u
#define SIZE 32

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct bytes file = {data + 1, size - 1};
    struct image_params params = {
        .size = SIZE,
        .filter = IMAGE_FILTER_BICUBIC,
        .profile = (enum image_profile)(data[0] % 3),
        .rescale = 1.0 / 255.0,
        .std = {1, 1, 1},
    };
    struct image image = {0};
    struct reason why = {0};
    enum status status = image_decode(file, params.profile, &image, &why);
    bool small = status == STATUS_OK && (uint64_t)image.width * image.height <= PIXELS_MAX;
    image_deinit(&image);
    if (small) {
        float pixels[3 * SIZE * SIZE];
        status = image_preprocess(file, &params, pixels, NULL, &why);
        if (status != STATUS_OK && status != STATUS_INVALID)
            __builtin_trap();
    }
    return 0;
}
