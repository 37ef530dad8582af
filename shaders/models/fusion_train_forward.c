// SPDX-License-Identifier: Apache-2.0
// The forward pass of one side over the whole batch: products of all pairs at once, and between
// them what is done for each pair by itself.
//
// Where the norm comes first, tokens are kept standardised, without gain and bias: the gain goes to
// U, and the bias adds the same to every logit of a head, which softmax does not see.

#include <assert.h>
#include <math.h>
#include <string.h>

#include "shaders/models/fusion_train_internal.h"

static void choose(struct fusion_train *train, enum modality which, uint32_t row)
{
    struct train_side *side = &train->side[which];
    uint32_t k = train->params.k;
    uint32_t *chosen = side->chosen + (size_t)row * k;
    uint64_t seed = fusion_config_mix(
        fusion_config_mix(train->params.seed ^ fusion_config_mix(train->steps)) + which);
    uint64_t bound = (uint64_t)((double)train->params.dropout * 18446744073709551616.0);
    side->used[row] = 0;
    for (uint32_t i = 0; i < train->batch->counts[which][row]; i++) {
        if (!train->drops || fusion_config_mix(seed + (uint64_t)row * k + i) >= bound)
            chosen[side->used[row]++] = i;
    }
}

// x_0, all y and their deviations.
static void make_tokens(struct fusion_train *train, enum modality which, uint32_t row)
{
    struct train_side *side = &train->side[which];
    const struct fusion_config *config = side->config;
    uint32_t d = config->dimension;
    uint32_t tokens = train->params.k + 1;
    const float *type = train_tensor(side, FUSION_TYPE);
    const float *embedding = train_tensor(side, FUSION_SCORE_EMBEDDING);
    float *x0 = side->x0 + (size_t)row * d;
    memcpy(x0, train->batch->embeddings[which] + (size_t)row * d, d * sizeof(*x0));
    if (type)
        train->loops->add_scaled(1.0f, type, d, x0);
    for (uint32_t i = 0; i <= side->used[row]; i++) {
        float *token = side->xhat + ((size_t)row * tokens + i) * d;
        if (i == 0) {
            memcpy(token, x0, d * sizeof(*token));
        } else {
            size_t at =
                (size_t)row * train->params.k + side->chosen[(size_t)row * train->params.k + i - 1];
            memcpy(token, train->batch->payload[which] + at * d, d * sizeof(*token));
            if (type)
                train->loops->add_scaled(1.0f, type + d, d, token);
            if (embedding)
                train->loops->add_scaled(train->batch->scores[which][at], embedding, d, token);
        }
        side->inverse[(size_t)row * tokens + i] =
            config->norm == FUSION_NORM_PRE
                ? train->loops->standardise(token, config->epsilon, d, token)
                : 1.0f;
    }
}

// target = gain * source + bias
static void scale_row(struct fusion_train *train, const struct train_side *side,
                      enum fusion_tensor gain, const float *source, float *target)
{
    uint32_t d = side->config->dimension;
    train->loops->multiply(source, train_tensor(side, gain), d, target);
    train->loops->add_scaled(1.0f, train_tensor(side, (enum fusion_tensor)(gain + 1)), d, target);
}

static void prepare_row(struct fusion_train *train, const struct train_row *at)
{
    enum modality which = at->side;
    uint32_t row = at->row;
    struct train_side *side = &train->side[which];
    uint32_t d = side->config->dimension;
    choose(train, which, row);
    train_start(train, which, row);
    if (!side->config->block)
        return;
    make_tokens(train, which, row);
    const float *xhat = side->xhat + (size_t)row * (train->params.k + 1) * d;
    if (side->config->norm == FUSION_NORM_PRE)
        scale_row(train, side, FUSION_NORM1_GAIN, xhat, side->y0 + (size_t)row * d);
    else
        memcpy(side->y0 + (size_t)row * d, xhat, d * sizeof(*xhat));
}

// softmax of each head's logits.
static void soften(struct fusion_train *train, float *logits, uint32_t heads, uint32_t tokens)
{
    for (uint32_t h = 0; h < heads; h++) {
        float *row = logits + (size_t)h * tokens;
        float most = row[0];
        for (uint32_t i = 1; i < tokens; i++)
            most = row[i] > most ? row[i] : most;
        for (uint32_t i = 0; i < tokens; i++)
            row[i] -= most;
    }
    train->loops->exponential(logits, (size_t)heads * tokens);
    for (uint32_t h = 0; h < heads; h++) {
        float *row = logits + (size_t)h * tokens;
        float sum = 0.0f;
        for (uint32_t i = 0; i < tokens; i++)
            sum += row[i];
        for (uint32_t i = 0; i < tokens; i++)
            row[i] /= sum;
    }
}

// U gain, where there is a gain.
static void gain_rows(struct fusion_train *train, const struct train_side *side,
                      const float *source, float *target)
{
    uint32_t d = side->config->dimension;
    for (uint32_t h = 0; h < side->config->heads; h++) {
        if (side->config->norm == FUSION_NORM_PRE)
            train->loops->multiply(source + (size_t)h * d, train_tensor(side, FUSION_NORM1_GAIN), d,
                                   target + (size_t)h * d);
        else
            memcpy(target + (size_t)h * d, source + (size_t)h * d, d * sizeof(*target));
    }
}

static void attend_row(struct fusion_train *train, const struct train_row *at)
{
    enum modality which = at->side;
    uint32_t row = at->row;
    struct train_side *side = &train->side[which];
    const struct fusion_config *config = side->config;
    uint32_t d = config->dimension;
    uint32_t heads = config->heads;
    uint32_t k = train->params.k;
    uint32_t tokens = side->used[row] + 1;
    const float *xhat = side->xhat + (size_t)row * (k + 1) * d;
    float *raw = side->raw + (size_t)row * heads * (k + 1);
    float *share = side->share + (size_t)row * heads * (k + 1);
    const float *bias = train_tensor(side, FUSION_SCORE_BIAS);
    float scale =
        1.0f / sqrtf((float)(d / heads)); // NOLINT(bugprone-integer-division): heads divide d
    gain_rows(train, side, side->carried + (size_t)row * heads * d, at->scratch);
    train->loops->meet(at->scratch, heads, xhat, tokens, d, raw);
    for (uint32_t h = 0; h < heads; h++) {
        for (uint32_t i = 0; i < tokens; i++) {
            share[h * tokens + i] = raw[h * tokens + i] * scale;
            if (bias && i > 0)
                share[h * tokens + i] +=
                    bias[h] *
                    train->batch
                        ->scores[which][(size_t)row * k + side->chosen[(size_t)row * k + i - 1]];
        }
    }
    soften(train, share, heads, tokens);
    float *taken = side->taken + (size_t)row * heads * d;
    float *summed = side->summed + (size_t)row * heads * d;
    train->loops->mix(share, heads, xhat, tokens, d, taken);
    for (uint32_t h = 0; h < heads; h++) {
        if (config->norm == FUSION_NORM_PRE)
            scale_row(train, side, FUSION_NORM1_GAIN, taken + (size_t)h * d,
                      summed + (size_t)h * d);
        else
            memcpy(summed + (size_t)h * d, taken + (size_t)h * d, d * sizeof(*summed));
    }
}

// h = x_0 + Wo o + bo, and what the MLP reads of it.
static void middle_row(struct fusion_train *train, const struct train_row *at)
{
    enum modality which = at->side;
    uint32_t row = at->row;
    struct train_side *side = &train->side[which];
    const struct fusion_config *config = side->config;
    uint32_t d = config->dimension;
    float *middle = side->middle + (size_t)row * d; // holds Wo o + bo
    train->loops->add_scaled(1.0f, side->x0 + (size_t)row * d, d, middle);
    if (config->norm == FUSION_NORM_POST) {
        float *hat = side->hat1 + (size_t)row * d;
        side->inverse1[row] = train->loops->standardise(middle, config->epsilon, d, hat);
        scale_row(train, side, FUSION_NORM1_GAIN, hat, middle);
    }
    if (config->mlp == 0)
        return;
    float *normed = side->normed + (size_t)row * d;
    if (config->norm == FUSION_NORM_PRE) {
        float *hat = side->hat2 + (size_t)row * d;
        side->inverse2[row] = train->loops->standardise(middle, config->epsilon, d, hat);
        scale_row(train, side, FUSION_NORM2_GAIN, hat, normed);
    } else {
        memcpy(normed, middle, d * sizeof(*normed));
    }
}

static void activate_row(struct fusion_train *train, const struct train_row *at)
{
    enum modality which = at->side;
    uint32_t row = at->row;
    struct train_side *side = &train->side[which];
    size_t first = (size_t)row * side->config->mlp;
    if (side->config->activation == FUSION_GELU)
        train->loops->gelu(side->slope + first, side->config->mlp, side->hidden + first,
                           side->slope + first);
    else
        train->loops->quick_gelu(side->slope + first, side->config->mlp, side->hidden + first,
                                 side->slope + first);
}

// out - x_0, or out, of the block is added to the start.
static void add_block(struct fusion_train *train, struct train_side *side, uint32_t row)
{
    const struct fusion_config *config = side->config;
    uint32_t d = config->dimension;
    float *start = side->start + (size_t)row * d;
    float *out = side->middle + (size_t)row * d;
    if (config->mlp > 0)
        train->loops->add_scaled(1.0f, side->added + (size_t)row * d, d, out);
    if (config->norm == FUSION_NORM_POST && config->mlp > 0) {
        float *hat = side->hat2 + (size_t)row * d;
        side->inverse2[row] = train->loops->standardise(out, config->epsilon, d, hat);
        scale_row(train, side, FUSION_NORM2_GAIN, hat, out);
    }
    if (config->baseline == FUSION_BASELINE_NONE) {
        memcpy(start, out, d * sizeof(*start));
    } else {
        train->loops->add_scaled(1.0f, out, d, start);
        train->loops->add_scaled(-1.0f, side->x0 + (size_t)row * d, d, start);
    }
}

static void finish_row(struct fusion_train *train, const struct train_row *at)
{
    enum modality which = at->side;
    uint32_t row = at->row;
    struct train_side *side = &train->side[which];
    uint32_t d = side->config->dimension;
    float *refined = side->refined + (size_t)row * d;
    if (side->used[row] == 0) {
        memcpy(refined, train->batch->embeddings[which] + (size_t)row * d, d * sizeof(*refined));
        side->length[row] = 1.0f;
        return;
    }
    if (side->config->block)
        add_block(train, side, row);
    const float *start = side->start + (size_t)row * d;
    float squares;
    train->loops->meet(start, 1, start, 1, d, &squares);
    side->length[row] = sqrtf(squares);
    for (uint32_t i = 0; i < d; i++)
        refined[i] = start[i] / side->length[row];
}

// U_h = Wk_h^T Q_h of all heads.
static void carry(struct fusion_train *train, struct train_side *side)
{
    uint32_t d = side->config->dimension;
    uint32_t heads = side->config->heads;
    uint32_t part = d / heads;
    gemm_run(train->gemm, &(struct gemm_product){
                              .a = {side->query, d, 1},
                              .b = {train_tensor(side, FUSION_KEY_WEIGHT), d, 1},
                              .target = side->carried,
                              .target_step = (size_t)heads * d,
                              .rows = train->pairs,
                              .columns = d,
                              .depth = part,
                              .count = heads,
                              .a_next = part,
                              .b_next = (size_t)part * d,
                              .target_next = d,
                          });
}

static void fill_values(struct fusion_train *train, const struct train_row *at)
{
    enum modality which = at->side;
    uint32_t row = at->row;
    struct train_side *side = &train->side[which];
    uint32_t d = side->config->dimension;
    memcpy(side->values + (size_t)row * d, train_tensor(side, FUSION_VALUE_BIAS),
           d * sizeof(float));
}

// o_h = Wv_h c_h + bv_h of all heads.
static void take_values(struct fusion_train *train, enum modality which)
{
    struct train_side *side = &train->side[which];
    uint32_t d = side->config->dimension;
    uint32_t heads = side->config->heads;
    uint32_t part = d / heads;
    train_each_row(train, which, fill_values);
    gemm_run(train->gemm, &(struct gemm_product){
                              .a = {side->summed, (size_t)heads * d, 1},
                              .b = {train_tensor(side, FUSION_VALUE_WEIGHT), 1, d},
                              .target = side->values,
                              .target_step = d,
                              .rows = train->pairs,
                              .columns = part,
                              .depth = d,
                              .add = true,
                              .count = heads,
                              .a_next = d,
                              .b_next = (size_t)part * d,
                              .target_next = part,
                          });
}

static void linear(struct fusion_train *train, const struct train_side *side,
                   enum fusion_tensor weights, const float *source, float *target)
{
    const struct fusion_place *place = &side->layout.tensor[weights];
    train_linear(train, &(struct train_linear){
                            .source = source,
                            .weights = side->numbers + place->offset,
                            .bias = train_tensor(side, (enum fusion_tensor)(weights + 1)),
                            .rows = train->pairs,
                            .columns = place->rows,
                            .depth = place->columns,
                            .target = target,
                        });
}

void train_forward(struct fusion_train *train, enum modality which)
{
    struct train_side *side = &train->side[which];
    train_each_row(train, which, prepare_row);
    if (side->config->block) {
        linear(train, side, FUSION_QUERY_WEIGHT, side->y0, side->query);
        carry(train, side);
        train_each_row(train, which, attend_row);
        take_values(train, which);
        linear(train, side, FUSION_OUT_WEIGHT, side->values, side->middle);
        train_each_row(train, which, middle_row);
        if (side->config->mlp > 0) {
            linear(train, side, FUSION_MLP1_WEIGHT, side->normed, side->slope);
            train_each_row(train, which, activate_row);
            linear(train, side, FUSION_MLP2_WEIGHT, side->hidden, side->added);
        }
    }
    train_each_row(train, which, finish_row);
}
