// SPDX-License-Identifier: Apache-2.0
// filters.h - the flags --filter and --only as the filter of a message.
//
// Thread-safety: none.

#ifndef RECO_TOOLS_FILTERS_H
#define RECO_TOOLS_FILTERS_H

#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "proto/wire/api.h"
#include "tools/options.h"

struct filters {
    struct api_filter filter; // points to the rest, and into the options
    struct text *tags;
    uint64_t *ids; // of the keys of --only
};

// Zero-initialise *out; it is ended by filters_deinit() whatever comes. Reads stdin for `--only -`.
// STATUS_INVALID naming the flag and what it may be.
enum status filters_read(const struct options *options, struct filters *out,
                         struct reason *why) MUST_CHECK;
void filters_deinit(struct filters *filters);

#endif
