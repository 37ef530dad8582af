// SPDX-License-Identifier: Apache-2.0
// answer.c - results into the structs of the wire.

#include "coordinator/answer.h"

#include <assert.h>
#include <string.h>

#include "proto/base/clock.h"
#include "proto/wire/shard_msg.h"

void answer_from_question(const struct service_call *call, const struct question *question,
                          struct api_answer *out)
{
    assert(call && question && out);

    const struct meta_generation *memory = &question->memory;
    *out = (struct api_answer){
        .request_id = service_request_id(call),
        .space = text_of(memory->number == 0 ? call->backend->clip->space : memory->space),
        .memory = text_of(memory->memory),
        .generation = memory->number,
        .index = text_of("none"),
    };
}

void answer_set_work(struct api_answer *answer, const struct api_work *work, bool is_searched)
{
    assert(answer && work);

    answer->work = *work;
    answer->index = text_of(!is_searched ? "none" : work->exact ? "exact" : "ivf");
}

void answer_from_result(const struct service_call *call, const struct question *question,
                        const struct query_result *result, struct api_answer *out)
{
    assert(result && result->status == STATUS_OK);

    answer_from_question(call, question, out);
    out->coverage = result->coverage;
    out->degraded = result->degraded;
    out->degraded_count = result->degraded_count;
    out->timings = result->timings;
    out->records = result->records;
    answer_set_work(out, &result->work, result->coverage > 0);
    static const enum api_fusion fusions[] = {
        [FUSION_NONE] = API_FUSION_NONE,
        [FUSION_MEAN] = API_FUSION_MEAN,
        [FUSION_WEIGHTED] = API_FUSION_WEIGHTED,
        [FUSION_HEAD] = API_FUSION_HEAD,
    };
    out->fusion = fusions[result->fuser->fusion.mode];
}

// One text of each neighbour; NULL unless the field was asked for. False without memory.
static bool put_texts(const struct query_result *result, struct arena *arena, uint32_t fields,
                      struct api_neighbours *out)
{
    size_t count = out->count;
    struct text *texts = arena_alloc_array(arena, 3 * count, sizeof(*texts));
    if (!texts)
        return false;
    for (size_t i = 0; i < count; i++) {
        struct query_document document = {0};
        if (result->documents)
            document = result->documents[i];
        texts[i] = document.key;
        texts[count + i] = document.caption;
        texts[2 * count + i] = document.source;
    }
    out->keys = fields & 1u << API_FIELD_KEY ? texts : NULL;
    out->captions = fields & 1u << API_FIELD_CAPTION ? texts + count : NULL;
    out->sources = fields & 1u << API_FIELD_SOURCE ? texts + 2 * count : NULL;
    return true;
}

static bool put_tags(const struct query_result *result, struct arena *arena,
                     struct api_neighbours *out)
{
    struct api_tag_list *lists = arena_alloc_array(arena, out->count, sizeof(*lists));
    if (!lists)
        return false;
    for (size_t i = 0; i < out->count; i++) {
        struct text joined = result->documents ? result->documents[i].tags : (struct text){0};
        size_t count = shard_tag_count(joined);
        struct text *tags = arena_alloc_array(arena, count, sizeof(*tags));
        if (!tags)
            return false;
        shard_split_tags(joined, tags);
        lists[i] = (struct api_tag_list){tags, count};
    }
    out->tags = lists;
    return true;
}

// Rows side by side; one that did not come is zeros.
static bool put_rows(const struct query_result *result, struct arena *arena, bool images,
                     struct api_neighbours *out)
{
    size_t dimension = result->dimension;
    float *rows = arena_alloc_array(arena, out->count * dimension, sizeof(*rows));
    if (!rows)
        return false;
    for (size_t i = 0; i < out->count; i++) {
        const struct query_document *document = result->documents ? &result->documents[i] : NULL;
        const float *row = !document ? NULL : images ? document->image : document->text;
        if (row)
            memcpy(rows + i * dimension, row, dimension * sizeof(*rows));
        else
            memset(rows + i * dimension, 0, dimension * sizeof(*rows));
    }
    out->dimension = dimension;
    if (images)
        out->image_embeddings = rows;
    else
        out->text_embeddings = rows;
    return true;
}

enum status answer_neighbours(const struct query_result *result, uint32_t fields,
                              struct arena *arena, struct api_neighbours *out)
{
    const struct fuser_result *selection = &result->selections[0];
    size_t count = selection->count;
    uint64_t *ids = arena_alloc_array(arena, count, sizeof(*ids));
    float *scores = arena_alloc_array(arena, count, sizeof(*scores));
    if (!ids || !scores)
        return STATUS_NO_MEMORY;
    for (size_t i = 0; i < count; i++) {
        ids[i] = result->hits[selection->kept[i]].id;
        scores[i] = result->hits[selection->kept[i]].score;
    }

    struct api_neighbours found = {
        .count = count,
        .ids = ids,
        .scores = scores,
        .weights = result->fuser->fusion.mode == FUSION_NONE ? NULL : selection->weights,
    };
    bool complete = put_texts(result, arena, fields, &found);
    if (complete && fields & 1u << API_FIELD_TAGS)
        complete = put_tags(result, arena, &found);
    if (complete && fields & 1u << API_FIELD_IMAGE_EMBEDDING)
        complete = put_rows(result, arena, true, &found);
    if (complete && fields & 1u << API_FIELD_TEXT_EMBEDDING)
        complete = put_rows(result, arena, false, &found);
    if (!complete)
        return STATUS_NO_MEMORY;
    *out = found;
    return STATUS_OK;
}

enum status answer_degrade(struct api_answer *answer, struct arena *arena, struct text reason)
{
    if (answer->degraded_count == QUERY_DEGRADED_MAX)
        return STATUS_OK;
    size_t count = answer->degraded_count;
    struct text *reasons = arena_alloc_array(arena, count + 1, sizeof(*reasons));
    if (!reasons)
        return STATUS_NO_MEMORY;
    if (count > 0)
        memcpy(reasons, answer->degraded, count * sizeof(*reasons));
    reasons[count] = reason;
    answer->degraded = reasons;
    answer->degraded_count = count + 1;
    return STATUS_OK;
}

enum status answer_add_labels(const struct label_prototypes *prototypes, struct arena *arena,
                              struct api_answer *answer)
{
    assert(prototypes && arena && answer);

    if (prototypes->coverage < answer->coverage)
        answer->coverage = prototypes->coverage;
    const char *line = prototypes->degraded;
    while (line && *line != '\0') {
        size_t bytes = strcspn(line, "\n");
        enum status status = answer_degrade(answer, arena, (struct text){line, bytes});
        if (status != STATUS_OK)
            return status;
        line += bytes + (line[bytes] == '\n');
    }
    return STATUS_OK;
}

void answer_finish(struct service_call *call, struct api_answer *answer)
{
    struct buffer reply = {0};
    answer->timings.total = (float)(clock_now_us() - call->begun_us) / 1000.0f;
    enum status status = api_encode_answer(call->method, answer, &reply);
    if (status == STATUS_OK) {
        service_finish(call, STATUS_OK, &reply, NULL);
    } else {
        struct reason why = {0};
        service_fail(call, reason_set(&why, status, NULL, "the answer does not fit a message"),
                     &why);
    }
    buffer_deinit(&reply);
}
