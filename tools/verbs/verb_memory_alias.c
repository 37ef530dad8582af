// SPDX-License-Identifier: Apache-2.0
// reco memory alias: names that point at memories, and rolling a memory back.

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "tools/answers.h"
#include "tools/memories.h"
#include "tools/output.h"
#include "tools/verbs.h"

static int show_alias(const struct options *options, const char *alias,
                      const struct api_memory_info *info)
{
    if (!options->json) {
        printf("%s: %s %.*s@%u\n", alias, options->remove ? "removed; it meant" : "now means",
               (int)info->name.bytes, info->name.data, info->generation);
        return VERBS_DONE;
    }
    struct json_writer writer = {.failed = false};
    json_begin_object(&writer);
    json_name(&writer, "alias");
    json_put_cstr(&writer, alias);
    json_name(&writer, "removed");
    json_put_bool(&writer, options->remove);
    memories_put(&writer, info);
    json_end_object(&writer);
    int exit_status = answers_end_line(&writer) ? VERBS_FAILED : VERBS_DONE;
    json_writer_deinit(&writer);
    return exit_status;
}

static enum status check_names(const struct options *options, struct reason *why)
{
    const char *alias = options->items.items[0];
    if (strchr(alias, '@'))
        return reason_set(why, STATUS_INVALID, "ALIAS",
                          "'%s': a name is allowed, without a generation", alias);
    enum status status = options_check_memory("ALIAS", alias, why);
    if (status || options->remove)
        return status;
    return options_check_memory("TARGET", options->items.items[1], why);
}

static int run_alias(const struct options *options)
{
    const char *alias = options->items.items[0];
    struct reason why = {.text = ""};
    if (options->items.count != (options->remove ? 1u : 2u)) {
        (void)reason_set(&why, STATUS_INVALID, NULL,
                         "ALIAS and TARGET are needed, or --remove and ALIAS alone");
        output_error(NULL, &why);
        return VERBS_USAGE;
    }

    if (check_names(options, &why)) {
        output_error(NULL, &why);
        return VERBS_USAGE;
    }

    struct client *client = NULL;
    int exit_status = memories_open_client(options, CLIENT_READ, &client);
    if (exit_status)
        return exit_status;
    const struct api_alias_request request = {
        .alias = text_of(alias),
        .target = options->remove ? (struct text){0} : text_of(options->items.items[1]),
        .remove = options->remove,
    };
    struct arena *arena = arena_create(MEMORIES_ARENA_BYTES);
    struct api_memory_info info = {.generation = 0};
    enum status status = memories_alias(client, &request, arena, &info, &why);
    exit_status = status ? output_exit(status) : show_alias(options, alias, &info);
    if (status)
        output_error(alias, &why);
    arena_destroy(&arena);
    client_close(&client);
    return exit_status;
}

static const struct args_flag alias_flags[] = {
    {.name = "--remove",
     .kind = ARGS_SWITCH,
     .help = "takes the name away; what it points at stays",
     .offset = offsetof(struct options, remove)},
    {.name = NULL},
};

const struct verb verb_memory_alias = {
    .args =
        {.name = "memory alias",
         .items = "ALIAS [TARGET]",
         .summary = "makes a name point at a memory; rolls a memory back",
         .details =
             "TARGET is NAME, which the alias follows when it is replaced, or NAME@GENERATION.\n"
             "ALIAS may be a memory's own name: `reco memory alias birds birds@1` rolls birds back "
             "to generation 1,\nwhich must not have been dropped; the newer one stays.\n\n"
             "JSON line: {\"alias\",\"removed\"} and that of `reco memory info`",
         .items_min = 1,
         .items_max = 2,
         .groups = {alias_flags, options_data, options_model, options_server, options_common}},
    .chapter = "memories",
    .run = run_alias,
};
