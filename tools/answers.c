// SPDX-License-Identifier: Apache-2.0
// Members are written in a fixed order, so that the same answer is the same line.

#include "tools/answers.h"

#include <inttypes.h>
#include <stdio.h>

#include "tools/output.h"

void answers_put_floats(struct json_writer *writer, const char *name, const float *values,
                        size_t count)
{
    json_name(writer, name);
    json_begin_array(writer);
    for (size_t i = 0; i < count; i++)
        json_put_float(writer, values[i]);
    json_end_array(writer);
}

void answers_put_tags(struct json_writer *writer, const struct text *tags, size_t count)
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

void answers_put_neighbours(struct json_writer *writer, const struct api_neighbours *neighbours)
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
            answers_put_tags(writer, neighbours->tags[i].tags, neighbours->tags[i].count);
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
            answers_put_floats(writer, "image_embedding",
                               neighbours->image_embeddings + i * dimension, dimension);
        if (neighbours->text_embeddings)
            answers_put_floats(writer, "text_embedding",
                               neighbours->text_embeddings + i * dimension, dimension);
        json_end_object(writer);
    }
    json_end_array(writer);
}

void answers_put_labels(struct json_writer *writer, const char *name,
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

void answers_put_gate(struct json_writer *writer, const struct api_answer *answer)
{
    json_name(writer, "gate");
    json_put_float(writer, answer->gate);
    put_text_member(writer, "gate_reason", answer->gate_reason);
}

void answers_put_timings(struct json_writer *writer, const struct api_timings *timings)
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
    answers_put_floats(writer, "shard", timings->shard, timings->shard_count);
    json_end_object(writer);
}

// "request_id": the one of the flags, else the one of the answer.
static void put_request_id(struct json_writer *writer, const struct options *options,
                           struct text request_id)
{
    put_text_member(writer, "request_id",
                    options->request_id ? text_of(options->request_id) : request_id);
}

void answers_put_tail(struct json_writer *writer, const struct options *options,
                      const struct api_answer *answer)
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
    put_request_id(writer, options, answer->request_id);
    answers_put_timings(writer, &answer->timings);
}

void answers_print_neighbours(const struct api_neighbours *neighbours, int indent)
{
    if (!neighbours->count) {
        printf("%*sno neighbours\n", indent, "");
        return;
    }

    const char *header[6] = {">score"};
    size_t columns = 1;
    if (neighbours->weights)
        header[columns++] = ">weight";
    if (neighbours->effects)
        header[columns++] = ">effect";
    header[columns++] = "key";
    header[columns++] = "caption";

    struct output_table table;
    output_table_begin(&table, header, columns);
    for (size_t i = 0; i < neighbours->count; i++) {
        output_cell(&table, "%.4f", (double)neighbours->scores[i]);
        if (neighbours->weights)
            output_cell(&table, "%.3f", (double)neighbours->weights[i]);
        if (neighbours->effects)
            output_cell(&table, "%+.4f", (double)neighbours->effects[i]);
        output_cell_text(&table, neighbours->keys ? neighbours->keys[i] : (struct text){"", 0});
        output_cell_text(&table,
                         neighbours->captions ? neighbours->captions[i] : (struct text){"", 0});
    }
    output_table_end(&table, indent);
}

void answers_print_state(const struct api_answer *answer, int indent)
{
    if (answer->coverage < 1.0f)
        printf("%*scoverage %.1f %%\n", indent, "", (double)answer->coverage * 100);
    for (size_t i = 0; i < answer->degraded_count; i++) {
        printf("%*sdegraded: ", indent, "");
        output_text(answer->degraded[i]);
        putchar('\n');
    }
}

enum status answers_end_line(struct json_writer *writer)
{
    enum status status = json_write_line(writer, stdout);
    if (status) {
        struct reason why = {.text = ""};
        (void)reason_set(&why, status, "stdout", "cannot be written: %s", status_text(status));
        output_error(NULL, &why);
    }
    return status;
}
