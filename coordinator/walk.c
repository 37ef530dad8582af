// SPDX-License-Identifier: Apache-2.0
// walk.c - see walk.h.
//
// A cursor that is not read to its end is ended by a message that nobody waits for
// (backend->farewells); where that gets lost the node ends it by itself.

#include "coordinator/walk.h"

#include <assert.h>

#include "coordinator/placement.h"
#include "proto/base/arena.h"
#include "proto/base/clock.h"
#include "proto/wire/shard_msg.h"

#define STEP_LIMIT_US 60000000
#define ARENA_BYTES ((size_t)1 << 20)

static void fail(struct walk *walk, enum status status, const struct reason *why)
{
    if (walk->status != STATUS_OK)
        return;
    walk->status = status;
    walk->why = *why;
}

static enum status send(struct walk *walk, struct fanout_ask *ask, enum shard_type type,
                        uint32_t node, struct reason *why)
{
    const struct shard_export_request message = {
        .generation = walk->generation.number,
        .cursor = walk->cursors[node],
        .want_records = walk->want_records,
        .want_digest = walk->want_digest,
    };
    struct buffer body = {0};
    enum status status = shard_encode_export_request(&message, &body);
    if (status == STATUS_OK) {
        const struct fanout_send request = {
            .node = node,
            .class = DEALER_BULK,
            .type = type,
            .body = {body.data, body.count},
            .deadline_us = clock_deadline_in_us(STEP_LIMIT_US),
            .trace = &walk->trace,
        };
        status = fanout_send(ask, &request, why);
    } else {
        (void)reason_set(why, status, NULL, "no memory for a request");
    }
    buffer_deinit(&body);
    return status;
}

static void on_reply(void *context, const struct fanout_reply *reply)
{
    struct walk *walk = context;
    struct shard_export_reply decoded = {0};
    struct reason why = {0};
    enum status status = fanout_reply_status(reply, &why);
    struct arena *arena = arena_create(ARENA_BYTES);
    if (status == STATUS_OK)
        status = shard_decode_export_reply(reply->body, reply->rows, arena, &decoded, &why);
    arena_destroy(&arena);
    if (status != STATUS_OK) {
        struct reason told = {0};
        (void)reason_set(&told, status, NULL, "node %u: %s: %s", reply->node, status_text(status),
                         why.text);
        walk->cursors[reply->node] = 0; // the node ends one that fails
        fail(walk, status, &told);
        return;
    }
    if (!walk->has_begun) {
        walk->cursors[reply->node] = decoded.cursor;
        walk->total += decoded.count;
        return;
    }
    walk->packed = decoded.packed;
    walk->count += decoded.count;
    packed_digest_join(&walk->digest, &decoded.digest);
    if (decoded.end)
        walk->cursors[reply->node] = 0;
}

// The next node that has records left; NODES_MAX when none has. In turns: a node ends a cursor that
// is not used, so none may wait until the others are at their ends.
static uint32_t next_node(const struct walk *walk)
{
    for (uint32_t i = 1; i <= NODES_MAX; i++) {
        const uint32_t node = (walk->node + i) % NODES_MAX;
        if (walk->cursors[node] != 0)
            return node;
    }
    return NODES_MAX;
}

// What on_reply() has seen of the rows is valid as long as this runs.
static void on_end(void *context)
{
    struct walk *walk = context;
    walk->has_begun = true;
    walk->node = next_node(walk);
    walk->is_done = walk->node == NODES_MAX && walk->status == STATUS_OK;
    if (walk->status != STATUS_OK)
        walk_end(walk);
    walk->step(walk->context);
}

void walk_begin(struct walk *walk)
{
    assert(walk->backend && walk->step && !walk->has_begun);

    struct fanout *fanout = walk->backend->fanout;
    const struct placement placement = {walk->generation.vshards, fanout_count(fanout)};
    const struct fanout_handler handler = {on_reply, on_end, walk};
    fanout_ask_begin(&walk->ask, fanout, &handler);
    for (uint32_t node = 0; node < placement.nodes && walk->status == STATUS_OK; node++) {
        struct reason why = {0};
        if (placement_own(&placement, node, NULL) == 0)
            continue;
        const enum status status = send(walk, &walk->ask, SHARD_EXPORT_BEGIN, node, &why);
        if (status != STATUS_OK)
            fail(walk, status, &why);
    }
    if (fanout_ask_waiting(&walk->ask) == 0)
        on_end(walk);
}

void walk_next(struct walk *walk)
{
    assert(walk->has_begun && !walk->is_done && walk->status == STATUS_OK);

    struct reason why = {0};
    const struct fanout_handler handler = {on_reply, on_end, walk};
    walk->packed = (struct bytes){0};
    fanout_ask_begin(&walk->ask, walk->backend->fanout, &handler);
    const enum status status = send(walk, &walk->ask, SHARD_EXPORT_NEXT, walk->node, &why);
    if (status == STATUS_OK)
        return;
    fail(walk, status, &why);
    on_end(walk);
}

void walk_end(struct walk *walk)
{
    fanout_ask_cancel(&walk->ask);
    for (uint32_t node = 0; node < NODES_MAX; node++) {
        struct reason ignored;
        if (walk->cursors[node] != 0 &&
            send(walk, &walk->backend->farewells, SHARD_EXPORT_END, node, &ignored) != STATUS_OK)
            continue; // a node that is gone has no cursors
        walk->cursors[node] = 0;
    }
}
