// SPDX-License-Identifier: Apache-2.0
// dealer_internal.h - the inside of a dealer, for dealer_*.c: requests and lists of them
// (dealer_request.c), peers and their connections (dealer_peer.c).
//
// Thread-safety: none; all of it belongs to the dealer's thread.

#ifndef RECO_PROTO_BUS_DEALER_INTERNAL_H
#define RECO_PROTO_BUS_DEALER_INTERNAL_H

#include <zmq.h>

#include "proto/bus/bus_socket.h"
#include "proto/bus/dealer.h"

#define DEALER_CLASSES 2

struct dealer_list;

struct dealer_ask { // one request
    struct dealer_ask *previous;
    struct dealer_ask *next;
    struct dealer_list *list; // where it stands
    uint64_t ticket;          // also its request id on the wire
    enum shard_type type;
    zmq_msg_t body; // sent, and then empty
    zmq_msg_t rows;
    size_t bytes;       // of both
    struct trace trace; // the asker's hop
    int64_t sent_us;
    int64_t deadline_us;
    dealer_done done;
    void *context;
    enum status status; // of one that ended without a reply
};

struct dealer_list {
    struct dealer_ask *first;
    struct dealer_ask *last;
    uint32_t count;
};

struct dealer_link { // one of the two connections of a peer
    void *socket;
    void *monitor; // NULL for inproc
    bool greeted;  // HELLO was answered
    uint32_t credits;
    struct dealer_list in_flight;
    struct dealer_list waiting;
};

struct dealer_peer {
    char endpoints[DEALER_CLASSES][BUS_ENDPOINT_BYTES];
    struct dealer_link links[DEALER_CLASSES];
    bool up;
    bool broken;           // is to go down at the end of this dealer_poll()
    bool refused;          // was told so in the log
    bool turned_away;      // a connection of now was: libzmq does not try it again
    int64_t opened_us;     // when its connections were made
    int64_t next_greet_us; // while down
    int64_t next_ping_us;  // while up
    int64_t ping_sent_us;  // of the oldest PING without an answer; 0: none
    int64_t heard_us;      // when the last message came
    int64_t ping_us;
    struct shard_ping_reply load;
};

struct dealer {
    struct bus *bus;
    dealer_peer_changed changed;
    void *context;
    struct dealer_peer *peers; // [DEALER_PEERS_MAX]
    uint32_t peer_count;
    struct dealer_list ended; // their callbacks are still to run
    int64_t looked_us;        // all that had arrived by then was read
    uint64_t next_number;
    int64_t silence_us; // DEALER_SILENCE_US or DEALER_SILENCE_THREADS_US
};

// --- dealer_request.c

// NULL when memory is out. Of a ticket can be said which peer and class it is for.
struct dealer_ask *dealer_request_create(struct dealer *dealer,
                                         const struct dealer_request *request);
void dealer_request_destroy(struct dealer_ask *ask); // it must be in no list

void dealer_request_append(struct dealer_list *list, struct dealer_ask *ask);
void dealer_request_remove(struct dealer_ask *ask);
struct dealer_ask *dealer_request_find(const struct dealer_list *list, uint64_t ticket);

uint32_t dealer_request_peer(uint64_t ticket);
enum dealer_class dealer_request_class(uint64_t ticket);

// A request id for what is no request: HELLO, PING.
uint64_t dealer_request_number(struct dealer *dealer);

// --- dealer_peer.c

// Makes both connections. STATUS_INVALID, STATUS_EXHAUSTED.
enum status dealer_peer_open(struct dealer *dealer, struct dealer_peer *peer,
                             struct reason *why) MUST_CHECK;
void dealer_peer_close(struct dealer_peer *peer);

// Sends what waits, as far as there are credits.
void dealer_peer_send_waiting(struct dealer_peer *peer);

// Tells the node to stop a request; that it could not be told does not matter.
void dealer_peer_send_cancel(struct dealer_link *link, uint64_t ticket);

// What a reply says about credits, at most BUS_CREDITS_MAX of them.
void dealer_peer_set_credits(struct dealer_link *link, uint32_t credits);

// Reads both monitors.
void dealer_peer_read_news(struct dealer_peer *peer);

// A HELLO or PING was answered.
void dealer_peer_take_hello(struct dealer *dealer, uint32_t index, enum dealer_class class,
                            const struct bus_message *message);
void dealer_peer_take_ping(struct dealer_peer *peer, uint32_t index,
                           const struct bus_message *message);

// Does what time asks for: deadlines, silence, greeting, PING.
void dealer_peer_keep_time(struct dealer *dealer, uint32_t index);

// When keep_time has to be called again, at the latest; `until_us` when that is earlier.
int64_t dealer_peer_next_event(const struct dealer *dealer, const struct dealer_peer *peer,
                               int64_t until_us);

#endif
