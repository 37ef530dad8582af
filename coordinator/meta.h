// SPDX-License-Identifier: Apache-2.0
// meta.h - which memories there are: names, generations, states, spaces; kept in meta.json.
//
// A memory's name points (as an alias) at one serving generation. Others of the same name may stand
// beside it: one that is being built, older ones, ones that are being dropped. Numbers of
// generations are handed out once and never again, also after a crash.
//
//   meta_reserve -> meta_add(BUILDING or RESTORING) -> meta_serve -> meta_drop -> meta_remove
//                \-> meta_add(SERVING) ------------------------------/
//
// Every change is on disk before its function returns; after a failure nothing has changed.
//
// Thread-safety: none; the loop thread makes every call.

#ifndef RECO_COORDINATOR_META_H
#define RECO_COORDINATOR_META_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/bytes.h"
#include "proto/base/limits.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"

#define META_GENERATIONS_MAX 4096
#define META_ALIASES_MAX 4096 // names of all kinds
#define META_NAME_DEFAULT "default"

struct meta;

enum meta_state {
    META_BUILDING, // invisible to queries
    META_SERVING,
    META_DROPPING,  // invisible to all but a repeated drop
    META_RESTORING, // invisible, and written by a restore alone
};

struct meta_generation {
    uint32_t number; // from 1
    enum meta_state state;
    char memory[MEMORY_NAME_BYTES_MAX + 1];
    char space[SPACE_BYTES_MAX + 1];
    uint32_t dimension;
    uint32_t vshards;
    uint64_t changes; // writes and deletes since this program began; not on disk
    uint64_t shown;   // records that the latest search of all could find; 0: not known; not on disk
};

// What a name is looked up for.
enum meta_use {
    META_FOR_QUERY,    // must be serving
    META_FOR_WRITE,    // serving, or else being built
    META_FOR_DESCRIBE, // the same, and a pinned one in any state
    META_FOR_RESTORE,  // a pinned one that is being restored
};

// Reads DIRECTORY/meta.json; without that file, or with `directory` NULL, there are no memories
// (and with NULL none can be added). STATUS_CORRUPT naming what is wrong,
// STATUS_FAILED_PRECONDITION for a newer format, STATUS_IO.
enum status meta_open(const char *directory, struct meta **out, struct reason *why) MUST_CHECK;
void meta_close(struct meta **meta); // NULL is allowed

// "building", "serving", "dropping", "restoring".
const char *meta_state_name(enum meta_state state);

// STATUS_INVALID unless 1..MEMORY_NAME_BYTES_MAX letters, digits, '.', '_', '-', the first a
// letter or digit.
enum status meta_check_name(struct text name, struct reason *why) MUST_CHECK;

// Reads the dimension of a space "NAME:DIMENSION". STATUS_INVALID.
enum status meta_parse_space(struct text space, uint32_t *dimension, struct reason *why) MUST_CHECK;

// Copies what `name` (NAME, NAME@GENERATION, empty for "default") means. STATUS_NOT_FOUND;
// STATUS_INVALID for what is no name; STATUS_FAILED_PRECONDITION for a pinned generation that is
// not in a state for this use.
enum status meta_find(const struct meta *meta, struct text name, enum meta_use use,
                      struct meta_generation *out, struct reason *why) MUST_CHECK;

// The generation of `memory` that is being built. STATUS_NOT_FOUND.
enum status meta_find_building(const struct meta *meta, struct text memory,
                               struct meta_generation *out) MUST_CHECK;

// Numbers of the generations that a drop of NAME or NAME@GENERATION means, at most
// META_GENERATIONS_MAX of them. STATUS_NOT_FOUND, STATUS_INVALID, STATUS_FAILED_PRECONDITION for an
// alias, and naming the alias that would be left without anything to point at.
enum status meta_find_drop(const struct meta *meta, struct text name, uint32_t *numbers,
                           size_t *count, struct reason *why) MUST_CHECK;

// All generations, sorted by name, then number; *out is valid until the next change.
size_t meta_list(const struct meta *meta, const struct meta_generation **out);

// NULL when there is none of that number; valid until the next change.
const struct meta_generation *meta_at(const struct meta *meta, uint32_t number);

// --- aliases (meta_alias.c)

// Points `alias` at NAME, which it follows, or at NAME@GENERATION; both must serve and *out is what
// it means now. A memory's own name can be pointed at a generation of its own: that rolls it back.
// STATUS_INVALID, STATUS_NOT_FOUND, STATUS_ALREADY_EXISTS for another memory's name, STATUS_IO.
enum status meta_point(struct meta *meta, struct text alias, struct text target,
                       struct meta_generation *out, struct reason *why) MUST_CHECK;

// Removes an alias; *out is what it pointed at. STATUS_NOT_FOUND; STATUS_FAILED_PRECONDITION for a
// memory's own name.
enum status meta_unpoint(struct meta *meta, struct text alias, struct meta_generation *out,
                         struct reason *why) MUST_CHECK;

bool meta_is_alias(const struct meta *meta, struct text name); // and no memory's own name

// Names that point at a generation, its memory's own too; valid until the next change.
size_t meta_names(const struct meta *meta, uint32_t number, struct text *out, size_t room);

// --- changes

// Hands out the next number. STATUS_EXHAUSTED, STATUS_IO.
enum status meta_reserve(struct meta *meta, uint32_t *number, struct reason *why) MUST_CHECK;

// Adds a generation with a reserved number. A SERVING one takes the name.
// STATUS_EXHAUSTED beyond META_GENERATIONS_MAX, STATUS_IO.
enum status meta_add(struct meta *meta, const struct meta_generation *generation,
                     struct reason *why) MUST_CHECK;

// A built generation serves from now on and takes the name; one that serves already changes
// nothing. STATUS_NOT_FOUND, STATUS_IO.
enum status meta_serve(struct meta *meta, uint32_t number, struct reason *why) MUST_CHECK;

// Makes it invisible; the name falls back to the newest other serving generation, if any.
enum status meta_drop(struct meta *meta, uint32_t number, struct reason *why) MUST_CHECK;

// Forgets a dropped generation.
enum status meta_remove(struct meta *meta, uint32_t number, struct reason *why) MUST_CHECK;

// Counts a write; what was derived from the generation's records is stale now. Not on disk.
void meta_touch(struct meta *meta, uint32_t number);

// Keeps how many records a search of all could find. Not on disk.
void meta_set_shown(struct meta *meta, uint32_t number, uint64_t shown);

#endif
