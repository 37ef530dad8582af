// SPDX-License-Identifier: Apache-2.0
// encoder_worker.h - the inside of reco-encoder: opens a model and answers the questions of
// encoder_msg.h.
//
// Thread-safety: none; it is a process of its own.

#ifndef RECO_COORDINATOR_ENCODER_WORKER_H
#define RECO_COORDINATOR_ENCODER_WORKER_H

#include "coordinator/encoder_msg.h"

struct encoder_worker_params {
    struct clip_params clip;
    // For tests, which play a driver that fails: what is done between a question and its answer.
    // NULL: nothing.
    void (*spoil)(const struct encoder_msg *question, struct encoder_msg *reply, float *output);
};

// Says HELLO or REFUSAL, answers until the socket is closed or SIGTERM or SIGINT comes (a question
// that is there is answered still). Returns the exit status: 0, or 1 when there is no
// coordinator, or none that is understood, or the model cannot be opened.
int encoder_worker_run(const struct encoder_worker_params *params);

// The words of a command line, into params. STATUS_INVALID for others than --model DIR, --device D,
// --threads N.
enum status encoder_worker_read(int argc, char **argv, struct clip_params *out,
                                struct reason *why) MUST_CHECK;

#endif
