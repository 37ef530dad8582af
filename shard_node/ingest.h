// SPDX-License-Identifier: Apache-2.0
// ingest.h - everything that changes a node: writes, deletes, bulk loads, generations.
//
// A change goes to the store first, where it becomes durable, then to the rows, where searches see
// it, and only then may it be acknowledged. Single writes and deletes come in groups that share
// one fsync. Bulk records wait in a buffer, which is written as sorted files when it is
// full or committed; until then nobody sees them. A bulk load that was cut off is resumed by
// asking HAS and sending the rest.
//
//   begin --> write, delete ... --> commit       one group, one generation
//   bulk ... --> bulk_commit
//
// Thread-safety: none; the writer's thread makes every call.

#ifndef RECO_SHARD_NODE_INGEST_H
#define RECO_SHARD_NODE_INGEST_H

#include <stddef.h>
#include <stdint.h>

#include "proto/base/arena.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "proto/wire/shard_msg.h"
#include "shard_node/shelf.h"
#include "shard_node/store.h"

#define INGEST_BULK_BYTES_MAX (256u << 20) // of the buffer: 100,000 records of 512 dimensions
#define INGEST_BULK_RECORDS_MAX 262144u    // of the buffer
#define INGEST_BULK_FILE_RECORDS_MIN 1024u // fewer do not deserve files of their own

struct ingest;

struct ingest_params {
    struct store *store;
    struct shelf *shelf;
    size_t bulk_bytes_max;   // 0: INGEST_BULK_BYTES_MAX
    size_t bulk_records_max; // 0: INGEST_BULK_RECORDS_MAX
    uint64_t memory_max;     // of rows, buffers, caches together; 0: no limit
};

struct ingest *ingest_create(const struct ingest_params *params);

// What is buffered and not committed is forgotten. Sets *ingest to NULL; NULL is allowed.
void ingest_destroy(struct ingest **ingest);

// --- groups of single records

// Opens a group on a generation. STATUS_NOT_FOUND. Buffered bulk records of the same generation are
// written first, so that order is kept.
enum status ingest_begin(struct ingest *ingest, uint32_t generation, struct reason *why) MUST_CHECK;

// Adds a request to the open group. The request's frames must live until the commit; the reply
// lives in the arena and counts once the commit succeeds. A record that cannot be stored has its
// status and reason in the reply and does not hold up the others. STATUS_INVALID (dimension),
// STATUS_FAILED_PRECONDITION (read-only), STATUS_EXHAUSTED (disk), STATUS_NO_MEMORY: nothing of
// the request is in the group.
enum status ingest_write(struct ingest *ingest, const struct shard_write_request *request,
                         struct arena *arena, struct shard_write_reply *reply,
                         struct reason *why) MUST_CHECK;
enum status ingest_delete(struct ingest *ingest, const struct shard_ids_request *request,
                          struct arena *arena, struct shard_flags_reply *reply,
                          struct reason *why) MUST_CHECK;

// Hides records or shows them again; flags as in the wire's reply.
enum status ingest_hide(struct ingest *ingest, const struct shard_ids_request *request, bool hidden,
                        struct arena *arena, struct shard_flags_reply *reply,
                        struct reason *why) MUST_CHECK;

size_t ingest_group_count(const struct ingest *ingest); // records in the open group

// Makes the group durable and visible, and ends it in any case. STATUS_IO: nothing of it may be
// acknowledged; the node is read-only. STATUS_EXHAUSTED: the same; ingest_recover() comes next.
enum status ingest_commit(struct ingest *ingest, struct reason *why) MUST_CHECK;

// --- bulk

// Buffers a request's records, copying them; may write out the buffer first. Per-record results as
// in ingest_write(). No group may be open.
enum status ingest_bulk(struct ingest *ingest, const struct shard_write_request *request,
                        struct arena *arena, struct shard_write_reply *reply,
                        struct reason *why) MUST_CHECK;

// Everything so far is durable and visible. The reply counts the generation's records since its
// last commit.
enum status ingest_bulk_commit(struct ingest *ingest, uint32_t generation,
                               struct shard_write_reply *reply, struct reason *why) MUST_CHECK;

// Writes out what is buffered, whatever the generation; for a client that went away.
enum status ingest_bulk_flush(struct ingest *ingest, struct reason *why) MUST_CHECK;
size_t ingest_bulk_count(const struct ingest *ingest); // records in the buffer

// --- out of space

// After store_is_out_of_space(): opens the store again and brings the rows up to it. No group may
// be open. STATUS_EXHAUSTED, STATUS_UNAVAILABLE: not now; else the node is read-only.
enum status ingest_recover(struct ingest *ingest, struct reason *why) MUST_CHECK;

// --- generations

// Again with the same values is STATUS_OK. STATUS_INVALID, STATUS_ALREADY_EXISTS (with others),
// STATUS_FAILED_PRECONDITION (the number was dropped), STATUS_EXHAUSTED, STATUS_IO.
enum status ingest_create_generation(struct ingest *ingest,
                                     const struct shard_create_request *request,
                                     struct reason *why) MUST_CHECK;

// Again is STATUS_OK with no records. STATUS_NOT_FOUND for one that never was.
enum status ingest_drop_generation(struct ingest *ingest, uint32_t number, uint64_t *records,
                                   struct reason *why) MUST_CHECK;

#endif
