// SPDX-License-Identifier: Apache-2.0
// eval_kind.h - what each kind of evaluation changes, point by point.
//
// All of them are zero-shot classification. What is changed at a point is the memory, the number of
// neighbours, the sides that are searched and mixed in, or nothing.
//
// Thread-safety: the kinds are constants; a point belongs to the client's thread.

#ifndef RECO_TOOLS_EVAL_KIND_H
#define RECO_TOOLS_EVAL_KIND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/bytes.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "tools/eval.h"
#include "tools/eval_result.h"
#include "tools/eval_zero.h"

// What is measured, and with what. A kind changes the memory of `eval` and leaves it so:
// eval_kind_reset() takes it back.
struct eval_asking {
    struct eval *eval;
    struct eval_zero *zero; // of the same eval
};

// One point: how it is called, and what to measure there.
struct eval_point {
    char text[EVAL_POINT_BYTES];
    double at; // NaN: no number
    uint32_t k;
    struct eval_zero_sides sides;
    bool keeps_hits; // the neighbours of the point before do here, too
};

struct eval_kind {
    const char *name;
    const char *axis, *title, *words; // as in struct eval_result
    // Before anything is encoded: whether the memory is large enough.
    enum status (*check)(const struct eval *eval, struct reason *why);
    bool is_oven;       // as in struct eval_zero_params
    bool brings_memory; // of the data set's own pictures, in place of --memory
    size_t (*count)(const struct eval *eval);
    // Prepares the point and the memory for it.
    enum status (*set)(struct eval_asking asking, size_t index, struct eval_point *out,
                       struct reason *why);
};

// The first changes nothing. The usual ones are those of `reco eval all`.
#define EVAL_KINDS 7u
#define EVAL_KIND_WORDS "zero-shot, noise, ksweep, memory-size, grid, few-shot, capacity"
#define EVAL_KINDS_USUAL "zero-shot,noise,ksweep,memory-size,grid"
extern const struct eval_kind eval_kinds[EVAL_KINDS];

// OVEN's, which needs what other data sets have not.
extern const struct eval_kind eval_kind_oven;

// NULL when none is called so.
const struct eval_kind *eval_kind_find(struct text name);

// The whole memory with its own captions again. STATUS_NO_MEMORY.
enum status eval_kind_reset(struct eval *eval, struct reason *why) MUST_CHECK;

#endif
