// SPDX-License-Identifier: Apache-2.0
// The kernels for AVX2; compiled with -mavx2, called only where the CPU has it.
//
// A weight w of 24 bits is (high << 15) + low with a signed high and 0 <= low < 2^15,
// so that both fit the 16-bit multiply-add (vpmaddwd: two products, one 32-bit sum).
// The two sums are joined at the end; nothing is rounded before.

#include "shaders/models/image_kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

static __m128i load16(const void *at)
{
    __m128i value;
    memcpy(&value, at, sizeof(value));
    return value;
}

static __m256i join(__m256i high, __m256i low)
{
    __m256i sum = _mm256_add_epi32(_mm256_slli_epi32(high, IMAGE_WEIGHT_LOW_BITS), low);
    sum = _mm256_add_epi32(sum, _mm256_set1_epi32(1 << (IMAGE_WEIGHT_BITS - 1)));
    return _mm256_srai_epi32(sum, IMAGE_WEIGHT_BITS);
}

// --- across: four taps of one pixel at a time
//
// Sixteen bytes hold pixels p0 p1 p2 p3 (and four bytes too many). They are dealt to 16-bit
// lanes as  r0 r1 g0 g1 b0 b1 0 0 | r2 r3 g2 g3 b2 b3 0 0,  the weights as
// w0 w1 w0 w1 w0 w1 w0 w1 | w2 w3 ..., and the two halves are added at the end.

struct deal {
    __m256i pixels;
    __m256i high;
    __m256i low;
};

static struct deal make_deal(void)
{
    return (struct deal){
        .pixels = _mm256_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1, //
                                   6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1),
        .high = _mm256_setr_epi8(0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, //
                                 4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7),
        .low = _mm256_setr_epi8(8, 9, 10, 11, 8, 9, 10, 11, 8, 9, 10, 11, 8, 9, 10, 11, //
                                12, 13, 14, 15, 12, 13, 14, 15, 12, 13, 14, 15, 12, 13, 14, 15),
    };
}

// Writes the three bytes of a pixel and one more.
static void put_pixel(uint8_t *target, __m256i high, __m256i low)
{
    __m128i high_sum =
        _mm_add_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
    __m128i low_sum = _mm_add_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
    __m128i sum = _mm_add_epi32(_mm_slli_epi32(high_sum, IMAGE_WEIGHT_LOW_BITS), low_sum);
    sum = _mm_add_epi32(sum, _mm_set1_epi32(1 << (IMAGE_WEIGHT_BITS - 1)));
    sum = _mm_srai_epi32(sum, IMAGE_WEIGHT_BITS);
    sum = _mm_packs_epi32(sum, sum);
    sum = _mm_packus_epi16(sum, sum);
    int32_t bytes = _mm_cvtsi128_si32(sum);
    memcpy(target, &bytes, sizeof(bytes));
}

static void across3_four(const struct image_taps *taps, const uint8_t *const *sources,
                         uint8_t *const *targets)
{
    const struct deal deal = make_deal();
    for (uint32_t t = 0; t < taps->count; t++) {
        size_t at = (size_t)taps->first[t] * 3;
        const int16_t *packed = taps->packed + (size_t)t * taps->stride * 2;
        uint32_t groups = (taps->taps[t] + IMAGE_TAPS_GROUP - 1) / IMAGE_TAPS_GROUP;
        __m256i high[IMAGE_ROWS_AT_ONCE];
        __m256i low[IMAGE_ROWS_AT_ONCE];
        for (int row = 0; row < IMAGE_ROWS_AT_ONCE; row++) {
            high[row] = _mm256_setzero_si256();
            low[row] = _mm256_setzero_si256();
        }
        for (uint32_t group = 0; group < groups; group++, at += 12, packed += 8) {
            __m256i weights = _mm256_broadcastsi128_si256(load16(packed));
            __m256i weights_high = _mm256_shuffle_epi8(weights, deal.high);
            __m256i weights_low = _mm256_shuffle_epi8(weights, deal.low);
            for (int row = 0; row < IMAGE_ROWS_AT_ONCE; row++) {
                __m256i pixels = _mm256_broadcastsi128_si256(load16(sources[row] + at));
                pixels = _mm256_shuffle_epi8(pixels, deal.pixels);
                high[row] = _mm256_add_epi32(high[row], _mm256_madd_epi16(pixels, weights_high));
                low[row] = _mm256_add_epi32(low[row], _mm256_madd_epi16(pixels, weights_low));
            }
        }
        for (int row = 0; row < IMAGE_ROWS_AT_ONCE; row++)
            put_pixel(targets[row] + (size_t)t * 3, high[row], low[row]);
    }
}

static void across3_one(const struct image_taps *taps, const uint8_t *source, uint8_t *target)
{
    const struct deal deal = make_deal();
    for (uint32_t t = 0; t < taps->count; t++, target += 3) {
        const uint8_t *at = source + (size_t)taps->first[t] * 3;
        const int16_t *packed = taps->packed + (size_t)t * taps->stride * 2;
        uint32_t groups = (taps->taps[t] + IMAGE_TAPS_GROUP - 1) / IMAGE_TAPS_GROUP;
        __m256i high = _mm256_setzero_si256();
        __m256i low = _mm256_setzero_si256();
        for (uint32_t group = 0; group < groups; group++, at += 12, packed += 8) {
            __m256i weights = _mm256_broadcastsi128_si256(load16(packed));
            __m256i pixels = _mm256_broadcastsi128_si256(load16(at));
            pixels = _mm256_shuffle_epi8(pixels, deal.pixels);
            high = _mm256_add_epi32(
                high, _mm256_madd_epi16(pixels, _mm256_shuffle_epi8(weights, deal.high)));
            low = _mm256_add_epi32(
                low, _mm256_madd_epi16(pixels, _mm256_shuffle_epi8(weights, deal.low)));
        }
        put_pixel(target, high, low);
    }
}

static void across3(const struct image_taps *taps, const uint8_t *const *sources,
                    uint8_t *const *targets, size_t rows)
{
    if (rows == IMAGE_ROWS_AT_ONCE) {
        across3_four(taps, sources, targets);
        return;
    }
    for (size_t row = 0; row < rows; row++)
        across3_one(taps, sources[row], targets[row]);
}

// --- down: two rows of sixteen columns at a time
//
// Columns are dealt as a0 b0 a1 b1 ... of the two rows a and b. The halves of a 256-bit
// register are dealt apart and packed apart, so that the order comes back by itself.

struct sums {
    __m256i high[2];
    __m256i low[2];
};

static void add_pair(struct sums *sums, const uint8_t *a, const uint8_t *b, __m256i weights_high,
                     __m256i weights_low)
{
    __m256i row_a = _mm256_cvtepu8_epi16(load16(a));
    __m256i row_b = _mm256_cvtepu8_epi16(load16(b));
    __m256i first = _mm256_unpacklo_epi16(row_a, row_b);
    __m256i second = _mm256_unpackhi_epi16(row_a, row_b);
    sums->high[0] = _mm256_add_epi32(sums->high[0], _mm256_madd_epi16(first, weights_high));
    sums->high[1] = _mm256_add_epi32(sums->high[1], _mm256_madd_epi16(second, weights_high));
    sums->low[0] = _mm256_add_epi32(sums->low[0], _mm256_madd_epi16(first, weights_low));
    sums->low[1] = _mm256_add_epi32(sums->low[1], _mm256_madd_epi16(second, weights_low));
}

static __m256i broadcast_pair(const int16_t *pair)
{
    int32_t both;
    memcpy(&both, pair, sizeof(both));
    return _mm256_set1_epi32(both);
}

static void put_columns(uint8_t *out, const struct sums *sums)
{
    __m256i words =
        _mm256_packs_epi32(join(sums->high[0], sums->low[0]), join(sums->high[1], sums->low[1]));
    __m128i bytes =
        _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    memcpy(out, &bytes, sizeof(bytes));
}

static void down(const struct image_taps *taps, uint32_t target, const uint8_t *source,
                 size_t pitch, size_t bytes, uint8_t *out)
{
    const int16_t *packed = taps->packed + (size_t)target * taps->stride * 2;
    uint32_t count = taps->taps[target];
    for (size_t x = 0; x < bytes; x += 32) {
        struct sums left = {0};
        struct sums right = {0};
        const uint8_t *row = source + x;
        for (uint32_t tap = 0; tap < count; tap += 2, row += 2 * pitch) {
            const int16_t *group = packed + (size_t)(tap / IMAGE_TAPS_GROUP) * 8 + tap % 4;
            __m256i weights_high = broadcast_pair(group);
            __m256i weights_low = broadcast_pair(group + IMAGE_TAPS_GROUP);
            // An odd last row stands beside itself, with a weight of zero.
            const uint8_t *next = tap + 1 < count ? row + pitch : row;
            add_pair(&left, row, next, weights_high, weights_low);
            add_pair(&right, row + 16, next + 16, weights_high, weights_low);
        }
        put_columns(out + x, &left);
        put_columns(out + x + 16, &right);
    }
}

const struct image_kernels image_kernels_avx2 = {.across3 = across3, .down = down};

#endif
