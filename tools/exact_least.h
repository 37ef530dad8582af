// SPDX-License-Identifier: Apache-2.0
// exact_least.h - the score that a row must have to be among the true k best of a query.
//
// What an index finds is held against it: a row that scores as well as the k-th best counts as
// found, so ties may come in any order. The scores of an exact scan have the same bits as those of
// an index.
//
// Thread-safety: nobody changes rows or bits meanwhile.

#ifndef RECO_TOOLS_EXACT_LEAST_H
#define RECO_TOOLS_EXACT_LEAST_H

#include <stddef.h>
#include <stdint.h>

#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "tools/unit_rows.h"

struct exact_least_params {
    const struct unit_rows *rows;
    const _Atomic uint64_t *live; // bits of those that count, at least k; NULL: all do
    const float *queries;         // [query_count][dimension]
    size_t query_count;
    uint32_t k;       // 1..K_MAX
    uint32_t threads; // 1..PARALLEL_THREADS_MAX
};

// least[i] becomes the score of the k-th best row of query i. STATUS_NO_MEMORY.
enum status exact_least_find(const struct exact_least_params *params, double *least,
                             struct reason *why) MUST_CHECK;

#endif
