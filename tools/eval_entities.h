// SPDX-License-Identifier: Apache-2.0
// eval_entities.h - millions of names to choose from: the records of a memory, each an entity that
// its key names.
//
// What an entity is called is the text of its record, taken as it is; a picture is right when the
// nearest of all texts is that of its own entity.
//
// Thread-safety: what was read never changes.

#ifndef RECO_TOOLS_EVAL_ENTITIES_H
#define RECO_TOOLS_EVAL_ENTITIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/bytes.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "tools/eval_memory.h"

struct eval_entity {
    uint64_t id;
    uint32_t slot;
};

// A zero struct has none. Ended by eval_entities_deinit().
struct eval_entities {
    struct eval_memory memory;
    struct eval_entity *sorted; // [memory.count], by id
};

// Reads the memory, which must be in `space`. STATUS_FAILED_PRECONDITION, STATUS_NO_MEMORY; else as
// eval_memory_read().
enum status eval_entities_read(struct client *client, const char *name, const char *space,
                               struct eval_entities *out, struct reason *why) MUST_CHECK;
void eval_entities_deinit(struct eval_entities *entities);

// The slot of an entity's record; false when there is none.
bool eval_entities_find(const struct eval_entities *entities, struct text key, uint32_t *slot);

// places[i] = 0 where the nearest text of query i is that of slot truth[i], else 1.
// STATUS_NO_MEMORY.
struct eval_entities_asked {
    const float *queries; // [count][dimension]
    size_t count;
    const uint32_t *truth;
    uint32_t threads;
};
enum status eval_entities_places(const struct eval_entities *entities,
                                 const struct eval_entities_asked *asked, uint32_t *places,
                                 struct reason *why) MUST_CHECK;

#endif
