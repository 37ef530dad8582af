// SPDX-License-Identifier: Apache-2.0
// Each search asks for a few more than k, since some are left out. Where too many were, it asks
// once more, for as many as a search gives at all.

#include "tools/train_neighbours.h"

#include <string.h>

#include "proto/base/mem.h"
#include "tools/output.h"
#include "tools/train_asks.h"

#define SPARE 8 // asked for beyond k

struct finding {
    struct train_neighbours *found;
    const struct train_neighbours_params *params;
    struct train_asks asks;
    uint32_t asked_k;
    uint64_t taken; // answers
    struct buffer question, message, reply;
    struct output_progress progress;
};

static struct api_query_request question_of(const struct finding *finding, enum modality side,
                                            const float *query, uint32_t k)
{
    return (struct api_query_request){
        .input = API_INPUT_EMBEDDING,
        .embedding = query,
        .embedding_count = finding->params->memory->dimension,
        .embedding_modality = side == MODALITY_TEXT ? API_MODALITY_TEXT : API_MODALITY_IMAGE,
        .options = {.memory = text_of(finding->params->memory->pin),
                    .k = k,
                    .fusion = API_FUSION_NONE,
                    .min_coverage = 1,
                    .index = finding->params->index,
                    .fields = 1u << API_FIELD_NONE},
    };
}

static enum status encode_question(struct finding *finding, enum modality side, uint32_t pair,
                                   uint32_t k, struct reason *why)
{
    float query[DIMENSION_MAX];
    train_rows_get(&finding->params->pairs->rows, pair, side, query);
    const struct api_query_request request = question_of(finding, side, query, k);
    finding->question.count = 0;
    const enum status status = api_encode_query(API_SEARCH, &request, &finding->question);
    return status ? reason_set(why, status, NULL, "the request cannot be made: %s",
                               status_text(status))
                  : STATUS_OK;
}

// --- what is left out

static bool excludes(const struct train_neighbours_params *params, uint32_t pair)
{
    return !params->keeps_self ||
           train_pairs_is_held_out(params->pairs->entities[pair], params->seed, params->held_out);
}

static bool is_same_picture(const struct train_neighbours_params *params, uint32_t pair,
                            uint32_t row)
{
    float a[DIMENSION_MAX];
    float b[DIMENSION_MAX];
    train_rows_get(&params->pairs->rows, pair, MODALITY_IMAGE, a);
    train_rows_get(&params->memory->rows, row, MODALITY_IMAGE, b);
    return train_rows_dot(a, b, params->memory->dimension) >= params->similarity;
}

// Takes what may stay of an answer. False in *is_enough when fewer than k did and there may be
// more.
static enum status keep(struct finding *finding, enum modality side, uint32_t pair,
                        const struct api_neighbours *list, struct reason *why)
{
    const struct train_neighbours_params *params = finding->params;
    struct train_neighbours *found = finding->found;
    const size_t at = (size_t)pair * found->k;
    const bool is_excluding = excludes(params, pair);
    uint32_t count = 0;
    for (size_t i = 0; i < list->count && count < found->k; i++) {
        uint32_t row = 0;
        if (!train_memory_find(params->memory, list->ids[i], &row))
            return reason_set(why, STATUS_FAILED_PRECONDITION, params->memory->pin,
                              "was changed while its neighbours were looked for: try again");
        if (is_excluding &&
            (list->ids[i] == params->pairs->ids[pair] || is_same_picture(params, pair, row))) {
            found->excluded++;
            continue;
        }
        found->rows[side][at + count] = row;
        found->scores[side][at + count] = list->scores[i];
        count++;
    }
    found->counts[side][pair] = count;
    return STATUS_OK;
}

// --- asking

static enum status keep_answer(struct finding *finding, uint64_t tag, struct bytes reply,
                               uint32_t asked_k, bool *is_short, struct reason *why)
{
    const enum modality side = tag % 2 ? MODALITY_TEXT : MODALITY_IMAGE;
    const uint32_t pair = (uint32_t)(tag / 2);
    struct arena *arena = arena_create(API_ARENA_BYTES(reply.count));
    struct api_answer answer = {.coverage = 0};
    enum status status = api_decode_answer(API_SEARCH, reply, arena, &answer, why);
    const uint64_t before = finding->found->excluded;
    if (!status)
        status = keep(finding, side, pair, &answer.neighbours, why);
    *is_short = !status && finding->found->counts[side][pair] < finding->found->k &&
                answer.neighbours.count == asked_k && asked_k < K_MAX;
    if (*is_short)
        finding->found->excluded = before; // counted when it is asked again
    arena_destroy(&arena);
    return status;
}

static enum status ask_again(struct finding *finding, uint64_t tag, struct reason *why)
{
    bool is_short = false;
    enum status status = encode_question(finding, tag % 2 ? MODALITY_TEXT : MODALITY_IMAGE,
                                         (uint32_t)(tag / 2), K_MAX, why);
    if (!status)
        status = client_call(finding->params->client, API_SEARCH,
                             (struct bytes){finding->question.data, finding->question.count},
                             &finding->reply, why);
    return status ? status
                  : keep_answer(finding, tag,
                                (struct bytes){finding->reply.data, finding->reply.count}, K_MAX,
                                &is_short, why);
}

static enum status take(void *context, const struct api_stream_reply *answer, struct reason *why)
{
    struct finding *finding = context;
    if (answer->status) {
        *why = answer->why;
        return answer->status;
    }
    bool is_short = false;
    enum status status =
        keep_answer(finding, answer->tag, answer->reply, finding->asked_k, &is_short, why);
    if (!status && is_short)
        status = ask_again(finding, answer->tag, why);
    finding->taken++;
    output_progress_update(&finding->progress, finding->taken, 0);
    return status;
}

static enum status ask(struct finding *finding, uint64_t tag, struct reason *why)
{
    enum status status = encode_question(finding, tag % 2 ? MODALITY_TEXT : MODALITY_IMAGE,
                                         (uint32_t)(tag / 2), finding->asked_k, why);
    if (status)
        return status;
    const struct api_stream_request request = {
        .tag = tag, .question = {finding->question.data, finding->question.count}};
    finding->message.count = 0;
    status = api_encode_stream_request(&request, &finding->message);
    if (status)
        return reason_set(why, status, NULL, "the request cannot be made: %s", status_text(status));
    return train_asks_put(&finding->asks,
                          (struct bytes){finding->message.data, finding->message.count}, why);
}

// --- all of them

static enum status ask_all(struct finding *finding, struct reason *why)
{
    const uint64_t count = (uint64_t)2 * finding->params->pairs->rows.count;
    enum status status =
        train_asks_begin(&finding->asks, finding->params->client, API_SEARCH_STREAM, why);
    output_progress_begin(&finding->progress, "searches", count);
    for (uint64_t tag = 0; tag < count && !status; tag++)
        status = ask(finding, tag, why);
    status = train_asks_end(&finding->asks, status, why);
    output_progress_end(&finding->progress);
    return status;
}

static enum status check(struct finding *finding, struct reason *why)
{
    struct train_neighbours *found = finding->found;
    const uint32_t pairs = finding->params->pairs->rows.count;
    uint64_t total = 0;
    struct hash_sha256 state;
    hash_sha256_init(&state);
    for (int side = 0; side < TRAIN_NEIGHBOURS_SIDES; side++) {
        for (uint32_t pair = 0; pair < pairs; pair++)
            total += found->counts[side][pair];
        const size_t all = (size_t)pairs * found->k;
        hash_sha256_update(&state, found->counts[side], pairs * sizeof(found->counts[0][0]));
        hash_sha256_update(&state, found->scores[side], all * sizeof(found->scores[0][0]));
    }
    uint8_t digest[HASH_SHA256_BYTES];
    hash_sha256_final(&state, digest);
    hash_hex(digest, sizeof(digest), found->digest);
    if (total)
        return STATUS_OK;
    return reason_set(why, STATUS_FAILED_PRECONDITION, finding->params->memory->pin,
                      "no pair has a neighbour in it, other than itself or a picture of similarity "
                      "%g or more to its own (--exclude-similar): a head learns from neighbours",
                      finding->params->similarity);
}

static enum status make_room(struct train_neighbours *found,
                             const struct train_neighbours_params *params, struct reason *why)
{
    const size_t pairs = params->pairs->rows.count;
    found->k = params->k;
    for (int side = 0; side < TRAIN_NEIGHBOURS_SIDES; side++) {
        size_t all = 0;
        if (!mem_multiply(pairs, params->k, &all))
            all = SIZE_MAX;
        found->rows[side] = mem_try_alloc_array(all, sizeof(found->rows[0][0]));
        found->scores[side] = mem_try_alloc_array(all, sizeof(found->scores[0][0]));
        found->counts[side] = mem_try_alloc_array(pairs, sizeof(found->counts[0][0]));
        if (!found->rows[side] || !found->scores[side] || !found->counts[side])
            return reason_set(why, STATUS_NO_MEMORY, NULL,
                              "no memory for the neighbours of %zu pairs", pairs);
        memset(found->rows[side], 0, all * sizeof(found->rows[0][0]));
        memset(found->scores[side], 0, all * sizeof(found->scores[0][0]));
    }
    return STATUS_OK;
}

enum status train_neighbours_find(struct train_neighbours *found,
                                  const struct train_neighbours_params *params, struct reason *why)
{
    const uint32_t wanted = params->k + SPARE;
    struct finding *finding = mem_alloc(sizeof(*finding));
    finding->found = found;
    finding->params = params;
    finding->asked_k = wanted < K_MAX ? wanted : K_MAX;
    finding->asks.take = take;
    finding->asks.context = finding;
    enum status status = make_room(found, params, why);
    if (!status)
        status = ask_all(finding, why);
    if (!status)
        status = check(finding, why);
    buffer_deinit(&finding->question);
    buffer_deinit(&finding->message);
    buffer_deinit(&finding->reply);
    mem_free(finding);
    return status;
}

void train_neighbours_deinit(struct train_neighbours *found)
{
    for (int side = 0; side < TRAIN_NEIGHBOURS_SIDES; side++) {
        mem_free(found->rows[side]);
        mem_free(found->scores[side]);
        mem_free(found->counts[side]);
    }
    *found = (struct train_neighbours){.k = 0};
}
