// SPDX-License-Identifier: Apache-2.0
// Messages of the Encoder service. EncodeText and Tokenize ask the same question, so one codec
// serves both; a test holds their messages to the same shape.

#include <assert.h>

#include "proto/wire/api_internal.h"

enum status api_encode_encode_image_request(const struct api_encode_image_request *message,
                                            struct buffer *out)
{
    assert(message);

    struct wire_memory memory = wire_begin();
    Reco__V1__EncodeImageRequest raw;
    reco__v1__encode_image_request__init(&raw);
    raw.images = wire_array(&memory, message->count, sizeof(*raw.images));
    raw.n_images = raw.images ? message->count : 0;
    for (size_t i = 0; i < raw.n_images; i++)
        raw.images[i] = wire_put_bytes(message->images[i]);
    raw.profile = (Reco__V1__Profile)message->profile;
    return wire_pack(&memory, &raw.base, out);
}

enum status api_decode_encode_image_request(struct bytes message, struct arena *arena,
                                            struct api_encode_image_request *out,
                                            struct reason *why)
{
    assert(out);

    ProtobufCMessage *found = NULL;
    enum status status =
        api_unpack(&reco__v1__encode_image_request__descriptor, message, arena, &found, why);
    if (status != STATUS_OK)
        return status;

    const Reco__V1__EncodeImageRequest *raw = (const void *)found;
    struct wire_memory memory = {arena, STATUS_OK};
    struct bytes *images = wire_array(&memory, raw->n_images, sizeof(*images));
    for (size_t i = 0; images && i < raw->n_images; i++)
        images[i] = wire_bytes(raw->images[i]);

    status = wire_finish(&memory, why);
    if (status == STATUS_OK)
        *out = (struct api_encode_image_request){
            .images = images,
            .count = raw->n_images,
            .profile = (enum api_profile)raw->profile,
        };
    return status;
}

enum status api_encode_texts_request(const struct api_texts_request *message, struct buffer *out)
{
    assert(message);

    struct wire_memory memory = wire_begin();
    Reco__V1__EncodeTextRequest raw;
    reco__v1__encode_text_request__init(&raw);
    raw.texts = wire_put_texts(&memory, message->texts, message->count);
    raw.n_texts = message->count;
    return wire_pack(&memory, &raw.base, out);
}

enum status api_decode_texts_request(struct bytes message, struct arena *arena,
                                     struct api_texts_request *out, struct reason *why)
{
    assert(out);

    ProtobufCMessage *found = NULL;
    enum status status =
        api_unpack(&reco__v1__encode_text_request__descriptor, message, arena, &found, why);
    if (status != STATUS_OK)
        return status;

    const Reco__V1__EncodeTextRequest *raw = (const void *)found;
    struct wire_memory memory = {arena, STATUS_OK};
    const struct text *texts = wire_texts(&memory, raw->texts, raw->n_texts);
    status = wire_finish(&memory, why);
    if (status == STATUS_OK)
        *out = (struct api_texts_request){texts, raw->n_texts};
    return status;
}

enum status api_encode_encode_reply(const struct api_encode_reply *message, struct buffer *out)
{
    assert(message);

    struct wire_memory memory = wire_begin();
    Reco__V1__EncodeReply raw;
    reco__v1__encode_reply__init(&raw);
    Reco__V1__Timings timings;
    api_write_timings(&message->timings, &timings);
    raw.request_id = wire_put_text(&memory, message->request_id);
    raw.space = wire_put_text(&memory, message->space);
    raw.dimension = message->dimension;
    raw.embeddings = wire_borrow(message->embeddings);
    raw.n_embeddings = message->float_count;
    raw.timings = &timings;
    return wire_pack(&memory, &raw.base, out);
}

enum status api_decode_encode_reply(struct bytes message, struct arena *arena,
                                    struct api_encode_reply *out, struct reason *why)
{
    assert(out);

    ProtobufCMessage *found = NULL;
    enum status status =
        api_unpack(&reco__v1__encode_reply__descriptor, message, arena, &found, why);
    if (status != STATUS_OK)
        return status;

    const Reco__V1__EncodeReply *raw = (const void *)found;
    status = wire_check_uint("dimension", raw->dimension, 0, DIMENSION_MAX, why);
    if (status != STATUS_OK)
        return status;
    size_t rows = raw->dimension > 0 ? raw->n_embeddings / raw->dimension : 0;
    status = wire_check_count("embeddings", raw->n_embeddings, rows * raw->dimension, false, why);
    if (status != STATUS_OK)
        return status;

    *out = (struct api_encode_reply){
        .request_id = wire_text(raw->request_id),
        .space = wire_text(raw->space),
        .dimension = raw->dimension,
        .embeddings = raw->embeddings,
        .float_count = raw->n_embeddings,
    };
    api_read_timings(raw->timings, &out->timings);
    return STATUS_OK;
}

enum status api_encode_tokenize_reply(const struct api_tokenize_reply *message, struct buffer *out)
{
    assert(message);

    struct wire_memory memory = wire_begin();
    Reco__V1__TokenizeReply raw;
    reco__v1__tokenize_reply__init(&raw);
    raw.request_id = wire_put_text(&memory, message->request_id);
    raw.counts = wire_borrow(message->counts);
    raw.n_counts = message->count;
    raw.ids = wire_borrow(message->ids);
    raw.n_ids = message->id_count;
    return wire_pack(&memory, &raw.base, out);
}

enum status api_decode_tokenize_reply(struct bytes message, struct arena *arena,
                                      struct api_tokenize_reply *out, struct reason *why)
{
    assert(out);

    ProtobufCMessage *found = NULL;
    enum status status =
        api_unpack(&reco__v1__tokenize_reply__descriptor, message, arena, &found, why);
    if (status != STATUS_OK)
        return status;

    const Reco__V1__TokenizeReply *raw = (const void *)found;
    uint64_t sum = 0; // at most 1024 counts of 32 bits
    for (size_t i = 0; i < raw->n_counts; i++)
        sum += raw->counts[i];
    if (sum != raw->n_ids)
        return reason_set(why, STATUS_INVALID, "counts", "they do not add up to the %zu ids",
                          raw->n_ids);

    *out = (struct api_tokenize_reply){
        .request_id = wire_text(raw->request_id),
        .counts = raw->counts,
        .count = raw->n_counts,
        .ids = raw->ids,
        .id_count = raw->n_ids,
    };
    return STATUS_OK;
}

enum status api_encode_model_list(const struct api_model_list *message, struct buffer *out)
{
    assert(message);

    struct wire_memory memory = wire_begin();
    Reco__V1__ListModelsReply raw;
    reco__v1__list_models_reply__init(&raw);
    Reco__V1__ModelInfo *infos = wire_array(&memory, message->count, sizeof(*infos));
    raw.models = wire_array(&memory, message->count, sizeof(Reco__V1__ModelInfo *));
    for (size_t i = 0; infos && raw.models && i < message->count; i++) {
        const struct api_model_info *model = &message->models[i];
        Reco__V1__ModelInfo *info = &infos[i];
        reco__v1__model_info__init(info);
        info->name = wire_put_text(&memory, model->name);
        info->space = wire_put_text(&memory, model->space);
        info->dimension = model->dimension;
        info->image_size = model->image_size;
        info->context_length = model->context_length;
        info->device = wire_put_text(&memory, model->device);
        info->templates = wire_put_texts(&memory, model->templates, model->template_count);
        info->n_templates = model->template_count;
        info->fusion_beta = model->fusion_beta;
        info->fusion_temperature = model->fusion_temperature;
        info->head = wire_put_text(&memory, model->head);
        info->head_has_gate = model->head_has_gate;
        raw.models[raw.n_models++] = info;
    }
    return wire_pack(&memory, &raw.base, out);
}

enum status api_decode_model_list(struct bytes message, struct arena *arena,
                                  struct api_model_list *out, struct reason *why)
{
    assert(out);

    ProtobufCMessage *found = NULL;
    enum status status =
        api_unpack(&reco__v1__list_models_reply__descriptor, message, arena, &found, why);
    if (status != STATUS_OK)
        return status;

    const Reco__V1__ListModelsReply *raw = (const void *)found;
    struct wire_memory memory = {arena, STATUS_OK};
    struct api_model_info *models = wire_array(&memory, raw->n_models, sizeof(*models));
    for (size_t i = 0; models && i < raw->n_models; i++) {
        const Reco__V1__ModelInfo *info = raw->models[i];
        models[i] = (struct api_model_info){
            .name = wire_text(info->name),
            .space = wire_text(info->space),
            .dimension = info->dimension,
            .image_size = info->image_size,
            .context_length = info->context_length,
            .device = wire_text(info->device),
            .templates = wire_texts(&memory, info->templates, info->n_templates),
            .template_count = info->n_templates,
            .fusion_beta = info->fusion_beta,
            .fusion_temperature = info->fusion_temperature,
            .head = wire_text(info->head),
            .head_has_gate = info->head_has_gate,
        };
    }
    status = wire_finish(&memory, why);
    if (status == STATUS_OK)
        *out = (struct api_model_list){.models = models, .count = raw->n_models};
    return status;
}
