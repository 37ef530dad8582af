// SPDX-License-Identifier: Apache-2.0
// Upkeep after LIRE (Xu et al., SPFresh, SOSP 2023): a list that has grown too long is split in two, a
// short one is dissolved, one with many dead vectors is written anew, and vectors near a split move
// to the new lists where these are nearer.
//
// Every one of these takes one list out of the tree and puts none, one or two in its place. Readers take no
// lock, so the order is what keeps them right: the vectors are put into their new lists first, then
// the new tree is published, and only when nobody reads the old one are they taken out of the lists
// where they were. Meanwhile a reader may see a vector twice, which index_search() mends, but
// never not at all.

#include <string.h>

#include "proto/base/half.h"
#include "proto/base/mem.h"
#include "shard_node/distance.h"
#include "shard_node/index/index_internal.h"
#include "shard_node/index/kmeans.h"

#define SPLIT_ROUNDS 6
#define SPLIT_TIMES 2 // the wanted length, and a list is split
#define MERGE_PART 4  // of the wanted length, and a list is dissolved
#define DEAD_PART 4   // of a list is dead, and it is written anew
#define NEIGHBOURS 8  // lists near a split whose vectors may move

// The list that is taken out and what comes in its place.
struct change {
    struct index *index;
    const _Atomic uint64_t *live;
    struct index_upkeep *upkeep;
    uint32_t group;
    uint32_t place;
    uint32_t *slots; // live ones of the list
    uint32_t slot_count;
    uint32_t new_count; // lists, 0..2
    float *centres;     // [2][D], rotated
    struct list_cell *cells[2];
};

static struct list_cell *cell_of(const struct change *change)
{
    const struct tree *tree = atomic_load(&change->index->tree);
    return tree->groups[change->group]->cells[change->place];
}

static uint32_t slot_in(const struct index *index, const struct list *list, uint32_t at)
{
    void *const codes = list->blocks[at / CODES_BLOCK].codes;
    return codes_block_at(&index->lists.shape, codes).slots[at % CODES_BLOCK];
}

static uint32_t count_live(const struct index *index, const struct list *list,
                           const _Atomic uint64_t *live)
{
    uint32_t count = 0;
    for (uint32_t i = 0; list && i < list->count; i++)
        count += index_is_live(live, slot_in(index, list, i));
    return count;
}

static bool gather(struct change *change, const struct list *list, uint32_t live_count)
{
    change->slots = mem_try_alloc_array(live_count + 1, sizeof(uint32_t));
    if (!change->slots)
        return false;
    for (uint32_t i = 0; list && i < list->count && change->slot_count < live_count; i++) {
        const uint32_t slot = slot_in(change->index, list, i);
        if (index_is_live(change->live, slot))
            change->slots[change->slot_count++] = slot;
    }
    return true;
}

// Two centres for the vectors of the list. STATUS_INVALID: it is better left whole until it has doubled.
static enum status divide(struct change *change)
{
    const struct index *index = change->index;
    const uint32_t dimension = index->params.rows.dimension;
    const struct kmeans_params params = {
        .simd = index->simd,
        .dimension = dimension,
        .rows = index->params.rows.rows,
        .points = change->slots,
        .count = change->slot_count,
        .clusters = 2,
        .rounds = SPLIT_ROUNDS,
        .threads = 1,
        .seed = index->params.seed + change->slots[0],
    };
    float centres[(size_t)2 * DIMENSION_MAX];
    uint32_t *nearest = mem_try_alloc_array(change->slot_count, sizeof(uint32_t));
    if (!nearest)
        return STATUS_NO_MEMORY;
    const enum status status = kmeans_run(&params, centres, nearest);
    uint32_t second = 0;
    for (uint32_t i = 0; status == STATUS_OK && i < change->slot_count; i++)
        second += nearest[i];
    mem_free(nearest);
    if (status != STATUS_OK)
        return status;
    // Equal vectors, or a few beside many: a part too short would be dissolved again.
    const uint32_t shorter =
        second < change->slot_count - second ? second : change->slot_count - second;
    if (shorter < index->params.list_vectors / MERGE_PART) {
        cell_of(change)->undivided = change->slot_count;
        return STATUS_INVALID;
    }
    for (size_t i = 0; i < 2; i++)
        index->simd->rotate(&index->rotation, centres + i * dimension,
                            change->centres + i * index->rotation.dimensions);
    change->new_count = 2;
    return STATUS_OK;
}

static void keep_centre(struct change *change)
{
    const struct tree *tree = atomic_load(&change->index->tree);
    const struct tree_group *group = tree->groups[change->group];
    half_to_floats(group->centres + (size_t)change->place * tree->dimensions, change->centres,
                   tree->dimensions);
    change->new_count = 1;
}

// The group with the change made.
static struct tree_group *changed_group(const struct change *change, const struct tree *tree)
{
    const struct tree_group *old = tree->groups[change->group];
    const uint32_t dimensions = tree->dimensions;
    const uint32_t count = old->count - 1 + change->new_count;
    float *centres = mem_try_alloc_array(count, dimensions * sizeof(float));
    if (!centres)
        return NULL;
    struct list_cell **cells = mem_alloc_array(count, sizeof(struct list_cell *));
    uint32_t filled = 0;
    for (uint32_t i = 0; i < old->count; i++) {
        if (i == change->place)
            continue;
        half_to_floats(old->centres + (size_t)i * dimensions, centres + (size_t)filled * dimensions,
                       dimensions);
        cells[filled++] = old->cells[i];
    }
    for (uint32_t i = 0; i < change->new_count; i++) {
        memcpy(centres + (size_t)filled * dimensions, change->centres + (size_t)i * dimensions,
               dimensions * sizeof(float));
        cells[filled++] = change->cells[i];
    }
    float around[CODES_DIMENSIONS_MAX];
    half_to_floats(tree->centres + (size_t)change->group * dimensions, around, dimensions);
    struct tree_group *group =
        tree_group_create(change->index->simd, dimensions, around, centres, cells, count);
    mem_free(centres);
    mem_free(cells);
    return group;
}

static struct tree *changed_tree(const struct change *change)
{
    const struct tree *old = atomic_load(&change->index->tree);
    struct tree_group *group = changed_group(change, old);
    if (!group)
        return NULL;
    const size_t bytes = sizeof(*old) + old->group_count * sizeof(struct tree_group *);
    struct tree *tree = mem_alloc(bytes);
    memcpy(tree, old, bytes);
    tree->groups[change->group] = group;
    tree->cell_count = old->cell_count - 1 + change->new_count;
    return tree;
}

static void free_memory(void *owner, void *memory)
{
    (void)owner;
    mem_free(memory);
}

static void free_group(void *owner, void *memory)
{
    (void)owner;
    tree_group_free(memory);
}

static void publish(struct change *change, struct tree *tree)
{
    struct index *index = change->index;
    struct list_cell *cell = cell_of(change);
    struct tree *old = atomic_exchange(&index->tree, tree);
    lists_retire(&index->lists, atomic_load(&cell->list));
    epoch_retire(index->params.epoch, free_memory, NULL, cell);
    epoch_retire(index->params.epoch, free_group, NULL, old->groups[change->group]);
    epoch_retire(index->params.epoch, free_memory, NULL, old);
}

static enum status replace(struct change *change)
{
    const struct list *list = atomic_load(&cell_of(change)->list);
    const uint32_t before = list ? list->count : 0;
    for (uint32_t i = 0; i < change->new_count; i++)
        change->cells[i] = mem_alloc(sizeof(*change->cells[i]));
    struct tree *tree = changed_tree(change);
    if (tree &&
        index_take_in(change->index, tree, change->slots, change->slot_count) == STATUS_OK) {
        publish(change, tree);
        change->index->vectors -= before - change->slot_count;
        return STATUS_OK;
    }
    if (tree)
        tree_group_free(tree->groups[change->group]);
    mem_free(tree);
    for (uint32_t i = 0; i < change->new_count; i++)
        mem_free(change->cells[i]);
    return STATUS_NO_MEMORY;
}

// --- vectors near a split

// What leaves one list for the new ones.
struct move {
    struct list_cell *from;
    uint32_t *slots[2]; // for each new list
    uint32_t count[2];
};

static const uint16_t *new_centre(const struct change *change, uint32_t which)
{
    const struct tree *tree = atomic_load(&change->index->tree);
    const struct tree_group *group = tree->groups[change->group];
    return group->centres + (size_t)(group->count - 2 + which) * tree->dimensions;
}

// |x-c|^2 less |x|^2.
static float far(const struct index *index, const float *rotated, const uint16_t *centre,
                 float norm)
{
    const struct distance_block block = {.queries = rotated,
                                         .query_count = 1,
                                         .rows = centre,
                                         .row_count = 1,
                                         .dimension = index->rotation.dimensions};
    float dot = 0;
    distance_scores(index->params.level, &block, &dot);
    return norm - 2 * dot;
}

// Those of a list that are nearer to one of the new ones. False when there is no memory.
static bool find_movers(const struct change *change, const struct tree_probe *probe,
                        struct move *move)
{
    const struct index *index = change->index;
    const struct tree *tree = atomic_load(&index->tree);
    const struct tree_group *group = tree->groups[change->group];
    const float *const norms = group->norms + group->count - 2;
    const struct list *list = atomic_load(&probe->cell->list);
    const uint32_t count = list ? list->count : 0;
    *move = (struct move){.from = probe->cell};
    for (uint32_t i = 0; i < 2; i++) {
        move->slots[i] = mem_try_alloc_array((size_t)count + 1, sizeof(uint32_t));
        if (!move->slots[i])
            return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t slot = slot_in(index, list, i);
        if (!index_is_live(change->live, slot))
            continue;
        float row[DIMENSION_MAX];
        float rotated[CODES_DIMENSIONS_MAX];
        half_to_floats(index_row(index, slot), row, index->params.rows.dimension);
        index->simd->rotate(&index->rotation, row, rotated);
        const float first = far(index, rotated, new_centre(change, 0), norms[0]);
        const float second = far(index, rotated, new_centre(change, 1), norms[1]);
        const uint32_t nearer = second < first;
        if ((nearer ? second : first) < far(index, rotated, probe->centre, probe->norm))
            move->slots[nearer][move->count[nearer]++] = slot;
    }
    return true;
}

static bool is_moving(const struct move *move, uint32_t slot)
{
    for (uint32_t which = 0; which < 2; which++) {
        for (uint32_t i = 0; i < move->count[which]; i++) {
            if (move->slots[which][i] == slot)
                return true;
        }
    }
    return false;
}

// Writes the list anew without what has moved.
static void take_out(struct index *index, const struct move *move)
{
    struct list *old = atomic_load(&move->from->list);
    struct list *list = lists_grow(&index->lists, NULL, old->count);
    if (!list)
        return; // what has moved is in both lists, and once in every answer
    for (uint32_t i = 0; i < old->count; i++) {
        if (!is_moving(move, slot_in(index, old, i)))
            lists_copy(&index->lists, old, i, list);
    }
    lists_trim(&index->lists, list);
    index->vectors -= old->count - list->count;
    atomic_store(&move->from->list, list);
    lists_retire(&index->lists, old);
}

static void do_moves(struct change *change, struct move *moves, uint32_t count)
{
    struct index *index = change->index;
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t which = 0; which < 2; which++) {
            if (index_put(index, change->cells[which], new_centre(change, which),
                          moves[i].slots[which], moves[i].count[which]) != STATUS_OK)
                moves[i].count[which] = 0;
            index->vectors += moves[i].count[which];
            change->upkeep->moves += moves[i].count[which];
        }
    }
    // Whoever has seen the old tree has not seen them in their new lists.
    epoch_wait(index->params.epoch);
    for (uint32_t i = 0; i < count; i++) {
        if (moves[i].count[0] + moves[i].count[1] > 0)
            take_out(index, &moves[i]);
    }
}

static void move_neighbours(struct change *change)
{
    struct index *index = change->index;
    struct index_scratch *scratch = index_scratch_create(index->params.epoch);
    if (!scratch)
        return;
    const struct tree *tree = atomic_load(&index->tree);
    const struct tree_query query = {.simd = index->simd,
                                     .level = index->params.level,
                                     .lookup = &scratch->lookup,
                                     .groups = index_groups(tree, NEIGHBOURS + 2),
                                     .probes = NEIGHBOURS + 2};
    memcpy(scratch->lookup.query, change->centres, tree->dimensions * sizeof(float));
    index->simd->look_up(tree->dimensions, &scratch->lookup);
    const uint32_t found = tree_search(tree, &query, &scratch->tree);
    struct move moves[NEIGHBOURS];
    uint32_t count = 0;
    bool has_memory = true;
    for (uint32_t i = 0; i < found && count < NEIGHBOURS && has_memory; i++) {
        const struct tree_probe *probe = &scratch->tree.probes[i];
        if (probe->cell != change->cells[0] && probe->cell != change->cells[1])
            has_memory = find_movers(change, probe, &moves[count++]);
    }
    if (has_memory)
        do_moves(change, moves, count);
    for (uint32_t i = 0; i < count; i++) {
        mem_free(moves[i].slots[0]);
        mem_free(moves[i].slots[1]);
    }
    index_scratch_destroy(&scratch);
}

// --- which list needs it

// False when the list is well as it is, or there was no memory.
static bool mend(struct change *change)
{
    const struct index *index = change->index;
    const struct tree *tree = atomic_load(&index->tree);
    const struct list *list = atomic_load(&cell_of(change)->list);
    const uint32_t count = list ? list->count : 0;
    const uint32_t live = count_live(index, list, change->live);
    const uint32_t wanted = index->params.list_vectors;
    const bool is_long = live > SPLIT_TIMES * wanted && live / 2 >= cell_of(change)->undivided;
    const bool is_short = live < wanted / MERGE_PART && tree->groups[change->group]->count > 1;
    const bool is_dead = (count - live) * DEAD_PART > count;
    if (!is_long && !is_short && !is_dead)
        return false;
    if (!gather(change, list, live))
        return false;
    enum status status = STATUS_OK;
    if (is_long && change->slot_count < 2)
        return false; // they were removed meanwhile
    if (is_long)
        status = divide(change);
    else if (!is_short)
        keep_centre(change);
    if (status != STATUS_OK || replace(change) != STATUS_OK)
        return false;
    if (is_long) {
        change->upkeep->splits++;
        move_neighbours(change);
    } else if (is_short) {
        change->upkeep->merges++;
    } else {
        change->upkeep->rewrites++;
    }
    return true;
}

bool index_maintain(struct index *index, const _Atomic uint64_t *live, uint32_t lists,
                    struct index_upkeep *upkeep)
{
    bool has_mended = false;
    for (uint32_t i = 0; i < lists && !has_mended; i++) {
        const struct tree *tree = atomic_load(&index->tree);
        if (index->upkeep_place >= tree->groups[index->upkeep_group]->count) {
            index->upkeep_place = 0;
            index->upkeep_group = (index->upkeep_group + 1) % tree->group_count;
        }
        if (tree->groups[index->upkeep_group]->count == 0)
            continue;
        struct change change = {.index = index,
                                .live = live,
                                .upkeep = upkeep,
                                .group = index->upkeep_group,
                                .place = index->upkeep_place++};
        change.centres = mem_try_alloc_array(2, index->rotation.dimensions * sizeof(float));
        has_mended = change.centres && mend(&change);
        mem_free(change.centres);
        mem_free(change.slots);
    }
    (void)epoch_collect(index->params.epoch);
    return has_mended;
}
