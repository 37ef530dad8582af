// SPDX-License-Identifier: Apache-2.0
// Products by our own inner loop (dense_fma.h), where the CPU has fused multiply-adds.
//
// Weights lie in panels of 32 (AVX2: 16, NEON: 8) columns, each [depth][columns], so that the inner loop reads them from front to back. A
// job is a group of up to GROUP_ROWS rows and a piece of up to PIECE_PANELS panels: the group's rows are copied into the worker's
// scratch memory, whose stride keeps them out of each other's cache lines, and each panel meets all of them before the next one. A
// depth above DENSE_FMA_DEPTH is taken in chunks, the sums between two of them rest in scratch memory. So a chunk of the
// group (450 KiB) and a panel (128 KiB) stay in the second-level cache, and weights come from memory once for each group.
//
// Only rows that are there are multiplied: 50 rows, a picture of ViT-B/32, are four tiles of 12 and 13.

#include <assert.h>
#include <string.h>
#include <sys/mman.h>

#include "proto/base/mem.h"
#include "shaders/cpu/dense_fma.h"
#include "shaders/cpu/dense_internal.h"

#define ALIGNMENT 64u
#define HUGE_BYTES ((size_t)2 << 20) // of a large page
#define GROUP_ROWS 112u
#define PIECE_PANELS 8u
#define SUMS_FLOATS ((size_t)GROUP_ROWS * PIECE_PANELS * DENSE_FMA_PANEL_MAX)
#define SCRATCH_FLOATS (GROUP_ROWS * DENSE_FMA_STRIDE + SUMS_FLOATS)

// Jobs that each worker should get: some, so that one that is held up does not hold up the others; fewer where each
// job copies its rows in several chunks.
#define JOBS_EACH 6u
#define JOBS_EACH_CHUNKED 2u

// One worker's memory.
struct panels_worker {
    float *source; // [GROUP_ROWS][DENSE_FMA_STRIDE]
    float *sums;   // [SUMS_FLOATS]
    uint64_t run;  // whose rows are in `source`, and
    uint32_t group;
};

struct panels {
    struct team *team;
    const struct dense_fma *fma;
    uint64_t runs; // counted from 1
    struct panels_worker worker[TEAM_WORKERS_MAX];
};

struct panels_matrix {
    uint32_t columns;
    uint32_t depth;
    uint32_t panels;
    uint32_t chunk; // of the depth
    enum dense_epilogue epilogue;
    float *packed; // [panels][depth][panel columns]
    float *bias;   // [panels][panel columns], behind them
};

static void panels_close(void *state)
{
    struct panels *panels = state;
    for (uint32_t i = 0; i < TEAM_WORKERS_MAX; i++)
        mem_free(panels->worker[i].source);
    mem_free(panels);
}

static enum status open_with(const struct dense_fma *fma, struct team *team, void **out)
{
    assert(fma && fma->panel <= DENSE_FMA_PANEL_MAX);

    struct panels *panels = mem_alloc(sizeof(*panels));
    panels->team = team;
    panels->fma = fma;
    for (uint32_t i = 0; i < team_workers(team); i++) {
        struct panels_worker *worker = &panels->worker[i];
        worker->source = mem_try_alloc_aligned(ALIGNMENT, SCRATCH_FLOATS * sizeof(float));
        if (!worker->source) {
            panels_close(panels);
            return STATUS_NO_MEMORY;
        }
        worker->sums = worker->source + GROUP_ROWS * DENSE_FMA_STRIDE;
    }
    *out = panels;
    return STATUS_OK;
}

static enum status open_best(struct team *team, void **out)
{
    return open_with(dense_fma_best(), team, out);
}

static enum status open_avx2(struct team *team, void **out)
{
#if defined(__x86_64__)
    return open_with(&dense_fma_avx2, team, out);
#else
    return open_best(team, out);
#endif
}

// --- matrices

struct pack_run {
    const struct dense_params *params;
    const struct panels_matrix *matrix;
    uint32_t panel;
};

// One panel: a transpose, column by column of the panel.
static void pack_job(void *context, uint32_t job, uint32_t worker)
{
    const struct pack_run *run = context;
    size_t depth = run->matrix->depth;
    uint32_t width = run->panel;
    float *panel = run->matrix->packed + (size_t)job * width * depth;
    (void)worker;
    for (uint32_t c = 0; c < width; c++) {
        uint32_t column = job * width + c;
        if (column >= run->matrix->columns) {
            for (size_t k = 0; k < depth; k++)
                panel[k * width + c] = 0.0f;
            continue;
        }
        const float *from = run->params->weights + column * depth;
        for (size_t k = 0; k < depth; k++)
            panel[k * width + c] = from[k];
    }
}

static void panels_free(void *state, void *prepared)
{
    struct panels_matrix *matrix = prepared;
    (void)state;
    mem_free(matrix->packed);
    mem_free(matrix);
}

static enum status panels_prepare(void *state, const struct dense_params *params, void **out)
{
    struct panels *panels = state;
    uint32_t width = panels->fma->panel;
    struct panels_matrix *matrix = mem_alloc(sizeof(*matrix));
    matrix->columns = params->columns;
    matrix->depth = params->depth;
    matrix->epilogue = params->epilogue;
    matrix->panels = (params->columns + width - 1) / width;
    uint32_t chunks = (params->depth + DENSE_FMA_DEPTH - 1) / DENSE_FMA_DEPTH;
    matrix->chunk = (params->depth + chunks - 1) / chunks;

    size_t columns = (size_t)matrix->panels * width;
    size_t bytes = columns * ((size_t)params->depth + 1) * sizeof(float);
    matrix->packed = mem_try_alloc_aligned(bytes >= HUGE_BYTES ? HUGE_BYTES : ALIGNMENT, bytes);
    if (!matrix->packed) {
        panels_free(panels, matrix);
        return STATUS_NO_MEMORY;
    }
    // Large pages: weights are walked through from front to back for each group of rows.
    if (bytes >= HUGE_BYTES)
        (void)madvise(matrix->packed, bytes / HUGE_BYTES * HUGE_BYTES, MADV_HUGEPAGE);
    matrix->bias = matrix->packed + columns * params->depth;
    memset(matrix->bias, 0, columns * sizeof(float));
    if (params->bias)
        memcpy(matrix->bias, params->bias, params->columns * sizeof(float));
    struct pack_run run = {params, matrix, width};
    team_run(panels->team, matrix->panels, pack_job, &run);
    *out = matrix;
    return STATUS_OK;
}

// --- running

struct run {
    struct panels *panels;
    const struct panels_matrix *matrix;
    const float *source;
    float *target;
    size_t rows;
    uint32_t groups;
    uint32_t piece;  // panels of a job at most
    uint64_t number; // of the run
};

// What one job works on.
struct job {
    const struct run *run;
    struct panels_worker *worker;
    size_t first_row;
    uint32_t rows;
    uint32_t first_panel;
    uint32_t end_panel;
    uint32_t at;    // the chunk's begin in the depth
    uint32_t depth; // of the chunk
};

// Copies the chunk of the group's rows, unless the job before did: pieces of one group follow each other.
static void copy_rows(const struct job *job, uint32_t group)
{
    const struct run *run = job->run;
    struct panels_worker *worker = job->worker;
    bool whole = job->depth == run->matrix->depth;
    if (whole && worker->run == run->number && worker->group == group)
        return;
    const float *from = run->source + job->first_row * run->matrix->depth + job->at;
    for (uint32_t row = 0; row < job->rows; row++)
        memcpy(worker->source + row * DENSE_FMA_STRIDE, from + (size_t)row * run->matrix->depth,
               job->depth * sizeof(float));
    worker->run = run->number;
    worker->group = group;
}

// One panel with all rows of the group, in tiles of nearly equal height.
static void run_panel(const struct job *job, uint32_t panel)
{
    const struct run *run = job->run;
    const struct panels_matrix *matrix = run->matrix;
    const struct dense_fma *fma = run->panels->fma;
    size_t width = fma->panel;
    uint32_t left = matrix->columns - panel * fma->panel;
    bool first = job->at == 0;
    bool last = job->at + job->depth == matrix->depth;
    // Sums that wait for the next chunk have a place for each row and panel of the job.
    bool whole = first && last;
    float *sums = job->worker->sums;
    if (!whole)
        sums += width * GROUP_ROWS * (panel - job->first_panel);
    const float *weights = matrix->packed + ((size_t)panel * matrix->depth + job->at) * width;
    size_t next = panel + 1 < job->end_panel ? (size_t)matrix->depth * width : 0;
    uint32_t tiles = (job->rows + fma->rows - 1) / fma->rows;

    uint32_t row = 0;
    for (uint32_t i = 0; i < tiles; i++) {
        uint32_t rows = (job->rows - row + tiles - i - 1) / (tiles - i);
        size_t part = (size_t)16 * i; // of the next panel, fetched by this tile
        fma->run(&(struct dense_fma_tile){
            .source = job->worker->source + row * DENSE_FMA_STRIDE,
            .panel = weights,
            .fetch = part < width ? weights + next + part * job->depth : weights,
            .depth = job->depth,
            .rows = rows,
            .columns = left < fma->panel ? left : fma->panel,
            .first = first,
            .last = last,
            .epilogue = matrix->epilogue,
            .sums = whole ? sums : sums + row * width,
            .bias = matrix->bias + panel * width,
            .target = run->target + (job->first_row + row) * matrix->columns + panel * width,
            .stride = matrix->columns,
        });
        row += rows;
    }
}

static void run_job(void *context, uint32_t number, uint32_t worker)
{
    const struct run *run = context;
    const struct panels_matrix *matrix = run->matrix;
    uint32_t group = number % run->groups;
    uint32_t piece = number / run->groups;
    struct job job = {
        .run = run,
        .worker = &run->panels->worker[worker],
        .first_row = run->rows * group / run->groups,
        .first_panel = piece * run->piece,
        .end_panel = (piece + 1) * run->piece,
    };
    job.rows = (uint32_t)(run->rows * (group + 1) / run->groups - job.first_row);
    if (job.end_panel > matrix->panels)
        job.end_panel = matrix->panels;
    for (job.at = 0; job.at < matrix->depth; job.at += job.depth) {
        uint32_t left = matrix->depth - job.at;
        job.depth = left < matrix->chunk ? left : matrix->chunk;
        copy_rows(&job, group);
        for (uint32_t panel = job.first_panel; panel < job.end_panel; panel++)
            run_panel(&job, panel);
    }
}

static enum status panels_run(void *state, const void *prepared, const float *source, size_t rows,
                              float *target)
{
    struct panels *panels = state;
    const struct panels_matrix *matrix = prepared;
    struct run run = {
        .panels = panels,
        .matrix = matrix,
        .source = source,
        .rows = rows,
        .groups = (uint32_t)((rows + GROUP_ROWS - 1) / GROUP_ROWS),
        .number = ++panels->runs,
    };
    run.target = target;
    uint64_t wanted = (uint64_t)team_workers(panels->team) *
                      (matrix->chunk < matrix->depth ? JOBS_EACH_CHUNKED : JOBS_EACH);
    uint64_t piece = (uint64_t)run.groups * matrix->panels / wanted;
    run.piece = piece < 1 ? 1 : piece > PIECE_PANELS ? PIECE_PANELS : (uint32_t)piece;
    uint32_t pieces = (matrix->panels + run.piece - 1) / run.piece;
    team_run(panels->team, run.groups * pieces, run_job, &run);
    return STATUS_OK;
}

#define KIND(how)                                                                                  \
    {                                                                                              \
        .open = (how), .close = panels_close, .prepare = panels_prepare, .free = panels_free,      \
        .run = panels_run,                                                                         \
    }

const struct dense_kind dense_panels_kind = KIND(open_best);
const struct dense_kind dense_panels_avx2_kind = KIND(open_avx2);
