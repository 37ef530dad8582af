// SPDX-License-Identifier: Apache-2.0
// Control groups of version 2 are asked by the path in /proc/self/cgroup and all its parents, since
// any of them may be the tighter one; version 1 by its one mount point.

#include "proto/base/machine.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "proto/base/bytes.h"
#include "proto/base/log.h"

#define PROC_BYTES_MAX 65536u
#define PATH_BYTES 4096
#define STORE_FILES_MIN 64
#define STORE_FILES_MAX 1000000
#define OTHER_FILES 256 // sockets, row files, libraries

static void lower_to_file(const char *path, uint64_t *bytes)
{
    struct buffer file = {0};
    if (bytes_read_file(path, PROC_BYTES_MAX, &file) != STATUS_OK)
        return;
    char *end = NULL;
    const char *text = (const char *)file.data;
    const unsigned long long limit = strtoull(text, &end, 10); // "max" is no number
    if (end != text && limit > 0 && limit < *bytes)
        *bytes = limit;
    buffer_deinit(&file);
}

// `group` begins with '/' and is shortened from its end.
static void lower_to_groups(char *group, uint64_t *bytes)
{
    for (;;) {
        char path[PATH_BYTES];
        const int used = snprintf(path, sizeof(path), "/sys/fs/cgroup%s/memory.max", group);
        if (used > 0 && used < PATH_BYTES)
            lower_to_file(path, bytes);
        char *slash = strrchr(group, '/');
        if (!slash)
            return;
        *slash = '\0';
    }
}

uint64_t machine_memory_bytes(void)
{
    const long pages = sysconf(_SC_PHYS_PAGES);
    const long page_bytes = sysconf(_SC_PAGESIZE);
    uint64_t bytes =
        pages > 0 && page_bytes > 0 ? (uint64_t)pages * (uint64_t)page_bytes : UINT64_MAX;
    lower_to_file("/sys/fs/cgroup/memory/memory.limit_in_bytes", &bytes);
    struct buffer file = {0};
    if (bytes_read_file("/proc/self/cgroup", PROC_BYTES_MAX, &file) != STATUS_OK)
        return bytes;
    char *line = strstr((char *)file.data, "0::/");
    if (line) {
        line[strcspn(line, "\n")] = '\0';
        lower_to_groups(line + 3, &bytes);
    }
    buffer_deinit(&file);
    return bytes;
}

uint64_t machine_files(void)
{
    struct rlimit files;
    return getrlimit(RLIMIT_NOFILE, &files) == 0 ? files.rlim_cur : 0;
}

void machine_raise_files(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        return;
    const uint64_t before = files.rlim_cur;
    files.rlim_cur = files.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &files) != 0)
        files.rlim_cur = (rlim_t)before;
    log_info("open_files", "limit=%" PRIu64 " before=%" PRIu64, (uint64_t)files.rlim_cur, before);
}

int machine_store_files(void)
{
    const uint64_t files = machine_files();
    const uint64_t left = files > OTHER_FILES ? files - OTHER_FILES : 0;
    if (left > STORE_FILES_MAX)
        return STORE_FILES_MAX;
    return left > STORE_FILES_MIN ? (int)left : STORE_FILES_MIN;
}
