// SPDX-License-Identifier: Apache-2.0
// reco memory add, delete, hide and unhide: records by name; all that match: tools/matching.c.

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/hash.h"
#include "proto/base/limits.h"
#include "proto/base/mem.h"
#include "tools/answers.h"
#include "tools/filters.h"
#include "tools/inputs.h"
#include "tools/matching.h"
#include "tools/memories.h"
#include "tools/npyfile.h"
#include "tools/output.h"
#include "tools/verbs.h"

#define REPLY_ARENA_BYTES ((size_t)16 << 20)

// --- add

struct add {
    const struct options *options;
    struct api_ingest_record record;
    struct buffer picture;
    float *image_embedding;
    float *text_embedding;
    struct text *tags;
};

// One embedding from a file that holds one.
static enum status read_embedding(const char *flag, const char *path, float **out, size_t *count,
                                  struct reason *why)
{
    struct npyfile *file = NULL;
    struct reason inner = {.text = ""};
    enum status status = npyfile_open(path, &file, &inner);
    if (status)
        return reason_set(why, status, flag, "%s: %s", path, inner.text);

    const struct npyfile_info *info = npyfile_info(file);
    if (info->rows != 1 || info->columns > DIMENSION_MAX) {
        status = reason_set(why, STATUS_INVALID, flag,
                            "%s: %llu rows of %llu numbers: one row of at most %d is allowed", path,
                            (unsigned long long)info->rows, (unsigned long long)info->columns,
                            DIMENSION_MAX);
    } else {
        *count = (size_t)info->columns;
        *out = mem_alloc_array(*count, sizeof(**out));
        npyfile_read_row(file, 0, *out);
    }
    npyfile_close(&file);
    return status;
}

static enum status check_add(const struct options *options, struct reason *why)
{
    if (!options->key || !options->key[0])
        return reason_set(why, STATUS_INVALID, "--key",
                          "is needed: the name of the record, 1 to %d bytes", KEY_BYTES_MAX);
    if (options->image && options->image_embedding)
        return reason_set(why, STATUS_INVALID, "--image",
                          "excludes --image-embedding: one of them says what the picture is");
    if (!options->image && !options->image_embedding)
        return reason_set(why, STATUS_INVALID, "--image", "this or --image-embedding is needed");
    if (!(options->caption && options->caption[0]) && !options->text_embedding)
        return reason_set(why, STATUS_INVALID, "--caption",
                          "this, not empty, or --text-embedding is needed");
    return STATUS_OK;
}

static enum status read_record(struct add *add, struct reason *why)
{
    const struct options *options = add->options;
    struct api_ingest_record *record = &add->record;
    enum status status = STATUS_OK;

    record->key = text_of(options->key);
    record->caption = options->caption ? text_of(options->caption) : (struct text){0};
    record->source = options->source  ? text_of(options->source)
                     : options->image ? text_of(options->image)
                                      : (struct text){0};
    add->tags = mem_alloc_array(options->tags.count + 1, sizeof(add->tags[0]));
    for (size_t i = 0; i < options->tags.count; i++)
        add->tags[i] = text_of(options->tags.items[i]);
    record->tags = add->tags;
    record->tag_count = options->tags.count;

    if (options->image) {
        struct reason inner = {.text = ""};
        status = inputs_read_picture(options->image, &add->picture, &inner);
        if (status)
            return reason_set(why, status, options->image, "%s", inner.text);
        record->image = (struct bytes){add->picture.data, add->picture.count};
    }
    if (options->image_embedding)
        status = read_embedding("--image-embedding", options->image_embedding,
                                &add->image_embedding, &record->image_count, why);
    if (!status && options->text_embedding)
        status = read_embedding("--text-embedding", options->text_embedding, &add->text_embedding,
                                &record->text_count, why);
    record->image_embedding = add->image_embedding;
    record->text_embedding = add->text_embedding;
    return status;
}

static enum status send_record(const struct add *add, struct client *client, bool *replaced,
                               struct reason *why)
{
    const struct api_ingest_request request = {
        .memory = text_of(add->options->items.items[0]),
        .records = &add->record,
        .count = 1,
    };
    struct buffer message = {0};
    struct buffer bytes = {0};
    struct client_stream *stream = NULL;
    enum status status = api_encode_ingest_request(&request, &message);
    if (status)
        (void)reason_set(why, status, NULL, "the request cannot be made: %s", status_text(status));
    if (!status)
        status = client_stream_open(client, API_MEMORY_INGEST, &stream, why);
    if (!status) {
        enum status sent = client_stream_send(stream, (struct bytes){message.data, message.count});
        status = client_stream_finish(&stream, &bytes, why);
        if (!status && sent)
            status = reason_set(why, sent, NULL, "%s", status_text(sent));
    }

    struct arena *arena = arena_create(REPLY_ARENA_BYTES);
    struct api_ingest_reply reply = {.failed = 0};
    if (!status)
        status =
            api_decode_ingest_reply((struct bytes){bytes.data, bytes.count}, arena, &reply, why);
    if (!status && reply.failed && reply.failed_listed)
        status = reason_set(why, STATUS_INVALID, NULL, "%.*s", (int)reply.failed_reasons[0].bytes,
                            reply.failed_reasons[0].data);
    else if (!status && (reply.failed || !reply.stored))
        status = reason_set(why, STATUS_INTERNAL, NULL, "the record was not stored");
    *replaced = reply.duplicates > 0;
    arena_destroy(&arena);
    buffer_deinit(&bytes);
    buffer_deinit(&message);
    return status;
}

static int run_add(const struct options *options)
{
    struct add add = {.options = options};
    struct reason why = {.text = ""};
    if (check_add(options, &why)) {
        output_error(NULL, &why);
        return VERBS_USAGE;
    }

    struct client *client = NULL;
    bool replaced = false;
    int exit_status = VERBS_DONE;
    enum status status = read_record(&add, &why);
    if (status)
        exit_status = VERBS_FAILED;
    else
        exit_status = memories_open_client(options, CLIENT_READ, &client);
    if (!exit_status) {
        status = send_record(&add, client, &replaced, &why);
        exit_status = output_exit(status);
    }
    if (status)
        output_error(options->key, &why);
    else if (!exit_status &&
             answers_show_record(options, options->key, hash_id(options->key, strlen(options->key)),
                                 replaced ? "replaced" : "stored"))
        exit_status = VERBS_FAILED;

    client_close(&client);
    buffer_deinit(&add.picture);
    mem_free(add.image_embedding);
    mem_free(add.text_embedding);
    mem_free(add.tags);
    return exit_status;
}

static const struct args_flag add_flags[] = {
    {.name = "--key",
     .kind = ARGS_TEXT,
     .argument = "KEY",
     .help = "name of the record; one of the same name is replaced",
     .offset = offsetof(struct options, key)},
    {.name = "--image",
     .kind = ARGS_TEXT,
     .argument = "FILE",
     .help = "its picture: JPEG, PNG, WebP or GIF",
     .offset = offsetof(struct options, image)},
    {.name = "--caption",
     .kind = ARGS_TEXT,
     .argument = "TEXT",
     .help = "what the picture shows",
     .offset = offsetof(struct options, caption)},
    {.name = "--image-embedding",
     .kind = ARGS_TEXT,
     .argument = "X.npy",
     .help = "instead of a picture",
     .offset = offsetof(struct options, image_embedding)},
    {.name = "--text-embedding",
     .kind = ARGS_TEXT,
     .argument = "X.npy",
     .help = "instead of encoding the caption",
     .offset = offsetof(struct options, text_embedding)},
    {.name = "--tag",
     .kind = ARGS_LIST,
     .argument = "TAG",
     .help = "a tag of the record",
     .offset = offsetof(struct options, tags)},
    {.name = "--source",
     .kind = ARGS_TEXT,
     .argument = "TEXT",
     .fallback = "the picture's path",
     .help = "where the record comes from: a path or URL",
     .offset = offsetof(struct options, source)},
    {.name = NULL},
};

// --- delete, hide, unhide

struct change {
    const struct options *options;
    const struct matching_words *words;
    struct client *client;
    struct buffer request, reply;
    int exit_status;
};

// Changes one record, by key or else by id. *state is NULL when there is none.
static enum status change_one(struct change *change, const char *key, uint64_t id,
                              const char **state, struct reason *why)
{
    const struct text keys[1] = {key ? text_of(key) : (struct text){0}};
    const struct api_delete_request request = {
        .memory = text_of(change->options->items.items[0]),
        .keys = keys,
        .key_count = key ? 1 : 0,
        .ids = &id,
        .id_count = key ? 0 : 1,
    };
    enum status status = key ? inputs_check_text(key, why) : STATUS_OK;
    if (status)
        return status;
    change->request.count = 0;
    status = api_encode_delete_request(&request, &change->request);
    if (status)
        return reason_set(why, status, NULL, "the request cannot be made: %s", status_text(status));
    struct bytes bytes = {change->request.data, change->request.count};
    status = client_call(change->client, change->words->method, bytes, &change->reply, why);
    if (status)
        return status;

    struct arena *arena = arena_create(REPLY_ARENA_BYTES);
    struct api_delete_reply answer = {.deleted = 0};
    bytes = (struct bytes){change->reply.data, change->reply.count};
    status = api_decode_delete_reply(bytes, arena, &answer, why);
    const bool missing = answer.missing_key_count + answer.missing_id_count > 0;
    *state = missing ? NULL : answer.deleted ? change->words->done : change->words->already;
    arena_destroy(&arena);
    return status;
}

// Changes and tells; false when nothing more is to be done.
static bool do_one(struct change *change, const char *key, uint64_t id)
{
    char name[32];
    const char *state = NULL;
    struct reason why = {.text = ""};
    (void)snprintf(name, sizeof(name), "id %" PRIu64, id);
    enum status status = change_one(change, key, id, &state, &why);
    int one = output_exit(status);
    if (!status && !state) {
        (void)reason_set(&why, STATUS_NOT_FOUND, NULL, "there is no such record");
        one = VERBS_FAILED;
    }
    if (one)
        output_error(key ? key : name, &why);
    change->exit_status = one > change->exit_status ? one : change->exit_status;
    if (!status && answers_show_record(change->options, key, id, state ? state : "missing"))
        return false;
    return !one || change->options->keep_going;
}

static bool change_ids(struct change *change, const uint64_t *ids)
{
    for (size_t i = 0; i < change->options->ids.count; i++)
        if (!do_one(change, NULL, ids[i]))
            return false;
    return true;
}

static void change_keys(struct change *change)
{
    for (size_t i = 0; i < change->options->keys.count; i++) {
        const char *key = change->options->keys.items[i];
        if (!do_one(change, key, hash_id(key, strlen(key))))
            return;
    }
    const struct args_list *items = &change->options->items;
    struct args_list keys = {.items = items->items + 1, .count = items->count - 1};
    struct inputs inputs;
    inputs_init(&inputs, &keys, true);
    for (const char *key = inputs_next(&inputs); key; key = inputs_next(&inputs))
        if (!do_one(change, key, hash_id(key, strlen(key))))
            break;
    inputs_deinit(&inputs);
}

static enum status check_named(const struct options *options, uint64_t *ids, struct reason *why)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < options->ids.count && !status; i++)
        status = args_read_count("--id", options->ids.items[i], 0, UINT64_MAX, &ids[i], why);
    if (status)
        return status;
    if (options->dry_run)
        return reason_set(why, STATUS_INVALID, "--dry-run",
                          "goes with --filter: records that are named are known already");
    if (!options->ids.count && !options->keys.count && options->items.count < 2)
        return reason_set(why, STATUS_INVALID, NULL,
                          "no record is named: KEY..., --key, --id or --filter is needed");
    return STATUS_OK;
}

// All that match a filter.
static int run_matching(const struct options *options, const struct matching_words *words)
{
    struct filters filters = {.ids = NULL};
    struct client *client = NULL;
    struct reason why = {.text = ""};
    int exit_status = VERBS_USAGE;
    enum status status = filters_read(options, &filters, &why);
    if (!status && (options->items.count > 1 || options->keys.count > 0 || options->ids.count > 0))
        status = reason_set(&why, STATUS_INVALID, "--filter",
                            "excludes KEY, --key and --id: records are named, or match");
    if (status)
        output_error(NULL, &why);
    else
        exit_status = memories_open_client(options, CLIENT_READ, &client);
    if (!exit_status)
        exit_status = matching_change(options, words, &filters.filter, client);
    client_close(&client);
    filters_deinit(&filters);
    return exit_status;
}

static int run_change(const struct options *options, const struct matching_words *words)
{
    if (options->filters.count > 0)
        return run_matching(options, words);

    struct change change = {.options = options, .words = words};
    struct reason why = {.text = ""};
    uint64_t *ids = mem_alloc_array(options->ids.count + 1, sizeof(*ids));
    if (check_named(options, ids, &why)) {
        output_error(NULL, &why);
        mem_free(ids);
        return VERBS_USAGE;
    }

    change.exit_status = memories_open_client(options, CLIENT_READ, &change.client);
    if (!change.exit_status && change_ids(&change, ids))
        change_keys(&change);
    client_close(&change.client);
    buffer_deinit(&change.request);
    buffer_deinit(&change.reply);
    mem_free(ids);
    return change.exit_status;
}

static int run_delete(const struct options *options)
{
    return run_change(options, &(struct matching_words){API_MEMORY_DELETE, "deleted", "deleted"});
}

static int run_hide(const struct options *options)
{
    return run_change(options, &(struct matching_words){API_MEMORY_HIDE, "hidden", "was hidden"});
}

static int run_unhide(const struct options *options)
{
    return run_change(options, &(struct matching_words){API_MEMORY_UNHIDE, "shown", "was shown"});
}

static const struct args_flag change_flags[] = {
    OPTIONS_FILTER_FLAG("in place of KEY: all records"),
    {.name = "--dry-run",
     .kind = ARGS_SWITCH,
     .help = "with --filter: lists what would be done, and changes nothing",
     .offset = offsetof(struct options, dry_run)},
    {.name = NULL},
};

const struct verb verb_memory_add = {
    .args = {.name = "memory add",
             .items = "NAME",
             .summary = "adds or replaces one record",
             .details =
                 "The record is safe when the answer comes. Many at once, from files or stdin:\n"
                 "`reco memory build NAME - --format jsonl`.\n\n"
                 "JSON line: {\"key\",\"id\",\"status\"}, status \"stored\" or \"replaced\"",
             .items_min = 1,
             .items_max = 1,
             .groups = {add_flags, options_data, options_model, options_server, options_common}},
    .chapter = "memories",
    .run = run_add,
};

#define MATCH_HELP                                                                                 \
    "\n\n--filter takes in place of KEY all records that match, hidden ones too, as they are "     \
    "when "                                                                                        \
    "the command begins. They are changed in batches, and the sums come at the end; the records "  \
    "are listed only with --json or --dry-run. Without a match nothing is done, which is no "      \
    "error. Interrupted, the same command does what is left.\n\n"
#define MATCH_JSON                                                                                 \
    "\n\nLast JSON line with --filter: {\"memory\",\"matched\",\"changed\",\"failed\"}"

const struct verb verb_memory_delete = {
    .args = {.name = "memory delete",
             .items = "NAME [KEY...]",
             .summary = "deletes records by key, id or filter",
             .details =
                 "- reads one key per line from stdin." MATCH_HELP
                 "JSON line: {\"key\",\"id\",\"status\"}, status \"deleted\" or \"missing\"; with "
                 "--dry-run \"would be deleted\"" MATCH_JSON,
             .items_min = 1,
             .items_max = SIZE_MAX,
             .groups = {options_records, change_flags, options_items, options_data, options_model,
                        options_server, options_common}},
    .chapter = "memories",
    .run = run_delete,
};

#define HIDE_JSON                                                                                  \
    MATCH_HELP                                                                                     \
    "JSON line: {\"key\",\"id\",\"status\"}, status \"hidden\" or \"was hidden\" (unhide: "        \
    "\"shown\", \"was shown\"), \"missing\" when there is no such record; with --dry-run \"would " \
    "be hidden\" (unhide: \"would be shown\")" MATCH_JSON

const struct verb verb_memory_hide = {
    .args = {.name = "memory hide",
             .items = "NAME [KEY...]",
             .summary = "takes records out of every answer, but keeps them",
             .details =
                 "No search, refinement or classification shows them from the answer on, until "
                 "`reco memory\nunhide`. Adding a hidden record again keeps it hidden; deleting it "
                 "forgets that it was.\n\n- reads one key per line from stdin." HIDE_JSON,
             .items_min = 1,
             .items_max = SIZE_MAX,
             .groups = {options_records, change_flags, options_items, options_data, options_model,
                        options_server, options_common}},
    .chapter = "memories",
    .run = run_hide,
};

const struct verb verb_memory_unhide = {
    .args = {.name = "memory unhide",
             .items = "NAME [KEY...]",
             .summary = "shows hidden records again",
             .details = "- reads one key per line from stdin." HIDE_JSON,
             .items_min = 1,
             .items_max = SIZE_MAX,
             .groups = {options_records, change_flags, options_items, options_data, options_model,
                        options_server, options_common}},
    .chapter = "memories",
    .run = run_unhide,
};
