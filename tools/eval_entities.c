// SPDX-License-Identifier: Apache-2.0
// A record's id is the hash of its key, so keys are not needed.

#include "tools/eval_entities.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/hash.h"
#include "proto/base/mem.h"

static int compare_ids(const void *a, const void *b)
{
    const struct eval_entity *left = a;
    const struct eval_entity *right = b;
    return (left->id > right->id) - (left->id < right->id);
}

enum status eval_entities_read(struct client *client, const char *name, const char *space,
                               struct eval_entities *out, struct reason *why)
{
    assert(client && name && space && out);

    struct eval_entities entities = {.sorted = NULL};
    struct eval_memory *memory = &entities.memory;
    enum status status = eval_memory_read(client, name, memory, why);
    if (status)
        return status;
    if (strcmp(memory->space, space) != 0)
        status = reason_set(why, STATUS_FAILED_PRECONDITION, "--entities",
                            "%s is in space %s and the model encodes into %s", memory->name,
                            memory->space, space);
    if (!status) {
        entities.sorted = mem_try_alloc_array(memory->count, sizeof(entities.sorted[0]));
        if (!entities.sorted)
            status = reason_set(why, STATUS_NO_MEMORY, "--entities", "no memory for %u entities",
                                memory->count);
    }
    if (status || !entities.sorted) {
        eval_entities_deinit(&entities);
        return status;
    }
    for (uint32_t i = 0; i < memory->count; i++)
        entities.sorted[i] = (struct eval_entity){memory->slots[i].id, i};
    qsort(entities.sorted, memory->count, sizeof(entities.sorted[0]), compare_ids);
    *out = entities;
    return STATUS_OK;
}

void eval_entities_deinit(struct eval_entities *entities)
{
    eval_memory_deinit(&entities->memory);
    mem_free(entities->sorted);
    *entities = (struct eval_entities){.sorted = NULL};
}

bool eval_entities_find(const struct eval_entities *entities, struct text key, uint32_t *slot)
{
    const struct eval_entity wanted = {.id = hash_id(key.data, key.bytes)};
    const struct eval_entity *found =
        bsearch(&wanted, entities->sorted, entities->memory.count, sizeof(wanted), compare_ids);
    if (found)
        *slot = found->slot;
    return found != NULL;
}

enum status eval_entities_places(const struct eval_entities *entities,
                                 const struct eval_entities_asked *asked, uint32_t *places,
                                 struct reason *why)
{
    assert(entities && entities->memory.count && asked && places);

    struct eval_hit *hits = mem_try_alloc_array(asked->count, sizeof(hits[0]));
    uint32_t *found = mem_try_alloc_array(asked->count, sizeof(found[0]));
    const struct eval_search search = {
        .memory = &entities->memory,
        .over = MODALITY_TEXT,
        .queries = asked->queries,
        .count = asked->count,
        .width = 1,
        .threads = asked->threads,
    };
    const enum status status =
        hits && found
            ? eval_memory_search(&search, hits, found, why)
            : reason_set(why, STATUS_NO_MEMORY, NULL, "no memory for %zu answers", asked->count);
    for (size_t i = 0; i < asked->count && hits && found && !status; i++)
        places[i] = found[i] == 1 && hits[i].slot == asked->truth[i] ? 0 : 1;
    mem_free(hits);
    mem_free(found);
    return status;
}
