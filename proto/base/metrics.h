// SPDX-License-Identifier: Apache-2.0
// metrics.h - what a process counts about itself, for Prometheus.
//
// A registry holds metrics; a metric is one number, or one for each value of a label (of each
// pair, with two labels). All are made while the process starts; afterwards nothing is
// allocated, and counting is one or two atomic additions without a lock.
//
//   metrics_create -> metrics_add (several) -> metric_count, metric_set, metric_observe
//     -> metrics_write (whenever somebody scrapes) -> metrics_destroy
//
// A number that was never set is not told, so nobody takes "unknown" for zero: gauges and totals
// appear with their first metric_set(), pairs of labels and histograms with a label with their
// first event. Histograms without and counters with at most one label are told from the start,
// as zero.
//
// Thread-safety: add and destroy belong to the thread that made the registry, with nobody
// else using it; everything else may be called by any thread.

#ifndef RECO_PROTO_BASE_METRICS_H
#define RECO_PROTO_BASE_METRICS_H

#include <stddef.h>
#include <stdint.h>

#include "proto/base/bytes.h"
#include "proto/base/status.h"

#define METRICS_MAX 64           // of one registry
#define METRICS_COLLECTORS_MAX 8 // of one registry
#define METRIC_SERIES_MAX 4096   // numbers of one metric
#define METRIC_BOUNDS_MAX 24     // buckets of a histogram, without the one for everything

struct metrics; // a registry
struct metric;

enum metric_kind {
    METRIC_COUNTER,   // metric_count()
    METRIC_TOTAL,     // a counter that somebody else keeps: metric_set()
    METRIC_GAUGE,     // metric_set()
    METRIC_HISTOGRAM, // metric_observe(), values of 0 and more
};

// A label with every value that it can have.
struct metric_label {
    const char *name; // NULL: no label
    const char *const *values;
    size_t count;
};

struct metric_params {
    const char *name; // as Prometheus wants it: a total ends in _total, a unit is in the name
    const char *help;
    enum metric_kind kind;
    struct metric_label labels[2];
    const double *bounds; // of a histogram: ascending upper bounds
    size_t bound_count;
};

struct metrics *metrics_create(void);
void metrics_destroy(struct metrics **metrics); // NULL is allowed

// Everything is copied. A wrong name, label or bound is a bug and asserted. The metric belongs to
// the registry.
struct metric *metrics_add(struct metrics *metrics, const struct metric_params *params);

// Called by metrics_write() before it reads, by one thread at a time: the place to measure what is
// only worth measuring when somebody asks. `end` is called by metrics_destroy() unless it is NULL.
void metrics_add_collector(struct metrics *metrics, void (*collect)(void *context), void *context,
                           void (*end)(void *context));

// `series` is the number of the label's value; of two labels first * (values of the second) +
// second; 0 without labels. NULL as the metric is allowed: nothing is counted.
void metric_count(struct metric *metric, size_t series, uint64_t more);
void metric_set(struct metric *metric, size_t series, double value);
void metric_observe(struct metric *metric, size_t series, double value);

// Appends the text exposition format 0.0.4. STATUS_NO_MEMORY.
enum status metrics_write(struct metrics *metrics, struct buffer *out) MUST_CHECK;

// Adds what every process tells: process_* as Prometheus' own clients name them,
// reco_build_info{version} and reco_memory_used_ratio.
void metrics_add_process(struct metrics *metrics, const char *version);

// Upper bounds in seconds for what takes from 50 microseconds to 30 seconds.
#define METRICS_SECONDS_COUNT 18
extern const double metrics_seconds[METRICS_SECONDS_COUNT];

#endif
