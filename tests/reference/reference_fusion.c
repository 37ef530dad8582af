// SPDX-License-Identifier: Apache-2.0
// One loop for each index of the formula; nothing is left out because it is not needed.

#include "tests/reference/reference_fusion.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/reference/reference.h"

static const double *tensor(const struct reference_fusion *args, enum fusion_tensor which)
{
    struct fusion_layout layout = fusion_layout_of(args->config);
    return layout.tensor[which].count > 0 ? args->numbers + layout.tensor[which].offset : NULL;
}

// target [rows][columns] = source [rows][depth] * weights^T + bias
static void product(const double *source, const double *weights, const double *bias, size_t rows,
                    size_t columns, size_t depth, double *target)
{
    reference_product(&(struct reference_product){.source = source,
                                                  .weights = weights,
                                                  .bias = bias,
                                                  .rows = rows,
                                                  .columns = columns,
                                                  .depth = depth,
                                                  .target = target});
}

static void norm(const struct reference_fusion *args, enum fusion_tensor gain,
                 enum fusion_tensor bias, size_t rows, double *values)
{
    reference_layernorm(&(struct reference_layernorm){.source = values,
                                                      .gain = tensor(args, gain),
                                                      .bias = tensor(args, bias),
                                                      .epsilon = (double)args->config->epsilon,
                                                      .rows = rows,
                                                      .width = args->config->dimension,
                                                      .target = values});
}

static void softmax(double *values, size_t count)
{
    double largest = values[0];
    double sum = 0;
    for (size_t i = 1; i < count; i++)
        largest = fmax(largest, values[i]);
    for (size_t i = 0; i < count; i++)
        sum += values[i] = exp(values[i] - largest);
    for (size_t i = 0; i < count; i++)
        values[i] /= sum;
}

// x: the tokens [count + 1][d].
static void make_tokens(const struct reference_fusion *args, double *x)
{
    size_t d = args->config->dimension;
    const double *type = tensor(args, FUSION_TYPE);
    const double *score = tensor(args, FUSION_SCORE_EMBEDDING);
    for (size_t i = 0; i <= args->count; i++) {
        const double *from = i == 0 ? args->query : args->payload + (i - 1) * d;
        for (size_t c = 0; c < d; c++) {
            x[i * d + c] = from[c];
            if (type)
                x[i * d + c] += type[(i == 0 ? 0 : d) + c];
            if (score && i > 0)
                x[i * d + c] += args->scores[i - 1] * score[c];
        }
    }
}

// attended [d] = Wo o + bo of the query's token.
static void attend(const struct reference_fusion *args, const double *y, double *attended)
{
    size_t d = args->config->dimension;
    size_t heads = args->config->heads;
    size_t part = d / heads;
    size_t tokens = args->count + 1;
    const double *bias = tensor(args, FUSION_SCORE_BIAS);
    double *query = calloc(d, sizeof(*query));
    double *key = calloc(tokens * d, sizeof(*key));
    double *value = calloc(tokens * d, sizeof(*value));
    double *o = calloc(d, sizeof(*o));
    double *share = calloc(tokens, sizeof(*share));
    product(y, tensor(args, FUSION_QUERY_WEIGHT), tensor(args, FUSION_QUERY_BIAS), 1, d, d, query);
    product(y, tensor(args, FUSION_KEY_WEIGHT), NULL, tokens, d, d, key);
    product(y, tensor(args, FUSION_VALUE_WEIGHT), tensor(args, FUSION_VALUE_BIAS), tokens, d, d,
            value);
    for (size_t h = 0; h < heads; h++) {
        for (size_t i = 0; i < tokens; i++) {
            double sum = 0;
            for (size_t c = h * part; c < (h + 1) * part; c++)
                sum += query[c] * key[i * d + c];
            share[i] = sum / sqrt((double)part);
            if (bias && i > 0)
                share[i] += bias[h] * args->scores[i - 1];
        }
        softmax(share, tokens);
        for (size_t i = 0; i < tokens; i++) {
            for (size_t c = h * part; c < (h + 1) * part; c++)
                o[c] += share[i] * value[i * d + c];
        }
    }
    product(o, tensor(args, FUSION_OUT_WEIGHT), tensor(args, FUSION_OUT_BIAS), 1, d, d, attended);
    free(query);
    free(key);
    free(value);
    free(o);
    free(share);
}

// out [d] from h [d], which is changed.
static void perceive(const struct reference_fusion *args, double *h)
{
    size_t d = args->config->dimension;
    size_t mlp = args->config->mlp;
    assert(d > 0);
    if (mlp == 0)
        return;
    double *normed = calloc(d, sizeof(*normed));
    double *hidden = calloc(mlp, sizeof(*hidden));
    double *added = calloc(d, sizeof(*added));
    memcpy(normed, h, d * sizeof(*normed));
    if (args->config->norm == FUSION_NORM_PRE)
        norm(args, FUSION_NORM2_GAIN, FUSION_NORM2_BIAS, 1, normed);
    product(normed, tensor(args, FUSION_MLP1_WEIGHT), tensor(args, FUSION_MLP1_BIAS), 1, mlp, d,
            hidden);
    for (size_t i = 0; i < mlp; i++)
        hidden[i] = args->config->activation == FUSION_GELU ? reference_gelu(hidden[i])
                                                            : reference_quick_gelu(hidden[i]);
    product(hidden, tensor(args, FUSION_MLP2_WEIGHT), tensor(args, FUSION_MLP2_BIAS), 1, d, mlp,
            added);
    for (size_t i = 0; i < d; i++)
        h[i] += added[i];
    free(normed);
    free(hidden);
    free(added);
}

// t_i of the baseline weighted.
static double logit_of(const struct reference_fusion *args, size_t i)
{
    const double *start = tensor(args, FUSION_START);
    double logit = start[1] * args->scores[i];
    return args->config->pairing ? logit + start[4] * args->pair_scores[i] : logit;
}

// The shares of the neighbours in what the residual starts from.
static void share_out(const struct reference_fusion *args, double *weights)
{
    size_t d = args->config->dimension;
    const double *start = tensor(args, FUSION_START);
    if (args->config->baseline != FUSION_BASELINE_WEIGHTED) {
        for (size_t i = 0; i < args->count; i++)
            weights[i] = 1.0 / (double)args->count;
        return;
    }
    for (size_t i = 0; i < args->count; i++)
        weights[i] = logit_of(args, i);
    softmax(weights, args->count);
    if (!args->config->consensus)
        return;
    double *second = calloc(args->count + 1, sizeof(*second));
    for (size_t i = 0; i < args->count; i++) {
        double sum = 0;
        for (size_t j = 0; j < args->count; j++) {
            double product = 0;
            for (size_t c = 0; c < d; c++)
                product += args->payload[i * d + c] * args->payload[j * d + c];
            sum += weights[j] * exp(start[3] * (product - 1));
        }
        second[i] = logit_of(args, i) + start[2] * log(sum);
    }
    softmax(second, args->count);
    memcpy(weights, second, args->count * sizeof(*weights));
    free(second);
}

// What the residual starts from.
static void make_start(const struct reference_fusion *args, double *start)
{
    size_t d = args->config->dimension;
    memcpy(start, args->query, d * sizeof(*start));
    if (args->config->baseline >= FUSION_BASELINE_QUERY)
        return;
    double beta = tensor(args, FUSION_START)[0];
    double *weights = calloc(args->count + 1, sizeof(*weights));
    share_out(args, weights);
    for (size_t i = 0; i < args->count; i++) {
        for (size_t c = 0; c < d; c++)
            start[c] += beta * weights[i] * args->payload[i * d + c];
    }
    free(weights);
}

// out of the query's token, and that token x_0.
static void transform(const struct reference_fusion *args, double *out, double *x0)
{
    const struct fusion_config *config = args->config;
    size_t d = config->dimension;
    double *x = calloc((args->count + 1) * d, sizeof(*x));
    double *y = calloc((args->count + 1) * d, sizeof(*y));
    make_tokens(args, x);
    memcpy(x0, x, d * sizeof(*x0));
    memcpy(y, x, (args->count + 1) * d * sizeof(*y));
    if (config->norm == FUSION_NORM_PRE)
        norm(args, FUSION_NORM1_GAIN, FUSION_NORM1_BIAS, args->count + 1, y);
    attend(args, y, out);
    for (size_t c = 0; c < d; c++)
        out[c] += x[c];
    if (config->norm == FUSION_NORM_POST)
        norm(args, FUSION_NORM1_GAIN, FUSION_NORM1_BIAS, 1, out);
    perceive(args, out);
    if (config->norm == FUSION_NORM_POST && config->mlp > 0)
        norm(args, FUSION_NORM2_GAIN, FUSION_NORM2_BIAS, 1, out);
    free(x);
    free(y);
}

void reference_fusion(const struct reference_fusion *args, double *refined)
{
    size_t d = args->config->dimension;
    assert(d > 0);
    memcpy(refined, args->query, d * sizeof(*refined));
    if (args->count == 0)
        return;
    double *out = calloc(d, sizeof(*out));
    double *x0 = calloc(d, sizeof(*x0));
    if (args->config->block)
        transform(args, out, x0);
    if (args->config->baseline == FUSION_BASELINE_NONE) {
        memcpy(refined, out, d * sizeof(*refined));
    } else {
        make_start(args, refined);
        for (size_t c = 0; c < d; c++)
            refined[c] += out[c] - x0[c];
    }
    reference_normalise(refined, d);
    free(out);
    free(x0);
}

enum pairing { TARGET, OTHER, OUT };

static enum pairing pairing_of(const struct reference_fusion_batch *batch, size_t i, size_t j)
{
    if (i == j)
        return TARGET;
    if (!batch->entities || batch->entities[i] != batch->entities[j])
        return OTHER;
    return batch->same_is_positive ? TARGET : OUT;
}

// Mean loss over the rows of scale * a b^T.
static double row_loss(const struct reference_fusion_batch *batch, const double *a, const double *b)
{
    size_t d = batch->config[0]->dimension;
    double total = 0;
    for (size_t i = 0; i < batch->pairs; i++) {
        double sum = 0;
        double targets = 0;
        double target_sum = 0;
        size_t count = 0;
        for (size_t j = 0; j < batch->pairs; j++) {
            double logit = 0;
            for (size_t c = 0; c < d; c++)
                logit += a[i * d + c] * b[j * d + c];
            logit *= exp(batch->log_scale);
            enum pairing pairing = pairing_of(batch, i, j);
            if (pairing != OUT)
                sum += exp(logit - exp(batch->log_scale));
            if (pairing == TARGET) {
                targets += logit;
                target_sum += exp(logit - exp(batch->log_scale));
                count++;
            }
        }
        total += batch->is_absolute ? 1 - target_sum / sum
                                    : log(sum) + exp(batch->log_scale) - targets / (double)count;
    }
    return total / (double)batch->pairs;
}

double reference_fusion_loss(const struct reference_fusion_batch *batch)
{
    size_t d = batch->config[0]->dimension;
    double *refined[2];
    for (size_t s = 0; s < 2; s++) {
        refined[s] = calloc(batch->pairs * d + 1, sizeof(double));
        for (size_t i = 0; i < batch->pairs; i++)
            reference_fusion(
                &(struct reference_fusion){
                    .config = batch->config[s],
                    .numbers = batch->numbers[s],
                    .query = batch->embeddings[s] + i * d,
                    .payload = batch->payload[s] + i * batch->k * d,
                    .scores = batch->scores[s] + i * batch->k,
                    .pair_scores = batch->pair_scores[s] + i * batch->k,
                    .count = batch->counts[s][i],
                },
                refined[s] + i * d);
    }
    const double *const terms[3][2] = {{refined[0], refined[1]},
                                       {refined[0], batch->embeddings[1]},
                                       {batch->embeddings[0], refined[1]}};
    double loss = 0;
    for (size_t t = 0; t < 3; t++)
        loss += batch->weight[t] *
                (row_loss(batch, terms[t][0], terms[t][1]) +
                 row_loss(batch, terms[t][1], terms[t][0])) /
                2;
    free(refined[0]);
    free(refined[1]);
    return loss;
}
