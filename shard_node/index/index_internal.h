// SPDX-License-Identifier: Apache-2.0
// index_internal.h - what the files of the index share.

#ifndef RECO_SHARD_NODE_INDEX_INDEX_INTERNAL_H
#define RECO_SHARD_NODE_INDEX_INDEX_INTERNAL_H

#include <stdatomic.h>
#include <stdbool.h>

#include "shard_node/index/index.h"
#include "shard_node/index/lists.h"
#include "shard_node/index/simd.h"
#include "shard_node/index/tree.h"

#define INDEX_CANDIDATES_MAX (2 * K_WIRE_MAX)
#define INDEX_GROUPED_LISTS                                                                        \
    2400 // whose centres a query is compared with at least, where there are so many

// What recall is known of: the ten nearest, and the nearest alone.
enum { INDEX_OF_TEN, INDEX_OF_FIRST, INDEX_CURVES };
#define INDEX_TEN 10

#define INDEX_STEPS 11 // 1, 2, 4 .. 1,024 probes are tried

struct index {
    struct index_params params; // defaults filled in
    const struct simd *simd;
    struct rotation rotation;
    struct lists lists;
    _Atomic(struct tree *) tree;
    uint16_t *group_centres; // of every tree
    float *group_norms;
    atomic_uint_least32_t end;
    _Atomic float recall[INDEX_CURVES][INDEX_STEPS]; // of 1 << i probes, never falling with i
    uint64_t vectors;                                // the writer's, as what follows
    uint32_t described;                              // how often
    uint32_t longest;                                // list, as it was seen last
    uint32_t upkeep_group;                           // the next list that is looked at
    uint32_t upkeep_place;
    struct index_scratch **scratches; // the writer's, for each thread; NULL until they are needed
    void *map;                        // the checkpoint that lists may still be in, or NULL
    size_t map_bytes;
};

struct index_scratch {
    struct epoch *epoch;
    int place;
    struct tree_scratch tree;
    const struct list *lists[TREE_PROBES_MAX];
    struct best_item candidates[INDEX_CANDIDATES_MAX];
    struct best_item order[INDEX_CANDIDATES_MAX];
    struct scan_hit multiplied[INDEX_CANDIDATES_MAX];
    struct scan_hit hits[INDEX_CANDIDATES_MAX];
    struct lookup lookup;
};

// Sets scratch->lookup for a vector [dimension].
void index_look_up(const struct index *index, struct index_scratch *scratch, const float *query);

// How many groups are looked into for so many probes.
uint32_t index_groups(const struct tree *tree, uint32_t probes);

// The list nearest to a row, and, in scratch->tree.probes[0], its centre.
const struct list_cell *index_route(const struct index *index, struct index_scratch *scratch,
                                    const struct tree *tree, uint32_t slot);

// Puts slots, no two alike, into the lists of `tree`. STATUS_NO_MEMORY: none was put anywhere.
enum status index_take_in(struct index *index, const struct tree *tree, const uint32_t *slots,
                          uint32_t count) MUST_CHECK;

// Puts slots into one list, around its centre. STATUS_NO_MEMORY: none was.
enum status index_put(struct index *index, struct list_cell *cell, const uint16_t *centre,
                      const uint32_t *slots, uint32_t count) MUST_CHECK;

static inline bool index_is_live(const _Atomic uint64_t *live, uint32_t slot)
{
    return !live || rows_bit(live, slot);
}

static inline bool index_is_cancelled(const struct index *index)
{
    const atomic_bool *const *given_up = index->params.given_up;
    return (given_up[0] && atomic_load(given_up[0])) || (given_up[1] && atomic_load(given_up[1]));
}

static inline const uint16_t *index_row(const struct index *index, uint32_t slot)
{
    return index->params.rows.rows + (size_t)slot * index->params.rows.dimension;
}

// Makes index->scratches unless they are there. False when there is no memory.
bool index_has_scratches(struct index *index);

// One scratch for each of the index's threads; NULL when there is no memory. Without an epoch they
// have no place in one, and do for index_route() alone.
struct index_scratch **index_scratches_create(const struct index *index, struct epoch *epoch);
void index_scratches_destroy(const struct index *index, struct index_scratch ***scratches);

// An index without a tree.
struct index *index_create(const struct index_params *params);

// Makes an index of what index_save() has written; its lists stay in `file`, which is aligned to
// CODES_ALIGNMENT and outlives it. STATUS_CORRUPT, STATUS_NO_MEMORY.
enum status index_read_file(const struct index_params *params, const struct index_origin *origin,
                            void *file, size_t bytes, struct index **out,
                            struct reason *why) MUST_CHECK;

// Frees a tree and its lists; nobody reads them any more. NULL is allowed.
void index_free_tree(struct index *index, struct tree *tree);

// Sets index->tree to one for centres learnt from the sample.
enum status index_train_tree(struct index *index, const uint32_t *sample, uint32_t sample_count,
                             uint32_t lists) MUST_CHECK;

#endif
