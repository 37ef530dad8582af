// SPDX-License-Identifier: Apache-2.0
// fusion_train.h - trains both sides of a fusion head on batches of pairs with their neighbours.
//
// With r the refined and e the given embeddings of a batch, image and text, and s the logit scale,
// the loss is
//   weight[0] * NCE(s r_image r_text^T) + weight[1] * NCE(s r_image e_text^T) +
//   weight[2] * NCE(s e_image r_text^T)
// (refined-refined, refined-original, original-refined), NCE being the mean of the cross entropies
// over rows and over columns (Iscen, Caron, Fathi, Schmid, ICLR 2024). Pairs of one entity are not
// each other's negatives. In the place of a cross entropy, -log p of the right answers, 1 - p may
// be the loss: pairs that no neighbour can tell then pull at nothing (mean absolute error; Ghosh,
// Kumar, Sastry, "Robust Loss Functions under Label Noise", AAAI 2017).
//
// Gradients are made by hand (fusion_train_backward.c). The step is AdamW with decoupled decay,
// after clipping by the global norm, at a rate that rises linearly and falls as a cosine.
//
// Promises: params, batches and their order decide every bit, whatever the number of threads, on
// CPUs that multiply alike (AVX2 and AVX-512 do); a state that is packed and restored goes on with
// the same bits. This module knows no files of data and no search: who calls it gathers embeddings.
//
// Thread-safety: none. One thread at a time uses a fusion_train; the threads it starts are its own.

#ifndef RECO_SHADERS_MODELS_FUSION_TRAIN_H
#define RECO_SHADERS_MODELS_FUSION_TRAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/bytes.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "shaders/models/fusion_head.h"

#define FUSION_TRAIN_PAIRS_MAX 16384u
#define FUSION_TRAIN_TERMS 3u

struct fusion_train;

enum fusion_loss {
    FUSION_LOSS_CROSS_ENTROPY,
    FUSION_LOSS_ABSOLUTE, // the logit scale must stay, or it grows: rate_scale 0
};

enum fusion_same {
    FUSION_SAME_MASKED,   // other pairs of the entity are left out of the sums
    FUSION_SAME_POSITIVE, // they are targets too, with equal shares
};

// Each field has a default in fusion_train_default().
struct fusion_train_params {
    struct fusion_config config[FUSION_HEAD_SIDES]; // by enum modality: of what is refined
    uint32_t k;      // neighbours of an embedding at most, 1..K_WIRE_MAX
    uint32_t pairs;  // of a batch at most, 2..FUSION_TRAIN_PAIRS_MAX
    uint64_t seed;   // of the first numbers and of the dropout
    uint64_t steps;  // of the schedule, at least 1; later steps go on at its last rate
    uint64_t warmup; // steps in which the rate rises, at most `steps`
    float rate;      // the highest, of matrices, biases and gains
    float rate_last; // share of it that the cosine ends at, 0..1
    // Factor for consensus, pairing and the logarithms of beta, temperature, sharpness; 0: they
    // stay.
    float rate_start;
    float rate_block; // factor for the transformer; 0: it stays
    float rate_scale; // factor for the logarithm of the logit scale; 0: it stays
    float decay;      // of matrices: weight -= rate * decay * weight
    float beta1;      // AdamW's
    float beta2;
    float epsilon;
    float clip;                       // highest norm of all gradients together; 0: no limit
    float scale;                      // the logit scale at first
    float scale_max;                  // and at most
    float weight[FUSION_TRAIN_TERMS]; // of the terms, 0 or more, not all 0
    float dropout; // share of neighbours that are left out at random, 0..1 (not 1)
    enum fusion_same same;
    enum fusion_loss loss;
};

// Both configs fusion_config_default(dimension), k 10, 256 pairs, 1,000 steps, 50 of them warm-up,
// rate 5e-4 down to 0 with factors 60, 1 and 10, decay 0.01, 0.9, 0.999, 1e-8, clip 1, scale 100 of
// at most 100, weights 1, no dropout, masked, cross entropy.
struct fusion_train_params fusion_train_default(uint32_t dimension);

// `pairs` pairs. Arrays are the caller's and only read during the call. Numbers must be finite.
struct fusion_train_batch {
    uint32_t pairs;                              // 2..params.pairs
    const float *embeddings[FUSION_HEAD_SIDES];  // [pairs][dimension], unit, by enum modality
    const float *payload[FUSION_HEAD_SIDES];     // [pairs][params.k][dimension]: neighbours of each
    const float *scores[FUSION_HEAD_SIDES];      // [pairs][params.k]
    const float *pair_scores[FUSION_HEAD_SIDES]; // [pairs][params.k]; read with pairing only
    const uint32_t *counts[FUSION_HEAD_SIDES];   // [pairs], 0..k neighbours that are there
    const uint64_t *entities; // [pairs]: equal for pairs of one entity; NULL: all differ
};

struct fusion_train_result {
    double loss;                     // the weighted sum of the terms
    double term[FUSION_TRAIN_TERMS]; // refined-refined, refined-original, original-refined
    // Share of rows and columns whose greatest logit is a pair of the entity.
    double right[FUSION_TRAIN_TERMS];
    double norm;  // of all gradients, before clipping
    double rate;  // this step's
    double scale; // the logit scale that was used
};

// Allocates all memory that training takes. `threads` as ops_open(). STATUS_INVALID with field,
// value and what is allowed; STATUS_NO_MEMORY.
enum status fusion_train_create(const struct fusion_train_params *params, uint32_t threads,
                                struct fusion_train **out, struct reason *why) MUST_CHECK;

// Frees *train and sets it to NULL. NULL is allowed.
void fusion_train_destroy(struct fusion_train **train);

// One step. STATUS_INVALID for a batch that does not fit or has numbers that are not finite
// (checked by their effect: the loss or a gradient is not finite, and says which); the state is
// then as before.
enum status fusion_train_step(struct fusion_train *train, const struct fusion_train_batch *batch,
                              struct fusion_train_result *result, struct reason *why) MUST_CHECK;

// The loss of a batch without dropout; nothing is changed. norm and rate are 0.
enum status fusion_train_loss(struct fusion_train *train, const struct fusion_train_batch *batch,
                              struct fusion_train_result *result, struct reason *why) MUST_CHECK;

const struct fusion_train_params *fusion_train_params(const struct fusion_train *train);
uint64_t fusion_train_steps(const struct fusion_train *train); // steps made

// One side's numbers, and their gradient of the last step before clipping, as fusion_layout_of()
// says; they live until the next step. With them go fusion_head_create() and fusion_head_save().
const float *fusion_train_numbers(const struct fusion_train *train, enum modality side);
const float *fusion_train_gradient(const struct fusion_train *train, enum modality side);

// Other numbers in the place of those that fusion_config_begin() drew; moments stay.
void fusion_train_set_numbers(struct fusion_train *train, enum modality side, const float *numbers);

// Appends the whole state as a safetensors file: numbers, moments, steps, logit scale; and `note`,
// any UTF-8 text of the caller's. STATUS_NO_MEMORY.
enum status fusion_train_pack(const struct fusion_train *train, struct text note,
                              struct buffer *out) MUST_CHECK;

// Takes over a packed state. STATUS_CORRUPT; STATUS_FAILED_PRECONDITION when it was packed under
// other params, with the first that differs; the state is then as before. On success *note is the
// caller's text, freed by mem_free().
enum status fusion_train_restore(struct fusion_train *train, struct bytes packed, char **note,
                                 struct reason *why) MUST_CHECK;

#endif
