// SPDX-License-Identifier: Apache-2.0
// meta_file.h - puts meta.json in its place, also on a disk that is full.
//
// Dropping a memory frees space, so it must be possible when there is none: a little is kept back
// in a file beside it.
//
// Thread-safety: none.

#ifndef RECO_COORDINATOR_META_FILE_H
#define RECO_COORDINATOR_META_FILE_H

#include <stddef.h>

#include "proto/base/reason.h"
#include "proto/base/status.h"

// Replaces the file whole and durably, or leaves it as it was. STATUS_EXHAUSTED: the disk is full
// and what was kept back is used up; STATUS_IO.
enum status meta_file_replace(const char *path, const void *data, size_t bytes,
                              struct reason *why) MUST_CHECK;

#endif
