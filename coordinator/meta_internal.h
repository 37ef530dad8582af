// SPDX-License-Identifier: Apache-2.0
// meta_internal.h - what meta.c and meta_alias.c share: the table and its changes.
//
// Thread-safety: none.

#ifndef RECO_COORDINATOR_META_INTERNAL_H
#define RECO_COORDINATOR_META_INTERNAL_H

#include <stdbool.h>

#include "coordinator/meta.h"

#define META_PATH_BYTES 4352 // the longest data directory and "/meta.json"

struct meta_alias {
    char name[MEMORY_NAME_BYTES_MAX + 1];
    char memory[MEMORY_NAME_BYTES_MAX + 1]; // the name that it follows, or empty:
    uint32_t generation;                    // what it points at
};

struct meta_table {
    uint32_t next;  // number of the next generation
    uint32_t count; // generations, 0..META_GENERATIONS_MAX
    uint32_t alias_count;
    struct meta_generation *generations; // [count], sorted by memory, then number
    struct meta_alias *aliases;          // [alias_count]; memories' own names and others
};

struct meta {
    char path[META_PATH_BYTES]; // of meta.json; empty without a data directory
    struct meta_table table;
};

bool meta_is_name(struct text name);

// Splits NAME or NAME@GENERATION; *number is 0 without one.
enum status meta_split_name(struct text full, struct text *name, uint32_t *number,
                            struct reason *why) MUST_CHECK;

struct meta_generation *meta_table_at(const struct meta_table *table, uint32_t number);
struct meta_alias *meta_table_alias(const struct meta_table *table, struct text name);
bool meta_table_is_memory(const struct meta_table *table, struct text name); // in any state
uint32_t meta_table_target(const struct meta_table *table, const struct meta_alias *alias);

// A change is made on a copy, which has room for one more of each; meta_commit() writes it and puts
// it in the table's place, or drops it.
struct meta_table meta_table_copy(const struct meta_table *table);
void meta_table_deinit(struct meta_table *table);
enum status meta_commit(struct meta *meta, struct meta_table *next, struct reason *why) MUST_CHECK;

// STATUS_FAILED_PRECONDITION naming the alias that a drop of NAME (number 0) or of one generation
// would leave without anything to point at.
enum status meta_check_drop(const struct meta *meta, struct text name, uint32_t number,
                            struct reason *why) MUST_CHECK;

#endif
