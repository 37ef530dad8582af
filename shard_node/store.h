// SPDX-License-Identifier: Apache-2.0
// store.h - the truth of a node on disk: records, their documents, and the log of what changed.
//
// One RocksDB for each node; README.md tells what its column families hold. A write is a
// batch: data, log and the node's sequence number become durable together or not at all.
// Every value carries a CRC-32C that is checked at each read. The first write that fails
// makes the store read-only until it is opened again; a failed fsync is never repeated,
// because what it should have written may be gone. A write that found no space on the disk is
// another matter: store_reopen() makes the store whole again without a restart.
//
// Thread-safety: reads by any thread; everything that writes by one thread at a time.

#ifndef RECO_SHARD_NODE_STORE_H
#define RECO_SHARD_NODE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/arena.h"
#include "proto/base/bytes.h"
#include "proto/base/limits.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"

#define STORE_FORMAT 1u                 // version of everything below the directory
#define STORE_DISK_THROTTLE_PERCENT 85u // of the file system: ingest is slowed down
#define STORE_DISK_FULL_PERCENT 92u     // of the file system: no more writes, deletes only
#define STORE_EPOCH 1u                  // of every log record, until there are replicas
#define STORE_BULK_RECORDS_MAX 4000000u

struct metric; // proto/base/metrics.h
struct store;

struct store_params {
    const char *directory;          // made when missing; holds LOCK, store/, bulk/ and reserve
    uint32_t disk_throttle_percent; // 1..100; 0: STORE_DISK_THROTTLE_PERCENT
    uint32_t disk_full_percent;     // 1..100; 0: STORE_DISK_FULL_PERCENT
    int open_files_max;             // 0: no limit but the system's
};

// STATUS_FAILED_PRECONDITION when another process holds the directory or a newer program wrote
// it, STATUS_CORRUPT, STATUS_IO, STATUS_INVALID for a path too long. A bulk load that was
// interrupted after its files were complete is finished first.
enum status store_open(const struct store_params *params, struct store **out,
                       struct reason *why) MUST_CHECK;

// Batches, cursors and bulk loads must be ended. Sets *store to NULL; NULL is allowed.
void store_close(struct store **store);

uint64_t store_identity(const struct store *store); // random number given at creation
uint64_t store_sequence(const struct store *store); // last log sequence that is durable
bool store_is_read_only(const struct store *store);
uint64_t store_bytes(struct store *store); // on disk and in memtables, about

uint64_t store_memory(struct store *store); // block cache, memtables, readers of files

// Of one generation, in files, about; what is still in memtables is not counted.
uint64_t store_generation_bytes(struct store *store, uint32_t number);

// Every synced write from now on is counted with its time, in seconds; NULL ends it.
void store_time_writes(struct store *store, struct metric *seconds);

// What the store is like at the moment.
#define STORE_STATS_FAMILIES 6
enum store_stat {
    STORE_STAT_SST_BYTES,
    STORE_STAT_MEMTABLE_BYTES,
    STORE_STAT_PENDING_COMPACTION_BYTES,
    STORE_STAT_LEVEL0_FILES,
    STORE_STAT_BLOB_BYTES,
    STORE_STAT_BLOB_GARBAGE_BYTES,
    STORE_STATS,
};
struct store_stats {
    uint64_t crc_errors; // records that failed their checksum
    double disk_used;    // 0..1 of the file system, as df counts; below 0: unknown
    bool has_database;   // it is open, and what follows is known
    uint64_t background_errors;
    bool write_stopped; // RocksDB holds writes up
    uint64_t family[STORE_STATS][STORE_STATS_FAMILIES];
};
extern const char *const store_stats_families[STORE_STATS_FAMILIES];
void store_statistics(struct store *store, struct store_stats *out);

// What follows from a failure outside of the store that leaves it ahead of what derives from it.
void store_set_read_only(struct store *store, const char *reason);

// --- the disk

enum store_disk {
    STORE_DISK_ROOM,
    STORE_DISK_THROTTLED,
    STORE_DISK_FULL,
};

// Looks at the file system. A level ends five points below its threshold.
enum store_disk store_disk_level(struct store *store);

// STATUS_FAILED_PRECONDITION when read-only; STATUS_EXHAUSTED when the disk is full, unless
// `deleting`, or out of space.
enum status store_may_write(struct store *store, bool deleting, struct reason *why) MUST_CHECK;

// The same for something new of about `bytes` on the disk: refused as well when it would fill it.
enum status store_may_grow(struct store *store, uint64_t bytes, struct reason *why) MUST_CHECK;

// A write found no space. Nothing can be written, not even a deletion, until store_reopen().
bool store_is_out_of_space(const struct store *store);
void store_set_out_of_space(struct store *store, const char *reason);

// Opens the database anew, as after a crash, with the space that was kept back or that somebody
// freed; store_sequence() may then be higher than before, since what was refused may have become
// durable. STATUS_EXHAUSTED when there is still no space, STATUS_UNAVAILABLE while somebody walks
// with a cursor: reads go on, and it may be tried again. With any other status the store is
// read-only.
enum status store_reopen(struct store *store, struct reason *why) MUST_CHECK;

// --- generations

struct store_generation {
    uint32_t number;    // 1 or more
    uint32_t dimension; // of a dropped one 0
    uint32_t vshards;   // V, 1..VSHARDS_MAX
    uint32_t own_count; // 1..vshards
    bool dropped;       // its number is never used again
    uint16_t own[VSHARDS_MAX];
};

typedef void (*store_generation_seen)(void *context, const struct store_generation *generation);

// Calls `seen` for every generation, dropped ones too, in the order of their numbers.
enum status store_list_generations(struct store *store, store_generation_seen seen, void *context,
                                   struct reason *why) MUST_CHECK;

// Durable when it returns.
enum status store_create_generation(struct store *store, const struct store_generation *generation,
                                    struct reason *why) MUST_CHECK;

// Removes the generation and everything in it at one moment, then frees the space.
enum status store_drop_generation(struct store *store, uint32_t number,
                                  struct reason *why) MUST_CHECK;

// --- records

struct store_place {
    uint32_t generation;
    uint16_t vshard;
    uint64_t id;
};

// One record as it is written. Everything is borrowed.
struct store_record {
    struct store_place place;
    size_t dimension;
    const uint16_t *image; // [dimension]
    const uint16_t *text;  // [dimension]
    uint32_t rows_crc;     // store_rows_crc() of the two
    struct text key;       // at most KEY_BYTES_MAX
    struct text caption;   // CAPTION_BYTES_MAX
    struct text source;    // SOURCE_BYTES_MAX
    struct text tags;      // joined
    bool hidden;           // mark it too; without, a mark that is there stays
};

struct store_document {
    struct text key;
    struct text caption;
    struct text source;
    struct text tags;
};

uint32_t store_rows_crc(const uint16_t *image, const uint16_t *text, size_t dimension);

// --- writing single records

struct store_batch;

struct store_batch *store_batch_begin(struct store *store);
void store_batch_put(struct store_batch *batch, const struct store_record *record);
void store_batch_delete(struct store_batch *batch, struct store_place place);

// Marks a record that is there, or comes with this batch, as hidden or not.
void store_batch_hide(struct store_batch *batch, struct store_place place, bool hidden);
size_t store_batch_count(const struct store_batch *batch);

// Makes everything in the batch durable with one fsync; always ends it and sets *batch to NULL. An
// empty batch costs nothing. STATUS_IO: nothing of it may be believed, and the store is
// read-only from now on. STATUS_EXHAUSTED: the same, and the store is out of space.
enum status store_batch_commit(struct store_batch **batch, struct reason *why) MUST_CHECK;
void store_batch_cancel(struct store_batch **batch); // NULL is allowed

// --- writing many records: sorted files that become part of the store at one moment

// `count` records of one generation, ascending by vshard and id without repetition, are durable
// (but not marked hidden) when it returns, with one log record for all. After a crash in the middle
// store_open() finishes what had its files complete and forgets everything else.
enum status store_bulk_write(struct store *store, const struct store_record *records, size_t count,
                             struct reason *why) MUST_CHECK;

// --- reading

// Both rows, image first, into `rows` [2 * dimension]. STATUS_NOT_FOUND, STATUS_CORRUPT (logged
// with the place), STATUS_IO.
enum status store_read_rows(struct store *store, struct store_place place, size_t dimension,
                            uint16_t *rows, struct reason *why) MUST_CHECK;

// Texts live in the arena. As above, and STATUS_NO_MEMORY.
enum status store_read_document(struct store *store, struct store_place place, struct arena *arena,
                                struct store_document *out, struct reason *why) MUST_CHECK;

// The key that an id stands for, in the arena.
enum status store_read_key(struct store *store, struct store_place place, struct arena *arena,
                           struct text *out, struct reason *why) MUST_CHECK;

// Whether a record is marked hidden. STATUS_CORRUPT, STATUS_IO.
enum status store_read_hidden(struct store *store, struct store_place place, bool *hidden,
                              struct reason *why) MUST_CHECK;

// Calls `seen` for every hidden record of a generation. STATUS_CORRUPT, STATUS_IO: a node that does
// not know what is hidden must not serve.
typedef void (*store_hidden_seen)(void *context, uint64_t id);
enum status store_list_hidden(struct store *store, uint32_t generation, store_hidden_seen seen,
                              void *context, struct reason *why) MUST_CHECK;

// Walks the rows of a generation, ascending by vshard and id.
struct store_cursor;

struct store_cursor_row {
    struct store_place place;
    const uint16_t *rows; // image, text; valid until the next call; any alignment of 2
    uint32_t crc;
};

struct store_cursor *store_cursor_begin(struct store *store, uint32_t generation, size_t dimension);

// STATUS_OK, STATUS_NOT_FOUND at the end, STATUS_CORRUPT for one bad record (logged; row->place is
// set when the key is sound; the next call goes on behind it), STATUS_IO.
enum status store_cursor_next(struct store_cursor *cursor, struct store_cursor_row *row,
                              struct reason *why) MUST_CHECK;
void store_cursor_end(struct store_cursor **cursor);

// The same walk over the documents of vshards from `first` up to but not including `end`; the texts
// are valid until the next call.
struct store_cursor *store_cursor_begin_documents(struct store *store, uint32_t generation,
                                                  uint32_t first, uint32_t end);
enum status store_cursor_next_document(struct store_cursor *cursor, uint64_t *id,
                                       struct store_document *document,
                                       struct reason *why) MUST_CHECK;

// Walks whole records of a generation as they were when it began, ascending by vshard and id.
// Belongs to one thread at a time, which need not be the writer.
struct store_export;

// NULL when the store is not open (STATUS_UNAVAILABLE). A store that was full is not opened again
// while one is under way.
struct store_export *store_export_begin(struct store *store, uint32_t generation, size_t dimension,
                                        struct reason *why);

// What *record points to is valid until the next call. STATUS_NOT_FOUND at the end; STATUS_CORRUPT,
// STATUS_IO: the walk cannot go on.
enum status store_export_next(struct store_export *export, struct store_record *record,
                              struct reason *why) MUST_CHECK;
void store_export_end(struct store_export **export); // NULL is allowed

// --- the log

enum store_operation {
    STORE_PUT = 1,
    STORE_DELETE = 2,
    STORE_BULK = 3, // `id` is the number of records, `rows_crc` that of all their rows in order
    STORE_HIDE = 4,
    STORE_UNHIDE = 5,
};

struct store_log_record {
    uint32_t generation;
    uint16_t vshard; // STORE_LOG_ALL for STORE_BULK
    uint64_t sequence;
    uint32_t epoch;
    enum store_operation operation;
    uint64_t id;
    uint32_t rows_crc;
};

#define STORE_LOG_ALL UINT16_MAX

// false ends the walk.
typedef bool (*store_log_seen)(void *context, const struct store_log_record *record);

// Calls `seen` for every log record of the generation behind `after`, vshard by vshard, each in
// the order of sequences. STATUS_CORRUPT when one does not pass its CRC.
enum status store_read_log(struct store *store, const struct store_generation *generation,
                           uint64_t after, store_log_seen seen, void *context,
                           struct reason *why) MUST_CHECK;

// --- formats, public for the tests

// A document's value: four lengths (u16 little-endian: key, caption, source, tags), the texts,
// CRC-32C. STATUS_CORRUPT for anything else. *out points into `value`.
enum status store_decode_document(struct bytes value, struct store_document *out) MUST_CHECK;

#endif
