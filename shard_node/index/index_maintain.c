// SPDX-License-Identifier: Apache-2.0
// Upkeep after LIRE (Xu et al., SPFresh, SOSP 2023): a list that has grown too long is split in
// two, a short one is dissolved, one with many dead vectors, or in memory that is to be given back,
// is written anew, and vectors near a split move to the new lists where these are nearer.
//
// Splitting and dissolving take one list out of the tree and put two or none in its place. Readers
// take no lock, so the order is what keeps them right: the vectors are put into their new lists
// first, then the new tree is published, and only when nobody reads the old one are they taken out
// of the lists where they were. Meanwhile a reader may see a vector twice, which index_search()
// mends, but never not at all.

#include <math.h>
#include <string.h>

#include "proto/base/half.h"
#include "proto/base/mem.h"
#include "shard_node/distance.h"
#include "shard_node/index/index_internal.h"
#include "shard_node/index/kmeans.h"

#define SPLIT_ROUNDS 6
#define SPLIT_TIMES 2 // the wanted length, and a list is split
#define MERGE_PART 4  // of the wanted length, and a list is dissolved
#define DEAD_PART 8   // of a list is dead, and it is written anew
#define BLOCK_PART 32 // of it is enough when that gives a block back
#define NEIGHBOURS 8  // lists near a split whose vectors may move

// The list that is taken out and what comes in its place.
struct change {
    struct index *index;
    const _Atomic uint64_t *live;
    struct index_upkeep *upkeep;
    uint32_t group;
    uint32_t place;
    uint32_t *slots; // live ones of the list: of the first new list, of the second, and the others
    uint32_t slot_count;
    uint32_t put[2];    // how many of them go into the new lists; the others are at home elsewhere
    uint32_t new_count; // lists, 0 or 2
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

static void rotated_row(const struct index *index, uint32_t slot, float *rotated)
{
    float row[DIMENSION_MAX];
    half_to_floats(index_row(index, slot), row, index->params.rows.dimension);
    index->simd->rotate(&index->rotation, row, rotated);
}

// Puts the slots in order. What is farther from its new centre than from the old one may be nearer
// to another list; the rest need not be compared with all.
static void sort_out(struct change *change, const uint32_t *nearest, uint32_t *sorted)
{
    const struct index *index = change->index;
    const struct tree *tree = atomic_load(&index->tree);
    const struct tree_group *group = tree->groups[change->group];
    const uint16_t *const old = group->centres + (size_t)change->place * tree->dimensions;
    uint16_t centres[2][CODES_DIMENSIONS_MAX];
    float norms[2];
    for (uint32_t i = 0; i < 2; i++) {
        half_from_floats(change->centres + (size_t)i * tree->dimensions, centres[i],
                         tree->dimensions);
        norms[i] = tree_norm(centres[i], tree->dimensions);
    }
    uint32_t others = 0;
    uint32_t filled = 0;
    for (uint32_t which = 0; which < 2; which++) {
        for (uint32_t i = 0; i < change->slot_count; i++) {
            float rotated[CODES_DIMENSIONS_MAX];
            if (nearest[i] != which)
                continue;
            rotated_row(index, change->slots[i], rotated);
            if (far(index, rotated, centres[which], norms[which]) <=
                far(index, rotated, old, group->norms[change->place])) {
                sorted[filled++] = change->slots[i];
                change->put[which]++;
            } else {
                sorted[change->slot_count - ++others] = change->slots[i];
            }
        }
    }
    memcpy(change->slots, sorted, change->slot_count * sizeof(*sorted));
}

// A shorter list is dissolved: one that is very short; while all are short, as when half of the
// rows were deleted, also one below a half, since blocks that are half full and centres cost
// memory.
static uint32_t least_of(const struct index *index)
{
    const uint32_t wanted = index->params.list_vectors;
    const uint64_t lists = atomic_load(&index->tree)->cell_count;
    return index->vectors * 10 < lists * wanted * 7 ? wanted / 2 : wanted / MERGE_PART;
}

// Two centres for the vectors of the list. STATUS_INVALID: it is better left whole until it has
// doubled.
static enum status divide(struct change *change)
{
    const struct index *index = change->index;
    const uint32_t dimension = index->params.rows.dimension;
    const struct kmeans_params params = {
        .simd = index->simd,
        .level = index->params.level,
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
    uint32_t *nearest = mem_try_alloc_array((size_t)2 * change->slot_count, sizeof(uint32_t));
    if (!nearest)
        return STATUS_NO_MEMORY;
    enum status status = kmeans_run(&params, centres, nearest);
    for (size_t i = 0; i < 2 && status == STATUS_OK; i++)
        index->simd->rotate(&index->rotation, centres + i * dimension,
                            change->centres + i * index->rotation.dimensions);
    if (status == STATUS_OK)
        sort_out(change, nearest, nearest + change->slot_count);
    mem_free(nearest);
    // Equal vectors, or a few beside many: a part too short would be dissolved again.
    const uint32_t shorter = change->put[0] < change->put[1] ? change->put[0] : change->put[1];
    if (status == STATUS_OK && shorter < least_of(index)) {
        cell_of(change)->undivided = change->slot_count;
        status = STATUS_INVALID;
    }
    change->new_count = 2;
    return status;
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

static const uint16_t *new_centre(const struct change *change, const struct tree *tree,
                                  uint32_t which)
{
    const struct tree_group *group = tree->groups[change->group];
    return group->centres + (size_t)(group->count - 2 + which) * tree->dimensions;
}

// Puts the vectors of the list into those of a tree that nobody sees yet.
static enum status put_all(struct change *change, const struct tree *tree)
{
    const uint32_t *slots = change->slots;
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i < change->new_count && status == STATUS_OK; i++) {
        status = index_put(change->index, change->cells[i], new_centre(change, tree, i), slots,
                           change->put[i]);
        slots += change->put[i];
    }
    const uint32_t others = change->slot_count - change->put[0] - change->put[1];
    return status == STATUS_OK ? index_take_in(change->index, tree, slots, others) : status;
}

static enum status replace(struct change *change)
{
    struct index *index = change->index;
    const struct list *list = atomic_load(&cell_of(change)->list);
    const uint32_t before = list ? list->count : 0;
    for (uint32_t i = 0; i < change->new_count; i++)
        change->cells[i] = mem_alloc(sizeof(*change->cells[i]));
    struct tree *tree = changed_tree(change);
    if (tree && put_all(change, tree) == STATUS_OK) {
        publish(change, tree);
        index->vectors -= before - change->slot_count;
        return STATUS_OK;
    }
    if (tree)
        tree_group_free(tree->groups[change->group]);
    mem_free(tree);
    for (uint32_t i = 0; i < change->new_count; i++) {
        lists_free(&index->lists, atomic_load(&change->cells[i]->list));
        mem_free(change->cells[i]);
    }
    return STATUS_NO_MEMORY;
}

// Writes a list anew with the vectors that `stays` says, in their order. False when there is no
// memory.
static bool rewrite(struct index *index, struct list_cell *cell, const uint8_t *stays)
{
    struct list *old = atomic_load(&cell->list);
    struct list *list = lists_grow(&index->lists, NULL, old->count);
    if (!list)
        return false;
    for (uint32_t i = 0; i < old->count; i++) {
        if (stays[i])
            lists_copy(&index->lists, old, i, list);
    }
    lists_trim(&index->lists, list);
    index->vectors -= old->count - list->count;
    atomic_store(&cell->list, list);
    lists_retire(&index->lists, old);
    return true;
}

// --- vectors near a split

// What leaves one list for the new ones.
struct move {
    struct list_cell *from;
    uint8_t *stays;     // each place of the list
    uint32_t *slots[2]; // for each new list
    uint32_t count[2];
};

// A new centre that the vectors of lists are held against, by their codes: it is asked for as a
// query.
struct pull {
    struct lookup lookup;
    const uint16_t *centre;
    float norm;
};

static void begin_pull(const struct index *index, const uint16_t *centre, float norm,
                       struct pull *pull)
{
    pull->centre = centre;
    pull->norm = norm;
    half_to_floats(centre, pull->lookup.query, index->rotation.dimensions);
    index->simd->look_up(index->rotation.dimensions, &pull->lookup);
}

// |x-q|^2 less |x|^2 for the vectors of a block around centre c, at least but for a few: <q,x> by
// the codes, with their bound. With the list's own centre as q there is no error.
static void least_far(const struct index *index, const struct pull *pull, float dot, float reach,
                      const struct codes_block *block, float out[CODES_BLOCK])
{
    const struct lookup *lookup = &pull->lookup;
    const struct simd_centre centre = {.dot = dot, .threshold = 0};
    const float offset = 2 * lookup->lowest - lookup->total;
    uint16_t sums[CODES_BLOCK];
    (void)index->simd->scan(&index->lists.shape, lookup, &centre, block, sums);
    for (uint32_t i = 0; i < CODES_BLOCK; i++) {
        const float along = (float)sums[i] * (2 * lookup->step) + offset;
        const float product = dot + block->add[i] + along * half_to_float(block->factor[i]);
        out[i] = pull->norm - 2 * (product + reach * half_to_float(block->error[i]));
    }
}

// Marks the vectors of a list that may be nearer to one of the new centres; `pulls` are those, then
// the list's.
static void find_likely(const struct index *index, const struct list *list,
                        const struct pull pulls[3], uint8_t *is_likely)
{
    float dots[3];
    float reaches[3];
    for (uint32_t p = 0; p < 3; p++) {
        const float away =
            far(index, pulls[2].lookup.query, pulls[p].centre, pulls[p].norm) + pulls[2].norm;
        dots[p] = (pulls[p].norm + pulls[2].norm - away) / 2;
        reaches[p] = p < 2 && away > 0 ? sqrtf(away) : 0;
    }
    for (uint32_t b = 0; b < list->block_count; b++) {
        const struct codes_block block = codes_block_at(&index->lists.shape, list->blocks[b].codes);
        float fars[3][CODES_BLOCK];
        for (uint32_t p = 0; p < 3; p++)
            least_far(index, &pulls[p], dots[p], reaches[p], &block, fars[p]);
        for (uint32_t i = 0; i < CODES_BLOCK && b * CODES_BLOCK + i < list->count; i++)
            is_likely[b * CODES_BLOCK + i] = fars[0][i] < fars[2][i] || fars[1][i] < fars[2][i];
    }
}

// Those of a list that are nearer to one of the new ones. False when there is no memory.
static bool find_movers(const struct change *change, struct pull pulls[3],
                        const struct tree_probe *probe, struct move *move)
{
    const struct index *index = change->index;
    const struct list *list = atomic_load(&probe->cell->list);
    const uint32_t count = list ? list->count : 0;
    *move = (struct move){.from = probe->cell, .stays = mem_try_alloc_array((size_t)count + 1, 1)};
    for (uint32_t i = 0; i < 2; i++)
        move->slots[i] = mem_try_alloc_array((size_t)count + 1, sizeof(uint32_t));
    if (!move->stays || !move->slots[0] || !move->slots[1])
        return false;
    begin_pull(index, probe->centre, probe->norm, &pulls[2]);
    if (count > 0)
        find_likely(index, list, pulls, move->stays);
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t slot = slot_in(index, list, i);
        const bool is_likely = move->stays[i];
        float rotated[CODES_DIMENSIONS_MAX];
        move->stays[i] = 1;
        if (!is_likely || !index_is_live(change->live, slot))
            continue;
        rotated_row(index, slot, rotated);
        const float first = far(index, rotated, pulls[0].centre, pulls[0].norm);
        const float second = far(index, rotated, pulls[1].centre, pulls[1].norm);
        const uint32_t nearer = second < first;
        if ((nearer ? second : first) >= far(index, rotated, probe->centre, probe->norm))
            continue;
        move->slots[nearer][move->count[nearer]++] = slot;
        move->stays[i] = 0;
    }
    return true;
}

// What has got into no new list stays where it was; else, without memory to take it out there, it
// is in both, and once in every answer.
static void do_moves(struct change *change, const struct pull *pulls, struct move *moves,
                     uint32_t count)
{
    struct index *index = change->index;
    bool has_failed[NEIGHBOURS] = {false};
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t which = 0; which < 2; which++) {
            if (index_put(index, change->cells[which], pulls[which].centre, moves[i].slots[which],
                          moves[i].count[which]) != STATUS_OK) {
                moves[i].count[which] = 0;
                has_failed[i] = true;
            }
            index->vectors += moves[i].count[which];
            change->upkeep->moves += moves[i].count[which];
        }
    }
    // Whoever has seen the old tree has not seen them in their new lists.
    epoch_wait(index->params.epoch);
    for (uint32_t i = 0; i < count; i++) {
        if (!has_failed[i] && moves[i].count[0] + moves[i].count[1] > 0)
            (void)rewrite(index, moves[i].from, moves[i].stays);
    }
}

static void move_neighbours(struct change *change)
{
    struct index *index = change->index;
    struct pull *pulls = mem_try_alloc_aligned(CODES_ALIGNMENT, 3 * sizeof(*pulls));
    if (!pulls || !index_has_scratches(index)) {
        mem_free(pulls);
        return;
    }
    struct tree_scratch *scratch = &index->scratches[0]->tree;
    const struct tree *tree = atomic_load(&index->tree);
    const struct tree_group *group = tree->groups[change->group];
    for (uint32_t i = 0; i < 2; i++)
        begin_pull(index, new_centre(change, tree, i), group->norms[group->count - 2 + i],
                   &pulls[i]);
    const struct tree_query query = {.simd = index->simd,
                                     .level = index->params.level,
                                     .lookup = &pulls[0].lookup,
                                     .groups = index_groups(tree, NEIGHBOURS + 2),
                                     .probes = NEIGHBOURS + 2};
    const uint32_t found = tree_search(tree, &query, scratch);
    struct move moves[NEIGHBOURS];
    uint32_t count = 0;
    bool has_memory = true;
    for (uint32_t i = 0; i < found && count < NEIGHBOURS && has_memory; i++) {
        const struct tree_probe *probe = &scratch->probes[i];
        if (probe->cell != change->cells[0] && probe->cell != change->cells[1])
            has_memory = find_movers(change, pulls, probe, &moves[count++]);
    }
    if (has_memory)
        do_moves(change, pulls, moves, count);
    for (uint32_t i = 0; i < count; i++) {
        mem_free(moves[i].stays);
        mem_free(moves[i].slots[0]);
        mem_free(moves[i].slots[1]);
    }
    mem_free(pulls);
}

// --- which list needs it

static bool drop_dead(struct change *change, const struct list *list)
{
    const struct index *index = change->index;
    uint8_t *stays = mem_try_alloc_array(list->count, 1);
    if (!stays)
        return false;
    for (uint32_t i = 0; i < list->count; i++)
        stays[i] = index_is_live(change->live, slot_in(index, list, i));
    const bool is_done = rewrite(change->index, cell_of(change), stays);
    mem_free(stays);
    change->upkeep->rewrites += is_done;
    return is_done;
}

static uint32_t blocks_for(uint32_t count)
{
    return (count + CODES_BLOCK - 1) / CODES_BLOCK;
}

// Whether a list with so many live vectors should be written anew: for the time of those who read
// it, or for its memory.
static bool is_wasteful(uint32_t count, uint32_t live)
{
    const uint32_t dead = count - live;
    return dead * DEAD_PART > count ||
           (dead * BLOCK_PART > count && blocks_for(live) < blocks_for(count));
}

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
    const bool is_short = live < least_of(index) && tree->groups[change->group]->count > 1;
    if (!is_long && !is_short &&
        (is_wasteful(count, live) || lists_is_leaving(&index->lists, list)))
        return drop_dead(change, list);
    if ((!is_long && !is_short) || !gather(change, list, live))
        return false;
    if (is_long && change->slot_count < 2)
        return false; // they were removed meanwhile
    if (is_long && divide(change) != STATUS_OK)
        return false;
    if (replace(change) != STATUS_OK)
        return false;
    change->upkeep->splits += is_long;
    change->upkeep->merges += is_short;
    if (is_long)
        move_neighbours(change);
    return true;
}

bool index_maintain(struct index *index, const _Atomic uint64_t *live, uint32_t lists,
                    struct index_upkeep *upkeep)
{
    bool has_mended = false;
    bool is_shrinking = false; // lists that were passed may lie in slabs that close
    for (uint32_t i = 0; i < lists && !has_mended; i++) {
        const struct tree *tree = atomic_load(&index->tree);
        if (index->upkeep_place >= tree->groups[index->upkeep_group]->count) {
            index->upkeep_place = 0;
            index->upkeep_group = (index->upkeep_group + 1) % tree->group_count;
            if (index->upkeep_group == 0)
                is_shrinking |= lists_shrink(&index->lists);
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
    return has_mended || is_shrinking;
}
