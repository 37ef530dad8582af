// SPDX-License-Identifier: Apache-2.0
// reco memory list, info, drop.

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

#include "tools/answers.h"
#include "tools/memories.h"
#include "tools/output.h"
#include "tools/verbs.h"

// --- list

static enum status print_line(const struct api_memory_info *info)
{
    struct json_writer writer = {.failed = false};
    json_begin_object(&writer);
    memories_put(&writer, info);
    json_end_object(&writer);
    enum status status = answers_end_line(&writer);
    json_writer_deinit(&writer);
    return status;
}

static int run_list(const struct options *options)
{
    struct client *client = NULL;
    int exit_status = memories_open_client(options, CLIENT_READ, &client);
    if (exit_status)
        return exit_status;

    struct arena *arena = arena_create(MEMORIES_ARENA_BYTES);
    struct api_memory_list list = {.count = 0};
    struct reason why = {.text = ""};
    enum status status = memories_list(client, arena, &list, &why);
    exit_status = output_exit(status);
    if (status)
        output_error(NULL, &why);
    else if (!options->json && list.count)
        memories_print_table(&list);
    else if (!options->json)
        output_note("no memories in %s", client_name(client));
    for (size_t i = 0; options->json && i < list.count && !exit_status; i++)
        exit_status = print_line(&list.memories[i]) ? VERBS_FAILED : VERBS_DONE;
    arena_destroy(&arena);
    client_close(&client);
    return exit_status;
}

// --- info

static void print_text(const char *name, struct text text)
{
    printf("%-11s ", name);
    output_text(text);
    putchar('\n');
}

static void print_info(const struct api_memory_info *info)
{
    char figure[OUTPUT_FIGURE_BYTES];
    print_text("memory", info->name);
    printf("%-11s %u\n", "generation", info->generation);
    print_text("state", info->state);
    printf("%-11s %s\n", "records", output_count(info->records, figure));
    printf("%-11s %s, %.0f bytes a record\n", "size", output_bytes(info->bytes, figure),
           info->records ? (double)info->bytes / (double)info->records : 0);
    printf("%-11s %s\n", "hidden", output_count(info->hidden, figure));
    print_text("space", info->space);
    printf("%-11s %u\n", "dimension", info->dimension);
    printf("%-11s %u\n", "vshards", info->vshards);
    print_text("index", info->index);
    if (info->content_hash.bytes)
        print_text("hash", info->content_hash);
    for (size_t i = 0; i < info->alias_count; i++)
        print_text("name", info->aliases[i]);
    for (size_t i = 0; i < info->degraded_count; i++)
        print_text("degraded", info->degraded[i]);
}

static int run_info(const struct options *options)
{
    const char *name = options->items.count ? options->items.items[0] : "default";
    struct client *client = NULL;
    int exit_status = memories_open_client(options, CLIENT_READ, &client);
    if (exit_status)
        return exit_status;

    struct arena *arena = arena_create(MEMORIES_ARENA_BYTES);
    struct api_memory_info info = {.generation = 0};
    struct reason why = {.text = ""};
    enum status status = options->hash ? memories_hash(client, name, arena, &info, &why)
                                       : memories_describe(client, name, arena, &info, &why);
    exit_status = output_exit(status);
    if (status)
        output_error(name, &why);
    else if (options->json)
        exit_status = print_line(&info) ? VERBS_FAILED : VERBS_DONE;
    else
        print_info(&info);
    arena_destroy(&arena);
    client_close(&client);
    return exit_status;
}

// --- drop

static int show_drop(const struct options *options, const char *name, uint64_t records)
{
    char figure[OUTPUT_FIGURE_BYTES];
    if (!options->json) {
        printf("%s: dropped, %s records went with it\n", name, output_count(records, figure));
        return VERBS_DONE;
    }
    struct json_writer writer = {.failed = false};
    json_begin_object(&writer);
    json_name(&writer, "memory");
    json_put_cstr(&writer, name);
    json_name(&writer, "records");
    json_put_uint(&writer, records);
    json_end_object(&writer);
    int exit_status = answers_end_line(&writer) ? VERBS_FAILED : VERBS_DONE;
    json_writer_deinit(&writer);
    return exit_status;
}

static int run_drop(const struct options *options)
{
    struct client *client = NULL;
    int exit_status = memories_open_client(options, CLIENT_READ, &client);
    if (exit_status)
        return exit_status;

    for (size_t i = 0; i < options->items.count; i++) {
        const char *name = options->items.items[i];
        uint64_t records = 0;
        struct reason why = {.text = ""};
        enum status status = memories_drop(client, name, &records, &why);
        int one = status ? output_exit(status) : show_drop(options, name, records);
        exit_status = one > exit_status ? one : exit_status;
        if (status)
            output_error(name, &why);
        if (one && !options->keep_going)
            break;
    }
    client_close(&client);
    return exit_status;
}

#define INFO_JSON                                                                                  \
    "JSON line: "                                                                                  \
    "{\"memory\",\"generation\",\"state\",\"space\",\"dimension\",\"vshards\",\"records\","        \
    "\n\"bytes\",\"hidden\",\"index\",\"index_bytes\",\"index_lists\",\"index_vectors\","          \
    "\n\"index_list_max\",\"aliases\":[],\"degraded\":[]}"

static const struct args_flag info_flags[] = {
    {.name = "--hash",
     .kind = ARGS_SWITCH,
     .help = "also the content hash, for which every record is read",
     .offset = offsetof(struct options, hash)},
    {.name = NULL},
};

const struct verb verb_memory_list = {
    .args = {.name = "memory list",
             .items = "",
             .summary = "all memories with their generations",
             .details = INFO_JSON,
             .groups = {options_data, options_model, options_server, options_common}},
    .chapter = "memories",
    .run = run_list,
};

const struct verb verb_memory_info = {
    .args =
        {.name = "memory info",
         .items = "[NAME]",
         .summary = "what one memory is: state, records, size, space",
         .details =
             "NAME@GENERATION looks at one generation. The content hash is the same for the same\n"
             "records (keys, captions, sources, tags, embeddings, what is hidden), however and "
             "where "
             "they lie.\n\n" INFO_JSON "\nwith --hash also \"content_hash\"",
         .items_max = 1,
         .groups = {info_flags, options_data, options_model, options_server, options_common}},
    .chapter = "memories",
    .run = run_info,
};

const struct verb verb_memory_drop = {
    .args = {.name = "memory drop",
             .items = "NAME...",
             .summary = "deletes a memory with all its records, for good",
             .details = "NAME drops every generation, NAME@GENERATION one.\n\n"
                        "JSON line: {\"memory\",\"records\"}",
             .items_min = 1,
             .items_max = SIZE_MAX,
             .groups = {options_items, options_data, options_model, options_server,
                        options_common}},
    .chapter = "memories",
    .run = run_drop,
};
