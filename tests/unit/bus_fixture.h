// SPDX-License-Identifier: Apache-2.0
// bus_fixture.h - what the bus's tests share: a node that does as its requests say, keys, and a
// caller that remembers how its requests ended.
//
// The node answers by the request's type: SEARCH and WRITE give body and rows back; FETCH and BULK
// are held for the test to answer; DELETE fails; STATS gives a reply that is too large.
//
// Thread-safety: a caller belongs to the test's thread; a node is safe. Only the test's thread may
// use Criterion's assertions: each talks to the runner, which hangs when two talk at once. All
// that runs on a node's threads, or in its process, uses fixture_check().

#ifndef RECO_TESTS_UNIT_BUS_FIXTURE_H
#define RECO_TESTS_UNIT_BUS_FIXTURE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/clock.h"
#include "proto/base/mem.h"
#include "proto/base/queue.h"
#include "proto/bus/bus.h"
#include "proto/bus/dealer.h"
#include "proto/bus/router.h"
#include "tests/support/patience.h"

#define FIXTURE_WAIT_US 20000000 // for what must happen; only a failing test waits so long
#define FIXTURE_BODY_BYTES 64    // of a reply's body that is remembered

static inline void fixture_check(bool right, const char *what)
{
    if (right)
        return;
    (void)fprintf(stderr, "bus_fixture: %s\n", what);
    abort();
}

// --- keys

static inline void fixture_keys(struct bus_keys *out)
{
    char directory[] = "/tmp/reco-bus-XXXXXX";
    const char *const names[] = {"node.public", "node.secret", "coordinator.public",
                                 "coordinator.secret"};
    struct reason why = {{0}, {0}};
    cr_assert(mkdtemp(directory) != NULL);
    enum status status = bus_keys_load(directory, true, out, &why);
    for (size_t i = 0; i < 4; i++) {
        char path[128];
        (void)snprintf(path, sizeof(path), "%s/%s", directory, names[i]);
        (void)unlink(path);
    }
    (void)rmdir(directory);
    cr_assert(eq(int, status, STATUS_OK), "%s", why.text);
}

// --- a node

struct fixture_node {
    struct router *router;
    struct queue *held; // requests for the test to answer
    struct shard_ping_reply load;
};

static inline void fixture_echo(struct router_request *request)
{
    struct buffer body = {0};
    void *rows = NULL;
    fixture_check(buffer_append(&body, request->body.data, request->body.count) == STATUS_OK,
                  "no memory for a reply");
    if (request->rows.count > 0) {
        rows = mem_alloc(request->rows.count);
        memcpy(rows, request->rows.data, request->rows.count);
    }
    struct router_answer answer = {.body = &body, .rows = rows, .rows_bytes = request->rows.count};
    router_reply(&request, &answer);
    fixture_check(!body.data && !request, "the reply was not taken over");
}

static inline void fixture_reply(struct router_request *request, enum status status,
                                 const char *text)
{
    struct reason why = {{0}, {0}};
    (void)reason_set(&why, status, "field", "%s", text);
    router_reply(&request, &(struct router_answer){.status = status, .why = &why});
}

static inline void fixture_handle(void *context, struct router_request *request)
{
    struct fixture_node *node = context;
    fixture_check((uintptr_t)request->rows.data % 64 == 0, "the rows are not aligned");
    if (request->type == SHARD_SEARCH || request->type == SHARD_WRITE) {
        fixture_echo(request);
    } else if (request->type == SHARD_FETCH || request->type == SHARD_BULK) {
        fixture_check(queue_push(node->held, request) == STATUS_OK, "too many requests are held");
    } else if (request->type == SHARD_STATS) {
        size_t bytes = (size_t)ROWS_BYTES_MAX + 1;
        router_reply(&request,
                     &(struct router_answer){.rows = mem_alloc(bytes), .rows_bytes = bytes});
    } else {
        fixture_reply(request, STATUS_NOT_FOUND, "no such thing");
    }
}

static inline void fixture_load(void *context, struct shard_ping_reply *load)
{
    *load = ((struct fixture_node *)context)->load;
}

static inline void fixture_start(struct fixture_node *node, struct bus *bus, const char *query,
                                 const char *bulk, uint32_t credits)
{
    struct reason why = {{0}, {0}};
    *node = (struct fixture_node){
        .held = queue_create(4096, false),
        .load = {.queue_depth = 1, .records = 2, .bytes = 3, .read_only = true},
    };
    struct router_params params = {bus,     query,          bulk,         7,
                                   credits, fixture_handle, fixture_load, node};
    // A port that was given back may be another test's for a while.
    const int64_t limit_us = clock_deadline_in_us(FIXTURE_WAIT_US);
    enum status status = router_start(&params, &node->router, &why);
    while (status == STATUS_UNAVAILABLE && patience_lasts(limit_us))
        status = router_start(&params, &node->router, &why);
    fixture_check(status == STATUS_OK, why.text);
}

static inline struct router_request *fixture_take_held(struct fixture_node *node)
{
    struct router_request *request = queue_pop(node->held, clock_deadline_in_us(FIXTURE_WAIT_US));
    cr_assert(request != NULL, "the node did not get the request");
    return request;
}

// No request may be held any more.
static inline void fixture_stop(struct fixture_node *node)
{
    router_stop(&node->router);
    cr_expect(node->router == NULL);
    cr_expect(queue_try_pop(node->held) == NULL);
    queue_destroy(&node->held);
}

// --- a caller

struct fixture_call {
    uint64_t ticket;
    uint32_t ended; // times that `done` ran
    enum status status;
    char field[REASON_FIELD_BYTES];
    char text[REASON_TEXT_BYTES];
    uint8_t body[FIXTURE_BODY_BYTES];
    size_t body_bytes;
    size_t rows_bytes;
    bool rows_aligned;
    uint32_t rows_sum;
    int64_t took_us;
    uint32_t order; // 1 for the first that ended
};

struct fixture_caller {
    struct dealer *dealer;
    bool up[DEALER_PEERS_MAX];
    uint32_t changes;
    uint32_t ended;
};

// Only one at a time, so that `done` needs no context but the call.
static struct fixture_caller *fixture_the_caller;

static inline uint32_t fixture_sum(struct bytes bytes)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < bytes.count; i++)
        sum = sum * 31 + bytes.data[i];
    return sum;
}

static inline void fixture_copy_text(char *target, size_t room, struct text text)
{
    size_t bytes = text.bytes < room - 1 ? text.bytes : room - 1;
    if (bytes > 0)
        memcpy(target, text.data, bytes);
    target[bytes] = '\0';
}

static inline void fixture_done(void *context, const struct dealer_reply *reply)
{
    struct fixture_call *call = context;
    cr_expect(eq(u64, reply->ticket, call->ticket));
    call->ended++;
    call->order = ++fixture_the_caller->ended;
    call->status = reply->status;
    fixture_copy_text(call->field, sizeof(call->field), reply->field);
    fixture_copy_text(call->text, sizeof(call->text), reply->text);
    call->body_bytes = reply->body.count;
    if (reply->body.count > 0)
        memcpy(call->body, reply->body.data,
               reply->body.count < FIXTURE_BODY_BYTES ? reply->body.count : FIXTURE_BODY_BYTES);
    call->rows_bytes = reply->rows.count;
    call->rows_aligned = (uintptr_t)reply->rows.data % 64 == 0;
    call->rows_sum = fixture_sum(reply->rows);
    call->took_us = reply->took_us;
}

static inline void fixture_changed(void *context, uint32_t peer, bool up)
{
    struct fixture_caller *caller = context;
    cr_expect(caller->up[peer] != up);
    caller->up[peer] = up;
    caller->changes++;
}

// Polls until the condition holds; it is looked at after each event.
#define FIXTURE_POLL_UNTIL(caller, condition, us)                                                  \
    do {                                                                                           \
        int64_t until_us = clock_deadline_in_us(us);                                               \
        bool met = (condition);                                                                    \
        while (!met && !clock_passed(until_us)) {                                                  \
            cr_assert(eq(int, dealer_poll((caller)->dealer, NULL, 0, until_us), STATUS_OK));       \
            met = (condition);                                                                     \
        }                                                                                          \
        cr_assert(met, "%s", #condition);                                                          \
    } while (0)

static inline void fixture_open_caller(struct fixture_caller *caller, struct bus *bus)
{
    struct reason why = {{0}, {0}};
    *caller = (struct fixture_caller){0};
    fixture_the_caller = caller;
    cr_assert(
        eq(int, dealer_create(bus, fixture_changed, caller, &caller->dealer, &why), STATUS_OK));
}

static inline uint32_t fixture_add_peer(struct fixture_caller *caller, const char *query,
                                        const char *bulk)
{
    struct reason why = {{0}, {0}};
    uint32_t peer = 99;
    cr_assert(eq(int, dealer_add_peer(caller->dealer, query, bulk, &peer, &why), STATUS_OK),
              "%s: %s", why.field, why.text);
    return peer;
}

static inline void fixture_connect(struct fixture_caller *caller, struct bus *bus,
                                   const char *query, const char *bulk)
{
    fixture_open_caller(caller, bus);
    uint32_t peer = fixture_add_peer(caller, query, bulk);
    FIXTURE_POLL_UNTIL(caller, caller->up[peer], FIXTURE_WAIT_US);
}

static inline struct dealer_request fixture_request(enum shard_type type, struct fixture_call *call)
{
    return (struct dealer_request){
        .class = type == SHARD_BULK || type == SHARD_WRITE ? DEALER_BULK : DEALER_QUERY,
        .type = type,
        .deadline_us = clock_deadline_in_us(FIXTURE_WAIT_US),
        .done = fixture_done,
        .context = call,
    };
}

static inline enum status fixture_send(struct fixture_caller *caller,
                                       const struct dealer_request *request)
{
    struct fixture_call *call = request->context;
    *call = (struct fixture_call){0};
    return dealer_send(caller->dealer, request, &call->ticket);
}

static inline void fixture_send_type(struct fixture_caller *caller, enum shard_type type,
                                     struct fixture_call *call)
{
    struct dealer_request request = fixture_request(type, call);
    cr_assert(eq(int, fixture_send(caller, &request), STATUS_OK));
}

// Whether the peer answers a request.
static inline void fixture_expect_answer(struct fixture_caller *caller, uint32_t peer)
{
    struct fixture_call call;
    struct dealer_request request = fixture_request(SHARD_SEARCH, &call);
    request.peer = peer;
    request.body = (struct bytes){(const uint8_t *)"alive", 5};
    cr_assert(eq(int, fixture_send(caller, &request), STATUS_OK));
    FIXTURE_POLL_UNTIL(caller, call.ended == 1, FIXTURE_WAIT_US);
    cr_expect(eq(int, call.status, STATUS_OK));
    cr_expect(eq(sz, call.body_bytes, 5));
}

#endif
