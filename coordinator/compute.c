// SPDX-License-Identifier: Apache-2.0
// compute.c - one thread; two lines of jobs that wait for it.
//
//   compute_submit -> inbox -> the line of its class -> a batch: the first of a line, and those behind
//                              it that encode the same kind -> run -> back -> compute_collect
//
// The lines are the thread's own, so it can look along them. All queues hold COMPUTE_JOBS_MAX, so
// none is ever full.
//
// Nobody waits for a batch to fill: what came while the last one ran is the next one, so batches
// grow by themselves as soon as askers come faster than one at a time is served (README.md has the
// figures).

#include "coordinator/compute.h"

#include <assert.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>

#include "proto/base/clock.h"
#include "proto/base/half.h"
#include "proto/base/mem.h"
#include "proto/base/queue.h"
#include "proto/base/thread.h"
#include "shaders/models/tokenizer.h"

#define CLASSES 2
#define IN_A_ROW_MAX 16 // turns of queries before one of bulk jobs that wait
#define TURN_US 20000   // how long those of a batch should take, so that a cancel is felt soon
#define BATCH_MAX 256   // items of several jobs in one batch
#define POLL_MS_MAX 3600000
#define BATCH_FIRST 4 // while it is not known how long one takes

// Jobs in the order of their coming.
struct line {
    struct compute_job *first;
    struct compute_job *last;
};

struct compute {
    struct queue *inbox; // with wake, and
    struct queue *back;  // done jobs, with wake
    atomic_bool is_stopping;
    _Atomic(const char *) device; // told by the thread
    struct thread *thread;
    size_t running;               // the loop's: submitted and not collected
    struct encoder_params params; // while starting
    struct reason why;            // of a failed start
    const struct clip_info *info; // since the start
    // The thread's.
    struct encoder *encoder;
    struct line waiting[CLASSES];  // by enum compute_class
    uint32_t in_a_row;             // turns of queries since the last of bulk jobs
    double item_us[COMPUTE_SCORE]; // how long one takes, by the kinds that encode; 0: not known yet
    struct compute_job *batch[BATCH_MAX];
    struct encoder_images *works[BATCH_MAX];
    struct text texts[BATCH_MAX];
    float *embeddings; // [BATCH_MAX][dimension]
    struct fuser_row rows[FUSER_ROWS_MAX];
};

// ---------------------------------------------------------------- what a job does

static enum status run_tokens(const struct encoder *encoder, struct compute_tokens *tokens,
                              struct reason *why)
{
    const struct tokenizer *tokenizer = encoder_tokenizer(encoder);
    uint32_t context = encoder_info(encoder)->context;
    if (!tokenizer)
        return reason_set(why, STATUS_UNSUPPORTED, "texts",
                          "the model %s has no vocabulary: it reads no texts",
                          encoder_info(encoder)->name);
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

static enum status run_fuse(struct compute *compute, struct compute_job *job, struct reason *why)
{
    struct compute_fuse *fuse = &job->fuse;
    half_to_floats(fuse->halves, fuse->payload, fuse->payload_count);
    enum status status = STATUS_OK;
    for (uint32_t first = 0; first < fuse->row_count && status == STATUS_OK;) {
        if (is_cancelled(job))
            return STATUS_CANCELLED;
        const uint32_t left = fuse->row_count - first;
        const uint32_t count = left < FUSER_ROWS_MAX ? left : FUSER_ROWS_MAX;
        for (uint32_t i = 0; i < count; i++) {
            const uint32_t row = first + i;
            compute->rows[i] = (struct fuser_row){
                .query = fuse->queries + (size_t)row * fuse->dimension,
                .hits = fuse->hits + fuse->hit_starts[row],
                .selection = &fuse->results[row],
                .refined = fuse->refined + (size_t)row * fuse->dimension,
            };
            fuser_select(&fuse->params, compute->rows[i].hits,
                         fuse->hit_starts[row + 1] - fuse->hit_starts[row], &fuse->results[row]);
        }
        status = fuser_refine_rows(&fuse->params, compute->rows, count, why);
        first += count;
    }
    return status;
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

static enum status run_images(struct compute *compute, struct compute_job *const *jobs,
                              size_t count, struct reason *why)
{
    for (size_t i = 0; i < count; i++) {
        struct encoder_images *images = &jobs[i]->images;
        images->cancelled = &jobs[i]->cancelled;
        images->decode_ms = 0;
        images->preprocess_ms = 0;
        images->encode_ms = 0;
        compute->works[i] = images;
    }
    enum status status = encoder_images(compute->encoder, compute->works, count, why);
    for (size_t i = 0; i < count && status == STATUS_OK; i++)
        if (jobs[i]->images.is_given_up)
            jobs[i]->status = reason_set(&jobs[i]->why, STATUS_CANCELLED, NULL, "cancelled");
    return status;
}

static enum status run_texts(struct compute *compute, struct compute_job *const *jobs, size_t count,
                             struct reason *why)
{
    struct compute_texts *first = &jobs[0]->texts;
    if (count == 1)
        return encoder_texts(compute->encoder, first->texts, first->count, first->embeddings, why);

    size_t row = compute->info->dimension * sizeof(*compute->embeddings);
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        const struct compute_texts *texts = &jobs[i]->texts;
        memcpy(compute->texts + used, texts->texts, texts->count * sizeof(*texts->texts));
        used += texts->count;
    }
    enum status status =
        encoder_texts(compute->encoder, compute->texts, used, compute->embeddings, why);
    used = 0;
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        const struct compute_texts *texts = &jobs[i]->texts;
        memcpy(texts->embeddings, compute->embeddings + used * compute->info->dimension,
               texts->count * row);
        used += texts->count;
    }
    return status;
}

// Jobs of one kind; more than one only of a kind that encodes.
static enum status run(struct compute *compute, struct compute_job *const *jobs, size_t count,
                       struct reason *why)
{
    switch (jobs[0]->kind) {
    case COMPUTE_IMAGES:
        return run_images(compute, jobs, count, why);
    case COMPUTE_TEXTS:
        return run_texts(compute, jobs, count, why);
    case COMPUTE_TOKENS:
        return run_tokens(compute->encoder, &jobs[0]->tokens, why);
    case COMPUTE_FUSE:
        return run_fuse(compute, jobs[0], why);
    case COMPUTE_SCORE:
        return run_score(&jobs[0]->score);
    }
    assert(false && "a kind that is none");
    return STATUS_INTERNAL;
}

// ---------------------------------------------------------------- the thread

// Pictures or texts of a job; 0 when it does not encode.
static size_t items_of(const struct compute_job *job)
{
    if (job->kind == COMPUTE_IMAGES)
        return job->images.count;
    return job->kind == COMPUTE_TEXTS ? job->texts.count : 0;
}

static void line_push(struct line *line, struct compute_job *job)
{
    job->next = NULL;
    if (line->last)
        line->last->next = job;
    else
        line->first = job;
    line->last = job;
}

// Takes the job behind `previous` out, the first when that is NULL.
static struct compute_job *line_take(struct line *line, struct compute_job *previous)
{
    struct compute_job *job = previous ? previous->next : line->first;
    if (previous)
        previous->next = job->next;
    else
        line->first = job->next;
    if (line->last == job)
        line->last = previous;
    return job;
}

// Fills the lines; waits while they are empty. False when there is nothing and will be nothing.
static bool fill_lines(struct compute *compute)
{
    for (;;) {
        bool is_stopping = atomic_load(&compute->is_stopping); // before the inbox is looked at
        encoder_turn(compute->encoder);
        atomic_store(&compute->device, encoder_device(compute->encoder));
        struct compute_job *job = NULL;
        while ((job = queue_try_pop(compute->inbox)) != NULL)
            line_push(&compute->waiting[job->class], job);
        if (compute->waiting[COMPUTE_QUERY].first || compute->waiting[COMPUTE_BULK].first)
            return true;
        if (is_stopping)
            return false;
        struct pollfd fds[] = {{.fd = queue_fd(compute->inbox), .events = POLLIN},
                               {.fd = encoder_fd(compute->encoder), .events = POLLIN}};
        (void)poll(fds, 2, clock_poll_ms(encoder_next_us(compute->encoder), POLL_MS_MAX));
    }
}

// Queries first; but a bulk job comes at last, however many queries there are.
static struct line *choose_line(struct compute *compute)
{
    bool bulk_first = compute->in_a_row >= IN_A_ROW_MAX;
    enum compute_class class = bulk_first ? COMPUTE_BULK : COMPUTE_QUERY;
    if (!compute->waiting[class].first)
        class = class == COMPUTE_QUERY ? COMPUTE_BULK : COMPUTE_QUERY;
    compute->in_a_row = class == COMPUTE_QUERY ? compute->in_a_row + 1 : 0;
    return &compute->waiting[class];
}

// How many items go together.
static size_t room_of(const struct compute *compute, enum compute_kind kind)
{
    double item_us = compute->item_us[kind];
    if (item_us <= 0)
        return BATCH_FIRST;
    double room = TURN_US / item_us;
    return room < BATCH_MAX ? (size_t)room : BATCH_MAX;
}

// The first job of a line, and those behind it that may go with it; returns how many.
static size_t take_batch(struct compute *compute)
{
    struct line *line = choose_line(compute);
    struct compute_job *first = line_take(line, NULL);
    size_t items = items_of(first);
    size_t count = 1;
    compute->batch[0] = first;
    if (items == 0)
        return count;
    size_t room = room_of(compute, first->kind);
    struct compute_job *previous = NULL;
    for (struct compute_job *job = line->first; job && items < room;) {
        struct compute_job *next = job->next;
        if (job->kind == first->kind && items + items_of(job) <= room) {
            items += items_of(job);
            compute->batch[count++] = line_take(line, previous);
        } else {
            previous = job;
        }
        job = next;
    }
    return count;
}

static void note_speed(struct compute *compute, enum compute_kind kind, size_t items,
                       int64_t run_us)
{
    double item_us = (double)run_us / (double)items;
    double *known = &compute->item_us[kind];
    *known = *known <= 0 ? item_us : 0.75 * *known + 0.25 * item_us;
}

static void run_alone(struct compute *compute, struct compute_job *job)
{
    struct reason why = {0};
    enum status status = run(compute, &job, 1, &why);
    if (status == STATUS_OK)
        return;
    job->status = status;
    job->why = why;
}

// Together when that goes well; else each alone, so that what fails one fails no other.
static void run_batch(struct compute *compute, struct compute_job *const *jobs, size_t count)
{
    if (count > 1 && run(compute, jobs, count, NULL) == STATUS_OK)
        return;
    for (size_t i = 0; i < count; i++)
        run_alone(compute, jobs[i]);
}

// Takes a batch and runs what of it is still wanted.
static void take_turn(struct compute *compute)
{
    size_t taken = take_batch(compute);
    int64_t begun_us = clock_now_us();
    struct compute_job *wanted[BATCH_MAX];
    size_t count = 0;
    size_t items = 0;
    for (size_t i = 0; i < taken; i++) {
        struct compute_job *job = compute->batch[i];
        job->wait_us = begun_us - job->submitted_us;
        if (is_cancelled(job)) {
            job->status = reason_set(&job->why, STATUS_CANCELLED, NULL, "cancelled");
        } else {
            items += items_of(job);
            wanted[count++] = job;
        }
    }
    if (count > 0)
        run_batch(compute, wanted, count);
    int64_t run_us = clock_now_us() - begun_us;
    if (items > 0)
        note_speed(compute, wanted[0]->kind, items, run_us);
    for (size_t i = 0; i < taken; i++) {
        compute->batch[i]->run_us = run_us;
        enum status pushed = queue_push(compute->back, compute->batch[i]);
        assert(pushed == STATUS_OK);
        (void)pushed;
    }
}

static enum status open_parts(struct compute *compute)
{
    enum status status = encoder_open(&compute->params, &compute->encoder, &compute->why);
    if (status != STATUS_OK)
        return status;
    compute->info = encoder_info(compute->encoder);
    atomic_store(&compute->device, encoder_device(compute->encoder));
    compute->embeddings = mem_try_alloc_array((size_t)BATCH_MAX * compute->info->dimension,
                                              sizeof(*compute->embeddings));
    if (!compute->embeddings)
        return reason_set(&compute->why, STATUS_NO_MEMORY, NULL, "no memory for %d embeddings",
                          BATCH_MAX);
    return STATUS_OK;
}

static void body(struct thread *self, void *context)
{
    struct compute *compute = context;
    enum status status = open_parts(compute);
    thread_ready(self, status);
    while (status == STATUS_OK && fill_lines(compute))
        take_turn(compute);
    encoder_close(&compute->encoder);
    mem_free(compute->embeddings);
}

enum status compute_start(const struct encoder_params *params, struct compute **out,
                          struct reason *why)
{
    assert(params && out);

    struct compute *compute = mem_alloc(sizeof(*compute));
    compute->params = *params;
    atomic_init(&compute->is_stopping, false);
    atomic_init(&compute->device, NULL);
    compute->inbox = queue_create(COMPUTE_JOBS_MAX, true);
    compute->back = queue_create(COMPUTE_JOBS_MAX, true);
    enum status status = STATUS_EXHAUSTED;
    if (compute->inbox && compute->back)
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
    atomic_store(&self->is_stopping, true);
    if (self->inbox)
        queue_close(self->inbox);
    thread_join(&self->thread);
    queue_destroy(&self->inbox);
    queue_destroy(&self->back);
    mem_free(self);
    *compute = NULL;
}

const struct clip_info *compute_info(const struct compute *compute)
{
    return compute->info;
}

const char *compute_device(const struct compute *compute)
{
    return atomic_load(&compute->device);
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
    enum status pushed = queue_push(compute->inbox, job);
    assert(pushed == STATUS_OK);
    (void)pushed;
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
