// SPDX-License-Identifier: Apache-2.0
// eval_examples.h - some pictures of a zero-shot evaluation with what they found, for a report.
//
// Which ones is not a matter of taste: of the pictures that the memory named rightly and plain CLIP
// did not, of those it spoiled, and of those that neither knew, some are taken, evenly spread over
// the set.
//
// Pictures come from where the data set lies, and from where the memory's records say that theirs
// lay; what is not there any more, or not on this machine, is shown by its caption alone.
//
// Thread-safety: the client's thread makes every call.

#ifndef RECO_TOOLS_EVAL_EXAMPLES_H
#define RECO_TOOLS_EVAL_EXAMPLES_H

#include <stddef.h>
#include <stdint.h>

#include "proto/base/bytes.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "tools/eval_zero.h"

#define EVAL_EXAMPLES_MAX 12u
#define EVAL_EXAMPLE_NEIGHBOURS 5u
#define EVAL_THUMBNAIL_EDGE 72u // pixels, of the longer edge

struct eval_thumbnail {
    struct buffer png; // empty: there is none
    uint32_t width, height;
};

struct eval_neighbour {
    uint64_t id;
    float score;
    char *caption, *source; // owned; "" when not known
    struct eval_thumbnail picture;
};

struct eval_example {
    uint32_t picture; // of the set
    uint32_t truth, plain, refined;
    struct eval_thumbnail thumbnail;
    struct eval_neighbour neighbours[EVAL_EXAMPLE_NEIGHBOURS];
    size_t neighbour_count;
};

struct eval_examples {
    enum fusion_mode mode; // that `refined` is of
    struct eval_example list[EVAL_EXAMPLES_MAX];
    size_t count;
};

// After eval_zero_search() with the neighbours that are to be shown. Whatever comes, *out is ended
// with eval_examples_deinit().
enum status eval_examples_collect(struct eval_zero *zero, enum fusion_mode mode,
                                  struct eval_examples *out, struct reason *why) MUST_CHECK;
void eval_examples_deinit(struct eval_examples *examples);

#endif
