// SPDX-License-Identifier: Apache-2.0
// matching.h - hides, shows or deletes every record that a filter lets through.
//
// Thread-safety: the main thread makes every call.

#ifndef RECO_TOOLS_MATCHING_H
#define RECO_TOOLS_MATCHING_H

#include "proto/wire/api.h"
#include "tools/client.h"
#include "tools/options.h"

struct matching_words {
    enum api_method method; // Delete, Hide or Unhide
    const char *done;       // "hidden": what is said of a record that changed,
    const char *already;    // and of one that was so before
};

// Changes what passes the filter in the memory items[0], as it is when the work begins, and tells
// it: a line for each record with --json or --dry-run, then the sums. What could not be changed is
// named on stderr. Returns the exit status.
int matching_change(const struct options *options, const struct matching_words *words,
                    const struct api_filter *filter, struct client *client);

#endif
