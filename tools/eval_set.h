// SPDX-License-Identifier: Apache-2.0
// eval_set.h - a data set to measure with: its pictures as embeddings, with their labels or
// captions.
//
// The label of a picture is its .cls, a number or a name, or else its caption. Where a source
// brings embeddings, they are taken, at unit length.
//
// Thread-safety: the client's thread fills it; a filled one never changes.

#ifndef RECO_TOOLS_EVAL_SET_H
#define RECO_TOOLS_EVAL_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "tools/dataset_place.h"
#include "tools/eval_classes.h"
#include "tools/eval_entities.h"
#include "tools/options.h"

#define EVAL_SET_CAPTIONS_MAX 64 // of one picture

struct eval_set {
    uint32_t dimension;
    size_t count;    // pictures
    size_t room;     //
    float *images;   // [count][dimension]
    uint64_t *items; // [count]: which item of the source it is, bad ones counted too
    uint32_t *truth; // [count]: labels, or slots of entities
    uint8_t *parts;  // [count]: enum eval_oven_part; with part_field only
    size_t text_count;
    size_t text_room;
    float *texts;       // [text_count][dimension]; without classes only
    uint32_t *image_of; // [text_count]
    bool has_failed;    // items were named on stderr and left out
    double seconds;     // that encoding took, reading included
};

// Reads and encodes all of it, behind what *out has already: with `classes` or `entities` labels,
// with neither captions. A bad item is named on stderr; it ends everything unless
// options->keep_going. STATUS_INVALID for a set without a picture; else as reading, encoding and
// the first bad item say. A zero struct is an empty set; whatever comes, it is ended with
// eval_set_deinit().
struct eval_set_params {
    const struct options *options;
    const struct dataset_place *place;
    const struct eval_classes *classes;   // NULL: captions
    const struct eval_entities *entities; // in place of classes; NULL: none
    const char *part_field;               // member or column of the source; NULL: none
    const struct eval_encoder *encoder;
};
enum status eval_set_read(const struct eval_set_params *params, struct eval_set *out,
                          struct reason *why) MUST_CHECK;
void eval_set_deinit(struct eval_set *set);

#endif
