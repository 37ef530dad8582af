// SPDX-License-Identifier: Apache-2.0
// Picks the backend and checks every shape before the backend sees it.

#include "shaders/ops/ops.h"

#include <assert.h>
#include <ctype.h>
#include <string.h>

#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "shaders/ops/ops_internal.h"

// Whether the text has the form of 6d657361-3232-2e33-2e36-000000000000.
static bool is_uuid(const char *text)
{
    static const char form[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
    for (size_t i = 0; i < sizeof(form) - 1; i++) {
        if (form[i] == '-' ? text[i] != '-' : !isxdigit((unsigned char)text[i]))
            return false; // also at the text's end
    }
    return text[sizeof(form) - 1] == '\0';
}

static enum status open_backend(const struct ops_backend *backend, const char *device,
                                uint32_t threads, struct ops **out, struct reason *why)
{
    struct ops *ops = mem_alloc(sizeof(*ops));
    ops->backend = backend;
    enum status status = backend->open(device, threads, &ops->state, why);
    if (status != STATUS_OK) {
        mem_free(ops);
        return status;
    }
    *out = ops;
    return STATUS_OK;
}

static enum status open_vulkan(const char *uuid, struct ops **out, struct reason *why)
{
    struct ops *ops = NULL;
    enum status status = open_backend(&ops_vulkan_backend, uuid, 0, &ops, why);
    if (status != STATUS_OK)
        return status;
    ops->verdict = ops_vulkan_verdict(ops->state);
    if (!(ops->verdict->right & OPS_WAYS_PRODUCT)) { // nobody has tried it yet
        status = ops_canary(ops, why);
        if (status == STATUS_OK)
            ops_vulkan_keep(ops->state);
    } else if (ops->verdict->wrong) {
        char dropped[OPS_DROPPED_BYTES];
        ops_dropped(ops, dropped);
        log_warn("device_ways_dropped_before", "ways=\"%s\"", dropped);
    }
    if (status != STATUS_OK) {
        ops_close(&ops);
        return status;
    }
    *out = ops;
    return STATUS_OK;
}

enum status ops_open(const char *device, uint32_t threads, struct ops **out, struct reason *why)
{
    assert(device);
    assert(out);

    if (strcmp(device, "auto") == 0 || strcmp(device, "cpu") == 0)
        return open_backend(&ops_cpu_backend, device, threads, out, why);
    if (strcmp(device, ops_cpu_bf16_backend.name) == 0)
        return open_backend(&ops_cpu_bf16_backend, device, threads, out, why);
    if (!is_uuid(device))
        return reason_set(why, STATUS_INVALID, "device",
                          "'%s': possible are auto, cpu, cpu-bf16, and the UUID of a device of "
                          "`reco doctor`",
                          device);
    return open_vulkan(device, out, why);
}

void ops_close(struct ops **ops)
{
    assert(ops);

    if (!*ops)
        return;
    (*ops)->backend->close((*ops)->state);
    ops_profile_destroy(&(*ops)->profile);
    mem_free(*ops);
    *ops = NULL;
}

const char *ops_name(const struct ops *ops)
{
    assert(ops);

    return ops->backend->name;
}

bool ops_is_reduced(const struct ops *ops)
{
    assert(ops);

    return ops->backend == &ops_cpu_bf16_backend;
}

bool ops_reads_late(const struct ops *ops)
{
    assert(ops);

    return ops->backend->takes_rows;
}

size_t ops_rows_padded(const struct ops *ops, size_t rows)
{
    assert(ops);

    size_t tile = ops->backend->row_tile;
    return (rows + tile - 1) / tile * tile;
}

size_t ops_batch_rows(const struct ops *ops, size_t columns)
{
    assert(ops);
    assert(columns > 0);

    const struct ops_backend *backend = ops->backend;
    return backend->batch_rows ? backend->batch_rows(ops->state, columns) : OPS_BATCH_ROWS;
}

// --- memory

enum status ops_alloc(struct ops *ops, size_t count, struct ops_buffer **out, struct reason *why)
{
    assert(ops);
    assert(out);

    struct ops_buffer *buffer = mem_alloc(sizeof(*buffer));
    buffer->count = count;
    enum status status = ops->backend->alloc(ops->state, count, &buffer->memory, why);
    if (status != STATUS_OK) {
        mem_free(buffer);
        return status;
    }
    *out = buffer;
    return STATUS_OK;
}

void ops_free(struct ops *ops, struct ops_buffer **buffer)
{
    assert(buffer);

    if (!*buffer)
        return;
    ops->backend->free(ops->state, (*buffer)->memory);
    mem_free(*buffer);
    *buffer = NULL;
}

static bool holds(const struct ops_buffer *buffer, size_t offset, size_t count)
{
    return offset <= buffer->count && count <= buffer->count - offset;
}

enum status ops_upload(struct ops *ops, struct ops_buffer *buffer, size_t offset, const void *data,
                       size_t count, struct reason *why)
{
    assert(ops);
    assert(buffer && holds(buffer, offset, count));

    if (ops_profile_is_counting(ops->profile))
        return STATUS_OK;
    return ops->backend->upload(ops->state, buffer->memory, offset, data, count, why);
}

enum status ops_download(struct ops *ops, const struct ops_buffer *buffer, size_t offset,
                         void *data, size_t count, struct reason *why)
{
    assert(ops);
    assert(buffer && holds(buffer, offset, count));

    if (ops_profile_is_counting(ops->profile))
        return STATUS_OK;
    return ops->backend->download(ops->state, buffer->memory, offset, data, count, why);
}

enum status ops_fetch(struct ops *ops, const struct ops_buffer *buffer, size_t offset, void *data,
                      size_t count, struct reason *why)
{
    assert(ops);
    assert(buffer && holds(buffer, offset, count));

    const struct ops_backend *backend = ops->backend;
    if (!backend->fetch || ops_profile_is_counting(ops->profile))
        return ops_download(ops, buffer, offset, data, count, why);
    return backend->fetch(ops->state, buffer->memory, offset, data, count, why);
}

enum status ops_finish(struct ops *ops, struct reason *why)
{
    assert(ops);

    return ops->backend->finish ? ops->backend->finish(ops->state, why) : STATUS_OK;
}

// --- matrices

// All rows in one array, for a backend that wants them so.
static enum status create_gathered(struct ops *ops, const struct ops_matrix_params *params,
                                   void **prepared, struct reason *why)
{
    struct ops_matrix_params gathered = *params;
    size_t count = (size_t)params->columns * params->depth;
    float *weights = mem_try_alloc_array(count, sizeof(float));
    if (!weights)
        return reason_set(why, STATUS_NO_MEMORY, "shape", "no memory for a matrix of %u x %u",
                          params->columns, params->depth);
    enum status status =
        params->rows(params->context, 0, params->columns, 0, params->depth, weights);
    gathered.weights = weights;
    if (status == STATUS_OK)
        status = ops->backend->matrix_create(ops->state, &gathered, prepared, why);
    mem_free(weights);
    return status;
}

enum status ops_matrix_create(struct ops *ops, const struct ops_matrix_params *params,
                              struct ops_matrix **out, struct reason *why)
{
    assert(ops);
    assert(params && (params->weights || params->rows));
    assert(out);

    if (params->columns < 1 || params->columns > OPS_SIZE_MAX || params->depth < 1 ||
        params->depth > OPS_SIZE_MAX)
        return reason_set(why, STATUS_INVALID, "shape", "a matrix of %u x %u: 1..%u are possible",
                          params->columns, params->depth, OPS_SIZE_MAX);

    struct ops_matrix *matrix = mem_alloc(sizeof(*matrix));
    matrix->columns = params->columns;
    matrix->depth = params->depth;
    matrix->epilogue = params->epilogue;
    enum status status =
        params->weights || ops->backend->takes_rows
            ? ops->backend->matrix_create(ops->state, params, &matrix->prepared, why)
            : create_gathered(ops, params, &matrix->prepared, why);
    if (status != STATUS_OK) {
        mem_free(matrix);
        return status;
    }
    *out = matrix;
    return STATUS_OK;
}

void ops_matrix_destroy(struct ops *ops, struct ops_matrix **matrix)
{
    assert(matrix);

    if (!*matrix)
        return;
    ops->backend->matrix_destroy(ops->state, (*matrix)->prepared);
    mem_free(*matrix);
    *matrix = NULL;
}

uint32_t ops_matrix_columns(const struct ops_matrix *matrix)
{
    assert(matrix);

    return matrix->columns;
}

// --- operations

// Before each operation: whether it is done. Starts the clock when a profile is on; what was put
// off before is no part of it. One that counts only does nothing.
static bool begin(struct ops *ops, double *begun, enum status *status, struct reason *why)
{
    *begun = 0;
    *status = STATUS_OK;
    if (ops_profile_is_counting(ops->profile))
        return false;
    if (!ops_profile_is_on(ops->profile))
        return true;
    if (ops->backend->wait)
        *status = ops->backend->wait(ops->state, why);
    if (ops_profile_is_of_device(ops->profile))
        (void)ops->backend->clock_take(ops->state);
    *begun = ops_profile_now();
    return *status == STATUS_OK;
}

// Behind it.
static enum status end(struct ops *ops, double begun, const struct ops_work *work,
                       enum status status, struct reason *why)
{
    double seconds = 0;
    if (!ops_profile_is_on(ops->profile) || status != STATUS_OK)
        return status;
    if (!ops_profile_is_counting(ops->profile)) {
        if (ops->backend->wait)
            status = ops->backend->wait(ops->state, why);
        seconds = ops_profile_now() - begun;
        if (ops_profile_is_of_device(ops->profile))
            seconds = ops->backend->clock_take(ops->state);
    }
    ops_profile_add(ops->profile, work, seconds);
    return status;
}

// Bytes of a view's elements.
static double view_bytes(const struct ops_view *view)
{
    return 4.0 * (double)view->rows * (double)view->columns;
}

// Whether the view, with `rows` rows, lies inside its buffer.
static bool fits_rows(const struct ops_view *view, size_t rows)
{
    size_t count;
    return view->buffer && view->offset % OPS_VIEW_ALIGN == 0 &&
           mem_multiply(rows, view->columns, &count) && holds(view->buffer, view->offset, count);
}

static bool fits(const struct ops_view *view)
{
    return fits_rows(view, view->rows);
}

static bool is_row(const struct ops_view *view, size_t columns)
{
    return view->rows == 1 && view->columns == columns && fits(view);
}

enum status ops_product(struct ops *ops, const struct ops_matrix *matrix, struct ops_view source,
                        struct ops_view target, struct reason *why)
{
    assert(ops);
    assert(matrix);
    assert(source.columns == matrix->depth && target.columns == matrix->columns);
    assert(source.rows == target.rows);
    assert(fits_rows(&source, ops_rows_padded(ops, source.rows)));
    assert(fits_rows(&target, ops_rows_padded(ops, target.rows)));
    assert(source.buffer != target.buffer);

    static const char *const variants[] = {
        [OPS_PLAIN] = "",
        [OPS_QUICK_GELU] = ", quick-GELU",
        [OPS_GELU] = ", GELU",
        [OPS_ADD] = ", residual",
    };
    double weights = (double)matrix->columns * matrix->depth;
    const struct ops_work work = {
        .kind = "product",
        .columns = matrix->columns,
        .depth = matrix->depth,
        .variant = variants[matrix->epilogue],
        .rows = source.rows,
        .operations = 2 * weights * (double)source.rows,
        .bytes = 4 * weights + view_bytes(&source) +
                 view_bytes(&target) * (matrix->epilogue == OPS_ADD ? 2 : 1),
    };
    double begun;
    enum status status;
    if (begin(ops, &begun, &status, why))
        status = ops->backend->product(ops->state, matrix->prepared, &source, &target, why);
    return end(ops, begun, &work, status, why);
}

enum status ops_layernorm(struct ops *ops, const struct ops_layernorm *args, struct reason *why)
{
    assert(ops);
    assert(fits(&args->source) && fits(&args->target));
    assert(args->source.columns > 0 && args->source.columns == args->target.columns);
    assert(args->source.rows == args->target.rows);
    assert(is_row(&args->gain, args->source.columns) && is_row(&args->bias, args->source.columns));

    const struct ops_work work = {
        .kind = "layernorm",
        .columns = args->target.columns,
        .variant = "",
        .rows = args->target.rows,
        .operations = 8 * view_bytes(&args->source) / 4,
        .bytes = 2 * view_bytes(&args->source),
    };
    double begun;
    enum status status;
    if (begin(ops, &begun, &status, why))
        status = ops->backend->layernorm(ops->state, args, why);
    return end(ops, begun, &work, status, why);
}

enum status ops_prepare_attention(struct ops *ops, uint32_t dimension, struct reason *why)
{
    assert(ops);
    assert(dimension > 0);

    struct ops_verdict *verdict = ops->verdict;
    if (!verdict)
        return STATUS_OK;
    if (dimension > 64 * OPS_HEAD_WORDS)
        return reason_set(why, STATUS_UNSUPPORTED, "device",
                          "attention heads of %u numbers; kernels for GPUs have at most %u",
                          dimension, 64 * OPS_HEAD_WORDS);
    uint64_t *word = &verdict->heads[(dimension - 1) / 64];
    uint64_t bit = UINT64_C(1) << (dimension - 1) % 64;
    if (*word & bit)
        return STATUS_OK;
    // Known from here on, for what tries it is attention too; and no part of a profile.
    *word |= bit;
    struct ops_profile *profile = ops->profile;
    ops->profile = NULL;
    enum status status = ops_canary_attention(ops, dimension, why);
    ops->profile = profile;
    // The others may have been forgotten.
    *word = status == STATUS_OK ? *word | bit : *word & ~bit;
    if (status == STATUS_OK)
        ops_vulkan_keep(ops->state);
    return status;
}

enum status ops_attention(struct ops *ops, const struct ops_attention *args, struct reason *why)
{
    assert(ops);
    assert(fits(&args->source) && fits(&args->target) && fits(&args->starts));
    assert(args->source.columns == 3 * args->target.columns);
    assert(args->source.rows == args->target.rows);
    assert(args->starts.rows == 1 && args->starts.columns >= 1);
    assert(args->heads > 0 && args->target.columns > 0 && args->target.columns % args->heads == 0);
    assert(args->source.buffer != args->target.buffer);

    size_t dimension = args->target.columns / args->heads;
    enum status status = ops_prepare_attention(ops, (uint32_t)dimension, why);
    if (status != STATUS_OK)
        return status;

    // Of sequences of unequal length the profile knows the longest only: an upper bound.
    double pairs = (double)args->source.rows * args->longest;
    const struct ops_work work = {
        .kind = "attention",
        .columns = args->target.columns,
        .variant = args->causal ? ", causal" : "",
        .rows = args->target.rows,
        .operations = 4 * pairs * (double)args->target.columns * (args->causal ? 0.5 : 1),
        .bytes = view_bytes(&args->source) + view_bytes(&args->target),
    };
    double begun;
    if (begin(ops, &begun, &status, why))
        status = ops->backend->attention(ops->state, args, why);
    return end(ops, begun, &work, status, why);
}

enum status ops_embed_tokens(struct ops *ops, const struct ops_embed_tokens *args,
                             struct reason *why)
{
    assert(ops);
    assert(fits(&args->table) && fits(&args->positions) && fits(&args->target));
    assert(args->target.columns > 0 && args->table.columns == args->target.columns);
    assert(args->positions.columns == args->target.columns);
    assert(is_row(&args->ids, args->target.rows) && is_row(&args->places, args->target.rows));

    const struct ops_work work = {
        .kind = "embed tokens",
        .columns = args->target.columns,
        .variant = "",
        .rows = args->target.rows,
        .operations = view_bytes(&args->target) / 4,
        .bytes = 3 * view_bytes(&args->target),
    };
    double begun;
    enum status status;
    if (begin(ops, &begun, &status, why))
        status = ops->backend->embed_tokens(ops->state, args, why);
    return end(ops, begun, &work, status, why);
}

enum status ops_patchify(struct ops *ops, const struct ops_patchify *args, struct reason *why)
{
    assert(ops);
    assert(fits(&args->pixels) && fits(&args->target));
    assert(args->patch > 0 && args->patch <= args->pixels.columns);
    assert(args->target.columns == (size_t)3 * args->patch * args->patch);
    size_t side = args->pixels.columns / args->patch;
    assert(args->pixels.rows % (3 * args->pixels.columns) == 0);
    assert(args->target.rows == args->pixels.rows / (3 * args->pixels.columns) * side * side);

    const struct ops_work work = {
        .kind = "patchify",
        .columns = args->target.columns,
        .variant = "",
        .rows = args->target.rows,
        .operations = 0,
        .bytes = 2 * view_bytes(&args->target),
    };
    double begun;
    enum status status;
    if (begin(ops, &begun, &status, why))
        status = ops->backend->patchify(ops->state, args, why);
    return end(ops, begun, &work, status, why);
}

enum status ops_patchify_normalise(struct ops *ops, const struct ops_patchify_normalise *args,
                                   struct reason *why)
{
    assert(ops);
    assert(fits(&args->pixels) && fits(&args->table) && fits(&args->target));
    assert(args->patch > 0 && args->patch <= args->size);
    assert(args->table.rows == 3 && args->table.columns == 256);
    assert(args->pixels.columns == OPS_PICTURE_WORDS(args->size));
    assert(args->target.columns == (size_t)3 * args->patch * args->patch);
    size_t side = args->size / args->patch;
    assert(args->target.rows == args->pixels.rows * side * side);

    const struct ops_work work = {
        .kind = "patchify normalise",
        .columns = args->target.columns,
        .variant = "",
        .rows = args->target.rows,
        .operations = 0,
        .bytes = view_bytes(&args->target) * 5 / 4,
    };
    double begun;
    enum status status;
    if (begin(ops, &begun, &status, why))
        status = ops->backend->patchify_normalise(ops->state, args, why);
    return end(ops, begun, &work, status, why);
}

enum status ops_embed_patches(struct ops *ops, const struct ops_embed_patches *args,
                              struct reason *why)
{
    assert(ops);
    assert(fits(&args->patches) && fits(&args->positions) && fits(&args->target));
    size_t width = args->target.columns;
    size_t grid = args->positions.rows - 1;
    assert(width > 0 && args->positions.rows > 1 && is_row(&args->first, width));
    assert(args->patches.columns == width && args->positions.columns == width);
    assert(args->target.rows % (grid + 1) == 0);
    assert(args->patches.rows == args->target.rows / (grid + 1) * grid);

    const struct ops_work work = {
        .kind = "embed patches",
        .columns = args->target.columns,
        .variant = "",
        .rows = args->target.rows,
        .operations = view_bytes(&args->target) / 4,
        .bytes = 3 * view_bytes(&args->target),
    };
    double begun;
    enum status status;
    if (begin(ops, &begun, &status, why))
        status = ops->backend->embed_patches(ops->state, args, why);
    return end(ops, begun, &work, status, why);
}

enum status ops_gather(struct ops *ops, const struct ops_gather *args, struct reason *why)
{
    assert(ops);
    assert(fits(&args->source) && fits(&args->target));
    assert(args->source.columns == args->target.columns);
    assert(is_row(&args->rows, args->target.rows));

    const struct ops_work work = {
        .kind = "gather",
        .columns = args->target.columns,
        .variant = "",
        .rows = args->target.rows,
        .operations = 0,
        .bytes = 2 * view_bytes(&args->target),
    };
    double begun;
    enum status status;
    if (begin(ops, &begun, &status, why))
        status = ops->backend->gather(ops->state, args, why);
    return end(ops, begun, &work, status, why);
}

// Compares exact search with the CPU's where it has not been: models have no use for it, so not
// every opening waits for its kernels.
static enum status prepare_search(struct ops *ops, struct reason *why)
{
    struct ops_verdict *verdict = ops->verdict;
    if (!verdict || verdict->right & OPS_SEARCH)
        return STATUS_OK;
    // What tries it is a search too, and no part of a profile.
    verdict->right |= OPS_SEARCH;
    struct ops_profile *profile = ops->profile;
    ops->profile = NULL;
    enum status status = ops_canary_search(ops, why);
    ops->profile = profile;
    if (status == STATUS_OK)
        ops_vulkan_keep(ops->state);
    else
        verdict->right &= ~OPS_SEARCH;
    return status;
}

enum status ops_score_topk(struct ops *ops, const struct ops_score_topk *args, struct reason *why)
{
    assert(ops);
    assert(fits(&args->queries) && fits(&args->rows) && fits(&args->ids) && fits(&args->scores));
    size_t depth = args->queries.columns;
    assert(depth > 0 && depth <= OPS_SIZE_MAX && depth % 4 == 0 && args->rows.columns * 2 == depth);
    assert(args->ids.columns >= 1 && args->ids.columns <= OPS_TOPK_MAX);
    assert(args->ids.rows == args->queries.rows && args->scores.rows == args->queries.rows);
    assert(args->scores.columns == args->ids.columns && args->rows.rows < UINT32_MAX);

    enum status status = prepare_search(ops, why);
    if (status != STATUS_OK)
        return status;
    const struct ops_work work = {
        .kind = "search",
        .columns = depth,
        .variant = "",
        .rows = args->queries.rows,
        .operations = 2 * (double)args->queries.rows * (double)args->rows.rows * (double)depth,
        .bytes = view_bytes(&args->queries) + view_bytes(&args->rows),
    };
    double begun;
    if (begin(ops, &begun, &status, why))
        status = ops->backend->score_topk(ops->state, args, why);
    return end(ops, begun, &work, status, why);
}

enum status ops_normalise(struct ops *ops, struct ops_view rows, struct reason *why)
{
    assert(ops);
    assert(fits(&rows) && rows.columns > 0);

    const struct ops_work work = {
        .kind = "normalise",
        .columns = rows.columns,
        .variant = "",
        .rows = rows.rows,
        .operations = 3 * view_bytes(&rows) / 4,
        .bytes = 2 * view_bytes(&rows),
    };
    double begun;
    enum status status;
    if (begin(ops, &begun, &status, why))
        status = ops->backend->normalise(ops->state, &rows, why);
    return end(ops, begun, &work, status, why);
}
