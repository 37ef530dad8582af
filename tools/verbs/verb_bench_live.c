// SPDX-License-Identifier: Apache-2.0
// reco bench live: what an index does while it changes.

#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/limits.h"
#include "tools/answers.h"
#include "tools/index_live.h"
#include "tools/output.h"
#include "tools/verbs.h"

#define CHUNK_MAX 65536

enum step {
    STEP_BUILT,
    STEP_INSERT,
    STEP_DELETE,
    STEP_REPLACE,
    STEP_FRESH,
    STEPS,
};

static const struct {
    const char *name;
    enum status (*take)(struct index_live *, struct index_live_step *, struct reason *);
} steps[STEPS] = {
    [STEP_BUILT] = {"built", index_live_build},    [STEP_INSERT] = {"insert", index_live_insert},
    [STEP_DELETE] = {"delete", index_live_delete}, [STEP_REPLACE] = {"replace", index_live_replace},
    [STEP_FRESH] = {"fresh", index_live_fresh},
};

struct bench {
    const struct options *options;
    struct args_numbers probes;
    struct index_live *live;
    struct index_live_step done[STEPS];
    struct index_live_restart restart;
};

// What the index that was churned has lost against one of the same rows made anew.
struct loss {
    double points; // of recall, with as many lists
    double
        points_at_codes; // with as many codes scanned, between two numbers of lists; NAN: not known
};

static double bytes_of(const struct index_live_step *step)
{
    return (double)step->about.bytes / (double)step->live;
}

static double rate(double count, double seconds)
{
    return count / (seconds > 0 ? seconds : 1e-9);
}

// --- what was lost

// The recall that belongs to so many codes; NAN when fewer or more lists were always looked into.
static double recall_at(const struct asker_found *found, size_t count, double codes)
{
    const struct asker_found *below = NULL;
    const struct asker_found *above = NULL;
    for (size_t i = 0; i < count; i++) {
        if (found[i].codes <= codes && (!below || found[i].codes > below->codes))
            below = &found[i];
        if (found[i].codes >= codes && (!above || found[i].codes < above->codes))
            above = &found[i];
    }
    if (!below || !above)
        return (double)NAN;
    if (above->codes <= below->codes)
        return below->recall;
    const double share = log(codes / below->codes) / log(above->codes / below->codes);
    return below->recall + share * (above->recall - below->recall);
}

static struct loss loss_of(const struct bench *bench, size_t set, size_t i)
{
    const struct asker_found *fresh = &bench->done[STEP_FRESH].found[set][i];
    const struct asker_found *churned = bench->done[STEP_REPLACE].found[set];
    return (struct loss){
        .points = 100 * (fresh->recall - churned[i].recall),
        .points_at_codes =
            100 * (fresh->recall - recall_at(churned, bench->probes.count, fresh->codes)),
    };
}

static double bytes_ratio(const struct bench *bench)
{
    return bytes_of(&bench->done[STEP_REPLACE]) / bytes_of(&bench->done[STEP_FRESH]);
}

// --- JSON

static void put_figure(struct json_writer *writer, const char *name, double figure)
{
    json_name(writer, name);
    if (isfinite(figure))
        json_put_double(writer, figure);
    else
        json_put_null(writer);
}

static void put_count(struct json_writer *writer, const char *name, uint64_t count)
{
    json_name(writer, name);
    json_put_uint(writer, count);
}

static void put_upkeep(struct json_writer *writer, const struct index_live_step *step)
{
    json_name(writer, "upkeep");
    json_begin_object(writer);
    put_count(writer, "splits", step->upkeep.splits);
    put_count(writer, "merges", step->upkeep.merges);
    put_count(writer, "rewrites", step->upkeep.rewrites);
    put_count(writer, "moves", step->upkeep.moves);
    json_end_object(writer);
    put_figure(writer, "rest_seconds", step->rest_seconds);
}

static void put_found(const struct bench *bench, struct json_writer *writer, enum step number)
{
    json_name(writer, "found");
    json_begin_array(writer);
    for (size_t set = 0; set < bench->options->query_files.count; set++) {
        for (size_t i = 0; i < bench->probes.count; i++) {
            const struct asker_found *found = &bench->done[number].found[set][i];
            json_begin_object(writer);
            json_name(writer, "queries");
            json_put_cstr(writer, bench->options->query_files.items[set]);
            put_count(writer, "nprobe", bench->probes.items[i]);
            put_figure(writer, "recall", found->recall);
            put_figure(writer, "codes", found->codes);
            put_figure(writer, "refined", found->refined);
            put_figure(writer, "rows", found->rows);
            if (number == STEP_FRESH) {
                const struct loss loss = loss_of(bench, set, i);
                put_figure(writer, "points_lost", loss.points);
                put_figure(writer, "points_lost_at_codes", loss.points_at_codes);
            }
            json_end_object(writer);
        }
    }
    json_end_array(writer);
}

static void put_step(const struct bench *bench, struct json_writer *writer, enum step number)
{
    const struct index_live_step *step = &bench->done[number];
    put_count(writer, "rows", step->rows);
    put_figure(writer, "seconds", step->seconds);
    if (number == STEP_INSERT || number == STEP_REPLACE) {
        put_figure(writer, "per_second", rate(step->rows, step->seconds));
        put_figure(writer, "per_second_unmended", rate(step->rows, step->extend_seconds));
        put_figure(writer, "qps_before", step->asked_before);
        put_figure(writer, "qps", step->asked);
    }
    if (number == STEP_DELETE)
        put_figure(writer, "microseconds_each", step->seconds * 1e6 / step->rows);
    if (number == STEP_BUILT || number == STEP_FRESH)
        put_figure(writer, "extend_seconds", step->extend_seconds);
    else
        put_upkeep(writer, step);
    put_count(writer, "live", step->live);
    put_count(writer, "vectors", step->about.vectors);
    put_count(writer, "lists", step->about.lists);
    put_figure(writer, "index_bytes_per_vector", bytes_of(step));
    if (number == STEP_FRESH)
        put_figure(writer, "bytes_ratio", bytes_ratio(bench));
    put_found(bench, writer, number);
}

static void put_restart(const struct index_live_restart *restart, struct json_writer *writer)
{
    put_figure(writer, "save_seconds", restart->save_seconds);
    put_count(writer, "bytes", restart->bytes);
    put_figure(writer, "open_seconds", restart->open_seconds);
    put_figure(writer, "first_answer_ms", restart->first_answer_seconds * 1e3);
    put_figure(writer, "qps_before", restart->asked_before);
    json_name(writer, "qps");
    json_begin_array(writer);
    for (uint32_t i = 0; i < restart->seconds; i++)
        json_put_double(writer, restart->asked[i]);
    json_end_array(writer);
    json_name(writer, "full_speed");
    json_put_bool(writer, restart->is_full);
}

static enum status print_json(const struct bench *bench, enum step number)
{
    struct json_writer writer = {.failed = false};
    json_begin_object(&writer);
    json_name(&writer, "step");
    json_put_cstr(&writer, number == STEPS ? "restart" : steps[number].name);
    if (number == STEPS)
        put_restart(&bench->restart, &writer);
    else
        put_step(bench, &writer, number);
    json_end_object(&writer);
    enum status status = answers_end_line(&writer);
    json_writer_deinit(&writer);
    return status;
}

// --- for people

static void print_upkeep(const struct index_live_step *step)
{
    char seconds[OUTPUT_FIGURE_BYTES];
    printf("         %" PRIu64 " splits, %" PRIu64 " merges, %" PRIu64 " rewrites, %" PRIu64
           " moves; the last %s of it afterwards\n",
           step->upkeep.splits, step->upkeep.merges, step->upkeep.rewrites, step->upkeep.moves,
           output_seconds(step->rest_seconds, seconds));
}

static void print_step(const struct bench *bench, enum step number)
{
    const struct index_live_step *step = &bench->done[number];
    char rows[OUTPUT_FIGURE_BYTES];
    char seconds[OUTPUT_FIGURE_BYTES];
    printf("%-8s %s rows ", steps[number].name, output_count(step->rows, rows));
    if (number == STEP_DELETE)
        printf("deleted, %.3f us each\n", step->seconds * 1e6 / step->rows);
    else if (number == STEP_BUILT || number == STEP_FRESH)
        printf("in %s\n", output_seconds(step->seconds, seconds));
    else
        printf("taken in, %.0f a second, without the mending %.0f; one thread asked %.0f a "
               "second, before %.0f\n",
               rate(step->rows, step->seconds), rate(step->rows, step->extend_seconds), step->asked,
               step->asked_before);
    if (number != STEP_BUILT && number != STEP_FRESH)
        print_upkeep(step);
    printf("         %s live rows in %" PRIu32 " lists, %.0f bytes a row",
           output_count(step->live, rows), step->about.lists, bytes_of(step));
    if (number == STEP_FRESH)
        printf("; before, %.3f times that", bytes_ratio(bench));
    putchar('\n');
}

static void print_restart(const struct index_live_restart *restart)
{
    char bytes[OUTPUT_FIGURE_BYTES];
    printf("restart  %s saved in %.3f s, opened in %.3f s, first answer after %.1f ms\n",
           output_bytes(restart->bytes, bytes), restart->save_seconds, restart->open_seconds,
           restart->first_answer_seconds * 1e3);
    printf("         one thread asked, second by second,");
    for (uint32_t i = 0; i < restart->seconds; i++)
        printf(" %.0f", restart->asked[i]);
    printf("; before %.0f\n", restart->asked_before);
}

static void add_points(struct output_table *table, double points, bool is_known)
{
    if (is_known && isfinite(points))
        output_cell(table, "%.2f", points);
    else
        output_cell_text(table, (struct text){.data = ""});
}

// What was found for one file, step by step.
static void add_set(const struct bench *bench, size_t set, struct output_table *table)
{
    const char *path = bench->options->query_files.items[set];
    const char *name = strrchr(path, '/');
    for (int number = 0; number < STEPS; number++) {
        for (size_t i = 0; i < bench->probes.count; i++) {
            const struct asker_found *found = &bench->done[number].found[set][i];
            const struct loss loss = loss_of(bench, set, i);
            output_cell(table, "%s", steps[number].name);
            output_cell(table, "%" PRIu64, bench->probes.items[i]);
            output_cell(table, "%.4f", found->recall);
            output_cell(table, "%.0f", found->codes);
            add_points(table, loss.points, number == STEP_FRESH);
            add_points(table, loss.points_at_codes, number == STEP_FRESH);
            output_cell(table, "%s", name ? name + 1 : path);
        }
    }
}

static void print_found(const struct bench *bench)
{
    static const char *const header[] = {
        "step", ">lists", ">recall", ">codes", ">points lost", ">lost at equal codes", "queries"};
    struct output_table table;
    output_table_begin(&table, header, sizeof(header) / sizeof(header[0]));
    for (size_t set = 0; set < bench->options->query_files.count; set++)
        add_set(bench, set, &table);
    output_table_end(&table, 0);
}

// A measurement goes out before the next one begins.
static enum status show(const struct bench *bench, enum step number, struct reason *why)
{
    enum status status = STATUS_OK;
    if (bench->options->json) {
        status = print_json(bench, number);
    } else if (number < STEPS) {
        print_step(bench, number);
    } else {
        print_restart(&bench->restart);
        print_found(bench);
    }
    if (status || fflush(stdout) == 0)
        return status;
    return reason_set(why, STATUS_IO, NULL, "stdout cannot be written");
}

// --- the command line

static enum status check(struct bench *bench, struct reason *why)
{
    const struct options *options = bench->options;
    if (!options->base)
        return reason_set(why, STATUS_INVALID, "--base", "is needed: the file of the rows");
    if (!options->query_files.count)
        return reason_set(why, STATUS_INVALID, "--queries", "is needed: a file of queries");
    if (options->query_files.count > INDEX_LIVE_SETS_MAX)
        return reason_set(why, STATUS_INVALID, "--queries", "at most %d files are allowed",
                          INDEX_LIVE_SETS_MAX);
    bench->probes = options->probes;
    if (bench->probes.count == 0)
        bench->probes = (struct args_numbers){.items = {8, 16, 32}, .count = 3};
    return STATUS_OK;
}

static enum status run_all(struct bench *bench, struct reason *why)
{
    const struct options *options = bench->options;
    const char *const temporary = getenv("TMPDIR"); // NOLINT(concurrency-mt-unsafe): no thread yet
    const char *const usual = temporary && *temporary ? temporary : "/tmp";
    const struct index_live_params params = {
        .base = options->base,
        .queries = &options->query_files,
        .probes = &bench->probes,
        .k = (uint32_t)options->k,
        .threads = (uint32_t)options->threads,
        .chunk = (uint32_t)options->chunk,
        .seconds = (uint32_t)options->seconds,
        .seed = options->seed,
        .folder = options->out ? options->out : usual,
    };
    enum status status = options->out ? output_make_folder(options->out, why) : STATUS_OK;
    if (!status)
        status = index_live_create(&params, &bench->live, why);
    for (int i = 0; i < STEPS && !status; i++) {
        status = steps[i].take(bench->live, &bench->done[i], why);
        if (!status)
            status = show(bench, (enum step)i, why);
    }
    if (!status)
        status = index_live_restart(bench->live, &bench->restart, why);
    return status ? status : show(bench, STEPS, why);
}

static int run_bench_live(const struct options *options)
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
    index_live_destroy(&bench.live);
    return output_exit(status);
}

static const struct args_flag live_flags[] = {
    {.name = "--base",
     .kind = ARGS_TEXT,
     .argument = "X.npy",
     .help = "the rows: .npy (f32 or f16) or .fvecs, of unit length, 1,000 or more",
     .offset = offsetof(struct options, base)},
    {.name = "--queries",
     .kind = ARGS_LIST,
     .argument = "X.npy",
     .help = "the queries, likewise; more than one file is allowed",
     .offset = offsetof(struct options, query_files)},
    {.name = "-k",
     .kind = ARGS_COUNT,
     .argument = "N",
     .fallback = "10",
     .help = "neighbours",
     .offset = offsetof(struct options, k),
     .low = 1,
     .high = K_MAX},
    {.name = "--nprobe",
     .kind = ARGS_NUMBER_LIST,
     .argument = "N,N...",
     .fallback = "8,16,32",
     .help = "numbers of lists to look into; speed is measured with the first",
     .offset = offsetof(struct options, probes),
     .low = 1,
     .high = PROBES_MAX},
    {.name = "--chunk",
     .kind = ARGS_COUNT,
     .argument = "N",
     .fallback = "1024",
     .help = "rows that are appended and taken in at a time",
     .offset = offsetof(struct options, chunk),
     .low = 1,
     .high = CHUNK_MAX},
    {.name = "--seconds",
     .kind = ARGS_COUNT,
     .argument = "N",
     .fallback = "15",
     .help = "that are watched after the restart at most",
     .offset = offsetof(struct options, seconds),
     .low = 1,
     .high = INDEX_LIVE_SECONDS_MAX},
    {.name = "--threads",
     .kind = ARGS_COUNT,
     .argument = "N",
     .fallback = "1",
     .help = "that find out the recall; the index has one, and so has whoever asks meanwhile",
     .offset = offsetof(struct options, threads),
     .low = 1,
     .high = INDEX_LIVE_THREADS_MAX},
    {.name = "--seed",
     .kind = ARGS_COUNT,
     .argument = "N",
     .fallback = "1",
     .help = "of the order of the rows, of who is deleted, and of the training",
     .offset = offsetof(struct options, seed),
     .low = 0,
     .high = 0x1p53},
    {.name = "--out",
     .kind = ARGS_TEXT,
     .argument = "DIR",
     .fallback = "$TMPDIR, else /tmp",
     .help = "folder for the checkpoint, which is removed afterwards; made when missing",
     .offset = offsetof(struct options, out)},
    {.name = NULL},
};

const struct verb verb_bench_live = {
    .args =
        {.name = "bench live",
         .items = "--base X.npy --queries X.npy",
         .summary = "what the index does while it changes",
         .details =
             "Takes the index that a node keeps through what befalls it, in this process, and\n"
             "tells after each step how fast that was, what memory it takes, and its recall\n"
             "against an exact scan of the rows that are live then:\n\n"
             "  built    trained with 55 % of the rows, which it takes in\n"
             "  insert   the next 35 %, nearer and nearer to one row, so that they crowd into\n"
             "           one region; one thread takes them in and mends the lists, another asks\n"
             "  delete   half of all, chosen by the seed: a bit each\n"
             "  replace  the last 10 %, an older row dying with each, while one asks\n"
             "  fresh    another index, made of the live rows only: seconds, bytes, recall, and\n"
             "           how many points the one before has lost against it; also where both\n"
             "           scan as many codes, since they may have more or fewer lists\n"
             "  restart  saved, ended and opened again, from the page cache: milliseconds to\n"
             "           the first answer, then queries a second, second by second, until they\n"
             "           are within 5 % of what they were, or --seconds are over\n\n"
             "Lists are mended after each --chunk until 64 in a row are well, and after each\n"
             "step until all are. Bytes are the index', without the rows.\n\n"
             "JSON line for each step: "
             "{\"step\",\"rows\",\"seconds\",\"live\",\"vectors\",\"lists\",\n"
             "\"index_bytes_per_vector\",\"found\":[{\"queries\",\"nprobe\",\"recall\",\"codes\","
             "\"refined\",\n"
             "\"rows\"}]} and what is the step's own: \"per_second\", \"per_second_unmended\",\n"
             "\"qps\", \"qps_before\", \"microseconds_each\", \"upkeep\", \"rest_seconds\",\n"
             "\"bytes_ratio\", \"points_lost\", \"points_lost_at_codes\"; the last one:\n"
             "{\"step\":\"restart\",\"save_seconds\",\"bytes\",\"open_seconds\","
             "\"first_answer_ms\",\n"
             "\"qps_before\",\"qps\":[...],\"full_speed\"}",
         .groups = {live_flags, options_common}},
    .chapter = "measuring",
    .run = run_bench_live,
};
