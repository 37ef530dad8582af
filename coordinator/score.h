// SPDX-License-Identifier: Apache-2.0
// score.h - labels for one query: scores without and with the memory, and what each neighbour did.
//
// A score is the inner product of two unit vectors. Its sum is made in double in a fixed
// order, so that it is the same bits everywhere. Labels with equal scores keep their order.
//
// Effect of neighbour i = margin with all neighbours - margin without i, where the margin is the
// winner's refined score less the best other label's (less 0 when there is no other).
//
// Thread-safety: pure functions.

#ifndef RECO_COORDINATOR_SCORE_H
#define RECO_COORDINATOR_SCORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "coordinator/fuser.h"
#include "proto/base/neighbour.h"
#include "proto/base/status.h"
#include "shaders/models/fusion_gate.h"

// Inner product of two vectors.
float score_dot(const float *a, const float *b, uint32_t dimension);

struct score_labels {
    const float *values; // [count][dimension]
    size_t count;
    uint32_t dimension;
};

// Scores all labels and ranks them, best first, into ranked[count]: an id is a label's index.
void score_rank(const float *query, const struct score_labels *labels, struct neighbour *ranked);

// What an explanation needs besides the refined labels: the query and its selected neighbours.
struct score_explain {
    const struct fuser_params *fuser;
    const float *query;   // plain
    const float *refined; // with all neighbours
    const struct fuser_hit *hits;
    const struct fuser_result *selection;
    double margin;     // with all neighbours: score_margin() of `refined`
    uint32_t from, to; // the neighbours whose effect is wanted: there can be many and labels, too
};

// What a gate wants to know of a ranked list.
struct fusion_gate_list score_list(const struct neighbour *ranked, size_t count);

// The score of the label `winner` less the best other one's.
double score_margin(const float *query, const struct score_labels *labels, size_t winner);

// Writes the effect of the selected neighbours [from, to) on the label `winner` to their places in
// effects[selection->count].
// A neighbour without which query and payload cancel out is taken to lead back to the plain query.
// STATUS_NO_MEMORY.
enum status score_effects(const struct score_explain *explain, const struct score_labels *labels,
                          size_t winner, float *effects) MUST_CHECK;

#endif
