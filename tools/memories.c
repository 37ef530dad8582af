// SPDX-License-Identifier: Apache-2.0
// Each call: encode, call, decode.

#include "tools/memories.h"

#include <stdio.h>

#include "tools/output.h"
#include "tools/verbs.h"

#define EXPORT_ARENA_BYTES ((size_t)64 << 20) // of one message
#define NAMES_BYTES 256

// Calls with what is in `request`, which is freed; the reply stays in the arena.
static enum status call(struct client *client, enum api_method method, struct buffer *request,
                        struct arena *arena, struct bytes *reply, struct reason *why)
{
    struct buffer bytes = {0};
    enum status status =
        client_call(client, method, (struct bytes){request->data, request->count}, &bytes, why);
    if (!status) {
        const char *copy =
            arena_copy_text(arena, bytes.count ? (const char *)bytes.data : "", bytes.count);
        *reply = (struct bytes){(const uint8_t *)copy, bytes.count};
        if (!copy)
            status = reason_set(why, STATUS_NO_MEMORY, NULL, "the answer is too large");
    }
    buffer_deinit(&bytes);
    buffer_deinit(request);
    return status;
}

static enum status encoded(enum status status, struct reason *why)
{
    return status ? reason_set(why, status, NULL, "the request cannot be made: %s",
                               status_text(status))
                  : STATUS_OK;
}

enum status memories_create(struct client *client, const struct api_create_request *request,
                            struct arena *arena, struct api_memory_info *out, struct reason *why)
{
    struct buffer message = {0};
    struct bytes reply = {0};
    enum status status = encoded(api_encode_create_request(request, &message), why);
    if (!status)
        status = call(client, API_MEMORY_CREATE, &message, arena, &reply, why);
    return status ? status : api_decode_memory_info(reply, arena, out, why);
}

static enum status describe(struct client *client, const struct api_name_request *request,
                            struct arena *arena, struct api_memory_info *out, struct reason *why)
{
    struct buffer message = {0};
    struct bytes reply = {0};
    enum status status = encoded(api_encode_name_request(request, &message), why);
    if (!status)
        status = call(client, API_MEMORY_DESCRIBE, &message, arena, &reply, why);
    return status ? status : api_decode_memory_info(reply, arena, out, why);
}

enum status memories_describe(struct client *client, const char *name, struct arena *arena,
                              struct api_memory_info *out, struct reason *why)
{
    return describe(client, &(struct api_name_request){.name = text_of(name)}, arena, out, why);
}

enum status memories_hash(struct client *client, const char *name, struct arena *arena,
                          struct api_memory_info *out, struct reason *why)
{
    const struct api_name_request request = {.name = text_of(name), .content_hash = true};
    return describe(client, &request, arena, out, why);
}

enum status memories_list(struct client *client, struct arena *arena, struct api_memory_list *out,
                          struct reason *why)
{
    struct buffer message = {0};
    struct bytes reply = {0};
    enum status status = call(client, API_MEMORY_LIST, &message, arena, &reply, why);
    return status ? status : api_decode_memory_list(reply, arena, out, why);
}

enum status memories_alias(struct client *client, const struct api_alias_request *request,
                           struct arena *arena, struct api_memory_info *out, struct reason *why)
{
    struct buffer message = {0};
    struct bytes reply = {0};
    enum status status = encoded(api_encode_alias_request(request, &message), why);
    if (!status)
        status = call(client, API_MEMORY_ALIAS, &message, arena, &reply, why);
    return status ? status : api_decode_memory_info(reply, arena, out, why);
}

enum status memories_snapshot(struct client *client, const struct api_snapshot_request *request,
                              struct arena *arena, struct api_snapshot_reply *out,
                              struct reason *why)
{
    struct buffer message = {0};
    struct bytes reply = {0};
    enum status status = encoded(api_encode_snapshot_request(request, &message), why);
    if (!status)
        status = call(client, API_MEMORY_SNAPSHOT, &message, arena, &reply, why);
    return status ? status : api_decode_snapshot_reply(reply, arena, out, why);
}

enum status memories_restore(struct client *client, const struct api_restore_request *request,
                             struct arena *arena, struct api_restore_reply *out, struct reason *why)
{
    struct buffer message = {0};
    struct bytes reply = {0};
    enum status status = encoded(api_encode_restore_request(request, &message), why);
    if (!status)
        status = call(client, API_MEMORY_RESTORE, &message, arena, &reply, why);
    return status ? status : api_decode_restore_reply(reply, arena, out, why);
}

enum status memories_drop(struct client *client, const char *name, uint64_t *records,
                          struct reason *why)
{
    const struct api_name_request request = {.name = text_of(name)};
    struct arena *arena = arena_create(MEMORIES_ARENA_BYTES);
    struct api_drop_reply answer = {.records = 0};
    struct buffer message = {0};
    struct bytes reply = {0};
    enum status status = encoded(api_encode_name_request(&request, &message), why);
    if (!status)
        status = call(client, API_MEMORY_DROP, &message, arena, &reply, why);
    if (!status)
        status = api_decode_drop_reply(reply, arena, &answer, why);
    if (!status)
        *records = answer.records;
    arena_destroy(&arena);
    return status;
}

static enum status receive(struct client_stream *stream, memories_on_export *take, void *context,
                           struct reason *why)
{
    struct buffer bytes = {0};
    enum status status = STATUS_OK;
    for (bool ended = false; !ended && !status;) {
        struct arena *arena = arena_create(EXPORT_ARENA_BYTES);
        struct api_export_reply message = {.count = 0};
        status = client_stream_receive(stream, &bytes, &ended);
        if (status)
            (void)reason_set(why, status, NULL, "%s", status_text(status));
        else if (!ended)
            status = api_decode_export_reply((struct bytes){bytes.data, bytes.count}, arena,
                                             &message, why);
        if (!status && !ended)
            status = take(context, &message, why);
        arena_destroy(&arena);
    }
    buffer_deinit(&bytes);
    return status;
}

enum status memories_export(struct client *client, const struct api_export_request *request,
                            memories_on_export *take, void *context, struct reason *why)
{
    struct buffer message = {0};
    struct client_stream *stream = NULL;
    enum status status = encoded(api_encode_export_request(request, &message), why);
    if (!status)
        status = client_stream_open(client, API_MEMORY_EXPORT, &stream, why);
    if (status) {
        buffer_deinit(&message);
        return status;
    }
    const enum status sent =
        client_stream_send(stream, (struct bytes){message.data, message.count});
    buffer_deinit(&message);
    client_stream_close(stream);
    if (!sent)
        status = receive(stream, take, context, why);
    // A failure of our own is the one that is told; the call is cancelled then.
    struct reason end = {.text = ""};
    const enum status ended = client_stream_finish(&stream, NULL, &end);
    if (!status && ended) {
        *why = end;
        return ended;
    }
    if (!status && sent)
        return reason_set(why, sent, NULL, "%s", status_text(sent));
    return status;
}

void memories_pin(const struct api_memory_info *info, char out[MEMORIES_PIN_BYTES])
{
    (void)snprintf(out, MEMORIES_PIN_BYTES, "%.*s@%u", (int)info->name.bytes, info->name.data,
                   info->generation);
}

void memories_put(struct json_writer *writer, const struct api_memory_info *info)
{
    json_name(writer, "memory");
    json_put_text(writer, info->name);
    json_name(writer, "generation");
    json_put_uint(writer, info->generation);
    json_name(writer, "state");
    json_put_text(writer, info->state);
    json_name(writer, "space");
    json_put_text(writer, info->space);
    json_name(writer, "dimension");
    json_put_uint(writer, info->dimension);
    json_name(writer, "vshards");
    json_put_uint(writer, info->vshards);
    json_name(writer, "records");
    json_put_uint(writer, info->records);
    json_name(writer, "bytes");
    json_put_uint(writer, info->bytes);
    json_name(writer, "hidden");
    json_put_uint(writer, info->hidden);
    json_name(writer, "index");
    json_put_text(writer, info->index);
    json_name(writer, "index_bytes");
    json_put_uint(writer, info->indexes.bytes);
    json_name(writer, "index_lists");
    json_put_uint(writer, info->indexes.lists);
    json_name(writer, "index_vectors");
    json_put_uint(writer, info->indexes.vectors);
    json_name(writer, "index_list_max");
    json_put_uint(writer, info->indexes.list_max);
    json_name(writer, "aliases");
    json_begin_array(writer);
    for (size_t i = 0; i < info->alias_count; i++)
        json_put_text(writer, info->aliases[i]);
    json_end_array(writer);
    if (info->content_hash.bytes) {
        json_name(writer, "content_hash");
        json_put_text(writer, info->content_hash);
    }
    json_name(writer, "degraded");
    json_begin_array(writer);
    for (size_t i = 0; i < info->degraded_count; i++)
        json_put_text(writer, info->degraded[i]);
    json_end_array(writer);
}

// The names that mean it: its own first if that does, "-" for none.
static struct text names_of(const struct api_memory_info *info, char out[NAMES_BYTES])
{
    size_t used = 0;
    for (int own = 1; own >= 0; own--)
        for (size_t i = 0; i < info->alias_count; i++) {
            struct text name = info->aliases[i];
            if (text_equal(name, info->name) != (own == 1) || used + name.bytes + 5 > NAMES_BYTES)
                continue;
            used += (size_t)snprintf(out + used, NAMES_BYTES - used, "%s%.*s", used ? ", " : "",
                                     (int)name.bytes, name.data);
        }
    return used ? (struct text){out, used} : text_of("-");
}

void memories_print_table(const struct api_memory_list *list)
{
    static const char *const header[] = {"memory", ">generation", "state", "names", ">records",
                                         ">size",  ">dimension",  "index", "space", ""};
    struct output_table table;
    char figure[OUTPUT_FIGURE_BYTES];
    char names[NAMES_BYTES];
    output_table_begin(&table, header, sizeof(header) / sizeof(header[0]));
    for (size_t i = 0; i < list->count; i++) {
        const struct api_memory_info *info = &list->memories[i];
        output_cell_text(&table, info->name);
        output_cell(&table, "%u", info->generation);
        output_cell_text(&table, info->state);
        output_cell_text(&table, names_of(info, names));
        output_cell(&table, "%s", output_count(info->records, figure));
        output_cell(&table, "%s", output_bytes(info->bytes, figure));
        output_cell(&table, "%u", info->dimension);
        output_cell_text(&table, info->index);
        // A model's space begins with 64 digits; a dozen tell them apart.
        struct text space = info->space;
        output_cell(&table, "%.*s%s", (int)(space.bytes > 40 ? 12 : space.bytes), space.data,
                    space.bytes > 40 ? "..." : "");
        output_cell(&table, "%s", info->degraded_count > 0 ? "not all nodes counted" : "");
    }
    output_table_end(&table, 0);
}

int memories_open_client(const struct options *options, enum client_need need, struct client **out)
{
    struct reason why = {.text = ""};
    enum status status = client_open(options, need, out, &why);
    if (!status)
        return VERBS_DONE;
    output_error(NULL, &why);
    if (client_blames_flags(&why))
        return VERBS_USAGE;
    // A disk of this machine that fails is no cluster that is away.
    return options->server ? output_exit(status) : VERBS_FAILED;
}

enum status memories_count_nodes(struct client *client, uint32_t *out, struct reason *why)
{
    struct arena *arena = arena_create(MEMORIES_ARENA_BYTES);
    struct buffer reply = {0};
    struct api_node_list nodes = {.count = 0};
    enum status status =
        client_call(client, API_CLUSTER_LIST_NODES, (struct bytes){NULL, 0}, &reply, why);
    if (!status)
        status = api_decode_node_list((struct bytes){reply.data, reply.count}, arena, &nodes, why);
    if (!status)
        *out = (uint32_t)nodes.count;
    buffer_deinit(&reply);
    arena_destroy(&arena);
    return status;
}
