// SPDX-License-Identifier: Apache-2.0
// reco memory export: every record of a memory into files that `reco memory build` takes back.
//
// DIR/export.partial is there from before the first file until after the last one, so that a part
// is never taken for the whole: building from it is refused, and the same command begins anew.

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/mem.h"
#include "proto/base/system_error.h"
#include "proto/wire/api_json.h"
#include "tools/answers.h"
#include "tools/dataset.h"
#include "tools/filters.h"
#include "tools/memories.h"
#include "tools/npyfile.h"
#include "tools/output.h"
#include "tools/verbs.h"

#define SPACE_ROOM (SPACE_BYTES_MAX + 1)

static const char *const folders[] = {"metadata", "text_emb", "img_emb"};
#define FOLDERS (sizeof(folders) / sizeof(folders[0]))

#define FORMATS "npy|jsonl"
#define FORMAT_JSONL 1 // its place

struct export
{
    const struct options *options;
    struct filters filters;
    struct client *client;
    char path[DATASET_PATH_BYTES]; // the file that is spoken of
    bool is_jsonl;                 // embeddings are in the lines
    FILE *lines;                   // of the shard that is open; NULL: none
    struct npyfile_writer *images; // the same, but for a jsonl
    struct npyfile_writer *texts;
    uint64_t rows; // of that shard
    uint64_t shard;
    uint64_t records;
    uint64_t hidden;
    bool has_failed; // to write a file: the fault is here and not with the cluster
    char pin[MEMORIES_PIN_BYTES];
    char space[SPACE_ROOM];
    struct output_progress progress;
};

// "DIR/FOLDER/FOLDER_N.npy"; `folder` NULL: "DIR/name".
static enum status name_file(struct export *export, const char *folder, const char *name,
                             struct reason *why)
{
    const char *out = export->options->out;
    const bool is_rows = folder && strcmp(folder, "metadata") != 0;
    const int used = folder && !name
                         ? snprintf(export->path, sizeof(export->path), "%s/%s/%s_%" PRIu64 "%s",
                                    out, folder, folder, export->shard, is_rows ? ".npy" : ".jsonl")
                         : snprintf(export->path, sizeof(export->path), "%s%s%s/%s", out,
                                    folder ? "/" : "", folder ? folder : "", name);
    // Room for what is added to a name until the file is whole.
    return used > 0 && (size_t)used + 32 < sizeof(export->path)
               ? STATUS_OK
               : reason_set(why, STATUS_INVALID, "--out", "its paths are too long");
}

// "DIR/metadata/metadata_N.jsonl", or "DIR/records_N.jsonl".
static enum status name_lines(struct export *export, struct reason *why)
{
    char name[64];
    (void)snprintf(name, sizeof(name), "records_%" PRIu64 ".jsonl", export->shard);
    return export->is_jsonl ? name_file(export, NULL, name, why)
                            : name_file(export, "metadata", NULL, why);
}

static enum status failed(struct export *export, struct reason *why)
{
    export->has_failed = true;
    return reason_set(why, STATUS_IO, export->path, "cannot be written: %s", SYSTEM_ERROR(errno));
}

// --- the folder

// Removes what an export that was interrupted has left in one of the folders; NULL: in DIR.
static void clean_folder(struct export *export, const char *folder)
{
    struct reason ignored;
    if (name_file(export, folder, "", &ignored))
        return;
    DIR *directory = opendir(export->path);
    if (!directory)
        return;
    const char *prefix = folder ? folder : "records";
    const size_t bytes = strlen(prefix);
    // NOLINTNEXTLINE(concurrency-mt-unsafe): own DIR
    for (struct dirent *entry = readdir(directory); entry; entry = readdir(directory)) {
        if (strncmp(entry->d_name, prefix, bytes) == 0 && entry->d_name[bytes] == '_' &&
            !name_file(export, folder, entry->d_name, &ignored))
            (void)unlink(export->path);
    }
    (void)closedir(directory);
}

// Whether there is anything in DIR.
static enum status look(const struct export *export, bool *is_empty, struct reason *why)
{
    DIR *directory = opendir(export->options->out);
    if (!directory)
        return reason_set(why, STATUS_IO, export->options->out, "cannot be opened: %s",
                          SYSTEM_ERROR(errno));
    *is_empty = true;
    // NOLINTNEXTLINE(concurrency-mt-unsafe): own DIR
    for (struct dirent *entry = readdir(directory); entry; entry = readdir(directory))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            *is_empty = false;
    (void)closedir(directory);
    return STATUS_OK;
}

static enum status prepare(struct export *export, struct reason *why)
{
    const char *out = export->options->out;
    bool is_empty = true;
    struct stat about;
    enum status status = output_make_folder(out, why);
    if (!status)
        status = look(export, &is_empty, why);
    if (!status)
        status = name_file(export, NULL, DATASET_PARTIAL, why);
    if (status)
        return status;
    if (!is_empty && stat(export->path, &about) != 0)
        return reason_set(why, STATUS_ALREADY_EXISTS, out,
                          "is not empty: a new or an empty folder is allowed");
    FILE *mark = fopen(export->path, "we");
    const bool is_written =
        mark && fputs("An export is under way, or was interrupted: this is a part. The same "
                      "command begins anew.\n",
                      mark) >= 0;
    if (!mark || fclose(mark) != 0 || !is_written)
        return failed(export, why);
    clean_folder(export, NULL);
    for (size_t i = 0; i < FOLDERS; i++) {
        clean_folder(export, folders[i]);
        (void)!name_file(export, folders[i], "", why);
        if (export->is_jsonl)
            (void)rmdir(export->path); // of an interrupted one in npy
        else if (mkdir(export->path, 0777) != 0 && errno != EEXIST)
            return failed(export, why);
    }
    return STATUS_OK;
}

// --- a shard

static enum status named(struct export *export, enum status status, const struct reason *inner,
                         struct reason *why)
{
    export->has_failed |= status != STATUS_OK;
    return status ? reason_set(why, status, export->path, "%s", inner->text) : STATUS_OK;
}

static enum status open_rows(struct export *export, const char *folder, size_t dimension,
                             struct npyfile_writer **out, struct reason *why)
{
    struct reason inner = {.text = ""};
    const enum status status = name_file(export, folder, NULL, why);
    return status ? status
                  : named(export, npyfile_create_half(export->path, dimension, out, &inner), &inner,
                          why);
}

static enum status open_shard(struct export *export, size_t dimension, struct reason *why)
{
    enum status status = STATUS_OK;
    if (!export->is_jsonl)
        status = open_rows(export, "img_emb", dimension, &export->images, why);
    if (!status && !export->is_jsonl)
        status = open_rows(export, "text_emb", dimension, &export->texts, why);
    if (!status)
        status = name_lines(export, why);
    if (status)
        return status;
    export->rows = 0;
    export->lines = fopen(export->path, "we");
    return export->lines ? STATUS_OK : failed(export, why);
}

static enum status close_rows(struct export *export, const char *folder,
                              struct npyfile_writer **writer, struct reason *why)
{
    struct reason inner = {.text = ""};
    const enum status status = name_file(export, folder, NULL, why);
    return status ? status : named(export, npyfile_finish(writer, &inner), &inner, why);
}

static enum status close_shard(struct export *export, struct reason *why)
{
    if (!export->lines)
        return STATUS_OK;
    enum status status = name_lines(export, why);
    const bool is_closed = fclose(export->lines) == 0;
    export->lines = NULL;
    if (!status && !is_closed)
        status = failed(export, why);
    if (!status && !export->is_jsonl)
        status = close_rows(export, "text_emb", &export->texts, why);
    if (!status && !export->is_jsonl)
        status = close_rows(export, "img_emb", &export->images, why);
    export->shard++;
    return status;
}

static void put_row(struct json_writer *writer, const char *name, const float *row, size_t count)
{
    json_name(writer, name);
    json_begin_array(writer);
    for (size_t i = 0; i < count; i++)
        json_put_float(writer, row[i]);
    json_end_array(writer);
}

static enum status write_line(struct export *export, const struct api_record *record,
                              struct reason *why)
{
    struct json_writer writer = {.failed = false};
    json_begin_object(&writer);
    json_name(&writer, "key");
    json_put_text(&writer, record->key);
    json_name(&writer, "caption");
    json_put_text(&writer, record->caption);
    json_name(&writer, "source");
    json_put_text(&writer, record->source);
    api_json_put_tags(&writer, record->tags, record->tag_count);
    if (record->hidden) {
        json_name(&writer, "hidden");
        json_put_bool(&writer, true);
    }
    if (export->is_jsonl) {
        put_row(&writer, "image_embedding", record->image_embedding, record->image_count);
        put_row(&writer, "text_embedding", record->text_embedding, record->text_count);
    }
    json_end_object(&writer);
    const enum status status = json_write_line(&writer, export->lines);
    json_writer_deinit(&writer);
    if (!status)
        return STATUS_OK;
    (void)!name_lines(export, why);
    return failed(export, why);
}

static enum status write_row(struct export *export, const char *folder,
                             struct npyfile_writer *writer, const float *row, struct reason *why)
{
    struct reason inner = {.text = ""};
    enum status status = npyfile_write_row(writer, row, &inner);
    if (status)
        (void)!name_file(export, folder, NULL, why);
    return named(export, status, &inner, why);
}

static enum status write_record(struct export *export, const struct api_record *record,
                                size_t dimension, struct reason *why)
{
    if (record->image_count != dimension || record->text_count != dimension)
        return reason_set(why, STATUS_INTERNAL, NULL, "a record came without its embeddings");
    enum status status = STATUS_OK;
    if (export->lines && export->rows == export->options->shard_rows)
        status = close_shard(export, why);
    if (!status && !export->lines)
        status = open_shard(export, dimension, why);
    if (!status)
        status = write_line(export, record, why);
    if (!status && !export->is_jsonl)
        status = write_row(export, "img_emb", export->images, record->image_embedding, why);
    if (!status && !export->is_jsonl)
        status = write_row(export, "text_emb", export->texts, record->text_embedding, why);
    export->rows++;
    export->records++;
    export->hidden += record->hidden;
    return status;
}

// --- the stream

static enum status take_message(void *context, const struct api_export_reply *message,
                                struct reason *why)
{
    struct export *export = context;
    enum status status = STATUS_OK;
    if (!export->pin[0]) {
        const struct api_memory_info info = {.name = message->memory,
                                             .generation = message->generation};
        memories_pin(&info, export->pin);
        (void)snprintf(export->space, sizeof(export->space), "%.*s", (int)message->space.bytes,
                       message->space.data);
        output_progress_begin(&export->progress, "records", message->total);
    }
    for (size_t i = 0; i < message->count && !status; i++)
        status = write_record(export, &message->records[i], message->dimension, why);
    output_progress_update(&export->progress, export->records, 0);
    return status;
}

static enum status run_stream(struct export *export, struct reason *why)
{
    const struct api_export_request request = {.memory = text_of(export->options->items.items[0]),
                                               .filter = export->filters.filter};
    const enum status status = memories_export(export->client, &request, take_message, export, why);
    output_progress_end(&export->progress);
    return status;
}

// Behind the last record: the files are whole, and so the mark goes.
static enum status finish(struct export *export, struct reason *why)
{
    enum status status = close_shard(export, why);
    if (!status)
        status = name_file(export, NULL, DATASET_PARTIAL, why);
    if (!status && unlink(export->path) != 0)
        status = failed(export, why);
    return status;
}

// --- the verb

static int show(const struct export *export)
{
    char figure[OUTPUT_FIGURE_BYTES];
    if (!export->options->json) {
        printf("%s: %s records in %s\n", export->pin, output_count(export->records, figure),
               export->options->out);
        if (!export->records)
            output_note("%s; no file was written",
                        export->options->filters.count + export->options->only.count
                            ? "no record matches --filter and --only"
                            : "it has no record");
        else
            output_note("back into a memory: reco memory build NAME %s --space %s",
                        export->options->out, export->space);
        return VERBS_DONE;
    }
    struct json_writer writer = {.failed = false};
    json_begin_object(&writer);
    json_name(&writer, "memory");
    json_put_cstr(&writer, export->pin);
    json_name(&writer, "space");
    json_put_cstr(&writer, export->space);
    json_name(&writer, "records");
    json_put_uint(&writer, export->records);
    json_name(&writer, "hidden");
    json_put_uint(&writer, export->hidden);
    json_name(&writer, "shards");
    json_put_uint(&writer, export->shard);
    json_end_object(&writer);
    const int exit_status = answers_end_line(&writer) ? VERBS_FAILED : VERBS_DONE;
    json_writer_deinit(&writer);
    return exit_status;
}

static int write_all(struct export *export)
{
    struct reason why = {.text = ""};
    enum status status = prepare(export, &why);
    export->has_failed |= status != STATUS_OK;
    if (!status)
        status = run_stream(export, &why);
    if (!status)
        status = finish(export, &why);
    npyfile_abandon(&export->images);
    npyfile_abandon(&export->texts);
    if (export->lines)
        (void)fclose(export->lines);
    if (!status)
        return show(export);
    output_error(NULL, &why);
    return export->has_failed ? VERBS_FAILED : output_exit(status);
}

static int run_export(const struct options *options)
{
    struct export *export = mem_alloc(sizeof(*export));
    struct reason why = {.text = ""};
    export->options = options;
    export->is_jsonl = options->format == FORMAT_JSONL;
    enum status status = filters_read(options, &export->filters, &why);
    if (!status && (!options->out || !options->out[0]))
        status = reason_set(&why, STATUS_INVALID, "--out", "is needed: the folder to write to");
    int exit_status =
        status ? VERBS_USAGE : memories_open_client(options, CLIENT_READ, &export->client);
    if (status)
        output_error(NULL, &why);
    else if (!exit_status)
        exit_status = write_all(export);
    client_close(&export->client);
    filters_deinit(&export->filters);
    mem_free(export);
    return exit_status;
}

static const struct args_flag export_flags[] = {
    {.name = "--out",
     .kind = ARGS_TEXT,
     .argument = "DIR",
     .help = "the folder, new or empty",
     .offset = offsetof(struct options, out)},
    {.name = "--format",
     .kind = ARGS_CHOICE,
     .argument = "FORMAT",
     .fallback = "npy",
     .help = "of the files",
     .offset = offsetof(struct options, format),
     .choices = FORMATS},
    {.name = "--shard-rows",
     .kind = ARGS_COUNT,
     .argument = "N",
     .fallback = "1000000",
     .help = "records of one file; more begin the next",
     .offset = offsetof(struct options, shard_rows),
     .low = 1,
     .high = 100000000},
    OPTIONS_FILTER_FLAG("only records"),
    OPTIONS_ONLY_FLAG,
    {.name = NULL},
};

const struct verb verb_memory_export = {
    .args =
        {.name = "memory export",
         .items = "NAME",
         .summary = "writes a memory into files that build takes back",
         .details =
             "All records of one moment, hidden ones too, as clip-retrieval names its files:\n"
             "DIR/img_emb/img_emb_0.npy and DIR/text_emb/text_emb_0.npy (f16, a row each) and\n"
             "DIR/metadata/metadata_0.jsonl (a line each: \"key\", \"caption\", \"source\",\n"
             "\"tags\", \"hidden\"), then _1 and so on. `reco memory build NAME DIR --space S`\n"
             "makes the same memory of it, with the same content hash.\n"
             "--format jsonl writes DIR/records_0.jsonl and so on instead: the same lines, each\n"
             "with \"image_embedding\" and \"text_embedding\" as arrays of numbers.\n"
             "\n"
             "DIR/export.partial is there until all is written. Interrupted, the same command\n"
             "begins anew.\n"
             "\n"
             "JSON line: {\"memory\",\"space\",\"records\",\"hidden\",\"shards\"}",
         .items_min = 1,
         .items_max = 1,
         .groups = {export_flags, options_data, options_model, options_server, options_common}},
    .chapter = "memories",
    .run = run_export,
};
