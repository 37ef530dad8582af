// SPDX-License-Identifier: Apache-2.0
// Bodies of WRITE, BULK, DELETE, HAS, HIDE and UNHIDE. All but the first two ask and answer in one
// shape; a test holds their messages to that.

#include <assert.h>

#include "proto/wire/shard_internal.h"

#define IMAGE_AND_TEXT 2

enum status shard_encode_write_request(const struct shard_write_request *message,
                                       struct buffer *out)
{
    assert(message);

    struct wire_memory memory = wire_begin();
    Reco__Shard__V1__WriteRequest raw;
    reco__shard__v1__write_request__init(&raw);
    raw.generation = message->generation;
    raw.dimension = message->dimension;
    raw.keys = wire_put_texts(&memory, message->keys, message->count);
    raw.n_keys = message->count;
    raw.captions = wire_put_texts(&memory, message->captions, message->count);
    raw.n_captions = message->count;
    raw.sources = wire_put_texts(&memory, message->sources, message->count);
    raw.n_sources = message->count;
    raw.tags = wire_put_texts(&memory, message->tags, message->count);
    raw.n_tags = message->count;
    raw.hidden = wire_borrow(message->hidden);
    raw.n_hidden = message->hidden ? message->count : 0;
    return wire_pack(&memory, &raw.base, out);
}

static enum status check_write(const Reco__Shard__V1__WriteRequest *raw, struct bytes rows,
                               struct reason *why)
{
    enum status status = wire_check_uint("dimension", raw->dimension, 1, DIMENSION_MAX, why);
    if (status == STATUS_OK)
        status = wire_check_count("captions", raw->n_captions, raw->n_keys, false, why);
    if (status == STATUS_OK)
        status = wire_check_count("sources", raw->n_sources, raw->n_keys, false, why);
    if (status == STATUS_OK)
        status = wire_check_count("tags", raw->n_tags, raw->n_keys, false, why);
    if (status == STATUS_OK)
        status = wire_check_count("hidden", raw->n_hidden, raw->n_keys, true, why);
    for (size_t i = 0; i < raw->n_hidden && status == STATUS_OK; i++)
        status = wire_check_uint("hidden", raw->hidden[i], 0, 1, why);
    if (status != STATUS_OK)
        return status;

    // At most 1024 records of 4096: no overflow.
    size_t expected = raw->n_keys * IMAGE_AND_TEXT * raw->dimension * sizeof(uint16_t);
    return wire_check_halves("rows", rows, expected, why);
}

enum status shard_decode_write_request(struct bytes body, struct bytes rows, struct arena *arena,
                                       struct shard_write_request *out, struct reason *why)
{
    assert(out);

    ProtobufCMessage *found = NULL;
    enum status status =
        shard_unpack(&reco__shard__v1__write_request__descriptor, body, arena, &found, why);
    if (status != STATUS_OK)
        return status;

    const Reco__Shard__V1__WriteRequest *raw = (const void *)found;
    status = check_write(raw, rows, why);
    if (status != STATUS_OK)
        return status;

    struct wire_memory memory = {arena, STATUS_OK};
    struct shard_write_request request = {
        .generation = raw->generation,
        .dimension = raw->dimension,
        .count = raw->n_keys,
        .keys = wire_texts(&memory, raw->keys, raw->n_keys),
        .captions = wire_texts(&memory, raw->captions, raw->n_captions),
        .sources = wire_texts(&memory, raw->sources, raw->n_sources),
        .tags = wire_texts(&memory, raw->tags, raw->n_tags),
        .hidden = raw->n_hidden > 0 ? raw->hidden : NULL,
        .rows = shard_halves(&memory, rows),
    };
    status = wire_finish(&memory, why);
    if (status == STATUS_OK)
        *out = request;
    return status;
}

enum status shard_encode_write_reply(const struct shard_write_reply *message, struct buffer *out)
{
    assert(message);

    struct wire_memory memory = wire_begin();
    Reco__Shard__V1__WriteReply raw;
    reco__shard__v1__write_reply__init(&raw);
    raw.status = wire_borrow(message->status);
    raw.n_status = message->count;
    raw.reasons = wire_put_texts(&memory, message->reasons, message->count);
    raw.n_reasons = message->count;
    raw.stored = message->stored;
    raw.duplicates = message->duplicates;
    raw.sequence = message->sequence;
    return wire_pack(&memory, &raw.base, out);
}

enum status shard_decode_write_reply(struct bytes body, struct bytes rows, struct arena *arena,
                                     struct shard_write_reply *out, struct reason *why)
{
    assert(out);

    ProtobufCMessage *found = NULL;
    enum status status = shard_unpack_alone(&reco__shard__v1__write_reply__descriptor, body, rows,
                                            arena, &found, why);
    if (status != STATUS_OK)
        return status;

    const Reco__Shard__V1__WriteReply *raw = (const void *)found;
    status = wire_check_count("reasons", raw->n_reasons, raw->n_status, false, why);
    if (status != STATUS_OK)
        return status;

    struct wire_memory memory = {arena, STATUS_OK};
    struct shard_write_reply reply = {
        .count = raw->n_status,
        .status = raw->status,
        .reasons = wire_texts(&memory, raw->reasons, raw->n_reasons),
        .stored = raw->stored,
        .duplicates = raw->duplicates,
        .sequence = raw->sequence,
    };
    status = wire_finish(&memory, why);
    if (status == STATUS_OK)
        *out = reply;
    return status;
}

enum status shard_encode_ids_request(const struct shard_ids_request *message, struct buffer *out)
{
    assert(message);

    struct wire_memory memory = wire_begin();
    Reco__Shard__V1__DeleteRequest raw;
    reco__shard__v1__delete_request__init(&raw);
    raw.generation = message->generation;
    raw.ids = wire_borrow(message->ids);
    raw.n_ids = message->count;
    return wire_pack(&memory, &raw.base, out);
}

enum status shard_decode_ids_request(struct bytes body, struct bytes rows, struct arena *arena,
                                     struct shard_ids_request *out, struct reason *why)
{
    assert(out);

    ProtobufCMessage *found = NULL;
    enum status status = shard_unpack_alone(&reco__shard__v1__delete_request__descriptor, body,
                                            rows, arena, &found, why);
    if (status != STATUS_OK)
        return status;

    const Reco__Shard__V1__DeleteRequest *raw = (const void *)found;
    *out = (struct shard_ids_request){raw->generation, raw->ids, raw->n_ids};
    return STATUS_OK;
}

enum status shard_encode_flags_reply(const struct shard_flags_reply *message, struct buffer *out)
{
    assert(message);

    struct wire_memory memory = wire_begin();
    Reco__Shard__V1__DeleteReply raw;
    reco__shard__v1__delete_reply__init(&raw);
    raw.deleted = wire_borrow(message->flags);
    raw.n_deleted = message->count;
    return wire_pack(&memory, &raw.base, out);
}

enum status shard_decode_flags_reply(struct bytes body, struct bytes rows, struct arena *arena,
                                     struct shard_flags_reply *out, struct reason *why)
{
    assert(out);

    ProtobufCMessage *found = NULL;
    enum status status = shard_unpack_alone(&reco__shard__v1__delete_reply__descriptor, body, rows,
                                            arena, &found, why);
    if (status != STATUS_OK)
        return status;

    const Reco__Shard__V1__DeleteReply *raw = (const void *)found;
    for (size_t i = 0; i < raw->n_deleted; i++) {
        status = wire_check_uint("flags", raw->deleted[i], 0, SHARD_FLAG_ALREADY, why);
        if (status != STATUS_OK)
            return status;
    }
    *out = (struct shard_flags_reply){raw->deleted, raw->n_deleted};
    return STATUS_OK;
}
