// SPDX-License-Identifier: Apache-2.0
// queue.c - a bounded queue of pointers between threads.
//
// A ring under one mutex. The eventfd is written and cleared under the same
// mutex, so that it cannot be left unreadable while an item is inside. Closing
// makes it readable once; the pop that finds nothing clears it.

#include "proto/base/queue.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "proto/base/mem.h"

struct queue {
    pthread_mutex_t lock; // protects all below but `count`, which it guards for writing
    pthread_cond_t changed;
    atomic_size_t count; // 0..capacity
    size_t capacity;
    size_t first;
    bool closed;
    int fd; // -1 without wake; constant
    void *items[];
};

// The calls of pthread below fail only when misused.
static void lock_queue(struct queue *queue)
{
    int error = pthread_mutex_lock(&queue->lock);
    assert(error == 0);
    (void)error;
}

static void unlock_queue(struct queue *queue)
{
    int error = pthread_mutex_unlock(&queue->lock);
    assert(error == 0);
    (void)error;
}

struct queue *queue_create(size_t capacity, bool wake)
{
    assert(capacity > 0);

    int fd = -1;
    if (wake) {
        fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        if (fd < 0)
            return NULL;
    }

    size_t bytes;
    bool fits = mem_multiply(capacity, sizeof(void *), &bytes) &&
                mem_add(bytes, sizeof(struct queue), &bytes);
    assert(fits);
    (void)fits;
    struct queue *queue = mem_alloc(bytes);
    queue->capacity = capacity;
    queue->fd = fd;
    atomic_init(&queue->count, 0);

    pthread_condattr_t attributes;
    int error = pthread_mutex_init(&queue->lock, NULL);
    error |= pthread_condattr_init(&attributes);
    error |= pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    error |= pthread_cond_init(&queue->changed, &attributes);
    error |= pthread_condattr_destroy(&attributes);
    assert(error == 0);
    (void)error;
    return queue;
}

void queue_destroy(struct queue **queue)
{
    assert(queue);

    struct queue *old = *queue;
    if (!old)
        return;
    assert(queue_count(old) == 0);
    (void)pthread_cond_destroy(&old->changed);
    (void)pthread_mutex_destroy(&old->lock);
    if (old->fd >= 0)
        (void)close(old->fd);
    mem_free(old);
    *queue = NULL;
}

// The eventfd's counter cannot overflow here: it is cleared long before 2^64.
static void make_readable(struct queue *queue)
{
    if (queue->fd < 0)
        return;
    const uint64_t one = 1;
    ssize_t written = write(queue->fd, &one, sizeof(one));
    (void)written;
}

static void make_unreadable(struct queue *queue)
{
    if (queue->fd < 0)
        return;
    uint64_t ignored;
    ssize_t got = read(queue->fd, &ignored, sizeof(ignored)); // EAGAIN when it was clear
    (void)got;
}

enum status queue_push(struct queue *queue, void *item)
{
    assert(queue);
    assert(item);

    enum status status = STATUS_OK;
    lock_queue(queue);
    size_t count = atomic_load_explicit(&queue->count, memory_order_relaxed);
    if (queue->closed) {
        status = STATUS_CANCELLED;
    } else if (count == queue->capacity) {
        status = STATUS_EXHAUSTED;
    } else {
        size_t at = queue->first + count;
        queue->items[at < queue->capacity ? at : at - queue->capacity] = item;
        atomic_store_explicit(&queue->count, count + 1, memory_order_relaxed);
        if (count == 0)
            make_readable(queue);
        (void)pthread_cond_signal(&queue->changed);
    }
    unlock_queue(queue);
    return status;
}

// With the lock held.
static void *take_first(struct queue *queue)
{
    void *item = NULL;
    size_t count = atomic_load_explicit(&queue->count, memory_order_relaxed);
    if (count > 0) {
        item = queue->items[queue->first];
        queue->first = queue->first + 1 < queue->capacity ? queue->first + 1 : 0;
        count--;
        atomic_store_explicit(&queue->count, count, memory_order_relaxed);
    }
    if (count == 0)
        make_unreadable(queue);
    return item;
}

void *queue_try_pop(struct queue *queue)
{
    assert(queue);

    lock_queue(queue);
    void *item = take_first(queue);
    unlock_queue(queue);
    return item;
}

// Waits with the lock held until something changed or the deadline passed.
static void wait_for_change(struct queue *queue, int64_t deadline_us)
{
    if (deadline_us == DEADLINE_NONE) {
        (void)pthread_cond_wait(&queue->changed, &queue->lock);
        return;
    }
    const struct timespec until = {
        .tv_sec = (time_t)(deadline_us / 1000000),
        .tv_nsec = (long)(deadline_us % 1000000) * 1000,
    };
    (void)pthread_cond_timedwait(&queue->changed, &queue->lock, &until);
}

void *queue_pop(struct queue *queue, int64_t deadline_us)
{
    assert(queue);

    lock_queue(queue);
    while (atomic_load_explicit(&queue->count, memory_order_relaxed) == 0 && !queue->closed &&
           !clock_passed(deadline_us))
        wait_for_change(queue, deadline_us);
    void *item = take_first(queue);
    unlock_queue(queue);
    return item;
}

void queue_close(struct queue *queue)
{
    assert(queue);

    lock_queue(queue);
    queue->closed = true;
    make_readable(queue);
    (void)pthread_cond_broadcast(&queue->changed);
    unlock_queue(queue);
}

size_t queue_count(const struct queue *queue)
{
    assert(queue);

    return atomic_load_explicit(&queue->count, memory_order_relaxed);
}

int queue_fd(const struct queue *queue)
{
    assert(queue);

    return queue->fd;
}
