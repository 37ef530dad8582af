// SPDX-License-Identifier: Apache-2.0
// roundup.c - see roundup.h. Bulk connections carry it, but for STATS, which people wait for.

#include "coordinator/roundup.h"

#include <assert.h>

#include "coordinator/placement.h"
#include "proto/base/arena.h"
#include "proto/base/clock.h"

#define ARENA_BYTES 65536

// Reads what the reply counts. STATUS_CORRUPT.
static enum status take_figures(struct roundup *roundup, const struct fanout_reply *reply,
                                struct reason *why)
{
    struct reason inner = {0};
    struct shard_stats_reply stats = {0};
    struct shard_write_reply commit = {0};
    struct arena *arena = arena_create(ARENA_BYTES);
    enum status status = STATUS_OK;
    if (roundup->type == SHARD_STATS || roundup->type == SHARD_DROP)
        status = shard_decode_stats_reply(reply->body, reply->rows, arena, &stats, &inner);
    else if (roundup->type == SHARD_BULK_COMMIT)
        status = shard_decode_write_reply(reply->body, reply->rows, arena, &commit, &inner);
    arena_destroy(&arena);
    if (status != STATUS_OK)
        return reason_set(why, STATUS_CORRUPT, NULL, "node %u sent a reply that is none: %s",
                          reply->node, inner.text);
    roundup->records += stats.records;
    roundup->bytes += stats.bytes;
    roundup->hidden += stats.hidden;
    roundup->index.bytes += stats.index_bytes;
    roundup->index.lists += stats.index_lists;
    roundup->index.vectors += stats.index_vectors;
    if (stats.index_list_max > roundup->index.list_max)
        roundup->index.list_max = stats.index_list_max;
    roundup->stored[reply->node] = commit.stored;
    return STATUS_OK;
}

static void on_reply(void *context, const struct fanout_reply *reply)
{
    struct roundup *roundup = context;
    struct reason *why = &roundup->reasons[reply->node];
    enum status status = reply->status;
    if (status == STATUS_OK)
        status = take_figures(roundup, reply, why);
    else
        (void)reason_set(why, status, NULL, "node %u: %s%s%.*s", reply->node, status_text(status),
                         reply->text.bytes > 0 ? ": " : "", (int)reply->text.bytes,
                         reply->text.data ? reply->text.data : "");
    roundup->statuses[reply->node] = status;
}

static void on_end(void *context)
{
    struct roundup *roundup = context;
    roundup->done(roundup->context);
}

static enum status encode(const struct roundup *roundup, const struct placement *placement,
                          uint32_t node, struct buffer *out)
{
    if (roundup->type != SHARD_CREATE) {
        struct shard_generation_request message = {.generation = roundup->generation.number};
        return shard_encode_generation_request(&message, out);
    }
    uint32_t own[VSHARDS_MAX];
    struct shard_create_request message = {
        .generation = roundup->generation.number,
        .dimension = roundup->generation.dimension,
        .vshards = roundup->generation.vshards,
        .own = own,
        .own_count = placement_own(placement, node, own),
    };
    return shard_encode_create_request(&message, out);
}

bool roundup_begin(struct roundup *roundup, int64_t deadline_us, const struct trace *trace)
{
    assert(roundup && roundup->backend && roundup->done);
    assert(roundup->type == SHARD_CREATE || roundup->type == SHARD_DROP ||
           roundup->type == SHARD_STATS || roundup->type == SHARD_BULK_COMMIT);

    struct fanout *fanout = roundup->backend->fanout;
    struct placement placement = {roundup->generation.vshards, fanout_count(fanout)};
    struct fanout_handler handler = {on_reply, on_end, roundup};
    fanout_ask_begin(&roundup->ask, fanout, &handler);
    roundup->asked = 0;
    roundup->records = 0;
    roundup->bytes = 0;
    roundup->hidden = 0;
    roundup->index = (struct api_memory_index){0};
    for (uint32_t node = 0; node < placement.nodes; node++) {
        if (placement_own(&placement, node, NULL) == 0)
            continue;
        struct buffer body = {0};
        struct reason *why = &roundup->reasons[node];
        enum status status = encode(roundup, &placement, node, &body);
        roundup->asked |= 1u << node;
        if (status == STATUS_OK) {
            struct fanout_send send = {
                .node = node,
                .class = roundup->type == SHARD_STATS ? DEALER_QUERY : DEALER_BULK,
                .type = roundup->type,
                .body = {body.data, body.count},
                .deadline_us = deadline_us,
                .trace = trace,
            };
            status = fanout_send(&roundup->ask, &send, why);
        } else {
            (void)reason_set(why, status, NULL, "node %u: no memory for a request", node);
        }
        roundup->statuses[node] = status;
        buffer_deinit(&body);
    }
    return fanout_ask_waiting(&roundup->ask) > 0;
}

void roundup_cancel(struct roundup *roundup)
{
    assert(roundup);

    fanout_ask_cancel(&roundup->ask);
}

enum status roundup_status(const struct roundup *roundup, enum status forgive, struct reason *why)
{
    assert(roundup && fanout_ask_waiting(&roundup->ask) == 0);

    for (uint32_t node = 0; node < NODES_MAX; node++) {
        enum status status = roundup->statuses[node];
        if (!(roundup->asked & 1u << node) || status == STATUS_OK || status == forgive)
            continue;
        if (why)
            *why = roundup->reasons[node];
        return status;
    }
    return STATUS_OK;
}
