// SPDX-License-Identifier: Apache-2.0
// Goal: no block is handed out twice, and memory that is no longer taken goes back, without mapping
// and unmapping all the time.
//
// Method: whoever has a block has written its number all over it, so a block that two have, or that
// is no longer there, is seen. Blocks are taken and given back in random order, and moved as the
// index moves them. Meant for AddressSanitizer and ThreadSanitizer too.

#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/thread.h"
#include "shard_node/index/blocks.h"
#include "shard_node/index/seed.h"

#define BYTES ((size_t)6400)
#define WORDS (BYTES / sizeof(uint64_t))
#define SLAB (BLOCKS_SLAB_BYTES / BYTES) // blocks; the head of a slab has room in the rest
#define HELD_MAX (20 * SLAB)
#define PAGE_BYTES 4096

static uint64_t seed = 20261129;

struct holder {
    struct blocks *blocks;
    uint64_t *held[HELD_MAX];
    size_t count;
    uint64_t number; // the next
};

static void write_number(uint64_t *block, uint64_t number)
{
    for (size_t i = 0; i < WORDS; i++)
        block[i] = number;
}

static bool is_whole(const uint64_t *block)
{
    for (size_t i = 1; i < WORDS; i++) {
        if (block[i] != block[0])
            return false;
    }
    return true;
}

static bool take(struct holder *holder)
{
    uint64_t *block = blocks_take(holder->blocks);
    if (!block)
        return false;
    write_number(block, ++holder->number);
    holder->held[holder->count++] = block;
    return true;
}

static void take_many(struct holder *holder, size_t count)
{
    for (size_t i = 0; i < count; i++)
        cr_assert(take(holder));
}

static bool give_back(struct holder *holder, size_t at)
{
    uint64_t *block = holder->held[at];
    const bool is_right = is_whole(block);
    write_number(block, 0);
    holder->held[at] = holder->held[--holder->count];
    blocks_give_back(holder->blocks, block);
    return is_right;
}

static void give_back_any(struct holder *holder, size_t count, uint64_t *random)
{
    for (size_t i = 0; i < count; i++)
        cr_assert(give_back(holder, seed_below(random, holder->count)));
}

// When nothing is taken meanwhile the second call closes what the first would have.
static bool shrink(struct holder *holder)
{
    if (!blocks_shrink(holder->blocks))
        return false;
    return blocks_shrink(holder->blocks);
}

// As upkeep does.
static size_t move_out(struct holder *holder)
{
    size_t moved = 0;
    for (size_t i = 0; i < holder->count; i++) {
        uint64_t *old = holder->held[i];
        if (!blocks_is_leaving(old))
            continue;
        cr_assert(is_whole(old));
        uint64_t *block = blocks_take(holder->blocks);
        cr_assert(block != NULL);
        write_number(block, old[0]);
        holder->held[i] = block;
        blocks_give_back(holder->blocks, old);
        moved++;
    }
    return moved;
}

static void expect_unlike(const struct holder *holder)
{
    static unsigned char seen[HELD_MAX * 64];
    for (size_t i = 0; i < holder->count; i++) {
        cr_assert(is_whole(holder->held[i]), "block %zu", i);
        const uint64_t number = holder->held[i][0];
        cr_assert(number > 0 && number < sizeof(seen));
        cr_assert(seen[number] == 0, "%lu is held twice", (unsigned long)number);
        seen[number] = 1;
    }
    for (size_t i = 0; i < holder->count; i++)
        seen[holder->held[i][0]] = 0;
}

// What is spare, besides a slab that is not full: a quarter of a slab, and 1/32.
static size_t bytes_enough(const struct holder *holder)
{
    const size_t blocks = holder->count + holder->count / 32 + SLAB / 4;
    return (blocks / SLAB + 2) * BLOCKS_SLAB_BYTES;
}

static bool is_mapped(void *address)
{
    unsigned char in_memory;
    uint8_t *const page = (uint8_t *)address - (uintptr_t)address % PAGE_BYTES;
    return mincore(page, PAGE_BYTES, &in_memory) == 0 || errno != ENOMEM;
}

Test(index_blocks, what_is_taken_in_a_row_lies_in_a_row)
{
    struct holder holder = {.blocks = blocks_create(BYTES)};
    for (int round = 0; round < 2; round++) {
        take_many(&holder, SLAB);
        cr_expect(eq(sz, blocks_bytes(holder.blocks), BLOCKS_SLAB_BYTES));
        for (size_t i = 1; i < SLAB; i++)
            cr_assert(holder.held[i] == holder.held[i - 1] + WORDS, "%zu", i);
        give_back_any(&holder, SLAB, &seed); // and again when all have come back
    }
    blocks_destroy(&holder.blocks);
    cr_expect(holder.blocks == NULL);
    blocks_destroy(&holder.blocks);
}

Test(index_blocks, random_order_gives_nobody_what_another_has)
{
    struct holder holder = {.blocks = blocks_create(BYTES)};
    size_t closings = 0;
    size_t moved = 0;
    for (int phase = 0; phase < 60; phase++) {
        const size_t target = seed_below(&seed, HELD_MAX / 2);
        for (size_t i = 0; i < HELD_MAX / 4; i++) {
            const bool more =
                holder.count < target ? seed_below(&seed, 8) != 0 : seed_below(&seed, 8) == 0;
            if (more && holder.count < HELD_MAX)
                cr_assert(take(&holder));
            else if (holder.count > 0)
                cr_assert(give_back(&holder, seed_below(&seed, holder.count)));
        }
        closings += shrink(&holder);
        if (phase % 3 != 0)
            moved += move_out(&holder);
        cr_expect(le(sz, holder.count * BYTES, blocks_bytes(holder.blocks)));
        if (phase % 3 != 0)
            cr_expect(le(sz, blocks_bytes(holder.blocks), bytes_enough(&holder)));
        expect_unlike(&holder);
    }
    cr_expect(closings > 5 && moved > 100, "%zu closings, %zu moved", closings, moved);
    give_back_any(&holder, holder.count, &seed);
    cr_expect(le(sz, blocks_bytes(holder.blocks), BLOCKS_SLAB_BYTES));
    blocks_destroy(&holder.blocks);
}

Test(index_blocks, memory_goes_back_after_half_was_given_back)
{
    struct holder holder = {.blocks = blocks_create(BYTES)};
    take_many(&holder, HELD_MAX);
    cr_expect(eq(sz, blocks_bytes(holder.blocks), 20 * BLOCKS_SLAB_BYTES));
    give_back_any(&holder, HELD_MAX / 2, &seed);
    // Alone it does not: what is left lies everywhere.
    cr_expect(eq(sz, blocks_bytes(holder.blocks), 20 * BLOCKS_SLAB_BYTES));
    // By the most there were, nothing is too much yet.
    cr_expect(blocks_shrink(holder.blocks));
    cr_expect(eq(sz, move_out(&holder), 0));
    cr_expect(blocks_shrink(holder.blocks));
    cr_expect(eq(int, blocks_shrink(holder.blocks), false), "what closes already counts");
    void *left = NULL;
    for (size_t i = 0; i < holder.count && !left; i++)
        left = blocks_is_leaving(holder.held[i]) ? holder.held[i] : NULL;
    cr_assert(left != NULL && is_mapped(left));
    const size_t moved = move_out(&holder);
    cr_expect(moved > 0 && moved < HELD_MAX / 3, "the emptiest: %zu", moved);
    cr_expect(eq(sz, blocks_bytes(holder.blocks), 11 * BLOCKS_SLAB_BYTES));
    cr_expect(eq(int, is_mapped(left), false));
    cr_expect(eq(sz, move_out(&holder), 0));
    expect_unlike(&holder);
    blocks_destroy(&holder.blocks);
}

Test(index_blocks, an_empty_slab_goes_at_once)
{
    struct holder holder = {.blocks = blocks_create(BYTES)};
    take_many(&holder, 4 * SLAB);
    void *gone = holder.held[2 * SLAB];
    for (size_t i = 4 * SLAB; i > 2 * SLAB; i--)
        cr_assert(give_back(&holder, i - 1));
    // One stays: nothing else is free.
    cr_expect(eq(sz, blocks_bytes(holder.blocks), 3 * BLOCKS_SLAB_BYTES));
    cr_expect(eq(int, is_mapped(gone), false));
    cr_expect(eq(int, blocks_shrink(holder.blocks), false));
    // Until others have room.
    give_back_any(&holder, SLAB, &seed);
    (void)shrink(&holder);
    cr_expect(le(sz, blocks_bytes(holder.blocks), 2 * BLOCKS_SLAB_BYTES));
    expect_unlike(&holder);
    blocks_destroy(&holder.blocks);
}

Test(index_blocks, a_little_to_and_fro_maps_nothing)
{
    struct holder holder = {.blocks = blocks_create(BYTES)};
    for (size_t full = 1; full <= 8; full *= 2) {
        take_many(&holder, full * SLAB + 1 - holder.count);
        const size_t bytes = blocks_bytes(holder.blocks);
        for (int i = 0; i < 2000; i++) {
            const size_t some = 1 + seed_below(&seed, SLAB / 5);
            give_back_any(&holder, some, &seed);
            cr_assert(eq(int, blocks_shrink(holder.blocks), false));
            take_many(&holder, some);
            holder.number = 0;
            cr_assert(eq(sz, blocks_bytes(holder.blocks), bytes));
        }
    }
    blocks_destroy(&holder.blocks);
}

// Intake takes much for a moment.
Test(index_blocks, what_is_taken_again_and_again_stays)
{
    struct holder holder = {.blocks = blocks_create(BYTES)};
    take_many(&holder, 8 * SLAB);
    for (int i = 0; i < 20; i++) {
        take_many(&holder, 4 * SLAB);
        give_back_any(&holder, 4 * SLAB, &seed);
        (void)blocks_shrink(holder.blocks);
        cr_assert(eq(sz, move_out(&holder), 0));
    }
    cr_assert(blocks_shrink(holder.blocks), "until it is not");
    cr_expect(move_out(&holder) > 0);
    cr_expect(le(sz, blocks_bytes(holder.blocks), bytes_enough(&holder)));
    blocks_destroy(&holder.blocks);
}

Test(index_blocks, what_closes_is_taken_from_before_more_is_mapped)
{
    struct holder holder = {.blocks = blocks_create(BYTES)};
    take_many(&holder, 8 * SLAB);
    give_back_any(&holder, 4 * SLAB, &seed);
    cr_assert(shrink(&holder));
    take_many(&holder, 4 * SLAB);
    cr_expect(eq(sz, blocks_bytes(holder.blocks), 8 * BLOCKS_SLAB_BYTES));
    cr_expect(eq(sz, move_out(&holder), 0));
    cr_expect(eq(int, blocks_shrink(holder.blocks), false));
    expect_unlike(&holder);
    blocks_destroy(&holder.blocks);
}

Test(index_blocks, tells_when_there_is_no_memory)
{
    struct holder holder = {.blocks = blocks_create(BYTES)};
    take_many(&holder, SLAB + 1);
    struct rlimit before;
    cr_assert(getrlimit(RLIMIT_AS, &before) == 0);
    const struct rlimit none = {.rlim_cur = 0, .rlim_max = before.rlim_max};
    cr_assert(setrlimit(RLIMIT_AS, &none) == 0);
    size_t got = 0;
    while (got < 2 * SLAB && take(&holder))
        got++;
    void *more = blocks_take(holder.blocks);
    cr_assert(setrlimit(RLIMIT_AS, &before) == 0);
    cr_expect(eq(sz, got, SLAB - 1));
    cr_expect(more == NULL);
    cr_expect(eq(sz, blocks_bytes(holder.blocks), 2 * BLOCKS_SLAB_BYTES));
    take_many(&holder, SLAB);
    expect_unlike(&holder);
    blocks_destroy(&holder.blocks);
}

// --- threads

#define WORKERS 3

static atomic_uint working;
static atomic_uint wrong;

static void work_on(struct thread *self, void *context)
{
    struct holder *holder = context;
    uint64_t random = holder->number;
    thread_ready(self, STATUS_OK);
    for (int i = 0; i < 30000; i++) {
        const bool is_growing = i / 5000 % 2 == 0;
        const bool more = seed_below(&random, 4) != 0 ? is_growing : !is_growing;
        if (more && holder->count < HELD_MAX / WORKERS)
            (void)take(holder);
        else if (holder->count > 0 && !give_back(holder, seed_below(&random, holder->count)))
            atomic_fetch_add(&wrong, 1);
        if (i % 1000 == 0)
            (void)move_out(holder);
    }
    atomic_fetch_sub(&working, 1);
}

Test(index_blocks, many_threads_share_a_pool)
{
    static struct holder holders[WORKERS];
    struct thread *threads[WORKERS];
    struct blocks *blocks = blocks_create(BYTES);
    atomic_store(&working, WORKERS);
    for (size_t i = 0; i < WORKERS; i++) {
        holders[i] = (struct holder){.blocks = blocks, .number = i << 32};
        cr_assert(eq(int, thread_start("worker", work_on, &holders[i], &threads[i]), STATUS_OK));
    }
    while (atomic_load(&working) > 0) {
        (void)blocks_shrink(blocks);
        cr_expect(blocks_bytes(blocks) <= 21 * BLOCKS_SLAB_BYTES);
    }
    for (size_t i = 0; i < WORKERS; i++)
        thread_join(&threads[i]);
    cr_expect(eq(u32, atomic_load(&wrong), 0));
    for (size_t i = 0; i < WORKERS; i++) {
        for (size_t j = 0; j < holders[i].count; j++)
            cr_assert(is_whole(holders[i].held[j]) && holders[i].held[j][0] >> 32 == i);
        give_back_any(&holders[i], holders[i].count, &seed);
    }
    cr_expect(le(sz, blocks_bytes(blocks), BLOCKS_SLAB_BYTES));
    blocks_destroy(&blocks);
}
