// SPDX-License-Identifier: Apache-2.0
// reco memory build: pictures with captions, or arrays of embeddings, into a memory.
//
//   new name ----> Create (building) --> ingest ------------------> finish --> serving
//   building ----> (resumed) ----------> ingest, skip_existing ---> finish --> serving
//   serving -----------------------------> ingest: upsert by key
//   --replace ---> Create (building, next generation) --> as above; the name moves at the end
//
// What is stored is acknowledged stream by stream. Killed at any point and started
// again, the same command goes on: a record is known by its key.

#include <inttypes.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "proto/base/limits.h"
#include "proto/base/mem.h"
#include "tools/answers.h"
#include "tools/dataset.h"
#include "tools/feed.h"
#include "tools/inputs.h"
#include "tools/memories.h"
#include "tools/output.h"
#include "tools/upload.h"
#include "tools/verbs.h"

#define SOURCES_MAX 1000000 // that stdin may name

struct build {
    const struct options *options;
    const char *name;
    struct dataset *dataset;
    struct client *client;
    struct arena *arena;
    struct api_memory_info info;
    char pin[MEMORIES_PIN_BYTES]; // NAME@GENERATION: what is written to
    bool building;                // this generation does not serve yet
    bool created;                 // by this command
    uint64_t bad;                 // items that could not be read
    uint64_t told;                // records known to be safe, as last told
    struct upload upload;
    struct output_progress progress;
    int64_t start_us;
};

// Names an item that is left out: always on stderr, and as a line of JSON.
static void name_item(struct build *build, const char *item, const struct reason *why)
{
    output_error(item, why);
    if (!build->options->json)
        return;

    char error[REASON_FIELD_BYTES + REASON_TEXT_BYTES + 2];
    (void)snprintf(error, sizeof(error), "%s%s%s", why->field, why->field[0] ? ": " : "",
                   why->text);
    struct json_writer writer = {.failed = false};
    json_begin_object(&writer);
    json_name(&writer, "item");
    json_put_cstr(&writer, item);
    json_name(&writer, "error");
    json_put_cstr(&writer, error);
    json_end_object(&writer);
    (void)!answers_end_line(&writer); // a broken stdout is told at the end of the program
    json_writer_deinit(&writer);
}

static void refused(void *context, struct text item, struct text reason)
{
    char name[DATASET_PATH_BYTES];
    struct reason why = {.text = ""};
    (void)snprintf(name, sizeof(name), "%.*s", (int)item.bytes, item.data);
    (void)snprintf(why.text, sizeof(why.text), "%.*s", (int)reason.bytes, reason.data);
    name_item(context, name, &why);
}

// --- before the first record

// Arrays fit only a space of their dimension, pictures only a model's.
static enum status check_space(const struct build *build, struct reason *why)
{
    const struct options *options = build->options;
    uint32_t dimension = dataset_dimension(build->dataset);
    if (!dimension && options->space)
        return reason_set(why, STATUS_INVALID, "--space",
                          "is for arrays; pictures are encoded by the model, into its space");
    if (dimension && !options->space && !options->model && !options->server)
        return reason_set(why, STATUS_INVALID, "--space",
                          "arrays need --space NAME:%u (that of a memory: reco memory info), or "
                          "--model DIR if that model made them",
                          dimension);
    return STATUS_OK;
}

static enum status create(struct build *build, struct reason *why)
{
    const struct options *options = build->options;
    const struct api_create_request request = {
        .name = text_of(build->name),
        .space = options->space ? text_of(options->space) : (struct text){0},
        .vshards = (uint32_t)options->vshards,
        .replace = options->replace,
        .building = true,
    };
    enum status status = memories_create(build->client, &request, build->arena, &build->info, why);
    if (status)
        return status;

    // The answer may be a build that was interrupted; only its description counts records.
    memories_pin(&build->info, build->pin);
    status = memories_describe(build->client, build->pin, build->arena, &build->info, why);
    build->created = !status && !build->info.records && !build->info.degraded_count;
    return status;
}

// A generation that this command made and that got no record goes again.
static void drop_created(struct build *build)
{
    uint64_t records = 0;
    struct reason ignored = {.text = ""};
    if (build->created)
        (void)!memories_drop(build->client, build->pin, &records, &ignored);
}

// Whether the arrays fit into the generation that was found or made.
static enum status check_fit(const struct build *build, struct reason *why)
{
    uint32_t dimension = dataset_dimension(build->dataset);
    const struct api_memory_info *info = &build->info;
    const char *space = build->options->space;
    const char *way = build->building ? "; drop this unfinished build, or give the space it has"
                                      : "; --replace builds it anew";
    if (build->created)
        way = "";
    if (dimension && info->dimension != dimension)
        return reason_set(why, STATUS_FAILED_PRECONDITION, build->pin,
                          "its space %.*s has %u dimensions, the arrays have %u%s",
                          (int)info->space.bytes, info->space.data, info->dimension, dimension,
                          way);
    if (space && !text_equal(info->space, text_of(space)))
        return reason_set(why, STATUS_FAILED_PRECONDITION, build->pin,
                          "its space is %.*s, not %s%s", (int)info->space.bytes, info->space.data,
                          space, way);
    return STATUS_OK;
}

// Finds or makes the generation to write to.
static enum status prepare(struct build *build, struct reason *why)
{
    const struct options *options = build->options;
    enum status status = STATUS_NOT_FOUND;
    if (!options->replace) {
        struct reason inner = {.text = ""};
        status = memories_describe(build->client, build->name, build->arena, &build->info, &inner);
        if (status && status != STATUS_NOT_FOUND) {
            *why = inner;
            return status;
        }
    }
    if (status)
        status = create(build, why);
    if (status)
        return status;

    build->building = text_equal(build->info.state, text_of("building"));
    memories_pin(&build->info, build->pin);
    status = check_fit(build, why);
    if (status)
        drop_created(build);
    return status;
}

// --- the records

static void show_progress(struct build *build)
{
    const struct upload *upload = &build->upload;
    output_progress_update(&build->progress, upload->sent + upload->in_stream + build->bad,
                           upload->failed + build->bad);
}

// For those who watch with --verbose: from here on it survives a kill.
static void tell_acknowledged(struct build *build)
{
    uint64_t safe = build->upload.stored + build->upload.skipped;
    if (safe != build->told)
        output_step("%" PRIu64 " records are safe", safe);
    build->told = safe;
}

static enum status send_batches(struct build *build, struct feed *feed, struct reason *why)
{
    enum status status = STATUS_OK;
    for (bool last = false; !last && !status;) {
        struct feed_batch *batch = feed_next(feed);
        last = batch->last;
        build->bad += batch->bad_count;
        for (size_t i = 0; i < batch->bad_count; i++)
            name_item(build, batch->bad[i].name, &batch->bad[i].why);
        for (size_t i = 0; i < batch->item_count; i++)
            upload_name(&build->upload, batch->items[i].key, batch->items[i].name);
        if (batch->count)
            status = upload_send(&build->upload,
                                 (struct bytes){batch->message.data, batch->message.count},
                                 batch->count, why);
        feed_done(feed, batch);
        show_progress(build);
        tell_acknowledged(build);
    }
    return status ? status : upload_flush(&build->upload, why);
}

static enum status ingest_all(struct build *build, struct reason *why)
{
    const struct feed_params params = {
        .memory = build->pin,
        // A generation that already serves gets the new content of each record.
        .skip_existing = build->building && build->info.records > 0,
    };
    struct feed *feed = NULL;
    enum status status = feed_start(build->dataset, &params, &feed);
    if (status)
        return reason_set(why, status, NULL, "no thread for reading: %s", status_text(status));

    if (params.skip_existing)
        output_note("%s is going on where it was stopped: %" PRIu64 " records are there",
                    build->pin, build->info.records);
    if (dataset_about(build->dataset))
        output_note("%s", dataset_about(build->dataset));
    output_progress_begin(&build->progress, "records", dataset_total(build->dataset));
    status = send_batches(build, feed, why);
    output_progress_end(&build->progress);
    feed_stop(&feed);
    return status;
}

// --- after the last one

static enum status finish(struct build *build, struct reason *why)
{
    const struct api_ingest_request request = {.memory = text_of(build->pin), .finish = true};
    struct buffer message = {0};
    enum status status = api_encode_ingest_request(&request, &message);
    if (status)
        return reason_set(why, status, NULL, "the request cannot be made: %s", status_text(status));
    status = upload_send(&build->upload, (struct bytes){message.data, message.count}, 0, why);
    if (!status)
        status = upload_flush(&build->upload, why);
    buffer_deinit(&message);
    return status;
}

// A generation without a record does not begin to serve; one that this command made goes.
static enum status refuse_empty(struct build *build, struct reason *why)
{
    const uint64_t bad = build->upload.failed + build->bad;
    drop_created(build);
    if (bad > 0)
        return reason_set(why, STATUS_INVALID, build->name,
                          "nothing was stored, so there is no memory: all %" PRIu64
                          " items were left out for the reasons above",
                          bad);
    return reason_set(why, STATUS_INVALID, build->name,
                      "nothing was stored, so there is no memory: the sources hold no item; a "
                      "manifest needs a line for each, as `reco help memory build` shows");
}

static enum status complete(struct build *build, struct reason *why)
{
    enum status status =
        memories_describe(build->client, build->pin, build->arena, &build->info, why);
    if (status || !build->building)
        return status;
    if (!build->info.records && !build->info.degraded_count)
        return refuse_empty(build, why);
    status = finish(build, why);
    return status ? status
                  : memories_describe(build->client, build->pin, build->arena, &build->info, why);
}

static void print_json(const struct build *build, double seconds)
{
    const struct api_memory_info *info = &build->info;
    struct json_writer writer = {.failed = false};
    json_begin_object(&writer);
    json_name(&writer, "memory");
    json_put_text(&writer, info->name);
    json_name(&writer, "generation");
    json_put_uint(&writer, info->generation);
    json_name(&writer, "records");
    json_put_uint(&writer, info->records);
    json_name(&writer, "stored");
    json_put_uint(&writer, build->upload.stored);
    json_name(&writer, "skipped");
    json_put_uint(&writer, build->upload.failed + build->bad);
    json_name(&writer, "resumed");
    json_put_uint(&writer, build->upload.skipped);
    json_name(&writer, "duplicates");
    json_put_uint(&writer, build->upload.duplicates);
    json_name(&writer, "bytes_per_record");
    json_put_double(&writer, info->records ? (double)info->bytes / (double)info->records : 0);
    json_name(&writer, "seconds");
    json_put_double(&writer, seconds);
    json_name(&writer, "recall_at_10"); // an index is made later; memory report measures it
    json_put_null(&writer);
    json_end_object(&writer);
    (void)!answers_end_line(&writer);
    json_writer_deinit(&writer);
}

static void print_text(const struct build *build, double seconds)
{
    const struct api_memory_info *info = &build->info;
    char records[OUTPUT_FIGURE_BYTES];
    char figure[OUTPUT_FIGURE_BYTES];
    printf("%s: %s records", build->pin, output_count(info->records, records));
    printf(", %s stored now", output_count(build->upload.stored, figure));
    if (build->upload.duplicates)
        printf(", %s of them replaced one of the same key",
               output_count(build->upload.duplicates, figure));
    if (build->upload.skipped)
        printf(", %s were there already", output_count(build->upload.skipped, figure));
    if (build->upload.failed + build->bad)
        printf(", %s left out", output_count(build->upload.failed + build->bad, figure));
    printf("\n%.0f bytes a record, %s",
           info->records ? (double)info->bytes / (double)info->records : 0,
           output_seconds(seconds, figure));
    double rate = seconds > 0 ? (double)build->upload.stored / seconds : 0;
    printf(", %s records a second\n", output_count((uint64_t)rate, figure));
}

static enum status run_steps(struct build *build, struct reason *why)
{
    enum status status = prepare(build, why);
    if (!status) {
        output_step("writing to %s (%.*s), space %.*s", build->pin, (int)build->info.state.bytes,
                    build->info.state.data, (int)build->info.space.bytes, build->info.space.data);
        status = ingest_all(build, why);
    }
    return status ? status : complete(build, why);
}

// Ctrl-C ends the program as always, but not without a word.
static void tell_interrupted(int number)
{
    static const char words[] =
        "\nreco memory build: interrupted; what is stored stays, and the same command goes on\n";
    (void)!write(STDERR_FILENO, words, sizeof(words) - 1);
    (void)signal(number, SIG_DFL);
    (void)raise(number);
}

static int build_memory(struct build *build)
{
    struct reason why = {.text = ""};
    (void)signal(SIGINT, tell_interrupted);
    enum status status = run_steps(build, &why);
    if (status) {
        output_error(NULL, &why);
        if (build->upload.stored)
            output_note("%" PRIu64 " records are stored; the same command goes on from there",
                        build->upload.stored);
        return output_exit(status);
    }

    for (size_t i = 0; i < build->info.degraded_count; i++)
        output_note("the figures lack a part: %.*s", (int)build->info.degraded[i].bytes,
                    build->info.degraded[i].data);
    double seconds = (double)(clock_now_us() - build->start_us) / 1e6;
    if (build->options->json)
        print_json(build, seconds);
    else
        print_text(build, seconds);
    return build->bad + build->upload.failed ? VERBS_FAILED : VERBS_DONE;
}

static enum status read_flags(const struct options *options, struct dataset_params *params,
                              struct reason *why)
{
    size_t stdins = 0;
    for (size_t i = 1; i < options->items.count; i++)
        stdins += strcmp(options->items.items[i], "-") == 0;
    if (stdins > 1)
        return reason_set(why, STATUS_INVALID, NULL, "- more than once: stdin can be read once");
    if (options->format >= 0 && !stdins)
        return reason_set(why, STATUS_INVALID, "--format",
                          "is for -, a manifest on stdin; a file's name tells its format");
    for (size_t i = 0; i < options->columns.count; i++) {
        enum status status = dataset_params_column(params, options->columns.items[i], why);
        if (status)
            return status;
    }
    return STATUS_OK;
}

// Without --format, - stands for the sources named on stdin, one in a line.
static enum status open_sources(const struct options *options, const struct dataset_params *params,
                                struct dataset **out, struct reason *why)
{
    const struct args_list list = {options->items.items + 1, options->items.count - 1};
    if (params->format >= 0)
        return dataset_open(list.items, list.count, params, out, why);

    struct inputs inputs;
    char **names = NULL;
    size_t count = 0;
    enum status status = STATUS_OK;
    inputs_init(&inputs, &list, true);
    for (const char *name = inputs_next(&inputs); name && !status; name = inputs_next(&inputs)) {
        if ((count & (count - 1)) == 0)
            names = mem_grow(names, count ? 2 * count : 1, sizeof(names[0]));
        names[count++] = mem_copy_text(name);
        if (count > SOURCES_MAX)
            status =
                reason_set(why, STATUS_INVALID, NULL, "more than %d sources on stdin", SOURCES_MAX);
    }
    inputs_deinit(&inputs);
    if (!status && !count)
        status = reason_set(why, STATUS_INVALID, NULL, "stdin names no source");
    if (!status)
        status = dataset_open((const char *const *)names, count, params, out, why);
    for (size_t i = 0; i < count; i++)
        mem_free(names[i]);
    mem_free(names);
    return status;
}

static int run_build(const struct options *options)
{
    struct build build = {.options = options, .name = options->items.items[0]};
    struct reason why = {.text = ""};
    build.start_us = clock_now_us();

    struct dataset_params params = {.format = options->format, .split = options->split};
    enum status status = options_check_memory("NAME", build.name, &why);
    if (!status)
        status = read_flags(options, &params, &why);
    int exit_status = status ? VERBS_USAGE : VERBS_DONE;
    if (!status) {
        status = open_sources(options, &params, &build.dataset, &why);
        const bool is_flag = strncmp(why.field, "--", 2) == 0;
        exit_status = !status ? VERBS_DONE : is_flag ? VERBS_USAGE : VERBS_FAILED;
    }
    if (!status) {
        status = check_space(&build, &why);
        exit_status = status ? VERBS_USAGE : VERBS_DONE;
    }
    if (status)
        output_error(NULL, &why);
    if (!exit_status)
        exit_status = memories_open_client(options, CLIENT_WRITE, &build.client);

    if (!exit_status) {
        build.arena = arena_create(MEMORIES_ARENA_BYTES);
        build.upload = (struct upload){
            .client = build.client,
            .records_per_stream = dataset_dimension(build.dataset) ? UPLOAD_ROWS_PER_STREAM
                                                                   : UPLOAD_PICTURES_PER_STREAM,
            .failed_one = refused,
            .context = &build,
        };
        exit_status = build_memory(&build);
        upload_deinit(&build.upload);
    }
    arena_destroy(&build.arena);
    client_close(&build.client);
    dataset_close(&build.dataset);
    return exit_status;
}

static const struct args_flag build_flags[] = {
    {.name = "--replace",
     .kind = ARGS_SWITCH,
     .help = "builds the next generation; the name moves to it when it is finished",
     .offset = offsetof(struct options, replace)},
    {.name = "--space",
     .kind = ARGS_TEXT,
     .argument = "NAME:DIM",
     .help = "embedding space of arrays, which need this, --model or --server; a name of "
             "your own, or what `reco memory info` shows",
     .offset = offsetof(struct options, space)},
    {.name = "--format",
     .kind = ARGS_CHOICE,
     .argument = "FORMAT",
     .help = "of a manifest on stdin, which - then is; without it - reads a source from each line",
     .offset = offsetof(struct options, format),
     .choices = DATASET_FORMATS},
    {.name = "--column",
     .kind = ARGS_LIST,
     .argument = "ROLE=NAME",
     .help = "which column of manifests is the image, caption, key, source or tags, where it has "
             "another than the usual name",
     .offset = offsetof(struct options, columns)},
    OPTIONS_SPLIT_FLAG,
    {.name = "--vshards",
     .kind = ARGS_COUNT,
     .argument = "N",
     .fallback = "64",
     .help = "slices of a new generation, for later moves between nodes",
     .offset = offsetof(struct options, vshards),
     .low = 1,
     .high = VSHARDS_MAX},
    {.name = NULL},
};

const struct verb verb_memory_build = {
    .args =
        {.name = "memory build",
         .items = "NAME SOURCE...",
         .summary = "builds a memory from folders, tars, tables or arrays; resumes",
         .details =
             "SOURCE is\n"
             "  a folder       pictures at any depth, each with a .txt or .json of the\n"
             "                 same stem, and .tar shards directly in it: img2dataset's\n"
             "                 output of the formats files and webdataset\n"
             "  a folder       of CUB-200-2011, Stanford Cars, Flowers-102, Oxford Pets,\n"
             "                 Food-101, ImageNet, SUN397, Flickr30k, COCO or OVEN as it is\n"
             "                 published: the pictures of --split, with the class's name,\n"
             "                 all captions or the entity's name as caption\n"
             "  X.tar          webdataset, also .tar.gz, .tar.zst, .tar.xz, .tar.bz2\n"
             "  X.csv, X.tsv   a manifest: the first row names the columns image (or\n"
             "                 path, file, image_path, filepath, file_name, filename)\n"
             "                 and caption (or text, title) and, if you like, key (or\n"
             "                 id), source (or url) and tags (a;b;c)\n"
             "  X.jsonl        the same with an object in each line, tags a list;\n"
             "                 or in each line key, image_embedding and text_embedding\n"
             "                 (arrays of numbers) in place of the picture\n"
             "  -              a manifest on stdin with --format, else a source in\n"
             "                 each line\n"
             "  a folder with  img_emb/ and text_emb/: clip-retrieval's output and an\n"
             "                 export of reco's, with metadata/*.jsonl\n"
             "  a folder with  records_0.jsonl and so on: an export of reco's as jsonl\n"
             "  A.npy B.npy [C.jsonl]\n"
             "                 image and text embeddings row by row, f32 or f16, with\n"
             "                 a line of JSON for each row\n"
             "\n"
             "Paths of a manifest are relative to its folder (on stdin: to yours). A\n"
             "sidecar's \"key\" names the record; else it is the path in the folder or\n"
             "manifest without extension, SHARD/STEM in a tar, the row number of arrays.\n"
             "The caption is the .txt, else \"caption\" or \"text\" of the .json; \"tags\"\n"
             "and \"source\" or \"url\" are kept. Parquet is named with the command that\n"
             "converts it.\n"
             "\n"
             "A new name serves when all is in. Interrupted, the same command goes on and stores\n"
             "nothing twice. An existing name gets the records added; one of the same key is\n"
             "replaced. Items that cannot be used are named and left out; the rest is done, and\n"
             "the exit status is 1.\n"
             "\n"
             "JSON: {\"item\",\"error\"} for each item left out; last line "
             "{\"memory\",\"generation\",\n"
             "\"records\",\"stored\",\"skipped\",\"resumed\",\"duplicates\",\"bytes_per_record\","
             "\"seconds\",\n"
             "\"recall_at_10\"}. skipped counts items left out, resumed those that were there "
             "already;\n"
             "recall_at_10 is null, since an index is made afterwards: reco memory report measures "
             "it.",
         .items_min = 2,
         .items_max = SIZE_MAX,
         .groups = {build_flags, options_items, options_data, options_model, options_server,
                    options_common}},
    .chapter = "memories",
    .run = run_build,
};
