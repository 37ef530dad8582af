// SPDX-License-Identifier: Apache-2.0
// merge.h - joins the neighbour lists of many shards into one.
//
// One merge serves one query row at a time. Shard replies come in any order; each is offered
// once, and the best `k` of all of them stay. The result does not depend on
// the order of the offers.
//
// Thread-safety: none. The query's own thread makes every call.

#ifndef RECO_COORDINATOR_MERGE_H
#define RECO_COORDINATOR_MERGE_H

#include <stddef.h>
#include <stdint.h>

#include "proto/base/limits.h"
#include "proto/base/neighbour.h"
#include "proto/base/status.h"

#define MERGE_K_MAX K_WIRE_MAX

struct merge;

// A kept neighbour and where it came from.
struct merge_hit {
    struct neighbour neighbour;
    uint32_t shard; // as given to merge_offer()
    uint32_t place; // index in that shard's list
};

// One shard's reply: parallel arrays, best first.
struct merge_list {
    uint32_t shard;
    const uint64_t *ids;
    const float *scores;
    size_t count;
};

// Creates an empty merge that keeps at most `k` neighbours, 1..MERGE_K_MAX (else
// STATUS_INVALID). The caller owns *out and ends it with merge_destroy().
enum status merge_create(uint32_t k, struct merge **out) MUST_CHECK;

// Frees *merge and sets it to NULL. *merge may be NULL already.
void merge_destroy(struct merge **merge);

// Empties the merge for the next row.
void merge_reset(struct merge *merge);

// Adds one shard's reply. `list` is only read, and only during the call. An id already present
// keeps its better score: a record sits on two shards while it moves between them. With equal
// scores the lower shard is named.
//
// STATUS_INVALID when the list is longer than MERGE_K_MAX, not sorted or holds a NaN; the merge is
// then unchanged and stays usable, so that one bad shard cannot spoil the query.
enum status merge_offer(struct merge *merge, const struct merge_list *list) MUST_CHECK;

// Points *out at the kept neighbours, best first, and returns their number.
// *out belongs to the merge and is valid until the next offer, reset or destroy.
size_t merge_result(const struct merge *merge, const struct merge_hit **out);

#endif
