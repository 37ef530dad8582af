// SPDX-License-Identifier: Apache-2.0
// reco memory get: records by key and id, each with what was asked for.

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/limits.h"
#include "proto/base/mem.h"
#include "proto/wire/api_json.h"
#include "tools/answers.h"
#include "tools/inputs.h"
#include "tools/memories.h"
#include "tools/output.h"
#include "tools/verbs.h"

#define GET_AT_ONCE 256 // of one request: with both embeddings far below a message's limit
#define REPLY_ARENA_BYTES ((size_t)256 << 20)

struct get {
    const struct options *options;
    struct client *client;
    uint32_t fields;
    struct buffer request, reply;
    int exit_status;
};

// --- showing

static void put_member(struct json_writer *writer, const char *name, struct text text)
{
    json_name(writer, name);
    json_put_text(writer, text);
}

static enum status show_json(const struct get *get, const struct api_record *record)
{
    struct json_writer writer = {.failed = false};
    json_begin_object(&writer);
    if (get->fields & 1u << API_FIELD_KEY)
        put_member(&writer, "key", record->key);
    json_name(&writer, "id");
    json_put_uint(&writer, record->id);
    if (get->fields & 1u << API_FIELD_CAPTION)
        put_member(&writer, "caption", record->caption);
    if (get->fields & 1u << API_FIELD_SOURCE)
        put_member(&writer, "source", record->source);
    if (get->fields & 1u << API_FIELD_TAGS)
        api_json_put_tags(&writer, record->tags, record->tag_count);
    json_name(&writer, "hidden");
    json_put_bool(&writer, record->hidden);
    if (get->fields & 1u << API_FIELD_IMAGE_EMBEDDING)
        api_json_put_floats(&writer, "image_embedding", record->image_embedding,
                            record->image_count);
    if (get->fields & 1u << API_FIELD_TEXT_EMBEDDING)
        api_json_put_floats(&writer, "text_embedding", record->text_embedding, record->text_count);
    json_end_object(&writer);
    enum status status = answers_end_line(&writer);
    json_writer_deinit(&writer);
    return status;
}

static void show_line(const char *name, struct text text)
{
    if (text.bytes == 0)
        return;
    printf("  %-8s ", name);
    output_text(text);
    putchar('\n');
}

static enum status show(const struct get *get, const struct api_record *record)
{
    if (get->options->json)
        return show_json(get, record);

    printf("%s", output_bold());
    output_text(record->key);
    printf("%s%s%" PRIu64 "%s\n", output_plain(), record->key.bytes ? " " : "", record->id,
           record->hidden ? " (hidden)" : "");
    show_line("caption", record->caption);
    show_line("source", record->source);
    for (size_t i = 0; i < record->tag_count; i++)
        show_line(i == 0 ? "tags" : "", record->tags[i]);
    if (record->image_count + record->text_count > 0)
        output_note("embeddings are shown with --json only");
    return STATUS_OK;
}

static void worsen(struct get *get, int exit_status)
{
    get->exit_status = exit_status > get->exit_status ? exit_status : get->exit_status;
}

static void name_missing(struct get *get, const struct api_records_reply *reply)
{
    struct reason why = {.text = ""};
    (void)reason_set(&why, STATUS_NOT_FOUND, NULL, "there is no such record");
    for (size_t i = 0; i < reply->missing_key_count; i++)
        output_error(reply->missing_keys[i].data, &why);
    for (size_t i = 0; i < reply->missing_id_count; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "id %" PRIu64, reply->missing_ids[i]);
        output_error(name, &why);
    }
    for (size_t i = 0; i < reply->degraded_count; i++) {
        (void)reason_set(&why, STATUS_UNAVAILABLE, NULL, "%.*s; its records are not shown",
                         (int)reply->degraded[i].bytes, reply->degraded[i].data);
        output_error(NULL, &why);
    }
    if (reply->missing_key_count + reply->missing_id_count > 0)
        worsen(get, VERBS_FAILED);
    if (reply->degraded_count > 0)
        worsen(get, output_exit(STATUS_UNAVAILABLE));
}

// --- asking

// One request; false when nothing more is to be done.
static bool ask(struct get *get, const struct api_records_request *request)
{
    struct reason why = {.text = ""};
    struct arena *arena = arena_create(REPLY_ARENA_BYTES);
    struct api_records_reply reply = {.count = 0};
    get->request.count = 0;
    enum status status = api_encode_records_request(false, request, &get->request);
    if (status)
        (void)reason_set(&why, status, NULL, "the request cannot be made: %s", status_text(status));
    if (!status)
        status =
            client_call(get->client, API_GET_RECORDS,
                        (struct bytes){get->request.data, get->request.count}, &get->reply, &why);
    if (!status)
        status = api_decode_records_reply(false, (struct bytes){get->reply.data, get->reply.count},
                                          arena, &reply, &why);
    bool goes_on = !status;
    if (status) {
        output_error(NULL, &why);
        worsen(get, output_exit(status));
    }
    for (size_t i = 0; goes_on && i < reply.count; i++)
        goes_on = !show(get, &reply.records[i]);
    if (goes_on)
        name_missing(get, &reply);
    else if (!status)
        worsen(get, VERBS_FAILED);
    arena_destroy(&arena);
    return goes_on && (!get->exit_status || get->options->keep_going);
}

static bool get_keys(struct get *get, struct inputs *inputs)
{
    struct text keys[GET_AT_ONCE];
    char *copies[GET_AT_ONCE]; // a line of stdin lasts until the next
    struct api_records_request request = {
        .memory = text_of(get->options->items.items[0]), .keys = keys, .fields = get->fields};
    bool goes_on = true;
    bool is_last = false;
    while (goes_on && !is_last) {
        request.key_count = 0;
        while (request.key_count < GET_AT_ONCE && !is_last) {
            struct reason why = {.text = ""};
            const char *key = inputs_next(inputs);
            is_last = !key;
            if (key && inputs_check_text(key, &why)) {
                output_error(key, &why);
                worsen(get, VERBS_FAILED);
            } else if (key) {
                copies[request.key_count] = mem_copy_text(key);
                keys[request.key_count] = text_of(copies[request.key_count]);
                request.key_count++;
            }
        }
        if (request.key_count > 0)
            goes_on = ask(get, &request);
        for (size_t i = 0; i < request.key_count; i++)
            mem_free(copies[i]);
    }
    return goes_on;
}

static void get_ids(struct get *get, const uint64_t *ids)
{
    struct api_records_request request = {.memory = text_of(get->options->items.items[0]),
                                          .fields = get->fields};
    bool goes_on = true;
    for (size_t i = 0; goes_on && i < get->options->ids.count; i += request.id_count) {
        size_t left = get->options->ids.count - i;
        request.ids = ids + i;
        request.id_count = left < GET_AT_ONCE ? left : GET_AT_ONCE;
        goes_on = ask(get, &request);
    }
}

static enum status read_options(struct get *get, uint64_t *ids, struct reason *why)
{
    const struct options *options = get->options;
    enum status status = options_read_fields(options, &get->fields, why);
    if (!get->fields)
        get->fields = API_FIELDS_OF_RECORDS;
    for (size_t i = 0; i < options->ids.count && !status; i++)
        status = args_read_count("--id", options->ids.items[i], 0, UINT64_MAX, &ids[i], why);
    if (!status && !options->ids.count && !options->keys.count && options->items.count < 2)
        status = reason_set(why, STATUS_INVALID, NULL,
                            "nothing to get: KEY..., --key or --id is needed");
    return status;
}

static int run_get(const struct options *options)
{
    struct get get = {.options = options};
    struct reason why = {.text = ""};
    uint64_t *ids = mem_alloc_array(options->ids.count + 1, sizeof(*ids));
    enum status status = read_options(&get, ids, &why);
    if (status) {
        output_error(NULL, &why);
        mem_free(ids);
        return VERBS_USAGE;
    }

    get.exit_status = memories_open_client(options, CLIENT_READ, &get.client);
    if (!get.exit_status) {
        const struct args_list items = {.items = options->items.items + 1,
                                        .count = options->items.count - 1};
        struct inputs inputs;
        inputs_init(&inputs, &items, true);
        bool goes_on = get_keys(&get, &inputs);
        inputs_deinit(&inputs);
        inputs_init(&inputs, &options->keys, false);
        if (goes_on)
            goes_on = get_keys(&get, &inputs);
        inputs_deinit(&inputs);
        if (goes_on)
            get_ids(&get, ids);
    }
    client_close(&get.client);
    buffer_deinit(&get.request);
    buffer_deinit(&get.reply);
    mem_free(ids);
    return get.exit_status;
}

const struct verb verb_memory_get = {
    .args = {.name = "memory get",
             .items = "NAME [KEY...]",
             .summary = "shows records by key or id",
             .details =
                 "- reads one key per line from stdin. A record that is named twice in one\n"
                 "request is shown once. Missing ones are named on stderr; the exit status is then "
                 "1.\n\n"
                 "JSON line: {\"key\",\"id\",\"caption\",\"source\",\"tags\":[],\"hidden\","
                 "\"image_embedding\":[],\n"
                 "\"text_embedding\":[]}, those of --fields, and always id and hidden",
             .items_min = 1,
             .items_max = SIZE_MAX,
             .groups = {options_records, options_fields, options_items, options_data, options_model,
                        options_server, options_common}},
    .chapter = "memories",
    .run = run_get,
};
