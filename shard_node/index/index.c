// SPDX-License-Identifier: Apache-2.0
// The life of an index, and taking rows in: each finds its list as a query would, those of one list are
// encoded together, and all lists are published before the end moves.

#include "shard_node/index/index.h"

#include <assert.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "proto/base/half.h"
#include "proto/base/mem.h"
#include "shard_node/index/index_internal.h"
#include "shard_node/index/parallel.h"

#define PIECE_ROWS 512 // of one turn of a thread

void index_free_tree(struct index *index, struct tree *tree)
{
    if (!tree)
        return;
    for (uint32_t g = 0; g < tree->group_count; g++) {
        struct tree_group *group = tree->groups[g];
        for (uint32_t i = 0; group && i < group->count; i++) {
            lists_free(&index->lists, atomic_load(&group->cells[i]->list));
            mem_free(group->cells[i]);
        }
        tree_group_free(group);
    }
    mem_free(tree);
}

void index_destroy(struct index **at)
{
    assert(at);

    struct index *index = *at;
    if (!index)
        return;
    epoch_wait(index->params.epoch);
    index_free_tree(index, atomic_load(&index->tree));
    blocks_destroy(&index->lists.codes);
    blocks_destroy(&index->lists.extras);
    mem_free(index->group_centres);
    mem_free(index->group_norms);
    mem_free(index);
    *at = NULL;
}

static struct index *create(const struct index_params *params)
{
    struct index *index = mem_alloc(sizeof(*index));
    index->params = *params;
    if (index->params.list_vectors == 0)
        index->params.list_vectors = INDEX_LIST_VECTORS;
    if (index->params.extra_bits == 0)
        index->params.extra_bits = CODES_EXTRA_BITS;
    if (index->params.threads == 0)
        index->params.threads = 1;
    if (index->params.threads > PARALLEL_THREADS_MAX)
        index->params.threads = PARALLEL_THREADS_MAX;
    index->simd = simd_for(params->level);
    rotation_init(&index->rotation, params->rows.dimension, params->seed);
    index->lists.shape = (struct codes_shape){.dimensions = index->rotation.dimensions,
                                              .extra_bits = index->params.extra_bits};
    index->lists.epoch = params->epoch;
    index->lists.codes = blocks_create(codes_block_bytes(&index->lists.shape));
    index->lists.extras = blocks_create(codes_extra_bytes(&index->lists.shape));
    return index;
}

enum status index_train(const struct index_params *params, const uint32_t *sample,
                        uint32_t sample_count, uint64_t records, struct index **out,
                        struct reason *why)
{
    if (sample_count < INDEX_RECORDS_MIN)
        return reason_set(why, STATUS_INVALID, "sample",
                          "%" PRIu32 " rows; an index is trained on at least %d", sample_count,
                          INDEX_RECORDS_MIN);
    struct index *index = create(params);
    const uint64_t lists = (records + index->params.list_vectors - 1) / index->params.list_vectors;
    const uint64_t most = (uint64_t)TREE_GROUPS_MAX * TREE_GROUPS_MAX;
    const uint32_t wanted = (uint32_t)(lists < 1 ? 1 : lists > most ? most : lists);
    const enum status status = index_train_tree(index, sample, sample_count, wanted);
    if (status != STATUS_OK) {
        index_destroy(&index);
        return reason_set(why, status, "", "no memory to train an index of %" PRIu32 " lists",
                          wanted);
    }
    *out = index;
    return STATUS_OK;
}

uint32_t index_end(const struct index *index)
{
    return (uint32_t)atomic_load_explicit(&index->end, memory_order_acquire);
}

void index_describe(struct index *index, struct index_about *out)
{
    const struct tree *tree = atomic_load(&index->tree);
    *out = (struct index_about){
        .lists = tree->cell_count,
        .vectors = index->vectors,
        .bytes = blocks_bytes(index->lists.codes) + blocks_bytes(index->lists.extras) +
                 (uint64_t)tree->cell_count *
                     (tree->dimensions * 2 + tree->dimensions / 8 + sizeof(struct list)) +
                 index->vectors / CODES_BLOCK * sizeof(struct list_block)};
}

// --- taking rows in

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
    struct routed *rows;
    uint32_t count;
    struct run *runs;
    uint32_t run_count;
    struct index_scratch **scratches; // [threads]
    atomic_bool has_failed;
};

static const uint16_t *row_at(const struct index *index, uint32_t slot)
{
    return index->params.rows.rows + (size_t)slot * index->params.rows.dimension;
}

const struct list_cell *index_route(const struct index *index, struct index_scratch *scratch,
                                    const struct tree *tree, uint32_t slot)
{
    const struct tree_query query = {.simd = index->simd,
                                     .level = index->params.level,
                                     .lookup = &scratch->lookup,
                                     .groups = index_groups(tree, 1),
                                     .probes = 1};
    float row[DIMENSION_MAX];
    half_to_floats(row_at(index, slot), row, index->params.rows.dimension);
    index_look_up(index, scratch, row);
    (void)tree_search(tree, &query, &scratch->tree);
    return scratch->tree.probes[0].cell;
}

static void route_piece(void *context, uint32_t worker, size_t piece)
{
    struct intake *intake = context;
    struct index_scratch *scratch = intake->scratches[worker];
    const struct tree *tree = atomic_load(&intake->index->tree);
    for (size_t i = piece * PIECE_ROWS; i < (piece + 1) * PIECE_ROWS && i < intake->count; i++) {
        (void)index_route(intake->index, scratch, tree, intake->rows[i].slot);
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

static void encode_run(void *context, uint32_t worker, size_t number)
{
    (void)worker;
    struct intake *intake = context;
    struct index *index = intake->index;
    struct run *run = &intake->runs[number];
    const struct routed *rows = intake->rows + run->first;
    const struct codes_shape *shape = &index->lists.shape;
    float centre[CODES_DIMENSIONS_MAX];
    float row[DIMENSION_MAX];
    float rotated[CODES_DIMENSIONS_MAX];
    run->grown = lists_grow(&index->lists, atomic_load(&rows->cell->list), run->count);
    if (!run->grown) {
        atomic_store(&intake->has_failed, true);
        return;
    }
    half_to_floats(rows->centre, centre, shape->dimensions);
    for (uint32_t i = 0; i < run->count; i++) {
        half_to_floats(row_at(index, rows[i].slot), row, index->params.rows.dimension);
        index->simd->rotate(&index->rotation, row, rotated);
        const uint32_t at = run->grown->count++;
        const struct list_block *block = &run->grown->blocks[at / CODES_BLOCK];
        index->simd->encode(shape, rotated, centre, at % CODES_BLOCK, block->codes, block->extra);
        codes_block_at(shape, block->codes).slots[at % CODES_BLOCK] = rows[i].slot;
    }
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

static bool is_live(const uint64_t *live, uint32_t slot)
{
    return !live || (live[slot / 64] >> (slot % 64) & 1);
}

static bool prepare(struct intake *intake, uint32_t end, const uint64_t *live)
{
    struct index *index = intake->index;
    const uint32_t begin = index_end(index);
    intake->rows = mem_try_alloc_array(end - begin, sizeof(*intake->rows));
    intake->runs = mem_try_alloc_array(end - begin, sizeof(*intake->runs));
    intake->scratches = index_scratches_create(index);
    if (!intake->rows || !intake->runs || !intake->scratches)
        return false;
    for (uint32_t slot = begin; slot < end; slot++) {
        if (is_live(live, slot))
            intake->rows[intake->count++].slot = slot;
    }
    return true;
}

enum status index_extend(struct index *index, uint32_t end, const uint64_t *live,
                         struct reason *why)
{
    assert(end >= index_end(index));

    if (end == index_end(index))
        return STATUS_OK;
    struct intake intake = {.index = index};
    enum status status = prepare(&intake, end, live) ? take_in(&intake) : STATUS_NO_MEMORY;
    if (status == STATUS_OK) {
        index->vectors += intake.count;
        atomic_store_explicit(&index->end, end, memory_order_release);
    }
    index_scratches_destroy(index, &intake.scratches);
    mem_free(intake.runs);
    mem_free(intake.rows);
    (void)epoch_collect(index->params.epoch);
    if (status != STATUS_OK)
        return reason_set(why, status, "", "no memory to index %" PRIu32 " rows",
                          end - index_end(index));
    return STATUS_OK;
}
