// SPDX-License-Identifier: Apache-2.0
// client_internal.h - the table of functions that each kind of client fills in.
//
// Thread-safety: as client.h.

#ifndef RECO_TOOLS_CLIENT_INTERNAL_H
#define RECO_TOOLS_CLIENT_INTERNAL_H

#include "proto/rpc/rpc_client.h"
#include "tools/client.h"

struct client_calls {
    enum status (*call)(struct client *client, enum api_method method, struct bytes request,
                        struct buffer *reply, struct reason *why);
    enum status (*stream_open)(struct client *client, enum api_method method, void **out,
                               struct reason *why);
    enum status (*stream_send)(void *stream, struct bytes message);
    void (*stream_close)(void *stream);
    enum status (*stream_receive)(void *stream, struct buffer *message, bool *ended);
    enum status (*stream_finish)(void **stream, struct buffer *reply, struct reason *why);
    enum status (*share)(struct client *client, struct client **out, struct reason *why);
    void (*close)(struct client *client); // frees the client too
};

// The first member of every kind.
struct client {
    const struct client_calls *calls;
    const char *name;
    uint64_t deadline_ms; // of each call; 0: none
    const char *request_id;
    bool is_tls; // only a server's
    struct rpc_client_tls tls;
};

// The point in time at which a call that begins now must be over.
int64_t client_deadline_us(const struct client *client);

enum status client_local_open(const struct options *options, enum client_need need,
                              struct client **out, struct reason *why) MUST_CHECK;
enum status client_server_open(const struct options *options, struct client **out,
                               struct reason *why) MUST_CHECK;

#endif
