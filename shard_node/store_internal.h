// SPDX-License-Identifier: Apache-2.0
// store_internal.h - what the sources store*.c share.

#ifndef RECO_SHARD_NODE_STORE_INTERNAL_H
#define RECO_SHARD_NODE_STORE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "proto/base/metrics.h"
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
    STORE_HIDDEN,
    STORE_LOG,
    STORE_META,
    STORE_FAMILIES,
};

extern const char *const store_family_names[STORE_FAMILIES];

// Counts who uses the database, so that it can be closed and opened again under them.
struct store_gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint32_t users;
    bool closing; // nobody enters
};

struct store {
    struct store_gate gate;
    rocksdb_t *db; // NULL: it could not be opened again
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
    uint32_t disk_throttle_percent;
    uint32_t disk_full_percent;
    enum store_disk disk;      // writer's
    uint32_t disk_percent;     // writer's; used when last asked
    bool has_reserve;          // writer's
    _Atomic uint64_t sequence; // written by the writer
    atomic_bool read_only;     // set once
    atomic_uint_fast64_t crc_errors;
    struct metric *fsync_seconds; // NULL: not counted
    atomic_bool out_of_space;     // set by any failed write, cleared by store_reopen()
};

void store_gate_init(struct store_gate *gate);
void store_gate_deinit(struct store_gate *gate);

// Every use of the database outside of the writer's thread stands between these two.
// STATUS_UNAVAILABLE: it is closed.
enum status store_enter(struct store *store, struct reason *why) MUST_CHECK;
void store_leave(struct store *store);

// Opens and closes RocksDB only. Opened for reading, it needs no space. Closing twice is allowed.
enum status store_open_database(struct store *store, bool reading, struct reason *why) MUST_CHECK;
void store_close_database(struct store *store);

// A new store gets its format, identity and sequence; an old one is checked.
enum status store_load_identity(struct store *store, struct reason *why) MUST_CHECK;

uint64_t store_reserve_bytes(const struct store *store); // how large the file `reserve` is to be
void store_give_up_reserve(struct store *store);

// Whether RocksDB says that there was no room for what it appended or created.
bool store_error_is_no_space(const char *error);

// The options of one family.
rocksdb_options_t *store_options_of(const struct store *store, enum store_family family);

// Turns RocksDB's error into a status and a reason and frees it; STATUS_OK for NULL.
enum status store_translate(char *error, const char *doing, struct reason *why) MUST_CHECK;

// The same for a write: logs it and makes the store read-only or, with STATUS_EXHAUSTED, out of
// space.
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
