// SPDX-License-Identifier: Apache-2.0
// queue.h - a bounded queue of pointers between threads, with an optional wake-up fd.
//
// Thread-safety: safe; any number of producers and consumers.

#ifndef RECO_PROTO_BASE_QUEUE_H
#define RECO_PROTO_BASE_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/status.h"

struct queue;

// At most `capacity` items. With `wake` true queue_fd() gives an eventfd that
// is readable while something may be in the queue, and once after the close.
// NULL when the system has no file descriptor left for it.
struct queue *queue_create(size_t capacity, bool wake);

// Items still inside are the caller's to have taken out. *queue becomes NULL.
void queue_destroy(struct queue **queue);

// Never blocks. STATUS_EXHAUSTED when full, STATUS_CANCELLED once closed.
enum status queue_push(struct queue *queue, void *item) MUST_CHECK;

// Takes the oldest item; NULL when none. Clears the fd when it empties the queue.
void *queue_try_pop(struct queue *queue);

// Waits until an item, the close or the deadline; NULL for the latter two.
void *queue_pop(struct queue *queue, int64_t deadline_us);

// No more pushes; waiters wake. What is inside can still be popped.
void queue_close(struct queue *queue);

size_t queue_count(const struct queue *queue);
int queue_fd(const struct queue *queue); // -1 without wake

#endif
