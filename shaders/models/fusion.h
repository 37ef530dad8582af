// SPDX-License-Identifier: Apache-2.0
// fusion.h - a query embedding refined by the other modality's embeddings of its neighbours.
//
// Training-free fusion, with q the query, n_i the payload rows and s_i the scores:
//   mean      refined = normalise(q + beta * sum(n_i) / k)
//   weighted  refined = normalise(q + beta * sum(softmax(t + consensus * A)_i * n_i)),
//             t = temperature * s + pairing * p,
//             A_i = log(sum(softmax(t)_j * exp(sharpness * (<n_i, n_j> - 1)))), over all j:
//             neighbours that agree with the others get more, and by p, <picture, text> of a
//             neighbour itself, those that agree with themselves; with consensus 0 nothing of A is
//             computed
// and the gate g: result = normalise(q + g * (refined - q)); g = 0 gives q's own bits.
// Iscen, Caron, Fathi, Schmid, "Retrieval-Enhanced Contrastive Vision-Text Models", ICLR
// 2024, section 3.2 trains a transformer for this place; its equation (2) with equal weights is
// mean.
//
// A trained head has that transformer: fusion_head.h. Its g means the same; what its file calls a
// gate judges answers (fusion_gate.h).
//
// Sums are made in double, neighbours in the order given, so the bits do not depend on
// where the neighbours came from.
//
// Thread-safety: pure functions; with a head as fusion_head.h says.

#ifndef RECO_SHADERS_MODELS_FUSION_H
#define RECO_SHADERS_MODELS_FUSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/embedding.h"
#include "proto/base/limits.h"
#include "proto/base/status.h"

#define FUSION_BETA_DEFAULT 2.0
#define FUSION_TEMPERATURE_DEFAULT 20.0
#define FUSION_SHARPNESS_DEFAULT 10.0

struct fusion_head;

enum fusion_mode {
    FUSION_NONE,
    FUSION_MEAN,
    FUSION_WEIGHTED,
    FUSION_HEAD,
};

struct fusion_params {
    enum fusion_mode mode;
    double beta;        // > 0
    double temperature; // weighted only, and so the next two
    double consensus;   // 0: none
    double sharpness;
    double pairing; // 0: none

    // FUSION_HEAD only, borrowed for each call; the constants above are then the head's own.
    struct fusion_head *head;
    enum modality modality; // of the query
};

struct fusion_neighbours {
    size_t count;                // 0..K_WIRE_MAX
    const float *scores;         // [count]
    const float *const *payload; // [count] pointers to [dimension]
    const float *pair_scores;    // [count] <picture, text> of each; NULL: all alike
};

// Writes each neighbour's share to weights [count]; they sum to 1. Mean: all alike. Head: those of
// the sum that its residual starts from. The payload is read for a consensus only.
void fusion_weights(const struct fusion_params *params, uint32_t dimension,
                    const struct fusion_neighbours *neighbours, double *weights);

// result [dimension] = the gated, refined, unit embedding; `gate` 0..1. With mode NONE, no
// neighbour or gate 0 it is the query's bits. query and result may be the same array.
// STATUS_INVALID, result unchanged, when query and payload cancel out to length 0; with a head also
// what fusion_head_refine() says.
enum status fusion_refine(const struct fusion_params *params, const float *query,
                          uint32_t dimension, const struct fusion_neighbours *neighbours,
                          double gate, float *result) MUST_CHECK;

// The steps of it, for who has a refined embedding from elsewhere. Moves from the query towards
// `refined` by `gate` and scales to unit length; result may be either. Gate 0 and 1 give bits.
enum status fusion_apply_gate(const float *query, const float *refined, uint32_t dimension,
                              double gate, float *result) MUST_CHECK;

// q + beta * sum(weights_i n_i), not scaled, for mean and weighted.
void fusion_start(const struct fusion_params *params, const float *query, uint32_t dimension,
                  const struct fusion_neighbours *neighbours, double *start);

// Softmax in place.
void fusion_soften(double *values, size_t count);

// False, values then undefined, for a length of 0 or one that is no number.
bool fusion_scale_to_unit(double *values, uint32_t dimension);

#endif
