// SPDX-License-Identifier: Apache-2.0
// reco status: the nodes and memories of a server; without one, who holds the data directory.

#include <stdio.h>
#include <string.h>

#include "coordinator/datadir.h"
#include "tools/answers.h"
#include "tools/memories.h"
#include "tools/output.h"
#include "tools/verbs.h"

#define STATUS_ARENA_BYTES ((size_t)16 << 20)

// What a call without a question is answered, in the arena.
static enum status ask(struct client *client, enum api_method method, struct arena *arena,
                       struct bytes *out, struct reason *why)
{
    struct buffer bytes = {0};
    enum status status = client_call(client, method, (struct bytes){NULL, 0}, &bytes, why);
    const char *copy = NULL;
    if (!status)
        copy = arena_copy_text(arena, bytes.count ? (const char *)bytes.data : "", bytes.count);
    if (!status && !copy)
        status = reason_set(why, STATUS_NO_MEMORY, NULL, "the answer is too large");
    if (!status)
        *out = (struct bytes){(const uint8_t *)copy, bytes.count};
    buffer_deinit(&bytes);
    return status;
}

static enum status list_nodes(struct client *client, struct arena *arena, struct api_node_list *out,
                              struct reason *why)
{
    struct bytes answer;
    enum status status = ask(client, API_CLUSTER_LIST_NODES, arena, &answer, why);
    return status ? status : api_decode_node_list(answer, arena, out, why);
}

static enum status list_models(struct client *client, struct arena *arena,
                               struct api_model_list *out, struct reason *why)
{
    struct bytes answer;
    enum status status = ask(client, API_LIST_MODELS, arena, &answer, why);
    return status ? status : api_decode_model_list(answer, arena, out, why);
}

// Which trained head refines, null without one, and whether it has a gate.
static void put_head(struct json_writer *writer, const struct api_model_info *model)
{
    json_name(writer, "head");
    if (model->head.bytes)
        json_put_text(writer, model->head);
    else
        json_put_null(writer);
    json_name(writer, "gate");
    json_put_bool(writer, model->head_has_gate);
}

static void print_head(const struct api_model_info *model)
{
    printf("head ");
    if (model->head.bytes) {
        output_text(model->head);
        printf(model->head_has_gate ? ", with a gate\n" : ", without a gate\n");
    } else {
        printf("none: fusion is weighted\n");
    }
}

static enum status print_json(const char *server, const struct api_model_list *models,
                              const struct api_node_list *nodes,
                              const struct api_memory_list *memories)
{
    struct json_writer writer = {.failed = false};
    json_begin_object(&writer);
    json_name(&writer, "server");
    json_put_cstr(&writer, server);
    json_name(&writer, "version");
    json_put_text(&writer, nodes->version);
    json_name(&writer, "space");
    json_put_text(&writer, nodes->space);
    json_name(&writer, "models");
    json_begin_array(&writer);
    for (size_t i = 0; i < models->count; i++) {
        json_begin_object(&writer);
        json_name(&writer, "name");
        json_put_text(&writer, models->models[i].name);
        json_name(&writer, "device");
        json_put_text(&writer, models->models[i].device);
        put_head(&writer, &models->models[i]);
        json_end_object(&writer);
    }
    json_end_array(&writer);
    json_name(&writer, "nodes");
    json_begin_array(&writer);
    for (size_t i = 0; i < nodes->count; i++) {
        const struct api_node_info *node = &nodes->nodes[i];
        json_begin_object(&writer);
        json_name(&writer, "index");
        json_put_uint(&writer, node->index);
        json_name(&writer, "address");
        json_put_text(&writer, node->address);
        json_name(&writer, "state");
        json_put_text(&writer, node->state);
        json_name(&writer, "records");
        json_put_uint(&writer, node->records);
        json_name(&writer, "bytes");
        json_put_uint(&writer, node->bytes);
        json_name(&writer, "in_flight");
        json_put_uint(&writer, node->in_flight);
        json_name(&writer, "ping_ms");
        json_put_float(&writer, node->ping_ms);
        json_name(&writer, "read_only");
        json_put_bool(&writer, node->read_only);
        json_name(&writer, "vshards");
        json_put_uint(&writer, node->vshards);
        json_name(&writer, "queue_depth");
        json_put_uint(&writer, node->queue_depth);
        json_end_object(&writer);
    }
    json_end_array(&writer);
    json_name(&writer, "memories");
    json_begin_array(&writer);
    for (size_t i = 0; i < memories->count; i++) {
        json_begin_object(&writer);
        memories_put(&writer, &memories->memories[i]);
        json_end_object(&writer);
    }
    json_end_array(&writer);
    json_end_object(&writer);
    enum status status = answers_end_line(&writer);
    json_writer_deinit(&writer);
    return status;
}

static void print_text(const char *server, const struct api_model_list *models,
                       const struct api_node_list *nodes, const struct api_memory_list *memories)
{
    static const char *const node_header[] = {"node",     "state",    ">records", ">size",  ">load",
                                              ">ping ms", ">vshards", "",         "address"};
    char figure[OUTPUT_FIGURE_BYTES];
    struct output_table table;

    printf("%s, version ", server);
    output_text(nodes->version);
    printf("\nspace ");
    output_text(nodes->space);
    putchar('\n');
    for (size_t i = 0; i < models->count; i++) {
        printf("model ");
        output_text(models->models[i].name);
        printf(" on ");
        output_text(models->models[i].device);
        putchar('\n');
        print_head(&models->models[i]);
    }
    putchar('\n');
    output_table_begin(&table, node_header, 9);
    for (size_t i = 0; i < nodes->count; i++) {
        const struct api_node_info *node = &nodes->nodes[i];
        output_cell(&table, "%u", node->index);
        output_cell_text(&table, node->state);
        output_cell(&table, "%s", output_count(node->records, figure));
        output_cell(&table, "%s", output_bytes(node->bytes, figure));
        output_cell(&table, "%u", node->in_flight);
        output_cell(&table, "%.2f", (double)node->ping_ms);
        output_cell(&table, "%u", node->vshards);
        output_cell(&table, "%s", node->read_only ? "read only" : "");
        output_cell_text(&table, node->address);
    }
    output_table_end(&table, 0);
    if (!memories->count)
        return;

    putchar('\n');
    memories_print_table(memories);
}

static int ask_server(const struct options *options)
{
    struct client *client = NULL;
    int exit_status = memories_open_client(options, CLIENT_READ, &client);
    if (exit_status)
        return exit_status;

    struct arena *arena = arena_create(STATUS_ARENA_BYTES);
    struct api_model_list models = {.count = 0};
    struct api_node_list nodes = {.count = 0};
    struct api_memory_list memories = {.count = 0};
    struct reason why = {.text = ""};
    enum status status = list_nodes(client, arena, &nodes, &why);
    if (!status)
        status = list_models(client, arena, &models, &why);
    if (!status)
        status = memories_list(client, arena, &memories, &why);
    exit_status = output_exit(status);
    if (status) // which names the server
        output_error(NULL, &why);
    else if (options->json)
        exit_status =
            print_json(options->server, &models, &nodes, &memories) ? VERBS_FAILED : VERBS_DONE;
    else
        print_text(options->server, &models, &nodes, &memories);
    arena_destroy(&arena);
    client_close(&client);
    return exit_status;
}

// --- without a server: the data directory

static int show_directory(const struct options *options, const char *path, enum status status,
                          const struct reason *why, uint32_t nodes)
{
    // Of what a directory can be refused for, this alone is no fault.
    bool held = status == STATUS_FAILED_PRECONDITION && strncmp(why->text, "process ", 8) == 0;
    char text[CLIENT_PATH_BYTES + 64];
    if (status)
        (void)snprintf(text, sizeof(text), "%s", why->text);
    else
        (void)snprintf(text, sizeof(text), "%s is free; %u node%s; no server holds it", path, nodes,
                       nodes == 1 ? "" : "s");

    int exit_status = status && !held && status != STATUS_NOT_FOUND ? VERBS_FAILED : VERBS_DONE;
    if (exit_status) {
        output_error(NULL, why);
        return exit_status;
    }
    if (!options->json) {
        output_text(text_of(text));
        putchar('\n');
        return VERBS_DONE;
    }
    struct json_writer writer = {.failed = false};
    json_begin_object(&writer);
    json_name(&writer, "data");
    json_put_cstr(&writer, path);
    json_name(&writer, "state");
    json_put_cstr(&writer, held ? "held" : status ? "missing" : "free");
    json_name(&writer, "detail");
    json_put_cstr(&writer, text);
    json_end_object(&writer);
    exit_status = answers_end_line(&writer) ? VERBS_FAILED : VERBS_DONE;
    json_writer_deinit(&writer);
    return exit_status;
}

static int run_status(const struct options *options)
{
    if (options->server)
        return ask_server(options);

    char path[CLIENT_PATH_BYTES];
    struct reason why = {.text = ""};
    if (client_data_path(options, path, &why)) {
        output_error(NULL, &why);
        return VERBS_USAGE;
    }
    struct datadir *datadir = NULL;
    const struct datadir_params params = {.path = path};
    enum status status = datadir_open(&params, &datadir, &why);
    uint32_t nodes = status ? 0 : datadir_nodes(datadir);
    datadir_close(&datadir);
    return show_directory(options, path, status, &why, nodes);
}

const struct verb verb_status = {
    .args =
        {.name = "status",
         .items = "",
         .summary = "nodes and memories of a server; without one, who holds the data directory",
         .details =
             "JSON line with --server: "
             "{\"server\",\"version\",\"space\",\"models\":[{\"name\",\"device\",\n"
             "\"head\",\"gate\"}],\"nodes\":[{\"index\",\"address\",\n"
             "\"state\",\"records\",\"bytes\",\"in_flight\",\"ping_ms\",\"read_only\",\n"
             "\"vshards\",\"queue_depth\"}],"
             "\"memories\":[...]};\n"
             "without: {\"data\",\"state\",\"detail\"}, state \"held\", \"free\" or \"missing\"\n"
             "\n"
             "head is the file of the trained fusion head in force, \"embedded\" for the "
             "program's\n"
             "own, null when there is none; gate: whether it has one, which judges the answers of\n"
             "classify. A server opens its head when it starts.",
         .groups = {options_data, options_server, options_common}},
    .chapter = "clusters",
    .run = run_status,
};
