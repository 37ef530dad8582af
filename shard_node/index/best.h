// SPDX-License-Identifier: Apache-2.0
// best.h - the best of many offers, in a heap whose first is the worst that is kept.
//
// What is kept does not depend on the order of the offers: of equal keys the lower number is better.
//
// Thread-safety: none.

#ifndef RECO_SHARD_NODE_INDEX_BEST_H
#define RECO_SHARD_NODE_INDEX_BEST_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct best_item {
    float key;
    uint32_t number;
};

struct best {
    struct best_item *items; // [most], the caller's
    uint32_t most;           // at least 1
    uint32_t count;
    float threshold; // only keys above, or equal ones with lower numbers, are kept
};

static inline void best_begin(struct best *best, struct best_item *items, uint32_t most)
{
    *best = (struct best){.items = items, .most = most, .threshold = -INFINITY};
}

static inline bool best_ahead(struct best_item a, struct best_item b)
{
    return a.key > b.key || (a.key == b.key && a.number < b.number);
}

// Adds what is known to be worth keeping or is found not to be.
void best_offer(struct best *best, float key, uint32_t number);

// Sorts what is kept, best first; nothing may be offered afterwards.
void best_sort(struct best *best);

#endif
