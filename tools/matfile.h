// SPDX-License-Identifier: Apache-2.0
// matfile.h - what data sets keep in .mat files: whole numbers, lists of texts, tables.
//
// MATLAB's version 5 (save -v6, save -v7, scipy.io.savemat), which every data set's file is;
// version 7.3 is another format (HDF5) and refused, as is what no data set needs. Nothing in a file
// is believed.
//
// Thread-safety: none; a file belongs to one thread.

#ifndef RECO_TOOLS_MATFILE_H
#define RECO_TOOLS_MATFILE_H

#include <stddef.h>
#include <stdint.h>

#include "proto/base/bytes.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"

#define MATFILE_BYTES_MAX ((size_t)64 << 20)
#define MATFILE_ELEMENTS_MAX ((size_t)4 << 20) // of a variable; rows times fields of a table
#define MATFILE_TEXT_BYTES_MAX 4096

struct matfile;

// Opens a regular file. STATUS_NOT_FOUND, STATUS_IO, STATUS_UNSUPPORTED, STATUS_INVALID with the
// file as field, as all that follow.
enum status matfile_open(const char *path, struct matfile **out, struct reason *why) MUST_CHECK;
void matfile_close(struct matfile **file); // NULL is allowed

// A row or column of whole numbers. The caller frees *out with mem_free().
enum status matfile_numbers(struct matfile *file, const char *name, uint32_t **out, size_t *count,
                            struct reason *why) MUST_CHECK;

// A list of texts, or a table with named columns: a cell array, or an array of structs. One at a
// time: the next variable takes its place.
enum status matfile_read_list(struct matfile *file, const char *name, size_t *count,
                              struct reason *why) MUST_CHECK;
enum status matfile_read_table(struct matfile *file, const char *name, size_t *rows,
                               struct reason *why) MUST_CHECK;

// One element of what was read last and without failing; `column` NULL: of a list. A text is copied
// with a NUL behind it.
enum status matfile_text(struct matfile *file, const char *column, size_t row,
                         char out[MATFILE_TEXT_BYTES_MAX], struct reason *why) MUST_CHECK;
enum status matfile_number(struct matfile *file, const char *column, size_t row, uint32_t *out,
                           struct reason *why) MUST_CHECK;

#endif
