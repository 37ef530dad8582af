// SPDX-License-Identifier: Apache-2.0
// dense_fma.h - the inner loop of matrix products, one table for each kind of vector register.
//
// An element of a product is a chain of fused multiply-adds over each chunk of the depth, the
// chunks added one by one, whatever the tile around it; bias and activation follow in one order. So
// an element's bits depend neither on its tile nor on the kind of register.
//
// The numbers of rows and weights are floats, or pairs of bfloat16 where a table says so: then each
// step of the depth multiplies both of a pair, and what is written as floats below holds pairs, the
// first number in the low half.
//
// Thread-safety: pure.

#ifndef RECO_SHADERS_CPU_DENSE_FMA_H
#define RECO_SHADERS_CPU_DENSE_FMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shaders/cpu/dense.h"

#define DENSE_FMA_DEPTH 1024u                           // of a chunk at most
#define DENSE_FMA_STRIDE ((size_t)DENSE_FMA_DEPTH + 16) // floats from one source row to the next
#define DENSE_FMA_PANEL_MAX 32u

// Some rows of one panel of columns, over one chunk of the depth.
struct dense_fma_tile {
    const float *source; // [rows][DENSE_FMA_STRIDE]
    const float *panel;  // [depth][panel columns], aligned to 64 bytes
    const float
        *fetch; // memory of 64 bytes, or a panel's row, * depth that is needed soon; only fetched
    uint32_t depth;   // of the chunk
    uint32_t rows;    // 1..rows of the table
    uint32_t columns; // live ones, 1..panel columns
    bool first;       // of the chunks; otherwise `sums` holds those of the chunks before
    bool last;        // sums are finished into `target`, otherwise left in `sums`
    enum dense_epilogue epilogue;
    float *sums;       // [rows][panel columns], aligned to 64 bytes
    const float *bias; // [panel columns]
    float *target;     // its first element
    size_t stride;     // floats from one target row to the next
};

struct dense_fma {
    uint32_t panel;   // columns of a panel
    uint32_t rows;    // of a tile at most
    uint32_t numbers; // of a step of the depth: 1, or 2 of bfloat16

    // Numbers as steps: the nearest bfloat16, behind the last one 0. `to` may be `from`. NULL:
    // floats stay as they are.
    void (*narrow)(const float *from, size_t count, float *to);
    void (*run)(const struct dense_fma_tile *tile);

    // Rows of weights [count][depth] become columns of a panel, `panel` pointing to the first of
    // them.
    void (*pack)(const float *rows, uint32_t count, size_t depth, float *panel);

    // DENSE_FMA_CHAINS chains of `rounds` multiply-adds on whole registers, panel / 2 numbers each,
    // and nothing else.
    float (*chains)(size_t rounds);
};

#define DENSE_FMA_CHAINS 12u

// The table for this CPU, or NULL when it has no fused multiply-add that this project writes for.
// RECO_CPU does not lower it: it must not change bits, and without them there is no other way to
// the same ones.
const struct dense_fma *dense_fma_best(void);

#if defined(__x86_64__)
extern const struct dense_fma dense_fma_avx2;
extern const struct dense_fma dense_fma_avx512;
extern const struct dense_fma dense_fma_bf16; // where cpu_has_bf16()
#elif defined(__aarch64__)
extern const struct dense_fma dense_fma_neon;
#endif

#endif
