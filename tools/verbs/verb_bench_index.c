// SPDX-License-Identifier: Apache-2.0
// reco bench index: recall and speed of the index on vectors from files.
//
// A recall that is asked for lies between two numbers of lists probed; the speed there is read
// off the logarithms of the two, as tools/bench/index_front.py does for others.

#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/limits.h"
#include "proto/base/mem.h"
#include "tools/answers.h"
#include "tools/index_bench.h"
#include "tools/output.h"
#include "tools/verbs.h"

#define RECALLS_MAX 16
#define PROBES_MAX 4096
#define BATCH_MAX 1000000
#define LINE_BYTES 256

struct bench {
    const struct options *options;
    struct index_bench *index;
    double recalls[RECALLS_MAX];
    size_t recall_count;
    struct output_table table;
};

// A row of the result: a measurement, or what lies between two.
struct row {
    struct index_bench_run run;
    struct index_bench_result result;
    uint32_t below; // probes of the lower end; as run.probes for a measurement
};

// --- showing

static void put_settings(const struct bench *bench, const struct row *row,
                         struct json_writer *writer)
{
    json_name(writer, "settings");
    json_begin_object(writer);
    json_name(writer, "nprobe");
    if (row->below == row->run.probes) {
        json_put_uint(writer, row->run.probes);
    } else {
        json_begin_array(writer);
        json_put_uint(writer, row->below);
        json_put_uint(writer, row->run.probes);
        json_end_array(writer);
    }
    json_name(writer, "extra_bits");
    json_put_uint(writer, bench->options->extra_bits);
    json_name(writer, "lists");
    json_put_uint(writer, index_bench_about(bench->index)->lists);
    json_end_object(writer);
}

static void put_about(const struct bench *bench, struct json_writer *writer)
{
    const struct index_bench_about *about = index_bench_about(bench->index);
    json_name(writer, "bytes_per_vector");
    json_put_double(writer, about->index_bytes + about->row_bytes);
    json_name(writer, "index_bytes_per_vector");
    json_put_double(writer, about->index_bytes);
    json_name(writer, "build_seconds");
    json_put_double(writer, about->build_seconds);
}

static enum status print_json(const struct bench *bench, const struct row *row)
{
    struct json_writer writer = {.failed = false};
    json_begin_object(&writer);
    json_name(&writer, "queries");
    json_put_cstr(&writer, bench->options->query_files.items[row->run.set]);
    json_name(&writer, "recall");
    json_put_double(&writer, row->result.recall);
    json_name(&writer, "qps");
    json_put_double(&writer, row->result.per_second);
    put_about(bench, &writer);
    json_name(&writer, "k");
    json_put_uint(&writer, bench->options->k);
    json_name(&writer, "batch");
    json_put_uint(&writer, row->run.batch);
    json_name(&writer, "threads");
    json_put_uint(&writer, row->run.threads);
    json_name(&writer, "codes");
    json_put_double(&writer, row->result.codes);
    json_name(&writer, "refined");
    json_put_double(&writer, row->result.refined);
    json_name(&writer, "rows");
    json_put_double(&writer, row->result.rows);
    put_settings(bench, row, &writer);
    json_end_object(&writer);
    enum status status = answers_end_line(&writer);
    json_writer_deinit(&writer);
    return status;
}

static void add_row(struct bench *bench, const struct row *row)
{
    const char *path = bench->options->query_files.items[row->run.set];
    const char *name = strrchr(path, '/');
    output_cell(&bench->table, "%s", name ? name + 1 : path);
    output_cell(&bench->table, "%.4f", row->result.recall);
    output_cell(&bench->table, "%.1f", row->result.per_second);
    if (row->below == row->run.probes)
        output_cell(&bench->table, "%u", row->run.probes);
    else
        output_cell(&bench->table, "%u to %u", row->below, row->run.probes);
    output_cell(&bench->table, "%.0f", row->result.codes);
    output_cell(&bench->table, "%.0f", row->result.refined);
    output_cell(&bench->table, "%.0f", row->result.rows);
}

static enum status show(struct bench *bench, const struct row *row)
{
    if (bench->options->json)
        return print_json(bench, row);
    add_row(bench, row);
    return STATUS_OK;
}

static enum status show_about(const struct bench *bench)
{
    const struct index_bench_about *about = index_bench_about(bench->index);
    if (!bench->options->json) {
        char rows[OUTPUT_FIGURE_BYTES];
        char seconds[OUTPUT_FIGURE_BYTES];
        printf("%s rows of %zu dimensions in %u lists, built in %s, %.0f bytes a row and %.0f of "
               "the row itself\n",
               output_count(about->rows, rows), about->dimension, about->lists,
               output_seconds(about->build_seconds, seconds), about->index_bytes, about->row_bytes);
        return STATUS_OK;
    }
    struct json_writer writer = {.failed = false};
    json_begin_object(&writer);
    json_name(&writer, "count");
    json_put_uint(&writer, about->rows);
    json_name(&writer, "dimension");
    json_put_uint(&writer, about->dimension);
    json_name(&writer, "lists");
    json_put_uint(&writer, about->lists);
    put_about(bench, &writer);
    json_name(&writer, "build_threads");
    json_put_uint(&writer, bench->options->threads);
    json_end_object(&writer);
    enum status status = answers_end_line(&writer);
    json_writer_deinit(&writer);
    return status;
}

// --- measuring

static struct row measure(const struct bench *bench, size_t set, uint32_t probes)
{
    struct row row = {
        .run = {.set = set,
                .batch = (uint32_t)bench->options->batch,
                .threads = (uint32_t)bench->options->threads,
                .probes = probes},
        .below = probes,
    };
    index_bench_run(bench->index, &row.run, &row.result);
    return row;
}

static double between(double low, double high, double share)
{
    return low * (1 - share) + high * share;
}

static enum status show_at_recall(struct bench *bench, const struct row *below,
                                  const struct row *above, double recall)
{
    struct row row = *above;
    double step = above->result.recall - below->result.recall;
    double share = step > 0 ? (recall - below->result.recall) / step : 1;
    if (share > 0 && share < 1) {
        row.below = below->run.probes;
        row.result = (struct index_bench_result){
            .recall = recall,
            .per_second =
                exp(between(log(below->result.per_second), log(above->result.per_second), share)),
            .codes = between(below->result.codes, above->result.codes, share),
            .refined = between(below->result.refined, above->result.refined, share),
            .rows = between(below->result.rows, above->result.rows, share),
        };
    }
    return show(bench, &row);
}

// More and more lists, in steps of half a doubling, until the highest recall is reached.
static enum status find_recalls(struct bench *bench, size_t set, struct reason *why)
{
    struct row below = measure(bench, set, 1);
    struct row above = below;
    size_t next = 0;
    enum status status = STATUS_OK;
    for (uint32_t probes = 1; !status && next < bench->recall_count;) {
        while (!status && next < bench->recall_count && above.result.recall >= bench->recalls[next])
            status = show_at_recall(bench, &below, &above, bench->recalls[next++]);
        if (status || next == bench->recall_count)
            break;
        if (probes >= index_bench_about(bench->index)->lists || probes >= PROBES_MAX)
            return reason_set(why, STATUS_NOT_FOUND, bench->options->query_files.items[set],
                              "recall %g is not reached: with %u lists it is %.4f",
                              bench->recalls[next], probes, above.result.recall);
        probes = probes & (probes - 1) ? (probes / 3) * 4 : probes == 1 ? 2 : probes / 2 * 3;
        below = above;
        above = measure(bench, set, probes);
    }
    return status;
}

static enum status run_sets(struct bench *bench, struct reason *why)
{
    const struct args_numbers *probes = &bench->options->probes;
    enum status status = STATUS_OK;
    for (size_t set = 0; set < bench->options->query_files.count && !status; set++) {
        for (size_t i = 0; i < probes->count && !status; i++) {
            struct row row = measure(bench, set, (uint32_t)probes->items[i]);
            status = show(bench, &row);
        }
        if (!status)
            status = find_recalls(bench, set, why);
    }
    return status;
}

// What was printed goes out: the one who asks next waits for it.
static enum status send_out(enum status status, struct reason *why)
{
    if (status || fflush(stdout) == 0)
        return status;
    return reason_set(why, STATUS_IO, NULL, "stdout cannot be written");
}

// "SET QUERIES BATCH THREADS NPROBE", line by line.
static enum status run_rounds(struct bench *bench, struct reason *why)
{
    char line[LINE_BYTES];
    enum status status = STATUS_OK;
    while (!status && fgets(line, sizeof(line), stdin)) {
        uint64_t numbers[5] = {0};
        size_t count = 0;
        char *end = line;
        for (char *at = line; count < 5; at = end) {
            numbers[count] = strtoull(at, &end, 10);
            if (end == at)
                break;
            count++;
        }
        struct row row = {.run = {.set = (size_t)numbers[0],
                                  .queries = (size_t)numbers[1],
                                  .batch = (uint32_t)numbers[2],
                                  .threads = (uint32_t)numbers[3],
                                  .probes = (uint32_t)numbers[4]},
                          .below = (uint32_t)numbers[4]};
        if (count != 5 || strcspn(end, "\n") != 0 ||
            numbers[0] >= bench->options->query_files.count || numbers[2] < 1 ||
            numbers[2] > BATCH_MAX || numbers[3] < 1 || numbers[3] > bench->options->threads ||
            numbers[4] < 1 || numbers[4] > PROBES_MAX)
            return reason_set(why, STATUS_INVALID, NULL,
                              "a line of --rounds is SET QUERIES BATCH THREADS NPROBE, each within "
                              "what the flags allow; this one is '%.*s'",
                              (int)strcspn(line, "\n"), line);
        index_bench_run(bench->index, &row.run, &row.result);
        status = send_out(show(bench, &row), why);
    }
    return status;
}

// --- the command line

static enum status read_recalls(struct bench *bench, struct reason *why)
{
    const char *text = bench->options->recall;
    for (const char *at = text; at && *at;) {
        char number[32];
        size_t bytes = strcspn(at, ",");
        if (bytes >= sizeof(number) || bench->recall_count == RECALLS_MAX)
            return reason_set(why, STATUS_INVALID, "--recall",
                              "'%s' is no list of at most %d numbers", text, RECALLS_MAX);
        memcpy(number, at, bytes);
        number[bytes] = 0;
        double *recall = &bench->recalls[bench->recall_count++];
        enum status status = args_read_number("--recall", number, 0.01, 1, recall, why);
        if (status)
            return status;
        if (bench->recall_count > 1 && recall[0] <= recall[-1])
            return reason_set(why, STATUS_INVALID, "--recall", "'%s' does not rise", text);
        at += bytes;
        at += *at == ',';
    }
    return STATUS_OK;
}

static enum status check(struct bench *bench, struct reason *why)
{
    const struct options *options = bench->options;
    if (!options->base)
        return reason_set(why, STATUS_INVALID, "--base", "is needed: the file of the rows");
    if (!options->query_files.count)
        return reason_set(why, STATUS_INVALID, "--queries", "is needed: a file of queries");
    if (options->query_files.count > INDEX_BENCH_SETS_MAX)
        return reason_set(why, STATUS_INVALID, "--queries", "at most %d files are allowed",
                          INDEX_BENCH_SETS_MAX);
    if (options->truths.count && options->truths.count != options->query_files.count)
        return reason_set(why, STATUS_INVALID, "--truth",
                          "is given %zu times, --queries %zu times; as often is allowed",
                          options->truths.count, options->query_files.count);
    if (options->extra_bits != 3 && options->extra_bits != 7)
        return reason_set(why, STATUS_INVALID, "--extra-bits",
                          "is %" PRIu64 "; 3 and 7 are allowed", options->extra_bits);
    return read_recalls(bench, why);
}

static enum status prepare(struct bench *bench, struct reason *why)
{
    const struct options *options = bench->options;
    const struct index_bench_params params = {
        .base = options->base,
        .k = (uint32_t)options->k,
        .threads = (uint32_t)options->threads,
        .extra_bits = (uint32_t)options->extra_bits,
        .list_vectors = (uint32_t)options->list_vectors,
        .seed = options->seed,
    };
    enum status status = index_bench_create(&params, &bench->index, why);
    for (size_t i = 0; i < options->query_files.count && !status; i++)
        status =
            index_bench_add_queries(bench->index, options->query_files.items[i],
                                    options->truths.count ? options->truths.items[i] : NULL, why);
    return status;
}

static enum status run_all(struct bench *bench, struct reason *why)
{
    static const char *const header[] = {"queries", ">recall",  ">per second", ">lists",
                                         ">codes",  ">refined", ">rows"};
    const struct options *options = bench->options;
    enum status status = prepare(bench, why);
    if (!status && (options->rounds || !options->json))
        status = send_out(show_about(bench), why);
    if (status)
        return status;
    if (!options->json)
        output_table_begin(&bench->table, header, sizeof(header) / sizeof(header[0]));
    status = options->rounds ? run_rounds(bench, why) : run_sets(bench, why);
    if (!options->json)
        output_table_end(&bench->table, 0);
    return status;
}

static int run_bench_index(const struct options *options)
{
    struct bench bench = {.options = options};
    struct reason why = {.text = ""};
    enum status status = check(&bench, &why);
    if (status) {
        output_error(NULL, &why);
        return VERBS_USAGE;
    }
    status = run_all(&bench, &why);
    if (status)
        output_error(NULL, &why);
    index_bench_destroy(&bench.index);
    return output_exit(status);
}

static const struct args_flag index_flags[] = {
    {.name = "--base",
     .kind = ARGS_TEXT,
     .argument = "X.npy",
     .help = "the rows: .npy (f32 or f16) or .fvecs, of unit length",
     .offset = offsetof(struct options, base)},
    {.name = "--queries",
     .kind = ARGS_LIST,
     .argument = "X.npy",
     .help = "the queries, likewise; more than one file is allowed",
     .offset = offsetof(struct options, query_files)},
    {.name = "--truth",
     .kind = ARGS_LIST,
     .argument = "X.npy",
     .help = "ids of each query's best rows, best first (i32 or i64), once for each --queries; "
             "without, they are searched for exactly",
     .offset = offsetof(struct options, truths)},
    {.name = "-k",
     .kind = ARGS_COUNT,
     .argument = "N",
     .fallback = "10",
     .help = "neighbours",
     .offset = offsetof(struct options, k),
     .low = 1,
     .high = K_MAX},
    {.name = "--threads",
     .kind = ARGS_COUNT,
     .argument = "N",
     .fallback = "1",
     .help = "of building and of searching",
     .offset = offsetof(struct options, threads),
     .low = 1,
     .high = INDEX_BENCH_THREADS_MAX},
    {.name = "--batch",
     .kind = ARGS_COUNT,
     .argument = "N",
     .fallback = "1",
     .help = "queries at a time: with 1 each thread asks for itself, with more they share a batch",
     .offset = offsetof(struct options, batch),
     .low = 1,
     .high = BATCH_MAX},
    {.name = "--recall",
     .kind = ARGS_TEXT,
     .argument = "R,R...",
     .fallback = "0.95,0.99",
     .help = "shares of the true neighbours to be found, rising; '' for none",
     .offset = offsetof(struct options, recall)},
    {.name = "--nprobe",
     .kind = ARGS_NUMBER_LIST,
     .argument = "N,N...",
     .help = "numbers of lists to look into, each measured too",
     .offset = offsetof(struct options, probes),
     .low = 1,
     .high = PROBES_MAX},
    {.name = "--extra-bits",
     .kind = ARGS_COUNT,
     .argument = "N",
     .fallback = "3",
     .help = "of each number beside its sign: 3 or 7",
     .offset = offsetof(struct options, extra_bits),
     .low = 3,
     .high = 7},
    {.name = "--list-vectors",
     .kind = ARGS_COUNT,
     .argument = "N",
     .fallback = "the index' own choice",
     .help = "vectors of a list, on average",
     .offset = offsetof(struct options, list_vectors),
     .low = 16,
     .high = 65536},
    {.name = "--seed",
     .kind = ARGS_COUNT,
     .argument = "N",
     .fallback = "1",
     .help = "of the training",
     .offset = offsetof(struct options, seed),
     .low = 0,
     .high = 0x1p53},
    {.name = "--rounds",
     .kind = ARGS_SWITCH,
     .help = "reads what to measure from stdin, line by line",
     .offset = offsetof(struct options, rounds)},
    {.name = NULL},
};

const struct verb verb_bench_index = {
    .args =
        {.name = "bench index",
         .items = "--base X.npy --queries X.npy",
         .summary = "recall and speed of the index on vectors from files",
         .details =
             "Builds the index that a node keeps and asks it as a node does, in this process.\n"
             "For each --recall more and more lists are looked into; the speed at just that\n"
             "recall is interpolated. Bytes of a vector are those of the index and of the fp16\n"
             "row that the last step reads.\n\n"
             "With --rounds the index is built, a line says what it is, and each line of stdin,\n"
             "SET QUERIES BATCH THREADS NPROBE, is measured and answered: SET counts the files of\n"
             "--queries from 0, QUERIES are its first ones (0: all). So another program can take\n"
             "turns with it.\n\n"
             "JSON line for each measurement: "
             "{\"queries\",\"recall\",\"qps\",\"bytes_per_vector\",\n"
             "\"index_bytes_per_vector\",\"build_seconds\",\"k\",\"batch\",\"threads\",\"codes\","
             "\"refined\",\n"
             "\"rows\",\"settings\":{\"nprobe\",\"extra_bits\",\"lists\"}}; nprobe is a pair where "
             "the\n"
             "speed is interpolated. --rounds begins with {\"count\",\"dimension\",\"lists\",...}",
         .groups = {index_flags, options_common}},
    .chapter = "measuring",
    .run = run_bench_index,
};
