// SPDX-License-Identifier: Apache-2.0
// AdamW. The tensors of a side are updated in pieces, each by one thread; the logarithm of the
// scale and the numbers of the start are single numbers, each with a rate of its own.

#include <math.h>

#include "shaders/models/fusion_train_internal.h"

#define SQUARES ((size_t)1024) // summed in single precision

// A piece of one tensor.
struct piece {
    const struct train_side *side;
    size_t offset;
    size_t count;
    float factor; // of the rate
    bool decays;
};

struct optimise {
    struct fusion_train *train;
    float rate;
    float factor;  // of all gradients
    uint64_t step; // from 1
};

// Of the start's numbers each has its own way (optimise_start()).
static float rate_factor(const struct fusion_train_params *params, int tensor)
{
    return tensor == FUSION_START ? 0.0f : params->rate_block;
}

// The piece number `job` of all tensors of both sides; false when there are fewer.
static bool find_piece(const struct fusion_train *train, size_t job, struct piece *out)
{
    for (uint32_t s = 0; s < FUSION_HEAD_SIDES; s++) {
        for (int t = 0; t < FUSION_TENSOR_COUNT; t++) {
            const struct fusion_place *place = &train->side[s].layout.tensor[t];
            size_t pieces = (place->count + TRAIN_PART - 1) / TRAIN_PART;
            if (job >= pieces) {
                job -= pieces;
                continue;
            }
            size_t left = place->count - job * TRAIN_PART;
            *out = (struct piece){&train->side[s], place->offset + job * TRAIN_PART,
                                  left < TRAIN_PART ? left : TRAIN_PART,
                                  rate_factor(&train->params, t), place->decays};
            return true;
        }
    }
    return false;
}

static void square_job(void *context, uint32_t job, uint32_t worker)
{
    struct fusion_train *train = context;
    struct piece piece;
    double sum = 0;
    (void)worker;
    if (find_piece(train, job, &piece) && piece.factor > 0.0f) {
        const float *gradient = piece.side->gradient + piece.offset;
        for (size_t at = 0; at < piece.count; at += SQUARES) {
            size_t left = piece.count - at;
            float squares;
            train->loops->meet(gradient + at, 1, gradient + at, 1, left < SQUARES ? left : SQUARES,
                               &squares);
            sum += (double)squares;
        }
    }
    train->partial[job] = sum;
}

static void optimise_job(void *context, uint32_t job, uint32_t worker)
{
    const struct optimise *optimise = context;
    const struct fusion_train_params *params = &optimise->train->params;
    struct piece piece;
    (void)worker;
    if (!find_piece(optimise->train, job, &piece) || piece.factor <= 0.0f)
        return;
    double step = (double)optimise->step;
    float rate = optimise->rate * piece.factor;
    optimise->train->loops->adamw(&(struct loops_adamw){
        .numbers = piece.side->numbers + piece.offset,
        .moment1 = piece.side->moment1 + piece.offset,
        .moment2 = piece.side->moment2 + piece.offset,
        .gradient = piece.side->gradient + piece.offset,
        .count = piece.count,
        .factor = optimise->factor,
        .beta1 = params->beta1,
        .beta2 = params->beta2,
        .keep = piece.decays ? 1.0f - rate * params->decay : 1.0f,
        .rate = (float)((double)rate / (1 - pow((double)params->beta1, step))),
        .second = (float)(1 / sqrt(1 - pow((double)params->beta2, step))),
        .epsilon = params->epsilon,
    });
}

// A number by itself, `factor` times as fast.
struct single {
    float *value;
    float *moment1;
    float *moment2;
    float gradient;
    float factor;
};

static void optimise_single(const struct optimise *optimise, const struct single *single)
{
    const struct fusion_train_params *params = &optimise->train->params;
    double step = (double)optimise->step;
    loops_scalar.adamw(&(struct loops_adamw){
        .numbers = single->value,
        .moment1 = single->moment1,
        .moment2 = single->moment2,
        .gradient = &single->gradient,
        .count = 1,
        .factor = optimise->factor,
        .beta1 = params->beta1,
        .beta2 = params->beta2,
        .keep = 1.0f,
        .rate = (float)((double)(optimise->rate * single->factor) /
                        (1 - pow((double)params->beta1, step))),
        .second = (float)(1 / sqrt(1 - pow((double)params->beta2, step))),
        .epsilon = params->epsilon,
    });
}

static void optimise_scale(struct fusion_train *train, const struct optimise *optimise)
{
    float most = logf(train->params.scale_max);
    if (train->params.rate_scale <= 0.0f)
        return;
    optimise_single(optimise, &(struct single){.value = &train->log_scale,
                                               .moment1 = &train->log_scale_moment1,
                                               .moment2 = &train->log_scale_moment2,
                                               .gradient = (float)train->d_log_scale,
                                               .factor = train->params.rate_scale});
    if (train->log_scale > most)
        train->log_scale = most;
}

// beta, temperature and sharpness are of very different sizes and learn in their logarithms, where
// a step is a share of them; consensus and pairing begin at 0 and learn as they are.
static bool is_logarithmic(size_t i)
{
    return i != 2 && i != 4;
}

// Of what learns.
static float start_gradient(const struct train_side *side, size_t i)
{
    size_t at = side->layout.tensor[FUSION_START].offset + i;
    return is_logarithmic(i) ? side->gradient[at] * side->numbers[at] : side->gradient[at];
}

static void optimise_start(struct train_side *side, const struct optimise *optimise)
{
    const struct fusion_place *place = &side->layout.tensor[FUSION_START];
    for (size_t i = 0; i < place->count && optimise->train->params.rate_start > 0.0f; i++) {
        float *number = side->numbers + place->offset + i;
        float value = is_logarithmic(i) ? logf(*number) : *number;
        if (is_logarithmic(i) && *number <= 0.0f)
            continue; // has no logarithm and stays
        optimise_single(optimise, &(struct single){.value = &value,
                                                   .moment1 = side->moment1 + place->offset + i,
                                                   .moment2 = side->moment2 + place->offset + i,
                                                   .gradient = start_gradient(side, i),
                                                   .factor = optimise->train->params.rate_start});
        *number = is_logarithmic(i) ? expf(value) : value;
    }
}

double train_norm(struct fusion_train *train)
{
    team_run(train->team, (uint32_t)train->partials, square_job, train);
    double sum = train->params.rate_scale > 0.0f ? train->d_log_scale * train->d_log_scale : 0.0;
    for (size_t i = 0; i < train->partials; i++)
        sum += train->partial[i];
    for (uint32_t s = 0; s < FUSION_HEAD_SIDES && train->params.rate_start > 0.0f; s++) {
        const struct train_side *side = &train->side[s];
        for (size_t i = 0; i < side->layout.tensor[FUSION_START].count; i++)
            sum += (double)start_gradient(side, i) * (double)start_gradient(side, i);
    }
    return sqrt(sum);
}

void train_optimise(struct fusion_train *train, double rate, double norm)
{
    struct optimise optimise = {
        .train = train, .rate = (float)rate, .factor = 1.0f, .step = train->steps + 1};
    double clip = (double)train->params.clip;
    if (clip > 0 && norm > clip)
        optimise.factor = (float)(clip / norm);
    team_run(train->team, (uint32_t)train->partials, optimise_job, &optimise);
    optimise_scale(train, &optimise);
    optimise_start(&train->side[MODALITY_IMAGE], &optimise);
    optimise_start(&train->side[MODALITY_TEXT], &optimise);
}
