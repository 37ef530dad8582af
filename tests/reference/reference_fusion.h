// SPDX-License-Identifier: Apache-2.0
// reference_fusion.h - the fusion transformer and the loss that trains it, in double precision, as
// shaders/models/fusion_config.h writes them down: with keys and values of every token.
//
// Thread-safety: pure.

#ifndef RECO_TESTS_REFERENCE_REFERENCE_FUSION_H
#define RECO_TESTS_REFERENCE_REFERENCE_FUSION_H

#include <stddef.h>

#include "shaders/models/fusion_config.h"

struct reference_fusion {
    const struct fusion_config *config;
    const double *numbers; // as fusion_layout_of() says
    const double *query;   // [d]
    const double *payload; // [count][d]
    const double *scores;  // [count]
    size_t count;
};

// Writes the refined unit embedding; without neighbours, the query.
void reference_fusion(const struct reference_fusion *args, double *refined);

#endif
