// SPDX-License-Identifier: Apache-2.0
// Life of a training, and the order of a step. Where work is shared among threads, what is one sum
// is made by one of them in a fixed order, or in fixed parts that are added in order.

#include "shaders/models/fusion_train.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "proto/base/mem.h"
#include "shaders/models/fusion_train_internal.h"

// --- parameters

struct fusion_train_params fusion_train_default(uint32_t dimension)
{
    struct fusion_config config = fusion_config_default(dimension);
    return (struct fusion_train_params){
        .config = {config, config},
        .k = 10,
        .pairs = 256,
        .steps = 1000,
        .warmup = 50,
        .rate = 5e-4f,
        .rate_start = 60.0f,
        .rate_block = 1.0f,
        .rate_scale = 10.0f,
        .decay = 0.01f,
        .beta1 = 0.9f,
        .beta2 = 0.999f,
        .epsilon = 1e-8f,
        .clip = 1.0f,
        .scale = 100.0f,
        .scale_max = 100.0f,
        .weight = {1.0f, 1.0f, 1.0f},
    };
}

static enum status check_count(const char *field, uint64_t value, uint64_t least, uint64_t most,
                               struct reason *why)
{
    if (value >= least && value <= most)
        return STATUS_OK;
    return reason_set(why, STATUS_INVALID, field, "%llu: %llu..%llu is allowed",
                      (unsigned long long)value, (unsigned long long)least,
                      (unsigned long long)most);
}

static enum status check_counts(const struct fusion_train_params *params, struct reason *why)
{
    enum status status = check_count("k", params->k, 1, K_WIRE_MAX, why);
    if (status == STATUS_OK)
        status = check_count("pairs", params->pairs, 2, FUSION_TRAIN_PAIRS_MAX, why);
    if (status == STATUS_OK)
        status = check_count("steps", params->steps, 1, UINT32_MAX, why);
    if (status == STATUS_OK)
        status = check_count("warmup", params->warmup, 0, params->steps, why);
    if (status == STATUS_OK)
        status = check_count("same", (uint64_t)params->same, FUSION_SAME_MASKED,
                             FUSION_SAME_POSITIVE, why);
    return status;
}

static enum status check_numbers(const struct fusion_train_params *params, struct reason *why)
{
    const struct {
        const char *field;
        float value;
        float least;
        float most;
    } all[] = {
        {"rate", params->rate, 0.0f, 10.0f},
        {"rate_last", params->rate_last, 0.0f, 1.0f},
        {"rate_start", params->rate_start, 0.0f, 1000.0f},
        {"rate_block", params->rate_block, 0.0f, 1000.0f},
        {"rate_scale", params->rate_scale, 0.0f, 1000.0f},
        {"decay", params->decay, 0.0f, 10.0f},
        {"beta1", params->beta1, 0.0f, 0.99999f},
        {"beta2", params->beta2, 0.0f, 0.9999999f},
        {"epsilon", params->epsilon, 1e-30f, 1.0f},
        {"clip", params->clip, 0.0f, 1e30f},
        {"scale_max", params->scale_max, 1e-3f, 1e4f},
        {"scale", params->scale, 1e-3f, params->scale_max},
        {"weight[0]", params->weight[0], 0.0f, 1000.0f},
        {"weight[1]", params->weight[1], 0.0f, 1000.0f},
        {"weight[2]", params->weight[2], 0.0f, 1000.0f},
        {"dropout", params->dropout, 0.0f, 0.999f},
    };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (!(all[i].value >= all[i].least && all[i].value <= all[i].most)) // also not a number
            return reason_set(why, STATUS_INVALID, all[i].field, "%g: %g..%g is allowed",
                              (double)all[i].value, (double)all[i].least, (double)all[i].most);
    }
    if (params->weight[0] + params->weight[1] + params->weight[2] <= 0.0f)
        return reason_set(why, STATUS_INVALID, "weight", "all are 0: at least one must be more");
    return STATUS_OK;
}

static enum status check(const struct fusion_train_params *params, struct reason *why)
{
    enum status status = STATUS_OK;
    for (uint32_t s = 0; s < FUSION_HEAD_SIDES && status == STATUS_OK; s++)
        status = fusion_config_check(&params->config[s], why);
    if (status == STATUS_OK && params->config[0].dimension != params->config[1].dimension)
        status = reason_set(why, STATUS_INVALID, "dimension",
                            "%u for images and %u for texts: must be equal",
                            params->config[0].dimension, params->config[1].dimension);
    if (status == STATUS_OK)
        status = check_counts(params, why);
    return status == STATUS_OK ? check_numbers(params, why) : status;
}

// --- memory

// Where an array goes and how many 4-byte numbers it has.
struct room {
    void *at; // a pointer to float * or uint32_t *
    size_t count;
};

#define ROOMS_MAX 48

static size_t list_rooms(struct train_side *side, const struct fusion_train_params *params,
                         struct room rooms[ROOMS_MAX])
{
    const struct fusion_config *config = side->config;
    size_t pairs = params->pairs;
    size_t k = params->k;
    size_t d = config->dimension;
    size_t row = config->block ? pairs * d : 0; // of what only the transformer has
    size_t heads = row * config->heads;
    size_t shares = config->block ? pairs * config->heads * (k + 1) : 0;
    size_t mlp = config->block ? pairs * config->mlp : 0;
    const struct room all[] = {
        {&side->used, pairs},
        {&side->chosen, pairs * k},
        {&side->refined, pairs * d},
        {&side->d_refined, pairs * d},
        {&side->length, pairs},
        {&side->start, pairs * d},
        {&side->d_start, pairs * TRAIN_START_MAX},
        {&side->alike, config->consensus ? pairs * k * k : 0},
        {&side->x0, row},
        {&side->xhat, row * (k + 1)},
        {&side->inverse, pairs * (k + 1)},
        {&side->y0, row},
        {&side->query, row},
        {&side->d_query, row},
        {&side->carried, heads},
        {&side->d_carried, heads},
        {&side->raw, shares},
        {&side->share, shares},
        {&side->taken, heads},
        {&side->summed, heads},
        {&side->d_summed, heads},
        {&side->values, row},
        {&side->d_values, row},
        {&side->middle, row},
        {&side->hat1, row},
        {&side->inverse1, pairs},
        {&side->hat2, row},
        {&side->inverse2, pairs},
        {&side->normed, row},
        {&side->hidden, mlp},
        {&side->slope, mlp},
        {&side->added, row},
        {&side->d_out, row},
        {&side->d_added, row},
        {&side->d_normed, row},
        {&side->d_x0, row},
        {&side->d_y0, row},
        {&side->d_xhat0, row},
        {&side->d_token, row},
        {&side->d_scored, row},
        {&side->d_gain, row},
        {&side->d_bias, row},
        {&side->d_score, pairs * config->heads},
    };
    _Static_assert(sizeof(all) / sizeof(all[0]) <= ROOMS_MAX, "more rooms than places");
    memcpy(rooms, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

static size_t padded(size_t count)
{
    return (count + 15) / 16 * 16;
}

// Zeroed; NULL also for a size that no memory has.
static float *try_floats(size_t count)
{
    size_t bytes;
    if (!mem_multiply(count > 0 ? count : 1, sizeof(float), &bytes))
        return NULL;
    float *floats = mem_try_alloc_aligned(64, bytes);
    if (floats)
        memset(floats, 0, bytes);
    return floats;
}

static bool open_side(struct train_side *side, const struct fusion_train_params *params)
{
    struct room rooms[ROOMS_MAX];
    size_t count = list_rooms(side, params, rooms);
    size_t floats = 0;
    for (size_t i = 0; i < count; i++)
        floats += padded(rooms[i].count);
    side->memory = try_floats(floats);
    side->numbers = try_floats(4 * side->layout.count);
    if (!side->memory || !side->numbers)
        return false;
    float *at = side->memory;
    for (size_t i = 0; i < count; i++) {
        float *place = rooms[i].count > 0 ? at : NULL;
        memcpy(rooms[i].at, &place, sizeof(place));
        at += padded(rooms[i].count);
    }
    side->gradient = side->numbers + side->layout.count;
    side->moment1 = side->gradient + side->layout.count;
    side->moment2 = side->moment1 + side->layout.count;
    return true;
}

static bool open_loss(struct fusion_train *train)
{
    size_t pairs = train->params.pairs;
    struct train_loss *loss = &train->loss;
    loss->logits = try_floats(pairs * pairs);
    loss->most = try_floats(3 * pairs);
    loss->row_loss = mem_try_alloc_array(3 * pairs, sizeof(double));
    loss->right = mem_try_alloc_array(2 * pairs, sizeof(uint32_t));
    if (!loss->logits || !loss->most || !loss->row_loss || !loss->right)
        return false;
    loss->sum = loss->most + pairs;
    loss->column_share = loss->sum + pairs;
    loss->row_scale = loss->row_loss + pairs;
    loss->column_loss = loss->row_scale + pairs;
    return true;
}

static size_t scratch_of(const struct fusion_train_params *params)
{
    size_t most = (size_t)2 * params->pairs;
    for (uint32_t s = 0; s < FUSION_HEAD_SIDES; s++) {
        const struct fusion_config *config = &params->config[s];
        size_t d = config->dimension;
        size_t heads = config->heads;
        size_t floats = 2 * heads * d + (heads + 1) * (params->k + 1) + 6 * heads + 3 * d;
        most = floats > most ? floats : most;
    }
    return padded(most);
}

// Room for the largest second matrix of any product of a step.
static size_t gemm_room(const struct fusion_train_params *params)
{
    size_t pairs = params->pairs;
    size_t most = 0;
    for (uint32_t s = 0; s < FUSION_HEAD_SIDES; s++) {
        const struct fusion_config *config = &params->config[s];
        size_t d = config->dimension;
        size_t heads = config->heads;
        size_t mlp = config->mlp;
        const size_t all[] = {
            gemm_floats(d, d, 1),
            gemm_floats(d, d / heads, heads),
            gemm_floats(d / heads, d, heads),
            gemm_floats(d, pairs, heads),
            gemm_floats(mlp, d, 1),
            gemm_floats(d, mlp, 1),
            gemm_floats(mlp, pairs, 1),
            gemm_floats(pairs, d, 1),
        };
        for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
            most = all[i] > most ? all[i] : most;
    }
    return most;
}

enum status fusion_train_create(const struct fusion_train_params *params, uint32_t threads,
                                struct fusion_train **out, struct reason *why)
{
    assert(params && out);

    enum status status = check(params, why);
    if (status != STATUS_OK)
        return status;
    struct fusion_train *train = mem_alloc(sizeof(*train));
    train->params = *params;
    train->loops = loops_best();
    train->log_scale = logf(params->scale);
    bool is_whole = true;
    size_t numbers = 0;
    for (uint32_t s = 0; s < FUSION_HEAD_SIDES; s++) {
        train->side[s].config = &train->params.config[s];
        train->side[s].layout = fusion_layout_of(&params->config[s]);
        is_whole = is_whole && open_side(&train->side[s], params);
        numbers += train->side[s].layout.count + FUSION_TENSOR_COUNT * TRAIN_PART;
    }
    train->partials = numbers / TRAIN_PART;
    train->partial = mem_try_alloc_array(train->partials, sizeof(double));
    status = team_create(threads, &train->team, why);
    if (status == STATUS_OK && is_whole && train->partial && open_loss(train)) {
        train->scratch_floats = scratch_of(params);
        train->scratch = try_floats(train->scratch_floats * team_workers(train->team));
        is_whole =
            train->scratch && gemm_open(train->team, gemm_room(params), &train->gemm) == STATUS_OK;
    } else {
        is_whole = false;
    }
    if (!is_whole) {
        fusion_train_destroy(&train);
        return status != STATUS_OK ? status
                                   : reason_set(why, STATUS_NO_MEMORY, "",
                                                "no memory to train with %u pairs", params->pairs);
    }
    for (uint32_t s = 0; s < FUSION_HEAD_SIDES; s++)
        fusion_config_begin(&params->config[s], params->seed + s, train->side[s].numbers);
    *out = train;
    return STATUS_OK;
}

void fusion_train_destroy(struct fusion_train **train)
{
    assert(train);

    struct fusion_train *it = *train;
    if (!it)
        return;
    for (uint32_t s = 0; s < FUSION_HEAD_SIDES; s++) {
        mem_free(it->side[s].memory);
        mem_free(it->side[s].numbers);
    }
    mem_free(it->loss.logits);
    mem_free(it->loss.most);
    mem_free(it->loss.row_loss);
    mem_free(it->loss.right);
    mem_free(it->scratch);
    mem_free(it->partial);
    gemm_close(&it->gemm);
    team_destroy(&it->team);
    mem_free(it);
    *train = NULL;
}

// --- a step

// Linear up, then a cosine down.
static double rate_at(const struct fusion_train_params *params, uint64_t step)
{
    const double half_turn = 3.14159265358979323846;
    double rate = (double)params->rate;
    if (step < params->warmup)
        return rate * (double)(step + 1) / (double)params->warmup;
    double left = (double)(params->steps - params->warmup);
    double way = left > 0 ? (double)(step - params->warmup) / left : 1;
    double last = (double)params->rate_last;
    return rate * (last + (1 - last) * 0.5 * (1 + cos(half_turn * fmin(way, 1))));
}

static enum status check_batch(const struct fusion_train *train,
                               const struct fusion_train_batch *batch, struct reason *why)
{
    enum status status = check_count("pairs", batch->pairs, 2, train->params.pairs, why);
    for (uint32_t s = 0; s < FUSION_HEAD_SIDES && status == STATUS_OK; s++) {
        assert(batch->embeddings[s] && batch->payload[s] && batch->scores[s] && batch->counts[s]);
        assert(batch->pair_scores[s] || !train->params.config[s].pairing);
        for (uint32_t i = 0; i < batch->pairs && status == STATUS_OK; i++)
            status = check_count("counts", batch->counts[s][i], 0, train->params.k, why);
    }
    return status;
}

static enum status run_loss(struct fusion_train *train, const struct fusion_train_batch *batch,
                            bool drops, struct fusion_train_result *result, struct reason *why)
{
    enum status status = check_batch(train, batch, why);
    if (status != STATUS_OK)
        return status;
    train->batch = batch;
    train->pairs = batch->pairs;
    train->drops = drops && train->params.dropout > 0.0f;
    train_forward(train, MODALITY_IMAGE);
    train_forward(train, MODALITY_TEXT);
    train_loss(train, result);
    if (!isfinite(result->loss))
        return reason_set(why, STATUS_INVALID, "loss",
                          "is not finite: an embedding, a neighbour or a score of the batch is "
                          "not, or the rate is too high");
    return STATUS_OK;
}

enum status fusion_train_loss(struct fusion_train *train, const struct fusion_train_batch *batch,
                              struct fusion_train_result *result, struct reason *why)
{
    assert(train && batch && result);

    return run_loss(train, batch, false, result, why);
}

enum status fusion_train_step(struct fusion_train *train, const struct fusion_train_batch *batch,
                              struct fusion_train_result *result, struct reason *why)
{
    assert(train && batch && result);

    enum status status = run_loss(train, batch, true, result, why);
    if (status != STATUS_OK)
        return status;
    train_backward(train, MODALITY_IMAGE);
    train_backward(train, MODALITY_TEXT);
    result->norm = train_norm(train);
    if (!isfinite(result->norm))
        return reason_set(why, STATUS_INVALID, "gradient", "is not finite");
    result->rate = rate_at(&train->params, train->steps);
    train_optimise(train, result->rate, result->norm);
    train->steps++;
    return STATUS_OK;
}

const struct fusion_train_params *fusion_train_params(const struct fusion_train *train)
{
    assert(train);

    return &train->params;
}

uint64_t fusion_train_steps(const struct fusion_train *train)
{
    assert(train);

    return train->steps;
}

const float *fusion_train_numbers(const struct fusion_train *train, enum modality side)
{
    assert(train);

    return train->side[side].numbers;
}

const float *fusion_train_gradient(const struct fusion_train *train, enum modality side)
{
    assert(train);

    return train->side[side].gradient;
}

void fusion_train_set_numbers(struct fusion_train *train, enum modality side, const float *numbers)
{
    assert(train && numbers);

    memcpy(train->side[side].numbers, numbers, train->side[side].layout.count * sizeof(*numbers));
}
