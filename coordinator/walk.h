// SPDX-License-Identifier: Apache-2.0
// walk.h - goes over all records of a generation as they are at one moment, the nodes in turns.
//
// Every node takes its cursor before the first record is read. So the walk has every write that was
// acknowledged before walk_begin(), none that began after `step` was called for the first time, and
// of those in between, for each node, the ones that had reached it.
//
//   walk_begin -> step -> walk_next -> step -> ... -> is_done
//                                   \-> walk_end at any time
//
// Thread-safety: none; the loop thread makes every call.

#ifndef RECO_COORDINATOR_WALK_H
#define RECO_COORDINATOR_WALK_H

#include <stdbool.h>
#include <stdint.h>

#include "coordinator/backend.h"
#include "proto/base/bytes.h"
#include "proto/wire/packed.h"

// Zero-initialise it, fill in the first part. It stays where it is until it is done or ended.
struct walk {
    struct backend *backend;
    struct meta_generation generation;
    bool want_records;
    bool want_digest;
    struct trace trace;
    void (*step)(void *context); // what was asked for is there; it may call anything
    void *context;

    // What a step brings.
    enum status status; // a failure ends the walk
    struct reason why;
    bool is_done;
    struct bytes packed;         // records, valid during the step
    uint64_t count;              // records so far
    uint64_t total;              // records that there are, about; after the first step
    struct packed_digest digest; // of the records so far

    // The walk's own.
    struct fanout_ask ask;
    uint64_t cursors[NODES_MAX]; // 0: none, or at its end
    uint32_t node;
    bool has_begun;
};

void walk_begin(struct walk *walk);
void walk_next(struct walk *walk);
void walk_end(struct walk *walk); // also of one that is not in use; `step` is not called any more

#endif
