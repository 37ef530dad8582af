// SPDX-License-Identifier: Apache-2.0
// Members are written in a fixed order, so that the same answer is the same line.

#include "proto/wire/api_json.h"

#include <assert.h>

void api_json_put_floats(struct json_writer *writer, const char *name, const float *values,
                         size_t count)
{
    json_name(writer, name);
    json_begin_array(writer);
    for (size_t i = 0; i < count; i++)
        json_put_float(writer, values[i]);
    json_end_array(writer);
}

void api_json_put_tags(struct json_writer *writer, const struct text *tags, size_t count)
{
    json_name(writer, "tags");
    json_begin_array(writer);
    for (size_t i = 0; i < count; i++)
        json_put_text(writer, tags[i]);
    json_end_array(writer);
}

static void put_text_member(struct json_writer *writer, const char *name, struct text text)
{
    json_name(writer, name);
    json_put_text(writer, text.data ? text : (struct text){"", 0});
}

static void put_neighbours(struct json_writer *writer, const struct api_neighbours *neighbours)
{
    json_name(writer, "neighbours");
    json_begin_array(writer);
    for (size_t i = 0; i < neighbours->count; i++) {
        json_begin_object(writer);
        json_name(writer, "id");
        json_put_uint(writer, neighbours->ids[i]);
        if (neighbours->keys)
            put_text_member(writer, "key", neighbours->keys[i]);
        json_name(writer, "score");
        json_put_float(writer, neighbours->scores[i]);
        if (neighbours->captions)
            put_text_member(writer, "caption", neighbours->captions[i]);
        if (neighbours->sources)
            put_text_member(writer, "source", neighbours->sources[i]);
        if (neighbours->tags)
            api_json_put_tags(writer, neighbours->tags[i].tags, neighbours->tags[i].count);
        if (neighbours->weights) {
            json_name(writer, "weight");
            json_put_float(writer, neighbours->weights[i]);
        }
        if (neighbours->effects) {
            json_name(writer, "effect");
            json_put_float(writer, neighbours->effects[i]);
        }
        size_t dimension = neighbours->dimension;
        if (neighbours->image_embeddings)
            api_json_put_floats(writer, "image_embedding",
                                neighbours->image_embeddings + i * dimension, dimension);
        if (neighbours->text_embeddings)
            api_json_put_floats(writer, "text_embedding",
                                neighbours->text_embeddings + i * dimension, dimension);
        json_end_object(writer);
    }
    json_end_array(writer);
}

static void put_labels(struct json_writer *writer, const char *name,
                       const struct api_labels *labels)
{
    json_name(writer, name);
    json_begin_array(writer);
    for (size_t i = 0; i < labels->count; i++) {
        json_begin_object(writer);
        put_text_member(writer, "label", labels->labels[i]);
        json_name(writer, "score");
        json_put_float(writer, labels->scores[i]);
        json_end_object(writer);
    }
    json_end_array(writer);
}

static void put_gate(struct json_writer *writer, const struct api_answer *answer)
{
    static const char *const fusions[] = {"", "none", "mean", "weighted", "head"};
    const bool is_known = (size_t)answer->fusion < sizeof(fusions) / sizeof(fusions[0]);
    put_text_member(writer, "fusion", text_of(is_known ? fusions[answer->fusion] : ""));
    json_name(writer, "gate");
    json_put_float(writer, answer->gate);
    put_text_member(writer, "gate_reason", answer->gate_reason);
}

void api_json_put_timings(struct json_writer *writer, const struct api_timings *timings)
{
    const struct {
        const char *name;
        float value;
    } steps[] = {
        {"decode", timings->decode}, {"preprocess", timings->preprocess},
        {"encode", timings->encode}, {"queue", timings->queue},
        {"fanout", timings->fanout}, {"merge", timings->merge},
        {"fetch", timings->fetch},   {"fuse", timings->fuse},
        {"labels", timings->labels}, {"total", timings->total},
    };

    json_name(writer, "timings_ms");
    json_begin_object(writer);
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        json_name(writer, steps[i].name);
        json_put_float(writer, steps[i].value);
    }
    api_json_put_floats(writer, "shard", timings->shard, timings->shard_count);
    json_end_object(writer);
}

void api_json_put_work(struct json_writer *writer, const struct api_work *work)
{
    const struct {
        const char *name;
        uint64_t value;
    } counts[] = {
        {"lists_probed", work->lists_probed},
        {"codes_scanned", work->codes_scanned},
        {"rows_refined", work->rows_refined},
        {"rows_read", work->rows_read},
    };

    json_name(writer, "work");
    json_begin_object(writer);
    json_name(writer, "exact");
    json_put_bool(writer, work->exact);
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        json_name(writer, counts[i].name);
        json_put_uint(writer, counts[i].value);
    }
    json_end_object(writer);
}

static void put_tail(struct json_writer *writer, const struct api_answer *answer)
{
    json_name(writer, "coverage");
    json_put_float(writer, answer->coverage);
    json_name(writer, "degraded");
    json_begin_array(writer);
    for (size_t i = 0; i < answer->degraded_count; i++)
        json_put_text(writer, answer->degraded[i]);
    json_end_array(writer);
    put_text_member(writer, "memory", answer->memory);
    json_name(writer, "generation");
    json_put_uint(writer, answer->generation);
    put_text_member(writer, "space", answer->space);
    put_text_member(writer, "index", answer->index);
    json_name(writer, "records");
    json_put_uint(writer, answer->records);
    api_json_put_work(writer, &answer->work);
    put_text_member(writer, "request_id", answer->request_id);
    api_json_put_timings(writer, &answer->timings);
}

void api_json_put_answer(struct json_writer *writer, enum api_method method, struct text input,
                         const struct api_answer *answer)
{
    assert(writer && answer);

    bool is_search = method == API_SEARCH;
    bool is_classify =
        method == API_CLASSIFY || method == API_EXPLAIN || method == API_DISCOVER_LABELS;
    json_begin_object(writer);
    put_text_member(writer, "input", input);
    if (is_classify) {
        put_labels(writer, "plain", &answer->plain);
        put_labels(writer, "refined", &answer->refined);
    } else if (!is_search) {
        api_json_put_floats(writer, "embedding", answer->embedding, answer->embedding_count);
    }
    if (!is_search)
        put_gate(writer, answer);
    put_neighbours(writer, &answer->neighbours);
    put_tail(writer, answer);
    json_end_object(writer);
}
