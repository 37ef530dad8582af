// SPDX-License-Identifier: Apache-2.0
// eval_retrieval.h - captions find their picture, pictures one of their captions, in any mode, by
// any memory.
//
// Pictures search the memory's pictures and take in texts, captions search its texts and take in
// pictures; then both rank each other. Metrics have CLIP_benchmark's names:
// image_retrieval_recall@K is the share of captions whose picture is among the K best,
// text_retrieval_recall@K that of pictures with a caption of theirs among the K best.
//
// Thread-safety: the client's thread makes every call.

#ifndef RECO_TOOLS_EVAL_RETRIEVAL_H
#define RECO_TOOLS_EVAL_RETRIEVAL_H

#include <stdint.h>

#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "tools/eval.h"
#include "tools/eval_result.h"
#include "tools/eval_set.h"

struct eval_retrieval {
    const struct eval *eval;
    struct dataset_place place;
    struct eval_set set;
    struct eval_side images, texts;
    double search_seconds;
    // By plain CLIP, and of the last eval_retrieval_measure(): how many rank before the (best)
    // right one.
    uint32_t *plain_of_text, *of_text;   // [set.text_count]
    uint32_t *plain_of_image, *of_image; // [set.count]
};

// Reads, encodes and searches. Whatever comes, *retrieval is ended with eval_retrieval_end().
enum status eval_retrieval_begin(struct eval_retrieval *retrieval, const struct eval *eval,
                                 enum api_profile profile, struct reason *why) MUST_CHECK;
void eval_retrieval_end(struct eval_retrieval *retrieval);

// Fills mode, k, records, count, seconds and metrics of *row.
enum status eval_retrieval_measure(struct eval_retrieval *retrieval, enum fusion_mode mode,
                                   struct eval_row *row, struct reason *why) MUST_CHECK;

// The counting alone: `image_of` says whose caption each text is, captions of one picture follow
// each other. of_text[text_count], of_image[image_count]. Of equal scores the lower place ranks
// first. STATUS_NO_MEMORY.
struct eval_pairs {
    const float *images, *texts; // [image_count][dimension], [text_count][dimension]
    size_t image_count, text_count;
    const uint32_t *image_of; // [text_count]
    uint32_t dimension;
    uint32_t threads;
};
enum status eval_retrieval_places(const struct eval_pairs *pairs, uint32_t *of_text,
                                  uint32_t *of_image) MUST_CHECK;

#endif
