// SPDX-License-Identifier: Apache-2.0
// roundup.h - one small request about a generation to every node that holds a part of it.
//
// CREATE, DROP, STATS and BULK_COMMIT: they go to all, and it matters whether all did it.
//
// Thread-safety: none; the loop thread makes every call.

#ifndef RECO_COORDINATOR_ROUNDUP_H
#define RECO_COORDINATOR_ROUNDUP_H

#include <stdbool.h>
#include <stdint.h>

#include "coordinator/backend.h"
#include "coordinator/meta.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "proto/wire/shard_msg.h"

struct roundup {
    struct fanout_ask ask;
    struct backend *backend;
    struct meta_generation generation;
    enum shard_type type;
    void (*done)(void *context);
    void *context;

    // Results.
    enum status statuses[NODES_MAX]; // of nodes that were asked
    struct reason reasons[NODES_MAX];
    uint32_t asked;   // bit for each node that holds a part
    uint64_t records; // sums over the nodes that answered
    uint64_t bytes;
    uint64_t hidden;
    struct api_memory_index index; // STATS; the longest list of all
    uint64_t stored[NODES_MAX];    // records that a BULK_COMMIT made durable
};

// Begins with a zero-initialised or ended roundup, which stays where it is until the end. True:
// `done` comes later; false: the results are there already and `done` is not called.
bool roundup_begin(struct roundup *roundup, int64_t deadline_us, const struct trace *trace);

// Also of one that is not in use.
void roundup_cancel(struct roundup *roundup);

// STATUS_OK when every node did it (`forgive` counts as done too), else the first that did not.
enum status roundup_status(const struct roundup *roundup, enum status forgive,
                           struct reason *why) MUST_CHECK;

#endif
