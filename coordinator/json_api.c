// SPDX-License-Identifier: Apache-2.0
// json_api.c - bytes in, JSON; the call; bytes out, JSON again.

#include "coordinator/json_api.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/clock.h"
#include "proto/base/words.h"

#define REPLY_ARENA_BYTES ((size_t)64 << 20)
#define DEFAULT_RETRY_S 1
#define VALUES_MAX ((size_t)1 << 18) // of a request; the largest sound one has some 110,000

// ---------------------------------------------------------------- errors

struct code {
    unsigned http;
    const char *name; // of the gRPC status
};

// By gRPC status code.
static const struct code codes[] = {
    {200, "OK"},
    {503, "CANCELLED"}, // only seen when the process stops: a client that left reads nothing
    {500, "UNKNOWN"},
    {400, "INVALID_ARGUMENT"},
    {504, "DEADLINE_EXCEEDED"},
    {404, "NOT_FOUND"},
    {409, "ALREADY_EXISTS"},
    {403, "PERMISSION_DENIED"},
    {429, "RESOURCE_EXHAUSTED"},
    {412, "FAILED_PRECONDITION"},
    {409, "ABORTED"},
    {400, "OUT_OF_RANGE"},
    {400, "UNIMPLEMENTED"}, // an option of the request that this version does not have
    {500, "INTERNAL"},
    {503, "UNAVAILABLE"},
    {500, "DATA_LOSS"},
    {401, "UNAUTHENTICATED"},
};

static void put_json(struct http_reply *reply, unsigned code, struct json_writer *writer)
{
    reply->code = code;
    reply->content_type = "application/json";
    reply->body.count = 0;
    if (writer->failed || buffer_append(&reply->body, writer->out.data, writer->out.count) ||
        buffer_append(&reply->body, "\n", 1))
        http_put(reply, 503,
                 "{\"error\":{\"code\":\"RESOURCE_EXHAUSTED\",\"field\":\"\","
                 "\"message\":\"no memory for the answer\"}}\n");
    json_writer_deinit(writer);
}

static void put_error(struct http_reply *reply, unsigned code, const char *name, const char *field,
                      const char *message)
{
    struct json_writer writer = {.failed = false};
    json_begin_object(&writer);
    json_name(&writer, "error");
    json_begin_object(&writer);
    json_name(&writer, "code");
    json_put_cstr(&writer, name);
    json_name(&writer, "field");
    json_put_cstr(&writer, field);
    json_name(&writer, "message");
    json_put_cstr(&writer, message);
    json_end_object(&writer);
    json_end_object(&writer);
    put_json(reply, code, &writer);
}

static void put_status(struct http_reply *reply, enum status status, const struct reason *why)
{
    size_t number = (size_t)status_grpc_code(status);
    assert(number < sizeof(codes) / sizeof(codes[0]));
    const struct code *code = &codes[number];
    if (code->http == 429 || code->http == 503)
        reply->retry_after_s = DEFAULT_RETRY_S;
    put_error(reply, code->http, code->name, why->field,
              why->text[0] ? why->text : status_text(status));
}

void json_api_put_error(unsigned code, const char *text, struct http_reply *reply)
{
    const char *name = "INVALID_ARGUMENT"; // 405, 408, 413
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
        if (codes[i].http == code && strcmp(codes[i].name, "CANCELLED") != 0) {
            name = codes[i].name;
            break;
        }
    put_error(reply, code, name, "", text);
}

// ---------------------------------------------------------------- the call

static bool is_gone(void *context)
{
    return http_is_gone(context);
}

// Begins the request's trace, and tells it in the reply. Without an id the span is one.
static void begin_trace(const struct http_request *request, struct trace *trace,
                        struct http_reply *reply)
{
    const char *parent = http_header(request, TRACE_KEY);
    (void)trace_begin(trace, parent ? text_of(parent) : (struct text){NULL, 0});
    (void)snprintf(trace->id, sizeof(trace->id), "%016" PRIx64, trace->span);
    (void)trace_parent(trace, reply->traceparent);
}

// What is asked beside the body.
static enum status read_call(const struct http_request *request, struct coordinator_request *out,
                             struct trace *trace, struct reason *why)
{
    const char *id = http_header(request, "x-request-id");
    const char *deadline = http_argument(request, "deadline_ms");
    const char *field = "deadline_ms";
    uint64_t ms = JSON_API_DEADLINE_MS;
    if (!deadline) {
        deadline = http_header(request, "x-deadline-ms");
        field = "x-deadline-ms";
    }
    if (deadline && !words_read_count(deadline, 1, JSON_API_DEADLINE_MS_MAX, &ms))
        return reason_set(why, STATUS_INVALID, field, "\"%s\"; allowed: 1..%d", deadline,
                          JSON_API_DEADLINE_MS_MAX);
    if (id && (strlen(id) > REQUEST_ID_BYTES_MAX || !bytes_is_utf8(id, strlen(id))))
        return reason_set(why, STATUS_INVALID, "x-request-id",
                          "%zu bytes; allowed: at most %d bytes of UTF-8", strlen(id),
                          REQUEST_ID_BYTES_MAX);
    out->deadline_us = clock_deadline_in_us((int64_t)ms * 1000);
    if (id)
        (void)trace_set_id(trace, text_of(id));
    out->trace = trace;
    return STATUS_OK;
}

// From the body to the bytes of the message.
static enum status read_body(enum api_json_verb verb, const struct json *document,
                             struct api_json_query *query, struct buffer *message,
                             struct reason *why)
{
    struct arena *arena = arena_create(JSON_API_BODY_BYTES * 2);
    enum status status = api_json_read_query(verb, document, arena, query, why);
    if (status == STATUS_OK) {
        status = api_encode_query(query->method, &query->request, message);
        if (status != STATUS_OK)
            (void)reason_set(why, status, NULL, "the request does not fit a message: %s",
                             status_text(status));
    }
    query->request = (struct api_query_request){.input = query->request.input};
    arena_destroy(&arena);
    return status;
}

static enum status write_answer(const struct api_json_query *query, const struct buffer *bytes,
                                struct http_reply *reply, struct reason *why)
{
    struct api_answer answer = {.coverage = 0};
    struct arena *arena = arena_create(REPLY_ARENA_BYTES);
    enum status status = api_decode_answer(query->method, (struct bytes){bytes->data, bytes->count},
                                           arena, &answer, why);
    if (status == STATUS_OK) {
        struct json_writer writer = {.failed = false};
        api_json_put_answer(&writer, query->method, query->name, &answer);
        put_json(reply, 200, &writer);
    }
    arena_destroy(&arena);
    return status;
}

void json_api_answer(struct coordinator *coordinator, enum api_json_verb verb,
                     const struct http_request *request, struct http_reply *reply)
{
    assert(coordinator && request && reply);

    struct reason why = {.text = ""};
    struct json *document = NULL;
    struct api_json_query query = {.name = {NULL, 0}};
    struct buffer message = {0};
    struct buffer bytes = {0};
    struct bytes body = http_body(request);
    // The handler's pointer is constant; the callback's cannot be.
    union {
        const struct http_request *constant;
        void *plain;
    } asker = {.constant = request};
    struct coordinator_request call = {.is_gone = is_gone, .context = asker.plain};
    struct trace trace = {.id = ""};
    begin_trace(request, &trace, reply);
    enum status status = read_call(request, &call, &trace, &why);
    memcpy(reply->request_id, trace.id, sizeof(trace.id));
    if (status == STATUS_OK)
        status = json_parse_few(body.data ? (const char *)body.data : "", body.count, VALUES_MAX,
                                &document, &why);
    if (status == STATUS_OK)
        status = read_body(verb, document, &query, &message, &why);
    if (status == STATUS_OK) {
        call.method = query.method;
        call.message = (struct bytes){message.data, message.count};
        status = coordinator_call_as(coordinator, &call, &bytes, &why);
    }
    if (status == STATUS_OK)
        status = write_answer(&query, &bytes, reply, &why);
    if (status != STATUS_OK)
        put_status(reply, status, &why);
    json_destroy(&document);
    buffer_deinit(&message);
    buffer_deinit(&bytes);
}
