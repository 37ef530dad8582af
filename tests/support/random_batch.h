// SPDX-License-Identifier: Apache-2.0
// random_batch.h - batches of made-up pairs with neighbours, for training: texts and pictures of
// one thing lie near each other, and so do most neighbours.
//
// Thread-safety: pure.

#ifndef RECO_TESTS_SUPPORT_RANDOM_BATCH_H
#define RECO_TESTS_SUPPORT_RANDOM_BATCH_H

#include <stdint.h>

#include "shaders/models/fusion_train.h"

struct random_batch {
    struct fusion_train_batch batch; // points into the rest
    float *embeddings[FUSION_HEAD_SIDES];
    float *payload[FUSION_HEAD_SIDES];
    float *scores[FUSION_HEAD_SIDES];
    float *pair_scores[FUSION_HEAD_SIDES];
    uint32_t *counts[FUSION_HEAD_SIDES];
    uint64_t *entities;
};

// Every pair has k neighbours, but the first few have 0, 1, 2..., and pairs 4 and 5 are of one
// entity.
void random_batch_init(struct random_batch *out, uint32_t pairs, uint32_t k, uint32_t dimension,
                       uint64_t seed);
void random_batch_deinit(struct random_batch *batch);

#endif
