// SPDX-License-Identifier: Apache-2.0
// The nearest centre is the one with the largest <x,c> - |c|^2 / 2. Points are packed six at a
// time, centres in panels of 64, each dimension of a panel in a row, so that one kernel multiplies
// 384 pairs out of registers (simd.h).

#include "shard_node/index/kmeans.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "proto/base/half.h"
#include "proto/base/mem.h"
#include "proto/base/parallel.h"
#include "shard_node/distance.h"
#include "shard_node/index/seed.h"

#define FEW_CLUSTERS 4
#define PIECE_POINTS ((size_t)SIMD_POINTS * 64) // of one turn of a thread

struct kmeans {
    const struct kmeans_params *params;
    const float *centres;
    uint32_t *nearest;
    uint32_t panel_count;
    float *panels;     // [panel_count][dimension][SIMD_PANEL]
    float *half_norms; // [panel_count * SIMD_PANEL], INFINITY behind the last
    uint32_t *sizes;   // [clusters]
};

static bool is_given_up(const struct kmeans_params *params)
{
    const atomic_bool *const *given_up = params->given_up;
    return given_up &&
           ((given_up[0] && atomic_load(given_up[0])) || (given_up[1] && atomic_load(given_up[1])));
}

static const uint16_t *row_of(const struct kmeans_params *params, uint32_t point)
{
    return params->rows + (size_t)params->points[point] * params->dimension;
}

static void make_panels(struct kmeans *kmeans)
{
    const struct kmeans_params *params = kmeans->params;
    const size_t dimension = params->dimension;
    for (size_t c = 0; c < (size_t)kmeans->panel_count * SIMD_PANEL; c++) {
        float *const panel = kmeans->panels + c / SIMD_PANEL * dimension * SIMD_PANEL;
        const bool is_there = c < params->clusters;
        float norm = 0;
        for (size_t d = 0; d < dimension; d++) {
            const float value = is_there ? kmeans->centres[c * dimension + d] : 0;
            panel[d * SIMD_PANEL + c % SIMD_PANEL] = value;
            norm += value * value;
        }
        kmeans->half_norms[c] = is_there ? norm / 2 : INFINITY;
    }
}

// Points behind the last are zeros.
static void pack(const struct kmeans_params *params, uint32_t first, float *packed)
{
    float row[DIMENSION_MAX];
    for (uint32_t p = 0; p < SIMD_POINTS; p++) {
        if (first + p < params->count)
            half_to_floats(row_of(params, first + p), row, params->dimension);
        else
            memset(row, 0, params->dimension * sizeof(*row));
        for (size_t d = 0; d < params->dimension; d++)
            packed[d * SIMD_POINTS + p] = row[d];
    }
}

static void assign_tile(struct kmeans *kmeans, uint32_t first, const float *packed)
{
    const struct kmeans_params *params = kmeans->params;
    float most[SIMD_POINTS];
    uint32_t nearest[SIMD_POINTS] = {0};
    for (size_t p = 0; p < SIMD_POINTS; p++)
        most[p] = -INFINITY;
    for (uint32_t panel = 0; panel < kmeans->panel_count; panel++) {
        float scores[(size_t)SIMD_POINTS * SIMD_PANEL];
        params->simd->multiply(params->dimension, packed,
                               kmeans->panels + (size_t)panel * params->dimension * SIMD_PANEL,
                               scores);
        const float *const half_norms = kmeans->half_norms + (size_t)panel * SIMD_PANEL;
        for (size_t p = 0; p < SIMD_POINTS; p++) {
            for (uint32_t c = 0; c < SIMD_PANEL; c++) {
                const float score = scores[p * SIMD_PANEL + c] - half_norms[c];
                if (score > most[p]) {
                    most[p] = score;
                    nearest[p] = panel * SIMD_PANEL + c;
                }
            }
        }
    }
    for (uint32_t p = 0; p < SIMD_POINTS && first + p < params->count; p++)
        kmeans->nearest[first + p] = nearest[p];
}

// With few centres most of a panel would be empty.
static void assign_to_few(struct kmeans *kmeans, uint32_t point)
{
    const struct kmeans_params *params = kmeans->params;
    float scores[FEW_CLUSTERS];
    const struct distance_block block = {.queries = kmeans->centres,
                                         .query_count = params->clusters,
                                         .rows = row_of(params, point),
                                         .row_count = 1,
                                         .dimension = params->dimension};
    distance_scores(params->level, &block, scores);
    uint32_t nearest = 0;
    for (uint32_t c = 1; c < params->clusters; c++) {
        if (scores[c] - kmeans->half_norms[c] > scores[nearest] - kmeans->half_norms[nearest])
            nearest = c;
    }
    kmeans->nearest[point] = nearest;
}

static void assign_piece(void *context, uint32_t worker, size_t piece)
{
    (void)worker;
    struct kmeans *kmeans = context;
    float packed[(size_t)DIMENSION_MAX * SIMD_POINTS];
    const size_t begin = piece * PIECE_POINTS;
    if (is_given_up(kmeans->params))
        return;
    const size_t count = kmeans->params->count;
    const size_t end = count - begin < PIECE_POINTS ? count : begin + PIECE_POINTS;
    if (kmeans->params->clusters <= FEW_CLUSTERS) {
        for (size_t i = begin; i < end; i++)
            assign_to_few(kmeans, (uint32_t)i);
        return;
    }
    for (size_t i = begin; i < end; i += SIMD_POINTS) {
        pack(kmeans->params, (uint32_t)i, packed);
        assign_tile(kmeans, (uint32_t)i, packed);
    }
}

// An empty cluster takes a point of the largest one.
static void fill_empty(struct kmeans *kmeans, uint64_t *seed)
{
    const struct kmeans_params *params = kmeans->params;
    for (uint32_t c = 0; c < params->clusters; c++) {
        if (kmeans->sizes[c] > 0)
            continue;
        uint32_t largest = 0;
        for (uint32_t other = 1; other < params->clusters; other++) {
            if (kmeans->sizes[other] > kmeans->sizes[largest])
                largest = other;
        }
        if (kmeans->sizes[largest] < 2)
            continue;
        uint32_t left = (uint32_t)seed_below(seed, kmeans->sizes[largest]);
        uint32_t point = 0;
        while (kmeans->nearest[point] != largest || left-- > 0)
            point++;
        kmeans->nearest[point] = c;
        kmeans->sizes[largest]--;
        kmeans->sizes[c]++;
    }
}

static void count_sizes(struct kmeans *kmeans)
{
    memset(kmeans->sizes, 0, kmeans->params->clusters * sizeof(*kmeans->sizes));
    for (uint32_t i = 0; i < kmeans->params->count; i++)
        kmeans->sizes[kmeans->nearest[i]]++;
}

void kmeans_move(const struct kmeans_params *params, const uint32_t *nearest, const uint32_t *sizes,
                 float *centres)
{
    const size_t dimension = params->dimension;
    float row[DIMENSION_MAX];
    for (uint32_t c = 0; c < params->clusters; c++) {
        if (sizes[c] > 0)
            memset(centres + c * dimension, 0, dimension * sizeof(float));
    }
    for (uint32_t i = 0; i < params->count; i++) {
        float *const centre = centres + nearest[i] * dimension;
        half_to_floats(row_of(params, i), row, dimension);
        for (size_t d = 0; d < dimension; d++)
            centre[d] += row[d];
    }
    for (uint32_t c = 0; c < params->clusters; c++) {
        const float share = sizes[c] > 0 ? 1 / (float)sizes[c] : 1;
        for (size_t d = 0; d < dimension; d++)
            centres[c * dimension + d] *= share;
    }
}

// Different points, by a partial shuffle.
static void choose_first(const struct kmeans *kmeans, float *centres, uint64_t *seed)
{
    const struct kmeans_params *params = kmeans->params;
    uint32_t *const order = kmeans->nearest;
    for (uint32_t i = 0; i < params->count; i++)
        order[i] = i;
    for (uint32_t c = 0; c < params->clusters; c++) {
        const uint32_t other = c + (uint32_t)seed_below(seed, params->count - c);
        const uint32_t point = order[other];
        order[other] = order[c];
        order[c] = point;
        half_to_floats(row_of(params, point), centres + (size_t)c * params->dimension,
                       params->dimension);
    }
}

static void deinit(struct kmeans *kmeans)
{
    mem_free(kmeans->panels);
    mem_free(kmeans->half_norms);
    mem_free(kmeans->sizes);
}

static enum status init(struct kmeans *kmeans)
{
    const struct kmeans_params *params = kmeans->params;
    assert(params->count >= 1 && params->clusters >= 1);

    kmeans->panel_count = (params->clusters + SIMD_PANEL - 1) / SIMD_PANEL;
    const size_t padded = (size_t)kmeans->panel_count * SIMD_PANEL;
    kmeans->panels = mem_try_alloc_array(padded, params->dimension * sizeof(float));
    kmeans->half_norms = mem_try_alloc_array(padded, sizeof(float));
    kmeans->sizes = mem_try_alloc_array(params->clusters, sizeof(uint32_t));
    if (kmeans->panels && kmeans->half_norms && kmeans->sizes)
        return STATUS_OK;
    deinit(kmeans);
    return STATUS_NO_MEMORY;
}

static enum status assign(struct kmeans *kmeans)
{
    const struct kmeans_params *params = kmeans->params;
    const size_t pieces = ((size_t)params->count + PIECE_POINTS - 1) / PIECE_POINTS;
    make_panels(kmeans);
    parallel_run(params->threads, pieces, assign_piece, kmeans);
    return is_given_up(params) ? STATUS_CANCELLED : STATUS_OK;
}

enum status kmeans_assign(const struct kmeans_params *params, const float *centres,
                          uint32_t *nearest)
{
    struct kmeans kmeans = {.params = params, .centres = centres};
    kmeans.nearest = nearest;
    if (init(&kmeans) != STATUS_OK)
        return STATUS_NO_MEMORY;
    const enum status status = assign(&kmeans);
    deinit(&kmeans);
    return status;
}

enum status kmeans_run(const struct kmeans_params *params, float *centres, uint32_t *nearest)
{
    assert(params->clusters <= params->count);

    struct kmeans kmeans = {.params = params, .centres = centres};
    kmeans.nearest = nearest;
    if (init(&kmeans) != STATUS_OK)
        return STATUS_NO_MEMORY;
    uint64_t seed = params->seed;
    choose_first(&kmeans, centres, &seed);
    enum status status = STATUS_OK;
    for (uint32_t round = 0; round < params->rounds && status == STATUS_OK; round++) {
        status = assign(&kmeans);
        if (status != STATUS_OK)
            break;
        count_sizes(&kmeans);
        fill_empty(&kmeans, &seed);
        kmeans_move(params, nearest, kmeans.sizes, centres);
    }
    deinit(&kmeans);
    return status;
}
