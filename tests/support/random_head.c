// SPDX-License-Identifier: Apache-2.0
#include "tests/support/random_head.h"

#include <math.h>
#include <stdio.h>

#include "proto/base/mem.h"

float random_head_float(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u; // Knuth's MMIX
    return (float)(*state >> 40) / 8388608.0f - 1.0f;
}

void random_head_unit(uint64_t *state, uint32_t dimension, float *values)
{
    double squares = 0;
    for (uint32_t i = 0; i < dimension; i++) {
        values[i] = random_head_float(state);
        squares += (double)values[i] * (double)values[i];
    }
    for (uint32_t i = 0; i < dimension; i++)
        values[i] = (float)((double)values[i] / sqrt(squares));
}

void random_head_numbers(const struct fusion_config *config, uint64_t seed, float *numbers)
{
    struct fusion_layout layout = fusion_layout_of(config);
    const float start[] = {1.5f, 5.0f, 0.7f, 3.0f, 0.9f}; // as many as a head can have
    uint64_t state = seed;
    for (int t = 0; t < FUSION_TENSOR_COUNT; t++) {
        const struct fusion_place *place = &layout.tensor[t];
        bool is_gain = t == FUSION_NORM1_GAIN || t == FUSION_NORM2_GAIN;
        float scale = place->decays ? sqrtf(3.0f / (float)place->columns) : 0.1f;
        for (size_t i = 0; i < place->count; i++)
            numbers[place->offset + i] =
                (is_gain ? 1.0f : 0.0f) + scale * random_head_float(&state);
        for (size_t i = 0; i < place->count && t == FUSION_START; i++)
            numbers[place->offset + i] += start[i];
    }
}

struct fusion_head_info random_head_info(uint32_t dimension, const char *space)
{
    struct fusion_head_info info = {.dimension = dimension, .k = 10, .seed = 1, .steps = 2};
    (void)snprintf(info.space, sizeof(info.space), "%s", space);
    (void)snprintf(info.data, sizeof(info.data), "none");
    for (uint32_t side = 0; side < FUSION_HEAD_SIDES; side++) {
        info.config[side] = fusion_config_default(dimension);
        info.config[side].heads = dimension % 4 == 0 ? 4 : 1;
    }
    return info;
}

void random_head_both(const struct fusion_head_info *info, uint64_t seed,
                      float *numbers[FUSION_HEAD_SIDES])
{
    for (uint32_t side = 0; side < FUSION_HEAD_SIDES; side++) {
        struct fusion_layout layout = fusion_layout_of(&info->config[side]);
        numbers[side] = mem_alloc_array(layout.count, sizeof(float));
        random_head_numbers(&info->config[side], seed + side, numbers[side]);
    }
}
