// SPDX-License-Identifier: Apache-2.0
// One term at a time: inner products of all against all, cross entropies by rows and by columns,
// and their gradient in the place of the products.
//
//   l_ij = s <a_i, b_j>,  L = sum_i (log sum_j e^l_ij - mean over targets of l_ij) / 2B + the same by columns
//   d_l_ij = (softmax_row_ij - target_row_ij + softmax_column_ij - target_column_ij) / 2B
//
// and with the absolute error, t_ij being 1 for a target and P_i the sum of softmax_row_ij t_ij:
//
//   L = sum_i (1 - P_i) / 2B + the same by columns,  d_l_ij = (softmax_row_ij (P_i - t_ij) + the same by columns) / 2B
//
// Sums over a row or a column run in their order, so the number of threads does not show.

#include <assert.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "shaders/models/fusion_train_internal.h"

#define COLUMNS 64u // of a job

struct term {
    struct fusion_train *train;
    const float *a; // [B][d]
    const float *b;
    float scale;
    float weight;
};

enum pairing {
    PAIR_TARGET, // one that should be great
    PAIR_OTHER,  // one that should be small
    PAIR_OUT,    // of the same entity: left out
};

static enum pairing pairing_of(const struct fusion_train *train, uint32_t i, uint32_t j)
{
    if (i == j)
        return PAIR_TARGET;
    const uint64_t *entities = train->batch->entities;
    if (!entities || entities[i] != entities[j])
        return PAIR_OTHER;
    return train->params.same == FUSION_SAME_POSITIVE ? PAIR_TARGET : PAIR_OUT;
}

// Logits of rows; the sums of columns need all of them first.
static void scale_row(void *context, uint32_t row, uint32_t worker)
{
    const struct term *term = context;
    struct fusion_train *train = term->train;
    uint32_t pairs = train->pairs;
    float *logits = train->loss.logits + (size_t)row * pairs;
    (void)worker;
    for (uint32_t j = 0; j < pairs; j++)
        logits[j] *= term->scale;
}

// Whether the greatest logit of row (or column) `i` belongs to its entity: `greatest` is where.
static bool is_right(const struct fusion_train *train, uint32_t i, uint32_t greatest)
{
    const uint64_t *entities = train->batch->entities;
    return greatest == i || (entities && entities[i] == entities[greatest]);
}

static bool is_absolute(const struct fusion_train *train)
{
    return train->params.loss == FUSION_LOSS_ABSOLUTE;
}

// Some columns that lie beside each other.
struct columns {
    uint32_t first;
    uint32_t count;
    uint32_t greatest[COLUMNS]; // the row of the greatest logit
    float best[COLUMNS];        // which it is
    double targets[COLUMNS];    // sum of the targets' logits
    float shares[COLUMNS];      // sum of the targets' exponentials
    uint32_t target_count[COLUMNS];
};

static void read_columns(struct fusion_train *train, struct columns *columns)
{
    float *most = train->loss.most + columns->first;
    for (uint32_t c = 0; c < columns->count; c++) {
        most[c] = -FLT_MAX;
        columns->best[c] = -FLT_MAX;
    }
    for (uint32_t i = 0; i < train->pairs; i++) {
        const float *row = train->loss.logits + (size_t)i * train->pairs + columns->first;
        for (uint32_t c = 0; c < columns->count; c++) {
            enum pairing pairing = pairing_of(train, i, columns->first + c);
            if (row[c] > columns->best[c]) {
                columns->best[c] = row[c];
                columns->greatest[c] = i;
            }
            if (pairing != PAIR_OUT && row[c] > most[c])
                most[c] = row[c];
            if (pairing == PAIR_TARGET) {
                columns->targets[c] += (double)row[c];
                columns->target_count[c]++;
            }
        }
    }
}

static void add_up_columns(struct fusion_train *train, struct columns *columns)
{
    const float *most = train->loss.most + columns->first;
    float *sum = train->loss.sum + columns->first;
    memset(sum, 0, columns->count * sizeof(*sum));
    for (uint32_t i = 0; i < train->pairs; i++) {
        const float *row = train->loss.logits + (size_t)i * train->pairs + columns->first;
        float some[COLUMNS];
        for (uint32_t c = 0; c < columns->count; c++) {
            bool is_out = pairing_of(train, i, columns->first + c) == PAIR_OUT;
            some[c] = is_out ? -FLT_MAX : row[c] - most[c];
        }
        train->loops->exponential(some, columns->count);
        for (uint32_t c = 0; c < columns->count; c++) {
            sum[c] += some[c];
            if (pairing_of(train, i, columns->first + c) == PAIR_TARGET)
                columns->shares[c] += some[c];
        }
    }
}

static void column_job(void *context, uint32_t job, uint32_t worker)
{
    const struct term *term = context;
    struct fusion_train *train = term->train;
    struct train_loss *loss = &train->loss;
    struct columns columns = {.first = job * COLUMNS};
    uint32_t left = train->pairs - columns.first;
    (void)worker;
    columns.count = left < COLUMNS ? left : COLUMNS;
    read_columns(train, &columns);
    add_up_columns(train, &columns);
    for (uint32_t c = 0; c < columns.count; c++) {
        uint32_t at = columns.first + c;
        loss->column_share[at] = columns.shares[c] / loss->sum[at];
        loss->column_loss[at] = is_absolute(train)
                                    ? 1.0 - (double)loss->column_share[at]
                                    : log((double)loss->sum[at]) + (double)loss->most[at] -
                                          columns.targets[c] / columns.target_count[c];
        loss->right[train->pairs + at] = is_right(train, at, columns.greatest[c]);
    }
}

static uint32_t count_targets(const struct fusion_train *train, uint32_t i)
{
    uint32_t count = 0;
    for (uint32_t j = 0; j < train->pairs; j++)
        count += pairing_of(train, i, j) == PAIR_TARGET;
    return count;
}

// The loss of a row, and d of its logits' inner products in their place.
static void row_job(void *context, uint32_t i, uint32_t worker)
{
    const struct term *term = context;
    struct fusion_train *train = term->train;
    struct train_loss *loss = &train->loss;
    uint32_t pairs = train->pairs;
    float *row = loss->logits + (size_t)i * pairs;
    float *own = train->scratch + (size_t)worker * train->scratch_floats;
    float *other = own + pairs;
    float most = -FLT_MAX;
    uint32_t greatest = 0;
    for (uint32_t j = 0; j < pairs; j++) {
        if (row[j] > row[greatest])
            greatest = j;
        if (row[j] > most && pairing_of(train, i, j) != PAIR_OUT)
            most = row[j];
    }
    for (uint32_t j = 0; j < pairs; j++) {
        bool is_out = pairing_of(train, i, j) == PAIR_OUT;
        own[j] = is_out ? -FLT_MAX : row[j] - most;
        other[j] = is_out ? -FLT_MAX : row[j] - loss->most[j];
    }
    train->loops->exponential(own, pairs);
    train->loops->exponential(other, pairs);
    float sum = 0.0f;
    float target_share = 0.0f;
    for (uint32_t j = 0; j < pairs; j++) {
        sum += own[j];
        if (pairing_of(train, i, j) == PAIR_TARGET)
            target_share += own[j];
    }
    target_share /= sum;
    uint32_t targets = count_targets(train, i);
    double target_sum = 0;
    double scale_sum = 0;
    float factor = term->weight / (2.0f * (float)pairs);
    for (uint32_t j = 0; j < pairs; j++) {
        enum pairing pairing = pairing_of(train, i, j);
        float by_row = own[j] / sum;
        float by_column = other[j] / loss->sum[j];
        float is_target = pairing == PAIR_TARGET ? 1.0f : 0.0f;
        target_sum += pairing == PAIR_TARGET ? (double)row[j] : 0.0;
        // Pairs of one entity are as many by column as by row.
        float d = is_absolute(train) ? by_row * (target_share - is_target) +
                                           by_column * (loss->column_share[j] - is_target)
                                     : by_row + by_column - is_target * 2.0f / (float)targets;
        d = pairing == PAIR_OUT ? 0.0f : d * factor;
        scale_sum += (double)d * (double)row[j];
        row[j] = d * term->scale;
    }
    loss->row_loss[i] = is_absolute(train) ? 1.0 - (double)target_share
                                           : log((double)sum) + (double)most - target_sum / targets;
    loss->row_scale[i] = scale_sum;
    loss->right[i] = is_right(train, i, greatest);
}

// Adds to d_a or d_b, where it is wanted.
static void push_back(struct fusion_train *train, const struct term *term, float *d_a, float *d_b,
                      uint32_t d)
{
    uint32_t pairs = train->pairs;
    struct gemm_product product = {
        .a = {train->loss.logits, pairs, 1},
        .b = {term->b, d, 1},
        .target_step = d,
        .rows = pairs,
        .columns = d,
        .depth = pairs,
        .add = true,
    };
    product.target = d_a;
    if (d_a)
        gemm_run(train->gemm, &product);
    product.a = (struct gemm_view){train->loss.logits, 1, pairs};
    product.b.at = term->a;
    product.target = d_b;
    if (d_b)
        gemm_run(train->gemm, &product);
}

// Loss and share that is right of one term; adds to the gradients.
static void run_term(struct fusion_train *train, const struct term *term, float *d_a, float *d_b,
                     double *value, double *right)
{
    uint32_t pairs = train->pairs;
    uint32_t d = train->params.config[0].dimension;
    struct train_loss *loss = &train->loss;
    struct term copy = *term;
    gemm_run(train->gemm, &(struct gemm_product){
                              .a = {term->a, d, 1},
                              .b = {term->b, 1, d},
                              .target = loss->logits,
                              .target_step = pairs,
                              .rows = pairs,
                              .columns = pairs,
                              .depth = d,
                          });
    team_run(train->team, pairs, scale_row, &copy);
    team_run(train->team, (pairs + COLUMNS - 1) / COLUMNS, column_job, &copy);
    team_run(train->team, pairs, row_job, &copy);
    double sum = 0;
    double rights = 0;
    for (uint32_t i = 0; i < pairs; i++) {
        sum += loss->row_loss[i] + loss->column_loss[i];
        rights += loss->right[i] + loss->right[pairs + i];
        train->d_log_scale += loss->row_scale[i];
    }
    *value = sum / (2.0 * pairs);
    *right = rights / (2.0 * pairs);
    push_back(train, term, d_a, d_b, d);
}

void train_loss(struct fusion_train *train, struct fusion_train_result *result)
{
    struct train_side *image = &train->side[MODALITY_IMAGE];
    struct train_side *text = &train->side[MODALITY_TEXT];
    size_t floats = (size_t)train->pairs * train->params.config[0].dimension;
    const float *const *given = train->batch->embeddings;
    float scale = expf(train->log_scale);
    const struct {
        const float *a;
        const float *b;
        float *d_a;
        float *d_b;
    } terms[FUSION_TRAIN_TERMS] = {
        {image->refined, text->refined, image->d_refined, text->d_refined},
        {image->refined, given[MODALITY_TEXT], image->d_refined, NULL},
        {given[MODALITY_IMAGE], text->refined, NULL, text->d_refined},
    };
    memset(image->d_refined, 0, floats * sizeof(float));
    memset(text->d_refined, 0, floats * sizeof(float));
    train->d_log_scale = 0;
    *result = (struct fusion_train_result){.scale = (double)scale};
    for (uint32_t t = 0; t < FUSION_TRAIN_TERMS; t++) {
        const struct term term = {train, terms[t].a, terms[t].b, scale, train->params.weight[t]};
        run_term(train, &term, terms[t].d_a, terms[t].d_b, &result->term[t], &result->right[t]);
        result->loss += (double)term.weight * result->term[t];
    }
}
