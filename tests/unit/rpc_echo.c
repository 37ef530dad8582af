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

enum { METHOD_ECHO, METHOD_COLLECT, METHOD_FAIL, METHOD_REPEAT, METHOD_CHAT, METHOD_HANG };

static const struct rpc_method methods[] = {
    [METHOD_ECHO] = {RPC_ECHO_PATH, false, false},
    [METHOD_COLLECT] = {RPC_ECHO_COLLECT_PATH, true, false},
    [METHOD_FAIL] = {RPC_ECHO_FAIL_PATH, false, false},
    [METHOD_REPEAT] = {RPC_ECHO_REPEAT_PATH, false, true},
    [METHOD_CHAT] = {RPC_ECHO_CHAT_PATH, true, true},
    [METHOD_HANG] = {RPC_ECHO_HANG_PATH, false, false},
};

// What a stream remembers.
struct total {
    uint64_t messages;
    uint64_t bytes;
    bool waiting;          // paused: a read is due
    uint32_t left;         // Repeat: messages to be sent
    uint32_t each;         // Repeat: bytes of one
    enum status end;       // Repeat
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

static void send_copy(struct rpc_call *call, struct bytes message)
{
    struct buffer reply = {.count = 0};
    enum status status = buffer_append(&reply, message.data, message.count);
    assert(status == STATUS_OK);
    rpc_call_send(call, &reply);
}

static void finish_total(struct rpc_call *call, struct total *total)
{
    uint8_t packed[18] = {[0] = 0x09, [9] = 0x11}; // Total: two fixed64
    bytes_put_u64_le(packed + 1, total->messages);
    bytes_put_u64_le(packed + 10, total->bytes);
    finish_copy(call, (struct bytes){packed, sizeof(packed)});
}

static void finish_with(struct rpc_call *call, enum status status)
{
    if (status == STATUS_OK) {
        rpc_call_finish(call, STATUS_OK, NULL, NULL);
        return;
    }
    struct reason why = {.field = ""};
    (void)reason_set(&why, status, RPC_ECHO_FAIL_FIELD, "%s", RPC_ECHO_FAIL_TEXT);
    rpc_call_finish(call, status, NULL, &why);
}

// FailRequest: one varint below 128.
static void fail_as_asked(struct rpc_call *call, struct bytes message)
{
    enum status status = STATUS_INTERNAL;
    if (message.count == 2 && message.data[0] == 0x08)
        status = (enum status)message.data[1];
    finish_with(call, status);
}

void rpc_echo_repeat(uint32_t count, uint32_t bytes, enum status status,
                     uint8_t out[RPC_ECHO_REPEAT_BYTES])
{
    const uint32_t values[] = {count, bytes, (uint32_t)status};
    for (size_t i = 0; i < 3; i++) {
        out[5 * i] = (uint8_t)((i + 1) << 3 | 5);
        bytes_put_u32_le(out + 5 * i + 1, values[i]);
    }
}

// Text of as many bytes, all told: tag, length in four bytes, the letters.
static void send_repeated(struct total *total)
{
    struct buffer message = {.count = 0};
    uint32_t letters = total->each > 5 ? total->each - 5 : 0;
    const uint8_t head[5] = {0x0a, (uint8_t)(letters | 0x80), (uint8_t)(letters >> 7 | 0x80),
                             (uint8_t)(letters >> 14 | 0x80), (uint8_t)(letters >> 21)};
    enum status status = buffer_append(&message, head, sizeof(head));
    static const char some[4096];
    for (size_t done = 0; done < letters && !status; done += sizeof(some))
        status = buffer_append(&message, some,
                               letters - done < sizeof(some) ? letters - done : sizeof(some));
    assert(status == STATUS_OK);
    total->left--;
    rpc_call_send(total->call, &message);
}

static void repeat(struct total *total)
{
    if (total->left > 0)
        send_repeated(total);
    else
        finish_with(total->call, total->end);
}

static void begin_repeat(struct total *total, struct bytes message)
{
    if (message.count != RPC_ECHO_REPEAT_BYTES) { // proto3 leaves out what is 0
        finish_with(total->call, STATUS_INVALID);
        return;
    }
    total->left = bytes_get_u32_le(message.data + 1);
    total->each = bytes_get_u32_le(message.data + 6);
    total->end = (enum status)bytes_get_u32_le(message.data + 11);
    repeat(total);
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
    case METHOD_COLLECT:
    case METHOD_CHAT: {
        struct total *total = new_total(echo, event->call);
        rpc_call_set_context(event->call, total);
        next_message(echo, total);
        break;
    }
    case METHOD_REPEAT: {
        struct total *total = new_total(echo, event->call);
        rpc_call_set_context(event->call, total);
        begin_repeat(total, event->message);
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
        if (rpc_call_method(event->call) == METHOD_CHAT)
            send_copy(event->call, event->message);
        else
            next_message(echo, total);
        count(echo, RPC_ECHO_MESSAGES);
        break;
    case RPC_SENT:
        if (rpc_call_method(event->call) == METHOD_CHAT)
            next_message(echo, total);
        else
            repeat(total);
        count(echo, RPC_ECHO_SENT);
        break;
    case RPC_END:
        if (rpc_call_method(event->call) == METHOD_CHAT)
            finish_with(event->call, STATUS_OK);
        else
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
        .field = "--listen",
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

size_t rpc_echo_counted(struct rpc_echo *echo, enum rpc_echo_count what)
{
    (void)pthread_mutex_lock(&echo->lock);
    size_t counted = echo->counts[what];
    (void)pthread_mutex_unlock(&echo->lock);
    return counted;
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
