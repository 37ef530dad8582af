// SPDX-License-Identifier: Apache-2.0
// inputs.h - the items of a verb one by one, lines of stdin among them, and picture files.
//
// Thread-safety: none; inputs belong to one thread.

#ifndef RECO_TOOLS_INPUTS_H
#define RECO_TOOLS_INPUTS_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/base/bytes.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "tools/args.h"

struct inputs {
    const struct args_list *list;
    bool skip_empty; // lines of stdin that are empty are no items (for paths)
    size_t at;       // next of the list
    bool in_stdin;
    char *line;
};

void inputs_init(struct inputs *inputs, const struct args_list *list, bool skip_empty);
void inputs_deinit(struct inputs *inputs);

// The next item, valid until the next call; NULL at the end. "-" stands for the lines of
// stdin, without their ends.
const char *inputs_next(struct inputs *inputs);

// Texts travel as UTF-8 only. STATUS_INVALID with the reason for any other bytes.
enum status inputs_check_text(const char *item, struct reason *why) MUST_CHECK;

// Reads a picture file of at most IMAGE_BYTES_MAX; the caller ends *out with buffer_deinit().
// STATUS_NOT_FOUND, STATUS_IO, STATUS_INVALID, STATUS_NO_MEMORY, all with the reason.
enum status inputs_read_picture(const char *path, struct buffer *out,
                                struct reason *why) MUST_CHECK;

// The same for any file, with its limit.
enum status inputs_read_file(const char *path, size_t bytes_max, struct buffer *out,
                             struct reason *why) MUST_CHECK;

#endif
