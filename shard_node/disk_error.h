// SPDX-License-Identifier: Apache-2.0
// disk_error.h - an error of the file system in words.
//
// Thread-safety: safe.

#ifndef RECO_SHARD_NODE_DISK_ERROR_H
#define RECO_SHARD_NODE_DISK_ERROR_H

#include "proto/base/reason.h"
#include "proto/base/status.h"

// Writes "cannot DOING PATH: what errno says" and returns STATUS_IO; STATUS_EXHAUSTED
// when there was no space.
enum status disk_error(const char *field, const char *doing, const char *path, struct reason *why);

#endif
