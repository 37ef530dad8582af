// SPDX-License-Identifier: Apache-2.0
// reco config: the documented example of a program's configuration file.

#include <stdio.h>
#include <string.h>

#include "proto/base/settings.h"
#include "proto/base/words.h"
#include "tools/output.h"
#include "tools/verbs.h"

static int run_config(const struct options *options)
{
    const char *names[CONFIG_TABLES_MAX];
    size_t count = 0;
    const char *wanted = options->items.items[0];
    for (; settings_tables[count]; count++) {
        names[count] = settings_tables[count]->program;
        if (strcmp(wanted, names[count]) == 0) {
            config_print_example(settings_tables[count], stdout);
            return VERBS_DONE;
        }
    }
    struct reason why = {.text = ""};
    const char *nearest = words_nearest(wanted, names, count);
    if (nearest)
        (void)reason_set(&why, STATUS_INVALID, NULL, "no program is called '%s'; did you mean %s?",
                         wanted, nearest);
    else
        (void)reason_set(&why, STATUS_INVALID, NULL,
                         "no program is called '%s'; reco, reco-coordinator and reco-shard are",
                         wanted);
    output_error(NULL, &why);
    return VERBS_USAGE;
}

const struct verb verb_config = {
    .args = {.name = "config",
             .items = "reco|reco-coordinator|reco-shard",
             .summary = "the documented configuration of reco, reco-coordinator or reco-shard",
             .details = "Prints an INI file with every key commented out, at its default. What is "
                        "in force,\nand where it comes from, shows --print-config of the program "
                        "or verb.",
             .items_min = 1,
             .items_max = 1,
             .groups = {options_common}},
    .chapter = "this program",
    .run = run_config,
};
