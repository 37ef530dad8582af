// SPDX-License-Identifier: Apache-2.0
// service.c - the list of running calls and the table of handlers.

#include "coordinator/service.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "coordinator/telemetry.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

static const struct service_handler *const handlers[API_METHOD_COUNT] = {
    [API_ENCODE_IMAGE] = &service_encode_image,
    [API_ENCODE_TEXT] = &service_encode_text,
    [API_TOKENIZE] = &service_tokenize,
    [API_ENCODE_STREAM] = &service_stream,
    [API_LIST_MODELS] = &service_list_models,
    [API_SEARCH] = &service_query,
    [API_SEARCH_STREAM] = &service_stream,
    [API_REFINE_IMAGE] = &service_query,
    [API_REFINE_TEXT] = &service_query,
    [API_REFINE_EMBEDDING] = &service_query,
    [API_REFINE_STREAM] = &service_stream,
    [API_COMPILE_LABELS] = &service_compile_labels,
    [API_CLASSIFY] = &service_classify,
    [API_EXPLAIN] = &service_classify,
    [API_CLASSIFY_STREAM] = &service_stream,
    [API_MEMORY_CREATE] = &service_create,
    [API_MEMORY_DESCRIBE] = &service_describe,
    [API_MEMORY_LIST] = &service_list,
    [API_MEMORY_INGEST] = &write_ingest,
    [API_MEMORY_DELETE] = &write_delete,
    [API_GET_RECORDS] = &service_records,
    [API_GET_VECTORS] = &service_records,
    [API_DISCOVER_LABELS] = &service_discover,
    [API_MEMORY_DROP] = &service_drop,
    [API_CLUSTER_LIST_NODES] = &service_list_nodes,
    [API_MEMORY_HIDE] = &write_delete,
    [API_MEMORY_UNHIDE] = &write_delete,
    [API_MEMORY_ALIAS] = &service_alias,
    [API_MEMORY_SNAPSHOT] = &service_snapshot,
    [API_MEMORY_RESTORE] = &service_restore,
    [API_MEMORY_EXPORT] = &service_export,
};

static size_t limit_of(size_t wanted, size_t otherwise, size_t most)
{
    if (wanted == 0)
        return otherwise;
    return wanted < most ? wanted : most;
}

void service_init(struct service *service, struct backend *backend,
                  const struct service_limits *limits)
{
    assert(service && backend);

    // Tells the ids of two coordinators apart in one log; nothing relies on it.
    uint64_t seed = (uint64_t)clock_now_us() ^ (uint64_t)getpid() << 32;
    *service = (struct service){
        .backend = backend,
        .streams_max = limit_of(limits->streams, SERVICE_STREAMS_DEFAULT, SERVICE_STREAMS_MAX),
        .stream_items = limit_of(limits->stream_items, API_STREAM_ITEMS, API_STREAM_ITEMS),
        .id_prefix = (uint32_t)(seed * 0x9e3779b97f4a7c15u >> 32),
    };
}

// Items are their stream's: it cancels them, so that a list of calls that is walked stays as it is.
static void enlist(struct service_call *call)
{
    struct service *service = call->service;
    if (call->is_item) {
        service->items++;
        return;
    }
    call->next = service->first;
    if (service->first)
        service->first->previous = call;
    service->first = call;
    service->count++;
}

static void delist(struct service_call *call)
{
    struct service *service = call->service;
    if (call->is_item) {
        service->items--;
        return;
    }
    if (call->previous)
        call->previous->next = call->next;
    else
        service->first = call->next;
    if (call->next)
        call->next->previous = call->previous;
    service->count--;
}

struct service_call *service_open(struct service *service, const struct service_open *params)
{
    assert(service && params && params->transport);
    assert((unsigned)params->method < API_METHOD_COUNT);

    struct service_call *call = mem_alloc(sizeof(*call));
    *call = (struct service_call){
        .service = service,
        .backend = service->backend,
        .method = params->method,
        .handler = params->handler ? params->handler : handlers[params->method],
        .is_item = params->handler != NULL,
        .message = params->message,
        .begun_us = clock_now_us(),
        .deadline_us = params->deadline_us,
        .transport = params->transport,
        .channel = params->channel,
    };
    if (params->trace)
        call->trace = *params->trace;
    if (!trace_is_begun(&call->trace))
        (void)trace_begin(&call->trace, (struct text){NULL, 0});
    if (call->trace.id[0] == '\0')
        (void)snprintf(call->trace.id, sizeof(call->trace.id), "%08x-%llx", service->id_prefix,
                       (unsigned long long)service->id_next++);
    enlist(call);
    if (call->transport->is_grpc)
        telemetry_call_begun(call->backend->telemetry);
    return call;
}

void service_begin(struct service_call *call)
{
    call->handler->begin(call);
}

void service_message(struct service_call *call, struct bytes message)
{
    assert(call->handler->message);

    call->handler->message(call, message);
}

void service_end(struct service_call *call)
{
    assert(call->handler->end);

    call->handler->end(call);
}

void service_sent(struct service_call *call)
{
    assert(call->handler->sent);

    call->handler->sent(call);
}

void service_cancel(struct service_call *call)
{
    if (call->cancelled)
        return;
    call->cancelled = true;
    telemetry_cancelled(call->backend->telemetry, call->service->is_stopping
                                                      ? TELEMETRY_CANCEL_SHUTDOWN
                                                      : TELEMETRY_CANCEL_CLIENT);
    call->handler->cancel(call);
}

void service_cancel_all(struct service *service)
{
    service->is_stopping = true;
    // A cancel may end its call, and only that one.
    struct service_call *following = NULL;
    for (struct service_call *call = service->first; call; call = following) {
        following = call->next;
        service_cancel(call);
    }
}

void service_read(struct service_call *call)
{
    assert(call->transport->read);

    call->transport->read(call->channel);
}

void service_send(struct service_call *call, struct buffer *message)
{
    assert(call->transport->send && message);

    call->transport->send(call->channel, message);
}

// Each call is told once, here. A stream takes as long as its client likes.
static void log_end(const struct service_call *call, enum status status, const struct reason *why)
{
    const struct api_method_info *info = api_method_info(call->method);
    const int64_t took_us = clock_now_us() - call->begun_us;
    bool is_stream = (info->client_streams || info->server_streams) && !call->is_item;
    const enum log_level level = trace_level(status, is_stream ? 0 : took_us);
    if (!log_takes(level))
        return;
    char text[LOG_QUOTE_BYTES];
    trace_line(&call->trace, level, call->is_item ? "item" : "call",
               "method=%s status=\"%s\" ms=%.3f why=%s", info->path, status_text(status),
               (double)took_us / 1000, log_quote(why->text, text));
}

void service_finish(struct service_call *call, enum status status, struct buffer *reply,
                    const struct reason *why)
{
    assert(call);
    bool streams = api_method_info(call->method)->server_streams && !call->is_item;
    assert(status != STATUS_OK || !reply == streams);

    static const struct reason nothing;
    struct reason stopping;
    const struct reason *told = why ? why : &nothing;
    if (status == STATUS_CANCELLED && call->service->is_stopping) {
        status = reason_set(&stopping, STATUS_UNAVAILABLE, NULL, "the server is stopping");
        told = &stopping;
    }
    log_end(call, status, told);
    if (call->transport->is_grpc)
        telemetry_call_ended(call->backend->telemetry, call->method, status,
                             clock_now_us() - call->begun_us);
    if (status == STATUS_EXHAUSTED)
        telemetry_rejected(call->backend->telemetry, TELEMETRY_REJECT_BUSY, 1);
    call->transport->finish(call->channel, status, reply, told);
    delist(call);
    mem_free(call);
}

void service_answer(struct service_call *call, enum status status, struct buffer *reply)
{
    struct reason why = {0};
    if (status != STATUS_OK)
        (void)reason_set(&why, status, NULL, "no memory for the answer");
    service_finish(call, status, reply, &why);
    buffer_deinit(reply);
}

void service_fail(struct service_call *call, enum status status, const struct reason *why)
{
    assert(status != STATUS_OK);

    struct buffer none = {0};
    service_finish(call, status, &none, why);
}

struct text service_request_id(const struct service_call *call)
{
    return text_of(call->trace.id);
}
