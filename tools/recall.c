// SPDX-License-Identifier: Apache-2.0
// The sample is the first records of an Export. They come in the order of their ids, which are
// hashes of their keys, so the first ones are as good as drawn by lot, and the same each time.

#include "tools/recall.h"

#include <assert.h>
#include <string.h>
#include <time.h>

#include "proto/base/clock.h"
#include "proto/base/mem.h"
#include "tools/measure.h"
#include "tools/memories.h"
#include "tools/output.h"

#define WAIT_STEP_NS 200000000 // between two looks for an index
#define REPLY_ARENA_BYTES ((size_t)4 << 20)

struct recall {
    struct client *client;
    const struct recall_params *params;
    uint32_t dimension;
    uint32_t count;
    char **keys;   // [count]
    float *images; // [count][dimension]
    float *texts;
    double *ms[2]; // [count] by the index, exactly
    struct buffer request, reply;
};

struct outcome { // of one search
    float scores[RECALL_K];
    size_t count;
    struct api_work work;
    float ms;
};

// --- the sample

static enum status take(void *context, const struct api_export_reply *message, struct reason *why)
{
    struct recall *recall = context;
    const uint32_t dimension = message->dimension;
    if (!recall->keys) {
        const uint32_t sample = recall->params->sample;
        recall->dimension = dimension;
        recall->keys = mem_alloc_array(sample, sizeof(recall->keys[0]));
        recall->images = mem_alloc_array((size_t)sample * dimension, sizeof(float));
        recall->texts = mem_alloc_array((size_t)sample * dimension, sizeof(float));
    }
    for (size_t i = 0; i < message->count && recall->count < recall->params->sample; i++) {
        const struct api_record *record = &message->records[i];
        if (record->hidden)
            continue;
        if (dimension != recall->dimension || record->image_count != dimension ||
            record->text_count != dimension)
            return reason_set(why, STATUS_CORRUPT, NULL,
                              "an exported record has %zu and %zu numbers instead of %u",
                              record->image_count, record->text_count, recall->dimension);
        const size_t at = (size_t)recall->count * dimension;
        memcpy(recall->images + at, record->image_embedding, dimension * sizeof(float));
        memcpy(recall->texts + at, record->text_embedding, dimension * sizeof(float));
        char *key = mem_alloc(record->key.bytes + 1);
        memcpy(key, record->key.data, record->key.bytes);
        recall->keys[recall->count++] = key;
    }
    // Any failure ends the stream: this one says that there is enough.
    return recall->count < recall->params->sample ? STATUS_OK : STATUS_CANCELLED;
}

static enum status take_sample(struct recall *recall, struct reason *why)
{
    const struct api_export_request request = {
        .memory = text_of(recall->params->memory),
        .fields =
            1u << API_FIELD_KEY | 1u << API_FIELD_IMAGE_EMBEDDING | 1u << API_FIELD_TEXT_EMBEDDING,
    };
    const enum status status = memories_export(recall->client, &request, take, recall, why);
    if (recall->count == recall->params->sample)
        return STATUS_OK;
    if (status == STATUS_OK && recall->count == 0)
        return reason_set(why, STATUS_NOT_FOUND, recall->params->memory,
                          "it has no record that is shown");
    return status;
}

// --- one question

static enum status call(struct recall *recall, const struct api_query_request *query,
                        struct arena *arena, struct api_answer *answer, struct reason *why)
{
    recall->request.count = 0;
    enum status status = api_encode_query(API_SEARCH, query, &recall->request);
    if (status)
        return reason_set(why, status, NULL, "the request cannot be made: %s", status_text(status));
    status = client_call(recall->client, API_SEARCH,
                         (struct bytes){recall->request.data, recall->request.count},
                         &recall->reply, why);
    if (!status)
        status =
            api_decode_answer(API_SEARCH, (struct bytes){recall->reply.data, recall->reply.count},
                              arena, answer, why);
    if (!status && answer->coverage < 1)
        status = reason_set(why, STATUS_UNAVAILABLE, NULL, "only %.1f %% of the memory answered",
                            (double)answer->coverage * 100);
    return status;
}

static enum status ask(struct recall *recall, enum recall_way way, uint32_t record,
                       enum api_index index, struct outcome *out, struct reason *why)
{
    const bool by_image = way == RECALL_IMAGE_OVER_IMAGE || way == RECALL_IMAGE_OVER_TEXT;
    const bool over_image = way == RECALL_IMAGE_OVER_IMAGE || way == RECALL_TEXT_OVER_IMAGE;
    const struct text self = text_of(recall->keys[record]);
    const float *rows = by_image ? recall->images : recall->texts;
    struct api_query_request query = {
        .input = API_INPUT_EMBEDDING,
        .embedding = rows + (size_t)record * recall->dimension,
        .embedding_count = recall->dimension,
        .embedding_modality = by_image ? API_MODALITY_IMAGE : API_MODALITY_TEXT,
        .options = {.memory = text_of(recall->params->memory),
                    .k = RECALL_K,
                    .over = over_image ? API_MODALITY_IMAGE : API_MODALITY_TEXT,
                    .fusion = API_FUSION_NONE,
                    .exclude_keys = &self,
                    .exclude_count = by_image == over_image,
                    .index = index,
                    .fields = 1u << API_FIELD_NONE},
    };
    if (index == API_INDEX_IVF) {
        query.options.nprobe = recall->params->options->nprobe;
        query.options.target_recall = recall->params->options->target_recall;
        query.options.approx = recall->params->options->approx;
    }
    struct arena *arena = arena_create(REPLY_ARENA_BYTES);
    struct api_answer answer = {.coverage = 0};
    const enum status status = call(recall, &query, arena, &answer, why);
    if (!status) {
        const size_t count = answer.neighbours.count;
        *out = (struct outcome){
            .count = count < RECALL_K ? count : RECALL_K,
            .work = answer.work,
            .ms = answer.timings.total,
        };
        if (out->count > 0)
            memcpy(out->scores, answer.neighbours.scores, out->count * sizeof(out->scores[0]));
    }
    arena_destroy(&arena);
    return status;
}

// --- all of them

// Until both sides are searched by an index, or the time is over.
static enum status wait_for_index(struct recall *recall, struct reason *why)
{
    static const enum recall_way ways[] = {RECALL_IMAGE_OVER_IMAGE, RECALL_TEXT_OVER_TEXT};
    const int64_t end_us = clock_deadline_in_us(recall->params->wait_us);
    bool is_told = false;
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]);) {
        struct outcome outcome;
        const enum status status = ask(recall, ways[i], 0, API_INDEX_IVF, &outcome, why);
        if (status)
            return status;
        if (!outcome.work.exact || clock_passed(end_us)) {
            i++;
            continue;
        }
        if (!is_told)
            output_note("waiting for the index, which is being made");
        is_told = true;
        (void)nanosleep(&(struct timespec){.tv_nsec = WAIT_STEP_NS}, NULL);
    }
    return STATUS_OK;
}

static double recall_of(const struct outcome *found, const struct outcome *exact)
{
    size_t count = 0;
    if (exact->count == 0)
        return 1;
    for (size_t i = 0; i < found->count; i++)
        count += found->scores[i] >= exact->scores[exact->count - 1];
    return (double)(count < exact->count ? count : exact->count) / (double)exact->count;
}

static enum status measure_way(struct recall *recall, enum recall_way way,
                               struct output_progress *progress, struct recall_figures *out,
                               struct reason *why)
{
    struct recall_figures sums = {.lowest = 1, .is_exact = true};
    for (uint32_t i = 0; i < recall->count; i++) {
        struct outcome exact;
        struct outcome found;
        enum status status = ask(recall, way, i, API_INDEX_EXACT, &exact, why);
        if (!status)
            status = ask(recall, way, i, API_INDEX_IVF, &found, why);
        if (status)
            return status;
        const double share = recall_of(&found, &exact);
        sums.recall += share;
        sums.lowest = share < sums.lowest ? share : sums.lowest;
        sums.is_exact = sums.is_exact && found.work.exact;
        sums.lists_probed += (double)found.work.lists_probed;
        sums.codes_scanned += (double)found.work.codes_scanned;
        sums.rows_refined += (double)found.work.rows_refined;
        sums.rows_read += (double)found.work.rows_read;
        recall->ms[0][i] = (double)found.ms;
        recall->ms[1][i] = (double)exact.ms;
        output_progress_update(progress, (uint64_t)way * recall->count + i + 1, 0);
    }
    const double count = recall->count;
    *out = (struct recall_figures){
        .recall = sums.recall / count,
        .lowest = sums.lowest,
        .is_exact = sums.is_exact,
        .lists_probed = sums.lists_probed / count,
        .codes_scanned = sums.codes_scanned / count,
        .rows_refined = sums.rows_refined / count,
        .rows_read = sums.rows_read / count,
        .ms = measure_quantile(recall->ms[0], recall->count, 0.5),
        .exact_ms = measure_quantile(recall->ms[1], recall->count, 0.5),
    };
    return STATUS_OK;
}

enum status recall_measure(struct client *client, const struct recall_params *params,
                           struct recall_figures figures[RECALL_WAYS], uint32_t *asked,
                           struct reason *why)
{
    assert(client && params && figures && asked);
    assert(params->sample >= 1 && params->sample <= RECALL_SAMPLE_MAX);

    struct recall recall = {.client = client, .params = params};
    struct output_progress progress;
    enum status status = take_sample(&recall, why);
    for (size_t i = 0; i < 2; i++)
        recall.ms[i] = mem_alloc_array(params->sample, sizeof(double));
    if (!status)
        status = wait_for_index(&recall, why);
    output_progress_begin(&progress, "questions", (uint64_t)RECALL_WAYS * recall.count);
    for (int way = 0; way < RECALL_WAYS && !status; way++)
        status = measure_way(&recall, (enum recall_way)way, &progress, &figures[way], why);
    output_progress_end(&progress);
    *asked = recall.count;

    for (uint32_t i = 0; i < recall.count; i++)
        mem_free(recall.keys[i]);
    mem_free(recall.keys);
    mem_free(recall.images);
    mem_free(recall.texts);
    mem_free(recall.ms[0]);
    mem_free(recall.ms[1]);
    buffer_deinit(&recall.request);
    buffer_deinit(&recall.reply);
    return status;
}
