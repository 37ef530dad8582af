// SPDX-License-Identifier: Apache-2.0
// The portable kernels, which are also the definition of the result.

#include "shard_node/index/simd_internal.h"

static void sum(const struct codes_shape *shape, const uint8_t *tables, const uint8_t *signs,
                uint16_t sums[CODES_BLOCK])
{
    memset(sums, 0, CODES_BLOCK * sizeof(*sums));
    for (size_t m = 0; m < shape->dimensions / 4; m++) {
        const uint8_t *const table = tables + m * 16;
        const uint8_t *const codes = signs + m * 16;
        for (size_t j = 0; j < 16; j++) {
            sums[j] = (uint16_t)(sums[j] + table[codes[j] & 15]);
            sums[j + 16] = (uint16_t)(sums[j + 16] + table[codes[j] >> 4]);
        }
    }
}

static float signed_sum(const struct lookup *lookup, uint16_t sum)
{
    const float sums = (float)sum * (2 * lookup->step);
    return sums + (2 * lookup->lowest - lookup->total);
}

static uint32_t scan(const struct codes_shape *shape, const struct lookup *lookup,
                     const struct simd_centre *centre, const struct codes_block *block,
                     uint16_t sums[CODES_BLOCK])
{
    sum(shape, lookup->table, block->signs, sums);
    uint32_t mask = 0;
    for (uint32_t j = 0; j < CODES_BLOCK; j++) {
        const float along = signed_sum(lookup, sums[j]) * half_to_float(block->factor[j]);
        const float estimate = along + (centre->dot + block->add[j]);
        const float upper = estimate + centre->reach * half_to_float(block->error[j]);
        if (upper >= centre->threshold)
            mask |= 1u << j;
    }
    return mask;
}

static uint32_t estimate(const struct codes_shape *shape, const struct lookup *lookup,
                         const struct codes_block *block, const struct simd_centre *centre,
                         float estimates[CODES_BLOCK])
{
    uint16_t sums[CODES_BLOCK];
    sum(shape, lookup->coarse, block->signs, sums);
    uint32_t mask = 0;
    for (uint32_t j = 0; j < CODES_BLOCK; j++) {
        const float product = (float)sums[j] * lookup->coarse_step + lookup->coarse_offset;
        const float along = product * half_to_float(block->factor[j]);
        estimates[j] = along + (centre->dot + block->add[j]);
        if (estimates[j] >= centre->threshold)
            mask |= 1u << j;
    }
    return mask;
}

static int32_t extra(const struct codes_shape *shape, const struct lookup *lookup,
                     const uint8_t *row)
{
    int32_t all = 0;
    if (shape->extra_bits == CODES_EXTRA_BITS_FINE) {
        for (size_t i = 0; i < shape->dimensions; i++)
            all += row[i] * lookup->bytes[i];
        return all;
    }
    for (size_t i = 0; i < shape->dimensions; i += 64, row += 24) {
        for (size_t j = 0; j < 64; j++) {
            const int low = row[j % 16] >> (j / 16 * 2) & 3;
            const int high = row[16 + j / 8] >> (j % 8) & 1;
            all += (low + 4 * high) * lookup->bytes[i + j];
        }
    }
    return all;
}

static void multiply(size_t dimension, const float *points, const float *panel, float *scores)
{
    memset(scores, 0, (size_t)SIMD_POINTS * SIMD_PANEL * sizeof(*scores));
    for (size_t i = 0; i < dimension; i++) {
        for (size_t p = 0; p < SIMD_POINTS; p++) {
            const float point = points[i * SIMD_POINTS + p];
            for (size_t c = 0; c < SIMD_PANEL; c++)
                scores[p * SIMD_PANEL + c] += point * panel[i * SIMD_PANEL + c];
        }
    }
}

const struct simd simd_scalar = {
    .name = "scalar",
    .rotate = simd_rotate,
    .look_up = simd_look_up,
    .encode = simd_encode,
    .scan = scan,
    .estimate = estimate,
    .extra = extra,
    .multiply = multiply,
};
