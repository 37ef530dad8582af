// SPDX-License-Identifier: Apache-2.0
// The door in front of both kinds of client.

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/datadir.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"
#include "tools/client.h"
#include "tools/client_internal.h"

struct client_stream {
    const struct client_calls *calls;
    void *stream;
};

int64_t client_deadline_us(const struct client *client)
{
    return client->deadline_ms ? clock_deadline_in_us((int64_t)client->deadline_ms * 1000)
                               : DEADLINE_NONE;
}

static enum status check_flags(const struct options *options, struct reason *why)
{
    if (options->server && options->data)
        return reason_set(why, STATUS_INVALID, "--data",
                          "excludes --server: a server has its own data directory");
    if (options->server && options->model)
        return reason_set(why, STATUS_INVALID, "--model",
                          "excludes --server: a server has its own model");
    if (options->server && options->head)
        return reason_set(why, STATUS_INVALID, "--head",
                          "excludes --server: a server has its own head");
    const struct {
        const char *flag;
        const char *value;
    } tls[] = {{"--tls-ca", options->tls_ca},
               {"--tls-cert", options->tls_cert},
               {"--tls-key", options->tls_key},
               {"--tls-name", options->tls_name}};
    for (size_t i = 0; i < sizeof(tls) / sizeof(tls[0]) && !options->server; i++)
        if (tls[i].value)
            return reason_set(why, STATUS_INVALID, tls[i].flag,
                              "needs --server: it says how to speak to one");
    return STATUS_OK;
}

bool client_blames_flags(const struct reason *why)
{
    return why->field[0] == '-';
}

enum status client_open(const struct options *options, enum client_need need, struct client **out,
                        struct reason *why)
{
    enum status status = check_flags(options, why);
    if (status)
        return status;
    return options->server ? client_server_open(options, out, why)
                           : client_local_open(options, need, out, why);
}

enum status client_share(struct client *client, struct client **out, struct reason *why)
{
    return client->calls->share(client, out, why);
}

void client_close(struct client **client)
{
    if (*client)
        (*client)->calls->close(*client);
    *client = NULL;
}

enum status client_call(struct client *client, enum api_method method, struct bytes request,
                        struct buffer *reply, struct reason *why)
{
    reply->count = 0;
    return client->calls->call(client, method, request, reply, why);
}

enum status client_stream_open(struct client *client, enum api_method method,
                               struct client_stream **out, struct reason *why)
{
    void *inner = NULL;
    enum status status = client->calls->stream_open(client, method, &inner, why);
    if (status)
        return status;

    struct client_stream *stream = mem_alloc(sizeof(*stream));
    stream->calls = client->calls;
    stream->stream = inner;
    *out = stream;
    return STATUS_OK;
}

enum status client_stream_send(struct client_stream *stream, struct bytes message)
{
    return stream->calls->stream_send(stream->stream, message);
}

void client_stream_close(struct client_stream *stream)
{
    stream->calls->stream_close(stream->stream);
}

enum status client_stream_receive(struct client_stream *stream, struct buffer *message, bool *ended)
{
    return stream->calls->stream_receive(stream->stream, message, ended);
}

enum status client_stream_finish(struct client_stream **stream, struct buffer *reply,
                                 struct reason *why)
{
    if (reply)
        reply->count = 0;
    enum status status = (*stream)->calls->stream_finish(&(*stream)->stream, reply, why);
    mem_free(*stream);
    *stream = NULL;
    return status;
}

const char *client_name(const struct client *client)
{
    return client->name;
}

enum status client_data_path(const struct options *options, char out[CLIENT_PATH_BYTES],
                             struct reason *why)
{
    _Static_assert(CLIENT_PATH_BYTES >= DATADIR_PATH_BYTES, "room for the default path");

    if (!options->data) {
        if (datadir_default_path(out))
            return reason_set(why, STATUS_NOT_FOUND, "--data",
                              "not given, and none of RECO_DATA, XDG_DATA_HOME and HOME is set");
        return STATUS_OK;
    }
    int bytes = snprintf(out, CLIENT_PATH_BYTES, "%s", options->data);
    if (bytes <= 0 || bytes >= CLIENT_PATH_BYTES)
        return reason_set(why, STATUS_INVALID, "--data", "a path of 1 to %d bytes is allowed",
                          CLIENT_PATH_BYTES - 1);
    return STATUS_OK;
}
