// SPDX-License-Identifier: Apache-2.0
// shelf_index.h - the index of one modality of a generation, exchanged while others search by it.
//
// The indexer makes an index and publishes it. Whoever searches leases what is published and may
// use it until it ends the lease, also when another index takes its place meanwhile; the last one
// that lets go of an index frees it.
//
// Thread-safety: safe; what changes an index or publishes one is the indexer's alone.

#ifndef RECO_SHARD_NODE_SHELF_INDEX_H
#define RECO_SHARD_NODE_SHELF_INDEX_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "shard_node/index/index.h"

// An index and how many use it.
struct shelf_lease {
    struct index *index;
    uint32_t users; // of the side's lock; being published is one
};

// What the indexer remembers of a side.
struct shelf_index_notes {
    uint64_t trained_for;  // records, by the published index; 0: none is
    int64_t waits_from_us; // rows are waiting; 0: none are
    int64_t train_from_us; // not before, after a failure
    uint64_t upkeep_left;  // lists to look at
    int64_t upkeep_from_us;
    uint64_t dead_seen; // slots that were dead when all lists were last to be looked at
};

// What the keeper remembers of a side: its file on the disk.
struct shelf_index_kept {
    uint32_t end;          // slots in the file of the published index; 0: it has none
    bool has_changed;      // other than by rows that were appended
    int64_t not_before_us; // after a failure
};

struct shelf_index {
    pthread_mutex_t lock;
    struct shelf_lease *current; // NULL: there is none yet
    struct shelf_index_notes notes;
    struct shelf_index_kept kept;
    // As of the last shelf_index_note(); 0 without an index.
    atomic_uint_least64_t bytes;
    atomic_uint_least32_t lists;
    atomic_uint_least64_t vectors; // in the lists, dead ones too
    atomic_uint_least32_t longest; // list
    atomic_uint_least32_t end;
    atomic_uint_least64_t file_bytes; // on the disk
};

void shelf_index_init(struct shelf_index *side);
void shelf_index_deinit(struct shelf_index *side); // all leases have ended

// The published index, or NULL.
struct shelf_lease *shelf_index_lease(struct shelf_index *side);

// Sets *lease to NULL; NULL is allowed. Not inside an epoch.
void shelf_index_end(struct shelf_index *side, struct shelf_lease **lease);

// Takes the index over and shows it to leases from now on.
void shelf_index_publish(struct shelf_index *side, struct index **index);

// Tells others how large the published index is.
void shelf_index_note(struct shelf_index *side);

#endif
