// SPDX-License-Identifier: Apache-2.0
// Two kinds of lists hold the requests of a peer and class: those in flight, and those that wait for
// a credit. A request that ends without a reply (deadline, peer down) moves to the dealer's
// list of ended ones, whose callbacks run one by one; a callback may send and
// cancel as it likes, since no list is walked while it runs.
//
// Silence is counted from the oldest PING without an answer, and only after all that has arrived was
// read: a coordinator that was itself held up does not take its nodes for dead.

#include "proto/bus/dealer.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/bus/bus_socket.h"

#define CLASSES 2
#define ARENA_BYTES 65536
#define CONNECTING_US 20000 // until the next look at a connection that is being made
#define BURST 256           // messages taken from one socket in one poll

struct request {
    struct request *previous;
    struct request *next;
    struct list *list; // where it stands
    uint64_t ticket;
    uint32_t peer;
    enum dealer_class class;
    enum shard_type type;
    zmq_msg_t body;
    zmq_msg_t rows;
    char trace[REQUEST_ID_BYTES_MAX];
    size_t trace_bytes;
    int64_t sent_us;
    int64_t deadline_us;
    dealer_done done;
    void *context;
    enum status status; // of an ended one
};

struct list {
    struct request *first;
    struct request *last;
    uint32_t count;
};

struct link { // one of the two connections of a peer
    void *socket;
    bool greeted; // HELLO was answered
    uint32_t credits;
    struct list in_flight;
    struct list waiting;
};

struct peer {
    char endpoints[CLASSES][BUS_ENDPOINT_BYTES];
    struct link links[CLASSES];
    void *monitor; // of the query socket; NULL for inproc
    bool up;
    bool broken;           // found so outside dealer_poll()
    int64_t next_greet_us; // while down
    int64_t next_ping_us;  // while up
    int64_t ping_sent_us;  // of the oldest PING without an answer; 0: none
    int64_t ping_us;
    struct shard_ping_reply load;
};

struct dealer {
    struct bus *bus;
    dealer_peer_changed changed;
    void *context;
    struct peer *peers; // [peer_count]
    uint32_t peer_count;
    struct list ended;
    uint64_t next_ticket;
    uint32_t next_monitor;
    struct arena *arena; // of what is decoded here
};

static void list_append(struct list *list, struct request *request)
{
    request->list = list;
    request->next = NULL;
    request->previous = list->last;
    if (list->last)
        list->last->next = request;
    else
        list->first = request;
    list->last = request;
    list->count++;
}

static void list_remove(struct request *request)
{
    struct list *list = request->list;
    if (request->previous)
        request->previous->next = request->next;
    else
        list->first = request->next;
    if (request->next)
        request->next->previous = request->previous;
    else
        list->last = request->previous;
    list->count--;
    request->list = NULL;
}

static void free_request(struct request *request)
{
    (void)zmq_msg_close(&request->body);
    (void)zmq_msg_close(&request->rows);
    mem_free(request);
}

static void free_list(struct list *list)
{
    while (list->first) {
        struct request *request = list->first;
        list_remove(request);
        free_request(request);
    }
}

static void end_request(struct dealer *dealer, struct request *request, enum status status)
{
    list_remove(request);
    request->status = status;
    list_append(&dealer->ended, request);
}

// --- connections

static void close_links(struct peer *peer)
{
    for (int class = 0; class < CLASSES; class ++) {
        bus_socket_close(&peer->links[class].socket);
        peer->links[class].greeted = false;
        peer->links[class].credits = 0;
    }
    bus_socket_close(&peer->monitor);
}

static enum status open_links(struct dealer *dealer, struct peer *peer, struct reason *why)
{
    char name[32];
    for (int class = 0; class < CLASSES; class ++) {
        enum status status = bus_socket_connect(dealer->bus, peer->endpoints[class],
                                                &peer->links[class].socket, why);
        if (status != STATUS_OK) {
            close_links(peer);
            return status;
        }
    }
    if (strncmp(peer->endpoints[0], "tcp://", 6) != 0)
        return STATUS_OK;
    (void)snprintf(name, sizeof(name), "%p-%u", (void *)dealer, dealer->next_monitor++);
    enum status status =
        bus_socket_monitor(dealer->bus, peer->links[0].socket, name, &peer->monitor);
    if (status != STATUS_OK) {
        close_links(peer);
        return reason_set(why, status, "endpoint", "%s cannot be watched", peer->endpoints[0]);
    }
    return STATUS_OK;
}

// A message without frames behind it: HELLO, PING, CANCEL.
static enum status send_small(struct link *link, enum shard_type type, uint64_t request_id)
{
    struct bus_outgoing outgoing = {.envelope = {.type = type, .request_id = request_id}};
    return bus_message_send(link->socket, &outgoing);
}

// An inproc:// connection does not come back by itself, so it is made anew each time.
static void greet(struct dealer *dealer, struct peer *peer, int64_t now)
{
    struct reason why = {0};
    peer->next_greet_us = now + DEALER_PING_US;
    if (!peer->links[0].socket || !peer->monitor) {
        close_links(peer);
        if (open_links(dealer, peer, &why) != STATUS_OK) {
            log_warn("peer_unreachable", "endpoint=%s reason=\"%s\"", peer->endpoints[0], why.text);
            return;
        }
    }
    for (int class = 0; class < CLASSES; class ++) {
        if (!peer->links[class].greeted &&
            send_small(&peer->links[class], SHARD_HELLO, dealer->next_ticket++) != STATUS_OK)
            peer->next_greet_us = now + CONNECTING_US;
    }
}

static void peer_goes_down(struct dealer *dealer, uint32_t index, const char *reason)
{
    struct peer *peer = &dealer->peers[index];

    log_warn("peer_down", "peer=%u endpoint=%s reason=\"%s\"", index, peer->endpoints[0], reason);
    peer->up = false;
    peer->broken = false;
    peer->ping_sent_us = 0;
    peer->next_greet_us = 0;
    for (int class = 0; class < CLASSES; class ++) {
        struct link *link = &peer->links[class];
        while (link->in_flight.first)
            end_request(dealer, link->in_flight.first, STATUS_UNAVAILABLE);
        while (link->waiting.first)
            end_request(dealer, link->waiting.first, STATUS_UNAVAILABLE);
    }
    // A late answer to what has ended must not be taken for news: the connections are new ones.
    close_links(peer);
    if (dealer->changed)
        dealer->changed(dealer->context, index, false);
}

static void link_is_greeted(struct dealer *dealer, uint32_t index, enum dealer_class class,
                            uint32_t credits)
{
    struct peer *peer = &dealer->peers[index];

    peer->links[class].greeted = true;
    peer->links[class].credits = credits;
    if (peer->up || !peer->links[0].greeted || !peer->links[1].greeted)
        return;
    peer->up = true;
    peer->next_ping_us = 0;
    log_info("peer_up", "peer=%u endpoint=%s credits=%u", index, peer->endpoints[0], credits);
    if (dealer->changed)
        dealer->changed(dealer->context, index, true);
}

// --- requests

static enum status send_now(struct link *link, struct request *request)
{
    int64_t left = clock_left_us(request->deadline_us);
    struct bus_outgoing outgoing = {
        .envelope = {.type = request->type,
                     .request_id = request->ticket,
                     .deadline_us = left == DEADLINE_NONE ? 0 : (uint64_t)left,
                     .trace = {request->trace, request->trace_bytes}},
        .body = &request->body,
        .rows = &request->rows,
    };
    return bus_message_send(link->socket, &outgoing);
}

static void send_waiting(struct peer *peer)
{
    for (int class = 0; class < CLASSES && peer->up && !peer->broken; class ++) {
        struct link *link = &peer->links[class];
        while (link->waiting.first && link->in_flight.count < link->credits) {
            struct request *request = link->waiting.first;
            if (send_now(link, request) != STATUS_OK) {
                peer->broken = true;
                break;
            }
            list_remove(request);
            list_append(&link->in_flight, request);
        }
    }
}

static bool fill_frame(zmq_msg_t *frame, struct bytes bytes)
{
    if (zmq_msg_init_size(frame, bytes.count) != 0)
        return false;
    if (bytes.count > 0)
        memcpy(zmq_msg_data(frame), bytes.data, bytes.count);
    return true;
}

static struct request *new_request(const struct dealer_request *asked)
{
    struct request *request = mem_alloc(sizeof(*request));
    if (!fill_frame(&request->body, asked->body)) {
        mem_free(request);
        return NULL;
    }
    if (!fill_frame(&request->rows, asked->rows)) {
        (void)zmq_msg_close(&request->body);
        mem_free(request);
        return NULL;
    }
    request->peer = asked->peer;
    request->class = asked->class;
    request->type = asked->type;
    request->trace_bytes = asked->trace.bytes;
    if (asked->trace.bytes > 0)
        memcpy(request->trace, asked->trace.data, asked->trace.bytes);
    request->sent_us = clock_now_us();
    request->deadline_us = asked->deadline_us;
    request->done = asked->done;
    request->context = asked->context;
    return request;
}

enum status dealer_send(struct dealer *dealer, const struct dealer_request *asked, uint64_t *ticket)
{
    assert(dealer && asked && asked->done && ticket);
    assert(asked->peer < dealer->peer_count);
    assert(asked->class == DEALER_BULK || asked->deadline_us != DEADLINE_NONE);
    assert(asked->trace.bytes <= REQUEST_ID_BYTES_MAX);

    struct peer *peer = &dealer->peers[asked->peer];
    struct link *link = &peer->links[asked->class];
    if (!peer->up || peer->broken)
        return STATUS_UNAVAILABLE;
    if (clock_left_us(asked->deadline_us) == 0)
        return STATUS_DEADLINE;
    if (link->waiting.count >= DEALER_WAITING_MAX)
        return STATUS_EXHAUSTED;

    struct request *request = new_request(asked);
    if (!request)
        return STATUS_NO_MEMORY;
    request->ticket = dealer->next_ticket++;
    list_append(&link->waiting, request);
    *ticket = request->ticket;
    send_waiting(peer);
    return STATUS_OK;
}

static struct request *find(struct list *list, uint64_t ticket)
{
    for (struct request *request = list->first; request; request = request->next) {
        if (request->ticket == ticket)
            return request;
    }
    return NULL;
}

void dealer_cancel(struct dealer *dealer, uint64_t ticket)
{
    assert(dealer);

    struct request *request = find(&dealer->ended, ticket);
    for (uint32_t i = 0; i < dealer->peer_count && !request; i++) {
        for (int class = 0; class < CLASSES && !request; class ++) {
            struct link *link = &dealer->peers[i].links[class];
            request = find(&link->waiting, ticket);
            if (request)
                break;
            request = find(&link->in_flight, ticket);
            if (request)
                (void)send_small(link, SHARD_CANCEL, ticket);
        }
    }
    if (!request)
        return;
    list_remove(request);
    free_request(request);
}

// --- what arrives

static void deliver(struct request *request, struct dealer_reply *reply)
{
    reply->peer = request->peer;
    reply->ticket = request->ticket;
    reply->took_us = clock_now_us() - request->sent_us;
    request->done(request->context, reply);
    free_request(request);
}

static void take_hello(struct dealer *dealer, uint32_t index, enum dealer_class class,
                       const struct bus_message *message)
{
    struct shard_hello_reply hello;
    struct reason why = {0};
    enum status status = message->envelope.status;
    if (status == STATUS_OK)
        status =
            shard_decode_hello_reply(message->body, (struct bytes){0}, dealer->arena, &hello, &why);
    if (status != STATUS_OK || hello.credits == 0) {
        log_warn("bad_hello", "peer=%u status=\"%s\" reason=\"%s\"", index, status_text(status),
                 why.text);
        return;
    }
    link_is_greeted(dealer, index, class, hello.credits);
}

static void take_ping(struct dealer *dealer, uint32_t index, const struct bus_message *message)
{
    struct peer *peer = &dealer->peers[index];
    struct shard_ping_reply load;
    struct reason why = {0};

    if (peer->ping_sent_us != 0)
        peer->ping_us = clock_now_us() - peer->ping_sent_us;
    peer->ping_sent_us = 0;
    if (message->envelope.status == STATUS_OK &&
        shard_decode_ping_reply(message->body, (struct bytes){0}, dealer->arena, &load, &why) ==
            STATUS_OK)
        peer->load = load;
}

static void take_reply(struct dealer *dealer, uint32_t index, enum dealer_class class,
                       const struct bus_message *message)
{
    struct link *link = &dealer->peers[index].links[class];
    struct request *request = find(&link->in_flight, message->envelope.request_id);
    if (!request)
        return; // it was cancelled or its deadline has passed
    list_remove(request);

    struct dealer_reply reply = {
        .status = message->envelope.status,
        .field = message->envelope.field,
        .text = message->envelope.text,
        .body = message->body,
        .rows = message->rows,
    };
    deliver(request, &reply);
}

static void take_message(struct dealer *dealer, uint32_t index, enum dealer_class class,
                         const struct bus_message *message)
{
    if (!message->envelope.reply)
        return;
    if (message->envelope.credits > 0 && dealer->peers[index].links[class].greeted)
        dealer->peers[index].links[class].credits = message->envelope.credits;
    if (message->envelope.type == SHARD_HELLO)
        take_hello(dealer, index, class, message);
    else if (message->envelope.type == SHARD_PING)
        take_ping(dealer, index, message);
    else
        take_reply(dealer, index, class, message);
}

// A reply whose frames are bad ends its request all the same.
static void take_bad(struct dealer *dealer, uint32_t index, enum dealer_class class,
                     const struct bus_message *message, const struct reason *why)
{
    struct link *link = &dealer->peers[index].links[class];
    struct request *request = find(&link->in_flight, message->envelope.request_id);

    log_warn("bad_reply", "peer=%u field=%s reason=\"%s\"", index, why->field, why->text);
    if (!request)
        return;
    list_remove(request);
    struct dealer_reply reply = {
        .status = STATUS_CORRUPT, .field = text_of(why->field), .text = text_of(why->text)};
    deliver(request, &reply);
}

static void read_link(struct dealer *dealer, uint32_t index, enum dealer_class class)
{
    struct link *link = &dealer->peers[index].links[class];

    for (int i = 0; i < BURST && link->socket; i++) {
        struct bus_message message;
        struct reason why = {0};
        enum status status = bus_message_receive(link->socket, false, &message, &why);
        if (status == STATUS_NOT_FOUND)
            return;
        arena_destroy(&dealer->arena);
        dealer->arena = arena_create(ARENA_BYTES);
        if (status != STATUS_OK) {
            take_bad(dealer, index, class, &message, &why);
            continue;
        }
        take_message(dealer, index, class, &message);
        bus_message_deinit(&message);
    }
}

// --- time

static void expire(struct dealer *dealer, struct link *link, struct list *list, int64_t now)
{
    struct request *next;
    for (struct request *request = list->first; request; request = next) {
        next = request->next;
        if (request->deadline_us > now)
            continue;
        if (list == &link->in_flight)
            (void)send_small(link, SHARD_CANCEL, request->ticket);
        end_request(dealer, request, STATUS_DEADLINE);
    }
}

static void keep_time(struct dealer *dealer, uint32_t index)
{
    struct peer *peer = &dealer->peers[index];
    int64_t now = clock_now_us();

    for (int class = 0; class < CLASSES; class ++) {
        expire(dealer, &peer->links[class], &peer->links[class].in_flight, now);
        expire(dealer, &peer->links[class], &peer->links[class].waiting, now);
    }
    if (peer->up && peer->broken)
        peer_goes_down(dealer, index, "the connection broke");
    else if (peer->up && peer->ping_sent_us != 0 && now - peer->ping_sent_us >= DEALER_SILENCE_US)
        peer_goes_down(dealer, index, "it does not answer");
    if (!peer->up && now >= peer->next_greet_us)
        greet(dealer, peer, now);
    if (peer->up && now >= peer->next_ping_us) {
        peer->next_ping_us = now + DEALER_PING_US;
        if (send_small(&peer->links[0], SHARD_PING, dealer->next_ticket++) != STATUS_OK)
            peer->broken = true;
        else if (peer->ping_sent_us == 0)
            peer->ping_sent_us = now;
    }
    send_waiting(peer);
}

static void run_ended(struct dealer *dealer)
{
    static const char down[] = "the node is down";
    static const char late[] = "the node did not answer in time";

    while (dealer->ended.first) {
        struct request *request = dealer->ended.first;
        list_remove(request);
        struct dealer_reply reply = {
            .status = request->status,
            .text = text_of(request->status == STATUS_DEADLINE ? late : down),
        };
        deliver(request, &reply);
    }
}

static int64_t first_deadline(const struct list *list, int64_t until_us)
{
    for (const struct request *request = list->first; request; request = request->next) {
        if (request->deadline_us < until_us)
            until_us = request->deadline_us;
    }
    return until_us;
}

static int64_t next_event_us(const struct dealer *dealer, int64_t until_us)
{
    if (dealer->ended.first)
        return 0;
    for (uint32_t i = 0; i < dealer->peer_count; i++) {
        const struct peer *peer = &dealer->peers[i];
        int64_t timer = peer->up ? peer->next_ping_us : peer->next_greet_us;
        if (peer->broken)
            return 0;
        if (timer < until_us)
            until_us = timer;
        for (int class = 0; class < CLASSES; class ++) {
            until_us = first_deadline(&peer->links[class].in_flight, until_us);
            until_us = first_deadline(&peer->links[class].waiting, until_us);
        }
    }
    return until_us;
}

#define ITEMS_MAX (DEALER_EXTRA_FDS_MAX + DEALER_PEERS_MAX * (CLASSES + 1))
#define POLL_MS_MAX 60000

enum status dealer_poll(struct dealer *dealer, struct pollfd *fds, size_t count, int64_t until_us)
{
    assert(dealer && count <= DEALER_EXTRA_FDS_MAX && (fds || count == 0));

    zmq_pollitem_t items[ITEMS_MAX];
    int item_count = 0;
    for (size_t i = 0; i < count; i++)
        items[item_count++] = (zmq_pollitem_t){NULL, fds[i].fd, ZMQ_POLLIN, 0};
    for (uint32_t i = 0; i < dealer->peer_count; i++) {
        const struct peer *peer = &dealer->peers[i];
        void *sockets[] = {peer->links[0].socket, peer->links[1].socket, peer->monitor};
        for (int s = 0; s < 3; s++) {
            if (sockets[s])
                items[item_count++] = (zmq_pollitem_t){sockets[s], 0, ZMQ_POLLIN, 0};
        }
    }
    int timeout = clock_poll_ms(next_event_us(dealer, until_us), POLL_MS_MAX);
    if (zmq_poll(items, item_count, timeout) < 0 && zmq_errno() != EINTR)
        return STATUS_INTERNAL;
    for (size_t i = 0; i < count; i++)
        fds[i].revents = items[i].revents & ZMQ_POLLIN ? POLLIN : 0;

    for (uint32_t i = 0; i < dealer->peer_count; i++) {
        read_link(dealer, i, DEALER_QUERY);
        read_link(dealer, i, DEALER_BULK);
        if (dealer->peers[i].monitor && bus_socket_is_broken(dealer->peers[i].monitor))
            dealer->peers[i].broken = dealer->peers[i].up;
    }
    for (uint32_t i = 0; i < dealer->peer_count; i++)
        keep_time(dealer, i);
    run_ended(dealer);
    return STATUS_OK;
}

// --- life

enum status dealer_create(struct bus *bus, dealer_peer_changed changed, void *context,
                          struct dealer **out, struct reason *why)
{
    assert(bus && out);
    (void)why;

    struct dealer *dealer = mem_alloc(sizeof(*dealer));
    dealer->bus = bus;
    dealer->changed = changed;
    dealer->context = context;
    dealer->peers = mem_alloc_array(DEALER_PEERS_MAX, sizeof(*dealer->peers));
    dealer->next_ticket = 1;
    dealer->arena = arena_create(ARENA_BYTES);
    *out = dealer;
    return STATUS_OK;
}

void dealer_destroy(struct dealer **dealer)
{
    assert(dealer);

    if (!*dealer)
        return;
    for (uint32_t i = 0; i < (*dealer)->peer_count; i++) {
        for (int class = 0; class < CLASSES; class ++) {
            free_list(&(*dealer)->peers[i].links[class].in_flight);
            free_list(&(*dealer)->peers[i].links[class].waiting);
        }
        close_links(&(*dealer)->peers[i]);
    }
    free_list(&(*dealer)->ended);
    arena_destroy(&(*dealer)->arena);
    mem_free((*dealer)->peers);
    mem_free(*dealer);
    *dealer = NULL;
}

enum status dealer_add_peer(struct dealer *dealer, const char *query_endpoint,
                            const char *bulk_endpoint, uint32_t *peer, struct reason *why)
{
    assert(dealer && query_endpoint && bulk_endpoint && peer);

    if (dealer->peer_count == DEALER_PEERS_MAX)
        return reason_set(why, STATUS_EXHAUSTED, "nodes", "at most %d nodes", DEALER_PEERS_MAX);
    const char *endpoints[] = {query_endpoint, bulk_endpoint};
    struct peer *added = &dealer->peers[dealer->peer_count];
    *added = (struct peer){0};
    for (int class = 0; class < CLASSES; class ++) {
        size_t bytes = strlen(endpoints[class]) + 1;
        if (bytes > BUS_ENDPOINT_BYTES)
            return reason_set(why, STATUS_INVALID, "endpoint", "'%.40s...' is too long",
                              endpoints[class]);
        memcpy(added->endpoints[class], endpoints[class], bytes);
    }
    enum status status = open_links(dealer, added, why);
    if (status != STATUS_OK)
        return status;
    *peer = dealer->peer_count++;
    return STATUS_OK;
}

uint32_t dealer_peer_count(const struct dealer *dealer)
{
    return dealer->peer_count;
}

void dealer_peer_info(const struct dealer *dealer, uint32_t index, struct dealer_peer_info *out)
{
    assert(dealer && index < dealer->peer_count && out);

    const struct peer *peer = &dealer->peers[index];
    *out = (struct dealer_peer_info){
        .up = peer->up && !peer->broken, .ping_us = peer->ping_us, .load = peer->load};
    for (int class = 0; class < CLASSES; class ++)
        out->in_flight += peer->links[class].in_flight.count + peer->links[class].waiting.count;
    memcpy(out->query_endpoint, peer->endpoints[0], sizeof(out->query_endpoint));
}
