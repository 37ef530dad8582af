// SPDX-License-Identifier: Apache-2.0
// service_memory.c - Create and Drop: what changes the list of memories.
//
//   Create: reserve a number -> CREATE on every node -> meta_add -> answer
//                                  \-> DROP on those that did it -> error
//   Drop:   meta_drop -> DROP on every node -> meta_remove -> next generation ... -> answer
//
// Both need every node. A drop that is cut short leaves the generation invisible, in state
// "dropping"; dropping it again completes it.

#include <assert.h>

#include "coordinator/roundup.h"
#include "coordinator/service.h"
#include "proto/base/arena.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

#define NODE_LIMIT_US 30000000 // for a node to do it, when the call has no deadline

struct change {
    struct service_call *call;
    struct backend *backend;
    struct arena *arena;
    struct roundup roundup;

    // Create.
    bool wants_building;
    bool replaces;
    enum status failure; // while it is undone
    struct reason why;

    // Drop.
    uint32_t *numbers;
    size_t count;
    size_t next;
    uint64_t records;
};

static struct change *create_change(struct service_call *call)
{
    struct change *change = mem_alloc(sizeof(*change));
    change->call = call;
    change->backend = call->backend;
    change->arena = arena_create(SERVICE_ARENA_BYTES);
    change->roundup.backend = call->backend;
    change->roundup.context = change;
    call->state = change;
    return change;
}

static void free_change(struct change *change)
{
    roundup_cancel(&change->roundup);
    arena_destroy(&change->arena);
    mem_free(change);
}

static void answer(struct change *change, enum status status, struct buffer *reply)
{
    service_answer(change->call, status, reply);
    free_change(change);
}

static void fail(struct change *change, enum status status, const struct reason *why)
{
    struct reason told = *why;
    service_fail(change->call, status, &told);
    free_change(change);
}

static bool ask_nodes(struct change *change, enum shard_type type, void (*done)(void *context))
{
    change->roundup.type = type;
    change->roundup.done = done;
    return roundup_begin(&change->roundup, clock_deadline_in_us(NODE_LIMIT_US),
                         &change->call->trace);
}

// Half a change would be worse than a whole one that nobody hears of: it is completed, and
// ends soon, since no node gets more than NODE_LIMIT_US.
static void cancel(struct service_call *call)
{
    (void)call;
}

// ---------------------------------------------------------------- Create

static void answer_info(struct change *change, const struct meta_generation *generation)
{
    struct api_memory_info info = {
        .name = text_of(generation->memory),
        .generation = generation->number,
        .state = text_of(meta_state_name(generation->state)),
        .space = text_of(generation->space),
        .dimension = generation->dimension,
        .vshards = generation->vshards,
        .index = text_of("exact"),
    };
    struct buffer reply = {0};
    enum status status = api_encode_memory_info(&info, &reply);
    answer(change, status, &reply);
}

// Whether the name is free for this. *resume is set to a build that is under way.
static enum status check_name_free(const struct change *change, struct meta_generation *resume,
                                   struct reason *why)
{
    const struct meta_generation *wanted = &change->roundup.generation;
    struct text name = text_of(wanted->memory);
    struct meta_generation found = {0};
    resume->number = 0;
    if (meta_is_alias(change->backend->meta, name))
        return reason_set(why, STATUS_ALREADY_EXISTS, "name",
                          "'%s' is an alias; build the memory that it points at, or remove it",
                          wanted->memory);
    if (meta_find_building(change->backend->meta, name, &found) == STATUS_OK) {
        if (!change->wants_building)
            return reason_set(why, STATUS_ALREADY_EXISTS, "name",
                              "memory '%s' is being built (generation %u)", wanted->memory,
                              found.number);
        if (!text_equal(text_of(found.space), text_of(wanted->space)) ||
            found.vshards != wanted->vshards)
            return reason_set(why, STATUS_FAILED_PRECONDITION, "name",
                              "%s@%u is being built already, in space %s with %u vshards; finish "
                              "it or drop %s@%u",
                              found.memory, found.number, found.space, found.vshards, found.memory,
                              found.number);
        *resume = found;
        return STATUS_OK;
    }
    if (!change->replaces &&
        meta_find(change->backend->meta, name, META_FOR_DESCRIBE, &found, NULL) == STATUS_OK)
        return reason_set(why, STATUS_ALREADY_EXISTS, "name",
                          "memory '%s' exists (generation %u); add to it, replace it, or drop it",
                          found.memory, found.number);
    return STATUS_OK;
}

static void on_undone(void *context)
{
    struct change *change = context;
    fail(change, change->failure, &change->why);
}

// Takes back what some nodes did; a number that is never used again does no harm where that fails.
static void undo(struct change *change, enum status status, const struct reason *why)
{
    change->failure = status;
    change->why = *why;
    if (!ask_nodes(change, SHARD_DROP, on_undone))
        on_undone(change);
}

static void on_created(void *context)
{
    struct change *change = context;
    struct meta_generation *generation = &change->roundup.generation;
    struct meta_generation resume;
    struct reason why = {0};
    enum status status = roundup_status(&change->roundup, STATUS_OK, &why);
    if (status == STATUS_OK) // somebody else may have been faster
        status = check_name_free(change, &resume, &why);
    if (status == STATUS_OK && resume.number != 0)
        status = reason_set(&why, STATUS_ALREADY_EXISTS, "name",
                            "another build of '%s' has just begun", generation->memory);
    if (status == STATUS_OK)
        status = meta_add(change->backend->meta, generation, &why);
    if (status != STATUS_OK) {
        undo(change, status, &why);
        return;
    }
    trace_line(&change->call->trace, LOG_INFO, "memory_created", "memory=%s generation=%u state=%s",
               generation->memory, generation->number, meta_state_name(generation->state));
    answer_info(change, generation);
}

// What is asked for, as a generation without a number.
static enum status plan(struct change *change, const struct api_create_request *request,
                        struct reason *why)
{
    struct meta_generation *wanted = &change->roundup.generation;
    struct text space = request->space;
    enum status status = meta_check_name(request->name, why);
    if (status != STATUS_OK)
        return status;
    if (space.bytes == 0)
        space = text_of(change->backend->clip->space);
    status = meta_parse_space(space, &wanted->dimension, why);
    if (status != STATUS_OK)
        return status;
    if (request->vshards > VSHARDS_MAX)
        return reason_set(why, STATUS_INVALID, "vshards", "%u; allowed: 1..%d", request->vshards,
                          VSHARDS_MAX);

    for (size_t i = 0; i < request->name.bytes; i++)
        wanted->memory[i] = request->name.data[i];
    for (size_t i = 0; i < space.bytes; i++)
        wanted->space[i] = space.data[i];
    wanted->vshards = request->vshards == 0 ? VSHARDS_DEFAULT : request->vshards;
    change->replaces = request->replace;
    change->wants_building = request->building || request->replace;
    wanted->state = change->wants_building ? META_BUILDING : META_SERVING;
    return STATUS_OK;
}

static enum status check_nodes(const struct backend *backend, struct reason *why)
{
    if (fanout_count(backend->fanout) == 0)
        return reason_set(why, STATUS_FAILED_PRECONDITION, NULL,
                          "there are no shard nodes to hold a memory");
    return fanout_all_up(backend->fanout, why);
}

static void begin_create(struct service_call *call)
{
    struct change *change = create_change(call);
    struct api_create_request request;
    struct meta_generation resume = {0};
    struct reason why = {0};
    enum status status = api_decode_create_request(call->message, change->arena, &request, &why);
    if (status == STATUS_OK)
        status = plan(change, &request, &why);
    if (status == STATUS_OK)
        status = check_name_free(change, &resume, &why);
    if (status == STATUS_OK && resume.number != 0) {
        answer_info(change, &resume);
        return;
    }
    if (status == STATUS_OK)
        status = check_nodes(call->backend, &why);
    if (status == STATUS_OK)
        status = meta_reserve(call->backend->meta, &change->roundup.generation.number, &why);
    if (status != STATUS_OK)
        fail(change, status, &why);
    else if (!ask_nodes(change, SHARD_CREATE, on_created))
        on_created(change);
}

// ---------------------------------------------------------------- Drop

static void drop_next(struct change *change);

static void answer_dropped(struct change *change)
{
    struct buffer reply = {0};
    struct api_drop_reply message = {.request_id = service_request_id(change->call),
                                     .records = change->records};
    enum status status = api_encode_drop_reply(&message, &reply);
    answer(change, status, &reply);
}

// What the nodes said to a DROP; false when the call has ended over it.
static bool take_dropped(struct change *change)
{
    const struct meta_generation *generation = &change->roundup.generation;
    struct reason why = {0};
    // A node that does not know it has dropped it before.
    enum status status = roundup_status(&change->roundup, STATUS_NOT_FOUND, &why);
    if (status == STATUS_OK)
        status = meta_remove(change->backend->meta, generation->number, &why);
    if (status != STATUS_OK) {
        fail(change, status, &why);
        return false;
    }
    trace_line(&change->call->trace, LOG_INFO, "memory_dropped",
               "memory=%s generation=%u records=%llu", generation->memory, generation->number,
               (unsigned long long)change->roundup.records);
    change->records += change->roundup.records;
    change->next++;
    return true;
}

static void on_dropped(void *context)
{
    if (take_dropped(context))
        drop_next(context);
}

// The next generation of the list that still exists; NULL at its end.
static const struct meta_generation *next_generation(struct change *change)
{
    for (; change->next < change->count; change->next++) {
        const struct meta_generation *generation =
            meta_at(change->backend->meta, change->numbers[change->next]);
        if (generation)
            return generation;
    }
    return NULL;
}

static void drop_next(struct change *change)
{
    struct reason why = {0};
    const struct meta_generation *generation = NULL;
    while ((generation = next_generation(change)) != NULL) {
        change->roundup.generation = *generation;
        enum status status = meta_drop(change->backend->meta, generation->number, &why);
        if (status != STATUS_OK) {
            fail(change, status, &why);
            return;
        }
        if (ask_nodes(change, SHARD_DROP, on_dropped) || !take_dropped(change))
            return;
    }
    answer_dropped(change);
}

static void begin_drop(struct service_call *call)
{
    struct change *change = create_change(call);
    struct api_name_request request;
    struct reason why = {0};
    enum status status = api_decode_name_request(call->message, change->arena, &request, &why);
    change->numbers =
        arena_alloc_array(change->arena, META_GENERATIONS_MAX, sizeof(change->numbers[0]));
    if (status == STATUS_OK && !change->numbers)
        status = reason_set(&why, STATUS_NO_MEMORY, NULL, "no memory for the list of generations");
    if (status == STATUS_OK)
        status = meta_find_drop(call->backend->meta, request.name, change->numbers, &change->count,
                                &why);
    if (status == STATUS_OK)
        status = check_nodes(call->backend, &why);
    if (status != STATUS_OK)
        fail(change, status, &why);
    else
        drop_next(change);
}

const struct service_handler service_create = {.begin = begin_create, .cancel = cancel};
const struct service_handler service_drop = {.begin = begin_drop, .cancel = cancel};
