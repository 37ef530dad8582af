// SPDX-License-Identifier: Apache-2.0
// reason.h - says why something failed, in words for the person who asked for it.
//
// A function that judges what came from outside (a client, a file, a flag) takes
// `struct reason *why`. On failure it writes the field, the value and what is
// allowed. On success it leaves `why` alone. NULL is always a valid `why`.
//
// Thread-safety: none; a reason belongs to the caller.

#ifndef RECO_PROTO_BASE_REASON_H
#define RECO_PROTO_BASE_REASON_H

#include "proto/base/status.h"

#define REASON_FIELD_BYTES 256 // including the final NUL
#define REASON_TEXT_BYTES 448

struct reason {
    // "k", "images[3]", "config.json: hidden_act"; "" when no one field is to blame
    char field[REASON_FIELD_BYTES];
    char text[REASON_TEXT_BYTES]; // one line: what was wrong, with which value, and what is allowed
};

// Writes field and text (printf format, cut at the text's end and, since the end
// of a path says more, at the field's start, which then is "..."; at a UTF-8
// boundary, control characters replaced by '?') and returns `status`, so that a
// check can end with: return reason_set(why, STATUS_INVALID, "k", "...", k);
// `why` may be NULL; `field` may be NULL for "".
enum status reason_set(struct reason *why, enum status status, const char *field,
                       const char *format, ...) PRINTF_LIKE(4, 5);

#endif
