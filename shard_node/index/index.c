// SPDX-License-Identifier: Apache-2.0
// The life of an index. Lists are published before the end moves, so whoever sees the end sees
// what is below it.

#include "shard_node/index/index.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>

#include "proto/base/mem.h"
#include "proto/base/parallel.h"
#include "shard_node/index/index_internal.h"

#define LONGEST_EVERY 64 // descriptions

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
    index_scratches_destroy(index, &index->scratches);
    if (index->map)
        (void)munmap(index->map, index->map_bytes);
    mem_free(index);
    *at = NULL;
}

// In-distribution queries on 1 million CLIP-like vectors, 3,907 lists, less a little.
static const float usual_recall[INDEX_STEPS] = {0.70F,  0.88F,  0.95F,  0.98F,  0.985F, 0.99F,
                                                0.993F, 0.995F, 0.996F, 0.997F, 0.998F};

struct index *index_create(const struct index_params *params)
{
    struct index *index = mem_alloc(sizeof(*index));
    index->params = *params;
    if (index->params.extra_bits == 0)
        index->params.extra_bits = CODES_EXTRA_BITS;
    if (index->params.threads == 0)
        index->params.threads = 1;
    if (index->params.threads > PARALLEL_THREADS_MAX)
        index->params.threads = PARALLEL_THREADS_MAX;
    index->simd = simd_for(params->level);
    for (size_t i = 0; i < INDEX_STEPS; i++)
        for (size_t curve = 0; curve < INDEX_CURVES; curve++)
            atomic_init(&index->recall[curve][i], usual_recall[i]);
    rotation_init(&index->rotation, params->rows.dimension, params->seed);
    index->lists.shape = (struct codes_shape){.dimensions = index->rotation.dimensions,
                                              .extra_bits = index->params.extra_bits};
    index->lists.epoch = params->epoch;
    index->lists.codes = blocks_create(codes_block_bytes(&index->lists.shape));
    index->lists.extras = blocks_create(codes_extra_bytes(&index->lists.shape));
    return index;
}

uint32_t index_list_vectors(uint64_t records)
{
    const uint32_t root = (uint32_t)(sqrt((double)records) / 4);
    return root < INDEX_LIST_VECTORS_MIN   ? INDEX_LIST_VECTORS_MIN
           : root > INDEX_LIST_VECTORS_MAX ? INDEX_LIST_VECTORS_MAX
                                           : root;
}

enum status index_train(const struct index_params *params, const uint32_t *sample,
                        uint32_t sample_count, uint64_t records, struct index **out,
                        struct reason *why)
{
    if (sample_count < INDEX_RECORDS_MIN)
        return reason_set(why, STATUS_INVALID, "sample",
                          "%" PRIu32 " rows; an index is trained on at least %d", sample_count,
                          INDEX_RECORDS_MIN);
    struct index *index = index_create(params);
    if (index->params.list_vectors == 0)
        index->params.list_vectors = index_list_vectors(records);
    const uint64_t lists = (records + index->params.list_vectors - 1) / index->params.list_vectors;
    const uint64_t most = (uint64_t)TREE_GROUPS_MAX * TREE_GROUPS_MAX;
    const uint32_t wanted = (uint32_t)(lists < 1 ? 1 : lists > most ? most : lists);
    const enum status status = index_train_tree(index, sample, sample_count, wanted);
    if (status != STATUS_OK) {
        index_destroy(&index);
        return reason_set(why, status, "", "an index of %" PRIu32 " lists: %s", wanted,
                          status_text(status));
    }
    *out = index;
    return STATUS_OK;
}

uint32_t index_end(const struct index *index)
{
    return (uint32_t)atomic_load_explicit(&index->end, memory_order_acquire);
}

static uint32_t longest_of(const struct tree *tree)
{
    uint32_t longest = 0;
    for (uint32_t i = 0; i < tree->group_count; i++) {
        for (uint32_t j = 0; j < tree->groups[i]->count; j++) {
            const struct list *list = atomic_load(&tree->groups[i]->cells[j]->list);
            if (list && list->count > longest)
                longest = list->count;
        }
    }
    return longest;
}

void index_describe(struct index *index, struct index_about *out)
{
    const struct tree *tree = atomic_load(&index->tree);
    // Looking at every list takes longer than taking in a few rows.
    if (index->described++ % LONGEST_EVERY == 0)
        index->longest = longest_of(tree);
    *out = (struct index_about){
        .lists = tree->cell_count,
        .list_vectors = index->params.list_vectors,
        .vectors = index->vectors,
        .bytes = blocks_bytes(index->lists.codes) + blocks_bytes(index->lists.extras) +
                 index->map_bytes +
                 (uint64_t)tree->cell_count *
                     (tree->dimensions * 2 + tree->dimensions / 8 + sizeof(struct list)) +
                 index->vectors / CODES_BLOCK * sizeof(struct list_block),
        .longest = index->longest};
}

enum status index_extend(struct index *index, uint32_t end, const _Atomic uint64_t *live,
                         struct reason *why)
{
    const uint32_t begin = index_end(index);
    assert(end >= begin);

    if (end == begin)
        return STATUS_OK;
    uint32_t *slots = mem_try_alloc_array(end - begin, sizeof(*slots));
    uint32_t count = 0;
    for (uint32_t slot = begin; slots && slot < end; slot++) {
        if (index_is_live(live, slot))
            slots[count++] = slot;
    }
    const enum status status =
        slots ? index_take_in(index, atomic_load(&index->tree), slots, count) : STATUS_NO_MEMORY;
    mem_free(slots);
    (void)epoch_collect(index->params.epoch);
    if (status != STATUS_OK)
        return reason_set(why, status, "", "no memory to index %" PRIu32 " rows", end - begin);
    index->vectors += count;
    atomic_store_explicit(&index->end, end, memory_order_release);
    return STATUS_OK;
}
