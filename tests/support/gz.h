// SPDX-License-Identifier: Apache-2.0
// gz.h - reads gzip files, in which goldens are kept; zlib is used by tests only.
//
// For tests: every problem ends the program with a message.
//
// Thread-safety: pure.

#ifndef RECO_TESTS_SUPPORT_GZ_H
#define RECO_TESTS_SUPPORT_GZ_H

#include <stddef.h>
#include <stdint.h>

struct gz {
    uint8_t *data; // with a NUL behind; freed by gz_free()
    size_t count;
};

// Reads a whole file; one that is not compressed is read as it is.
void gz_read(const char *path, struct gz *out);
void gz_free(struct gz *file);

// The array of a .npy file (version 1.0, C order) of `type` ("<f4", "|u1") that must have
// `bytes` bytes; valid as long as the file.
const void *gz_npy(const struct gz *file, const char *type, size_t bytes);

#endif
