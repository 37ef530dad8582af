// SPDX-License-Identifier: Apache-2.0
// ingest_internal.h - what ingest.c and ingest_bulk.c share.

#ifndef RECO_SHARD_NODE_INGEST_INTERNAL_H
#define RECO_SHARD_NODE_INGEST_INTERNAL_H

#include "shard_node/ingest.h"
#include "shard_node/rows_map.h"

enum ingest_kind {
    INGEST_DELETE,
    INGEST_PUT,
    INGEST_MARK, // hides or shows a record that is there
};

// A record that waits to be written, deleted or marked. Of two with the same id the later counts.
struct ingest_entry {
    struct store_record record; // only of INGEST_PUT more than the place
    enum ingest_kind kind;
    bool replaces; // a record that is there or waits
    bool hidden;   // what the record is afterwards
};

// Waiting records of one generation, found by id. `names` holds their ids for the map.
struct ingest_pending {
    struct shelf_generation *generation; // acquired; NULL: nothing is open
    struct ingest_entry *entries;
    struct rows_slot *names;
    size_t count;
    size_t room;
    struct rows_map map;
};

struct ingest {
    struct store *store;
    struct shelf *shelf;
    size_t bulk_bytes_max;
    size_t bulk_records_max;

    struct ingest_pending group;
    struct store_batch *batch; // of the open group

    struct ingest_pending bulk;
    void **blocks; // copies that the bulk entries point into
    size_t block_count;
    size_t block_room;
    size_t bulk_bytes;

    uint64_t memory_max;
    uint64_t followed; // log sequence up to which all rows have what the store has
};

// Whether `bytes` more of something new may be taken: disk and memory. As store_may_write(), and
// STATUS_EXHAUSTED when the node would need more memory than its limit.
enum status ingest_may_grow(struct ingest *ingest, size_t bytes, struct reason *why) MUST_CHECK;

// Bytes that a request's records take in rows and texts.
size_t ingest_request_bytes(const struct shard_write_request *request);

// The rows could not take in what the store has.
void ingest_fell_behind(struct ingest *ingest, const struct shelf_generation *generation,
                        const char *reason);

// The rows have what the store has.
void ingest_has_followed(struct ingest *ingest);

// Makes room for `more` entries. STATUS_NO_MEMORY.
enum status ingest_reserve(struct ingest_pending *pending, size_t more) MUST_CHECK;
void ingest_push(struct ingest_pending *pending, const struct ingest_entry *entry);
bool ingest_is_latest(const struct ingest_pending *pending, size_t index);

// Lets the generation go and forgets the entries; the room stays.
void ingest_clear(struct ingest *ingest, struct ingest_pending *pending);
void ingest_free(struct ingest_pending *pending);

// Results of a request's records. Room is made before the first record, so that noting cannot fail.
struct ingest_results {
    struct arena *arena;
    size_t count;
    size_t refused;
    uint32_t *status;
    struct text *reasons;
};
enum status ingest_results_begin(struct arena *arena, size_t count,
                                 struct ingest_results *out) MUST_CHECK;
void ingest_note(struct ingest_results *results, size_t index, enum status status,
                 const struct reason *why);
void ingest_results_end(const struct ingest_results *results, struct shard_write_reply *reply);

// Fills in an entry for record number `index` of a request, without its CRC.
// STATUS_INVALID, STATUS_ALREADY_EXISTS (another key with the same id).
enum status ingest_check(struct ingest *ingest, const struct ingest_pending *pending,
                         const struct shard_write_request *request, size_t index,
                         struct ingest_entry *entry, struct reason *why) MUST_CHECK;

// What every WRITE and BULK is held to before its records are looked at.
enum status ingest_check_request(const struct shelf_generation *generation,
                                 const struct shard_write_request *request,
                                 struct reason *why) MUST_CHECK;

// Empties the bulk buffer without writing it.
void ingest_bulk_forget(struct ingest *ingest);

#endif
