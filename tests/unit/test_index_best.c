// SPDX-License-Identifier: Apache-2.0
// Goal: the best of many offers are kept, whatever their order, and come out best first.
//
// Method: keys of both signs from a fixed seed, many of them equal, both zeros and the smallest
// numbers among them; the oracle is a plain sort. Each set is offered in several orders.

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "shard_node/index/best.h"
#include "shard_node/index/seed.h"

#define OFFERS 300

struct offer {
    float key;
    uint32_t number;
};

static int better_first(const void *first, const void *second)
{
    const struct offer *const a = first;
    const struct offer *const b = second;
    if (a->key != b->key)
        return a->key > b->key ? -1 : 1;
    return a->number < b->number ? -1 : a->number > b->number;
}

static void shuffle(struct offer *offers, uint64_t *seed)
{
    for (uint32_t left = OFFERS; left > 1; left--) {
        const uint32_t other = (uint32_t)(seed_next(seed) % left);
        const struct offer last = offers[left - 1];
        offers[left - 1] = offers[other];
        offers[other] = last;
    }
}

Test(index_best, keeps_what_a_sort_would_put_first)
{
    static const float odd[] = {0.0F, -0.0F, FLT_MIN, -FLT_MIN, FLT_MAX, -FLT_MAX, FLT_TRUE_MIN};
    uint64_t seed = 20261129;
    struct offer offers[OFFERS];
    for (uint32_t i = 0; i < OFFERS; i++) {
        const int64_t step = (int64_t)(seed_next(&seed) % 101) - 50; // about three of each
        offers[i] = (struct offer){(float)step / 8, (uint32_t)seed_next(&seed)};
        if (i < sizeof(odd) / sizeof(odd[0]))
            offers[i].key = odd[i];
    }
    for (uint32_t most = 1; most <= OFFERS + 10; most += most < 20 ? 1 : 29) {
        struct best_item items[OFFERS + 10];
        struct best best;
        shuffle(offers, &seed);
        best_begin(&best, items, most);
        cr_expect(best.threshold == -INFINITY);
        for (uint32_t i = 0; i < OFFERS; i++)
            best_offer(&best, offers[i].key, offers[i].number);
        best_sort(&best);
        qsort(offers, OFFERS, sizeof(offers[0]), better_first);
        cr_assert(eq(u32, best.count, most < OFFERS ? most : OFFERS));
        for (uint32_t i = 0; i < best.count; i++) {
            cr_expect(eq(u32, best_number(items[i]), offers[i].number));
            cr_expect(best_key(items[i]) == offers[i].key);
        }
        if (most <= OFFERS)
            cr_expect(best.threshold == offers[most - 1].key);
    }
}
