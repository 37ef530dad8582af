// SPDX-License-Identifier: Apache-2.0
// epoch.h - memory that readers without locks may still look at is freed when none of them can.
//
// A reader enters before it follows a published pointer and leaves when it is done. A writer that
// has taken a pointer away retires what it pointed to; it is freed once everybody who had entered
// by then has left (Fraser, Practical lock-freedom, 2004).
//
// liburcu does the same and more; it was not taken because ThreadSanitizer does not see its
// barriers, and the run for races is worth more than the hundred lines here.
//
// Thread-safety: a place belongs to one thread at a time, everything else is for any thread.

#ifndef RECO_SHARD_NODE_INDEX_EPOCH_H
#define RECO_SHARD_NODE_INDEX_EPOCH_H

#include <stddef.h>
#include <stdint.h>

#define EPOCH_READERS_MAX 1024

struct epoch;

struct epoch *epoch_create(void);

// Frees what is retired. Nobody may be inside. Sets *epoch to NULL; NULL is allowed.
void epoch_destroy(struct epoch **epoch);

// A reader's place, or -1 when all are taken.
int epoch_take_place(struct epoch *epoch);
void epoch_give_back(struct epoch *epoch, int place);

void epoch_enter(struct epoch *epoch, int place);
void epoch_leave(struct epoch *epoch, int place);

// Calls free_it(owner, memory) when no reader can hold it any more, from this or a later call here.
typedef void (*epoch_free)(void *owner, void *memory);
void epoch_retire(struct epoch *epoch, epoch_free free_it, void *owner, void *memory);

// Frees what can be freed. Returns how much still waits.
size_t epoch_collect(struct epoch *epoch);

// Waits until everything that was retired before is freed, by whomever, and everybody who was
// inside has left. Not inside.
void epoch_wait(struct epoch *epoch);

#endif
