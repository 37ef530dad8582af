// SPDX-License-Identifier: Apache-2.0
// The forward pass, some queries at a time. Products of weights go through the operator table,
// whose rows do not depend on each other; what lies between them is done here, query by query.
//
// With U_h = Wk_h^T q_h the logit of token i is <U_h, y_i>, and with c_h = sum(a_hi y_i) the head's
// output is Wv_h c_h + bv_h, since the shares a_hi sum to 1. So tokens meet no matrix at all.
//
// Neighbours are put in one order first, by score and then by the bytes of their payload, so that
// sums do not depend on the order in which they came. The sum that the residual starts from is made
// in double as fusion_refine() makes it: a head whose output layers are zero gives the bits of its
// baseline.

#include "shaders/models/fusion_head.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "proto/base/mem.h"
#include "shaders/cpu/loops.h"
#include "shaders/models/fusion_head_internal.h"

#define ALIGN 16u // floats that an array begins at a multiple of
#define ROWS_MAX 64u
#define ROWS_FLOATS ((size_t)1 << 21) // of the largest array of a batch
#define TOKENS_MAX ((size_t)K_WIRE_MAX + 1)

// Arrays of one batch, in the head's scratch memory.
struct arrays {
    float *x0;      // [rows][d] the query's token
    float *y0;      // [rows][d] normed
    float *query;   // [rows][d]
    float *split;   // [rows][d / heads]: one head's part, for a product
    float *carried; // [heads][rows][d]: U
    float *summed;  // [heads][rows][d]: c
    float *values;  // [rows][d]: o
    float *hidden;  // [rows][d]: h, then out
    float *normed;  // [rows][d]
    float *mlp;     // [rows][mlp]
    float *added;   // [rows][d]
    float *tokens;  // [TOKENS_MAX][d]: y of one query
    float *logits;  // [TOKENS_MAX]
    size_t floats;  // of all
};

struct run {
    struct fusion_head *head;
    const struct fusion_config *config;
    const struct fusion_side *side;
    struct fusion_head_query *queries;
    uint32_t rows;
    struct arrays arrays;
    struct reason *why;
};

// target may be source.
static void layernorm(const struct run *run, const float *source, enum fusion_tensor gain_tensor,
                      enum fusion_tensor bias_tensor, float *target)
{
    uint32_t d = run->config->dimension;
    const struct fusion_place *place = run->side->layout.tensor;
    const float *gain = run->side->numbers + place[gain_tensor].offset;
    const float *bias = run->side->numbers + place[bias_tensor].offset;
    assert(run->side->numbers && place[gain_tensor].count == d);
    const struct loops *loops = loops_best();
    (void)loops->standardise(source, run->config->epsilon, d, target);
    loops->multiply(target, gain, d, target);
    loops->add_scaled(1.0f, bias, d, target);
}

// --- what fusion_head_prepare() makes

// Points the arrays at `memory` for `rows` queries at a time; with NULL only floats is of use.
static struct arrays arrays_at(const struct fusion_config *config, size_t rows, float *memory)
{
    size_t d = config->dimension;
    size_t heads = config->heads;
    struct arrays arrays = {0};
    struct {
        float **at;
        size_t count;
    } all[] = {
        {&arrays.x0, rows * d},
        {&arrays.y0, rows * d},
        {&arrays.query, rows * d},
        {&arrays.split, rows * d / heads},
        {&arrays.carried, heads * rows * d},
        {&arrays.summed, heads * rows * d},
        {&arrays.values, rows * d},
        {&arrays.hidden, rows * d},
        {&arrays.normed, rows * d},
        {&arrays.mlp, rows * config->mlp},
        {&arrays.added, rows * d},
        {&arrays.tokens, TOKENS_MAX * d},
        {&arrays.logits, TOKENS_MAX},
    };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (memory)
            *all[i].at = memory + arrays.floats;
        arrays.floats += (all[i].count + ALIGN - 1) / ALIGN * ALIGN;
    }
    return arrays;
}

struct piece {
    struct ops_matrix **out;
    const float *weights;
    const float *bias;
    uint32_t columns;
    uint32_t depth;
    enum ops_epilogue epilogue;
};

static enum status prepare_piece(struct ops *ops, const struct piece *piece, struct reason *why)
{
    return ops_matrix_create(ops,
                             &(struct ops_matrix_params){
                                 .weights = piece->weights,
                                 .bias = piece->bias,
                                 .columns = piece->columns,
                                 .depth = piece->depth,
                                 .epilogue = piece->epilogue,
                             },
                             piece->out, why);
}

// Wk_h [d / heads][d] turned: a head's query times its columns is what meets the tokens.
static enum status prepare_key(struct ops *ops, const struct fusion_config *config, uint32_t h,
                               struct fusion_side *side, struct reason *why)
{
    uint32_t d = config->dimension;
    uint32_t part = d / config->heads;
    const float *weights =
        side->numbers + side->layout.tensor[FUSION_KEY_WEIGHT].offset + (size_t)h * part * d;
    float *turned = mem_try_alloc_array((size_t)part * d, sizeof(*turned));
    if (!turned)
        return reason_set(why, STATUS_NO_MEMORY, "", "no memory for the head's keys");
    for (uint32_t row = 0; row < part; row++) {
        for (uint32_t column = 0; column < d; column++)
            turned[(size_t)column * part + row] = weights[(size_t)row * d + column];
    }
    enum status status =
        prepare_piece(ops, &(struct piece){&side->key[h], turned, NULL, d, part, OPS_PLAIN}, why);
    mem_free(turned);
    return status;
}

static enum status prepare_side(struct ops *ops, const struct fusion_config *config,
                                struct fusion_side *side, struct reason *why)
{
    uint32_t d = config->dimension;
    uint32_t part = d / config->heads;
    const struct fusion_place *place = side->layout.tensor;
    const float *numbers = side->numbers;
    enum ops_epilogue f = config->activation == FUSION_GELU ? OPS_GELU : OPS_QUICK_GELU;
    const struct piece pieces[] = {
        {&side->query, numbers + place[FUSION_QUERY_WEIGHT].offset,
         numbers + place[FUSION_QUERY_BIAS].offset, d, d, OPS_PLAIN},
        {&side->out, numbers + place[FUSION_OUT_WEIGHT].offset,
         numbers + place[FUSION_OUT_BIAS].offset, d, d, OPS_PLAIN},
        {&side->mlp1, numbers + place[FUSION_MLP1_WEIGHT].offset,
         numbers + place[FUSION_MLP1_BIAS].offset, config->mlp, d, f},
        {&side->mlp2, numbers + place[FUSION_MLP2_WEIGHT].offset,
         numbers + place[FUSION_MLP2_BIAS].offset, d, config->mlp, OPS_PLAIN},
    };
    enum status status = STATUS_OK;
    for (size_t i = 0; i < (config->mlp > 0 ? 4 : 2) && status == STATUS_OK; i++)
        status = prepare_piece(ops, &pieces[i], why);
    for (uint32_t h = 0; h < config->heads && status == STATUS_OK; h++) {
        const struct piece value = {&side->value[h],
                                    numbers + place[FUSION_VALUE_WEIGHT].offset +
                                        (size_t)h * part * d,
                                    numbers + place[FUSION_VALUE_BIAS].offset + (size_t)h * part,
                                    part,
                                    d,
                                    OPS_PLAIN};
        status = prepare_piece(ops, &value, why);
        if (status == STATUS_OK)
            status = prepare_key(ops, config, h, side, why);
    }
    return status;
}

enum status fusion_head_prepare(struct fusion_head *head, uint32_t threads, struct reason *why)
{
    int failed = pthread_mutex_init(&head->turn, NULL);
    assert(failed == 0);
    (void)failed;

    size_t widest = head->info.dimension;
    size_t floats = 0;
    size_t rows = ROWS_MAX;
    for (uint32_t s = 0; s < FUSION_HEAD_SIDES; s++) {
        const struct fusion_config *config = &head->info.config[s];
        if (!config->block)
            continue;
        size_t fit = ROWS_FLOATS / ((size_t)config->heads * config->dimension);
        rows = fit < rows ? fit : rows;
        widest = config->mlp > widest ? config->mlp : widest;
    }
    head->rows = rows < 1 ? 1 : (uint32_t)rows;
    for (uint32_t s = 0; s < FUSION_HEAD_SIDES; s++) {
        size_t some = arrays_at(&head->info.config[s], head->rows, NULL).floats;
        floats = some > floats ? some : floats;
    }
    head->scratch = mem_try_alloc_aligned(64, floats * sizeof(float));
    if (!head->scratch)
        return reason_set(why, STATUS_NO_MEMORY, "", "no memory for %zu numbers", floats);

    enum status status = ops_open("cpu", threads, &head->ops, why);
    if (status != STATUS_OK)
        return status;
    size_t count = ops_rows_padded(head->ops, head->rows) * widest;
    status = ops_alloc(head->ops, count, &head->source, why);
    if (status == STATUS_OK)
        status = ops_alloc(head->ops, count, &head->target, why);
    for (uint32_t s = 0; s < FUSION_HEAD_SIDES && status == STATUS_OK; s++) {
        if (head->info.config[s].block)
            status = prepare_side(head->ops, &head->info.config[s], &head->side[s], why);
    }
    return status;
}

void fusion_head_release(struct fusion_head *head)
{
    for (uint32_t s = 0; s < FUSION_HEAD_SIDES && head->ops; s++) {
        struct fusion_side *side = &head->side[s];
        ops_matrix_destroy(head->ops, &side->query);
        ops_matrix_destroy(head->ops, &side->out);
        ops_matrix_destroy(head->ops, &side->mlp1);
        ops_matrix_destroy(head->ops, &side->mlp2);
        for (uint32_t h = 0; h < FUSION_HEADS_MAX; h++) {
            ops_matrix_destroy(head->ops, &side->key[h]);
            ops_matrix_destroy(head->ops, &side->value[h]);
        }
    }
    if (head->ops) {
        ops_free(head->ops, &head->source);
        ops_free(head->ops, &head->target);
    }
    ops_close(&head->ops);
    mem_free(head->scratch);
}

// --- one query's part

static bool is_ahead(const struct fusion_neighbours *neighbours, size_t a, size_t b, uint32_t d)
{
    if (neighbours->scores[a] > neighbours->scores[b])
        return true;
    if (neighbours->scores[a] < neighbours->scores[b])
        return false;
    int order = memcmp(neighbours->payload[a], neighbours->payload[b], d * sizeof(float));
    if (order != 0 || !neighbours->pair_scores)
        return order < 0;
    return neighbours->pair_scores[a] > neighbours->pair_scores[b];
}

// The neighbours of a query in the one order that does not show where they came from.
struct sorted {
    float scores[K_WIRE_MAX];
    const float *payload[K_WIRE_MAX];
    float pair_scores[K_WIRE_MAX];
};

// By insertion: they nearly always come in this order.
static void sort_neighbours(const struct fusion_neighbours *neighbours, uint32_t d,
                            struct sorted *sorted)
{
    uint32_t order[K_WIRE_MAX];
    for (uint32_t i = 0; i < neighbours->count; i++) {
        uint32_t at = i;
        for (; at > 0 && is_ahead(neighbours, i, order[at - 1], d); at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
    for (uint32_t i = 0; i < neighbours->count; i++) {
        sorted->scores[i] = neighbours->scores[order[i]];
        sorted->payload[i] = neighbours->payload[order[i]];
        sorted->pair_scores[i] = neighbours->pair_scores ? neighbours->pair_scores[order[i]] : 0.0f;
    }
}

// The row of the type embedding, or NULL.
static const float *type_of(const struct run *run, uint32_t type)
{
    const struct fusion_place *place = &run->side->layout.tensor[FUSION_TYPE];
    return place->count > 0
               ? run->side->numbers + place->offset + (size_t)type * run->config->dimension
               : NULL;
}

// x_0 and y_0 of query `row`.
static void make_query_token(const struct run *run, uint32_t row)
{
    uint32_t d = run->config->dimension;
    const float *query = run->queries[row].query;
    const float *type = type_of(run, 0);
    float *x0 = run->arrays.x0 + (size_t)row * d;
    float *y0 = run->arrays.y0 + (size_t)row * d;
    for (uint32_t i = 0; i < d; i++)
        x0[i] = type ? query[i] + type[i] : query[i];
    if (run->config->norm == FUSION_NORM_PRE)
        layernorm(run, x0, FUSION_NORM1_GAIN, FUSION_NORM1_BIAS, y0);
    else
        memcpy(y0, x0, d * sizeof(*y0));
}

// y_i of a neighbour.
static void make_token(const struct run *run, const float *payload, float score, float *token)
{
    uint32_t d = run->config->dimension;
    const float *type = type_of(run, 1);
    assert(payload && run->side->numbers);
    const struct fusion_place *embedding = &run->side->layout.tensor[FUSION_SCORE_EMBEDDING];
    for (uint32_t i = 0; i < d; i++)
        token[i] = type ? payload[i] + type[i] : payload[i];
    const float *direction = run->side->numbers + embedding->offset;
    for (uint32_t i = 0; i < embedding->count; i++)
        token[i] += score * direction[i];
    if (run->config->norm == FUSION_NORM_PRE)
        layernorm(run, token, FUSION_NORM1_GAIN, FUSION_NORM1_BIAS, token);
}

// Softmax in place, less the largest, so that nothing overflows.
static void softmax(float *values, size_t count)
{
    float largest = values[0];
    for (size_t i = 1; i < count; i++)
        largest = fmaxf(largest, values[i]);
    float total = 0.0f;
    for (size_t i = 0; i < count; i++) {
        values[i] = expf(values[i] - largest);
        total += values[i];
    }
    for (size_t i = 0; i < count; i++)
        values[i] /= total;
}

// One head of one query: `carried` [d] meets the tokens, `summed` [d] is what it takes of them.
static void attend(const struct run *run, const float *carried, const float *scores, size_t count,
                   float bias, float *summed)
{
    uint32_t d = run->config->dimension;
    float *logits = run->arrays.logits;
    uint32_t part = d / run->config->heads;
    float scale = 1.0f / sqrtf((float)part);
    const struct loops *loops = loops_best();
    loops->meet(run->arrays.tokens, count + 1, carried, 1, d, logits);
    for (size_t i = 0; i <= count; i++)
        logits[i] *= scale;
    for (size_t i = 0; i < count; i++)
        logits[i + 1] += bias * scores[i];
    softmax(logits, count + 1);
    loops->mix(logits, 1, run->arrays.tokens, count + 1, d, summed);
}

// c of all heads of query `row`.
static void attend_all(const struct run *run, uint32_t row)
{
    uint32_t d = run->config->dimension;
    const struct fusion_neighbours *neighbours = &run->queries[row].neighbours;
    const struct fusion_place *bias = &run->side->layout.tensor[FUSION_SCORE_BIAS];
    struct sorted sorted;
    sort_neighbours(neighbours, d, &sorted);
    memcpy(run->arrays.tokens, run->arrays.y0 + (size_t)row * d, d * sizeof(float));
    for (size_t i = 0; i < neighbours->count; i++)
        make_token(run, sorted.payload[i], sorted.scores[i], run->arrays.tokens + (i + 1) * d);
    for (uint32_t h = 0; h < run->config->heads; h++) {
        size_t at = ((size_t)h * run->rows + row) * d;
        attend(run, run->arrays.carried + at, sorted.scores, neighbours->count,
               bias->count > 0 ? run->side->numbers[bias->offset + h] : 0.0f,
               run->arrays.summed + at);
    }
}

// start + delta as a unit vector, in double. False when there is nothing to scale.
static bool finish_query(const struct run *run, uint32_t row)
{
    const struct fusion_config *config = run->config;
    uint32_t d = config->dimension;
    struct fusion_head_query *query = &run->queries[row];
    const float *out = run->arrays.hidden + (size_t)row * d;
    const float *x0 = run->arrays.x0 + (size_t)row * d;
    const struct fusion_params start = fusion_config_start(config, run->side->numbers);
    struct sorted sorted;
    double refined[DIMENSION_MAX];
    sort_neighbours(&query->neighbours, d, &sorted);
    if (config->baseline == FUSION_BASELINE_NONE) {
        for (uint32_t i = 0; i < d; i++)
            refined[i] = (double)out[i];
    } else {
        fusion_start(&start, query->query, d,
                     &(struct fusion_neighbours){query->neighbours.count, sorted.scores,
                                                 sorted.payload, sorted.pair_scores},
                     refined);
        for (uint32_t i = 0; i < d && config->block; i++)
            refined[i] += (double)(out[i] - x0[i]);
    }
    if (!fusion_scale_to_unit(refined, d))
        return false;
    for (uint32_t i = 0; i < d; i++)
        query->refined[i] = (float)refined[i];
    return true;
}

// --- the batch

static enum status product(const struct run *run, const struct ops_matrix *matrix,
                           const float *source, size_t depth, float *target)
{
    struct fusion_head *head = run->head;
    size_t columns = ops_matrix_columns(matrix);
    enum status status =
        ops_upload(head->ops, head->source, 0, source, run->rows * depth, run->why);
    if (status == STATUS_OK)
        status =
            ops_product(head->ops, matrix, (struct ops_view){head->source, 0, run->rows, depth},
                        (struct ops_view){head->target, 0, run->rows, columns}, run->why);
    if (status == STATUS_OK)
        status = ops_download(head->ops, head->target, 0, target, run->rows * columns, run->why);
    return status;
}

// Queries, and U of each head.
static enum status carry(const struct run *run)
{
    uint32_t d = run->config->dimension;
    uint32_t part = d / run->config->heads;
    enum status status = product(run, run->side->query, run->arrays.y0, d, run->arrays.query);
    for (uint32_t h = 0; h < run->config->heads && status == STATUS_OK; h++) {
        for (uint32_t row = 0; row < run->rows; row++)
            memcpy(run->arrays.split + (size_t)row * part,
                   run->arrays.query + (size_t)row * d + (size_t)h * part, part * sizeof(float));
        status = product(run, run->side->key[h], run->arrays.split, part,
                         run->arrays.carried + (size_t)h * run->rows * d);
    }
    return status;
}

// o of each head, and h = x_0 + Wo o + bo.
static enum status output(const struct run *run)
{
    uint32_t d = run->config->dimension;
    uint32_t part = d / run->config->heads;
    enum status status = STATUS_OK;
    for (uint32_t h = 0; h < run->config->heads && status == STATUS_OK; h++) {
        status = product(run, run->side->value[h], run->arrays.summed + (size_t)h * run->rows * d,
                         d, run->arrays.split);
        for (uint32_t row = 0; row < run->rows; row++)
            memcpy(run->arrays.values + (size_t)row * d + (size_t)h * part,
                   run->arrays.split + (size_t)row * part, part * sizeof(float));
    }
    if (status == STATUS_OK)
        status = product(run, run->side->out, run->arrays.values, d, run->arrays.hidden);
    for (size_t i = 0; i < (size_t)run->rows * d; i++)
        run->arrays.hidden[i] += run->arrays.x0[i];
    return status;
}

static void norm_rows(const struct run *run, const float *source, enum fusion_tensor gain,
                      enum fusion_tensor bias, float *target)
{
    uint32_t d = run->config->dimension;
    for (uint32_t row = 0; row < run->rows; row++)
        layernorm(run, source + (size_t)row * d, gain, bias, target + (size_t)row * d);
}

// out from h.
static enum status perceive(const struct run *run)
{
    const struct fusion_config *config = run->config;
    const struct arrays *arrays = &run->arrays;
    bool is_post = config->norm == FUSION_NORM_POST;
    if (is_post)
        norm_rows(run, arrays->hidden, FUSION_NORM1_GAIN, FUSION_NORM1_BIAS, arrays->hidden);
    if (config->mlp == 0)
        return STATUS_OK;
    const float *source = arrays->hidden;
    if (config->norm == FUSION_NORM_PRE) {
        norm_rows(run, arrays->hidden, FUSION_NORM2_GAIN, FUSION_NORM2_BIAS, arrays->normed);
        source = arrays->normed;
    }
    enum status status = product(run, run->side->mlp1, source, config->dimension, arrays->mlp);
    if (status == STATUS_OK)
        status = product(run, run->side->mlp2, arrays->mlp, config->mlp, arrays->added);
    for (size_t i = 0; i < (size_t)run->rows * config->dimension; i++)
        arrays->hidden[i] += arrays->added[i];
    if (is_post)
        norm_rows(run, arrays->hidden, FUSION_NORM2_GAIN, FUSION_NORM2_BIAS, arrays->hidden);
    return status;
}

// The transformer: x_0 and out of every query.
static enum status run_block(const struct run *run)
{
    for (uint32_t row = 0; row < run->rows; row++)
        make_query_token(run, row);
    enum status status = carry(run);
    for (uint32_t row = 0; row < run->rows && status == STATUS_OK; row++)
        attend_all(run, row);
    if (status == STATUS_OK)
        status = output(run);
    return status == STATUS_OK ? perceive(run) : status;
}

static enum status run_rows(struct run *run)
{
    run->arrays = arrays_at(run->config, run->rows, run->head->scratch);
    enum status status = run->config->block ? run_block(run) : STATUS_OK;
    for (uint32_t row = 0; row < run->rows && status == STATUS_OK; row++) {
        struct fusion_head_query *query = &run->queries[row];
        query->status = STATUS_OK;
        if (query->neighbours.count == 0)
            memmove(query->refined, query->query, run->config->dimension * sizeof(float));
        else if (!finish_query(run, row))
            query->status = STATUS_INVALID;
    }
    return status;
}

enum status fusion_head_refine_batch(struct fusion_head *head, enum modality side,
                                     struct fusion_head_query *queries, size_t count,
                                     struct reason *why)
{
    assert(head && (queries || count == 0));
    assert(side == MODALITY_IMAGE || side == MODALITY_TEXT);
    for (size_t i = 0; i < count; i++)
        assert(queries[i].query && queries[i].refined && queries[i].neighbours.count <= K_WIRE_MAX);

    enum status status = STATUS_OK;
    (void)pthread_mutex_lock(&head->turn);
    for (size_t done = 0; done < count && status == STATUS_OK; done += head->rows) {
        size_t left = count - done;
        struct run run = {
            .head = head,
            .config = &head->info.config[side],
            .side = &head->side[side],
            .queries = queries + done,
            .rows = left < head->rows ? (uint32_t)left : head->rows,
            .why = why,
        };
        status = run_rows(&run);
    }
    (void)pthread_mutex_unlock(&head->turn);
    return status;
}

enum status fusion_head_refine(struct fusion_head *head, enum modality side,
                               struct fusion_head_query *query)
{
    enum status status = fusion_head_refine_batch(head, side, query, 1, NULL);
    return status == STATUS_OK ? query->status : status;
}
