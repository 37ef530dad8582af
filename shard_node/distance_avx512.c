// SPDX-License-Identifier: Apache-2.0
// The kernel for CPUs with AVX-512 F, BW, DQ and VL: 32 lanes are two registers, and four
// queries share each conversion of a row. Compiled without FMA contraction.

#include "shard_node/distance_internal.h"

#if DISTANCE_HAS_X86

#include <immintrin.h>

#define DISTANCE_TILE 4 // queries at once: 8 sums, 2 halves of the row, the rest from memory

struct lanes {
    __m512 low;  // lanes 0..15
    __m512 high; // lanes 16..31
};

ALWAYS_INLINE struct lanes zero(void)
{
    return (struct lanes){_mm512_setzero_ps(), _mm512_setzero_ps()};
}

ALWAYS_INLINE float fold(const struct lanes *lanes)
{
    const __m512 a = _mm512_add_ps(lanes->low, lanes->high); // 16 apart
    const __m256 b = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    const __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    const __m128 d = _mm_add_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_add_ss(d, _mm_movehdup_ps(d)));
}

ALWAYS_INLINE __m512 load_half(const uint16_t *at)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)at));
}

ALWAYS_INLINE void add_group(struct lanes *sum, const float *queries, size_t count, size_t stride,
                             const uint16_t *row)
{
    const __m512 low = load_half(row);
    const __m512 high = load_half(row + 16);
    for (size_t q = 0; q < count; q++) {
        const float *const query = queries + q * stride;
        sum[q].low = _mm512_add_ps(sum[q].low, _mm512_mul_ps(_mm512_loadu_ps(query), low));
        sum[q].high = _mm512_add_ps(sum[q].high, _mm512_mul_ps(_mm512_loadu_ps(query + 16), high));
    }
}

ALWAYS_INLINE void add_masked(struct lanes *sum, const float *queries, size_t count, size_t stride,
                              const uint16_t *row, size_t rest)
{
    const __mmask16 first = (__mmask16)((1u << rest) - 1);
    const __mmask16 second = (__mmask16)(((1u << rest) - 1) >> 16);
    const __m512 low = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first, row));
    const __m512 high = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(second, row + 16));
    for (size_t q = 0; q < count; q++) {
        const float *const query = queries + q * stride;
        const __m512 query_low = _mm512_maskz_loadu_ps(first, query);
        const __m512 query_high = _mm512_maskz_loadu_ps(second, query + 16);
        sum[q].low = _mm512_add_ps(sum[q].low, _mm512_mul_ps(query_low, low));
        sum[q].high = _mm512_add_ps(sum[q].high, _mm512_mul_ps(query_high, high));
    }
}

#define DISTANCE_REST add_masked
#include "shard_node/distance_tile.h"

void distance_scores_avx512(const struct distance_block *block, float *scores)
{
    distance_tile_walk(block, scores);
}

#else
typedef int distance_avx512_is_empty; // a translation unit may not be
#endif
