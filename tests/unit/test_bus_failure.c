// SPDX-License-Identifier: Apache-2.0
// Goal: a node that is killed, frozen or restarted is noticed within a second, costs its requests
// no more than that, and the other nodes nothing.
//
// Method: nodes are processes of their own. They are forked by a nursery, which is itself forked
// before this process has any thread; kill and stop are true signals.

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "tests/unit/bus_fixture.h"

// The promise is a second: a PING after at most 250 ms, and 600 ms of silence; or 500 ms between
// two attempts to connect. The rest is for a machine that is busy with other tests.
#define NOTICED_US 1500000

struct nursery_order { // what the nursery reads; port 0 picks one
    struct bus_keys keys;
    char query[BUS_ENDPOINT_BYTES];
    char bulk[BUS_ENDPOINT_BYTES];
};

struct nursery_child { // and what it answers
    pid_t pid;
    char query[BUS_ENDPOINT_BYTES];
    char bulk[BUS_ENDPOINT_BYTES];
};

#define ANY_PORT "tcp://127.0.0.1:0"

static struct bus_keys keys;
static pid_t nursery;
static int orders;   // to the nursery; its end is the end of all
static int children; // from it
static struct bus *bus;
static struct fixture_caller caller;

static void read_all(int fd, void *data, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t count = read(fd, (char *)data + done, bytes - done);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            _exit(0);
        done += (size_t)count;
    }
}

static void write_all(int fd, const void *data, size_t bytes)
{
    if (write(fd, data, bytes) != (ssize_t)bytes) // shorter than a pipe's page
        _exit(1);
}

// Holds every FETCH for ever and answers the rest.
static _Noreturn void be_a_node(const struct nursery_order *order, int answer)
{
    struct bus *own = NULL;
    struct fixture_node node;
    struct nursery_child child = {.pid = getpid()};
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (bus_open(&order->keys, &own, NULL) != STATUS_OK)
        _exit(1);
    fixture_start(&node, own, order->query, order->bulk, 4);
    (void)snprintf(child.query, sizeof(child.query), "%s", router_query_endpoint(node.router));
    (void)snprintf(child.bulk, sizeof(child.bulk), "%s", router_bulk_endpoint(node.router));
    write_all(answer, &child, sizeof(child));
    while (true)
        (void)pause();
}

static void start_nursery(void)
{
    int down[2];
    int up[2];
    cr_assert(eq(int, pipe(down), 0));
    cr_assert(eq(int, pipe(up), 0));
    fixture_keys(&keys);
    nursery = fork();
    cr_assert(nursery >= 0);
    if (nursery == 0) {
        struct nursery_order order;
        (void)close(down[1]);
        (void)close(up[0]);
        while (true) {
            read_all(down[0], &order, sizeof(order));
            // A killed process holds its ports until it has ended altogether.
            if (strcmp(order.query, ANY_PORT) != 0)
                (void)waitpid(-1, NULL, 0);
            pid_t node = fork();
            if (node == 0)
                be_a_node(&order, up[1]);
        }
    }
    (void)close(down[0]);
    (void)close(up[1]);
    orders = down[1];
    children = up[0];
    cr_assert(eq(int, bus_open(&keys, &bus, NULL), STATUS_OK));
    fixture_open_caller(&caller, bus);
}

static void end_nursery(void)
{
    dealer_destroy(&caller.dealer);
    bus_close(&bus);
    (void)close(orders);
    (void)close(children);
    (void)waitpid(nursery, NULL, 0);
}

TestSuite(bus_failure, .init = start_nursery, .fini = end_nursery);

static struct nursery_child start_node(const char *query, const char *bulk)
{
    struct nursery_order order = {.keys = keys};
    struct nursery_child child;
    (void)snprintf(order.query, sizeof(order.query), "%s", query);
    (void)snprintf(order.bulk, sizeof(order.bulk), "%s", bulk);
    write_all(orders, &order, sizeof(order));
    read_all(children, &child, sizeof(child));
    return child;
}

static struct nursery_child start_peer(void)
{
    struct nursery_child child = start_node(ANY_PORT, ANY_PORT);
    uint32_t peer = fixture_add_peer(&caller, child.query, child.bulk);
    FIXTURE_POLL_UNTIL(&caller, caller.up[peer], FIXTURE_WAIT_US);
    fixture_expect_answer(&caller, peer);
    return child;
}

// 4 in flight, the rest waiting; half of them bulk without a deadline.
#define CALLS 20
static struct fixture_call calls[CALLS];

static void send_calls(uint32_t peer)
{
    for (size_t i = 0; i < CALLS; i++) {
        struct dealer_request request =
            fixture_request(i % 2 ? SHARD_BULK : SHARD_FETCH, &calls[i]);
        request.peer = peer;
        request.deadline_us = i % 2 ? DEADLINE_NONE : request.deadline_us;
        cr_assert(eq(int, fixture_send(&caller, &request), STATUS_OK));
    }
}

static void expect_all_unavailable(void)
{
    for (size_t i = 0; i < CALLS; i++) {
        cr_expect(eq(u32, calls[i].ended, 1));
        cr_expect(eq(int, calls[i].status, STATUS_UNAVAILABLE));
        cr_expect(calls[i].text[0] != '\0');
    }
}

Test(bus_failure, a_killed_node_is_noticed_and_its_requests_end)
{
    struct nursery_child child = start_peer();
    struct fixture_call late;
    send_calls(0);
    uint32_t before = caller.ended;
    int64_t killed = clock_now_us();
    cr_assert(eq(int, kill(child.pid, SIGKILL), 0));
    FIXTURE_POLL_UNTIL(&caller, caller.ended == before + CALLS, FIXTURE_WAIT_US);
    cr_expect(clock_now_us() - killed < NOTICED_US);
    cr_expect(not(caller.up[0]));
    expect_all_unavailable();
    struct dealer_request request = fixture_request(SHARD_SEARCH, &late);
    cr_expect(eq(int, fixture_send(&caller, &request), STATUS_UNAVAILABLE));
}

Test(bus_failure, a_frozen_node_is_noticed_and_its_requests_end)
{
    struct nursery_child child = start_peer();
    send_calls(0);
    uint32_t before = caller.ended;
    int64_t stopped = clock_now_us();
    cr_assert(eq(int, kill(child.pid, SIGSTOP), 0));
    FIXTURE_POLL_UNTIL(&caller, caller.ended == before + CALLS, FIXTURE_WAIT_US);
    cr_expect(clock_now_us() - stopped < NOTICED_US);
    cr_expect(not(caller.up[0]));
    expect_all_unavailable();

    // It wakes up, and what it answers to the old requests is for nobody.
    int64_t woken = clock_now_us();
    cr_assert(eq(int, kill(child.pid, SIGCONT), 0));
    FIXTURE_POLL_UNTIL(&caller, caller.up[0], FIXTURE_WAIT_US);
    cr_expect(clock_now_us() - woken < 2 * NOTICED_US); // a handshake may have to time out
    fixture_expect_answer(&caller, 0);
    cr_assert(eq(int, kill(child.pid, SIGKILL), 0));
}

// Sends rows that the node gives back, and freezes it at once: they are still under way.
static void freeze_with_bytes(const struct nursery_child *child, size_t bytes)
{
    uint8_t *rows = mem_alloc(bytes);
    struct dealer_request request = fixture_request(SHARD_WRITE, &calls[0]);
    request.rows = (struct bytes){rows, bytes};
    cr_assert(eq(int, kill(child->pid, SIGSTOP), 0));
    cr_assert(eq(int, fixture_send(&caller, &request), STATUS_OK));
    mem_free(rows);
}

Test(bus_failure, a_large_message_gives_its_node_time_and_no_more)
{
    struct nursery_child child = start_peer();
    freeze_with_bytes(&child, 2 * DEALER_BYTES_PER_SECOND);
    int64_t until = clock_deadline_in_us(DEALER_SILENCE_US + 2 * DEALER_PING_US);
    while (!clock_passed(until)) // it is silent for longer than an idle node may be
        cr_assert(eq(int, dealer_poll(caller.dealer, NULL, 0, until), STATUS_OK));
    cr_expect(caller.up[0]);
    cr_assert(eq(int, kill(child.pid, SIGCONT), 0));
    FIXTURE_POLL_UNTIL(&caller, calls[0].ended == 1, FIXTURE_WAIT_US);
    cr_expect(eq(int, calls[0].status, STATUS_OK));
    cr_expect(eq(sz, calls[0].rows_bytes, 2 * DEALER_BYTES_PER_SECOND));
    cr_expect(eq(u32, caller.changes, 1)); // it was up all the time

    int64_t stopped = clock_now_us();
    freeze_with_bytes(&child, DEALER_BYTES_PER_SECOND);
    FIXTURE_POLL_UNTIL(&caller, calls[0].ended == 1, FIXTURE_WAIT_US);
    cr_expect(eq(int, calls[0].status, STATUS_UNAVAILABLE));
    cr_expect(clock_now_us() - stopped < 1000000 + NOTICED_US);
    cr_assert(eq(int, kill(child.pid, SIGKILL), 0));
}

Test(bus_failure, a_restarted_node_is_found_within_a_second)
{
    struct nursery_child child = start_peer();
    for (int round = 0; round < 3; round++) {
        cr_assert(eq(int, kill(child.pid, SIGKILL), 0));
        FIXTURE_POLL_UNTIL(&caller, !caller.up[0], FIXTURE_WAIT_US);
        int64_t until = clock_deadline_in_us(700000); // long enough for slow reconnecting
        while (!clock_passed(until))
            cr_assert(eq(int, dealer_poll(caller.dealer, NULL, 0, until), STATUS_OK));
        cr_expect(not(caller.up[0]));

        child = start_node(child.query, child.bulk);
        int64_t started = clock_now_us();
        FIXTURE_POLL_UNTIL(&caller, caller.up[0], FIXTURE_WAIT_US);
        cr_expect(clock_now_us() - started < NOTICED_US);
        fixture_expect_answer(&caller, 0);
    }
    cr_assert(eq(int, kill(child.pid, SIGKILL), 0));
}

Test(bus_failure, the_other_nodes_do_not_notice)
{
    struct nursery_child first = start_peer();
    struct nursery_child second = start_peer();
    cr_assert(eq(int, kill(first.pid, SIGSTOP), 0));
    int64_t slowest = 0;
    int64_t until = clock_deadline_in_us(2 * NOTICED_US);
    while (!clock_passed(until)) {
        int64_t begin = clock_now_us();
        fixture_expect_answer(&caller, 1);
        int64_t took = clock_now_us() - begin;
        slowest = took > slowest ? took : slowest;
    }
    cr_expect(not(caller.up[0]));
    cr_expect(caller.up[1]);
    cr_expect(slowest < NOTICED_US / 2, "%lld us", (long long)slowest);
    cr_assert(eq(int, kill(first.pid, SIGKILL), 0));
    cr_assert(eq(int, kill(second.pid, SIGKILL), 0));
}

// Returns when another caller has given up a frozen node: longer than a node may be silent.
static void outlast_silence(void)
{
    struct fixture_caller other;
    struct nursery_child frozen = start_node(ANY_PORT, ANY_PORT);
    fixture_connect(&other, bus, frozen.query, frozen.bulk);
    cr_assert(eq(int, kill(frozen.pid, SIGSTOP), 0));
    FIXTURE_POLL_UNTIL(&other, !other.up[0], FIXTURE_WAIT_US);
    cr_assert(eq(int, kill(frozen.pid, SIGKILL), 0));
    dealer_destroy(&other.dealer);
    fixture_the_caller = &caller;
}

Test(bus_failure, a_caller_that_was_held_up_keeps_its_nodes)
{
    struct nursery_child child = start_peer();
    outlast_silence(); // it reads nothing meanwhile
    for (int i = 0; i < 20; i++)
        cr_assert(eq(int, dealer_poll(caller.dealer, NULL, 0, clock_now_us()), STATUS_OK));
    cr_expect(caller.up[0]);
    cr_expect(eq(u32, caller.changes, 1));
    fixture_expect_answer(&caller, 0);
    cr_assert(eq(int, kill(child.pid, SIGKILL), 0));
}

Test(bus_failure, a_node_killed_again_and_again_never_confuses_the_caller)
{
    struct nursery_child child = start_peer();
    for (int round = 0; round < 8; round++) {
        send_calls(0);
        uint32_t before = caller.ended;
        for (int i = 0; i < round; i++)
            cr_assert(eq(int, dealer_poll(caller.dealer, NULL, 0, clock_now_us()), STATUS_OK));
        cr_assert(eq(int, kill(child.pid, SIGKILL), 0));
        child = start_node(child.query, child.bulk); // at once: the old one is hardly gone
        FIXTURE_POLL_UNTIL(&caller, caller.ended == before + CALLS, FIXTURE_WAIT_US);
        expect_all_unavailable();
        FIXTURE_POLL_UNTIL(&caller, caller.up[0], FIXTURE_WAIT_US);
        fixture_expect_answer(&caller, 0);
    }
    cr_assert(eq(int, kill(child.pid, SIGKILL), 0));
}
