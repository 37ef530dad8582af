// SPDX-License-Identifier: Apache-2.0
// placement.c - arithmetic only; see placement.h for the rule.

#include "coordinator/placement.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

static bool is_valid(const struct placement *placement)
{
    return placement && placement->vshards >= 1 && placement->vshards <= VSHARDS_MAX &&
           placement->nodes >= 1 && placement->nodes <= NODES_MAX;
}

uint32_t placement_owner(const struct placement *placement, uint64_t id)
{
    assert(is_valid(placement));

    return (uint32_t)(id % placement->vshards) % placement->nodes;
}

uint32_t placement_own(const struct placement *placement, uint32_t node, uint32_t *out)
{
    assert(is_valid(placement));
    assert(node < placement->nodes);

    uint32_t count = 0;
    for (uint32_t vshard = node; vshard < placement->vshards; vshard += placement->nodes) {
        if (out)
            out[count] = vshard;
        count++;
    }
    return count;
}

void placement_split(const struct placement *placement, const uint64_t *ids, size_t count,
                     uint32_t *order, uint32_t starts[NODES_MAX + 1])
{
    assert(is_valid(placement));
    assert(((ids && order) || count == 0) && count <= UINT32_MAX && starts);

    // Counting sort: sizes, then starts, then places.
    memset(starts, 0, (NODES_MAX + 1) * sizeof(starts[0]));
    for (size_t i = 0; i < count; i++)
        starts[placement_owner(placement, ids[i]) + 1]++;
    uint32_t next[NODES_MAX];
    for (uint32_t node = 0; node < NODES_MAX; node++) {
        starts[node + 1] += starts[node];
        next[node] = starts[node];
    }
    for (size_t i = 0; i < count; i++)
        order[next[placement_owner(placement, ids[i])]++] = (uint32_t)i;
}
