// SPDX-License-Identifier: Apache-2.0
// shelf.h - the generations that a node holds, each with its rows.
//
// A generation stays alive while somebody has acquired it, also when it is dropped meanwhile: a
// search that began before the drop ends on the rows it began with.
//
// Thread-safety: acquire, release, find, epoch and totals by any thread; all else by the writer.

#ifndef RECO_SHARD_NODE_SHELF_H
#define RECO_SHARD_NODE_SHELF_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/limits.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "shard_node/rows.h"
#include "shard_node/shelf_index.h"
#include "shard_node/store.h"
#include "shard_node/tags.h"

#define SHELF_GENERATIONS_MAX 4096 // alive and dropped
// Dead slots that make an opening write the rows anew: more than a quarter, and worth it.
#define SHELF_COMPACT_SHARE 4
#define SHELF_COMPACT_SLOTS 4096
// Records behind a checkpoint that an opening looks up one by one; for more the rows are made anew.
#define SHELF_TOUCHED_MAX 1000000u
#define SHELF_CHECKPOINT_RECORDS 50000u // written or deleted between two checkpoints

#define SHELF_PATH_BYTES 4160

struct shelf;

// What a bulk load has come to since its last commit.
struct shelf_bulk {
    uint64_t stored;
    uint64_t duplicates;
    enum status failed; // a buffer was lost, and the commit must say so
    struct reason why;
};

struct shelf_generation {
    struct store_generation about; // `own` ascending
    struct rows *rows;
    struct tags *tags;
    struct shelf_index index[2]; // by enum modality; the indexer's
    atomic_bool is_dropped;      // off the shelf: who works for the future of it may stop
    uint64_t changes;            // writer's: since the last checkpoint
    struct shelf_bulk bulk;      // writer's
    uint32_t references;         // the shelf's
    struct shelf_generation *next;
};

// Opens all generations of the store below `directory`, bringing rows up to what the store has, or
// making them anew where they are missing, damaged or too far behind. The store must outlive it.
enum status shelf_open(struct store *store, const char *directory, struct shelf **out,
                       struct reason *why) MUST_CHECK;

// Everything acquired must have been released. Sets *shelf to NULL; NULL is allowed.
void shelf_close(struct shelf **shelf);

// Writes the path of a file beside the rows of a generation.
void shelf_path(const struct shelf *shelf, uint32_t number, const char *name,
                char path[SHELF_PATH_BYTES]);

// NULL when there is no such generation (any more).
struct shelf_generation *shelf_acquire(struct shelf *shelf, uint32_t number);
void shelf_release(struct shelf *shelf, struct shelf_generation **generation);

// The one with the lowest number above `number`; NULL when there is none.
struct shelf_generation *shelf_acquire_after(struct shelf *shelf, uint32_t number);

// Of all indexes; outlives them.
struct epoch *shelf_epoch(const struct shelf *shelf);

bool shelf_owns(const struct shelf_generation *generation, uint32_t vshard);

// Whether the number was used and dropped.
bool shelf_was_dropped(struct shelf *shelf, uint32_t number);

// Begins a generation with empty rows; the store does not know it yet.
enum status shelf_add(struct shelf *shelf, const struct store_generation *about,
                      struct reason *why) MUST_CHECK;

// Takes it off the shelf and remembers that the number was dropped, if it was; files go when nobody
// uses them any more. Returns how many records it had.
uint64_t shelf_remove(struct shelf *shelf, uint32_t number, bool dropped);

// Shows records to searches: their tags (joined, parallel to the items), then their rows. As
// rows_append(); after a failure nothing may be appended any more.
enum status shelf_append(struct shelf_generation *generation, const struct rows_item *items,
                         const struct text *tags, size_t count, struct reason *why) MUST_CHECK;

// Makes the rows of a generation survive a crash as they are now; with `always` false only when
// SHELF_CHECKPOINT_RECORDS changed.
enum status shelf_checkpoint(struct shelf *shelf, struct shelf_generation *generation, bool always,
                             struct reason *why) MUST_CHECK;

// All generations that changed.
enum status shelf_checkpoint_all(struct shelf *shelf, struct reason *why) MUST_CHECK;

// After store_reopen(): brings what was not finished up to the store, from the log behind sequence
// `after`: generations, records, a bulk load. May be repeated after a failure. STATUS_EXHAUSTED
// when the disk has no space for the rows.
enum status shelf_follow(struct shelf *shelf, uint64_t after, struct reason *why) MUST_CHECK;

void shelf_totals(struct shelf *shelf, uint64_t *records, uint64_t *rows_bytes);
uint64_t shelf_memory(struct shelf *shelf); // rows and what finds them, indexes too

struct shelf_index_totals {
    uint64_t rows;    // slots that indexes cover
    uint64_t waiting; // slots behind them
    uint64_t lists;
    uint64_t bytes;
};
void shelf_index_add_up(struct shelf *shelf, struct shelf_index_totals *out);

// For shelf_fill.c: rows with everything that the store has, by whichever way is shortest.
enum status shelf_fill(struct store *store, const struct store_generation *about,
                       const char *directory, struct rows **out, struct reason *why) MUST_CHECK;

// For shelf_follow(): the same for rows that are in use.
enum status shelf_catch_up(struct store *store, const struct store_generation *about,
                           struct rows *rows, uint64_t after, struct reason *why) MUST_CHECK;

// The tags of all records that the rows have, from their documents.
enum status shelf_fill_tags(struct store *store, const struct store_generation *about,
                            struct rows *rows, struct tags **out, struct reason *why) MUST_CHECK;

#endif
