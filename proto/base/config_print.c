// SPDX-License-Identifier: Apache-2.0
// config_print.c - the table as a file and as a help text.
//
// A value that no line of a file can say (too long, with the beginning of a comment in it, with
// blanks at its ends, not UTF-8) is printed as a comment: what is printed is always a valid file.

#include <assert.h>
#include <ctype.h>
#include <string.h>

#include "proto/base/config.h"
#include "proto/base/config_internal.h"
#include "proto/base/words.h"

#define INDENT 2  // "# "
#define COLUMN 28 // where the sentences of a help text begin

static void print_comment(FILE *file, const char *text)
{
    (void)fputs("# ", file);
    words_print(file, WORDS_WIDTH, text, strlen(text), "# ", INDENT);
}

const struct config_flag config_flags[] = {
    {"--config", "FILE", "reads keys from this file, in INI form"},
    {"--config-shared", NULL, "the file may also have keys of reco's other programs"},
    {"--print-config", NULL,
     "prints what is in force, every key with its documentation and where its value comes from, "
     "as a valid file, and ends"},
    {"--die-with-parent", NULL, "ends, like by SIGTERM, when the process that started it is gone"},
    {"--version", NULL, "prints the version and ends"},
    {"--help", NULL, "prints this text and ends"},
    {NULL, NULL, NULL},
};

// What is allowed, as part of a sentence.
static void describe_values(const struct config_key *key, char *out, size_t room)
{
    out[0] = '\0';
    if (key->kind == CONFIG_COUNT)
        (void)snprintf(out, room, "%llu to %llu. ", (unsigned long long)key->low,
                       (unsigned long long)key->high);
    else if (key->kind == CONFIG_CHOICE)
        (void)snprintf(out, room, "One of %s. ", key->choices);
    else if (key->kind == CONFIG_SWITCH)
        (void)snprintf(out, room, "yes or no. ");
    else if (key->kind == CONFIG_LIST)
        (void)snprintf(out, room, "A list: blanks between its items; on several lines it grows. ");
}

void config_describe(const struct config_key *key, struct config_description *out)
{
    char values[128];
    char variable[CONFIG_VARIABLE_BYTES];
    describe_values(key, values, sizeof(values));
    config_variable(key, variable);
    (void)snprintf(out->help, sizeof(out->help), "%c%s.", toupper((unsigned char)key->help[0]),
                   key->help + 1);
    (void)snprintf(out->facts, sizeof(out->facts), "%sDefault: %s. %s%s%s%s%s%s", values,
                   key->fallback && key->fallback[0] ? key->fallback : "empty",
                   key->flag ? "Flag: " : "", key->flag ? key->flag : "", key->flag ? ". " : "",
                   "Variable: ", variable, key->reloads ? ". SIGHUP takes a new value over." : ".");
    (void)snprintf(out->danger, sizeof(out->danger), "%s%s%s", key->danger ? "DANGER: " : "",
                   key->danger ? key->danger : "", key->danger ? "." : "");
}

static void print_documentation(const struct config_key *key, FILE *file)
{
    struct config_description words;
    config_describe(key, &words);
    print_comment(file, words.help);
    print_comment(file, words.facts);
    if (words.danger[0])
        print_comment(file, words.danger);
}

// Whether a line of a file can say it and means the same.
static bool can_be_written(const struct config_key *key, const char *text)
{
    size_t bytes = strlen(text);
    if (strlen(key->name) + 3 + bytes > CONFIG_LINE_BYTES_MAX || !bytes_is_utf8(text, bytes))
        return false;
    if (bytes == 0)
        return true;
    for (const char *at = text; *at; at++)
        if (*at == ';' && (at == text || at[-1] == ' ' || at[-1] == '\t'))
            return false;
    return text[0] != ' ' && text[0] != '\t' && text[bytes - 1] != ' ' && text[bytes - 1] != '\t';
}

static void print_value(const struct config *config, size_t index, FILE *file)
{
    const struct config_key *key = &config->table->keys[index];
    const struct config_slot *slot = &config->slots[index];
    const char *const *items = key->kind == CONFIG_LIST ? slot->items : NULL;
    const char *whole = slot->text;
    size_t lines = items && slot->item_count > 0 ? slot->item_count : 1;
    for (size_t i = 0; i < lines; i++) {
        const char *text = items && slot->item_count > 0 ? items[i] : items ? "" : whole;
        bool can = can_be_written(key, text);
        (void)fprintf(file, "%s%s =%s%s\n", can ? "" : "# no line of a file can say: ", key->name,
                      text[0] ? " " : "", text);
    }
}

void config_print(const struct config *config, const struct config_table *printed, FILE *file)
{
    assert(config && file);

    const struct config_table *table = config->table;
    const char *section = "";
    (void)fprintf(file, "# %s: what is in force\n", table->program);
    for (size_t i = 0; i < table->key_count; i++) {
        const struct config_key *key = &table->keys[i];
        const struct config_slot *slot = &config->slots[i];
        if (printed && config_find(printed, key->section, key->name) < printed->key_count)
            continue;
        if (strcmp(section, key->section) != 0)
            (void)fprintf(file, "\n[%s]\n", key->section);
        section = key->section;
        (void)fputc('\n', file);
        print_documentation(key, file);
        (void)fprintf(file, "# From: %s\n", slot->where ? slot->where : "default");
        print_value(config, i, file);
    }
    (void)fputc('\n', file);
}

void config_print_example(const struct config_table *table, FILE *file)
{
    assert(table && file);

    (void)fprintf(file,
                  "# SPDX-License-Identifier: Apache-2.0\n"
                  "# %s: every key, at its default. Remove the '#' before a key to set it.\n"
                  "# A flag goes before an environment variable, which goes before this file.\n"
                  "# A line has at most %d bytes; a ';' behind a blank begins a comment.\n",
                  table->program, CONFIG_LINE_BYTES_MAX);
    for (size_t i = 0; i < table->key_count; i++) {
        const struct config_key *key = &table->keys[i];
        const char *fallback = key->fallback ? key->fallback : "";
        if (i == 0 || strcmp(key->section, table->keys[i - 1].section) != 0)
            (void)fprintf(file, "\n[%s]\n", key->section);
        (void)fputc('\n', file);
        print_documentation(key, file);
        (void)fprintf(file, "#%s =%s%s\n", key->name, fallback[0] ? " " : "", fallback);
    }
}

void config_print_help(const struct config_table *table, FILE *file)
{
    assert(table && file);

    const size_t width = words_width(file);
    (void)fprintf(file, "usage: %s [flags]\n\n", table->program);
    words_print(file, width, table->summary, strlen(table->summary), "", 0);
    (void)fputc('\n', file);
    for (size_t i = 0; i < table->key_count; i++) {
        const struct config_key *key = &table->keys[i];
        char left[96];
        char text[CONFIG_TEXT_BYTES];
        char values[128];
        if (!key->flag)
            continue;
        describe_values(key, values, sizeof(values));
        if (key->kind == CONFIG_LIST)
            (void)snprintf(values, sizeof(values), "May be given again. ");
        (void)snprintf(left, sizeof(left), "  %s %s", key->flag, key->argument);
        (void)snprintf(text, sizeof(text), "%s. %s%s%s%s", key->help, values,
                       key->fallback && key->fallback[0] ? "Default: " : "",
                       key->fallback ? key->fallback : "",
                       key->fallback && key->fallback[0] ? "." : "");
        words_print_entry(file, width, left, COLUMN, text);
    }
    for (const struct config_flag *flag = config_flags; flag->name; flag++) {
        char left[96];
        (void)snprintf(left, sizeof(left), "  %s%s%s", flag->name, flag->argument ? " " : "",
                       flag->argument ? flag->argument : "");
        words_print_entry(file, width, left, COLUMN, flag->help);
    }
    static const char order[] =
        "Every key is also a line of the file and the variable RECO_SECTION_KEY; a flag goes "
        "before a variable, which goes before the file.";
    (void)fputc('\n', file);
    words_print(file, width, order, sizeof(order) - 1, "", 0);
}
