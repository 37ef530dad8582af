// SPDX-License-Identifier: Apache-2.0
// A try that found no space wrote a file of its own, which is gone: the second try writes another
// one, so no fsync is repeated.

#include "coordinator/meta_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/bytes.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

#define SUFFIX ".reserve"
#define RESERVE_LEAST (64u << 10)

static bool found_no_space(enum status status)
{
    return status == STATUS_IO && (errno == ENOSPC || errno == EDQUOT);
}

// What is kept back is enough for the next file of twice the size.
static void keep_back(const char *reserve, size_t bytes)
{
    const int fd = open(reserve, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    const size_t wanted = 2 * bytes > RESERVE_LEAST ? 2 * bytes : RESERVE_LEAST;
    const bool kept = posix_fallocate(fd, 0, (off_t)wanted) == 0;
    (void)close(fd);
    if (!kept)
        (void)unlink(reserve); // tried again with the next change
}

enum status meta_file_replace(const char *path, const void *data, size_t bytes, struct reason *why)
{
    const size_t length = strlen(path);
    char *reserve = mem_alloc(length + sizeof(SUFFIX));
    memcpy(reserve, path, length);
    memcpy(reserve + length, SUFFIX, sizeof(SUFFIX));

    enum status status = bytes_replace_file(path, data, bytes);
    bool full = found_no_space(status);
    if (full && unlink(reserve) == 0) {
        log_warn("meta_reserve_used", "path=%s", path);
        status = bytes_replace_file(path, data, bytes);
        full = found_no_space(status);
    }
    if (status == STATUS_OK)
        keep_back(reserve, bytes);
    mem_free(reserve);
    if (full)
        return reason_set(why, STATUS_EXHAUSTED, "data", "%s: its disk has no space left", path);
    return status == STATUS_OK ? STATUS_OK
                               : reason_set(why, status, "data", "cannot write %s", path);
}
