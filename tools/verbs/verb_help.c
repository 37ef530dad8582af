// SPDX-License-Identifier: Apache-2.0
// reco help, reco version: all from the table of verbs.

#include <stdio.h>

#include "proto/base/json.h"
#include "tools/answers.h"
#include "tools/help.h"
#include "tools/output.h"
#include "tools/verbs.h"
#include "tools/verbs/version.h"

static int run_help(const struct options *options)
{
    if (!options->items.count) {
        verbs_print_all(stdout);
        return VERBS_DONE;
    }

    if (options->items.count == 1 && verbs_print_family(options->items.items[0], stdout))
        return VERBS_DONE;

    struct reason why = {.text = ""};
    const struct verb *verb = NULL;
    int words = 0;
    if (verbs_find((int)options->items.count, options->items.items, &verb, &words, &why)) {
        output_error(NULL, &why);
        return VERBS_USAGE;
    }
    help_print(&verb->args, stdout);
    return VERBS_DONE;
}

static int run_version(const struct options *options)
{
    if (!options->json) {
        printf("reco %s\n", RECO_VERSION);
        return VERBS_DONE;
    }
    struct json_writer writer = {.failed = false};
    json_begin_object(&writer);
    json_name(&writer, "version");
    json_put_cstr(&writer, RECO_VERSION);
    json_end_object(&writer);
    int exit_status = answers_end_line(&writer) ? VERBS_FAILED : VERBS_DONE;
    json_writer_deinit(&writer);
    return exit_status;
}

const struct verb verb_help = {
    .args = {.name = "help",
             .items = "[VERB]",
             .summary = "all verbs, or one verb with its flags",
             .details = "",
             .items_max = 2,
             .groups = {options_common}},
    .chapter = "this program",
    .run = run_help,
};

const struct verb verb_version = {
    .args = {.name = "version",
             .items = "",
             .summary = "the version of this program",
             .details = "",
             .groups = {options_common}},
    .chapter = "this program",
    .run = run_version,
};
