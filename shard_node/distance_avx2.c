// SPDX-License-Identifier: Apache-2.0
// The kernel for CPUs with AVX2 and F16C: 32 lanes are four registers, and two queries share
// each conversion of a row. Compiled without FMA, which would round once instead of twice.

#include "shard_node/distance_internal.h"

#if DISTANCE_HAS_X86

#include <immintrin.h>
#include <string.h>

struct lanes {
    __m256 part[4];
};

static inline struct lanes zero(void)
{
    const __m256 none = _mm256_setzero_ps();
    return (struct lanes){{none, none, none, none}};
}

static inline __m256 load_half(const uint16_t *at)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)at));
}

static inline float fold(const struct lanes *lanes)
{
    const __m256 a = _mm256_add_ps(lanes->part[0], lanes->part[2]); // 16 apart
    const __m256 b = _mm256_add_ps(lanes->part[1], lanes->part[3]);
    const __m256 c = _mm256_add_ps(a, b); // 8 apart
    const __m128 d = _mm_add_ps(_mm256_castps256_ps128(c), _mm256_extractf128_ps(c, 1));
    const __m128 e = _mm_add_ps(d, _mm_movehl_ps(d, d));
    return _mm_cvtss_f32(_mm_add_ss(e, _mm_movehdup_ps(e)));
}

static inline void add_one(struct lanes *sum, const float *query, const uint16_t *row)
{
    for (size_t p = 0; p < 4; p++) {
        const __m256 r = load_half(row + 8 * p);
        sum->part[p] =
            _mm256_add_ps(sum->part[p], _mm256_mul_ps(_mm256_loadu_ps(query + 8 * p), r));
    }
}

static inline void add_two(struct lanes sum[2], const float *first, const float *second,
                           const uint16_t *row)
{
    for (size_t p = 0; p < 4; p++) {
        const __m256 r = load_half(row + 8 * p);
        sum[0].part[p] =
            _mm256_add_ps(sum[0].part[p], _mm256_mul_ps(_mm256_loadu_ps(first + 8 * p), r));
        sum[1].part[p] =
            _mm256_add_ps(sum[1].part[p], _mm256_mul_ps(_mm256_loadu_ps(second + 8 * p), r));
    }
}

// The last, incomplete group, filled up with zeros.
static inline void add_tail(struct lanes *sum, const float *query, const uint16_t *row,
                            size_t count)
{
    float query_tail[DISTANCE_LANES] = {0};
    uint16_t row_tail[DISTANCE_LANES] = {0};
    memcpy(query_tail, query, count * sizeof(*query));
    memcpy(row_tail, row, count * sizeof(*row));
    add_one(sum, query_tail, row_tail);
}

static float one_query(const float *query, const uint16_t *row, size_t dimension)
{
    const size_t whole = dimension - dimension % DISTANCE_LANES;
    struct lanes sum = zero();
    for (size_t i = 0; i < whole; i += DISTANCE_LANES)
        add_one(&sum, query + i, row + i);
    if (whole < dimension)
        add_tail(&sum, query + whole, row + whole, dimension - whole);
    return fold(&sum);
}

static void two_queries(const float *first, const uint16_t *row, size_t dimension, float out[2])
{
    const float *second = first + dimension;
    const size_t whole = dimension - dimension % DISTANCE_LANES;
    struct lanes sum[2] = {zero(), zero()};
    for (size_t i = 0; i < whole; i += DISTANCE_LANES)
        add_two(sum, first + i, second + i, row + i);
    if (whole < dimension) {
        add_tail(&sum[0], first + whole, row + whole, dimension - whole);
        add_tail(&sum[1], second + whole, row + whole, dimension - whole);
    }
    out[0] = fold(&sum[0]);
    out[1] = fold(&sum[1]);
}

void distance_scores_avx2(const struct distance_block *block, float *scores)
{
    const size_t dimension = block->dimension;
    size_t q = 0;
    for (; q + 2 <= block->query_count; q += 2) {
        for (size_t r = 0; r < block->row_count; r++) {
            float pair[2];
            two_queries(block->queries + q * dimension, block->rows + r * dimension, dimension,
                        pair);
            scores[q * block->row_count + r] = pair[0];
            scores[(q + 1) * block->row_count + r] = pair[1];
        }
    }
    for (; q < block->query_count; q++) {
        for (size_t r = 0; r < block->row_count; r++)
            scores[q * block->row_count + r] =
                one_query(block->queries + q * dimension, block->rows + r * dimension, dimension);
    }
}

#else
typedef int distance_avx2_is_empty; // a translation unit may not be
#endif
