// SPDX-License-Identifier: Apache-2.0
// POSIX' strerror_r(), which unlike strerror() shares nothing between threads.

#include "shard_node/disk_error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum status disk_error(const char *field, const char *doing, const char *path, struct reason *why)
{
    const int error = errno;
    char text[128];
    if (strerror_r(error, text, sizeof(text)) != 0)
        (void)snprintf(text, sizeof(text), "error %d", error);
    return reason_set(why, STATUS_IO, field, "cannot %s %s: %s", doing, path, text);
}
