// SPDX-License-Identifier: Apache-2.0
// eval_shots.h - a memory of labelled pictures: those of another part of a data set.
//
// Each picture of that part is a record, paired with the prototype of its label. It is what a user
// has who gives some pictures of each thing instead of a memory.
//
// Thread-safety: the client's thread makes every call.

#ifndef RECO_TOOLS_EVAL_SHOTS_H
#define RECO_TOOLS_EVAL_SHOTS_H

#include <stdbool.h>

#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "tools/args.h"
#include "tools/eval_memory.h"
#include "tools/eval_zero.h"
#include "tools/options.h"

#define EVAL_SHOTS_SPLIT "train" // unless another one is asked for

// Whether the data set that the items are has that part, and whether it is another one than what is
// measured, whose pictures would find themselves. STATUS_INVALID, STATUS_NOT_FOUND.
enum status eval_shots_check(const struct options *options, const struct args_list *items,
                             struct reason *why) MUST_CHECK;

// Reads and encodes that part of the data set that the items are and `zero` was begun with.
// *has_failed as in struct eval_set. It fails as eval_set_read() does; *out is then unchanged.
enum status eval_shots_read(const struct eval_zero *zero, const struct args_list *items,
                            struct eval_memory *out, bool *has_failed,
                            struct reason *why) MUST_CHECK;

#endif
