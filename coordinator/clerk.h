// SPDX-License-Identifier: Apache-2.0
// clerk.h - a thread for work on files, which the loop must not wait for.
//
// Jobs run one after the other, in the order in which they came; each comes back to the loop once.
//
// Thread-safety: the loop thread makes every call; `run` is called by the clerk's thread, `done`
// by the loop's.

#ifndef RECO_COORDINATOR_CLERK_H
#define RECO_COORDINATOR_CLERK_H

#include <stddef.h>

#include "proto/base/reason.h"
#include "proto/base/status.h"

struct clerk;

// Belongs to the clerk from clerk_submit() until `done`.
struct clerk_job {
    void (*run)(struct clerk_job *job);
    void (*done)(void *context);
    void *context;
    enum status status; // of the run
    struct reason why;
};

enum status clerk_start(struct clerk **out) MUST_CHECK;
void clerk_stop(struct clerk **clerk); // with nothing running; NULL is allowed

// There may be one for each call of the service.
void clerk_submit(struct clerk *clerk, struct clerk_job *job);

int clerk_fd(const struct clerk *clerk); // readable while a job may be back
void clerk_collect(struct clerk *clerk);
size_t clerk_running(const struct clerk *clerk);

#endif
