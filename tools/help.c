// SPDX-License-Identifier: Apache-2.0
// Text is broken between words, and within the long rows of JSON names after a comma.

#include "tools/help.h"

#include <string.h>

#define COLUMN 28 // where the sentences of the flags begin

static bool is_space(char c)
{
    return c == ' ' || c == '\n';
}

size_t help_piece(const char *word, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if (is_space(word[i]))
            return i;
        if (word[i] == ',' && i + 1 < bytes && strchr("\"{[", word[i + 1]))
            return i + 1;
    }
    return bytes;
}

void help_wrap(FILE *file, const char *text, size_t bytes, size_t column)
{
    size_t at = column;
    bool space = false; // owed before the next piece
    for (size_t i = 0; i < bytes;) {
        size_t piece = help_piece(text + i, bytes - i);
        if (at > column && at + space + piece > HELP_WIDTH) {
            (void)fprintf(file, "\n%*s", (int)column, "");
            at = column;
        } else if (space && at > column) {
            (void)fputc(' ', file);
            at++;
        }
        (void)fwrite(text + i, 1, piece, file);
        at += piece;
        i += piece;
        space = i < bytes && is_space(text[i]);
        while (i < bytes && is_space(text[i]))
            i++;
    }
    (void)fputc('\n', file);
}

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
    if (strlen(left) + 2 > COLUMN)
        (void)fprintf(file, "%s\n%*s", left, COLUMN, "");
    else
        (void)fprintf(file, "%-*s", COLUMN, left);

    char text[HELP_TEXT_BYTES];
    help_flag_text(flag, text);
    help_wrap(file, text, strlen(text), COLUMN);
}

void help_print(const struct args_verb *verb, FILE *file)
{
    struct args_walk walk = {.at = NULL};
    const struct args_flag *flag = args_next_flag(verb, &walk);

    (void)fprintf(file, "usage: reco %s%s%s%s\n\n", verb->name, verb->items[0] ? " " : "",
                  verb->items, flag ? " [flags]" : "");
    help_wrap(file, verb->summary, strlen(verb->summary), 0);

    const char *at = verb->details;
    struct help_block block;
    bool follows_table = true; // which may belong to the paragraph before it
    while (help_next_block(&at, &block)) {
        if (!block.is_table || follows_table)
            (void)fputc('\n', file);
        if (block.is_table)
            (void)fprintf(file, "%.*s\n", (int)block.bytes, block.text);
        else
            help_wrap(file, block.text, block.bytes, 0);
        follows_table = block.is_table;
    }

    if (flag)
        (void)fputs("\nflags:\n", file);
    for (; flag; flag = args_next_flag(verb, &walk))
        print_flag(flag, file);
}
