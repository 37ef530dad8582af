// SPDX-License-Identifier: Apache-2.0
// Goal: threads start and end in order and report failure; a queue hands over
// every item once, wakes who waits, and refuses when full or closed.
//
// Method: real threads that wait on events with a deadline, never on time; the
// system's limits lowered until no thread and no file descriptor is left.

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/clock.h"
#include "proto/base/queue.h"
#include "proto/base/thread.h"

#define LONG_US 30000000 // a deadline that only a broken program meets

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

struct visit {
    atomic_bool running;
    char name[32];
    sigset_t blocked;
    struct queue *end; // closed when the thread shall end
    enum status answer;
};

static void visitor(struct thread *self, void *context)
{
    struct visit *visit = context;
    (void)prctl(PR_GET_NAME, visit->name, 0, 0, 0);
    (void)pthread_sigmask(SIG_SETMASK, NULL, &visit->blocked);
    atomic_store(&visit->running, true);
    thread_ready(self, visit->answer);
    if (visit->answer == STATUS_OK)
        (void)queue_pop(visit->end, clock_deadline_in_us(LONG_US));
    atomic_store(&visit->running, false);
}

Test(thread, is_ready_when_start_returns_and_ended_when_join_returns)
{
    struct visit visit = {.end = queue_create(1, false)};
    struct thread *thread = NULL;
    cr_assert(
        eq(int, thread_start("a-name-of-more-than-15-bytes", visitor, &visit, &thread), STATUS_OK));
    cr_expect(atomic_load(&visit.running));
    cr_expect_str_eq(visit.name, "a-name-of-more-");

    queue_close(visit.end);
    thread_join(&thread);
    cr_expect(not(atomic_load(&visit.running)));
    cr_expect(eq(ptr, thread, NULL));
    thread_join(&thread);
    queue_destroy(&visit.end);
}

Test(thread, leaves_signals_to_the_main_thread)
{
    struct visit visit = {.end = queue_create(1, false)};
    struct thread *thread = NULL;
    cr_assert(eq(int, thread_start("x", visitor, &visit, &thread), STATUS_OK));
    queue_close(visit.end);
    thread_join(&thread);
    cr_expect(eq(int, sigismember(&visit.blocked, SIGTERM), 1));
    cr_expect(eq(int, sigismember(&visit.blocked, SIGINT), 1));
    cr_expect(eq(int, sigismember(&visit.blocked, SIGSEGV), 0));

    sigset_t own;
    (void)pthread_sigmask(SIG_SETMASK, NULL, &own);
    cr_expect(eq(int, sigismember(&own, SIGTERM), 0));
    queue_destroy(&visit.end);
}

Test(thread, that_cannot_serve_gives_its_status_and_has_ended)
{
    struct visit visit = {.answer = STATUS_UNAVAILABLE};
    struct thread *thread = NULL;
    cr_expect(eq(int, thread_start("x", visitor, &visit, &thread), STATUS_UNAVAILABLE));
    cr_expect(eq(ptr, thread, NULL));
    cr_expect(not(atomic_load(&visit.running)));
}

Test(thread, is_refused_when_the_system_has_no_room_for_one)
{
    if (SANITIZED)
        cr_skip_test("a sanitizer needs address space of its own");

    struct rlimit before;
    cr_assert(eq(int, getrlimit(RLIMIT_AS, &before), 0));
    struct rlimit none = {.rlim_cur = 0, .rlim_max = before.rlim_max};
    free(malloc(65536)); // the heap has grown enough for what follows
    struct visit visit = {.answer = STATUS_OK};
    struct thread *thread = NULL;
    cr_assert(eq(int, setrlimit(RLIMIT_AS, &none), 0));
    enum status status = thread_start("x", visitor, &visit, &thread);
    cr_assert(eq(int, setrlimit(RLIMIT_AS, &before), 0));
    cr_expect(eq(int, status, STATUS_EXHAUSTED));
    cr_expect(eq(ptr, thread, NULL));
}

Test(queue, keeps_order_and_refuses_when_full)
{
    int items[5];
    struct queue *queue = queue_create(3, false);
    cr_expect(eq(int, queue_fd(queue), -1));
    cr_expect(eq(ptr, queue_try_pop(queue), NULL));
    for (int round = 0; round < 4; round++) { // the ring turns
        for (int i = 0; i < 3; i++)
            cr_assert(eq(int, queue_push(queue, &items[i]), STATUS_OK));
        cr_expect(eq(int, queue_push(queue, &items[3]), STATUS_EXHAUSTED));
        cr_expect(eq(sz, queue_count(queue), 3));
        cr_expect(eq(ptr, queue_try_pop(queue), &items[0]));
        cr_assert(eq(int, queue_push(queue, &items[4]), STATUS_OK));
        cr_expect(eq(ptr, queue_try_pop(queue), &items[1]));
        cr_expect(eq(ptr, queue_pop(queue, DEADLINE_NONE), &items[2]));
        cr_expect(eq(ptr, queue_pop(queue, 0), &items[4]));
        cr_expect(eq(sz, queue_count(queue), 0));
    }
    queue_destroy(&queue);
    cr_expect(eq(ptr, queue, NULL));
    queue_destroy(&queue);
}

Test(queue, pop_ends_at_its_deadline)
{
    struct queue *queue = queue_create(1, false);
    int64_t begin = clock_now_us();
    cr_expect(eq(ptr, queue_pop(queue, clock_deadline_in_us(20000)), NULL));
    cr_expect(ge(i64, clock_now_us() - begin, 20000));
    cr_expect(eq(ptr, queue_pop(queue, clock_now_us() - 1), NULL));
    queue_destroy(&queue);
}

Test(queue, closed_gives_what_it_has_and_takes_no_more)
{
    int item;
    struct queue *queue = queue_create(2, false);
    cr_assert(eq(int, queue_push(queue, &item), STATUS_OK));
    queue_close(queue);
    cr_expect(eq(int, queue_push(queue, &item), STATUS_CANCELLED));
    cr_expect(eq(ptr, queue_pop(queue, DEADLINE_NONE), &item));
    cr_expect(eq(ptr, queue_pop(queue, DEADLINE_NONE), NULL));
    queue_close(queue);
    queue_destroy(&queue);
}

static bool is_readable(int fd)
{
    struct pollfd entry = {.fd = fd, .events = POLLIN};
    return poll(&entry, 1, 0) == 1;
}

Test(queue, fd_is_readable_while_something_is_inside)
{
    int items[2];
    struct queue *queue = queue_create(2, true);
    int fd = queue_fd(queue);
    cr_expect(not(is_readable(fd)));
    cr_assert(eq(int, queue_push(queue, &items[0]), STATUS_OK));
    cr_assert(eq(int, queue_push(queue, &items[1]), STATUS_OK));
    cr_expect(is_readable(fd));
    cr_expect(eq(ptr, queue_try_pop(queue), &items[0]));
    cr_expect(is_readable(fd));
    cr_expect(eq(ptr, queue_try_pop(queue), &items[1]));
    cr_expect(not(is_readable(fd)));
    cr_expect(eq(ptr, queue_try_pop(queue), NULL));

    queue_close(queue); // whoever polls wakes once
    cr_expect(is_readable(fd));
    cr_expect(eq(ptr, queue_try_pop(queue), NULL));
    cr_expect(not(is_readable(fd)));
    queue_destroy(&queue);
}

Test(queue, is_not_made_when_no_descriptor_is_left)
{
    struct rlimit before;
    cr_assert(eq(int, getrlimit(RLIMIT_NOFILE, &before), 0));
    struct rlimit none = {.rlim_cur = 0, .rlim_max = before.rlim_max};
    cr_assert(eq(int, setrlimit(RLIMIT_NOFILE, &none), 0));
    struct queue *with_fd = queue_create(1, true);
    struct queue *without = queue_create(1, false);
    cr_assert(eq(int, setrlimit(RLIMIT_NOFILE, &before), 0));
    cr_expect(eq(ptr, with_fd, NULL));
    cr_expect(ne(ptr, without, NULL));
    queue_destroy(&without);
}

// --- many threads

enum { PRODUCERS = 3, CONSUMERS = 3, ITEMS = 4000 };

struct traffic {
    struct queue *queue;
    struct queue *space; // a token for each item popped, so that a full queue can be waited for
    int items[PRODUCERS][ITEMS];
    atomic_int seen[PRODUCERS][ITEMS];
    atomic_int next_producer;
    atomic_int popped;
};

static void produce(struct thread *self, void *context)
{
    struct traffic *traffic = context;
    int producer = atomic_fetch_add(&traffic->next_producer, 1);
    thread_ready(self, STATUS_OK);
    for (int i = 0; i < ITEMS; i++) {
        traffic->items[producer][i] = producer * ITEMS + i;
        while (queue_push(traffic->queue, &traffic->items[producer][i]) == STATUS_EXHAUSTED)
            (void)queue_pop(traffic->space, clock_deadline_in_us(1000));
    }
}

static void consume(struct thread *self, void *context)
{
    struct traffic *traffic = context;
    thread_ready(self, STATUS_OK);
    int *item;
    while ((item = queue_pop(traffic->queue, clock_deadline_in_us(LONG_US)))) {
        atomic_fetch_add(&traffic->seen[*item / ITEMS][*item % ITEMS], 1);
        atomic_fetch_add(&traffic->popped, 1);
        enum status status = queue_push(traffic->space, traffic);
        (void)status; // full: nobody waits
    }
}

Test(queue, hands_every_item_over_once)
{
    static struct traffic traffic;
    traffic.queue = queue_create(16, true);
    traffic.space = queue_create(16, false);
    struct thread *threads[PRODUCERS + CONSUMERS];
    for (int i = 0; i < CONSUMERS; i++)
        cr_assert(eq(int, thread_start("consume", consume, &traffic, &threads[i]), STATUS_OK));
    for (int i = CONSUMERS; i < CONSUMERS + PRODUCERS; i++)
        cr_assert(eq(int, thread_start("produce", produce, &traffic, &threads[i]), STATUS_OK));
    for (int i = CONSUMERS; i < CONSUMERS + PRODUCERS; i++)
        thread_join(&threads[i]);
    queue_close(traffic.queue);
    for (int i = 0; i < CONSUMERS; i++)
        thread_join(&threads[i]);

    cr_expect(eq(int, atomic_load(&traffic.popped), PRODUCERS *ITEMS));
    for (int producer = 0; producer < PRODUCERS; producer++) {
        for (int i = 0; i < ITEMS; i++)
            cr_assert(eq(int, atomic_load(&traffic.seen[producer][i]), 1));
    }
    while (queue_try_pop(traffic.space))
        ;
    queue_destroy(&traffic.space);
    queue_destroy(&traffic.queue);
}

Test(queue, one_poller_sees_each_producers_items_in_order)
{
    static struct traffic traffic;
    traffic.queue = queue_create(8, true);
    traffic.space = queue_create(1, false);
    struct thread *threads[PRODUCERS];
    for (int i = 0; i < PRODUCERS; i++)
        cr_assert(eq(int, thread_start("produce", produce, &traffic, &threads[i]), STATUS_OK));

    int next[PRODUCERS] = {0};
    int count = 0;
    struct pollfd entry = {.fd = queue_fd(traffic.queue), .events = POLLIN};
    while (count < PRODUCERS * ITEMS) {
        cr_assert(eq(int, poll(&entry, 1, LONG_US / 1000), 1)); // no wake-up is lost
        int *item;
        while ((item = queue_try_pop(traffic.queue))) {
            cr_assert(eq(int, *item % ITEMS, next[*item / ITEMS]++));
            count++;
        }
    }
    for (int i = 0; i < PRODUCERS; i++)
        thread_join(&threads[i]);
    queue_destroy(&traffic.space);
    queue_destroy(&traffic.queue);
}

Test(queue, closing_wakes_all_who_wait)
{
    static struct traffic traffic;
    traffic.queue = queue_create(1, false);
    traffic.space = queue_create(1, false);
    struct thread *threads[CONSUMERS];
    for (int i = 0; i < CONSUMERS; i++)
        cr_assert(eq(int, thread_start("consume", consume, &traffic, &threads[i]), STATUS_OK));
    int64_t begin = clock_now_us();
    queue_close(traffic.queue);
    for (int i = 0; i < CONSUMERS; i++)
        thread_join(&threads[i]);
    cr_expect(lt(i64, clock_now_us() - begin, LONG_US));
    queue_destroy(&traffic.space);
    queue_destroy(&traffic.queue);
}
