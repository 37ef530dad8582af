// SPDX-License-Identifier: Apache-2.0
// The kernel for CPUs with AVX2 and F16C: 32 lanes are four registers, and two queries share
// each conversion of a row. Compiled without FMA, which would round once instead of twice.

#include "shard_node/distance_internal.h"

#if DISTANCE_HAS_X86

#include <immintrin.h>

#define DISTANCE_TILE 2 // queries at once: 8 sums

struct lanes {
    __m256 part[4];
};

ALWAYS_INLINE struct lanes zero(void)
{
    const __m256 none = _mm256_setzero_ps();
    return (struct lanes){{none, none, none, none}};
}

ALWAYS_INLINE __m256 load_half(const uint16_t *at)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)at));
}

ALWAYS_INLINE float fold(const struct lanes *lanes)
{
    const __m256 a = _mm256_add_ps(lanes->part[0], lanes->part[2]); // 16 apart
    const __m256 b = _mm256_add_ps(lanes->part[1], lanes->part[3]);
    const __m256 c = _mm256_add_ps(a, b); // 8 apart
    const __m128 d = _mm_add_ps(_mm256_castps256_ps128(c), _mm256_extractf128_ps(c, 1));
    const __m128 e = _mm_add_ps(d, _mm_movehl_ps(d, d));
    return _mm_cvtss_f32(_mm_add_ss(e, _mm_movehdup_ps(e)));
}

ALWAYS_INLINE void add_group(struct lanes *sum, const float *queries, size_t count, size_t stride,
                             const uint16_t *row)
{
    for (size_t p = 0; p < 4; p++) {
        const __m256 r = load_half(row + 8 * p);
        for (size_t q = 0; q < count; q++) {
            const __m256 query = _mm256_loadu_ps(queries + q * stride + 8 * p);
            sum[q].part[p] = _mm256_add_ps(sum[q].part[p], _mm256_mul_ps(query, r));
        }
    }
}

#include "shard_node/distance_tile.h"

void distance_scores_avx2(const struct distance_block *block, float *scores)
{
    distance_tile_walk(block, scores);
}

#else
typedef int distance_avx2_is_empty; // a translation unit may not be
#endif
