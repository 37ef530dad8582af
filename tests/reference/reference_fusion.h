// SPDX-License-Identifier: Apache-2.0
// reference_fusion.h - the fusion transformer and the loss that trains it, in double precision, as
// shaders/models/fusion_config.h writes them down: with keys and values of every token.
//
// Thread-safety: pure.

#ifndef RECO_TESTS_REFERENCE_REFERENCE_FUSION_H
#define RECO_TESTS_REFERENCE_REFERENCE_FUSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shaders/models/fusion_config.h"

struct reference_fusion {
    const struct fusion_config *config;
    const double *numbers;     // as fusion_layout_of() says
    const double *query;       // [d]
    const double *payload;     // [count][d]
    const double *scores;      // [count]
    const double *pair_scores; // [count]; read with pairing only
    size_t count;
};

// Writes the refined unit embedding; without neighbours, the query.
void reference_fusion(const struct reference_fusion *args, double *refined);

// The loss of a batch as shaders/models/fusion_train.h says, without dropout.
struct reference_fusion_batch {
    const struct fusion_config *config[2]; // by enum modality
    const double *numbers[2];
    size_t pairs;
    size_t k;
    const double *embeddings[2];  // [pairs][d]
    const double *payload[2];     // [pairs][k][d]
    const double *scores[2];      // [pairs][k]
    const double *pair_scores[2]; // [pairs][k]
    const uint32_t *counts[2];    // [pairs]
    const uint64_t *entities;     // [pairs] or NULL
    bool same_is_positive;
    bool is_absolute; // FUSION_LOSS_ABSOLUTE
    double log_scale;
    double weight[3];
};
double reference_fusion_loss(const struct reference_fusion_batch *batch);

#endif
