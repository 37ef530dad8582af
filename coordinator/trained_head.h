// SPDX-License-Identifier: Apache-2.0
// trained_head.h - which file's head refines the embeddings of a model.
//
// The first of these that is there: the one that is named; heads/NAME.safetensors in the data
// directory, NAME the space's without its dimension; head.safetensors in the model's folder, for
// the embedded model the one that is part of the program.
// A file that is there and cannot be used is an error, never the next one's turn.
//
// Thread-safety: one thread opens and closes it; the head itself as fusion_head.h says.

#ifndef RECO_COORDINATOR_TRAINED_HEAD_H
#define RECO_COORDINATOR_TRAINED_HEAD_H

#include "proto/base/limits.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "shaders/models/fusion_head.h"

// What is said of the head that is part of the program, in the place of a file.
#define TRAINED_HEAD_EMBEDDED "embedded"
#define TRAINED_HEAD_FILE_BYTES (PATH_BYTES_MAX + 1)

struct trained_head_params {
    const char *file;  // NULL: none is named
    const char *model; // folder of the model; NULL: the embedded one
    const char *data;  // data directory; NULL: none
    const char *space; // of the embeddings, "NAME:DIMENSION"
    uint32_t threads;  // as ops_open()
};

// *head is NULL when there is none anywhere. `file`, unless NULL, becomes the path of its file as
// UTF-8 ('?' for what is none), TRAINED_HEAD_EMBEDDED, or "" without a head. STATUS_NOT_FOUND only
// for one that is named; else what fusion_head_open() says, with the file's path in `why`.
enum status trained_head_open(const struct trained_head_params *params, struct fusion_head **head,
                              char file[TRAINED_HEAD_FILE_BYTES], struct reason *why) MUST_CHECK;

#endif
