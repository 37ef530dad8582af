// SPDX-License-Identifier: Apache-2.0
// tags.h - which records of a generation have which tags, in memory, for filtered searches.
//
// For each tag the slots (rows.h) of the records that were written with it. A slot's record never
// changes, so a list only grows; a record that is replaced or deleted leaves its slot dead, and
// the live bits say so. Nothing of this is on disk: it follows from the documents, which are
// read when a generation is opened, so the two cannot disagree.
//
// Thread-safety: tags_add(), tags_set_unknown() and tags_exchange() by the writer; tags_keep() and
// tags_bytes() by any thread.

#ifndef RECO_SHARD_NODE_TAGS_H
#define RECO_SHARD_NODE_TAGS_H

#include <stddef.h>
#include <stdint.h>

#include "proto/base/bytes.h"
#include "proto/base/status.h"

struct tags;

struct tags *tags_create(void);
void tags_destroy(struct tags **tags); // NULL is allowed

// Notes the tags of the record that is going to be shown in `slot`: before rows_append(), so that
// no search sees a record without its tags. `joined` by SHARD_TAG_SEPARATOR. STATUS_NO_MEMORY: some
// of them may be noted; nobody may be shown the slot.
enum status tags_add(struct tags *tags, uint32_t slot, struct text joined) MUST_CHECK;

// Slots whose documents could not be read: no filter by tags lets them pass. Takes over
// `bits`[words] from mem_try_alloc_array().
void tags_set_unknown(struct tags *tags, uint64_t *bits, size_t words);

// Swaps what two objects hold; the other one is nobody else's.
void tags_exchange(struct tags *tags, struct tags *other);

uint64_t tags_bytes(struct tags *tags); // of memory

// A record passes when it has all of `all`, one of `any` (if there are), and none of `no`.
struct tags_filter {
    const struct text *all;
    size_t all_count;
    const struct text *any;
    size_t any_count;
    const struct text *no;
    size_t no_count;
};

// Clears the bits of slots that do not pass. `live` has a bit for each of `slot_count` slots.
// STATUS_NO_MEMORY; `live` is then as it was, or has lost some bits.
enum status tags_keep(struct tags *tags, const struct tags_filter *filter, uint32_t slot_count,
                      uint64_t *live) MUST_CHECK;

#endif
