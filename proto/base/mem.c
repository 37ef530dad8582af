// SPDX-License-Identifier: Apache-2.0
// mem.c - allocation in two kinds, and checked size arithmetic.
//
// A request for 0 bytes is rounded up to 1, so that NULL always means failure.

#include "proto/base/mem.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// 0: no failures are played. n: the n-th mem_try_* call from now on fails;
// it stays at 1 from then on. Relaxed order is enough for a counter in tests.
static atomic_uint_fast64_t fail_in;

// Ends the program. No log line: that needs memory to be in order.
static _Noreturn void out_of_memory(void)
{
    static const char text[] = "out of memory\n";
    ssize_t written = write(STDERR_FILENO, text, sizeof(text) - 1);
    (void)written;
    abort();
}

static bool failure_is_due(void)
{
    uint_fast64_t left = atomic_load_explicit(&fail_in, memory_order_relaxed);
    while (left > 1) {
        if (atomic_compare_exchange_weak_explicit(&fail_in, &left, left - 1, memory_order_relaxed,
                                                  memory_order_relaxed))
            return false;
    }
    return left == 1;
}

void *mem_alloc(size_t bytes)
{
    return mem_alloc_array(1, bytes);
}

void *mem_alloc_array(size_t count, size_t bytes)
{
    bool is_empty = count == 0 || bytes == 0;
    void *memory = is_empty ? calloc(1, 1) : calloc(count, bytes);
    if (!memory)
        out_of_memory();
    return memory;
}

char *mem_copy_text(const char *text)
{
    assert(text);

    size_t bytes = strlen(text) + 1;
    char *copy = mem_alloc(bytes);
    memcpy(copy, text, bytes);
    return copy;
}

void *mem_grow(void *old, size_t count, size_t bytes)
{
    size_t all;
    if (!mem_multiply(count, bytes, &all) || all > PTRDIFF_MAX)
        out_of_memory();

    void *memory = realloc(old, all > 0 ? all : 1);
    if (!memory)
        out_of_memory();
    return memory;
}

void *mem_try_alloc(size_t bytes)
{
    if (failure_is_due() || bytes > PTRDIFF_MAX)
        return NULL;
    return malloc(bytes > 0 ? bytes : 1);
}

void *mem_try_alloc_array(size_t count, size_t bytes)
{
    size_t all;
    return mem_try_alloc(mem_multiply(count, bytes, &all) ? all : SIZE_MAX);
}

void *mem_try_alloc_zeroed(size_t bytes)
{
    if (failure_is_due() || bytes > PTRDIFF_MAX)
        return NULL;
    return calloc(1, bytes > 0 ? bytes : 1);
}

void *mem_try_alloc_aligned(size_t alignment, size_t bytes)
{
    assert(alignment >= sizeof(void *) && (alignment & (alignment - 1)) == 0);

    if (failure_is_due() || bytes > PTRDIFF_MAX)
        return NULL;
    void *memory = NULL;
    int error = posix_memalign(&memory, alignment, bytes > 0 ? bytes : 1);
    return error == 0 ? memory : NULL;
}

void mem_free(void *pointer)
{
    free(pointer);
}

bool mem_multiply(size_t a, size_t b, size_t *out)
{
    assert(out);

    if (b != 0 && a > SIZE_MAX / b)
        return false;
    *out = a * b;
    return true;
}

bool mem_add(size_t a, size_t b, size_t *out)
{
    assert(out);

    if (a > SIZE_MAX - b)
        return false;
    *out = a + b;
    return true;
}

void mem_fail_after(uint64_t n)
{
    atomic_store_explicit(&fail_in, n, memory_order_relaxed);
}
