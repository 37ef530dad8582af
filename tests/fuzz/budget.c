// SPDX-License-Identifier: Apache-2.0
// Holds every input of a libFuzzer run to a budget of memory: what it has taken and not given back,
// beyond what was taken before it began, may at no moment be more than BUDGET_BYTES.
//
// AddressSanitizer calls the hooks for every allocation of every library. libFuzzer's own
// -rss_limit_mb sees quarantine, coverage and shadow memory as well, and only now and then;
// -malloc_limit_mb sees one allocation at a time.

#include <sanitizer/allocator_interface.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define BUDGET_BYTES ((int64_t)64 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int __real_LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int __wrap_LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static atomic_bool counting;
static atomic_int_fast64_t live;

static void on_malloc(const volatile void *pointer, size_t size)
{
    (void)pointer;
    if (!atomic_load(&counting))
        return;
    if (atomic_fetch_add(&live, (int64_t)size) + (int64_t)size <= BUDGET_BYTES)
        return;
    atomic_store(&counting, false);
    (void)fprintf(stderr,
                  "budget: this input takes more than %d MiB; the last part are %zu bytes\n",
                  (int)(BUDGET_BYTES >> 20), size);
    abort();
}

// What was taken before the input and is given back by it makes the sum smaller; so be it.
static void on_free(const volatile void *pointer)
{
    if (pointer && atomic_load(&counting))
        atomic_fetch_sub(&live,
                         (int64_t)__sanitizer_get_allocated_size((const volatile void *)pointer));
}

// The linker puts this in the place of the target's (--wrap).
int __wrap_LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool installed;
    if (!installed)
        installed = __sanitizer_install_malloc_and_free_hooks(on_malloc, on_free) != 0;
    atomic_store(&live, 0);
    atomic_store(&counting, true);
    const int result = __real_LLVMFuzzerTestOneInput(data, size);
    atomic_store(&counting, false);
    return result;
}
