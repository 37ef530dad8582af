// SPDX-License-Identifier: Apache-2.0
// fusion_train_internal.h - what a training keeps, and its parts in the order of a step.
//
// Names of arrays are those of fusion_config.h: x tokens, y normed ones, U a head's query on the
// side of the tokens, c what a head takes of the tokens, o its values, h and out. `d_` before a
// name is its gradient; gradients of what is read only once are put where the forward pass had
// something that is not needed any more.

#ifndef RECO_SHADERS_MODELS_FUSION_TRAIN_INTERNAL_H
#define RECO_SHADERS_MODELS_FUSION_TRAIN_INTERNAL_H

#include <math.h>

#include "shaders/cpu/gemm.h"
#include "shaders/cpu/loops.h"
#include "shaders/cpu/team.h"
#include "shaders/models/fusion_train.h"

#define TRAIN_START_MAX 5u         // beta, temperature, consensus, sharpness, pairing
#define TRAIN_PART ((size_t)16384) // numbers of a job of the optimiser

// B pairs, T = k + 1 tokens, H heads, d floats.
struct train_side {
    const struct fusion_config *config;
    struct fusion_layout layout;
    float *numbers; // each of the four: layout.count
    float *gradient;
    float *moment1;
    float *moment2;

    uint32_t *used;   // [B] neighbours left by the dropout
    uint32_t *chosen; // [B][k] which
    float *refined;   // [B][d] r
    float *d_refined; // [B][d]
    float *length;    // [B] of what became r
    float *start;     // [B][d] then start + delta; in the backward pass d of it
    float *d_start;   // [B][TRAIN_START_MAX] of the numbers of the start
    float *alike;     // [B][k][k] inner products of neighbours; with consensus only

    float *x0;      // [B][d]
    float *xhat;    // [B][T][d] tokens, standardised where the norm comes first
    float *inverse; // [B][T] 1 / deviation
    float *y0;      // [B][d]
    float *query;   // [B][d] Q; then d of it
    float *d_query; // [B][d]
    float *carried; // [B][H][d] U
    float *d_carried;
    float *raw;    // [B][H][T] <U gain, xhat>
    float *share;  // [B][H][T] softmax
    float *taken;  // [B][H][d] sum of shares * xhat
    float *summed; // [B][H][d] c
    float *d_summed;
    float *values; // [B][d] o
    float *d_values;
    float *middle;   // [B][d] h; post: h behind its norm
    float *hat1;     // [B][d] post: h standardised
    float *inverse1; // [B]
    float *hat2;     // [B][d] pre: h standardised; post: out
    float *inverse2; // [B]
    float *normed;   // [B][d] what the MLP reads
    float *hidden;   // [B][mlp] f
    float *slope;    // [B][mlp] t, then f', then d of t
    float *added;    // [B][d] m
    float *d_out;    // [B][d] d of Wo o + bo
    float *d_added;  // [B][d] d of m
    float *d_normed; // [B][d]
    float *d_x0;     // [B][d]
    float *d_y0;     // [B][d]
    float *d_xhat0;  // [B][d]
    float *d_token;  // [B][d] sum of d of the neighbours' tokens
    float *d_scored; // [B][d] the same times their scores
    float *d_gain;   // [B][d] of the first norm
    float *d_bias;   // [B][d]
    float *d_score;  // [B][H] of score_bias
    float *memory;   // of all arrays but the numbers
};

struct train_loss {
    float *logits;       // [B][B] inner products, then their gradient
    float *most;         // [B] columns: the greatest logit,
    float *sum;          // [B] the sum of exponentials less it,
    float *column_share; // [B] and the share of it that is the targets'
    double *row_loss;    // [B] by row: its part of the loss
    double *row_scale;   // [B] of the gradient of log scale
    double *column_loss; // [B]
    uint32_t *right;     // [B] rows, then columns that are right
};

struct fusion_train {
    struct fusion_train_params params;
    struct team *team;
    struct gemm *gemm;
    const struct loops *loops;
    struct train_side side[FUSION_HEAD_SIDES];
    struct train_loss loss;
    float *scratch; // [workers][scratch_floats]
    size_t scratch_floats;
    double *partial; // [partials] of the norm
    size_t partials;

    uint64_t steps; // made
    float log_scale;
    float log_scale_moment1;
    float log_scale_moment2;
    double d_log_scale;

    // Of the batch in work.
    const struct fusion_train_batch *batch;
    uint32_t pairs;
    bool drops; // neighbours
};

// One pair of one side, and memory of the worker that has it.
struct train_row {
    enum modality side;
    uint32_t row;
    float *scratch; // [scratch_floats]
};

// --- what the passes share (fusion_train_rows.c)

// Calls `body` for every pair of the batch; a job is TRAIN_ROWS of them.
#define TRAIN_ROWS 8u
typedef void (*train_rows)(struct fusion_train *train, const struct train_row *at);
void train_each_row(struct fusion_train *train, enum modality side, train_rows body);

// target [rows][columns] = bias + source * weights^T; bias NULL: without.
struct train_linear {
    const float *source;  // [rows][depth]
    const float *weights; // [columns][depth]
    const float *bias;
    uint32_t rows;
    uint32_t columns;
    uint32_t depth;
    float *target;
};
void train_linear(struct fusion_train *train, const struct train_linear *args);

// target [rows][depth] = d_target * weights; gradient of weights = d_target^T * source, of bias its
// columns' sums.
struct train_linear_back {
    struct train_linear forward; // target is d of it
    float *d_source;             // NULL: not wanted
    float *d_weights;
    float *d_bias; // NULL: there is none
};
void train_linear_back(struct fusion_train *train, const struct train_linear_back *args);

// target[c] = sum of source[r][c] over r, in order; or of a[r][c] * b[r][c] with b not NULL.
void train_sum_rows(struct fusion_train *train, const float *a, const float *b, uint32_t rows,
                    uint32_t columns, float *target);

static inline const float *train_tensor(const struct train_side *side, enum fusion_tensor which)
{
    return side->layout.tensor[which].count > 0 ? side->numbers + side->layout.tensor[which].offset
                                                : NULL;
}

static inline float *train_gradient(const struct train_side *side, enum fusion_tensor which)
{
    return side->layout.tensor[which].count > 0 ? side->gradient + side->layout.tensor[which].offset
                                                : NULL;
}

// What logits are multiplied by: 1 / sqrt of the floats of a head.
static inline float train_logit_scale(const struct fusion_config *config)
{
    return 1.0f / sqrtf((float)config->dimension / (float)config->heads);
}

// --- the passes

// refined of the batch's embeddings (fusion_train_forward.c).
void train_forward(struct fusion_train *train, enum modality side);

// What the residual starts from, and d_start from its gradient (fusion_train_start.c).
void train_start(struct fusion_train *train, enum modality side, uint32_t row);
void train_start_back(struct fusion_train *train, enum modality side, uint32_t row);

// Loss, d_refined of both sides and d_log_scale (fusion_train_loss.c).
void train_loss(struct fusion_train *train, struct fusion_train_result *result);

// Gradient of all numbers from d_refined (fusion_train_backward.c).
void train_backward(struct fusion_train *train, enum modality side);

// The length of the gradient of all that learns, and the step of all numbers by it
// (fusion_train_optimise.c).
double train_norm(struct fusion_train *train);
void train_optimise(struct fusion_train *train, double rate, double norm);

#endif
