// SPDX-License-Identifier: Apache-2.0
// node_side.h - the side port of a node: health, readiness, and what it counts, over HTTP.
//
//   GET /healthz   200 while the process lives
//   GET /readyz    200 when the node answers, 503 with the reason while it opens or drains
//   GET /metrics   the text format of Prometheus
//
// Thread-safety: start, open and stop belong to the thread that starts the node; the rest may be
// called by any. NULL as the side counts nothing.

#ifndef RECO_SHARD_NODE_NODE_SIDE_H
#define RECO_SHARD_NODE_NODE_SIDE_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "proto/wire/shard_msg.h"
#include "shard_node/index/index.h"
#include "shard_node/store.h"

struct node;
struct node_side;

enum node_side_rows { NODE_SIDE_WRITTEN, NODE_SIDE_DELETED, NODE_SIDE_BULK };

// Listens at `listen` (NULL: counts only), before the node is open: opening may take a while.
// Errors of http_start().
enum status node_side_start(const char *listen, const char *version, struct node_side **out,
                            struct reason *why) MUST_CHECK;
int node_side_port(const struct node_side *side); // 0: it does not listen

// The node is open, so that its numbers can be asked for; and it answers no longer.
void node_side_open(struct node_side *side, struct node *node);
void node_side_drain(struct node_side *side);

// Ends the server, before anything of the node is freed; counting goes on.
void node_side_close(struct node_side *side);

// Sets *side to NULL; NULL is allowed.
void node_side_stop(struct node_side **side);

// The time of synced writes; for store_time_writes().
struct metric *node_side_fsync_seconds(struct node_side *side);

void node_side_asked(struct node_side *side, enum shard_type type);
void node_side_searched(struct node_side *side, int64_t queue_us, int64_t search_us, bool exact);
void node_side_wrote(struct node_side *side, enum node_side_rows kind, uint64_t rows);
void node_side_committed(struct node_side *side, int64_t took_us);
void node_side_trained(struct node_side *side, int64_t took_us);
// `recall` 0..1 of searches by the index, as audited.
void node_side_audited(struct node_side *side, uint32_t generation, enum modality modality,
                       float recall);
void node_side_mended(struct node_side *side, const struct index_upkeep *upkeep);

#endif
