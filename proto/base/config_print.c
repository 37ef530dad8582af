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

#define TEXT_BYTES 1024
#define INDENT 2 // "# "

static void print_comment(FILE *file, const char *text)
{
    (void)fputs("# ", file);
    words_print(file, text, "# ", INDENT);
    (void)fputc('\n', file);
}

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

static void print_documentation(const struct config_key *key, FILE *file)
{
    char text[TEXT_BYTES];
    char values[128];
    char variable[CONFIG_VARIABLE_BYTES];
    describe_values(key, values, sizeof(values));
    config_variable(key, variable);
    (void)snprintf(text, sizeof(text), "%c%s.", toupper((unsigned char)key->help[0]),
                   key->help + 1);
    print_comment(file, text);
    (void)snprintf(text, sizeof(text), "%sDefault: %s. %s%s%s%s%s%s", values,
                   key->fallback && key->fallback[0] ? key->fallback : "empty",
                   key->flag ? "Flag: " : "", key->flag ? key->flag : "", key->flag ? ". " : "",
                   "Variable: ", variable, key->reloads ? ". SIGHUP takes a new value over." : ".");
    print_comment(file, text);
    if (key->danger) {
        (void)snprintf(text, sizeof(text), "DANGER: %s.", key->danger);
        print_comment(file, text);
    }
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

    (void)fprintf(file, "usage: %s [flags]\n\n%s\n\n", table->program, table->summary);
    for (size_t i = 0; i < table->key_count; i++) {
        const struct config_key *key = &table->keys[i];
        char left[96];
        char text[TEXT_BYTES];
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
        words_print_entry(file, left, text);
    }
    words_print_entry(file, "  --config FILE", "reads keys from this file, in INI form");
    words_print_entry(file, "  --config-shared",
                      "the file may also have keys of reco's other programs");
    words_print_entry(file, "  --print-config",
                      "prints what is in force, every key with its documentation and where its "
                      "value comes from, as a valid file, and ends");
    words_print_entry(file, "  --die-with-parent",
                      "ends, like by SIGTERM, when the process that started it is gone");
    words_print_entry(file, "  --help, --version", "print and end");
    (void)fprintf(file,
                  "\nEvery key is also a line of the file and the variable RECO_SECTION_KEY; a "
                  "flag goes\nbefore a variable, which goes before the file.\n");
}
