// SPDX-License-Identifier: Apache-2.0
// Products by our own inner loop (dense_fma.h), where the CPU has fused multiply-adds.
//
// Weights lie in panels of 32 (AVX2: 16, NEON: 8) columns, each [depth][columns], so that the inner
// loop reads them from front to back. A job is a group of rows and a piece of panels
// (dense_group.h): the group's rows are copied into the worker's scratch memory, whose stride keeps
// them out of each other's cache lines, and each panel meets all of them before the next one, so
// that weights come from memory once for each group. A depth above DENSE_FMA_DEPTH is taken in
// chunks, the sums between two of them rest in scratch memory.
//
// Late weights (dense.h) are laid out chunk by chunk of a panel into scratch memory, and multiplied
// there and then.
//
// Only rows that are there are multiplied: 50 rows, a picture of ViT-B/32, are four tiles of 12 and
// 13.

#include <assert.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "proto/base/cpu.h"
#include "proto/base/mem.h"
#include "shaders/cpu/dense_group.h"
#include "shaders/cpu/dense_internal.h"

#define ALIGNMENT 64u
#define HUGE_BYTES ((size_t)2 << 20) // of a large page
#define LATE_FLOATS ((size_t)DENSE_FMA_PANEL_MAX * DENSE_FMA_DEPTH)
#define NUMBERS_MAX 2u // of a step

// Jobs that each worker should get: some, so that one that is held up does not hold up the others;
// fewer where each job copies its rows in several chunks.
#define JOBS_EACH 6u
#define JOBS_EACH_CHUNKED 2u

// One worker's memory.
struct panels_worker {
    struct dense_group group; // of rows; its memory also takes weights that are laid out

    // For late weights: some rows of a matrix, and the panel that becomes of them; else NULL.
    float *late_rows;  // [NUMBERS_MAX * LATE_FLOATS]
    float *late_panel; // [LATE_FLOATS], behind them
};

struct panels {
    struct team *team;
    const struct dense_fma *fma;
    uint64_t runs; // counted from 1
    struct panels_worker worker[TEAM_WORKERS_MAX];
};

struct panels_matrix {
    uint32_t columns;
    uint32_t depth; // numbers of a row
    uint32_t steps; // of the depth: as many, or half as many of bfloat16 (dense_fma.h)
    uint32_t panels;
    uint32_t chunk; // of the steps
    enum dense_epilogue epilogue;
    float *packed; // [panels][depth][panel columns]; NULL: `rows` gives them when they are needed
    float *bias;   // [panels][panel columns]
    dense_rows rows;
    void *context;
    bool used; // late weights, once
};

static void panels_close(void *state)
{
    struct panels *panels = state;
    for (uint32_t i = 0; i < TEAM_WORKERS_MAX; i++) {
        dense_group_deinit(&panels->worker[i].group);
        mem_free(panels->worker[i].late_rows);
    }
    mem_free(panels);
}

static enum status open_with(const struct dense_fma *fma, struct team *team, void **out)
{
    assert(fma && fma->panel <= DENSE_FMA_PANEL_MAX);

    struct panels *panels = mem_alloc(sizeof(*panels));
    panels->team = team;
    panels->fma = fma;
    for (uint32_t i = 0; i < team_workers(team); i++) {
        if (!dense_group_init(&panels->worker[i].group)) {
            panels_close(panels);
            return STATUS_NO_MEMORY;
        }
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

static enum status open_bf16(struct team *team, void **out)
{
#if defined(__x86_64__)
    if (cpu_has_bf16())
        return open_with(&dense_fma_bf16, team, out);
#endif
    (void)team;
    (void)out;
    return STATUS_UNSUPPORTED;
}

// --- matrices

struct pack_run {
    struct panels *panels;
    const struct panels_matrix *matrix;
    const float *weights; // all rows, or NULL
    uint32_t panels_each;
    atomic_int failed; // enum status of a reader
};

// Rows of numbers [count][depth] in scratch memory become rows of steps.
static void narrow_rows(const struct dense_fma *fma, float *rows, uint32_t count, size_t depth)
{
    size_t steps = (depth + fma->numbers - 1) / fma->numbers;
    for (size_t row = 0; row < count && fma->narrow; row++)
        fma->narrow(rows + row * depth, depth, rows + row * steps);
}

// Some rows of weights in steps, as they are or in the worker's scratch memory; NULL when they
// cannot be read.
static const float *get_rows(struct pack_run *run, uint32_t first, uint32_t count, float *scratch)
{
    const struct panels_matrix *matrix = run->matrix;
    const struct dense_fma *fma = run->panels->fma;
    const float *given = run->weights ? run->weights + (size_t)first * matrix->depth : NULL;
    enum status status = STATUS_OK;
    if (given && !fma->narrow)
        return given;
    if (given)
        memcpy(scratch, given, (size_t)count * matrix->depth * sizeof(float));
    else
        status = matrix->rows(matrix->context, first, count, 0, matrix->depth, scratch);
    if (status != STATUS_OK) {
        atomic_store(&run->failed, (int)status);
        return NULL;
    }
    narrow_rows(fma, scratch, count, matrix->depth);
    return scratch;
}

// One panel, from as many rows at a time as the scratch memory holds.
static void pack_panel(struct pack_run *run, uint32_t number, float *scratch)
{
    const struct panels_matrix *matrix = run->matrix;
    const struct dense_fma *fma = run->panels->fma;
    size_t steps = matrix->steps;
    float *panel = matrix->packed + (size_t)number * fma->panel * steps;
    uint32_t first = number * fma->panel;
    uint32_t columns = matrix->columns - first;
    if (columns < fma->panel)
        memset(panel, 0, fma->panel * steps * sizeof(float));
    else
        columns = fma->panel;
    uint32_t room = (uint32_t)(DENSE_GROUP_FLOATS / matrix->depth);
    uint32_t step = room < columns ? room : columns;
    for (uint32_t at = 0; at < columns; at += step) {
        uint32_t count = columns - at < step ? columns - at : step;
        const float *rows = get_rows(run, first + at, count, scratch);
        if (!rows)
            return;
        fma->pack(rows, count, steps, panel + at);
    }
}

static void pack_job(void *context, uint32_t job, uint32_t worker)
{
    struct pack_run *run = context;
    struct dense_group *scratch = &run->panels->worker[worker].group;
    uint32_t panel = job * run->panels_each;
    uint32_t end = panel + run->panels_each;
    if (end > run->matrix->panels)
        end = run->matrix->panels;
    scratch->run = 0; // no rows of a product are in it any more
    for (; panel < end && atomic_load(&run->failed) == STATUS_OK; panel++)
        pack_panel(run, panel, scratch->source);
}

static void panels_free(void *state, void *prepared)
{
    struct panels_matrix *matrix = prepared;
    (void)state;
    mem_free(matrix->packed);
    mem_free(matrix->bias);
    mem_free(matrix);
}

// Lays out the weights, which are `weights` or else come from the matrix' reader.
static enum status pack(struct panels *panels, struct panels_matrix *matrix, const float *weights)
{
    size_t panel_bytes = (size_t)panels->fma->panel * matrix->steps * sizeof(float);
    size_t bytes = matrix->panels * panel_bytes;
    float *packed = mem_try_alloc_aligned(bytes >= HUGE_BYTES ? HUGE_BYTES : ALIGNMENT, bytes);
    if (!packed)
        return STATUS_NO_MEMORY;
    // Large pages: weights are walked through from front to back for each group of rows.
    if (bytes >= HUGE_BYTES)
        (void)madvise(packed, bytes / HUGE_BYTES * HUGE_BYTES, MADV_HUGEPAGE);
    matrix->packed = packed;
    // A job fills a large page or more, since two workers at one page would both make it.
    size_t each = (HUGE_BYTES + panel_bytes - 1) / panel_bytes;
    struct pack_run run = {
        .panels = panels,
        .matrix = matrix,
        .weights = weights,
        .panels_each = each < matrix->panels ? (uint32_t)each : matrix->panels,
    };
    atomic_init(&run.failed, STATUS_OK);
    team_run(panels->team, (matrix->panels + run.panels_each - 1) / run.panels_each, pack_job,
             &run);
    enum status status = (enum status)atomic_load(&run.failed);
    if (status != STATUS_OK) {
        mem_free(matrix->packed);
        matrix->packed = NULL;
    }
    return status;
}

static enum status make_room_for_late(struct panels *panels)
{
    for (uint32_t i = 0; i < team_workers(panels->team); i++) {
        struct panels_worker *worker = &panels->worker[i];
        if (worker->late_rows)
            continue;
        worker->late_rows =
            mem_try_alloc_aligned(ALIGNMENT, (NUMBERS_MAX + 1) * LATE_FLOATS * sizeof(float));
        if (!worker->late_rows)
            return STATUS_NO_MEMORY;
        worker->late_panel = worker->late_rows + NUMBERS_MAX * LATE_FLOATS;
    }
    return STATUS_OK;
}

static enum status panels_prepare(void *state, const struct dense_params *params, void **out)
{
    struct panels *panels = state;
    uint32_t width = panels->fma->panel;
    struct panels_matrix *matrix = mem_alloc(sizeof(*matrix));
    matrix->columns = params->columns;
    matrix->depth = params->depth;
    matrix->epilogue = params->epilogue;
    matrix->rows = params->rows;
    matrix->context = params->context;
    matrix->panels = (params->columns + width - 1) / width;
    uint32_t numbers = panels->fma->numbers;
    matrix->steps = (params->depth + numbers - 1) / numbers;
    uint32_t chunks = (matrix->steps + DENSE_FMA_DEPTH - 1) / DENSE_FMA_DEPTH;
    matrix->chunk = (matrix->steps + chunks - 1) / chunks;

    size_t columns = (size_t)matrix->panels * width;
    matrix->bias = mem_try_alloc_aligned(ALIGNMENT, columns * sizeof(float));
    enum status status = matrix->bias ? STATUS_OK : STATUS_NO_MEMORY;
    if (status == STATUS_OK) {
        memset(matrix->bias, 0, columns * sizeof(float));
        if (params->bias)
            memcpy(matrix->bias, params->bias, params->columns * sizeof(float));
        status = params->late ? make_room_for_late(panels) : pack(panels, matrix, params->weights);
    }
    if (status != STATUS_OK) {
        panels_free(panels, matrix);
        return status;
    }
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
    uint32_t piece;    // panels of a job at most
    uint64_t number;   // of the run
    atomic_int failed; // enum status of a reader
};

// What one job works on.
struct job {
    struct run *run;
    struct panels_worker *worker;
    size_t first_row;
    uint32_t rows;
    uint32_t first_panel;
    uint32_t end_panel;
    uint32_t at;    // the step that the chunk begins at
    uint32_t steps; // of the chunk
};

// The numbers of the chunk: where they begin in a row, and how many there are.
static uint32_t chunk_begin(const struct job *job)
{
    return job->at * job->run->panels->fma->numbers;
}

static uint32_t chunk_depth(const struct job *job)
{
    uint32_t left = job->run->matrix->depth - chunk_begin(job);
    uint32_t depth = job->steps * job->run->panels->fma->numbers;
    return depth < left ? depth : left;
}

// Copies the chunk of the group's rows, unless the job before did: pieces of one group follow each
// other.
static void copy_rows(const struct job *job, uint32_t number)
{
    const struct run *run = job->run;
    struct dense_group *group = &job->worker->group;
    const struct dense_fma *fma = run->panels->fma;
    size_t depth = chunk_depth(job);
    bool whole = job->steps == run->matrix->steps;
    if (whole && group->run == run->number && group->number == number)
        return;
    const float *from = run->source + job->first_row * run->matrix->depth + chunk_begin(job);
    float *to = group->source;
    for (uint32_t row = 0; row < job->rows; row++) {
        if (fma->narrow)
            fma->narrow(from, depth, to);
        else
            memcpy(to, from, depth * sizeof(float));
        from += run->matrix->depth;
        to += DENSE_FMA_STRIDE;
    }
    group->run = run->number;
    group->number = number;
}

// The chunk of a panel: prepared, or laid out just now; NULL when its weights cannot be read.
static const float *get_panel(const struct job *job, uint32_t panel)
{
    const struct panels_matrix *matrix = job->run->matrix;
    const struct dense_fma *fma = job->run->panels->fma;
    if (matrix->packed)
        return matrix->packed + ((size_t)panel * matrix->steps + job->at) * fma->panel;
    const struct panels_worker *worker = job->worker;
    uint32_t first = panel * fma->panel;
    uint32_t columns = matrix->columns - first;
    if (columns < fma->panel)
        memset(worker->late_panel, 0, (size_t)fma->panel * job->steps * sizeof(float));
    else
        columns = fma->panel;
    uint32_t depth = chunk_depth(job);
    enum status status =
        matrix->rows(matrix->context, first, columns, chunk_begin(job), depth, worker->late_rows);
    if (status != STATUS_OK) {
        atomic_store(&job->run->failed, (int)status);
        return NULL;
    }
    narrow_rows(fma, worker->late_rows, columns, depth);
    fma->pack(worker->late_rows, columns, job->steps, worker->late_panel);
    return worker->late_panel;
}

// One panel with all rows of the group.
static void run_panel(const struct job *job, uint32_t panel)
{
    const struct run *run = job->run;
    const struct panels_matrix *matrix = run->matrix;
    const struct dense_fma *fma = run->panels->fma;
    size_t width = fma->panel;
    uint32_t left = matrix->columns - panel * fma->panel;
    const float *weights = get_panel(job, panel);
    if (!weights)
        return;
    bool has_next = matrix->packed && panel + 1 < job->end_panel;
    dense_group_run(fma,
                    &(struct dense_fma_tile){
                        .source = job->worker->group.source,
                        .panel = weights,
                        .fetch = has_next ? weights + matrix->steps * width : weights,
                        .depth = job->steps,
                        .rows = job->rows,
                        .columns = left < fma->panel ? left : fma->panel,
                        .first = job->at == 0,
                        .last = job->at + job->steps == matrix->steps,
                        .epilogue = matrix->epilogue,
                        .sums = job->worker->group.sums,
                        .bias = matrix->bias + panel * width,
                        .target = run->target + job->first_row * matrix->columns + panel * width,
                        .stride = matrix->columns,
                    },
                    panel - job->first_panel);
}

static void run_job(void *context, uint32_t number, uint32_t worker)
{
    struct run *run = context;
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
    for (job.at = 0; job.at < matrix->steps; job.at += job.steps) {
        uint32_t left = matrix->steps - job.at;
        job.steps = left < matrix->chunk ? left : matrix->chunk;
        copy_rows(&job, group);
        for (uint32_t panel = job.first_panel; panel < job.end_panel; panel++)
            run_panel(&job, panel);
    }
}

static enum status panels_run(void *state, void *prepared, const float *source, size_t rows,
                              float *target)
{
    struct panels *panels = state;
    struct panels_matrix *matrix = prepared;
    if (!matrix->packed && matrix->used) {
        enum status status = pack(panels, matrix, NULL);
        if (status != STATUS_OK)
            return status;
    }
    matrix->used = true;
    struct run run = {
        .panels = panels,
        .matrix = matrix,
        .source = source,
        .rows = rows,
        .groups = dense_group_count(rows),
        .number = ++panels->runs,
    };
    run.target = target;
    atomic_init(&run.failed, STATUS_OK);
    uint32_t each = matrix->chunk < matrix->steps ? JOBS_EACH_CHUNKED : JOBS_EACH;
    run.piece = dense_group_piece(run.groups, matrix->panels, team_workers(panels->team) * each);
    uint32_t pieces = (matrix->panels + run.piece - 1) / run.piece;
    team_run(panels->team, run.groups * pieces, run_job, &run);
    return (enum status)atomic_load(&run.failed);
}

#define KIND(how)                                                                                  \
    {                                                                                              \
        .open = (how), .close = panels_close, .prepare = panels_prepare, .takes_rows = true,       \
        .free = panels_free, .run = panels_run,                                                    \
    }

const struct dense_kind dense_panels_kind = KIND(open_best);
const struct dense_kind dense_panels_avx2_kind = KIND(open_avx2);
const struct dense_kind dense_panels_bf16_kind = KIND(open_bf16);
