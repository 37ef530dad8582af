// SPDX-License-Identifier: Apache-2.0
// supervisor.h - keeps child processes running: starts, watches, restarts, stops them.
//
//   waiting --start--> running --died--> waiting (backoff 0.1 s, doubling to 5 s) --> running ...
//                         |
//                         +--10 s up--> the next backoff is 0.1 s again
//
// Signals arrive by supervisor_wait() only: supervisor_begin() blocks them, in this thread
// and in every thread started later. A child is in a process group of its own, so that
// Ctrl-C reaches the supervisor alone, which ends its children in order. SIGHUP is passed on to
// them, who read their configuration again by it; on a terminal it means that the terminal is gone,
// and ends all.
//
// Thread-safety: none; everything belongs to the main thread.

#ifndef RECO_TOOLS_SUPERVISOR_H
#define RECO_TOOLS_SUPERVISOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/base/reason.h"
#include "proto/base/status.h"

#define SUPERVISOR_CHILDREN_MAX 40
#define SUPERVISOR_ARGUMENTS_MAX 128

struct supervisor;

enum supervisor_event {
    SUPERVISOR_TIMEOUT, // nothing happened
    SUPERVISOR_DIED,    // a child ended; it is started again in its time
    SUPERVISOR_STOP,    // SIGTERM, SIGINT, or SIGHUP of a terminal
};

struct supervisor *supervisor_begin(void);

// Adds a child, not yet started: `arguments` (copied, ended by NULL) begin with the path of the
// program. `name` (copied) is for the log. Returns its number.
size_t supervisor_add(struct supervisor *supervisor, const char *name,
                      const char *const *arguments);

// Starts a child now. STATUS_IO when its program cannot be run.
enum status supervisor_start(struct supervisor *supervisor, size_t child,
                             struct reason *why) MUST_CHECK;

// Waits for an event, at most until the deadline; starts those whose backoff is over. SIGHUP
// without a terminal goes on to all that run.
enum supervisor_event supervisor_wait(struct supervisor *supervisor, int64_t deadline_us);

// How often a child has been started; its pid, 0 while it does not run.
unsigned supervisor_starts(const struct supervisor *supervisor, size_t child);
pid_t supervisor_pid(const struct supervisor *supervisor, size_t child);

// Sends SIGTERM to the children first .. last-1 and waits for their end, with SIGKILL at the
// deadline or at a second SIGTERM or SIGINT. They are not started again.
void supervisor_stop(struct supervisor *supervisor, size_t first, size_t last, int64_t deadline_us);

// All children must be stopped. Sets *supervisor to NULL; NULL is allowed.
void supervisor_end(struct supervisor **supervisor);

#endif
