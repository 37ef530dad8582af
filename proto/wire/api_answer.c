// SPDX-License-Identifier: Apache-2.0
// Replies of Search, Refiner and Classifier: one struct of ours, four messages on the wire.
// Encoding fills all parts once, then the message of the method takes those that it has.

#include <assert.h>

#include "proto/wire/api_internal.h"

struct parts {
    Reco__V1__Answer answer;
    Reco__V1__SearchWork work;
    Reco__V1__Timings timings;
    Reco__V1__Neighbours neighbours;
    Reco__V1__Labels plain;
    Reco__V1__Labels refined;
};

// --- timings

void api_write_timings(const struct api_timings *timings, Reco__V1__Timings *raw)
{
    reco__v1__timings__init(raw);
    raw->decode = timings->decode;
    raw->preprocess = timings->preprocess;
    raw->encode = timings->encode;
    raw->queue = timings->queue;
    raw->fanout = timings->fanout;
    raw->shard = wire_borrow(timings->shard);
    raw->n_shard = timings->shard_count;
    raw->merge = timings->merge;
    raw->fetch = timings->fetch;
    raw->fuse = timings->fuse;
    raw->labels = timings->labels;
    raw->total = timings->total;
}

void api_read_timings(const Reco__V1__Timings *raw, struct api_timings *out)
{
    *out = (struct api_timings){0};
    if (!raw)
        return;

    *out = (struct api_timings){
        .decode = raw->decode,
        .preprocess = raw->preprocess,
        .encode = raw->encode,
        .queue = raw->queue,
        .fanout = raw->fanout,
        .shard = raw->shard,
        .shard_count = raw->n_shard,
        .merge = raw->merge,
        .fetch = raw->fetch,
        .fuse = raw->fuse,
        .labels = raw->labels,
        .total = raw->total,
    };
}

// --- encoding

static void write_work(const struct api_work *work, Reco__V1__SearchWork *raw)
{
    reco__v1__search_work__init(raw);
    raw->exact = work->exact;
    raw->lists_probed = work->lists_probed;
    raw->codes_scanned = work->codes_scanned;
    raw->rows_refined = work->rows_refined;
    raw->rows_read = work->rows_read;
}

static void write_answer(struct wire_memory *memory, const struct api_answer *answer,
                         struct parts *parts)
{
    api_write_timings(&answer->timings, &parts->timings);

    Reco__V1__Answer *raw = &parts->answer;
    reco__v1__answer__init(raw);
    raw->request_id = wire_put_text(memory, answer->request_id);
    raw->space = wire_put_text(memory, answer->space);
    raw->memory = wire_put_text(memory, answer->memory);
    raw->generation = answer->generation;
    raw->coverage = answer->coverage;
    raw->degraded = wire_put_texts(memory, answer->degraded, answer->degraded_count);
    raw->n_degraded = answer->degraded_count;
    raw->timings = &parts->timings;
    raw->index = wire_put_text(memory, answer->index);
    raw->records = answer->records;
    write_work(&answer->work, &parts->work);
    raw->work = &parts->work;
    raw->fusion = (Reco__V1__Fusion)answer->fusion;
}

static void write_tags(struct wire_memory *memory, const struct api_neighbours *neighbours,
                       Reco__V1__Neighbours *raw)
{
    size_t count = neighbours->tags ? neighbours->count : 0;
    Reco__V1__TagList *lists = wire_array(memory, count, sizeof(*lists));
    raw->tags = wire_array(memory, count, sizeof(Reco__V1__TagList *));
    raw->n_tags = raw->tags && lists ? count : 0;
    for (size_t i = 0; i < raw->n_tags; i++) {
        reco__v1__tag_list__init(&lists[i]);
        lists[i].n_tags = neighbours->tags[i].count;
        lists[i].tags = wire_put_texts(memory, neighbours->tags[i].tags, lists[i].n_tags);
        raw->tags[i] = &lists[i];
    }
}

static void write_neighbours(struct wire_memory *memory, const struct api_neighbours *neighbours,
                             Reco__V1__Neighbours *raw)
{
    size_t count = neighbours->count;
    reco__v1__neighbours__init(raw);
    raw->ids = wire_borrow(neighbours->ids);
    raw->n_ids = neighbours->ids ? count : 0;
    raw->scores = wire_borrow(neighbours->scores);
    raw->n_scores = neighbours->scores ? count : 0;
    raw->n_keys = neighbours->keys ? count : 0;
    raw->keys = wire_put_texts(memory, neighbours->keys, raw->n_keys);
    raw->n_captions = neighbours->captions ? count : 0;
    raw->captions = wire_put_texts(memory, neighbours->captions, raw->n_captions);
    raw->n_sources = neighbours->sources ? count : 0;
    raw->sources = wire_put_texts(memory, neighbours->sources, raw->n_sources);
    raw->weights = wire_borrow(neighbours->weights);
    raw->n_weights = neighbours->weights ? count : 0;
    raw->effects = wire_borrow(neighbours->effects);
    raw->n_effects = neighbours->effects ? count : 0;
    write_tags(memory, neighbours, raw);
    size_t floats = count * neighbours->dimension;
    raw->image_embeddings = wire_borrow(neighbours->image_embeddings);
    raw->n_image_embeddings = neighbours->image_embeddings ? floats : 0;
    raw->text_embeddings = wire_borrow(neighbours->text_embeddings);
    raw->n_text_embeddings = neighbours->text_embeddings ? floats : 0;
}

static void write_labels(struct wire_memory *memory, const struct api_labels *labels,
                         Reco__V1__Labels *raw)
{
    reco__v1__labels__init(raw);
    raw->labels = wire_put_texts(memory, labels->labels, labels->count);
    raw->n_labels = labels->count;
    raw->scores = wire_borrow(labels->scores);
    raw->n_scores = labels->count;
}

static enum status encode_refine_reply(const struct api_answer *answer, struct parts *parts,
                                       struct wire_memory *memory, struct buffer *out)
{
    Reco__V1__RefineReply raw;
    reco__v1__refine_reply__init(&raw);
    raw.answer = &parts->answer;
    raw.embedding = wire_borrow(answer->embedding);
    raw.n_embedding = answer->embedding_count;
    raw.gate = answer->gate;
    raw.gate_reason = wire_put_text(memory, answer->gate_reason);
    raw.neighbours = &parts->neighbours;
    return wire_pack(memory, &raw.base, out);
}

static enum status encode_classify_reply(const struct api_answer *answer, struct parts *parts,
                                         struct wire_memory *memory, struct buffer *out)
{
    Reco__V1__ClassifyReply raw;
    reco__v1__classify_reply__init(&raw);
    raw.answer = &parts->answer;
    raw.plain = &parts->plain;
    raw.refined = &parts->refined;
    raw.gate = answer->gate;
    raw.gate_reason = wire_put_text(memory, answer->gate_reason);
    raw.neighbours = &parts->neighbours;
    write_labels(memory, &answer->plain, &parts->plain);
    write_labels(memory, &answer->refined, &parts->refined);
    return wire_pack(memory, &raw.base, out);
}

static enum status encode_labels_reply(const struct api_answer *answer, struct parts *parts,
                                       struct wire_memory *memory, struct buffer *out)
{
    Reco__V1__CompileLabelsReply raw;
    reco__v1__compile_labels_reply__init(&raw);
    raw.request_id = wire_put_text(memory, answer->request_id);
    raw.label_set_id = wire_put_text(memory, answer->label_set_id);
    raw.count = answer->label_count;
    raw.answer = &parts->answer;
    return wire_pack(memory, &raw.base, out);
}

enum status api_encode_answer(enum api_method method, const struct api_answer *message,
                              struct buffer *out)
{
    assert(message);

    struct wire_memory memory = wire_begin();
    struct parts parts;
    write_answer(&memory, message, &parts);
    write_neighbours(&memory, &message->neighbours, &parts.neighbours);

    if (method == API_SEARCH) {
        Reco__V1__SearchReply raw;
        reco__v1__search_reply__init(&raw);
        raw.answer = &parts.answer;
        raw.neighbours = &parts.neighbours;
        return wire_pack(&memory, &raw.base, out);
    }
    if (method == API_CLASSIFY || method == API_EXPLAIN || method == API_DISCOVER_LABELS)
        return encode_classify_reply(message, &parts, &memory, out);
    if (method == API_COMPILE_LABELS)
        return encode_labels_reply(message, &parts, &memory, out);

    assert(method == API_REFINE_IMAGE || method == API_REFINE_TEXT ||
           method == API_REFINE_EMBEDDING || method == API_REFINE_STREAM);
    return encode_refine_reply(message, &parts, &memory, out);
}

// --- decoding

static void read_answer(struct wire_memory *memory, const Reco__V1__Answer *raw,
                        struct api_answer *out)
{
    if (!raw)
        return;

    out->request_id = wire_text(raw->request_id);
    out->space = wire_text(raw->space);
    out->memory = wire_text(raw->memory);
    out->generation = raw->generation;
    out->coverage = raw->coverage;
    out->degraded = wire_texts(memory, raw->degraded, raw->n_degraded);
    out->degraded_count = raw->n_degraded;
    api_read_timings(raw->timings, &out->timings);
    out->index = wire_text(raw->index);
    out->records = raw->records;
    out->fusion = (enum api_fusion)raw->fusion;
    if (raw->work)
        out->work = (struct api_work){
            .exact = raw->work->exact,
            .lists_probed = raw->work->lists_probed,
            .codes_scanned = raw->work->codes_scanned,
            .rows_refined = raw->work->rows_refined,
            .rows_read = raw->work->rows_read,
        };
}

static const struct api_tag_list *read_tags(struct wire_memory *memory,
                                            const Reco__V1__Neighbours *raw)
{
    struct api_tag_list *lists = wire_array(memory, raw->n_tags, sizeof(*lists));
    for (size_t i = 0; lists && i < raw->n_tags; i++)
        lists[i] = (struct api_tag_list){
            .tags = wire_texts(memory, raw->tags[i]->tags, raw->tags[i]->n_tags),
            .count = raw->tags[i]->n_tags};
    return lists;
}

// The dimension follows from the lengths.
static enum status read_embeddings(const Reco__V1__Neighbours *raw, struct api_neighbours *out,
                                   struct reason *why)
{
    size_t floats = raw->n_image_embeddings > 0 ? raw->n_image_embeddings : raw->n_text_embeddings;
    out->dimension = raw->n_ids > 0 ? floats / raw->n_ids : 0;
    enum status status = wire_check_count("neighbours.image_embeddings", raw->n_image_embeddings,
                                          raw->n_ids * out->dimension, true, why);
    if (status == STATUS_OK)
        status = wire_check_count("neighbours.text_embeddings", raw->n_text_embeddings,
                                  raw->n_ids * out->dimension, true, why);
    return status;
}

static enum status read_neighbours(struct wire_memory *memory, const Reco__V1__Neighbours *raw,
                                   struct api_neighbours *out, struct reason *why)
{
    if (!raw)
        return STATUS_OK;

    const struct {
        const char *field;
        size_t count;
    } arrays[] = {
        {"neighbours.scores", raw->n_scores},     {"neighbours.keys", raw->n_keys},
        {"neighbours.captions", raw->n_captions}, {"neighbours.sources", raw->n_sources},
        {"neighbours.weights", raw->n_weights},   {"neighbours.effects", raw->n_effects},
        {"neighbours.tags", raw->n_tags},
    };
    for (size_t i = 0; i < sizeof(arrays) / sizeof(arrays[0]); i++) {
        enum status status =
            wire_check_count(arrays[i].field, arrays[i].count, raw->n_ids, true, why);
        if (status != STATUS_OK)
            return status;
    }

    *out = (struct api_neighbours){
        .count = raw->n_ids,
        .ids = raw->ids,
        .scores = raw->scores,
        .keys = wire_texts(memory, raw->keys, raw->n_keys),
        .captions = wire_texts(memory, raw->captions, raw->n_captions),
        .sources = wire_texts(memory, raw->sources, raw->n_sources),
        .weights = raw->weights,
        .effects = raw->effects,
        .tags = read_tags(memory, raw),
        .image_embeddings = raw->image_embeddings,
        .text_embeddings = raw->text_embeddings,
    };
    return read_embeddings(raw, out, why);
}

static enum status read_labels(struct wire_memory *memory, const char *field,
                               const Reco__V1__Labels *raw, struct api_labels *out,
                               struct reason *why)
{
    if (!raw)
        return STATUS_OK;

    enum status status = wire_check_count(field, raw->n_scores, raw->n_labels, false, why);
    if (status != STATUS_OK)
        return status;
    *out = (struct api_labels){
        .count = raw->n_labels,
        .labels = wire_texts(memory, raw->labels, raw->n_labels),
        .scores = raw->scores,
    };
    return STATUS_OK;
}

static enum status read_refine_reply(struct wire_memory *memory, const Reco__V1__RefineReply *raw,
                                     struct api_answer *out, struct reason *why)
{
    read_answer(memory, raw->answer, out);
    out->embedding = raw->embedding;
    out->embedding_count = raw->n_embedding;
    out->gate = raw->gate;
    out->gate_reason = wire_text(raw->gate_reason);
    return read_neighbours(memory, raw->neighbours, &out->neighbours, why);
}

static enum status read_classify_reply(struct wire_memory *memory,
                                       const Reco__V1__ClassifyReply *raw, struct api_answer *out,
                                       struct reason *why)
{
    read_answer(memory, raw->answer, out);
    out->gate = raw->gate;
    out->gate_reason = wire_text(raw->gate_reason);
    enum status status = read_labels(memory, "plain.scores", raw->plain, &out->plain, why);
    if (status == STATUS_OK)
        status = read_labels(memory, "refined.scores", raw->refined, &out->refined, why);
    if (status == STATUS_OK)
        status = read_neighbours(memory, raw->neighbours, &out->neighbours, why);
    return status;
}

static void read_labels_reply(struct wire_memory *memory, const Reco__V1__CompileLabelsReply *raw,
                              struct api_answer *out)
{
    read_answer(memory, raw->answer, out);
    out->request_id = wire_text(raw->request_id);
    out->label_set_id = wire_text(raw->label_set_id);
    out->label_count = raw->count;
}

static const ProtobufCMessageDescriptor *reply_type(enum api_method method)
{
    if (method == API_SEARCH)
        return &reco__v1__search_reply__descriptor;
    if (method == API_CLASSIFY || method == API_EXPLAIN || method == API_DISCOVER_LABELS)
        return &reco__v1__classify_reply__descriptor;
    if (method == API_COMPILE_LABELS)
        return &reco__v1__compile_labels_reply__descriptor;

    assert(method == API_REFINE_IMAGE || method == API_REFINE_TEXT ||
           method == API_REFINE_EMBEDDING || method == API_REFINE_STREAM);
    return &reco__v1__refine_reply__descriptor;
}

enum status api_decode_answer(enum api_method method, struct bytes message, struct arena *arena,
                              struct api_answer *out, struct reason *why)
{
    assert(out);

    const ProtobufCMessageDescriptor *type = reply_type(method);
    ProtobufCMessage *found = NULL;
    enum status status = api_unpack(type, message, arena, &found, why);
    if (status != STATUS_OK)
        return status;

    struct wire_memory memory = {arena, STATUS_OK};
    struct api_answer answer = {0};
    if (type == &reco__v1__search_reply__descriptor) {
        const Reco__V1__SearchReply *raw = (const void *)found;
        read_answer(&memory, raw->answer, &answer);
        status = read_neighbours(&memory, raw->neighbours, &answer.neighbours, why);
    } else if (type == &reco__v1__classify_reply__descriptor) {
        status = read_classify_reply(&memory, (const void *)found, &answer, why);
    } else if (type == &reco__v1__compile_labels_reply__descriptor) {
        read_labels_reply(&memory, (const void *)found, &answer);
    } else {
        status = read_refine_reply(&memory, (const void *)found, &answer, why);
    }

    if (status == STATUS_OK)
        status = wire_finish(&memory, why);
    if (status == STATUS_OK)
        *out = answer;
    return status;
}
