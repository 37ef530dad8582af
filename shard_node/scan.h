// SPDX-License-Identifier: Apache-2.0
// scan.h - exact search: every live row against every query, the best k kept.
//
// The rows are cut into blocks that fit a core's cache. Blocks may be scanned in any order, by any
// number of threads, into lists that are joined afterwards: the result is always the same,
// because scores do not depend on who computes them (distance.h) and hits are ranked by score,
// then id (neighbour_ahead()), of which no two are alike.
//
// Thread-safety: a request may be shared; lists belong to one thread at a time.

#ifndef RECO_SHARD_NODE_SCAN_H
#define RECO_SHARD_NODE_SCAN_H

#include <stddef.h>
#include <stdint.h>

#include "proto/base/cpu.h"
#include "proto/base/embedding.h"
#include "proto/base/neighbour.h"
#include "proto/base/status.h"
#include "shard_node/rows.h"

struct scan_request {
    const struct rows_view *view;
    enum modality modality; // the side that is searched
    const float *queries;   // [query_count][view->dimension], finite, at most 65504 in size
    size_t query_count;     // 1..SEARCH_ROWS_MAX
    size_t k;               // 1..K_WIRE_MAX
};

struct scan_hit {
    struct neighbour neighbour;
    uint32_t slot;
};

// The best k of each query so far.
struct scan_lists;

// Room for up to `query_count` lists of up to `k`. NULL when there is no memory.
struct scan_lists *scan_lists_create(size_t query_count, size_t k);
void scan_lists_destroy(struct scan_lists **lists); // NULL is allowed

// Empties them for a request that fits the room.
void scan_lists_begin(struct scan_lists *lists, size_t query_count, size_t k);

// Adds one hit.
void scan_lists_offer(struct scan_lists *lists, size_t query, const struct scan_hit *hit);

// Sets a list to `count` hits, at most k, sorted; nothing may be offered to it afterwards.
void scan_lists_put(struct scan_lists *lists, size_t query, const struct scan_hit *hits,
                    size_t count);

// Adds what `from` has; both were begun for the same request.
void scan_lists_join(struct scan_lists *into, const struct scan_lists *from);

// Sorts the lists, best first; nothing may be added afterwards.
void scan_lists_sort(struct scan_lists *lists);

// One query's hits, after sorting; valid as long as the lists.
size_t scan_lists_get(const struct scan_lists *lists, size_t query, const struct scan_hit **out);

// Number of blocks of the request, and the scan of one of them.
size_t scan_block_count(const struct scan_request *request);
void scan_block(enum cpu_level level, const struct scan_request *request, size_t block,
                struct scan_lists *lists);

// The slots from `first` up to `end` that have their bit in `live`, which may be cleared meanwhile.
void scan_slots(enum cpu_level level, const struct scan_request *request,
                const _Atomic uint64_t *live, size_t first, size_t end, struct scan_lists *lists);

#endif
