// SPDX-License-Identifier: Apache-2.0
// Products by oneDNN, for CPUs that dense_panels.c is not written for.
//
// A product is cut into tiles of DENSE_ROWS rows and blocks of columns, and each tile of a block is
// one call of oneDNN with one fixed shape on one thread. So a row's bits depend neither on the
// other rows of its batch, nor on its place among them, nor on the number of threads. That all rows
// of a tile are treated alike is checked for every shape when it is first prepared; where oneDNN's
// choice for this CPU does not hold to it, smaller tiles are taken.
//
// A matrix is a row of blocks of about BLOCK_COLUMNS columns, each with its weights
// in oneDNN's layout. Shapes (tile rows, depth, columns, stride, epilogue) are shared
// between all matrices that have them, so a tower of any number of layers needs about
// ten. A job is one block and up to GROUP tiles: the block's weights and the tiles'
// rows stay in the second-level cache, and a single row of text still gives every
// worker a block.
//
// Measured on one core of an AMD EPYC of family 26 (Zen 5) with oneDNN 2.6: 16 x 128
// tiles reach 245 to 260 GFLOP/s at depths of 768 and 3,072, 190 to 220 at 192.

#include <assert.h>
#include <stdatomic.h>
#include <string.h>

#include "proto/base/mem.h"
#include "shaders/cpu/dense_internal.h"

#define BLOCK_COLUMNS 128u
#define GROUP 8u         // tiles of DENSE_ROWS rows in a job
#define SHAPES_MAX 256u  // distinct shapes of one dense
#define BLOCKS_MAX 1024u // of a matrix: DENSE_SIZE_MAX / BLOCK_COLUMNS and more

struct tiles {
    struct team *team;
    struct dense_engine *engine;
    uint32_t shapes;
    struct dense_shape shape[SHAPES_MAX]; // as asked for: rows = DENSE_ROWS
    uint32_t tile[SHAPES_MAX];            // rows that the product below really takes
    struct dense_product *product[SHAPES_MAX];
};

struct part {
    uint32_t first_column;
    uint32_t tile;
    struct dense_product *product;
    struct dense_block *block;
};

struct tiles_matrix {
    uint32_t columns;
    uint32_t depth;
    uint32_t parts;
    struct part part[];
};

static void tiles_close(void *state)
{
    struct tiles *tiles = state;
    for (uint32_t i = 0; i < tiles->shapes; i++)
        dense_product_destroy(&tiles->product[i]);
    dense_engine_destroy(&tiles->engine);
    mem_free(tiles);
}

static enum status tiles_open(struct team *team, void **out)
{
    struct tiles *tiles = mem_alloc(sizeof(*tiles));
    tiles->team = team;
    enum status status = dense_engine_create(team_workers(team), &tiles->engine);
    if (status != STATUS_OK) {
        mem_free(tiles);
        return status;
    }
    *out = tiles;
    return STATUS_OK;
}

// --- shapes

// Fills `count` floats with numbers that have all bits of their mantissa in use.
static void fill(float *values, size_t count)
{
    uint32_t state = 2463534242u;
    for (size_t i = 0; i < count; i++) {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        values[i] = (float)(int32_t)state * 4.656612873077393e-10f;
    }
}

// Whether `product` treats the rows of a tile alike: the same row in every place of
// the tile must give the same bits in every place.
static enum status rows_are_alike(struct tiles *tiles, struct dense_product *product,
                                  const struct dense_shape *shape, bool *alike)
{
    size_t source_count = (size_t)shape->rows * shape->depth;
    size_t weights_count = (size_t)shape->columns * shape->depth;
    size_t target_count = (size_t)shape->rows * shape->stride;
    float *memory = mem_try_alloc_aligned(
        64, (source_count + weights_count + target_count + shape->columns + 64) * sizeof(float));
    if (!memory)
        return STATUS_NO_MEMORY;
    float *source = memory;
    float *target = source + (source_count + 15) / 16 * 16;
    float *weights = target + (target_count + 15) / 16 * 16;
    float *bias = weights + weights_count;
    fill(source, shape->depth);
    fill(weights, weights_count + shape->columns);
    for (uint32_t row = 1; row < shape->rows; row++)
        memcpy(source + (size_t)row * shape->depth, source, shape->depth * sizeof(float));
    for (size_t i = 0; i < target_count; i++)
        target[i] = 0.1f;

    struct dense_block *block = NULL;
    enum status status =
        dense_block_create(tiles->engine, product, weights, shape->has_bias ? bias : NULL, &block);
    if (status == STATUS_OK && !dense_product_run(tiles->engine, product, block, source, target, 0))
        status = STATUS_INTERNAL;
    dense_block_destroy(&block);
    *alike = true;
    for (uint32_t row = 1; row < shape->rows; row++) {
        if (memcmp(target + (size_t)row * shape->stride, target, shape->columns * sizeof(float)) !=
            0)
            *alike = false;
    }
    mem_free(memory);
    return status;
}

// Prepares the product for `wanted` with the largest tile whose rows are alike.
static enum status make_shape(struct tiles *tiles, const struct dense_shape *wanted,
                              uint32_t *index)
{
    if (tiles->shapes == SHAPES_MAX)
        return STATUS_UNSUPPORTED;
    struct dense_shape shape = *wanted;
    struct dense_product *product = NULL;
    for (;;) {
        enum status status = dense_product_create(tiles->engine, &shape, &product);
        bool alike = true;
        if (status == STATUS_OK && shape.rows > 1)
            status = rows_are_alike(tiles, product, &shape, &alike);
        if (status != STATUS_OK) {
            dense_product_destroy(&product);
            return status;
        }
        if (alike)
            break;
        dense_product_destroy(&product);
        shape.rows /= 2;
    }
    *index = tiles->shapes++;
    tiles->shape[*index] = *wanted;
    tiles->tile[*index] = shape.rows;
    tiles->product[*index] = product;
    return STATUS_OK;
}

static bool shapes_equal(const struct dense_shape *a, const struct dense_shape *b)
{
    return a->rows == b->rows && a->depth == b->depth && a->columns == b->columns &&
           a->stride == b->stride && a->epilogue == b->epilogue && a->has_bias == b->has_bias;
}

static enum status find_shape(struct tiles *tiles, const struct dense_shape *wanted,
                              uint32_t *index)
{
    for (uint32_t i = 0; i < tiles->shapes; i++) {
        if (shapes_equal(&tiles->shape[i], wanted)) {
            *index = i;
            return STATUS_OK;
        }
    }
    return make_shape(tiles, wanted, index);
}

// --- matrices

static enum status add_part(struct tiles *tiles, const struct dense_params *params,
                            struct tiles_matrix *matrix, uint32_t columns)
{
    struct part *part = &matrix->part[matrix->parts];
    struct dense_shape shape = {
        .rows = DENSE_ROWS,
        .depth = params->depth,
        .columns = columns,
        .stride = params->columns,
        .epilogue = params->epilogue,
        .has_bias = params->bias != NULL,
    };
    uint32_t index = 0;
    enum status status = find_shape(tiles, &shape, &index);
    if (status != STATUS_OK)
        return status;
    part->product = tiles->product[index];
    part->tile = tiles->tile[index];
    status = dense_block_create(
        tiles->engine, part->product, params->weights + (size_t)part->first_column * params->depth,
        params->bias ? params->bias + part->first_column : NULL, &part->block);
    if (status == STATUS_OK)
        matrix->parts++;
    return status;
}

static void tiles_free(void *state, void *prepared)
{
    struct tiles_matrix *matrix = prepared;
    (void)state;
    for (uint32_t i = 0; i < matrix->parts; i++)
        dense_block_destroy(&matrix->part[i].block);
    mem_free(matrix);
}

static enum status tiles_prepare(void *state, const struct dense_params *params, void **out)
{
    struct tiles *tiles = state;
    // Equal blocks of a multiple of 16 columns; the last one may be smaller.
    uint32_t parts = (params->columns + BLOCK_COLUMNS - 1) / BLOCK_COLUMNS;
    uint32_t width = ((params->columns + parts - 1) / parts + 15) / 16 * 16;
    struct tiles_matrix *matrix = mem_alloc(sizeof(*matrix) + BLOCKS_MAX * sizeof(struct part));
    matrix->columns = params->columns;
    matrix->depth = params->depth;
    for (uint32_t at = 0; at < params->columns; at += width) {
        assert(matrix->parts < BLOCKS_MAX);
        uint32_t left = params->columns - at;
        matrix->part[matrix->parts].first_column = at;
        enum status status = add_part(tiles, params, matrix, left < width ? left : width);
        if (status != STATUS_OK) {
            tiles_free(tiles, matrix);
            return status;
        }
    }
    *out = matrix;
    return STATUS_OK;
}

// --- running

struct run {
    struct tiles *tiles;
    const struct tiles_matrix *matrix;
    const float *source;
    float *target;
    size_t rows; // a multiple of DENSE_ROWS
    uint32_t groups;
    atomic_bool failed;
};

static void run_job(void *context, uint32_t job, uint32_t worker)
{
    struct run *run = context;
    const struct tiles_matrix *matrix = run->matrix;
    const struct part *part = &matrix->part[job / run->groups];
    size_t first = (size_t)(job % run->groups) * GROUP * DENSE_ROWS;
    size_t end = first + (size_t)GROUP * DENSE_ROWS;
    if (end > run->rows)
        end = run->rows;

    dense_engine_enter();
    for (size_t row = first; row < end; row += part->tile) {
        if (!dense_product_run(run->tiles->engine, part->product, part->block,
                               run->source + row * matrix->depth,
                               run->target + row * matrix->columns + part->first_column, worker))
            atomic_store(&run->failed, true);
    }
}

static enum status tiles_run(void *state, void *prepared, const float *source, size_t rows,
                             float *target)
{
    struct tiles *tiles = state;
    const struct tiles_matrix *matrix = prepared;
    struct run run = {
        .tiles = tiles,
        .matrix = matrix,
        .source = source,
        .rows = (rows + DENSE_ROWS - 1) / DENSE_ROWS * DENSE_ROWS,
    };
    run.target = target;
    atomic_init(&run.failed, false);
    size_t groups = (run.rows / DENSE_ROWS + GROUP - 1) / GROUP;
    assert(groups <= UINT32_MAX / BLOCKS_MAX);
    run.groups = (uint32_t)groups;
    team_run(tiles->team, matrix->parts * run.groups, run_job, &run);
    return atomic_load(&run.failed) ? STATUS_INTERNAL : STATUS_OK;
}

const struct dense_kind dense_tiles_kind = {
    .open = tiles_open,
    .close = tiles_close,
    .prepare = tiles_prepare,
    .free = tiles_free,
    .run = tiles_run,
};
