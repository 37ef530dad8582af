// SPDX-License-Identifier: Apache-2.0
// What the residual starts from, q + beta * sum(w_i n_i), and the gradient of its numbers. There
// are few neighbours, so all of it but the sums over the dimension is done in double.

#include <assert.h>
#include <math.h>
#include <string.h>

#include "shaders/models/fusion_train_internal.h"

// The neighbours of one pair that are left, and what their shares are made of.
struct shares {
    uint32_t count;
    uint32_t k;
    const uint32_t *chosen;
    const float *scores;      // of all neighbours
    const float *pair_scores; // NULL: the head has no pairing
    struct fusion_params start;
    bool has_consensus;
    const float *alike;        // [k][k] inner products of the chosen ones
    double logits[K_WIRE_MAX]; // t_i = temperature * s_i + pairing * p_i
    double first[K_WIRE_MAX];  // softmax(t)
    double
        sum[K_WIRE_MAX]; // S_i = sum_j first_j * exp(sharpness * (<n_i, n_j> - 1)): A_i = log S_i
    double share[K_WIRE_MAX];
};

static double alike(const struct shares *shares, uint32_t i, uint32_t j)
{
    assert(shares->alike);
    return (double)shares->alike[(size_t)i * shares->k + j] - 1;
}

static void share_out(const struct fusion_train *train, enum modality which, uint32_t row,
                      struct shares *shares)
{
    const struct train_side *side = &train->side[which];
    uint32_t k = train->params.k;
    shares->count = side->used[row];
    shares->k = k;
    shares->chosen = side->chosen + (size_t)row * k;
    shares->scores = train->batch->scores[which] + (size_t)row * k;
    shares->start = fusion_config_start(side->config, side->numbers);
    shares->pair_scores =
        side->config->pairing ? train->batch->pair_scores[which] + (size_t)row * k : NULL;
    shares->has_consensus = side->config->consensus;
    shares->alike = side->alike ? side->alike + (size_t)row * k * k : NULL;
    uint32_t count = shares->count;
    double temperature = shares->start.mode == FUSION_WEIGHTED ? shares->start.temperature : 0;
    for (uint32_t i = 0; i < count; i++) {
        shares->logits[i] = temperature * (double)shares->scores[shares->chosen[i]];
        if (shares->pair_scores)
            shares->logits[i] +=
                shares->start.pairing * (double)shares->pair_scores[shares->chosen[i]];
    }
    memcpy(shares->first, shares->logits, count * sizeof(double));
    fusion_soften(shares->first, count);
    memcpy(shares->share, shares->first, count * sizeof(double));
    if (!shares->has_consensus)
        return;
    for (uint32_t i = 0; i < count; i++) {
        shares->sum[i] = 0;
        for (uint32_t j = 0; j < count; j++)
            shares->sum[i] += shares->first[j] * exp(shares->start.sharpness * alike(shares, i, j));
        shares->share[i] = shares->logits[i] + shares->start.consensus * log(shares->sum[i]);
    }
    fusion_soften(shares->share, count);
}

static const float *neighbour_at(const struct fusion_train *train, enum modality which,
                                 uint32_t row, uint32_t chosen)
{
    size_t at = (size_t)row * train->params.k + chosen;
    return train->batch->payload[which] + at * train->params.config[which].dimension;
}

void train_start(struct fusion_train *train, enum modality which, uint32_t row)
{
    const struct train_side *side = &train->side[which];
    uint32_t d = side->config->dimension;
    uint32_t k = train->params.k;
    float *start = side->start + (size_t)row * d;
    memcpy(start, train->batch->embeddings[which] + (size_t)row * d, d * sizeof(*start));
    if (side->config->baseline >= FUSION_BASELINE_QUERY || side->used[row] == 0)
        return;

    struct shares shares;
    const uint32_t *chosen = side->chosen + (size_t)row * k;
    for (uint32_t i = 0; i < side->used[row] && side->alike; i++) {
        for (uint32_t j = 0; j <= i; j++) {
            float product;
            train->loops->meet(neighbour_at(train, which, row, chosen[i]), 1,
                               neighbour_at(train, which, row, chosen[j]), 1, d, &product);
            side->alike[((size_t)row * k + i) * k + j] = product;
            side->alike[((size_t)row * k + j) * k + i] = product;
        }
    }
    share_out(train, which, row, &shares);
    for (uint32_t i = 0; i < shares.count; i++)
        train->loops->add_scaled((float)(shares.start.beta * shares.share[i]),
                                 neighbour_at(train, which, row, chosen[i]), d, start);
}

// d of softmax's input, in place of that of its output.
static void soften_back(const double *share, uint32_t count, double *d)
{
    double mean = 0;
    for (uint32_t i = 0; i < count; i++)
        mean += share[i] * d[i];
    for (uint32_t i = 0; i < count; i++)
        d[i] = share[i] * (d[i] - mean);
}

// From d [count] of the logits t: adds to the gradients of temperature and pairing.
static void logits_back(const struct shares *shares, const double *d, double *out)
{
    for (uint32_t i = 0; i < shares->count; i++) {
        out[1] += d[i] * (double)shares->scores[shares->chosen[i]];
        if (shares->pair_scores)
            out[4] += d[i] * (double)shares->pair_scores[shares->chosen[i]];
    }
}

// From d [count] of t + consensus * A: what goes through A. Adds to the gradients of all but beta.
static void consensus_back(const struct shares *shares, const double *d, double *out)
{
    uint32_t count = shares->count;
    double d_first[K_WIRE_MAX] = {0};
    for (uint32_t i = 0; i < count; i++) {
        out[2] += d[i] * log(shares->sum[i]);
        double d_sum = shares->start.consensus * d[i] / shares->sum[i];
        for (uint32_t j = 0; j < count; j++) {
            double exponential = exp(shares->start.sharpness * alike(shares, i, j));
            d_first[j] += d_sum * exponential;
            out[3] += d_sum * shares->first[j] * exponential * alike(shares, i, j);
        }
    }
    soften_back(shares->first, count, d_first);
    logits_back(shares, d_first, out);
}

void train_start_back(struct fusion_train *train, enum modality which, uint32_t row)
{
    const struct train_side *side = &train->side[which];
    uint32_t d = side->config->dimension;
    float *target = side->d_start + (size_t)row * TRAIN_START_MAX;
    memset(target, 0, TRAIN_START_MAX * sizeof(*target));
    if (side->config->baseline >= FUSION_BASELINE_QUERY || side->used[row] == 0)
        return;

    struct shares shares;
    double d_share[K_WIRE_MAX];
    double out[TRAIN_START_MAX] = {0};
    share_out(train, which, row, &shares);
    for (uint32_t i = 0; i < shares.count; i++) {
        float product;
        train->loops->meet(side->start + (size_t)row * d, 1,
                           neighbour_at(train, which, row, shares.chosen[i]), 1, d, &product);
        out[0] += shares.share[i] * (double)product;
        d_share[i] = shares.start.beta * (double)product;
    }
    if (side->config->baseline == FUSION_BASELINE_WEIGHTED) {
        soften_back(shares.share, shares.count, d_share);
        logits_back(&shares, d_share, out);
        if (shares.has_consensus)
            consensus_back(&shares, d_share, out);
    }
    for (uint32_t i = 0; i < TRAIN_START_MAX; i++)
        target[i] = (float)out[i];
}
