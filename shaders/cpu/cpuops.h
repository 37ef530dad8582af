// SPDX-License-Identifier: Apache-2.0
// cpuops.h - the operations of a transformer besides the matrix product, on plain arrays.
//
// Every operation works row by row or sequence by sequence, in one order, so its
// bits depend neither on the batch nor on the number of threads. Arrays are
// contiguous, rows first; sizes are the caller's promise.
//
// Thread-safety: none. One thread at a time uses a cpuops.

#ifndef RECO_SHADERS_CPU_CPUOPS_H
#define RECO_SHADERS_CPU_CPUOPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/status.h"
#include "shaders/cpu/team.h"

struct cpuops;

// `team` is borrowed until cpuops_close().
void cpuops_open(struct team *team, struct cpuops **out);
void cpuops_close(struct cpuops **cpuops);

struct cpuops_layernorm {
    const float *source; // [rows][width]
    const float *gain;   // [width]
    const float *bias;   // [width]
    float epsilon;
    size_t rows;
    size_t width;
    float *target; // [rows][width]; may be source
};
void cpuops_layernorm(struct cpuops *cpuops, const struct cpuops_layernorm *args);

struct cpuops_attention {
    const float *source;    // [rows][3 * width]: queries, keys, values; heads side by side
    const uint32_t *starts; // [sequences + 1]: sequence s is rows starts[s]..starts[s + 1] - 1
    uint32_t sequences;
    uint32_t heads;
    size_t width; // a multiple of heads
    bool causal;
    float *target; // [rows][width]
};
// STATUS_NO_MEMORY, the target then undefined.
enum status cpuops_attention(struct cpuops *cpuops, const struct cpuops_attention *args) MUST_CHECK;

struct cpuops_embed_tokens {
    const float *table;     // [vocabulary][width]
    const float *positions; // [context][width]
    const uint32_t *ids;    // [rows], below the vocabulary
    const uint32_t *places; // [rows], below the context
    size_t rows;
    size_t width;
    float *target; // [rows][width] = table[id] + positions[place]
};
void cpuops_embed_tokens(struct cpuops *cpuops, const struct cpuops_embed_tokens *args);

struct cpuops_patchify {
    const float *pixels; // [images][3][size][size]
    size_t images;
    size_t size;
    size_t patch;  // at most size; what is left at the right and bottom is not read
    float *target; // [images * (size / patch)^2][3 * patch * patch], patches by rows
};
void cpuops_patchify(struct cpuops *cpuops, const struct cpuops_patchify *args);

// The same from bytes, each of which stands for a number of its channel's table.
struct cpuops_patchify_normalise {
    const uint8_t *pixels; // [images][stride], of which [size][size][3]
    const float *table;    // [3][256]
    size_t images;
    size_t stride; // bytes
    size_t size;
    size_t patch;
    float *target;
};
void cpuops_patchify_normalise(struct cpuops *cpuops, const struct cpuops_patchify_normalise *args);

struct cpuops_embed_patches {
    const float *patches;   // [images * grid][width]
    const float *first;     // [width]: the class token
    const float *positions; // [grid + 1][width]
    size_t images;
    size_t grid; // patches of an image
    size_t width;
    float *target; // [images * (grid + 1)][width]: the class token, then the patches
};
void cpuops_embed_patches(struct cpuops *cpuops, const struct cpuops_embed_patches *args);

// target[i] = source[rows[i]], each of `width` floats.
void cpuops_gather(const float *source, const uint32_t *rows, size_t count, size_t width,
                   float *target);

// Scales each row to unit length as embedding_normalise() does. STATUS_INVALID, with
// the row's number in *bad, when a row is not finite or zero.
enum status cpuops_normalise(float *values, size_t rows, size_t width, size_t *bad) MUST_CHECK;

#endif
