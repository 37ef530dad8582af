// SPDX-License-Identifier: Apache-2.0
// What others have put into the folder (a program's own temporary files) is removed with it.

#include "tests/fuzz/scratch.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[64];

static void check(bool right)
{
    if (!right)
        abort();
}

static void remove_all(void)
{
    DIR *directory = opendir(folder);
    if (!directory)
        return;
    for (struct dirent *entry = readdir(directory); entry; entry = readdir(directory))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            scratch_remove(entry->d_name);
    (void)closedir(directory);
    (void)rmdir(folder);
}

const char *scratch_folder(void)
{
    if (folder[0])
        return folder;
    (void)snprintf(folder, sizeof(folder), "/dev/shm/reco-fuzz-XXXXXX");
    if (!mkdtemp(folder)) {
        (void)snprintf(folder, sizeof(folder), "/tmp/reco-fuzz-XXXXXX");
        check(mkdtemp(folder) != NULL);
    }
    check(atexit(remove_all) == 0);
    return folder;
}

static void path_of(const char *name, char out[SCRATCH_PATH_BYTES])
{
    const int bytes = snprintf(out, SCRATCH_PATH_BYTES, "%s/%s", scratch_folder(), name);
    check(bytes > 0 && bytes < SCRATCH_PATH_BYTES);
}

void scratch_write(const char *name, const void *data, size_t bytes)
{
    char path[SCRATCH_PATH_BYTES];
    path_of(name, path);
    FILE *file = fopen(path, "wb");
    check(file && fwrite(data, 1, bytes, file) == bytes);
    check(fclose(file) == 0);
}

void scratch_remove(const char *name)
{
    char path[SCRATCH_PATH_BYTES];
    path_of(name, path);
    (void)unlink(path);
}
