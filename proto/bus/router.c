// SPDX-License-Identifier: Apache-2.0
// The thread waits for its two sockets and for the queue of replies. A request in flight stands in
// one list, so that CANCEL finds it by its asker and number, and the credits of an asker can be
// counted; there are at most FLIGHT_MAX of them, and the queue of replies has room for all, so that
// a reply never waits. A request that nobody waits for any more holds no credit: its asker has
// given the credit to another one already.

#include "proto/bus/router.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/base/queue.h"
#include "proto/base/thread.h"
#include "proto/bus/bus_socket.h"

#define FLIGHT_MAX 4096 // requests of all askers
#define BURST 64        // messages taken from one socket before the other has its turn
#define PROGRAM "reco"
#define HELLO_ARENA_BYTES 65536
#define LAST_REPLIES_MS 200 // for what was sent just before the sockets are closed

_Static_assert(ROUTER_CREDITS_MAX <= BUS_CREDITS_MAX, "queues may fill up");

struct flight {
    struct router_request request; // first: the handler's pointer is the flight's
    struct router *router;
    struct flight *previous;
    struct flight *next;
    struct bus_message message;
    atomic_bool cancelled;

    enum status status; // of the reply
    struct reason why;
    struct buffer body;
    void *rows;
    size_t rows_bytes;
};

struct router {
    struct router_params params;
    void *sockets[2]; // query, bulk
    char endpoints[2][BUS_ENDPOINT_BYTES];
    struct queue *replies; // of struct flight
    atomic_bool stopping;
    struct flight *first; // in flight
    size_t flight_count;
    struct flight *spare; // for the next message; NULL: none
    struct thread *thread;
};

static void free_flight(struct flight *flight)
{
    bus_message_deinit(&flight->message);
    buffer_deinit(&flight->body);
    mem_free(flight->rows);
    mem_free(flight);
}

static void link_flight(struct router *router, struct flight *flight)
{
    flight->next = router->first;
    flight->previous = NULL;
    if (router->first)
        router->first->previous = flight;
    router->first = flight;
    router->flight_count++;
}

static void unlink_flight(struct router *router, struct flight *flight)
{
    if (flight->previous)
        flight->previous->next = flight->next;
    else
        router->first = flight->next;
    if (flight->next)
        flight->next->previous = flight->previous;
    router->flight_count--;
}

static bool same_asker(const struct flight *flight, const struct bus_message *message, bool bulk)
{
    return flight->request.bulk == bulk &&
           flight->message.identity_bytes == message->identity_bytes &&
           memcmp(flight->message.identity, message->identity, message->identity_bytes) == 0;
}

static struct bus_outgoing reply_to(const struct bus_message *message, enum status status,
                                    const struct reason *why, uint32_t credits)
{
    // What a newer version asked for has no name here.
    bool known = message->envelope.type <= SHARD_BULK_COMMIT;
    struct bus_outgoing outgoing = {
        .identity = message->identity,
        .identity_bytes = message->identity_bytes,
        .envelope = {.type = known ? message->envelope.type : SHARD_NOTHING,
                     .reply = true,
                     .request_id = message->envelope.request_id,
                     .status = status,
                     .credits = credits},
    };
    if (status != STATUS_OK && why) {
        outgoing.envelope.field = text_of(why->field);
        outgoing.envelope.text = text_of(why->text);
    }
    return outgoing;
}

static void send_reply(struct router *router, bool bulk, struct bus_outgoing *outgoing)
{
    if (bus_message_send(router->sockets[bulk], outgoing) != STATUS_OK)
        log_debug("reply_dropped", "node=%u request=%llu reason=\"the asker is gone\"",
                  router->params.node, (unsigned long long)outgoing->envelope.request_id);
}

static void refuse(struct router *router, bool bulk, const struct bus_message *message,
                   enum status status, const struct reason *why)
{
    struct bus_outgoing outgoing = reply_to(message, status, why, router->params.credits);
    send_reply(router, bulk, &outgoing);
}

static void answer_small(struct router *router, bool bulk, const struct bus_message *message,
                         const struct buffer *body)
{
    struct bus_outgoing outgoing = reply_to(message, STATUS_OK, NULL, router->params.credits);
    zmq_msg_t frame;
    if (zmq_msg_init_size(&frame, body->count) != 0)
        return;
    if (body->count > 0)
        memcpy(zmq_msg_data(&frame), body->data, body->count);
    outgoing.body = &frame;
    send_reply(router, bulk, &outgoing);
    (void)zmq_msg_close(&frame);
}

static void answer_hello(struct router *router, bool bulk, const struct bus_message *message)
{
    struct shard_hello asker;
    struct reason why = {{0}, {0}};
    struct arena *arena = arena_create(HELLO_ARENA_BYTES);
    enum status status = shard_decode_hello(message->body, message->rows, arena, &asker, &why);
    if (status == STATUS_OK)
        log_debug("greeted", "node=%u bulk=%d program=%.*s", router->params.node, bulk,
                  (int)asker.program.bytes, asker.program.data);
    arena_destroy(&arena);
    if (status != STATUS_OK) {
        refuse(router, bulk, message, status, &why);
        return;
    }

    struct shard_hello_reply hello = {.node = router->params.node,
                                      .credits = router->params.credits,
                                      .program = text_of(PROGRAM)};
    struct buffer body = {0};
    if (shard_encode_hello_reply(&hello, &body) == STATUS_OK)
        answer_small(router, bulk, message, &body);
    buffer_deinit(&body);
}

static void answer_ping(struct router *router, bool bulk, const struct bus_message *message)
{
    struct shard_ping_reply load = {0};
    struct buffer body = {0};
    if (router->params.load)
        router->params.load(router->params.context, &load);
    if (shard_encode_ping_reply(&load, &body) == STATUS_OK)
        answer_small(router, bulk, message, &body);
    buffer_deinit(&body);
}

static void cancel(struct router *router, bool bulk, const struct bus_message *message)
{
    for (struct flight *flight = router->first; flight; flight = flight->next) {
        if (flight->message.envelope.request_id == message->envelope.request_id &&
            same_asker(flight, message, bulk))
            atomic_store(&flight->cancelled, true);
    }
}

static enum status check_credits(const struct router *router, bool bulk,
                                 const struct bus_message *message, struct reason *why)
{
    uint32_t taken = 0;
    for (const struct flight *flight = router->first; flight; flight = flight->next) {
        if (!same_asker(flight, message, bulk))
            continue;
        if (flight->message.envelope.request_id == message->envelope.request_id)
            return reason_set(why, STATUS_INVALID, "request_id", "%llu is in flight already",
                              (unsigned long long)message->envelope.request_id);
        taken += !router_is_cancelled(&flight->request);
    }
    if (taken >= router->params.credits || router->flight_count >= FLIGHT_MAX)
        return reason_set(why, STATUS_EXHAUSTED, NULL,
                          "%u requests are in flight, the node takes %u at once", taken,
                          router->params.credits);
    return STATUS_OK;
}

// Hands a request to the handler, which owns it from then on. False when it is refused.
static bool hand_on(struct router *router, bool bulk, struct flight *flight)
{
    struct reason why = {0};
    const struct shard_envelope *envelope = &flight->message.envelope;
    enum status status = check_credits(router, bulk, &flight->message, &why);
    if (status != STATUS_OK) {
        refuse(router, bulk, &flight->message, status, &why);
        return false;
    }

    int64_t now = clock_now_us();
    uint64_t left = envelope->deadline_us;
    bool endless =
        left == 0 || left > (uint64_t)INT64_MAX / 4; // what does not fit is as good as none
    flight->request = (struct router_request){
        .type = envelope->type,
        .bulk = bulk,
        .received_us = now,
        .deadline_us = endless ? DEADLINE_NONE : now + (int64_t)left,
        .body = flight->message.body,
        .rows = flight->message.rows,
    };
    (void)trace_set_id(&flight->request.trace, envelope->trace);
    (void)trace_begin(&flight->request.trace, envelope->traceparent);
    if (clock_passed(flight->request.deadline_us)) {
        refuse(router, bulk, &flight->message, STATUS_DEADLINE, NULL);
        return false;
    }
    link_flight(router, flight);
    router->params.handle(router->params.context, &flight->request);
    return true;
}

// Whether the handler owns the flight afterwards.
static bool take_request(struct router *router, bool bulk, struct flight *flight)
{
    struct bus_message *message = &flight->message;
    static const struct reason nothing = {.field = "type", .text = "this is no request"};

    if (message->envelope.reply)
        return false;
    switch ((int)message->envelope.type) {
    case SHARD_HELLO:
        answer_hello(router, bulk, message);
        return false;
    case SHARD_PING:
        answer_ping(router, bulk, message);
        return false;
    case SHARD_CANCEL:
        cancel(router, bulk, message);
        return false;
    case SHARD_NOTHING:
        refuse(router, bulk, message, STATUS_UNSUPPORTED, &nothing);
        return false;
    default:
        return hand_on(router, bulk, flight);
    }
}

static void refuse_bad(struct router *router, bool bulk, const struct bus_message *message,
                       enum status status, const struct reason *why)
{
    log_warn("bad_message", "node=%u status=\"%s\" field=%s reason=\"%s\"", router->params.node,
             status_text(status), why->field, why->text);
    if (message->envelope.request_id != 0)
        refuse(router, bulk, message, status, why);
}

// Takes one message. A flight is made before its message is received: small frames live inside it
// and must not move. False when there is none.
static bool read_message(struct router *router, bool bulk)
{
    struct flight *flight = router->spare ? router->spare : mem_alloc(sizeof(*flight));
    struct reason why = {{0}, {0}};
    router->spare = NULL;
    *flight = (struct flight){.router = router};
    atomic_init(&flight->cancelled, false);

    enum status status = bus_message_receive(router->sockets[bulk], true, &flight->message, &why);
    if (status == STATUS_OK) {
        if (!take_request(router, bulk, flight))
            free_flight(flight);
        return true;
    }
    if (status != STATUS_NOT_FOUND)
        refuse_bad(router, bulk, &flight->message, status, &why);
    router->spare = flight;
    return status != STATUS_NOT_FOUND;
}

static void read_socket(struct router *router, bool bulk)
{
    for (int i = 0; i < BURST; i++)
        if (!read_message(router, bulk))
            return;
}

static void free_frame(void *data, void *hint)
{
    (void)hint;
    mem_free(data);
}

// Makes a frame that owns `data`. Afterwards *data is NULL.
static void frame_of(zmq_msg_t *frame, void **data, size_t bytes)
{
    if (*data && bytes > 0 && zmq_msg_init_data(frame, *data, bytes, free_frame, NULL) == 0) {
        *data = NULL;
        return;
    }
    (void)zmq_msg_init(frame);
}

// What does not fit into frames cannot be sent; its asker must hear of it all the same.
static void check_size(struct flight *flight)
{
    if (flight->body.count <= BODY_BYTES_MAX && flight->rows_bytes <= ROWS_BYTES_MAX)
        return;

    flight->status = reason_set(
        &flight->why, STATUS_INTERNAL, NULL, "a reply of %zu + %zu bytes; allowed: at most %u + %u",
        flight->body.count, flight->rows_bytes, BODY_BYTES_MAX, ROWS_BYTES_MAX);
    trace_line(&flight->request.trace, LOG_ERROR, "reply_too_large", "reason=\"%s\"",
               flight->why.text);
    buffer_deinit(&flight->body);
    mem_free(flight->rows);
    flight->rows = NULL;
    flight->rows_bytes = 0;
}

static void send_answer(struct router *router, struct flight *flight)
{
    check_size(flight);
    struct bus_outgoing outgoing =
        reply_to(&flight->message, flight->status, &flight->why, router->params.credits);
    zmq_msg_t body;
    zmq_msg_t rows;
    void *body_data = flight->body.data;
    frame_of(&body, &body_data, flight->body.count);
    flight->body = (struct buffer){.data = body_data};
    frame_of(&rows, &flight->rows, flight->rows_bytes);
    outgoing.body = &body;
    outgoing.rows = &rows;
    send_reply(router, flight->request.bulk, &outgoing);
    (void)zmq_msg_close(&body);
    (void)zmq_msg_close(&rows);
    unlink_flight(router, flight);
    free_flight(flight);
}

// True when the word that it stops was among them. Only that ends the thread: were `stopping`
// looked at instead, the thread could end, and its queue be destroyed, between the two of
// router_stop().
static bool send_answers(struct router *router)
{
    bool told = false;
    void *item = NULL;
    while ((item = queue_try_pop(router->replies)) != NULL) {
        if (item == router)
            told = true;
        else
            send_answer(router, item);
    }
    return told;
}

static void router_body(struct thread *self, void *context)
{
    struct router *router = context;

    thread_ready(self, STATUS_OK);
    bool stopping = false;
    while (!stopping || router->flight_count > 0) {
        zmq_pollitem_t items[] = {
            {NULL, queue_fd(router->replies), ZMQ_POLLIN, 0},
            {router->sockets[0], 0, ZMQ_POLLIN, 0},
            {router->sockets[1], 0, ZMQ_POLLIN, 0},
        };
        // While stopping only replies count.
        (void)zmq_poll(items, stopping ? 1 : 3, -1);
        stopping = send_answers(router) || stopping;
        for (int bulk = 0; bulk < 2 && !stopping; bulk++) {
            if (items[bulk + 1].revents & ZMQ_POLLIN)
                read_socket(router, bulk);
        }
    }
}

static void destroy(struct router *router)
{
    const int linger = LAST_REPLIES_MS;
    for (int i = 0; i < 2; i++) {
        if (router->sockets[i])
            (void)zmq_setsockopt(router->sockets[i], ZMQ_LINGER, &linger, sizeof(linger));
        bus_socket_close(&router->sockets[i]);
    }
    queue_destroy(&router->replies);
    mem_free(router->spare);
    mem_free(router);
}

enum status router_start(const struct router_params *params, struct router **out,
                         struct reason *why)
{
    assert(params && params->bus && params->handle && out);

    if (params->credits > ROUTER_CREDITS_MAX)
        return reason_set(why, STATUS_INVALID, "credits", "%u; allowed: 1..%d", params->credits,
                          ROUTER_CREDITS_MAX);

    struct router *router = mem_alloc(sizeof(*router));
    router->params = *params;
    if (router->params.credits == 0)
        router->params.credits = ROUTER_CREDITS_DEFAULT;
    atomic_init(&router->stopping, false);
    router->replies = queue_create(FLIGHT_MAX + 1, true); // and the word that it stops
    enum status status = STATUS_OK;
    if (!router->replies)
        status = reason_set(why, STATUS_EXHAUSTED, NULL, "no file descriptor is left");
    if (status == STATUS_OK)
        status = bus_socket_bind(params->bus, params->query_endpoint, "--query",
                                 &router->sockets[0], router->endpoints[0], why);
    if (status == STATUS_OK)
        status = bus_socket_bind(params->bus, params->bulk_endpoint, "--bulk", &router->sockets[1],
                                 router->endpoints[1], why);
    if (status == STATUS_OK) {
        status = thread_start("reco-router", router_body, router, &router->thread);
        if (status != STATUS_OK)
            (void)reason_set(why, status, NULL, "the router's thread cannot be started");
    }
    if (status != STATUS_OK) {
        destroy(router);
        return status;
    }
    *out = router;
    return STATUS_OK;
}

void router_stop(struct router **router)
{
    assert(router);

    if (!*router)
        return;
    atomic_store(&(*router)->stopping, true);
    enum status status = queue_push((*router)->replies, *router);
    assert(status == STATUS_OK); // it has room for every flight and for this
    (void)status;
    thread_join(&(*router)->thread);
    destroy(*router);
    *router = NULL;
}

const char *router_query_endpoint(const struct router *router)
{
    return router->endpoints[0];
}

const char *router_bulk_endpoint(const struct router *router)
{
    return router->endpoints[1];
}

bool router_is_cancelled(const struct router_request *request)
{
    const struct flight *flight = (const struct flight *)request;
    return atomic_load(&flight->cancelled) || atomic_load(&flight->router->stopping) ||
           clock_left_us(request->deadline_us) == 0;
}

// Each request is told once, here.
static void log_end(const struct router_request *request, const struct router *router,
                    const struct router_answer *answer)
{
    const int64_t took_us = clock_now_us() - request->received_us;
    const enum log_level level = trace_level(answer->status, took_us);
    if (!log_takes(level))
        return;
    char quoted[LOG_QUOTE_BYTES];
    trace_line(&request->trace, level, "request", "node=%u type=%s status=\"%s\" ms=%.3f why=%s",
               router->params.node, shard_type_name(request->type), status_text(answer->status),
               (double)took_us / 1000, log_quote(answer->why ? answer->why->text : "", quoted));
}

void router_reply(struct router_request **request, const struct router_answer *answer)
{
    assert(request && *request && answer);

    struct flight *flight = (struct flight *)*request;
    log_end(*request, flight->router, answer);
    *request = NULL;
    flight->status = answer->status;
    if (answer->why)
        flight->why = *answer->why;
    if (answer->body) {
        flight->body = *answer->body;
        *answer->body = (struct buffer){0};
    }
    flight->rows = answer->rows;
    flight->rows_bytes = answer->rows_bytes;
    enum status status = queue_push(flight->router->replies, flight);
    assert(status == STATUS_OK); // it has room for every flight
    (void)status;
}
