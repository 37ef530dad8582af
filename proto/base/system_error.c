// SPDX-License-Identifier: Apache-2.0
// POSIX' strerror_r(), which unlike strerror() shares nothing between threads.

#include "proto/base/system_error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

const char *system_error(int error, char text[SYSTEM_ERROR_BYTES])
{
    if (strerror_r(error, text, SYSTEM_ERROR_BYTES) != 0)
        (void)snprintf(text, SYSTEM_ERROR_BYTES, "errno %d", error);
    return text;
}

const char *system_trouble(enum status status, char text[SYSTEM_ERROR_BYTES])
{
    if (status != STATUS_IO)
        return status_text(status);
    return errno == ESPIPE ? "is a pipe or device, not a file" : system_error(errno, text);
}
