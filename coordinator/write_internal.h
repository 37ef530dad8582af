// SPDX-License-Identifier: Apache-2.0
// write_internal.h - a load: the records of one Ingest message on their way to the nodes.
//
//   HAS (when resuming) -> images -> texts -> one WRITE or BULK to each node -> acknowledged
//
// Until it is sent, a load points into the message it came from; afterwards it stands alone.
//
// Thread-safety: none; the loop thread makes every call.

#ifndef RECO_COORDINATOR_WRITE_INTERNAL_H
#define RECO_COORDINATOR_WRITE_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "coordinator/backend.h"
#include "coordinator/encode_batch.h"
#include "coordinator/meta.h"
#include "coordinator/placement.h"
#include "proto/base/arena.h"
#include "proto/wire/api.h"
#include "proto/wire/shard_msg.h"

#define WRITE_ARENA_BYTES ((size_t)512 << 20) // of one load

// The flags that a node sent, one for each of `count` records. STATUS_CORRUPT when there are
// others.
enum status write_reply_flags(const struct fanout_reply *reply, uint32_t count, struct arena *arena,
                              struct shard_flags_reply *out, struct reason *why) MUST_CHECK;

struct write_load;

// What became of a load, told to its owner. Each is called on the loop thread, never from
// write_load_begin().
struct write_load_events {
    void (*failed)(void *context, struct text key, const char *reason); // of one record
    void (*sent)(void *context, struct write_load *load); // the message is not needed any more
    void (*done)(void *context, struct write_load *load); // acknowledged or failed as a whole
    void *context;
};

struct write_load_params {
    struct backend *backend;
    struct meta_generation memory;
    struct arena *arena; // of the message; taken over
    const struct api_ingest_record *records;
    size_t count; // > 0
    bool skip_existing;
    bool bulk;
    struct trace trace;
    struct write_load_events events;
};

struct write_load {
    struct write_load_params params;
    struct write_load *next; // the owner's list
    struct timer timer;      // begins it
    struct fanout_ask ask;
    struct encode_batch batch;
    bool batch_is_out;
    bool is_cancelled;

    // Parallel to the records.
    bool *dropped; // failed or skipped
    uint64_t *ids;
    bool *hidden;  // as they were sent
    float *images; // [count][dimension]
    float *texts;
    uint32_t *order;
    uint32_t starts[NODES_MAX + 1]; // records of each node in `order`

    // Of the encoding under way.
    uint32_t *places; // batch item -> record
    struct bytes *batch_files;
    struct text *batch_texts;
    float *batch_rows;
    enum status *batch_statuses;
    struct reason *batch_reasons;

    struct text *keys; // copies in the order of `order`, for failures that nodes report

    // Results, valid in `done`.
    enum status status;
    struct reason why;
    uint64_t stored;
    uint64_t duplicates;
    uint64_t skipped;
};

// Takes the arena over in any case. STATUS_NO_MEMORY.
enum status write_load_begin(const struct write_load_params *params, struct write_load **out,
                             struct reason *why) MUST_CHECK;

// Stops what can be stopped; `done` still comes, at once unless an encoding runs.
void write_load_cancel(struct write_load *load);

void write_load_free(struct write_load *load); // after `done`

#endif
