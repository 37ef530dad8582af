// SPDX-License-Identifier: Apache-2.0
// The kernel for AArch64: 32 lanes are eight registers, and two queries share each conversion of a
// row. Compiled without contraction to FMA, which would round once instead of twice.

#include "shard_node/distance_internal.h"

#if DISTANCE_HAS_NEON

#include <arm_neon.h>

#define DISTANCE_TILE 2 // queries at once: 16 sums; with three gcc 12 keeps some of 24 in memory
#define PARTS 8

struct lanes {
    float32x4_t part[PARTS];
};

ALWAYS_INLINE struct lanes zero(void)
{
    struct lanes sums;
    for (size_t p = 0; p < PARTS; p++)
        sums.part[p] = vdupq_n_f32(0);
    return sums;
}

ALWAYS_INLINE float fold(const struct lanes *lanes)
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

ALWAYS_INLINE float32x4_t add(float32x4_t sum, const float *query, float32x4_t row)
{
    return vaddq_f32(sum, vmulq_f32(vld1q_f32(query), row));
}

ALWAYS_INLINE void add_group(struct lanes *sum, const float *queries, size_t count, size_t stride,
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

#include "shard_node/distance_tile.h"

void distance_scores_neon(const struct distance_block *block, float *scores)
{
    distance_tile_walk(block, scores);
}

#else
typedef int distance_neon_is_empty; // a translation unit may not be
#endif
