// SPDX-License-Identifier: Apache-2.0
// One sentence for every failed call on a file.

#include "shard_node/disk_error.h"

#include <errno.h>

#include "proto/base/system_error.h"

enum status disk_error(const char *field, const char *doing, const char *path, struct reason *why)
{
    const int error = errno;
    return reason_set(why, STATUS_IO, field, "cannot %s %s: %s", doing, path, SYSTEM_ERROR(error));
}
