// SPDX-License-Identifier: Apache-2.0
// npyfile.h - rows of numbers in NumPy's .npy files: reading by mmap, writing row by row.
//
// Read: versions 1.0, 2.0 and 3.0, '<f4' or '<f2', C order, one or two dimensions. Nothing
// of the header is believed: its length, its words and the file's size are checked
// before a number is read. Written: version 1.0, '<f4' or '<f2'.
//
// Thread-safety: an open reader may be used by many threads; a writer belongs to one.

#ifndef RECO_TOOLS_NPYFILE_H
#define RECO_TOOLS_NPYFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/bytes.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"

#define NPYFILE_HEADER_BYTES_MAX 65536u // of the text that describes the array
#define NPYFILE_RANK_MAX 4              // dimensions of an array that is written

struct npyfile;

struct npyfile_info {
    uint64_t rows; // 1 for an array of one dimension
    uint64_t columns;
    bool half; // '<f2'
};

// Reads the description of an array at the start of `data`; `file_bytes` is the size of the whole
// file. *offset is where the numbers begin. STATUS_INVALID saying what is wrong.
enum status npyfile_parse(struct bytes data, uint64_t file_bytes, struct npyfile_info *out,
                          size_t *offset, struct reason *why) MUST_CHECK;

// Maps a file. STATUS_NOT_FOUND, STATUS_IO, STATUS_INVALID. The caller ends *out with
// npyfile_close(). A file that is cut while it is mapped ends the program.
enum status npyfile_open(const char *path, struct npyfile **out, struct reason *why) MUST_CHECK;
void npyfile_close(struct npyfile **file); // NULL is allowed

const struct npyfile_info *npyfile_info(const struct npyfile *file);

// Row `row` as floats: [columns].
void npyfile_read_row(const struct npyfile *file, uint64_t row, float *out);

// --- writing

struct npyfile_writer;

// Begins a file of f32 rows [columns]; the number of rows is written by the end. The file appears
// under its name only then. STATUS_IO with the reason.
enum status npyfile_create(const char *path, size_t columns, struct npyfile_writer **out,
                           struct reason *why) MUST_CHECK;
// The same with f16 rows, to which the floats of a row are rounded.
enum status npyfile_create_half(const char *path, size_t columns, struct npyfile_writer **out,
                                struct reason *why) MUST_CHECK;
enum status npyfile_write_row(struct npyfile_writer *writer, const float *row,
                              struct reason *why) MUST_CHECK;
uint64_t npyfile_rows_written(const struct npyfile_writer *writer);

// Ends the file and gives it its name; *writer becomes NULL whatever comes.
enum status npyfile_finish(struct npyfile_writer **writer, struct reason *why) MUST_CHECK;

// Drops what was written; NULL is allowed.
void npyfile_abandon(struct npyfile_writer **writer);

// One whole array at once: shape[rank], C order.
enum status npyfile_save(const char *path, const float *values, const size_t *shape, size_t rank,
                         struct reason *why) MUST_CHECK;

#endif
