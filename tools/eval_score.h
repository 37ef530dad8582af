// SPDX-License-Identifier: Apache-2.0
// eval_score.h - what an evaluation counts: the place of the right answer, metrics of places, and
// how far chance alone can have moved them.
//
// Thread-safety: pure functions.

#ifndef RECO_TOOLS_EVAL_SCORE_H
#define RECO_TOOLS_EVAL_SCORE_H

#include <stddef.h>
#include <stdint.h>

#include "proto/base/status.h"
#include "shaders/models/fusion_gate.h"

// Class prototypes. A label scores what the best of its names scores; labels that score alike keep
// their order.
struct eval_prototypes {
    const float *values; // [name_count][dimension]
    size_t name_count;
    const uint32_t *label_of; // [name_count]
    size_t label_count;
    uint32_t dimension;
};

// places[i] = how many labels rank before truth[i] for query i: 0 is a right first answer.
// STATUS_NO_MEMORY.
enum status eval_score_places(const struct eval_prototypes *prototypes, const float *queries,
                              size_t count, const uint32_t *truth, uint32_t threads,
                              uint32_t *places) MUST_CHECK;

// lists[i]: of query i and all names, as a coordinator ranks them.
void eval_score_lists(const struct eval_prototypes *prototypes, const float *queries, size_t count,
                      uint32_t threads, struct fusion_gate_list *lists);

// Of places: the share below `top`, 0..1.
double eval_score_accuracy(const uint32_t *places, size_t count, uint32_t top);

// Mean over the labels that have a query of the share of their queries whose place is 0.
double eval_score_class_recall(const uint32_t *places, const uint32_t *truth, size_t count,
                               size_t label_count);

struct eval_interval {
    double low, high;
};

// Bootstrap interval at 95 % of the share of places below `top`, and of how much larger that share
// is than for `base`, query by query. The same for the same counts: the seed is fixed.
struct eval_interval eval_score_interval(const uint32_t *places, size_t count, uint32_t top);
struct eval_interval eval_score_difference(const uint32_t *places, const uint32_t *base,
                                           size_t count, uint32_t top);

// What a bootstrap draws: this many values from this seed; the interval leaves out 2.5 % of them at
// each end. Sorts them.
#define EVAL_SCORE_DRAWS 2000u
#define EVAL_SCORE_SEED 20261129u
struct eval_interval eval_score_middle(double values[EVAL_SCORE_DRAWS]);

#endif
