// SPDX-License-Identifier: Apache-2.0
// reco_pages - writes what is installed beside the programs: manual pages and completion.
//
// usage: reco_pages DIR
// The build runs it; it is not installed. Below DIR: man/man1, bash-completion/completions,
// zsh/site-functions, fish/vendor_completions.d.

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "proto/base/system_error.h"
#include "tools/completion.h"
#include "tools/manual.h"

#define PATH_BYTES 1024

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

static bool close_page(FILE *file)
{
    bool good = !ferror(file);
    good = fclose(file) == 0 && good;
    if (!good)
        (void)fprintf(stderr, "reco_pages: a page cannot be written: %s\n", SYSTEM_ERROR(errno));
    return good;
}

static bool write_page(const char *top, const char *folder, const char *name,
                       void (*write)(FILE *file))
{
    FILE *file = open_page(top, folder, name);
    if (!file)
        return false;
    write(file);
    return close_page(file);
}

static bool write_verb(const char *top, const struct verb *verb)
{
    char name[MANUAL_NAME_BYTES];
    char page[MANUAL_NAME_BYTES + 2];
    manual_name(verb, name);
    (void)snprintf(page, sizeof(page), "%s.1", name);
    FILE *file = open_page(top, "man/man1", page);
    if (!file)
        return false;
    manual_write_verb(verb, file);
    return close_page(file);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        (void)fputs("usage: reco_pages DIR\n", stderr);
        return VERBS_USAGE;
    }
    const char *top = argv[1];
    bool good = write_page(top, "man/man1", "reco.1", manual_write_program) &&
                write_page(top, "bash-completion/completions", "reco", completion_write_bash) &&
                write_page(top, "zsh/site-functions", "_reco", completion_write_zsh) &&
                write_page(top, "fish/vendor_completions.d", "reco.fish", completion_write_fish);
    for (size_t i = 0; i < verbs_count && good; i++)
        good = write_verb(top, verbs[i]);
    return good ? VERBS_DONE : VERBS_FAILED;
}
