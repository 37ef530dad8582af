// SPDX-License-Identifier: Apache-2.0
// train_rows.h - pairs of embeddings as halves in a file without a name, mapped when it is full.
//
// The system keeps in memory what is read again and again, and can give it up at any time: what a
// training takes of it does not grow with the number of pairs.
//
// Thread-safety: one thread adds; what is sealed may be read by many.

#ifndef RECO_TOOLS_TRAIN_ROWS_H
#define RECO_TOOLS_TRAIN_ROWS_H

#include <stdint.h>
#include <stdio.h>

#include "proto/base/embedding.h"
#include "proto/base/hash.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"

struct train_rows {
    uint32_t dimension;
    uint32_t count;
    FILE *file;
    void *mapped;
    const uint16_t *halves;    // of it: [count][2][dimension] by enum modality, once it is sealed
    struct hash_sha256 digest; // of all that was added
};

// Begins in the folder that `beside` lies in. STATUS_IO. Whatever comes, the caller ends *rows with
// train_rows_deinit().
enum status train_rows_begin(struct train_rows *rows, const char *beside, uint32_t dimension,
                             struct reason *why) MUST_CHECK;

// Adds the two embeddings of a pair, each scaled to unit length unless it is a stored row already.
// STATUS_INVALID for one without direction, STATUS_IO, STATUS_EXHAUSTED for more than 2^32 - 1.
enum status train_rows_add(struct train_rows *rows, const float *image, const float *text,
                           struct reason *why) MUST_CHECK;

// Ends the adding. STATUS_IO.
enum status train_rows_seal(struct train_rows *rows, struct reason *why) MUST_CHECK;
void train_rows_deinit(struct train_rows *rows);

// One embedding as floats, [dimension].
void train_rows_get(const struct train_rows *rows, uint32_t row, enum modality side, float *out);

double train_rows_dot(const float *a, const float *b, uint32_t dimension);

#endif
