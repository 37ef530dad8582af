// SPDX-License-Identifier: Apache-2.0
// A bootstrap draws as many queries as there are, with replacement, again and again. What it sums
// is -1, 0 or 1 for each query, so only their numbers matter and a draw needs one random number.

#include "tools/eval_score.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "coordinator/score.h"
#include "proto/base/mem.h"
#include "proto/base/parallel.h"
#include "shard_node/index/seed.h"

#define DRAWS_BEYOND 50u // of each end: 2.5 %

// --- places

struct placing {
    const struct eval_prototypes *prototypes;
    const float *queries;
    const uint32_t *truth;
    uint32_t *places;
    float *best;    // [workers][label_count]: the best score of each label
    uint32_t *name; // [workers][label_count]: and the first name that has it
};

static void place(void *context, uint32_t worker, size_t query)
{
    struct placing *placing = context;
    const struct eval_prototypes *prototypes = placing->prototypes;
    const size_t labels = prototypes->label_count;
    float *best = placing->best + worker * labels;
    uint32_t *name = placing->name + worker * labels;
    const float *vector = placing->queries + query * prototypes->dimension;
    for (size_t i = 0; i < labels; i++)
        best[i] = -INFINITY;
    for (size_t i = 0; i < prototypes->name_count; i++) {
        const float score = score_dot(vector, prototypes->values + i * prototypes->dimension,
                                      prototypes->dimension);
        const uint32_t label = prototypes->label_of[i];
        if (score > best[label]) {
            best[label] = score;
            name[label] = (uint32_t)i;
        }
    }
    const uint32_t right = placing->truth[query];
    uint32_t ahead = 0;
    for (size_t i = 0; i < labels; i++)
        ahead += best[i] > best[right] || (!(best[i] < best[right]) && name[i] < name[right]);
    placing->places[query] = ahead;
}

enum status eval_score_places(const struct eval_prototypes *prototypes, const float *queries,
                              size_t count, const uint32_t *truth, uint32_t threads,
                              uint32_t *places)
{
    assert(prototypes && queries && truth && places);
    assert(threads >= 1 && threads <= PARALLEL_THREADS_MAX);

    struct placing placing = {.prototypes = prototypes, .queries = queries, .truth = truth};
    placing.places = places;
    placing.best = mem_try_alloc_array(threads * prototypes->label_count, sizeof(float));
    placing.name = mem_try_alloc_array(threads * prototypes->label_count, sizeof(uint32_t));
    const bool fits = placing.best && placing.name;
    if (fits)
        parallel_run(threads, count, place, &placing);
    mem_free(placing.best);
    mem_free(placing.name);
    return fits ? STATUS_OK : STATUS_NO_MEMORY;
}

// --- lists for a gate

struct listing {
    const struct eval_prototypes *prototypes;
    const float *queries;
    struct fusion_gate_list *lists;
};

static void list(void *context, uint32_t worker, size_t query)
{
    const struct listing *listing = context;
    const struct eval_prototypes *prototypes = listing->prototypes;
    const float *vector = listing->queries + query * prototypes->dimension;
    struct fusion_gate_list list = {.count = 0};
    (void)worker;
    for (size_t i = 0; i < prototypes->name_count; i++)
        fusion_gate_offer(&list, i,
                          (double)score_dot(vector, prototypes->values + i * prototypes->dimension,
                                            prototypes->dimension));
    listing->lists[query] = list;
}

void eval_score_lists(const struct eval_prototypes *prototypes, const float *queries, size_t count,
                      uint32_t threads, struct fusion_gate_list *lists)
{
    assert(prototypes && queries && lists);
    assert(threads >= 1 && threads <= PARALLEL_THREADS_MAX);

    struct listing listing = {prototypes, queries, lists};
    parallel_run(threads, count, list, &listing);
}

// --- metrics

double eval_score_accuracy(const uint32_t *places, size_t count, uint32_t top)
{
    size_t right = 0;
    for (size_t i = 0; i < count; i++)
        right += places[i] < top;
    return count ? (double)right / (double)count : 0;
}

double eval_score_class_recall(const uint32_t *places, const uint32_t *truth, size_t count,
                               size_t label_count)
{
    size_t *asked = mem_alloc_array(2 * label_count, sizeof(*asked));
    size_t *right = asked + label_count;
    for (size_t i = 0; i < count; i++) {
        asked[truth[i]]++;
        right[truth[i]] += places[i] == 0;
    }
    double sum = 0;
    size_t labels = 0;
    for (size_t i = 0; i < label_count; i++) {
        if (asked[i] == 0)
            continue;
        sum += (double)right[i] / (double)asked[i];
        labels++;
    }
    mem_free(asked);
    return labels ? sum / (double)labels : 0;
}

// --- chance

static int compare_doubles(const void *a, const void *b)
{
    const double left = *(const double *)a;
    const double right = *(const double *)b;
    return (left > right) - (left < right);
}

struct eval_interval eval_score_middle(double values[EVAL_SCORE_DRAWS])
{
    qsort(values, EVAL_SCORE_DRAWS, sizeof(values[0]), compare_doubles);
    return (struct eval_interval){values[DRAWS_BEYOND],
                                  values[EVAL_SCORE_DRAWS - 1 - DRAWS_BEYOND]};
}

// Of the mean over `count` queries, of which `more` count 1 and `less` count -1.
static struct eval_interval bootstrap(size_t more, size_t less, size_t count)
{
    if (count == 0)
        return (struct eval_interval){0, 0};
    double means[EVAL_SCORE_DRAWS];
    uint64_t seed = EVAL_SCORE_SEED;
    for (size_t draw = 0; draw < EVAL_SCORE_DRAWS; draw++) {
        int64_t sum = 0;
        for (size_t i = 0; i < count; i++) {
            const uint64_t drawn = seed_below(&seed, count);
            sum += drawn < more;
            sum -= drawn >= more && drawn < more + less;
        }
        means[draw] = (double)sum / (double)count;
    }
    return eval_score_middle(means);
}

struct eval_interval eval_score_interval(const uint32_t *places, size_t count, uint32_t top)
{
    size_t right = 0;
    for (size_t i = 0; i < count; i++)
        right += places[i] < top;
    return bootstrap(right, 0, count);
}

struct eval_interval eval_score_difference(const uint32_t *places, const uint32_t *base,
                                           size_t count, uint32_t top)
{
    size_t more = 0;
    size_t less = 0;
    for (size_t i = 0; i < count; i++) {
        more += places[i] < top && base[i] >= top;
        less += places[i] >= top && base[i] < top;
    }
    return bootstrap(more, less, count);
}
