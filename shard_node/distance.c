// SPDX-License-Identifier: Apache-2.0
// The portable kernel, which is also the definition of the result, and the choice between it
// and the ones for x86 and AArch64.
//
// Elements behind the last full group of 32 are added to lanes 0, 1, 2 ... The vector kernels
// add zeros to the remaining lanes; that changes no bit, because a lane starts at +0 and the
// sum of +0 and anything is never -0.

#include "shard_node/distance.h"

#include <assert.h>

#include "proto/base/half.h"
#include "proto/base/limits.h"
#include "shard_node/distance_internal.h"

static float fold(float lanes[DISTANCE_LANES])
{
    for (size_t apart = DISTANCE_LANES / 2; apart > 0; apart /= 2) {
        for (size_t i = 0; i < apart; i++)
            lanes[i] += lanes[i + apart];
    }
    return lanes[0];
}

static float dot(const float *a, const float *b, size_t dimension)
{
    float lanes[DISTANCE_LANES] = {0};
    for (size_t i = 0; i < dimension; i++)
        lanes[i % DISTANCE_LANES] += a[i] * b[i];
    return fold(lanes);
}

static void scores_scalar(const struct distance_block *block, float *scores)
{
    float row[DIMENSION_MAX];

    for (size_t r = 0; r < block->row_count; r++) {
        half_to_floats(block->rows + r * block->dimension, row, block->dimension);
        for (size_t q = 0; q < block->query_count; q++)
            scores[q * block->row_count + r] =
                dot(block->queries + q * block->dimension, row, block->dimension);
    }
}

void distance_scores(enum cpu_level level, const struct distance_block *block, float *scores)
{
    assert(block->dimension >= 1 && block->dimension <= DIMENSION_MAX);

#if DISTANCE_HAS_X86
    if (level == CPU_AVX512) {
        distance_scores_avx512(block, scores);
        return;
    }
    if (level == CPU_AVX2) {
        distance_scores_avx2(block, scores);
        return;
    }
#endif
#if DISTANCE_HAS_NEON
    if (level == CPU_NEON) {
        distance_scores_neon(block, scores);
        return;
    }
#endif
    (void)level;
    scores_scalar(block, scores);
}

float distance_pair(enum cpu_level level, const uint16_t *a, const uint16_t *b, size_t dimension)
{
    float query[DIMENSION_MAX];
    half_to_floats(a, query, dimension);

    const struct distance_block block = {
        .queries = query, .query_count = 1, .rows = b, .row_count = 1, .dimension = dimension};
    float score = 0;
    distance_scores(level, &block, &score);
    return score;
}
