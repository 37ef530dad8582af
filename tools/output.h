// SPDX-License-Identifier: Apache-2.0
// output.h - what people read: errors and progress on stderr, tables on stdout.
//
// Texts of others (captions, keys, a server's reasons) lose their control characters
// before they reach a terminal. With --json nothing of this goes to stdout.
//
// Thread-safety: the main thread makes every call.

#ifndef RECO_TOOLS_OUTPUT_H
#define RECO_TOOLS_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/bytes.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"

// Once, before anything else: `verb` begins every line on stderr and stays the caller's.
void output_begin(const char *verb, bool quiet, bool verbose);

// "reco VERB: ITEM: FIELD: text". `item` and `why` may be NULL or empty.
void output_error(const char *item, const struct reason *why);

// A remark on stderr: unless --quiet; only with --verbose.
void output_note(const char *format, ...) PRINTF_LIKE(1, 2);
void output_step(const char *format, ...) PRINTF_LIKE(1, 2);

// The exit status for a status: 3 when the cluster is unavailable or the deadline passed,
// as gRPC counts it, so that a server's answer and this process' own count alike; else 1.
int output_exit(enum status status);

// Says that stdout cannot be written and why, unless its reader has gone, as head does behind its
// last line: true then.
bool output_stdout_failed(const char *cause);

// Makes the folder of --out unless it is there. STATUS_INVALID when that is a file, STATUS_IO.
enum status output_make_folder(const char *folder, struct reason *why) MUST_CHECK;

// Whether a file that a flag names can be written in the end: asked before work that takes long.
// Nothing is made or changed. STATUS_IO naming the flag, the path and what is allowed.
enum status output_check_file(const char *flag, const char *path, struct reason *why) MUST_CHECK;

// Prints to stdout with control characters as '?'.
void output_text(struct text text);

// "12.3 MB", "1,234,567", "3 min 12 s" in `out`, which is returned.
#define OUTPUT_FIGURE_BYTES 32
const char *output_bytes(uint64_t bytes, char out[OUTPUT_FIGURE_BYTES]);
const char *output_count(uint64_t count, char out[OUTPUT_FIGURE_BYTES]);
const char *output_seconds(double seconds, char out[OUTPUT_FIGURE_BYTES]);

// Bold on stdout between the two, when stdout is a terminal and NO_COLOR is not set.
const char *output_bold(void);
const char *output_plain(void);

// --- a table on stdout: cells in reading order, columns as wide as their widest cell. On a
// terminal
// that is narrower the last column is cut, or each row becomes lines of "HEADER  VALUE".

#define OUTPUT_COLUMNS_MAX 16

struct output_table {
    size_t columns;
    bool right[OUTPUT_COLUMNS_MAX]; // columns of numbers stand on the right
    char **cells;
    size_t count;
};

// `header` has `columns` texts; one that begins with '>' stands on the right.
void output_table_begin(struct output_table *table, const char *const *header, size_t columns);
void output_cell(struct output_table *table, const char *format, ...) PRINTF_LIKE(2, 3);
void output_cell_text(struct output_table *table, struct text text);
// Prints the table indented by `indent` and frees it.
void output_table_end(struct output_table *table, int indent);

// --- progress: one line on stderr that is written over, on a terminal only

#define OUTPUT_TAIL_BYTES 128

struct output_progress {
    const char *what; // "records"
    uint64_t total;   // 0: unknown
    uint64_t first;   // done before the start: no part of the rate
    int64_t start_us;
    int64_t shown_us;
    bool visible;
    char tail[OUTPUT_TAIL_BYTES]; // what the caller adds to the line; "" at first
};

void output_progress_begin(struct output_progress *progress, const char *what, uint64_t total);
void output_progress_update(struct output_progress *progress, uint64_t done, uint64_t failed);
void output_progress_end(struct output_progress *progress); // clears the line

#endif
