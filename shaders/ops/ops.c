// SPDX-License-Identifier: Apache-2.0
// Picks the backend and checks every shape before the backend sees it.

#include "shaders/ops/ops.h"

#include <assert.h>
#include <string.h>

#include "proto/base/mem.h"
#include "shaders/ops/ops_internal.h"

struct ops {
    const struct ops_backend *backend;
    void *state; // the backend's
};

enum status ops_open(const char *device, uint32_t threads, struct ops **out, struct reason *why)
{
    assert(device);
    assert(out);

    if (strcmp(device, "auto") != 0 && strcmp(device, "cpu") != 0)
        return reason_set(why, STATUS_UNSUPPORTED, "device",
                          "'%s': this build has the CPU backend only; possible are auto and cpu",
                          device);

    struct ops *ops = mem_alloc(sizeof(*ops));
    ops->backend = &ops_cpu_backend;
    enum status status = ops->backend->open(threads, &ops->state, why);
    if (status != STATUS_OK) {
        mem_free(ops);
        return status;
    }
    *out = ops;
    return STATUS_OK;
}

void ops_close(struct ops **ops)
{
    assert(ops);

    if (!*ops)
        return;
    (*ops)->backend->close((*ops)->state);
    mem_free(*ops);
    *ops = NULL;
}

const char *ops_name(const struct ops *ops)
{
    assert(ops);

    return ops->backend->name;
}

size_t ops_rows_padded(const struct ops *ops, size_t rows)
{
    assert(ops);

    size_t tile = ops->backend->row_tile;
    return (rows + tile - 1) / tile * tile;
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

    return ops->backend->upload(ops->state, buffer->memory, offset, data, count, why);
}

enum status ops_download(struct ops *ops, const struct ops_buffer *buffer, size_t offset,
                         void *data, size_t count, struct reason *why)
{
    assert(ops);
    assert(buffer && holds(buffer, offset, count));

    return ops->backend->download(ops->state, buffer->memory, offset, data, count, why);
}

// --- matrices

enum status ops_matrix_create(struct ops *ops, const struct ops_matrix_params *params,
                              struct ops_matrix **out, struct reason *why)
{
    assert(ops);
    assert(params && params->weights);
    assert(out);

    if (params->columns < 1 || params->columns > OPS_SIZE_MAX || params->depth < 1 ||
        params->depth > OPS_SIZE_MAX)
        return reason_set(why, STATUS_INVALID, "shape", "a matrix of %u x %u: 1..%u are possible",
                          params->columns, params->depth, OPS_SIZE_MAX);

    struct ops_matrix *matrix = mem_alloc(sizeof(*matrix));
    matrix->columns = params->columns;
    matrix->depth = params->depth;
    enum status status = ops->backend->matrix_create(ops->state, params, &matrix->prepared, why);
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

// Whether the view, with `rows` rows, lies inside its buffer.
static bool fits_rows(const struct ops_view *view, size_t rows)
{
    size_t count;
    return view->buffer && mem_multiply(rows, view->columns, &count) &&
           holds(view->buffer, view->offset, count);
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

    return ops->backend->product(ops->state, matrix->prepared, &source, &target, why);
}

enum status ops_layernorm(struct ops *ops, const struct ops_layernorm *args, struct reason *why)
{
    assert(ops);
    assert(fits(&args->source) && fits(&args->target));
    assert(args->source.columns > 0 && args->source.columns == args->target.columns);
    assert(args->source.rows == args->target.rows);
    assert(is_row(&args->gain, args->source.columns) && is_row(&args->bias, args->source.columns));

    return ops->backend->layernorm(ops->state, args, why);
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

    return ops->backend->attention(ops->state, args, why);
}

enum status ops_embed_tokens(struct ops *ops, const struct ops_embed_tokens *args,
                             struct reason *why)
{
    assert(ops);
    assert(fits(&args->table) && fits(&args->positions) && fits(&args->target));
    assert(args->target.columns > 0 && args->table.columns == args->target.columns);
    assert(args->positions.columns == args->target.columns);
    assert(is_row(&args->ids, args->target.rows) && is_row(&args->places, args->target.rows));

    return ops->backend->embed_tokens(ops->state, args, why);
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

    return ops->backend->patchify(ops->state, args, why);
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

    return ops->backend->embed_patches(ops->state, args, why);
}

enum status ops_gather(struct ops *ops, const struct ops_gather *args, struct reason *why)
{
    assert(ops);
    assert(fits(&args->source) && fits(&args->target));
    assert(args->source.columns == args->target.columns);
    assert(is_row(&args->rows, args->target.rows));

    return ops->backend->gather(ops->state, args, why);
}

enum status ops_normalise(struct ops *ops, struct ops_view rows, struct reason *why)
{
    assert(ops);
    assert(fits(&rows) && rows.columns > 0);

    return ops->backend->normalise(ops->state, &rows, why);
}
