// SPDX-License-Identifier: Apache-2.0
// Whole records of a generation as they are at one moment, while writes go on.
//
// Three iterators over one snapshot of RocksDB walk in step: rows, documents, marks. They pin the
// files they read, so neither compaction nor a drop takes anything away from them. Unlike the walk
// over rows, this one stops at the first damaged record: a copy that lacks records is none.

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include <rocksdb/c.h>

#include "proto/base/hash.h"
#include "proto/base/mem.h"
#include "shard_node/store_internal.h"

#define READAHEAD_BYTES (1u << 20)

struct store_export {
    struct store *store;
    uint32_t generation;
    size_t dimension;
    const rocksdb_snapshot_t *snapshot;
    rocksdb_readoptions_t *options;
    rocksdb_iterator_t *rows;
    rocksdb_iterator_t *documents;
    rocksdb_iterator_t *hidden;
    bool begun;
};

struct store_export *store_export_begin(struct store *store, uint32_t generation, size_t dimension,
                                        struct reason *why)
{
    if (store_enter(store, why) != STATUS_OK)
        return NULL;
    struct store_export *export = mem_alloc(sizeof(*export));
    export->store = store;
    export->generation = generation;
    export->dimension = dimension;
    export->snapshot = rocksdb_create_snapshot(store->db);
    export->options = rocksdb_readoptions_create();
    rocksdb_readoptions_set_snapshot(export->options, export->snapshot);
    rocksdb_readoptions_set_fill_cache(export->options, 0);
    rocksdb_readoptions_set_readahead_size(export->options, READAHEAD_BYTES);
    static const enum store_family families[] = {STORE_VEC, STORE_DOC, STORE_HIDDEN};
    rocksdb_iterator_t **const iterators[] = {&export->rows, &export->documents, &export->hidden};
    char key[STORE_PLACE_BYTES];
    store_encode_place((struct store_place){.generation = generation}, key);
    for (size_t i = 0; i < 3; i++) {
        *iterators[i] =
            rocksdb_create_iterator_cf(store->db, export->options, store->family[families[i]]);
        rocksdb_iter_seek(*iterators[i], key, sizeof(key));
    }
    return export;
}

void store_export_end(struct store_export **export_pointer)
{
    struct store_export *export = *export_pointer;
    if (!export)
        return;
    rocksdb_iter_destroy(export->rows);
    rocksdb_iter_destroy(export->documents);
    rocksdb_iter_destroy(export->hidden);
    rocksdb_readoptions_destroy(export->options);
    rocksdb_release_snapshot(export->store->db, export->snapshot);
    store_leave(export->store);
    mem_free(export);
    *export_pointer = NULL;
}

static enum status iterator_status(rocksdb_iterator_t *at, struct reason *why)
{
    char *error = NULL;
    rocksdb_iter_get_error(at, &error);
    return store_translate(error, "copying records", why);
}

// Where an iterator stands; false at its end.
static bool place_at(rocksdb_iterator_t *at, uint32_t generation, char key[STORE_PLACE_BYTES])
{
    if (!rocksdb_iter_valid(at))
        return false;
    size_t bytes = 0;
    const char *found = rocksdb_iter_key(at, &bytes);
    if (bytes != STORE_PLACE_BYTES || bytes_get_u32_be((const uint8_t *)found) != generation)
        return false;
    memcpy(key, found, bytes);
    return true;
}

static enum status damaged(struct store_place place, const char *what, struct reason *why)
{
    return reason_set(why, STATUS_CORRUPT, "store",
                      "record %016" PRIx64 " of generation %" PRIu32 " %s", place.id,
                      place.generation, what);
}

// Brings documents and marks to the place of the rows.
static enum status follow(struct store_export *export, const char key[STORE_PLACE_BYTES],
                          struct store_record *record, struct reason *why)
{
    char other[STORE_PLACE_BYTES];
    if (export->begun)
        rocksdb_iter_next(export->documents);
    export->begun = true;
    if (!place_at(export->documents, export->generation, other) ||
        memcmp(other, key, STORE_PLACE_BYTES) != 0) {
        const enum status status = iterator_status(export->documents, why);
        return status == STATUS_OK ? damaged(record->place, "has no document", why) : status;
    }
    while (place_at(export->hidden, export->generation, other) &&
           memcmp(other, key, STORE_PLACE_BYTES) < 0)
        rocksdb_iter_next(export->hidden);
    record->hidden = place_at(export->hidden, export->generation, other) &&
                     memcmp(other, key, STORE_PLACE_BYTES) == 0;
    return iterator_status(export->hidden, why);
}

enum status store_export_next(struct store_export *export, struct store_record *record,
                              struct reason *why)
{
    char key[STORE_PLACE_BYTES];
    if (export->begun)
        rocksdb_iter_next(export->rows);
    if (!place_at(export->rows, export->generation, key)) {
        const enum status status = iterator_status(export->rows, why);
        return status == STATUS_OK ? STATUS_NOT_FOUND : status;
    }
    *record = (struct store_record){.dimension = export->dimension};
    const bool sound_key = store_decode_place(key, sizeof(key), &record->place);
    assert(sound_key);
    enum status status = follow(export, key, record, why);
    if (status != STATUS_OK)
        return status;

    struct bytes value;
    value.data = (const uint8_t *)rocksdb_iter_value(export->rows, &value.count);
    const size_t row_bytes = export->dimension * sizeof(uint16_t);
    if (value.count != 2 * row_bytes + STORE_CRC_BYTES)
        return damaged(record->place, "has rows of another length", why);
    record->rows_crc = bytes_get_u32_le(value.data + 2 * row_bytes);
    if (hash_crc32c(0, value.data, 2 * row_bytes) != record->rows_crc)
        return damaged(record->place, "fails its checksum (vec)", why);
    record->image = (const uint16_t *)(const void *)value.data;
    record->text = record->image + export->dimension;

    struct store_document document;
    value.data = (const uint8_t *)rocksdb_iter_value(export->documents, &value.count);
    status = store_decode_document(value, &document);
    if (status != STATUS_OK)
        return damaged(record->place, "fails its checksum (doc)", why);
    record->key = document.key;
    record->caption = document.caption;
    record->source = document.source;
    record->tags = document.tags;
    return STATUS_OK;
}
