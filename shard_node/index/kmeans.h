// SPDX-License-Identifier: Apache-2.0
// kmeans.h - Lloyd's k-means over rows of halves.
//
// The same seed gives the same centres, bit for bit, with every instruction set and number of
// threads: sums are made in the order of the points. A cluster that gets nothing is begun anew from
// a point of the largest one.
//
// Thread-safety: a run belongs to its caller.

#ifndef RECO_SHARD_NODE_INDEX_KMEANS_H
#define RECO_SHARD_NODE_INDEX_KMEANS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/status.h"
#include "shard_node/index/simd.h"

struct kmeans_params {
    const struct simd *simd;
    enum cpu_level level; // that of `simd`
    uint32_t dimension;
    const uint16_t *rows;   // halves; row r at rows + r * dimension
    const uint32_t *points; // which rows
    uint32_t count;         // of points, at least 1
    uint32_t clusters;      // 1..count
    uint32_t rounds;
    uint32_t threads;
    uint64_t seed;
    const atomic_bool *const *given_up; // [2], as of index_params; NULL: never
};

// `centres` [clusters][dimension], `nearest` [count]: the cluster of each point in the last round.
// STATUS_NO_MEMORY, STATUS_CANCELLED.
enum status kmeans_run(const struct kmeans_params *params, float *centres,
                       uint32_t *nearest) MUST_CHECK;

// Only finds the nearest of `centres` for each point. STATUS_NO_MEMORY, STATUS_CANCELLED.
enum status kmeans_assign(const struct kmeans_params *params, const float *centres,
                          uint32_t *nearest) MUST_CHECK;

// Only moves each centre to the mean of its points, of which there are `sizes` [clusters]; one
// without any stays.
void kmeans_move(const struct kmeans_params *params, const uint32_t *nearest, const uint32_t *sizes,
                 float *centres);

#endif
