// SPDX-License-Identifier: Apache-2.0
// rotation.h - a fixed random rotation, which spreads what a vector says evenly over its
// dimensions.
//
// Sign bits estimate well only when no dimension stands out (RaBitQ, section 3.1.2). Rounds of
// random signs and a fast Hadamard transform are a rotation that costs O(D log D) and needs D bits
// a round. Where D is no power of two, a round transforms the largest power of two of its
// dimensions, first and last ones in turn, and then mixes the two halves (Kac's walk).
//
// Thread-safety: after rotation_init() it is only read.

#ifndef RECO_SHARD_NODE_INDEX_ROTATION_H
#define RECO_SHARD_NODE_INDEX_ROTATION_H

#include <stdint.h>

#include "shard_node/index/codes.h"

#define ROTATION_ROUNDS_MAX 4

struct rotation {
    uint32_t dimension;  // of what goes in, 1..DIMENSION_MAX
    uint32_t dimensions; // D, of what comes out
    uint32_t width;      // the largest power of two up to D
    uint32_t rounds;
    float signs[ROTATION_ROUNDS_MAX][CODES_DIMENSIONS_MAX]; // +1 or -1, divided by sqrt(width)
};

// The same seed makes the same rotation, on every machine.
void rotation_init(struct rotation *rotation, uint32_t dimension, uint64_t seed);

#endif
