// SPDX-License-Identifier: Apache-2.0
// The scalar kernels; every other level gives their bits.

#include "shaders/models/image_kernels.h"

static void across3(const struct image_taps *taps, const uint8_t *const *sources,
                    uint8_t *const *targets, size_t rows)
{
    for (size_t row = 0; row < rows; row++) {
        uint8_t *target = targets[row];
        for (uint32_t t = 0; t < taps->count; t++, target += 3) {
            const uint8_t *source = sources[row] + (size_t)taps->first[t] * 3;
            const int32_t *weights = taps->weights + (size_t)t * taps->stride;
            uint32_t red = 1u << (IMAGE_WEIGHT_BITS - 1);
            uint32_t green = red;
            uint32_t blue = red;
            for (uint32_t i = 0; i < taps->taps[t]; i++, source += 3) {
                red += source[0] * (uint32_t)weights[i];
                green += source[1] * (uint32_t)weights[i];
                blue += source[2] * (uint32_t)weights[i];
            }
            target[0] = image_kernels_byte(red);
            target[1] = image_kernels_byte(green);
            target[2] = image_kernels_byte(blue);
        }
    }
}

// Sums a strip of columns at a time, so that the compiler can keep them in vectors.
#define STRIP 64

static void down(const struct image_taps *taps, uint32_t target, const uint8_t *source,
                 size_t pitch, size_t bytes, uint8_t *out)
{
    const int32_t *weights = taps->weights + (size_t)target * taps->stride;
    uint32_t count = taps->taps[target];
    for (size_t x = 0; x < bytes; x += STRIP) {
        size_t width = bytes - x < STRIP ? bytes - x : STRIP;
        uint32_t sums[STRIP];
        for (size_t i = 0; i < width; i++)
            sums[i] = 1u << (IMAGE_WEIGHT_BITS - 1);
        for (uint32_t tap = 0; tap < count; tap++) {
            const uint8_t *row = source + tap * pitch + x;
            for (size_t i = 0; i < width; i++)
                sums[i] += row[i] * (uint32_t)weights[tap];
        }
        for (size_t i = 0; i < width; i++)
            out[x + i] = image_kernels_byte(sums[i]);
    }
}

const struct image_kernels image_kernels_scalar = {.across3 = across3, .down = down};
