// SPDX-License-Identifier: Apache-2.0
// eval_run.h - an evaluation from its flags to its exit status: rows as they come, a table, a page.
//
// Thread-safety: the main thread makes every call.

#ifndef RECO_TOOLS_EVAL_RUN_H
#define RECO_TOOLS_EVAL_RUN_H

#include "tools/eval_kind.h"
#include "tools/options.h"

// Each returns an exit status of verbs.h; what is wrong is on stderr.

// One kind, of the data set that the items are together.
int eval_run_kind(const struct options *options, const struct eval_kind *kind);

// The kinds of --kinds of the first item, and zero-shot of the others; each is a data set of its
// own.
int eval_run_all(const struct options *options);

int eval_run_retrieval(const struct options *options);

#endif
