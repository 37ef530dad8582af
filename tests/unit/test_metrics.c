// SPDX-License-Identifier: Apache-2.0
// Goal: what is counted is told exactly, in the words that Prometheus reads, and nothing that
// nobody counted is told.
//
// Method: a small registry against its whole text; threads that count at once; and the parser
// of Prometheus' own Python client (tests/e2e/side_port.py) reads the text of the real programs.

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/metrics.h"

static void expect_text(struct metrics *metrics, const char *wanted)
{
    struct buffer out = {0};
    cr_assert(eq(int, metrics_write(metrics, &out), STATUS_OK));
    cr_assert(eq(int, buffer_append(&out, "", 1), STATUS_OK));
    cr_expect(eq(str, (char *)out.data, (char *)wanted));
    buffer_deinit(&out);
}

static struct metric *add(struct metrics *metrics, const char *name, enum metric_kind kind)
{
    return metrics_add(metrics,
                       &(struct metric_params){.name = name, .help = "Help.", .kind = kind});
}

Test(metrics, an_empty_registry_tells_nothing)
{
    struct metrics *metrics = metrics_create();
    expect_text(metrics, "");
    metrics_destroy(&metrics);
    cr_expect(eq(ptr, metrics, NULL));
    metrics_destroy(&metrics);
}

Test(metrics, counters_begin_at_zero_and_gauges_are_told_once_set)
{
    struct metrics *metrics = metrics_create();
    struct metric *counter = add(metrics, "a_total", METRIC_COUNTER);
    struct metric *gauge = add(metrics, "b", METRIC_GAUGE);
    struct metric *total = add(metrics, "c_total", METRIC_TOTAL);
    expect_text(metrics, "# HELP a_total Help.\n# TYPE a_total counter\na_total 0\n");
    metric_count(counter, 0, 41);
    metric_count(counter, 0, 1);
    metric_set(gauge, 0, -0.1);
    metric_set(total, 0, 1e300);
    expect_text(metrics, "# HELP a_total Help.\n# TYPE a_total counter\na_total 42\n"
                         "# HELP b Help.\n# TYPE b gauge\nb -0.1\n"
                         "# HELP c_total Help.\n# TYPE c_total counter\nc_total 1e+300\n");
    metrics_destroy(&metrics);
}

Test(metrics, numbers_that_are_none_have_names)
{
    struct metrics *metrics = metrics_create();
    struct metric *gauge = add(metrics, "g", METRIC_GAUGE);
    metric_set(gauge, 0, (double)INFINITY);
    expect_text(metrics, "# HELP g Help.\n# TYPE g gauge\ng +Inf\n");
    metric_set(gauge, 0, (double)-INFINITY);
    expect_text(metrics, "# HELP g Help.\n# TYPE g gauge\ng -Inf\n");
    metric_set(gauge, 0, (double)NAN);
    expect_text(metrics, "# HELP g Help.\n# TYPE g gauge\ng NaN\n");
    metrics_destroy(&metrics);
}

Test(metrics, texts_are_escaped)
{
    static const char *const values[] = {"a\"b\\c\nd"};
    struct metrics *metrics = metrics_create();
    (void)metrics_add(metrics, &(struct metric_params){.name = "x_total",
                                                       .help = "One\\two\n\"three\".",
                                                       .kind = METRIC_COUNTER,
                                                       .labels = {{"l", values, 1}}});
    expect_text(metrics, "# HELP x_total One\\\\two\\n\"three\".\n# TYPE x_total counter\n"
                         "x_total{l=\"a\\\"b\\\\c\\nd\"} 0\n");
    metrics_destroy(&metrics);
}

Test(metrics, pairs_of_labels_are_told_once_something_happened)
{
    static const char *const methods[] = {"Get", "Put"};
    static const char *const codes[] = {"OK", "INVALID", "IO"};
    struct metrics *metrics = metrics_create();
    struct metric *counter = metrics_add(
        metrics, &(struct metric_params){.name = "calls_total",
                                         .help = "Calls.",
                                         .kind = METRIC_COUNTER,
                                         .labels = {{"method", methods, 2}, {"code", codes, 3}}});
    expect_text(metrics, "");
    metric_count(counter, 1 * 3 + 2, 5);
    expect_text(metrics, "# HELP calls_total Calls.\n# TYPE calls_total counter\n"
                         "calls_total{method=\"Put\",code=\"IO\"} 5\n");
    metrics_destroy(&metrics);
}

Test(metrics, buckets_are_cumulative_and_hold_their_bound)
{
    static const double bounds[] = {0.1, 1, 2.5};
    static const char *const stages[] = {"s"};
    struct metrics *metrics = metrics_create();
    struct metric *histogram =
        metrics_add(metrics, &(struct metric_params){.name = "h_seconds",
                                                     .help = "H.",
                                                     .kind = METRIC_HISTOGRAM,
                                                     .labels = {{"stage", stages, 1}},
                                                     .bounds = bounds,
                                                     .bound_count = 3});
    metric_observe(histogram, 0, 0.1); // a bound belongs to its bucket
    metric_observe(histogram, 0, 0.100001);
    metric_observe(histogram, 0, 2);
    metric_observe(histogram, 0, 7);
    metric_observe(histogram, 0, -1);          // counts as 0
    metric_observe(histogram, 0, (double)NAN); // not at all
    expect_text(metrics, "# HELP h_seconds H.\n# TYPE h_seconds histogram\n"
                         "h_seconds_bucket{stage=\"s\",le=\"0.1\"} 2\n"
                         "h_seconds_bucket{stage=\"s\",le=\"1\"} 3\n"
                         "h_seconds_bucket{stage=\"s\",le=\"2.5\"} 4\n"
                         "h_seconds_bucket{stage=\"s\",le=\"+Inf\"} 5\n"
                         "h_seconds_sum{stage=\"s\"} 9.200001\n"
                         "h_seconds_count{stage=\"s\"} 5\n");
    metrics_destroy(&metrics);
}

Test(metrics, without_a_metric_nothing_is_counted)
{
    metric_count(NULL, 7, 1);
    metric_set(NULL, 7, 1);
    metric_observe(NULL, 7, 1);
}

#define THREADS 4
#define ROUNDS 20000

struct many {
    struct metric *counter;
    struct metric *histogram;
};

static void *count_many(void *context)
{
    const struct many *many = context;
    for (int i = 0; i < ROUNDS; i++) {
        metric_count(many->counter, 0, 1);
        metric_observe(many->histogram, 0, 0.001 * (i % 4));
    }
    return NULL;
}

Test(metrics, threads_that_count_at_once_lose_nothing)
{
    static const double bounds[] = {0.0005, 0.0015};
    struct metrics *metrics = metrics_create();
    struct many many = {
        .counter = add(metrics, "n_total", METRIC_COUNTER),
        .histogram = metrics_add(metrics, &(struct metric_params){.name = "t",
                                                                  .help = "Help.",
                                                                  .kind = METRIC_HISTOGRAM,
                                                                  .bounds = bounds,
                                                                  .bound_count = 2}),
    };
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        cr_assert(eq(int, pthread_create(&threads[i], NULL, count_many, &many), 0));
    for (int i = 0; i < THREADS; i++)
        (void)pthread_join(threads[i], NULL);
    expect_text(metrics, "# HELP n_total Help.\n# TYPE n_total counter\nn_total 80000\n"
                         "# HELP t Help.\n# TYPE t histogram\n"
                         "t_bucket{le=\"0.0005\"} 20000\nt_bucket{le=\"0.0015\"} 40000\n"
                         "t_bucket{le=\"+Inf\"} 80000\nt_sum 120\nt_count 80000\n");
    metrics_destroy(&metrics);
}

static void collect(void *context)
{
    metric_set(context, 0, 7);
}

static int ends;

static void end(void *context)
{
    (void)context;
    ends++;
}

Test(metrics, a_collector_measures_when_asked)
{
    struct metrics *metrics = metrics_create();
    struct metric *gauge = add(metrics, "late", METRIC_GAUGE);
    metrics_add_collector(metrics, collect, gauge, end);
    expect_text(metrics, "# HELP late Help.\n# TYPE late gauge\nlate 7\n");
    metrics_destroy(&metrics);
    cr_expect(eq(int, ends, 1));
}

// The value behind a sample's name, or -1.
static double sample(const struct buffer *text, const char *name)
{
    char wanted[128];
    (void)snprintf(wanted, sizeof(wanted), "\n%s ", name);
    const char *at = strstr((const char *)text->data, wanted);
    return at ? strtod(at + strlen(wanted), NULL) : -1;
}

Test(metrics, a_process_tells_about_itself)
{
    struct metrics *metrics = metrics_create();
    struct buffer text = {0};
    metrics_add_process(metrics, "1.2.3");
    cr_assert(eq(int, metrics_write(metrics, &text), STATUS_OK));
    cr_assert(eq(int, buffer_append(&text, "", 1), STATUS_OK));
    cr_expect(eq(dbl, sample(&text, "reco_build_info{version=\"1.2.3\"}"), 1));
    cr_expect(ge(dbl, sample(&text, "process_cpu_seconds_total"), 0));
    cr_expect(gt(dbl, sample(&text, "process_start_time_seconds"), 1.7e9));
    cr_expect(gt(dbl, sample(&text, "process_resident_memory_bytes"), 100000));
    cr_expect(ge(dbl, sample(&text, "process_open_fds"), 1));
    cr_expect(gt(dbl, sample(&text, "process_max_fds"), 1));
    double ratio = sample(&text, "reco_memory_used_ratio");
    cr_expect(ratio > 0 && ratio < 1, "%f", ratio);
    buffer_deinit(&text);
    metrics_destroy(&metrics);
}
