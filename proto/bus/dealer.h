// SPDX-License-Identifier: Apache-2.0
// dealer.h - the coordinator's end of the bus: requests to many nodes, with deadlines.
//
// A dealer keeps two connections to every peer (queries and bulk), greets with HELLO, and
// asks PING four times a second. A peer is up once it has answered HELLO, and down when
// a PING has had no answer for 600 ms or its socket broke; all that waits for it then
// fails with STATUS_UNAVAILABLE at once. It is greeted again until it comes back. A
// frozen process, a killed one and a cut cable look the same here and are noticed within 1 s.
// Bytes in flight add their time to the 600 ms, at DEALER_BYTES_PER_SECOND: a slow machine that
// works its way through a large message is not taken for dead.
//
// Requests beyond a peer's credits wait in a queue of DEALER_WAITING_MAX per class, first
// come first served; beyond that STATUS_EXHAUSTED. Nothing waits past its deadline.
//
//   send -> waiting (no credit) -> in flight -> done(reply | DEADLINE | UNAVAILABLE)
//               \_______________________\----> dealer_cancel: done is not called
//
// Thread-safety: none. The thread that owns the dealer makes every call, and every callback
// runs inside its dealer_poll().

#ifndef RECO_PROTO_BUS_DEALER_H
#define RECO_PROTO_BUS_DEALER_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/bytes.h"
#include "proto/base/limits.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "proto/base/trace.h"
#include "proto/bus/bus.h"
#include "proto/wire/shard_msg.h"

#define DEALER_PEERS_MAX NODES_MAX
#define DEALER_WAITING_MAX 1024            // requests of one peer and class without a credit
#define DEALER_PING_US 250000              // between two PINGs
#define DEALER_SILENCE_US 600000           // a PING unanswered for so long: down
#define DEALER_SILENCE_THREADS_US 30000000 // the same of peers that are threads of this process
#define DEALER_BYTES_PER_SECOND (8 << 20)  // less than a line of 100 Mbit/s carries
#define DEALER_GRANTED_BYTES (BODY_BYTES_MAX + ROWS_BYTES_MAX) // at most this many count
#define DEALER_EXTRA_FDS_MAX 8

struct dealer;

enum dealer_class {
    DEALER_QUERY = 0,
    DEALER_BULK = 1,
};

struct dealer_peer_info {
    bool up;
    uint32_t in_flight;           // of both classes, waiting ones included
    uint32_t credits;             // queries that it would take at once
    int64_t ping_us;              // last round trip
    struct shard_ping_reply load; // as of the last PING
    char query_endpoint[BUS_ENDPOINT_BYTES];
};

// Called when a peer comes up or goes down.
typedef void (*dealer_peer_changed)(void *context, uint32_t peer, bool up);

enum status dealer_create(struct bus *bus, dealer_peer_changed changed, void *context,
                          struct dealer **out, struct reason *why) MUST_CHECK;
// For peers whose death breaks their connection (threads of this process, processes of this machine):
// one that is silent for long is not given up, the machine is busy.
void dealer_trust_threads(struct dealer *dealer);
void dealer_destroy(struct dealer **dealer); // no callback is called; NULL is allowed

// Adds peer number 0, 1, 2 ... with its endpoints. STATUS_INVALID, STATUS_EXHAUSTED.
enum status dealer_add_peer(struct dealer *dealer, const char *query_endpoint,
                            const char *bulk_endpoint, uint32_t *peer,
                            struct reason *why) MUST_CHECK;
void dealer_peer_info(const struct dealer *dealer, uint32_t peer, struct dealer_peer_info *out);

// How a request ended. Everything it points to is valid during the callback only; `rows` begins
// at an address that is a multiple of 64.
struct dealer_reply {
    uint32_t peer;
    uint64_t ticket;
    enum status
        status; // the node's, or DEADLINE, UNAVAILABLE, CORRUPT (bad frames), NO_MEMORY made here
    struct text field; // of a failure
    struct text text;
    struct bytes body;
    struct bytes rows;
    int64_t took_us; // since dealer_send
};

typedef void (*dealer_done)(void *context, const struct dealer_reply *reply);

struct dealer_request {
    uint32_t peer;
    enum dealer_class class;
    enum shard_type type;
    struct bytes body;         // copied
    struct bytes rows;         // copied
    int64_t deadline_us;       // DEADLINE_NONE is allowed for bulk only
    const struct trace *trace; // copied; NULL: no client's request
    dealer_done done;
    void *context;
};

// Puts a request on its way; `done` is called exactly once, from dealer_poll(), unless it is
// cancelled. *ticket names it. STATUS_UNAVAILABLE when the peer is down, STATUS_EXHAUSTED
// when its queue is full, STATUS_DEADLINE when it has passed, STATUS_INVALID when body or rows
// are larger than a frame may be, STATUS_NO_MEMORY; `done` is then never called.
enum status dealer_send(struct dealer *dealer, const struct dealer_request *request,
                        uint64_t *ticket) MUST_CHECK;

// Tells the node to stop and forgets the request. Unknown tickets are ignored.
void dealer_cancel(struct dealer *dealer, uint64_t ticket);

// Waits at most until `until_us` for replies, timers and the caller's fds (at most
// DEALER_EXTRA_FDS_MAX; revents are set), handles what came, and returns.
enum status dealer_poll(struct dealer *dealer, struct pollfd *fds, size_t count,
                        int64_t until_us) MUST_CHECK;

#endif
