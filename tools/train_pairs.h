// SPDX-License-Identifier: Apache-2.0
// train_pairs.h - the pairs that a head learns from: embedded once, each with its id and its
// entity.
//
// An entity is what a picture shows. Pairs of one entity are never each other's wrong answers, and
// an entity is held out as a whole.
//
// Thread-safety: one thread reads them in; then they are constant.

#ifndef RECO_TOOLS_TRAIN_PAIRS_H
#define RECO_TOOLS_TRAIN_PAIRS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "tools/client.h"
#include "tools/dataset.h"
#include "tools/train_rows.h"

struct train_pairs {
    struct train_rows rows;
    uint64_t *ids;      // [rows.count]: what a record of the same key has
    uint64_t *entities; // [rows.count]
    uint64_t bad;       // items that were left out
    char digest[HASH_SHA256_HEX_BYTES];
};

struct train_pairs_params {
    struct client *client; // encodes pictures and captions
    const char *space;     // that the embeddings must have
    uint32_t dimension;
    const char *flag;   // that names the dataset, for reasons
    const char *out;    // the rows lie beside it
    const char *entity; // the member or column that tells it; NULL: the caption does
    bool keep_going;    // leaves out what cannot be used, named on stderr
};

// Reads all of the dataset. STATUS_FAILED_PRECONDITION when the space of model or arrays is
// another, STATUS_INVALID for a bad item (named on stderr already, then *why is empty) and when no
// pair is left; else as the calls fail. Whatever comes, the caller ends *pairs with
// train_pairs_deinit().
enum status train_pairs_read(struct train_pairs *pairs, struct dataset *dataset,
                             const struct train_pairs_params *params,
                             struct reason *why) MUST_CHECK;
void train_pairs_deinit(struct train_pairs *pairs);

// The number of an entity: the words in lower case (ASCII), white space as one blank; 0 never.
uint64_t train_pairs_entity(struct text words);

// Pairs in an order: by key, those of one by their number.
struct train_pairs_place {
    uint64_t key;
    uint32_t pair;
};
void train_pairs_sort(struct train_pairs_place *places, size_t count);

// Whether an entity belongs to the `share` (0..1) that a seed holds out.
bool train_pairs_is_held_out(uint64_t entity, uint64_t seed, double share);

#endif
