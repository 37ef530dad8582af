// SPDX-License-Identifier: Apache-2.0
// Goal: what only saves time is looked for where people expect it, and a file that somebody else
// could have laid there is not read.
//
// Method: a folder of its own as $XDG_CACHE_HOME; files, links and folders in it.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/cache_file.h"

static char own[] = "/tmp/reco-cache-XXXXXX";

static void begin(void)
{
    cr_assert(mkdtemp(own) != NULL);
    cr_assert(eq(int, setenv("XDG_CACHE_HOME", own, 1), 0));
}

static void end(void)
{
    char command[sizeof(own) + 16];
    (void)snprintf(command, sizeof(command), "rm -r %s", own);
    cr_expect(eq(int, system(command), 0));
}

Test(cache_file, the_folder_is_below_what_the_environment_names, .init = begin, .fini = end)
{
    char folder[CACHE_FILE_FOLDER_BYTES];
    char wanted[CACHE_FILE_FOLDER_BYTES];
    struct stat about;
    (void)snprintf(wanted, sizeof(wanted), "%s/reco", own);
    cr_assert(cache_file_folder(folder));
    cr_expect(strcmp(folder, wanted) == 0, "%s", folder);
    cr_expect(eq(int, stat(folder, &about), 0));
    cr_expect(eq(int, (int)(about.st_mode & 0777u), 0700));

    (void)snprintf(wanted, sizeof(wanted), "%s/.cache/reco", own);
    cr_assert(eq(int, setenv("HOME", own, 1), 0));
    cr_assert(eq(int, setenv("XDG_CACHE_HOME", "relative", 1), 0));
    cr_assert(cache_file_folder(folder));
    cr_expect(strcmp(folder, wanted) == 0, "%s", folder);

    cr_assert(eq(int, setenv("XDG_CACHE_HOME", "/dev/null", 1), 0));
    cr_expect(not(cache_file_folder(folder)));
}

Test(cache_file, reads_a_file_of_its_own_and_nothing_else, .init = begin, .fini = end)
{
    char file[64];
    char link[64];
    struct buffer content = {0};
    (void)snprintf(file, sizeof(file), "%s/file", own);
    (void)snprintf(link, sizeof(link), "%s/link", own);
    cr_assert(eq(int, bytes_replace_file(file, "abc", 3), STATUS_OK));
    cr_assert(eq(int, symlink(file, link), 0));
    cr_expect(not(cache_file_read(link, 100, &content)));
    cr_expect(not(cache_file_read(own, 100, &content)));
    cr_expect(not(cache_file_read("/tmp/reco-cache-none", 100, &content)));
    cr_expect(not(cache_file_read(file, 2, &content)));
    cr_expect(eq(ptr, content.data, NULL));
    cr_assert(cache_file_read(file, 3, &content));
    cr_expect(eq(sz, content.count, 3));
    buffer_deinit(&content);
}
