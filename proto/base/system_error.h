// SPDX-License-Identifier: Apache-2.0
// system_error.h - the text of an errno, from any thread.
//
// Thread-safety: pure.

#ifndef RECO_PROTO_BASE_SYSTEM_ERROR_H
#define RECO_PROTO_BASE_SYSTEM_ERROR_H

#define SYSTEM_ERROR_BYTES 128

// Writes the text and returns it: "No such file or directory".
const char *system_error(int error, char text[SYSTEM_ERROR_BYTES]);

// The same in a place of its own that lives as long as the block around it.
#define SYSTEM_ERROR(error) system_error((error), (char[SYSTEM_ERROR_BYTES]){0})

#endif
