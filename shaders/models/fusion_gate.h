// SPDX-License-Identifier: Apache-2.0
// fusion_gate.h - how far a query goes towards its refined embedding, seen from the query and its neighbours.
//
// With q the query, s_i the scores of k neighbours, n_i their payload, w_i their shares and m = sum(w_i n_i):
//   best         the largest s
//   margin       the largest s less the smallest
//   agreement    |m|: 1 when all payloads are the same
//   consistency  <q, m> / |m|
//   entropy      of softmax(20 s), over log(k); 0 for one neighbour
//   nearest      the largest <q, n_i>
//   gate = sigmoid(bias + sum(weights * features) + <familiarity, q>); below `floor` it is 0
// familiarity is a direction of the space: things that the encoder knows without a memory lie on one side of it.
//
// Refined and plain embeddings stand beside each other where some queries of a list have a gate of 0. A refined
// text holds the mean of pictures and so is nearer to every picture, known or not, than a plain one. With
// `centre` (that mean, unit) the refined embedding is first given the share `level` of it, which plain ones have:
//   anchored = sqrt(1 - level^2) * normalise(refined - <refined, centre> centre) + level * centre
//   result   = normalise(q + gate * (anchored - q)); gate 0 gives q's own bits
//
// The constants are one JSON object in a head's file:
//   {"image": SIDE, "text": SIDE}   SIDE: {"bias": n, "weights": [6 numbers, in the order above], "floor": n,
//   "level": n, "centre": [d numbers] or null, "familiarity": [d numbers] or null}
//
// Thread-safety: pure functions.

#ifndef RECO_SHADERS_MODELS_FUSION_GATE_H
#define RECO_SHADERS_MODELS_FUSION_GATE_H

#include <stdint.h>

#include "proto/base/bytes.h"
#include "proto/base/json.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "shaders/models/fusion.h"

enum fusion_gate_feature {
    FUSION_GATE_BEST,
    FUSION_GATE_MARGIN,
    FUSION_GATE_AGREEMENT,
    FUSION_GATE_CONSISTENCY,
    FUSION_GATE_ENTROPY,
    FUSION_GATE_NEAREST,
    FUSION_GATE_FEATURES,
};

#define FUSION_GATE_SIDES 2u // by enum modality: what is refined

struct fusion_gate {
    float bias;
    float weights[FUSION_GATE_FEATURES];
    float floor;        // 0..1
    float level;        // -1..1, both excluded
    float *centre;      // [dimension], unit; NULL: refined embeddings stay as they are
    float *familiarity; // [dimension]; NULL: none
};

struct fusion_gates {
    uint32_t dimension;
    struct fusion_gate side[FUSION_GATE_SIDES];
};

// Reads a head's constants; text {NULL, 0} gives gates that are always 1. STATUS_INVALID with the field, its
// value and what is allowed; STATUS_NO_MEMORY. The caller ends *out with fusion_gates_close().
enum status fusion_gates_open(struct text constants, uint32_t dimension, struct fusion_gates **out,
                              struct reason *why) MUST_CHECK;
void fusion_gates_close(struct fusion_gates **gates); // NULL is allowed
void fusion_gates_write(const struct fusion_gates *gates, struct json_writer *writer);

// All features are 0 without neighbours. `params` says how shares are made, as for fusion_weights().
void fusion_gate_features(const struct fusion_params *params, const float *query,
                          uint32_t dimension, const struct fusion_neighbours *neighbours,
                          double features[FUSION_GATE_FEATURES]);

// 0..1.
double fusion_gate_value(const struct fusion_gates *gates, enum modality side, const float *query,
                         const double features[FUSION_GATE_FEATURES]);

// result [dimension] = query moved towards the anchored `refined` (unit), unit; it may be either of them.
// Without centre it is fusion_apply_gate(). STATUS_INVALID, result unchanged, when nothing is left to normalise.
enum status fusion_gate_apply(const struct fusion_gates *gates, enum modality side,
                              const float *query, const float *refined, double gate,
                              float *result) MUST_CHECK;

#endif
