// SPDX-License-Identifier: Apache-2.0
// eval_oven.h - scores as the OVEN benchmark defines them.
//
// A query is of the entity set or of the query set, and what it shows was seen in training or not.
// The score of a set is the harmonic mean of its two accuracies, the final score that of the two
// sets' scores. Accuracies are rounded to hundredths of a percent before a mean is taken of them,
// and 0 counts 1e-12 percent there, as the benchmark's own program does.
//
// Thread-safety: pure functions.

#ifndef RECO_TOOLS_EVAL_OVEN_H
#define RECO_TOOLS_EVAL_OVEN_H

#include <stddef.h>
#include <stdint.h>

#include "proto/base/bytes.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "tools/eval_result.h"

#define EVAL_OVEN_FIELD "data_split" // that says the part, unless another one is named

enum eval_oven_part {
    EVAL_OVEN_ENTITY_SEEN,
    EVAL_OVEN_ENTITY_UNSEEN,
    EVAL_OVEN_QUERY_SEEN,
    EVAL_OVEN_QUERY_UNSEEN,
    EVAL_OVEN_PARTS,
};

// The part that a data set's field names: "entity_val_seen", "query_val_unseen"; also "seen",
// "unseen", 1 and 0, of the entity set. STATUS_INVALID.
enum status eval_oven_read_part(const char *field, struct text value, uint8_t *out,
                                struct reason *why) MUST_CHECK;

// Fills the metrics of *row from places, 0 where the answer is right, and those of plain CLIP:
// final, entity, query, and the accuracies of the parts; those that need queries which are not
// there are left out. Intervals are those of a bootstrap within each part.
struct eval_oven_answers {
    const uint32_t *places, *plain; // [count]
    const uint8_t *parts;           // [count]: enum eval_oven_part
    size_t count;
};
void eval_oven_score(const struct eval_oven_answers *answers, struct eval_row *row);

#endif
