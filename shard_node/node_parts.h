// SPDX-License-Identifier: Apache-2.0
// node_parts.h - the parts of a node and who owns which.
//
//   router's thread --> dispatch --> pool of search threads   node_search.c
//                               \--> writer, one thread       node_write.c
//                               \--> readers, two threads     node_read.c
//                               \--> exporter, one thread     node_export.c
//   writer --notice--> indexer, one thread                      indexer.c
//   search threads --answers--> audit, one thread               audit.c
//
// Every part ends a request by itself with one of the node_reply functions.

#ifndef RECO_SHARD_NODE_NODE_PARTS_H
#define RECO_SHARD_NODE_NODE_PARTS_H

#include <stdatomic.h>

#include "proto/base/arena.h"
#include "proto/base/queue.h"
#include "proto/base/thread.h"
#include "proto/bus/router.h"
#include "shard_node/audit.h"
#include "shard_node/indexer.h"
#include "shard_node/ingest.h"
#include "shard_node/node.h"
#include "shard_node/node_side.h"
#include "shard_node/scan_pool.h"
#include "shard_node/shelf.h"
#include "shard_node/store.h"

#define NODE_READERS 2
#define NODE_QUEUE_MAX 4096            // requests that wait for the writer or the readers
#define NODE_ARENA_BYTES (160u << 20)  // of one request: what is decoded and what is answered
#define NODE_BULK_IDLE_US 10000000     // a buffer that nobody fills or commits is written out
#define NODE_THROTTLE_BYTES (8u << 20) // of requests with records, a second, on a disk nearly full

struct node {
    uint32_t index;
    struct store *store;
    struct shelf *shelf;
    struct ingest *ingest; // the writer's
    struct scan_pool *pool;
    struct indexer *indexer;
    struct audit *audit;
    struct queue *writes; // of struct router_request
    struct queue *reads;
    struct queue *exports;
    struct thread *writer;
    struct thread *readers[NODE_READERS];
    struct thread *exporter;
    struct router *router;
    struct node_side *side;
    atomic_bool stopping;

    // What PING tells, kept by the writer.
    atomic_uint_fast64_t records;
    atomic_uint_fast64_t bytes;
    int64_t bytes_asked_us;
};

// Ends a request with a failure.
void node_reply_failure(struct router_request **request, enum status status,
                        const struct reason *why);

// Ends it with what was encoded: `status` is that of the encoding. Body and rows are taken over.
void node_reply_body(struct router_request **request, enum status status, struct buffer *body,
                     void *rows, size_t rows_bytes);

// The buffer of a reply's body, bounded as the wire is.
struct buffer node_body(void);

// Ends it when nobody waits for it any more, and tells so.
bool node_drop_cancelled(struct router_request **request);

void node_search(struct node *node, struct router_request *request); // SEARCH; returns at once
void node_read_body(struct thread *self, void *node);                // FETCH, HAS, STATS
void node_export_body(struct thread *self, void *node);              // EXPORT_*
void node_write_body(struct thread *self, void *node);               // all that changes something

void node_refresh_totals(struct node *node);

#endif
