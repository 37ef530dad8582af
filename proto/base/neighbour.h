// SPDX-License-Identifier: Apache-2.0
// neighbour.h - one hit of a search and the rule that ranks hits.
//
// Thread-safety: pure.

#ifndef RECO_PROTO_BASE_NEIGHBOUR_H
#define RECO_PROTO_BASE_NEIGHBOUR_H

#include <stdbool.h>
#include <stdint.h>

struct neighbour {
    uint64_t id;
    float score; // inner product of unit vectors, about -1..1; never NaN
};

// Whether `a` ranks before `b`: the higher score, then the lower id, so that
// every search has exactly one right answer.
static inline bool neighbour_ahead(struct neighbour a, struct neighbour b)
{
    return a.score > b.score || (a.score == b.score && a.id < b.id);
}

#endif
