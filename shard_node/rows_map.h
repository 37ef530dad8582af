// SPDX-License-Identifier: Apache-2.0
// rows_map.h - from a record's id to its slot: open addressing over 4-byte slots.
//
// The map stores slots only; the ids stand in the table of slots that every call is given. 100
// million records take 1 GiB.
//
// Thread-safety: none. rows.c locks.

#ifndef RECO_SHARD_NODE_ROWS_MAP_H
#define RECO_SHARD_NODE_ROWS_MAP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/status.h"

#define ROWS_MAP_NONE UINT32_MAX

// What rows keep about a slot, in memory and in the file `slots`. 16 bytes.
struct rows_slot {
    uint64_t id;
    uint32_t crc;     // CRC-32C of the image row and the text row
    float pair_score; // their inner product
};

// A bit for each slot, which others may change meanwhile.
static inline bool rows_bit(const _Atomic uint64_t *bits, uint32_t slot)
{
    return (atomic_load_explicit(&bits[slot / 64], memory_order_acquire) >> (slot % 64) & 1) != 0;
}

struct rows_map {
    uint32_t *buckets;   // slot + 1; 0 is empty
    size_t bucket_count; // a power of two, or 0
    size_t used;
};

// Makes `to` a copy of `from` with room for `more` further slots. STATUS_NO_MEMORY, `to` unchanged.
enum status rows_map_grow(const struct rows_map *from, size_t more, const struct rows_slot *slots,
                          struct rows_map *to) MUST_CHECK;
bool rows_map_has_room(const struct rows_map *map, size_t more);
void rows_map_deinit(struct rows_map *map);

// The slot of an id; ROWS_MAP_NONE.
uint32_t rows_map_find(const struct rows_map *map, uint64_t id, const struct rows_slot *slots);

// The same for many, sooner: what they need of the memory is asked for together.
void rows_map_find_many(const struct rows_map *map, const uint64_t *ids, size_t count,
                        const struct rows_slot *slots, uint32_t *out);

// Puts a slot in place of the one its id had; returns that one or ROWS_MAP_NONE. There must be
// room.
uint32_t rows_map_put(struct rows_map *map, uint32_t slot, const struct rows_slot *slots);

// Returns the slot the id had, or ROWS_MAP_NONE.
uint32_t rows_map_remove(struct rows_map *map, uint64_t id, const struct rows_slot *slots);

#endif
