// SPDX-License-Identifier: Apache-2.0
// Goal: the threads of a node and of a caller do not race: the router's, its workers', the ZAP
// handler's, the dealer's, and the one that stops the router.
//
// Method: a plain program, since Criterion does not start under ThreadSanitizer. Four workers
// answer thousands of requests, some of which are cancelled or have deadlines that pass; then the
// router is stopped with requests in flight. It also runs, and must end well, in every other
// build. Under ThreadSanitizer: TSAN_OPTIONS=ignore_noninstrumented_modules=1, for libzmq.

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "proto/base/mem.h"
#include "proto/base/queue.h"
#include "proto/base/thread.h"
#include "proto/bus/dealer.h"
#include "proto/bus/router.h"

#define WORKERS 4
#define REQUESTS 4000
#define WINDOW 200 // sent and not ended
#define LIMIT_US 120000000

static struct queue *work;
static atomic_uint handled;
static unsigned sent;
static unsigned ended;
static unsigned failed; // with a status that has no business here

static void check(bool right, const char *what)
{
    if (right)
        return;
    (void)fprintf(stderr, "race_bus: %s\n", what);
    exit(1);
}

static void handle(void *context, struct router_request *request)
{
    (void)context;
    check(queue_push(work, request) == STATUS_OK, "the queue is full");
}

static void load(void *context, struct shard_ping_reply *out)
{
    (void)context;
    out->records = atomic_load(&handled);
}

static void worker(struct thread *self, void *context)
{
    (void)context;
    thread_ready(self, STATUS_OK);
    struct router_request *request = NULL;
    while ((request = queue_pop(work, DEADLINE_NONE)) != NULL) {
        unsigned number = atomic_fetch_add(&handled, 1);
        struct buffer body = {0};
        struct reason why = {{0}, {0}};
        struct router_answer answer = {.status = STATUS_OK, .body = &body};
        if (router_is_cancelled(request))
            answer.status = reason_set(&why, STATUS_CANCELLED, NULL, "nobody waits");
        else
            check(buffer_append(&body, request->body.data, request->body.count) == STATUS_OK,
                  "no memory");
        answer.why = &why;
        if (number % 7 == 0) {
            answer.rows = mem_alloc(10000);
            answer.rows_bytes = 10000;
        }
        router_reply(&request, &answer);
    }
}

static void done(void *context, const struct dealer_reply *reply)
{
    (void)context;
    ended++;
    failed += reply->status != STATUS_OK && reply->status != STATUS_DEADLINE;
}

static void send_one(struct dealer *dealer)
{
    static const struct trace trace = {.id = "race"};
    struct dealer_request request = {
        .class = sent % 3 == 0 ? DEALER_BULK : DEALER_QUERY,
        .type = SHARD_SEARCH,
        .body = {(const uint8_t *)&sent, sizeof(sent)},
        .deadline_us = clock_deadline_in_us(sent % 11 == 0 ? 200 : LIMIT_US),
        .trace = &trace,
        .done = done,
    };
    uint64_t ticket = 0;
    enum status status = dealer_send(dealer, &request, &ticket);
    check(status == STATUS_OK || status == STATUS_DEADLINE, "a request was not sent");
    sent++;
    if (status == STATUS_DEADLINE) {
        ended++;
    } else if (sent % 5 == 0) {
        dealer_cancel(dealer, ticket);
        ended++; // as far as we are concerned
    }
}

static void stop(struct thread *self, void *context)
{
    thread_ready(self, STATUS_OK);
    router_stop(context);
}

static void run(struct bus *bus, const char *query, const char *bulk)
{
    struct router *router = NULL;
    struct dealer *dealer = NULL;
    struct thread *workers[WORKERS] = {NULL};
    struct thread *stopper = NULL;
    struct reason why = {{0}, {0}};
    uint32_t peer = 0;
    work = queue_create(4096, false);
    sent = ended = failed = 0;
    struct router_params params = {bus, query, bulk, 1, 32, handle, load, NULL};
    check(router_start(&params, &router, &why) == STATUS_OK, why.text);
    for (int i = 0; i < WORKERS; i++)
        check(thread_start("worker", worker, NULL, &workers[i]) == STATUS_OK, "no thread");
    check(dealer_create(bus, NULL, NULL, &dealer, &why) == STATUS_OK, why.text);
    check(dealer_add_peer(dealer, router_query_endpoint(router), router_bulk_endpoint(router),
                          &peer, &why) == STATUS_OK,
          why.text);

    struct dealer_peer_info info = {0};
    int64_t until = clock_deadline_in_us(LIMIT_US);
    while (!info.up && !clock_passed(until)) {
        check(dealer_poll(dealer, NULL, 0, until) == STATUS_OK, "poll");
        dealer_peer_info(dealer, peer, &info);
    }
    while (ended < REQUESTS && !clock_passed(until)) {
        while (sent < REQUESTS && sent - ended < WINDOW)
            send_one(dealer);
        check(dealer_poll(dealer, NULL, 0, until) == STATUS_OK, "poll");
    }
    check(ended == REQUESTS && failed == 0, "requests were lost");

    for (int i = 0; i < WINDOW; i++)
        send_one(dealer);
    check(thread_start("stopper", stop, &router, &stopper) == STATUS_OK, "no thread");
    while (ended < REQUESTS + WINDOW && !clock_passed(until))
        check(dealer_poll(dealer, NULL, 0, until) == STATUS_OK, "poll");
    check(ended == REQUESTS + WINDOW, "requests were lost while the node stopped");
    thread_join(&stopper);
    queue_close(work);
    for (int i = 0; i < WORKERS; i++)
        thread_join(&workers[i]);
    dealer_destroy(&dealer);
    queue_destroy(&work);
}

int main(void)
{
    char directory[] = "/tmp/reco-race-XXXXXX";
    const char *const names[] = {"node.public", "node.secret", "coordinator.public",
                                 "coordinator.secret"};
    struct bus_keys keys;
    struct bus *bus = NULL;
    struct reason why = {{0}, {0}};
    check(mkdtemp(directory) != NULL, "no folder");
    enum status status = bus_keys_load(directory, true, &keys, &why);
    for (int i = 0; i < 4; i++) {
        char path[64];
        (void)snprintf(path, sizeof(path), "%s/%s", directory, names[i]);
        (void)unlink(path);
    }
    (void)rmdir(directory);
    check(status == STATUS_OK, why.text);

    check(bus_open(&keys, &bus, &why) == STATUS_OK, why.text);
    run(bus, "tcp://127.0.0.1:0", "tcp://127.0.0.1:0");
    run(bus, "inproc://query", "inproc://bulk");
    bus_close(&bus);
    (void)printf("handled %u\n", atomic_load(&handled));
    return 0;
}
