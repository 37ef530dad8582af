// SPDX-License-Identifier: Apache-2.0
// The kernel for AArch64: 32 lanes are eight registers, and two queries share each
// conversion of a row. Compiled without contraction to FMA, which would round once instead of twice.

#include "shard_node/distance_internal.h"

#if DISTANCE_HAS_NEON

#include <arm_neon.h>
#include <string.h>

#define TILE 2 // queries at once: 16 sums; with three gcc 12 keeps some of 24 in memory
#define PARTS 8
#define INLINE static inline __attribute__((always_inline))

struct lanes {
    float32x4_t part[PARTS];
};

INLINE float fold(const struct lanes *lanes)
{
    float32x4_t sum[PARTS / 2];
    for (size_t p = 0; p < 4; p++)
        sum[p] = vaddq_f32(lanes->part[p], lanes->part[p + 4]);        // 16 apart
    const float32x4_t a = vaddq_f32(sum[0], sum[2]);                   // 8 apart
    const float32x4_t b = vaddq_f32(sum[1], sum[3]);                   //
    const float32x4_t c = vaddq_f32(a, b);                             // 4 apart
    const float32x2_t d = vadd_f32(vget_low_f32(c), vget_high_f32(c)); // 2 apart
    return vget_lane_f32(d, 0) + vget_lane_f32(d, 1);
}

INLINE float32x4_t add(float32x4_t sum, const float *query, float32x4_t row)
{
    return vaddq_f32(sum, vmulq_f32(vld1q_f32(query), row));
}

// 32 elements of `count` queries, `stride` apart, and of one row.
INLINE void add_group(struct lanes *sum, const float *queries, size_t count, size_t stride,
                      const uint16_t *row)
{
    for (size_t p = 0; p < PARTS; p += 2) {
        const float16x8_t halves = vreinterpretq_f16_u16(vld1q_u16(row + 4 * p));
        const float32x4_t low = vcvt_f32_f16(vget_low_f16(halves));
        const float32x4_t high = vcvt_high_f32_f16(halves);
        for (size_t q = 0; q < count; q++) {
            const float *const query = queries + q * stride + 4 * p;
            sum[q].part[p] = add(sum[q].part[p], query, low);
            sum[q].part[p + 1] = add(sum[q].part[p + 1], query + 4, high);
        }
    }
}

// `count` queries, a constant for the compiler, against one row.
INLINE void tile(const float *queries, size_t count, const uint16_t *row, size_t dimension,
                 float *out)
{
    const size_t whole = dimension - dimension % DISTANCE_LANES;
    const size_t rest = dimension - whole;
    struct lanes sum[TILE];
    for (size_t q = 0; q < count; q++) {
        for (size_t p = 0; p < PARTS; p++)
            sum[q].part[p] = vdupq_n_f32(0);
    }

    for (size_t i = 0; i < whole; i += DISTANCE_LANES)
        add_group(sum, queries + i, count, dimension, row + i);
    if (rest > 0) { // filled up with zeros
        float query_tail[TILE * DISTANCE_LANES] = {0};
        uint16_t row_tail[DISTANCE_LANES] = {0};
        for (size_t q = 0; q < count; q++)
            memcpy(query_tail + q * DISTANCE_LANES, queries + q * dimension + whole,
                   rest * sizeof(*queries));
        memcpy(row_tail, row + whole, rest * sizeof(*row));
        add_group(sum, query_tail, count, DISTANCE_LANES, row_tail);
    }
    for (size_t q = 0; q < count; q++)
        out[q] = fold(&sum[q]);
}

void distance_scores_neon(const struct distance_block *block, float *scores)
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
typedef int distance_neon_is_empty; // a translation unit may not be
#endif
