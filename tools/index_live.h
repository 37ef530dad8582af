// SPDX-License-Identifier: Apache-2.0
// index_live.h - an index over the rows of a file, through what befalls that of a node.
//
// The steps are called in this order, each once:
//
//     build --> insert --> delete --> replace --> fresh --> restart
//
// Rows take their slots by rising product with one of them, so that what comes later crowds into
// one region. A row is appended and dies by its bit in `live`, and the index is extended, mended,
// saved and opened by calls of index.h, as the node's own thread does it (shard_node/indexer.c);
// the rows themselves stay in memory all the time. The index works with one thread.
//
// Thread-safety: one thread makes every call.

#ifndef RECO_TOOLS_INDEX_LIVE_H
#define RECO_TOOLS_INDEX_LIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "shard_node/index/index.h"
#include "tools/args.h"
#include "tools/asker.h"

#define INDEX_LIVE_SETS_MAX 8
#define INDEX_LIVE_THREADS_MAX 64
#define INDEX_LIVE_ROWS_MIN 1000   // of the file
#define INDEX_LIVE_SECONDS_MAX 60u // that are watched after a restart

struct index_live;

struct index_live_params {
    const char *base;                  // .npy or .fvecs, rows of unit length
    const struct args_list *queries;   // files, 1..INDEX_LIVE_SETS_MAX
    const struct args_numbers *probes; // 1..PROBES_MAX each, at least one
    uint32_t k;                        // 1..K_MAX
    uint32_t threads;                  // that find what is true and what the index finds
    uint32_t chunk;                    // rows that are appended and taken in at a time
    uint32_t seconds;   // that are watched after the restart at most, 1..INDEX_LIVE_SECONDS_MAX
    uint64_t seed;      // of the order, of who is deleted, of the training
    const char *folder; // where the checkpoint lies for a while
};

// Reads all files. STATUS_INVALID for too few rows and such as are not of unit length, else as
// npyfile_open(). The caller ends *out with index_live_destroy(); what params points to outlives
// it.
enum status index_live_create(const struct index_live_params *params, struct index_live **out,
                              struct reason *why) MUST_CHECK;
void index_live_destroy(struct index_live **live); // NULL is allowed

// What a step did and how the index is behind it. A step sets what concerns it, the rest is 0.
struct index_live_step {
    uint32_t rows;              // taken in, or deleted
    double seconds;             // that took, mending on the way included
    double extend_seconds;      // without the mending
    double rest_seconds;        // of mending afterwards, until there was nothing left to mend
    struct index_upkeep upkeep; // all the mending
    double asked_before,
        asked;     // queries a second by one thread: before, and while rows were taken in
    uint32_t live; // rows
    struct index_about about;
    struct asker_found found[INDEX_LIVE_SETS_MAX][ARGS_NUMBERS_MAX]; // by file and number of lists
};

// STATUS_NO_MEMORY, STATUS_EXHAUSTED without a thread or when mending does not end.
//
// Trains with the first 55 % of the rows and takes them in.
enum status index_live_build(struct index_live *live, struct index_live_step *out,
                             struct reason *why) MUST_CHECK;
// The next 35 %, while one thread asks.
enum status index_live_insert(struct index_live *live, struct index_live_step *out,
                              struct reason *why) MUST_CHECK;
// Half of all.
enum status index_live_delete(struct index_live *live, struct index_live_step *out,
                              struct reason *why) MUST_CHECK;
// The last 10 %, an older one dying with each, while one thread asks.
enum status index_live_replace(struct index_live *live, struct index_live_step *out,
                               struct reason *why) MUST_CHECK;
// Another index, made of the live rows only, for comparison; it is gone afterwards.
enum status index_live_fresh(struct index_live *live, struct index_live_step *out,
                             struct reason *why) MUST_CHECK;

struct index_live_restart {
    double save_seconds, open_seconds;
    double first_answer_seconds; // since the opening began
    uint64_t bytes;              // of the file
    double asked_before;         // queries a second by one thread
    double asked
        [INDEX_LIVE_SECONDS_MAX]; // in the first second after the first answer, the next one ...
    uint32_t seconds;             // that were watched
    bool is_full;                 // the last of them is within 5 % of what was before
};

// Saves the index that has been through it all, ends it and opens the file. STATUS_IO,
// STATUS_EXHAUSTED when the disk is full.
enum status index_live_restart(struct index_live *live, struct index_live_restart *out,
                               struct reason *why) MUST_CHECK;

#endif
