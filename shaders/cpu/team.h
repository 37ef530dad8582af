// SPDX-License-Identifier: Apache-2.0
// team.h - a fixed team of threads that share the jobs of one operation.
//
// A job's result must not depend on which worker runs it or on the order of the
// jobs; then an operation gives the same bits for every size of the team.
//
// Thread-safety: none. One thread at a time calls team_run(); the team's own
// threads are never seen outside.

#ifndef RECO_SHADERS_CPU_TEAM_H
#define RECO_SHADERS_CPU_TEAM_H

#include <stdint.h>

#include "proto/base/reason.h"
#include "proto/base/status.h"

#define TEAM_WORKERS_MAX 64

struct team;

// Runs job number `job` on worker `worker`, 0..team_workers() - 1. Worker 0 is
// the thread that called team_run().
typedef void (*team_job)(void *context, uint32_t job, uint32_t worker);

// Starts a team of `workers` threads, the caller's included; 0 takes as many as
// this process may use processors. More than TEAM_WORKERS_MAX are cut to it.
enum status team_create(uint32_t workers, struct team **out, struct reason *why) MUST_CHECK;

// Ends the threads and sets *team to NULL. NULL is allowed.
void team_destroy(struct team **team);

uint32_t team_workers(const struct team *team);

// Runs `body` once for every job 0..jobs - 1 and returns when all have ended.
void team_run(struct team *team, uint32_t jobs, team_job body, void *context);

#endif
