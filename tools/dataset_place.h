// SPDX-License-Identifier: Apache-2.0
// dataset_place.h - where a data set for an evaluation lies.
//
// It is a folder in CLIP_benchmark's webdataset layout:
//   SPLIT/nshards.txt    the number of shards
//   SPLIT/0.tar ...      samples of a picture and a .cls (a label's number) or a .txt (captions,
//                        one a line)
//   classnames.txt       labels, one a line; a label's number is that of its line, from 0
//   zeroshot_classification_templates.txt    prompts, one a line
// or a data set as its makers publish it (tools/datasets.md), or anything that dataset.h reads.
//
// Thread-safety: none.

#ifndef RECO_TOOLS_DATASET_PLACE_H
#define RECO_TOOLS_DATASET_PLACE_H

#include <stddef.h>

#include "proto/base/bytes.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "tools/args.h"
#include "tools/dataset.h"

#define DATASET_PLACE_SPLIT "test" // unless another one is asked for
#define DATASET_PLACE_NAME_BYTES 256

struct dataset_layout_kind;

struct dataset_place {
    // Last part of its path; of a data set as its makers publish it what that is called, with the
    // split behind it where that is not the usual one, and how many classes it has where that is
    // not all.
    char name[DATASET_PLACE_NAME_BYTES];
    char **sources; // what dataset_open() takes
    size_t source_count;
    char labels[DATASET_PATH_BYTES];    // classnames.txt; "": not in that layout
    char templates[DATASET_PATH_BYTES]; // the file of prompts; "": there is none
    // As its makers publish it; NULL: another kind.
    const struct dataset_layout_kind *layout;
    const char *split;          // for dataset_open(); NULL: it is not asked
    struct text templates_text; // usual prompts, one a line; {NULL, 0}: none
};

// `split` NULL: the usual one, and any other kind of source is allowed. STATUS_NOT_FOUND,
// STATUS_INVALID naming the file. Whatever comes, *out is ended with dataset_place_deinit().
enum status dataset_place_find(const struct args_list *items, const char *split,
                               struct dataset_place *out, struct reason *why) MUST_CHECK;
void dataset_place_deinit(struct dataset_place *place);

// How many classes a data set with a layout has, 0: none of its own. With `lines` their names, one
// a line, which the caller ends with buffer_deinit(): STATUS_INVALID when there are none,
// STATUS_NOT_FOUND when they have no names here; else as reading its lists.
enum status dataset_place_classes(const struct dataset_place *place, struct buffer *lines,
                                  size_t *count, struct reason *why) MUST_CHECK;

// The lines of a caption that have something in them, at most `most`, which point into it.
// STATUS_INVALID for more.
enum status dataset_place_lines(struct text caption, struct text *lines, size_t most, size_t *count,
                                struct reason *why) MUST_CHECK;

#endif
