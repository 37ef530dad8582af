// SPDX-License-Identifier: Apache-2.0
// rpc_internal.h - the inside of the server, shared by rpc_server.c, rpc_call.c, rpc_health.c and
// rpc_reflection.c.
//
// A tag is what gRPC hands back when something that was started has ended. Every call has one
// tag for each kind of thing that can be under way, so at most call_count * RPC_TAG_COUNT of
// them (and one for the shutdown) can be in the queue: it can never be full.
//
// Thread-safety: pollers write `success` of a tag and push it; everything else is the owner's.

#ifndef RECO_PROTO_RPC_RPC_INTERNAL_H
#define RECO_PROTO_RPC_RPC_INTERNAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>

#include "proto/base/limits.h"
#include "proto/base/queue.h"
#include "proto/base/thread.h"
#include "proto/rpc/rpc_core.h"
#include "proto/rpc/rpc_server.h"
#include "proto/rpc/rpc_tls.h"
#include "proto/wire/rpc/descriptor_index.h"
#include "proto/wire/rpc/rpc_msg.h"

#define RPC_POLLERS 2
#define RPC_METHODS_MAX 64
#define RPC_INNER_METHODS 5 // health 2, reflection 2, everything unknown
#define RPC_ARMED 8         // calls that wait for a client, per method
#define RPC_INNER_MAX 64    // health Watch and reflection streams at once
#define RPC_SPARE_CALLS 64  // objects for calls that are being refused
#define RPC_RETRY_US 500000 // what RetryInfo says: half a second

enum rpc_tag_kind {
    RPC_TAG_REQUEST,  // a client has called
    RPC_TAG_CLOSE,    // nobody waits for the answer any more, or it has been sent
    RPC_TAG_READ,     // a message of a stream, or its end
    RPC_TAG_SEND,     // a message of a stream is on its way to the client
    RPC_TAG_FINISH,   // the answer is on its way
    RPC_TAG_COUNT,    // number of kinds that a call has
    RPC_TAG_SHUTDOWN, // the server's own
};

struct rpc_tag {
    enum rpc_tag_kind kind;
    bool success;
    struct rpc_call *call;
};

enum rpc_row_kind {
    RPC_ROW_OWNER, // params.methods[row]
    RPC_ROW_HEALTH_CHECK,
    RPC_ROW_HEALTH_WATCH,
    RPC_ROW_REFLECTION,
    RPC_ROW_UNKNOWN,
};

// A method that gRPC knows; row i < method_count is params.methods[i].
struct rpc_row {
    enum rpc_row_kind kind;
    bool client_streams; // else a call comes with its message
    bool server_streams; // else an answer is one message
    void *registered;    // gRPC's handle; NULL for RPC_ROW_UNKNOWN
    size_t armed;
};

// The diagram is in rpc_call.c.
enum rpc_call_state {
    RPC_CALL_FREE,
    RPC_CALL_ARMED,
    RPC_CALL_OPEN,
    RPC_CALL_CLOSING,
    RPC_CALL_ENDING,
};

struct rpc_call {
    struct rpc_server *server;
    struct rpc_tag tags[RPC_TAG_COUNT];
    unsigned under_way; // bit (1 << kind): that tag is with gRPC or in the queue
    enum rpc_call_state state;
    size_t row;
    struct rpc_call *next_free;

    grpc_call *grpc;
    gpr_timespec grpc_deadline;
    grpc_metadata_array metadata;
    grpc_call_details details;       // RPC_ROW_UNKNOWN only
    grpc_byte_buffer *received;      // as gRPC gave it, before `message`
    grpc_byte_buffer *sent;          // until SEND or FINISH is back
    int close_cancelled;             // written by gRPC before CLOSE is back
    struct rpc_core_message message; // what the owner sees
    size_t held_bytes;               // of the message, in the server's sum
    struct trace trace;              // the client's id, or none; this hop

    bool inner;         // the owner never hears of it
    bool counted;       // in server->inner
    bool cancelled;     // the client is gone; no more MESSAGE, END or SENT
    bool ended;         // the client sends no more
    bool greeted;       // initial metadata has been sent
    bool out_of_memory; // a message did not fit: finish says so, whatever the owner says
    int64_t deadline_us;
    void *context;
    enum status end_status; // RPC_CALL_CLOSING: what the client is told once SEND is back
    struct reason end_why;

    bool watching;             // health Watch
    bool knows_service;        // health Watch: the service asked for exists
    enum rpc_msg_serving told; // health Watch: what the client has been told
};

struct rpc_poller {
    struct rpc_server *server;
    grpc_completion_queue *queue;
    struct thread *thread;
};

struct rpc_server {
    grpc_server *grpc;
    struct rpc_poller pollers[RPC_POLLERS];
    size_t next_poller; // round robin
    struct queue *events;
    int port;

    struct rpc_row rows[RPC_METHODS_MAX + RPC_INNER_METHODS];
    size_t row_count;
    size_t method_count;
    char *services[RPC_METHODS_MAX + RPC_INNER_METHODS]; // names, each once, owned
    size_t service_count;
    struct descriptor_index *descriptors;

    struct rpc_call *calls; // [call_count]
    size_t call_count;
    struct rpc_call *free_calls;
    size_t free_count;
    struct rpc_call *done; // DONE has been told; free it at the next chance
    size_t running;        // the owner's calls
    size_t inner;          // health Watch and reflection streams
    size_t held_bytes;     // messages of all calls

    struct rpc_tls *tls; // NULL: plain text
    grpc_resource_quota *quota;
    atomic_size_t calls_max, message_bytes_max, held_bytes_max; // set by any thread
    struct rpc_refusals refusals;
    bool serving;
    bool stopping;
    struct rpc_tag shutdown_tag;
    bool is_shut; // gRPC has shut the server down
};

// --- rpc_call.c

// Turns what gRPC received into the call's message. STATUS_EXHAUSTED when the messages under way
// would be more than held_bytes_max, STATUS_NO_MEMORY.
enum status rpc_call_take_message(struct rpc_call *call, struct reason *why) MUST_CHECK;

// Frees the message, if there is one.
void rpc_call_drop_message(struct rpc_call *call);

// Starts listening for the end of the call; the first batch of every call.
void rpc_call_open(struct rpc_call *call);

// Completions. Each returns whether *event has been filled.
bool rpc_call_closed(struct rpc_call *call, struct rpc_event *event);
bool rpc_call_has_read(struct rpc_call *call, bool success, struct rpc_event *event);
bool rpc_call_has_sent(struct rpc_call *call, bool success, struct rpc_event *event);
bool rpc_call_has_finished(struct rpc_call *call, struct rpc_event *event);

// rpc_call_finish() for a call that the owner never sees.
void rpc_call_answer(struct rpc_call *call, enum status status, struct buffer *reply,
                     const struct reason *why);

// The server stops: answers an open call with STATUS_UNAVAILABLE, now or once its SEND is back.
void rpc_call_abandon(struct rpc_call *call);

// --- rpc_server.c

// Gives the call's object back and arms what waits for one.
void rpc_server_release(struct rpc_call *call);

// --- rpc_tls.c

// Credentials that ask `tls`, which outlives the server. The caller releases them.
grpc_server_credentials *rpc_tls_credentials(struct rpc_tls *tls);

// STATUS_OK when the peer of the call is one that may call; STATUS_UNAUTHENTICATED when it has
// shown no certificate though names are listed, STATUS_DENIED when no name of it is.
enum status rpc_tls_admit(struct rpc_tls *tls, grpc_call *call, struct reason *why) MUST_CHECK;

// --- rpc_health.c

void rpc_health_check(struct rpc_call *call);
void rpc_health_watch(struct rpc_call *call);
void rpc_health_update(struct rpc_call *call); // a watching call: tells a change, if there is one

// --- rpc_reflection.c

void rpc_reflection_message(struct rpc_call *call); // call->message is a question

#endif
