// SPDX-License-Identifier: Apache-2.0
// mem.h - allocation in two kinds, and checked size arithmetic.
//
// Small bookkeeping uses mem_alloc and friends: they end the program when memory
// is out. Anything whose size a file or a peer chose uses mem_try_*: they return
// NULL, which the caller turns into STATUS_NO_MEMORY.
//
// Thread-safety: safe.

#ifndef RECO_PROTO_BASE_MEM_H
#define RECO_PROTO_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/status.h"

void *mem_alloc(size_t bytes);                     // zeroed; never NULL
void *mem_alloc_array(size_t count, size_t bytes); // zeroed, overflow checked; never NULL
char *mem_copy_text(const char *text);             // never NULL; text may not be NULL
void *mem_grow(void *old, size_t count,
               size_t bytes); // realloc of an array; never NULL; new part not zeroed

void *mem_try_alloc(size_t bytes);                     // not zeroed; NULL when out of memory
void *mem_try_alloc_array(size_t count, size_t bytes); // not zeroed; NULL also on overflow
void *mem_try_alloc_zeroed(size_t bytes); // large ones cost nothing until they are used
void *mem_try_alloc_aligned(size_t alignment, size_t bytes); // freed by mem_free

void mem_free(void *pointer); // NULL is allowed

// *out = a * b or a + b; false, *out unchanged, when it does not fit.
bool mem_multiply(size_t a, size_t b, size_t *out) MUST_CHECK;
bool mem_add(size_t a, size_t b, size_t *out) MUST_CHECK;

// For tests: the n-th mem_try_* call from now on (1 = the next) and all after it
// return NULL; 0 ends that.
void mem_fail_after(uint64_t n);

#endif
