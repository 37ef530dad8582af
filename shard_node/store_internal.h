// SPDX-License-Identifier: Apache-2.0
// store_internal.h - what store.c, store_write.c, store_read.c and store_bulk.c share.

#ifndef RECO_SHARD_NODE_STORE_INTERNAL_H
#define RECO_SHARD_NODE_STORE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "shard_node/store.h"

// RocksDB's own names, so that <rocksdb/c.h> is included by the sources only.
typedef struct rocksdb_t rocksdb_t;
typedef struct rocksdb_column_family_handle_t rocksdb_column_family_handle_t;
typedef struct rocksdb_options_t rocksdb_options_t;
typedef struct rocksdb_cache_t rocksdb_cache_t;
typedef struct rocksdb_readoptions_t rocksdb_readoptions_t;
typedef struct rocksdb_writeoptions_t rocksdb_writeoptions_t;
typedef struct rocksdb_writebatch_t rocksdb_writebatch_t;

#define STORE_PATH_BYTES 4096
#define STORE_PLACE_BYTES 14 // generation u32, vshard u16, id or sequence u64; big-endian
#define STORE_CRC_BYTES 4
#define STORE_DOCUMENT_LENGTHS 8 // four u16
#define STORE_DOCUMENT_BYTES_MAX                                                                   \
    (STORE_DOCUMENT_LENGTHS + KEY_BYTES_MAX + CAPTION_BYTES_MAX + SOURCE_BYTES_MAX +               \
     TAGS_MAX * (TAG_BYTES_MAX + 1) + STORE_CRC_BYTES)

enum store_family {
    STORE_DEFAULT, // RocksDB wants it; empty
    STORE_VEC,
    STORE_DOC,
    STORE_KEY,
    STORE_LOG,
    STORE_META,
    STORE_FAMILIES,
};

struct store {
    rocksdb_t *db;
    rocksdb_column_family_handle_t *family[STORE_FAMILIES];
    rocksdb_options_t *options; // of the database and of STORE_DEFAULT, LOG and META
    rocksdb_options_t *family_options[STORE_FAMILIES]; // NULL: `options`
    rocksdb_cache_t *cache;
    rocksdb_readoptions_t *read;
    rocksdb_writeoptions_t *write; // synced
    char directory[STORE_PATH_BYTES];
    char bulk_directory[STORE_PATH_BYTES];
    int lock_fd;
    uint64_t identity;
    uint32_t disk_full_percent;
    bool disk_is_full;         // writer's
    int64_t disk_checked_us;   // writer's; when the file system was last asked
    _Atomic uint64_t sequence; // written by the writer
    atomic_bool read_only;     // set once
};

// The options of one family.
rocksdb_options_t *store_options_of(const struct store *store, enum store_family family);

// Turns RocksDB's error into a status and a reason and frees it; STATUS_OK for NULL.
enum status store_translate(char *error, const char *doing, struct reason *why) MUST_CHECK;

// The same for a write: logs it and makes the store read-only.
enum status store_translate_write(struct store *store, char *error, const char *doing,
                                  struct reason *why) MUST_CHECK;

void store_encode_place(struct store_place place, char key[STORE_PLACE_BYTES]);
bool store_decode_place(const char *key, size_t bytes, struct store_place *out);

// Writes a document's value; `target` has STORE_DOCUMENT_BYTES_MAX. Returns its length.
size_t store_encode_document(const struct store_record *record, uint8_t *target);

// Values of STORE_META: bytes and their CRC.
void store_meta_put(rocksdb_writebatch_t *batch, const struct store *store, struct text key,
                    const void *value, size_t bytes);
// STATUS_NOT_FOUND; `value` is emptied first.
enum status store_meta_get(struct store *store, struct text key, struct buffer *value,
                           struct reason *why) MUST_CHECK;

// Adds the log record and the new node sequence to a batch.
void store_put_log(rocksdb_writebatch_t *batch, const struct store *store,
                   const struct store_log_record *record);
void store_put_sequence(rocksdb_writebatch_t *batch, const struct store *store, uint64_t sequence);

// Writes the batch with an fsync.
enum status store_write_synced(struct store *store, rocksdb_writebatch_t *batch, const char *doing,
                               struct reason *why) MUST_CHECK;

// Finishes or forgets what an earlier process left in the bulk directory.
enum status store_bulk_recover(struct store *store, struct reason *why) MUST_CHECK;

#endif
