// SPDX-License-Identifier: Apache-2.0
// Messages of Memory.Export: a question, and records in as many answers as it takes.

#include <assert.h>

#include "proto/wire/api_internal.h"

enum status api_encode_export_request(const struct api_export_request *message, struct buffer *out)
{
    assert(message);

    struct wire_memory memory = wire_begin();
    Reco__V1__RecordField fields[RECORD_FIELDS_MAX];
    Reco__V1__ExportRequest raw;
    reco__v1__export_request__init(&raw);
    raw.memory = wire_put_text(&memory, message->memory);
    raw.n_fields = api_write_fields(message->fields, fields);
    raw.fields = fields;
    raw.filter = api_write_filter(&memory, &message->filter);
    return wire_pack(&memory, &raw.base, out);
}

enum status api_decode_export_request(struct bytes message, struct arena *arena,
                                      struct api_export_request *out, struct reason *why)
{
    assert(out);

    ProtobufCMessage *found = NULL;
    enum status status =
        api_unpack(&reco__v1__export_request__descriptor, message, arena, &found, why);
    if (status != STATUS_OK)
        return status;

    const Reco__V1__ExportRequest *raw = (const void *)found;
    struct wire_memory memory = {arena, STATUS_OK};
    struct api_export_request request = {.memory = wire_text(raw->memory)};
    api_read_filter(&memory, raw->filter, &request.filter);
    status = api_read_fields("fields", raw->fields, raw->n_fields, &request.fields, why);
    if (status == STATUS_OK)
        status = wire_finish(&memory, why);
    if (status == STATUS_OK)
        *out = request;
    return status;
}

enum status api_encode_export_reply(const struct api_export_reply *message, struct buffer *out)
{
    assert(message);

    struct wire_memory memory = wire_begin();
    Reco__V1__ExportReply raw;
    reco__v1__export_reply__init(&raw);
    raw.memory = wire_put_text(&memory, message->memory);
    raw.generation = message->generation;
    raw.space = wire_put_text(&memory, message->space);
    raw.dimension = message->dimension;
    raw.records = api_write_records(&memory, message->records, message->count);
    raw.n_records = raw.records ? message->count : 0;
    raw.total = message->total;
    return wire_pack(&memory, &raw.base, out);
}

enum status api_decode_export_reply(struct bytes message, struct arena *arena,
                                    struct api_export_reply *out, struct reason *why)
{
    assert(out);

    ProtobufCMessage *found = NULL;
    enum status status =
        api_unpack(&reco__v1__export_reply__descriptor, message, arena, &found, why);
    if (status != STATUS_OK)
        return status;

    const Reco__V1__ExportReply *raw = (const void *)found;
    struct wire_memory memory = {arena, STATUS_OK};
    const struct api_export_reply reply = {
        .memory = wire_text(raw->memory),
        .generation = raw->generation,
        .space = wire_text(raw->space),
        .dimension = raw->dimension,
        .records = api_read_records(&memory, raw->records, raw->n_records),
        .count = raw->n_records,
        .total = raw->total,
    };
    status = wire_finish(&memory, why);
    if (status == STATUS_OK)
        *out = reply;
    return status;
}
