// SPDX-License-Identifier: Apache-2.0
// program_flags.h - the flags of reco-coordinator and reco-shard in the form of a verb's, so that
// manual and completion are written from one kind of table.
//
// Thread-safety: plain data.

#ifndef RECO_TOOLS_PROGRAM_FLAGS_H
#define RECO_TOOLS_PROGRAM_FLAGS_H

#include "proto/base/config.h"
#include "tools/args.h"

struct program_flags {
    struct args_verb verb; // its name is the program's
    struct args_flag flags[CONFIG_KEYS_MAX + 8];
};

// Fills *out from the program's table; the texts are the table's. It is for telling, not for
// parsing: no flag has a member of options.
void program_flags_read(const struct config_table *table, struct program_flags *out);

#endif
