// SPDX-License-Identifier: Apache-2.0
// embedding.h - modality, and checks and normalisation of embeddings.
//
// An embedding is `dimension` floats (1..DIMENSION_MAX), of unit length unless
// said otherwise. Stored and sent rows are IEEE half precision, little-endian.
//
// Thread-safety: pure.

#ifndef RECO_PROTO_BASE_EMBEDDING_H
#define RECO_PROTO_BASE_EMBEDDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/status.h"

enum modality {
    MODALITY_IMAGE = 0,
    MODALITY_TEXT = 1,
};

// The modality whose embeddings are the payload of a search over `modality`.
static inline enum modality modality_other(enum modality modality)
{
    return modality == MODALITY_IMAGE ? MODALITY_TEXT : MODALITY_IMAGE;
}

// Whether every element is finite.
bool embedding_is_finite(const float *values, size_t count);

// Scales `values` to unit length in place: the sum of squares in double, in
// index order, one division of each element in double, rounded once to float;
// so every caller gets the same bits. STATUS_INVALID, values unchanged, when
// an element is not finite or the length is 0.
enum status embedding_normalise(float *values, size_t count) MUST_CHECK;

// Inner product, added up in double in one fixed order: the same bits everywhere.
double embedding_dot(const float *a, const float *b, uint32_t dimension);

// Whether `values` are what a row of ours has: every element a half exactly, and a length as near
// to 1 as rounding a unit vector to halves leaves it. Such an embedding is stored as it is, so that
// a row that was read from one memory and goes into another keeps its bits; normalising
// it again would move some of them.
bool embedding_is_row(const float *values, size_t count);

#endif
