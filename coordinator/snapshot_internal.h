// SPDX-License-Identifier: Apache-2.0
// snapshot_internal.h - what snapshot_write.c and snapshot_read.c share.

#ifndef RECO_COORDINATOR_SNAPSHOT_INTERNAL_H
#define RECO_COORDINATOR_SNAPSHOT_INTERNAL_H

#include "coordinator/snapshot_files.h"
#include "proto/base/hash.h"

#define SNAPSHOT_MANIFEST "manifest.json"
// The manifest ends with its own SHA-256, of all before the comma: ,"sha256":"..."}
#define SNAPSHOT_TAIL_BYTES (11 + 64 + 2)
#define SNAPSHOT_KIND "reco snapshot"
#define SNAPSHOT_MAGIC "reco records 1\n" // and its NUL
#define SNAPSHOT_MAGIC_BYTES 16
#define SNAPSHOT_NAME_BYTES 40

void snapshot_sha256(struct bytes data, char out[HASH_SHA256_HEX_BYTES]);
void snapshot_file_name(size_t index, char out[SNAPSHOT_NAME_BYTES]);

// What errno says, with the snapshot's name; a full disk is STATUS_EXHAUSTED.
enum status snapshot_error(const struct snapshot_place *place, const char *file, const char *doing,
                           struct reason *why) MUST_CHECK;

// Opens the folder, which `create` may make; *made tells. It is locked for as long as *fd is open.
enum status snapshot_open_folder(const struct snapshot_place *place, bool create, int *fd,
                                 bool *made, struct reason *why) MUST_CHECK;

#endif
