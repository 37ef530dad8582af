// SPDX-License-Identifier: Apache-2.0
// system_error.h - the text of an errno, from any thread.
//
// Thread-safety: pure.

#ifndef RECO_PROTO_BASE_SYSTEM_ERROR_H
#define RECO_PROTO_BASE_SYSTEM_ERROR_H

#include "proto/base/status.h"

#define SYSTEM_ERROR_BYTES 128

// Writes the text and returns it: "No such file or directory".
const char *system_error(int error, char text[SYSTEM_ERROR_BYTES]);

// The same in a place of its own that lives as long as the block around it.
#define SYSTEM_ERROR(error) system_error((error), (char[SYSTEM_ERROR_BYTES]){0})

// What a failed bytes_read_file() or bytes_replace_file() says to people, while errno is its own:
// the system's words for STATUS_IO, else the status'.
const char *system_trouble(enum status status, char text[SYSTEM_ERROR_BYTES]);
#define SYSTEM_TROUBLE(status) system_trouble((status), (char[SYSTEM_ERROR_BYTES]){0})

#endif
