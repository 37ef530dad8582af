// SPDX-License-Identifier: Apache-2.0
#include "tools/eval_encode.h"

#include <string.h>

#include "proto/base/limits.h"
#include "tools/encoding.h"

// Reads embeddings out of a reply.
static enum status take_reply(const struct eval_encoder *encoder, struct bytes reply, size_t count,
                              float *embeddings, struct reason *why)
{
    struct arena *arena = arena_create(ENCODING_REPLY_BYTES_MAX);
    struct api_encode_reply answer = {.dimension = 0};
    enum status status = api_decode_encode_reply(reply, arena, &answer, why);
    if (!status && (answer.dimension != encoder->dimension ||
                    answer.float_count != count * encoder->dimension))
        status =
            reason_set(why, STATUS_CORRUPT, NULL, "an answer of %zu numbers for %zu items of %u",
                       answer.float_count, count, encoder->dimension);
    if (!status)
        memcpy(embeddings, answer.embeddings, answer.float_count * sizeof(*embeddings));
    arena_destroy(&arena);
    return status;
}

enum status eval_encode_texts(const struct eval_encoder *encoder, const struct text *texts,
                              size_t count, float *embeddings, struct reason *why)
{
    enum status status = STATUS_OK;
    struct buffer request = {0};
    struct buffer reply = {0};
    for (size_t i = 0; i < count && !status; i += EVAL_ENCODE_TEXTS) {
        const size_t left = count - i;
        const struct api_texts_request message = {
            .texts = texts + i,
            .count = left < EVAL_ENCODE_TEXTS ? left : EVAL_ENCODE_TEXTS,
        };
        request.count = 0;
        status = api_encode_texts_request(&message, &request);
        if (status)
            (void)reason_set(why, status, NULL, "the texts cannot be sent: %s",
                             status_text(status));
        else
            status = client_call(encoder->client, API_ENCODE_TEXT,
                                 (struct bytes){request.data, request.count}, &reply, why);
        if (!status)
            status = take_reply(encoder, (struct bytes){reply.data, reply.count}, message.count,
                                embeddings + i * encoder->dimension, why);
    }
    buffer_deinit(&request);
    buffer_deinit(&reply);
    return status;
}

enum status eval_encode_pictures(const struct eval_encoder *encoder, const struct bytes *pictures,
                                 size_t count, float *embeddings, struct reason *why)
{
    const struct api_encode_image_request message = {
        .images = pictures, .count = count, .profile = encoder->profile};
    struct buffer request = {0};
    struct buffer reply = {0};
    enum status status = api_encode_encode_image_request(&message, &request);
    if (status)
        (void)reason_set(why, status, NULL, "the pictures cannot be sent: %s", status_text(status));
    else
        status = client_call(encoder->client, API_ENCODE_IMAGE,
                             (struct bytes){request.data, request.count}, &reply, why);
    if (!status)
        status =
            take_reply(encoder, (struct bytes){reply.data, reply.count}, count, embeddings, why);
    buffer_deinit(&request);
    buffer_deinit(&reply);
    return status;
}
