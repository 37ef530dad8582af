// SPDX-License-Identifier: Apache-2.0
// rpc_client.h - a gRPC client that waits: one call at a time, unary or a stream of any kind.
//
// Thread-safety: none; a client and its streams belong to one thread. Only
// rpc_client_interrupt() may be called by another thread or a signal's watcher.

#ifndef RECO_PROTO_RPC_RPC_CLIENT_H
#define RECO_PROTO_RPC_RPC_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/bytes.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"

struct rpc_client;

// How a client speaks TLS. PEM files.
struct rpc_client_tls {
    const char *ca;          // who signs the server; NULL: the system's
    const char *certificate; // the client's own; NULL: none
    const char *key;         //
    const char *name;        // the server's name, where it is not the host; NULL: the host
};
struct rpc_stream;

// Prepares a channel; connecting happens with the first call. STATUS_INVALID for an address that
// is not HOST:PORT.
enum status rpc_client_open(const char *address, struct rpc_client **out,
                            struct reason *why) MUST_CHECK;
// The same over TLS; NULL for `tls` is plain text. The files are read at once: STATUS_INVALID names
// one that cannot be. Whether they are good shows with the first call.
enum status rpc_client_open_tls(const char *address, const struct rpc_client_tls *tls,
                                struct rpc_client **out, struct reason *why) MUST_CHECK;
void rpc_client_close(struct rpc_client **client); // NULL is allowed

struct rpc_client_call {
    const char *path;        // "/reco.v1.Search/Search"
    struct text request_id;  // sent as x-request-id; empty: none
    struct text traceparent; // sent as it is; empty: none
    int64_t deadline_us;     // DEADLINE_NONE
    bool server_streams;     // the answer is any number of messages; streams only
};

// Sends `request`, waits for the reply and appends it to `reply`. On failure the server's status,
// with its message (and the field of a BadRequest detail) in `why`. STATUS_UNAVAILABLE
// naming the address when nobody answers there, a quarter of a second after it is known, so that
// a caller may simply ask again while a server starts.
enum status rpc_client_unary(struct rpc_client *client, const struct rpc_client_call *call,
                             struct bytes request, struct buffer *reply,
                             struct reason *why) MUST_CHECK;

// A stream: open, send any number of messages, close (the client sends no more), finish, which
// closes too where that was not done. After a failed send, finish tells the server's reason.
// rpc_stream_finish always ends *stream and sets it to NULL.
//
// Where the server streams, receive any number of messages until *ended, which may be mixed with
// sends: each waits until it is done, so that a client must not send more than the server takes
// without being read. Finish then gives the status alone; before the end it cancels the call.
enum status rpc_stream_open(struct rpc_client *client, const struct rpc_client_call *call,
                            struct rpc_stream **out, struct reason *why) MUST_CHECK;
enum status rpc_stream_send(struct rpc_stream *stream, struct bytes message) MUST_CHECK;
void rpc_stream_close(struct rpc_stream *stream);
// The next message in place of what `message` held; *ended: there is none, and finish has the
// reason. STATUS_NO_MEMORY: the message is lost.
enum status rpc_stream_receive(struct rpc_stream *stream, struct buffer *message,
                               bool *ended) MUST_CHECK;
enum status rpc_stream_finish(struct rpc_stream **stream, struct buffer *reply,
                              struct reason *why) MUST_CHECK;

// grpc.health.v1.Health/Check of the whole server: OK when it is SERVING, else STATUS_UNAVAILABLE.
enum status rpc_client_health(struct rpc_client *client, int64_t deadline_us,
                              struct reason *why) MUST_CHECK;

// Cancels the call that is waiting, if any; it ends with STATUS_CANCELLED.
void rpc_client_interrupt(struct rpc_client *client);

#endif
