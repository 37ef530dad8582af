// SPDX-License-Identifier: Apache-2.0
// encode_batch.h - encodes any number of pictures or texts in jobs short enough to share the
// compute thread with queries.
//
// The first job is small; each next one has as many items as take about 50 ms.
//
// Thread-safety: none; the loop thread makes every call.

#ifndef RECO_COORDINATOR_ENCODE_BATCH_H
#define RECO_COORDINATOR_ENCODE_BATCH_H

#include <stdbool.h>
#include <stddef.h>

#include "coordinator/compute.h"

// Set the first part; begin sets the rest. It stays where it is until `done`.
struct encode_batch {
    struct compute *compute;
    enum compute_kind kind; // COMPUTE_IMAGES, COMPUTE_TEXTS or COMPUTE_TOKENS
    enum compute_class class;
    size_t count;              // > 0
    const struct text *texts;  // [count]
    const struct bytes *files; // [count], or else
    enum image_profile profile;
    enum status *statuses; // [count], of pictures: a broken one costs only itself
    struct reason *reasons;
    float *embeddings; // [count][dimension]
    uint32_t *ids;     // of tokens: [count][context]
    uint32_t *counts;  // [count]

    // Once, never from encode_batch_begin(), also after a cancel (then STATUS_CANCELLED).
    void (*done)(void *context, enum status status, const struct reason *why);
    void *context;

    // Results, in milliseconds over all jobs.
    double queue_ms;
    double decode_ms;
    double preprocess_ms;
    double encode_ms;

    // Its own.
    struct compute_job job;
    size_t next; // first item that is not done
    size_t size; // of the job under way
    bool is_cancelled;
};

// STATUS_EXHAUSTED; `done` is then never called.
enum status encode_batch_begin(struct encode_batch *batch, struct reason *why) MUST_CHECK;

// No further job is begun; `done` comes when the one under way is back. Only between begin and
// done.
void encode_batch_cancel(struct encode_batch *batch);

#endif
