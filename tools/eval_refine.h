// SPDX-License-Identifier: Apache-2.0
// eval_refine.h - many queries refined by the neighbours that were found for them, by the
// coordinator's own hygiene, gate and fusion.
//
// Thread-safety: pure, but for a head, whose batches take turns; eval_refine() uses threads of its
// own.

#ifndef RECO_TOOLS_EVAL_REFINE_H
#define RECO_TOOLS_EVAL_REFINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "coordinator/fuser.h"
#include "proto/base/embedding.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "tools/eval_memory.h"

// Hits that are looked for where k neighbours are wanted, as a coordinator does.
#define EVAL_REFINE_WIDTH(k) ((k) < (K_WIRE_MAX - 8) / 2 ? 2 * (k) + 8 : K_WIRE_MAX)

struct eval_refine {
    const struct eval_memory *memory;
    enum modality payload; // the side whose rows are mixed in
    bool itself;           // the query is its one neighbour, of score 1, whatever was found
    const float *queries;  // [count][dimension]
    const struct eval_hit
        *hits; // [count][width]: of each query the first EVAL_REFINE_WIDTH(params->k) count
    const uint32_t *found; // [count]
    size_t count;
    uint32_t width;
    const struct fuser_params *params; // fusion, k, floors; without dedup
    uint32_t threads;
    // [count], written: the score of the first neighbour that stayed, or 0; NULL: not wanted.
    float *best;
};

// refined[count][dimension]; where a query and its neighbours cancel out it is the query.
// STATUS_NO_MEMORY, and what a head's device says.
enum status eval_refine(const struct eval_refine *refine, float *refined,
                        struct reason *why) MUST_CHECK;

// nearest[count]: fuser_nearest() of each of `vectors` and the neighbours that a query is refined
// with. STATUS_NO_MEMORY.
enum status eval_refine_nearest(const struct eval_refine *refine, size_t query,
                                const float *const *vectors, size_t count,
                                double *nearest) MUST_CHECK;

#endif
