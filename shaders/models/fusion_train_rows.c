// SPDX-License-Identifier: Apache-2.0
// What the passes do with all rows of a batch: each by itself, summed up, and times a matrix of the
// head.

#include <string.h>

#include "shaders/models/fusion_train_internal.h"

#define SUM_COLUMNS 64u // columns of a job of train_sum_rows()

struct each_row {
    struct fusion_train *train;
    enum modality side;
    train_rows body;
};

static void rows_job(void *context, uint32_t job, uint32_t worker)
{
    const struct each_row *each = context;
    struct fusion_train *train = each->train;
    float *scratch = train->scratch + (size_t)worker * train->scratch_floats;
    uint32_t end = (job + 1) * TRAIN_ROWS < train->pairs ? (job + 1) * TRAIN_ROWS : train->pairs;
    for (uint32_t row = job * TRAIN_ROWS; row < end; row++)
        each->body(train, &(struct train_row){each->side, row, scratch});
}

void train_each_row(struct fusion_train *train, enum modality side, train_rows body)
{
    struct each_row each = {train, side, body};
    team_run(train->team, (train->pairs + TRAIN_ROWS - 1) / TRAIN_ROWS, rows_job, &each);
}

struct sum_rows {
    const float *a;
    const float *b;
    uint32_t rows;
    uint32_t columns;
    float *target;
};

static void sum_job(void *context, uint32_t job, uint32_t worker)
{
    const struct sum_rows *sum = context;
    size_t first = (size_t)job * SUM_COLUMNS;
    size_t left = sum->columns - first;
    size_t count = left < SUM_COLUMNS ? left : SUM_COLUMNS;
    float total[SUM_COLUMNS] = {0};
    (void)worker;
    for (size_t row = 0; row < sum->rows; row++) {
        const float *a = sum->a + row * sum->columns + first;
        const float *b = sum->b ? sum->b + row * sum->columns + first : NULL;
        for (size_t c = 0; c < count; c++)
            total[c] += b ? a[c] * b[c] : a[c];
    }
    memcpy(sum->target + first, total, count * sizeof(*total));
}

void train_sum_rows(struct fusion_train *train, const float *a, const float *b, uint32_t rows,
                    uint32_t columns, float *target)
{
    struct sum_rows sum = {.a = a, .b = b, .rows = rows, .columns = columns};
    sum.target = target;
    team_run(train->team, (columns + SUM_COLUMNS - 1) / SUM_COLUMNS, sum_job, &sum);
}

void train_linear(struct fusion_train *train, const struct train_linear *args)
{
    for (uint32_t row = 0; row < args->rows && args->bias; row++)
        memcpy(args->target + (size_t)row * args->columns, args->bias,
               args->columns * sizeof(float));
    gemm_run(train->gemm, &(struct gemm_product){
                              .a = {args->source, args->depth, 1},
                              .b = {args->weights, 1, args->depth},
                              .target = args->target,
                              .target_step = args->columns,
                              .rows = args->rows,
                              .columns = args->columns,
                              .depth = args->depth,
                              .add = args->bias != NULL,
                          });
}

void train_linear_back(struct fusion_train *train, const struct train_linear_back *args)
{
    const struct train_linear *forward = &args->forward;
    struct gemm_product product = {
        .a = {forward->target, forward->columns, 1},
        .b = {forward->weights, forward->depth, 1},
        .target = args->d_source,
        .target_step = forward->depth,
        .rows = forward->rows,
        .columns = forward->depth,
        .depth = forward->columns,
    };
    if (args->d_source)
        gemm_run(train->gemm, &product);
    product.a = (struct gemm_view){forward->target, 1, forward->columns};
    product.b.at = forward->source;
    product.target = args->d_weights;
    product.rows = forward->columns;
    product.depth = forward->rows;
    if (args->d_weights)
        gemm_run(train->gemm, &product);
    if (args->d_bias)
        train_sum_rows(train, forward->target, NULL, forward->rows, forward->columns, args->d_bias);
}
