// SPDX-License-Identifier: Apache-2.0
// fanout.h - asks several nodes at once and tells when all have answered.
//
// A fanout holds the connections to all nodes. An ask is one question to any number of them, e.g.
// one SEARCH each:
//
//   fanout_ask_begin -> fanout_send (several) -> on_reply for each -> on_end once, after the last
//                  \-> fanout_ask_cancel at any time: nothing is called any more
//
// on_reply must not cancel, send or begin in its ask; on_end may. Only sends that returned
// STATUS_OK are answered. When none did, on_end is not called: the caller
// sees that fanout_ask_waiting() is 0 and goes on by itself.
//
// Thread-safety: none; the loop thread makes every call, and callbacks run inside fanout_poll().

#ifndef RECO_COORDINATOR_FANOUT_H
#define RECO_COORDINATOR_FANOUT_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "coordinator/telemetry.h"
#include "proto/base/bytes.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "proto/bus/dealer.h"

struct fanout;

struct fanout_node { // endpoints of one node
    const char *query_endpoint;
    const char *bulk_endpoint;
};

struct fanout_params {
    struct bus *bus; // NULL allowed without nodes
    const struct fanout_node *nodes;
    size_t count;
    bool are_threads;               // of this process: dealer_trust_threads()
    struct telemetry *telemetry;    // NULL: nothing is counted
    void (*changed)(void *context); // a node came up or went down; may be NULL
    void *context;
};

enum status fanout_create(const struct fanout_params *params, struct fanout **out,
                          struct reason *why) MUST_CHECK;
void fanout_destroy(struct fanout **fanout); // calls nothing; NULL is allowed

uint32_t fanout_count(const struct fanout *fanout);
bool fanout_is_up(const struct fanout *fanout, uint32_t node);
uint32_t fanout_up_mask(const struct fanout *fanout); // bit n: node n is up

// How often a node went down so far: what was not committed before that may be lost.
uint32_t fanout_downs(const struct fanout *fanout, uint32_t node);

// STATUS_UNAVAILABLE naming the first node that is down.
enum status fanout_all_up(const struct fanout *fanout, struct reason *why) MUST_CHECK;

void fanout_info(const struct fanout *fanout, uint32_t node, struct dealer_peer_info *out);

// Questions that have neither been answered nor cancelled.
size_t fanout_waiting(const struct fanout *fanout);

// Waits for replies, timers and the caller's fds, as dealer_poll().
enum status fanout_poll(struct fanout *fanout, struct pollfd *fds, size_t count,
                        int64_t until_us) MUST_CHECK;

// One node's answer; what it points to is valid during the callback and, for the last one, the
// on_end that follows.
struct fanout_reply {
    uint32_t node;
    uint32_t tag;
    enum status status;
    struct text text; // of a failure
    struct bytes body;
    struct bytes rows;
};

// The reply's status; of a failure `why` gets the text.
enum status fanout_reply_status(const struct fanout_reply *reply, struct reason *why) MUST_CHECK;

struct fanout_handler {
    void (*on_reply)(void *context, const struct fanout_reply *reply);
    void (*on_end)(void *context);
    void *context;
};

// Zero-initialise it; it may be used again after on_end. It stays where it is while in use.
struct fanout_ask {
    struct fanout *fanout;
    struct fanout_handler handler;
    struct fanout_ticket *tickets; // list of what is on its way
    uint32_t waiting;
};

struct fanout_send {
    uint32_t node;
    uint32_t tag; // given back with the reply
    enum dealer_class class;
    enum shard_type type;
    struct bytes body; // copied
    struct bytes rows; // copied
    int64_t deadline_us;
    const struct trace *trace; // copied; NULL: no client's request
};

void fanout_ask_begin(struct fanout_ask *ask, struct fanout *fanout,
                      const struct fanout_handler *handler);

// Errors of dealer_send(), with the node in `why`.
enum status fanout_send(struct fanout_ask *ask, const struct fanout_send *send,
                        struct reason *why) MUST_CHECK;

uint32_t fanout_ask_waiting(const struct fanout_ask *ask);
void fanout_ask_cancel(struct fanout_ask *ask); // also of one that is not in use

#endif
