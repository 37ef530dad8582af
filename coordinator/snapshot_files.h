// SPDX-License-Identifier: Apache-2.0
// snapshot_files.h - a snapshot as files of one folder.
//
//   records-0.bin ...  16 bytes "reco records 1\n\0", then packed records (proto/wire/packed.h) one
//                      after the other, in no order that means anything; a new file after 1 GiB
//   manifest.json      written last: what the snapshot is, the content hash, bytes and SHA-256 of
//                      each file
//
// A folder without a manifest is no snapshot: it is one that was not finished, and may be written
// anew. Nothing that is read is believed: names, counts, lengths, checksums, every record.
//
// Thread-safety: none; one thread at a time.

#ifndef RECO_COORDINATOR_SNAPSHOT_FILES_H
#define RECO_COORDINATOR_SNAPSHOT_FILES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/bytes.h"
#include "proto/base/limits.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "proto/wire/packed.h"

#define SNAPSHOT_FORMAT 1
#define SNAPSHOT_FILES_MAX 65536u
#define SNAPSHOT_PATH_BYTES (PATH_BYTES_MAX + 1)

// With a base folder (made when missing), `name` is a folder in it: letters, digits, '.', '_' and
// '-', the first a letter or digit, and never a link. Without, it is a path.
struct snapshot_place {
    const char *base;
    const char *name;
    uint64_t file_bytes_max; // 0: 1 GiB; a file is ended after the record that reaches it
};

struct snapshot_about {
    char memory[MEMORY_NAME_BYTES_MAX + 1];
    char space[SPACE_BYTES_MAX + 1];
    uint32_t generation;
    uint32_t dimension;
    uint32_t vshards;
    uint64_t records;
    uint64_t hidden;
    char content_hash[PACKED_DIGEST_HEX_BYTES];
    uint64_t bytes; // of all files but the manifest
};

// STATUS_INVALID for a name that is none.
enum status snapshot_check_name(struct text name, struct reason *why) MUST_CHECK;

// --- writing

struct snapshot_writer;

// Makes the folder. STATUS_ALREADY_EXISTS when there is a snapshot or anything else in it,
// STATUS_FAILED_PRECONDITION while somebody else uses it, STATUS_EXHAUSTED (disk full), STATUS_IO.
enum status snapshot_writer_open(const struct snapshot_place *place, struct snapshot_writer **out,
                                 struct reason *why) MUST_CHECK;

// Whole packed records.
enum status snapshot_write(struct snapshot_writer *writer, struct bytes packed,
                           struct reason *why) MUST_CHECK;

// Makes everything durable, the manifest last. Counts, hash and bytes of `about` are filled in.
enum status snapshot_finish(struct snapshot_writer *writer, struct snapshot_about *about,
                            struct reason *why) MUST_CHECK;

// Ends it; what was not finished is removed. NULL is allowed.
void snapshot_writer_close(struct snapshot_writer **writer);

// --- reading

struct snapshot_reader;

// Reads the manifest and every file once, checksums and all, before it says that a snapshot is one.
// `stop` (may be NULL) ends that early with STATUS_CANCELLED. STATUS_NOT_FOUND; STATUS_CORRUPT
// naming file and reason; STATUS_FAILED_PRECONDITION for a newer format or one that is being
// written; STATUS_IO.
enum status snapshot_reader_open(const struct snapshot_place *place, const atomic_bool *stop,
                                 struct snapshot_reader **out, struct reason *why) MUST_CHECK;
void snapshot_reader_close(struct snapshot_reader **reader); // NULL is allowed

const struct snapshot_about *snapshot_about(const struct snapshot_reader *reader);

// The next records, at most `most` and 8 MiB or a little more; valid until the next call. *count is
// 0 behind the last. STATUS_CORRUPT, STATUS_IO.
enum status snapshot_read(struct snapshot_reader *reader, size_t most, struct bytes *packed,
                          size_t *count, struct reason *why) MUST_CHECK;

// --- for the fuzz target

struct snapshot_file {
    uint64_t bytes;
    char sha256[65];
};

// The manifest as a text. *files is freed by mem_free().
enum status snapshot_parse_manifest(struct bytes manifest, struct snapshot_about *out,
                                    struct snapshot_file **files, size_t *count,
                                    struct reason *why) MUST_CHECK;

#endif
