// SPDX-License-Identifier: Apache-2.0
// A candidate is numbered by group and place, so that estimates find their centre again and ties
// are broken alike everywhere.

#include "shard_node/index/tree.h"

#include <assert.h>
#include <string.h>

#include "proto/base/half.h"
#include "proto/base/mem.h"
#include "shard_node/distance.h"

_Static_assert((uint64_t)TREE_GROUPS_MAX *TREE_GROUP_CELLS_MAX <= 1ull << 32, "numbers have room");

static float product(const struct tree_query *query, uint32_t dimensions, const uint16_t *centre)
{
    const struct distance_block block = {.queries = query->lookup->query,
                                         .query_count = 1,
                                         .rows = centre,
                                         .row_count = 1,
                                         .dimension = dimensions};
    float score = 0;
    distance_scores(query->level, &block, &score);
    return score;
}

static void nearest_groups(const struct tree *tree, const struct tree_query *query,
                           struct tree_scratch *scratch, struct best *groups)
{
    const struct distance_block block = {.queries = query->lookup->query,
                                         .query_count = 1,
                                         .rows = tree->centres,
                                         .row_count = tree->group_count,
                                         .dimension = tree->dimensions};
    distance_scores(query->level, &block, scratch->group_dots);
    const uint32_t most = query->groups < tree->group_count ? query->groups : tree->group_count;
    best_begin(groups, scratch->groups, most);
    for (uint32_t g = 0; g < tree->group_count; g++)
        best_offer(groups, scratch->group_dots[g] - tree->norms[g] / 2, g);
    best_sort(groups);
}

static void offer_group(const struct tree_query *query, const struct codes_shape *shape,
                        const struct tree_group *group, uint32_t number, float dot,
                        struct best *candidates)
{
    const size_t block_bytes = codes_block_bytes(shape);
    for (uint32_t at = 0; at < group->count; at += CODES_BLOCK) {
        float estimates[CODES_BLOCK];
        const struct simd_centre centre = {.dot = dot, .threshold = candidates->threshold};
        const struct codes_block block =
            codes_block_at(shape, group->blocks + at / CODES_BLOCK * block_bytes);
        uint32_t mask = query->simd->estimate(shape, query->lookup, &block, &centre, estimates);
        const uint32_t left = group->count - at;
        if (left < CODES_BLOCK)
            mask &= (1u << left) - 1;
        for (; mask != 0; mask &= mask - 1) {
            const uint32_t j = (uint32_t)__builtin_ctz(mask);
            best_offer(candidates, estimates[j], number * TREE_GROUP_CELLS_MAX + at + j);
        }
    }
}

static const uint16_t *centre_of(const struct tree *tree, uint32_t number)
{
    const struct tree_group *group = tree->groups[number / TREE_GROUP_CELLS_MAX];
    return group->centres + (size_t)(number % TREE_GROUP_CELLS_MAX) * tree->dimensions;
}

static float norm_of(const struct tree *tree, uint32_t number)
{
    return tree->groups[number / TREE_GROUP_CELLS_MAX]->norms[number % TREE_GROUP_CELLS_MAX];
}

// Multiplies the candidates exactly and keeps the nearest of them, nearest first.
static void nearest_lists(const struct tree *tree, const struct tree_query *query,
                          const struct best *candidates, struct best *nearest)
{
    for (uint32_t i = 0; i < candidates->count; i++) {
        const uint16_t *const centre = centre_of(tree, best_number(candidates->items[i]));
        for (uint32_t d = 0; d < tree->dimensions; d += 32)
            __builtin_prefetch(centre + d);
    }
    for (uint32_t i = 0; i < candidates->count; i++) {
        const uint32_t number = best_number(candidates->items[i]);
        const float dot = product(query, tree->dimensions, centre_of(tree, number));
        best_offer(nearest, 2 * dot - norm_of(tree, number), number);
    }
    best_sort(nearest);
}

uint32_t tree_search(const struct tree *tree, const struct tree_query *query,
                     struct tree_scratch *scratch)
{
    assert(query->groups >= 1 && query->probes >= 1 && query->probes <= TREE_PROBES_MAX);

    struct best groups;
    nearest_groups(tree, query, scratch, &groups);

    const struct codes_shape shape = {.dimensions = tree->dimensions};
    struct best candidates;
    best_begin(&candidates, scratch->candidates, 3 * query->probes + 16);
    for (uint32_t i = 0; i < groups.count; i++) {
        const uint32_t g = best_number(groups.items[i]);
        offer_group(query, &shape, tree->groups[g], g, scratch->group_dots[g], &candidates);
    }

    struct best nearest;
    best_begin(&nearest, scratch->nearest, query->probes);
    nearest_lists(tree, query, &candidates, &nearest);
    for (uint32_t i = 0; i < nearest.count; i++) {
        const uint32_t number = best_number(nearest.items[i]);
        const struct tree_group *group = tree->groups[number / TREE_GROUP_CELLS_MAX];
        const float norm = norm_of(tree, number);
        const float distance = -best_key(nearest.items[i]);
        scratch->probes[i] = (struct tree_probe){
            .cell = group->cells[number % TREE_GROUP_CELLS_MAX],
            .centre = centre_of(tree, number),
            .norm = norm,
            .distance = distance,
            .dot = (norm - distance) / 2, // as multiplied, but for the last bit
        };
    }
    return nearest.count;
}

static void free_parts(struct tree_group *group)
{
    mem_free(group->centres);
    mem_free(group->norms);
    mem_free(group->blocks);
    mem_free(group->cells);
    mem_free(group);
}

float tree_norm(const uint16_t *centre, uint32_t dimensions)
{
    float floats[CODES_DIMENSIONS_MAX];
    half_to_floats(centre, floats, dimensions);
    float norm = 0;
    for (uint32_t d = 0; d < dimensions; d++)
        norm += floats[d] * floats[d];
    return norm;
}

struct tree_group *tree_group_create(const struct simd *simd, uint32_t dimensions,
                                     const float *centre, const float *centres,
                                     struct list_cell *const *cells, uint32_t count)
{
    assert(count >= 1 && count <= TREE_GROUP_CELLS_MAX);

    const struct codes_shape shape = {.dimensions = dimensions};
    const size_t block_bytes = codes_block_bytes(&shape);
    const size_t blocks_bytes = (count + CODES_BLOCK - 1) / CODES_BLOCK * block_bytes;
    struct tree_group *group = mem_alloc(sizeof(*group));
    group->count = count;
    group->centres = mem_try_alloc_aligned(CODES_ALIGNMENT, (size_t)count * dimensions * 2);
    group->norms = mem_try_alloc_array(count, sizeof(*group->norms));
    group->blocks = mem_try_alloc_aligned(CODES_ALIGNMENT, blocks_bytes);
    group->cells = mem_try_alloc_array(count, sizeof(struct list_cell *));
    if (!group->centres || !group->norms || !group->blocks || !group->cells) {
        free_parts(group);
        return NULL;
    }
    memset(group->blocks, 0, blocks_bytes);
    memcpy(group->cells, cells, count * sizeof(struct list_cell *));
    for (uint32_t i = 0; i < count; i++) {
        uint16_t *const halves = group->centres + (size_t)i * dimensions;
        float rounded[CODES_DIMENSIONS_MAX];
        half_from_floats(centres + (size_t)i * dimensions, halves, dimensions);
        half_to_floats(halves, rounded, dimensions);
        const float norm = tree_norm(halves, dimensions);
        group->norms[i] = norm;
        uint8_t *const block = group->blocks + i / CODES_BLOCK * block_bytes;
        simd->encode(&shape, rounded, centre, i % CODES_BLOCK, block, NULL);
        codes_block_at(&shape, block).add[i % CODES_BLOCK] -= norm / 2;
    }
    return group;
}

void tree_group_free(struct tree_group *group)
{
    if (group)
        free_parts(group);
}
