// SPDX-License-Identifier: Apache-2.0
// client_config.h - what a verb takes from a configuration file and the environment.
//
// A key of [client] stands in for the flag of the same name, in verbs that have the flag, when
// it was not given. --data or --model on the command line ask for work inside the process:
// then a server that only the file or the environment names is not asked.
//
// Thread-safety: none; the main thread's.

#ifndef RECO_TOOLS_CLIENT_CONFIG_H
#define RECO_TOOLS_CLIENT_CONFIG_H

#include "proto/base/config.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "tools/args.h"
#include "tools/options.h"

// Reads the file of --config, the environment, and the flags that were given, and fills the
// options that were not. *out is what is in force; the options point into it, so it is destroyed
// after them. STATUS_INVALID otherwise.
enum status client_config_apply(const struct args_verb *verb, struct options *options,
                                struct config **out, struct reason *why) MUST_CHECK;

// Reads the same file and environment by the table of another program, for `reco up`.
enum status client_config_read(const struct config_table *table, const struct options *options,
                               struct config **out, struct reason *why) MUST_CHECK;

#endif
