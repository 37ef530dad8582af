// SPDX-License-Identifier: Apache-2.0
// The folder is the one that the XDG base directory specification names.

#include "proto/base/cache_file.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool cache_file_folder(char folder[CACHE_FILE_FOLDER_BYTES])
{
    static const struct {
        const char *variable;
        const char *below;
    } places[] = {{"XDG_CACHE_HOME", ""}, {"HOME", "/.cache"}};

    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        // NOLINTNEXTLINE(concurrency-mt-unsafe): nobody here changes the environment
        const char *value = getenv(places[i].variable);
        if (!value || value[0] != '/') // the specification ignores relative ones
            continue;
        int bytes = snprintf(folder, CACHE_FILE_FOLDER_BYTES, "%s%s", value, places[i].below);
        if (bytes < 0 || (size_t)bytes + sizeof("/reco") > CACHE_FILE_FOLDER_BYTES)
            return false;
        (void)mkdir(folder, S_IRWXU);
        memcpy(folder + bytes, "/reco", sizeof("/reco"));
        (void)mkdir(folder, S_IRWXU);
        struct stat info;
        return stat(folder, &info) == 0 && S_ISDIR(info.st_mode);
    }
    return false;
}

bool cache_file_read(const char *path, size_t bytes_max, struct buffer *out)
{
    assert(path);
    assert(out);

    struct stat info;
    return lstat(path, &info) == 0 && S_ISREG(info.st_mode) && info.st_uid == geteuid() &&
           bytes_read_file(path, bytes_max, out) == STATUS_OK;
}
