// SPDX-License-Identifier: Apache-2.0
// A request stands in a list of its peer and class, waiting or in flight. One that ends without a
// reply (deadline, peer down) moves to the dealer's list of ended ones, whose callbacks run one by
// one; a callback may send and cancel as it likes, since no list is walked while it runs.
//
// One dealer_poll(): wait; read all sockets (replies call back at once); do what time asks for;
// run the callbacks of what ended.

#include "proto/bus/dealer.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/bus/dealer_internal.h"

#define BURST 256 // messages taken from one socket in one poll
#define POLL_MS_MAX 60000
#define SOCKETS_OF_PEER (DEALER_CLASSES * 2) // and their monitors
#define ITEMS_MAX (DEALER_EXTRA_FDS_MAX + DEALER_PEERS_MAX * SOCKETS_OF_PEER)

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
    dealer->next_number = 1;
    dealer->silence_us = DEALER_SILENCE_US;
    *out = dealer;
    return STATUS_OK;
}

void dealer_trust_threads(struct dealer *dealer)
{
    assert(dealer);

    dealer->silence_us = DEALER_SILENCE_THREADS_US;
}

static void free_list(struct dealer_list *list)
{
    while (list->first) {
        struct dealer_ask *ask = list->first;
        dealer_request_remove(ask);
        dealer_request_destroy(ask);
    }
}

void dealer_destroy(struct dealer **dealer)
{
    assert(dealer);

    if (!*dealer)
        return;
    for (uint32_t peer = 0; peer < (*dealer)->peer_count; peer++) {
        struct dealer_link *links = (*dealer)->peers[peer].links;
        for (int i = 0; i < DEALER_CLASSES; i++) {
            free_list(&links[i].in_flight);
            free_list(&links[i].waiting);
        }
        dealer_peer_close(&(*dealer)->peers[peer]);
    }
    free_list(&(*dealer)->ended);
    mem_free((*dealer)->peers);
    mem_free(*dealer);
    *dealer = NULL;
}

enum status dealer_add_peer(struct dealer *dealer, const char *query_endpoint,
                            const char *bulk_endpoint, uint32_t *peer, struct reason *why)
{
    assert(dealer && query_endpoint && bulk_endpoint && peer);

    if (dealer->peer_count == DEALER_PEERS_MAX)
        return reason_set(why, STATUS_EXHAUSTED, "nodes", "%d nodes are there; allowed: at most %d",
                          DEALER_PEERS_MAX, DEALER_PEERS_MAX);

    const char *endpoints[] = {query_endpoint, bulk_endpoint};
    struct dealer_peer *added = &dealer->peers[dealer->peer_count];
    *added = (struct dealer_peer){0};
    for (int i = 0; i < DEALER_CLASSES; i++) {
        size_t bytes = strlen(endpoints[i]) + 1;
        if (bytes > BUS_ENDPOINT_BYTES)
            return reason_set(why, STATUS_INVALID, "--node",
                              "'%.40s...' has %zu characters; allowed: at most %d", endpoints[i],
                              bytes - 1, BUS_ENDPOINT_BYTES - 1);
        memcpy(added->endpoints[i], endpoints[i], bytes);
    }
    enum status status = dealer_peer_open(dealer, added, why);
    if (status != STATUS_OK)
        return status;
    *peer = dealer->peer_count++;
    return STATUS_OK;
}

void dealer_peer_info(const struct dealer *dealer, uint32_t peer, struct dealer_peer_info *out)
{
    assert(dealer && peer < dealer->peer_count && out);

    const struct dealer_peer *found = &dealer->peers[peer];
    *out = (struct dealer_peer_info){
        .up = found->up && !found->broken,
        .ping_us = found->ping_us,
        .load = found->load,
    };
    for (int i = 0; i < DEALER_CLASSES; i++)
        out->in_flight += found->links[i].in_flight.count + found->links[i].waiting.count;
    const struct dealer_link *link = &found->links[DEALER_QUERY];
    if (link->credits > link->in_flight.count)
        out->credits = link->credits - link->in_flight.count;
    memcpy(out->query_endpoint, found->endpoints[0], sizeof(out->query_endpoint));
}

// --- requests

enum status dealer_send(struct dealer *dealer, const struct dealer_request *request,
                        uint64_t *ticket)
{
    assert(dealer && request && request->done && ticket);
    assert(request->peer < dealer->peer_count);
    assert(request->class == DEALER_BULK || request->deadline_us != DEADLINE_NONE);

    struct dealer_peer *peer = &dealer->peers[request->peer];
    struct dealer_link *link = &peer->links[request->class];
    if (request->body.count > BODY_BYTES_MAX || request->rows.count > ROWS_BYTES_MAX)
        return STATUS_INVALID;
    if (!peer->up || peer->broken)
        return STATUS_UNAVAILABLE;
    if (clock_passed(request->deadline_us))
        return STATUS_DEADLINE;
    if (link->waiting.count >= DEALER_WAITING_MAX)
        return STATUS_EXHAUSTED;

    struct dealer_ask *ask = dealer_request_create(dealer, request);
    if (!ask)
        return STATUS_NO_MEMORY;
    dealer_request_append(&link->waiting, ask);
    *ticket = ask->ticket;
    dealer_peer_send_waiting(peer);
    return STATUS_OK;
}

void dealer_cancel(struct dealer *dealer, uint64_t ticket)
{
    assert(dealer);

    uint32_t peer = dealer_request_peer(ticket);
    if (peer >= dealer->peer_count)
        return;

    struct dealer_link *link = &dealer->peers[peer].links[dealer_request_class(ticket)];
    struct dealer_ask *ask = dealer_request_find(&link->in_flight, ticket);
    if (ask)
        dealer_peer_send_cancel(link, ticket);
    if (!ask)
        ask = dealer_request_find(&link->waiting, ticket);
    if (!ask)
        ask = dealer_request_find(&dealer->ended, ticket);
    if (!ask)
        return;
    dealer_request_remove(ask);
    dealer_request_destroy(ask);
}

// --- what arrives

// Ends a request that is in no list any more. Its context may be gone afterwards.
static void deliver(struct dealer_ask *ask, struct dealer_reply *reply)
{
    reply->peer = dealer_request_peer(ask->ticket);
    reply->ticket = ask->ticket;
    reply->took_us = clock_now_us() - ask->sent_us;
    ask->done(ask->context, reply);
    dealer_request_destroy(ask);
}

static void take_reply(struct dealer_link *link, const struct bus_message *message)
{
    struct dealer_ask *ask = dealer_request_find(&link->in_flight, message->envelope.request_id);
    if (!ask)
        return; // it was cancelled, or its deadline has passed
    dealer_request_remove(ask);

    // The node gave up at the deadline, and its word came before we looked at the clock.
    enum status status = message->envelope.status;
    if (status == STATUS_CANCELLED && clock_passed(ask->deadline_us))
        status = STATUS_DEADLINE;
    struct dealer_reply reply = {
        .status = status,
        .field = message->envelope.field,
        .text = message->envelope.text,
        .body = message->body,
        .rows = message->rows,
    };
    deliver(ask, &reply);
}

// A reply whose frames are bad ends its request all the same.
static void take_bad(uint32_t index, struct dealer_link *link, const struct bus_message *message,
                     enum status status, const struct reason *why)
{
    struct dealer_ask *ask = dealer_request_find(&link->in_flight, message->envelope.request_id);
    static const struct trace nobody;
    trace_line(ask ? &ask->trace : &nobody, LOG_WARN, "bad_reply",
               "peer=%" PRIu32 " status=\"%s\" field=%s reason=\"%s\"", index, status_text(status),
               why->field, why->text);
    if (!ask)
        return;
    dealer_request_remove(ask);

    struct dealer_reply reply = {
        .status = status == STATUS_NO_MEMORY ? STATUS_NO_MEMORY : STATUS_CORRUPT,
        .field = text_of(why->field),
        .text = text_of(why->text),
    };
    deliver(ask, &reply);
}

static void take_message(struct dealer *dealer, uint32_t index, enum dealer_class class,
                         const struct bus_message *message)
{
    struct dealer_peer *peer = &dealer->peers[index];
    if (!message->envelope.reply)
        return;

    if (message->envelope.credits > 0)
        dealer_peer_set_credits(&peer->links[class], message->envelope.credits);
    if (message->envelope.type == SHARD_HELLO)
        dealer_peer_take_hello(dealer, index, class, message);
    else if (message->envelope.type == SHARD_PING)
        dealer_peer_take_ping(peer, index, message);
    else
        take_reply(&peer->links[class], message);
}

static void read_link(struct dealer *dealer, uint32_t index, enum dealer_class class)
{
    struct dealer_peer *peer = &dealer->peers[index];
    struct dealer_link *link = &peer->links[class];
    for (int i = 0; i < BURST && link->socket; i++) {
        struct bus_message message;
        struct reason why = {{0}, {0}};
        enum status status = bus_message_receive(link->socket, false, &message, &why);
        if (status == STATUS_NOT_FOUND)
            return;

        peer->heard_us = clock_now_us();
        if (status != STATUS_OK) {
            take_bad(index, link, &message, status, &why);
            continue;
        }
        take_message(dealer, index, class, &message);
        bus_message_deinit(&message);
    }
}

static void run_ended(struct dealer *dealer)
{
    while (dealer->ended.first) {
        struct dealer_ask *ask = dealer->ended.first;
        dealer_request_remove(ask);
        struct dealer_reply reply = {
            .status = ask->status,
            .text = text_of(ask->status == STATUS_DEADLINE ? "the node did not answer in time"
                                                           : "the node is down"),
        };
        deliver(ask, &reply);
    }
}

// --- the loop

static int add_sockets(const struct dealer_peer *peer, zmq_pollitem_t *items)
{
    int count = 0;
    for (int i = 0; i < DEALER_CLASSES; i++) {
        const struct dealer_link *link = &peer->links[i];
        if (link->socket)
            items[count++] = (zmq_pollitem_t){link->socket, 0, ZMQ_POLLIN, 0};
        if (link->monitor)
            items[count++] = (zmq_pollitem_t){link->monitor, 0, ZMQ_POLLIN, 0};
    }
    return count;
}

static zmq_pollitem_t item_of(const struct pollfd *fd)
{
    int events = ((fd->events & POLLIN) != 0 ? ZMQ_POLLIN : 0) |
                 ((fd->events & POLLOUT) != 0 ? ZMQ_POLLOUT : 0);
    return (zmq_pollitem_t){NULL, fd->fd, (short)events, 0};
}

static short revents_of(const zmq_pollitem_t *item)
{
    int revents = ((item->revents & ZMQ_POLLIN) != 0 ? POLLIN : 0) |
                  ((item->revents & ZMQ_POLLOUT) != 0 ? POLLOUT : 0) |
                  ((item->revents & ZMQ_POLLERR) != 0 ? POLLERR : 0);
    return (short)revents;
}

static int64_t next_event(const struct dealer *dealer, int64_t until_us)
{
    if (dealer->ended.first)
        return 0;
    for (uint32_t i = 0; i < dealer->peer_count; i++)
        until_us = dealer_peer_next_event(dealer, &dealer->peers[i], until_us);
    return until_us;
}

enum status dealer_poll(struct dealer *dealer, struct pollfd *fds, size_t count, int64_t until_us)
{
    assert(dealer && count <= DEALER_EXTRA_FDS_MAX && (fds || count == 0));

    zmq_pollitem_t items[ITEMS_MAX];
    int item_count = 0;
    for (size_t i = 0; i < count; i++)
        items[item_count++] = item_of(&fds[i]);
    for (uint32_t i = 0; i < dealer->peer_count; i++)
        item_count += add_sockets(&dealer->peers[i], items + item_count);

    // Where a signal ends the waiting, the items keep the zeros that they were made with.
    int timeout = clock_poll_ms(next_event(dealer, until_us), POLL_MS_MAX);
    if (zmq_poll(items, item_count, timeout) < 0 && zmq_errno() != EINTR)
        return STATUS_INTERNAL;
    for (size_t i = 0; i < count; i++)
        fds[i].revents = revents_of(&items[i]);

    dealer->looked_us = clock_now_us();
    for (uint32_t i = 0; i < dealer->peer_count; i++) {
        dealer_peer_read_news(&dealer->peers[i]);
        read_link(dealer, i, DEALER_QUERY);
        read_link(dealer, i, DEALER_BULK);
    }
    for (uint32_t i = 0; i < dealer->peer_count; i++)
        dealer_peer_keep_time(dealer, i);
    run_ended(dealer);
    return STATUS_OK;
}
