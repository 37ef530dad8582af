// SPDX-License-Identifier: Apache-2.0
// Every text goes through put(), which writes what roff takes as a command or draws as another
// sign in its own way: so that flags can be copied from a page, and no line is lost.

#include "tools/manual.h"

#include <stdbool.h>
#include <string.h>

#include "proto/base/settings.h"
#include "proto/base/words.h"
#include "tools/help.h"
#include "tools/program_flags.h"
#include "tools/verbs/version.h"

// --- roff

static void put_sign(FILE *file, char sign)
{
    static const struct {
        char sign;
        const char *roff;
    } others[] = {{'\\', "\\e"},  {'-', "\\-"},   {'\'', "\\(aq"},
                  {'`', "\\(ga"}, {'^', "\\(ha"}, {'~', "\\(ti"}};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        if (others[i].sign == sign) {
            (void)fputs(others[i].roff, file);
            return;
        }
    }
    (void)fputc(sign, file);
}

static void put(FILE *file, const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] == '.' && (i == 0 || text[i - 1] == '\n'))
            (void)fputs("\\&", file);
        put_sign(file, text[i]);
    }
}

static void put_text(FILE *file, const char *text)
{
    put(file, text, strlen(text));
}

// A paragraph, one source line for each line's worth of words, with places to break long ones.
static void put_paragraph(FILE *file, const char *text, size_t bytes)
{
    size_t column = 0;
    for (size_t i = 0; i < bytes;) {
        size_t piece = words_piece(text + i, bytes - i);
        put(file, text + i, piece);
        i += piece;
        column += piece;
        bool space = false;
        for (; i < bytes && (text[i] == ' ' || text[i] == '\n'); i++)
            space = true;
        if (i == bytes)
            break;
        if (space && column > WORDS_WIDTH) {
            (void)fputc('\n', file);
            column = 0;
            // A line must not begin as a command does.
            if (text[i] == '.')
                (void)fputs("\\&", file);
        } else {
            (void)fputs(space ? " " : "\\:", file);
        }
    }
    (void)fputc('\n', file);
}

static void begin_page(FILE *file, const char *title, const char *section, const char *chapter)
{
    (void)fputs(".\\\" Written by reco's build from the tables of its flags.\n.TH \"", file);
    for (const char *at = title; *at; at++)
        put_sign(file, (char)(*at >= 'a' && *at <= 'z' ? *at - 'a' + 'A' : *at));
    (void)fprintf(file, "\" %s \"\" \"reco " RECO_VERSION "\" \"%s\"\n", section, chapter);
    // Ragged on the right, no word divided: flags and JSON stay whole.
    (void)fputs(".nh\n.ad l\n", file);
}

static void begin_chapter(FILE *file, const char *name)
{
    (void)fprintf(file, ".SH \"%s\"\n", name);
}

static void put_name(FILE *file, const char *name, const char *summary)
{
    begin_chapter(file, "NAME");
    put_text(file, name);
    (void)fputs(" \\- ", file);
    put_text(file, summary);
    (void)fputc('\n', file);
}

// ".TP" with a bold tag and a text.
static void put_tagged(FILE *file, const char *tag, const char *text)
{
    (void)fputs(".TP\n.B \"", file);
    put_text(file, tag);
    (void)fputs("\"\n", file);
    put_paragraph(file, text, strlen(text));
}

// --- the parts of a page

static void put_details(FILE *file, const char *details)
{
    const char *at = details;
    struct help_block block;
    while (help_next_block(&at, &block)) {
        if (block.text != details)
            (void)fputs(".PP\n", file);
        if (!block.is_table) {
            put_paragraph(file, block.text, block.bytes);
            continue;
        }
        (void)fputs(".nf\n", file);
        put(file, block.text, block.bytes);
        (void)fputs("\n.fi\n", file);
    }
}

static void put_flag(FILE *file, const struct args_flag *flag)
{
    (void)fputs(".TP\n", file);
    if (flag->alias) {
        (void)fputs(".BR \"", file);
        put_text(file, flag->alias);
        (void)fputs("\" \", \" \"", file);
    } else {
        (void)fputs(".BR \"", file);
    }
    // Bold and roman take turns, so the space before the value belongs to the roman part.
    put_text(file, flag->name);
    (void)fputs(flag->argument ? "\" \" " : "\"", file);
    put_text(file, flag->argument ? flag->argument : "");
    (void)fputs(flag->argument ? "\"\n" : "\n", file);

    char text[HELP_TEXT_BYTES];
    help_flag_text(flag, text);
    put_paragraph(file, text, strlen(text));
}

static void put_flags(FILE *file, const struct args_verb *verb)
{
    struct args_walk walk = {.at = NULL};
    const struct args_flag *flag = args_next_flag(verb, &walk);
    if (flag)
        begin_chapter(file, "OPTIONS");
    for (; flag; flag = args_next_flag(verb, &walk))
        put_flag(file, flag);
}

static bool has_flag(const struct args_verb *verb, const char *name)
{
    struct args_walk walk = {.at = NULL};
    for (const struct args_flag *flag = args_next_flag(verb, &walk); flag;
         flag = args_next_flag(verb, &walk))
        if (strcmp(flag->name, name) == 0)
            return true;
    return false;
}

static void put_environment(FILE *file, bool data, bool device)
{
    begin_chapter(file, "ENVIRONMENT");
    if (data)
        put_tagged(file, "RECO_DATA",
                   "the data directory when --data is not given; without it "
                   "$XDG_DATA_HOME/reco, else ~/.local/share/reco");
    if (device)
        put_tagged(file, "XDG_CACHE_HOME",
                   "the folder in whose folder reco is kept what a Vulkan device's driver compiled "
                   "and whether its results are right; without it ~/.cache");
    put_tagged(file, "RECO_LOG",
               "error, warn, info or debug: the log, on stderr, of the parts that run inside a "
               "verb; without it only errors");
    put_tagged(
        file, "RECO_CPU",
        "scalar, or avx2 on x86, lowers what is used of the processor; answers stay the same");
    put_tagged(file, "RECO_GPU",
               "single keeps all of a GPU's arithmetic in single precision; half keeps weights in "
               "half precision also where the GPU has no cooperative matrices");
    put_tagged(file, "NO_COLOR", "when not empty, nothing is printed bold");
}

static void put_exit_status(FILE *file)
{
    begin_chapter(file, "EXIT STATUS");
    put_tagged(file, "0", "all done");
    put_tagged(file, "1",
               "an item failed and was named on stderr, or something is not as it must be");
    put_tagged(file, "2", "the command line is wrong");
    put_tagged(file, "3", "the cluster is unavailable, or the deadline passed");
}

static void put_reference(FILE *file, const char *name, const char *section, bool last)
{
    (void)fputs(".BR ", file);
    put_text(file, name);
    (void)fprintf(file, " (%s)%s\n", section, last ? "" : ",");
}

// --- pages

void manual_name(const struct verb *verb, char name[MANUAL_NAME_BYTES])
{
    (void)snprintf(name, MANUAL_NAME_BYTES, "reco-%s", verb->args.name);
    for (char *at = name; *at; at++)
        *at = (char)(*at == ' ' ? '-' : *at);
}

// The other verbs of the same chapter, and the page of all.
static void put_see_also(FILE *file, const struct verb *verb)
{
    char name[MANUAL_NAME_BYTES];
    begin_chapter(file, "SEE ALSO");
    for (size_t i = 0; i < verbs_count; i++) {
        if (verbs[i] == verb || strcmp(verbs[i]->chapter, verb->chapter) != 0)
            continue;
        manual_name(verbs[i], name);
        put_reference(file, name, "1", false);
    }
    put_reference(file, "reco", "1", true);
}

void manual_write_verb(const struct verb *verb, FILE *file)
{
    const struct args_verb *args = &verb->args;
    char name[MANUAL_NAME_BYTES];
    struct args_walk walk = {.at = NULL};
    bool has_flags = args_next_flag(args, &walk) != NULL;

    manual_name(verb, name);
    begin_page(file, name, "1", "reco");
    put_name(file, name, args->summary);
    begin_chapter(file, "SYNOPSIS");
    (void)fprintf(file, ".B \"reco %s\"\n", args->name);
    put_text(file, args->items);
    (void)fputs(has_flags ? " [flags]\n" : "\n", file);
    if (args->details[0]) {
        begin_chapter(file, "DESCRIPTION");
        put_details(file, args->details);
    }
    put_flags(file, args);
    put_exit_status(file);
    put_environment(file, has_flag(args, "--data"), has_flag(args, "--device"));
    put_see_also(file, verb);
}

static void put_verbs(FILE *file)
{
    const char *chapter = "";
    for (size_t i = 0; i < verbs_count; i++) {
        char name[MANUAL_NAME_BYTES];
        if (strcmp(chapter, verbs[i]->chapter) != 0) {
            chapter = verbs[i]->chapter;
            (void)fprintf(file, ".SS \"%s\"\n", chapter);
        }
        manual_name(verbs[i], name);
        (void)fputs(".TP\n", file);
        put_reference(file, name, "1", true);
        put_paragraph(file, verbs[i]->args.summary, strlen(verbs[i]->args.summary));
    }
}

void manual_write_program(FILE *file)
{
    static const char about[] =
        "reco gives CLIP a memory: it finds the nearest neighbours of a picture or a text among "
        "image-text pairs and refines its embedding with the other side of those pairs.\n\n"
        "Without --server a verb opens the data directory itself and does the work inside its own "
        "process; with --server HOST:PORT it asks a server. The answers are the same. A lone - "
        "among the items reads items from stdin, one per line; -- ends the flags. With --json "
        "stdout has one JSON object per line and nothing else.";

    begin_page(file, "reco", "1", "reco");
    put_name(file, "reco", "gives CLIP a memory");
    begin_chapter(file, "SYNOPSIS");
    (void)fputs(".B reco\nVERB [flags] [\\-\\-] [items]\n", file);
    begin_chapter(file, "DESCRIPTION");
    put_details(file, about);
    begin_chapter(file, "VERBS");
    put_verbs(file);
    put_exit_status(file);
    put_environment(file, true, true);
    begin_chapter(file, "SEE ALSO");
    for (size_t i = 0; settings_tables[i]; i++) {
        char name[MANUAL_NAME_BYTES];
        (void)snprintf(name, sizeof(name), "%s.ini", settings_tables[i]->program);
        put_reference(file, name, "5", false);
    }
    put_reference(file, "reco-coordinator", "8", false);
    put_reference(file, "reco-shard", "8", true);
}

// --- programs that a table configures

static void put_order(FILE *file)
{
    static const char order[] =
        "Every key is a line of the file, NAME = VALUE below its [SECTION], and the environment "
        "variable RECO_SECTION_NAME. A flag goes before a variable, which goes before the file. "
        "What no table knows is refused with the nearest name that one does.";
    put_paragraph(file, order, sizeof(order) - 1);
}

void manual_write_server(const struct config_table *table, FILE *file)
{
    static const char about[] = "a process of reco, configured by flags, environment and a file";
    char name[MANUAL_NAME_BYTES];
    struct program_flags flags;
    program_flags_read(table, &flags);

    begin_page(file, table->program, "8", "reco");
    put_name(file, table->program, about);
    begin_chapter(file, "SYNOPSIS");
    (void)fputs(".B ", file);
    put_text(file, table->program);
    (void)fputs("\n[flags]\n", file);
    begin_chapter(file, "DESCRIPTION");
    put_details(file, table->summary);
    (void)fputs(".PP\n", file);
    put_order(file);
    put_flags(file, &flags.verb);
    begin_chapter(file, "EXIT STATUS");
    put_tagged(file, "0", "it was told to end, and did");
    put_tagged(file, "1", "it cannot start");
    put_tagged(file, "2", "a flag, a variable or a line of the file is wrong");
    begin_chapter(file, "SEE ALSO");
    (void)snprintf(name, sizeof(name), "%s.ini", table->program);
    put_reference(file, name, "5", false);
    put_reference(file, "reco-up", "1", false);
    put_reference(file, "reco", "1", true);
}

static void put_key(FILE *file, const struct config_key *key)
{
    struct config_description words;
    config_describe(key, &words);
    put_tagged(file, key->name, words.help);
    (void)fputs(".IP\n", file);
    put_paragraph(file, words.facts, strlen(words.facts));
    if (words.danger[0]) {
        (void)fputs(".IP\n", file);
        put_paragraph(file, words.danger, strlen(words.danger));
    }
}

void manual_write_keys(const struct config_table *table, FILE *file)
{
    char name[MANUAL_NAME_BYTES];
    bool is_server = strchr(table->program, '-') != NULL;
    (void)snprintf(name, sizeof(name), "%s.ini", table->program);

    begin_page(file, name, "5", "reco");
    put_name(file, name, "the configuration file and the environment of one of reco's programs");
    begin_chapter(file, "DESCRIPTION");
    static const char about[] =
        "An INI file, named by --config FILE. --print-config prints what is in force and where it "
        "comes from; `reco config PROGRAM` prints an example with every key at its default.";
    put_paragraph(file, about, sizeof(about) - 1);
    (void)fputs(".PP\n", file);
    put_order(file);
    for (size_t i = 0; i < table->key_count; i++) {
        const struct config_key *key = &table->keys[i];
        if (i == 0 || strcmp(key->section, table->keys[i - 1].section) != 0)
            (void)fprintf(file, ".SH \"[%s]\"\n", key->section);
        put_key(file, key);
    }
    begin_chapter(file, "SEE ALSO");
    put_reference(file, "reco-config", "1", false);
    put_reference(file, table->program, is_server ? "8" : "1", true);
}
