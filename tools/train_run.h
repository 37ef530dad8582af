// SPDX-License-Identifier: Apache-2.0
// train_run.h - trains a head on batches until its steps are made, or held-out pairs get no better.
//
//   step 0 --> measure --> `every` steps --> measure --> ... --> the best head's file
//                 |                             |
//             OUT.best, OUT.state          OUT.state, OUT.best when it is the best
//
// With known things the best head gets a gate before its file is made: killed there, the training
// has its state.
//
// Thread-safety: none; the main thread's, since it tells how it goes.

#ifndef RECO_TOOLS_TRAIN_RUN_H
#define RECO_TOOLS_TRAIN_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "shaders/models/fusion_train.h"
#include "tools/train_batch.h"
#include "tools/train_gate.h"
#include "tools/train_state.h"

struct train_run {
    const char *out;
    const char *space;
    const char *data; // hash of all that the head learns from
    uint64_t every;
    uint64_t patience; // measurements without a better one, after which it ends
    bool json;
    struct fusion_train *train;    // new, or restored with `state`
    struct train_batches *batches; //
    struct train_state *state;
    const struct train_gate_params *gate_params; // NULL: the head gets no gate
    struct train_gate *gate;                     // written: how it was learnt
};

// Trains, saves the best head as `out`, and removes the files of the state. STATUS_IO,
// STATUS_NO_MEMORY, STATUS_CORRUPT for a damaged OUT.best; STATUS_INVALID as fusion_train_step().
// After these the same training goes on from the last state that was written.
// STATUS_FAILED_PRECONDITION when no gate can be learnt: the head's file is there without one, and
// nothing of the state.
enum status train_run(const struct train_run *run, struct reason *why) MUST_CHECK;

#endif
