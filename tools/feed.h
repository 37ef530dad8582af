// SPDX-License-Identifier: Apache-2.0
// feed.h - reads a dataset ahead: a thread makes ingest messages while others are being sent.
//
// Three batches go round: one is filled, one waits, one is with the caller.
//
// Thread-safety: start, next, done and stop belong to one thread. The dataset belongs to
// the feed between start and stop.

#ifndef RECO_TOOLS_FEED_H
#define RECO_TOOLS_FEED_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/base/bytes.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "tools/dataset.h"

#define FEED_RECORDS_MAX 1024               // of arrays in a batch
#define FEED_PICTURES_MAX 64                // of pictures in a batch
#define FEED_BATCH_BYTES ((size_t)16 << 20) // of pictures; one alone may be larger

struct feed;

struct feed_bad {
    char *name;
    struct reason why;
};

// What a picture is called, beside its key.
struct feed_item {
    char *key;
    char *name;
};

struct feed_batch {
    struct buffer message;   // an encoded IngestRequest; empty when no record was good
    size_t count;            // records in it
    struct feed_item *items; // those, when they are pictures
    size_t item_count;
    struct feed_bad *bad; // items left out while it was filled
    size_t bad_count;
    bool last; // nothing comes after this one
};

struct feed_params {
    const char *memory; // the name written into every message
    bool skip_existing;
};

// Starts reading. STATUS_EXHAUSTED when the system has no thread left.
enum status feed_start(struct dataset *dataset, const struct feed_params *params,
                       struct feed **out) MUST_CHECK;

// Waits for the next batch; it is the caller's until feed_done(). Not called after the last.
struct feed_batch *feed_next(struct feed *feed);
void feed_done(struct feed *feed, struct feed_batch *batch);

// Ends the reading wherever it is; sets *feed to NULL. Batches must be given back. NULL is allowed.
void feed_stop(struct feed **feed);

#endif
