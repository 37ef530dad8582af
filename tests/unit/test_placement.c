// SPDX-License-Identifier: Apache-2.0
// Goal: every record has exactly one node, every vshard too, and grouping loses nothing.
//
// Method: all small V and N; random ids.

#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "coordinator/placement.h"

// A small generator: the same numbers in every run.
static uint32_t random_u32(void)
{
    static uint64_t state = 20261124;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33);
}

Test(placement, gives_every_vshard_to_exactly_one_node)
{
    static uint32_t own[VSHARDS_MAX];
    static const uint32_t counts[] = {1, 2, 3, 31, 64, 65, VSHARDS_MAX};
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
        for (uint32_t nodes = 1; nodes <= NODES_MAX; nodes++) {
            struct placement placement = {.vshards = counts[i], .nodes = nodes};
            static int holders[VSHARDS_MAX];
            memset(holders, 0, sizeof(holders));
            for (uint32_t node = 0; node < nodes; node++) {
                uint32_t count = placement_own(&placement, node, own);
                cr_assert(eq(u32, placement_own(&placement, node, NULL), count));
                for (uint32_t j = 0; j < count; j++) {
                    holders[own[j]]++;
                    cr_assert(eq(u32, placement_owner(&placement, own[j]), node));
                }
            }
            for (uint32_t vshard = 0; vshard < counts[i]; vshard++)
                cr_assert(eq(int, holders[vshard], 1));
        }
}

Test(placement, grouping_keeps_every_id_once_and_in_order)
{
    enum { COUNT = 1000 };
    static uint64_t ids[COUNT];
    static uint32_t order[COUNT];
    uint32_t starts[NODES_MAX + 1];
    for (int i = 0; i < COUNT; i++)
        ids[i] = (uint64_t)random_u32() << 32 | random_u32();

    struct placement placement = {.vshards = 64, .nodes = 7};
    placement_split(&placement, ids, COUNT, order, starts);

    static bool seen[COUNT];
    cr_assert(eq(u32, starts[0], 0));
    cr_assert(eq(u32, starts[NODES_MAX], COUNT));
    for (uint32_t node = 0; node < placement.nodes; node++)
        for (uint32_t i = starts[node]; i < starts[node + 1]; i++) {
            cr_assert(not(seen[order[i]]));
            seen[order[i]] = true;
            cr_assert(eq(u32, placement_owner(&placement, ids[order[i]]), node));
            if (i > starts[node])
                cr_assert(gt(u32, order[i], order[i - 1]));
        }
}

Test(placement, grouping_nothing_is_allowed)
{
    uint32_t starts[NODES_MAX + 1];
    struct placement placement = {.vshards = 64, .nodes = 2};
    placement_split(&placement, NULL, 0, NULL, starts);
    cr_expect(eq(u32, starts[2], 0));
}

Test(placement, one_node_more_than_vshards_holds_nothing)
{
    struct placement placement = {.vshards = 2, .nodes = 3};
    cr_expect(eq(u32, placement_own(&placement, 2, NULL), 0));
}
