// SPDX-License-Identifier: Apache-2.0
// train_neighbours.h - the neighbours of every pair, found once, as a search of the memory finds
// them.
//
// A picture searches pictures and a caption captions. What teaches copying is left out: the record
// of the pair's own key, and records whose picture is nearly the pair's. Equal captions are none of
// that: a label is asked for by the words that its drawings have, too.
//
// Thread-safety: one thread finds them; then they are constant.

#ifndef RECO_TOOLS_TRAIN_NEIGHBOURS_H
#define RECO_TOOLS_TRAIN_NEIGHBOURS_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "tools/train_memory.h"
#include "tools/train_pairs.h"

#define TRAIN_NEIGHBOURS_SIDES 2 // by enum modality: who asks

struct train_neighbours {
    uint32_t k;
    uint32_t *rows[TRAIN_NEIGHBOURS_SIDES];   // [pairs][k] of the memory
    float *scores[TRAIN_NEIGHBOURS_SIDES];    // [pairs][k]
    uint32_t *counts[TRAIN_NEIGHBOURS_SIDES]; // [pairs]
    uint64_t excluded;                        // that would have been neighbours
    char digest[HASH_SHA256_HEX_BYTES];
};

struct train_neighbours_params {
    struct client *client;
    const struct train_memory *memory;
    const struct train_pairs *pairs;
    uint32_t k;           // 1..K_MAX
    enum api_index index; // how the memory is searched
    double similarity;    // of two pictures that are one, from which on they are left out
    bool keeps_self;      // nothing is left out but for held-out pairs: to see what that does
    uint64_t seed;        // of what is held out
    double held_out;
};

// STATUS_FAILED_PRECONDITION when no pair has a neighbour, or the memory was changed meanwhile;
// else as the search fails. Whatever comes, the caller ends *found with train_neighbours_deinit().
enum status train_neighbours_find(struct train_neighbours *found,
                                  const struct train_neighbours_params *params,
                                  struct reason *why) MUST_CHECK;
void train_neighbours_deinit(struct train_neighbours *found);

#endif
