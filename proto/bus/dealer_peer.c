// SPDX-License-Identifier: Apache-2.0
// A peer and its two connections.
//
//          HELLO answered on both                PING: 600 ms of silence
//   down ------------------------> up ----------------------------------> down
//     ^  greeted when a connection           |  a connection broke (monitor, or
//     |  is there, and four times a second   |  a message could not be sent)
//     +--------------------------------------+
//
// Going down closes both connections and makes new ones: a late answer to what has ended must not
// be taken for news. libzmq connects tcp:// again by itself until the node is back; an inproc://
// connection does not come back, nor does one whose key was refused, so these are made anew while
// nobody answers: the node may have learnt the key meanwhile.
//
// Silence is counted from the oldest PING without an answer, from the last message of any kind,
// and only until the moment up to which all that had arrived was read: a coordinator that was
// itself held up, by a callback too, does not take its nodes for dead, nor does one that is
// receiving a long reply. What is in flight lengthens it (dealer.h): node and line carry, encrypt
// and sum up those bytes before it is the next PING's turn.

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/bus/dealer_internal.h"

#define ARENA_BYTES 65536 // for a HELLO's or PING's reply
#define PROGRAM "reco"
#define RETRY_US 20000 // after a HELLO that could not be sent over inproc://

// --- connections

enum status dealer_peer_open(struct dealer *dealer, struct dealer_peer *peer, struct reason *why)
{
    for (int i = 0; i < DEALER_CLASSES; i++) {
        struct dealer_link *link = &peer->links[i];
        enum status status =
            bus_socket_connect(dealer->bus, peer->endpoints[i], &link->socket, &link->monitor, why);
        if (status != STATUS_OK) {
            dealer_peer_close(peer);
            return status;
        }
    }
    peer->opened_us = clock_now_us();
    peer->turned_away = false;
    return STATUS_OK;
}

void dealer_peer_close(struct dealer_peer *peer)
{
    for (int i = 0; i < DEALER_CLASSES; i++) {
        struct dealer_link *link = &peer->links[i];
        bus_socket_disconnect(&link->socket, &link->monitor);
        link->greeted = false;
        link->credits = 0;
    }
}

// A message of an envelope only: PING, CANCEL.
static enum status send_small(struct dealer_link *link, enum shard_type type, uint64_t request_id)
{
    struct bus_outgoing outgoing = {.envelope = {.type = type, .request_id = request_id}};
    return bus_message_send(link->socket, &outgoing);
}

void dealer_peer_send_cancel(struct dealer_link *link, uint64_t ticket)
{
    if (link->socket && send_small(link, SHARD_CANCEL, ticket) != STATUS_OK)
        log_debug("cancel_not_sent", "request=%" PRIu64, ticket);
}

void dealer_peer_read_news(struct dealer_peer *peer)
{
    for (int i = 0; i < DEALER_CLASSES; i++) {
        if (!peer->links[i].monitor)
            continue;

        struct bus_news news = bus_socket_news(peer->links[i].monitor);
        if (news.connected && !peer->up)
            peer->next_greet_us = 0;
        if (news.lost && peer->up)
            peer->broken = true;
        if (news.lost)
            peer->links[i].greeted = false;
        peer->turned_away = peer->turned_away || news.refused;
        if (news.refused && !peer->refused) {
            peer->refused = true;
            log_warn("peer_refuses_key", "endpoint=%s", peer->endpoints[i]);
        }
    }
}

// --- greeting

static enum status send_hello(struct dealer *dealer, struct dealer_link *link)
{
    struct shard_hello hello = {.program = text_of(PROGRAM)};
    struct buffer bytes = {0};
    zmq_msg_t body;
    enum status status = shard_encode_hello(&hello, &bytes);
    if (status == STATUS_OK && zmq_msg_init_size(&body, bytes.count) != 0)
        status = STATUS_NO_MEMORY;
    if (status == STATUS_OK) {
        memcpy(zmq_msg_data(&body), bytes.data, bytes.count);
        struct bus_outgoing outgoing = {
            .envelope = {.type = SHARD_HELLO, .request_id = dealer_request_number(dealer)},
            .body = &body,
        };
        status = bus_message_send(link->socket, &outgoing);
        (void)zmq_msg_close(&body);
    }
    buffer_deinit(&bytes);
    return status;
}

static void reopen(struct dealer *dealer, struct dealer_peer *peer)
{
    struct reason why = {{0}, {0}};
    dealer_peer_close(peer);
    if (dealer_peer_open(dealer, peer, &why) != STATUS_OK)
        log_error("peer_not_opened", "endpoint=%s reason=\"%s\"", peer->endpoints[0], why.text);
}

static void greet(struct dealer *dealer, struct dealer_peer *peer, int64_t now)
{
    bool inproc = bus_endpoint_is_inproc(peer->endpoints[0]);
    peer->next_greet_us = now + DEALER_PING_US;
    bool lasting = !inproc && !peer->turned_away;
    if (!peer->links[0].socket || (!lasting && now - peer->opened_us >= DEALER_SILENCE_US))
        reopen(dealer, peer);

    for (int i = 0; i < DEALER_CLASSES; i++) {
        struct dealer_link *link = &peer->links[i];
        if (!link->socket || link->greeted)
            continue;
        if (send_hello(dealer, link) == STATUS_OK || !inproc)
            continue;
        // The other end of an inproc:// connection is gone, and no monitor will tell.
        dealer_peer_close(peer);
        peer->next_greet_us = now + RETRY_US;
    }
}

static void end_request(struct dealer *dealer, struct dealer_ask *ask, enum status status)
{
    dealer_request_remove(ask);
    ask->status = status;
    dealer_request_append(&dealer->ended, ask);
}

static void end_all(struct dealer *dealer, struct dealer_list *list)
{
    while (list->first)
        end_request(dealer, list->first, STATUS_UNAVAILABLE);
}

static void go_down(struct dealer *dealer, uint32_t index, const char *reason)
{
    struct dealer_peer *peer = &dealer->peers[index];
    log_warn("peer_down", "peer=%" PRIu32 " endpoint=%s reason=\"%s\"", index, peer->endpoints[0],
             reason);
    peer->up = false;
    peer->broken = false;
    peer->ping_sent_us = 0;
    peer->next_greet_us = 0;
    for (int i = 0; i < DEALER_CLASSES; i++) {
        end_all(dealer, &peer->links[i].in_flight);
        end_all(dealer, &peer->links[i].waiting);
    }
    dealer_peer_close(peer);
    if (dealer->changed)
        dealer->changed(dealer->context, index, false);
}

void dealer_peer_set_credits(struct dealer_link *link, uint32_t credits)
{
    link->credits = credits < BUS_CREDITS_MAX ? credits : BUS_CREDITS_MAX;
}

void dealer_peer_take_hello(struct dealer *dealer, uint32_t index, enum dealer_class class,
                            const struct bus_message *message)
{
    struct dealer_peer *peer = &dealer->peers[index];
    struct shard_hello_reply hello = {0};
    struct reason why = {{0}, {0}};
    struct arena *arena = arena_create(ARENA_BYTES);
    enum status status = message->envelope.status;
    if (status == STATUS_OK)
        status = shard_decode_hello_reply(message->body, message->rows, arena, &hello, &why);
    arena_destroy(&arena);
    if (status != STATUS_OK || hello.credits == 0) {
        log_warn("bad_hello", "peer=%" PRIu32 " status=\"%s\" reason=\"%s\"", index,
                 status_text(status), why.text);
        return;
    }

    peer->links[class].greeted = true;
    dealer_peer_set_credits(&peer->links[class], hello.credits);
    if (peer->up || !peer->links[0].greeted || !peer->links[1].greeted)
        return;

    peer->up = true;
    peer->refused = false;
    peer->next_ping_us = 0;
    log_info("peer_up", "peer=%" PRIu32 " node=%" PRIu32 " endpoint=%s credits=%" PRIu32, index,
             hello.node, peer->endpoints[0], hello.credits);
    if (dealer->changed)
        dealer->changed(dealer->context, index, true);
}

void dealer_peer_take_ping(struct dealer_peer *peer, uint32_t index,
                           const struct bus_message *message)
{
    if (peer->ping_sent_us != 0)
        peer->ping_us = clock_now_us() - peer->ping_sent_us;
    peer->ping_sent_us = 0;

    struct shard_ping_reply load;
    struct reason why = {{0}, {0}};
    struct arena *arena = arena_create(ARENA_BYTES);
    enum status status = message->envelope.status;
    if (status == STATUS_OK)
        status = shard_decode_ping_reply(message->body, message->rows, arena, &load, &why);
    arena_destroy(&arena);
    if (status == STATUS_OK)
        peer->load = load;
    else
        log_warn("bad_ping", "peer=%" PRIu32 " status=\"%s\" reason=\"%s\"", index,
                 status_text(status), why.text);
}

// --- requests

static enum status send_now(struct dealer_link *link, struct dealer_ask *ask, int64_t left_us)
{
    char parent[TRACE_PARENT_BYTES + 1];
    struct bus_outgoing outgoing = {
        .envelope = {.type = ask->type,
                     .request_id = ask->ticket,
                     .deadline_us = left_us == DEADLINE_NONE ? 0 : (uint64_t)left_us,
                     .trace = text_of(ask->trace.id),
                     .traceparent = trace_parent(&ask->trace, parent)},
        .body = &ask->body,
        .rows = &ask->rows,
    };
    return bus_message_send(link->socket, &outgoing);
}

static void send_waiting_of(struct dealer_peer *peer, struct dealer_link *link)
{
    struct dealer_ask *next = NULL;
    for (struct dealer_ask *ask = link->waiting.first; ask && link->in_flight.count < link->credits;
         ask = next) {
        next = ask->next;
        int64_t left = clock_left_us(ask->deadline_us);
        if (left == 0)
            continue; // too late: dealer_peer_keep_time() ends it
        if (send_now(link, ask, left) != STATUS_OK) {
            peer->broken = true;
            return;
        }
        dealer_request_remove(ask);
        dealer_request_append(&link->in_flight, ask);
    }
}

void dealer_peer_send_waiting(struct dealer_peer *peer)
{
    for (int i = 0; i < DEALER_CLASSES && peer->up && !peer->broken; i++)
        send_waiting_of(peer, &peer->links[i]);
}

// --- time

static void expire(struct dealer *dealer, struct dealer_link *link, struct dealer_list *list,
                   int64_t now)
{
    struct dealer_ask *next = NULL;
    for (struct dealer_ask *ask = list->first; ask; ask = next) {
        next = ask->next;
        if (ask->deadline_us > now)
            continue;
        if (list == &link->in_flight)
            dealer_peer_send_cancel(link, ask->ticket);
        end_request(dealer, ask, STATUS_DEADLINE);
    }
}

// The time that the bytes in flight may take. Small requests, queries among them, add next to none.
static int64_t granted_us(const struct dealer_peer *peer)
{
    uint64_t bytes = 0;
    for (int i = 0; i < DEALER_CLASSES; i++)
        for (const struct dealer_ask *ask = peer->links[i].in_flight.first; ask; ask = ask->next)
            bytes += ask->bytes;
    if (bytes > DEALER_GRANTED_BYTES)
        bytes = DEALER_GRANTED_BYTES;
    return (int64_t)(bytes * 1000000 / DEALER_BYTES_PER_SECOND);
}

// When the silence that a PING measures becomes too long.
static int64_t silent_at(const struct dealer *dealer, const struct dealer_peer *peer)
{
    if (peer->ping_sent_us == 0)
        return DEADLINE_NONE;
    int64_t since = peer->ping_sent_us > peer->heard_us ? peer->ping_sent_us : peer->heard_us;
    return since + dealer->silence_us + granted_us(peer);
}

void dealer_peer_keep_time(struct dealer *dealer, uint32_t index)
{
    struct dealer_peer *peer = &dealer->peers[index];
    int64_t now = clock_now_us();

    for (int i = 0; i < DEALER_CLASSES; i++) {
        expire(dealer, &peer->links[i], &peer->links[i].in_flight, now);
        expire(dealer, &peer->links[i], &peer->links[i].waiting, now);
    }
    if (peer->up && peer->broken)
        go_down(dealer, index, "the connection broke");
    else if (peer->up && dealer->looked_us >= silent_at(dealer, peer))
        go_down(dealer, index, "it does not answer");

    if (!peer->up && now >= peer->next_greet_us)
        greet(dealer, peer, now);
    if (peer->up && now >= peer->next_ping_us) {
        peer->next_ping_us = now + DEALER_PING_US;
        if (send_small(&peer->links[0], SHARD_PING, dealer_request_number(dealer)) != STATUS_OK)
            peer->broken = true;
        else if (peer->ping_sent_us == 0)
            peer->ping_sent_us = now;
    }
    dealer_peer_send_waiting(peer);
}

static int64_t first_deadline(const struct dealer_list *list, int64_t until_us)
{
    for (const struct dealer_ask *ask = list->first; ask; ask = ask->next)
        if (ask->deadline_us < until_us)
            until_us = ask->deadline_us;
    return until_us;
}

int64_t dealer_peer_next_event(const struct dealer *dealer, const struct dealer_peer *peer,
                               int64_t until_us)
{
    if (peer->broken)
        return 0;

    const int64_t timers[] = {
        peer->up ? peer->next_ping_us : peer->next_greet_us,
        peer->up ? silent_at(dealer, peer) : DEADLINE_NONE,
    };
    for (int i = 0; i < 2; i++)
        until_us = timers[i] < until_us ? timers[i] : until_us;
    for (int i = 0; i < DEALER_CLASSES; i++) {
        until_us = first_deadline(&peer->links[i].in_flight, until_us);
        until_us = first_deadline(&peer->links[i].waiting, until_us);
    }
    return until_us;
}
