// SPDX-License-Identifier: Apache-2.0
// service_query.c - Search, RefineImage, RefineText and RefineEmbedding: one query, one answer.

#include <assert.h>
#include <stdio.h>

#include "coordinator/answer.h"
#include "coordinator/query.h"
#include "coordinator/question.h"
#include "coordinator/service.h"
#include "proto/base/arena.h"
#include "proto/base/mem.h"

struct asked {
    struct service_call *call;
    struct arena *arena;
    struct question question;
    struct query *query;
};

static void free_asked(struct asked *asked)
{
    query_destroy(&asked->query);
    question_deinit(&asked->question);
    arena_destroy(&asked->arena);
    mem_free(asked);
}

static void fail(struct asked *asked, enum status status, const struct reason *why)
{
    struct reason told = *why;
    service_fail(asked->call, status, &told);
    free_asked(asked);
}

static void on_done(void *context)
{
    struct asked *asked = context;
    const struct query_result *result = query_result(asked->query);
    struct reason why = {0};
    if (result->status != STATUS_OK) {
        fail(asked, result->status, &result->why);
        return;
    }
    struct api_answer answer;
    answer_from_result(asked->call, &asked->question, result, &answer);
    if (answer_neighbours(result, asked->question.fields, asked->arena, &answer.neighbours) !=
        STATUS_OK) {
        fail(asked, reason_set(&why, STATUS_NO_MEMORY, NULL, "no memory for the answer"), &why);
        return;
    }
    if (asked->call->method != API_SEARCH) {
        answer.embedding = result->refined;
        answer.embedding_count = result->dimension;
        answer.gate = (float)result->selections[0].gate;
        answer.gate_reason = text_of(result->selections[0].reason);
    } else {
        answer.neighbours.weights = NULL;
    }
    answer_finish(asked->call, &answer);
    free_asked(asked);
}

// The parts with their embeddings as unit vectors; *own is image when any part is one.
static enum status plan_parts(struct asked *asked, const struct api_query_request *request,
                              uint32_t dimension, const struct api_query_part **out,
                              enum modality *own, struct reason *why)
{
    struct api_query_part *parts =
        arena_alloc_array(asked->arena, request->part_count, sizeof(*parts));
    float *rows = arena_alloc_array(asked->arena, request->part_count * dimension, sizeof(*rows));
    if (!parts || !rows)
        return reason_set(why, STATUS_NO_MEMORY, "parts", "no memory for them");

    bool is_encoded = false;
    enum status status = STATUS_OK;
    *own = MODALITY_TEXT;
    for (size_t i = 0; i < request->part_count && status == STATUS_OK; i++) {
        const struct api_query_part *part = &request->parts[i];
        parts[i] = *part;
        bool is_embedding = part->input == API_INPUT_EMBEDDING;
        is_encoded = is_encoded || !is_embedding;
        if (part->input == API_INPUT_IMAGE ||
            (is_embedding && part->embedding_modality != API_MODALITY_TEXT))
            *own = MODALITY_IMAGE;
        if (!is_embedding)
            continue;
        struct reason inner = {0};
        float *row = rows + i * dimension;
        parts[i].embedding = row;
        status = question_embedding(part->embedding, part->embedding_count, dimension, row, &inner);
        if (status != STATUS_OK) {
            char field[REASON_FIELD_BYTES];
            (void)snprintf(field, sizeof(field), "parts[%zu].embedding", i);
            (void)reason_set(why, status, field, "%s", inner.text);
        }
    }
    *out = parts;
    if (status == STATUS_OK && is_encoded)
        status = question_check_space(asked->call->backend, &asked->question.memory, why);
    return status;
}

// What the request asks, as a query. `row` has room for an embedding.
static enum status plan(struct asked *asked, const struct api_query_request *request, float *row,
                        struct query_params *out, struct reason *why)
{
    const struct backend *backend = asked->call->backend;
    const struct meta_generation *memory = &asked->question.memory;
    enum modality own = request->input == API_INPUT_TEXT ? MODALITY_TEXT : MODALITY_IMAGE;
    uint32_t dimension = memory->number == 0 ? backend->clip->dimension : memory->dimension;
    const struct api_query_part *parts = NULL;
    enum status status = STATUS_OK;
    if (request->input == API_INPUT_EMBEDDING) {
        if (request->embedding_modality == API_MODALITY_TEXT)
            own = MODALITY_TEXT;
        status =
            question_embedding(request->embedding, request->embedding_count, dimension, row, why);
    } else if (request->input == API_INPUT_PARTS) {
        status = plan_parts(asked, request, dimension, &parts, &own, why);
    } else if (request->input == API_INPUT_NONE) {
        status = reason_set(why, STATUS_INVALID, "input",
                            "nothing to look for; send an image, a text or an embedding");
    } else {
        status = question_check_space(backend, memory, why);
    }
    if (status == STATUS_OK)
        status = question_settle_fusion(backend, own, &asked->question, why);
    if (status != STATUS_OK)
        return status;

    *out = (struct query_params){
        .backend = asked->call->backend,
        .question = &asked->question,
        .input = request->input,
        .image = request->image,
        .text = request->text,
        .parts = parts,
        .part_count = request->part_count,
        .rows = row,
        .row_count = 1,
        .dimension = dimension,
        .own = own,
        .over = question_over(&asked->question, own),
        .needs_neighbours = asked->call->method == API_SEARCH,
        .wants_documents = true,
        .deadline_us = asked->call->deadline_us,
        .trace = asked->call->trace,
        .done = on_done,
        .context = asked,
    };
    return STATUS_OK;
}

static void begin(struct service_call *call)
{
    struct asked *asked = mem_alloc(sizeof(*asked));
    asked->call = call;
    asked->arena = arena_create(SERVICE_ARENA_BYTES);
    call->state = asked;

    float row[DIMENSION_MAX];
    struct api_query_request request;
    struct query_params params;
    struct reason why = {0};
    enum status status =
        api_decode_query(call->method, call->message, asked->arena, &request, &why);
    if (status == STATUS_OK)
        status = question_resolve(call->backend, &request.options, &asked->question, &why);
    // A search has no plain answer, and no fusion.
    if (status == STATUS_OK && call->method == API_SEARCH) {
        asked->question.fuser.fusion.mode = FUSION_NONE;
        asked->question.chooses_fusion = false;
        if (asked->question.memory.number == 0)
            status = reason_set(&why, STATUS_NOT_FOUND, "memory",
                                "there is no memory '%s', which is asked unless "
                                "options.memory names another; Memory.List tells those that are",
                                META_NAME_DEFAULT);
    }
    if (status == STATUS_OK)
        status = plan(asked, &request, row, &params, &why);
    if (status == STATUS_OK)
        status = query_start(&params, &asked->query, &why);
    if (status != STATUS_OK)
        fail(asked, status, &why);
}

static void cancel(struct service_call *call)
{
    struct reason why = {0};
    fail(call->state, reason_set(&why, STATUS_CANCELLED, NULL, "cancelled"), &why);
}

const struct service_handler service_query = {.begin = begin, .cancel = cancel};
