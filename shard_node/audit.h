// SPDX-License-Identifier: Apache-2.0
// audit.h - a live estimate of recall: now and then a search by an index is repeated exactly.
//
// A searcher offers what it answered; one offer is taken when the last audit is long enough ago,
// and a thread of its own compares the first query row's ten best with a scan of every row. It may
// take a twentieth of one core. The estimate of a generation's modality is a running mean over some
// 20 audits.
//
// Thread-safety: offering by any thread; start and stop by one.

#ifndef RECO_SHARD_NODE_AUDIT_H
#define RECO_SHARD_NODE_AUDIT_H

#include <stdint.h>

#include "proto/base/embedding.h"
#include "proto/base/status.h"
#include "shard_node/node_side.h"
#include "shard_node/scan.h"
#include "shard_node/shelf.h"

#define AUDIT_K 10

struct audit;

struct audit_params {
    struct shelf *shelf;
    struct node_side *side; // is told the estimates
    int64_t rest_us;        // between two audits at least; 0: one second
};

enum status audit_start(const struct audit_params *params, struct audit **out) MUST_CHECK;

// The audit that runs is given up. Sets *audit to NULL; NULL is allowed.
void audit_stop(struct audit **audit);

struct audit_offer {
    uint32_t generation;
    enum modality modality;
    uint32_t dimension;
    const float *query;          // [dimension]
    const struct scan_hit *hits; // the answer, best first
    size_t count;
    size_t k; // that was asked for
};

// Costs a clock reading unless it is taken; then what is needed is copied. NULL as the audit is
// allowed.
void audit_offer(struct audit *audit, const struct audit_offer *offer);

#endif
