// SPDX-License-Identifier: Apache-2.0
// Training, over a sample: k-means in two levels makes as many centres as lists are wanted, and
// some rounds of Lloyd's over all of them heal what the borders of the first level cut through. In
// these rounds a point finds its centre as a query would, from codes, which costs a twentieth of
// multiplying it with all centres. In the end the centres are grouped by k-means over themselves.
//
// Learning is done on the rows as they are; since a rotation keeps distances, only the centres have
// to be rotated.

#include <assert.h>
#include <math.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "proto/base/half.h"
#include "proto/base/mem.h"
#include "proto/base/parallel.h"
#include "shard_node/index/index_internal.h"
#include "shard_node/index/kmeans.h"
#include "shard_node/index/seed.h"

#define FIRST_ROUNDS 8   // of each level of the first centres
#define HEALING_ROUNDS 4 // of all of them
#define GROUP_ROUNDS 8   // of grouping them
#define GROUP_POINTS 256 // of the sample, for each part of the first level
#define LIST_POINTS 64   // for each list
#define PIECE_POINTS 512 // of one turn of a thread

struct training {
    struct index *index;
    const uint32_t *sample; // slots
    uint32_t sample_count;
    uint32_t list_count;
    uint32_t group_count;
    float *centres;                   // [list_count][dimension], not rotated
    float *rotated;                   // [list_count][D]
    uint16_t *halves;                 // [list_count][dimension]
    uint32_t *nearest;                // [sample_count] centre of each point
    uint32_t *sorted;                 // [sample_count] slots, part by part of the first level
    uint32_t *numbers;                // [list_count] 0, 1, 2 ...
    uint32_t *part_begins;            // [group_count + 1] in `sorted`
    uint32_t *list_begins;            // [group_count + 1] in `centres`
    struct index_scratch **scratches; // [threads]
    atomic_bool has_failed;
};

uint32_t index_sample_count(const struct index_params *params, uint64_t records)
{
    const uint64_t vectors =
        params->list_vectors ? params->list_vectors : index_list_vectors(records);
    const uint64_t points = (records / vectors + 1) * LIST_POINTS;
    const uint64_t most = 1u << 26;
    const uint64_t count = points < records ? points : records;
    return (uint32_t)(count < most ? count : most);
}

static uint32_t dimension_of(const struct training *training)
{
    return training->index->params.rows.dimension;
}

static struct kmeans_params kmeans_of(const struct training *training, const uint32_t *points,
                                      uint32_t count, uint32_t clusters)
{
    return (struct kmeans_params){
        .simd = training->index->simd,
        .level = training->index->params.level,
        .dimension = dimension_of(training),
        .rows = training->index->params.rows.rows,
        .points = points,
        .count = count,
        .clusters = clusters,
        .rounds = FIRST_ROUNDS,
        .threads = 1,
        .seed = training->index->params.seed,
        .given_up = training->index->params.given_up,
    };
}

// --- the first centres

static enum status cut_into_parts(struct training *training)
{
    const uint64_t wanted = (uint64_t)training->group_count * GROUP_POINTS;
    const uint32_t count =
        wanted < training->sample_count ? (uint32_t)wanted : training->sample_count;
    struct kmeans_params params =
        kmeans_of(training, training->sample, count, training->group_count);
    params.threads = training->index->params.threads;
    float *centres =
        mem_try_alloc_array(training->group_count, dimension_of(training) * sizeof(float));
    if (!centres)
        return STATUS_NO_MEMORY;
    enum status status = kmeans_run(&params, centres, training->nearest);
    params.count = training->sample_count;
    if (status == STATUS_OK)
        status = kmeans_assign(&params, centres, training->nearest);
    mem_free(centres);
    return status;
}

static void sort_by_part(struct training *training)
{
    assert(training->sample_count > 0);

    uint32_t *const begins = training->part_begins;
    memset(begins, 0, (training->group_count + 1) * sizeof(*begins));
    for (uint32_t i = 0; i < training->sample_count; i++)
        begins[training->nearest[i] + 1]++;
    for (uint32_t g = 0; g < training->group_count; g++)
        begins[g + 1] += begins[g];
    uint32_t at[TREE_GROUPS_MAX];
    memcpy(at, begins, training->group_count * sizeof(*begins));
    for (uint32_t i = 0; i < training->sample_count; i++)
        training->sorted[at[training->nearest[i]]++] = training->sample[i];

    // Lists in proportion to the points; since they never exceed them, a part has as many points.
    for (uint32_t g = 0; g <= training->group_count; g++)
        training->list_begins[g] =
            (uint32_t)((uint64_t)training->list_count * begins[g] / training->sample_count);
}

static void train_part(void *context, uint32_t worker, size_t part)
{
    (void)worker;
    struct training *training = context;
    const uint32_t begin = training->part_begins[part];
    const uint32_t first = training->list_begins[part];
    const uint32_t lists = training->list_begins[part + 1] - first;
    if (lists == 0 || index_is_cancelled(training->index))
        return;
    struct kmeans_params params = kmeans_of(training, training->sorted + begin,
                                            training->part_begins[part + 1] - begin, lists);
    params.seed += part + 1;
    if (kmeans_run(&params, training->centres + (size_t)first * dimension_of(training),
                   training->nearest + begin) == STATUS_NO_MEMORY)
        atomic_store(&training->has_failed, true);
}

// --- the tree

static void rotate_piece(void *context, uint32_t worker, size_t piece)
{
    (void)worker;
    struct training *training = context;
    const struct index *index = training->index;
    const uint32_t dimension = dimension_of(training);
    for (size_t i = piece * PIECE_POINTS;
         i < (piece + 1) * PIECE_POINTS && i < training->list_count; i++) {
        const float *const centre = training->centres + i * dimension;
        half_from_floats(centre, training->halves + i * dimension, dimension);
        index->simd->rotate(&index->rotation, centre,
                            training->rotated + i * index->rotation.dimensions);
    }
}

// As every query will see them: rotated and in halves.
static void keep_group_centre(const struct training *training, uint32_t group, const float *centre)
{
    struct index *index = training->index;
    const uint32_t dimensions = index->rotation.dimensions;
    float rotated[CODES_DIMENSIONS_MAX];
    uint16_t *const halves = index->group_centres + (size_t)group * dimensions;
    index->simd->rotate(&index->rotation, centre, rotated);
    half_from_floats(rotated, halves, dimensions);
    index->group_norms[group] = tree_norm(halves, dimensions);
}

// The lists whose centres are nearest to group `number`.
static struct tree_group *make_group(const struct training *training, uint32_t number,
                                     const uint32_t *group_of, uint32_t count)
{
    const struct index *index = training->index;
    const uint32_t dimensions = index->rotation.dimensions;
    float *members = mem_try_alloc_array(count, dimensions * sizeof(float));
    if (!members)
        return NULL;
    struct list_cell **cells = mem_alloc_array(count, sizeof(struct list_cell *));
    uint32_t filled = 0;
    for (uint32_t i = 0; i < training->list_count; i++) {
        if (group_of[i] != number)
            continue;
        memcpy(members + (size_t)filled * dimensions, training->rotated + (size_t)i * dimensions,
               dimensions * sizeof(float));
        cells[filled] = mem_alloc(sizeof(*cells[filled]));
        cells[filled++]->number = i;
    }
    float centre[CODES_DIMENSIONS_MAX];
    half_to_floats(index->group_centres + (size_t)number * dimensions, centre, dimensions);
    struct tree_group *group =
        tree_group_create(index->simd, dimensions, centre, members, cells, count);
    for (uint32_t i = 0; !group && i < count; i++)
        mem_free(cells[i]);
    mem_free(members);
    mem_free(cells);
    return group;
}

static enum status fill_tree(struct training *training, struct tree *tree, const uint32_t *group_of)
{
    uint32_t sizes[TREE_GROUPS_MAX] = {0};
    for (uint32_t i = 0; i < training->list_count; i++)
        sizes[group_of[i]]++;
    for (uint32_t g = 0; g < tree->group_count; g++) {
        tree->groups[g] = make_group(training, g, group_of, sizes[g]);
        if (!tree->groups[g])
            return STATUS_NO_MEMORY;
    }
    tree->cell_count = training->list_count;
    return STATUS_OK;
}

// Makes the index's tree from the centres, in place of the one it has.
static enum status make_tree(struct training *training)
{
    struct index *index = training->index;
    const uint32_t pieces = (training->list_count + PIECE_POINTS - 1) / PIECE_POINTS;
    parallel_run(index->params.threads, pieces, rotate_piece, training);

    struct kmeans_params params =
        kmeans_of(training, training->numbers, training->list_count, training->group_count);
    params.rows = training->halves;
    params.rounds = GROUP_ROUNDS;
    params.threads = index->params.threads;
    float *centres = mem_try_alloc_array(params.clusters, dimension_of(training) * sizeof(float));
    uint32_t *group_of = mem_try_alloc_array(params.count, sizeof(uint32_t));
    enum status status = centres && group_of ? STATUS_OK : STATUS_NO_MEMORY;
    if (status == STATUS_OK)
        status = kmeans_run(&params, centres, group_of);
    if (status == STATUS_OK) {
        struct tree *tree =
            mem_alloc(sizeof(*tree) + training->group_count * sizeof(struct tree_group *));
        tree->dimensions = index->rotation.dimensions;
        tree->group_count = training->group_count;
        tree->centres = index->group_centres;
        tree->norms = index->group_norms;
        for (uint32_t g = 0; g < training->group_count; g++)
            keep_group_centre(training, g, centres + (size_t)g * dimension_of(training));
        index_free_tree(index, atomic_exchange(&index->tree, tree));
        status = fill_tree(training, tree, group_of);
    }
    mem_free(centres);
    mem_free(group_of);
    return status;
}

// --- healing

static void assign_piece(void *context, uint32_t worker, size_t piece)
{
    struct training *training = context;
    struct index *index = training->index;
    struct index_scratch *scratch = training->scratches[worker];
    const struct tree *tree = atomic_load(&index->tree);
    if (index_is_cancelled(index))
        return;
    for (size_t i = piece * PIECE_POINTS;
         i < (piece + 1) * PIECE_POINTS && i < training->sample_count; i++)
        training->nearest[i] = index_route(index, scratch, tree, training->sample[i])->number;
}

static void move_centres(struct training *training, uint32_t *sizes)
{
    const struct kmeans_params params =
        kmeans_of(training, training->sample, training->sample_count, training->list_count);
    for (uint32_t i = 0; i < training->sample_count; i++)
        sizes[training->nearest[i]]++;
    kmeans_move(&params, training->nearest, sizes, training->centres);
}

static enum status heal(struct training *training)
{
    const size_t pieces = ((size_t)training->sample_count + PIECE_POINTS - 1) / PIECE_POINTS;
    uint32_t *sizes = mem_alloc_array(training->list_count, sizeof(uint32_t));
    parallel_run(training->index->params.threads, pieces, assign_piece, training);
    const bool is_cancelled = index_is_cancelled(training->index);
    if (!is_cancelled)
        move_centres(training, sizes);
    mem_free(sizes);
    return is_cancelled ? STATUS_CANCELLED : make_tree(training);
}

static bool allocate(struct training *training)
{
    struct index *index = training->index;
    const uint32_t dimension = dimension_of(training);
    const uint32_t dimensions = index->rotation.dimensions;
    const size_t lists = training->list_count;
    const size_t points = training->sample_count;
    const size_t groups = training->group_count;
    training->centres = mem_try_alloc_array(lists, dimension * sizeof(float));
    training->rotated = mem_try_alloc_array(lists, dimensions * sizeof(float));
    training->halves = mem_try_alloc_array(lists, dimension * sizeof(uint16_t));
    training->nearest = mem_try_alloc_array(points, sizeof(uint32_t));
    training->sorted = mem_try_alloc_array(points, sizeof(uint32_t));
    training->numbers = mem_try_alloc_array(lists, sizeof(uint32_t));
    training->part_begins = mem_alloc_array(groups + 1, sizeof(uint32_t));
    training->list_begins = mem_alloc_array(groups + 1, sizeof(uint32_t));
    index->group_centres =
        mem_try_alloc_aligned(CODES_ALIGNMENT, groups * dimensions * sizeof(uint16_t));
    index->group_norms = mem_alloc_array(groups, sizeof(float));
    training->scratches = index_scratches_create(index, NULL);
    if (!training->centres || !training->rotated || !training->halves || !training->nearest ||
        !training->sorted || !training->numbers || !index->group_centres || !training->scratches)
        return false;
    for (uint32_t i = 0; i < training->list_count; i++)
        training->numbers[i] = i;
    return true;
}

static void deinit(struct training *training)
{
    index_scratches_destroy(training->index, &training->scratches);
    mem_free(training->centres);
    mem_free(training->rotated);
    mem_free(training->halves);
    mem_free(training->nearest);
    mem_free(training->sorted);
    mem_free(training->numbers);
    mem_free(training->part_begins);
    mem_free(training->list_begins);
}

static enum status run(struct training *training)
{
    if (!allocate(training))
        return STATUS_NO_MEMORY;
    enum status status = cut_into_parts(training);
    if (status != STATUS_OK)
        return status;
    sort_by_part(training);
    parallel_run(training->index->params.threads, training->group_count, train_part, training);
    if (index_is_cancelled(training->index))
        return STATUS_CANCELLED;
    if (atomic_load(&training->has_failed))
        return STATUS_NO_MEMORY;
    status = make_tree(training);
    for (int round = 0; status == STATUS_OK && round < HEALING_ROUNDS; round++)
        status = heal(training);
    return status;
}

enum status index_train_tree(struct index *index, const uint32_t *sample, uint32_t sample_count,
                             uint32_t lists)
{
    assert(sample_count >= 1 && lists >= 1);

    const uint32_t root = (uint32_t)(sqrt((double)lists) + 0.5);
    struct training training = {
        .index = index,
        .sample = sample,
        .sample_count = sample_count,
        .list_count = lists < sample_count ? lists : sample_count,
        .group_count = root < 1                 ? 1
                       : root > TREE_GROUPS_MAX ? TREE_GROUPS_MAX
                                                : root,
    };
    if (training.group_count > training.list_count)
        training.group_count = training.list_count;
    const enum status status = run(&training);
    deinit(&training);
    return status;
}
