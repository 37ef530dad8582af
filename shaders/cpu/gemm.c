// SPDX-License-Identifier: Apache-2.0
// First all of b is laid out in panels, as dense_panels.c does with weights; then jobs of a group
// of rows and a piece of panels. A matrix whose depth lies the wrong way is turned in squares of 16
// x 16, so that each cache line that is read or written is used whole.

#include "shaders/cpu/gemm.h"

#include <assert.h>
#include <string.h>

#include "proto/base/mem.h"
#include "shaders/cpu/dense_group.h"

#define ALIGNMENT 64u
#define JOBS_EACH 4u // that a worker should get
#define SQUARE 16u
#define PLAIN_PANEL 16u
#define PLAIN_ROWS 4u

struct gemm {
    struct team *team;
    const struct dense_fma *fma;
    float *packed; // of b
    size_t floats;
    uint64_t runs;                              // counted from 1
    struct dense_group group[TEAM_WORKERS_MAX]; // of each worker
};

static const float no_bias[DENSE_FMA_PANEL_MAX];

// --- the plain loop

static void plain_run(const struct dense_fma_tile *tile)
{
    for (uint32_t row = 0; row < tile->rows; row++) {
        const float *source = tile->source + row * DENSE_FMA_STRIDE;
        float sum[PLAIN_PANEL] = {0};
        for (uint32_t k = 0; k < tile->depth; k++) {
            for (uint32_t c = 0; c < PLAIN_PANEL; c++)
                sum[c] += source[k] * tile->panel[(size_t)k * PLAIN_PANEL + c];
        }
        float *sums = tile->sums + (size_t)row * PLAIN_PANEL;
        for (uint32_t c = 0; c < PLAIN_PANEL; c++)
            sums[c] = tile->first ? sum[c] : sums[c] + sum[c];
        float *target = tile->target + row * tile->stride;
        for (uint32_t c = 0; c < tile->columns && tile->last; c++)
            target[c] = tile->epilogue == DENSE_ADD ? target[c] + sums[c] : sums[c];
    }
}

static const struct dense_fma plain = {.panel = PLAIN_PANEL, .rows = PLAIN_ROWS, .run = plain_run};

// --- life

static enum status open_with(const struct dense_fma *fma, struct team *team, size_t floats,
                             struct gemm **out)
{
    assert(team && floats > 0 && out);

    struct gemm *gemm = mem_alloc(sizeof(*gemm));
    gemm->team = team;
    gemm->fma = fma;
    size_t bytes;
    bool fits = mem_multiply(floats, sizeof(float), &bytes);
    gemm->floats = floats;
    gemm->packed = fits ? mem_try_alloc_aligned(ALIGNMENT, bytes) : NULL;
    bool is_whole = gemm->packed;
    for (uint32_t i = 0; i < team_workers(team) && is_whole; i++)
        is_whole = dense_group_init(&gemm->group[i]);
    if (!is_whole) {
        gemm_close(&gemm);
        return STATUS_NO_MEMORY;
    }
    *out = gemm;
    return STATUS_OK;
}

enum status gemm_open(struct team *team, size_t floats, struct gemm **out)
{
    const struct dense_fma *best = dense_fma_best();
    return open_with(best ? best : &plain, team, floats, out);
}

enum status gemm_open_plain(struct team *team, size_t floats, struct gemm **out)
{
    return open_with(&plain, team, floats, out);
}

void gemm_close(struct gemm **gemm)
{
    assert(gemm);

    if (!*gemm)
        return;
    for (uint32_t i = 0; i < TEAM_WORKERS_MAX; i++)
        dense_group_deinit(&(*gemm)->group[i]);
    mem_free((*gemm)->packed);
    mem_free(*gemm);
    *gemm = NULL;
}

// --- laying out

// target[j * step + i] = source[i * source_step + j] for i < rows and j < columns.
static void turn(const float *source, size_t source_step, size_t rows, size_t columns,
                 float *target, size_t step)
{
    for (size_t j = 0; j < columns; j += SQUARE) {
        size_t j_end = columns - j < SQUARE ? columns : j + SQUARE;
        for (size_t i = 0; i < rows; i++) {
            const float *from = source + i * source_step;
            for (size_t c = j; c < j_end; c++)
                target[c * step + i] = from[c];
        }
    }
}

struct run {
    struct gemm *gemm;
    const struct gemm_product *product;
    uint32_t panels; // of each product
    uint32_t chunk;  // of the depth
    uint32_t groups;
    uint32_t piece; // panels of a job at most
    uint32_t pieces;
    uint64_t number; // of the run
};

static float *panel_at(const struct run *run, uint32_t number, uint32_t panel)
{
    return run->gemm->packed +
           ((size_t)number * run->panels + panel) * run->product->depth * run->gemm->fma->panel;
}

static void pack_job(void *context, uint32_t job, uint32_t worker)
{
    const struct run *run = context;
    const struct gemm_product *product = run->product;
    uint32_t width = run->gemm->fma->panel;
    uint32_t number = job / run->panels;
    uint32_t panel = job % run->panels;
    uint32_t left = product->columns - panel * width;
    uint32_t columns = left < width ? left : width;
    float *target = panel_at(run, number, panel);
    const float *source =
        product->b.at + number * product->b_next + (size_t)panel * width * product->b.column_step;
    (void)worker;
    if (product->b.column_step == 1) {
        for (uint32_t k = 0; k < product->depth; k++) {
            memcpy(target + (size_t)k * width, source + k * product->b.row_step,
                   columns * sizeof(float));
            for (uint32_t c = columns; c < width; c++)
                target[(size_t)k * width + c] = 0.0f;
        }
        return;
    }
    turn(source, product->b.column_step, columns, product->depth, target, width);
    for (uint32_t k = 0; k < product->depth && columns < width; k++)
        memset(target + (size_t)k * width + columns, 0, (width - columns) * sizeof(float));
}

// --- running

struct job {
    const struct run *run;
    struct dense_group *group; // the worker's
    uint32_t number;           // of the product
    uint32_t first_row;
    uint32_t rows;
    uint32_t first_panel;
    uint32_t end_panel;
    uint32_t at;    // the chunk's begin in the depth
    uint32_t depth; // of the chunk
};

// Arranges the chunk of the group's rows, unless the job before did.
static void copy_rows(const struct job *job, uint32_t number)
{
    const struct gemm_product *product = job->run->product;
    struct dense_group *group = job->group;
    if (job->depth == product->depth && group->run == job->run->number && group->number == number)
        return;
    const float *from = product->a.at + job->number * product->a_next +
                        job->first_row * product->a.row_step + job->at * product->a.column_step;
    if (product->a.column_step == 1) {
        for (uint32_t row = 0; row < job->rows; row++)
            memcpy(group->source + row * DENSE_FMA_STRIDE, from + row * product->a.row_step,
                   job->depth * sizeof(float));
    } else {
        turn(from, product->a.column_step, job->depth, job->rows, group->source, DENSE_FMA_STRIDE);
    }
    group->run = job->run->number;
    group->number = number;
}

static void run_panel(const struct job *job, uint32_t panel)
{
    const struct run *run = job->run;
    const struct gemm_product *product = run->product;
    const struct dense_fma *fma = run->gemm->fma;
    size_t width = fma->panel;
    uint32_t left = product->columns - panel * fma->panel;
    const float *weights = panel_at(run, job->number, panel) + (size_t)job->at * width;
    float *target = product->target + job->number * product->target_next + panel * width;
    dense_group_run(
        fma,
        &(struct dense_fma_tile){
            .source = job->group->source,
            .panel = weights,
            .fetch = panel + 1 < job->end_panel ? weights + product->depth * width : weights,
            .depth = job->depth,
            .rows = job->rows,
            .columns = left < fma->panel ? left : fma->panel,
            .first = job->at == 0,
            .last = job->at + job->depth == product->depth,
            .epilogue = product->add ? DENSE_ADD : DENSE_PLAIN,
            .sums = job->group->sums,
            .bias = no_bias,
            .target = target + (size_t)job->first_row * product->target_step,
            .stride = product->target_step,
        },
        panel - job->first_panel);
}

static void run_job(void *context, uint32_t number, uint32_t worker)
{
    const struct run *run = context;
    const struct gemm_product *product = run->product;
    uint32_t all = run->groups * (product->count > 0 ? product->count : 1);
    uint32_t group = number % all; // of all products
    uint32_t piece = number / all;
    struct job job = {
        .run = run,
        .group = &run->gemm->group[worker],
        .number = group / run->groups,
        .first_panel = piece * run->piece,
        .end_panel = (piece + 1) * run->piece,
    };
    uint64_t rows = product->rows;
    job.first_row = (uint32_t)(rows * (group % run->groups) / run->groups);
    job.rows = (uint32_t)(rows * (group % run->groups + 1) / run->groups) - job.first_row;
    if (job.end_panel > run->panels)
        job.end_panel = run->panels;
    for (job.at = 0; job.at < product->depth; job.at += job.depth) {
        uint32_t left = product->depth - job.at;
        job.depth = left < run->chunk ? left : run->chunk;
        copy_rows(&job, group);
        for (uint32_t panel = job.first_panel; panel < job.end_panel; panel++)
            run_panel(&job, panel);
    }
}

void gemm_run(struct gemm *gemm, const struct gemm_product *product)
{
    assert(gemm && product);
    assert(product->rows >= 1 && product->rows <= GEMM_SIZE_MAX);
    assert(product->columns >= 1 && product->columns <= GEMM_SIZE_MAX);
    assert(product->depth >= 1 && product->depth <= GEMM_SIZE_MAX);
    assert(product->a.row_step == 1 || product->a.column_step == 1);
    assert(product->b.row_step == 1 || product->b.column_step == 1);

    uint32_t width = gemm->fma->panel;
    uint32_t count = product->count > 0 ? product->count : 1;
    uint32_t chunks = (product->depth + DENSE_FMA_DEPTH - 1) / DENSE_FMA_DEPTH;
    struct run run = {
        .gemm = gemm,
        .product = product,
        .panels = (product->columns + width - 1) / width,
        .chunk = (product->depth + chunks - 1) / chunks,
        .groups = dense_group_count(product->rows),
        .number = ++gemm->runs,
    };
    assert((size_t)count * run.panels * width * product->depth <= gemm->floats);
    run.piece = dense_group_piece((uint64_t)run.groups * count, run.panels,
                                  team_workers(gemm->team) * JOBS_EACH);
    run.pieces = (run.panels + run.piece - 1) / run.piece;
    team_run(gemm->team, run.panels * count, pack_job, &run);
    team_run(gemm->team, run.groups * count * run.pieces, run_job, &run);
}
