// SPDX-License-Identifier: Apache-2.0
// simd.h - the inner loops of the index, one set for each instruction set, all the same bits.
//
// Sums of table entries and of bytes are integers and exact. Everything in floating point is done
// element by element, or in 32 lanes that are folded in one fixed order (as distance.h), each step
// rounded to float and none contracted. So scalar code, AVX2, AVX-512 and NEON return identical
// codes, estimates and masks.
//
// Thread-safety: pure functions on the caller's memory.

#ifndef RECO_SHARD_NODE_INDEX_SIMD_H
#define RECO_SHARD_NODE_INDEX_SIMD_H

#include <stddef.h>
#include <stdint.h>

#include "proto/base/cpu.h"
#include "shard_node/index/codes.h"
#include "shard_node/index/rotation.h"

// A query, as the scans need it. Made by simd->look_up().
//
// Where only an order is wanted, among centres, entries of 5 bits do: what they are off by is a
// twentieth of what the codes are. Eight of them add up in a byte, which is a third less work.
struct lookup {
    _Alignas(CODES_ALIGNMENT) uint8_t table[CODES_DIMENSIONS_MAX * 4];  // [D / 4][16]
    _Alignas(CODES_ALIGNMENT) uint8_t coarse[CODES_DIMENSIONS_MAX * 4]; // its entries / 8, cut
    _Alignas(CODES_ALIGNMENT) int8_t bytes[CODES_DIMENSIONS_MAX]; // query / byte_step, rounded
    _Alignas(CODES_ALIGNMENT) float query[CODES_DIMENSIONS_MAX];  // rotated
    float step;          // of the table: sum of q over the set bits ~ step * sum + lowest
    float lowest;        //
    float total;         // sum of q
    float coarse_step;   // <s,q> ~ coarse_step * sum + coarse_offset
    float coarse_offset; //
    float byte_step;     //
};

// The list that is scanned, as the query sees it.
struct simd_centre {
    float dot;       // <q,c>
    float reach;     // |q-c|
    float threshold; // what is below, an upper bound or an estimate, does not count
};

// k-means: `points` against `panel` centres at once.
#define SIMD_PANEL 64
#define SIMD_POINTS 6

struct simd {
    const char *name;

    // `out` [D] = the rotated vector. `in` [dimension].
    void (*rotate)(const struct rotation *rotation, const float *in, float *out);

    // Makes the table for lookup->query [D].
    void (*look_up)(uint32_t dimensions, struct lookup *lookup);

    // Writes the codes of vector `rotated` around `centre`, both [D], to place `at` of a block.
    // `extra` is NULL without extra bits. The block's other places are kept; the place must be
    // zero.
    void (*encode)(const struct codes_shape *shape, const float *rotated, const float *centre,
                   uint32_t at, void *block, void *extra);

    // The table's sums of a block's 32 vectors, and the mask of those whose upper bound is not
    // below the threshold.
    uint32_t (*scan)(const struct codes_shape *shape, const struct lookup *lookup,
                     const struct simd_centre *centre, const struct codes_block *block,
                     uint16_t sums[CODES_BLOCK]);

    // Estimates by the coarse entries, and the mask of those that are not below `threshold`.
    uint32_t (*estimate)(const struct codes_shape *shape, const struct lookup *lookup,
                         const struct codes_block *block, const struct simd_centre *centre,
                         float estimates[CODES_BLOCK]);

    // The sum of extra code times query byte over all dimensions.
    int32_t (*extra)(const struct codes_shape *shape, const struct lookup *lookup,
                     const uint8_t *row);

    // scores[p * SIMD_PANEL + c] = product of point p and centre c, added up dimension after
    // dimension. `points` is [dimension][SIMD_POINTS], `panel` is [dimension][SIMD_PANEL].
    void (*multiply)(size_t dimension, const float *points, const float *panel, float *scores);
};

// Those for `level`, which this CPU must have.
const struct simd *simd_for(enum cpu_level level);

#endif
