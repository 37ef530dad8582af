// SPDX-License-Identifier: Apache-2.0
// Work is cut into jobs of several rows, or one head of one sequence, so that a
// job is long enough to be worth handing to another thread. The inner loops are in
// kernels.c; each worker has its own scratch memory, which grows to the longest
// sequence seen and stays.

#include "shaders/cpu/cpuops.h"

#include <assert.h>
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "proto/base/embedding.h"
#include "proto/base/mem.h"
#include "shaders/cpu/kernels.h"

#define JOB_FLOATS 16384u // floats of a job that only moves or scales them

struct cpuops {
    struct team *team;
    const struct kernels *kernels;
    float *scratch[TEAM_WORKERS_MAX];
    size_t scratch_floats; // of each
};

void cpuops_open(struct team *team, struct cpuops **out)
{
    assert(team);
    assert(out);

    struct cpuops *cpuops = mem_alloc(sizeof(*cpuops));
    cpuops->team = team;
    cpuops->kernels = kernels_best();
    *out = cpuops;
}

static void free_scratch(struct cpuops *cpuops)
{
    for (uint32_t i = 0; i < TEAM_WORKERS_MAX; i++) {
        mem_free(cpuops->scratch[i]);
        cpuops->scratch[i] = NULL;
    }
    cpuops->scratch_floats = 0;
}

void cpuops_close(struct cpuops **cpuops)
{
    assert(cpuops);

    if (!*cpuops)
        return;
    free_scratch(*cpuops);
    mem_free(*cpuops);
    *cpuops = NULL;
}

// Rows in a job when a row has `width` floats, and the number of such jobs.
static size_t rows_of_job(size_t width)
{
    return width >= JOB_FLOATS ? 1 : JOB_FLOATS / width;
}

static uint32_t jobs_of(size_t rows, size_t width)
{
    size_t each = rows_of_job(width);
    size_t jobs = (rows + each - 1) / each;
    assert(jobs <= UINT32_MAX);
    return (uint32_t)jobs;
}

struct span {
    size_t first;
    size_t end;
};

static struct span span_of(uint32_t job, size_t rows, size_t width)
{
    size_t each = rows_of_job(width);
    struct span span = {job * each, (job + 1) * each};
    if (span.end > rows)
        span.end = rows;
    return span;
}

// --- layer normalisation

struct layernorm_run {
    const struct kernels *kernels;
    const struct cpuops_layernorm *args;
};

static void layernorm_job(void *context, uint32_t job, uint32_t worker)
{
    const struct layernorm_run *run = context;
    const struct cpuops_layernorm *args = run->args;
    (void)worker;
    struct span span = span_of(job, args->rows, args->width);
    for (size_t row = span.first; row < span.end; row++)
        run->kernels->layernorm(args->source + row * args->width, args->gain, args->bias,
                                args->epsilon, args->width, args->target + row * args->width);
}

void cpuops_layernorm(struct cpuops *cpuops, const struct cpuops_layernorm *args)
{
    assert(cpuops);
    assert(args && args->width > 0);

    struct layernorm_run run = {cpuops->kernels, args};
    team_run(cpuops->team, jobs_of(args->rows, args->width), layernorm_job, &run);
}

// --- attention

static enum status reserve_scratch(struct cpuops *cpuops, size_t floats)
{
    if (floats <= cpuops->scratch_floats)
        return STATUS_OK;
    free_scratch(cpuops);
    for (uint32_t i = 0; i < team_workers(cpuops->team); i++) {
        cpuops->scratch[i] = mem_try_alloc_aligned(64, floats * sizeof(float));
        if (!cpuops->scratch[i]) {
            free_scratch(cpuops);
            return STATUS_NO_MEMORY;
        }
    }
    cpuops->scratch_floats = floats;
    return STATUS_OK;
}

struct attention_run {
    struct cpuops *cpuops;
    const struct cpuops_attention *args;
};

// One head of one sequence.
static void attention_job(void *context, uint32_t job, uint32_t worker)
{
    const struct attention_run *run = context;
    const struct cpuops_attention *args = run->args;
    uint32_t sequence = job / args->heads;
    uint32_t index = job % args->heads;
    size_t start = args->starts[sequence];
    size_t dimension = args->width / args->heads;

    struct kernels_head head = {
        .source = args->source + start * 3 * args->width + index * dimension,
        .stride = 3 * args->width,
        .width = args->width,
        .target = args->target + start * args->width + index * dimension,
        .target_stride = args->width,
        .length = args->starts[sequence + 1] - args->starts[sequence],
        .dimension = (uint32_t)dimension,
        .scale = (float)(1.0 / sqrt((double)dimension)),
        .causal = args->causal,
    };
    run->cpuops->kernels->head(&head, run->cpuops->scratch[worker]);
}

enum status cpuops_attention(struct cpuops *cpuops, const struct cpuops_attention *args)
{
    assert(cpuops);
    assert(args && args->heads > 0 && args->width % args->heads == 0);

    uint32_t longest = 0;
    for (uint32_t s = 0; s < args->sequences; s++) {
        assert(args->starts[s] <= args->starts[s + 1]);
        uint32_t length = args->starts[s + 1] - args->starts[s];
        longest = length > longest ? length : longest;
    }
    uint32_t dimension = (uint32_t)(args->width / args->heads);
    enum status status = reserve_scratch(cpuops, kernels_head_scratch(longest, dimension));
    if (status != STATUS_OK)
        return status;
    struct attention_run run = {cpuops, args};
    team_run(cpuops->team, args->sequences * args->heads, attention_job, &run);
    return STATUS_OK;
}

// --- embedding

struct tokens_run {
    const struct kernels *kernels;
    const struct cpuops_embed_tokens *args;
};

static void tokens_job(void *context, uint32_t job, uint32_t worker)
{
    const struct tokens_run *run = context;
    const struct cpuops_embed_tokens *args = run->args;
    (void)worker;
    struct span span = span_of(job, args->rows, args->width);
    for (size_t row = span.first; row < span.end; row++)
        run->kernels->add(args->table + args->ids[row] * args->width,
                          args->positions + args->places[row] * args->width, args->width,
                          args->target + row * args->width);
}

void cpuops_embed_tokens(struct cpuops *cpuops, const struct cpuops_embed_tokens *args)
{
    assert(cpuops);
    assert(args && args->width > 0);

    struct tokens_run run = {cpuops->kernels, args};
    team_run(cpuops->team, jobs_of(args->rows, args->width), tokens_job, &run);
}

static void patchify_job(void *context, uint32_t job, uint32_t worker)
{
    const struct cpuops_patchify *args = context;
    (void)worker;
    size_t side = args->size / args->patch; // patches in a row of the image
    size_t width = 3 * args->patch * args->patch;
    const float *image = args->pixels + (size_t)job * 3 * args->size * args->size;
    float *target = args->target + job * side * side * width;

    for (size_t row = 0; row < side; row++) {
        for (size_t column = 0; column < side; column++) {
            for (size_t line = 0; line < 3 * args->patch; line++) {
                size_t channel = line / args->patch;
                size_t y = row * args->patch + line % args->patch;
                memcpy(target,
                       image + (channel * args->size + y) * args->size + column * args->patch,
                       args->patch * sizeof(float));
                target += args->patch;
            }
        }
    }
}

void cpuops_patchify(struct cpuops *cpuops, const struct cpuops_patchify *args)
{
    assert(cpuops);
    assert(args && args->patch > 0 && args->patch <= args->size && args->images <= UINT32_MAX);

    // team_job takes what it may write; the arguments are only read.
    struct cpuops_patchify copy = *args;
    team_run(cpuops->team, (uint32_t)args->images, patchify_job, &copy);
}

static void patchify_normalise_job(void *context, uint32_t job, uint32_t worker)
{
    const struct cpuops_patchify_normalise *args = context;
    (void)worker;
    size_t side = args->size / args->patch; // patches in a row of the image
    const uint8_t *image = args->pixels + job * args->stride;
    float *target = args->target + job * side * side * 3 * args->patch * args->patch;

    for (size_t place = 0; place < side * side; place++) {
        const size_t top = place / side * args->patch;
        const size_t left = place % side * args->patch;
        for (size_t line = 0; line < 3 * args->patch; line++) {
            const size_t channel = line / args->patch;
            const size_t y = top + line % args->patch;
            const float *table = args->table + 256 * channel;
            const uint8_t *bytes = image + 3 * (y * args->size + left) + channel;
            for (size_t x = 0; x < args->patch; x++)
                *target++ = table[bytes[3 * x]];
        }
    }
}

void cpuops_patchify_normalise(struct cpuops *cpuops, const struct cpuops_patchify_normalise *args)
{
    assert(cpuops && args);
    assert(args->patch > 0 && args->patch <= args->size);

    if (args->images == 0)
        return;
    struct cpuops_patchify_normalise copy = *args;
    team_run(cpuops->team, (uint32_t)args->images, patchify_normalise_job, &copy);
}

struct patches_run {
    const struct kernels *kernels;
    const struct cpuops_embed_patches *args;
};

static void patches_job(void *context, uint32_t job, uint32_t worker)
{
    const struct patches_run *run = context;
    const struct cpuops_embed_patches *args = run->args;
    (void)worker;
    float *target = args->target + job * (args->grid + 1) * args->width;
    const float *patches = args->patches + job * args->grid * args->width;

    run->kernels->add(args->first, args->positions, args->width, target);
    for (size_t p = 0; p < args->grid; p++)
        run->kernels->add(patches + p * args->width, args->positions + (p + 1) * args->width,
                          args->width, target + (p + 1) * args->width);
}

void cpuops_embed_patches(struct cpuops *cpuops, const struct cpuops_embed_patches *args)
{
    assert(cpuops);
    assert(args && args->width > 0 && args->images <= UINT32_MAX);

    struct patches_run run = {cpuops->kernels, args};
    team_run(cpuops->team, (uint32_t)args->images, patches_job, &run);
}

void cpuops_gather(const float *source, const uint32_t *rows, size_t count, size_t width,
                   float *target)
{
    for (size_t i = 0; i < count; i++)
        memcpy(target + i * width, source + rows[i] * width, width * sizeof(float));
}

enum status cpuops_normalise(float *values, size_t rows, size_t width, size_t *bad)
{
    for (size_t row = 0; row < rows; row++) {
        enum status status = embedding_normalise(values + row * width, width);
        if (status != STATUS_OK) {
            *bad = row;
            return status;
        }
    }
    return STATUS_OK;
}
