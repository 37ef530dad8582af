// SPDX-License-Identifier: Apache-2.0
// lists.h - inverted lists that readers follow without locks.
//
// What a reader sees of a list never changes: a list that grows becomes a new head, which shares
// the full blocks of the old one and has a copy of the last. The new head is published by one
// store; the old one and the old last block are retired (epoch.h). Extra parts are not copied:
// places behind the count of a head are not read through it, so the next vectors are written there.
//
// Thread-safety: one thread changes a list at a time; reading by any thread inside an epoch.

#ifndef RECO_SHARD_NODE_INDEX_LISTS_H
#define RECO_SHARD_NODE_INDEX_LISTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shard_node/index/blocks.h"
#include "shard_node/index/codes.h"
#include "shard_node/index/epoch.h"

struct list_block {
    void *codes;
    void *extra; // NULL without extra bits
};

struct list {
    uint32_t count; // vectors; the last block may have room
    uint32_t block_count;
    struct list_block blocks[];
};

// Where a leaf of the tree keeps its list. NULL is an empty one.
struct list_cell {
    _Atomic(struct list *) list;
    uint32_t number;    // of the list, for whoever made the tree
    uint32_t undivided; // live vectors it had when it could not be split; the writer's
};

// What the lists of one index are made of.
struct lists {
    struct codes_shape shape;
    struct epoch *epoch;
    struct blocks *codes;
    struct blocks *extras;    // NULL without extra bits
    const uint8_t *map_begin; // blocks in here belong to a mapped file
    const uint8_t *map_end;
};

// NULL when there is no memory. A new head with room for `more` vectors behind those of `old`,
// which may be NULL; its count is still the old one. Publish it with lists_publish().
struct list *lists_grow(struct lists *lists, const struct list *old, uint32_t more);

// A list of `count` vectors, at least 1, whose blocks, and behind them their extra parts, lie one
// after the other at `memory` in the map. NULL when there is no memory.
struct list *lists_map(const struct lists *lists, uint8_t *memory, uint32_t count);

// Shows the grown list to readers and retires what was only the old one's.
void lists_publish(struct lists *lists, struct list_cell *cell, struct list *grown);

// Frees what lists_grow() has made of `old` when it is not published after all.
void lists_abandon(struct lists *lists, const struct list *old, struct list *grown);

// Appends vector `at` of a list to one that has room for it.
void lists_copy(const struct lists *lists, const struct list *from, uint32_t at, struct list *to);

// Gives back blocks that nothing was put into. For a list that nobody sees yet.
void lists_trim(struct lists *lists, struct list *list);

// blocks_shrink() of both pools.
bool lists_shrink(struct lists *lists);

// Whether a list, which may be NULL, has blocks in a closing slab: written anew it has none.
bool lists_is_leaving(const struct lists *lists, const struct list *list);

// Frees a whole list at once, or when no reader can see it any more.
void lists_free(struct lists *lists, struct list *list);
void lists_retire(struct lists *lists, struct list *list);

#endif
