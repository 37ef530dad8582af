// SPDX-License-Identifier: Apache-2.0
// manual.h - the manual pages as roff, from the tables that parse the command line.
//
// A page has no date and no path of the machine that built it, so the same source gives the same
// bytes.
//
// Thread-safety: pure.

#ifndef RECO_TOOLS_MANUAL_H
#define RECO_TOOLS_MANUAL_H

#include <stdio.h>

#include "proto/base/config.h"
#include "tools/verbs.h"

#define MANUAL_NAME_BYTES 64

// "reco-memory-build" for the verb `memory build`.
void manual_name(const struct verb *verb, char name[MANUAL_NAME_BYTES]);

// reco(1): every verb with its line, exit statuses, environment and files.
void manual_write_program(FILE *file);

// reco-VERB(1).
void manual_write_verb(const struct verb *verb, FILE *file);

// reco-coordinator(8), reco-shard(8): the flags of a program that is configured by a table.
void manual_write_server(const struct config_table *table, FILE *file);

// reco.ini(5), reco-coordinator.ini(5), reco-shard.ini(5): every key of its file.
void manual_write_keys(const struct config_table *table, FILE *file);

#endif
