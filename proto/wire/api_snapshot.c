// SPDX-License-Identifier: Apache-2.0
// Messages of Memory.Snapshot and Memory.Restore.

#include <assert.h>

#include "proto/wire/api_internal.h"

enum status api_encode_snapshot_request(const struct api_snapshot_request *message,
                                        struct buffer *out)
{
    assert(message);

    struct wire_memory memory = wire_begin();
    Reco__V1__SnapshotRequest raw;
    reco__v1__snapshot_request__init(&raw);
    raw.memory = wire_put_text(&memory, message->memory);
    raw.directory = wire_put_text(&memory, message->directory);
    return wire_pack(&memory, &raw.base, out);
}

enum status api_decode_snapshot_request(struct bytes message, struct arena *arena,
                                        struct api_snapshot_request *out, struct reason *why)
{
    assert(out);

    ProtobufCMessage *found = NULL;
    const enum status status =
        api_unpack(&reco__v1__snapshot_request__descriptor, message, arena, &found, why);
    if (status != STATUS_OK)
        return status;

    const Reco__V1__SnapshotRequest *raw = (const void *)found;
    *out = (struct api_snapshot_request){
        .memory = wire_text(raw->memory),
        .directory = wire_text(raw->directory),
    };
    return STATUS_OK;
}

enum status api_encode_snapshot_reply(const struct api_snapshot_reply *message, struct buffer *out)
{
    assert(message);

    struct wire_memory memory = wire_begin();
    Reco__V1__SnapshotReply raw;
    reco__v1__snapshot_reply__init(&raw);
    raw.request_id = wire_put_text(&memory, message->request_id);
    raw.memory = wire_put_text(&memory, message->memory);
    raw.generation = message->generation;
    raw.directory = wire_put_text(&memory, message->directory);
    raw.records = message->records;
    raw.bytes = message->bytes;
    raw.content_hash = wire_put_text(&memory, message->content_hash);
    return wire_pack(&memory, &raw.base, out);
}

enum status api_decode_snapshot_reply(struct bytes message, struct arena *arena,
                                      struct api_snapshot_reply *out, struct reason *why)
{
    assert(out);

    ProtobufCMessage *found = NULL;
    const enum status status =
        api_unpack(&reco__v1__snapshot_reply__descriptor, message, arena, &found, why);
    if (status != STATUS_OK)
        return status;

    const Reco__V1__SnapshotReply *raw = (const void *)found;
    *out = (struct api_snapshot_reply){
        .request_id = wire_text(raw->request_id),
        .memory = wire_text(raw->memory),
        .generation = raw->generation,
        .directory = wire_text(raw->directory),
        .records = raw->records,
        .bytes = raw->bytes,
        .content_hash = wire_text(raw->content_hash),
    };
    return STATUS_OK;
}

enum status api_encode_restore_request(const struct api_restore_request *message,
                                       struct buffer *out)
{
    assert(message);

    struct wire_memory memory = wire_begin();
    Reco__V1__RestoreRequest raw;
    reco__v1__restore_request__init(&raw);
    raw.directory = wire_put_text(&memory, message->directory);
    raw.memory = wire_put_text(&memory, message->memory);
    raw.replace = message->replace;
    return wire_pack(&memory, &raw.base, out);
}

enum status api_decode_restore_request(struct bytes message, struct arena *arena,
                                       struct api_restore_request *out, struct reason *why)
{
    assert(out);

    ProtobufCMessage *found = NULL;
    const enum status status =
        api_unpack(&reco__v1__restore_request__descriptor, message, arena, &found, why);
    if (status != STATUS_OK)
        return status;

    const Reco__V1__RestoreRequest *raw = (const void *)found;
    *out = (struct api_restore_request){
        .directory = wire_text(raw->directory),
        .memory = wire_text(raw->memory),
        .replace = raw->replace,
    };
    return STATUS_OK;
}

enum status api_encode_restore_reply(const struct api_restore_reply *message, struct buffer *out)
{
    assert(message);

    struct wire_memory memory = wire_begin();
    Reco__V1__RestoreReply raw;
    reco__v1__restore_reply__init(&raw);
    raw.request_id = wire_put_text(&memory, message->request_id);
    raw.memory = wire_put_text(&memory, message->memory);
    raw.generation = message->generation;
    raw.records = message->records;
    raw.content_hash = wire_put_text(&memory, message->content_hash);
    return wire_pack(&memory, &raw.base, out);
}

enum status api_decode_restore_reply(struct bytes message, struct arena *arena,
                                     struct api_restore_reply *out, struct reason *why)
{
    assert(out);

    ProtobufCMessage *found = NULL;
    const enum status status =
        api_unpack(&reco__v1__restore_reply__descriptor, message, arena, &found, why);
    if (status != STATUS_OK)
        return status;

    const Reco__V1__RestoreReply *raw = (const void *)found;
    *out = (struct api_restore_reply){
        .request_id = wire_text(raw->request_id),
        .memory = wire_text(raw->memory),
        .generation = raw->generation,
        .records = raw->records,
        .content_hash = wire_text(raw->content_hash),
    };
    return STATUS_OK;
}
