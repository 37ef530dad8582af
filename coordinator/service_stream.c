// SPDX-License-Identifier: Apache-2.0
// service_stream.c - EncodeStream, RefineStream, SearchStream and ClassifyStream: many questions,
// each answered as if it had been asked alone.
//
//                     +---------------- places: at most stream_items ----------------+
//   read -> message --> item -> a call of its own -> its answer --> send -> sent: free |
//    ^                +--------------------------------------------------------------+ |
//    +---------------------------------- when a place is free <-----------------------+
//
// An item is a call like a unary one, whose transport ends in the stream: so the handlers are the
// same, and so are the bits of the answers. Items run side by side; their answers go out in the
// order of the questions, one at a time. An answer that the client does not take keeps its place,
// and without a free place nothing is read: a client that does not read stops itself.
//
// What is wrong with a question is told in its answer and ends nothing else.

#include <assert.h>
#include <string.h>

#include "coordinator/service.h"
#include "proto/base/mem.h"

#define MESSAGES_BYTES_MAX ((size_t)MESSAGE_BYTES_MAX) // of all items; one alone may come on top

struct stream;

struct item {
    struct stream *stream;
    uint64_t tag;
    struct buffer question;    // what the call reads from
    struct service_call *call; // NULL once it has ended
    struct buffer answer;      // once the call has ended
};

struct stream {
    struct service_call *call;
    const struct service_item_kind *kind;
    struct item items[API_STREAM_ITEMS]; // a ring
    size_t first;
    size_t count;
    size_t running; // items whose call has not ended, and who holds the stream
    size_t bytes;   // of all questions
    bool is_reading;
    bool is_sending;    // the first item's answer
    bool has_ended;     // the client asks no more
    bool is_over;       // cancelled or failed: only what runs is waited for
    enum status status; // of the end, when it is over
    struct reason why;
};

// Which handler answers an item of a stream, and as which method.
struct service_item_kind {
    enum api_method stream;
    enum api_method method;
    const struct service_handler *handler;
};

static const struct service_item_kind kinds[] = {
    {API_ENCODE_STREAM, API_ENCODE_STREAM, &service_encode_item},
    {API_REFINE_STREAM, API_REFINE_STREAM, &service_query},
    {API_SEARCH_STREAM, API_SEARCH, &service_query},
    {API_CLASSIFY_STREAM, API_CLASSIFY, &service_classify},
};

// ---------------------------------------------------------------- the end

static void end(struct stream *stream)
{
    struct service_call *call = stream->call;
    enum status status = stream->status;
    struct reason why = stream->why;
    for (size_t i = 0; i < API_STREAM_ITEMS; i++) {
        buffer_deinit(&stream->items[i].question);
        buffer_deinit(&stream->items[i].answer);
    }
    call->service->streams--;
    call->service->stream_bytes -= stream->bytes;
    mem_free(stream);
    service_finish(call, status, NULL, &why);
}

// Cancels what runs; the stream ends once nothing does.
static void give_up(struct stream *stream, enum status status, const struct reason *why)
{
    stream->is_over = true;
    stream->status = status;
    stream->why = *why;
    stream->running++; // holds the stream while calls end inside of their cancel
    for (size_t i = 0; i < API_STREAM_ITEMS; i++)
        if (stream->items[i].call)
            service_cancel(stream->items[i].call);
    stream->running--;
    if (stream->running == 0)
        end(stream);
}

// ---------------------------------------------------------------- what comes next

static bool has_room(const struct stream *stream)
{
    return stream->count < stream->call->service->stream_items &&
           stream->bytes < MESSAGES_BYTES_MAX;
}

// Called whenever something has happened, as the last thing its caller does.
static void go_on(struct stream *stream)
{
    if (stream->is_over) {
        if (stream->running == 0)
            end(stream);
        return;
    }
    struct item *first = &stream->items[stream->first];
    if (stream->count > 0 && !first->call && !stream->is_sending) {
        if (first->answer.count == 0) {
            struct reason why = {0};
            give_up(stream, reason_set(&why, STATUS_NO_MEMORY, NULL, "no memory for an answer"),
                    &why);
            return;
        }
        stream->is_sending = true;
        service_send(stream->call, &first->answer);
    }
    if (stream->has_ended && stream->count == 0 && stream->running == 0) {
        end(stream);
        return;
    }
    if (!stream->is_reading && !stream->has_ended && has_room(stream)) {
        stream->is_reading = true;
        service_read(stream->call);
    }
}

static void on_sent(struct service_call *call)
{
    struct stream *stream = call->state;
    struct item *first = &stream->items[stream->first];
    assert(stream->is_sending && stream->count > 0);
    stream->is_sending = false;
    if (!stream->is_over) {
        stream->bytes -= first->question.count;
        call->service->stream_bytes -= first->question.count;
        buffer_deinit(&first->question);
        stream->first = (stream->first + 1) % API_STREAM_ITEMS;
        stream->count--;
    }
    go_on(stream);
}

// ---------------------------------------------------------------- items

// What the client is told of an item. An answer that does not fit becomes an error, which does.
static void write_answer(struct item *item, enum status status, struct bytes reply,
                         const struct reason *why)
{
    struct api_stream_reply answer = {
        .tag = item->tag, .status = status, .why = *why, .reply = reply};
    if (status != STATUS_OK && why->text[0] == '\0')
        (void)reason_set(&answer.why, status, why->field, "%s", status_text(status));
    enum status encoded = api_encode_stream_reply(&answer, &item->answer);
    if (encoded == STATUS_OK)
        return;
    answer.status =
        reason_set(&answer.why, encoded, NULL, "the answer of %zu bytes does not fit", reply.count);
    encoded = api_encode_stream_reply(&answer, &item->answer);
    (void)encoded; // without memory even for that the answer stays empty, and the stream ends
}

static void on_item_finish(void *channel, enum status status, struct buffer *reply,
                           const struct reason *why)
{
    struct item *item = channel;
    struct stream *stream = item->stream;
    item->call = NULL;
    stream->running--;
    if (!stream->is_over)
        write_answer(item, status, (struct bytes){reply->data, reply->count}, why);
    buffer_deinit(reply);
    go_on(stream);
}

static const struct service_transport item_transport = {.finish = on_item_finish};

// Opens the call of an item, whose question is copied: the message goes with the next read.
static void begin_item(struct stream *stream, struct item *item, struct bytes message)
{
    struct api_stream_request request;
    struct reason why = {0};
    enum status status = api_decode_stream_request(message, &request, &why);
    struct bytes question = stream->kind->stream == API_ENCODE_STREAM ? message : request.question;
    item->stream = stream;
    item->tag = request.tag;
    if (status == STATUS_OK)
        status = buffer_append(&item->question, question.data, question.count);
    if (status == STATUS_NO_MEMORY)
        (void)reason_set(&why, status, NULL, "no memory for a question of %zu bytes",
                         question.count);
    stream->bytes += item->question.count;
    stream->call->service->stream_bytes += item->question.count;
    if (status != STATUS_OK) {
        write_answer(item, status, (struct bytes){NULL, 0}, &why);
        go_on(stream);
        return;
    }
    struct service_open params = {
        .method = stream->kind->method,
        .handler = stream->kind->handler,
        .message = {item->question.data, item->question.count},
        .deadline_us = stream->call->deadline_us,
        .trace = &stream->call->trace,
        .transport = &item_transport,
        .channel = item,
    };
    item->call = service_open(stream->call->service, &params);
    stream->running++;
    service_begin(item->call);
}

// ---------------------------------------------------------------- the call

static void begin(struct service_call *call)
{
    struct service *service = call->service;
    if (service->streams >= service->streams_max) {
        struct reason why = {0};
        enum status status =
            reason_set(&why, STATUS_EXHAUSTED, NULL, "%zu streams are open, the most there may be",
                       service->streams_max);
        service_fail(call, status, &why);
        return;
    }
    struct stream *stream = mem_alloc(sizeof(*stream));
    stream->call = call;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (kinds[i].stream == call->method)
            stream->kind = &kinds[i];
    assert(stream->kind);
    service->streams++;
    call->state = stream;
    go_on(stream);
}

static void on_message(struct service_call *call, struct bytes message)
{
    struct stream *stream = call->state;
    stream->is_reading = false;
    if (stream->is_over)
        return;
    size_t at = (stream->first + stream->count) % API_STREAM_ITEMS;
    stream->count++;
    stream->running++; // holds the stream when the item ends inside of its begin
    begin_item(stream, &stream->items[at], message);
    stream->running--;
    go_on(stream); // the next question is read while this one is worked
}

static void on_end(struct service_call *call)
{
    struct stream *stream = call->state;
    stream->is_reading = false;
    stream->has_ended = true;
    go_on(stream);
}

static void cancel(struct service_call *call)
{
    struct reason why = {0};
    enum status status = reason_set(&why, STATUS_CANCELLED, NULL, "cancelled");
    give_up(call->state, status, &why);
}

const struct service_handler service_stream = {
    .begin = begin,
    .message = on_message,
    .end = on_end,
    .sent = on_sent,
    .cancel = cancel,
};
