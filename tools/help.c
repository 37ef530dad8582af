// SPDX-License-Identifier: Apache-2.0
// How a verb is told; words.h breaks the lines.

#include "tools/help.h"

#include <string.h>

#include "proto/base/words.h"

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
    words_print_entry(file, left, text);
}

void help_print(const struct args_verb *verb, FILE *file)
{
    struct args_walk walk = {.at = NULL};
    const struct args_flag *flag = args_next_flag(verb, &walk);

    (void)fprintf(file, "usage: reco %s%s%s%s\n\n", verb->name, verb->items[0] ? " " : "",
                  verb->items, flag ? " [flags]" : "");
    words_print(file, verb->summary, strlen(verb->summary), "", 0);

    const char *at = verb->details;
    struct help_block block;
    bool follows_table = true; // which may belong to the paragraph before it
    while (help_next_block(&at, &block)) {
        if (!block.is_table || follows_table)
            (void)fputc('\n', file);
        if (block.is_table)
            (void)fprintf(file, "%.*s\n", (int)block.bytes, block.text);
        else
            words_print(file, block.text, block.bytes, "", 0);
        follows_table = block.is_table;
    }

    if (flag)
        (void)fputs("\nflags:\n", file);
    for (; flag; flag = args_next_flag(verb, &walk))
        print_flag(flag, file);
}
