// SPDX-License-Identifier: Apache-2.0
// kernels.h - the inner loops that this project writes itself, one table per CPU level.
//
// kernels.c is compiled once for each level. Every level runs the same additions
// and multiplications in the same order on 16 lanes, so their bits are equal; only
// the width of the instructions differs.
//
// Thread-safety: pure; scratch memory belongs to the caller.

#ifndef RECO_SHADERS_CPU_KERNELS_H
#define RECO_SHADERS_CPU_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KERNELS_LANES 16u

// One head of one sequence. `source` points at the sequence's first row of
// [length][stride], where the row holds query, key and value at the offsets 0,
// `width` and 2 * width of this head's first element; `target` has rows of
// `target_stride`.
struct kernels_head {
    const float *source;
    size_t stride;
    size_t width;
    float *target;
    size_t target_stride;
    uint32_t length;
    uint32_t dimension; // of the head
    float scale;        // queries are multiplied by it
    bool causal;        // row i sees rows 0..i only
};

struct kernels {
    // target[c] = (source[c] - mean) / sqrt(variance + epsilon) * gain[c] + bias[c];
    // target may be source.
    void (*layernorm)(const float *source, const float *gain, const float *bias, float epsilon,
                      size_t width, float *target);

    // softmax(scale * query * key^T) * value with `scratch` of
    // kernels_head_scratch(length, dimension) floats, aligned to 64 bytes.
    void (*head)(const struct kernels_head *head, float *scratch);

    // target[c] = a[c] + b[c]; target may be either.
    void (*add)(const float *a, const float *b, size_t width, float *target);
};

size_t kernels_head_scratch(uint32_t length, uint32_t dimension);

extern const struct kernels kernels_scalar;
#if defined(__x86_64__)
extern const struct kernels kernels_avx2;
extern const struct kernels kernels_avx512;
#endif

// The table for cpu_best().
const struct kernels *kernels_best(void);

#endif
