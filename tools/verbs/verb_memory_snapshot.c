// SPDX-License-Identifier: Apache-2.0
// reco memory snapshot and restore: a memory into files, and back.

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

#include "tools/answers.h"
#include "tools/memories.h"
#include "tools/output.h"
#include "tools/verbs.h"

struct figures { // of either
    struct text memory;
    uint32_t generation;
    const char *directory;
    uint64_t records;
    uint64_t bytes; // of a snapshot
    struct text content_hash;
};

static int print_line(const struct figures *figures, bool restored)
{
    struct json_writer writer = {.failed = false};
    json_begin_object(&writer);
    json_name(&writer, "memory");
    json_put_text(&writer, figures->memory);
    json_name(&writer, "generation");
    json_put_uint(&writer, figures->generation);
    json_name(&writer, "directory");
    json_put_cstr(&writer, figures->directory);
    json_name(&writer, "records");
    json_put_uint(&writer, figures->records);
    if (!restored) {
        json_name(&writer, "bytes");
        json_put_uint(&writer, figures->bytes);
    }
    json_name(&writer, "content_hash");
    json_put_text(&writer, figures->content_hash);
    json_end_object(&writer);
    const int exit_status = answers_end_line(&writer) ? VERBS_FAILED : VERBS_DONE;
    json_writer_deinit(&writer);
    return exit_status;
}

static int show(const struct options *options, const struct figures *figures, bool restored)
{
    char figure[OUTPUT_FIGURE_BYTES];
    if (options->json)
        return print_line(figures, restored);
    const struct text hash = figures->content_hash;
    printf("%.*s@%u: %s records %s %s, content hash %.*s\n", (int)figures->memory.bytes,
           figures->memory.data, figures->generation, output_count(figures->records, figure),
           restored ? "restored from" : "saved in", figures->directory, (int)hash.bytes, hash.data);
    return VERBS_DONE;
}

// --- snapshot

static int run_snapshot(const struct options *options)
{
    const char *name = options->items.items[0];
    const char *directory = options->items.items[1];
    struct client *client = NULL;
    int exit_status = memories_open_client(options, CLIENT_READ, &client);
    if (exit_status)
        return exit_status;
    const struct api_snapshot_request request = {text_of(name), text_of(directory)};
    struct arena *arena = arena_create(MEMORIES_ARENA_BYTES);
    struct api_snapshot_reply reply = {.records = 0};
    struct reason why = {.text = ""};
    enum status status = memories_snapshot(client, &request, arena, &reply, &why);
    const struct figures figures = {reply.memory,  reply.generation, directory,
                                    reply.records, reply.bytes,      reply.content_hash};
    exit_status = status ? output_exit(status) : show(options, &figures, false);
    if (status)
        output_error(name, &why);
    arena_destroy(&arena);
    client_close(&client);
    return exit_status;
}

// --- restore

static int run_restore(const struct options *options)
{
    const char *directory = options->items.items[0];
    struct client *client = NULL;
    int exit_status = memories_open_client(options, CLIENT_WRITE, &client);
    if (exit_status)
        return exit_status;
    const struct api_restore_request request = {
        .directory = text_of(directory),
        .memory = options->items.count > 1 ? text_of(options->items.items[1]) : (struct text){0},
        .replace = options->replace,
    };
    struct arena *arena = arena_create(MEMORIES_ARENA_BYTES);
    struct api_restore_reply reply = {.records = 0};
    struct reason why = {.text = ""};
    enum status status = memories_restore(client, &request, arena, &reply, &why);
    const struct figures figures = {
        reply.memory, reply.generation, directory, reply.records, 0, reply.content_hash};
    exit_status = status ? output_exit(status) : show(options, &figures, true);
    if (status)
        output_error(directory, &why);
    arena_destroy(&arena);
    client_close(&client);
    return exit_status;
}

static const struct args_flag restore_flags[] = {
    {.name = "--replace",
     .kind = ARGS_SWITCH,
     .help = "becomes the next generation of a memory that there is",
     .offset = offsetof(struct options, replace)},
    {.name = NULL},
};

#define WHERE                                                                                      \
    "With --server, DIR is a name, and the folder is below the server's snapshot folder:\n"        \
    "DATA/snapshots, or what its --snapshots says.\n\n"

const struct verb verb_memory_snapshot = {
    .args = {.name = "memory snapshot",
             .items = "NAME DIR",
             .summary = "a copy of a memory, as files of a folder",
             .details = "DIR is a new or an empty folder. The memory goes on being read and "
                        "written; the copy\nhas it as it was at one moment of each node. " WHERE
                        "JSON line: {\"memory\",\"generation\",\"directory\",\"records\","
                        "\"bytes\",\"content_hash\"}",
             .items_min = 2,
             .items_max = 2,
             .groups = {options_data, options_model, options_server, options_common}},
    .chapter = "memories",
    .run = run_snapshot,
};

const struct verb verb_memory_restore = {
    .args = {.name = "memory restore",
             .items = "DIR [NAME]",
             .summary = "makes a memory of such a copy",
             .details =
                 "Everything is checked first; the memory appears when all of it is there, and it "
                 "answers\nas the one that was copied did, bit for bit, whatever the number of "
                 "nodes. NAME is its\nname where it shall not have its old one. " WHERE
                 "JSON line: {\"memory\",\"generation\",\"directory\",\"records\","
                 "\"content_hash\"}",
             .items_min = 1,
             .items_max = 2,
             .groups = {restore_flags, options_data, options_model, options_server,
                        options_common}},
    .chapter = "memories",
    .run = run_restore,
};
