// SPDX-License-Identifier: Apache-2.0
// A reader notes the number of the epoch in its place and leaves 0 there; what is retired gets
// the number of its epoch, and a new one begins. What was retired in epoch n can be freed when each
// place is 0 or above n: such a reader saw the number, and so the pointers, of a later time.
//
// Why no reader is overlooked: it stores its number before it loads a pointer, and the writer takes
// the pointer away before it looks at the places, all sequentially consistent. Either the writer
// sees the number, or the reader sees that the pointer is gone.

#include "shard_node/index/epoch.h"

#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "proto/base/mem.h"

#define SPINS 1000 // some 100 us

struct place {
    _Alignas(64) atomic_uint_least64_t number; // 0: not inside
    atomic_bool is_taken;
};

struct retired {
    struct retired *next;
    uint64_t number;
    epoch_free free_it;
    void *owner;
    void *memory;
};

struct epoch {
    struct place places[EPOCH_READERS_MAX];
    atomic_uint_least64_t number;
    pthread_mutex_t lock; // below; oldest first
    struct retired *first;
    struct retired **last;
    size_t count;
    size_t freeing; // taken off the list, not yet freed
};

struct epoch *epoch_create(void)
{
    struct epoch *epoch = mem_try_alloc_aligned(64, sizeof(*epoch));
    if (!epoch)
        return NULL;
    for (size_t i = 0; i < EPOCH_READERS_MAX; i++) {
        atomic_init(&epoch->places[i].number, 0);
        atomic_init(&epoch->places[i].is_taken, false);
    }
    atomic_init(&epoch->number, 1);
    (void)pthread_mutex_init(&epoch->lock, NULL);
    epoch->first = NULL;
    epoch->last = &epoch->first;
    epoch->count = 0;
    epoch->freeing = 0;
    return epoch;
}

void epoch_destroy(struct epoch **epoch)
{
    assert(epoch);

    if (!*epoch)
        return;
    const size_t waiting = epoch_collect(*epoch);
    assert(waiting == 0);
    (void)waiting;
    (void)pthread_mutex_destroy(&(*epoch)->lock);
    mem_free(*epoch);
    *epoch = NULL;
}

int epoch_take_place(struct epoch *epoch)
{
    for (int i = 0; i < EPOCH_READERS_MAX; i++) {
        if (!atomic_exchange(&epoch->places[i].is_taken, true))
            return i;
    }
    return -1;
}

void epoch_give_back(struct epoch *epoch, int place)
{
    assert(atomic_load(&epoch->places[place].number) == 0);

    atomic_store(&epoch->places[place].is_taken, false);
}

void epoch_enter(struct epoch *epoch, int place)
{
    atomic_store(&epoch->places[place].number, atomic_load(&epoch->number));
}

void epoch_leave(struct epoch *epoch, int place)
{
    atomic_store_explicit(&epoch->places[place].number, 0, memory_order_release);
}

void epoch_retire(struct epoch *epoch, epoch_free free_it, void *owner, void *memory)
{
    struct retired *item = mem_alloc(sizeof(*item));
    item->free_it = free_it;
    item->owner = owner;
    item->memory = memory;
    (void)pthread_mutex_lock(&epoch->lock);
    item->number = atomic_fetch_add(&epoch->number, 1);
    *epoch->last = item;
    epoch->last = &item->next;
    epoch->count++;
    (void)pthread_mutex_unlock(&epoch->lock);
}

// The lowest number that a reader is inside with.
static uint64_t oldest(struct epoch *epoch)
{
    uint64_t lowest = UINT64_MAX;
    for (size_t i = 0; i < EPOCH_READERS_MAX; i++) {
        const uint64_t number = atomic_load(&epoch->places[i].number);
        if (number != 0 && number < lowest)
            lowest = number;
    }
    return lowest;
}

size_t epoch_collect(struct epoch *epoch)
{
    struct retired *freeable = NULL;
    struct retired **end = &freeable;
    size_t taken = 0;

    (void)pthread_mutex_lock(&epoch->lock);
    const uint64_t limit = epoch->first ? oldest(epoch) : 0;
    while (epoch->first && epoch->first->number < limit) {
        struct retired *item = epoch->first;
        epoch->first = item->next;
        item->next = NULL;
        *end = item;
        end = &item->next;
        taken++;
    }
    epoch->count -= taken;
    epoch->freeing += taken;
    if (!epoch->first)
        epoch->last = &epoch->first;
    const size_t waiting = epoch->count;
    (void)pthread_mutex_unlock(&epoch->lock);

    while (freeable) {
        struct retired *item = freeable;
        freeable = item->next;
        item->free_it(item->owner, item->memory);
        mem_free(item);
    }
    (void)pthread_mutex_lock(&epoch->lock);
    epoch->freeing -= taken;
    (void)pthread_mutex_unlock(&epoch->lock);
    return waiting;
}

void epoch_wait(struct epoch *epoch)
{
    const uint64_t until = atomic_fetch_add(&epoch->number, 1);
    for (uint32_t turn = 0;; turn++) {
        (void)epoch_collect(epoch);
        (void)pthread_mutex_lock(&epoch->lock);
        // Others may be freeing, and a reader may be inside whom nothing retired has held back.
        const bool is_done = epoch->freeing == 0 && oldest(epoch) > until &&
                             (!epoch->first || epoch->first->number > until);
        (void)pthread_mutex_unlock(&epoch->lock);
        if (is_done)
            return;
        // A search ends soon; whoever else wants the core would keep it for longer.
        if (turn >= SPINS)
            (void)sched_yield();
    }
}
