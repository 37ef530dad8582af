// SPDX-License-Identifier: Apache-2.0
// ledger.h - what nodes hold of bulk loads without having committed it.
//
// A node buffers bulk records and says how many became durable when it commits. A node that was
// restarted in between has forgotten its buffer and says less than it had acknowledged: that is a
// loss, and every stream that wrote to the generation since then must be told so.
//
// A node answers in the order it was asked, so what it buffered before a commit has been counted
// here when the commit's reply comes. It may say more: an earlier coordinator's, or a stream's that
// was cancelled before the reply came.
//
// Thread-safety: none; the loop thread makes every call.

#ifndef RECO_COORDINATOR_LEDGER_H
#define RECO_COORDINATOR_LEDGER_H

#include <stdint.h>

#include "proto/base/limits.h"

struct ledger;

struct ledger *ledger_create(void);
void ledger_destroy(struct ledger **ledger); // NULL is allowed

// A node has acknowledged `records` more that it holds in its buffer.
void ledger_add(struct ledger *ledger, uint32_t generation, uint32_t node, uint64_t records);

// A node has committed `records`. Counts a loss when it had acknowledged more.
void ledger_commit(struct ledger *ledger, uint32_t generation, uint32_t node, uint64_t records);

// Losses of a generation so far: a stream compares what it was when it began.
uint64_t ledger_losses(const struct ledger *ledger, uint32_t generation);

#endif
