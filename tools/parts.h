// SPDX-License-Identifier: Apache-2.0
// parts.h - the flags --part KIND=VALUE@WEIGHT as the parts of one weighted query.
//
// Thread-safety: none.

#ifndef RECO_TOOLS_PARTS_H
#define RECO_TOOLS_PARTS_H

#include "proto/base/bytes.h"
#include "proto/base/limits.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "proto/wire/api.h"
#include "tools/options.h"

struct parts {
    struct api_query_part list[QUERY_PARTS_MAX]; // points to the rest
    size_t count;
    char *words[QUERY_PARTS_MAX];
    struct buffer pictures[QUERY_PARTS_MAX];
    float *embeddings[QUERY_PARTS_MAX];
};

// Whether a --part has a form and a weight that are allowed; no file is read. STATUS_INVALID naming
// the flag, its value and what is allowed.
enum status parts_check(const char *word, struct reason *why) MUST_CHECK;

// Zero-initialise *out; it is ended by parts_deinit() whatever comes. STATUS_INVALID naming the
// flag and what it may be, or what is wrong with a file.
enum status parts_read(const struct options *options, struct parts *out,
                       struct reason *why) MUST_CHECK;
void parts_deinit(struct parts *parts);

#endif
