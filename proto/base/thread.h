// SPDX-License-Identifier: Apache-2.0
// thread.h - threads as objects: start returns when the thread is ready, stop when it has ended.
//
// Thread-safety: a thread object belongs to the thread that started it.

#ifndef RECO_PROTO_BASE_THREAD_H
#define RECO_PROTO_BASE_THREAD_H

#include "proto/base/status.h"

struct thread;

// The body calls thread_ready(self, status) exactly once, as soon as it can
// serve or knows that it cannot, then goes on (or returns after a failure).
typedef void (*thread_body)(struct thread *self, void *context);

// Starts a thread named `name` (at most 15 bytes are shown by the system) and
// waits for its thread_ready(). Returns the status given there; after a failure
// the thread has ended and *out is unchanged; STATUS_EXHAUSTED when the system
// has no more threads. Signals are blocked in it.
enum status thread_start(const char *name, thread_body body, void *context,
                         struct thread **out) MUST_CHECK;

void thread_ready(struct thread *self, enum status status);

// Waits for the end of the body (the caller has asked it to end by its own
// means) and frees it. *thread becomes NULL; NULL is allowed.
void thread_join(struct thread **thread);

#endif
