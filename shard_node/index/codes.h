// SPDX-License-Identifier: Apache-2.0
// codes.h - RaBitQ codes of vectors around a centre, in blocks of 32.
//
// A vector x is stored as what it adds to its centre c: r = x - c, both rotated (rotation.h). One
// sign bit of each dimension estimates an inner product with a query q from one lookup table
// (lookup.h), and the estimate comes with a bound of its error (Gao and Long, RaBitQ, SIGMOD
// 2024, theorem 3.2):
//
//     <q,x> ~ <q,c> + A + F <s,q>         s = sign(r), F = |r|^2 / |r|_1, A = <c,r> - F <s,c>
//     error <= E |q-c|                    E = 1.4 |r| sqrt((D |r|^2 / |r|_1^2 - 1) / (D - 1))
//
// The centre is folded into A, so the table depends on the query alone and not on the list. More
// bits of each dimension, the "extra" ones, make a finer uniform code v of r whose top bit is s:
//
//     <q,x> ~ <q,c> + A' + F' <v,q>       F' = |r|^2 / <r,v>, A' = <c,r> - F' <v,c>
//
// A block holds 32 vectors, in this order:
//
//     sign bits      4 D bytes: 16 bytes for each four dimensions; byte j has the four bits of
//                    vector j in its lower half, of vector j + 16 in its upper half
//     A f32[32], F f16[32], E f16[32], slot u32[32]
//
// and its extra part: A' f32[32], F' f32[32], then the extra bits of vector after vector. Three
// bits: for each 64 dimensions 16 bytes with the lower two bits of dimensions i, i + 16, i + 32, i
// + 48 in byte i, then 8 bytes with the upper bit of each. Seven bits: a byte for each dimension.
//
// Everything is little-endian, as memory is: files map blocks as they are.
//
// Thread-safety: pure functions on the caller's memory.

#ifndef RECO_SHARD_NODE_INDEX_CODES_H
#define RECO_SHARD_NODE_INDEX_CODES_H

#include <stddef.h>
#include <stdint.h>

#include "proto/base/limits.h"

#define CODES_BLOCK 32           // vectors of a block
#define CODES_ALIGNMENT 64       // of blocks, of their extra parts, and of tables
#define CODES_DIMENSIONS_STEP 64 // D is the dimension, rounded up to a multiple of this
#define CODES_DIMENSIONS_MAX DIMENSION_MAX
#define CODES_EXTRA_BITS 3
#define CODES_EXTRA_BITS_FINE 7

_Static_assert(CODES_DIMENSIONS_MAX % CODES_DIMENSIONS_STEP == 0, "no room for the largest");

struct codes_shape {
    uint32_t dimensions; // D
    uint32_t extra_bits; // 0: none, CODES_EXTRA_BITS or CODES_EXTRA_BITS_FINE
};

static inline uint32_t codes_dimensions(uint32_t dimension)
{
    return (dimension + CODES_DIMENSIONS_STEP - 1) / CODES_DIMENSIONS_STEP * CODES_DIMENSIONS_STEP;
}

static inline size_t codes_sign_bytes(const struct codes_shape *shape)
{
    return (size_t)shape->dimensions * 4;
}

static inline size_t codes_block_bytes(const struct codes_shape *shape)
{
    return codes_sign_bytes(shape) + (size_t)CODES_BLOCK * (4 + 2 + 2 + 4);
}

// Of one vector.
static inline size_t codes_extra_row_bytes(const struct codes_shape *shape)
{
    return shape->extra_bits == CODES_EXTRA_BITS_FINE
               ? shape->dimensions
               : (size_t)shape->dimensions * shape->extra_bits / 8;
}

static inline size_t codes_extra_bytes(const struct codes_shape *shape)
{
    return shape->extra_bits == 0 ? 0 : CODES_BLOCK * (4 + 4 + codes_extra_row_bytes(shape));
}

// The parts of a block and of its extra part.
struct codes_block {
    uint8_t *signs;
    float *add;       // A
    uint16_t *factor; // F
    uint16_t *error;  // E
    uint32_t *slots;
};

struct codes_extra {
    float *add;    // A'
    float *factor; // F'
    uint8_t *rows;
};

static inline struct codes_block codes_block_at(const struct codes_shape *shape, void *memory)
{
    uint8_t *const end = (uint8_t *)memory + codes_sign_bytes(shape);
    return (struct codes_block){
        .signs = memory,
        .add = (float *)(void *)end,
        .factor = (uint16_t *)(void *)(end + (size_t)CODES_BLOCK * 4),
        .error = (uint16_t *)(void *)(end + (size_t)CODES_BLOCK * 6),
        .slots = (uint32_t *)(void *)(end + (size_t)CODES_BLOCK * 8),
    };
}

static inline struct codes_extra codes_extra_at(void *memory)
{
    uint8_t *const at = memory;
    return (struct codes_extra){
        .add = (float *)(void *)at,
        .factor = (float *)(void *)(at + (size_t)CODES_BLOCK * 4),
        .rows = at + (size_t)CODES_BLOCK * 8,
    };
}

#endif
