// SPDX-License-Identifier: Apache-2.0
// A binary heap: each item is behind its children, so that the first is the one to replace.

#include "shard_node/index/best.h"

static void sink(struct best_item *items, uint32_t count, struct best_item item)
{
    uint32_t at = 0;
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= count)
            break;
        if (child + 1 < count && best_ahead(items[child], items[child + 1]))
            child++;
        if (!best_ahead(item, items[child]))
            break;
        items[at] = items[child];
        at = child;
    }
    items[at] = item;
}

static void rise(struct best_item *items, uint32_t at, struct best_item item)
{
    while (at > 0) {
        const uint32_t parent = (at - 1) / 2;
        if (!best_ahead(items[parent], item))
            break;
        items[at] = items[parent];
        at = parent;
    }
    items[at] = item;
}

void best_offer(struct best *best, float key, uint32_t number)
{
    const struct best_item item = {key, number};
    if (best->count < best->most) {
        rise(best->items, best->count, item);
        best->count++;
    } else if (best_ahead(item, best->items[0])) {
        sink(best->items, best->count, item);
    } else {
        return;
    }
    if (best->count == best->most)
        best->threshold = best->items[0].key;
}

void best_sort(struct best *best)
{
    for (uint32_t left = best->count; left > 1; left--) {
        const struct best_item worst = best->items[0];
        const struct best_item last = best->items[left - 1];
        sink(best->items, left - 1, last);
        best->items[left - 1] = worst;
    }
}
