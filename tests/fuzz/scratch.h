// SPDX-License-Identifier: Apache-2.0
// scratch.h - one folder for the files of a fuzz target, which goes with the process.
//
// It lies in memory where there is /dev/shm: a target that waits for a disk sees few inputs.
// Every function aborts when the machine does not do as it is told.
//
// Thread-safety: none.

#ifndef RECO_TESTS_SCRATCH_H
#define RECO_TESTS_SCRATCH_H

#include <stddef.h>

#define SCRATCH_PATH_BYTES 256

// The folder, made by the first call.
const char *scratch_folder(void);

// A file in it, in place of what it held.
void scratch_write(const char *name, const void *data, size_t bytes);
void scratch_remove(const char *name); // which may be missing

#endif
