// SPDX-License-Identifier: Apache-2.0
// arena.c - memory of one request, with a budget, freed at once.
//
// Memory is cut from the front of blocks. A request too large for a block gets
// one of its own, placed behind the current one, so that the rest of the
// current block is not lost. Budgets count what was handed out, not the blocks.

#include "proto/base/arena.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "proto/base/mem.h"

#define ALIGNMENT ((size_t)64)
#define BLOCK_BYTES ((size_t)64 << 10)
#define ALONE_BYTES (BLOCK_BYTES / 4) // from here on a request may get a block of its own

struct arena_block {
    struct arena_block *next;
    size_t room; // bytes behind the header
    size_t used;
};

// Relaxed: it only counts.
static atomic_size_t held_bytes;

// The header takes one alignment unit, so that the bytes behind it are aligned.
_Static_assert(sizeof(struct arena_block) <= 64, "the header no longer fits");

struct arena {
    struct arena_block *blocks; // the first one is the current one
    size_t budget;
    size_t used;
};

// What a request for 0 bytes gets.
static _Alignas(64) uint8_t nothing[64];

struct arena *arena_create(size_t budget_bytes)
{
    struct arena *arena = mem_alloc(sizeof(*arena));
    arena->budget = budget_bytes;
    (void)atomic_fetch_add_explicit(&held_bytes, sizeof(*arena), memory_order_relaxed);
    return arena;
}

void arena_destroy(struct arena **arena)
{
    assert(arena);

    if (!*arena)
        return;
    size_t bytes = sizeof(**arena);
    struct arena_block *block = (*arena)->blocks;
    while (block) {
        struct arena_block *next = block->next;
        bytes += ALIGNMENT + block->room;
        mem_free(block);
        block = next;
    }
    (void)atomic_fetch_sub_explicit(&held_bytes, bytes, memory_order_relaxed);
    mem_free(*arena);
    *arena = NULL;
}

static struct arena_block *new_block(size_t room)
{
    size_t all;
    if (!mem_add(room, ALIGNMENT, &all))
        return NULL;
    struct arena_block *block = mem_try_alloc_aligned(ALIGNMENT, all);
    if (!block)
        return NULL;
    *block = (struct arena_block){.room = room};
    (void)atomic_fetch_add_explicit(&held_bytes, all, memory_order_relaxed);
    return block;
}

// A block with `bytes` bytes left, or NULL. `bytes` is a multiple of ALIGNMENT.
static struct arena_block *block_for(struct arena *arena, size_t bytes)
{
    struct arena_block *current = arena->blocks;
    if (current && current->room - current->used >= bytes)
        return current;

    bool alone = bytes >= ALONE_BYTES;
    struct arena_block *block = new_block(alone ? bytes : BLOCK_BYTES);
    if (!block)
        return NULL;
    if (alone && current) {
        block->next = current->next;
        current->next = block;
    } else {
        block->next = current;
        arena->blocks = block;
    }
    return block;
}

void *arena_alloc(struct arena *arena, size_t bytes)
{
    assert(arena);

    if (bytes == 0)
        return nothing;

    size_t padded;
    if (!mem_add(bytes, ALIGNMENT - 1, &padded))
        return NULL;
    padded &= ~(ALIGNMENT - 1);
    if (padded > arena->budget - arena->used)
        return NULL;

    struct arena_block *block = block_for(arena, padded);
    if (!block)
        return NULL;
    uint8_t *memory = (uint8_t *)block + ALIGNMENT + block->used;
    block->used += padded;
    arena->used += padded;
    return memory;
}

void *arena_alloc_array(struct arena *arena, size_t count, size_t bytes)
{
    size_t all;
    if (!mem_multiply(count, bytes, &all))
        return NULL;
    return arena_alloc(arena, all);
}

void *arena_zero(struct arena *arena, size_t bytes)
{
    void *memory = arena_alloc(arena, bytes);
    if (memory)
        memset(memory, 0, bytes);
    return memory;
}

char *arena_copy_text(struct arena *arena, const char *text, size_t bytes)
{
    assert(text || bytes == 0);

    size_t all;
    if (!mem_add(bytes, 1, &all))
        return NULL;
    char *copy = arena_alloc(arena, all);
    if (!copy)
        return NULL;
    if (bytes > 0)
        memcpy(copy, text, bytes);
    copy[bytes] = '\0';
    return copy;
}

size_t arena_used(const struct arena *arena)
{
    assert(arena);

    return arena->used;
}

size_t arena_held_bytes(void)
{
    return atomic_load_explicit(&held_bytes, memory_order_relaxed);
}
