// SPDX-License-Identifier: Apache-2.0
// Answers come in the order of the questions, so one is taken for each that is sent once the stream
// is full.

#include "tools/train_asks.h"

enum status train_asks_begin(struct train_asks *asks, struct client *client, enum api_method method,
                             struct reason *why)
{
    return client_stream_open(client, method, &asks->stream, why);
}

static enum status broken(struct train_asks *asks)
{
    asks->is_broken = true;
    return STATUS_CANCELLED;
}

static enum status take_answer(struct train_asks *asks, struct reason *why)
{
    bool has_ended = false;
    if (client_stream_receive(asks->stream, &asks->answer, &has_ended) || has_ended)
        return broken(asks);

    struct arena *arena = arena_create(API_ARENA_BYTES(asks->answer.count));
    struct api_stream_reply answer = {.tag = 0};
    enum status status = api_decode_stream_reply(
        (struct bytes){asks->answer.data, asks->answer.count}, arena, &answer, why);
    if (!status)
        status = asks->take(asks->context, &answer, why);
    arena_destroy(&arena);
    asks->under_way--;
    return status;
}

enum status train_asks_put(struct train_asks *asks, struct bytes message, struct reason *why)
{
    enum status status = STATUS_OK;
    if (asks->under_way == API_STREAM_ITEMS)
        status = take_answer(asks, why);
    if (status)
        return status;
    if (client_stream_send(asks->stream, message))
        return broken(asks);
    asks->under_way++;
    return STATUS_OK;
}

enum status train_asks_end(struct train_asks *asks, enum status status, struct reason *why)
{
    if (!asks->stream)
        return status;
    if (!status)
        client_stream_close(asks->stream);
    while (!status && asks->under_way > 0)
        status = take_answer(asks, why);
    // A stream whose end has not been read would be cancelled.
    bool has_ended = false;
    if (!status && (client_stream_receive(asks->stream, &asks->answer, &has_ended) || !has_ended))
        status = broken(asks);

    struct reason end = {.text = ""};
    const enum status ended = client_stream_finish(&asks->stream, NULL, &end);
    buffer_deinit(&asks->answer);
    if (!ended || (status && !asks->is_broken))
        return asks->is_broken && !ended
                   ? reason_set(why, STATUS_UNAVAILABLE, NULL, "the stream of answers ended early")
                   : status;
    *why = end;
    return ended;
}
