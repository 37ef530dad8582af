// SPDX-License-Identifier: Apache-2.0
// A list is a heap with its worst hit on top, so that nearly every row is dismissed by one
// comparison with that hit's score. Whether a row is live, and its id, are looked at only for the
// few that pass; dead rows are multiplied like live ones, which costs less than a branch for each.
// Where few rows of a block are live (a filter chose them), only those are multiplied, one by one,
// and a block without any costs nothing. The bits are the same either way (distance.h).
//
// Within a block the queries go in groups that share each load of a row. The block stays in the
// core's cache while the groups take turns, so a batch reads memory once.

#include "shard_node/scan.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/limits.h"
#include "proto/base/mem.h"
#include "shard_node/distance.h"

#define BLOCK_BYTES (256u << 10) // a quarter of a usual second-level cache
#define BLOCK_ROWS_MAX 2048u
#define GROUP 4u  // queries
#define SPARSE 4u // a block with fewer live rows than 1 in 4 is scanned row by row

struct scan_lists {
    size_t query_count; // of the request
    size_t k;
    size_t room; // hits in all
    size_t query_room;
    uint32_t *counts;
    struct scan_hit *hits;                // [query_count][k]
    float scores[GROUP * BLOCK_ROWS_MAX]; // of one block
};

struct scan_lists *scan_lists_create(size_t query_count, size_t k)
{
    struct scan_lists *lists = mem_try_alloc(sizeof(*lists));
    if (!lists)
        return NULL;
    lists->query_room = query_count;
    lists->room = query_count * k; // both are bounded by limits.h
    lists->counts = mem_try_alloc_array(query_count, sizeof(*lists->counts));
    lists->hits = mem_try_alloc_array(lists->room, sizeof(*lists->hits));
    if (!lists->counts || !lists->hits)
        scan_lists_destroy(&lists);
    return lists;
}

void scan_lists_destroy(struct scan_lists **lists)
{
    if (!*lists)
        return;
    mem_free((*lists)->counts);
    mem_free((*lists)->hits);
    mem_free(*lists);
    *lists = NULL;
}

void scan_lists_begin(struct scan_lists *lists, size_t query_count, size_t k)
{
    assert(query_count >= 1 && query_count <= lists->query_room);
    assert(k >= 1 && query_count * k <= lists->room);

    lists->query_count = query_count;
    lists->k = k;
    memset(lists->counts, 0, query_count * sizeof(*lists->counts));
}

static bool ahead(const struct scan_hit *a, const struct scan_hit *b)
{
    return neighbour_ahead(a->neighbour, b->neighbour);
}

static void sift_up(struct scan_hit *heap, size_t at)
{
    const struct scan_hit hit = heap[at];
    while (at > 0 && ahead(&heap[(at - 1) / 2], &hit)) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = hit;
}

static void sift_down(struct scan_hit *heap, size_t count, struct scan_hit hit)
{
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= count)
            break;
        if (child + 1 < count && ahead(&heap[child], &heap[child + 1]))
            child++; // the worse of the two
        if (!ahead(&hit, &heap[child]))
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = hit;
}

static void offer(struct scan_lists *lists, size_t query, const struct scan_hit *hit)
{
    struct scan_hit *heap = lists->hits + query * lists->k;
    uint32_t *count = &lists->counts[query];
    if (*count < lists->k) {
        heap[*count] = *hit;
        sift_up(heap, (*count)++);
    } else if (ahead(hit, &heap[0])) {
        sift_down(heap, *count, *hit);
    }
}

// The score that a row must reach to be looked at.
static float floor_of(const struct scan_lists *lists, size_t query)
{
    return lists->counts[query] < lists->k ? -INFINITY
                                           : lists->hits[query * lists->k].neighbour.score;
}

void scan_lists_offer(struct scan_lists *lists, size_t query, const struct scan_hit *hit)
{
    offer(lists, query, hit);
}

void scan_lists_put(struct scan_lists *lists, size_t query, const struct scan_hit *hits,
                    size_t count)
{
    assert(query < lists->query_count && count <= lists->k);

    if (count > 0)
        memcpy(lists->hits + query * lists->k, hits, count * sizeof(*hits));
    lists->counts[query] = (uint32_t)count;
}

void scan_lists_join(struct scan_lists *into, const struct scan_lists *from)
{
    assert(into->query_count == from->query_count && into->k == from->k);

    for (size_t q = 0; q < from->query_count; q++) {
        for (size_t i = 0; i < from->counts[q]; i++)
            offer(into, q, &from->hits[q * from->k + i]);
    }
}

static int compare_hits(const void *a, const void *b)
{
    if (ahead(a, b))
        return -1;
    return ahead(b, a) ? 1 : 0;
}

void scan_lists_sort(struct scan_lists *lists)
{
    for (size_t q = 0; q < lists->query_count; q++)
        qsort(lists->hits + q * lists->k, lists->counts[q], sizeof(*lists->hits), compare_hits);
}

size_t scan_lists_get(const struct scan_lists *lists, size_t query, const struct scan_hit **out)
{
    assert(query < lists->query_count);

    *out = lists->hits + query * lists->k;
    return lists->counts[query];
}

static size_t block_rows(const struct scan_request *request)
{
    const size_t rows = BLOCK_BYTES / (request->view->dimension * sizeof(uint16_t));
    return rows < BLOCK_ROWS_MAX ? rows : BLOCK_ROWS_MAX;
}

size_t scan_block_count(const struct scan_request *request)
{
    const size_t rows = block_rows(request);
    return (request->view->slot_count + rows - 1) / rows;
}

static size_t count_live(const _Atomic uint64_t *live, size_t first, size_t count)
{
    size_t sum = 0;
    size_t slot = first;
    while (slot < first + count) {
        uint64_t word = atomic_load_explicit(&live[slot / 64], memory_order_relaxed) >> (slot % 64);
        const size_t bits = 64 - slot % 64;
        const size_t left = first + count - slot;
        if (left < bits)
            word &= (1ull << left) - 1;
        sum += (size_t)__builtin_popcountll(word);
        slot += bits;
    }
    return sum;
}

// A run of rows that a request is compared with.
struct run {
    const struct scan_request *request;
    const _Atomic uint64_t *live;
    size_t first;
    size_t count;
};

static void offer_scores(const struct run *run, struct scan_lists *lists, size_t query,
                         const float *scores)
{
    const struct rows_slot *slots = run->request->view->slots;
    float floor = floor_of(lists, query);
    for (size_t r = 0; r < run->count; r++) {
        if (scores[r] < floor)
            continue;
        const size_t slot = run->first + r;
        if (!rows_bit(run->live, (uint32_t)slot))
            continue;
        const struct scan_hit hit = {{slots[slot].id, scores[r]}, (uint32_t)slot};
        offer(lists, query, &hit);
        floor = floor_of(lists, query);
    }
}

// All queries, a group of them at a time.
static void scan_run(enum cpu_level level, const struct run *run, struct scan_lists *lists)
{
    const struct scan_request *request = run->request;
    const struct rows_view *view = request->view;
    for (size_t q = 0; q < request->query_count; q += GROUP) {
        const size_t queries =
            request->query_count - q < GROUP ? request->query_count - q : (size_t)GROUP;
        distance_scores(level,
                        &(struct distance_block){.queries = request->queries + q * view->dimension,
                                                 .query_count = queries,
                                                 .rows = view->rows[request->modality] +
                                                         run->first * view->dimension,
                                                 .row_count = run->count,
                                                 .dimension = view->dimension},
                        lists->scores);
        for (size_t i = 0; i < queries; i++)
            offer_scores(run, lists, q + i, lists->scores + i * run->count);
    }
}

void scan_slots(enum cpu_level level, const struct scan_request *request,
                const _Atomic uint64_t *live, size_t first, size_t end, struct scan_lists *lists)
{
    const size_t rows = block_rows(request);
    for (size_t at = first; at < end; at += rows) {
        const size_t count = end - at < rows ? end - at : rows;
        size_t left = count_live(live, at, count);
        if (left * SPARSE >= count) {
            scan_run(level, &(struct run){request, live, at, count}, lists);
            continue;
        }
        for (size_t slot = at; left > 0 && slot < at + count; slot++) {
            if (rows_bit(live, (uint32_t)slot))
                scan_run(level, &(struct run){request, live, slot, 1}, lists);
        }
    }
}

void scan_block(enum cpu_level level, const struct scan_request *request, size_t block,
                struct scan_lists *lists)
{
    const struct rows_view *view = request->view;
    const size_t rows = block_rows(request);
    const size_t first = block * rows;
    assert(first < view->slot_count);

    const size_t end = view->slot_count - first < rows ? view->slot_count : first + rows;
    scan_slots(level, request, (const _Atomic uint64_t *)view->live, first, end, lists);
}
