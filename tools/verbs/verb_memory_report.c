// SPDX-License-Identifier: Apache-2.0
// reco memory report: how well a memory is searched by its index, beside an exact search.

#include <stddef.h>
#include <stdio.h>

#include "proto/base/limits.h"
#include "tools/answers.h"
#include "tools/memories.h"
#include "tools/output.h"
#include "tools/recall.h"
#include "tools/verbs.h"

#define WAIT_US 120000000 // for an index that is being made

struct report {
    const struct options *options;
    struct api_memory_info info;
    bool is_large;   // enough to be searched by an index
    int64_t wait_us; // for one that is being made
    uint32_t asked;  // records of the sample
    struct recall_figures figures[RECALL_WAYS];
};

static const struct {
    const char *json;
    const char *asks, *over; // in the table
} ways[RECALL_WAYS] = {
    [RECALL_IMAGE_OVER_IMAGE] = {"image", "image", "images"},
    [RECALL_TEXT_OVER_TEXT] = {"text", "text", "texts"},
    [RECALL_IMAGE_OVER_TEXT] = {"image_over_text", "image", "texts"},
    [RECALL_TEXT_OVER_IMAGE] = {"text_over_image", "text", "images"},
};

// Whether any node used an index.
static bool is_exact(const struct report *report)
{
    bool exact = true;
    for (int way = 0; way < RECALL_WAYS; way++)
        exact = exact && report->figures[way].is_exact;
    return exact;
}

static double bytes_per_record(const struct report *report)
{
    const struct api_memory_info *info = &report->info;
    return info->records > 0 ? (double)info->bytes / (double)info->records : 0;
}

// --- showing

static void put_figure(struct json_writer *writer, const char *name, double value)
{
    json_name(writer, name);
    json_put_double(writer, value);
}

static void put_way(struct json_writer *writer, const struct recall_figures *figures)
{
    put_figure(writer, "recall_at_10", figures->recall);
    put_figure(writer, "lowest", figures->lowest);
    json_name(writer, "exact");
    json_put_bool(writer, figures->is_exact);
    put_figure(writer, "lists_probed", figures->lists_probed);
    put_figure(writer, "codes_scanned", figures->codes_scanned);
    put_figure(writer, "rows_refined", figures->rows_refined);
    put_figure(writer, "rows_read", figures->rows_read);
    put_figure(writer, "ms", figures->ms);
    put_figure(writer, "exact_ms", figures->exact_ms);
}

static int show_json(const struct report *report)
{
    struct json_writer writer = {.failed = false};
    json_begin_object(&writer);
    memories_put(&writer, &report->info);
    put_figure(&writer, "bytes_per_record", bytes_per_record(report));
    put_figure(&writer, "index_bytes_per_record",
               report->info.records > 0
                   ? (double)report->info.indexes.bytes / (double)report->info.records
                   : 0);
    json_name(&writer, "searched");
    json_put_cstr(&writer, is_exact(report) ? "exact" : "ivf");
    json_name(&writer, "sample");
    json_put_uint(&writer, report->asked);
    json_name(&writer, "recall_at_10");
    json_begin_object(&writer);
    for (int way = 0; way < RECALL_WAYS; way++)
        put_figure(&writer, ways[way].json, report->figures[way].recall);
    json_end_object(&writer);
    json_name(&writer, "questions");
    json_begin_object(&writer);
    for (int way = 0; way < RECALL_WAYS && report->asked > 0; way++) {
        json_name(&writer, ways[way].json);
        json_begin_object(&writer);
        put_way(&writer, &report->figures[way]);
        json_end_object(&writer);
    }
    json_end_object(&writer);
    json_end_object(&writer);
    const int exit_status = answers_end_line(&writer) ? VERBS_FAILED : VERBS_DONE;
    json_writer_deinit(&writer);
    return exit_status;
}

static void print_table(const struct report *report)
{
    static const char *const header[] = {"asked by", "over",     ">recall@10", ">lowest",
                                         ">lists",   ">codes",   ">refined",   ">rows",
                                         ">ms",      ">exact ms"};
    struct output_table table;
    char figure[OUTPUT_FIGURE_BYTES];
    output_table_begin(&table, header, sizeof(header) / sizeof(header[0]));
    for (int way = 0; way < RECALL_WAYS; way++) {
        const struct recall_figures *figures = &report->figures[way];
        const double work[] = {figures->lists_probed, figures->codes_scanned, figures->rows_refined,
                               figures->rows_read};
        output_cell(&table, "%s", ways[way].asks);
        output_cell(&table, "%s", ways[way].over);
        output_cell(&table, "%.4f", figures->recall);
        output_cell(&table, "%.1f", figures->lowest);
        for (size_t i = 0; i < sizeof(work) / sizeof(work[0]); i++)
            output_cell(&table, "%s", output_count((uint64_t)(work[i] + 0.5), figure));
        output_cell(&table, "%.2f", figures->ms);
        output_cell(&table, "%.2f", figures->exact_ms);
    }
    output_table_end(&table, 2);
}

// How the nodes' indexes are made, both sides together.
static void print_indexes(const struct api_memory_info *info)
{
    const struct api_memory_index *index = &info->indexes;
    char lists[OUTPUT_FIGURE_BYTES];
    char longest[OUTPUT_FIGURE_BYTES];
    if (index->lists == 0 || info->records == 0)
        return;
    printf(
        "its indexes take %.0f bytes a record of memory; %s lists of %.0f on average, the longest "
        "of %s\n",
        (double)index->bytes / (double)info->records, output_count(index->lists, lists),
        (double)index->vectors / (double)index->lists, output_count(index->list_max, longest));
}

static int show(const struct report *report)
{
    const struct api_memory_info *info = &report->info;
    char figure[OUTPUT_FIGURE_BYTES];
    if (report->options->json)
        return show_json(report);

    char pin[MEMORIES_PIN_BYTES];
    memories_pin(info, pin);
    printf("%s: %s records of %u dimensions, ", pin, output_count(info->records, figure),
           info->dimension);
    printf("%.0f bytes a record on the disk\n", bytes_per_record(report));
    if (!report->is_large) {
        printf("fewer than %s: every record is compared, recall is 1\n",
               output_count(INDEX_RECORDS_FROM, figure));
        return VERBS_DONE;
    }
    print_indexes(info);
    printf("%s records ask; of the exact search's first %d by the index, means of a question:\n",
           output_count(report->asked, figure), RECALL_K);
    print_table(report);
    if (is_exact(report))
        printf("  no node has an index of it: every record was compared\n");
    return VERBS_DONE;
}

// --- measuring

static enum status measure(struct report *report, struct client *client, struct reason *why)
{
    struct api_options options;
    char pin[MEMORIES_PIN_BYTES];
    memories_pin(&report->info, pin);
    options_query_message(report->options, NULL, &options);
    const struct recall_params params = {
        .memory = pin,
        .options = &options,
        .sample = (uint32_t)report->options->sample,
        .wait_us = report->wait_us,
    };
    return recall_measure(client, &params, report->figures, &report->asked, why);
}

static enum status look(struct report *report, struct client *client, const char *name,
                        struct arena *arena, struct reason *why)
{
    uint32_t nodes = 0;
    enum status status = memories_describe(client, name, arena, &report->info, why);
    if (!status)
        status = memories_count_nodes(client, &nodes, why);
    if (status)
        return status;
    const uint64_t shown = report->info.records - report->info.hidden;
    report->is_large = shown >= INDEX_RECORDS_FROM;
    // Each node decides by its own share whether it makes an index.
    report->wait_us = shown >= (uint64_t)INDEX_RECORDS_FROM * nodes ? WAIT_US : 0;
    for (int way = 0; way < RECALL_WAYS; way++)
        report->figures[way] = (struct recall_figures){.recall = 1, .lowest = 1, .is_exact = true};
    if (!report->is_large)
        return STATUS_OK;
    status = measure(report, client, why);
    // By now there is an index to tell of.
    return status ? status : memories_describe(client, name, arena, &report->info, why);
}

static int run_report(const struct options *options)
{
    const char *name = options->items.count ? options->items.items[0] : "default";
    struct report report = {.options = options};
    struct client *client = NULL;
    int exit_status = memories_open_client(options, CLIENT_READ, &client);
    if (exit_status)
        return exit_status;

    struct arena *arena = arena_create(MEMORIES_ARENA_BYTES);
    struct reason why = {.text = ""};
    const enum status status = look(&report, client, name, arena, &why);
    exit_status = output_exit(status);
    if (status)
        output_error(name, &why);
    else
        exit_status = show(&report);
    arena_destroy(&arena);
    client_close(&client);
    return exit_status;
}

static const struct args_flag report_flags[] = {
    {.name = "--sample",
     .kind = ARGS_COUNT,
     .argument = "N",
     .fallback = "200",
     .help = "records that ask, each in four ways, exactly and by the index",
     .offset = offsetof(struct options, sample),
     .low = 1,
     .high = RECALL_SAMPLE_MAX},
    OPTIONS_EFFORT_FLAGS,
    {.name = NULL},
};

const struct verb verb_memory_report = {
    .args =
        {.name = "memory report",
         .items = "[NAME]",
         .summary = "how much of an exact search's answers the index finds",
         .details =
             "Some of the memory's own records ask: images over images and texts over texts,\n"
             "where a record is no neighbour of itself, images over texts and texts over images.\n"
             "Each question is asked twice, exactly and by the index; recall@10 is the share of\n"
             "the exact search's first ten that the index finds. The means of lists, codes and\n"
             "rows say how much was looked at, ms is the median of the whole search. Nodes\n"
             "with fewer than 20,000 records of a memory search exactly: of a memory that small,\n"
             "recall is 1, and nothing is asked. An index that is still being made is waited for, "
             "at most two minutes.\n\n"
             "JSON line: that of memory info, with \"bytes_per_record\",\n"
             "\"index_bytes_per_record\",\"searched\" (exact, ivf),\n"
             "\"sample\",\"recall_at_10\":{\"image\",\"text\",\"image_over_text\",\n"
             "\"text_over_image\"},\"questions\":{the same four: {\"recall_at_10\",\"lowest\","
             "\"exact\",\n"
             "\"lists_probed\",\"codes_scanned\",\"rows_refined\",\"rows_read\",\"ms\",\"exact_ms\""
             "}}",
         .items_max = 1,
         .groups = {report_flags, options_data, options_model, options_server, options_common}},
    .chapter = "memories",
    .run = run_report,
};
