// SPDX-License-Identifier: Apache-2.0
// Slabs from mmap(), cut from the front; what is given back is a list threaded through the blocks.

#include "shard_node/index/blocks.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>

#include "proto/base/mem.h"
#include "shard_node/index/codes.h"

#define HUGE_PAGE_BYTES ((size_t)2 << 20)
#define SLAB_BYTES (4 * HUGE_PAGE_BYTES)

struct slab {
    struct slab *next;
    void *map;
    size_t map_bytes;
};

struct blocks {
    size_t bytes;
    pthread_mutex_t lock; // below
    struct slab *slabs;
    uint8_t *at; // the rest of the newest slab
    uint8_t *end;
    void **free;
    size_t mapped;
};

struct blocks *blocks_create(size_t bytes)
{
    assert(bytes > 0 && bytes % CODES_ALIGNMENT == 0 && bytes <= SLAB_BYTES);

    struct blocks *blocks = mem_alloc(sizeof(*blocks));
    blocks->bytes = bytes;
    (void)pthread_mutex_init(&blocks->lock, NULL);
    return blocks;
}

void blocks_destroy(struct blocks **blocks)
{
    assert(blocks);

    if (!*blocks)
        return;
    while ((*blocks)->slabs) {
        struct slab *slab = (*blocks)->slabs;
        (*blocks)->slabs = slab->next;
        (void)munmap(slab->map, slab->map_bytes);
        mem_free(slab);
    }
    (void)pthread_mutex_destroy(&(*blocks)->lock);
    mem_free(*blocks);
    *blocks = NULL;
}

static bool add_slab(struct blocks *blocks)
{
    // One huge page more than is used: the mapping begins anywhere.
    const size_t map_bytes = SLAB_BYTES + HUGE_PAGE_BYTES;
    void *map = mmap(NULL, map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED)
        return false;
    struct slab *slab = mem_alloc(sizeof(*slab));
    slab->next = blocks->slabs;
    slab->map = map;
    slab->map_bytes = map_bytes;
    blocks->slabs = slab;
    blocks->at = (uint8_t *)map + (HUGE_PAGE_BYTES - (uintptr_t)map % HUGE_PAGE_BYTES);
    blocks->end = blocks->at + SLAB_BYTES;
    blocks->mapped += SLAB_BYTES;
    (void)madvise(blocks->at, SLAB_BYTES, MADV_HUGEPAGE);
    return true;
}

void *blocks_take(struct blocks *blocks)
{
    void *block = NULL;
    (void)pthread_mutex_lock(&blocks->lock);
    if (blocks->free) {
        block = blocks->free;
        blocks->free = *blocks->free;
    } else if ((size_t)(blocks->end - blocks->at) >= blocks->bytes || add_slab(blocks)) {
        block = blocks->at;
        blocks->at += blocks->bytes;
    }
    (void)pthread_mutex_unlock(&blocks->lock);
    return block;
}

void blocks_give_back(struct blocks *blocks, void *block)
{
    void **const link = block;
    (void)pthread_mutex_lock(&blocks->lock);
    *link = blocks->free;
    blocks->free = link;
    (void)pthread_mutex_unlock(&blocks->lock);
}

size_t blocks_bytes(struct blocks *blocks)
{
    (void)pthread_mutex_lock(&blocks->lock);
    const size_t bytes = blocks->mapped;
    (void)pthread_mutex_unlock(&blocks->lock);
    return bytes;
}
