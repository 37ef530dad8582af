// SPDX-License-Identifier: Apache-2.0
// write_delete.c - Memory.Delete, Hide and Unhide: records by key and by id, all or an error.
//
// Every node that holds one of them must be up before any is asked. A node that fails afterwards
// makes the call fail; what the others have done stays done, and asking again is harmless.

#include <assert.h>
#include <string.h>

#include "coordinator/placement.h"
#include "coordinator/query.h"
#include "coordinator/service.h"
#include "coordinator/write_internal.h"
#include "proto/base/arena.h"
#include "proto/base/clock.h"
#include "proto/base/hash.h"
#include "proto/base/mem.h"
#include "proto/wire/shard_msg.h"

#define NODE_LIMIT_US 30000000 // for a node to do it, when the call has no earlier deadline

struct deletion {
    struct service_call *call;
    struct backend *backend;
    struct arena *arena;
    struct meta_generation memory;
    struct api_delete_request request;
    struct fanout_ask ask;
    uint64_t *ids; // keys' ids, then ids
    size_t count;
    uint32_t *flags; // parallel: 0 there is none, 1 done, SHARD_FLAG_ALREADY
    uint32_t *order;
    uint32_t starts[NODES_MAX + 1];
    enum status status;
    struct reason why;
};

static void end(struct deletion *deletion, enum status status, struct buffer *reply,
                const struct reason *why)
{
    // What was asked may be done all the same, and nobody will say so.
    fanout_ask_cancel(&deletion->ask);
    meta_touch(deletion->backend->meta, deletion->memory.number);
    service_finish(deletion->call, status, reply, why);
    arena_destroy(&deletion->arena);
    mem_free(deletion);
}

static void fail(struct deletion *deletion, enum status status, const struct reason *why)
{
    struct reason told = *why;
    struct buffer none = {0};
    end(deletion, status, &none, &told);
}

static enum status encode_answer(struct deletion *deletion, struct buffer *out)
{
    const struct api_delete_request *request = &deletion->request;
    struct text *keys = arena_alloc_array(deletion->arena, request->key_count, sizeof(*keys));
    uint64_t *ids = arena_alloc_array(deletion->arena, request->id_count, sizeof(*ids));
    if (!keys || !ids)
        return STATUS_NO_MEMORY;
    struct api_delete_reply reply = {
        .request_id = service_request_id(deletion->call),
        .missing_keys = keys,
        .missing_ids = ids,
    };
    for (size_t i = 0; i < deletion->count; i++) {
        if (deletion->flags[i] != 0)
            reply.deleted += deletion->flags[i] == 1;
        else if (i < request->key_count)
            keys[reply.missing_key_count++] = request->keys[i];
        else
            ids[reply.missing_id_count++] = deletion->ids[i];
    }
    return api_encode_delete_reply(&reply, out);
}

static void on_reply(void *context, const struct fanout_reply *reply)
{
    struct deletion *deletion = context;
    uint32_t first = deletion->starts[reply->node];
    uint32_t count = deletion->starts[reply->node + 1] - first;
    struct shard_flags_reply flags = {0};
    struct reason why = {0};
    enum status status = write_reply_flags(reply, count, deletion->arena, &flags, &why);
    for (uint32_t i = 0; status == STATUS_OK && i < count; i++)
        deletion->flags[deletion->order[first + i]] = flags.flags[i];
    if (status != STATUS_OK && deletion->status == STATUS_OK)
        deletion->status = reason_set(&deletion->why, status, NULL, "node %u: %s: %s", reply->node,
                                      status_text(status), why.text);
}

static void on_end(void *context)
{
    struct deletion *deletion = context;
    struct buffer reply = {0};
    struct reason why = deletion->why;
    enum status status = deletion->status;
    if (status == STATUS_OK) {
        status = encode_answer(deletion, &reply);
        if (status != STATUS_OK)
            (void)reason_set(&why, status, NULL, "no memory for the answer");
    }
    end(deletion, status, &reply, &why);
    buffer_deinit(&reply);
}

static enum shard_type type_of(const struct deletion *deletion)
{
    if (deletion->call->method == API_MEMORY_DELETE)
        return SHARD_DELETE;
    return deletion->call->method == API_MEMORY_HIDE ? SHARD_HIDE : SHARD_UNHIDE;
}

static enum status send_node(struct deletion *deletion, uint32_t node, int64_t deadline_us,
                             struct reason *why)
{
    uint32_t first = deletion->starts[node];
    size_t count = deletion->starts[node + 1] - first;
    uint64_t *ids = arena_alloc_array(deletion->arena, count, sizeof(*ids));
    struct buffer body = {0};
    enum status status = STATUS_NO_MEMORY;
    for (size_t i = 0; ids && i < count; i++)
        ids[i] = deletion->ids[deletion->order[first + i]];
    struct shard_ids_request message = {
        .generation = deletion->memory.number, .ids = ids, .count = count};
    if (ids)
        status = shard_encode_ids_request(&message, &body);
    if (status == STATUS_OK) {
        struct fanout_send request = {
            .node = node,
            .class = DEALER_QUERY,
            .type = type_of(deletion),
            .body = {body.data, body.count},
            .deadline_us = deadline_us,
            .trace = &deletion->call->trace,
        };
        status = fanout_send(&deletion->ask, &request, why);
    } else {
        (void)reason_set(why, status, NULL, "no memory for a request");
    }
    buffer_deinit(&body);
    return status;
}

static enum status send_all(struct deletion *deletion, struct reason *why)
{
    struct fanout *fanout = deletion->backend->fanout;
    int64_t limit_us = clock_deadline_in_us(NODE_LIMIT_US);
    int64_t soft_us = query_soft_deadline_us(deletion->call->begun_us, deletion->call->deadline_us);
    struct fanout_handler handler = {on_reply, on_end, deletion};
    fanout_ask_begin(&deletion->ask, fanout, &handler);
    for (uint32_t node = 0; node < fanout_count(fanout); node++)
        if (deletion->starts[node] != deletion->starts[node + 1] && !fanout_is_up(fanout, node))
            return reason_set(why, STATUS_UNAVAILABLE, NULL, "node %u is down; nothing was changed",
                              node);
    for (uint32_t node = 0; node < fanout_count(fanout); node++) {
        if (deletion->starts[node] == deletion->starts[node + 1])
            continue;
        enum status status =
            send_node(deletion, node, soft_us < limit_us ? soft_us : limit_us, why);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

// Lists the ids of all that is to change, by node.
static enum status plan(struct deletion *deletion, struct reason *why)
{
    const struct api_delete_request *request = &deletion->request;
    struct placement placement = {deletion->memory.vshards,
                                  fanout_count(deletion->backend->fanout)};
    if (placement.nodes == 0)
        return reason_set(why, STATUS_UNAVAILABLE, NULL, "there are no shard nodes");
    size_t count = request->key_count + request->id_count;
    deletion->ids = arena_alloc_array(deletion->arena, count, sizeof(deletion->ids[0]));
    deletion->flags = arena_zero(deletion->arena, count * sizeof(deletion->flags[0]));
    deletion->order = arena_alloc_array(deletion->arena, count, sizeof(deletion->order[0]));
    if (!deletion->ids || !deletion->flags || !deletion->order)
        return reason_set(why, STATUS_NO_MEMORY, NULL, "no memory for %zu records", count);
    for (size_t i = 0; i < request->key_count; i++)
        deletion->ids[i] = hash_id(request->keys[i].data, request->keys[i].bytes);
    for (size_t i = 0; i < request->id_count; i++)
        deletion->ids[request->key_count + i] = request->ids[i];
    deletion->count = count;
    placement_split(&placement, deletion->ids, count, deletion->order, deletion->starts);
    return STATUS_OK;
}

static void begin(struct service_call *call)
{
    struct deletion *deletion = mem_alloc(sizeof(*deletion));
    deletion->call = call;
    deletion->backend = call->backend;
    deletion->arena = arena_create(SERVICE_ARENA_BYTES);
    call->state = deletion;
    struct reason why = {0};
    enum status status =
        api_decode_delete_request(call->message, deletion->arena, &deletion->request, &why);
    if (status == STATUS_OK)
        status = meta_find(call->backend->meta, deletion->request.memory, META_FOR_WRITE,
                           &deletion->memory, &why);
    if (status == STATUS_OK)
        status = plan(deletion, &why);
    if (status == STATUS_OK)
        status = send_all(deletion, &why);
    if (status != STATUS_OK)
        fail(deletion, status, &why);
    else if (fanout_ask_waiting(&deletion->ask) == 0)
        on_end(deletion);
}

static void cancel(struct service_call *call)
{
    struct reason why = {0};
    fail(call->state, reason_set(&why, STATUS_CANCELLED, NULL, "cancelled"), &why);
}

const struct service_handler write_delete = {.begin = begin, .cancel = cancel};
