// SPDX-License-Identifier: Apache-2.0
// eval_zero.h - zero-shot classification of a data set, in any mode, by any memory.
//
// Pictures search the memory's pictures and take in the texts of what they find; prototypes of the
// labels' names search its texts and take in pictures. A label is right when none ranks before it.
// Entities of another memory, in place of labels, are taken as they are.
//
// Thread-safety: the client's thread makes every call.

#ifndef RECO_TOOLS_EVAL_ZERO_H
#define RECO_TOOLS_EVAL_ZERO_H

#include <stdint.h>

#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "tools/eval.h"
#include "tools/eval_classes.h"
#include "tools/eval_entities.h"
#include "tools/eval_result.h"
#include "tools/eval_set.h"

struct eval_zero {
    const struct eval *eval;
    char *split; // NULL: the usual one
    struct dataset_place place;
    bool has_further; // splits, in the set behind those of this place
    struct eval_classes classes;
    struct eval_encoder encoder;
    struct eval_set set;
    bool is_oven;
    struct eval_entities entities; // to choose from, in place of names; else empty
    float *prototypes;             // [classes.labels.name_count][dimension]; NULL: entities
    struct eval_side images, names;
    double search_seconds; // of the last eval_zero_search()
    uint32_t *plain;       // [set.count]: places of the right labels by plain CLIP
    uint32_t *places;      // [set.count]: of the last eval_zero_measure()
};

// Reads and encodes the data set that the items are. With `is_oven` pictures have parts, --entities
// may take the place of labels, and --split may name several that are measured together. Whatever
// comes, *zero is ended with eval_zero_end().
struct eval_zero_params {
    const struct args_list *items;
    enum api_profile profile;
    bool is_oven;
};
enum status eval_zero_begin(struct eval_zero *zero, const struct eval *eval,
                            const struct eval_zero_params *params, struct reason *why) MUST_CHECK;
void eval_zero_end(struct eval_zero *zero);

// Which sides ask which and take in which.
struct eval_zero_sides {
    bool search_across; // pictures search texts, names pictures
    bool fuse_same;     // pictures take in pictures, names texts
    bool fuse_itself;   // each takes in itself, in place of what was found
};

// Finds the neighbours of all. After the memory has changed, too.
enum status eval_zero_search(struct eval_zero *zero, struct eval_zero_sides sides, uint32_t k,
                             struct reason *why) MUST_CHECK;

// Fills mode, k, records, count, seconds and metrics of *row.
enum status eval_zero_measure(struct eval_zero *zero, struct eval_zero_sides sides,
                              enum fusion_mode mode, uint32_t k, struct eval_row *row,
                              struct reason *why) MUST_CHECK;

#endif
