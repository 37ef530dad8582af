// SPDX-License-Identifier: Apache-2.0
// Goal: memory that a stranger sizes can run out without harm; an arena keeps
// to its budget and stays usable.
//
// Method: sizes at the ends of size_t, failures played by mem_fail_after.

#include <signal.h>
#include <stdalign.h>
#include <stdint.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/arena.h"
#include "proto/base/mem.h"

Test(mem, bookkeeping_memory_is_zeroed_even_when_empty)
{
    unsigned char *bytes = mem_alloc_array(100, 3);
    for (int i = 0; i < 300; i++)
        cr_assert(eq(int, bytes[i], 0));
    mem_free(bytes);

    void *empty = mem_alloc(0);
    void *no_items = mem_alloc_array(0, 8);
    cr_expect(ne(ptr, empty, NULL));
    cr_expect(ne(ptr, no_items, NULL));
    mem_free(empty);
    mem_free(no_items);
    mem_free(NULL);
}

Test(mem, grow_keeps_the_old_part)
{
    int *numbers = mem_grow(NULL, 2, sizeof(int));
    numbers[0] = 7;
    numbers[1] = 8;
    numbers = mem_grow(numbers, 1000, sizeof(int));
    cr_expect(eq(int, numbers[0], 7));
    cr_expect(eq(int, numbers[1], 8));
    numbers = mem_grow(numbers, 0, sizeof(int));
    cr_expect(ne(ptr, numbers, NULL));
    mem_free(numbers);
}

Test(mem, copies_text)
{
    char original[] = "abc";
    char *copy = mem_copy_text(original);
    original[0] = 'x';
    cr_expect_str_eq(copy, "abc");
    mem_free(copy);
}

Test(mem, bookkeeping_beyond_all_memory_ends_the_program, .signal = SIGABRT)
{
    (void)mem_grow(NULL, SIZE_MAX / 2, 4);
}

Test(mem, try_gives_null_for_what_cannot_be)
{
    cr_expect(eq(ptr, mem_try_alloc(SIZE_MAX), NULL));
    cr_expect(eq(ptr, mem_try_alloc((size_t)PTRDIFF_MAX + 1), NULL));
    cr_expect(eq(ptr, mem_try_alloc_array(SIZE_MAX / 2, 3), NULL));
    cr_expect(eq(ptr, mem_try_alloc_aligned(64, SIZE_MAX), NULL));
}

Test(mem, try_gives_aligned_and_empty_blocks)
{
    const size_t alignments[] = {8, 64, 4096};
    for (int i = 0; i < 3; i++) {
        void *block = mem_try_alloc_aligned(alignments[i], 100);
        cr_assert(ne(ptr, block, NULL));
        cr_expect(eq(sz, (uintptr_t)block % alignments[i], 0));
        mem_free(block);
    }
    void *empty = mem_try_alloc(0);
    cr_expect(ne(ptr, empty, NULL));
    mem_free(empty);
}

Test(mem, products_and_sums_that_do_not_fit_leave_the_output_alone)
{
    size_t out = 42;
    cr_expect(not(mem_multiply(SIZE_MAX, 2, &out)));
    cr_expect(not(mem_multiply((size_t)1 << 32, (size_t)1 << 32, &out)));
    cr_expect(not(mem_add(SIZE_MAX, 1, &out)));
    cr_expect(eq(sz, out, 42));

    cr_expect(mem_multiply(SIZE_MAX, 1, &out) && out == SIZE_MAX);
    cr_expect(mem_multiply(0, SIZE_MAX, &out) && out == 0);
    cr_expect(mem_multiply(SIZE_MAX, 0, &out) && out == 0);
    cr_expect(mem_add(SIZE_MAX - 1, 1, &out) && out == SIZE_MAX);
}

Test(mem, failures_begin_at_the_nth_try_and_last_until_ended)
{
    mem_fail_after(3);
    for (int i = 0; i < 2; i++) {
        void *block = mem_try_alloc(1);
        cr_expect(ne(ptr, block, NULL));
        mem_free(block);
    }
    cr_expect(eq(ptr, mem_try_alloc(1), NULL));
    cr_expect(eq(ptr, mem_try_alloc_array(1, 1), NULL));
    cr_expect(eq(ptr, mem_try_alloc_aligned(64, 1), NULL));

    void *bookkeeping = mem_alloc(1); // the other kind does not count
    mem_free(bookkeeping);

    mem_fail_after(0);
    void *block = mem_try_alloc(1);
    cr_expect(ne(ptr, block, NULL));
    mem_free(block);
}

Test(arena, gives_separate_aligned_memory)
{
    struct arena *arena = arena_create(1 << 20);
    unsigned char *blocks[200];
    for (size_t i = 0; i < 200; i++) {
        blocks[i] = arena_alloc(arena, 1 + i * 13);
        cr_assert(ne(ptr, blocks[i], NULL));
        cr_assert(eq(sz, (uintptr_t)blocks[i] % 64, 0));
        memset(blocks[i], (int)i, 1 + i * 13);
    }
    for (size_t i = 0; i < 200; i++) {
        cr_assert(eq(int, blocks[i][0], (int)i));
        cr_assert(eq(int, blocks[i][i * 13], (int)i));
    }
    arena_destroy(&arena);
    cr_expect(eq(ptr, arena, NULL));
    arena_destroy(&arena);
}

Test(arena, stops_at_its_budget_and_stays_usable)
{
    struct arena *arena = arena_create(1024);
    cr_expect(ne(ptr, arena_alloc(arena, 900), NULL)); // 960 with alignment
    cr_expect(eq(sz, arena_used(arena), 960));
    cr_expect(eq(ptr, arena_alloc(arena, 65), NULL));
    cr_expect(ne(ptr, arena_alloc(arena, 64), NULL));
    cr_expect(eq(sz, arena_used(arena), 1024));
    cr_expect(eq(ptr, arena_alloc(arena, 1), NULL));
    cr_expect(ne(ptr, arena_alloc(arena, 0), NULL));
    cr_expect(eq(sz, arena_used(arena), 1024));
    arena_destroy(&arena);
}

Test(arena, serves_requests_larger_than_its_blocks)
{
    struct arena *arena = arena_create(SIZE_MAX);
    char *small = arena_alloc(arena, 10);
    char *large = arena_alloc(arena, 10 << 20);
    char *next = arena_alloc(arena, 10);
    cr_assert(small && large && next);
    memset(large, 1, 10 << 20);
    cr_expect(eq(sz, (size_t)(next - small), 64)); // the block before goes on
    arena_destroy(&arena);
}

Test(arena, refuses_sizes_that_overflow)
{
    struct arena *arena = arena_create(SIZE_MAX);
    cr_expect(eq(ptr, arena_alloc(arena, SIZE_MAX), NULL));
    cr_expect(eq(ptr, arena_alloc(arena, SIZE_MAX - 100), NULL));
    cr_expect(eq(ptr, arena_alloc_array(arena, SIZE_MAX / 2, 3), NULL));
    cr_expect(eq(ptr, arena_zero(arena, SIZE_MAX), NULL));
    cr_expect(eq(ptr, arena_copy_text(arena, "x", SIZE_MAX), NULL));
    cr_expect(eq(sz, arena_used(arena), 0));
    cr_expect(ne(ptr, arena_alloc_array(arena, 10, 10), NULL));
    arena_destroy(&arena);
}

Test(arena, zeroes_and_copies)
{
    struct arena *arena = arena_create(1 << 20);
    unsigned char *zeroed = arena_zero(arena, 1000);
    for (int i = 0; i < 1000; i++)
        cr_assert(eq(int, zeroed[i], 0));
    cr_expect_str_eq(arena_copy_text(arena, "abcdef", 3), "abc");
    cr_expect_str_eq(arena_copy_text(arena, NULL, 0), "");
    arena_destroy(&arena);
}

Test(arena, answers_null_when_memory_is_out_and_stays_usable)
{
    struct arena *arena = arena_create(1 << 20);
    mem_fail_after(1);
    cr_expect(eq(ptr, arena_alloc(arena, 10), NULL));
    cr_expect(eq(ptr, arena_zero(arena, 10), NULL));
    cr_expect(eq(ptr, arena_copy_text(arena, "x", 1), NULL));
    cr_expect(eq(sz, arena_used(arena), 0));
    mem_fail_after(0);
    cr_expect(ne(ptr, arena_alloc(arena, 10), NULL));
    arena_destroy(&arena);
}
