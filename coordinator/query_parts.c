// SPDX-License-Identifier: Apache-2.0
// query_parts.c - a query of several weighted pictures, texts and embeddings becomes one row.
//
// Pictures are encoded by one job, texts by another; their rows lie one after the other, pictures
// first, then texts, then embeddings, while the sum is taken in the order of the request.

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "coordinator/query_internal.h"

#define SUM_LENGTH_MIN 1e-6

struct query_parts {
    size_t count;
    size_t image_count;
    size_t text_count;
    float weights[QUERY_PARTS_MAX];
    uint32_t rows_of[QUERY_PARTS_MAX];  // row of each part
    uint32_t parts_of[QUERY_PARTS_MAX]; // part of each row
    struct bytes files[QUERY_PARTS_MAX];
    struct text texts[QUERY_PARTS_MAX];
    enum status statuses[QUERY_PARTS_MAX]; // of the files
    struct reason reasons[QUERY_PARTS_MAX];
    float *rows; // [count][dimension]
    bool images_are_done;
    bool texts_are_done;
};

static bool copy_input(struct query *query, const struct api_query_part *part, size_t at)
{
    struct query_parts *parts = query->parts;
    if (part->input == API_INPUT_IMAGE) {
        char *copy =
            arena_copy_text(query->arena, (const char *)part->image.data, part->image.count);
        parts->files[at] = (struct bytes){(const uint8_t *)copy, part->image.count};
        return copy != NULL;
    }
    if (part->input == API_INPUT_TEXT) {
        char *copy = arena_copy_text(query->arena, part->text.data, part->text.bytes);
        parts->texts[at - parts->image_count] = (struct text){copy, part->text.bytes};
        return copy != NULL;
    }
    uint32_t dimension = query->params.dimension;
    assert(part->embedding_count == dimension);
    memcpy(parts->rows + at * dimension, part->embedding, dimension * sizeof(parts->rows[0]));
    return true;
}

bool query_parts_take(struct query *query)
{
    static const enum api_input order[] = {API_INPUT_IMAGE, API_INPUT_TEXT, API_INPUT_EMBEDDING};
    const struct query_params *params = &query->params;
    struct query_parts *parts = arena_zero(query->arena, sizeof(*parts));
    query->parts = parts;
    if (!parts)
        return false;
    parts->count = params->part_count;
    parts->rows = arena_alloc_array(query->arena, parts->count * params->dimension, sizeof(float));
    if (!parts->rows)
        return false;
    for (size_t i = 0; i < parts->count; i++) {
        parts->weights[i] = params->parts[i].weight;
        parts->image_count += params->parts[i].input == API_INPUT_IMAGE;
        parts->text_count += params->parts[i].input == API_INPUT_TEXT;
    }
    uint32_t row = 0;
    for (size_t kind = 0; kind < 3; kind++) {
        for (uint32_t i = 0; i < parts->count; i++) {
            if (params->parts[i].input != order[kind])
                continue;
            parts->rows_of[i] = row;
            parts->parts_of[row] = i;
            if (!copy_input(query, &params->parts[i], row++))
                return false;
        }
    }
    assert(row == parts->count);
    return true;
}

bool query_parts_next(struct query *query)
{
    struct query_parts *parts = query->parts;
    struct compute_job *job = &query->job;
    if (parts->image_count > 0 && !parts->images_are_done) {
        parts->images_are_done = true;
        job->kind = COMPUTE_IMAGES;
        job->images = (struct encoder_images){
            .files = parts->files,
            .count = parts->image_count,
            .profile = query->question.profile,
            .embeddings = parts->rows,
            .statuses = parts->statuses,
            .reasons = parts->reasons,
        };
        return true;
    }
    if (parts->text_count > 0 && !parts->texts_are_done) {
        parts->texts_are_done = true;
        job->kind = COMPUTE_TEXTS;
        job->texts = (struct compute_texts){
            .texts = parts->texts,
            .count = parts->text_count,
            .embeddings = parts->rows + parts->image_count * query->params.dimension,
        };
        return true;
    }
    return false;
}

enum status query_parts_check(const struct query *query, struct reason *why)
{
    const struct query_parts *parts = query->parts;
    for (size_t i = 0; i < parts->image_count; i++) {
        if (parts->statuses[i] == STATUS_OK)
            continue;
        char field[REASON_FIELD_BYTES];
        (void)snprintf(field, sizeof(field), "parts[%u].image", parts->parts_of[i]);
        return reason_set(why, parts->statuses[i], field, "%s", parts->reasons[i].text);
    }
    return STATUS_OK;
}

enum status query_parts_sum(struct query *query, struct reason *why)
{
    const struct query_parts *parts = query->parts;
    uint32_t dimension = query->params.dimension;
    double squares = 0;
    for (uint32_t d = 0; d < dimension; d++) {
        double sum = 0;
        for (size_t i = 0; i < parts->count; i++)
            sum += (double)parts->weights[i] *
                   (double)parts->rows[(size_t)parts->rows_of[i] * dimension + d];
        query->plain[d] = (float)sum;
        squares += sum * sum;
    }
    // Written so that a sum that is no number fails too.
    if (!(sqrt(squares) >= SUM_LENGTH_MIN) ||
        embedding_normalise(query->plain, dimension) != STATUS_OK)
        return reason_set(
            why, STATUS_INVALID, "parts",
            "the weighted sum has length %g: the parts cancel out; allowed: %g or more",
            sqrt(squares), SUM_LENGTH_MIN);
    return STATUS_OK;
}
