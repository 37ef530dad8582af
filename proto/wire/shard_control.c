// SPDX-License-Identifier: Apache-2.0
// Bodies without records: greeting, load, generations and their figures. DROP, BULK_COMMIT and
// STATS ask with one shape, and a DROP's reply is the beginning of a STATS reply, so each pair
// shares a codec; a test holds the messages to that.

#include <assert.h>
#include <inttypes.h>

#include "proto/wire/shard_internal.h"

enum status shard_encode_hello(const struct shard_hello *message, struct buffer *out)
{
    assert(message);

    struct wire_memory memory = wire_begin();
    Reco__Shard__V1__Hello raw;
    reco__shard__v1__hello__init(&raw);
    raw.program = wire_put_text(&memory, message->program);
    return wire_pack(&memory, &raw.base, out);
}

enum status shard_decode_hello(struct bytes body, struct bytes rows, struct arena *arena,
                               struct shard_hello *out, struct reason *why)
{
    assert(out);

    ProtobufCMessage *found = NULL;
    enum status status =
        shard_unpack_alone(&reco__shard__v1__hello__descriptor, body, rows, arena, &found, why);
    if (status != STATUS_OK)
        return status;

    const Reco__Shard__V1__Hello *raw = (const void *)found;
    *out = (struct shard_hello){wire_text(raw->program)};
    return STATUS_OK;
}

enum status shard_encode_hello_reply(const struct shard_hello_reply *message, struct buffer *out)
{
    assert(message);

    struct wire_memory memory = wire_begin();
    Reco__Shard__V1__HelloReply raw;
    reco__shard__v1__hello_reply__init(&raw);
    raw.node = message->node;
    raw.credits = message->credits;
    raw.program = wire_put_text(&memory, message->program);
    return wire_pack(&memory, &raw.base, out);
}

enum status shard_decode_hello_reply(struct bytes body, struct bytes rows, struct arena *arena,
                                     struct shard_hello_reply *out, struct reason *why)
{
    assert(out);

    ProtobufCMessage *found = NULL;
    enum status status = shard_unpack_alone(&reco__shard__v1__hello_reply__descriptor, body, rows,
                                            arena, &found, why);
    if (status != STATUS_OK)
        return status;

    const Reco__Shard__V1__HelloReply *raw = (const void *)found;
    *out = (struct shard_hello_reply){raw->node, raw->credits, wire_text(raw->program)};
    return STATUS_OK;
}

enum status shard_encode_ping_reply(const struct shard_ping_reply *message, struct buffer *out)
{
    assert(message);

    struct wire_memory memory = wire_begin();
    Reco__Shard__V1__PingReply raw;
    reco__shard__v1__ping_reply__init(&raw);
    raw.queue_depth = message->queue_depth;
    raw.records = message->records;
    raw.bytes = message->bytes;
    raw.read_only = message->read_only;
    return wire_pack(&memory, &raw.base, out);
}

enum status shard_decode_ping_reply(struct bytes body, struct bytes rows, struct arena *arena,
                                    struct shard_ping_reply *out, struct reason *why)
{
    assert(out);

    ProtobufCMessage *found = NULL;
    enum status status = shard_unpack_alone(&reco__shard__v1__ping_reply__descriptor, body, rows,
                                            arena, &found, why);
    if (status != STATUS_OK)
        return status;

    const Reco__Shard__V1__PingReply *raw = (const void *)found;
    *out = (struct shard_ping_reply){
        .queue_depth = raw->queue_depth,
        .records = raw->records,
        .bytes = raw->bytes,
        .read_only = raw->read_only,
    };
    return STATUS_OK;
}

enum status shard_encode_create_request(const struct shard_create_request *message,
                                        struct buffer *out)
{
    assert(message);

    struct wire_memory memory = wire_begin();
    Reco__Shard__V1__CreateRequest raw;
    reco__shard__v1__create_request__init(&raw);
    raw.generation = message->generation;
    raw.dimension = message->dimension;
    raw.vshards = message->vshards;
    raw.own = wire_borrow(message->own);
    raw.n_own = message->own_count;
    return wire_pack(&memory, &raw.base, out);
}

// Each vshard exists and is named once.
static enum status check_own(const uint32_t *own, size_t count, uint32_t vshards,
                             struct reason *why)
{
    bool seen[VSHARDS_MAX] = {false};
    for (size_t i = 0; i < count; i++) {
        if (own[i] >= vshards)
            return reason_set(why, STATUS_INVALID, "own",
                              "vshard %" PRIu32 "; allowed: 0..%" PRIu32, own[i], vshards - 1);
        if (seen[own[i]])
            return reason_set(why, STATUS_INVALID, "own", "vshard %" PRIu32 " twice; allowed: once",
                              own[i]);
        seen[own[i]] = true;
    }
    return STATUS_OK;
}

enum status shard_decode_create_request(struct bytes body, struct bytes rows, struct arena *arena,
                                        struct shard_create_request *out, struct reason *why)
{
    assert(out);

    ProtobufCMessage *found = NULL;
    enum status status = shard_unpack_alone(&reco__shard__v1__create_request__descriptor, body,
                                            rows, arena, &found, why);
    if (status != STATUS_OK)
        return status;

    const Reco__Shard__V1__CreateRequest *raw = (const void *)found;
    status = wire_check_uint("dimension", raw->dimension, 1, DIMENSION_MAX, why);
    if (status == STATUS_OK)
        status = wire_check_uint("vshards", raw->vshards, 1, VSHARDS_MAX, why);
    if (status == STATUS_OK)
        status = check_own(raw->own, raw->n_own, raw->vshards, why);
    if (status == STATUS_OK)
        *out = (struct shard_create_request){
            .generation = raw->generation,
            .dimension = raw->dimension,
            .vshards = raw->vshards,
            .own = raw->own,
            .own_count = raw->n_own,
        };
    return status;
}

enum status shard_encode_generation_request(const struct shard_generation_request *message,
                                            struct buffer *out)
{
    assert(message);

    struct wire_memory memory = wire_begin();
    Reco__Shard__V1__StatsRequest raw;
    reco__shard__v1__stats_request__init(&raw);
    raw.generation = message->generation;
    return wire_pack(&memory, &raw.base, out);
}

enum status shard_decode_generation_request(struct bytes body, struct bytes rows,
                                            struct arena *arena,
                                            struct shard_generation_request *out,
                                            struct reason *why)
{
    assert(out);

    ProtobufCMessage *found = NULL;
    enum status status = shard_unpack_alone(&reco__shard__v1__stats_request__descriptor, body, rows,
                                            arena, &found, why);
    if (status != STATUS_OK)
        return status;

    const Reco__Shard__V1__StatsRequest *raw = (const void *)found;
    *out = (struct shard_generation_request){raw->generation};
    return STATUS_OK;
}

enum status shard_encode_stats_reply(const struct shard_stats_reply *message, struct buffer *out)
{
    assert(message);

    struct wire_memory memory = wire_begin();
    Reco__Shard__V1__StatsReply raw;
    reco__shard__v1__stats_reply__init(&raw);
    raw.records = message->records;
    raw.bytes = message->bytes;
    raw.rows_bytes = message->rows_bytes;
    raw.sequence = message->sequence;
    raw.read_only = message->read_only;
    raw.dimension = message->dimension;
    raw.hidden = message->hidden;
    raw.index_bytes = message->index_bytes;
    raw.index_lists = message->index_lists;
    raw.index_vectors = message->index_vectors;
    raw.index_list_max = message->index_list_max;
    return wire_pack(&memory, &raw.base, out);
}

enum status shard_decode_stats_reply(struct bytes body, struct bytes rows, struct arena *arena,
                                     struct shard_stats_reply *out, struct reason *why)
{
    assert(out);

    ProtobufCMessage *found = NULL;
    enum status status = shard_unpack_alone(&reco__shard__v1__stats_reply__descriptor, body, rows,
                                            arena, &found, why);
    if (status != STATUS_OK)
        return status;

    const Reco__Shard__V1__StatsReply *raw = (const void *)found;
    status = wire_check_uint("dimension", raw->dimension, 0, DIMENSION_MAX, why);
    if (status == STATUS_OK)
        *out = (struct shard_stats_reply){
            .records = raw->records,
            .bytes = raw->bytes,
            .rows_bytes = raw->rows_bytes,
            .sequence = raw->sequence,
            .read_only = raw->read_only,
            .dimension = raw->dimension,
            .hidden = raw->hidden,
            .index_bytes = raw->index_bytes,
            .index_lists = raw->index_lists,
            .index_vectors = raw->index_vectors,
            .index_list_max = raw->index_list_max,
        };
    return status;
}
