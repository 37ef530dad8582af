// SPDX-License-Identifier: Apache-2.0
// Messages of the Memory service that name or describe memories. Describe and Drop ask with the
// same message; a test holds the two to the same shape.

#include <assert.h>

#include "proto/wire/api_internal.h"

enum status api_encode_create_request(const struct api_create_request *message, struct buffer *out)
{
    assert(message);

    struct wire_memory memory = wire_begin();
    Reco__V1__CreateMemoryRequest raw;
    reco__v1__create_memory_request__init(&raw);
    raw.name = wire_put_text(&memory, message->name);
    raw.space = wire_put_text(&memory, message->space);
    raw.vshards = message->vshards;
    raw.replace = message->replace;
    raw.building = message->building;
    return wire_pack(&memory, &raw.base, out);
}

enum status api_decode_create_request(struct bytes message, struct arena *arena,
                                      struct api_create_request *out, struct reason *why)
{
    assert(out);

    ProtobufCMessage *found = NULL;
    enum status status =
        api_unpack(&reco__v1__create_memory_request__descriptor, message, arena, &found, why);
    if (status != STATUS_OK)
        return status;

    const Reco__V1__CreateMemoryRequest *raw = (const void *)found;
    status = wire_check_uint("vshards", raw->vshards, 0, VSHARDS_MAX, why);
    if (status == STATUS_OK)
        *out = (struct api_create_request){
            .name = wire_text(raw->name),
            .space = wire_text(raw->space),
            .vshards = raw->vshards,
            .replace = raw->replace,
            .building = raw->building,
        };
    return status;
}

enum status api_encode_name_request(const struct api_name_request *message, struct buffer *out)
{
    assert(message);

    struct wire_memory memory = wire_begin();
    Reco__V1__DescribeMemoryRequest raw;
    reco__v1__describe_memory_request__init(&raw);
    raw.name = wire_put_text(&memory, message->name);
    raw.content_hash = message->content_hash;
    return wire_pack(&memory, &raw.base, out);
}

enum status api_decode_name_request(struct bytes message, struct arena *arena,
                                    struct api_name_request *out, struct reason *why)
{
    assert(out);

    ProtobufCMessage *found = NULL;
    enum status status =
        api_unpack(&reco__v1__describe_memory_request__descriptor, message, arena, &found, why);
    if (status != STATUS_OK)
        return status;

    const Reco__V1__DescribeMemoryRequest *raw = (const void *)found;
    *out = (struct api_name_request){wire_text(raw->name), raw->content_hash};
    return STATUS_OK;
}

enum status api_encode_alias_request(const struct api_alias_request *message, struct buffer *out)
{
    assert(message);

    struct wire_memory memory = wire_begin();
    Reco__V1__AliasRequest raw;
    reco__v1__alias_request__init(&raw);
    raw.alias = wire_put_text(&memory, message->alias);
    raw.target = wire_put_text(&memory, message->target);
    raw.remove = message->remove;
    return wire_pack(&memory, &raw.base, out);
}

enum status api_decode_alias_request(struct bytes message, struct arena *arena,
                                     struct api_alias_request *out, struct reason *why)
{
    assert(out);

    ProtobufCMessage *found = NULL;
    enum status status =
        api_unpack(&reco__v1__alias_request__descriptor, message, arena, &found, why);
    if (status != STATUS_OK)
        return status;

    const Reco__V1__AliasRequest *raw = (const void *)found;
    *out = (struct api_alias_request){wire_text(raw->alias), wire_text(raw->target), raw->remove};
    return STATUS_OK;
}

static void write_info(struct wire_memory *memory, const struct api_memory_info *info,
                       Reco__V1__MemoryInfo *raw)
{
    reco__v1__memory_info__init(raw);
    raw->name = wire_put_text(memory, info->name);
    raw->generation = info->generation;
    raw->state = wire_put_text(memory, info->state);
    raw->space = wire_put_text(memory, info->space);
    raw->dimension = info->dimension;
    raw->vshards = info->vshards;
    raw->records = info->records;
    raw->bytes = info->bytes;
    raw->index = wire_put_text(memory, info->index);
    raw->degraded = wire_put_texts(memory, info->degraded, info->degraded_count);
    raw->n_degraded = info->degraded_count;
    raw->hidden = info->hidden;
    raw->index_bytes = info->indexes.bytes;
    raw->index_lists = info->indexes.lists;
    raw->index_vectors = info->indexes.vectors;
    raw->index_list_max = info->indexes.list_max;
    raw->aliases = wire_put_texts(memory, info->aliases, info->alias_count);
    raw->n_aliases = info->alias_count;
    raw->content_hash = wire_put_text(memory, info->content_hash);
}

static struct api_memory_info read_info(struct wire_memory *memory, const Reco__V1__MemoryInfo *raw)
{
    return (struct api_memory_info){
        .name = wire_text(raw->name),
        .generation = raw->generation,
        .state = wire_text(raw->state),
        .space = wire_text(raw->space),
        .dimension = raw->dimension,
        .vshards = raw->vshards,
        .records = raw->records,
        .bytes = raw->bytes,
        .index = wire_text(raw->index),
        .degraded = wire_texts(memory, raw->degraded, raw->n_degraded),
        .degraded_count = raw->n_degraded,
        .hidden = raw->hidden,
        .indexes = {raw->index_bytes, raw->index_lists, raw->index_vectors, raw->index_list_max},
        .aliases = wire_texts(memory, raw->aliases, raw->n_aliases),
        .alias_count = raw->n_aliases,
        .content_hash = wire_text(raw->content_hash),
    };
}

enum status api_encode_memory_info(const struct api_memory_info *message, struct buffer *out)
{
    assert(message);

    struct wire_memory memory = wire_begin();
    Reco__V1__MemoryInfo raw;
    write_info(&memory, message, &raw);
    return wire_pack(&memory, &raw.base, out);
}

enum status api_decode_memory_info(struct bytes message, struct arena *arena,
                                   struct api_memory_info *out, struct reason *why)
{
    assert(out);

    ProtobufCMessage *found = NULL;
    enum status status =
        api_unpack(&reco__v1__memory_info__descriptor, message, arena, &found, why);
    if (status != STATUS_OK)
        return status;

    struct wire_memory memory = {arena, STATUS_OK};
    struct api_memory_info info = read_info(&memory, (const void *)found);
    status = wire_finish(&memory, why);
    if (status == STATUS_OK)
        *out = info;
    return status;
}

enum status api_encode_memory_list(const struct api_memory_list *message, struct buffer *out)
{
    assert(message);

    struct wire_memory memory = wire_begin();
    Reco__V1__ListMemoriesReply raw;
    reco__v1__list_memories_reply__init(&raw);
    Reco__V1__MemoryInfo *infos = wire_array(&memory, message->count, sizeof(*infos));
    raw.memories = wire_array(&memory, message->count, sizeof(Reco__V1__MemoryInfo *));
    raw.n_memories = raw.memories ? message->count : 0;
    for (size_t i = 0; i < raw.n_memories; i++) {
        write_info(&memory, &message->memories[i], &infos[i]);
        raw.memories[i] = &infos[i];
    }
    return wire_pack(&memory, &raw.base, out);
}

enum status api_decode_memory_list(struct bytes message, struct arena *arena,
                                   struct api_memory_list *out, struct reason *why)
{
    assert(out);

    ProtobufCMessage *found = NULL;
    enum status status =
        api_unpack(&reco__v1__list_memories_reply__descriptor, message, arena, &found, why);
    if (status != STATUS_OK)
        return status;

    const Reco__V1__ListMemoriesReply *raw = (const void *)found;
    struct wire_memory memory = {arena, STATUS_OK};
    struct api_memory_info *infos = wire_array(&memory, raw->n_memories, sizeof(*infos));
    for (size_t i = 0; infos && i < raw->n_memories; i++)
        infos[i] = read_info(&memory, raw->memories[i]);

    status = wire_finish(&memory, why);
    if (status == STATUS_OK)
        *out = (struct api_memory_list){infos, raw->n_memories};
    return status;
}

enum status api_encode_drop_reply(const struct api_drop_reply *message, struct buffer *out)
{
    assert(message);

    struct wire_memory memory = wire_begin();
    Reco__V1__DropMemoryReply raw;
    reco__v1__drop_memory_reply__init(&raw);
    raw.request_id = wire_put_text(&memory, message->request_id);
    raw.records = message->records;
    return wire_pack(&memory, &raw.base, out);
}

enum status api_decode_drop_reply(struct bytes message, struct arena *arena,
                                  struct api_drop_reply *out, struct reason *why)
{
    assert(out);

    ProtobufCMessage *found = NULL;
    enum status status =
        api_unpack(&reco__v1__drop_memory_reply__descriptor, message, arena, &found, why);
    if (status != STATUS_OK)
        return status;

    const Reco__V1__DropMemoryReply *raw = (const void *)found;
    *out = (struct api_drop_reply){wire_text(raw->request_id), raw->records};
    return STATUS_OK;
}
