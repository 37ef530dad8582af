// SPDX-License-Identifier: Apache-2.0
// label_file.h - labels with their aliases from a text file.
//
// One label per line; further columns, separated by tabs, are aliases: other names of the
// same thing. '#' at the start of a line makes it a comment; empty lines count for nothing.
// A label scores what the best of its names scores.
//
// Thread-safety: a read file never changes.

#ifndef RECO_TOOLS_LABEL_FILE_H
#define RECO_TOOLS_LABEL_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "proto/base/bytes.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "proto/wire/api.h"

#define LABEL_FILE_BYTES_MAX ((size_t)32 << 20)
#define LABEL_FILE_NAMES_PER_LABEL_MAX 64

struct label_file {
    struct text *names; // every name of every label, in the order of the file
    uint32_t *label_of; // names[i] is one of label_of[i]'s
    size_t name_count;
    struct text *labels; // the first name of each label
    size_t label_count;
    size_t aliases_max; // names of the label that has most
    char *data;         // what all texts point into
};

// Reads a file, or stdin for "-". STATUS_NOT_FOUND, STATUS_IO; STATUS_INVALID naming the line: too
// long or not UTF-8, a name that comes twice, no label at all, more than LABELS_MAX names.
enum status label_file_read(const char *path, struct label_file *out,
                            struct reason *why) MUST_CHECK;

// The same from memory.
enum status label_file_parse(struct bytes data, struct label_file *out,
                             struct reason *why) MUST_CHECK;

// Labels as other programs list them: each line is one as it stands, without aliases or comments,
// and may come twice, since it is known by its place. STATUS_INVALID also for an empty line before
// the last label.
enum status label_file_parse_plain(struct bytes data, struct label_file *out,
                                   struct reason *why) MUST_CHECK;
enum status label_file_read_plain(const char *path, struct label_file *out,
                                  struct reason *why) MUST_CHECK;

// Frees and zeroes; a zeroed one is allowed.
void label_file_deinit(struct label_file *file);

// From an answer's names, best first, the `top` best labels: each with the score of the first of
// its names. Writes at most `top` to labels and scores and returns how many. A name that is in no
// line is passed over.
size_t label_file_rank(const struct label_file *file, const struct api_labels *names, size_t top,
                       struct text *labels, float *scores);

#endif
