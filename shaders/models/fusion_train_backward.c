// SPDX-License-Identifier: Apache-2.0
// The backward pass of one side. With d for the gradient of what follows:
//
//   r = e / |e|            d_e = (d_r - r <r, d_r>) / |e|
//   y = W x + b            d_x = W^T d_y, d_W = sum d_y x^T, d_b = sum d_y
//   norm                   d_x = (g - mean(g) - xhat mean(g xhat)) / deviation, g = gain d_y
//   softmax                d_l = a (d_a - sum a d_a)
//
// Tokens of neighbours are not parameters, so their gradient is needed only in sums, for the type,
// the score embedding and the first norm. Those never need a matrix product: with raw_hi = <U_h
// gain, xhat_i>,
//   d_xhat_i = sum_h (d_l_hi U_h gain + a_hi d_c_h gain), and mean(d_xhat_i xhat_i) = sum_h (d_l_hi raw_hi + a_hi d_a_hi) / d.

#include <string.h>

#include "shaders/models/fusion_train_internal.h"

// d of a norm's input, from that of its standardised rows in `g`, in place.
static void standardise_back(struct fusion_train *train, const float *hat, float inverse,
                             uint32_t d, float *g)
{
    float product;
    float sum = 0.0f;
    train->loops->meet(g, 1, hat, 1, d, &product);
    for (uint32_t i = 0; i < d; i++)
        sum += g[i];
    float mean = sum / (float)d;
    float slope = product / (float)d;
    for (uint32_t i = 0; i < d; i++)
        g[i] = (g[i] - mean - hat[i] * slope) * inverse;
}

// d of what became refined; in `start`. Post-norm: then through the second norm.
static void start_row(struct fusion_train *train, const struct train_row *at)
{
    enum modality which = at->side;
    uint32_t row = at->row;
    struct train_side *side = &train->side[which];
    const struct fusion_config *config = side->config;
    uint32_t d = config->dimension;
    float *start = side->start + (size_t)row * d;
    const float *refined = side->refined + (size_t)row * d;
    const float *d_refined = side->d_refined + (size_t)row * d;
    float along;
    train->loops->meet(refined, 1, d_refined, 1, d, &along);
    float inverse = side->used[row] > 0 ? 1.0f / side->length[row] : 0.0f;
    for (uint32_t i = 0; i < d; i++)
        start[i] = (d_refined[i] - refined[i] * along) * inverse;
    train_start_back(train, which, row);
    if (!config->block)
        return;
    float *d_out = side->d_out + (size_t)row * d; // of out, later of Wo o + bo
    float *d_x0 = side->d_x0 + (size_t)row * d;
    memcpy(d_out, start, d * sizeof(*d_out));
    for (uint32_t i = 0; i < d; i++)
        d_x0[i] = config->baseline == FUSION_BASELINE_NONE ? 0.0f : -start[i];
    if (config->mlp == 0)
        return;
    if (config->norm == FUSION_NORM_POST) {
        train->loops->multiply(d_out, train_tensor(side, FUSION_NORM2_GAIN), d, d_out);
        standardise_back(train, side->hat2 + (size_t)row * d, side->inverse2[row], d, d_out);
    }
    memcpy(side->d_added + (size_t)row * d, d_out, d * sizeof(*d_out));
}

static void slope_row(struct fusion_train *train, const struct train_row *at)
{
    enum modality which = at->side;
    uint32_t row = at->row;
    struct train_side *side = &train->side[which];
    size_t first = (size_t)row * side->config->mlp;
    // d of f's value was put where the value was.
    train->loops->multiply(side->hidden + first, side->slope + first, side->config->mlp,
                           side->slope + first);
}

// d of h, and through what made it: d of Wo o + bo and of x_0.
static void middle_row(struct fusion_train *train, const struct train_row *at)
{
    enum modality which = at->side;
    uint32_t row = at->row;
    struct train_side *side = &train->side[which];
    const struct fusion_config *config = side->config;
    uint32_t d = config->dimension;
    float *d_out = side->d_out + (size_t)row * d;
    float *d_x0 = side->d_x0 + (size_t)row * d;
    float *g = at->scratch;
    if (config->mlp > 0) {
        const float *d_normed = side->d_normed + (size_t)row * d;
        if (config->norm == FUSION_NORM_PRE) {
            train->loops->multiply(d_normed, train_tensor(side, FUSION_NORM2_GAIN), d, g);
            standardise_back(train, side->hat2 + (size_t)row * d, side->inverse2[row], d, g);
        } else {
            memcpy(g, d_normed, d * sizeof(*g));
        }
        train->loops->add_scaled(1.0f, g, d, d_out);
    }
    if (config->norm == FUSION_NORM_POST) {
        // d of the norm's result is kept for its gain and bias.
        float *d_middle = side->d_normed + (size_t)row * d;
        memcpy(d_middle, d_out, d * sizeof(*d_middle));
        train->loops->multiply(d_out, train_tensor(side, FUSION_NORM1_GAIN), d, d_out);
        standardise_back(train, side->hat1 + (size_t)row * d, side->inverse1[row], d, d_out);
    }
    train->loops->add_scaled(1.0f, d_out, d, d_x0);
}

// One pair's attention, in a worker's scratch memory.
struct attention {
    uint32_t d;
    uint32_t heads;
    uint32_t tokens;
    float scale; // of the logits
    const float *share;
    const float *raw;
    const float *inverse;
    const float *xhat;
    float *basis;   // [2 H][d]: U gain, then d_c gain
    float *d_share; // [H][T], then d of the logits
    float *weights; // [3][2 H]
    float *sums;    // [3][d]: d_xhat of all neighbours, times their scores, of the query
};

// d of the logits, scaled as they were, and of score_bias.
static void logits_back(const struct attention *work, const float *scores, const uint32_t *chosen,
                        float *d_score)
{
    for (uint32_t h = 0; h < work->heads; h++) {
        const float *share = work->share + (size_t)h * work->tokens;
        float *d_share = work->d_share + (size_t)h * work->tokens;
        float mean = 0.0f;
        for (uint32_t i = 0; i < work->tokens; i++)
            mean += share[i] * d_share[i];
        d_score[h] = 0.0f;
        for (uint32_t i = 0; i < work->tokens; i++) {
            float d_logit = share[i] * (d_share[i] - mean);
            if (i > 0)
                d_score[h] += d_logit * scores[chosen[i - 1]];
            d_share[i] = d_logit * work->scale;
        }
    }
}

// Sums of d of the tokens before their norm: of all neighbours, of those times their scores; and
// d_xhat of the query.
static void tokens_back(struct fusion_train *train, const struct attention *work, bool is_normed,
                        const float *scores, const uint32_t *chosen, const float *products)
{
    uint32_t heads = work->heads;
    uint32_t tokens = work->tokens;
    memset(work->weights, 0, (size_t)6 * heads * sizeof(float));
    for (uint32_t h = 0; h < heads; h++) {
        const float *share = work->share + (size_t)h * tokens;
        const float *d_logit = work->d_share + (size_t)h * tokens;
        work->weights[4 * heads + h] = d_logit[0];
        work->weights[5 * heads + h] = share[0];
        for (uint32_t i = 1; i < tokens; i++) {
            float factor = work->inverse[i];
            float score = scores[chosen[i - 1]];
            work->weights[h] += d_logit[i] * factor;
            work->weights[heads + h] += share[i] * factor;
            work->weights[2 * heads + h] += d_logit[i] * factor * score;
            work->weights[3 * heads + h] += share[i] * factor * score;
        }
    }
    train->loops->mix(work->weights, 3, work->basis, (size_t)2 * heads, work->d, work->sums);
    if (!is_normed)
        return;
    float sums[2] = {0};
    for (uint32_t n = 0; n < 2; n++) {
        for (uint32_t c = 0; c < work->d; c++)
            sums[n] += work->sums[(size_t)n * work->d + c];
        float mean = sums[n] / (float)work->d;
        for (uint32_t c = 0; c < work->d; c++)
            work->sums[(size_t)n * work->d + c] -= mean;
    }
    for (uint32_t i = 1; i < tokens; i++) {
        float factor = -products[i] / (float)work->d * work->inverse[i];
        const float *xhat = work->xhat + (size_t)i * work->d;
        train->loops->add_scaled(factor, xhat, work->d, work->sums);
        train->loops->add_scaled(factor * scores[chosen[i - 1]], xhat, work->d,
                                 work->sums + work->d);
    }
}

// basis, from U and d_c of the row.
static void gather_basis(struct fusion_train *train, const struct train_side *side, uint32_t row,
                         const struct attention *work)
{
    size_t all = (size_t)work->heads * work->d;
    const float *gain = train_tensor(side, FUSION_NORM1_GAIN);
    memcpy(work->basis, side->carried + (size_t)row * all, all * sizeof(float));
    memcpy(work->basis + all, side->d_summed + (size_t)row * all, all * sizeof(float));
    for (uint32_t h = 0; h < 2 * work->heads && side->config->norm == FUSION_NORM_PRE; h++)
        train->loops->multiply(work->basis + (size_t)h * work->d, gain, work->d,
                               work->basis + (size_t)h * work->d);
}

// d of U, and what gain and bias of the first norm get from this row.
static void carried_back(struct fusion_train *train, struct train_side *side, uint32_t row,
                         const struct attention *work)
{
    uint32_t d = work->d;
    size_t at = (size_t)row * work->heads * d;
    float *d_carried = side->d_carried + at;
    train->loops->mix(work->d_share, work->heads, work->xhat, work->tokens, d, d_carried);
    if (side->config->norm != FUSION_NORM_PRE)
        return;
    float *d_gain = side->d_gain + (size_t)row * d;
    float *d_bias = side->d_bias + (size_t)row * d;
    const float *gain = train_tensor(side, FUSION_NORM1_GAIN);
    memset(d_gain, 0, d * sizeof(*d_gain));
    memset(d_bias, 0, d * sizeof(*d_bias));
    for (uint32_t h = 0; h < work->heads; h++) {
        size_t head = at + (size_t)h * d;
        train->loops->multiply_add(d_carried + (size_t)h * d, side->carried + head, d, d_gain);
        train->loops->multiply_add(side->d_summed + head, side->taken + head, d, d_gain);
        train->loops->add_scaled(1.0f, side->d_summed + head, d, d_bias);
        train->loops->multiply(d_carried + (size_t)h * d, gain, d, d_carried + (size_t)h * d);
    }
}

static void attend_row(struct fusion_train *train, const struct train_row *at)
{
    enum modality which = at->side;
    uint32_t row = at->row;
    struct train_side *side = &train->side[which];
    uint32_t d = side->config->dimension;
    uint32_t heads = side->config->heads;
    uint32_t k = train->params.k;
    uint32_t most = k + 1;
    struct attention work = {
        .d = d,
        .heads = heads,
        .tokens = side->used[row] + 1,
        .scale = train_logit_scale(side->config),
        .share = side->share + (size_t)row * heads * most,
        .raw = side->raw + (size_t)row * heads * most,
        .inverse = side->inverse + (size_t)row * most,
        .xhat = side->xhat + (size_t)row * most * d,
        .basis = at->scratch,
        .d_share = at->scratch + (size_t)2 * heads * d,
    };
    float *products = work.d_share + (size_t)heads * most;
    work.weights = products + most;
    work.sums = work.weights + (size_t)6 * heads;
    const float *scores = train->batch->scores[which] + (size_t)row * k;
    const uint32_t *chosen = side->chosen + (size_t)row * k;

    gather_basis(train, side, row, &work);
    train->loops->meet(work.basis + (size_t)heads * d, heads, work.xhat, work.tokens, d,
                       work.d_share);
    memset(products, 0, most * sizeof(*products));
    for (uint32_t h = 0; h < heads; h++) {
        for (uint32_t i = 0; i < work.tokens; i++)
            products[i] += work.share[h * work.tokens + i] * work.d_share[h * work.tokens + i];
    }
    logits_back(&work, scores, chosen, side->d_score + (size_t)row * heads);
    for (uint32_t h = 0; h < heads; h++) {
        for (uint32_t i = 0; i < work.tokens; i++)
            products[i] += work.d_share[h * work.tokens + i] * work.raw[h * work.tokens + i];
    }
    carried_back(train, side, row, &work);
    tokens_back(train, &work, side->config->norm == FUSION_NORM_PRE, scores, chosen, products);
    memcpy(side->d_token + (size_t)row * d, work.sums, d * sizeof(float));
    memcpy(side->d_scored + (size_t)row * d, work.sums + d, d * sizeof(float));
    memcpy(side->d_xhat0 + (size_t)row * d, work.sums + (size_t)2 * d, d * sizeof(float));
}

// d of x_0 through y_0, and gain and bias of the first norm from it.
static void query_row(struct fusion_train *train, const struct train_row *at)
{
    enum modality which = at->side;
    uint32_t row = at->row;
    struct train_side *side = &train->side[which];
    uint32_t d = side->config->dimension;
    size_t token = (size_t)row * (train->params.k + 1);
    const float *xhat0 = side->xhat + token * d;
    const float *d_y0 = side->d_y0 + (size_t)row * d;
    float *g = side->d_xhat0 + (size_t)row * d;
    if (side->config->norm == FUSION_NORM_PRE) {
        train->loops->multiply_add(d_y0, xhat0, d, side->d_gain + (size_t)row * d);
        train->loops->add_scaled(1.0f, d_y0, d, side->d_bias + (size_t)row * d);
        train->loops->multiply_add(d_y0, train_tensor(side, FUSION_NORM1_GAIN), d, g);
        standardise_back(train, xhat0, side->inverse[token], d, g);
    } else {
        train->loops->add_scaled(1.0f, d_y0, d, g);
    }
    train->loops->add_scaled(1.0f, g, d, side->d_x0 + (size_t)row * d);
}

static void linear_back(struct fusion_train *train, struct train_side *side,
                        enum fusion_tensor weights, const float *source, float *d_target,
                        float *d_source)
{
    const struct fusion_place *place = &side->layout.tensor[weights];
    train_linear_back(train, &(struct train_linear_back){
                                 .forward = {.source = source,
                                             .weights = side->numbers + place->offset,
                                             .rows = train->pairs,
                                             .columns = place->rows,
                                             .depth = place->columns,
                                             .target = d_target},
                                 .d_source = d_source,
                                 .d_weights = side->gradient + place->offset,
                                 .d_bias = train_gradient(side, (enum fusion_tensor)(weights + 1)),
                             });
}

// Wv: d of c and of the weights, head by head.
static void values_back(struct fusion_train *train, struct train_side *side)
{
    uint32_t d = side->config->dimension;
    uint32_t heads = side->config->heads;
    uint32_t part = d / heads;
    struct gemm_product product = {
        .a = {side->d_values, d, 1},
        .b = {train_tensor(side, FUSION_VALUE_WEIGHT), d, 1},
        .target = side->d_summed,
        .target_step = (size_t)heads * d,
        .rows = train->pairs,
        .columns = d,
        .depth = part,
        .count = heads,
        .a_next = part,
        .b_next = (size_t)part * d,
        .target_next = d,
    };
    gemm_run(train->gemm, &product);
    product.a = (struct gemm_view){side->d_values, 1, d}; // turned: [part][B]
    product.b = (struct gemm_view){side->summed, (size_t)heads * d, 1};
    product.target = train_gradient(side, FUSION_VALUE_WEIGHT);
    product.target_step = d;
    product.rows = part;
    product.depth = train->pairs;
    product.b_next = d;
    product.target_next = (size_t)part * d;
    gemm_run(train->gemm, &product);
    train_sum_rows(train, side->d_values, NULL, train->pairs, d,
                   train_gradient(side, FUSION_VALUE_BIAS));
}

// Wk: d of Q and of the weights, head by head.
static void keys_back(struct fusion_train *train, struct train_side *side)
{
    uint32_t d = side->config->dimension;
    uint32_t heads = side->config->heads;
    uint32_t part = d / heads;
    struct gemm_product product = {
        .a = {side->d_carried, (size_t)heads * d, 1},
        .b = {train_tensor(side, FUSION_KEY_WEIGHT), 1, d}, // turned: [d][part]
        .target = side->d_query,
        .target_step = d,
        .rows = train->pairs,
        .columns = part,
        .depth = d,
        .count = heads,
        .a_next = d,
        .b_next = (size_t)part * d,
        .target_next = part,
    };
    gemm_run(train->gemm, &product);
    product.a = (struct gemm_view){side->query, 1, d}; // turned: [part][B]
    product.b = (struct gemm_view){side->d_carried, (size_t)heads * d, 1};
    product.target = train_gradient(side, FUSION_KEY_WEIGHT);
    product.rows = part;
    product.columns = d;
    product.depth = train->pairs;
    product.a_next = part;
    product.b_next = d;
    product.target_next = (size_t)part * d;
    gemm_run(train->gemm, &product);
}

static void sum_into(struct fusion_train *train, struct train_side *side, enum fusion_tensor which,
                     const float *a, const float *b, size_t skip)
{
    float *target = train_gradient(side, which);
    if (target)
        train_sum_rows(train, a, b, train->pairs, side->config->dimension, target + skip);
}

// Gradients that are sums over the pairs.
static void sum_small(struct fusion_train *train, struct train_side *side)
{
    const struct fusion_config *config = side->config;
    sum_into(train, side, FUSION_TYPE, side->d_x0, NULL, 0);
    sum_into(train, side, FUSION_TYPE, side->d_token, NULL, config->dimension);
    sum_into(train, side, FUSION_SCORE_EMBEDDING, side->d_scored, NULL, 0);
    if (config->norm == FUSION_NORM_PRE) {
        sum_into(train, side, FUSION_NORM1_GAIN, side->d_gain, NULL, 0);
        sum_into(train, side, FUSION_NORM1_BIAS, side->d_bias, NULL, 0);
        sum_into(train, side, FUSION_NORM2_GAIN, side->d_normed, side->hat2, 0);
        sum_into(train, side, FUSION_NORM2_BIAS, side->d_normed, NULL, 0);
    } else {
        sum_into(train, side, FUSION_NORM1_GAIN, side->d_normed, side->hat1, 0);
        sum_into(train, side, FUSION_NORM1_BIAS, side->d_normed, NULL, 0);
        sum_into(train, side, FUSION_NORM2_GAIN, side->start, side->hat2, 0);
        sum_into(train, side, FUSION_NORM2_BIAS, side->start, NULL, 0);
    }
    float *d_score = train_gradient(side, FUSION_SCORE_BIAS);
    if (d_score)
        train_sum_rows(train, side->d_score, NULL, train->pairs, config->heads, d_score);
}

static void sum_start(struct fusion_train *train, struct train_side *side)
{
    float *target = train_gradient(side, FUSION_START);
    float sums[TRAIN_START_MAX];
    if (!target)
        return;
    train_sum_rows(train, side->d_start, NULL, train->pairs, TRAIN_START_MAX, sums);
    memcpy(target, sums, side->layout.tensor[FUSION_START].count * sizeof(*target));
}

void train_backward(struct fusion_train *train, enum modality which)
{
    struct train_side *side = &train->side[which];
    train_each_row(train, which, start_row);
    sum_start(train, side);
    if (!side->config->block)
        return;
    if (side->config->mlp > 0) {
        // The value of f is read for d of W2, then d of it takes its place.
        linear_back(train, side, FUSION_MLP2_WEIGHT, side->hidden, side->d_added, NULL);
        train_linear_back(train, &(struct train_linear_back){
                                     .forward = {.weights = train_tensor(side, FUSION_MLP2_WEIGHT),
                                                 .rows = train->pairs,
                                                 .columns = side->config->dimension,
                                                 .depth = side->config->mlp,
                                                 .target = side->d_added},
                                     .d_source = side->hidden,
                                 });
        train_each_row(train, which, slope_row);
        linear_back(train, side, FUSION_MLP1_WEIGHT, side->normed, side->slope, side->d_normed);
    }
    train_each_row(train, which, middle_row);
    linear_back(train, side, FUSION_OUT_WEIGHT, side->values, side->d_out, side->d_values);
    values_back(train, side);
    train_each_row(train, which, attend_row);
    keys_back(train, side);
    linear_back(train, side, FUSION_QUERY_WEIGHT, side->y0, side->d_query, side->d_y0);
    train_each_row(train, which, query_row);
    sum_small(train, side);
}
