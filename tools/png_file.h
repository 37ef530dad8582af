// SPDX-License-Identifier: Apache-2.0
// png_file.h - RGB pictures as PNG, not compressed: for small ones, without a library.
//
// Thread-safety: pure.

#ifndef RECO_TOOLS_PNG_FILE_H
#define RECO_TOOLS_PNG_FILE_H

#include <stdint.h>

#include "proto/base/bytes.h"
#include "proto/base/status.h"

#define PNG_FILE_EDGE_MAX 4096u

// Appends rgb[height][width][3] as a file to *out; both edges 1..PNG_FILE_EDGE_MAX.
// STATUS_NO_MEMORY.
enum status png_file_append(const uint8_t *rgb, uint32_t width, uint32_t height,
                            struct buffer *out) MUST_CHECK;

#endif
