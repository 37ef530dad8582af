// SPDX-License-Identifier: Apache-2.0
// The kernel for CPUs with AVX-512 F, BW, DQ and VL: 32 lanes are two registers, and four
// queries share each conversion of a row. Compiled without FMA contraction.

#include "shard_node/distance_internal.h"

#if DISTANCE_HAS_X86

#include <immintrin.h>

#define TILE 4 // queries at once: 8 sums, 2 halves of the row, the rest from memory

struct lanes {
    __m512 low;  // lanes 0..15
    __m512 high; // lanes 16..31
};

static inline float fold(struct lanes lanes)
{
    const __m512 a = _mm512_add_ps(lanes.low, lanes.high); // 16 apart
    const __m256 b = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    const __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    const __m128 d = _mm_add_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_add_ss(d, _mm_movehdup_ps(d)));
}

static inline struct lanes load_row(const uint16_t *at)
{
    return (struct lanes){
        .low = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)at)),
        .high = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(at + 16))),
    };
}

static inline struct lanes load_row_tail(const uint16_t *at, uint32_t mask)
{
    return (struct lanes){
        .low = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16((__mmask16)mask, at)),
        .high = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16((__mmask16)(mask >> 16), at + 16)),
    };
}

static inline void add(struct lanes *sum, const float *query, struct lanes row)
{
    sum->low = _mm512_add_ps(sum->low, _mm512_mul_ps(_mm512_loadu_ps(query), row.low));
    sum->high = _mm512_add_ps(sum->high, _mm512_mul_ps(_mm512_loadu_ps(query + 16), row.high));
}

static inline void add_tail(struct lanes *sum, const float *query, struct lanes row, uint32_t mask)
{
    const __m512 low = _mm512_maskz_loadu_ps((__mmask16)mask, query);
    const __m512 high = _mm512_maskz_loadu_ps((__mmask16)(mask >> 16), query + 16);
    sum->low = _mm512_add_ps(sum->low, _mm512_mul_ps(low, row.low));
    sum->high = _mm512_add_ps(sum->high, _mm512_mul_ps(high, row.high));
}

// `count` queries, a constant for the compiler, against one row.
static inline void tile(const float *queries, size_t count, const uint16_t *row, size_t dimension,
                        float *out)
{
    const size_t whole = dimension - dimension % DISTANCE_LANES;
    const uint32_t mask = (1u << (dimension - whole)) - 1;
    struct lanes sum[TILE];
    for (size_t q = 0; q < count; q++)
        sum[q] = (struct lanes){_mm512_setzero_ps(), _mm512_setzero_ps()};

    for (size_t i = 0; i < whole; i += DISTANCE_LANES) {
        const struct lanes part = load_row(row + i);
        for (size_t q = 0; q < count; q++)
            add(&sum[q], queries + q * dimension + i, part);
    }
    if (mask != 0) {
        const struct lanes part = load_row_tail(row + whole, mask);
        for (size_t q = 0; q < count; q++)
            add_tail(&sum[q], queries + q * dimension + whole, part, mask);
    }
    for (size_t q = 0; q < count; q++)
        out[q] = fold(sum[q]);
}

void distance_scores_avx512(const struct distance_block *block, float *scores)
{
    const size_t dimension = block->dimension;
    const size_t rows = block->row_count;
    size_t q = 0;
    for (; q + TILE <= block->query_count; q += TILE) {
        for (size_t r = 0; r < rows; r++) {
            float out[TILE];
            tile(block->queries + q * dimension, TILE, block->rows + r * dimension, dimension, out);
            for (size_t i = 0; i < TILE; i++)
                scores[(q + i) * rows + r] = out[i];
        }
    }
    for (; q < block->query_count; q++) {
        for (size_t r = 0; r < rows; r++)
            tile(block->queries + q * dimension, 1, block->rows + r * dimension, dimension,
                 &scores[q * rows + r]);
    }
}

#else
typedef int distance_avx512_is_empty; // a translation unit may not be
#endif
