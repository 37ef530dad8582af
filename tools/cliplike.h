// SPDX-License-Identifier: Apache-2.0
// cliplike.h - made-up vectors that lie as CLIP's embeddings do, for measuring an index.
//
// A row is the sum of a mean that all share, a large cluster's centre, a small cluster's
// centre and noise, turned in a random direction and of unit length. Small clusters have
// very different sizes (Zipf); each part has a spectrum that falls as a power of its place.
// Queries come in two kinds: like the rows, and like texts that ask among pictures: another
// mean, less of the clusters, more noise.
//
// Row `number` depends on seed, dimension, kind and number only, and has the same bits on
// every machine: whole numbers, sums, products, quotients and square roots, which IEEE 754
// rounds in one way only, and no other function. So the first rows of a large set are the
// small set.
//
// Real embeddings are less cleanly clustered: recall by the number of lists probed looks better
// here than it is. Ratios between indexes are what these rows are for.
//
// Thread-safety: a set may be read by many threads.

#ifndef RECO_TOOLS_CLIPLIKE_H
#define RECO_TOOLS_CLIPLIKE_H

#include <stddef.h>
#include <stdint.h>

#include "proto/base/reason.h"
#include "proto/base/status.h"

#define CLIPLIKE_DIMENSION_MIN 16 // below, clusters cannot be told apart

enum cliplike_kind {
    CLIPLIKE_BASE,
    CLIPLIKE_QUERY_ID,  // in distribution: as the rows
    CLIPLIKE_QUERY_OOD, // out of distribution: as a text among pictures
};

struct cliplike;

// Makes the clusters, 20,400 rows. The caller ends *out with cliplike_destroy(). STATUS_INVALID for
// a dimension outside CLIPLIKE_DIMENSION_MIN..DIMENSION_MAX, STATUS_NO_MEMORY.
enum status cliplike_create(uint64_t seed, size_t dimension, struct cliplike **out,
                            struct reason *why) MUST_CHECK;
void cliplike_destroy(struct cliplike **set); // NULL is allowed

// Writes a row of unit length: [dimension].
void cliplike_row(const struct cliplike *set, enum cliplike_kind kind, uint64_t number, float *row);

#endif
