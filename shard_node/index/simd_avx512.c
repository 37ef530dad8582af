// SPDX-License-Identifier: Apache-2.0
// The kernels for CPUs with AVX-512 F, BW, DQ and VL.

#include "shard_node/index/simd_internal.h"

#if SIMD_HAVE_X86

#include <immintrin.h>

#define SIMD_COARSE_BYTES ((size_t)64 * SIMD_COARSE_TABLES)

// 16-bit sums of a block: 64 bytes of codes hold four tables' worth. Adding whole 16-bit words adds
// the odd bytes 256 times too high; `odd` is what the upper ones come to and is taken off again.
struct pair {
    __m512i all;
    __m512i odd;
};

static inline void add(struct pair *sum, __m512i entries)
{
    sum->all = _mm512_add_epi16(sum->all, entries);
    sum->odd = _mm512_add_epi16(sum->odd, _mm512_srli_epi16(entries, 8));
}

static inline __m128i fold(__m512i values)
{
    const __m256i half =
        _mm256_add_epi16(_mm512_castsi512_si256(values), _mm512_extracti64x4_epi64(values, 1));
    return _mm_add_epi16(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

// The 16 vectors of one half of the bytes, in order.
static inline __m256i sums_of(struct pair sum)
{
    const __m128i even = fold(_mm512_sub_epi16(sum.all, _mm512_slli_epi16(sum.odd, 8)));
    const __m128i odd = fold(sum.odd);
    return _mm256_set_m128i(_mm_unpackhi_epi16(even, odd), _mm_unpacklo_epi16(even, odd));
}

static inline void sum(const struct codes_shape *shape, const struct lookup *lookup,
                       const uint8_t *signs, __m256i *first, __m256i *second)
{
    const __m512i low_half = _mm512_set1_epi8(15);
    struct pair low = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    struct pair high = low;
    const size_t bytes = (size_t)shape->dimensions * 4;
    for (size_t i = 0; i < bytes; i += 64) {
        const __m512i codes = _mm512_load_si512(signs + i);
        const __m512i table = _mm512_load_si512(lookup->table + i);
        add(&low, _mm512_shuffle_epi8(table, _mm512_and_si512(codes, low_half)));
        add(&high,
            _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16(codes, 4), low_half)));
    }
    *first = sums_of(low);
    *second = sums_of(high);
}

// The same for entries of 5 bits: those of eight tables are added up as bytes first.
static inline void sum_coarse(const struct codes_shape *shape, const struct lookup *lookup,
                              const uint8_t *signs, __m256i *first, __m256i *second)
{
    const __m512i low_half = _mm512_set1_epi8(15);
    struct pair low = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    struct pair high = low;
    const size_t bytes = (size_t)shape->dimensions * 4;
    for (size_t i = 0; i < bytes;) {
        const size_t end = bytes - i < SIMD_COARSE_BYTES ? bytes : i + SIMD_COARSE_BYTES;
        __m512i low_bytes = _mm512_setzero_si512();
        __m512i high_bytes = low_bytes;
        for (; i < end; i += 64) {
            const __m512i codes = _mm512_load_si512(signs + i);
            const __m512i table = _mm512_load_si512(lookup->coarse + i);
            const __m512i upper = _mm512_and_si512(_mm512_srli_epi16(codes, 4), low_half);
            low_bytes = _mm512_add_epi8(
                low_bytes, _mm512_shuffle_epi8(table, _mm512_and_si512(codes, low_half)));
            high_bytes = _mm512_add_epi8(high_bytes, _mm512_shuffle_epi8(table, upper));
        }
        add(&low, low_bytes);
        add(&high, high_bytes);
    }
    *first = sums_of(low);
    *second = sums_of(high);
}

static inline __m512 halves(const uint16_t *at)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)at));
}

// Estimates of 16 vectors, from place `at` on; <s,q> is step * sum + offset.
static inline __m512 estimate_of(float step, float offset, float dot,
                                 const struct codes_block *block, size_t at, __m256i sums)
{
    const __m512 count = _mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(sums));
    const __m512 product =
        _mm512_add_ps(_mm512_mul_ps(count, _mm512_set1_ps(step)), _mm512_set1_ps(offset));
    const __m512 along = _mm512_mul_ps(product, halves(block->factor + at));
    const __m512 rest = _mm512_add_ps(_mm512_set1_ps(dot), _mm512_loadu_ps(block->add + at));
    return _mm512_add_ps(along, rest);
}

static inline uint32_t above(const struct lookup *lookup, const struct simd_centre *centre,
                             const struct codes_block *block, size_t at, __m256i sums)
{
    const __m512 value = estimate_of(2 * lookup->step, 2 * lookup->lowest - lookup->total,
                                     centre->dot, block, at, sums);
    const __m512 error = _mm512_mul_ps(_mm512_set1_ps(centre->reach), halves(block->error + at));
    return _mm512_cmp_ps_mask(_mm512_add_ps(value, error), _mm512_set1_ps(centre->threshold),
                              _CMP_GE_OQ);
}

static uint32_t scan(const struct codes_shape *shape, const struct lookup *lookup,
                     const struct simd_centre *centre, const struct codes_block *block,
                     uint16_t sums[CODES_BLOCK])
{
    __m256i first;
    __m256i second;
    sum(shape, lookup, block->signs, &first, &second);
    _mm256_storeu_si256((__m256i *)(void *)sums, first);
    _mm256_storeu_si256((__m256i *)(void *)(sums + 16), second);
    return above(lookup, centre, block, 0, first) | above(lookup, centre, block, 16, second) << 16;
}

static uint32_t estimate(const struct codes_shape *shape, const struct lookup *lookup,
                         const struct codes_block *block, const struct simd_centre *centre,
                         float estimates[CODES_BLOCK])
{
    __m256i first;
    __m256i second;
    sum_coarse(shape, lookup, block->signs, &first, &second);
    const float step = lookup->coarse_step;
    const float offset = lookup->coarse_offset;
    const __m512 threshold = _mm512_set1_ps(centre->threshold);
    const __m512 low = estimate_of(step, offset, centre->dot, block, 0, first);
    const __m512 high = estimate_of(step, offset, centre->dot, block, 16, second);
    _mm512_storeu_ps(estimates, low);
    _mm512_storeu_ps(estimates + 16, high);
    const uint32_t above = _mm512_cmp_ps_mask(high, threshold, _CMP_GE_OQ);
    return _mm512_cmp_ps_mask(low, threshold, _CMP_GE_OQ) | above << 16;
}

// Bytes 0..127 times signed bytes: a pair of products fits 16 bits.
static inline __m512i add_products(__m512i all, __m512i codes, const int8_t *bytes)
{
    const __m512i pairs = _mm512_maddubs_epi16(codes, _mm512_load_si512(bytes));
    return _mm512_add_epi32(all, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}

static int32_t extra(const struct codes_shape *shape, const struct lookup *lookup,
                     const uint8_t *row)
{
    __m512i all = _mm512_setzero_si512();
    if (shape->extra_bits == CODES_EXTRA_BITS_FINE) {
        for (size_t i = 0; i < shape->dimensions; i += 64)
            all = add_products(all, _mm512_loadu_si512(row + i), lookup->bytes + i);
        return _mm512_reduce_add_epi32(all);
    }
    const __m512i shifts = _mm512_set_epi32(6, 6, 6, 6, 4, 4, 4, 4, 2, 2, 2, 2, 0, 0, 0, 0);
    const __m512i two_bits = _mm512_set1_epi8(3);
    const __m512i four = _mm512_set1_epi8(4);
    for (size_t i = 0; i < shape->dimensions; i += 64, row += 24) {
        const __m512i packed =
            _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)row));
        const __m512i low = _mm512_and_si512(_mm512_srlv_epi32(packed, shifts), two_bits);
        uint64_t upper;
        memcpy(&upper, row + 16, sizeof(upper));
        const __m512i codes = _mm512_or_si512(low, _mm512_maskz_mov_epi8(upper, four));
        all = add_products(all, codes, lookup->bytes + i);
    }
    return _mm512_reduce_add_epi32(all);
}

static void multiply(size_t dimension, const float *points, const float *panel, float *scores)
{
    __m512 sums[SIMD_POINTS][SIMD_PANEL / 16];
    for (size_t p = 0; p < SIMD_POINTS; p++) {
        for (size_t c = 0; c < SIMD_PANEL / 16; c++)
            sums[p][c] = _mm512_setzero_ps();
    }
    for (size_t i = 0; i < dimension; i++, points += SIMD_POINTS, panel += SIMD_PANEL) {
        __m512 centre[SIMD_PANEL / 16];
        for (size_t c = 0; c < SIMD_PANEL / 16; c++)
            centre[c] = _mm512_loadu_ps(panel + c * 16);
        for (size_t p = 0; p < SIMD_POINTS; p++) {
            const __m512 point = _mm512_set1_ps(points[p]);
            for (size_t c = 0; c < SIMD_PANEL / 16; c++)
                sums[p][c] = _mm512_add_ps(sums[p][c], _mm512_mul_ps(point, centre[c]));
        }
    }
    for (size_t p = 0; p < SIMD_POINTS; p++) {
        for (size_t c = 0; c < SIMD_PANEL / 16; c++)
            _mm512_storeu_ps(scores + p * SIMD_PANEL + c * 16, sums[p][c]);
    }
}

const struct simd simd_avx512 = {
    .name = "avx512",
    .rotate = simd_rotate,
    .look_up = simd_look_up,
    .encode = simd_encode,
    .scan = scan,
    .estimate = estimate,
    .extra = extra,
    .multiply = multiply,
};

#endif
