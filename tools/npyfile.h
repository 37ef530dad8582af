// SPDX-License-Identifier: Apache-2.0
// npyfile.h - rows of numbers in NumPy's .npy files: reading by mmap, writing row by row.
//
// Read: versions 1.0, 2.0 and 3.0, '<f4' or '<f2', C order, one or two dimensions; ids also as
// '<i4' or '<i8'. Nothing of the header is believed: its length, its words and the file's size
// are checked before a number is read. Written: version 1.0, '<f4' or '<f2'.
//
// A file whose name ends with .fvecs is read too: each row has its number of columns, a 32-bit
// integer, in front.
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

enum npyfile_type {
    NPYFILE_F32,
    NPYFILE_F16,
    NPYFILE_I32,
    NPYFILE_I64,
};

struct npyfile_info {
    uint64_t rows; // 1 for an array of one dimension
    uint64_t columns;
    enum npyfile_type type;
};

// Bytes of one number.
size_t npyfile_type_bytes(enum npyfile_type type);

// Reads the description of an array at the start of `data`; `file_bytes` is the size of the whole
// file. *offset is where the numbers begin. STATUS_INVALID saying what is wrong.
enum status npyfile_parse(struct bytes data, uint64_t file_bytes, struct npyfile_info *out,
                          size_t *offset, struct reason *why) MUST_CHECK;

// The same for the whole of an .fvecs file: every row has as many columns as the first.
enum status npyfile_parse_fvecs(struct bytes data, struct npyfile_info *out,
                                struct reason *why) MUST_CHECK;

// Maps a file of floats or halves. STATUS_NOT_FOUND, STATUS_IO, STATUS_INVALID. The caller ends
// *out with npyfile_close(). A file that is cut while it is mapped ends the program.
enum status npyfile_open(const char *path, struct npyfile **out, struct reason *why) MUST_CHECK;
// The same for a .npy file of whole numbers.
enum status npyfile_open_ids(const char *path, struct npyfile **out, struct reason *why) MUST_CHECK;
void npyfile_close(struct npyfile **file); // NULL is allowed

const struct npyfile_info *npyfile_info(const struct npyfile *file);

// Row `row` as floats: [columns].
void npyfile_read_row(const struct npyfile *file, uint64_t row, float *out);
// Number `column` of row `row` of a file of ids.
int64_t npyfile_read_id(const struct npyfile *file, uint64_t row, uint64_t column);

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
