// SPDX-License-Identifier: Apache-2.0
#include "tests/support/random_batch.h"

#include <math.h>
#include <string.h>

#include "proto/base/mem.h"
#include "tests/support/random_head.h"

// A unit vector near `centre`, by `spread`.
static void near(uint64_t *state, const float *centre, float spread, uint32_t dimension,
                 float *target)
{
    double squares = 0;
    random_head_unit(state, dimension, target);
    for (uint32_t i = 0; i < dimension; i++) {
        target[i] = centre[i] + spread * target[i];
        squares += (double)target[i] * (double)target[i];
    }
    for (uint32_t i = 0; i < dimension; i++)
        target[i] = (float)((double)target[i] / sqrt(squares));
}

static void fill_pair(struct random_batch *out, uint32_t pair, uint32_t k, uint32_t dimension,
                      uint64_t *state)
{
    float centre[DIMENSION_MAX];
    random_head_unit(state, dimension, centre);
    for (uint32_t s = 0; s < FUSION_HEAD_SIDES; s++) {
        near(state, centre, 1.0f, dimension, out->embeddings[s] + (size_t)pair * dimension);
        for (uint32_t i = 0; i < k; i++) {
            size_t at = (size_t)pair * k + i;
            near(state, centre, i % 3 == 2 ? 5.0f : 0.8f, dimension,
                 out->payload[s] + at * dimension);
            out->scores[s][at] =
                0.9f - 0.3f * (float)i / (float)k + 0.01f * random_head_float(state);
            out->pair_scores[s][at] = (float)((pair + 3 * i) % 7) / 7.0f;
        }
        out->counts[s][pair] = pair + s < k ? pair + s : k;
    }
    out->entities[pair] = pair == 5 ? 1004 : 1000 + pair;
}

void random_batch_init(struct random_batch *out, uint32_t pairs, uint32_t k, uint32_t dimension,
                       uint64_t seed)
{
    uint64_t state = seed;
    for (uint32_t s = 0; s < FUSION_HEAD_SIDES; s++) {
        out->embeddings[s] = mem_alloc_array((size_t)pairs * dimension, sizeof(float));
        out->payload[s] = mem_alloc_array((size_t)pairs * k * dimension, sizeof(float));
        out->scores[s] = mem_alloc_array((size_t)pairs * k, sizeof(float));
        out->pair_scores[s] = mem_alloc_array((size_t)pairs * k, sizeof(float));
        out->counts[s] = mem_alloc_array(pairs, sizeof(uint32_t));
    }
    out->entities = mem_alloc_array(pairs, sizeof(uint64_t));
    for (uint32_t pair = 0; pair < pairs; pair++)
        fill_pair(out, pair, k, dimension, &state);
    out->batch = (struct fusion_train_batch){
        .pairs = pairs,
        .embeddings = {out->embeddings[0], out->embeddings[1]},
        .payload = {out->payload[0], out->payload[1]},
        .scores = {out->scores[0], out->scores[1]},
        .pair_scores = {out->pair_scores[0], out->pair_scores[1]},
        .counts = {out->counts[0], out->counts[1]},
        .entities = out->entities,
    };
}

void random_batch_deinit(struct random_batch *batch)
{
    for (uint32_t s = 0; s < FUSION_HEAD_SIDES; s++) {
        mem_free(batch->embeddings[s]);
        mem_free(batch->payload[s]);
        mem_free(batch->scores[s]);
        mem_free(batch->pair_scores[s]);
        mem_free(batch->counts[s]);
    }
    mem_free(batch->entities);
}
