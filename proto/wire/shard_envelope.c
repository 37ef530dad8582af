// SPDX-License-Identifier: Apache-2.0
// Frame 0, and what all bodies share.

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "proto/wire/shard_internal.h"

#define VERSION_MAJOR(version) ((version) / 1000)

enum status shard_unpack(const ProtobufCMessageDescriptor *type, struct bytes body,
                         struct arena *arena, ProtobufCMessage **out, struct reason *why)
{
    return wire_unpack(type, body, BODY_BYTES_MAX, arena, out, why);
}

enum status shard_unpack_alone(const ProtobufCMessageDescriptor *type, struct bytes body,
                               struct bytes rows, struct arena *arena, ProtobufCMessage **out,
                               struct reason *why)
{
    if (rows.count > 0)
        return reason_set(why, STATUS_INVALID, "rows", "%zu bytes; allowed: none", rows.count);
    return shard_unpack(type, body, arena, out, why);
}

const uint16_t *shard_halves(struct wire_memory *memory, struct bytes rows)
{
    if (rows.count == 0 || memory->status != STATUS_OK)
        return NULL;
    if ((uintptr_t)rows.data % sizeof(uint16_t) == 0)
        return (const void *)rows.data;

    uint16_t *copy = wire_array(memory, rows.count / sizeof(uint16_t), sizeof(uint16_t));
    if (copy)
        memcpy(copy, rows.data, rows.count);
    return copy;
}

const char *shard_type_name(enum shard_type type)
{
    const ProtobufCEnumValue *value =
        protobuf_c_enum_descriptor_get_value(&reco__shard__v1__type__descriptor, (int)type);
    return value ? value->name : "?";
}

enum status shard_encode_envelope(const struct shard_envelope *envelope, struct buffer *out)
{
    assert(envelope);
    assert(out);

    struct wire_memory memory = wire_begin();
    Reco__Shard__V1__Envelope raw;
    reco__shard__v1__envelope__init(&raw);
    raw.version = envelope->version;
    raw.type = (Reco__Shard__V1__Type)envelope->type;
    raw.reply = envelope->reply;
    raw.request_id = envelope->request_id;
    raw.deadline_us = envelope->deadline_us;
    raw.status = (uint32_t)envelope->status;
    raw.field = wire_put_text(&memory, envelope->field);
    raw.text = wire_put_text(&memory, envelope->text);
    raw.trace = (ProtobufCBinaryData){envelope->trace.bytes, wire_borrow(envelope->trace.data)};
    raw.traceparent = wire_put_text(&memory, envelope->traceparent);
    raw.body_crc = envelope->body_crc;
    raw.rows_crc = envelope->rows_crc;
    raw.credits = envelope->credits;
    return wire_pack(&memory, &raw.base, out);
}

enum status shard_decode_envelope(struct bytes frame, struct arena *arena,
                                  struct shard_envelope *out, struct reason *why)
{
    assert(out);

    ProtobufCMessage *found = NULL;
    enum status status = wire_unpack(&reco__shard__v1__envelope__descriptor, frame,
                                     ENVELOPE_BYTES_MAX, arena, &found, why);
    if (status != STATUS_OK)
        return status;

    const Reco__Shard__V1__Envelope *raw = (const void *)found;
    struct shard_envelope envelope = {
        .version = raw->version,
        .type = (enum shard_type)raw->type,
        .reply = raw->reply,
        .request_id = raw->request_id,
        .deadline_us = raw->deadline_us,
        // A node of a newer version may fail in ways that this one has no word for.
        .status = status_is_known(raw->status) ? (enum status)raw->status : STATUS_INTERNAL,
        .field = wire_text(raw->field),
        .text = wire_text(raw->text),
        .trace = {(const char *)raw->trace.data, raw->trace.len},
        .traceparent = wire_text(raw->traceparent),
        .body_crc = raw->body_crc,
        .rows_crc = raw->rows_crc,
        .credits = raw->credits,
    };
    if (VERSION_MAJOR(raw->version) != VERSION_MAJOR(SHARD_VERSION))
        status = reason_set(why, STATUS_UNSUPPORTED, "version", "%" PRIu32 "; allowed: %u..%u",
                            raw->version, SHARD_VERSION, SHARD_VERSION + 999);
    else if (!protobuf_c_enum_descriptor_get_value(&reco__shard__v1__type__descriptor,
                                                   (int)raw->type))
        status = reason_set(why, STATUS_UNSUPPORTED, "type", "%d; this version has %d..%d",
                            (int)raw->type, SHARD_HELLO, SHARD_EXPORT_END);
    else if (!bytes_is_utf8(raw->trace.data, raw->trace.len))
        return reason_set(why, STATUS_INVALID, "trace", "not UTF-8 text");

    *out = envelope;
    return status;
}
