// SPDX-License-Identifier: Apache-2.0
// router.h - the node's end of the bus: takes requests, hands them to a handler, sends replies.
//
// A router has one thread and two sockets: queries and bulk, so that a long upload never
// stands before a query. It answers HELLO and PING itself, checks version, lengths and
// CRCs of every frame before anyone sees it, and refuses a request beyond the credits with
// STATUS_EXHAUSTED. Everything else goes to the handler as a request object that
// the handler owns until router_reply().
//
//   received --> handled (by any thread) --> router_reply --> sent
//        \-> bad frame, no credit: answered at once
//
// Thread-safety: start and stop belong to one thread; the handler runs on the router's
// thread and must not wait; router_reply() and router_is_cancelled() may be called by any thread.

#ifndef RECO_PROTO_BUS_ROUTER_H
#define RECO_PROTO_BUS_ROUTER_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/bytes.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "proto/base/trace.h"
#include "proto/bus/bus.h"
#include "proto/wire/shard_msg.h"

#define ROUTER_CREDITS_DEFAULT 64 // requests of one socket at once
#define ROUTER_CREDITS_MAX 256    // queues hold four times as many

struct router;

// One request. What it points to is valid until router_reply().
struct router_request {
    enum shard_type type;
    bool bulk;           // came over the bulk socket
    int64_t received_us; // clock_now_us()
    int64_t deadline_us; // on this machine's monotonic clock; DEADLINE_NONE
    struct trace trace;  // client's request id and this hop, for logs
    struct bytes body;   // frame 1
    struct bytes rows;   // frame 2; starts at an address that is a multiple of 64
};

typedef void (*router_handler)(void *context, struct router_request *request);
typedef void (*router_load)(void *context, struct shard_ping_reply *load); // must not wait

struct router_params {
    struct bus *bus;
    const char *query_endpoint; // port 0 ("tcp://127.0.0.1:0") picks a free one
    const char *bulk_endpoint;
    uint32_t node;    // told in HELLO
    uint32_t credits; // 0: ROUTER_CREDITS_DEFAULT
    router_handler handle;
    router_load load; // what PING answers
    void *context;
};

// Binds both sockets and starts the thread. STATUS_INVALID for an endpoint that cannot be;
// STATUS_UNAVAILABLE when one is taken, naming it.
enum status router_start(const struct router_params *params, struct router **out,
                         struct reason *why) MUST_CHECK;

// Stops taking requests, then waits until every request handed out has been replied to, ends
// the thread, sets *router to NULL. All requests are cancelled at once. NULL is allowed.
void router_stop(struct router **router);

// The endpoints as bound, with the real port.
const char *router_query_endpoint(const struct router *router);
const char *router_bulk_endpoint(const struct router *router);

// Whether nobody waits for the answer any more: cancelled, past its deadline, or the router stops.
bool router_is_cancelled(const struct router_request *request);

// What a reply carries. Body and rows are taken over: the router frees them (buffer_deinit,
// mem_free) once they are sent, also when the asker is gone.
struct router_answer {
    enum status status;
    const struct reason *why; // of a failure; copied
    struct buffer *body;      // emptied; NULL for none
    void *rows;               // from mem_try_alloc*; NULL for none
    size_t rows_bytes;
};

// Ends *request and sets it to NULL.
void router_reply(struct router_request **request, const struct router_answer *answer);

#endif
