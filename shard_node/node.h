// SPDX-License-Identifier: Apache-2.0
// node.h - one shard node: its part of every memory, on disk and in RAM, behind the bus.
//
// The same node runs as the program reco-shard (tcp://) and inside another program
// (inproc://). It knows only ids, rows and documents; what they mean is the coordinator's.
//
// Thread-safety: start and stop belong to one thread.

#ifndef RECO_SHARD_NODE_NODE_H
#define RECO_SHARD_NODE_NODE_H

#include <stdint.h>

#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "proto/bus/bus.h"

struct node;

#define NODE_MEMORY_PERCENT 90u // of the machine's or the control group's memory

struct node_params {
    struct bus *bus;
    const char *directory;      // made when missing; holds store/ and rows/
    const char *query_endpoint; // "tcp://127.0.0.1:7710" or "inproc://node-0"
    const char *bulk_endpoint;
    uint32_t index;                 // number of this node in its cluster
    uint32_t search_threads;        // 0: as many as this process may use
    uint32_t disk_throttle_percent; // 0: STORE_DISK_THROTTLE_PERCENT; from here on ingest is slow
    uint32_t disk_full_percent;     // 0: STORE_DISK_FULL_PERCENT; from here on only deletions
    uint64_t memory_bytes_max; // rows, buffers, caches; 0: NODE_MEMORY_PERCENT of what there is
    const char *http;          // side port: "127.0.0.1:7781", port 0 picks one; NULL: none
    int open_files_max;        // of the store; 0: no limit but the system's
};

// Opens the store, brings the rows up to it, and answers from then on. STATUS_FAILED_PRECONDITION
// for a directory that another process holds or a newer program wrote, STATUS_CORRUPT,
// STATUS_IO, and router_start()'s.
enum status node_start(const struct node_params *params, struct node **out,
                       struct reason *why) MUST_CHECK;

// Lets running requests end, closes the store; sets *node to NULL. NULL is allowed.
void node_stop(struct node **node);

// Requests that wait or run: searches, and those for the readers and the writer. Any thread.
uint32_t node_queue_depth(struct node *node);

// As bound, with the real ports.
const char *node_query_endpoint(const struct node *node);
const char *node_bulk_endpoint(const struct node *node);
int node_http_port(const struct node *node); // 0 without

#endif
