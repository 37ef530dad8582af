// SPDX-License-Identifier: Apache-2.0
// arena.h - memory of one request, with a budget, freed at once.
//
// Thread-safety: none; an arena belongs to one thread at a time.

#ifndef RECO_PROTO_BASE_ARENA_H
#define RECO_PROTO_BASE_ARENA_H

#include <stddef.h>
#include <stdint.h>

struct arena;

// Creates an arena that hands out at most `budget_bytes` in all.
struct arena *arena_create(size_t budget_bytes);

// Frees everything handed out and the arena; sets *arena to NULL.
void arena_destroy(struct arena **arena);

// `bytes` bytes aligned to 64, not zeroed, valid until the arena ends. NULL
// when the budget or memory is spent; the arena stays usable. 0 bytes give a
// pointer that must not be read.
void *arena_alloc(struct arena *arena, size_t bytes);
void *arena_alloc_array(struct arena *arena, size_t count, size_t bytes); // NULL also on overflow
void *arena_zero(struct arena *arena, size_t bytes);

// A copy of `bytes` bytes with a NUL behind them; NULL as above.
char *arena_copy_text(struct arena *arena, const char *text, size_t bytes);

// Bytes handed out so far, alignment included.
size_t arena_used(const struct arena *arena);

// Bytes that all arenas of this process hold now, of any thread: back to what it was when as many
// have been destroyed as created.
size_t arena_held_bytes(void);

#endif
