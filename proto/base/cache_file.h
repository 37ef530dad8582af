// SPDX-License-Identifier: Apache-2.0
// cache_file.h - files that only save time, in $XDG_CACHE_HOME/reco or else ~/.cache/reco.
//
// Such a file may vanish at any time, and is never needed. Whoever reads one checks everything in
// it.
//
// Thread-safety: safe, while nobody changes the environment.

#ifndef RECO_PROTO_BASE_CACHE_FILE_H
#define RECO_PROTO_BASE_CACHE_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/base/bytes.h"

#define CACHE_FILE_FOLDER_BYTES 3072
#define CACHE_FILE_PATH_BYTES 4096

// Finds the folder, and makes it when it is not there. False where neither can be.
bool cache_file_folder(char folder[CACHE_FILE_FOLDER_BYTES]);

// Reads a file, as bytes_read_file() does. False when there is none of at most `bytes_max`, or when
// it is a link or another user's.
bool cache_file_read(const char *path, size_t bytes_max, struct buffer *out);

#endif
