// SPDX-License-Identifier: Apache-2.0
// The kernels for AArch64. Every CPU has these instructions; those for dot products of bytes, which
// not all have, are not used.

#include "shard_node/index/simd_internal.h"

#if SIMD_HAVE_NEON

#include <arm_neon.h>

#define SIMD_COARSE_BYTES ((size_t)16 * SIMD_COARSE_TABLES)
#define PART 8 // centres whose products with all points are in registers

// 16-bit sums of one half of a block, in order.
struct pair {
    uint16x8_t first;
    uint16x8_t second;
};

static inline void add(struct pair *sum, uint8x16_t entries)
{
    sum->first = vaddw_u8(sum->first, vget_low_u8(entries));
    sum->second = vaddw_high_u8(sum->second, entries);
}

static inline void store(const struct pair *low, const struct pair *high,
                         uint16_t sums[CODES_BLOCK])
{
    vst1q_u16(sums, low->first);
    vst1q_u16(sums + 8, low->second);
    vst1q_u16(sums + 16, high->first);
    vst1q_u16(sums + 24, high->second);
}

// 16 bytes of codes are 32 vectors' of one table.
static inline void sum(const struct codes_shape *shape, const struct lookup *lookup,
                       const uint8_t *signs, uint16_t sums[CODES_BLOCK])
{
    const uint8x16_t low_half = vdupq_n_u8(15);
    struct pair low = {vdupq_n_u16(0), vdupq_n_u16(0)};
    struct pair high = low;
    const size_t bytes = (size_t)shape->dimensions * 4;
    for (size_t i = 0; i < bytes; i += 16) {
        const uint8x16_t codes = vld1q_u8(signs + i);
        const uint8x16_t table = vld1q_u8(lookup->table + i);
        add(&low, vqtbl1q_u8(table, vandq_u8(codes, low_half)));
        add(&high, vqtbl1q_u8(table, vshrq_n_u8(codes, 4)));
    }
    store(&low, &high, sums);
}

// The same for entries of 5 bits: those of eight tables are added up as bytes first.
static inline void sum_coarse(const struct codes_shape *shape, const struct lookup *lookup,
                              const uint8_t *signs, uint16_t sums[CODES_BLOCK])
{
    const uint8x16_t low_half = vdupq_n_u8(15);
    struct pair low = {vdupq_n_u16(0), vdupq_n_u16(0)};
    struct pair high = low;
    const size_t bytes = (size_t)shape->dimensions * 4;
    for (size_t i = 0; i < bytes; i += SIMD_COARSE_BYTES) { // 32 dimensions
        uint8x16_t low_bytes = vdupq_n_u8(0);
        uint8x16_t high_bytes = low_bytes;
        for (size_t j = i; j < i + SIMD_COARSE_BYTES; j += 16) {
            const uint8x16_t codes = vld1q_u8(signs + j);
            const uint8x16_t table = vld1q_u8(lookup->coarse + j);
            low_bytes = vaddq_u8(low_bytes, vqtbl1q_u8(table, vandq_u8(codes, low_half)));
            high_bytes = vaddq_u8(high_bytes, vqtbl1q_u8(table, vshrq_n_u8(codes, 4)));
        }
        add(&low, low_bytes);
        add(&high, high_bytes);
    }
    store(&low, &high, sums);
}

static inline float32x4_t halves(const uint16_t *at)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(at)));
}

static inline float32x4_t multiply_add(float32x4_t a, float32x4_t b, float32x4_t c)
{
    return vaddq_f32(vmulq_f32(a, b), c); // each rounded
}

// Estimates of 4 vectors, from place `at` on; <s,q> is step * sum + offset.
static inline float32x4_t estimate_of(float step, float offset, float dot,
                                      const struct codes_block *block, size_t at,
                                      const uint16_t *sums)
{
    const float32x4_t count = vcvtq_f32_u32(vmovl_u16(vld1_u16(sums + at)));
    const float32x4_t product = multiply_add(count, vdupq_n_f32(step), vdupq_n_f32(offset));
    const float32x4_t rest = vaddq_f32(vdupq_n_f32(dot), vld1q_f32(block->add + at));
    return multiply_add(product, halves(block->factor + at), rest);
}

// The mask of a block, made of those of 4 lanes after each other.
struct mask {
    uint32x4_t all;
    uint32x4_t bit; // of the next four
};

static inline struct mask begin_mask(void)
{
    const uint32x4_t bit = {1, 2, 4, 8};
    return (struct mask){vdupq_n_u32(0), bit};
}

static inline void add_above(struct mask *mask, float32x4_t values, float threshold)
{
    const uint32x4_t above = vcgeq_f32(values, vdupq_n_f32(threshold));
    mask->all = vorrq_u32(mask->all, vandq_u32(above, mask->bit));
    mask->bit = vshlq_n_u32(mask->bit, 4);
}

static uint32_t scan(const struct codes_shape *shape, const struct lookup *lookup,
                     const struct simd_centre *centre, const struct codes_block *block,
                     uint16_t sums[CODES_BLOCK])
{
    sum(shape, lookup, block->signs, sums);
    const float32x4_t reach = vdupq_n_f32(centre->reach);
    struct mask mask = begin_mask();
    for (size_t at = 0; at < CODES_BLOCK; at += 4) {
        const float32x4_t value = estimate_of(2 * lookup->step, 2 * lookup->lowest - lookup->total,
                                              centre->dot, block, at, sums);
        add_above(&mask, multiply_add(reach, halves(block->error + at), value), centre->threshold);
    }
    return vaddvq_u32(mask.all);
}

static uint32_t estimate(const struct codes_shape *shape, const struct lookup *lookup,
                         const struct codes_block *block, const struct simd_centre *centre,
                         float estimates[CODES_BLOCK])
{
    uint16_t sums[CODES_BLOCK];
    sum_coarse(shape, lookup, block->signs, sums);
    struct mask mask = begin_mask();
    for (size_t at = 0; at < CODES_BLOCK; at += 4) {
        const float32x4_t value =
            estimate_of(lookup->coarse_step, lookup->coarse_offset, centre->dot, block, at, sums);
        vst1q_f32(estimates + at, value);
        add_above(&mask, value, centre->threshold);
    }
    return vaddvq_u32(mask.all);
}

// Adds 16 products of bytes 0..127 and signed bytes, two to a lane: they fit 16 bits.
static inline int16x8_t add_products(int16x8_t all, uint8x16_t codes, const int8_t *bytes)
{
    const int8x16_t positive = vreinterpretq_s8_u8(codes);
    const int8x16_t factors = vld1q_s8(bytes);
    all = vmlal_s8(all, vget_low_s8(positive), vget_low_s8(factors));
    return vmlal_high_s8(all, positive, factors);
}

static int32_t extra(const struct codes_shape *shape, const struct lookup *lookup,
                     const uint8_t *row)
{
    const int16x8_t none = vdupq_n_s16(0);
    int32x4_t all = vdupq_n_s32(0);
    if (shape->extra_bits == CODES_EXTRA_BITS_FINE) {
        for (size_t i = 0; i < shape->dimensions; i += 16)
            all = vpadalq_s16(all, add_products(none, vld1q_u8(row + i), lookup->bytes + i));
        return vaddvq_s32(all);
    }
    const uint8x16_t which = vcombine_u8(vdup_n_u8(0), vdup_n_u8(1));
    const uint8x16_t bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201u));
    const uint8x16_t two_bits = vdupq_n_u8(3);
    const uint8x16_t four = vdupq_n_u8(4);
    for (size_t i = 0; i < shape->dimensions; i += 64, row += 24) {
        const uint8x16_t packed = vld1q_u8(row);
        const uint8x16_t upper = vcombine_u8(vld1_u8(row + 16), vdup_n_u8(0));
        int16x8_t products = none; // codes of 3 bits: all 64 fit
        for (uint8_t part = 0; part < 4; part++) {
            const int8x16_t shift = vdupq_n_s8((int8_t)(-2 * part));
            const uint8x16_t low = vandq_u8(vshlq_u8(packed, shift), two_bits);
            const uint8x16_t spread = vqtbl1q_u8(upper, vaddq_u8(which, vdupq_n_u8(2 * part)));
            const uint8x16_t high = vandq_u8(vtstq_u8(spread, bit), four);
            products =
                add_products(products, vorrq_u8(low, high), lookup->bytes + i + (size_t)16 * part);
        }
        all = vpadalq_s16(all, products);
    }
    return vaddvq_s32(all);
}

static void multiply(size_t dimension, const float *points, const float *panel, float *scores)
{
    for (size_t part = 0; part < SIMD_PANEL; part += PART) {
        float32x4_t sums[SIMD_POINTS][PART / 4];
        for (size_t p = 0; p < SIMD_POINTS; p++) {
            for (size_t c = 0; c < PART / 4; c++)
                sums[p][c] = vdupq_n_f32(0);
        }
        for (size_t i = 0; i < dimension; i++) {
            const float *const centre = panel + i * SIMD_PANEL + part;
            for (size_t p = 0; p < SIMD_POINTS; p++) {
                const float point = points[i * SIMD_POINTS + p];
                for (size_t c = 0; c < PART / 4; c++)
                    sums[p][c] =
                        vaddq_f32(sums[p][c], vmulq_n_f32(vld1q_f32(centre + 4 * c), point));
            }
        }
        for (size_t p = 0; p < SIMD_POINTS; p++) {
            for (size_t c = 0; c < PART / 4; c++)
                vst1q_f32(scores + p * SIMD_PANEL + part + 4 * c, sums[p][c]);
        }
    }
}

const struct simd simd_neon = {
    .name = "neon",
    .rotate = simd_rotate,
    .look_up = simd_look_up,
    .encode = simd_encode,
    .scan = scan,
    .estimate = estimate,
    .extra = extra,
    .multiply = multiply,
};

#endif
