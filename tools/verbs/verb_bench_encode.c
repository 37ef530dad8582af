// SPDX-License-Identifier: Apache-2.0
// reco bench encode: pictures or texts a second by batch, and where the time goes.

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/clock.h"
#include "proto/base/cpu.h"
#include "proto/base/mem.h"
#include "shaders/models/clip.h"
#include "shaders/models/image.h"
#include "shaders/ops/ops_profile.h"
#include "tools/answers.h"
#include "tools/inputs.h"
#include "tools/measure.h"
#include "tools/output.h"
#include "tools/sample_picture.h"
#include "tools/verbs.h"

#define REPETITION_US 250000 // calls are repeated until so long is measured
#define REPETITIONS_MAX 1000
#define THREADS_MAX 64
#define BATCH_MAX 1024
#define TEXTS_BYTES_MAX ((size_t)64 << 20)
#define LINE_BYTES 64

// What people write below pictures, and how long it is: 4 to 20 tokens with both ends, 11 on
// average.
static const char *const captions[] = {
    "a photo of a dog",
    "two people on a bench in the park",
    "a red car parked in front of a brick house at night",
    "an aerial view of a river delta with boats, painted in watercolour by a student",
    "snow",
    "a close-up of a bee on a purple flower, shallow depth of field",
    "the kitchen of a small restaurant during the evening rush",
    "graph paper with a hand-drawn map of an island",
};
#define CAPTIONS (sizeof(captions) / sizeof(captions[0]))

struct bench {
    const struct options *options;
    struct clip *clip;
    int64_t begun_us;
    double first_answer_seconds;
    size_t batch_max;
    size_t count; // pictures or texts that there are
    uint8_t *
        pictures; // prepared: [batch_max][IMAGE_PICTURE_BYTES(S)], those that there are over and over
    struct text *text; // [batch_max] likewise
    struct buffer file;
    float *embeddings; // [batch_max][dimension]
    struct output_table table;
};

// --- what is encoded

static enum status load_picture(struct bench *bench, size_t number, struct reason *why)
{
    const struct args_list *items = &bench->options->items;
    const struct clip_info *info = clip_info(bench->clip);
    uint8_t *place = bench->pictures + number * IMAGE_PICTURE_BYTES(info->image_size);
    const char *name = items->count ? items->items[number % items->count] : NULL;
    struct buffer picture = {0};
    struct reason inner = {.text = ""};
    enum status status = name ? inputs_read_picture(name, &picture, &inner)
                              : sample_picture_make((uint32_t)number, &picture);
    if (!status)
        status = image_prepare((struct bytes){picture.data, picture.count}, info->image, place,
                               NULL, &inner);
    buffer_deinit(&picture);
    return status ? reason_set(why, status, name, "%s", inner.text) : STATUS_OK;
}

static enum status load_texts(struct bench *bench, struct reason *why)
{
    const char *path = bench->options->texts_file;
    if (!path) {
        bench->count = CAPTIONS;
        for (size_t i = 0; i < bench->batch_max; i++)
            bench->text[i] = text_of(captions[i % CAPTIONS]);
        return STATUS_OK;
    }
    struct reason inner = {.text = ""};
    enum status status = inputs_read_file(path, TEXTS_BYTES_MAX, &bench->file, &inner);
    if (status)
        return reason_set(why, status, path, "%s", inner.text);
    const char *at = (const char *)bench->file.data;
    const char *end = at + bench->file.count;
    while (at < end && bench->count < bench->batch_max) {
        const char *line_end = memchr(at, '\n', (size_t)(end - at));
        size_t bytes = (size_t)((line_end ? line_end : end) - at);
        if (bytes > 0)
            bench->text[bench->count++] = (struct text){at, bytes};
        at += bytes + 1;
    }
    if (bench->count == 0)
        return reason_set(why, STATUS_INVALID, path, "has no line; a text in each is needed");
    for (size_t i = bench->count; i < bench->batch_max; i++)
        bench->text[i] = bench->text[i % bench->count];
    return STATUS_OK;
}

static enum status encode(struct bench *bench, size_t batch, struct reason *why)
{
    if (bench->options->what == 1)
        return clip_encode_texts(bench->clip, bench->text, batch, bench->embeddings, why);
    return clip_encode_pictures(bench->clip, bench->pictures, batch, bench->embeddings, why);
}

// The rest of the pictures, once the first one is answered.
static enum status load_pictures(struct bench *bench, struct reason *why)
{
    enum status status = STATUS_OK;
    for (size_t i = 1; i < bench->batch_max && !status; i++)
        status = load_picture(bench, i, why);
    return status;
}

// From nothing to the first embedding.
static enum status start(struct bench *bench, struct reason *why)
{
    const struct options *options = bench->options;
    const struct clip_params params = {
        .directory = options->model,
        .device = options->device,
        .threads = (int)options->encode_threads,
        .towers = options->what == 1 ? CLIP_TEXTS : CLIP_IMAGES,
        .hasty = true,
    };
    enum status status = clip_open(&params, &bench->clip, why);
    if (status)
        return status;
    ops_profile_count(clip_ops(bench->clip), options->count_operations);
    const struct clip_info *info = clip_info(bench->clip);
    bench->embeddings = mem_alloc_array(bench->batch_max * info->dimension, sizeof(float));
    if (options->what == 1) {
        bench->text = mem_alloc_array(bench->batch_max, sizeof(*bench->text));
        status = load_texts(bench, why);
    } else if (!info->image) {
        return reason_set(why, STATUS_FAILED_PRECONDITION, info->name,
                          "has no preprocessor_config.json");
    } else {
        bench->pictures = mem_alloc_array(bench->batch_max, IMAGE_PICTURE_BYTES(info->image_size));
        status = load_picture(bench, 0, why);
    }
    if (!status)
        status = encode(bench, 1, why);
    bench->first_answer_seconds = (double)(clock_now_us() - bench->begun_us) / 1e6;
    if (!status && options->what == 0 && !options->count_operations)
        status = load_pictures(bench, why);
    return status;
}

// --- measuring

// Calls one after the other for REPETITION_US or a little longer; items a second.
static enum status repeat(struct bench *bench, size_t batch, double *rate, struct reason *why)
{
    size_t items = 0;
    int64_t begun = clock_now_us();
    int64_t now = begun;
    enum status status = STATUS_OK;
    while (!status && now - begun < REPETITION_US) {
        status = encode(bench, batch, why);
        items += batch;
        now = clock_now_us();
    }
    *rate = (double)items / ((double)(now - begun) / 1e6);
    return status;
}

static uint64_t threads_of(const struct bench *bench)
{
    uint64_t threads = bench->options->encode_threads;
    return threads ? threads : (uint64_t)cpu_count();
}

// `rates` is sorted.
static enum status show(struct bench *bench, size_t batch, const double *rates, size_t count,
                        double median)
{
    const char *what = bench->options->what == 1 ? "text" : "image";
    if (!bench->options->json) {
        output_cell(&bench->table, "%s", what);
        output_cell(&bench->table, "%zu", batch);
        output_cell(&bench->table, "%.2f", median);
        output_cell(&bench->table, "%.2f", rates[0]);
        output_cell(&bench->table, "%.2f", rates[count - 1]);
        output_cell(&bench->table, "%.2f", 1000.0 * (double)batch / median);
        return STATUS_OK;
    }
    struct json_writer writer = {.failed = false};
    json_begin_object(&writer);
    json_name(&writer, "bench");
    json_put_cstr(&writer, "encode");
    json_name(&writer, "what");
    json_put_cstr(&writer, what);
    json_name(&writer, "items_per_second");
    json_put_double(&writer, median);
    json_name(&writer, "slowest");
    json_put_double(&writer, rates[0]);
    json_name(&writer, "fastest");
    json_put_double(&writer, rates[count - 1]);
    json_name(&writer, "batch");
    json_put_uint(&writer, batch);
    json_name(&writer, "threads");
    json_put_uint(&writer, threads_of(bench));
    json_name(&writer, "device");
    json_put_cstr(&writer, clip_info(bench->clip)->device);
    json_name(&writer, "peak_rss_bytes");
    json_put_uint(&writer, measure_peak_bytes());
    json_name(&writer, "first_answer_seconds");
    json_put_double(&writer, bench->first_answer_seconds);
    json_end_object(&writer);
    enum status status = answers_end_line(&writer);
    json_writer_deinit(&writer);
    return status;
}

static enum status bench_batch(struct bench *bench, size_t batch, size_t repetitions,
                               struct reason *why)
{
    double *rates = mem_alloc_array(repetitions, sizeof(*rates));
    enum status status = STATUS_OK;
    for (size_t i = 0; i < repetitions && !status; i++)
        status = repeat(bench, batch, &rates[i], why);
    if (!status) {
        double median = measure_quantile(rates, repetitions, 0.5);
        status = show(bench, batch, rates, repetitions, median);
        if (status)
            status = reason_set(why, status, NULL, "stdout cannot be written");
    }
    mem_free(rates);
    return status;
}

// --- where the time goes

static enum status show_operation(struct bench *bench, struct output_table *table,
                                  const struct ops_profile_row *row, double total, double peak)
{
    double rate = row->seconds > 0 ? row->operations / row->seconds : 0;
    double bandwidth = row->seconds > 0 ? row->bytes / row->seconds : 0;
    if (!bench->options->json) {
        output_cell(table, "%s", row->name);
        output_cell(table, "%.0f", (double)row->rows / (double)row->calls);
        output_cell(table, "%.1f %%", 100 * row->seconds / total);
        output_cell(table, "%.1f", rate / 1e9);
        output_cell(table, "%.1f", bandwidth / 1e9);
        if (peak > 0)
            output_cell(table, "%.0f %%", 100 * rate / peak);
        else
            output_cell(table, "not known");
        return STATUS_OK;
    }
    struct json_writer writer = {.failed = false};
    json_begin_object(&writer);
    json_name(&writer, "bench");
    json_put_cstr(&writer, "operation");
    json_name(&writer, "operation");
    json_put_cstr(&writer, row->name);
    json_name(&writer, "calls");
    json_put_uint(&writer, row->calls);
    json_name(&writer, "rows");
    json_put_double(&writer, (double)row->rows / (double)row->calls);
    json_name(&writer, "seconds");
    json_put_double(&writer, row->seconds);
    json_name(&writer, "share");
    json_put_double(&writer, row->seconds / total);
    json_name(&writer, "gflops");
    json_put_double(&writer, rate / 1e9);
    json_name(&writer, "gbytes_per_second");
    json_put_double(&writer, bandwidth / 1e9);
    if (peak > 0) {
        json_name(&writer, "peak_share");
        json_put_double(&writer, rate / peak);
        json_name(&writer, "peak_gflops");
        json_put_double(&writer, peak / 1e9);
    }
    json_name(&writer, "clock");
    json_put_cstr(&writer, ops_profile_clock(clip_ops(bench->clip)));
    json_end_object(&writer);
    enum status status = answers_end_line(&writer);
    json_writer_deinit(&writer);
    return status;
}

// One batch with the clock around each operation.
static enum status profile(struct bench *bench, size_t batch, struct reason *why)
{
    static const char *const header[] = {"operation", ">rows", ">share",
                                         ">GFLOP/s",  ">GB/s", ">of the peak"};
    struct ops *ops = clip_ops(bench->clip);
    double rate = 0;
    double peak = ops_peak(ops);
    ops_profile(ops, true);
    enum status status = repeat(bench, batch, &rate, why);
    ops_profile(ops, false);
    if (status)
        return status;

    const struct ops_profile_row *rows = NULL;
    size_t count = ops_profile_rows(ops, &rows);
    double total = 0;
    for (size_t i = 0; i < count; i++)
        total += rows[i].seconds;
    struct output_table table = {0};
    if (!bench->options->json) {
        (void)printf("\nbatch %zu, by operation, on the clock of the %s", batch,
                     ops_profile_clock(ops));
        if (peak > 0)
            (void)printf("; multiply-adds alone reach %.1f GFLOP/s", peak / 1e9);
        (void)putchar('\n');
        output_table_begin(&table, header, sizeof(header) / sizeof(header[0]));
    }
    for (size_t i = 0; i < count && !status; i++)
        status = show_operation(bench, &table, &rows[i], total, peak);
    if (!bench->options->json)
        output_table_end(&table, 0);
    return status ? reason_set(why, status, NULL, "stdout cannot be written") : STATUS_OK;
}

// --- what a batch is made of

static enum status show_count(struct bench *bench, struct output_table *table, size_t batch,
                              const struct ops_profile_row *row)
{
    double rows = (double)row->rows / (double)row->calls;
    if (!bench->options->json) {
        output_cell(table, "%s", row->name);
        output_cell(table, "%llu", (unsigned long long)row->calls);
        output_cell(table, "%.0f", rows);
        output_cell(table, "%.4g", row->operations / 1e9);
        output_cell(table, "%.4g", row->bytes / 1e6);
        return STATUS_OK;
    }
    struct json_writer writer = {.failed = false};
    json_begin_object(&writer);
    json_name(&writer, "bench");
    json_put_cstr(&writer, "count");
    json_name(&writer, "what");
    json_put_cstr(&writer, bench->options->what == 1 ? "text" : "image");
    json_name(&writer, "batch");
    json_put_uint(&writer, batch);
    json_name(&writer, "operation");
    json_put_cstr(&writer, row->name);
    json_name(&writer, "calls");
    json_put_uint(&writer, row->calls);
    json_name(&writer, "rows");
    json_put_double(&writer, rows);
    json_name(&writer, "flops");
    json_put_uint(&writer, (uint64_t)row->operations);
    json_name(&writer, "bytes");
    json_put_uint(&writer, (uint64_t)row->bytes);
    json_end_object(&writer);
    enum status status = answers_end_line(&writer);
    json_writer_deinit(&writer);
    return status;
}

// The operations of one batch, none of which is done.
static enum status count(struct bench *bench, size_t batch, struct reason *why)
{
    static const char *const header[] = {"operation", ">calls", ">rows", ">GFLOP", ">MB"};
    struct ops *ops = clip_ops(bench->clip);
    ops_profile_count(ops, true);
    enum status status = encode(bench, batch, why);
    ops_profile_count(ops, false);
    if (status)
        return status;

    const struct ops_profile_row *rows = NULL;
    size_t row_count = ops_profile_rows(ops, &rows);
    struct output_table table = {0};
    if (!bench->options->json) {
        (void)printf("batch %zu\n", batch);
        output_table_begin(&table, header, sizeof(header) / sizeof(header[0]));
    }
    for (size_t i = 0; i < row_count && !status; i++)
        status = show_count(bench, &table, batch, &rows[i]);
    if (!bench->options->json)
        output_table_end(&table, 0);
    return status ? reason_set(why, status, NULL, "stdout cannot be written") : STATUS_OK;
}

static enum status count_batches(struct bench *bench, struct reason *why)
{
    const struct options *options = bench->options;
    enum status status = STATUS_OK;
    for (size_t i = 0; i < options->batches.count && !status; i++)
        status = count(bench, (size_t)options->batches.items[i], why);
    return status;
}

// --- the command line

// Lines with a batch each, answered by a measurement: so that another program can take turns.
static enum status run_rounds(struct bench *bench, struct reason *why)
{
    char line[LINE_BYTES];
    enum status status = STATUS_OK;
    while (!status && fgets(line, sizeof(line), stdin)) {
        char *end = line;
        unsigned long batch = strtoul(line, &end, 10);
        if (end == line || strcspn(end, "\n") != 0 || batch < 1 || batch > bench->batch_max)
            return reason_set(why, STATUS_INVALID, NULL,
                              "a line of --rounds is a batch, 1..%zu; this one is '%.*s'",
                              bench->batch_max, (int)strcspn(line, "\n"), line);
        status = bench_batch(bench, batch, 1, why);
        if (!status && fflush(stdout) != 0)
            status = reason_set(why, STATUS_IO, NULL, "stdout cannot be written");
    }
    return status;
}

static enum status run_batches(struct bench *bench, struct reason *why)
{
    static const char *const header[] = {"what",     ">batch",   ">per second",
                                         ">slowest", ">fastest", ">ms a batch"};
    const struct options *options = bench->options;
    if (!options->json)
        output_table_begin(&bench->table, header, sizeof(header) / sizeof(header[0]));
    enum status status = STATUS_OK;
    for (size_t i = 0; i < options->batches.count && !status; i++)
        status = bench_batch(bench, (size_t)options->batches.items[i], (size_t)options->repetitions,
                             why);
    if (!options->json) {
        output_table_end(&bench->table, 0);
        (void)printf("\nfirst answer after %.3f s, %s, %llu threads, at most %.0f MB\n",
                     bench->first_answer_seconds, clip_info(bench->clip)->device,
                     (unsigned long long)threads_of(bench), (double)measure_peak_bytes() / 1e6);
    }
    for (size_t i = 0; i < options->batches.count && !status && options->profile_operations; i++)
        status = profile(bench, (size_t)options->batches.items[i], why);
    return status;
}

static int run_bench_encode(const struct options *options)
{
    struct bench bench = {.options = options, .begun_us = clock_now_us()};
    struct reason why = {.text = ""};
    for (size_t i = 0; i < options->batches.count; i++) {
        if ((size_t)options->batches.items[i] > bench.batch_max)
            bench.batch_max = (size_t)options->batches.items[i];
    }
    enum status status = STATUS_OK;
    if (options->count_operations && (options->profile_operations || options->rounds))
        status = reason_set(&why, STATUS_INVALID, "--operations",
                            "goes with neither --profile nor --rounds: nothing is measured");
    if (!status)
        status = start(&bench, &why);
    // A line that says the model answers; then turns are taken.
    if (!status && options->rounds)
        status = bench_batch(&bench, 1, 1, &why);
    if (!status && options->rounds)
        (void)fflush(stdout);
    if (!status && options->count_operations)
        status = count_batches(&bench, &why);
    else if (!status)
        status = options->rounds ? run_rounds(&bench, &why) : run_batches(&bench, &why);
    if (status)
        output_error(NULL, &why);
    clip_close(&bench.clip);
    buffer_deinit(&bench.file);
    mem_free(bench.pictures);
    mem_free(bench.text);
    mem_free(bench.embeddings);
    return output_exit(status);
}

static const struct args_flag bench_flags[] = {
    {.name = "--what",
     .kind = ARGS_CHOICE,
     .argument = "WHAT",
     .fallback = "image",
     .help = "pictures or texts",
     .offset = offsetof(struct options, what),
     .choices = "image|text"},
    {.name = "--batch",
     .kind = ARGS_NUMBER_LIST,
     .argument = "N,N...",
     .fallback = "1,8,64",
     .help = "items in one call",
     .offset = offsetof(struct options, batches),
     .low = 1,
     .high = BATCH_MAX},
    {.name = "--threads",
     .kind = ARGS_COUNT,
     .argument = "N",
     .fallback = "as many as this process may use",
     .help = "of the CPU",
     .offset = offsetof(struct options, encode_threads),
     .low = 1,
     .high = THREADS_MAX},
    {.name = "--texts",
     .kind = ARGS_TEXT,
     .argument = "FILE",
     .fallback = "eight captions",
     .help = "a text in each line, with --what text",
     .offset = offsetof(struct options, texts_file)},
    {.name = "--repetitions",
     .kind = ARGS_COUNT,
     .argument = "N",
     .fallback = "5",
     .help =
         "measurements of each batch, a quarter of a second or one call long; the median counts",
     .offset = offsetof(struct options, repetitions),
     .low = 1,
     .high = REPETITIONS_MAX},
    {.name = "--profile",
     .kind = ARGS_SWITCH,
     .help = "also where the time goes: rates, shares, and how near to the peak",
     .offset = offsetof(struct options, profile_operations)},
    {.name = "--operations",
     .kind = ARGS_SWITCH,
     .help = "instead: what a batch is made of; nothing is computed",
     .offset = offsetof(struct options, count_operations)},
    {.name = "--rounds",
     .kind = ARGS_SWITCH,
     .help = "reads batches from stdin, line by line",
     .offset = offsetof(struct options, rounds)},
    {.name = NULL},
};

const struct verb verb_bench_encode = {
    .args =
        {.name = "bench encode",
         .items = "[IMAGE...]",
         .summary = "pictures or texts a second, by batch",
         .details =
             "Opens the model in this process and encodes prepared pictures, or texts with their\n"
             "tokenizing, over and over. Without pictures of your own they are test cards.\n"
             "The first answer is timed from the start of this verb to the first embedding.\n\n"
             "With --profile each operation has a row: floating-point operations (a\n"
             "multiply-add is two) and bytes as its shapes need them, and on the CPU its share\n"
             "of what independent multiply-adds reach on all threads, measured in the same\n"
             "process. A Vulkan device's own clock measures its operations; where its queue has\n"
             "none the host's does, with what submitting and waiting take.\n\n"
             "With --operations nothing is measured: each kind of operation of a batch has a row\n"
             "with its calls, their rows on average, and what all of them compute and move.\n\n"
             "With --rounds each line of stdin, a batch, is measured once and answered, after a\n"
             "first line for a batch of 1; so another program can take turns with it.\n\n"
             "JSON line for each batch: {\"bench\",\"what\",\"items_per_second\",\"slowest\",\n"
             "\"fastest\",\"batch\",\"threads\",\"device\",\"peak_rss_bytes\",\n"
             "\"first_answer_seconds\"}; for each operation: {\"bench\":\"operation\",\n"
             "\"operation\",\"calls\",\"rows\",\"seconds\",\"share\",\"gflops\",\n"
             "\"gbytes_per_second\",\"clock\"}, on the CPU also \"peak_share\", \"peak_gflops\"; "
             "with\n"
             "--operations: "
             "{\"bench\":\"count\",\"what\",\"batch\",\"operation\",\"calls\",\"rows\",\n"
             "\"flops\",\"bytes\"}",
         .items_max = SIZE_MAX,
         .groups = {bench_flags, options_model, options_common}},
    .chapter = "measuring",
    .run = run_bench_encode,
};
