// SPDX-License-Identifier: Apache-2.0
// Reading records, walking a generation, reading the log.
//
// Two checksums guard a record: RocksDB's own on every block, ours on every value. A damaged
// block hides all its records from an iterator, which then stands still. The cursor goes on
// behind it by seeking further and further away, so that at most about twice the block is lost;
// ids are spread evenly over 64 bits, so distance in id is distance in records.

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <rocksdb/c.h>

#include "proto/base/hash.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "shard_node/store_internal.h"

#define READAHEAD_BYTES (2u << 20)
#define SKIP_FIRST (1ull << 32) // of 2^64 ids: less than the distance of a billion records
#define LOG_VALUE_BYTES 21

// --- single records

static enum status corrupt_record(struct store *store, struct store_place place, const char *what,
                                  struct reason *why)
{
    (void)atomic_fetch_add_explicit(&store->crc_errors, 1, memory_order_relaxed);
    log_error("record_corrupt", "family=%s generation=%" PRIu32 " vshard=%u id=%016" PRIx64, what,
              place.generation, (unsigned)place.vshard, place.id);
    return reason_set(why, STATUS_CORRUPT, "store",
                      "record %016" PRIx64 " of generation %" PRIu32 " fails its checksum (%s)",
                      place.id, place.generation, what);
}

// Pins a value; the caller destroys *out.
static enum status pin(struct store *store, enum store_family family, struct store_place place,
                       rocksdb_pinnableslice_t **out, struct reason *why)
{
    char key[STORE_PLACE_BYTES];
    store_encode_place(place, key);
    char *error = NULL;
    rocksdb_pinnableslice_t *slice = rocksdb_get_pinned_cf(
        store->db, store->read, store->family[family], key, sizeof(key), &error);
    enum status status = store_translate(error, "reading a record", why);
    if (status == STATUS_CORRUPT)
        return corrupt_record(store, place, store_family_names[family], why);
    if (status != STATUS_OK) {
        log_error("store_read_failed", "generation=%" PRIu32 " id=%016" PRIx64, place.generation,
                  place.id);
        return status;
    }
    if (!slice)
        return STATUS_NOT_FOUND;
    *out = slice;
    return STATUS_OK;
}

static struct bytes value_of(const rocksdb_pinnableslice_t *slice)
{
    size_t bytes = 0;
    const char *data = rocksdb_pinnableslice_value(slice, &bytes);
    return (struct bytes){(const uint8_t *)data, bytes};
}

static bool rows_are_sound(struct bytes value, size_t dimension)
{
    const size_t rows_bytes = 2 * dimension * sizeof(uint16_t);
    return value.count == rows_bytes + STORE_CRC_BYTES &&
           bytes_get_u32_le(value.data + rows_bytes) == hash_crc32c(0, value.data, rows_bytes);
}

enum status store_read_rows(struct store *store, struct store_place place, size_t dimension,
                            uint16_t *rows, struct reason *why)
{
    rocksdb_pinnableslice_t *slice = NULL;
    enum status status = store_enter(store, why);
    if (status != STATUS_OK)
        return status;
    status = pin(store, STORE_VEC, place, &slice, why);
    if (status == STATUS_OK) {
        const struct bytes value = value_of(slice);
        if (rows_are_sound(value, dimension))
            memcpy(rows, value.data, value.count - STORE_CRC_BYTES);
        else
            status = corrupt_record(store, place, "vec", why);
        rocksdb_pinnableslice_destroy(slice);
    }
    store_leave(store);
    return status;
}

// A copy of the value with its checksum, in the arena.
static enum status copy_value(struct store *store, enum store_family family,
                              struct store_place place, struct arena *arena, struct bytes *out,
                              struct reason *why)
{
    rocksdb_pinnableslice_t *slice = NULL;
    enum status status = store_enter(store, why);
    if (status != STATUS_OK)
        return status;
    status = pin(store, family, place, &slice, why);
    if (status == STATUS_OK) {
        const struct bytes value = value_of(slice);
        const char *copy = arena_copy_text(arena, (const char *)value.data, value.count);
        rocksdb_pinnableslice_destroy(slice);
        if (copy)
            *out = (struct bytes){(const uint8_t *)copy, value.count};
        else
            status = reason_set(why, STATUS_NO_MEMORY, "ids", "the documents do not fit one reply");
    }
    store_leave(store);
    return status;
}

enum status store_read_document(struct store *store, struct store_place place, struct arena *arena,
                                struct store_document *out, struct reason *why)
{
    struct bytes value = {0};
    const enum status status = copy_value(store, STORE_DOC, place, arena, &value, why);
    if (status != STATUS_OK)
        return status;
    return store_decode_document(value, out) == STATUS_OK
               ? STATUS_OK
               : corrupt_record(store, place, "doc", why);
}

enum status store_read_key(struct store *store, struct store_place place, struct arena *arena,
                           struct text *out, struct reason *why)
{
    struct bytes value = {0};
    const enum status status = copy_value(store, STORE_KEY, place, arena, &value, why);
    if (status != STATUS_OK)
        return status;
    if (value.count < STORE_CRC_BYTES)
        return corrupt_record(store, place, "key", why);
    const size_t bytes = value.count - STORE_CRC_BYTES;
    if (bytes_get_u32_le(value.data + bytes) != hash_crc32c(0, value.data, bytes))
        return corrupt_record(store, place, "key", why);
    *out = (struct text){(const char *)value.data, bytes};
    return STATUS_OK;
}

// --- a whole generation

struct store_cursor {
    struct store *store;
    rocksdb_readoptions_t *options;
    rocksdb_iterator_t *at; // NULL: the store could not be entered
    uint32_t generation;
    uint32_t end; // vshards from here on are not walked over
    size_t dimension;
    struct store_place seen; // last place walked over
    bool fresh;              // `at` stands on a record not yet returned
};

static void seek(struct store_cursor *cursor, struct store_place place)
{
    char key[STORE_PLACE_BYTES];
    store_encode_place(place, key);
    rocksdb_iter_seek(cursor->at, key, sizeof(key));
    cursor->fresh = true;
}

// From `begin` on, up to but not including vshard `end` of its generation.
static struct store_cursor *begin_walk(struct store *store, enum store_family family,
                                       struct store_place begin, uint32_t end)
{
    struct store_cursor *cursor = mem_alloc(sizeof(*cursor));
    if (store_enter(store, NULL) != STATUS_OK)
        return cursor;
    cursor->store = store;
    cursor->generation = begin.generation;
    cursor->end = end;
    cursor->seen = begin;
    cursor->options = rocksdb_readoptions_create();
    rocksdb_readoptions_set_fill_cache(cursor->options, 0);
    rocksdb_readoptions_set_readahead_size(cursor->options, READAHEAD_BYTES);
    cursor->at = rocksdb_create_iterator_cf(store->db, cursor->options, store->family[family]);
    seek(cursor, cursor->seen);
    return cursor;
}

struct store_cursor *store_cursor_begin(struct store *store, uint32_t generation, size_t dimension)
{
    struct store_cursor *cursor =
        begin_walk(store, STORE_VEC, (struct store_place){.generation = generation}, UINT32_MAX);
    cursor->dimension = dimension;
    return cursor;
}

struct store_cursor *store_cursor_begin_documents(struct store *store, uint32_t generation,
                                                  uint32_t first, uint32_t end)
{
    assert(first < end && end <= VSHARDS_MAX);

    const struct store_place begin = {.generation = generation, .vshard = (uint16_t)first};
    return begin_walk(store, STORE_DOC, begin, end);
}

void store_cursor_end(struct store_cursor **cursor)
{
    if (!*cursor)
        return;
    if ((*cursor)->at) {
        rocksdb_iter_destroy((*cursor)->at);
        rocksdb_readoptions_destroy((*cursor)->options);
        store_leave((*cursor)->store);
    }
    mem_free(*cursor);
    *cursor = NULL;
}

static bool iterator_is_damaged(struct store_cursor *cursor)
{
    char *error = NULL;
    rocksdb_iter_get_error(cursor->at, &error);
    const bool damaged = error && strncmp(error, "Corruption", 10) == 0;
    rocksdb_free(error);
    return damaged;
}

// Seeks behind a damaged block, at most to the end of the generation.
static void skip_damage(struct store_cursor *cursor)
{
    struct store_place target = cursor->seen;
    uint64_t step = SKIP_FIRST;
    for (int tries = 0; tries < 64 * 4; tries++) { // each vshard ends after 33 of them
        if (target.id > UINT64_MAX - step) {
            if (target.vshard == UINT16_MAX)
                break;
            target.vshard++;
            target.id = 0;
            step = SKIP_FIRST;
        } else {
            target.id += step;
            step = step > UINT64_MAX / 2 ? step : step * 2;
        }
        seek(cursor, target);
        if (!iterator_is_damaged(cursor))
            break;
    }
    log_error("records_lost",
              "generation=%" PRIu32 " from_vshard=%u from_id=%016" PRIx64 " to_vshard=%u "
              "to_id=%016" PRIx64,
              cursor->generation, (unsigned)cursor->seen.vshard, cursor->seen.id,
              (unsigned)target.vshard, target.id);
    cursor->seen = target;
}

static enum status end_of_walk(struct store_cursor *cursor, struct reason *why)
{
    if (iterator_is_damaged(cursor)) {
        skip_damage(cursor);
        return reason_set(why, STATUS_CORRUPT, "store",
                          "a damaged block hides records of generation %" PRIu32,
                          cursor->generation);
    }
    char *error = NULL;
    rocksdb_iter_get_error(cursor->at, &error);
    const enum status status = store_translate(error, "walking over the rows", why);
    return status == STATUS_OK ? STATUS_NOT_FOUND : status;
}

// The next key and value of the generation, as the cursors of both families need it.
static enum status advance(struct store_cursor *cursor, struct bytes *value, struct reason *why)
{
    if (!cursor->at)
        return reason_set(why, STATUS_UNAVAILABLE, "store", "the store is not open");
    if (!cursor->fresh && rocksdb_iter_valid(cursor->at))
        rocksdb_iter_next(cursor->at);
    cursor->fresh = false;
    if (!rocksdb_iter_valid(cursor->at))
        return end_of_walk(cursor, why);

    size_t bytes = 0;
    const char *key = rocksdb_iter_key(cursor->at, &bytes);
    struct store_place place;
    if (!store_decode_place(key, bytes, &place))
        return reason_set(why, STATUS_CORRUPT, "store", "a key has %zu bytes, not %d", bytes,
                          STORE_PLACE_BYTES);
    if (place.generation != cursor->generation || place.vshard >= cursor->end)
        return STATUS_NOT_FOUND;

    cursor->seen = place;
    value->data = (const uint8_t *)rocksdb_iter_value(cursor->at, &value->count);
    return STATUS_OK;
}

enum status store_cursor_next(struct store_cursor *cursor, struct store_cursor_row *row,
                              struct reason *why)
{
    struct bytes value = {0};
    const enum status status = advance(cursor, &value, why);
    row->place = cursor->seen;
    if (status != STATUS_OK)
        return status;
    if (!rows_are_sound(value, cursor->dimension))
        return corrupt_record(cursor->store, cursor->seen, "vec", why);
    row->rows = (const uint16_t *)(const void *)value.data;
    row->crc = bytes_get_u32_le(value.data + value.count - STORE_CRC_BYTES);
    return STATUS_OK;
}

enum status store_cursor_next_document(struct store_cursor *cursor, uint64_t *id,
                                       struct store_document *document, struct reason *why)
{
    struct bytes value = {0};
    const enum status status = advance(cursor, &value, why);
    if (status != STATUS_OK)
        return status;
    *id = cursor->seen.id;
    return store_decode_document(value, document) == STATUS_OK
               ? STATUS_OK
               : corrupt_record(cursor->store, cursor->seen, "doc", why);
}

// --- what is hidden

static enum status see_hidden(struct store *store, rocksdb_iterator_t *at, struct store_place place,
                              struct reason *why)
{
    char key[STORE_PLACE_BYTES];
    size_t bytes = 0;
    const uint8_t *crc = (const uint8_t *)rocksdb_iter_value(at, &bytes);
    store_encode_place(place, key);
    if (bytes != STORE_CRC_BYTES || bytes_get_u32_le(crc) != hash_crc32c(0, key, sizeof(key)))
        return corrupt_record(store, place, store_family_names[STORE_HIDDEN], why);
    return STATUS_OK;
}

enum status store_read_hidden(struct store *store, struct store_place place, bool *hidden,
                              struct reason *why)
{
    struct arena *arena = arena_create(1024);
    struct bytes value = {0};
    const enum status status = copy_value(store, STORE_HIDDEN, place, arena, &value, why);
    arena_destroy(&arena);
    if (status != STATUS_OK && status != STATUS_NOT_FOUND)
        return status;
    *hidden = status == STATUS_OK;
    return STATUS_OK;
}

enum status store_list_hidden(struct store *store, uint32_t generation, store_hidden_seen seen,
                              void *context, struct reason *why)
{
    char key[STORE_PLACE_BYTES];
    store_encode_place((struct store_place){.generation = generation}, key);
    rocksdb_iterator_t *at =
        rocksdb_create_iterator_cf(store->db, store->read, store->family[STORE_HIDDEN]);
    rocksdb_iter_seek(at, key, sizeof(key));
    enum status status = STATUS_OK;
    while (status == STATUS_OK && rocksdb_iter_valid(at)) {
        size_t bytes = 0;
        struct store_place place;
        const char *found = rocksdb_iter_key(at, &bytes);
        if (!store_decode_place(found, bytes, &place))
            status = reason_set(why, STATUS_CORRUPT, "store", "a key has %zu bytes, not %d", bytes,
                                STORE_PLACE_BYTES);
        else if (place.generation != generation)
            break;
        else
            status = see_hidden(store, at, place, why);
        if (status == STATUS_OK)
            seen(context, place.id);
        rocksdb_iter_next(at);
    }
    char *error = NULL;
    rocksdb_iter_get_error(at, &error);
    rocksdb_iter_destroy(at);
    const enum status walked = store_translate(error, "listing what is hidden", why);
    return status == STATUS_OK ? walked : status;
}

// --- the log

static bool decode_log(const char *key, size_t key_bytes, struct bytes value,
                       struct store_log_record *out)
{
    struct store_place place;
    if (!store_decode_place(key, key_bytes, &place) || value.count != LOG_VALUE_BYTES)
        return false;
    const uint32_t crc = hash_crc32c(hash_crc32c(0, key, key_bytes), value.data, 17);
    if (bytes_get_u32_le(value.data + 17) != crc)
        return false;
    *out = (struct store_log_record){.generation = place.generation,
                                     .vshard = place.vshard,
                                     .sequence = place.id,
                                     .epoch = bytes_get_u32_le(value.data),
                                     .operation = (enum store_operation)value.data[4],
                                     .id = bytes_get_u64_le(value.data + 5),
                                     .rows_crc = bytes_get_u32_le(value.data + 13)};
    return out->operation >= STORE_PUT && out->operation <= STORE_UNHIDE;
}

struct log_walk {
    struct store *store;
    rocksdb_iterator_t *at;
    store_log_seen seen;
    void *context;
    bool ended;
};

// The log of one vshard from `from` on.
static enum status read_log_of(struct log_walk *walk, struct store_place from, struct reason *why)
{
    char key[STORE_PLACE_BYTES];
    store_encode_place(from, key);
    rocksdb_iter_seek(walk->at, key, sizeof(key));
    while (!walk->ended && rocksdb_iter_valid(walk->at)) {
        size_t key_bytes = 0;
        const char *at = rocksdb_iter_key(walk->at, &key_bytes);
        if (key_bytes < 6 || memcmp(at, key, 6) != 0)
            break;
        struct bytes value;
        value.data = (const uint8_t *)rocksdb_iter_value(walk->at, &value.count);
        struct store_log_record record;
        if (!decode_log(at, key_bytes, value, &record))
            return reason_set(why, STATUS_CORRUPT, "store",
                              "the log of generation %" PRIu32 ", vshard %u is damaged",
                              from.generation, (unsigned)from.vshard);
        walk->ended = !walk->seen(walk->context, &record);
        rocksdb_iter_next(walk->at);
    }
    char *error = NULL;
    rocksdb_iter_get_error(walk->at, &error);
    return store_translate(error, "reading the log", why);
}

enum status store_read_log(struct store *store, const struct store_generation *generation,
                           uint64_t after, store_log_seen seen, void *context, struct reason *why)
{
    assert(after < UINT64_MAX);

    struct log_walk walk = {
        .store = store,
        .at = rocksdb_create_iterator_cf(store->db, store->read, store->family[STORE_LOG]),
        .seen = seen,
        .context = context};
    struct store_place from = {generation->number, STORE_LOG_ALL, after + 1};
    enum status status = read_log_of(&walk, from, why);
    for (uint32_t i = 0; i < generation->own_count && status == STATUS_OK && !walk.ended; i++) {
        from.vshard = generation->own[i];
        status = read_log_of(&walk, from, why);
    }
    rocksdb_iter_destroy(walk.at);
    return status;
}
