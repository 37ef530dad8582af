// SPDX-License-Identifier: Apache-2.0
// reco_pages - writes what is installed beside the programs: manual pages and completion.
//
// usage: reco_pages DIR
// The build runs it; it is not installed. Below DIR is what belongs below share/.

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "proto/base/settings.h"
#include "proto/base/system_error.h"
#include "tools/completion.h"
#include "tools/manual.h"
#include "tools/program_flags.h"

#define PATH_BYTES 1024
#define NAME_BYTES (MANUAL_NAME_BYTES + 8)
#define BASH "bash-completion/completions"
#define ZSH "zsh/site-functions"
#define FISH "fish/vendor_completions.d"

// Opens DIR/FOLDER/NAME for writing and makes the two folders; NULL after a message.
static FILE *open_page(const char *top, const char *folder, const char *name)
{
    char path[PATH_BYTES];
    int bytes = snprintf(path, sizeof(path), "%s/%s/%s", top, folder, name);
    if (bytes < 0 || (size_t)bytes >= sizeof(path)) {
        (void)fprintf(stderr, "reco_pages: %s is too long\n", top);
        return NULL;
    }
    // A folder that is there already is what is wanted; anything else shows when opening.
    for (char *at = path + strlen(top); *at; at++) {
        if (*at != '/')
            continue;
        *at = '\0';
        (void)mkdir(path, 0777);
        *at = '/';
    }
    FILE *file = fopen(path, "we");
    if (!file)
        (void)fprintf(stderr, "reco_pages: %s: %s\n", path, SYSTEM_ERROR(errno));
    return file;
}

// NULL, which could not be opened, is no good page.
static bool close_page(FILE *file)
{
    if (!file)
        return false;
    bool good = !ferror(file);
    good = fclose(file) == 0 && good;
    if (!good)
        (void)fprintf(stderr, "reco_pages: a page cannot be written: %s\n", SYSTEM_ERROR(errno));
    return good;
}

static bool write_simple(const char *top, const char *folder, const char *name,
                         void (*write)(FILE *file))
{
    FILE *file = open_page(top, folder, name);
    if (file)
        write(file);
    return close_page(file);
}

static bool write_verb(const char *top, const struct verb *verb)
{
    char name[MANUAL_NAME_BYTES];
    char page[NAME_BYTES];
    manual_name(verb, name);
    (void)snprintf(page, sizeof(page), "%s.1", name);
    FILE *file = open_page(top, "man/man1", page);
    if (file)
        manual_write_verb(verb, file);
    return close_page(file);
}

static bool write_keys(const char *top, const struct config_table *table)
{
    char page[NAME_BYTES];
    (void)snprintf(page, sizeof(page), "%s.ini.5", table->program);
    FILE *file = open_page(top, "man/man5", page);
    if (file)
        manual_write_keys(table, file);
    return close_page(file);
}

// A program whose flags are all in its table; `reco` has verbs instead.
static bool write_server(const char *top, const struct config_table *table)
{
    static const struct {
        const char *folder, *before, *after; // the program's name
        void (*write)(const struct args_verb *program, FILE *file);
    } scripts[] = {{BASH, "", "", completion_write_bash_program},
                   {ZSH, "_", "", completion_write_zsh_program},
                   {FISH, "", ".fish", completion_write_fish_program}};
    char page[NAME_BYTES];
    struct program_flags flags;
    program_flags_read(table, &flags);

    (void)snprintf(page, sizeof(page), "%s.8", table->program);
    FILE *file = open_page(top, "man/man8", page);
    if (file)
        manual_write_server(table, file);
    bool good = close_page(file);
    for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
        (void)snprintf(page, sizeof(page), "%s%s%s", scripts[i].before, table->program,
                       scripts[i].after);
        file = open_page(top, scripts[i].folder, page);
        if (file)
            scripts[i].write(&flags.verb, file);
        good = close_page(file) && good;
    }
    return good;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        (void)fputs("usage: reco_pages DIR\n", stderr);
        return VERBS_USAGE;
    }
    const char *top = argv[1];
    bool good = write_simple(top, "man/man1", "reco.1", manual_write_program) &&
                write_simple(top, BASH, "reco", completion_write_bash) &&
                write_simple(top, ZSH, "_reco", completion_write_zsh) &&
                write_simple(top, FISH, "reco.fish", completion_write_fish);
    for (size_t i = 0; i < verbs_count && good; i++)
        good = write_verb(top, verbs[i]);
    for (size_t i = 0; settings_tables[i] && good; i++)
        good = write_keys(top, settings_tables[i]) &&
               (settings_tables[i] == &settings_client || write_server(top, settings_tables[i]));
    return good ? VERBS_DONE : VERBS_FAILED;
}
