// SPDX-License-Identifier: Apache-2.0
// Taking rows in: each finds its list as a query would, and those of one list are encoded together.

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "proto/base/half.h"
#include "proto/base/mem.h"
#include "proto/base/parallel.h"
#include "shard_node/index/index_internal.h"

#define PIECE_ROWS 512 // of one turn of a thread

struct routed {
    struct list_cell *cell;
    const uint16_t *centre;
    uint32_t slot;
};

struct run { // those of one list
    uint32_t first;
    uint32_t count;
    struct list *grown;
};

struct intake {
    struct index *index;
    const struct tree *tree;
    struct routed *rows;
    uint32_t count;
    struct run *runs;
    uint32_t run_count;
    atomic_bool has_failed;
};

const struct list_cell *index_route(const struct index *index, struct index_scratch *scratch,
                                    const struct tree *tree, uint32_t slot)
{
    const struct tree_query query = {.simd = index->simd,
                                     .level = index->params.level,
                                     .lookup = &scratch->lookup,
                                     .groups = index_groups(tree, 1),
                                     .probes = 1};
    float row[DIMENSION_MAX];
    half_to_floats(index_row(index, slot), row, index->params.rows.dimension);
    index_look_up(index, scratch, row);
    (void)tree_search(tree, &query, &scratch->tree);
    return scratch->tree.probes[0].cell;
}

static void route_piece(void *context, uint32_t worker, size_t piece)
{
    struct intake *intake = context;
    struct index_scratch *scratch = intake->index->scratches[worker];
    for (size_t i = piece * PIECE_ROWS; i < (piece + 1) * PIECE_ROWS && i < intake->count; i++) {
        (void)index_route(intake->index, scratch, intake->tree, intake->rows[i].slot);
        intake->rows[i].cell = scratch->tree.probes[0].cell;
        intake->rows[i].centre = scratch->tree.probes[0].centre;
    }
}

static int by_cell(const void *first, const void *second)
{
    const struct routed *const a = first;
    const struct routed *const b = second;
    if (a->cell != b->cell)
        return (uintptr_t)a->cell < (uintptr_t)b->cell ? -1 : 1;
    return a->slot < b->slot ? -1 : a->slot > b->slot;
}

// The list of the cell with the vectors appended, not published; NULL when there is no memory.
static struct list *encode(struct index *index, const struct routed *rows, uint32_t count)
{
    const struct codes_shape *shape = &index->lists.shape;
    float centre[CODES_DIMENSIONS_MAX];
    float row[DIMENSION_MAX];
    float rotated[CODES_DIMENSIONS_MAX];
    struct list *grown = lists_grow(&index->lists, atomic_load(&rows->cell->list), count);
    if (!grown)
        return NULL;
    half_to_floats(rows->centre, centre, shape->dimensions);
    for (uint32_t i = 0; i < count; i++) {
        half_to_floats(index_row(index, rows[i].slot), row, index->params.rows.dimension);
        index->simd->rotate(&index->rotation, row, rotated);
        const uint32_t at = grown->count++;
        const struct list_block *block = &grown->blocks[at / CODES_BLOCK];
        index->simd->encode(shape, rotated, centre, at % CODES_BLOCK, block->codes, block->extra);
        codes_block_at(shape, block->codes).slots[at % CODES_BLOCK] = rows[i].slot;
    }
    return grown;
}

static void encode_run(void *context, uint32_t worker, size_t number)
{
    (void)worker;
    struct intake *intake = context;
    struct run *run = &intake->runs[number];
    run->grown = encode(intake->index, intake->rows + run->first, run->count);
    if (!run->grown)
        atomic_store(&intake->has_failed, true);
}

static void cut_into_runs(struct intake *intake)
{
    for (uint32_t i = 0; i < intake->count; i++) {
        if (i == 0 || intake->rows[i].cell != intake->rows[i - 1].cell)
            intake->runs[intake->run_count++] = (struct run){.first = i};
        intake->runs[intake->run_count - 1].count++;
    }
}

static enum status take_in(struct intake *intake)
{
    struct index *index = intake->index;
    const size_t pieces = ((size_t)intake->count + PIECE_ROWS - 1) / PIECE_ROWS;
    parallel_run(index->params.threads, pieces, route_piece, intake);
    qsort(intake->rows, intake->count, sizeof(*intake->rows), by_cell);
    cut_into_runs(intake);
    parallel_run(index->params.threads, intake->run_count, encode_run, intake);

    const bool has_failed = atomic_load(&intake->has_failed);
    for (uint32_t i = 0; i < intake->run_count; i++) {
        struct run *run = &intake->runs[i];
        struct list_cell *cell = intake->rows[run->first].cell;
        if (has_failed)
            lists_abandon(&index->lists, atomic_load(&cell->list), run->grown);
        else
            lists_publish(&index->lists, cell, run->grown);
    }
    return has_failed ? STATUS_NO_MEMORY : STATUS_OK;
}

enum status index_take_in(struct index *index, const struct tree *tree, const uint32_t *slots,
                          uint32_t count)
{
    if (count == 0)
        return STATUS_OK;
    struct intake intake = {.index = index, .tree = tree, .count = count};
    intake.rows = mem_try_alloc_array(count, sizeof(*intake.rows));
    intake.runs = mem_try_alloc_array(count, sizeof(*intake.runs));
    enum status status = STATUS_NO_MEMORY;
    if (intake.rows && intake.runs && index_has_scratches(index)) {
        for (uint32_t i = 0; i < count; i++)
            intake.rows[i].slot = slots[i];
        status = take_in(&intake);
    }
    mem_free(intake.runs);
    mem_free(intake.rows);
    return status;
}

enum status index_put(struct index *index, struct list_cell *cell, const uint16_t *centre,
                      const uint32_t *slots, uint32_t count)
{
    if (count == 0)
        return STATUS_OK;
    struct routed *rows = mem_try_alloc_array(count, sizeof(*rows));
    if (!rows)
        return STATUS_NO_MEMORY;
    for (uint32_t i = 0; i < count; i++)
        rows[i] = (struct routed){.cell = cell, .centre = centre, .slot = slots[i]};
    struct list *grown = encode(index, rows, count);
    mem_free(rows);
    if (!grown)
        return STATUS_NO_MEMORY;
    lists_publish(&index->lists, cell, grown);
    return STATUS_OK;
}
