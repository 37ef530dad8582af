// SPDX-License-Identifier: Apache-2.0
// The signs of a rotation. simd.h applies it.

#include "shard_node/index/rotation.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>

#include "shard_node/index/seed.h"

void rotation_init(struct rotation *rotation, uint32_t dimension, uint64_t seed)
{
    assert(dimension >= 1 && dimension <= DIMENSION_MAX);

    rotation->dimension = dimension;
    rotation->dimensions = codes_dimensions(dimension);
    rotation->width = 1;
    while (rotation->width * 2 <= rotation->dimensions)
        rotation->width *= 2;
    rotation->rounds = rotation->width == rotation->dimensions ? 3 : 4;

    const float scale = (float)(1.0 / sqrt((double)rotation->width));
    for (uint32_t round = 0; round < rotation->rounds; round++) {
        const uint32_t first = round % 2 ? rotation->dimensions - rotation->width : 0;
        for (uint32_t i = 0; i < rotation->dimensions; i++) {
            const float sign = seed_next(&seed) >> 63 ? 1.0F : -1.0F;
            const bool is_transformed = i >= first && i < first + rotation->width;
            rotation->signs[round][i] = is_transformed ? sign * scale : sign;
        }
    }
}
