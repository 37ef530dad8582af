// SPDX-License-Identifier: Apache-2.0
#include "tools/eval_result.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/json.h"
#include "proto/base/mem.h"
#include "tools/answers.h"
#include "tools/output.h"

// --- JSON

static void put_double(struct json_writer *writer, const char *name, double value)
{
    json_name(writer, name);
    json_put_double(writer, value);
}

static void put_text(struct json_writer *writer, const char *name, const char *value)
{
    json_name(writer, name);
    json_put_cstr(writer, value);
}

static void put_metrics(struct json_writer *writer, const struct eval_row *row)
{
    json_name(writer, "metrics");
    json_begin_object(writer);
    for (size_t i = 0; i < row->metric_count; i++)
        put_double(writer, row->metrics[i].name, row->metrics[i].value);
    json_end_object(writer);
}

static void put_interval(struct json_writer *writer, struct eval_interval interval)
{
    put_double(writer, "low", interval.low);
    put_double(writer, "high", interval.high);
}

static void put_chance(struct json_writer *writer, const struct eval_row *row)
{
    json_name(writer, "intervals");
    json_begin_object(writer);
    for (size_t i = 0; i < row->metric_count; i++) {
        const struct eval_metric *metric = &row->metrics[i];
        if (!metric->is_share || isnan(metric->value))
            continue;
        json_name(writer, metric->name);
        json_begin_object(writer);
        put_interval(writer, metric->interval);
        json_end_object(writer);
    }
    json_end_object(writer);
    json_name(writer, "differences");
    json_begin_object(writer);
    for (size_t i = 0; i < row->metric_count; i++) {
        const struct eval_metric *metric = &row->metrics[i];
        if (!metric->is_share || isnan(metric->value))
            continue;
        json_name(writer, metric->name);
        json_begin_object(writer);
        put_double(writer, "value", metric->delta);
        put_interval(writer, metric->difference);
        json_end_object(writer);
    }
    json_end_object(writer);
}

static enum status print_line(const struct eval_result *result, const struct eval_row *row)
{
    struct json_writer writer = {.failed = false};
    const struct eval *eval = result->eval;
    json_begin_object(&writer);
    put_text(&writer, "dataset", result->dataset);
    put_text(&writer, "model", eval->model);
    put_text(&writer, "pretrained", eval->space);
    put_text(&writer, "task", result->task);
    put_metrics(&writer, row);
    put_text(&writer, "language", "en");
    if (result->labels_sha256) {
        put_text(&writer, "labels_sha256", result->labels_sha256);
        put_text(&writer, "templates_sha256", result->templates_sha256);
    }
    put_text(&writer, "mode", eval_mode_word(row->mode));
    put_text(&writer, "memory", eval->memory.count ? eval->memory.name : NULL);
    json_name(&writer, "records");
    json_put_uint(&writer, row->records);
    json_name(&writer, "k");
    json_put_uint(&writer, row->k);
    if (result->axis && !isnan(row->at))
        put_double(&writer, result->axis, row->at);
    else if (result->axis)
        put_text(&writer, result->axis, row->mode == FUSION_NONE ? NULL : row->point);
    json_name(&writer, "count");
    json_put_uint(&writer, row->count);
    json_name(&writer, "in_memory");
    json_put_uint(&writer, row->held);
    put_double(&writer, "seconds", row->seconds);
    put_double(&writer, "encode_seconds", result->encode_seconds);
    put_chance(&writer, row);
    json_end_object(&writer);
    const enum status status = answers_end_line(&writer);
    json_writer_deinit(&writer);
    return status;
}

// --- rows

enum status eval_result_add(struct eval_result *result, const struct eval_row *row)
{
    assert(result && row && row->metric_count <= EVAL_METRICS_MAX);

    result->rows = mem_grow(result->rows, result->count + 1, sizeof(result->rows[0]));
    result->rows[result->count++] = *row;
    return result->eval->options->json ? print_line(result, row) : STATUS_OK;
}

void eval_result_deinit(struct eval_result *result)
{
    mem_free(result->rows);
    *result = (struct eval_result){.count = 0};
}

// --- for people

const char *eval_figure_name(const char *metric)
{
    static const char *const known[][2] = {
        {"image_retrieval_recall@1", "image@1"},   {"image_retrieval_recall@5", "image@5"},
        {"image_retrieval_recall@10", "image@10"}, {"text_retrieval_recall@1", "text@1"},
        {"text_retrieval_recall@5", "text@5"},     {"text_retrieval_recall@10", "text@10"},
        {"mean_per_class_recall", "per class"},
    };
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (strcmp(metric, known[i][0]) == 0)
            return known[i][1];
    return metric;
}

const char *eval_figure_share(double value, char out[EVAL_FIGURE_BYTES])
{
    if (isnan(value))
        (void)snprintf(out, EVAL_FIGURE_BYTES, "-");
    else
        (void)snprintf(out, EVAL_FIGURE_BYTES, "%.1f", 100 * value);
    return out;
}

const char *eval_figure_difference(const struct eval_metric *metric, char out[EVAL_FIGURE_BYTES])
{
    if (isnan(metric->value) || !metric->is_share)
        (void)snprintf(out, EVAL_FIGURE_BYTES, "-");
    else
        (void)snprintf(out, EVAL_FIGURE_BYTES, "%+.1f (%+.1f .. %+.1f)", 100 * metric->delta,
                       100 * metric->difference.low, 100 * metric->difference.high);
    return out;
}

static void print_row(struct output_table *table, const struct eval_result *result,
                      const struct eval_row *row)
{
    char figure[EVAL_FIGURE_BYTES];
    if (result->axis)
        output_cell(table, "%s", row->point);
    output_cell(table, "%s", eval_mode_word(row->mode));
    for (size_t i = 0; i < row->metric_count; i++)
        output_cell(table, "%s", eval_figure_share(row->metrics[i].value, figure));
    output_cell(table, "%s",
                row->mode == FUSION_NONE ? "" : eval_figure_difference(&row->metrics[0], figure));
    output_cell(table, "%.2f", row->seconds);
}

void eval_result_print(const struct eval_result *result, const char *what)
{
    assert(result && result->count > 0);

    char names[EVAL_METRICS_MAX][EVAL_FIGURE_BYTES];
    const char *header[OUTPUT_COLUMNS_MAX];
    size_t columns = 0;
    if (result->axis)
        header[columns++] = result->axis_title;
    header[columns++] = "mode";
    for (size_t i = 0; i < result->rows[0].metric_count; i++) {
        (void)snprintf(names[i], sizeof(names[i]), ">%s",
                       eval_figure_name(result->rows[0].metrics[i].name));
        header[columns++] = names[i];
    }
    header[columns++] = ">less none (95 %)";
    header[columns++] = ">s";

    const struct eval *eval = result->eval;
    printf("%s%s%s%s%s, %zu queries, %s", output_bold(), result->dataset, what ? ": " : "",
           what ? what : "", output_plain(), result->rows[0].count, eval->model);
    if (eval->memory.count)
        printf(", memory %s of %u records", eval->memory.name, eval->memory.count);
    printf("; percent\n");
    struct output_table table;
    output_table_begin(&table, header, columns);
    for (size_t i = 0; i < result->count; i++)
        print_row(&table, result, &result->rows[i]);
    output_table_end(&table, 2);
    size_t held = 0;
    for (size_t i = 0; i < result->count; i++)
        held = result->rows[i].held > held ? result->rows[i].held : held;
    if (held)
        output_note("%zu pictures of the data set are in the memory themselves (similarity above "
                    "%.3f): they find their own captions",
                    held, (double)EVAL_HELD);
}
