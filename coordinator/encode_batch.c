// SPDX-License-Identifier: Apache-2.0
// encode_batch.c - one job after the other, each sized by the time that the last one took.
// An embedding does not depend on its batch, so the sizes do not show in the results.

#include "coordinator/encode_batch.h"

#include <assert.h>

#define JOB_US 20000 // so that a cancel is felt soon
#define IMAGES_FIRST 4
#define IMAGES_MAX 64
#define TEXTS_FIRST 32
#define TEXTS_MAX 1024

static enum status submit(struct encode_batch *batch, struct reason *why);

// How many items the next job takes.
static size_t next_size(const struct encode_batch *batch)
{
    int64_t run_us = batch->job.run_us > 0 ? batch->job.run_us : 1;
    size_t max = batch->kind == COMPUTE_IMAGES ? IMAGES_MAX : TEXTS_MAX;
    size_t aim = (size_t)((int64_t)batch->size * JOB_US / run_us);
    if (aim < 1)
        return 1;
    return aim < max ? aim : max;
}

static void on_job(void *context, struct compute_job *job)
{
    struct encode_batch *batch = context;
    batch->queue_ms += (double)job->wait_us / 1000;
    if (job->kind == COMPUTE_IMAGES) {
        batch->decode_ms += job->images.decode_ms;
        batch->preprocess_ms += job->images.preprocess_ms;
        batch->encode_ms += job->images.encode_ms;
    } else {
        batch->encode_ms += (double)job->run_us / 1000;
    }

    struct reason why = job->why;
    enum status status = job->status;
    batch->next += batch->size;
    if (status == STATUS_OK && batch->is_cancelled)
        status = reason_set(&why, STATUS_CANCELLED, NULL, "cancelled");
    if (status == STATUS_OK && batch->next < batch->count) {
        batch->size = next_size(batch);
        status = submit(batch, &why);
        if (status == STATUS_OK)
            return;
    }
    batch->done(batch->context, status, &why);
}

static enum status submit(struct encode_batch *batch, struct reason *why)
{
    struct compute_job *job = &batch->job;
    size_t from = batch->next;
    size_t dimension = compute_info(batch->compute)->dimension;
    if (batch->size > batch->count - from)
        batch->size = batch->count - from;
    job->kind = batch->kind;
    job->class = batch->class;
    job->done = on_job;
    job->context = batch;
    if (batch->kind == COMPUTE_IMAGES)
        job->images = (struct encoder_images){
            .files = batch->files + from,
            .count = batch->size,
            .profile = batch->profile,
            .embeddings = batch->embeddings + from * dimension,
            .statuses = batch->statuses + from,
            .reasons = batch->reasons + from,
        };
    else if (batch->kind == COMPUTE_TEXTS)
        job->texts = (struct compute_texts){
            .texts = batch->texts + from,
            .count = batch->size,
            .embeddings = batch->embeddings + from * dimension,
        };
    else
        job->tokens = (struct compute_tokens){
            .texts = batch->texts + from,
            .count = batch->size,
            .ids = batch->ids + from * compute_info(batch->compute)->context,
            .counts = batch->counts + from,
        };
    return compute_submit(batch->compute, job, why);
}

enum status encode_batch_begin(struct encode_batch *batch, struct reason *why)
{
    assert(batch && batch->compute && batch->count > 0 && batch->done);
    assert(batch->kind == COMPUTE_IMAGES || batch->kind == COMPUTE_TEXTS ||
           batch->kind == COMPUTE_TOKENS);

    batch->next = 0;
    batch->size = batch->kind == COMPUTE_IMAGES ? IMAGES_FIRST : TEXTS_FIRST;
    batch->is_cancelled = false;
    return submit(batch, why);
}

void encode_batch_cancel(struct encode_batch *batch)
{
    assert(batch);

    batch->is_cancelled = true;
    compute_cancel(&batch->job);
}
