// SPDX-License-Identifier: Apache-2.0
// The kernels for CPUs with AVX2 and F16C.

#include "shard_node/index/simd_internal.h"

#if SIMD_HAVE_X86

#include <immintrin.h>

#define SIMD_COARSE_BYTES ((size_t)32 * SIMD_COARSE_TABLES)

// 16-bit sums of a block: 32 bytes of codes hold two tables' worth. Adding whole 16-bit words adds
// the odd bytes 256 times too high; `odd` is what the upper ones come to and is taken off again.
struct pair {
    __m256i all;
    __m256i odd;
};

static inline void add(struct pair *sum, __m256i entries)
{
    sum->all = _mm256_add_epi16(sum->all, entries);
    sum->odd = _mm256_add_epi16(sum->odd, _mm256_srli_epi16(entries, 8));
}

static inline __m128i fold(__m256i values)
{
    return _mm_add_epi16(_mm256_castsi256_si128(values), _mm256_extracti128_si256(values, 1));
}

// The 16 vectors of one half of the bytes, in order.
static inline void store(struct pair sum, uint16_t *sums)
{
    const __m128i even = fold(_mm256_sub_epi16(sum.all, _mm256_slli_epi16(sum.odd, 8)));
    const __m128i odd = fold(sum.odd);
    _mm_storeu_si128((__m128i *)(void *)sums, _mm_unpacklo_epi16(even, odd));
    _mm_storeu_si128((__m128i *)(void *)(sums + 8), _mm_unpackhi_epi16(even, odd));
}

static inline __m256i load(const void *at)
{
    return _mm256_loadu_si256((const __m256i *)at);
}

static inline void sum(const struct codes_shape *shape, const struct lookup *lookup,
                       const uint8_t *signs, uint16_t sums[CODES_BLOCK])
{
    const __m256i low_half = _mm256_set1_epi8(15);
    struct pair low = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    struct pair high = low;
    const size_t bytes = (size_t)shape->dimensions * 4;
    for (size_t i = 0; i < bytes; i += 32) {
        const __m256i codes = load(signs + i);
        const __m256i table = load(lookup->table + i);
        add(&low, _mm256_shuffle_epi8(table, _mm256_and_si256(codes, low_half)));
        add(&high,
            _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(codes, 4), low_half)));
    }
    store(low, sums);
    store(high, sums + 16);
}

// The same for entries of 5 bits: those of eight tables are added up as bytes first.
static inline void sum_coarse(const struct codes_shape *shape, const struct lookup *lookup,
                              const uint8_t *signs, uint16_t sums[CODES_BLOCK])
{
    const __m256i low_half = _mm256_set1_epi8(15);
    struct pair low = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    struct pair high = low;
    const size_t bytes = (size_t)shape->dimensions * 4;
    for (size_t i = 0; i < bytes; i += SIMD_COARSE_BYTES) { // 64 dimensions
        __m256i low_bytes = _mm256_setzero_si256();
        __m256i high_bytes = low_bytes;
        for (size_t j = i; j < i + SIMD_COARSE_BYTES; j += 32) {
            const __m256i codes = load(signs + j);
            const __m256i table = load(lookup->coarse + j);
            const __m256i upper = _mm256_and_si256(_mm256_srli_epi16(codes, 4), low_half);
            low_bytes = _mm256_add_epi8(
                low_bytes, _mm256_shuffle_epi8(table, _mm256_and_si256(codes, low_half)));
            high_bytes = _mm256_add_epi8(high_bytes, _mm256_shuffle_epi8(table, upper));
        }
        add(&low, low_bytes);
        add(&high, high_bytes);
    }
    store(low, sums);
    store(high, sums + 16);
}

static inline __m256 halves(const uint16_t *at)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)at));
}

// Estimates of 8 vectors, from place `at` on; <s,q> is step * sum + offset.
static inline __m256 estimate_of(float step, float offset, float dot,
                                 const struct codes_block *block, size_t at, const uint16_t *sums)
{
    const __m128i words = _mm_loadu_si128((const __m128i *)(const void *)(sums + at));
    const __m256 count = _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(words));
    const __m256 product =
        _mm256_add_ps(_mm256_mul_ps(count, _mm256_set1_ps(step)), _mm256_set1_ps(offset));
    const __m256 along = _mm256_mul_ps(product, halves(block->factor + at));
    const __m256 rest = _mm256_add_ps(_mm256_set1_ps(dot), _mm256_loadu_ps(block->add + at));
    return _mm256_add_ps(along, rest);
}

static uint32_t scan(const struct codes_shape *shape, const struct lookup *lookup,
                     const struct simd_centre *centre, const struct codes_block *block,
                     uint16_t sums[CODES_BLOCK])
{
    sum(shape, lookup, block->signs, sums);
    const __m256 reach = _mm256_set1_ps(centre->reach);
    const __m256 threshold = _mm256_set1_ps(centre->threshold);
    uint32_t mask = 0;
    for (size_t at = 0; at < CODES_BLOCK; at += 8) {
        const __m256 value = estimate_of(2 * lookup->step, 2 * lookup->lowest - lookup->total,
                                         centre->dot, block, at, sums);
        const __m256 upper = _mm256_add_ps(value, _mm256_mul_ps(reach, halves(block->error + at)));
        const int above = _mm256_movemask_ps(_mm256_cmp_ps(upper, threshold, _CMP_GE_OQ));
        mask |= (uint32_t)above << at;
    }
    return mask;
}

static uint32_t estimate(const struct codes_shape *shape, const struct lookup *lookup,
                         const struct codes_block *block, const struct simd_centre *centre,
                         float estimates[CODES_BLOCK])
{
    uint16_t sums[CODES_BLOCK];
    sum_coarse(shape, lookup, block->signs, sums);
    const __m256 threshold = _mm256_set1_ps(centre->threshold);
    uint32_t mask = 0;
    for (size_t at = 0; at < CODES_BLOCK; at += 8) {
        const __m256 value =
            estimate_of(lookup->coarse_step, lookup->coarse_offset, centre->dot, block, at, sums);
        const int above = _mm256_movemask_ps(_mm256_cmp_ps(value, threshold, _CMP_GE_OQ));
        _mm256_storeu_ps(estimates + at, value);
        mask |= (uint32_t)above << at;
    }
    return mask;
}

// Bytes 0..127 times signed bytes: a pair of products fits 16 bits.
static inline __m256i add_products(__m256i all, __m256i codes, const int8_t *bytes)
{
    const __m256i pairs = _mm256_maddubs_epi16(codes, load(bytes));
    return _mm256_add_epi32(all, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

// Byte j is 4 where bit j is set.
static inline __m256i upper_bits(const uint8_t *at)
{
    int32_t bits;
    memcpy(&bits, at, sizeof(bits));
    const __m256i which = _mm256_set_epi64x(0x0303030303030303, 0x0202020202020202,
                                            0x0101010101010101, 0x0000000000000000);
    const __m256i one_each = _mm256_set1_epi64x((long long)0x8040201008040201u);
    const __m256i spread = _mm256_shuffle_epi8(_mm256_set1_epi32(bits), which);
    const __m256i is_set = _mm256_cmpeq_epi8(_mm256_and_si256(spread, one_each), one_each);
    return _mm256_and_si256(is_set, _mm256_set1_epi8(4));
}

static inline int32_t total(__m256i all)
{
    const __m128i half =
        _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
    const __m128i quarter = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(quarter, _mm_shuffle_epi32(quarter, 0xb1)));
}

static int32_t extra(const struct codes_shape *shape, const struct lookup *lookup,
                     const uint8_t *row)
{
    __m256i all = _mm256_setzero_si256();
    if (shape->extra_bits == CODES_EXTRA_BITS_FINE) {
        for (size_t i = 0; i < shape->dimensions; i += 32)
            all = add_products(all, load(row + i), lookup->bytes + i);
        return total(all);
    }
    const __m256i first = _mm256_set_epi32(2, 2, 2, 2, 0, 0, 0, 0);
    const __m256i second = _mm256_set_epi32(6, 6, 6, 6, 4, 4, 4, 4);
    const __m256i two_bits = _mm256_set1_epi8(3);
    for (size_t i = 0; i < shape->dimensions; i += 64, row += 24) {
        const __m256i packed =
            _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)row));
        const __m256i low = _mm256_and_si256(_mm256_srlv_epi32(packed, first), two_bits);
        const __m256i high = _mm256_and_si256(_mm256_srlv_epi32(packed, second), two_bits);
        all = add_products(all, _mm256_or_si256(low, upper_bits(row + 16)), lookup->bytes + i);
        all =
            add_products(all, _mm256_or_si256(high, upper_bits(row + 20)), lookup->bytes + i + 32);
    }
    return total(all);
}

// In four parts of 16 centres, so that all sums are in registers.
static void multiply(size_t dimension, const float *points, const float *panel, float *scores)
{
    for (size_t part = 0; part < SIMD_PANEL; part += 16) {
        __m256 sums[SIMD_POINTS][2];
        for (size_t p = 0; p < SIMD_POINTS; p++)
            sums[p][0] = sums[p][1] = _mm256_setzero_ps();
        for (size_t i = 0; i < dimension; i++) {
            const __m256 low = _mm256_loadu_ps(panel + i * SIMD_PANEL + part);
            const __m256 high = _mm256_loadu_ps(panel + i * SIMD_PANEL + part + 8);
            for (size_t p = 0; p < SIMD_POINTS; p++) {
                const __m256 point = _mm256_set1_ps(points[i * SIMD_POINTS + p]);
                sums[p][0] = _mm256_add_ps(sums[p][0], _mm256_mul_ps(point, low));
                sums[p][1] = _mm256_add_ps(sums[p][1], _mm256_mul_ps(point, high));
            }
        }
        for (size_t p = 0; p < SIMD_POINTS; p++) {
            _mm256_storeu_ps(scores + p * SIMD_PANEL + part, sums[p][0]);
            _mm256_storeu_ps(scores + p * SIMD_PANEL + part + 8, sums[p][1]);
        }
    }
}

const struct simd simd_avx2 = {
    .name = "avx2",
    .rotate = simd_rotate,
    .look_up = simd_look_up,
    .encode = simd_encode,
    .scan = scan,
    .estimate = estimate,
    .extra = extra,
    .multiply = multiply,
};

#endif
