// SPDX-License-Identifier: Apache-2.0
// The operator table on the CPU: buffers are plain memory, operations run at once.

#include <assert.h>
#include <string.h>

#include "proto/base/mem.h"
#include "shaders/cpu/cpuops.h"
#include "shaders/cpu/dense.h"
#include "shaders/cpu/nearest.h"
#include "shaders/cpu/team.h"
#include "shaders/ops/ops_internal.h"

#define ALIGNMENT 64u // bytes

_Static_assert(OPS_SIZE_MAX == DENSE_SIZE_MAX, "ops.h promises what dense.h can do");

struct cpu_state {
    struct team *team;
    enum dense_precision precision;
    struct dense *dense;
    struct dense *exact; // for exact search: `dense`, or one of single precision beside it
    struct cpuops *cpuops;
};

static float *floats(const struct ops_view *view)
{
    return (float *)view->buffer->memory + view->offset;
}

static const uint32_t *numbers(const struct ops_view *view)
{
    return (const uint32_t *)view->buffer->memory + view->offset;
}

static void cpu_close(void *opaque)
{
    struct cpu_state *state = opaque;
    cpuops_close(&state->cpuops);
    if (state->exact != state->dense)
        dense_close(&state->exact);
    dense_close(&state->dense);
    team_destroy(&state->team);
    mem_free(state);
}

static enum status cpu_open(const char *device, uint32_t threads, void **out, struct reason *why)
{
    struct cpu_state *state = mem_alloc(sizeof(*state));
    bool is_half = strcmp(device, ops_cpu_bf16_backend.name) == 0;
    state->precision = is_half ? DENSE_BF16 : DENSE_SINGLE;
    enum status status = team_create(threads, &state->team, why);
    if (status == STATUS_OK)
        status = dense_open(state->team, state->precision, &state->dense, why);
    state->exact = state->dense;
    if (status == STATUS_OK && is_half)
        status = dense_open(state->team, DENSE_SINGLE, &state->exact, why);
    if (status != STATUS_OK) {
        cpu_close(state);
        return status;
    }
    cpuops_open(state->team, &state->cpuops);
    *out = state;
    return STATUS_OK;
}

// Zeros come from the kernel page by page as they are used, since a batch hardly ever needs the
// whole of a buffer. What was allocated begins up to ALIGNMENT bytes before the memory; where,
// stands right before it.
static enum status cpu_alloc(void *state, size_t count, void **memory, struct reason *why)
{
    (void)state;
    size_t bytes;
    char *whole = NULL;
    if (mem_multiply(count, 4, &bytes) && mem_add(bytes, ALIGNMENT + sizeof(void *), &bytes))
        whole = mem_try_alloc_zeroed(bytes);
    if (!whole)
        return reason_set(why, STATUS_NO_MEMORY, "", "no memory for %zu numbers", count);
    char *behind = whole + sizeof(void *);
    char *aligned = behind + (ALIGNMENT - (uintptr_t)behind % ALIGNMENT) % ALIGNMENT;
    memcpy(aligned - sizeof(void *), &whole, sizeof(whole));
    *memory = aligned;
    return STATUS_OK;
}

static void cpu_free(void *state, void *memory)
{
    (void)state;
    void *whole;
    memcpy(&whole, (char *)memory - sizeof(void *), sizeof(whole));
    mem_free(whole);
}

static enum status cpu_upload(void *state, void *memory, size_t offset, const void *data,
                              size_t count, struct reason *why)
{
    (void)state;
    (void)why;
    if (count > 0)
        memcpy((float *)memory + offset, data, count * 4);
    return STATUS_OK;
}

static enum status cpu_download(void *state, const void *memory, size_t offset, void *data,
                                size_t count, struct reason *why)
{
    (void)state;
    (void)why;
    if (count > 0)
        memcpy(data, (const float *)memory + offset, count * 4);
    return STATUS_OK;
}

static enum status cpu_matrix_create(void *opaque, const struct ops_matrix_params *params,
                                     void **out, struct reason *why)
{
    static const enum dense_epilogue epilogue[] = {
        [OPS_PLAIN] = DENSE_PLAIN,
        [OPS_QUICK_GELU] = DENSE_QUICK_GELU,
        [OPS_GELU] = DENSE_GELU,
        [OPS_ADD] = DENSE_ADD,
    };
    struct cpu_state *state = opaque;
    struct dense_params dense = {
        .weights = params->weights,
        .bias = params->bias,
        .columns = params->columns,
        .depth = params->depth,
        .epilogue = epilogue[params->epilogue],
        .rows = params->rows,
        .context = params->context,
        .late = params->late,
    };
    struct dense_matrix *matrix = NULL;
    enum status status = dense_prepare(state->dense, &dense, &matrix, why);
    if (status == STATUS_OK)
        *out = matrix;
    return status;
}

static void cpu_matrix_destroy(void *state, void *prepared)
{
    (void)state;
    struct dense_matrix *matrix = prepared;
    dense_free(&matrix);
}

static enum status cpu_product(void *opaque, const void *matrix, const struct ops_view *source,
                               const struct ops_view *target, struct reason *why)
{
    struct cpu_state *state = opaque;
    return dense_run(state->dense, matrix, floats(source), source->rows, floats(target), why);
}

static enum status cpu_layernorm(void *opaque, const struct ops_layernorm *args, struct reason *why)
{
    struct cpu_state *state = opaque;
    (void)why;
    cpuops_layernorm(state->cpuops, &(struct cpuops_layernorm){
                                        .source = floats(&args->source),
                                        .gain = floats(&args->gain),
                                        .bias = floats(&args->bias),
                                        .epsilon = args->epsilon,
                                        .rows = args->source.rows,
                                        .width = args->source.columns,
                                        .target = floats(&args->target),
                                    });
    return STATUS_OK;
}

static enum status cpu_attention(void *opaque, const struct ops_attention *args, struct reason *why)
{
    struct cpu_state *state = opaque;
    const uint32_t *starts = numbers(&args->starts);
    uint32_t sequences = (uint32_t)(args->starts.columns - 1);
    assert(starts[0] == 0 && starts[sequences] == args->source.rows);

    enum status status = cpuops_attention(state->cpuops, &(struct cpuops_attention){
                                                             .source = floats(&args->source),
                                                             .starts = starts,
                                                             .sequences = sequences,
                                                             .heads = args->heads,
                                                             .width = args->target.columns,
                                                             .causal = args->causal,
                                                             .target = floats(&args->target),
                                                         });
    if (status != STATUS_OK)
        return reason_set(why, status, "", "no memory for attention over %u rows", args->longest);
    return STATUS_OK;
}

static bool all_below(const uint32_t *values, size_t count, size_t bound)
{
    for (size_t i = 0; i < count; i++) {
        if (values[i] >= bound)
            return false;
    }
    return true;
}

static enum status cpu_embed_tokens(void *opaque, const struct ops_embed_tokens *args,
                                    struct reason *why)
{
    struct cpu_state *state = opaque;
    (void)why;
    assert(all_below(numbers(&args->ids), args->target.rows, args->table.rows));
    assert(all_below(numbers(&args->places), args->target.rows, args->positions.rows));

    cpuops_embed_tokens(state->cpuops, &(struct cpuops_embed_tokens){
                                           .table = floats(&args->table),
                                           .positions = floats(&args->positions),
                                           .ids = numbers(&args->ids),
                                           .places = numbers(&args->places),
                                           .rows = args->target.rows,
                                           .width = args->target.columns,
                                           .target = floats(&args->target),
                                       });
    return STATUS_OK;
}

static enum status cpu_patchify(void *opaque, const struct ops_patchify *args, struct reason *why)
{
    struct cpu_state *state = opaque;
    (void)why;
    cpuops_patchify(state->cpuops, &(struct cpuops_patchify){
                                       .pixels = floats(&args->pixels),
                                       .images = args->pixels.rows / (3 * args->pixels.columns),
                                       .size = args->pixels.columns,
                                       .patch = args->patch,
                                       .target = floats(&args->target),
                                   });
    return STATUS_OK;
}

static enum status cpu_patchify_normalise(void *opaque, const struct ops_patchify_normalise *args,
                                          struct reason *why)
{
    struct cpu_state *state = opaque;
    (void)why;
    const struct cpuops_patchify_normalise work = {
        .pixels = (const uint8_t *)numbers(&args->pixels),
        .table = floats(&args->table),
        .images = args->pixels.rows,
        .stride = args->pixels.columns * 4,
        .size = args->size,
        .patch = args->patch,
        .target = floats(&args->target),
    };
    cpuops_patchify_normalise(state->cpuops, &work);
    return STATUS_OK;
}

static enum status cpu_embed_patches(void *opaque, const struct ops_embed_patches *args,
                                     struct reason *why)
{
    struct cpu_state *state = opaque;
    (void)why;
    cpuops_embed_patches(state->cpuops, &(struct cpuops_embed_patches){
                                            .patches = floats(&args->patches),
                                            .first = floats(&args->first),
                                            .positions = floats(&args->positions),
                                            .images = args->target.rows / args->positions.rows,
                                            .grid = args->positions.rows - 1,
                                            .width = args->target.columns,
                                            .target = floats(&args->target),
                                        });
    return STATUS_OK;
}

static enum status cpu_gather(void *state, const struct ops_gather *args, struct reason *why)
{
    (void)state;
    (void)why;
    assert(all_below(numbers(&args->rows), args->target.rows, args->source.rows));

    cpuops_gather(floats(&args->source), numbers(&args->rows), args->target.rows,
                  args->target.columns, floats(&args->target));
    return STATUS_OK;
}

static enum status cpu_score_topk(void *opaque, const struct ops_score_topk *args,
                                  struct reason *why)
{
    struct cpu_state *state = opaque;
    const struct nearest_params params = {
        .queries = floats(&args->queries),
        .rows = (const uint16_t *)numbers(&args->rows),
        .query_count = args->queries.rows,
        .row_count = args->rows.rows,
        .depth = (uint32_t)args->queries.columns,
        .k = (uint32_t)args->ids.columns,
        .ids = (uint32_t *)args->ids.buffer->memory + args->ids.offset,
        .scores = floats(&args->scores),
    };
    return nearest_search(state->team, state->exact, &params, why);
}

static enum status cpu_normalise(void *state, const struct ops_view *rows, struct reason *why)
{
    (void)state;
    size_t bad = 0;
    if (cpuops_normalise(floats(rows), rows->rows, rows->columns, &bad) != STATUS_OK)
        return reason_set(why, STATUS_INTERNAL, "",
                          "embedding %zu of the batch is zero or not finite", bad);
    return STATUS_OK;
}

static double cpu_peak(void *opaque)
{
    struct cpu_state *state = opaque;
    return dense_peak(state->team, state->precision);
}

#define CPU_BACKEND(word)                                                                          \
    {                                                                                              \
        .name = (word), .row_tile = DENSE_ROWS, .open = cpu_open, .close = cpu_close,              \
        .alloc = cpu_alloc, .free = cpu_free, .upload = cpu_upload, .download = cpu_download,      \
        .takes_rows = true, .matrix_create = cpu_matrix_create,                                    \
        .matrix_destroy = cpu_matrix_destroy, .product = cpu_product, .layernorm = cpu_layernorm,  \
        .attention = cpu_attention, .embed_tokens = cpu_embed_tokens, .patchify = cpu_patchify,    \
        .patchify_normalise = cpu_patchify_normalise, .embed_patches = cpu_embed_patches,          \
        .gather = cpu_gather, .score_topk = cpu_score_topk, .normalise = cpu_normalise,            \
        .peak = cpu_peak,                                                                          \
    }

const struct ops_backend ops_cpu_backend = CPU_BACKEND("cpu");
const struct ops_backend ops_cpu_bf16_backend = CPU_BACKEND("cpu-bf16");
