// SPDX-License-Identifier: Apache-2.0
// rowfile.h - rows of a .csv, .tsv or .jsonl file, or of stdin, one after the other.
//
// CSV is RFC 4180's: fields with commas, line ends or quotes stand in quotes, a quote in them is
// doubled. TSV is the same with tabs. JSONL has a line of JSON in a row. A byte order mark at
// the start and empty lines count for nothing; a line may end in CR LF.
//
// Memory is bounded whatever the file holds: a longer row is passed over and told.
//
// Thread-safety: none.

#ifndef RECO_TOOLS_ROWFILE_H
#define RECO_TOOLS_ROWFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/bytes.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"

#define ROWFILE_ROW_BYTES_MAX ((size_t)1 << 20)
#define ROWFILE_FIELDS_MAX 1024

enum rowfile_format {
    ROWFILE_CSV,
    ROWFILE_TSV,
    ROWFILE_JSONL,
};

enum rowfile_step {
    ROWFILE_ROW,
    ROWFILE_BAD, // this row is passed over, with the reason; the next one can be read
    ROWFILE_END,
};

struct rowfile_row {
    uint64_t line;             // where it begins, from 1
    const struct text *fields; // until the next call; JSONL: one, the whole line
    size_t count;
};

struct rowfile;

// Opens a regular file, or stdin for "-". STATUS_NOT_FOUND, STATUS_IO, STATUS_INVALID.
enum status rowfile_open(const char *path, enum rowfile_format format, struct rowfile **out,
                         struct reason *why) MUST_CHECK;
void rowfile_close(struct rowfile **file); // NULL is allowed

// The next row. ROWFILE_BAD sets out->line and `why`.
enum rowfile_step rowfile_next(struct rowfile *file, struct rowfile_row *out, struct reason *why);

// Whether empty lines are rows too: metadata has a line for each row of an array.
void rowfile_keep_empty(struct rowfile *file);

#endif
