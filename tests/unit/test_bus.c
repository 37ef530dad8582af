// SPDX-License-Identifier: Apache-2.0
// Goal: a request ends exactly once: with its reply, at its deadline, when its node is gone, or
// never when it was cancelled; and the credits are kept on both sides.
//
// Method: a dealer and a router in one process, over inproc:// without keys and over tcp://
// with them. The router's handler does as the request's type says (bus_fixture.h).

#include <sys/eventfd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <criterion/parameterized.h>

#include "proto/base/thread.h"
#include "tests/unit/bus_fixture.h"

struct house { // a bus with a node and a caller
    struct bus_keys keys;
    struct bus *bus;
    struct fixture_node node;
    struct fixture_caller caller;
};

static void open_house(struct house *house, bool tcp, uint32_t credits)
{
    struct reason why = {{0}, {0}};
    *house = (struct house){0};
    if (tcp)
        fixture_keys(&house->keys);
    cr_assert(eq(int, bus_open(tcp ? &house->keys : NULL, &house->bus, &why), STATUS_OK), "%s",
              why.text);
    const char *query = tcp ? "tcp://127.0.0.1:0" : "inproc://query";
    const char *bulk = tcp ? "tcp://127.0.0.1:0" : "inproc://bulk";
    fixture_start(&house->node, house->bus, query, bulk, credits);
    fixture_connect(&house->caller, house->bus, router_query_endpoint(house->node.router),
                    router_bulk_endpoint(house->node.router));
    dealer_trust_threads(house->caller.dealer); // given up nodes are test_bus_failure.c's
}

static void close_house(struct house *house)
{
    dealer_destroy(&house->caller.dealer);
    cr_expect(house->caller.dealer == NULL);
    fixture_stop(&house->node);
    bus_close(&house->bus);
    cr_expect(house->bus == NULL);
}

static bool transports[] = {false, true};

#define ON_EACH_TRANSPORT(name)                                                                    \
    ParameterizedTestParameters(bus, name)                                                         \
    {                                                                                              \
        return cr_make_param_array(bool, transports, 2);                                           \
    }                                                                                              \
    ParameterizedTest(const bool *tcp, bus, name)

ON_EACH_TRANSPORT(a_reply_brings_body_and_rows_back)
{
    struct house house;
    struct fixture_call call;
    uint8_t rows[1000];
    for (size_t i = 0; i < sizeof(rows); i++)
        rows[i] = (uint8_t)(i * 7);
    open_house(&house, *tcp, 0);
    const enum shard_type types[] = {SHARD_SEARCH, SHARD_WRITE};
    for (size_t i = 0; i < 2; i++) {
        struct dealer_request request = fixture_request(types[i], &call);
        request.body = (struct bytes){(const uint8_t *)"question", 8};
        request.rows = (struct bytes){rows, sizeof(rows)};
        cr_assert(eq(int, fixture_send(&house.caller, &request), STATUS_OK));
        FIXTURE_POLL_UNTIL(&house.caller, call.ended == 1, FIXTURE_WAIT_US);
        cr_expect(eq(int, call.status, STATUS_OK));
        cr_expect(eq(sz, call.body_bytes, 8));
        cr_expect(memcmp(call.body, "question", 8) == 0);
        cr_expect(eq(sz, call.rows_bytes, sizeof(rows)));
        cr_expect(eq(u32, call.rows_sum, fixture_sum(request.rows)));
        cr_expect(call.rows_aligned);
        cr_expect(call.took_us >= 0 && call.took_us < FIXTURE_WAIT_US);
    }
    close_house(&house);
}

ON_EACH_TRANSPORT(rows_without_a_body_and_nothing_at_all_travel_too)
{
    struct house house;
    struct fixture_call call;
    open_house(&house, *tcp, 0);
    struct dealer_request request = fixture_request(SHARD_SEARCH, &call);
    cr_assert(eq(int, fixture_send(&house.caller, &request), STATUS_OK));
    FIXTURE_POLL_UNTIL(&house.caller, call.ended == 1, FIXTURE_WAIT_US);
    cr_expect(eq(sz, call.body_bytes, 0));
    cr_expect(eq(sz, call.rows_bytes, 0));
    request.rows = (struct bytes){(const uint8_t *)"rows", 4};
    cr_assert(eq(int, fixture_send(&house.caller, &request), STATUS_OK));
    FIXTURE_POLL_UNTIL(&house.caller, call.ended == 1, FIXTURE_WAIT_US);
    cr_expect(eq(sz, call.body_bytes, 0));
    cr_expect(eq(sz, call.rows_bytes, 4));
    close_house(&house);
}

#define PARENT "00-0123456789abcdef0fedcba987654321-00f067aa0ba902b7-01"

ON_EACH_TRANSPORT(the_node_sees_trace_deadline_and_class)
{
    struct house house;
    struct fixture_call call;
    open_house(&house, *tcp, 0);
    struct dealer_request request = fixture_request(SHARD_FETCH, &call);
    struct trace trace = {.id = "request-17"};
    (void)trace_begin(&trace, text_of(PARENT));
    request.trace = &trace;
    int64_t before = clock_now_us();
    cr_assert(eq(int, fixture_send(&house.caller, &request), STATUS_OK));
    struct router_request *held = fixture_take_held(&house.node);
    cr_expect(strcmp(held->trace.id, "request-17") == 0);
    cr_expect(eq(u64, held->trace.high, 0x0123456789abcdef));
    cr_expect(eq(u64, held->trace.low, 0x0fedcba987654321));
    cr_expect(held->trace.span != trace.span); // each hop has its own
    cr_expect(held->trace.span != 0);
    cr_expect(not(held->bulk));
    cr_expect(held->received_us >= before);
    // What is left is told, not a point in time: the way takes its share.
    cr_expect(held->deadline_us > before + FIXTURE_WAIT_US / 2);
    cr_expect(held->deadline_us < clock_now_us() + FIXTURE_WAIT_US);
    cr_expect(not(router_is_cancelled(held)));
    fixture_reply(held, STATUS_OK, "");
    FIXTURE_POLL_UNTIL(&house.caller, call.ended == 1, FIXTURE_WAIT_US);

    request = fixture_request(SHARD_BULK, &call);
    request.deadline_us = DEADLINE_NONE;
    cr_assert(eq(int, fixture_send(&house.caller, &request), STATUS_OK));
    held = fixture_take_held(&house.node);
    cr_expect(held->bulk);
    cr_expect(eq(i64, held->deadline_us, DEADLINE_NONE));
    fixture_reply(held, STATUS_OK, "");
    FIXTURE_POLL_UNTIL(&house.caller, call.ended == 1, FIXTURE_WAIT_US);
    close_house(&house);
}

ON_EACH_TRANSPORT(a_failure_says_what_and_why)
{
    struct house house;
    struct fixture_call call;
    open_house(&house, *tcp, 0);
    fixture_send_type(&house.caller, SHARD_DELETE, &call);
    FIXTURE_POLL_UNTIL(&house.caller, call.ended == 1, FIXTURE_WAIT_US);
    cr_expect(eq(int, call.status, STATUS_NOT_FOUND));
    cr_expect(strcmp(call.field, "field") == 0);
    cr_expect(strcmp(call.text, "no such thing") == 0);
    close_house(&house);
}

ON_EACH_TRANSPORT(a_thousand_requests_at_once_are_all_answered)
{
    enum { COUNT = 1000 };
    static struct fixture_call calls[COUNT];
    struct house house;
    open_house(&house, *tcp, 0);
    for (size_t i = 0; i < COUNT; i++) {
        struct dealer_request request =
            fixture_request(i % 3 == 0 ? SHARD_WRITE : SHARD_SEARCH, &calls[i]);
        request.body = (struct bytes){(const uint8_t *)&i, sizeof(i)};
        cr_assert(eq(int, fixture_send(&house.caller, &request), STATUS_OK));
    }
    FIXTURE_POLL_UNTIL(&house.caller, house.caller.ended == COUNT, FIXTURE_WAIT_US);
    for (size_t i = 0; i < COUNT; i++) {
        cr_assert(eq(u32, calls[i].ended, 1));
        cr_assert(eq(int, calls[i].status, STATUS_OK));
        cr_assert(memcmp(calls[i].body, &i, sizeof(i)) == 0);
    }
    close_house(&house);
}

// A node's workers: take held requests from four threads and answer them.
static void work(struct thread *self, void *context)
{
    struct fixture_node *node = context;
    thread_ready(self, STATUS_OK);
    struct router_request *request;
    while ((request = queue_pop(node->held, DEADLINE_NONE)) != NULL)
        fixture_echo(request);
}

ON_EACH_TRANSPORT(replies_may_come_from_any_thread)
{
    enum { COUNT = 500, WORKERS = 4 };
    static struct fixture_call calls[COUNT];
    struct house house;
    struct thread *workers[WORKERS] = {NULL};
    open_house(&house, *tcp, 0);
    for (size_t i = 0; i < WORKERS; i++)
        cr_assert(eq(int, thread_start("worker", work, &house.node, &workers[i]), STATUS_OK));
    for (size_t i = 0; i < COUNT; i++)
        fixture_send_type(&house.caller, i % 2 ? SHARD_FETCH : SHARD_BULK, &calls[i]);
    FIXTURE_POLL_UNTIL(&house.caller, house.caller.ended == COUNT, FIXTURE_WAIT_US);
    queue_close(house.node.held);
    for (size_t i = 0; i < WORKERS; i++)
        thread_join(&workers[i]);
    for (size_t i = 0; i < COUNT; i++)
        cr_assert(eq(int, calls[i].status, STATUS_OK));
    close_house(&house);
}

// --- credits

ON_EACH_TRANSPORT(beyond_the_credits_requests_wait_in_order)
{
    struct house house;
    struct fixture_call calls[6];
    struct dealer_peer_info info;
    open_house(&house, *tcp, 2);
    for (size_t i = 0; i < 6; i++)
        fixture_send_type(&house.caller, SHARD_FETCH, &calls[i]);
    dealer_peer_info(house.caller.dealer, 0, &info);
    cr_expect(eq(u32, info.in_flight, 6));

    struct router_request *first = fixture_take_held(&house.node);
    struct router_request *second = fixture_take_held(&house.node);
    // Two credits, so no third comes until one of these is answered.
    cr_expect(queue_pop(house.node.held, clock_deadline_in_us(100000)) == NULL);
    fixture_reply(first, STATUS_OK, "");
    fixture_reply(second, STATUS_OK, "");
    FIXTURE_POLL_UNTIL(&house.caller, house.caller.ended == 2, FIXTURE_WAIT_US);
    cr_expect(calls[0].ended == 1 && calls[1].ended == 1);
    for (size_t i = 2; i < 6; i++) {
        // The sending is done by a poll: after the replies there are credits.
        FIXTURE_POLL_UNTIL(&house.caller, (first = queue_try_pop(house.node.held)) != NULL,
                           FIXTURE_WAIT_US);
        fixture_reply(first, STATUS_OK, "");
        FIXTURE_POLL_UNTIL(&house.caller, calls[i].ended == 1, FIXTURE_WAIT_US);
        cr_expect(eq(u32, calls[i].order, i + 1));
    }
    close_house(&house);
}

ON_EACH_TRANSPORT(a_full_queue_refuses_more)
{
    enum { ALL = 1 + DEALER_WAITING_MAX };
    static struct fixture_call calls[ALL + 1];
    struct house house;
    open_house(&house, *tcp, 1);
    for (size_t i = 0; i < ALL; i++)
        fixture_send_type(&house.caller, SHARD_FETCH, &calls[i]);
    struct dealer_request request = fixture_request(SHARD_FETCH, &calls[ALL]);
    cr_expect(eq(int, fixture_send(&house.caller, &request), STATUS_EXHAUSTED));

    // The other class has a queue of its own.
    struct fixture_call other;
    fixture_send_type(&house.caller, SHARD_WRITE, &other);
    FIXTURE_POLL_UNTIL(&house.caller, other.ended == 1, FIXTURE_WAIT_US);
    fixture_reply(fixture_take_held(&house.node), STATUS_OK, "");
    for (size_t i = 0; i < ALL; i++)
        dealer_cancel(house.caller.dealer, calls[i].ticket);
    close_house(&house);
    cr_expect(eq(u32, calls[ALL].ended, 0));
}

// --- deadlines and cancelling

ON_EACH_TRANSPORT(a_silent_node_costs_no_more_than_the_deadline)
{
    struct house house;
    struct fixture_call call;
    open_house(&house, *tcp, 0);
    struct dealer_request request = fixture_request(SHARD_FETCH, &call);
    request.deadline_us = clock_deadline_in_us(50000);
    cr_assert(eq(int, fixture_send(&house.caller, &request), STATUS_OK));
    struct router_request *held = fixture_take_held(&house.node);
    FIXTURE_POLL_UNTIL(&house.caller, call.ended == 1, FIXTURE_WAIT_US);
    cr_expect(eq(int, call.status, STATUS_DEADLINE));
    cr_expect(call.text[0] != '\0');
    cr_expect(clock_passed(request.deadline_us)); // and not earlier
    FIXTURE_POLL_UNTIL(&house.caller, router_is_cancelled(held), FIXTURE_WAIT_US);

    // The late answer is for nobody, and nobody is hurt.
    fixture_reply(held, STATUS_OK, "late");
    fixture_expect_answer(&house.caller, 0);
    cr_expect(eq(u32, call.ended, 1));
    close_house(&house);
}

ON_EACH_TRANSPORT(a_request_that_waits_past_its_deadline_is_never_sent)
{
    struct house house;
    struct fixture_call first;
    struct fixture_call second;
    open_house(&house, *tcp, 1);
    fixture_send_type(&house.caller, SHARD_FETCH, &first);
    struct router_request *held = fixture_take_held(&house.node);
    struct dealer_request request = fixture_request(SHARD_FETCH, &second);
    request.deadline_us = clock_deadline_in_us(30000);
    cr_assert(eq(int, fixture_send(&house.caller, &request), STATUS_OK));
    FIXTURE_POLL_UNTIL(&house.caller, second.ended == 1, FIXTURE_WAIT_US);
    cr_expect(eq(int, second.status, STATUS_DEADLINE));
    fixture_reply(held, STATUS_OK, "");
    FIXTURE_POLL_UNTIL(&house.caller, first.ended == 1, FIXTURE_WAIT_US);
    fixture_expect_answer(&house.caller, 0);
    cr_expect(queue_try_pop(house.node.held) == NULL);
    close_house(&house);
}

ON_EACH_TRANSPORT(a_deadline_that_has_passed_is_refused_at_once)
{
    struct house house;
    struct fixture_call call;
    open_house(&house, *tcp, 0);
    struct dealer_request request = fixture_request(SHARD_SEARCH, &call);
    request.deadline_us = clock_now_us() - 1;
    cr_expect(eq(int, fixture_send(&house.caller, &request), STATUS_DEADLINE));
    close_house(&house);
}

ON_EACH_TRANSPORT(cancelling_reaches_the_node_and_calls_nobody)
{
    struct house house;
    struct fixture_call call;
    struct fixture_call other;
    open_house(&house, *tcp, 0);
    fixture_send_type(&house.caller, SHARD_FETCH, &call);
    fixture_send_type(&house.caller, SHARD_FETCH, &other);
    struct router_request *held = fixture_take_held(&house.node);
    struct router_request *kept = fixture_take_held(&house.node);
    dealer_cancel(house.caller.dealer, call.ticket);
    dealer_cancel(house.caller.dealer, call.ticket); // unknown by now
    dealer_cancel(house.caller.dealer, 0);
    dealer_cancel(house.caller.dealer, UINT64_MAX);
    // A request behind the CANCEL on the same connection: when it is answered, CANCEL was read.
    fixture_expect_answer(&house.caller, 0);
    cr_expect(router_is_cancelled(held));
    cr_expect(not(router_is_cancelled(kept)));
    fixture_reply(held, STATUS_CANCELLED, "as you wish");
    fixture_reply(kept, STATUS_OK, "");
    FIXTURE_POLL_UNTIL(&house.caller, other.ended == 1, FIXTURE_WAIT_US);
    cr_expect(eq(u32, call.ended, 0));
    close_house(&house);
}

ON_EACH_TRANSPORT(a_cancelled_request_gives_its_credit_back)
{
    struct house house;
    struct fixture_call call;
    open_house(&house, *tcp, 1);
    fixture_send_type(&house.caller, SHARD_FETCH, &call);
    struct router_request *held = fixture_take_held(&house.node);
    dealer_cancel(house.caller.dealer, call.ticket);
    fixture_expect_answer(&house.caller, 0); // though the node still works on the first
    fixture_reply(held, STATUS_CANCELLED, "");
    close_house(&house);
}

// --- ends

ON_EACH_TRANSPORT(a_dealer_may_end_with_requests_in_flight)
{
    struct house house;
    struct fixture_call calls[3];
    open_house(&house, *tcp, 2);
    for (size_t i = 0; i < 3; i++)
        fixture_send_type(&house.caller, SHARD_FETCH, &calls[i]);
    struct router_request *first = fixture_take_held(&house.node);
    struct router_request *second = fixture_take_held(&house.node);
    dealer_destroy(&house.caller.dealer);
    cr_expect(eq(u32, house.caller.ended, 0));
    fixture_reply(first, STATUS_OK, "to nobody");
    fixture_reply(second, STATUS_OK, "to nobody");
    close_house(&house);
}

static void answer_when_cancelled(struct thread *self, void *context)
{
    struct fixture_node *node = context;
    thread_ready(self, STATUS_OK);
    struct router_request *request;
    while ((request = queue_pop(node->held, DEADLINE_NONE)) != NULL) {
        int64_t until = clock_deadline_in_us(FIXTURE_WAIT_US);
        while (!router_is_cancelled(request) && patience_lasts(until))
            continue; // a node's worker looks between two pieces of work
        fixture_reply(request, STATUS_CANCELLED, "the node stops");
    }
}

ON_EACH_TRANSPORT(a_router_that_stops_cancels_and_waits_for_its_requests)
{
    struct house house;
    struct fixture_call calls[3];
    struct thread *worker = NULL;
    open_house(&house, *tcp, 0);
    for (size_t i = 0; i < 3; i++)
        fixture_send_type(&house.caller, SHARD_FETCH, &calls[i]);
    struct router_request *first = fixture_take_held(&house.node);
    cr_assert(eq(int, queue_push(house.node.held, first), STATUS_OK));
    cr_assert(
        eq(int, thread_start("worker", answer_when_cancelled, &house.node, &worker), STATUS_OK));
    router_stop(&house.node.router);
    cr_expect(house.node.router == NULL);
    queue_close(house.node.held);
    thread_join(&worker);

    // Each request ends: with the reply, or because the node is gone.
    FIXTURE_POLL_UNTIL(&house.caller, house.caller.ended == 3, FIXTURE_WAIT_US);
    for (size_t i = 0; i < 3; i++)
        cr_expect(calls[i].status == STATUS_CANCELLED || calls[i].status == STATUS_UNAVAILABLE);
    FIXTURE_POLL_UNTIL(&house.caller, !house.caller.up[0], FIXTURE_WAIT_US);
    struct dealer_request request = fixture_request(SHARD_SEARCH, &calls[0]);
    cr_expect(eq(int, fixture_send(&house.caller, &request), STATUS_UNAVAILABLE));
    close_house(&house);
}

ON_EACH_TRANSPORT(a_node_that_starts_late_is_found)
{
    struct house house = {0};
    struct reason why = {{0}, {0}};
    struct fixture_node first;
    char query[BUS_ENDPOINT_BYTES] = "inproc://late-query";
    char bulk[BUS_ENDPOINT_BYTES] = "inproc://late-bulk";
    if (*tcp)
        fixture_keys(&house.keys);
    cr_assert(eq(int, bus_open(*tcp ? &house.keys : NULL, &house.bus, &why), STATUS_OK));
    if (*tcp) { // two ports that are free
        fixture_start(&first, house.bus, "tcp://127.0.0.1:0", "tcp://127.0.0.1:0", 0);
        (void)snprintf(query, sizeof(query), "%s", router_query_endpoint(first.router));
        (void)snprintf(bulk, sizeof(bulk), "%s", router_bulk_endpoint(first.router));
        fixture_stop(&first);
    }
    fixture_open_caller(&house.caller, house.bus);
    uint32_t peer = fixture_add_peer(&house.caller, query, bulk);
    struct fixture_call call;
    struct dealer_request request = fixture_request(SHARD_SEARCH, &call);
    cr_expect(eq(int, fixture_send(&house.caller, &request), STATUS_UNAVAILABLE));
    int64_t until = clock_deadline_in_us(300000); // a few attempts find nobody
    while (!clock_passed(until))
        cr_assert(eq(int, dealer_poll(house.caller.dealer, NULL, 0, until), STATUS_OK));
    cr_expect(not(house.caller.up[peer]));

    fixture_start(&house.node, house.bus, query, bulk, 0);
    FIXTURE_POLL_UNTIL(&house.caller, house.caller.up[peer], FIXTURE_WAIT_US);
    fixture_expect_answer(&house.caller, peer);
    close_house(&house);
}

ON_EACH_TRANSPORT(a_node_that_stops_and_starts_again_is_found_again)
{
    struct house house;
    open_house(&house, *tcp, 0);
    char query[BUS_ENDPOINT_BYTES];
    char bulk[BUS_ENDPOINT_BYTES];
    (void)snprintf(query, sizeof(query), "%s", router_query_endpoint(house.node.router));
    (void)snprintf(bulk, sizeof(bulk), "%s", router_bulk_endpoint(house.node.router));
    for (int round = 0; round < 2; round++) {
        fixture_stop(&house.node);
        FIXTURE_POLL_UNTIL(&house.caller, !house.caller.up[0], FIXTURE_WAIT_US);
        fixture_start(&house.node, house.bus, query, bulk, 0);
        FIXTURE_POLL_UNTIL(&house.caller, house.caller.up[0], FIXTURE_WAIT_US);
        fixture_expect_answer(&house.caller, 0);
    }
    cr_expect(eq(u32, house.caller.changes, 5));
    close_house(&house);
}

// --- sizes

ON_EACH_TRANSPORT(rows_of_48_mebibytes_of_rows_travel_both_ways)
{
    enum { BYTES = 48 << 20 };
    struct house house;
    struct fixture_call call;
    uint8_t *rows = mem_alloc(BYTES);
    for (size_t i = 0; i < BYTES; i += 997)
        rows[i] = (uint8_t)i;
    open_house(&house, *tcp, 0);
    struct dealer_request request = fixture_request(SHARD_WRITE, &call);
    request.rows = (struct bytes){rows, BYTES};
    cr_assert(eq(int, fixture_send(&house.caller, &request), STATUS_OK));
    FIXTURE_POLL_UNTIL(&house.caller, call.ended == 1, FIXTURE_WAIT_US);
    cr_expect(eq(int, call.status, STATUS_OK));
    cr_expect(eq(sz, call.rows_bytes, BYTES));
    cr_expect(eq(u32, call.rows_sum, fixture_sum(request.rows)));
    cr_expect(call.rows_aligned);
    cr_expect(eq(u32, house.caller.changes, 1)); // it was up all the time
    mem_free(rows);
    close_house(&house);
}

ON_EACH_TRANSPORT(what_is_too_large_is_refused_and_the_largest_is_not)
{
    struct house house;
    struct fixture_call call;
    uint8_t *rows = mem_alloc((size_t)ROWS_BYTES_MAX + 1);
    open_house(&house, *tcp, 0);
    struct dealer_request request = fixture_request(SHARD_WRITE, &call);
    request.rows = (struct bytes){rows, (size_t)ROWS_BYTES_MAX + 1};
    cr_expect(eq(int, fixture_send(&house.caller, &request), STATUS_INVALID));
    request.rows.count = 0;
    request.body = (struct bytes){rows, (size_t)BODY_BYTES_MAX + 1};
    cr_expect(eq(int, fixture_send(&house.caller, &request), STATUS_INVALID));

    request.rows = (struct bytes){rows, ROWS_BYTES_MAX};
    request.body.count = BODY_BYTES_MAX;
    cr_assert(eq(int, fixture_send(&house.caller, &request), STATUS_OK));
    FIXTURE_POLL_UNTIL(&house.caller, call.ended == 1, FIXTURE_WAIT_US);
    cr_expect(eq(int, call.status, STATUS_OK));
    cr_expect(eq(sz, call.rows_bytes, ROWS_BYTES_MAX));
    cr_expect(eq(sz, call.body_bytes, BODY_BYTES_MAX));

    fixture_send_type(&house.caller, SHARD_STATS, &call); // its reply is one byte too large
    FIXTURE_POLL_UNTIL(&house.caller, call.ended == 1, FIXTURE_WAIT_US);
    cr_expect(eq(int, call.status, STATUS_INTERNAL));
    cr_expect(eq(sz, call.rows_bytes, 0));
    mem_free(rows);
    close_house(&house);
}

// --- the rest

ON_EACH_TRANSPORT(a_ping_brings_the_load)
{
    struct house house;
    struct dealer_peer_info info;
    open_house(&house, *tcp, 0);
    FIXTURE_POLL_UNTIL(&house.caller,
                       (dealer_peer_info(house.caller.dealer, 0, &info), info.load.records == 2),
                       FIXTURE_WAIT_US);
    cr_expect(info.up);
    cr_expect(eq(u64, info.load.bytes, 3));
    cr_expect(info.load.read_only);
    cr_expect(info.ping_us >= 0);
    cr_expect(strcmp(info.query_endpoint, router_query_endpoint(house.node.router)) == 0);
    close_house(&house);
}

Test(bus, polling_watches_the_callers_fds)
{
    struct house house;
    open_house(&house, false, 0);
    int event = eventfd(0, EFD_NONBLOCK);
    struct pollfd fds[] = {{.fd = event, .events = POLLIN}, {.fd = event, .events = POLLOUT}};
    cr_assert(eq(int, dealer_poll(house.caller.dealer, fds, 1, clock_now_us()), STATUS_OK));
    cr_expect(eq(int, fds[0].revents, 0));
    const uint64_t one = 1;
    cr_assert(eq(int, (int)write(event, &one, sizeof(one)), sizeof(one)));
    int64_t until = clock_deadline_in_us(FIXTURE_WAIT_US);
    while (fds[0].revents == 0 && !clock_passed(until))
        cr_assert(eq(int, dealer_poll(house.caller.dealer, fds, 2, until), STATUS_OK));
    cr_expect(eq(int, fds[0].revents, POLLIN));
    cr_expect(eq(int, fds[1].revents, POLLOUT));
    (void)close(event);
    close_house(&house);
}

struct chain { // sends the next request from the callback of the last
    struct fixture_caller *caller;
    struct fixture_call spare;
    uint32_t left;
    uint64_t ticket;
    uint32_t ended;
};

static void send_link(struct chain *chain);

static void on_link(void *context, const struct dealer_reply *reply)
{
    struct chain *chain = context;
    cr_expect(eq(int, reply->status, STATUS_OK));
    chain->ended++;
    // What is sent and cancelled in one callback must leave no trace.
    fixture_send_type(chain->caller, SHARD_FETCH, &chain->spare);
    dealer_cancel(chain->caller->dealer, chain->spare.ticket);
    dealer_cancel(chain->caller->dealer, reply->ticket); // it has ended already
    if (--chain->left > 0)
        send_link(chain);
}

static void send_link(struct chain *chain)
{
    struct dealer_request request = fixture_request(SHARD_SEARCH, NULL);
    request.done = on_link;
    request.context = chain;
    cr_assert(eq(int, dealer_send(chain->caller->dealer, &request, &chain->ticket), STATUS_OK));
}

Test(bus, a_callback_may_send_and_cancel)
{
    struct house house;
    open_house(&house, false, 4);
    struct chain chain = {.caller = &house.caller, .left = 50};
    send_link(&chain);
    FIXTURE_POLL_UNTIL(&house.caller, chain.ended == 50, FIXTURE_WAIT_US);
    dealer_destroy(&house.caller.dealer);
    struct router_request *held;
    while ((held = queue_try_pop(house.node.held)) != NULL)
        fixture_reply(held, STATUS_OK, "");
    close_house(&house);
}

Test(bus, endpoints_that_cannot_be_are_refused_by_name)
{
    struct bus *bus = NULL;
    struct fixture_node node;
    struct fixture_caller caller;
    struct router *router = NULL;
    struct reason why = {{0}, {0}};
    uint32_t peer = 0;
    cr_assert(eq(int, bus_open(NULL, &bus, &why), STATUS_OK));
    fixture_start(&node, bus, "inproc://a", "inproc://b", 0);
    fixture_open_caller(&caller, bus);

    char long_name[200] = "inproc://";
    memset(long_name + 9, 'x', 180);
    long_name[189] = '\0';
    const char *const bad[] = {"", "127.0.0.1:1", "ipc:///tmp/x", "tcp://127.0.0.1:0", long_name};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct router_params params = {.bus = bus,
                                       .query_endpoint = bad[i],
                                       .bulk_endpoint = "inproc://c",
                                       .handle = fixture_handle,
                                       .context = &node};
        cr_expect(eq(int, router_start(&params, &router, &why), STATUS_INVALID), "%s", bad[i]);
        cr_expect(strcmp(why.field, "--query") == 0);
        cr_expect(router == NULL);
        cr_expect(eq(int, dealer_add_peer(caller.dealer, bad[i], "inproc://b", &peer, &why),
                     STATUS_INVALID),
                  "%s", bad[i]);
    }
    struct router_params taken = {.bus = bus,
                                  .query_endpoint = "inproc://d",
                                  .bulk_endpoint = "inproc://b",
                                  .handle = fixture_handle,
                                  .context = &node};
    cr_expect(eq(int, router_start(&taken, &router, &why), STATUS_UNAVAILABLE));
    cr_expect(strstr(why.text, "inproc://b") != NULL);
    taken.bulk_endpoint = "inproc://e";
    taken.credits = ROUTER_CREDITS_MAX + 1;
    cr_expect(eq(int, router_start(&taken, &router, &why), STATUS_INVALID));

    for (uint32_t i = 0; i < DEALER_PEERS_MAX; i++)
        cr_expect(eq(u32, fixture_add_peer(&caller, "inproc://a", "inproc://b"), i));
    cr_expect(eq(int, dealer_add_peer(caller.dealer, "inproc://a", "inproc://b", &peer, &why),
                 STATUS_EXHAUSTED));
    dealer_destroy(&caller.dealer);
    fixture_stop(&node);
    bus_close(&bus);
}

Test(bus, many_peers_are_asked_at_once)
{
    struct bus *bus = NULL;
    struct fixture_node node;
    struct fixture_caller caller;
    static struct fixture_call calls[DEALER_PEERS_MAX];
    cr_assert(eq(int, bus_open(NULL, &bus, NULL), STATUS_OK));
    fixture_start(&node, bus, "inproc://a", "inproc://b", 0);
    fixture_open_caller(&caller, bus);
    for (uint32_t i = 0; i < DEALER_PEERS_MAX; i++)
        (void)fixture_add_peer(&caller, "inproc://a", "inproc://b");
    FIXTURE_POLL_UNTIL(&caller, caller.changes == DEALER_PEERS_MAX, FIXTURE_WAIT_US);
    for (uint32_t i = 0; i < DEALER_PEERS_MAX; i++) {
        struct dealer_request request = fixture_request(SHARD_SEARCH, &calls[i]);
        request.peer = i;
        request.body = (struct bytes){(const uint8_t *)&i, sizeof(i)};
        cr_assert(eq(int, fixture_send(&caller, &request), STATUS_OK));
    }
    FIXTURE_POLL_UNTIL(&caller, caller.ended == DEALER_PEERS_MAX, FIXTURE_WAIT_US);
    for (uint32_t i = 0; i < DEALER_PEERS_MAX; i++)
        cr_expect(memcmp(calls[i].body, &i, sizeof(i)) == 0);
    dealer_destroy(&caller.dealer);
    fixture_stop(&node);
    bus_close(&bus);
}
