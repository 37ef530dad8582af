// SPDX-License-Identifier: Apache-2.0
// The owner thread polls the server's descriptor and a pipe-like eventfd by which tests talk to it;
// everything shared lies under one mutex.

#include "tests/unit/rpc_echo.h"

#include <assert.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "proto/base/mem.h"
#include "proto/base/thread.h"
#include "proto/rpc/rpc_server.h"

extern const uint8_t rpc_echo_descriptors[]; // made by the build
extern const size_t rpc_echo_descriptors_bytes;

enum { METHOD_ECHO, METHOD_COLLECT, METHOD_FAIL, METHOD_HANG };

static const struct rpc_method methods[] = {
    [METHOD_ECHO] = {RPC_ECHO_PATH, false},
    [METHOD_COLLECT] = {RPC_ECHO_COLLECT_PATH, true},
    [METHOD_FAIL] = {RPC_ECHO_FAIL_PATH, false},
    [METHOD_HANG] = {RPC_ECHO_HANG_PATH, false},
};

// What a Collect call remembers.
struct total {
    uint64_t messages;
    uint64_t bytes;
    bool waiting;          // paused: a read is due
    struct rpc_call *call; // NULL: this place is free
};

struct rpc_echo {
    struct rpc_server *server;
    struct thread *owner;
    int wake;
    struct total totals[RPC_CALLS_MAX]; // owner's; also after a stop with calls running

    pthread_mutex_t lock; // protects the rest
    pthread_cond_t changed;
    size_t counts[RPC_ECHO_COUNTS];
    int64_t deadline_us;
    int64_t cancelled_us;
    size_t running;
    bool want_serving;
    bool is_serving;
    bool paused;
    bool leave;
};

static void count(struct rpc_echo *echo, enum rpc_echo_count what)
{
    (void)pthread_mutex_lock(&echo->lock);
    echo->counts[what]++;
    if (what == RPC_ECHO_CANCELLED)
        echo->cancelled_us = clock_now_us();
    echo->running = rpc_server_running(echo->server);
    (void)pthread_cond_broadcast(&echo->changed);
    (void)pthread_mutex_unlock(&echo->lock);
}

static void finish_copy(struct rpc_call *call, struct bytes message)
{
    struct buffer reply = {.count = 0};
    enum status status = buffer_append(&reply, message.data, message.count);
    rpc_call_finish(call, status, &reply, NULL);
}

static void finish_total(struct rpc_call *call, struct total *total)
{
    uint8_t packed[18] = {[0] = 0x09, [9] = 0x11}; // Total: two fixed64
    bytes_put_u64_le(packed + 1, total->messages);
    bytes_put_u64_le(packed + 10, total->bytes);
    finish_copy(call, (struct bytes){packed, sizeof(packed)});
}

// FailRequest: one varint below 128.
static void fail_as_asked(struct rpc_call *call, struct bytes message)
{
    enum status status = STATUS_INTERNAL;
    if (message.count == 2 && message.data[0] == 0x08)
        status = (enum status)message.data[1];
    if (status == STATUS_OK) {
        rpc_call_finish(call, STATUS_OK, NULL, NULL);
        return;
    }
    struct reason why = {.field = ""};
    (void)reason_set(&why, status, RPC_ECHO_FAIL_FIELD, "%s", RPC_ECHO_FAIL_TEXT);
    rpc_call_finish(call, status, NULL, &why);
}

static void next_message(struct rpc_echo *echo, struct total *total)
{
    (void)pthread_mutex_lock(&echo->lock);
    bool paused = echo->paused;
    (void)pthread_mutex_unlock(&echo->lock);
    if (!paused) {
        rpc_call_read(total->call);
        return;
    }
    total->waiting = true;
}

static struct total *new_total(struct rpc_echo *echo, struct rpc_call *call)
{
    size_t at = 0;
    while (echo->totals[at].call)
        at++;
    echo->totals[at] = (struct total){.call = call};
    return &echo->totals[at];
}

static void take_call(struct rpc_echo *echo, const struct rpc_event *event)
{
    (void)pthread_mutex_lock(&echo->lock);
    echo->deadline_us = rpc_call_deadline_us(event->call);
    (void)pthread_mutex_unlock(&echo->lock);

    switch (rpc_call_method(event->call)) {
    case METHOD_ECHO:
        finish_copy(event->call, event->message);
        break;
    case METHOD_COLLECT: {
        struct total *total = new_total(echo, event->call);
        rpc_call_set_context(event->call, total);
        next_message(echo, total);
        break;
    }
    case METHOD_FAIL:
        fail_as_asked(event->call, event->message);
        break;
    default:
        break; // Hang
    }
}

static void handle(struct rpc_echo *echo, const struct rpc_event *event)
{
    struct total *total = rpc_call_context(event->call);
    switch (event->kind) {
    case RPC_CALL:
        take_call(echo, event);
        count(echo, RPC_ECHO_CALLS);
        break;
    case RPC_MESSAGE:
        total->messages++;
        total->bytes += event->message.count;
        next_message(echo, total);
        count(echo, RPC_ECHO_MESSAGES);
        break;
    case RPC_END:
        finish_total(event->call, total);
        break;
    case RPC_CANCELLED:
        if (total)
            total->waiting = false;
        rpc_call_finish(event->call, STATUS_CANCELLED, NULL, NULL);
        count(echo, RPC_ECHO_CANCELLED);
        break;
    case RPC_DONE:
        if (total)
            total->call = NULL;
        count(echo, RPC_ECHO_DONE);
        break;
    }
}

// Does what the tests have asked for; whether to go on.
static bool obey(struct rpc_echo *echo)
{
    (void)pthread_mutex_lock(&echo->lock);
    bool leave = echo->leave;
    bool paused = echo->paused;
    if (echo->want_serving != echo->is_serving) {
        rpc_server_set_serving(echo->server, echo->want_serving);
        echo->is_serving = echo->want_serving;
        (void)pthread_cond_broadcast(&echo->changed);
    }
    (void)pthread_mutex_unlock(&echo->lock);

    for (size_t i = 0; i < RPC_CALLS_MAX && !paused; i++) {
        struct total *total = &echo->totals[i];
        if (total->call && total->waiting) {
            total->waiting = false;
            rpc_call_read(total->call);
        }
    }
    return !leave;
}

static void own(struct thread *self, void *context)
{
    struct rpc_echo *echo = context;
    thread_ready(self, STATUS_OK);

    struct pollfd fds[] = {{.fd = rpc_server_fd(echo->server), .events = POLLIN},
                           {.fd = echo->wake, .events = POLLIN}};
    for (;;) {
        (void)poll(fds, 2, -1);
        uint64_t ignored;
        if (fds[1].revents & POLLIN && read(echo->wake, &ignored, sizeof(ignored)) > 0 &&
            !obey(echo))
            return;
        struct rpc_event event;
        while (rpc_server_next(echo->server, &event))
            handle(echo, &event);
    }
}

static void wake_up(struct rpc_echo *echo)
{
    const uint64_t one = 1;
    ssize_t written = write(echo->wake, &one, sizeof(one));
    (void)written;
}

enum status rpc_echo_start(const char *address, struct rpc_echo **out, struct reason *why)
{
    struct rpc_echo *echo = mem_alloc(sizeof(*echo));
    const struct rpc_server_params params = {
        .address = address,
        .methods = methods,
        .method_count = sizeof(methods) / sizeof(methods[0]),
        .descriptor_set = {rpc_echo_descriptors, rpc_echo_descriptors_bytes},
    };
    enum status status = rpc_server_start(&params, &echo->server, why);
    if (status != STATUS_OK) {
        mem_free(echo);
        return status;
    }

    pthread_condattr_t attributes;
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_mutex_init(&echo->lock, NULL);
    (void)pthread_cond_init(&echo->changed, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    echo->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert(echo->wake >= 0);
    echo->want_serving = true;
    echo->is_serving = true;
    status = thread_start("owner", own, echo, &echo->owner);
    assert(status == STATUS_OK);
    *out = echo;
    return STATUS_OK;
}

void rpc_echo_leave(struct rpc_echo *echo)
{
    (void)pthread_mutex_lock(&echo->lock);
    echo->leave = true;
    (void)pthread_mutex_unlock(&echo->lock);
    wake_up(echo);
    thread_join(&echo->owner);
}

void rpc_echo_stop(struct rpc_echo **echo)
{
    rpc_echo_leave(*echo);
    rpc_server_stop(&(*echo)->server);
    (void)close((*echo)->wake);
    (void)pthread_cond_destroy(&(*echo)->changed);
    (void)pthread_mutex_destroy(&(*echo)->lock);
    mem_free(*echo);
    *echo = NULL;
}

int rpc_echo_port(const struct rpc_echo *echo)
{
    return rpc_server_port(echo->server);
}

void rpc_echo_set_serving(struct rpc_echo *echo, bool serving)
{
    (void)pthread_mutex_lock(&echo->lock);
    echo->want_serving = serving;
    wake_up(echo);
    while (echo->is_serving != serving)
        (void)pthread_cond_wait(&echo->changed, &echo->lock);
    (void)pthread_mutex_unlock(&echo->lock);
}

void rpc_echo_pause(struct rpc_echo *echo, bool paused)
{
    (void)pthread_mutex_lock(&echo->lock);
    echo->paused = paused;
    (void)pthread_mutex_unlock(&echo->lock);
    wake_up(echo);
}

bool rpc_echo_wait(struct rpc_echo *echo, enum rpc_echo_count what, size_t wanted,
                   int64_t deadline_us)
{
    struct timespec until = {deadline_us / 1000000, deadline_us % 1000000 * 1000};
    (void)pthread_mutex_lock(&echo->lock);
    while (echo->counts[what] < wanted && !clock_passed(deadline_us))
        (void)pthread_cond_timedwait(&echo->changed, &echo->lock, &until);
    bool reached = echo->counts[what] >= wanted;
    (void)pthread_mutex_unlock(&echo->lock);
    return reached;
}

int64_t rpc_echo_deadline_us(struct rpc_echo *echo)
{
    (void)pthread_mutex_lock(&echo->lock);
    int64_t found = echo->deadline_us;
    (void)pthread_mutex_unlock(&echo->lock);
    return found;
}

int64_t rpc_echo_cancelled_us(struct rpc_echo *echo)
{
    (void)pthread_mutex_lock(&echo->lock);
    int64_t found = echo->cancelled_us;
    (void)pthread_mutex_unlock(&echo->lock);
    return found;
}

size_t rpc_echo_running(struct rpc_echo *echo)
{
    (void)pthread_mutex_lock(&echo->lock);
    size_t found = echo->running;
    (void)pthread_mutex_unlock(&echo->lock);
    return found;
}
