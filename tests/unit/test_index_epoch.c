// SPDX-License-Identifier: Apache-2.0
// Goal: nothing is freed while a reader who may hold it is inside, and everything is freed in the
// end.
//
// Method: readers follow one pointer that a writer keeps replacing; freeing poisons what was
// pointed to, so that a reader that still sees it fails. Meant for ThreadSanitizer too.

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/thread.h"
#include "shard_node/index/epoch.h"

#define READERS 3
#define CHANGES 20000
#define ALIVE 0x5ca1ab1eu

struct thing {
    unsigned mark;
};

static struct epoch *epoch;
static _Atomic(struct thing *) current;
static atomic_bool is_over;
static atomic_uint freed;
static atomic_uint wrong;

static void poison(void *owner, void *memory)
{
    struct thing *thing = memory;
    (void)owner;
    thing->mark = 0;
    free(thing);
    atomic_fetch_add(&freed, 1);
}

static struct thing *new_thing(void)
{
    struct thing *thing = malloc(sizeof(*thing));
    cr_assert(thing != NULL);
    thing->mark = ALIVE;
    return thing;
}

static void read_on(struct thread *self, void *context)
{
    (void)context;
    const int place = epoch_take_place(epoch);
    thread_ready(self, STATUS_OK);
    while (!atomic_load(&is_over)) {
        epoch_enter(epoch, place);
        if (atomic_load(&current)->mark != ALIVE)
            atomic_fetch_add(&wrong, 1);
        epoch_leave(epoch, place);
    }
    epoch_give_back(epoch, place);
}

Test(epoch, readers_never_see_what_was_freed)
{
    epoch = epoch_create();
    atomic_store(&current, new_thing());
    struct thread *readers[READERS];
    for (int i = 0; i < READERS; i++)
        cr_assert(eq(int, thread_start("reader", read_on, NULL, &readers[i]), STATUS_OK));
    for (int i = 0; i < CHANGES; i++) {
        epoch_retire(epoch, poison, NULL, atomic_exchange(&current, new_thing()));
        if (i % 16 == 0)
            (void)epoch_collect(epoch);
    }
    epoch_wait(epoch);
    cr_expect(eq(u32, atomic_load(&freed), CHANGES));
    atomic_store(&is_over, true);
    for (int i = 0; i < READERS; i++)
        thread_join(&readers[i]);
    cr_expect(eq(u32, atomic_load(&wrong), 0));
    free(atomic_load(&current));
    epoch_destroy(&epoch);
}

Test(epoch, a_reader_inside_holds_back_what_was_retired_since)
{
    epoch = epoch_create();
    const int place = epoch_take_place(epoch);
    epoch_enter(epoch, place);
    epoch_retire(epoch, poison, NULL, new_thing());
    cr_expect(eq(sz, epoch_collect(epoch), 1));
    epoch_leave(epoch, place);
    // Who enters now came too late to hold it.
    epoch_enter(epoch, place);
    cr_expect(eq(sz, epoch_collect(epoch), 0));
    cr_expect(eq(u32, atomic_load(&freed), 1));
    epoch_leave(epoch, place);
    epoch_give_back(epoch, place);
    epoch_destroy(&epoch);
}

static atomic_bool may_free;

static void free_slowly(void *owner, void *memory)
{
    while (!atomic_load(&may_free))
        (void)sched_yield();
    poison(owner, memory);
}

static void collect_on(struct thread *self, void *context)
{
    (void)context;
    thread_ready(self, STATUS_OK);
    while (epoch_collect(epoch) > 0)
        ;
}

static void wait_on(struct thread *self, void *context)
{
    atomic_bool *has_waited = context;
    thread_ready(self, STATUS_OK);
    epoch_wait(epoch);
    atomic_store(has_waited, true);
}

// What another thread is freeing is not freed yet.
Test(epoch, waiting_is_also_for_what_others_free)
{
    epoch = epoch_create();
    epoch_retire(epoch, free_slowly, NULL, new_thing());
    struct thread *collector;
    struct thread *waiter;
    atomic_bool has_waited = false;
    cr_assert(eq(int, thread_start("collector", collect_on, NULL, &collector), STATUS_OK));
    cr_assert(eq(int, thread_start("waiter", wait_on, &has_waited, &waiter), STATUS_OK));
    for (int i = 0; i < 1000; i++) // enough for one that does not wait
        (void)sched_yield();
    cr_expect(not(atomic_load(&has_waited)));
    cr_expect(eq(u32, atomic_load(&freed), 0));
    atomic_store(&may_free, true);
    thread_join(&collector);
    thread_join(&waiter);
    cr_expect(eq(u32, atomic_load(&freed), 1));
    epoch_destroy(&epoch);
}

// A reader who is inside may have seen what was before, also when nothing was retired since.
Test(epoch, waiting_is_for_everybody_who_is_inside)
{
    epoch = epoch_create();
    const int place = epoch_take_place(epoch);
    struct thread *waiter;
    atomic_bool has_waited = false;
    epoch_enter(epoch, place);
    cr_assert(eq(int, thread_start("waiter", wait_on, &has_waited, &waiter), STATUS_OK));
    for (int i = 0; i < 1000; i++)
        (void)sched_yield();
    cr_expect(not(atomic_load(&has_waited)));
    epoch_leave(epoch, place);
    thread_join(&waiter);
    epoch_give_back(epoch, place);
    epoch_destroy(&epoch);
}

Test(epoch, places_run_out_and_come_back)
{
    epoch = epoch_create();
    for (int i = 0; i < EPOCH_READERS_MAX; i++)
        cr_assert(eq(int, epoch_take_place(epoch), i));
    cr_expect(eq(int, epoch_take_place(epoch), -1));
    epoch_give_back(epoch, 17);
    cr_expect(eq(int, epoch_take_place(epoch), 17));
    epoch_destroy(&epoch);
}
