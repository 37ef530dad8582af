// SPDX-License-Identifier: Apache-2.0
// Formats of records and batches of single writes.
//
// A batch takes its sequence numbers when records are added, counted from the last durable
// one: there is one writer, so nobody else takes them meanwhile.

#include <assert.h>
#include <string.h>

#include <rocksdb/c.h>

#include "proto/base/hash.h"
#include "proto/base/mem.h"
#include "shard_node/store_internal.h"

#define LOG_VALUE_BYTES 21 // epoch u32, operation u8, id u64, rows_crc u32, CRC-32C u32

struct store_batch {
    struct store *store;
    rocksdb_writebatch_t *writes;
    uint64_t sequence; // of the last record added
    size_t count;
};

// --- formats

void store_encode_place(struct store_place place, char key[STORE_PLACE_BYTES])
{
    uint8_t *at = (uint8_t *)key;
    bytes_put_u32_be(at, place.generation);
    bytes_put_u16_be(at + 4, place.vshard);
    bytes_put_u64_be(at + 6, place.id);
}

bool store_decode_place(const char *key, size_t bytes, struct store_place *out)
{
    if (bytes != STORE_PLACE_BYTES)
        return false;

    const uint8_t *at = (const uint8_t *)key;
    out->generation = bytes_get_u32_be(at);
    out->vshard = bytes_get_u16_be(at + 4);
    out->id = bytes_get_u64_be(at + 6);
    return true;
}

uint32_t store_rows_crc(const uint16_t *image, const uint16_t *text, size_t dimension)
{
    const uint32_t first = hash_crc32c(0, image, dimension * sizeof(*image));
    return hash_crc32c(first, text, dimension * sizeof(*text));
}

static uint8_t *put_text(uint8_t *at, struct text text)
{
    if (text.bytes > 0)
        memcpy(at, text.data, text.bytes);
    return at + text.bytes;
}

static void put_length(uint8_t *at, size_t bytes)
{
    assert(bytes <= UINT16_MAX);
    at[0] = (uint8_t)(bytes & 0xff);
    at[1] = (uint8_t)(bytes >> 8);
}

size_t store_encode_document(const struct store_record *record, uint8_t *target)
{
    const struct text texts[4] = {record->key, record->caption, record->source, record->tags};
    uint8_t *at = target + STORE_DOCUMENT_LENGTHS;
    for (size_t i = 0; i < 4; i++) {
        put_length(target + 2 * i, texts[i].bytes);
        at = put_text(at, texts[i]);
    }
    const size_t bytes = (size_t)(at - target);
    assert(bytes + STORE_CRC_BYTES <= STORE_DOCUMENT_BYTES_MAX);
    bytes_put_u32_le(at, hash_crc32c(0, target, bytes));
    return bytes + STORE_CRC_BYTES;
}

enum status store_decode_document(struct bytes value, struct store_document *out)
{
    if (value.count < STORE_DOCUMENT_LENGTHS + STORE_CRC_BYTES)
        return STATUS_CORRUPT;
    const size_t bytes = value.count - STORE_CRC_BYTES;
    if (bytes_get_u32_le(value.data + bytes) != hash_crc32c(0, value.data, bytes))
        return STATUS_CORRUPT;

    struct text texts[4];
    size_t at = STORE_DOCUMENT_LENGTHS;
    for (size_t i = 0; i < 4; i++) {
        const size_t length = value.data[2 * i] | (size_t)value.data[2 * i + 1] << 8;
        if (length > bytes - at)
            return STATUS_CORRUPT;
        texts[i] = (struct text){(const char *)value.data + at, length};
        at += length;
    }
    if (at != bytes)
        return STATUS_CORRUPT;
    *out = (struct store_document){texts[0], texts[1], texts[2], texts[3]};
    return STATUS_OK;
}

// --- batches

// Puts `key` with a value made of parts.
static void put_parts(rocksdb_writebatch_t *batch, rocksdb_column_family_handle_t *family,
                      const char *key, const struct bytes *parts, int part_count)
{
    const char *const keys[] = {key};
    const size_t key_bytes[] = {STORE_PLACE_BYTES};
    const char *values[4];
    size_t value_bytes[4];
    assert(part_count <= 4);
    for (int i = 0; i < part_count; i++) {
        values[i] = (const char *)parts[i].data;
        value_bytes[i] = parts[i].count;
    }
    rocksdb_writebatch_putv_cf(batch, family, 1, keys, key_bytes, part_count, values, value_bytes);
}

void store_put_log(rocksdb_writebatch_t *batch, const struct store *store,
                   const struct store_log_record *record)
{
    char key[STORE_PLACE_BYTES];
    uint8_t value[LOG_VALUE_BYTES];
    store_encode_place((struct store_place){record->generation, record->vshard, record->sequence},
                       key);
    bytes_put_u32_le(value, record->epoch);
    value[4] = (uint8_t)record->operation;
    bytes_put_u64_le(value + 5, record->id);
    bytes_put_u32_le(value + 13, record->rows_crc);
    bytes_put_u32_le(value + 17, hash_crc32c(hash_crc32c(0, key, sizeof(key)), value, 17));
    rocksdb_writebatch_put_cf(batch, store->family[STORE_LOG], key, sizeof(key),
                              (const char *)value, sizeof(value));
}

struct store_batch *store_batch_begin(struct store *store)
{
    struct store_batch *batch = mem_alloc(sizeof(*batch));
    batch->store = store;
    batch->writes = rocksdb_writebatch_create();
    batch->sequence = store_sequence(store);
    return batch;
}

static void add_log(struct store_batch *batch, struct store_place place,
                    enum store_operation operation, uint32_t rows_crc)
{
    batch->sequence++;
    batch->count++;
    store_put_log(batch->writes, batch->store,
                  &(struct store_log_record){.generation = place.generation,
                                             .vshard = place.vshard,
                                             .sequence = batch->sequence,
                                             .epoch = STORE_EPOCH,
                                             .operation = operation,
                                             .id = place.id,
                                             .rows_crc = rows_crc});
}

void store_batch_put(struct store_batch *batch, const struct store_record *record)
{
    const struct store *store = batch->store;
    char key[STORE_PLACE_BYTES];
    store_encode_place(record->place, key);

    uint8_t crc[STORE_CRC_BYTES];
    bytes_put_u32_le(crc, record->rows_crc);
    const size_t row_bytes = record->dimension * sizeof(uint16_t);
    const struct bytes vec[] = {{(const uint8_t *)record->image, row_bytes},
                                {(const uint8_t *)record->text, row_bytes},
                                {crc, sizeof(crc)}};
    put_parts(batch->writes, store->family[STORE_VEC], key, vec, 3);

    uint8_t document[STORE_DOCUMENT_BYTES_MAX];
    const struct bytes doc = {document, store_encode_document(record, document)};
    put_parts(batch->writes, store->family[STORE_DOC], key, &doc, 1);

    uint8_t key_crc[STORE_CRC_BYTES];
    bytes_put_u32_le(key_crc, hash_crc32c(0, record->key.data, record->key.bytes));
    const struct bytes text[] = {{(const uint8_t *)record->key.data, record->key.bytes},
                                 {key_crc, sizeof(key_crc)}};
    put_parts(batch->writes, store->family[STORE_KEY], key, text, 2);
    add_log(batch, record->place, STORE_PUT, record->rows_crc);
    if (record->hidden)
        store_batch_hide(batch, record->place, true);
}

void store_batch_delete(struct store_batch *batch, struct store_place place)
{
    char key[STORE_PLACE_BYTES];
    store_encode_place(place, key);
    for (int f = STORE_VEC; f <= STORE_HIDDEN; f++)
        rocksdb_writebatch_delete_cf(batch->writes, batch->store->family[f], key, sizeof(key));
    add_log(batch, place, STORE_DELETE, 0);
}

void store_batch_hide(struct store_batch *batch, struct store_place place, bool hidden)
{
    char key[STORE_PLACE_BYTES];
    store_encode_place(place, key);
    rocksdb_column_family_handle_t *family = batch->store->family[STORE_HIDDEN];
    uint8_t crc[STORE_CRC_BYTES];
    bytes_put_u32_le(crc, hash_crc32c(0, key, sizeof(key)));
    if (hidden)
        rocksdb_writebatch_put_cf(batch->writes, family, key, sizeof(key), (const char *)crc,
                                  sizeof(crc));
    else
        rocksdb_writebatch_delete_cf(batch->writes, family, key, sizeof(key));
    add_log(batch, place, hidden ? STORE_HIDE : STORE_UNHIDE, 0);
}

size_t store_batch_count(const struct store_batch *batch)
{
    return batch->count;
}

enum status store_batch_commit(struct store_batch **batch_pointer, struct reason *why)
{
    struct store_batch *batch = *batch_pointer;
    struct store *store = batch->store;
    enum status status = STATUS_OK;
    if (batch->count > 0) {
        assert(batch->sequence == store_sequence(store) + batch->count);
        store_put_sequence(batch->writes, store, batch->sequence);
        status = store_write_synced(store, batch->writes, "writing records", why);
        if (status == STATUS_OK)
            atomic_store(&store->sequence, batch->sequence);
    }
    store_batch_cancel(batch_pointer);
    return status;
}

void store_batch_cancel(struct store_batch **batch)
{
    if (!*batch)
        return;
    rocksdb_writebatch_destroy((*batch)->writes);
    mem_free(*batch);
    *batch = NULL;
}
