// SPDX-License-Identifier: Apache-2.0
// service.h - calls and the handlers that answer them, whatever way a call came.
//
// A call comes over gRPC or from this process (coordinator_call()); the handlers see no
// difference. One table, indexed by method, says who handles what.
//
//   service_open -> service_begin -> [message ... end; sent ... (streams)] -> service_finish: the
//                          |                                                  call is gone
//                          \-> service_cancel: the handler finishes it soon
//
// Thread-safety: none; the loop thread makes every call.

#ifndef RECO_COORDINATOR_SERVICE_H
#define RECO_COORDINATOR_SERVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "coordinator/backend.h"
#include "proto/base/bytes.h"
#include "proto/base/limits.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "proto/wire/api.h"

#define SERVICE_ARENA_BYTES ((size_t)512 << 20) // of one request and its answer

struct service_call;

// The way a call came, and the way its answer goes.
struct service_transport {
    bool is_grpc;                                        // counted as such
    void (*read)(void *channel);                         // of a stream: message or end is wanted
    void (*send)(void *channel, struct buffer *message); // to a stream: taken over; then sent
    void (*finish)(void *channel, enum status status, struct buffer *reply,
                   const struct reason *why);
};

struct service_handler;

struct service {
    struct backend *backend;
    struct service_call *first;
    size_t count; // calls; the items of streams are not among them
    size_t items; // of all streams
    size_t streams;
    size_t stream_bytes; // questions of items
    size_t streams_max;
    size_t stream_items; // of one stream, at once
    bool is_stopping;    // a call that is cancelled is told so
    uint32_t id_prefix;  // of the request ids made here
    uint64_t id_next;
};

struct service_call {
    struct service *service;
    struct backend *backend;
    enum api_method method;
    const struct service_handler *handler;
    bool is_item;         // of a stream, or within a call: not in the list of calls
    struct bytes message; // unless the client streams; until service_finish()
    int64_t begun_us;
    int64_t deadline_us; // DEADLINE_NONE
    struct trace trace;  // with an id
    bool cancelled;
    void *state; // the handler's

    const struct service_transport *transport;
    void *channel;
    struct service_call *next;
    struct service_call *previous;
};

struct service_handler {
    void (*begin)(struct service_call *call);
    void (*message)(struct service_call *call,
                    struct bytes message);     // streams; until read or finish
    void (*end)(struct service_call *call);    // streams
    void (*sent)(struct service_call *call);   // server streams: the client has room for the next
    void (*cancel)(struct service_call *call); // must lead to service_finish(), now or soon
};

struct service_open {
    enum api_method method;
    const struct service_handler *handler; // of an item, or a call within one; NULL: the method's
    struct bytes message;
    int64_t deadline_us;
    const struct trace *trace; // copied; NULL: one is begun; without id one is made
    const struct service_transport *transport;
    void *channel;
};

// What a service is willing to hold; a zero is the default, more than the most is the most.
#define SERVICE_STREAMS_MAX 256
#define SERVICE_STREAMS_DEFAULT 64
struct service_limits {
    size_t streams;      // of items, at once
    size_t stream_items; // of one of them, at once; at most API_STREAM_ITEMS
};

void service_init(struct service *service, struct backend *backend,
                  const struct service_limits *limits);

struct service_call *service_open(struct service *service, const struct service_open *params);
void service_begin(struct service_call *call); // the call may be gone afterwards
void service_message(struct service_call *call, struct bytes message);
void service_end(struct service_call *call);
void service_sent(struct service_call *call);
void service_cancel(struct service_call *call);
void service_cancel_all(struct service *service); // the service stops: they are told UNAVAILABLE

// --- for handlers

// Wants the next message of a stream.
void service_read(struct service_call *call);

// Sends one message of a stream (taken over, emptied). `sent` follows unless the call is cancelled,
// once the client's flow control has let it through; until then there must be no other.
void service_send(struct service_call *call, struct buffer *message);

// Ends the call: with STATUS_OK `reply` (taken over, emptied; NULL where the server streams) is the
// answer, else `why` says what was wrong. The call is gone afterwards.
void service_finish(struct service_call *call, enum status status, struct buffer *reply,
                    const struct reason *why);
void service_fail(struct service_call *call, enum status status, const struct reason *why);

// The same with an answer that was encoded just now, which fails for want of memory only. Frees the
// buffer.
void service_answer(struct service_call *call, enum status status, struct buffer *reply);

struct text service_request_id(const struct service_call *call);

// --- the handlers, by file

extern const struct service_handler service_encode_image; // service_encode.c
extern const struct service_handler service_encode_text;
extern const struct service_handler service_tokenize;
extern const struct service_handler service_encode_item; // of EncodeStream
extern const struct service_handler service_query;       // service_query.c: Search and Refine
extern const struct service_handler service_records; // service_records.c: GetRecords, GetVectors
extern const struct service_handler service_compile_labels; // service_classify.c
extern const struct service_handler service_classify;       // and Explain
extern const struct service_handler service_discover;       // DiscoverLabels
extern const struct service_handler service_create;         // service_memory.c
extern const struct service_handler service_drop;
extern const struct service_handler service_describe; // service_list.c
extern const struct service_handler service_list;
extern const struct service_handler service_alias;
extern const struct service_handler service_list_nodes;
extern const struct service_handler service_list_models;
extern const struct service_handler service_stream;   // service_stream.c: the four ...Stream
extern const struct service_handler write_ingest;     // write_ingest.c
extern const struct service_handler write_restore;    // the Ingest within a Restore
extern const struct service_handler write_delete;     // write_delete.c: Delete, Hide, Unhide
extern const struct service_handler service_snapshot; // service_snapshot.c
extern const struct service_handler service_restore;  // service_restore.c
extern const struct service_handler service_export;   // service_export.c

#endif
