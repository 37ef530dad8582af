// SPDX-License-Identifier: Apache-2.0
// distance.h - inner products of f32 queries with fp16 rows, the same bits on every CPU.
//
// The product of a query and a row is 32 sums: lane j adds, in index order, the elements
// j, j + 32, j + 64 ..., each one multiplication and one addition, both rounded to float.
// Then lanes 16 apart are added, then 8, 4, 2 and 1 apart. Scalar code, AVX2, AVX-512 and NEON
// do exactly this, so scores do not depend on the machine, the batch or the thread.
//
// Thread-safety: pure functions.

#ifndef RECO_SHARD_NODE_DISTANCE_H
#define RECO_SHARD_NODE_DISTANCE_H

#include <stddef.h>
#include <stdint.h>

#include "proto/base/cpu.h"

#define DISTANCE_LANES 32

struct distance_block {
    const float *queries; // [query_count][dimension]
    size_t query_count;
    const uint16_t *rows; // [row_count][dimension], half precision
    size_t row_count;
    size_t dimension; // 1..DIMENSION_MAX
};

// scores[q * row_count + r] = query q times row r, with the kernels of `level`, which this
// CPU must have.
void distance_scores(enum cpu_level level, const struct distance_block *block, float *scores);

// One product of two fp16 rows; which of them is the query does not change the bits.
float distance_pair(enum cpu_level level, const uint16_t *a, const uint16_t *b, size_t dimension);

#endif
