// SPDX-License-Identifier: Apache-2.0
// simd_internal.h - the kernels that the compiler makes vector code of by itself, compiled once
// for each instruction set, and what the others share.
//
// Loops over lanes have a fixed number of turns that do not depend on each other, so that any width
// of vector computes the same bits.

#ifndef RECO_SHARD_NODE_INDEX_SIMD_INTERNAL_H
#define RECO_SHARD_NODE_INDEX_SIMD_INTERNAL_H

#include <math.h>
#include <string.h>

#include "proto/base/half.h"
#include "shard_node/index/simd.h"

#define SIMD_LANES 32
#define SIMD_COARSE_SHIFT 3  // entries of 5 bits
#define SIMD_COARSE_TABLES 8 // whose entries add up to less than 256
#define SIMD_TINY 1e-30F     // what is below has no reciprocal worth having
#define SIMD_EPSILON                                                                               \
    1.4F // of a normal distribution: the bound holds for all but 8 of 100; see README.md
#define SIMD_STEP_3 0.335F  // of a uniform code with 16 levels, in standard deviations (Max 1960)
#define SIMD_STEP_7 0.0308F // 256 levels

#if defined(__x86_64__)
#define SIMD_HAVE_X86 1
extern const struct simd simd_avx2;
extern const struct simd simd_avx512;
#else
#define SIMD_HAVE_X86 0
#endif
#if defined(__aarch64__)
#define SIMD_HAVE_NEON 1
extern const struct simd simd_neon;
#else
#define SIMD_HAVE_NEON 0
#endif
extern const struct simd simd_scalar;

static inline float simd_fold(const float lanes[SIMD_LANES])
{
    float folded[SIMD_LANES];
    memcpy(folded, lanes, sizeof(folded));
    for (size_t apart = SIMD_LANES / 2; apart > 0; apart /= 2) {
        for (size_t i = 0; i < apart; i++)
            folded[i] += folded[i + apart];
    }
    return folded[0];
}

// --- rotation

// Butterflies of `width` floats: those `apart` apart, for `apart` from `from` up to below `to`.
static inline void simd_butterflies(float *values, size_t width, size_t from, size_t to)
{
    for (size_t apart = from; apart < to; apart *= 2) {
        for (size_t begin = 0; begin < width; begin += 2 * apart) {
            float *const low = values + begin;
            float *const high = low + apart;
            for (size_t i = 0; i < apart; i++) {
                const float a = low[i];
                const float b = high[i];
                low[i] = a + b;
                high[i] = a - b;
            }
        }
    }
}

// A Hadamard transform whose result is permuted, which is as good a rotation: so that all
// butterflies are wide, the near ones are done after the 16 columns have become rows.
static inline void simd_hadamard(float *values, size_t width)
{
    float turned[CODES_DIMENSIONS_MAX];
    const size_t rows = width / 16;

    simd_butterflies(values, width, 16, width);
    for (size_t row = 0; row < rows; row++) {
        for (size_t column = 0; column < 16; column++)
            turned[column * rows + row] = values[row * 16 + column];
    }
    simd_butterflies(turned, width, rows, width);
    memcpy(values, turned, width * sizeof(*values));
}

static inline void simd_rotate(const struct rotation *rotation, const float *in, float *out)
{
    const size_t dimensions = rotation->dimensions;
    const size_t half = dimensions / 2;
    const float halving = 0.70710678F;

    memcpy(out, in, rotation->dimension * sizeof(*out));
    memset(out + rotation->dimension, 0, (dimensions - rotation->dimension) * sizeof(*out));
    for (uint32_t round = 0; round < rotation->rounds; round++) {
        const float *const signs = rotation->signs[round];
        for (size_t i = 0; i < dimensions; i++)
            out[i] *= signs[i];
        simd_hadamard(out + (round % 2 ? dimensions - rotation->width : 0), rotation->width);
        if (rotation->width == dimensions)
            continue;
        for (size_t i = 0; i < half; i++) {
            const float a = out[i];
            const float b = out[i + half];
            out[i] = (a + b) * halving;
            out[i + half] = (a - b) * halving;
        }
    }
}

// --- the table of a query

static inline float simd_size(float value)
{
    return value < 0 ? -value : value;
}

static inline void simd_look_up_bytes(uint32_t dimensions, struct lookup *lookup)
{
    float most[SIMD_LANES] = {0};
    for (size_t i = 0; i < dimensions; i += SIMD_LANES) {
        for (size_t j = 0; j < SIMD_LANES; j++) {
            const float size = simd_size(lookup->query[i + j]);
            most[j] = size > most[j] ? size : most[j];
        }
    }
    float largest = 0;
    for (size_t j = 0; j < SIMD_LANES; j++)
        largest = most[j] > largest ? most[j] : largest;

    const float scale = largest > SIMD_TINY ? 127.0F / largest : 0;
    lookup->byte_step = largest / 127.0F;
    for (size_t i = 0; i < dimensions; i++) {
        const float scaled = lookup->query[i] * scale + 127.5F; // all above zero: cut is round
        lookup->bytes[i] = (int8_t)((int32_t)scaled - 127);
    }
}

// Entry b of a table adds up those of four elements whose bit is set in b.
static inline void simd_look_up_entries(const float *four, float entries[16])
{
    static const float bit0[16] = {0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1};
    static const float bit1[16] = {0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1};
    static const float bit2[16] = {0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1};
    static const float bit3[16] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1};
    for (size_t b = 0; b < 16; b++)
        entries[b] = four[0] * bit0[b] + four[1] * bit1[b] + four[2] * bit2[b] + four[3] * bit3[b];
}

// What the sums of signed query elements come to, at least and at most, in each table and in all.
static inline float simd_look_up_ranges(size_t tables, struct lookup *lookup, float *lowest)
{
    float lows[SIMD_LANES / 2] = {0};
    float totals[SIMD_LANES / 2] = {0};
    float ranges[SIMD_LANES / 2] = {0};
    for (size_t m = 0; m < tables; m += SIMD_LANES / 2) {
        for (size_t j = 0; j < SIMD_LANES / 2; j++) {
            const float *const four = lookup->query + (m + j) * 4;
            float low = 0;
            float high = 0;
            for (size_t k = 0; k < 4; k++) {
                low += four[k] < 0 ? four[k] : 0;
                high += four[k] < 0 ? 0 : four[k];
            }
            lowest[m + j] = low;
            lows[j] += low;
            totals[j] += low + high;
            ranges[j] = high - low > ranges[j] ? high - low : ranges[j];
        }
    }
    float range = 0;
    lookup->lowest = 0;
    lookup->total = 0;
    for (size_t j = 0; j < SIMD_LANES / 2; j++) {
        lookup->lowest += lows[j];
        lookup->total += totals[j];
        range = ranges[j] > range ? ranges[j] : range;
    }
    return range;
}

static inline void simd_look_up_coarse(size_t tables, struct lookup *lookup)
{
    for (size_t i = 0; i < tables * 16; i++)
        lookup->coarse[i] = lookup->table[i] >> SIMD_COARSE_SHIFT;
    // What was cut off is half of it on average.
    const float cut = 0.5F * (float)((1 << SIMD_COARSE_SHIFT) - 1) * (float)tables;
    lookup->coarse_step = 2 * lookup->step * (float)(1 << SIMD_COARSE_SHIFT);
    lookup->coarse_offset = 2 * (lookup->lowest + lookup->step * cut) - lookup->total;
}

static inline void simd_look_up(uint32_t dimensions, struct lookup *lookup)
{
    const size_t tables = dimensions / 4;
    // Sums have 16 bits, so tables of more than 1,024 dimensions are coarser.
    const float entry_max = tables <= 257 ? 255.0F : (float)(uint32_t)(65535 / tables);
    float lowest[CODES_DIMENSIONS_MAX / 4];
    const float range = simd_look_up_ranges(tables, lookup, lowest);
    const float scale = range > SIMD_TINY ? entry_max / range : 0;
    lookup->step = range / entry_max;
    for (size_t m = 0; m < tables; m++) {
        float entries[16];
        simd_look_up_entries(lookup->query + m * 4, entries);
        uint8_t *const table = lookup->table + m * 16;
        for (size_t b = 0; b < 16; b++)
            table[b] = (uint8_t)(int32_t)((entries[b] - lowest[m]) * scale + 0.5F);
    }
    simd_look_up_coarse(tables, lookup);
    simd_look_up_bytes(dimensions, lookup);
}

// --- encoding

struct simd_sums {
    float squares; // |r|^2
    float sizes;   // |r|_1
    float across;  // <c,r>
    float signed_; // <s,c>
};

static inline struct simd_sums simd_sum_up(uint32_t dimensions, const float *residual,
                                           const float *centre)
{
    float squares[SIMD_LANES] = {0};
    float sizes[SIMD_LANES] = {0};
    float across[SIMD_LANES] = {0};
    float sign[SIMD_LANES] = {0};
    for (size_t i = 0; i < dimensions; i += SIMD_LANES) {
        for (size_t j = 0; j < SIMD_LANES; j++) {
            const float r = residual[i + j];
            const float c = centre[i + j];
            squares[j] += r * r;
            sizes[j] += simd_size(r);
            across[j] += c * r;
            sign[j] += r < 0 ? -c : c;
        }
    }
    return (struct simd_sums){simd_fold(squares), simd_fold(sizes), simd_fold(across),
                              simd_fold(sign)};
}

static inline float simd_error(uint32_t dimensions, const struct simd_sums *sums)
{
    if (sums->sizes <= 0)
        return 0;
    const float d = (float)dimensions;
    const float spread = d * sums->squares / (sums->sizes * sums->sizes) - 1;
    return spread > 0 ? SIMD_EPSILON * sqrtf(sums->squares) * sqrtf(spread) / sqrtf(d - 1) : 0;
}

static inline void simd_put_signs(uint32_t dimensions, const float *residual, uint32_t at,
                                  uint8_t *signs)
{
    uint8_t *byte = signs + at % 16;
    const int shift = at < 16 ? 0 : 4;
    for (size_t m = 0; m < dimensions / 4; m++, byte += 16) {
        const float *const r = residual + m * 4;
        const int bits =
            (r[0] < 0 ? 0 : 1) | (r[1] < 0 ? 0 : 2) | (r[2] < 0 ? 0 : 4) | (r[3] < 0 ? 0 : 8);
        *byte = (uint8_t)(*byte | bits << shift);
    }
}

// A finer code of a residual, being made.
struct simd_fine {
    uint8_t codes[CODES_DIMENSIONS_MAX]; // 0..2^bits-1, without the sign
    float across;                        // sum of v r
    float centred;                       // sum of v c
};

static inline void simd_code_extra(const struct codes_shape *shape, const float *residual,
                                   const float *centre, float step, struct simd_fine *fine)
{
    const int32_t levels = 1 << shape->extra_bits;
    const float scale = 1 / step;
    const float most = (float)levels - 0.5F;
    float with_residual[SIMD_LANES] = {0};
    float with_centre[SIMD_LANES] = {0};
    for (size_t i = 0; i < shape->dimensions; i += SIMD_LANES) {
        for (size_t j = 0; j < SIMD_LANES; j++) {
            const float r = residual[i + j];
            float size = simd_size(r) * scale;
            size = size < most ? size : most;
            const int32_t level = (int32_t)size;
            fine->codes[i + j] = (uint8_t)(r < 0 ? levels - 1 - level : level);
            const float middle = (float)level + 0.5F;
            const float v = r < 0 ? -middle : middle;
            with_residual[j] += v * r;
            with_centre[j] += v * centre[i + j];
        }
    }
    fine->across = simd_fold(with_residual);
    fine->centred = simd_fold(with_centre);
}

static inline void simd_pack_extra(const struct codes_shape *shape, const uint8_t *codes,
                                   uint8_t *row)
{
    if (shape->extra_bits == CODES_EXTRA_BITS_FINE) {
        memcpy(row, codes, shape->dimensions);
        return;
    }
    for (size_t i = 0; i < shape->dimensions; i += 64, codes += 64, row += 24) {
        for (size_t j = 0; j < 16; j++)
            row[j] = (uint8_t)((codes[j] & 3) | (codes[j + 16] & 3) << 2 |
                               (codes[j + 32] & 3) << 4 | (codes[j + 48] & 3) << 6);
        for (size_t j = 0; j < 8; j++) {
            int bits = 0;
            for (int k = 0; k < 8; k++)
                bits |= (codes[j * 8 + (size_t)k] >> 2) << k;
            row[16 + j] = (uint8_t)bits;
        }
    }
}

static inline void simd_encode_extra(const struct codes_shape *shape, const float *residual,
                                     const float *centre, const struct simd_sums *sums, uint32_t at,
                                     void *memory)
{
    const struct codes_extra extra = codes_extra_at(memory);
    const size_t row_bytes = codes_extra_row_bytes(shape);
    const float deviation = sqrtf(sums->squares / (float)shape->dimensions);
    if (deviation <= 0) {
        extra.add[at] = sums->across;
        extra.factor[at] = 0;
        memset(extra.rows + at * row_bytes, 0, row_bytes);
        return;
    }
    const float step =
        deviation * (shape->extra_bits == CODES_EXTRA_BITS ? SIMD_STEP_3 : SIMD_STEP_7);
    struct simd_fine fine;
    simd_code_extra(shape, residual, centre, step, &fine);
    const float factor = sums->squares / fine.across;
    extra.factor[at] = factor;
    extra.add[at] = sums->across - factor * fine.centred;
    simd_pack_extra(shape, fine.codes, extra.rows + at * row_bytes);
}

static inline void simd_encode(const struct codes_shape *shape, const float *rotated,
                               const float *centre, uint32_t at, void *memory, void *extra)
{
    float residual[CODES_DIMENSIONS_MAX];
    for (size_t i = 0; i < shape->dimensions; i++)
        residual[i] = rotated[i] - centre[i];

    const struct simd_sums sums = simd_sum_up(shape->dimensions, residual, centre);
    const struct codes_block block = codes_block_at(shape, memory);
    block.factor[at] = half_from_float(sums.sizes > 0 ? sums.squares / sums.sizes : 0);
    block.add[at] = sums.across - half_to_float(block.factor[at]) * sums.signed_;
    block.error[at] = half_from_float(simd_error(shape->dimensions, &sums));
    simd_put_signs(shape->dimensions, residual, at, block.signs);
    if (shape->extra_bits > 0)
        simd_encode_extra(shape, residual, centre, &sums, at, extra);
}

#endif
