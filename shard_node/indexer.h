// SPDX-License-Identifier: Apache-2.0
// indexer.h - the thread that makes the indexes of a node and keeps them up.
//
// A side (one modality of a generation) gets an index at INDEX_RECORDS_FROM visible records, and
// another one in its place each time it has grown to INDEXER_GROWTH times the records that it was
// trained for. In between, rows that were appended are taken in a few at a time, and lists are
// mended. Writers and searches never wait for any of it.
//
//   few records --> train, take in --> published --> take in, mend ... --> train anew beside it
//
// Thread-safety: notice by any thread; start and stop by one.

#ifndef RECO_SHARD_NODE_INDEXER_H
#define RECO_SHARD_NODE_INDEXER_H

#include <stdint.h>

#include "proto/base/status.h"
#include "shard_node/node_side.h"
#include "shard_node/shelf.h"
#include "shard_node/store.h"

#define INDEXER_GROWTH 4          // times the records, and a side is trained anew
#define INDEXER_ROWS 64           // that wait are taken in at once
#define INDEXER_WAIT_US 100000    // that fewer may wait
#define INDEXER_CHUNK 65536u      // rows taken in between two looks at whether to stop
#define INDEXER_COVER_PERCENT 90  // of the slots, and an index is published
#define INDEXER_UPKEEP_LISTS 64   // looked at in one turn of mending
#define INDEXER_RETRY_US 60000000 // after memory did not suffice

struct indexer;

struct indexer_params {
    struct shelf *shelf;
    struct store *store;    // whose memory counts too
    struct node_side *side; // counts; NULL: nothing is
    uint32_t threads;       // for training; 0: half the cores, at least 1
    uint64_t memory_max;    // of the node; 0: no limit
};

// STATUS_NO_MEMORY.
enum status indexer_start(const struct indexer_params *params, struct indexer **out) MUST_CHECK;

// Ends within about a chunk. Sets *indexer to NULL; NULL is allowed.
void indexer_stop(struct indexer **indexer);

// Something was appended, removed or dropped. NULL is allowed.
void indexer_notice(struct indexer *indexer);

#endif
