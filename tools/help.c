// SPDX-License-Identifier: Apache-2.0
// How a verb is told; words.h breaks the lines.

#include "tools/help.h"

#include <string.h>

#include "proto/base/words.h"

#define USAGE "usage: "
#define COLUMN 28         // where the sentences of flags begin
#define GOES_ON_INDENT 10 // of a table's line that belongs to the one before it

bool help_next_block(const char **at, struct help_block *block)
{
    while (**at == '\n')
        (*at)++;
    if (!**at)
        return false;

    *block = (struct help_block){.text = *at, .is_table = **at == ' '};
    const char *end = *at;
    while (**at && **at != '\n' && (**at == ' ') == block->is_table) {
        end = *at + strcspn(*at, "\n");
        *at = *end ? end + 1 : end;
    }
    block->bytes = (size_t)(end - block->text);
    return true;
}

void help_flag_text(const struct args_flag *flag, char text[HELP_TEXT_BYTES])
{
    bool ranged =
        flag->kind == ARGS_COUNT || flag->kind == ARGS_NUMBER || flag->kind == ARGS_NUMBER_LIST;
    char allowed[HELP_TEXT_BYTES / 4] = "";
    if (flag->kind == ARGS_CHOICE)
        (void)snprintf(allowed, sizeof(allowed), "; one of %s", flag->choices);
    else if (ranged)
        (void)snprintf(allowed, sizeof(allowed), "; %.15g to %.15g", flag->low, flag->high);
    else if (flag->kind == ARGS_LIST)
        (void)snprintf(allowed, sizeof(allowed), "; may be given again");
    (void)snprintf(text, HELP_TEXT_BYTES, "%s%s%s%s%s", flag->help, allowed,
                   flag->fallback ? " (default " : "", flag->fallback ? flag->fallback : "",
                   flag->fallback ? ")" : "");
}

static void print_flag(const struct args_flag *flag, FILE *file)
{
    char left[96];
    (void)snprintf(left, sizeof(left), "  %s%s%s%s%s", flag->alias ? flag->alias : "",
                   flag->alias ? ", " : "", flag->name, flag->argument ? " " : "",
                   flag->argument ? flag->argument : "");
    char text[HELP_TEXT_BYTES];
    help_flag_text(flag, text);
    words_print_entry(file, words_width(file), left, COLUMN, text);
}

// Whether a line of a table goes on with the sentence of the one before it.
static bool goes_on(const char *line, const char *end)
{
    return line < end && strspn(line, " ") >= GOES_ON_INDENT;
}

// A table of "  WORD   sentence" lines where it does not fit: each sentence below its word. Lines
// without a sentence, which are commands, stay as they are.
static void print_narrow_table(FILE *file, size_t width, const struct help_block *block)
{
    const char *end = block->text + block->bytes;
    const char *line = block->text;
    while (line < end) {
        size_t bytes = strcspn(line, "\n");
        const char *gap = strstr(line + strspn(line, " "), "  ");
        size_t left_bytes = gap && gap < line + bytes ? (size_t)(gap - line) : bytes;
        char left[HELP_TEXT_BYTES];
        char text[HELP_TEXT_BYTES];
        size_t used = (size_t)snprintf(text, sizeof(text), "%.*s", (int)(bytes - left_bytes),
                                       line + left_bytes);
        (void)snprintf(left, sizeof(left), "%.*s", (int)left_bytes, line);
        for (line += bytes + 1; goes_on(line, end); line += bytes + 1) {
            bytes = strcspn(line, "\n");
            if (used < sizeof(text))
                used +=
                    (size_t)snprintf(text + used, sizeof(text) - used, " %.*s", (int)bytes, line);
        }
        const char *begun = text + strspn(text, " ");
        if (begun[0])
            words_print_entry(file, width, left, COLUMN, begun);
        else
            (void)fprintf(file, "%s\n", left);
    }
}

static void print_table(FILE *file, size_t width, const struct help_block *block)
{
    size_t widest = 0;
    for (size_t i = 0; i < block->bytes;) {
        const size_t bytes = strcspn(block->text + i, "\n");
        widest = bytes > widest ? bytes : widest;
        i += bytes + 1;
    }
    if (widest > width)
        print_narrow_table(file, width, block);
    else
        (void)fprintf(file, "%.*s\n", (int)block->bytes, block->text);
}

void help_print(const struct args_verb *verb, FILE *file)
{
    struct args_walk walk = {.at = NULL};
    const struct args_flag *flag = args_next_flag(verb, &walk);

    const size_t width = words_width(file);
    char usage[256];
    (void)snprintf(usage, sizeof(usage), "reco %s%s%s%s", verb->name, verb->items[0] ? " " : "",
                   verb->items, flag ? " [flags]" : "");
    (void)fputs(USAGE, file);
    words_print(file, width, usage, strlen(usage), "", sizeof(USAGE) - 1);
    (void)fputc('\n', file);
    words_print(file, width, verb->summary, strlen(verb->summary), "", 0);

    const char *at = verb->details;
    struct help_block block;
    bool follows_table = true; // which may belong to the paragraph before it
    while (help_next_block(&at, &block)) {
        if (!block.is_table || follows_table)
            (void)fputc('\n', file);
        if (block.is_table)
            print_table(file, width, &block);
        else
            words_print(file, width, block.text, block.bytes, "", 0);
        follows_table = block.is_table;
    }

    if (flag)
        (void)fputs("\nflags:\n", file);
    for (; flag; flag = args_next_flag(verb, &walk))
        print_flag(flag, file);
}
