// SPDX-License-Identifier: Apache-2.0
#include "tools/sample_picture.h"

#include "proto/base/mem.h"
#include "tools/png_file.h"

enum status sample_picture_make(uint32_t number, struct buffer *out)
{
    uint8_t *rgb = mem_try_alloc_array((size_t)SAMPLE_PICTURE_EDGE * SAMPLE_PICTURE_EDGE, 3);
    if (!rgb)
        return STATUS_NO_MEMORY;
    for (uint32_t y = 0; y < SAMPLE_PICTURE_EDGE; y++) {
        uint8_t *pixel = rgb + (size_t)y * SAMPLE_PICTURE_EDGE * 3;
        for (uint32_t x = 0; x < SAMPLE_PICTURE_EDGE; x++, pixel += 3) {
            pixel[0] = (uint8_t)(x * (1 + number % 7) + y);
            pixel[1] = (uint8_t)(y * (1 + number % 5) ^ x);
            pixel[2] = (uint8_t)(number * 37 + (x * y >> 6));
        }
    }
    const enum status status = png_file_append(rgb, SAMPLE_PICTURE_EDGE, SAMPLE_PICTURE_EDGE, out);
    mem_free(rgb);
    return status;
}
