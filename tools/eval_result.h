// SPDX-License-Identifier: Apache-2.0
// eval_result.h - what an evaluation found: rows of metrics, as JSON lines in CLIP_benchmark's
// shape and as a table.
//
// Thread-safety: none.

#ifndef RECO_TOOLS_EVAL_RESULT_H
#define RECO_TOOLS_EVAL_RESULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/status.h"
#include "shaders/models/fusion.h"
#include "tools/eval.h"
#include "tools/eval_score.h"

#define EVAL_METRICS_MAX 7
#define EVAL_POINT_BYTES 48

struct eval_metric {
    const char *name; // as CLIP_benchmark calls it
    double value;     // 0..1; NaN: not defined here
    bool is_share;    // of queries, or made of such: then it has the intervals below
    struct eval_interval interval;
    double delta; // value less plain CLIP's, in the same question
    struct eval_interval difference;
};

struct eval_row {
    enum fusion_mode mode;
    char point[EVAL_POINT_BYTES]; // what was changed, for people; "": nothing
    double at;                    // the same as a number, where it is one
    uint32_t k;
    uint32_t records; // of the memory, that could be found
    size_t count;     // queries
    size_t held;      // pictures of the set that the memory has itself
    double seconds;   // search, fusion and counting, without encoding
    struct eval_metric metrics[EVAL_METRICS_MAX];
    size_t metric_count;
};

struct eval_result {
    const struct eval *eval;
    const char *dataset;
    const char *task;
    const char *labels_sha256, *templates_sha256; // of eval_classes.h; NULL: no labels
    const char *axis;                             // JSON's name of what is changed; NULL: nothing
    const char *axis_title;                       // the same as a column
    const char *axis_words;                       // and in words
    double encode_seconds;
    struct eval_row *rows;
    size_t count;
};

// Copies a row; with --json it is printed at once. STATUS_IO when stdout is broken, which has been
// told.
enum status eval_result_add(struct eval_result *result, const struct eval_row *row) MUST_CHECK;

// The table that people read. `what` stands behind the data set's name; NULL: nothing does.
void eval_result_print(const struct eval_result *result, const char *what);
void eval_result_deinit(struct eval_result *result);

// "+36.5 (31.7 .. 41.3)", points of percent, and "45.9", percent, in `out`, which is returned.
#define EVAL_FIGURE_BYTES 64
const char *eval_figure_difference(const struct eval_metric *metric, char out[EVAL_FIGURE_BYTES]);
// "image@5" for "image_retrieval_recall@5"; other names as they are.
const char *eval_figure_name(const char *metric);
const char *eval_figure_share(double value, char out[EVAL_FIGURE_BYTES]);

#endif
