// SPDX-License-Identifier: Apache-2.0
// A binary heap: each item is behind its children, so that the first is the one to replace.
//
// Whether an offer is kept and which child is the worse one are coin tosses that no processor
// foresees. A whole number for key and number makes each a comparison without a branch.

#include "shard_node/index/best.h"

// Negative floats order the other way round. Adding 0 makes one zero of both.
static struct best_item pack(float key, uint32_t number)
{
    const float one_zero = key + 0.0F;
    uint32_t bits;
    memcpy(&bits, &one_zero, sizeof(bits));
    const uint32_t ordered = bits & UINT32_C(1) << 31 ? ~bits : bits ^ UINT32_C(1) << 31;
    return (struct best_item){(uint64_t)ordered << 32 | (uint32_t)~number};
}

static void sink(struct best_item *items, uint32_t count, struct best_item item)
{
    uint32_t at = 0;
    uint32_t child = 1;
    while (child + 1 < count) {
        child += items[child + 1].packed < items[child].packed;
        if (item.packed <= items[child].packed)
            break;
        items[at] = items[child];
        at = child;
        child = 2 * at + 1;
    }
    if (child + 1 == count && item.packed > items[child].packed) {
        items[at] = items[child];
        at = child;
    }
    items[at] = item;
}

static void rise(struct best_item *items, uint32_t at, struct best_item item)
{
    while (at > 0) {
        const uint32_t parent = (at - 1) / 2;
        if (items[parent].packed <= item.packed)
            break;
        items[at] = items[parent];
        at = parent;
    }
    items[at] = item;
}

void best_offer(struct best *best, float key, uint32_t number)
{
    const struct best_item item = pack(key, number);
    if (best->count < best->most) {
        rise(best->items, best->count, item);
        best->count++;
    } else if (item.packed > best->items[0].packed) {
        sink(best->items, best->count, item);
    } else {
        return;
    }
    if (best->count == best->most)
        best->threshold = best_key(best->items[0]);
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
