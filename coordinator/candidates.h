// SPDX-License-Identifier: Apache-2.0
// candidates.h - names that captions suggest, for labelling without a list of labels.
//
// After Conti et al., Vocabulary-free Image Classification (NeurIPS 2023): what a picture may be
// called stands in the captions of its neighbours.
//
// Thread-safety: pure.

#ifndef RECO_COORDINATOR_CANDIDATES_H
#define RECO_COORDINATOR_CANDIDATES_H

#include <stddef.h>

#include "proto/base/arena.h"
#include "proto/base/bytes.h"

#define CANDIDATES_DEFAULT 200u // of at most CANDIDATES_MAX (limits.h)

// Writes at most `max` different names to out[max], the ones that most captions have first, of
// equal ones those that came first; their bytes are in the arena. A caption with commas (or ; | or
// lines) is a list whose phrases are names; of running text every run of one to three words is one.
// No name begins or ends with a stop word; letters of ASCII and Latin-1 become small. Returns how
// many there are; SIZE_MAX when memory runs out.
size_t candidates_collect(const struct text *captions, size_t count, size_t max,
                          struct arena *arena, struct text *out);

#endif
