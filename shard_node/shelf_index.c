// SPDX-License-Identifier: Apache-2.0
// One lock for each side, taken twice by a request: nothing beside what the request costs.

#include "shard_node/shelf_index.h"

#include <assert.h>

#include "proto/base/mem.h"

void shelf_index_init(struct shelf_index *side)
{
    (void)pthread_mutex_init(&side->lock, NULL);
    side->current = NULL;
    side->notes = (struct shelf_index_notes){0};
    side->kept = (struct shelf_index_kept){0};
    atomic_init(&side->bytes, 0);
    atomic_init(&side->lists, 0);
    atomic_init(&side->end, 0);
    atomic_init(&side->file_bytes, 0);
}

void shelf_index_deinit(struct shelf_index *side)
{
    assert(!side->current || side->current->users == 1);

    shelf_index_end(side, &side->current);
    (void)pthread_mutex_destroy(&side->lock);
}

struct shelf_lease *shelf_index_lease(struct shelf_index *side)
{
    (void)pthread_mutex_lock(&side->lock);
    struct shelf_lease *lease = side->current;
    if (lease)
        lease->users++;
    (void)pthread_mutex_unlock(&side->lock);
    return lease;
}

void shelf_index_end(struct shelf_index *side, struct shelf_lease **at)
{
    struct shelf_lease *lease = *at;
    if (!lease)
        return;
    *at = NULL;
    (void)pthread_mutex_lock(&side->lock);
    assert(lease->users > 0);
    const bool is_last = --lease->users == 0;
    (void)pthread_mutex_unlock(&side->lock);
    if (!is_last)
        return;
    index_destroy(&lease->index);
    mem_free(lease);
}

void shelf_index_publish(struct shelf_index *side, struct index **index)
{
    struct shelf_lease *lease = mem_alloc(sizeof(*lease));
    lease->index = *index;
    lease->users = 1;
    *index = NULL;
    (void)pthread_mutex_lock(&side->lock);
    struct shelf_lease *old = side->current;
    side->current = lease;
    (void)pthread_mutex_unlock(&side->lock);
    shelf_index_note(side);
    shelf_index_end(side, &old);
}

void shelf_index_note(struct shelf_index *side)
{
    struct index_about about;
    index_describe(side->current->index, &about); // only the indexer changes `current`
    atomic_store(&side->bytes, about.bytes);
    atomic_store(&side->lists, about.lists);
    atomic_store(&side->vectors, about.vectors);
    atomic_store(&side->longest, about.longest);
    atomic_store(&side->end, index_end(side->current->index));
}
