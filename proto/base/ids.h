// SPDX-License-Identifier: Apache-2.0
// ids.h - sorted lists of record ids, each at most once.
//
// Thread-safety: pure functions.

#ifndef RECO_PROTO_BASE_IDS_H
#define RECO_PROTO_BASE_IDS_H

#include <stddef.h>
#include <stdint.h>

#define IDS_NONE SIZE_MAX

// Sorts the ids, smallest first, and leaves each once; returns how many there are now.
size_t ids_sort(uint64_t *ids, size_t count);

// Where `id` is in a sorted list; IDS_NONE when it is not.
size_t ids_find(const uint64_t *ids, size_t count, uint64_t id);

#endif
