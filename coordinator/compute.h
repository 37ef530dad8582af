// SPDX-License-Identifier: Apache-2.0
// compute.h - where encoding, fusing and scoring run: submit a job, get it back.
//
// One thread owns the clip. Jobs of queries go before bulk jobs (of which one comes after every 16
// of theirs, so that an upload goes on); within a class first come,
// first served. When the turn of one that encodes comes, those behind it that encode the same kind
// go through the model with it, as many as take some 20 ms together; nobody waits for others to
// come. A job that runs is not stopped but between its pictures and rows, so whoever has much to do
// makes many jobs of it, of some 20 ms: so it can be cancelled, and others come in between.
//
//   compute_submit -> waiting -> running -> compute_collect calls job->done
//                        \-> (compute_cancel) -----/ with STATUS_CANCELLED
//
// A job and all it points to belong to the compute until `done` is called, which happens
// exactly once for each submitted job. This header hides where the work is done: today in
// this process; a job is data only, so that it can move to one of its own.
//
// Thread-safety: one owner thread (the loop) makes every call; start and stop belong to the
// thread that made it (stop after the loop has collected every job).

#ifndef RECO_COORDINATOR_COMPUTE_H
#define RECO_COORDINATOR_COMPUTE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "coordinator/encoder.h"
#include "coordinator/fuser.h"
#include "coordinator/score.h"
#include "proto/base/bytes.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "shaders/models/clip.h"

#define COMPUTE_JOBS_MAX 1024 // submitted and not yet collected

struct compute;

enum compute_kind {
    COMPUTE_IMAGES,
    COMPUTE_TEXTS,
    COMPUTE_TOKENS,
    COMPUTE_FUSE,
    COMPUTE_SCORE,
};

enum compute_class {
    COMPUTE_QUERY,
    COMPUTE_BULK,
};

struct compute_texts {
    const struct text *texts; // [count]
    size_t count;
    float *embeddings; // [count][dimension]
};

struct compute_tokens {
    const struct text *texts; // [count]
    size_t count;
    uint32_t *ids;    // [count][context of the model]
    uint32_t *counts; // [count]
};

// Selection and refinement of a batch of query rows.
struct compute_fuse {
    struct fuser_params params;
    uint32_t dimension;
    uint32_t row_count;
    const float *queries;         // [row_count][dimension]
    const struct fuser_hit *hits; // all rows; their payloads point into `payload`
    const uint32_t *hit_starts;   // [row_count + 1]
    const uint16_t *halves;       // [payload_count] fp16, turned into
    float *payload;               // [payload_count] floats first
    size_t payload_count;
    struct fuser_result *results; // [row_count]
    float *refined;               // [row_count][dimension]
};

// Labels for one query.
struct compute_score {
    struct score_labels plain_labels;
    struct score_labels refined_labels;
    const float *plain; // the query, [dimension]
    const float *refined;
    struct neighbour *plain_ranked; // [label count] each
    struct neighbour *refined_ranked;
    struct score_explain *explain; // NULL: no effects; from 0: ranks, too, and the margin is set
    float *effects;                // [selection->count]
};

struct compute_job {
    enum compute_kind kind;
    enum compute_class class;
    union {
        struct encoder_images images;
        struct compute_texts texts;
        struct compute_tokens tokens;
        struct compute_fuse fuse;
        struct compute_score score;
    };
    void (*done)(void *context, struct compute_job *job); // on the loop thread
    void *context;

    // Results, valid in `done`.
    enum status status;
    struct reason why;
    int64_t wait_us; // in the queue
    int64_t run_us;  // with those that ran together with it

    // Compute's own.
    struct compute_job *next; // behind it in its line
    int64_t submitted_us;
    atomic_bool cancelled;
};

// Starts the thread, which opens the model. Errors of encoder_open().
enum status compute_start(const struct encoder_params *params, struct compute **out,
                          struct reason *why) MUST_CHECK;
void compute_stop(struct compute **compute); // NULL is allowed

// What the model is; lives as long as the compute. Read-only: any thread may look.
const struct clip_info *compute_info(const struct compute *compute);

// Where it encodes at the moment; any thread may ask.
const char *compute_device(const struct compute *compute);

// STATUS_EXHAUSTED when COMPUTE_JOBS_MAX are on their way; `done` is then never called.
enum status compute_submit(struct compute *compute, struct compute_job *job,
                           struct reason *why) MUST_CHECK;

// Asks that a waiting job be given back without being run. `done` is still called.
void compute_cancel(struct compute_job *job);

int compute_fd(const struct compute *compute); // readable while a job may be back
void compute_collect(struct compute *compute); // calls `done` of each that is
size_t compute_running(const struct compute *compute);

#endif
