// SPDX-License-Identifier: Apache-2.0
// unit_rows.h - rows of unit length from .npy and .fvecs files, as a node keeps them and as
// queries.
//
// Thread-safety: one thread reads; what was read is plain data.

#ifndef RECO_TOOLS_UNIT_ROWS_H
#define RECO_TOOLS_UNIT_ROWS_H

#include <stddef.h>
#include <stdint.h>

#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "shard_node/rows_map.h"
#include "tools/npyfile.h"

// Rows as halves, with the slots that an index wants beside them.
struct unit_rows {
    uint32_t count;
    uint32_t dimension;
    uint16_t *halves;        // [count][dimension]
    struct rows_slot *slots; // [count]; a slot's id is its number
};

// Opens a file of at least one row. STATUS_INVALID for more rows or longer ones than an index
// takes, else as npyfile_open().
enum status unit_rows_open(const char *path, struct npyfile **out, struct reason *why) MUST_CHECK;

// Reads all rows of an open file; `path` is for errors. Slot i gets the file's row order[i], or row
// i when `order` is NULL. STATUS_INVALID for a row that is not of unit length, STATUS_NO_MEMORY;
// whatever comes, the caller ends *out with unit_rows_deinit().
enum status unit_rows_read(const char *path, const struct npyfile *file, const uint32_t *order,
                           struct unit_rows *out, struct reason *why) MUST_CHECK;
void unit_rows_deinit(struct unit_rows *rows);

// Reads the rows of a file as floats, [*count][dimension]; the caller frees *out. STATUS_INVALID
// also for rows of another dimension; both are unchanged after a failure.
enum status unit_rows_read_floats(const char *path, uint32_t dimension, float **out, size_t *count,
                                  struct reason *why) MUST_CHECK;

#endif
