// SPDX-License-Identifier: Apache-2.0
// Goal: jobs that wait together are encoded together, and none of them can tell: the same bits as
// alone, its own failure and its own cancel only, and bulk jobs come to their turn.
//
// Method: the embedded model behind a gate. The first call of the model is held until the test has
// submitted what is to wait behind it; then it is counted what comes.

#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "coordinator/compute.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "tests/support/patience.h"

#define JOBS 40
#define WAIT_US 60000000
#define DIMENSION_TINY_MAX 512

// ---------------------------------------------------------------- the gate in front of the model

static sem_t entered;
static sem_t gate;
static atomic_int calls;
static atomic_int is_gated; // how many of the next calls are held
static atomic_int largest;  // items of a call
static const char *poison;  // a text that fails every call that has it
static char order[4096];    // first letters of the texts of each call, '|' between calls

// NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp): names that the linker
// gives

enum status __real_clip_encode_texts(struct clip *clip, const struct text *texts, size_t count,
                                     float *embeddings, struct reason *why);
enum status __real_clip_encode_pictures(struct clip *clip, const uint8_t *pictures, size_t count,
                                        float *embeddings, struct reason *why);

int64_t __wrap_clock_now_us(void);

// A clock of its own, so that a busy machine does not make batches smaller.
int64_t __wrap_clock_now_us(void)
{
    static atomic_llong now_us;
    return atomic_fetch_add(&now_us, 10);
}

static void pass_gate(size_t count)
{
    (void)atomic_fetch_add(&calls, 1);
    if ((int)count > atomic_load(&largest))
        atomic_store(&largest, (int)count);
    if (atomic_load(&is_gated) > 0) {
        (void)atomic_fetch_sub(&is_gated, 1);
        (void)sem_post(&entered);
        (void)sem_wait(&gate);
    }
}

enum status __wrap_clip_encode_texts(struct clip *clip, const struct text *texts, size_t count,
                                     float *embeddings, struct reason *why)
{
    pass_gate(count);
    size_t used = strlen(order);
    for (size_t i = 0; i < count && used + 2 < sizeof(order); i++)
        order[used++] = texts[i].data[0];
    order[used] = '|';
    for (size_t i = 0; i < count; i++)
        if (poison && text_equal(texts[i], text_of(poison)))
            return reason_set(why, STATUS_INTERNAL, "texts", "poison");
    return __real_clip_encode_texts(clip, texts, count, embeddings, why);
}

enum status __wrap_clip_encode_pictures(struct clip *clip, const uint8_t *pictures, size_t count,
                                        float *embeddings, struct reason *why)
{
    pass_gate(count);
    return __real_clip_encode_pictures(clip, pictures, count, embeddings, why);
}

// NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp)

// ---------------------------------------------------------------- jobs

struct asker {
    struct compute_job job;
    char words[32];
    struct text text;
    struct bytes file;
    enum status file_status;
    struct reason file_reason;
    float embedding[DIMENSION_TINY_MAX];
    int done; // its place among those that are done, from 1; 0: not yet
};

static struct compute *compute;
static struct asker askers[JOBS];
static struct buffer pictures[2];
static int done_count;

static void on_done(void *context, struct compute_job *job)
{
    struct asker *asker = context;
    cr_assert(eq(ptr, &asker->job, job));
    cr_assert(eq(int, asker->done, 0), "done twice");
    asker->done = ++done_count;
}

static void submit(struct asker *asker, enum compute_kind kind, enum compute_class class)
{
    struct reason why = {0};
    asker->done = 0;
    asker->job =
        (struct compute_job){.kind = kind, .class = class, .done = on_done, .context = asker};
    if (kind == COMPUTE_TEXTS)
        asker->job.texts = (struct compute_texts){&asker->text, 1, asker->embedding};
    else
        asker->job.images = (struct encoder_images){.files = &asker->file,
                                                    .count = 1,
                                                    .embeddings = asker->embedding,
                                                    .statuses = &asker->file_status,
                                                    .reasons = &asker->file_reason};
    cr_assert(eq(int, compute_submit(compute, &asker->job, &why), STATUS_OK), "%s", why.text);
}

static void collect_all(void)
{
    int64_t limit_us = clock_deadline_in_us(WAIT_US);
    while (compute_running(compute) > 0) {
        compute_collect(compute);
        cr_assert(patience_lasts(limit_us));
    }
}

static void submit_text(size_t i, enum compute_class class, char first)
{
    (void)snprintf(askers[i].words, sizeof(askers[i].words), "%c drawing of %zu anchors", first, i);
    askers[i].text = text_of(askers[i].words);
    submit(&askers[i], COMPUTE_TEXTS, class);
}

static void submit_picture(size_t i)
{
    askers[i].file = (struct bytes){pictures[i % 2].data, pictures[i % 2].count};
    submit(&askers[i], COMPUTE_IMAGES, COMPUTE_QUERY);
}

// Runs one job alone and holds it in the model until open_gate().
static void close_gate(void)
{
    atomic_store(&is_gated, 1);
    submit_text(0, COMPUTE_QUERY, 'x');
    while (sem_wait(&entered) != 0) {
    }
    atomic_store(&calls, 0);
    atomic_store(&largest, 0);
    memset(order, 0, sizeof(order));
}

static void open_gate(void)
{
    (void)sem_post(&gate);
    collect_all();
}

static void start(void)
{
    static const char *const names[] = {"anchor.noto.png", "anchor.twemoji.png"};
    struct reason why = {0};
    log_set_level(LOG_ERROR);
    (void)sem_init(&entered, 0, 0);
    (void)sem_init(&gate, 0, 0);
    for (size_t i = 0; i < 2; i++) {
        char path[256];
        (void)snprintf(path, sizeof(path), "%s/tests/golden/tiny/images/%s", RECO_SOURCE_DIR,
                       names[i]);
        cr_assert(eq(int, bytes_read_file(path, 1 << 20, &pictures[i]), STATUS_OK), "%s", path);
    }
    const struct encoder_params params = {.clip = {.threads = 1}};
    cr_assert(eq(int, compute_start(&params, &compute, &why), STATUS_OK), "%s", why.text);
    // So that the time of one item is known; then all fit into a turn.
    for (size_t i = 0; i < 4; i++) {
        submit_text(i, COMPUTE_QUERY, 'w');
        collect_all();
        submit_picture(i);
        collect_all();
    }
}

static void stop(void)
{
    compute_stop(&compute);
    buffer_deinit(&pictures[0]);
    buffer_deinit(&pictures[1]);
}

TestSuite(compute, .init = start, .fini = stop, .timeout = 120);

// ---------------------------------------------------------------- the promises

Test(compute, texts_that_wait_are_encoded_together_to_the_same_bits)
{
    static float alone[JOBS][DIMENSION_TINY_MAX];
    size_t bytes = compute_info(compute)->dimension * sizeof(float);
    cr_assert(le(u32, compute_info(compute)->dimension, DIMENSION_TINY_MAX));
    for (size_t i = 1; i < JOBS; i++) {
        submit_text(i, COMPUTE_QUERY, 'a');
        collect_all();
        memcpy(alone[i], askers[i].embedding, bytes);
        memset(askers[i].embedding, 0, bytes);
    }
    close_gate();
    for (size_t i = 1; i < JOBS; i++)
        submit_text(i, COMPUTE_QUERY, 'a');
    open_gate();
    cr_expect(eq(int, atomic_load(&calls), 1));
    cr_expect(eq(int, atomic_load(&largest), JOBS - 1));
    for (size_t i = 1; i < JOBS; i++) {
        cr_expect(gt(int, askers[i].done, 0));
        cr_expect(eq(int, askers[i].job.status, STATUS_OK));
        cr_expect(eq(int, memcmp(alone[i], askers[i].embedding, bytes), 0), "text %zu", i);
    }
}

Test(compute, pictures_that_wait_are_encoded_together_to_the_same_bits)
{
    static float alone[2][DIMENSION_TINY_MAX];
    size_t bytes = compute_info(compute)->dimension * sizeof(float);
    for (size_t i = 0; i < 2; i++) {
        submit_picture(i);
        collect_all();
        memcpy(alone[i], askers[i].embedding, bytes);
    }
    close_gate();
    for (size_t i = 1; i < JOBS; i++)
        submit_picture(i);
    static const char broken[] = "no picture";
    askers[7].file = (struct bytes){(const uint8_t *)broken, sizeof(broken)};
    open_gate();
    cr_expect(eq(int, atomic_load(&calls), (JOBS - 2) / (int)ENCODER_PICTURES_MAX + 1));
    cr_expect(eq(int, atomic_load(&largest), ENCODER_PICTURES_MAX));
    for (size_t i = 1; i < JOBS; i++) {
        cr_expect(eq(int, askers[i].job.status, STATUS_OK));
        cr_expect(eq(int, askers[i].file_status == STATUS_OK, i != 7), "picture %zu", i);
        if (i != 7)
            cr_expect(eq(int, memcmp(alone[i % 2], askers[i].embedding, bytes), 0), "%zu", i);
        cr_expect(gt(dbl, askers[i].job.images.decode_ms, 0));
    }
}

Test(compute, what_fails_one_job_fails_no_other)
{
    close_gate();
    for (size_t i = 1; i < 10; i++)
        submit_text(i, COMPUTE_QUERY, 'a');
    poison = askers[4].words;
    open_gate();
    cr_expect(eq(int, atomic_load(&largest), 9)); // they were tried together
    for (size_t i = 1; i < 10; i++)
        cr_expect(eq(int, askers[i].job.status, i == 4 ? STATUS_INTERNAL : STATUS_OK));
    cr_expect(eq(int, strcmp(askers[4].job.why.text, "poison"), 0));
    poison = NULL;
}

Test(compute, a_job_cancelled_in_the_line_is_not_run_and_its_neighbours_are)
{
    close_gate();
    for (size_t i = 1; i < 10; i++)
        submit_text(i, COMPUTE_QUERY, i == 5 ? 'c' : 'a');
    compute_cancel(&askers[5].job);
    open_gate();
    cr_expect(eq(ptr, strchr(order, 'c'), NULL), "%s", order);
    for (size_t i = 1; i < 10; i++) {
        cr_expect(gt(int, askers[i].done, 0));
        cr_expect(eq(int, askers[i].job.status, i == 5 ? STATUS_CANCELLED : STATUS_OK));
    }
}

Test(compute, bulk_jobs_share_no_batch_with_queries_and_come_behind_them)
{
    close_gate();
    submit_text(1, COMPUTE_BULK, 'b');
    submit_text(2, COMPUTE_BULK, 'b');
    for (size_t i = 3; i < 7; i++)
        submit_text(i, COMPUTE_QUERY, 'q');
    open_gate();
    char *bulk = strchr(order, 'b');
    cr_assert(ne(ptr, bulk, NULL));
    cr_expect(gt(ptr, bulk, strrchr(order, 'q')), "%s", order);
    cr_expect(eq(chr, bulk[-1], '|'));
}

Test(compute, a_bulk_job_comes_to_its_turn_however_many_queries_there_are)
{
    static uint32_t ids[JOBS][1024];
    static uint32_t counts[JOBS];
    cr_assert(le(u32, compute_info(compute)->context, 1024));
    close_gate();
    submit_text(1, COMPUTE_BULK, 'b');
    for (size_t i = 2; i < JOBS; i++) { // tokens share no turn
        askers[i].text = text_of("an anchor");
        askers[i].job = (struct compute_job){
            .kind = COMPUTE_TOKENS,
            .tokens = {&askers[i].text, 1, ids[i], &counts[i]},
            .done = on_done,
            .context = &askers[i],
        };
        askers[i].done = 0;
        cr_assert(eq(int, compute_submit(compute, &askers[i].job, NULL), STATUS_OK));
    }
    open_gate();
    cr_expect(lt(int, askers[1].done, askers[20].done)); // and not behind all of them
    cr_expect(gt(int, askers[1].done, askers[2].done));
}
