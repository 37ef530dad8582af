// SPDX-License-Identifier: Apache-2.0
// service_encode.c - EncodeImage, EncodeText, Tokenize and the items of EncodeStream: the model
// alone, no memory.
//
// The work points into the request, so a call that is cancelled or late ends when the job under
// way is back.

#include <assert.h>
#include <stdio.h>

#include "coordinator/encode_batch.h"
#include "coordinator/question.h"
#include "coordinator/service.h"
#include "proto/base/arena.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"

struct encode {
    struct service_call *call;
    struct arena *arena;
    struct timer timer; // the deadline
    bool is_late;
    struct encode_batch batch;
    struct bytes image; // of an item: a batch of one
    struct text text;
};

static void end(struct encode *encode, enum status status, struct buffer *reply,
                const struct reason *why)
{
    struct service_call *call = encode->call;
    timers_disarm(&call->backend->timers, &encode->timer);
    service_finish(call, status, reply, why);
    arena_destroy(&encode->arena);
    mem_free(encode);
}

static void fail(struct encode *encode, enum status status, const struct reason *why)
{
    struct buffer none = {0};
    end(encode, status, &none, why);
}

static void on_late(void *context)
{
    struct encode *encode = context;
    encode->is_late = true;
    encode_batch_cancel(&encode->batch);
}

static enum status reply_embeddings(const struct encode *encode, struct buffer *out)
{
    const struct encode_batch *batch = &encode->batch;
    const struct clip_info *clip = encode->call->backend->clip;
    struct api_encode_reply reply = {
        .request_id = service_request_id(encode->call),
        .space = text_of(clip->space),
        .dimension = clip->dimension,
        .embeddings = batch->embeddings,
        .float_count = batch->count * clip->dimension,
        .timings = {.decode = (float)batch->decode_ms,
                    .preprocess = (float)batch->preprocess_ms,
                    .encode = (float)batch->encode_ms,
                    .queue = (float)batch->queue_ms,
                    .total = (float)(clock_now_us() - encode->call->begun_us) / 1000.0f},
    };
    return api_encode_encode_reply(&reply, out);
}

static enum status reply_tokens(struct encode *encode, struct buffer *out)
{
    struct encode_batch *batch = &encode->batch;
    uint32_t context = encode->call->backend->clip->context;
    struct api_tokenize_reply reply = {
        .request_id = service_request_id(encode->call),
        .counts = batch->counts,
        .count = batch->count,
        .ids = batch->ids,
    };
    for (size_t i = 0; i < batch->count; i++) // the gaps between the texts go
        for (uint32_t j = 0; j < batch->counts[i]; j++)
            batch->ids[reply.id_count++] = batch->ids[i * context + j];
    return api_encode_tokenize_reply(&reply, out);
}

// The first picture that failed makes the call fail, by its number.
static enum status check_pictures(const struct encode *encode, struct reason *why)
{
    const struct encode_batch *batch = &encode->batch;
    for (size_t i = 0; batch->kind == COMPUTE_IMAGES && i < batch->count; i++) {
        if (batch->statuses[i] == STATUS_OK)
            continue;
        char field[REASON_FIELD_BYTES];
        if (encode->call->is_item)
            (void)snprintf(field, sizeof(field), "image");
        else
            (void)snprintf(field, sizeof(field), "images[%zu]", i);
        return reason_set(why, batch->statuses[i], field, "%s", batch->reasons[i].text);
    }
    return STATUS_OK;
}

static void on_done(void *context, enum status status, const struct reason *why)
{
    struct encode *encode = context;
    struct reason told = *why;
    struct buffer reply = {0};
    if (status == STATUS_CANCELLED && encode->is_late)
        status = reason_set(&told, STATUS_DEADLINE, NULL,
                            "the deadline passed after %zu of %zu were encoded", encode->batch.next,
                            encode->batch.count);
    if (status == STATUS_OK)
        status = check_pictures(encode, &told);
    if (status == STATUS_OK) {
        status = encode->batch.kind == COMPUTE_TOKENS ? reply_tokens(encode, &reply)
                                                      : reply_embeddings(encode, &reply);
        if (status != STATUS_OK)
            (void)reason_set(&told, status, NULL, "the answer does not fit into a message");
    }
    end(encode, status, &reply, &told);
    buffer_deinit(&reply);
}

static struct encode *create(struct service_call *call)
{
    struct encode *encode = mem_alloc(sizeof(*encode));
    encode->call = call;
    encode->arena = arena_create(SERVICE_ARENA_BYTES);
    encode->batch.compute = call->backend->compute;
    encode->batch.class = COMPUTE_QUERY;
    encode->batch.done = on_done;
    encode->batch.context = encode;
    encode->timer.fire = on_late;
    encode->timer.context = encode;
    call->state = encode;
    return encode;
}

static void start(struct encode *encode, bool has_room)
{
    struct reason why = {0};
    enum status status = STATUS_NO_MEMORY;
    if (!has_room)
        (void)reason_set(&why, status, NULL, "no memory for %zu results", encode->batch.count);
    else
        status = encode_batch_begin(&encode->batch, &why);
    if (status != STATUS_OK) {
        fail(encode, status, &why);
        return;
    }
    timers_arm(&encode->call->backend->timers, &encode->timer, encode->call->deadline_us);
}

// `files` and what they point into live until the call ends.
static void start_images(struct encode *encode, const struct bytes *files, size_t count,
                         enum api_profile profile)
{
    struct encode_batch *batch = &encode->batch;
    batch->kind = COMPUTE_IMAGES;
    batch->files = files;
    batch->count = count;
    batch->profile = question_image_profile(profile);
    batch->embeddings = arena_alloc_array(
        encode->arena, count * encode->call->backend->clip->dimension, sizeof(float));
    batch->statuses = arena_alloc_array(encode->arena, count, sizeof(batch->statuses[0]));
    batch->reasons = arena_alloc_array(encode->arena, count, sizeof(batch->reasons[0]));
    start(encode, batch->embeddings && batch->statuses && batch->reasons);
}

static void start_texts(struct encode *encode, enum compute_kind kind, const struct text *texts,
                        size_t count)
{
    const struct clip_info *clip = encode->call->backend->clip;
    struct encode_batch *batch = &encode->batch;
    batch->kind = kind;
    batch->texts = texts;
    batch->count = count;
    if (kind == COMPUTE_TEXTS) {
        batch->embeddings =
            arena_alloc_array(encode->arena, count * clip->dimension, sizeof(float));
        start(encode, batch->embeddings != NULL);
        return;
    }
    batch->ids = arena_alloc_array(encode->arena, count * clip->context, sizeof(uint32_t));
    batch->counts = arena_alloc_array(encode->arena, count, sizeof(uint32_t));
    start(encode, batch->ids && batch->counts);
}

static enum status check_profile(enum api_profile profile, struct reason *why)
{
    if ((unsigned)profile > API_PROFILE_OPENAI)
        return reason_set(why, STATUS_INVALID, "profile", "%u is no profile; allowed: 0..%d",
                          (unsigned)profile, API_PROFILE_OPENAI);
    return STATUS_OK;
}

static void begin_image(struct service_call *call)
{
    struct encode *encode = create(call);
    struct api_encode_image_request request;
    struct reason why = {0};
    enum status status =
        api_decode_encode_image_request(call->message, encode->arena, &request, &why);
    if (status == STATUS_OK)
        status = check_profile(request.profile, &why);
    if (status != STATUS_OK)
        fail(encode, status, &why);
    else
        start_images(encode, request.images, request.count, request.profile);
}

static void begin_texts(struct service_call *call, enum compute_kind kind)
{
    struct encode *encode = create(call);
    struct api_texts_request request;
    struct reason why = {0};
    enum status status = api_decode_texts_request(call->message, encode->arena, &request, &why);
    if (status != STATUS_OK)
        fail(encode, status, &why);
    else
        start_texts(encode, kind, request.texts, request.count);
}

static void begin_text(struct service_call *call)
{
    begin_texts(call, COMPUTE_TEXTS);
}

static void begin_tokenize(struct service_call *call)
{
    begin_texts(call, COMPUTE_TOKENS);
}

static void begin_item(struct service_call *call)
{
    struct encode *encode = create(call);
    struct api_encode_stream_request request;
    struct reason why = {0};
    enum status status =
        api_decode_encode_stream_request(call->message, encode->arena, &request, &why);
    if (status == STATUS_OK)
        status = check_profile(request.profile, &why);
    if (status != STATUS_OK) {
        fail(encode, status, &why);
        return;
    }
    encode->image = request.image;
    encode->text = request.text;
    if (request.input == API_INPUT_IMAGE)
        start_images(encode, &encode->image, 1, request.profile);
    else
        start_texts(encode, COMPUTE_TEXTS, &encode->text, 1);
}

static void cancel(struct service_call *call)
{
    struct encode *encode = call->state;
    encode_batch_cancel(&encode->batch);
}

const struct service_handler service_encode_image = {.begin = begin_image, .cancel = cancel};
const struct service_handler service_encode_text = {.begin = begin_text, .cancel = cancel};
const struct service_handler service_tokenize = {.begin = begin_tokenize, .cancel = cancel};
const struct service_handler service_encode_item = {.begin = begin_item, .cancel = cancel};
