// SPDX-License-Identifier: Apache-2.0
// A server over gRPC: one channel, one call at a time.
//
// Between two calls nobody watches the connection. A server that was started again meanwhile
// shows only when the next call fails; so a call that changes nothing is made once more
// when the channel has worked before.

#include <string.h>

#include "proto/base/clock.h"
#include "proto/base/mem.h"
#include "proto/rpc/rpc_client.h"
#include "tools/client_internal.h"

struct server {
    struct client base; // first
    struct rpc_client *rpc;
    bool worked; // a call has been answered
};

static struct rpc_client_call call_of(const struct client *client, enum api_method method)
{
    return (struct rpc_client_call){
        .path = api_method_info(method)->path,
        .request_id = client->request_id ? text_of(client->request_id) : (struct text){0},
        .deadline_us = client_deadline_us(client),
    };
}

static bool only_reads(enum api_method method)
{
    return method != API_MEMORY_CREATE && method != API_MEMORY_DELETE &&
           method != API_MEMORY_DROP && method != API_MEMORY_INGEST && method != API_MEMORY_HIDE &&
           method != API_MEMORY_UNHIDE && method != API_MEMORY_ALIAS &&
           method != API_MEMORY_SNAPSHOT && method != API_MEMORY_RESTORE;
}

static enum status server_call(struct client *client, enum api_method method, struct bytes request,
                               struct buffer *reply, struct reason *why)
{
    struct server *server = (struct server *)client;
    struct rpc_client_call call = call_of(client, method);
    enum status status = rpc_client_unary(server->rpc, &call, request, reply, why);
    if (status == STATUS_UNAVAILABLE && server->worked && only_reads(method) &&
        !clock_passed(call.deadline_us)) {
        reply->count = 0;
        status = rpc_client_unary(server->rpc, &call, request, reply, why);
    }
    server->worked = server->worked || status == STATUS_OK;
    return status;
}

static enum status server_stream_open(struct client *client, enum api_method method, void **out,
                                      struct reason *why)
{
    struct server *server = (struct server *)client;
    struct rpc_client_call call = call_of(client, method);
    struct rpc_stream *stream = NULL;
    // As long as there is something to send; the deadline of the flags is one request's.
    call.deadline_us = DEADLINE_NONE;
    call.server_streams = api_method_info(method)->server_streams;
    enum status status = rpc_stream_open(server->rpc, &call, &stream, why);
    if (!status)
        *out = stream;
    return status;
}

static enum status server_stream_send(void *stream, struct bytes message)
{
    return rpc_stream_send(stream, message);
}

static void server_stream_close(void *stream)
{
    rpc_stream_close(stream);
}

static enum status server_stream_receive(void *stream, struct buffer *message, bool *ended)
{
    return rpc_stream_receive(stream, message, ended);
}

static enum status server_stream_finish(void **stream, struct buffer *reply, struct reason *why)
{
    struct rpc_stream *inner = *stream;
    *stream = NULL;
    return rpc_stream_finish(&inner, reply, why);
}

static void server_close(struct client *client)
{
    struct server *server = (struct server *)client;
    rpc_client_close(&server->rpc);
    mem_free(server);
}

static enum status open_at(const struct client *like, struct client **out, struct reason *why);

static enum status server_share(struct client *client, struct client **out, struct reason *why)
{
    return open_at(client, out, why);
}

static const struct client_calls server_calls = {
    .call = server_call,
    .stream_open = server_stream_open,
    .stream_send = server_stream_send,
    .stream_close = server_stream_close,
    .stream_receive = server_stream_receive,
    .stream_finish = server_stream_finish,
    .share = server_share,
    .close = server_close,
};

static enum status open_at(const struct client *like, struct client **out, struct reason *why)
{
    struct rpc_client *rpc = NULL;
    enum status status =
        rpc_client_open_tls(like->name, like->is_tls ? &like->tls : NULL, &rpc, why);
    if (status)
        return status;

    struct server *server = mem_alloc(sizeof(*server));
    server->base = *like;
    server->base.calls = &server_calls;
    server->rpc = rpc;
    *out = &server->base;
    return STATUS_OK;
}

enum status client_server_open(const struct options *options, struct client **out,
                               struct reason *why)
{
    bool is_tls = options->tls_ca || options->tls_cert || options->tls_key || options->tls_name;
    bool is_system = options->tls_ca && strcmp(options->tls_ca, "system") == 0;
    struct client like = {
        .name = options->server,
        .is_tls = is_tls,
        .tls = {.ca = is_system ? NULL : options->tls_ca,
                .certificate = options->tls_cert,
                .key = options->tls_key,
                .name = options->tls_name},
        .deadline_ms = options->deadline_ms,
        .request_id = options->request_id,
    };
    return open_at(&like, out, why);
}
