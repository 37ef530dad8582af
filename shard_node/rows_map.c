// SPDX-License-Identifier: Apache-2.0
// Linear probing, at most 70 % full. An id is a hash already, but its low bits choose the vshard
// and with it the node, so buckets are taken from a multiplication's high bits. Removal moves
// later entries of the run back (no tombstones), so that a run never holds a hole.

#include "shard_node/rows_map.h"

#include <assert.h>
#include <string.h>

#include "proto/base/mem.h"

#define FIRST_BUCKETS 1024u
#define SPREAD 0x9E3779B97F4A7C15u // 2^64 / golden ratio

static size_t bucket_of(const struct rows_map *map, uint64_t id)
{
    const int bits = __builtin_ctzll(map->bucket_count);
    return (size_t)((id * SPREAD) >> (64 - bits));
}

static size_t next_of(const struct rows_map *map, size_t bucket)
{
    return (bucket + 1) & (map->bucket_count - 1);
}

bool rows_map_has_room(const struct rows_map *map, size_t more)
{
    return more <= map->bucket_count && map->used + more <= map->bucket_count / 10 * 7;
}

enum status rows_map_grow(const struct rows_map *from, size_t more, const struct rows_slot *slots,
                          struct rows_map *to)
{
    struct rows_map map = {.bucket_count = from->bucket_count ? from->bucket_count : FIRST_BUCKETS,
                           .used = from->used};
    while (!rows_map_has_room(&map, more)) {
        if (!mem_multiply(map.bucket_count, 2, &map.bucket_count))
            return STATUS_NO_MEMORY;
    }
    map.buckets = mem_try_alloc_array(map.bucket_count, sizeof(*map.buckets));
    if (!map.buckets)
        return STATUS_NO_MEMORY;
    memset(map.buckets, 0, map.bucket_count * sizeof(*map.buckets));

    map.used = 0;
    for (size_t b = 0; b < from->bucket_count; b++) {
        if (from->buckets[b] != 0)
            rows_map_put(&map, from->buckets[b] - 1, slots);
    }
    *to = map;
    return STATUS_OK;
}

void rows_map_deinit(struct rows_map *map)
{
    mem_free(map->buckets);
    *map = (struct rows_map){0};
}

// The bucket that holds the id, or the empty one where it would be.
static size_t probe(const struct rows_map *map, uint64_t id, const struct rows_slot *slots)
{
    size_t bucket = bucket_of(map, id);
    while (map->buckets[bucket] != 0 && slots[map->buckets[bucket] - 1].id != id)
        bucket = next_of(map, bucket);
    return bucket;
}

uint32_t rows_map_find(const struct rows_map *map, uint64_t id, const struct rows_slot *slots)
{
    if (map->bucket_count == 0)
        return ROWS_MAP_NONE;
    const uint32_t stored = map->buckets[probe(map, id, slots)];
    return stored == 0 ? ROWS_MAP_NONE : stored - 1;
}

void rows_map_find_many(const struct rows_map *map, const uint64_t *ids, size_t count,
                        const struct rows_slot *slots, uint32_t *out)
{
    for (size_t i = 0; i < count && map->bucket_count > 0; i++)
        __builtin_prefetch(&map->buckets[bucket_of(map, ids[i])]);
    for (size_t i = 0; i < count && map->bucket_count > 0; i++) {
        const uint32_t stored = map->buckets[bucket_of(map, ids[i])];
        if (stored != 0)
            __builtin_prefetch(&slots[stored - 1].id);
    }
    for (size_t i = 0; i < count; i++)
        out[i] = rows_map_find(map, ids[i], slots);
}

uint32_t rows_map_put(struct rows_map *map, uint32_t slot, const struct rows_slot *slots)
{
    assert(rows_map_has_room(map, 0) && slot < ROWS_MAP_NONE);

    const size_t bucket = probe(map, slots[slot].id, slots);
    const uint32_t stored = map->buckets[bucket];
    map->buckets[bucket] = slot + 1;
    if (stored != 0)
        return stored - 1;
    map->used++;
    return ROWS_MAP_NONE;
}

uint32_t rows_map_remove(struct rows_map *map, uint64_t id, const struct rows_slot *slots)
{
    if (map->bucket_count == 0)
        return ROWS_MAP_NONE;
    size_t hole = probe(map, id, slots);
    const uint32_t stored = map->buckets[hole];
    if (stored == 0)
        return ROWS_MAP_NONE;

    // Whoever would be found no more once the hole is empty moves into it.
    for (size_t at = next_of(map, hole); map->buckets[at] != 0; at = next_of(map, at)) {
        const size_t home = bucket_of(map, slots[map->buckets[at] - 1].id);
        const size_t mask = map->bucket_count - 1;
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            map->buckets[hole] = map->buckets[at];
            hole = at;
        }
    }
    map->buckets[hole] = 0;
    map->used--;
    return stored - 1;
}
