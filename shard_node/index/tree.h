// SPDX-License-Identifier: Apache-2.0
// tree.h - the coarse step: which lists a query looks into.
//
// A k-means tree of two levels. The lists' centres are grouped under some hundred group centres. A
// query is multiplied with all group centres, the centres of the nearest groups are estimated from
// their codes (the same blocks and kernels as the vectors), and the best of those are multiplied
// exactly. "Near" is the Euclidean distance, which for unit vectors around short centres is the
// better order than the product.
//
// A tree never changes. Another one is published beside it; both share the groups that are alike.
//
// Thread-safety: only read.

#ifndef RECO_SHARD_NODE_INDEX_TREE_H
#define RECO_SHARD_NODE_INDEX_TREE_H

#include <stddef.h>
#include <stdint.h>

#include "shard_node/index/best.h"
#include "shard_node/index/lists.h"
#include "shard_node/index/simd.h"

#define TREE_GROUPS_MAX 1024
#define TREE_GROUP_CELLS_MAX (1u << 22)
#define TREE_PROBES_MAX PROBES_MAX
#define TREE_CANDIDATES_MAX (3 * TREE_PROBES_MAX + 16)

// The lists under one group centre.
struct tree_group {
    uint32_t count;
    uint16_t *centres; // [count][D], halves, rotated
    float *norms;      // [count], |c|^2
    uint8_t *blocks;   // codes around the group's centre, A less |c|^2 / 2
    struct list_cell **cells;
};

struct tree {
    uint32_t dimensions; // D
    uint32_t group_count;
    uint32_t cell_count;
    const uint16_t *centres; // [group_count][D]
    const float *norms;
    struct tree_group *groups[];
};

// A list to look into.
struct tree_probe {
    struct list_cell *cell;
    const uint16_t *centre;
    float norm;
    float dot;      // <q,c>
    float distance; // |c|^2 - 2 <q,c>, which orders as |q-c|
};

// What one thread needs for a search.
struct tree_scratch {
    float group_dots[TREE_GROUPS_MAX];
    struct best_item groups[TREE_GROUPS_MAX];
    struct best_item candidates[TREE_CANDIDATES_MAX];
    struct best_item nearest[TREE_PROBES_MAX];
    struct tree_probe probes[TREE_PROBES_MAX];
};

struct tree_query {
    const struct simd *simd;
    enum cpu_level level;
    const struct lookup *lookup;
    uint32_t groups; // to look into, at least 1; those beyond what there are do not count
    uint32_t probes; // wanted, 1..TREE_PROBES_MAX
};

// Sets scratch->probes to the nearest lists, nearest first; returns their number.
uint32_t tree_search(const struct tree *tree, const struct tree_query *query,
                     struct tree_scratch *scratch);

// |c|^2 of a centre in halves.
float tree_norm(const uint16_t *centre, uint32_t dimensions);

// A group of `count` centres [count][D] around `centre` [D], both rotated; cells are the caller's.
// The centres are rounded to halves. NULL when there is no memory.
struct tree_group *tree_group_create(const struct simd *simd, uint32_t dimensions,
                                     const float *centre, const float *centres,
                                     struct list_cell *const *cells, uint32_t count);
void tree_group_free(struct tree_group *group);

#endif
