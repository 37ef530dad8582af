// SPDX-License-Identifier: Apache-2.0
// rpc_server.h - a gRPC server: calls come out as events, answers go in.
//
// Poller threads own gRPC's completion queues and only push events into one bounded queue;
// one owner thread takes them out and makes every call below, so that no call ever has
// two owners. Health (grpc.health.v1 Check and Watch), reflection (v1 and v1alpha) and unknown
// methods (UNIMPLEMENTED at once) are answered inside, whenever the owner asks for events.
//
// Life of a call, seen by the owner:
//   CALL (unary: with its message) -> rpc_call_finish() -> DONE, the call is gone
//   CALL (client stream) -> rpc_call_read() -> MESSAGE -> rpc_call_read() ... -> END
//        -> rpc_call_finish() -> DONE
//   CALL (server stream: with its message) -> rpc_call_send() -> SENT -> rpc_call_send() ...
//        -> SENT -> rpc_call_finish() -> DONE
//   A bidirectional stream does both at once: one read and one send may be under way.
//   CANCELLED may come once, any time before finish: the client is gone or its deadline has passed;
//   no MESSAGE, END or SENT follows, reads and sends are without effect, finish is still required.
//
// SENT comes when the client's flow control has let the message through, so an owner that waits for
// it keeps one message for a client that does not read, and no more.
//
// Thread-safety: one owner thread for all functions but start and stop, which belong to the
// thread that made it (stop after the owner has ended).

#ifndef RECO_PROTO_RPC_RPC_SERVER_H
#define RECO_PROTO_RPC_RPC_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/bytes.h"
#include "proto/base/limits.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "proto/base/trace.h"

#define RPC_CALLS_MAX CALLS_MAX // calls at once; more are told RESOURCE_EXHAUSTED
#define RPC_METADATA_BYTES_MAX 8192

struct rpc_server;
struct rpc_call;
struct rpc_tls;

struct rpc_method {
    const char *path; // "/reco.v1.Search/Search"
    bool client_streams;
    bool server_streams;
};

// What may be lowered; 0 is the highest allowed, for memory_bytes CALL_MEMORY_DEFAULT. Of
// memory_bytes half is for the messages of calls under way, more are told RESOURCE_EXHAUSTED; the
// whole bounds gRPC's buffers, in which messages are collected and in which those of calls under
// way stay.
struct rpc_limits {
    size_t calls;         // 1..CALLS_MAX
    size_t message_bytes; // MESSAGE_BYTES_LOW..MESSAGE_BYTES_MAX
    size_t memory_bytes;  // CALL_MEMORY_MIN..CALL_MEMORY_MAX
};

// What was refused since the start because too much was under way.
struct rpc_refusals {
    uint64_t calls; // there were as many as there may be
    uint64_t bytes; // their messages did not fit beside those under way
};

struct rpc_server_params {
    const char *address; // "127.0.0.1:7700"; port 0 picks a free one
    const char *field;   // what errors call the address: "--listen"
    const struct rpc_method *methods;
    size_t method_count;
    struct bytes descriptor_set; // for reflection; must outlive the server
    struct rpc_limits limits;
    struct rpc_tls *tls; // must outlive the server; NULL: plain text
};

// Binds and starts, SERVING. SO_REUSEPORT is off. STATUS_UNAVAILABLE when the address is taken,
// STATUS_INVALID when it is none, or beyond loopback without TLS that knows its clients, or when a
// method is there twice or the descriptor set is none. No event is handled before the owner's first
// rpc_server_next(), so an owner may still say that it is not serving.
enum status rpc_server_start(const struct rpc_server_params *params, struct rpc_server **out,
                             struct reason *why) MUST_CHECK;

// Answers what still runs with STATUS_UNAVAILABLE, cancels it after a second, waits for it, ends
// the threads, sets *server to NULL. The contexts of calls stay with whoever set them. NULL is
// allowed.
void rpc_server_stop(struct rpc_server **server);

// Takes new limits over, for what begins from now on. Any thread.
void rpc_server_set_limits(struct rpc_server *server, const struct rpc_limits *limits);

int rpc_server_port(const struct rpc_server *server);

// What health says: SERVING or NOT_SERVING. Not serving: new calls are UNAVAILABLE.
void rpc_server_set_serving(struct rpc_server *server, bool serving);

// Calls that have begun and are not DONE.
size_t rpc_server_running(const struct rpc_server *server);

enum rpc_event_kind {
    RPC_CALL,      // a new call; message is set unless the client streams
    RPC_MESSAGE,   // the next message of a stream
    RPC_END,       // the client sends no more
    RPC_SENT,      // the message given to rpc_call_send() has left
    RPC_CANCELLED, // nobody waits for the answer any more
    RPC_DONE,      // the last event; the call is freed after the next rpc_server_next()
};

struct rpc_event {
    enum rpc_event_kind kind;
    struct rpc_call *call;
    struct bytes message; // valid until rpc_call_read() or rpc_call_finish() of this call
};

// Readable while rpc_server_next() may have something.
int rpc_server_fd(const struct rpc_server *server);

// Takes the next event; false when there is none.
bool rpc_server_next(struct rpc_server *server, struct rpc_event *event);

size_t rpc_call_method(const struct rpc_call *call);       // index into params.methods
int64_t rpc_call_deadline_us(const struct rpc_call *call); // monotonic; DEADLINE_NONE
// The owner's.
struct rpc_refusals rpc_server_refusals(const struct rpc_server *server);

// Of metadata x-request-id and traceparent: the id may be empty, the trace has begun.
const struct trace *rpc_call_trace(const struct rpc_call *call);
void rpc_call_set_context(struct rpc_call *call, void *context);
void *rpc_call_context(const struct rpc_call *call);

// Asks for the next message of a stream: MESSAGE or END follows.
void rpc_call_read(struct rpc_call *call);

// Sends one message of a stream to the client (taken over, emptied; at most MESSAGE_BYTES_MAX):
// SENT follows, and only then the next may be sent.
void rpc_call_send(struct rpc_call *call, struct buffer *message);

// Answers and ends the call. OK: `reply` is the message (taken over, emptied); NULL where the
// server streams. Else the status with why->text as its message and google.rpc.Status details
// (BadRequest for a field, RetryInfo for EXHAUSTED and UNAVAILABLE, ErrorInfo always) in
// grpc-status-details-bin. The client's request id goes back as metadata x-request-id.
// A message that is still on its way arrives before the status.
void rpc_call_finish(struct rpc_call *call, enum status status, struct buffer *reply,
                     const struct reason *why);

#endif
