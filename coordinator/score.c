// SPDX-License-Identifier: Apache-2.0
// score.c - inner products, ranks and margins.

#include "coordinator/score.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/embedding.h"
#include "proto/base/mem.h"

float score_dot(const float *a, const float *b, uint32_t dimension)
{
    assert(a && b);

    return (float)embedding_dot(a, b, dimension);
}

static int compare_ranked(const void *a, const void *b)
{
    const struct neighbour *left = a;
    const struct neighbour *right = b;
    return neighbour_ahead(*left, *right) ? -1 : neighbour_ahead(*right, *left);
}

static const float *label_at(const struct score_labels *labels, size_t index)
{
    return labels->values + index * labels->dimension;
}

void score_rank(const float *query, const struct score_labels *labels, struct neighbour *ranked)
{
    assert(query && labels && (ranked || labels->count == 0));

    for (size_t i = 0; i < labels->count; i++)
        ranked[i] = (struct neighbour){
            .id = i, .score = score_dot(query, label_at(labels, i), labels->dimension)};
    qsort(ranked, labels->count, sizeof(ranked[0]), compare_ranked);
}

struct fusion_gate_list score_list(const struct neighbour *ranked, size_t count)
{
    assert(ranked || count == 0);

    struct fusion_gate_list list = {.count = 0};
    for (size_t i = 0; i < count; i++)
        fusion_gate_offer(&list, ranked[i].id, (double)ranked[i].score);
    return list;
}

double score_margin(const float *query, const struct score_labels *labels, size_t winner)
{
    assert(query && labels && winner < labels->count);

    double best_other = -HUGE_VAL;
    for (size_t i = 0; i < labels->count; i++)
        if (i != winner)
            best_other =
                fmax(best_other, (double)score_dot(query, label_at(labels, i), labels->dimension));
    double own = (double)score_dot(query, label_at(labels, winner), labels->dimension);
    return labels->count > 1 ? own - best_other : own;
}

enum status score_effects(const struct score_explain *explain, const struct score_labels *labels,
                          size_t winner, float *effects)
{
    assert(explain && labels && winner < labels->count);
    assert(explain->from <= explain->to && explain->to <= explain->selection->count);
    assert(effects || explain->selection->count == 0);

    float *without = mem_try_alloc_array(labels->dimension, sizeof(*without));
    if (!without)
        return STATUS_NO_MEMORY;

    for (uint32_t i = explain->from; i < explain->to; i++) {
        enum status status = fuser_refine(explain->fuser, explain->query, explain->hits,
                                          explain->selection, i, without);
        if (status != STATUS_OK)
            memcpy(without, explain->query, labels->dimension * sizeof(*without));
        effects[i] = (float)(explain->margin - score_margin(without, labels, winner));
    }
    mem_free(without);
    return STATUS_OK;
}
