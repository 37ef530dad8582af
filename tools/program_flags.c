// SPDX-License-Identifier: Apache-2.0
// One flag for each key that has one, then those that every program has.

#include "tools/program_flags.h"

#include <assert.h>

static struct args_flag flag_of(const struct config_key *key)
{
    static const enum args_kind kinds[] = {
        [CONFIG_TEXT] = ARGS_TEXT,     [CONFIG_COUNT] = ARGS_COUNT, [CONFIG_SWITCH] = ARGS_CHOICE,
        [CONFIG_CHOICE] = ARGS_CHOICE, [CONFIG_LIST] = ARGS_LIST,
    };
    return (struct args_flag){
        .name = key->flag,
        .kind = kinds[key->kind],
        .argument = key->argument,
        .fallback = key->fallback && key->fallback[0] ? key->fallback : NULL,
        .help = key->help,
        .low = (double)key->low,
        .high = (double)key->high,
        .choices = key->kind == CONFIG_SWITCH ? "yes|no" : key->choices,
    };
}

void program_flags_read(const struct config_table *table, struct program_flags *out)
{
    size_t count = 0;
    *out = (struct program_flags){
        .verb = {.name = table->program, .items = "", .summary = table->summary, .details = ""}};
    for (size_t i = 0; i < table->key_count; i++)
        if (table->keys[i].flag)
            out->flags[count++] = flag_of(&table->keys[i]);
    for (const struct config_flag *flag = config_flags; flag->name; flag++) {
        assert(count + 1 < sizeof(out->flags) / sizeof(out->flags[0]));
        out->flags[count++] = (struct args_flag){
            .name = flag->name,
            .kind = flag->argument ? ARGS_TEXT : ARGS_SWITCH,
            .argument = flag->argument,
            .help = flag->help,
        };
    }
    out->verb.groups[0] = out->flags;
}
