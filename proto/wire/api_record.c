// SPDX-License-Identifier: Apache-2.0
// Messages of the Memory service that carry records or their keys: Ingest, and Delete, Hide and
// Unhide, which ask and answer in one shape; a test holds their messages to that.

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "proto/wire/api_internal.h"

static void write_record(struct wire_memory *memory, const struct api_ingest_record *record,
                         Reco__V1__IngestRecord *raw)
{
    reco__v1__ingest_record__init(raw);
    raw->key = wire_put_text(memory, record->key);
    raw->image = wire_put_bytes(record->image);
    raw->image_embedding = wire_borrow(record->image_embedding);
    raw->n_image_embedding = record->image_count;
    raw->caption = wire_put_text(memory, record->caption);
    raw->text_embedding = wire_borrow(record->text_embedding);
    raw->n_text_embedding = record->text_count;
    raw->tags = wire_put_texts(memory, record->tags, record->tag_count);
    raw->n_tags = record->tag_count;
    raw->source = wire_put_text(memory, record->source);
    raw->hidden = record->hidden;
}

static struct api_ingest_record read_record(struct wire_memory *memory,
                                            const Reco__V1__IngestRecord *raw)
{
    return (struct api_ingest_record){
        .key = wire_text(raw->key),
        .image = wire_bytes(raw->image),
        .image_embedding = raw->image_embedding,
        .image_count = raw->n_image_embedding,
        .caption = wire_text(raw->caption),
        .text_embedding = raw->text_embedding,
        .text_count = raw->n_text_embedding,
        .tags = wire_texts(memory, raw->tags, raw->n_tags),
        .tag_count = raw->n_tags,
        .source = wire_text(raw->source),
        .hidden = raw->hidden,
    };
}

// Tags are joined by U+001F between coordinator and nodes.
static enum status check_tags(const struct api_ingest_record *record, size_t index,
                              struct reason *why)
{
    for (size_t i = 0; i < record->tag_count; i++) {
        if (!memchr(record->tags[i].data, '\x1f', record->tags[i].bytes))
            continue;
        char field[REASON_FIELD_BYTES];
        (void)snprintf(field, sizeof(field), "records[%zu].tags[%zu]", index, i);
        return reason_set(why, STATUS_INVALID, field,
                          "it holds the control character U+001F; not allowed");
    }
    return STATUS_OK;
}

enum status api_encode_ingest_request(const struct api_ingest_request *message, struct buffer *out)
{
    assert(message);

    struct wire_memory memory = wire_begin();
    Reco__V1__IngestRequest raw;
    reco__v1__ingest_request__init(&raw);
    Reco__V1__IngestRecord *records = wire_array(&memory, message->count, sizeof(*records));
    raw.records = wire_array(&memory, message->count, sizeof(Reco__V1__IngestRecord *));
    raw.n_records = raw.records ? message->count : 0;
    for (size_t i = 0; i < raw.n_records; i++) {
        write_record(&memory, &message->records[i], &records[i]);
        raw.records[i] = &records[i];
    }
    raw.memory = wire_put_text(&memory, message->memory);
    raw.finish = message->finish;
    raw.skip_existing = message->skip_existing;
    return wire_pack(&memory, &raw.base, out);
}

enum status api_decode_ingest_request(struct bytes message, struct arena *arena,
                                      struct api_ingest_request *out, struct reason *why)
{
    assert(out);

    ProtobufCMessage *found = NULL;
    enum status status =
        api_unpack(&reco__v1__ingest_request__descriptor, message, arena, &found, why);
    if (status != STATUS_OK)
        return status;

    const Reco__V1__IngestRequest *raw = (const void *)found;
    struct wire_memory memory = {arena, STATUS_OK};
    struct api_ingest_record *records = wire_array(&memory, raw->n_records, sizeof(*records));
    for (size_t i = 0; records && i < raw->n_records; i++)
        records[i] = read_record(&memory, raw->records[i]);

    status = wire_finish(&memory, why);
    for (size_t i = 0; records && i < raw->n_records && status == STATUS_OK; i++)
        status = check_tags(&records[i], i, why);
    if (status == STATUS_OK)
        *out = (struct api_ingest_request){
            .memory = wire_text(raw->memory),
            .records = records,
            .count = raw->n_records,
            .finish = raw->finish,
            .skip_existing = raw->skip_existing,
        };
    return status;
}

enum status api_encode_ingest_reply(const struct api_ingest_reply *message, struct buffer *out)
{
    assert(message);

    struct wire_memory memory = wire_begin();
    Reco__V1__IngestReply raw;
    reco__v1__ingest_reply__init(&raw);
    raw.request_id = wire_put_text(&memory, message->request_id);
    raw.memory = wire_put_text(&memory, message->memory);
    raw.generation = message->generation;
    raw.stored = message->stored;
    raw.duplicates = message->duplicates;
    raw.failed_keys = wire_put_texts(&memory, message->failed_keys, message->failed_listed);
    raw.n_failed_keys = message->failed_listed;
    raw.failed_reasons = wire_put_texts(&memory, message->failed_reasons, message->failed_listed);
    raw.n_failed_reasons = message->failed_listed;
    raw.failed = message->failed;
    raw.skipped = message->skipped;
    return wire_pack(&memory, &raw.base, out);
}

enum status api_decode_ingest_reply(struct bytes message, struct arena *arena,
                                    struct api_ingest_reply *out, struct reason *why)
{
    assert(out);

    ProtobufCMessage *found = NULL;
    enum status status =
        api_unpack(&reco__v1__ingest_reply__descriptor, message, arena, &found, why);
    if (status != STATUS_OK)
        return status;

    const Reco__V1__IngestReply *raw = (const void *)found;
    status =
        wire_check_count("failed_reasons", raw->n_failed_reasons, raw->n_failed_keys, false, why);
    if (status != STATUS_OK)
        return status;

    struct wire_memory memory = {arena, STATUS_OK};
    struct api_ingest_reply reply = {
        .request_id = wire_text(raw->request_id),
        .memory = wire_text(raw->memory),
        .generation = raw->generation,
        .stored = raw->stored,
        .duplicates = raw->duplicates,
        .failed_keys = wire_texts(&memory, raw->failed_keys, raw->n_failed_keys),
        .failed_reasons = wire_texts(&memory, raw->failed_reasons, raw->n_failed_reasons),
        .failed_listed = raw->n_failed_keys,
        .failed = raw->failed,
        .skipped = raw->skipped,
    };
    status = wire_finish(&memory, why);
    if (status == STATUS_OK)
        *out = reply;
    return status;
}

enum status api_encode_delete_request(const struct api_delete_request *message, struct buffer *out)
{
    assert(message);

    struct wire_memory memory = wire_begin();
    Reco__V1__DeleteRecordsRequest raw;
    reco__v1__delete_records_request__init(&raw);
    raw.memory = wire_put_text(&memory, message->memory);
    raw.keys = wire_put_texts(&memory, message->keys, message->key_count);
    raw.n_keys = message->key_count;
    raw.ids = wire_borrow(message->ids);
    raw.n_ids = message->id_count;
    return wire_pack(&memory, &raw.base, out);
}

enum status api_decode_delete_request(struct bytes message, struct arena *arena,
                                      struct api_delete_request *out, struct reason *why)
{
    assert(out);

    ProtobufCMessage *found = NULL;
    enum status status =
        api_unpack(&reco__v1__delete_records_request__descriptor, message, arena, &found, why);
    if (status != STATUS_OK)
        return status;

    const Reco__V1__DeleteRecordsRequest *raw = (const void *)found;
    if (raw->n_keys == 0 && raw->n_ids == 0)
        return reason_set(why, STATUS_INVALID, "keys", "required: a key or an id");

    struct wire_memory memory = {arena, STATUS_OK};
    struct api_delete_request request = {
        .memory = wire_text(raw->memory),
        .keys = wire_texts(&memory, raw->keys, raw->n_keys),
        .key_count = raw->n_keys,
        .ids = raw->ids,
        .id_count = raw->n_ids,
    };
    status = wire_finish(&memory, why);
    if (status == STATUS_OK)
        *out = request;
    return status;
}

enum status api_encode_delete_reply(const struct api_delete_reply *message, struct buffer *out)
{
    assert(message);

    struct wire_memory memory = wire_begin();
    Reco__V1__DeleteRecordsReply raw;
    reco__v1__delete_records_reply__init(&raw);
    raw.request_id = wire_put_text(&memory, message->request_id);
    raw.deleted = message->deleted;
    raw.missing_keys = wire_put_texts(&memory, message->missing_keys, message->missing_key_count);
    raw.n_missing_keys = message->missing_key_count;
    raw.missing_ids = wire_borrow(message->missing_ids);
    raw.n_missing_ids = message->missing_id_count;
    return wire_pack(&memory, &raw.base, out);
}

enum status api_decode_delete_reply(struct bytes message, struct arena *arena,
                                    struct api_delete_reply *out, struct reason *why)
{
    assert(out);

    ProtobufCMessage *found = NULL;
    enum status status =
        api_unpack(&reco__v1__delete_records_reply__descriptor, message, arena, &found, why);
    if (status != STATUS_OK)
        return status;

    const Reco__V1__DeleteRecordsReply *raw = (const void *)found;
    struct wire_memory memory = {arena, STATUS_OK};
    struct api_delete_reply reply = {
        .request_id = wire_text(raw->request_id),
        .deleted = raw->deleted,
        .missing_keys = wire_texts(&memory, raw->missing_keys, raw->n_missing_keys),
        .missing_key_count = raw->n_missing_keys,
        .missing_ids = raw->missing_ids,
        .missing_id_count = raw->n_missing_ids,
    };
    status = wire_finish(&memory, why);
    if (status == STATUS_OK)
        *out = reply;
    return status;
}
