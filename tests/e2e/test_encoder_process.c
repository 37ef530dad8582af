// SPDX-License-Identifier: Apache-2.0
// Goal: whatever happens to reco-encoder, no job fails, no bit of an embedding changes (both
// compute on the CPU here), the metrics say what happened, and it comes back, later each time.
//
// Method: compute with a reco-encoder that plays a driver which fails in a known way at a known
// question (spoiled_encoder.c), beside one that computes in this process alone.

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <criterion/parameterized.h>

#include "coordinator/compute.h"
#include "coordinator/telemetry.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "tests/support/patience.h"

#define SPOILED RECO_BINARY_DIR "/bin/spoiled_encoder"
#define HONEST RECO_BINARY_DIR "/bin/reco-encoder"
#define JOBS 12 // texts, with a picture behind each
#define WAIT_US 60000000
#define DIMENSION_TINY_MAX 512
#define METRICS_BYTES (1 << 18)

struct asker {
    struct compute_job job;
    char words[32];
    struct text text;
    struct bytes file;
    enum status file_status;
    struct reason file_reason;
    float embedding[DIMENSION_TINY_MAX];
};

static struct telemetry *telemetry;
static struct compute *compute;
static struct asker askers[2 * JOBS];
static float expected[2 * JOBS][DIMENSION_TINY_MAX];
static struct buffer picture;

static enum status start(const char *program, const char *plan, struct reason *why)
{
    const struct encoder_params params = {
        .clip = {.threads = 1, .device = "cpu"}, .process = program, .telemetry = telemetry};
    if (plan)
        cr_assert(eq(int, setenv("RECO_SPOIL", plan, 1), 0));
    return compute_start(&params, &compute, why);
}

static void start_well(const char *program, const char *plan)
{
    struct reason why = {0};
    cr_assert(eq(int, start(program, plan, &why), STATUS_OK), "%s: %s", why.field, why.text);
}

static void on_done(void *context, struct compute_job *job)
{
    struct asker *asker = context;
    cr_expect(eq(int, job->status, STATUS_OK), "%s", job->why.text);
    if (job->kind == COMPUTE_IMAGES)
        cr_expect(eq(int, asker->file_status, STATUS_OK));
}

static void collect_all(void)
{
    int64_t limit_us = clock_deadline_in_us(WAIT_US);
    while (compute_running(compute) > 0) {
        compute_collect(compute);
        cr_assert(patience_lasts(limit_us));
    }
}

static void submit(size_t i)
{
    struct asker *asker = &askers[i];
    (void)snprintf(asker->words, sizeof(asker->words), "a drawing of %zu anchors", i);
    asker->text = text_of(asker->words);
    asker->file = (struct bytes){picture.data, picture.count};
    asker->job = (struct compute_job){
        .kind = i % 2 ? COMPUTE_IMAGES : COMPUTE_TEXTS, .done = on_done, .context = asker};
    if (i % 2)
        asker->job.images = (struct encoder_images){.files = &asker->file,
                                                    .count = 1,
                                                    .embeddings = asker->embedding,
                                                    .statuses = &asker->file_status,
                                                    .reasons = &asker->file_reason};
    else
        asker->job.texts = (struct compute_texts){&asker->text, 1, asker->embedding};
    cr_assert(eq(int, compute_submit(compute, &asker->job, NULL), STATUS_OK));
}

// Every job alone, so that each is a question of its own.
static void run_all(void)
{
    for (size_t i = 0; i < 2 * JOBS; i++) {
        memset(askers[i].embedding, 0, sizeof(askers[i].embedding));
        submit(i);
        collect_all();
    }
}

static void check_bits(void)
{
    size_t bytes = compute_info(compute)->dimension * sizeof(float);
    for (size_t i = 0; i < 2 * JOBS; i++)
        cr_expect(eq(int, memcmp(expected[i], askers[i].embedding, bytes), 0), "item %zu", i);
}

// The value of a line of the metrics; 0 when it is not there.
static double metric(const char *name)
{
    struct buffer text = {0};
    double value = 0;
    cr_assert(eq(int, metrics_write(telemetry_metrics(telemetry), &text), STATUS_OK));
    cr_assert(eq(int, buffer_append(&text, "", 1), STATUS_OK));
    const char *at = strstr((const char *)text.data, name);
    if (at)
        value = strtod(at + strlen(name), NULL);
    buffer_deinit(&text);
    return value;
}

static double deaths(const char *cause)
{
    char name[80];
    (void)snprintf(name, sizeof(name), "\nreco_encoder_deaths_total{cause=\"%s\"} ", cause);
    return metric(name);
}

static double batches(const char *by)
{
    char name[80];
    (void)snprintf(name, sizeof(name), "\nreco_encode_batches_total{by=\"%s\"} ", by);
    return metric(name);
}

static void wait_up(void)
{
    int64_t limit_us = clock_deadline_in_us(WAIT_US);
    while (metric("\nreco_encoder_up ") == 0)
        cr_assert(patience_lasts(limit_us), "it does not come back");
}

static void open_all(void)
{
    log_set_level(LOG_ERROR);
    telemetry = telemetry_create(0, "test");
    cr_assert(eq(int,
                 bytes_read_file(RECO_SOURCE_DIR "/tests/golden/tiny/images/anchor.noto.png",
                                 1 << 20, &picture),
                 STATUS_OK));
    start_well(NULL, NULL);
    run_all();
    for (size_t i = 0; i < 2 * JOBS; i++)
        memcpy(expected[i], askers[i].embedding, sizeof(expected[i]));
    compute_stop(&compute);
    telemetry_destroy(&telemetry);
    telemetry = telemetry_create(0, "test");
}

static void close_all(void)
{
    compute_stop(&compute);
    telemetry_destroy(&telemetry);
    buffer_deinit(&picture);
}

TestSuite(encoder_process, .init = open_all, .fini = close_all, .timeout = 240);

// ---------------------------------------------------------------- the promises

Test(encoder_process, gives_the_bits_of_this_process)
{
    start_well(HONEST, NULL);
    run_all();
    check_bits();
    cr_expect(eq(dbl, batches("process"), 2 * JOBS));
    cr_expect(eq(dbl, batches("cpu") + batches("cpu_retry"), 0));
    cr_expect(eq(dbl, metric("\nreco_encoder_up "), 1));
}

struct fault {
    char plan[16];
    char cause[16]; // empty: it lives on
};

ParameterizedTestParameters(encoder_process, costs_a_retry_when_it_fails_and_comes_back)
{
    static struct fault faults[] = {
        {"die:3", "exit"},    {"close:4", "exit"},    {"hang:5", "hang"},      {"nan:3", "answer"},
        {"zero:4", "answer"}, {"number:5", "answer"}, {"version:3", "answer"}, {"kind:4", "answer"},
        {"lost:4", "device"}, {"memory:4", "device"}, {"refuse:4", ""},
    };
    return cr_make_param_array(struct fault, faults, sizeof(faults) / sizeof(faults[0]));
}

ParameterizedTest(struct fault *fault, encoder_process, costs_a_retry_when_it_fails_and_comes_back)
{
    start_well(SPOILED, fault->plan);
    cr_assert(eq(dbl, metric("\nreco_encoder_up "), 1));
    run_all();
    check_bits();
    cr_expect(ge(dbl, batches("cpu_retry"), 1), "%s", fault->plan);
    cr_expect(eq(int, deaths(fault->cause) >= 1, fault->cause[0] != '\0'), "%s", fault->plan);
    cr_expect(eq(dbl, batches("cpu_retry"), deaths(fault->cause) + (fault->cause[0] == '\0')));
    double before = batches("process");
    wait_up();
    submit(0);
    collect_all();
    cr_expect(gt(dbl, batches("process"), before), "%s: it does not compute any more", fault->plan);
    check_bits();
}

// 2 s and eight times the milliseconds that one item takes, on a machine that may be busy.
Test(encoder_process, a_hang_is_found_within_its_time)
{
    start_well(SPOILED, "hang:1");
    int64_t begun_us = clock_now_us();
    submit(0);
    collect_all();
    int64_t took_us = clock_now_us() - begun_us;
    cr_expect(ge(i64, took_us, 2000000));
    cr_expect(lt(i64, took_us, 15000000));
    cr_expect(eq(dbl, deaths("hang"), 1));
    cr_expect(eq(dbl, metric("\nreco_encoder_up "), 0));
}

// Each start is waited for longer: 0.1, 0.2, 0.4, 0.8 s before the second to fifth.
Test(encoder_process, one_that_crashes_at_each_question_is_started_less_and_less_often)
{
    start_well(SPOILED, "die:1");
    int64_t begun_us = clock_now_us();
    int64_t limit_us = clock_deadline_in_us(WAIT_US);
    for (size_t i = 0; deaths("exit") < 5; i++) {
        cr_assert(patience_lasts(limit_us));
        submit(i % (2 * JOBS));
        collect_all();
    }
    cr_expect(ge(i64, clock_now_us() - begun_us, 1500000));
    cr_expect(eq(dbl, batches("process"), 0));
    cr_expect(gt(dbl, batches("cpu"), batches("cpu_retry"))); // mostly it is not even tried
    run_all();
    check_bits();
}

Test(encoder_process, one_that_does_not_start_leaves_the_work_to_this_process)
{
    start_well(SPOILED, "start");
    run_all();
    check_bits();
    cr_expect(eq(dbl, batches("process"), 0));
    cr_expect(ge(dbl, deaths("exit"), 1));
    cr_expect(eq(dbl, metric("\nreco_encoder_up "), 0));
}

Test(encoder_process, one_with_another_model_is_not_asked)
{
    char folder[] = "/tmp/reco-other-XXXXXX";
    char command[256];
    cr_assert(ne(ptr, mkdtemp(folder), NULL));
    (void)snprintf(command, sizeof(command),
                   "cp %s/shaders/models/reco-tiny/* %s && "
                   "sed -i '/image_mean/{n;s/0\\.[0-9]*/0.123/}' %s/preprocessor_config.json",
                   RECO_SOURCE_DIR, folder, folder);
    cr_assert(eq(int, system(command), 0));
    cr_assert(eq(int, setenv("RECO_SPOIL_MODEL", folder, 1), 0));
    start_well(SPOILED, "model");
    run_all();
    check_bits();
    cr_expect(eq(dbl, batches("process"), 0));
    cr_expect(ge(dbl, deaths("start"), 1));
    (void)snprintf(command, sizeof(command), "rm -rf %s", folder);
    cr_assert(eq(int, system(command), 0));
}

Test(encoder_process, what_it_refuses_of_the_command_line_is_told_at_the_start)
{
    struct reason why = {0};
    const struct encoder_params params = {
        .clip = {.device = "no-such-device"}, .process = HONEST, .telemetry = telemetry};
    cr_expect(ne(int, compute_start(&params, &compute, &why), STATUS_OK));
    cr_expect(ne(ptr, strstr(why.text, "no-such-device"), NULL), "%s: %s", why.field, why.text);

    const struct encoder_params missing = {.process = "/no/such/program", .telemetry = telemetry};
    cr_expect(eq(int, compute_start(&missing, &compute, &why), STATUS_IO));
    cr_expect(eq(int, strcmp(why.field, "/no/such/program"), 0));
}
