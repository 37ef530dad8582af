// SPDX-License-Identifier: Apache-2.0
// best.h - the best of many offers, in a heap whose first is the worst that is kept.
//
// What is kept does not depend on the order of the offers: of equal keys the lower number is
// better.
//
// Thread-safety: none.

#ifndef RECO_SHARD_NODE_INDEX_BEST_H
#define RECO_SHARD_NODE_INDEX_BEST_H

#include <math.h>
#include <stdint.h>
#include <string.h>

// One of them: its key, then its number, so packed that whichever is larger is better.
struct best_item {
    uint64_t packed;
};

struct best {
    struct best_item *items; // [most], the caller's
    uint32_t most;           // at least 1
    uint32_t count;
    float threshold; // only keys above, or equal ones with lower numbers, are kept
};

static inline uint32_t best_number(struct best_item item)
{
    return ~(uint32_t)item.packed;
}

static inline float best_key(struct best_item item)
{
    const uint32_t ordered = (uint32_t)(item.packed >> 32);
    const uint32_t bits = ordered & UINT32_C(1) << 31 ? ordered ^ UINT32_C(1) << 31 : ~ordered;
    float key;
    memcpy(&key, &bits, sizeof(key));
    return key;
}

static inline void best_begin(struct best *best, struct best_item *items, uint32_t most)
{
    *best = (struct best){.items = items, .most = most, .threshold = -INFINITY};
}

// Adds what is worth keeping. `key` is a number, not NaN.
void best_offer(struct best *best, float key, uint32_t number);

// Sorts what is kept, best first; nothing may be offered afterwards.
void best_sort(struct best *best);

#endif
