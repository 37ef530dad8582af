// SPDX-License-Identifier: Apache-2.0
// A candidate is numbered by group and place, so that estimates find their centre again and ties
// are broken alike everywhere.

#include "shard_node/index/tree.h"

#include <assert.h>
#include <stdlib.h>
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

static int by_distance(const void *first, const void *second)
{
    const struct tree_probe *const a = first;
    const struct tree_probe *const b = second;
    if (a->distance != b->distance)
        return a->distance < b->distance ? -1 : 1;
    return a->number < b->number ? -1 : a->number > b->number;
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
        const uint32_t g = groups.items[i].number;
        offer_group(query, &shape, tree->groups[g], g, scratch->group_dots[g], &candidates);
    }
    best_sort(&candidates);

    for (uint32_t i = 0; i < candidates.count; i++) {
        const uint32_t number = candidates.items[i].number;
        const struct tree_group *group = tree->groups[number / TREE_GROUP_CELLS_MAX];
        const uint32_t at = number % TREE_GROUP_CELLS_MAX;
        struct tree_probe *probe = &scratch->probes[i];
        probe->number = number;
        probe->cell = group->cells[at];
        probe->centre = group->centres + (size_t)at * tree->dimensions;
        probe->norm = group->norms[at];
        for (uint32_t d = 0; d < tree->dimensions; d += 32)
            __builtin_prefetch(probe->centre + d);
    }
    for (uint32_t i = 0; i < candidates.count; i++) {
        struct tree_probe *probe = &scratch->probes[i];
        probe->dot = product(query, tree->dimensions, probe->centre);
        probe->distance = probe->norm - 2 * probe->dot;
    }
    qsort(scratch->probes, candidates.count, sizeof(scratch->probes[0]), by_distance);
    return candidates.count < query->probes ? candidates.count : query->probes;
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
