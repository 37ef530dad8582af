// SPDX-License-Identifier: Apache-2.0
// One sentence for every failed call on a file.

#include "shard_node/disk_error.h"

#include <errno.h>
#include <stdbool.h>

#include "proto/base/system_error.h"

enum status disk_error(const char *field, const char *doing, const char *path, struct reason *why)
{
    const int error = errno;
    const bool full = error == ENOSPC || error == EDQUOT;
    return reason_set(why, full ? STATUS_EXHAUSTED : STATUS_IO, field, "cannot %s %s: %s", doing,
                      path, SYSTEM_ERROR(error));
}
