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

// Of the first of a ranked list.
static double lead(const struct neighbour *ranked, size_t count)
{
    return (double)ranked[0].score - (count > 1 ? (double)ranked[1].score : 0);
}

double score_judge(const struct fusion_gate *gate, const struct neighbour *plain,
                   const struct neighbour *refined, size_t count, struct fuser_evidence query,
                   float known)
{
    assert(gate && plain && refined && count > 0);

    const double evidence[FUSION_GATE_EVIDENCE] = {
        [FUSION_GATE_BEST] = (double)query.best,
        [FUSION_GATE_NEAREST] = (double)query.nearest,
        [FUSION_GATE_PLAIN] = (double)plain[0].score,
        [FUSION_GATE_PLAIN_MARGIN] = lead(plain, count),
        [FUSION_GATE_REFINED_MARGIN] = lead(refined, count),
        [FUSION_GATE_KNOWN] = (double)known,
    };
    return fusion_gate_value(gate, evidence);
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
