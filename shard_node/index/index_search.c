// SPDX-License-Identifier: Apache-2.0
// One query: the lists nearest to it, one after the other. Sign codes give each vector an upper
// bound; those above the worst candidate so far are estimated again from their extra bits; the best
// candidates are multiplied with their rows at the end.
//
// The order is that of the lists' distances and of the places in them, whoever else searches, so
// that a query's answer depends on the query and the index alone.

#include <assert.h>
#include <math.h>
#include <stdbool.h>

#include "proto/base/mem.h"
#include "shard_node/distance.h"
#include "shard_node/index/index_internal.h"

static struct index_scratch *new_scratch(struct epoch *epoch, int place)
{
    struct index_scratch *scratch = mem_try_alloc_aligned(CODES_ALIGNMENT, sizeof(*scratch));
    if (scratch) {
        scratch->epoch = epoch;
        scratch->place = place;
    }
    return scratch;
}

struct index_scratch *index_scratch_create(struct epoch *epoch)
{
    const int place = epoch_take_place(epoch);
    if (place < 0)
        return NULL;
    struct index_scratch *scratch = new_scratch(epoch, place);
    if (!scratch)
        epoch_give_back(epoch, place);
    return scratch;
}

void index_scratch_destroy(struct index_scratch **scratch)
{
    assert(scratch);

    if (!*scratch)
        return;
    if ((*scratch)->epoch)
        epoch_give_back((*scratch)->epoch, (*scratch)->place);
    mem_free(*scratch);
    *scratch = NULL;
}

struct index_scratch **index_scratches_create(const struct index *index, struct epoch *epoch)
{
    struct index_scratch **scratches =
        mem_alloc_array(index->params.threads, sizeof(struct index_scratch *));
    for (uint32_t i = 0; i < index->params.threads; i++) {
        scratches[i] = epoch ? index_scratch_create(epoch) : new_scratch(NULL, -1);
        if (!scratches[i]) {
            index_scratches_destroy(index, &scratches);
            return NULL;
        }
    }
    return scratches;
}

void index_scratches_destroy(const struct index *index, struct index_scratch ***scratches)
{
    for (uint32_t i = 0; *scratches && i < index->params.threads; i++)
        index_scratch_destroy(&(*scratches)[i]);
    mem_free(*scratches);
    *scratches = NULL;
}

bool index_has_scratches(struct index *index)
{
    if (!index->scratches)
        index->scratches = index_scratches_create(index, NULL);
    return index->scratches != NULL;
}

void index_look_up(const struct index *index, struct index_scratch *scratch, const float *query)
{
    index->simd->rotate(&index->rotation, query, scratch->lookup.query);
    index->simd->look_up(index->rotation.dimensions, &scratch->lookup);
}

uint32_t index_groups(const struct tree *tree, uint32_t probes)
{
    // Near lists hide under far centres: all groups where that is cheap, else enough for many more
    // lists than are wanted.
    const uint64_t lists = tree->cell_count / tree->group_count + 1;
    return (uint32_t)((INDEX_GROUPED_LISTS + 8 * (uint64_t)probes) / lists) + 1;
}

struct search {
    struct index *index;
    struct index_scratch *scratch;
    const struct index_query *query;
    struct best candidates;
    struct index_counts counts;
    float query_norm;
};

static bool counts_for(const struct search *search, uint32_t slot)
{
    if (slot >= search->counts.end)
        return false; // appended meanwhile; whoever scans the end finds it
    return index_is_live(search->query->live, slot);
}

static float refine(const struct search *search, float dot, const struct codes_extra *extra,
                    uint32_t at, uint16_t sum)
{
    const struct codes_shape *shape = &search->index->lists.shape;
    const struct lookup *lookup = &search->scratch->lookup;
    const float top = (float)(1 << shape->extra_bits);
    const int32_t products =
        search->index->simd->extra(shape, lookup, extra->rows + at * codes_extra_row_bytes(shape));
    const float signs = top * (lookup->step * (float)sum + lookup->lowest);
    const float rest = lookup->byte_step * (float)products - (top - 0.5F) * lookup->total;
    return (dot + extra->add[at]) + extra->factor[at] * (signs + rest);
}

// A block whose survivors are refined after the next one was scanned: by then their extra codes,
// each from somewhere else in memory, have arrived.
struct pending {
    struct codes_block block;
    struct codes_extra extra;
    uint32_t mask;
    uint16_t sums[CODES_BLOCK];
    float dot;
};

static void prefetch(const void *memory, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += 64)
        __builtin_prefetch((const char *)memory + at);
}

static void prefetch_survivors(const struct search *search, const struct pending *pending)
{
    const size_t row_bytes = codes_extra_row_bytes(&search->index->lists.shape);
    for (uint32_t mask = pending->mask; mask != 0; mask &= mask - 1) {
        const uint32_t at = (uint32_t)__builtin_ctz(mask);
        prefetch(pending->extra.rows + at * row_bytes, row_bytes);
        __builtin_prefetch(&pending->extra.add[at]);
        __builtin_prefetch(&pending->extra.factor[at]);
    }
}

static void refine_pending(struct search *search, const struct pending *pending)
{
    for (uint32_t mask = pending->mask; mask != 0; mask &= mask - 1) {
        const uint32_t at = (uint32_t)__builtin_ctz(mask);
        const uint32_t slot = pending->block.slots[at];
        if (!counts_for(search, slot))
            continue;
        search->counts.refined++;
        const float estimate = refine(search, pending->dot, &pending->extra, at, pending->sums[at]);
        if (estimate >= search->candidates.threshold)
            best_offer(&search->candidates, estimate, slot);
    }
}

// Scans a list; the survivors of its last block are left pending.
static void scan_list(struct search *search, const struct tree_probe *probe,
                      const struct list *list, struct pending pending[2], uint32_t *turn)
{
    const struct simd *simd = search->index->simd;
    const struct codes_shape *shape = &search->index->lists.shape;
    const float square = search->query_norm + probe->distance;
    struct simd_centre centre = {.dot = probe->dot, .reach = square > 0 ? sqrtf(square) : 0};
    search->counts.codes += list->count;
    for (uint32_t b = 0; b < list->block_count; b++) {
        struct pending *const now = &pending[*turn];
        if (b + 1 < list->block_count)
            prefetch(list->blocks[b + 1].codes, codes_block_bytes(shape));
        now->block = codes_block_at(shape, list->blocks[b].codes);
        now->extra = codes_extra_at(list->blocks[b].extra);
        now->dot = probe->dot;
        centre.threshold = search->candidates.threshold;
        now->mask = simd->scan(shape, &search->scratch->lookup, &centre, &now->block, now->sums);
        const uint32_t left = list->count - b * CODES_BLOCK;
        if (left < CODES_BLOCK)
            now->mask &= (1u << left) - 1;
        prefetch_survivors(search, now);
        *turn ^= 1;
        refine_pending(search, &pending[*turn]);
    }
}

static void scan_lists(struct search *search)
{
    struct index_scratch *scratch = search->scratch;
    const struct tree_probe *const probes = scratch->tree.probes;
    const uint32_t count = search->counts.probes;
    struct pending pending[2] = {{.mask = 0}, {.mask = 0}};
    uint32_t turn = 0;
    for (uint32_t i = 0; i < count; i++)
        __builtin_prefetch(probes[i].cell);
    for (uint32_t i = 0; i < count; i++) {
        scratch->lists[i] = atomic_load_explicit(&probes[i].cell->list, memory_order_acquire);
        __builtin_prefetch(scratch->lists[i]);
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct list *next = i + 1 < count ? scratch->lists[i + 1] : NULL;
        if (next && next->block_count > 0)
            prefetch(next->blocks[0].codes, codes_block_bytes(&search->index->lists.shape));
        if (scratch->lists[i])
            scan_list(search, &probes[i], scratch->lists[i], pending, &turn);
    }
    refine_pending(search, &pending[turn ^ 1]);
}

// Adds a hit behind `count` that score as well or better; of equal scores the lower id comes first.
static void append(struct scan_hit *hits, size_t count, const struct scan_hit *hit)
{
    size_t at = count;
    for (; at > 0 && neighbour_ahead(hit->neighbour, hits[at - 1].neighbour); at--)
        hits[at] = hits[at - 1];
    hits[at] = *hit;
}

// Multiplies the candidates with their rows and sorts them.
static size_t finish(struct search *search, struct scan_hit *hits)
{
    const struct index_rows *rows = &search->index->params.rows;
    struct index_scratch *const scratch = search->scratch;
    const uint32_t count = search->candidates.count;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t slot = best_number(search->candidates.items[i]);
        prefetch(rows->rows + (size_t)slot * rows->dimension, rows->dimension * sizeof(uint16_t));
        __builtin_prefetch(&rows->slots[slot]);
    }
    struct best order;
    best_begin(&order, scratch->order, count > 0 ? count : 1);
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t slot = best_number(search->candidates.items[i]);
        const struct distance_block block = {.queries = search->query->query,
                                             .query_count = 1,
                                             .rows = rows->rows + (size_t)slot * rows->dimension,
                                             .row_count = 1,
                                             .dimension = rows->dimension};
        struct scan_hit *hit = &scratch->multiplied[i];
        *hit = (struct scan_hit){.neighbour = {.id = rows->slots[slot].id}, .slot = slot};
        distance_scores(search->index->params.level, &block, &hit->neighbour.score);
        best_offer(&order, hit->neighbour.score, i);
    }
    best_sort(&order);
    for (uint32_t i = 0; i < count; i++)
        append(scratch->hits, i, &scratch->multiplied[best_number(order.items[i])]);
    search->counts.rows = count;
    size_t kept = 0;
    for (size_t i = 0; i < count && kept < search->query->k; i++) {
        // A vector that is being moved to another list may be seen in both.
        if (i > 0 && scratch->hits[i].slot == scratch->hits[i - 1].slot)
            continue;
        hits[kept++] = scratch->hits[i];
    }
    return kept;
}

// Who looks into many lists wants recall, and has more vectors that estimates cannot tell apart.
static uint32_t candidate_count(const struct index_query *query)
{
    const uint32_t usual = query->k + query->k / 2 + 6 + query->probes / 8;
    const uint32_t wanted = query->candidates ? query->candidates : usual;
    const uint32_t least = wanted < query->k ? query->k : wanted;
    return least < INDEX_CANDIDATES_MAX ? least : INDEX_CANDIDATES_MAX;
}

size_t index_search(struct index *index, struct index_scratch *scratch,
                    const struct index_query *query, struct scan_hit *hits,
                    struct index_counts *counts)
{
    assert(query->k >= 1 && query->k <= K_WIRE_MAX);
    assert(query->probes >= 1 && query->probes <= TREE_PROBES_MAX);

    struct search search = {.index = index, .scratch = scratch, .query = query};
    best_begin(&search.candidates, scratch->candidates, candidate_count(query));
    index_look_up(index, scratch, query->query);
    for (uint32_t i = 0; i < index->rotation.dimensions; i++)
        search.query_norm += scratch->lookup.query[i] * scratch->lookup.query[i];

    epoch_enter(scratch->epoch, scratch->place);
    search.counts.end = index_end(index);
    if (query->end > 0 && query->end < search.counts.end)
        search.counts.end = query->end;
    const struct tree *tree = atomic_load(&index->tree);
    const struct tree_query coarse = {.simd = index->simd,
                                      .level = index->params.level,
                                      .lookup = &scratch->lookup,
                                      .groups = index_groups(tree, query->probes),
                                      .probes = query->probes};
    search.counts.probes = tree_search(tree, &coarse, &scratch->tree);
    scan_lists(&search);
    const size_t count = finish(&search, hits);
    epoch_leave(scratch->epoch, scratch->place);
    if (counts)
        *counts = search.counts;
    return count;
}
