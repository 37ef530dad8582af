// SPDX-License-Identifier: Apache-2.0
// Records by name: GetRecords and GetVectors, and the parts that other messages share with them
// (Record, Filter, lists of RecordField).

#include <assert.h>

#include "proto/wire/api_internal.h"

// --- fields

enum status api_read_fields(const char *field, const Reco__V1__RecordField *raw, size_t count,
                            uint32_t *out, struct reason *why)
{
    uint32_t fields = 0;
    for (size_t i = 0; i < count; i++) {
        if (raw[i] != RECO__V1__RECORD_FIELD__RECORD_FIELD_DEFAULT)
            fields |= 1u << (unsigned)raw[i];
    }
    const uint32_t none = 1u << API_FIELD_NONE;
    if ((fields & none) && fields != none)
        return reason_set(why, STATUS_INVALID, field,
                          "RECORD_FIELD_NONE (7) together with others; allowed: alone");
    *out = fields;
    return STATUS_OK;
}

size_t api_write_fields(uint32_t fields, Reco__V1__RecordField *target)
{
    size_t count = 0;
    for (unsigned i = API_FIELD_KEY; i <= API_FIELD_NONE; i++) {
        if (fields & 1u << i)
            target[count++] = (Reco__V1__RecordField)i;
    }
    return count;
}

// --- records

const struct api_record *api_read_records(struct wire_memory *memory, Reco__V1__Record **raw,
                                          size_t count)
{
    struct api_record *records = wire_array(memory, count, sizeof(*records));
    for (size_t i = 0; records && i < count; i++)
        records[i] = (struct api_record){
            .id = raw[i]->id,
            .key = wire_text(raw[i]->key),
            .caption = wire_text(raw[i]->caption),
            .source = wire_text(raw[i]->source),
            .tags = wire_texts(memory, raw[i]->tags, raw[i]->n_tags),
            .tag_count = raw[i]->n_tags,
            .hidden = raw[i]->hidden,
            .image_embedding = raw[i]->image_embedding,
            .image_count = raw[i]->n_image_embedding,
            .text_embedding = raw[i]->text_embedding,
            .text_count = raw[i]->n_text_embedding,
        };
    return records;
}

static void write_record(struct wire_memory *memory, const struct api_record *record,
                         Reco__V1__Record *raw)
{
    reco__v1__record__init(raw);
    raw->id = record->id;
    raw->key = wire_put_text(memory, record->key);
    raw->caption = wire_put_text(memory, record->caption);
    raw->source = wire_put_text(memory, record->source);
    raw->tags = wire_put_texts(memory, record->tags, record->tag_count);
    raw->n_tags = record->tag_count;
    raw->hidden = record->hidden;
    raw->image_embedding = wire_borrow(record->image_embedding);
    raw->n_image_embedding = record->image_count;
    raw->text_embedding = wire_borrow(record->text_embedding);
    raw->n_text_embedding = record->text_count;
}

Reco__V1__Record **api_write_records(struct wire_memory *memory, const struct api_record *records,
                                     size_t count)
{
    Reco__V1__Record **list = wire_array(memory, count, sizeof(Reco__V1__Record *));
    Reco__V1__Record *raw = wire_array(memory, count, sizeof(*raw));
    for (size_t i = 0; list && raw && i < count; i++) {
        write_record(memory, &records[i], &raw[i]);
        list[i] = &raw[i];
    }
    return raw ? list : NULL;
}

// --- filters

void api_read_filter(struct wire_memory *memory, const Reco__V1__Filter *raw,
                     struct api_filter *out)
{
    *out = (struct api_filter){0};
    if (!raw)
        return;

    *out = (struct api_filter){
        .all_tags = wire_texts(memory, raw->all_tags, raw->n_all_tags),
        .all_count = raw->n_all_tags,
        .any_tags = wire_texts(memory, raw->any_tags, raw->n_any_tags),
        .any_count = raw->n_any_tags,
        .no_tags = wire_texts(memory, raw->no_tags, raw->n_no_tags),
        .no_count = raw->n_no_tags,
        .keys = wire_texts(memory, raw->keys, raw->n_keys),
        .key_count = raw->n_keys,
        .ids = raw->ids,
        .id_count = raw->n_ids,
        .only_listed = raw->only_listed,
    };
}

Reco__V1__Filter *api_write_filter(struct wire_memory *memory, const struct api_filter *filter)
{
    if (filter->all_count + filter->any_count + filter->no_count + filter->key_count +
                filter->id_count ==
            0 &&
        !filter->only_listed)
        return NULL;

    Reco__V1__Filter *raw = wire_array(memory, 1, sizeof(*raw));
    if (!raw)
        return NULL;
    reco__v1__filter__init(raw);
    raw->all_tags = wire_put_texts(memory, filter->all_tags, filter->all_count);
    raw->n_all_tags = filter->all_count;
    raw->any_tags = wire_put_texts(memory, filter->any_tags, filter->any_count);
    raw->n_any_tags = filter->any_count;
    raw->no_tags = wire_put_texts(memory, filter->no_tags, filter->no_count);
    raw->n_no_tags = filter->no_count;
    raw->keys = wire_put_texts(memory, filter->keys, filter->key_count);
    raw->n_keys = filter->key_count;
    raw->ids = wire_borrow(filter->ids);
    raw->n_ids = filter->id_count;
    raw->only_listed = filter->only_listed;
    return raw;
}

// --- GetRecords and GetVectors: requests

enum status api_encode_records_request(bool vectors, const struct api_records_request *message,
                                       struct buffer *out)
{
    assert(message);

    struct wire_memory memory = wire_begin();
    Reco__V1__RecordField fields[RECORD_FIELDS_MAX];
    Reco__V1__GetRecordsRequest raw;
    reco__v1__get_records_request__init(&raw);
    raw.memory = wire_put_text(&memory, message->memory);
    raw.keys = wire_put_texts(&memory, message->keys, message->key_count);
    raw.n_keys = message->key_count;
    raw.ids = wire_borrow(message->ids);
    raw.n_ids = message->id_count;
    if (!vectors) {
        raw.n_fields = api_write_fields(message->fields, fields);
        raw.fields = fields;
        return wire_pack(&memory, &raw.base, out);
    }

    Reco__V1__GetVectorsRequest other;
    reco__v1__get_vectors_request__init(&other);
    other.memory = raw.memory;
    other.keys = raw.keys;
    other.n_keys = raw.n_keys;
    other.ids = raw.ids;
    other.n_ids = raw.n_ids;
    other.modality = (Reco__V1__Modality)message->modality;
    return wire_pack(&memory, &other.base, out);
}

enum status api_decode_records_request(bool vectors, struct bytes message, struct arena *arena,
                                       struct api_records_request *out, struct reason *why)
{
    assert(out);

    ProtobufCMessage *found = NULL;
    enum status status = api_unpack(vectors ? &reco__v1__get_vectors_request__descriptor
                                            : &reco__v1__get_records_request__descriptor,
                                    message, arena, &found, why);
    if (status != STATUS_OK)
        return status;

    struct wire_memory memory = {arena, STATUS_OK};
    struct api_records_request request = {0};
    if (vectors) {
        const Reco__V1__GetVectorsRequest *raw = (const void *)found;
        request.memory = wire_text(raw->memory);
        request.keys = wire_texts(&memory, raw->keys, raw->n_keys);
        request.key_count = raw->n_keys;
        request.ids = raw->ids;
        request.id_count = raw->n_ids;
        request.modality = (enum api_modality)raw->modality;
    } else {
        const Reco__V1__GetRecordsRequest *raw = (const void *)found;
        request.memory = wire_text(raw->memory);
        request.keys = wire_texts(&memory, raw->keys, raw->n_keys);
        request.key_count = raw->n_keys;
        request.ids = raw->ids;
        request.id_count = raw->n_ids;
        status = api_read_fields("fields", raw->fields, raw->n_fields, &request.fields, why);
    }
    if (status == STATUS_OK)
        status = wire_finish(&memory, why);
    size_t count = request.key_count + request.id_count;
    if (status == STATUS_OK && (count < 1 || count > GET_RECORDS_MAX))
        status = reason_set(why, STATUS_INVALID, "keys",
                            "%zu keys and ids together; allowed: 1..%d", count, GET_RECORDS_MAX);
    if (status == STATUS_OK)
        *out = request;
    return status;
}

// --- replies

static enum status encode_vectors(struct wire_memory *memory,
                                  const struct api_records_reply *message, struct buffer *out)
{
    Reco__V1__GetVectorsReply raw;
    reco__v1__get_vectors_reply__init(&raw);
    raw.request_id = wire_put_text(memory, message->request_id);
    raw.memory = wire_put_text(memory, message->memory);
    raw.generation = message->generation;
    raw.space = wire_put_text(memory, message->space);
    raw.dimension = message->dimension;
    raw.ids = wire_borrow(message->ids);
    raw.n_ids = message->vector_count;
    raw.image_embeddings = wire_borrow(message->image_embeddings);
    raw.n_image_embeddings = message->image_floats;
    raw.text_embeddings = wire_borrow(message->text_embeddings);
    raw.n_text_embeddings = message->text_floats;
    raw.missing_keys = wire_put_texts(memory, message->missing_keys, message->missing_key_count);
    raw.n_missing_keys = message->missing_key_count;
    raw.missing_ids = wire_borrow(message->missing_ids);
    raw.n_missing_ids = message->missing_id_count;
    raw.degraded = wire_put_texts(memory, message->degraded, message->degraded_count);
    raw.n_degraded = message->degraded_count;
    return wire_pack(memory, &raw.base, out);
}

enum status api_encode_records_reply(bool vectors, const struct api_records_reply *message,
                                     struct buffer *out)
{
    assert(message);

    struct wire_memory memory = wire_begin();
    if (vectors)
        return encode_vectors(&memory, message, out);

    Reco__V1__GetRecordsReply raw;
    reco__v1__get_records_reply__init(&raw);
    raw.request_id = wire_put_text(&memory, message->request_id);
    raw.memory = wire_put_text(&memory, message->memory);
    raw.generation = message->generation;
    raw.space = wire_put_text(&memory, message->space);
    raw.records = api_write_records(&memory, message->records, message->count);
    raw.n_records = raw.records ? message->count : 0;
    raw.missing_keys = wire_put_texts(&memory, message->missing_keys, message->missing_key_count);
    raw.n_missing_keys = message->missing_key_count;
    raw.missing_ids = wire_borrow(message->missing_ids);
    raw.n_missing_ids = message->missing_id_count;
    raw.degraded = wire_put_texts(&memory, message->degraded, message->degraded_count);
    raw.n_degraded = message->degraded_count;
    return wire_pack(&memory, &raw.base, out);
}

static enum status read_vectors(struct wire_memory *memory, const Reco__V1__GetVectorsReply *raw,
                                struct api_records_reply *out, struct reason *why)
{
    // A dimension of 2^32 times 1,024 rows stays far below 2^64.
    size_t floats = raw->n_ids * (size_t)raw->dimension;
    enum status status =
        wire_check_count("image_embeddings", raw->n_image_embeddings, floats, true, why);
    if (status == STATUS_OK)
        status = wire_check_count("text_embeddings", raw->n_text_embeddings, floats, true, why);
    if (status != STATUS_OK)
        return status;
    *out = (struct api_records_reply){
        .request_id = wire_text(raw->request_id),
        .memory = wire_text(raw->memory),
        .generation = raw->generation,
        .space = wire_text(raw->space),
        .dimension = raw->dimension,
        .ids = raw->ids,
        .vector_count = raw->n_ids,
        .image_embeddings = raw->image_embeddings,
        .image_floats = raw->n_image_embeddings,
        .text_embeddings = raw->text_embeddings,
        .text_floats = raw->n_text_embeddings,
        .missing_keys = wire_texts(memory, raw->missing_keys, raw->n_missing_keys),
        .missing_key_count = raw->n_missing_keys,
        .missing_ids = raw->missing_ids,
        .missing_id_count = raw->n_missing_ids,
        .degraded = wire_texts(memory, raw->degraded, raw->n_degraded),
        .degraded_count = raw->n_degraded,
    };
    return STATUS_OK;
}

static void read_records(struct wire_memory *memory, const Reco__V1__GetRecordsReply *raw,
                         struct api_records_reply *out)
{
    *out = (struct api_records_reply){
        .request_id = wire_text(raw->request_id),
        .memory = wire_text(raw->memory),
        .generation = raw->generation,
        .space = wire_text(raw->space),
        .records = api_read_records(memory, raw->records, raw->n_records),
        .count = raw->n_records,
        .missing_keys = wire_texts(memory, raw->missing_keys, raw->n_missing_keys),
        .missing_key_count = raw->n_missing_keys,
        .missing_ids = raw->missing_ids,
        .missing_id_count = raw->n_missing_ids,
        .degraded = wire_texts(memory, raw->degraded, raw->n_degraded),
        .degraded_count = raw->n_degraded,
    };
}

enum status api_decode_records_reply(bool vectors, struct bytes message, struct arena *arena,
                                     struct api_records_reply *out, struct reason *why)
{
    assert(out);

    ProtobufCMessage *found = NULL;
    enum status status = api_unpack(vectors ? &reco__v1__get_vectors_reply__descriptor
                                            : &reco__v1__get_records_reply__descriptor,
                                    message, arena, &found, why);
    struct wire_memory memory = {arena, STATUS_OK};
    struct api_records_reply reply = {0};
    if (status == STATUS_OK && vectors)
        status = read_vectors(&memory, (const void *)found, &reply, why);
    else if (status == STATUS_OK)
        read_records(&memory, (const void *)found, &reply);
    if (status == STATUS_OK)
        status = wire_finish(&memory, why);
    if (status == STATUS_OK)
        *out = reply;
    return status;
}
