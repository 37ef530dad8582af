// SPDX-License-Identifier: Apache-2.0
// Bodies of EXPORT_BEGIN, EXPORT_NEXT and EXPORT_END, which ask and answer in one shape.

#include <assert.h>

#include "proto/wire/shard_internal.h"

enum status shard_encode_export_request(const struct shard_export_request *message,
                                        struct buffer *out)
{
    assert(message);

    struct wire_memory memory = wire_begin();
    Reco__Shard__V1__ExportRequest raw;
    reco__shard__v1__export_request__init(&raw);
    raw.generation = message->generation;
    raw.cursor = message->cursor;
    raw.want_records = message->want_records;
    raw.want_digest = message->want_digest;
    return wire_pack(&memory, &raw.base, out);
}

enum status shard_decode_export_request(struct bytes body, struct bytes rows, struct arena *arena,
                                        struct shard_export_request *out, struct reason *why)
{
    assert(out);

    ProtobufCMessage *found = NULL;
    enum status status = shard_unpack_alone(&reco__shard__v1__export_request__descriptor, body,
                                            rows, arena, &found, why);
    if (status != STATUS_OK)
        return status;

    const Reco__Shard__V1__ExportRequest *raw = (const void *)found;
    *out = (struct shard_export_request){raw->generation, raw->cursor, raw->want_records,
                                         raw->want_digest};
    return STATUS_OK;
}

enum status shard_encode_export_reply(const struct shard_export_reply *message, struct buffer *out)
{
    assert(message);

    struct wire_memory memory = wire_begin();
    Reco__Shard__V1__ExportReply raw;
    reco__shard__v1__export_reply__init(&raw);
    raw.cursor = message->cursor;
    raw.count = message->count;
    raw.end = message->end;
    raw.digest_low = message->digest.low;
    raw.digest_high = message->digest.high;
    return wire_pack(&memory, &raw.base, out);
}

enum status shard_decode_export_reply(struct bytes body, struct bytes rows, struct arena *arena,
                                      struct shard_export_reply *out, struct reason *why)
{
    assert(out);

    ProtobufCMessage *found = NULL;
    enum status status =
        shard_unpack(&reco__shard__v1__export_reply__descriptor, body, arena, &found, why);
    if (status != STATUS_OK)
        return status;

    const Reco__Shard__V1__ExportReply *raw = (const void *)found;
    *out = (struct shard_export_reply){
        raw->cursor, raw->count, raw->end, {raw->digest_low, raw->digest_high}, rows};
    return STATUS_OK;
}
