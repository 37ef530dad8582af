// SPDX-License-Identifier: Apache-2.0
// Sixty-four columns of a row of the target are filled from as many rows of the weights,
// sixteen elements each: both sides stay in the cache while a matrix is turned.

#include "shaders/kernels/kernel_pack.h"

#include <assert.h>
#include <string.h>

#include "proto/base/half.h"

#define DEPTH_STEP 16u
#define COLUMN_STEP 64u

static size_t round_up(uint32_t count, uint32_t step)
{
    return ((size_t)count + step - 1) / step * step;
}

size_t kernel_pack_weights_count(const struct kernel_pack *pack)
{
    size_t count = round_up(pack->depth, DEPTH_STEP) * round_up(pack->columns, COLUMN_STEP);
    return pack->f16 ? count / 2 : count;
}

size_t kernel_pack_bias_count(const struct kernel_pack *pack)
{
    return round_up(pack->columns, COLUMN_STEP);
}

// One block of COLUMN_STEP columns of one row of the target.
static void write_row(const struct kernel_pack *pack, const float *row, size_t at, uint32_t *target)
{
    if (!pack->f16) {
        memcpy(target + at, row, COLUMN_STEP * sizeof(float));
        return;
    }
    uint16_t halves[COLUMN_STEP];
    half_from_floats(row, halves, COLUMN_STEP);
    for (size_t i = 0; i < COLUMN_STEP / 2; i++)
        target[at / 2 + i] = halves[2 * i] | (uint32_t)halves[2 * i + 1] << 16;
}

void kernel_pack_weights(const struct kernel_pack *pack, uint32_t *target)
{
    assert(pack && pack->weights && pack->columns > 0 && pack->depth > 0);
    assert(target);

    size_t stride = round_up(pack->columns, COLUMN_STEP);
    size_t depth = round_up(pack->depth, DEPTH_STEP);
    for (size_t first_k = 0; first_k < depth; first_k += DEPTH_STEP) {
        for (size_t first = 0; first < stride; first += COLUMN_STEP) {
            float block[DEPTH_STEP][COLUMN_STEP] = {0};
            for (size_t c = 0; c < COLUMN_STEP && first + c < pack->columns; c++) {
                const float *source = pack->weights + (first + c) * pack->depth;
                for (size_t k = 0; k < DEPTH_STEP && first_k + k < pack->depth; k++)
                    block[k][c] = source[first_k + k];
            }
            for (size_t k = 0; k < DEPTH_STEP; k++)
                write_row(pack, block[k], (first_k + k) * stride + first, target);
        }
    }
}

void kernel_pack_bias(const struct kernel_pack *pack, float *target)
{
    assert(pack && target);

    memset(target, 0, kernel_pack_bias_count(pack) * sizeof(float));
    if (pack->bias)
        memcpy(target, pack->bias, pack->columns * sizeof(float));
}
