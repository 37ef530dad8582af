// SPDX-License-Identifier: Apache-2.0
// fuser.h - from raw hits to a refined embedding: neighbour hygiene, gate, fusion.
//
// Hygiene, in this order, on the hits of one query, best first:
//   1. below `min_similarity`: dropped;
//   2. pair score (the hit's own image against its own text) below `min_pair_similarity`: dropped;
//   3. the same pair again (score within 1e-6, payload cosine above 0.9999): only the first stays;
//   4. with dedup: like a better one on the searched side (inner product of dedup or more):
//      dropped;
//   5. the best k stay.
// Gate: 0 when no neighbour stays; else how far the best score lies on the way from the gate's
// floor to its ceiling, 0..1, or 1 where somebody else judges what comes of it.
//
// Thread-safety: none; a fuser belongs to one thread (the compute thread).

#ifndef RECO_COORDINATOR_FUSER_H
#define RECO_COORDINATOR_FUSER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/limits.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "shaders/models/fusion.h"

#define FUSER_REASON_BYTES 160

struct fuser_params {
    struct fusion_params fusion;
    uint32_t dimension;        // floats of an embedding; the query sets it
    uint32_t k;                // neighbours kept, 1..K_MAX
    float min_similarity;      // -1..1; 0: no floor
    float min_pair_similarity; // -1..1; 0: no floor
    float dedup;               // 0: off; else the inner product that makes two records alike
    double gate_floor;         // best score at which the gate is 0
    double gate_ceiling;       // best score at which it is 1; > floor
    bool is_open; // 1 with any neighbour: answers are judged, not embeddings (fusion_gate.h)
};

struct fuser_hit {
    uint64_t id;
    float score;
    float pair_score;
    const float *payload;  // [dimension]
    const float *searched; // [dimension], its row on the searched side; only with dedup
};

struct fuser_result {
    uint32_t count;                  // kept neighbours
    uint32_t kept[K_MAX];            // their indices among the hits, best first
    float weights[K_MAX];            // their shares; sum to 1
    double gate;                     // 0..1
    char reason[FUSER_REASON_BYTES]; // why the gate is what it is, for people
};

// Chooses neighbours and gate for one query with `count` hits sorted best first (hygiene only looks
// at payloads; without fusion they are still collapsed).
void fuser_select(const struct fuser_params *params, const struct fuser_hit *hits, size_t count,
                  struct fuser_result *out);

// fusion_gate_nearest() of a vector [dimension] and the neighbours that stayed.
double fuser_nearest(const float *vector, uint32_t dimension, const struct fuser_hit *hits,
                     const struct fuser_result *selection);

// The refined embedding for a selection; without = index into kept[] of a neighbour that is left
// out (weights and gate are then made anew), or FUSER_ALL. STATUS_INVALID as fusion_refine().
#define FUSER_ALL UINT32_MAX
enum status fuser_refine(const struct fuser_params *params, const float *query,
                         const struct fuser_hit *hits, const struct fuser_result *selection,
                         uint32_t without, float *result) MUST_CHECK;

// Rows of one batch, each with its selection.
#define FUSER_ROWS_MAX 64u
struct fuser_row {
    const float *query; // [dimension]
    const struct fuser_hit *hits;
    struct fuser_result *selection;
    float *refined; // [dimension], written
};

// Refines up to FUSER_ROWS_MAX rows with all their neighbours, each as fuser_refine() would. Where
// query and payload cancel out the result is the query, the gate 0 and the reason says so. What is
// returned fails all of them: STATUS_NO_MEMORY, and what a head's device says.
enum status fuser_refine_rows(const struct fuser_params *params, const struct fuser_row *rows,
                              size_t count, struct reason *why) MUST_CHECK;

#endif
