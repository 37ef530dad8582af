// SPDX-License-Identifier: Apache-2.0
// filter.h - which records a query may find, as the nodes are asked for it.
//
// Made once from a client's Filter; a query, its labels' builds and whoever else asks hold it.
//
// Thread-safety: none; the loop thread's.

#ifndef RECO_COORDINATOR_FILTER_H
#define RECO_COORDINATOR_FILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/hash.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "proto/wire/api.h"
#include "proto/wire/shard_msg.h"

struct filter {
    uint8_t
        digest[HASH_SHA256_BYTES]; // of what it lets pass; the order it was given in does not count
    const struct text *all;
    size_t all_count;
    const struct text *any;
    size_t any_count;
    const struct text *no;
    size_t no_count;
    const uint64_t *ids; // ascending, each once; keys are hashed
    size_t id_count;
    bool has_ids; // the set counts, also when it is empty
    uint32_t holders;
};

// The caller holds *out, which is NULL when everything passes. STATUS_INVALID naming the field,
// STATUS_NO_MEMORY.
enum status filter_create(const struct api_filter *asked, struct filter **out,
                          struct reason *why) MUST_CHECK;

struct filter *filter_hold(struct filter *filter); // NULL gives NULL
void filter_release(struct filter **filter);       // sets it to NULL, which is allowed

// Fills in a SEARCH's filter; the texts stay the filter's.
void filter_fill(const struct filter *filter, struct shard_search_request *message);

#endif
