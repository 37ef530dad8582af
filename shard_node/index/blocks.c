// SPDX-License-Identifier: Apache-2.0
// Slabs from mmap(), aligned to their size, so that the address of a block tells its slab, which
// begins with its head. Each is cut from the front; what is given back is a list threaded through
// the blocks.
//
// Every slab is in one of three rings: full; with room; closing. A closing slab is never full:
// there is room for all its blocks in the open ones when it is picked, and nothing is taken from
// it.

#include "shard_node/index/blocks.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "proto/base/mem.h"
#include "shard_node/index/codes.h"

// What stays free beside the blocks that are taken, so that taking and giving back do not map and
// unmap: 1 / SPARE_PART of them, and of one slab a quarter, or as much as the longest lists.
#define SPARE_PART 32
#define SPARE_SLAB_PART 4
#define SPARE_MIN 32

struct ring {
    struct ring *previous;
    struct ring *next;
};

struct slab {
    struct ring ring; // first: a place in a ring is a slab
    void **free;      // given back
    uint32_t cut;     // blocks that have ever been taken
    uint32_t taken;
    atomic_bool is_closing; // changes under the lock
};

#define HEAD_BYTES ((sizeof(struct slab) + CODES_ALIGNMENT - 1) / CODES_ALIGNMENT * CODES_ALIGNMENT)

struct blocks {
    size_t bytes;
    uint32_t slab_blocks;
    pthread_mutex_t lock; // below
    struct ring full;
    struct ring roomy;
    struct ring closing;
    size_t slabs;
    size_t closing_slabs;
    size_t taken;
    size_t most; // that have been taken at once since blocks_shrink()
};

// --- rings

static void ring_init(struct ring *ring)
{
    *ring = (struct ring){.previous = ring, .next = ring};
}

static bool is_empty(const struct ring *ring)
{
    return ring->next == ring;
}

static void leave(struct slab *slab)
{
    slab->ring.previous->next = slab->ring.next;
    slab->ring.next->previous = slab->ring.previous;
}

static void join(struct slab *slab, struct ring *ring)
{
    slab->ring = (struct ring){.previous = ring->previous, .next = ring};
    ring->previous->next = &slab->ring;
    ring->previous = &slab->ring;
}

static struct slab *slab_at(struct ring *ring)
{
    return (struct slab *)ring;
}

// --- slabs

static size_t offset_in_slab(const void *block)
{
    return (uintptr_t)block % BLOCKS_SLAB_BYTES;
}

static void unmap(struct slab *slab)
{
    (void)munmap(slab, BLOCKS_SLAB_BYTES);
}

static void unmap_all(struct ring *ring)
{
    while (!is_empty(ring)) {
        struct slab *slab = slab_at(ring->next);
        leave(slab);
        unmap(slab);
    }
}

static struct slab *map_slab(void)
{
    // The mapping begins anywhere: as much again is asked for, and what lies around a slab is given
    // back.
    const size_t map_bytes = 2 * BLOCKS_SLAB_BYTES;
    uint8_t *map =
        mmap(NULL, map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED)
        return NULL;
    const size_t past = (uintptr_t)map % BLOCKS_SLAB_BYTES;
    const size_t before = past == 0 ? 0 : BLOCKS_SLAB_BYTES - past;
    uint8_t *const memory = map + before;
    if (before > 0)
        (void)munmap(map, before);
    (void)munmap(memory + BLOCKS_SLAB_BYTES, BLOCKS_SLAB_BYTES - before);
    (void)madvise(memory, BLOCKS_SLAB_BYTES, MADV_HUGEPAGE);
    return (struct slab *)(void *)memory; // zeroed
}

// How many slabs could be done without when so many blocks are taken.
static size_t excess(const struct blocks *blocks, size_t taken)
{
    const size_t part = blocks->slab_blocks / SPARE_SLAB_PART;
    const size_t wanted = taken + taken / SPARE_PART + (part > SPARE_MIN ? part : SPARE_MIN);
    const size_t room = (blocks->slabs - blocks->closing_slabs) * blocks->slab_blocks;
    return room > wanted ? (room - wanted) / blocks->slab_blocks : 0;
}

static void set_closing(struct blocks *blocks, struct slab *slab, bool is_closing)
{
    leave(slab);
    join(slab, is_closing ? &blocks->closing : &blocks->roomy);
    atomic_store_explicit(&slab->is_closing, is_closing, memory_order_relaxed);
    if (is_closing)
        blocks->closing_slabs++;
    else
        blocks->closing_slabs--;
}

static void drop(struct blocks *blocks, struct slab *slab)
{
    if (blocks_is_leaving(slab))
        blocks->closing_slabs--;
    blocks->slabs--;
    leave(slab);
}

// One with room; NULL when there is no memory.
static struct slab *slab_with_room(struct blocks *blocks)
{
    if (!is_empty(&blocks->roomy))
        return slab_at(blocks->roomy.next);
    if (!is_empty(&blocks->closing)) {
        struct slab *fullest = slab_at(blocks->closing.previous);
        set_closing(blocks, fullest, false);
        return fullest;
    }
    struct slab *slab = map_slab();
    if (slab) {
        join(slab, &blocks->roomy);
        blocks->slabs++;
    }
    return slab;
}

// --- the pool

struct blocks *blocks_create(size_t bytes)
{
    assert(bytes > 0 && bytes % CODES_ALIGNMENT == 0 && bytes < BLOCKS_SLAB_BYTES / 2);

    struct blocks *blocks = mem_alloc(sizeof(*blocks));
    blocks->bytes = bytes;
    blocks->slab_blocks = (uint32_t)((BLOCKS_SLAB_BYTES - HEAD_BYTES) / bytes);
    (void)pthread_mutex_init(&blocks->lock, NULL);
    ring_init(&blocks->full);
    ring_init(&blocks->roomy);
    ring_init(&blocks->closing);
    return blocks;
}

void blocks_destroy(struct blocks **blocks)
{
    assert(blocks);

    if (!*blocks)
        return;
    unmap_all(&(*blocks)->full);
    unmap_all(&(*blocks)->roomy);
    unmap_all(&(*blocks)->closing);
    (void)pthread_mutex_destroy(&(*blocks)->lock);
    mem_free(*blocks);
    *blocks = NULL;
}

void *blocks_take(struct blocks *blocks)
{
    void *block = NULL;
    (void)pthread_mutex_lock(&blocks->lock);
    struct slab *slab = slab_with_room(blocks);
    if (slab && slab->free) {
        block = slab->free;
        slab->free = *slab->free;
    } else if (slab) {
        block = (uint8_t *)slab + HEAD_BYTES + slab->cut++ * blocks->bytes;
    }
    if (slab) {
        blocks->taken++;
        if (blocks->taken > blocks->most)
            blocks->most = blocks->taken;
        slab->taken++;
        if (slab->taken == blocks->slab_blocks) {
            leave(slab);
            join(slab, &blocks->full);
        }
    }
    (void)pthread_mutex_unlock(&blocks->lock);
    return block;
}

void blocks_give_back(struct blocks *blocks, void *block)
{
    struct slab *slab = (struct slab *)(void *)((uint8_t *)block - offset_in_slab(block));
    bool is_over = false;
    (void)pthread_mutex_lock(&blocks->lock);
    assert(slab->taken > 0);
    *(void **)block = slab->free;
    slab->free = block;
    if (slab->taken == blocks->slab_blocks) {
        leave(slab);
        join(slab, &blocks->roomy);
    }
    slab->taken--;
    blocks->taken--;
    if (slab->taken == 0) {
        is_over = blocks_is_leaving(block) || excess(blocks, blocks->taken) > 0;
        if (is_over)
            drop(blocks, slab);
        // Else the next blocks lie in a row again.
        slab->free = NULL;
        slab->cut = 0;
    }
    (void)pthread_mutex_unlock(&blocks->lock);
    if (is_over)
        unmap(slab);
}

static int by_taken(const void *first, const void *second)
{
    const struct slab *const a = *(struct slab *const *)first;
    const struct slab *const b = *(struct slab *const *)second;
    return a->taken < b->taken ? -1 : a->taken > b->taken;
}

// So many slabs could be done without: the emptiest. All of them have room, as so much is free.
static bool close_slabs(struct blocks *blocks, size_t count)
{
    struct slab **slabs = mem_try_alloc_array(blocks->slabs, sizeof(struct slab *));
    if (!slabs)
        return false;
    size_t found = 0;
    for (struct ring *at = blocks->roomy.next; at != &blocks->roomy; at = at->next)
        slabs[found++] = slab_at(at);
    assert(found >= count);
    qsort(slabs, found, sizeof(struct slab *), by_taken);
    for (size_t i = 0; i < count; i++) {
        if (slabs[i]->taken == 0) {
            drop(blocks, slabs[i]);
            unmap(slabs[i]);
        } else {
            set_closing(blocks, slabs[i], true);
        }
    }
    mem_free(slabs);
    return true;
}

// Intake takes up to a block for each list and gives as many back a moment later. What it takes
// again has to be there, so slabs are closed by the most blocks there were, and whoever has just
// made room asks again.
bool blocks_shrink(struct blocks *blocks)
{
    (void)pthread_mutex_lock(&blocks->lock);
    const size_t count = excess(blocks, blocks->most);
    const bool is_due = count > 0 ? close_slabs(blocks, count) : excess(blocks, blocks->taken) > 0;
    blocks->most = blocks->taken;
    (void)pthread_mutex_unlock(&blocks->lock);
    return is_due;
}

bool blocks_is_leaving(const void *block)
{
    const void *memory = (const uint8_t *)block - offset_in_slab(block);
    const struct slab *slab = memory;
    return atomic_load_explicit(&slab->is_closing, memory_order_relaxed);
}

size_t blocks_bytes(struct blocks *blocks)
{
    (void)pthread_mutex_lock(&blocks->lock);
    const size_t bytes = blocks->slabs * BLOCKS_SLAB_BYTES;
    (void)pthread_mutex_unlock(&blocks->lock);
    return bytes;
}
