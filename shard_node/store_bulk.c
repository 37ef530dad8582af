// SPDX-License-Identifier: Apache-2.0
// Bulk loads: sorted files, written once, that RocksDB takes in without copying.
//
// RocksDB takes a file in for one column family at a time, so a set of three (key, doc, vec)
// would not appear at one moment by itself. It does by an intent:
//
//   1. write bulk/{key,doc,vec}.sst, each synced
//   2. synced batch: meta "bulk", the intent            <- from here on it will happen
//   3. ingest key, doc, vec: each is a hard link into store/, a sequence number written into
//      the file, and an entry in RocksDB's manifest
//   4. synced batch: log record, sequence, no intent    <- now it has happened
//
// A crash before 2 leaves files that the next open deletes. After 2 the next open goes on
// with 3. A file that was taken in already but still lies in bulk/ has two links: RocksDB deletes
// links that its manifest does not know when it opens, before we look. A file with one link may
// have got its sequence number and then not have been taken in; RocksDB would call it corrupt.
// So the intent keeps the end of each file, where that number stands, and it is put back.

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <rocksdb/c.h>

#include "proto/base/hash.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "shard_node/disk_error.h"
#include "shard_node/store_internal.h"

#define META_BULK "bulk"
#define BULK_FILES 3
#define TAIL_BYTES_MAX 16384u // properties, metaindex and footer take about 2 KiB

// As stored: generation u32, rows_crc u32, count u64, and of each file its bytes u64, those of its
// tail u32, and the tail; little-endian.
#define INTENT_FIXED_BYTES 16
#define INTENT_FILE_BYTES 12

struct tail {
    uint64_t file_bytes;
    uint32_t bytes;
    uint8_t *data; // in the arena or in the value read
};

struct intent {
    uint32_t generation;
    uint32_t rows_crc;
    uint64_t count;
    struct tail tails[BULK_FILES];
};

static const enum store_family bulk_families[BULK_FILES] = {STORE_KEY, STORE_DOC, STORE_VEC};

static void bulk_path(const struct store *store, enum store_family family,
                      char path[STORE_PATH_BYTES + 16])
{
    static const char *const names[STORE_FAMILIES] = {
        [STORE_KEY] = "key.sst", [STORE_DOC] = "doc.sst", [STORE_VEC] = "vec.sst"};
    (void)snprintf(path, STORE_PATH_BYTES + 16, "%s/%s", store->bulk_directory, names[family]);
}

static enum status remove_file(const char *path, struct reason *why)
{
    if (unlink(path) == 0 || errno == ENOENT)
        return STATUS_OK;
    return disk_error("store", "remove", path, why);
}

static enum status remove_files(const struct store *store, struct reason *why)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < BULK_FILES && status == STATUS_OK; i++) {
        char path[STORE_PATH_BYTES + 16];
        bulk_path(store, bulk_families[i], path);
        status = remove_file(path, why);
    }
    return status;
}

// --- step 1

struct sorted_records {
    const struct store_record *records;
    size_t count;
    uint8_t *value; // room for one value of any family
};

static size_t encode_value(enum store_family family, const struct store_record *record,
                           uint8_t *value)
{
    if (family == STORE_DOC)
        return store_encode_document(record, value);
    if (family == STORE_KEY) {
        memcpy(value, record->key.data, record->key.bytes);
        bytes_put_u32_le(value + record->key.bytes,
                         hash_crc32c(0, record->key.data, record->key.bytes));
        return record->key.bytes + STORE_CRC_BYTES;
    }
    const size_t row_bytes = record->dimension * sizeof(uint16_t);
    memcpy(value, record->image, row_bytes);
    memcpy(value + row_bytes, record->text, row_bytes);
    bytes_put_u32_le(value + 2 * row_bytes, record->rows_crc);
    return 2 * row_bytes + STORE_CRC_BYTES;
}

static void write_file(struct store *store, enum store_family family,
                       const struct sorted_records *sorted, char **error)
{
    char path[STORE_PATH_BYTES + 16];
    bulk_path(store, family, path);
    rocksdb_envoptions_t *environment = rocksdb_envoptions_create();
    rocksdb_sstfilewriter_t *writer =
        rocksdb_sstfilewriter_create(environment, store_options_of(store, family));
    rocksdb_sstfilewriter_open(writer, path, error);
    for (size_t i = 0; i < sorted->count && !*error; i++) {
        const struct store_record *record = &sorted->records[i];
        char key[STORE_PLACE_BYTES];
        store_encode_place(record->place, key);
        const size_t bytes = encode_value(family, record, sorted->value);
        rocksdb_sstfilewriter_put(writer, key, sizeof(key), (const char *)sorted->value, bytes,
                                  error);
    }
    if (!*error)
        rocksdb_sstfilewriter_finish(writer, error); // with an fsync
    rocksdb_sstfilewriter_destroy(writer);
    rocksdb_envoptions_destroy(environment);
}

static enum status sync_directory(const struct store *store, struct reason *why)
{
    const int fd = open(store->bulk_directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum status status = STATUS_OK;
    if (fd < 0 || fsync(fd) != 0)
        status = disk_error("store", "sync", store->bulk_directory, why);
    if (fd >= 0)
        close(fd);
    return status;
}

static enum status write_files(struct store *store, const struct sorted_records *sorted,
                               struct reason *why)
{
    for (size_t i = 0; i < BULK_FILES; i++) {
        char *error = NULL;
        write_file(store, bulk_families[i], sorted, &error);
        const enum status status = store_translate_write(store, error, "writing a bulk file", why);
        if (status != STATUS_OK)
            return status;
    }
    const enum status status = sync_directory(store, why);
    if (status != STATUS_OK)
        store_set_read_only(store, "cannot sync the bulk directory");
    return status;
}

// --- steps 2 and 4

// Reads the end of a file into `tail`, whose data has room.
static enum status read_tail(const char *path, struct tail *tail, struct reason *why)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat about;
    enum status status = STATUS_OK;
    if (fd < 0 || fstat(fd, &about) != 0) {
        status = disk_error("store", "look at", path, why);
    } else {
        tail->file_bytes = (uint64_t)about.st_size;
        tail->bytes =
            tail->file_bytes < TAIL_BYTES_MAX ? (uint32_t)tail->file_bytes : TAIL_BYTES_MAX;
        if (pread(fd, tail->data, tail->bytes, about.st_size - (off_t)tail->bytes) !=
            (ssize_t)tail->bytes)
            status = disk_error("store", "read", path, why);
    }
    if (fd >= 0)
        close(fd);
    return status;
}

// Puts the end back as it was, durably.
static enum status restore_tail(const char *path, const struct tail *tail, struct reason *why)
{
    const int fd = open(path, O_WRONLY | O_CLOEXEC);
    enum status status = STATUS_OK;
    if (fd < 0 ||
        pwrite(fd, tail->data, tail->bytes, (off_t)(tail->file_bytes - tail->bytes)) !=
            (ssize_t)tail->bytes ||
        fsync(fd) != 0)
        status = disk_error("store", "restore", path, why);
    if (fd >= 0)
        close(fd);
    return status;
}

static size_t encode_intent(const struct intent *intent, uint8_t *value)
{
    bytes_put_u32_le(value, intent->generation);
    bytes_put_u32_le(value + 4, intent->rows_crc);
    bytes_put_u64_le(value + 8, intent->count);
    uint8_t *at = value + INTENT_FIXED_BYTES;
    for (size_t i = 0; i < BULK_FILES; i++) {
        const struct tail *tail = &intent->tails[i];
        bytes_put_u64_le(at, tail->file_bytes);
        bytes_put_u32_le(at + 8, tail->bytes);
        memcpy(at + INTENT_FILE_BYTES, tail->data, tail->bytes);
        at += INTENT_FILE_BYTES + tail->bytes;
    }
    return (size_t)(at - value);
}

// Tails point into the value.
static bool decode_intent(const struct buffer *value, struct intent *out)
{
    if (value->count < INTENT_FIXED_BYTES)
        return false;
    out->generation = bytes_get_u32_le(value->data);
    out->rows_crc = bytes_get_u32_le(value->data + 4);
    out->count = bytes_get_u64_le(value->data + 8);
    size_t at = INTENT_FIXED_BYTES;
    for (size_t i = 0; i < BULK_FILES; i++) {
        struct tail *tail = &out->tails[i];
        if (value->count - at < INTENT_FILE_BYTES)
            return false;
        tail->file_bytes = bytes_get_u64_le(value->data + at);
        tail->bytes = bytes_get_u32_le(value->data + at + 8);
        at += INTENT_FILE_BYTES;
        if (tail->bytes > value->count - at || tail->bytes > tail->file_bytes)
            return false;
        tail->data = value->data + at;
        at += tail->bytes;
    }
    return at == value->count;
}

static enum status declare(struct store *store, struct intent *intent, struct reason *why)
{
    const size_t file_bytes = INTENT_FILE_BYTES + TAIL_BYTES_MAX;
    uint8_t *tails = mem_alloc((size_t)BULK_FILES * TAIL_BYTES_MAX);
    uint8_t *value = mem_alloc(INTENT_FIXED_BYTES + BULK_FILES * file_bytes);
    enum status status = STATUS_OK;
    for (size_t i = 0; i < BULK_FILES && status == STATUS_OK; i++) {
        char path[STORE_PATH_BYTES + 16];
        bulk_path(store, bulk_families[i], path);
        intent->tails[i].data = tails + i * TAIL_BYTES_MAX;
        status = read_tail(path, &intent->tails[i], why);
    }
    if (status == STATUS_OK) {
        const size_t bytes = encode_intent(intent, value);
        rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
        store_meta_put(batch, store, text_of(META_BULK), value, bytes);
        status = store_write_synced(store, batch, "declaring a bulk load", why);
        rocksdb_writebatch_destroy(batch);
    }
    mem_free(tails);
    mem_free(value);
    return status;
}

static enum status conclude(struct store *store, const struct intent *intent, struct reason *why)
{
    const uint64_t sequence = store_sequence(store) + 1;
    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    store_put_log(batch, store,
                  &(struct store_log_record){.generation = intent->generation,
                                             .vshard = STORE_LOG_ALL,
                                             .sequence = sequence,
                                             .epoch = STORE_EPOCH,
                                             .operation = STORE_BULK,
                                             .id = intent->count,
                                             .rows_crc = intent->rows_crc});
    store_put_sequence(batch, store, sequence);
    rocksdb_writebatch_delete_cf(batch, store->family[STORE_META], META_BULK,
                                 sizeof(META_BULK) - 1);
    const enum status status = store_write_synced(store, batch, "concluding a bulk load", why);
    rocksdb_writebatch_destroy(batch);
    if (status == STATUS_OK)
        atomic_store(&store->sequence, sequence);
    return status;
}

// --- step 3

static enum status ingest_file(struct store *store, enum store_family family, struct reason *why)
{
    char path[STORE_PATH_BYTES + 16];
    bulk_path(store, family, path);
    rocksdb_ingestexternalfileoptions_t *options = rocksdb_ingestexternalfileoptions_create();
    rocksdb_ingestexternalfileoptions_set_move_files(options, 1);
    const char *const files[] = {path};
    char *error = NULL;
    rocksdb_ingest_external_file_cf(store->db, store->family[family], files, 1, options, &error);
    rocksdb_ingestexternalfileoptions_destroy(options);
    return store_translate_write(store, error, "taking in a bulk file", why);
}

// After a crash: whatever is left to do about one file.
static enum status resume_file(struct store *store, enum store_family family,
                               const struct tail *tail, struct reason *why)
{
    char path[STORE_PATH_BYTES + 16];
    bulk_path(store, family, path);
    struct stat about;
    if (stat(path, &about) != 0)
        return errno == ENOENT ? STATUS_OK // taken in before the crash, and its link removed
                               : disk_error("store", "look at", path, why);
    if (about.st_nlink > 1)
        return remove_file(path, why); // taken in before the crash
    if ((uint64_t)about.st_size != tail->file_bytes)
        return reason_set(why, STATUS_CORRUPT, "store", "%s has %lld bytes, not %" PRIu64, path,
                          (long long)about.st_size, tail->file_bytes);
    const enum status status = restore_tail(path, tail, why);
    return status == STATUS_OK ? ingest_file(store, family, why) : status;
}

static enum status ingest_and_conclude(struct store *store, const struct intent *intent,
                                       bool resumed, struct reason *why)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < BULK_FILES && status == STATUS_OK; i++)
        status = resumed ? resume_file(store, bulk_families[i], &intent->tails[i], why)
                         : ingest_file(store, bulk_families[i], why);
    if (status == STATUS_OK)
        status = conclude(store, intent, why);
    if (status != STATUS_OK && !store_is_out_of_space(store))
        store_set_read_only(store, "a bulk load is half taken in; the next start finishes it");
    return status; // out of space, store_reopen() finishes it
}

enum status store_bulk_write(struct store *store, const struct store_record *records, size_t count,
                             struct reason *why)
{
    assert(count >= 1 && count <= STORE_BULK_RECORDS_MAX);

    struct intent intent = {.generation = records[0].place.generation, .count = count};
    for (size_t i = 0; i < count; i++) {
        uint8_t crc[STORE_CRC_BYTES];
        bytes_put_u32_le(crc, records[i].rows_crc);
        intent.rows_crc = hash_crc32c(intent.rows_crc, crc, sizeof(crc));
    }

    const size_t vec_bytes = records[0].dimension * 2 * sizeof(uint16_t) + STORE_CRC_BYTES;
    struct sorted_records sorted = {.records = records, .count = count};
    sorted.value =
        mem_alloc(vec_bytes > STORE_DOCUMENT_BYTES_MAX ? vec_bytes : STORE_DOCUMENT_BYTES_MAX);
    enum status status = remove_files(store, why);
    if (status == STATUS_OK) {
        status = write_files(store, &sorted, why);
        if (status != STATUS_OK)
            (void)(remove_files(store, NULL) == STATUS_OK); // they take space that is missing
    }
    mem_free(sorted.value);
    if (status == STATUS_OK)
        status = declare(store, &intent, why);
    if (status == STATUS_OK)
        status = ingest_and_conclude(store, &intent, false, why);
    return status;
}

// --- after a crash

enum status store_bulk_recover(struct store *store, struct reason *why)
{
    struct buffer value = {0};
    enum status status = store_meta_get(store, text_of(META_BULK), &value, why);
    if (status == STATUS_NOT_FOUND)
        status = remove_files(store, why);
    else if (status == STATUS_OK) {
        struct intent intent;
        if (decode_intent(&value, &intent)) {
            log_info("bulk_recovered", "generation=%" PRIu32 " records=%" PRIu64, intent.generation,
                     intent.count);
            status = ingest_and_conclude(store, &intent, true, why);
        } else {
            status =
                reason_set(why, STATUS_CORRUPT, "store", "the intent of a bulk load is damaged");
        }
    }
    buffer_deinit(&value);
    return status;
}
