// SPDX-License-Identifier: Apache-2.0
// metrics.c - a metric is an array of atomic cells.
//
//   counter               one cell a series: the count
//   total, gauge          two: the bits of a double, and whether it was set
//   histogram             bound_count + 2: a count for each bucket, the last for what is above
//                         all bounds, and the sum in billionths
//
// The sum is a whole number so that adding needs no loop and loses nothing: 2^63 billionths are 292
// years. The number of observations is the sum of the buckets at the time of reading, so a
// reader never sees a total that differs from its parts. Memory orders are relaxed: a cell
// tells nothing about any other memory.

#include "proto/base/metrics.h"

#include <assert.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/mem.h"

#define BILLION 1e9
#define SUM_MAX 9e9 // the largest single value that is summed as it is
#define NUMBER_BYTES 40
#define WHOLE_MAX 1e15 // whole numbers below are written without an exponent
#define LABELS 2

typedef atomic_uint_fast64_t cell;

const double metrics_seconds[METRICS_SECONDS_COUNT] = {
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
    0.05,    0.1,    0.25,    0.5,    1,     2.5,    5,     10,   30,
};

struct label {
    char *name;
    char **values;
    size_t count; // 1 for a label that is not there
};

struct metric {
    char *name;
    char *help;
    enum metric_kind kind;
    struct label labels[LABELS];
    size_t series_count;
    size_t bound_count;
    double bounds[METRIC_BOUNDS_MAX];
    size_t stride; // cells of a series
    cell *cells;
};

struct collector {
    void (*collect)(void *context);
    void *context;
    void (*end)(void *context);
};

struct metrics {
    pthread_mutex_t mutex; // of the collectors while they run
    struct metric *metrics[METRICS_MAX];
    size_t count;
    struct collector collectors[METRICS_COLLECTORS_MAX];
    size_t collector_count;
};

// ---------------------------------------------------------------- making

static bool is_name(const char *name, bool colon)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";
    static const char others[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789:";
    size_t bytes = strlen(name);
    return bytes > 0 && strspn(name, letters) > 0 && strspn(name, others) == bytes &&
           (colon || !strchr(name, ':'));
}

static void copy_label(const struct metric_label *from, struct label *to)
{
    to->count = 1;
    if (!from->name)
        return;
    assert(is_name(from->name, false) && from->count > 0 && from->count <= METRIC_SERIES_MAX);
    to->name = mem_copy_text(from->name);
    to->count = from->count;
    to->values = mem_alloc_array(from->count, sizeof(*to->values));
    for (size_t i = 0; i < from->count; i++)
        to->values[i] = mem_copy_text(from->values[i]);
}

static size_t stride_of(const struct metric_params *params)
{
    if (params->kind == METRIC_HISTOGRAM)
        return params->bound_count + 2;
    return params->kind == METRIC_COUNTER ? 1 : 2;
}

struct metric *metrics_add(struct metrics *metrics, const struct metric_params *params)
{
    assert(metrics && params && params->name && params->help);
    assert(metrics->count < METRICS_MAX && is_name(params->name, true));
    assert((params->kind == METRIC_HISTOGRAM) == (params->bound_count > 0));
    assert(params->bound_count <= METRIC_BOUNDS_MAX);
    assert(params->labels[0].name || !params->labels[1].name);
    for (size_t i = 0; i < metrics->count; i++)
        assert(strcmp(metrics->metrics[i]->name, params->name) != 0);

    struct metric *metric = mem_alloc(sizeof(*metric));
    metric->name = mem_copy_text(params->name);
    metric->help = mem_copy_text(params->help);
    metric->kind = params->kind;
    for (size_t i = 0; i < LABELS; i++)
        copy_label(&params->labels[i], &metric->labels[i]);
    metric->series_count = metric->labels[0].count * metric->labels[1].count;
    assert(metric->series_count <= METRIC_SERIES_MAX);
    metric->bound_count = params->bound_count;
    for (size_t i = 0; i < params->bound_count; i++) {
        assert(isfinite(params->bounds[i]) &&
               (i == 0 || params->bounds[i] > params->bounds[i - 1]));
        metric->bounds[i] = params->bounds[i];
    }
    metric->stride = stride_of(params);
    metric->cells = mem_alloc_array(metric->series_count * metric->stride, sizeof(*metric->cells));
    metrics->metrics[metrics->count++] = metric;
    return metric;
}

struct metrics *metrics_create(void)
{
    struct metrics *metrics = mem_alloc(sizeof(*metrics));
    int failed = pthread_mutex_init(&metrics->mutex, NULL);
    assert(failed == 0);
    (void)failed;
    return metrics;
}

static void free_metric(struct metric *metric)
{
    for (size_t i = 0; i < LABELS; i++) {
        struct label *label = &metric->labels[i];
        for (size_t v = 0; label->values && v < label->count; v++)
            mem_free(label->values[v]);
        mem_free(label->values);
        mem_free(label->name);
    }
    mem_free(metric->name);
    mem_free(metric->help);
    mem_free(metric->cells);
    mem_free(metric);
}

void metrics_destroy(struct metrics **metrics)
{
    assert(metrics);

    if (!*metrics)
        return;
    for (size_t i = 0; i < (*metrics)->count; i++)
        free_metric((*metrics)->metrics[i]);
    for (size_t i = 0; i < (*metrics)->collector_count; i++)
        if ((*metrics)->collectors[i].end)
            (*metrics)->collectors[i].end((*metrics)->collectors[i].context);
    (void)pthread_mutex_destroy(&(*metrics)->mutex);
    mem_free(*metrics);
    *metrics = NULL;
}

void metrics_add_collector(struct metrics *metrics, void (*collect)(void *context), void *context,
                           void (*end)(void *context))
{
    assert(metrics && collect && metrics->collector_count < METRICS_COLLECTORS_MAX);

    metrics->collectors[metrics->collector_count++] = (struct collector){collect, context, end};
}

// ---------------------------------------------------------------- counting

static cell *cells_of(const struct metric *metric, size_t series)
{
    assert(series < metric->series_count);

    return metric->cells + series * metric->stride;
}

static uint64_t get(const cell *from)
{
    return atomic_load_explicit(from, memory_order_relaxed);
}

void metric_count(struct metric *metric, size_t series, uint64_t more)
{
    if (!metric)
        return;
    assert(metric->kind == METRIC_COUNTER);

    (void)atomic_fetch_add_explicit(cells_of(metric, series), more, memory_order_relaxed);
}

void metric_set(struct metric *metric, size_t series, double value)
{
    if (!metric)
        return;
    assert(metric->kind == METRIC_TOTAL || metric->kind == METRIC_GAUGE);

    uint64_t bits = 0;
    _Static_assert(sizeof(bits) == sizeof(value), "a double has 64 bits");
    memcpy(&bits, &value, sizeof(bits));
    cell *cells = cells_of(metric, series);
    atomic_store_explicit(&cells[0], bits, memory_order_relaxed);
    // Release: who sees that it is set sees the value.
    atomic_store_explicit(&cells[1], 1, memory_order_release);
}

void metric_observe(struct metric *metric, size_t series, double value)
{
    if (!metric)
        return;
    assert(metric->kind == METRIC_HISTOGRAM);

    if (isnan(value))
        return;
    double kept = fmin(fmax(value, 0), SUM_MAX);
    size_t bucket = 0;
    while (bucket < metric->bound_count && kept > metric->bounds[bucket])
        bucket++;
    cell *cells = cells_of(metric, series);
    (void)atomic_fetch_add_explicit(&cells[bucket], 1, memory_order_relaxed);
    (void)atomic_fetch_add_explicit(&cells[metric->bound_count + 1],
                                    (uint64_t)(kept * BILLION + 0.5), memory_order_relaxed);
}

// ---------------------------------------------------------------- telling

struct page {
    struct buffer *out;
    bool failed;
};

static void put(struct page *page, const char *text)
{
    if (!page->failed && buffer_append(page->out, text, strlen(text)) != STATUS_OK)
        page->failed = true;
}

// Backslash and line feed are escaped, in a label's value the quote too.
static void put_escaped(struct page *page, const char *text, bool quoted)
{
    for (; *text; text++) {
        char one[3] = {*text, '\0', '\0'};
        if (*text == '\\' || *text == '\n' || (quoted && *text == '"')) {
            one[0] = '\\';
            one[1] = *text;
            if (*text == '\n')
                one[1] = 'n';
        }
        put(page, one);
    }
}

// The fewest digits that read back to the same number.
static void print_number(double value, char text[NUMBER_BYTES])
{
    if (!isfinite(value)) {
        (void)snprintf(text, NUMBER_BYTES, "%s",
                       isnan(value) ? "NaN"
                       : value < 0  ? "-Inf"
                                    : "+Inf");
        return;
    }
    if (fabs(value) < WHOLE_MAX && trunc(value) >= value && trunc(value) <= value) {
        (void)snprintf(text, NUMBER_BYTES, "%.0f", value);
        return;
    }
    for (int digits = 1; digits <= DBL_DECIMAL_DIG; digits++) {
        (void)snprintf(text, NUMBER_BYTES, "%.*g", digits, value);
        double back = strtod(text, NULL);
        if (back <= value && back >= value)
            return;
    }
}

// NAME SUFFIX {labels, le} VALUE; `le` NULL: none.
static void put_sample(struct page *page, const struct metric *metric, size_t series,
                       const char *suffix, const char *le, const char *value)
{
    size_t at[LABELS] = {series / metric->labels[1].count, series % metric->labels[1].count};
    bool first = true;
    put(page, metric->name);
    put(page, suffix);
    for (size_t i = 0; i < LABELS; i++) {
        const struct label *label = &metric->labels[i];
        if (!label->name)
            continue;
        put(page, first ? "{" : ",");
        first = false;
        put(page, label->name);
        put(page, "=\"");
        put_escaped(page, label->values[at[i]], true);
        put(page, "\"");
    }
    if (le) {
        put(page, first ? "{le=\"" : ",le=\"");
        first = false;
        put(page, le);
        put(page, "\"");
    }
    put(page, first ? " " : "} ");
    put(page, value);
    put(page, "\n");
}

static void print_count(uint64_t count, char text[NUMBER_BYTES])
{
    (void)snprintf(text, NUMBER_BYTES, "%" PRIu64, count);
}

static void put_histogram(struct page *page, const struct metric *metric, size_t series)
{
    const cell *cells = cells_of(metric, series);
    char bound[NUMBER_BYTES];
    char text[NUMBER_BYTES];
    uint64_t count = 0;
    for (size_t i = 0; i <= metric->bound_count; i++) {
        count += get(&cells[i]);
        print_number(i < metric->bound_count ? metric->bounds[i] : (double)INFINITY, bound);
        print_count(count, text);
        put_sample(page, metric, series, "_bucket", bound, text);
    }
    print_number((double)get(&cells[metric->bound_count + 1]) / BILLION, text);
    put_sample(page, metric, series, "_sum", NULL, text);
    print_count(count, text);
    put_sample(page, metric, series, "_count", NULL, text);
}

static bool is_told(const struct metric *metric, size_t series)
{
    const cell *cells = cells_of(metric, series);
    if (metric->kind == METRIC_TOTAL || metric->kind == METRIC_GAUGE)
        return atomic_load_explicit(&cells[1], memory_order_acquire) != 0;
    bool is_histogram = metric->kind == METRIC_HISTOGRAM;
    if (!metric->labels[is_histogram ? 0 : 1].name)
        return true;
    uint64_t events = 0;
    size_t counts = metric->kind == METRIC_COUNTER ? 1 : metric->bound_count + 1;
    for (size_t i = 0; i < counts; i++)
        events += get(&cells[i]);
    return events > 0;
}

static void put_head(struct page *page, const struct metric *metric)
{
    static const char *const types[] = {
        [METRIC_COUNTER] = "counter",
        [METRIC_TOTAL] = "counter",
        [METRIC_GAUGE] = "gauge",
        [METRIC_HISTOGRAM] = "histogram",
    };
    put(page, "# HELP ");
    put(page, metric->name);
    put(page, " ");
    put_escaped(page, metric->help, false);
    put(page, "\n# TYPE ");
    put(page, metric->name);
    put(page, " ");
    put(page, types[metric->kind]);
    put(page, "\n");
}

static void put_metric(struct page *page, const struct metric *metric)
{
    bool has_head = false;
    for (size_t series = 0; series < metric->series_count; series++) {
        if (!is_told(metric, series))
            continue;
        if (!has_head)
            put_head(page, metric);
        has_head = true;
        char text[NUMBER_BYTES];
        const cell *cells = cells_of(metric, series);
        if (metric->kind == METRIC_HISTOGRAM) {
            put_histogram(page, metric, series);
        } else if (metric->kind == METRIC_COUNTER) {
            print_count(get(&cells[0]), text);
            put_sample(page, metric, series, "", NULL, text);
        } else {
            uint64_t bits = get(&cells[0]);
            double value = 0;
            memcpy(&value, &bits, sizeof(value));
            print_number(value, text);
            put_sample(page, metric, series, "", NULL, text);
        }
    }
}

enum status metrics_write(struct metrics *metrics, struct buffer *out)
{
    assert(metrics && out);

    struct page page = {.out = out};
    (void)pthread_mutex_lock(&metrics->mutex);
    for (size_t i = 0; i < metrics->collector_count; i++)
        metrics->collectors[i].collect(metrics->collectors[i].context);
    (void)pthread_mutex_unlock(&metrics->mutex);
    for (size_t i = 0; i < metrics->count; i++)
        put_metric(&page, metrics->metrics[i]);
    return page.failed ? STATUS_NO_MEMORY : STATUS_OK;
}
