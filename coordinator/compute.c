// SPDX-License-Identifier: Apache-2.0
// compute.c - one thread, two queues of jobs and one of tokens.
//
// A job goes into the queue of its class, then a token into `ready`. The thread waits for a
// token and takes a job, mostly a query's before a bulk one: there is always one, for
// every token is put in after its job. All queues hold COMPUTE_JOBS_MAX, so none is ever full.

#include "coordinator/compute.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

#include "proto/base/clock.h"
#include "proto/base/half.h"
#include "proto/base/mem.h"
#include "proto/base/queue.h"
#include "proto/base/thread.h"
#include "shaders/models/tokenizer.h"

#define IN_A_ROW_MAX 16 // query jobs before a bulk job that waits

struct compute {
    struct queue *waiting[2]; // by enum compute_class
    struct queue *ready;      // tokens
    struct queue *back;       // done jobs, with wake
    uint32_t in_a_row;        // the thread's: query jobs since the last bulk job
    struct thread *thread;
    struct clip *clip;         // the thread's
    size_t running;            // the loop's: submitted and not collected
    struct clip_params params; // while starting
    struct reason why;         // of a failed start
};

// ---------------------------------------------------------------- what a job does

static enum status run_tokens(const struct clip *clip, struct compute_tokens *tokens,
                              struct reason *why)
{
    const struct tokenizer *tokenizer = clip_tokenizer(clip);
    uint32_t context = clip_info(clip)->context;
    if (!tokenizer)
        return reason_set(why, STATUS_UNSUPPORTED, "texts",
                          "the model %s has no vocabulary: it reads no texts",
                          clip_info(clip)->name);
    for (size_t i = 0; i < tokens->count; i++) {
        enum status status = tokenizer_encode(tokenizer, tokens->texts[i],
                                              tokens->ids + i * context, &tokens->counts[i], why);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

// Relaxed: a cancel that comes too late is one that came while the job ran.
static bool is_cancelled(const struct compute_job *job)
{
    return atomic_load_explicit(&job->cancelled, memory_order_relaxed);
}

static enum status run_fuse(struct compute_job *job)
{
    struct compute_fuse *fuse = &job->fuse;
    half_to_floats(fuse->halves, fuse->payload, fuse->payload_count);
    for (uint32_t row = 0; row < fuse->row_count; row++) {
        if (is_cancelled(job))
            return STATUS_CANCELLED;
        const struct fuser_hit *hits = fuse->hits + fuse->hit_starts[row];
        size_t count = fuse->hit_starts[row + 1] - fuse->hit_starts[row];
        const float *query = fuse->queries + (size_t)row * fuse->dimension;
        float *refined = fuse->refined + (size_t)row * fuse->dimension;
        struct fuser_result *result = &fuse->results[row];
        fuser_select(&fuse->params, hits, count, result);
        if (fuser_refine(&fuse->params, query, hits, result, FUSER_ALL, refined) == STATUS_OK)
            continue;

        // Nothing is left of query plus payload: that is no direction to go.
        static const char reason[] = "plain CLIP: query and payload cancel out";
        memcpy(refined, query, fuse->dimension * sizeof(*refined));
        memcpy(result->reason, reason, sizeof(reason));
        result->gate = 0;
    }
    return STATUS_OK;
}

static enum status run_score(struct compute_score *score)
{
    struct score_explain *explain = score->explain;
    if (!explain || explain->from == 0) {
        score_rank(score->plain, &score->plain_labels, score->plain_ranked);
        score_rank(score->refined, &score->refined_labels, score->refined_ranked);
    }
    if (!explain)
        return STATUS_OK;
    size_t winner = (size_t)score->refined_ranked[0].id;
    if (explain->from == 0)
        explain->margin = score_margin(explain->refined, &score->refined_labels, winner);
    return score_effects(explain, &score->refined_labels, winner, score->effects);
}

static enum status run(struct clip *clip, struct compute_job *job)
{
    switch (job->kind) {
    case COMPUTE_IMAGES:
        job->images.cancelled = &job->cancelled;
        return encoder_images(clip, &job->images, &job->why);
    case COMPUTE_TEXTS:
        return clip_encode_texts(clip, job->texts.texts, job->texts.count, job->texts.embeddings,
                                 &job->why);
    case COMPUTE_TOKENS:
        return run_tokens(clip, &job->tokens, &job->why);
    case COMPUTE_FUSE:
        return run_fuse(job);
    case COMPUTE_SCORE:
        return run_score(&job->score);
    }
    assert(false && "a kind that is none");
    return STATUS_INTERNAL;
}

// ---------------------------------------------------------------- the thread

// Queries first; but a bulk job comes at last, however many queries there are.
static struct compute_job *take_job(struct compute *compute)
{
    bool bulk_first = compute->in_a_row >= IN_A_ROW_MAX;
    enum compute_class first = bulk_first ? COMPUTE_BULK : COMPUTE_QUERY;
    enum compute_class second = bulk_first ? COMPUTE_QUERY : COMPUTE_BULK;
    struct compute_job *job = queue_try_pop(compute->waiting[first]);
    if (!job)
        job = queue_try_pop(compute->waiting[second]);
    assert(job);
    compute->in_a_row = job->class == COMPUTE_QUERY ? compute->in_a_row + 1 : 0;
    return job;
}

static void body(struct thread *self, void *context)
{
    struct compute *compute = context;
    enum status status = clip_open(&compute->params, &compute->clip, &compute->why);
    thread_ready(self, status);
    if (status != STATUS_OK)
        return;

    while (queue_pop(compute->ready, DEADLINE_NONE)) {
        struct compute_job *job = take_job(compute);
        int64_t begun_us = clock_now_us();
        job->wait_us = begun_us - job->submitted_us;
        if (is_cancelled(job))
            job->status = reason_set(&job->why, STATUS_CANCELLED, NULL, "cancelled");
        else
            job->status = run(compute->clip, job);
        job->run_us = clock_now_us() - begun_us;
        enum status pushed = queue_push(compute->back, job);
        assert(pushed == STATUS_OK);
        (void)pushed;
    }
    clip_close(&compute->clip);
}

enum status compute_start(const struct clip_params *params, struct compute **out,
                          struct reason *why)
{
    assert(params && out);

    struct compute *compute = mem_alloc(sizeof(*compute));
    compute->params = *params;
    compute->waiting[COMPUTE_QUERY] = queue_create(COMPUTE_JOBS_MAX, false);
    compute->waiting[COMPUTE_BULK] = queue_create(COMPUTE_JOBS_MAX, false);
    compute->ready = queue_create(COMPUTE_JOBS_MAX, false);
    compute->back = queue_create(COMPUTE_JOBS_MAX, true);
    enum status status = STATUS_EXHAUSTED;
    if (compute->back)
        status = thread_start("reco-compute", body, compute, &compute->thread);
    if (status != STATUS_OK) {
        if (compute->why.text[0] == '\0')
            (void)reason_set(&compute->why, status, NULL,
                             "the system has no file descriptor or thread left to compute");
        if (why)
            *why = compute->why;
        compute_stop(&compute);
        return status;
    }
    *out = compute;
    return STATUS_OK;
}

void compute_stop(struct compute **compute)
{
    assert(compute);

    struct compute *self = *compute;
    if (!self)
        return;
    assert(self->running == 0);
    queue_close(self->ready);
    thread_join(&self->thread);
    queue_destroy(&self->waiting[COMPUTE_QUERY]);
    queue_destroy(&self->waiting[COMPUTE_BULK]);
    queue_destroy(&self->ready);
    queue_destroy(&self->back);
    mem_free(self);
    *compute = NULL;
}

const struct clip_info *compute_info(const struct compute *compute)
{
    return clip_info(compute->clip);
}

// ---------------------------------------------------------------- the loop's side

enum status compute_submit(struct compute *compute, struct compute_job *job, struct reason *why)
{
    assert(compute && job && job->done);

    if (compute->running >= COMPUTE_JOBS_MAX)
        return reason_set(why, STATUS_EXHAUSTED, NULL,
                          "%d jobs wait for the encoder already; try again later",
                          COMPUTE_JOBS_MAX);
    job->submitted_us = clock_now_us();
    job->status = STATUS_OK;
    job->why = (struct reason){0};
    atomic_store_explicit(&job->cancelled, false, memory_order_relaxed);
    enum status first = queue_push(compute->waiting[job->class], job);
    enum status second = queue_push(compute->ready, job); // any pointer but NULL is a token
    assert(first == STATUS_OK && second == STATUS_OK);
    (void)first;
    (void)second;
    compute->running++;
    return STATUS_OK;
}

void compute_cancel(struct compute_job *job)
{
    assert(job);

    atomic_store_explicit(&job->cancelled, true, memory_order_relaxed);
}

int compute_fd(const struct compute *compute)
{
    return queue_fd(compute->back);
}

void compute_collect(struct compute *compute)
{
    assert(compute);

    struct compute_job *job = NULL;
    while ((job = queue_try_pop(compute->back)) != NULL) {
        compute->running--;
        job->done(job->context, job);
    }
}

size_t compute_running(const struct compute *compute)
{
    return compute->running;
}
