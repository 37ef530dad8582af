// SPDX-License-Identifier: Apache-2.0
// nearest.h - exact search of many queries at a time among rows in half precision.
//
// Thread-safety: none. One thread at a time uses a team and a dense.

#ifndef RECO_SHADERS_CPU_NEAREST_H
#define RECO_SHADERS_CPU_NEAREST_H

#include <stddef.h>
#include <stdint.h>

#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "shaders/cpu/dense.h"
#include "shaders/cpu/team.h"

struct nearest_params {
    const float *queries; // [query_count][depth]
    const uint16_t *rows; // [row_count][depth], halves
    size_t query_count;
    size_t row_count; // below UINT32_MAX
    uint32_t depth;   // 1..DENSE_SIZE_MAX
    uint32_t k;
    uint32_t *ids; // [query_count][k]: best first; UINT32_MAX where there are fewer rows
    float *scores; // [query_count][k]: inner products; 0 where there are fewer rows
};

// Of equal scores the lower row is ahead; one that is not a number is behind all others.
// STATUS_NO_MEMORY.
enum status nearest_search(struct team *team, struct dense *dense,
                           const struct nearest_params *params, struct reason *why) MUST_CHECK;

#endif
