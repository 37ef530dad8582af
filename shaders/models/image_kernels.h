// SPDX-License-Identifier: Apache-2.0
// image_kernels.h - the two inner loops of resizing, once for each level of CPU.
//
// Weights are fixed-point numbers of 22 bits behind the point. A sum is taken
// modulo 2^32, so that every level gives the same bits in whatever order it adds.
//
// Thread-safety: pure.

#ifndef RECO_SHADERS_MODELS_IMAGE_KERNELS_H
#define RECO_SHADERS_MODELS_IMAGE_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "proto/base/cpu.h"

#define IMAGE_WEIGHT_BITS 22
#define IMAGE_WEIGHT_LOW_BITS 15 // of a weight, that the 16-bit kernels multiply apart
#define IMAGE_TAPS_GROUP 4       // weights of a target are padded with zeros to a multiple
#define IMAGE_ROWS_AT_ONCE 4     // rows that `across` takes in one go, at most
#define IMAGE_ROW_PAD 32         // bytes that must be readable or writable behind a row

// What the targets of one axis are made of: target t is the sum over i < taps[t] of
// weights[t * stride + i] * source[first[t] + i].
struct image_taps {
    uint32_t count;   // targets
    uint32_t stride;  // weights kept for each, a multiple of IMAGE_TAPS_GROUP
    uint32_t *first;  // source of the first weight
    uint32_t *taps;   // weights in use
    int32_t *weights; // [count][stride]
    int16_t *packed;  // the same: of each group of four the high parts, then the low ones
};

struct image_kernels {
    // Resizes along rows of three channels. IMAGE_ROW_PAD bytes behind each source row are
    // readable, as many behind each target row writable.
    void (*across3)(const struct image_taps *taps, const uint8_t *const *sources,
                    uint8_t *const *targets, size_t rows);
    // Makes `bytes` bytes of one row, target `target`, from the rows source, source + pitch, ...
    // `bytes` is a multiple of IMAGE_ROW_PAD, except for the scalar kernel.
    void (*down)(const struct image_taps *taps, uint32_t target, const uint8_t *source,
                 size_t pitch, size_t bytes, uint8_t *out);
};

extern const struct image_kernels image_kernels_scalar;
#if defined(__x86_64__)
extern const struct image_kernels image_kernels_avx2;
#endif

static inline const struct image_kernels *image_kernels_for(enum cpu_level level)
{
#if defined(__x86_64__)
    if (level >= CPU_AVX2)
        return &image_kernels_avx2;
#endif
    (void)level;
    return &image_kernels_scalar;
}

// A sum, with half of the last place added before, to a byte.
static inline uint8_t image_kernels_byte(uint32_t sum)
{
    int32_t value = (int32_t)sum >> IMAGE_WEIGHT_BITS;
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

#endif
