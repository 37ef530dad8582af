// SPDX-License-Identifier: Apache-2.0
// eval_memory.h - a memory's embeddings inside this process, searched exactly, many queries at a
// time.
//
// An evaluation asks every query in several ways, of memories that are not quite the one that is
// stored: with some captions exchanged, with a part of the records. So it reads all shown records
// once, by Export, and searches them itself, with the kernels of a node: scores and neighbours have
// the same bits as a coordinator's answer by the exact path.
//
// Thread-safety: one thread changes a memory; eval_memory_search() uses threads of its own.

#ifndef RECO_TOOLS_EVAL_MEMORY_H
#define RECO_TOOLS_EVAL_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "proto/base/embedding.h"
#include "proto/base/limits.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "shard_node/rows_map.h"
#include "tools/client.h"
#include "tools/memories.h"

// A zero struct is an empty memory. Ended by eval_memory_deinit().
struct eval_memory {
    char name[MEMORIES_PIN_BYTES]; // "NAME@GENERATION"
    char space[SPACE_BYTES_MAX + 1];
    uint32_t dimension;
    uint32_t count;          // records that are shown, in the order of an Export
    uint32_t room;           // for records
    uint16_t *rows[2];       // by enum modality: [count][dimension]
    struct rows_slot *slots; // [count]: id and pair score
    uint64_t *live;          // a bit for each: whether it may be found
    uint32_t live_count;
    uint16_t *texts_kept; // [count][dimension], while captions are exchanged; else NULL
    uint32_t *labels;     // [count], of a memory of labelled pictures; else NULL
};

// Reads all records that are shown. STATUS_NOT_FOUND when there is none, STATUS_NO_MEMORY; else as
// Export fails.
enum status eval_memory_read(struct client *client, const char *name, struct eval_memory *out,
                             struct reason *why) MUST_CHECK;
void eval_memory_deinit(struct eval_memory *memory);

// A memory of given rows, [count][dimension] of each side, whose ids are 0, 1 ... STATUS_NO_MEMORY.
enum status eval_memory_of_rows(const uint16_t *images, const uint16_t *texts, uint32_t count,
                                uint32_t dimension, struct eval_memory *out) MUST_CHECK;

// Exchanges the texts of `exchanged` records among each other: each of them gets that of another
// one, where there are two at least. A smaller number exchanges a part of the same records. Undone
// by the next call; 0 only undoes. STATUS_NO_MEMORY.
enum status eval_memory_exchange(struct eval_memory *memory, uint32_t exchanged,
                                 uint64_t seed) MUST_CHECK;

// Leaves `count` records to be found; a smaller number leaves a part of the same ones.
// STATUS_NO_MEMORY.
enum status eval_memory_choose(struct eval_memory *memory, uint32_t count,
                               uint64_t seed) MUST_CHECK;

// Leaves of each label as many records to be found as there are, at most `shots`; fewer are a part
// of more. The memory has labels. STATUS_NO_MEMORY.
enum status eval_memory_choose_shots(struct eval_memory *memory, uint32_t label_count,
                                     uint32_t shots, uint64_t seed) MUST_CHECK;

struct eval_hit {
    uint32_t slot;
    float score;
};

struct eval_search {
    const struct eval_memory *memory;
    enum modality over;   // the side that is searched
    const float *queries; // [count][dimension]
    size_t count;
    uint32_t width; // most hits of a query, 1..K_WIRE_MAX
    uint32_t threads;
};

// hits[count][width], best first, and how many of each query to found[count]. STATUS_NO_MEMORY.
enum status eval_memory_search(const struct eval_search *search, struct eval_hit *hits,
                               uint32_t *found, struct reason *why) MUST_CHECK;

#endif
