// SPDX-License-Identifier: Apache-2.0
// Goal: calls go through from a client to the owner and back, and whatever ends one early (an
// error, a deadline, a cancel, a stop, too much load) is told to both sides soon and in words.
//
// Method: the echo server with its own owner thread and our own client, in one process over TCP.

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/bytes.h"
#include "proto/base/clock.h"
#include "proto/base/limits.h"
#include "proto/base/mem.h"
#include "proto/base/thread.h"
#include "proto/rpc/rpc_client.h"
#include "proto/rpc/rpc_server.h"
#include "tests/unit/rpc_echo.h"

#define LONG_US 20000000 // nothing here takes so long unless it is broken
#define QUICK_US 200000  // what "at once" means between two threads of a busy machine

static struct rpc_echo *echo;
static char address[64];
static struct rpc_client *client;
static struct buffer reply;
static struct reason why;

static struct rpc_client *new_client(void)
{
    struct rpc_client *made = NULL;
    cr_assert(eq(int, rpc_client_open(address, &made, &why), STATUS_OK));
    return made;
}

static void begin(void)
{
    cr_assert(eq(int, rpc_echo_start("127.0.0.1:0", &echo, &why), STATUS_OK));
    (void)snprintf(address, sizeof(address), "127.0.0.1:%d", rpc_echo_port(echo));
    client = new_client();
}

static void end(void)
{
    rpc_client_close(&client);
    if (echo)
        rpc_echo_stop(&echo);
    buffer_deinit(&reply);
}

TestSuite(rpc_calls, .init = begin, .fini = end);

static struct rpc_client_call call_to(const char *path)
{
    return (struct rpc_client_call){.path = path, .deadline_us = clock_deadline_in_us(LONG_US)};
}

static enum status unary(const char *path, const void *data, size_t count)
{
    const struct rpc_client_call call = call_to(path);
    return rpc_client_unary(client, &call, (struct bytes){data, count}, &reply, &why);
}

static void expect_alive(void)
{
    reply.count = 0;
    cr_assert(eq(int, unary(RPC_ECHO_PATH, "alive", 5), STATUS_OK), "%s", why.text);
    cr_expect(eq(sz, reply.count, 5));
}

static struct rpc_stream *open_stream(struct rpc_client *by, const char *path, int64_t deadline_us)
{
    const struct rpc_client_call call = {.path = path, .deadline_us = deadline_us};
    struct rpc_stream *stream = NULL;
    cr_assert(eq(int, rpc_stream_open(by, &call, &stream, &why), STATUS_OK));
    return stream;
}

// --- what goes well

Test(rpc_calls, a_unary_call_comes_back)
{
    cr_assert(eq(int, buffer_append(&reply, "> ", 2), STATUS_OK));
    cr_assert(eq(int, unary(RPC_ECHO_PATH, "hello", 5), STATUS_OK), "%s", why.text);
    cr_assert(eq(sz, reply.count, 7));
    cr_expect(memcmp(reply.data, "> hello", 7) == 0); // appended
}

Test(rpc_calls, an_empty_message_is_a_message)
{
    cr_assert(eq(int, unary(RPC_ECHO_PATH, NULL, 0), STATUS_OK), "%s", why.text);
    cr_expect(eq(sz, reply.count, 0));
}

Test(rpc_calls, a_message_of_16_mib_comes_back_unchanged)
{
    size_t count = 16u << 20;
    uint8_t *data = malloc(count);
    for (size_t i = 0; i < count; i++)
        data[i] = (uint8_t)(i * 2654435761u >> 24);
    cr_assert(eq(int, unary(RPC_ECHO_PATH, data, count), STATUS_OK), "%s", why.text);
    cr_assert(eq(sz, reply.count, count));
    cr_expect(memcmp(reply.data, data, count) == 0);
    free(data);
}

Test(rpc_calls, a_stream_of_100_messages_arrives_whole)
{
    struct rpc_stream *stream = open_stream(client, RPC_ECHO_COLLECT_PATH, DEADLINE_NONE);
    uint8_t message[5000] = {0};
    for (size_t i = 0; i < 100; i++)
        cr_assert(eq(int, rpc_stream_send(stream, (struct bytes){message, i * 50}), STATUS_OK));
    cr_assert(eq(int, rpc_stream_finish(&stream, &reply, &why), STATUS_OK), "%s", why.text);
    cr_expect(eq(ptr, stream, NULL));
    cr_assert(eq(sz, reply.count, 18));
    cr_expect(eq(u64, bytes_get_u64_le(reply.data + 1), 100));
    cr_expect(eq(u64, bytes_get_u64_le(reply.data + 10), 50 * 99 * 100 / 2));
}

Test(rpc_calls, an_empty_stream_is_a_stream)
{
    struct rpc_stream *stream = open_stream(client, RPC_ECHO_COLLECT_PATH, DEADLINE_NONE);
    cr_assert(eq(int, rpc_stream_finish(&stream, &reply, &why), STATUS_OK), "%s", why.text);
    cr_expect(eq(u64, bytes_get_u64_le(reply.data + 1), 0));
}

#define PARALLEL 200
#define CALLS_EACH 5

static void call_often(struct thread *self, void *context)
{
    size_t *good = context;
    thread_ready(self, STATUS_OK);
    struct rpc_client *mine = new_client();
    for (size_t i = 0; i < CALLS_EACH; i++) {
        struct buffer got = {.count = 0};
        const struct rpc_client_call call = call_to(RPC_ECHO_PATH);
        const struct bytes request = {(const uint8_t *)&i, sizeof(i)};
        if (rpc_client_unary(mine, &call, request, &got, NULL) == STATUS_OK &&
            got.count == sizeof(i) && memcmp(got.data, &i, sizeof(i)) == 0)
            (*good)++;
        buffer_deinit(&got);
    }
    rpc_client_close(&mine);
}

Test(rpc_calls, two_hundred_clients_at_once_are_served)
{
    struct thread *threads[PARALLEL];
    size_t good[PARALLEL] = {0};
    for (size_t i = 0; i < PARALLEL; i++)
        cr_assert(eq(int, thread_start("caller", call_often, &good[i], &threads[i]), STATUS_OK));
    for (size_t i = 0; i < PARALLEL; i++) {
        thread_join(&threads[i]);
        cr_expect(eq(sz, good[i], CALLS_EACH));
    }
    cr_assert(rpc_echo_wait(echo, RPC_ECHO_DONE, (size_t)PARALLEL * CALLS_EACH,
                            clock_deadline_in_us(LONG_US)));
    cr_expect(eq(sz, rpc_echo_running(echo), 0));
}

// --- streams to the client

static struct rpc_stream *open_server_stream(const char *path, int64_t deadline_us)
{
    const struct rpc_client_call call = {
        .path = path, .deadline_us = deadline_us, .server_streams = true};
    struct rpc_stream *stream = NULL;
    cr_assert(eq(int, rpc_stream_open(client, &call, &stream, &why), STATUS_OK));
    return stream;
}

static struct rpc_stream *ask_repeat(uint32_t count, uint32_t bytes, enum status status,
                                     int64_t deadline_us)
{
    uint8_t request[RPC_ECHO_REPEAT_BYTES];
    rpc_echo_repeat(count, bytes, status, request);
    struct rpc_stream *stream = open_server_stream(RPC_ECHO_REPEAT_PATH, deadline_us);
    cr_assert(
        eq(int, rpc_stream_send(stream, (struct bytes){request, sizeof(request)}), STATUS_OK));
    rpc_stream_close(stream);
    return stream;
}

static void expect_streamed(struct rpc_stream *stream, size_t count, size_t bytes)
{
    bool ended = true;
    for (size_t i = 0; i < count; i++) {
        cr_assert(eq(int, rpc_stream_receive(stream, &reply, &ended), STATUS_OK));
        cr_assert(not(ended));
        cr_assert(eq(sz, reply.count, bytes));
    }
}

static void expect_stream_end(struct rpc_stream **stream, enum status status)
{
    bool ended = false;
    cr_assert(eq(int, rpc_stream_receive(*stream, &reply, &ended), STATUS_OK));
    cr_assert(ended);
    cr_assert(eq(int, rpc_stream_receive(*stream, &reply, &ended), STATUS_OK)); // and stays so
    cr_assert(ended);
    cr_expect(eq(int, rpc_stream_finish(stream, NULL, &why), status), "%s", why.text);
    cr_expect(eq(ptr, *stream, NULL));
}

Test(rpc_calls, a_server_stream_arrives_whole)
{
    struct rpc_stream *stream = ask_repeat(1000, 100, STATUS_OK, DEADLINE_NONE);
    expect_streamed(stream, 1000, 100);
    expect_stream_end(&stream, STATUS_OK);
    stream = ask_repeat(20, 1u << 20, STATUS_OK, DEADLINE_NONE);
    expect_streamed(stream, 20, 1u << 20);
    expect_stream_end(&stream, STATUS_OK);
    stream = ask_repeat(0, 0, STATUS_OK, DEADLINE_NONE);
    expect_stream_end(&stream, STATUS_OK);
    expect_alive();
}

Test(rpc_calls, a_status_with_its_details_comes_after_the_streamed_messages)
{
    struct rpc_stream *stream = ask_repeat(3, 10, STATUS_FAILED_PRECONDITION, DEADLINE_NONE);
    expect_streamed(stream, 3, 10);
    expect_stream_end(&stream, STATUS_FAILED_PRECONDITION);
    cr_expect(eq(str, why.field, (char *)RPC_ECHO_FAIL_FIELD));
    cr_expect(eq(str, why.text, (char *)RPC_ECHO_FAIL_TEXT));
}

Test(rpc_calls, a_chat_goes_on_after_the_client_has_closed_its_side)
{
    struct rpc_stream *stream = open_server_stream(RPC_ECHO_CHAT_PATH, DEADLINE_NONE);
    bool ended = true;
    for (uint32_t i = 0; i < 10; i++) { // one after the other
        cr_assert(
            eq(int, rpc_stream_send(stream, (struct bytes){(uint8_t *)&i, sizeof(i)}), STATUS_OK));
        cr_assert(eq(int, rpc_stream_receive(stream, &reply, &ended), STATUS_OK));
        cr_assert(eq(sz, reply.count, sizeof(i)));
        cr_expect(memcmp(reply.data, &i, sizeof(i)) == 0);
    }
    for (size_t i = 0; i < 5; i++)
        cr_assert(eq(int, rpc_stream_send(stream, (struct bytes){NULL, 0}), STATUS_OK));
    rpc_stream_close(stream);
    expect_streamed(stream, 5, 0);
    expect_stream_end(&stream, STATUS_OK);
}

#define STALL_MESSAGES 2000 // of 64 KiB: what never leaves while nobody reads
#define STALL_US 300000

static struct rpc_stream *ask_stalled(int64_t deadline_us)
{
    struct rpc_stream *stream = ask_repeat(1u << 20, 1u << 16, STATUS_OK, deadline_us);
    // Stalled is who has sent nothing more for a while; a slow machine takes its time to get there.
    size_t sent = 0;
    while (sent < STALL_MESSAGES &&
           rpc_echo_wait(echo, RPC_ECHO_SENT, sent + 1,
                         clock_deadline_in_us(sent == 0 ? LONG_US : STALL_US)))
        sent = rpc_echo_counted(echo, RPC_ECHO_SENT);
    cr_assert(lt(sz, sent, STALL_MESSAGES));
    return stream;
}

static void expect_cancelled_and_gone(void)
{
    cr_assert(rpc_echo_wait(echo, RPC_ECHO_CANCELLED, 1, clock_deadline_in_us(LONG_US)));
    cr_assert(rpc_echo_wait(echo, RPC_ECHO_DONE, 1, clock_deadline_in_us(LONG_US)));
    cr_expect(eq(sz, rpc_echo_running(echo), 0));
}

Test(rpc_calls, a_client_that_does_not_read_stops_the_server_from_sending)
{
    struct rpc_stream *stream = ask_stalled(DEADLINE_NONE);
    size_t sent = rpc_echo_counted(echo, RPC_ECHO_SENT);
    cr_expect(not(rpc_echo_wait(echo, RPC_ECHO_SENT, sent + 1, clock_deadline_in_us(STALL_US))));
    expect_streamed(stream, STALL_MESSAGES, 1u << 16); // and reading lets it go on
    cr_expect(eq(int, rpc_stream_finish(&stream, NULL, &why), STATUS_CANCELLED));
    expect_cancelled_and_gone();
}

Test(rpc_calls, a_server_stream_that_nobody_reads_ends_at_its_deadline)
{
    int64_t deadline_us = clock_deadline_in_us(500000);
    struct rpc_stream *stream = ask_stalled(deadline_us);
    expect_cancelled_and_gone();
    cr_expect(lt(i64, llabs(rpc_echo_cancelled_us(echo) - deadline_us), QUICK_US));
    bool ended = false;
    while (!ended)
        cr_assert(eq(int, rpc_stream_receive(stream, &reply, &ended), STATUS_OK));
    cr_expect(eq(int, rpc_stream_finish(&stream, NULL, &why), STATUS_DEADLINE));
}

// Cuts this process's connections to the server, as a client that was killed does.
static void vanish(void)
{
    size_t cut = 0;
    for (int fd = 3; fd < 1024; fd++) {
        struct sockaddr_in6 peer; // gRPC's sockets are of both families
        socklen_t bytes = sizeof(peer);
        if (getpeername(fd, (struct sockaddr *)&peer, &bytes) == 0 &&
            (peer.sin6_family == AF_INET6 || peer.sin6_family == AF_INET) &&
            ntohs(peer.sin6_port) == rpc_echo_port(echo))
            cut += shutdown(fd, SHUT_RDWR) == 0;
    }
    cr_assert(eq(sz, cut, 1));
}

Test(rpc_calls, a_client_that_vanishes_in_a_stream_leaves_nothing)
{
    struct rpc_stream *stream = ask_stalled(DEADLINE_NONE);
    vanish();
    expect_cancelled_and_gone();
    cr_expect(ne(int, rpc_stream_finish(&stream, NULL, &why), STATUS_OK));
    expect_alive();
}

// --- errors

Test(rpc_calls, every_status_arrives_with_field_and_text)
{
    for (int number = 1; number <= STATUS_INTERNAL; number++) {
        const uint8_t request[] = {0x08, (uint8_t)number};
        memset(&why, 0, sizeof(why));
        cr_expect(eq(int, unary(RPC_ECHO_FAIL_PATH, request, 2), number));
        cr_expect(eq(str, why.field, (char *)RPC_ECHO_FAIL_FIELD));
        cr_expect(eq(str, why.text, (char *)RPC_ECHO_FAIL_TEXT));
    }
    cr_expect(eq(sz, reply.count, 0));
}

Test(rpc_calls, ok_without_a_reply_is_an_empty_message)
{
    const uint8_t request[] = {0x08, 0};
    cr_expect(eq(int, unary(RPC_ECHO_FAIL_PATH, request, 2), STATUS_OK));
    cr_expect(eq(sz, reply.count, 0));
}

Test(rpc_calls, an_unknown_method_is_refused_at_once_by_name)
{
    expect_alive(); // connected
    static const char *const paths[] = {"/reco.test.Echo/Missing", "/no.Such/Thing", "/x",
                                        "/grpc.health.v1.Health/List"};
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        int64_t started = clock_now_us();
        cr_expect(eq(int, unary(paths[i], "x", 1), STATUS_UNSUPPORTED));
        cr_expect(lt(i64, clock_now_us() - started, 100000));
        cr_expect(ne(ptr, strstr(why.text, paths[i]), NULL), "%s", why.text);
    }
    expect_alive();
}

Test(rpc_calls, a_message_over_the_limit_is_refused_and_the_server_goes_on)
{
    size_t count = (size_t)MESSAGE_BYTES_MAX + 1;
    uint8_t *data = calloc(1, count);
    cr_expect(eq(int, unary(RPC_ECHO_PATH, data, count), STATUS_EXHAUSTED), "%s", why.text);
    expect_alive();

    struct rpc_stream *stream = open_stream(client, RPC_ECHO_COLLECT_PATH, DEADLINE_NONE);
    (void)!rpc_stream_send(stream, (struct bytes){data, count});
    cr_expect(eq(int, rpc_stream_finish(&stream, &reply, &why), STATUS_EXHAUSTED), "%s", why.text);
    cr_expect(rpc_echo_wait(echo, RPC_ECHO_CANCELLED, 1, clock_deadline_in_us(LONG_US)));
    expect_alive();
    free(data);
}

Test(rpc_calls, a_message_of_exactly_the_limit_is_taken)
{
    uint8_t *data = calloc(1, MESSAGE_BYTES_MAX);
    struct rpc_stream *stream = open_stream(client, RPC_ECHO_COLLECT_PATH, DEADLINE_NONE);
    (void)!rpc_stream_send(stream, (struct bytes){data, MESSAGE_BYTES_MAX});
    cr_assert(eq(int, rpc_stream_finish(&stream, &reply, &why), STATUS_OK), "%s", why.text);
    cr_expect(eq(u64, bytes_get_u64_le(reply.data + 10), MESSAGE_BYTES_MAX));
    free(data);
}

Test(rpc_calls, a_message_without_memory_for_it_is_refused_and_the_server_goes_on)
{
    size_t count = 1u << 20; // comes in many pieces, which are put together
    uint8_t *data = calloc(1, count);
    expect_alive();
    mem_fail_after(1);
    enum status status = unary(RPC_ECHO_PATH, data, count);
    mem_fail_after(0);
    cr_expect(eq(int, status, STATUS_EXHAUSTED), "%s", why.text); // no memory for details either
    cr_expect(ne(ptr, strstr(why.text, "no memory"), NULL), "%s", why.text);

    struct rpc_stream *stream = open_stream(client, RPC_ECHO_COLLECT_PATH, DEADLINE_NONE);
    mem_fail_after(1);
    (void)!rpc_stream_send(stream, (struct bytes){data, count});
    status = rpc_stream_finish(&stream, &reply, &why);
    mem_fail_after(0);
    cr_expect(eq(int, status, STATUS_EXHAUSTED), "%s", why.text);
    free(data);
    expect_alive();
}

Test(rpc_calls, a_reply_larger_than_the_callers_buffer_is_no_memory)
{
    reply.count_max = 4;
    cr_expect(eq(int, unary(RPC_ECHO_PATH, "hello", 5), STATUS_NO_MEMORY));
    cr_expect(eq(sz, reply.count, 0));
    reply.count_max = 0;
}

Test(rpc_calls, a_request_id_that_cannot_be_one_is_refused_before_sending)
{
    char id[REQUEST_ID_BYTES_MAX + 2];
    memset(id, 'a', sizeof(id));
    struct rpc_client_call call = call_to(RPC_ECHO_PATH);
    const size_t bad_bytes = sizeof(id) - 1;
    const struct text bad[] = {{id, bad_bytes}, {"a b", 3}, {"a\n", 2}, {"\xc3\xa4", 2}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        call.request_id = bad[i];
        cr_expect(eq(int, rpc_client_unary(client, &call, (struct bytes){NULL, 0}, &reply, &why),
                     STATUS_INVALID));
        cr_expect(eq(str, why.field, (char *)"request id"));
    }
    call.request_id = (struct text){id, REQUEST_ID_BYTES_MAX};
    cr_expect(
        eq(int, rpc_client_unary(client, &call, (struct bytes){NULL, 0}, &reply, &why), STATUS_OK));
}

// --- ends

Test(rpc_calls, a_deadline_reaches_both_sides)
{
    int64_t deadline_us = clock_deadline_in_us(300000);
    const struct rpc_client_call call = {.path = RPC_ECHO_HANG_PATH, .deadline_us = deadline_us};
    cr_expect(eq(int, rpc_client_unary(client, &call, (struct bytes){NULL, 0}, &reply, &why),
                 STATUS_DEADLINE));
    cr_expect(lt(i64, clock_now_us() - deadline_us, QUICK_US));
    cr_expect(ne(ptr, strstr(why.text, address), NULL), "%s", why.text);

    cr_assert(rpc_echo_wait(echo, RPC_ECHO_DONE, 1, clock_deadline_in_us(LONG_US)));
    int64_t late_us = rpc_echo_cancelled_us(echo) - deadline_us;
    cr_expect(lt(i64, llabs(late_us), QUICK_US));
    // The deadline travels as what is left of it, in units of a millisecond or finer.
    cr_expect(lt(i64, llabs(rpc_echo_deadline_us(echo) - deadline_us), QUICK_US));
}

Test(rpc_calls, no_deadline_is_none_at_the_owner_too)
{
    const struct rpc_client_call call = {.path = RPC_ECHO_PATH, .deadline_us = DEADLINE_NONE};
    cr_assert(
        eq(int, rpc_client_unary(client, &call, (struct bytes){NULL, 0}, &reply, &why), STATUS_OK));
    cr_assert(rpc_echo_wait(echo, RPC_ECHO_CALLS, 1, clock_deadline_in_us(LONG_US)));
    cr_expect(eq(i64, rpc_echo_deadline_us(echo), DEADLINE_NONE));
}

Test(rpc_calls, a_deadline_that_has_passed_already_is_told_so)
{
    const struct rpc_client_call call = {.path = RPC_ECHO_PATH, .deadline_us = clock_now_us() - 1};
    cr_expect(eq(int, rpc_client_unary(client, &call, (struct bytes){NULL, 0}, &reply, &why),
                 STATUS_DEADLINE));
    expect_alive();
}

struct interrupt {
    struct rpc_echo *echo;
    struct rpc_client *client;
    int64_t at_us;
};

static void interrupt_when_it_hangs(struct thread *self, void *context)
{
    struct interrupt *interrupt = context;
    thread_ready(self, STATUS_OK);
    (void)rpc_echo_wait(interrupt->echo, RPC_ECHO_CALLS, 1, clock_deadline_in_us(LONG_US));
    interrupt->at_us = clock_now_us();
    rpc_client_interrupt(interrupt->client);
}

Test(rpc_calls, an_interrupt_reaches_both_sides)
{
    struct interrupt interrupt = {echo, client, 0};
    struct thread *thread;
    cr_assert(
        eq(int, thread_start("ctrl-c", interrupt_when_it_hangs, &interrupt, &thread), STATUS_OK));
    cr_expect(eq(int, unary(RPC_ECHO_HANG_PATH, "x", 1), STATUS_CANCELLED));
    int64_t here_us = clock_now_us();
    thread_join(&thread);
    cr_expect(lt(i64, here_us - interrupt.at_us, QUICK_US));
    cr_expect(eq(str, why.text, (char *)"the call was interrupted"));
    cr_assert(rpc_echo_wait(echo, RPC_ECHO_DONE, 1, clock_deadline_in_us(LONG_US)));
    cr_expect(lt(i64, rpc_echo_cancelled_us(echo) - interrupt.at_us, QUICK_US));

    rpc_client_interrupt(client); // nothing waits: nothing happens
    expect_alive();
}

Test(rpc_calls, a_stream_that_nobody_reads_ends_at_its_deadline)
{
    rpc_echo_pause(echo, true);
    size_t count = 1u << 20;
    uint8_t *data = calloc(1, count);
    int64_t deadline_us = clock_deadline_in_us(500000);
    struct rpc_stream *stream = open_stream(client, RPC_ECHO_COLLECT_PATH, deadline_us);
    size_t sent = 0;
    while (rpc_stream_send(stream, (struct bytes){data, count}) == STATUS_OK)
        cr_assert(lt(sz, ++sent, 256)); // flow control holds the rest back
    cr_expect(eq(int, rpc_stream_send(stream, (struct bytes){data, 1}), STATUS_UNAVAILABLE));
    cr_expect(eq(int, rpc_stream_finish(&stream, &reply, &why), STATUS_DEADLINE));
    cr_assert(rpc_echo_wait(echo, RPC_ECHO_DONE, 1, clock_deadline_in_us(LONG_US)));
    free(data);

    rpc_echo_pause(echo, false);
    expect_alive();
}

Test(rpc_calls, a_server_that_stops_tells_everyone_and_leaves_nothing)
{
    struct rpc_client *others[8];
    struct rpc_stream *streams[8];
    for (size_t i = 0; i < 8; i++) {
        others[i] = new_client();
        streams[i] = open_stream(others[i], i % 2 ? RPC_ECHO_HANG_PATH : RPC_ECHO_COLLECT_PATH,
                                 DEADLINE_NONE);
        cr_assert(eq(int, rpc_stream_send(streams[i], (struct bytes){NULL, 0}), STATUS_OK));
    }
    cr_assert(rpc_echo_wait(echo, RPC_ECHO_CALLS, 8, clock_deadline_in_us(LONG_US)));
    cr_assert(rpc_echo_wait(echo, RPC_ECHO_MESSAGES, 4, clock_deadline_in_us(LONG_US)));

    int64_t started_us = clock_now_us();
    rpc_echo_stop(&echo);
    cr_expect(lt(i64, clock_now_us() - started_us, 2000000));
    for (size_t i = 0; i < 8; i++) {
        cr_expect(eq(int, rpc_stream_finish(&streams[i], &reply, &why), STATUS_UNAVAILABLE));
        cr_expect(eq(str, why.text, (char *)"the server is stopping"));
        rpc_client_close(&others[i]);
    }
    cr_expect(eq(int, unary(RPC_ECHO_PATH, "x", 1), STATUS_UNAVAILABLE));
}

Test(rpc_calls, calls_beyond_the_limit_are_told_to_come_back)
{
    static struct rpc_client *clients[RPC_CALLS_MAX];
    static struct rpc_stream *streams[RPC_CALLS_MAX];
    for (size_t i = 0; i < RPC_CALLS_MAX; i++) {
        clients[i] = new_client();
        streams[i] = open_stream(clients[i], RPC_ECHO_HANG_PATH, DEADLINE_NONE);
        cr_assert(eq(int, rpc_stream_send(streams[i], (struct bytes){NULL, 0}), STATUS_OK));
    }
    cr_assert(rpc_echo_wait(echo, RPC_ECHO_CALLS, RPC_CALLS_MAX, clock_deadline_in_us(LONG_US)));

    for (size_t i = 0; i < 100; i++) {
        cr_expect(eq(int, unary(RPC_ECHO_PATH, "x", 1), STATUS_EXHAUSTED));
        cr_expect(ne(ptr, strstr(why.text, "256 calls"), NULL), "%s", why.text);
    }
    cr_expect(eq(int, rpc_client_health(client, clock_deadline_in_us(LONG_US), &why), STATUS_OK));
    cr_expect(eq(int, unary("/no.Such/Thing", "x", 1), STATUS_UNSUPPORTED));

    for (size_t i = 0; i < RPC_CALLS_MAX; i++) {
        rpc_client_interrupt(clients[i]);
        cr_expect(eq(int, rpc_stream_finish(&streams[i], &reply, &why), STATUS_CANCELLED));
        rpc_client_close(&clients[i]);
    }
    cr_assert(rpc_echo_wait(echo, RPC_ECHO_DONE, RPC_CALLS_MAX, clock_deadline_in_us(LONG_US)));
    expect_alive();
}

#define WATCHERS (64 + 6)

Test(rpc_calls, watchers_beyond_their_limit_are_refused_and_checks_go_on)
{
    static struct rpc_client *clients[WATCHERS];
    static struct rpc_stream *streams[WATCHERS];
    for (size_t i = 0; i < WATCHERS; i++) {
        clients[i] = new_client();
        streams[i] =
            open_stream(clients[i], "/grpc.health.v1.Health/Watch", clock_deadline_in_us(2000000));
        cr_assert(eq(int, rpc_stream_send(streams[i], (struct bytes){NULL, 0}), STATUS_OK));
    }
    cr_expect(eq(int, rpc_client_health(client, clock_deadline_in_us(LONG_US), &why), STATUS_OK));
    expect_alive();
    size_t refused = 0;
    size_t watched = 0;
    for (size_t i = 0; i < WATCHERS; i++) {
        enum status status = rpc_stream_finish(&streams[i], &reply, &why);
        refused += status == STATUS_EXHAUSTED;
        watched += status == STATUS_DEADLINE;
        rpc_client_close(&clients[i]);
    }
    cr_expect(eq(sz, refused, 6));
    cr_expect(eq(sz, watched, 64));
}

// One question in a reflection stream; its one answer, appended to `reply`.
static enum status reflect(const char *question, size_t bytes)
{
    struct rpc_stream *stream =
        open_stream(client, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                    clock_deadline_in_us(LONG_US));
    reply.count = 0;
    cr_assert(eq(int, rpc_stream_send(stream, (struct bytes){(const uint8_t *)question, bytes}),
                 STATUS_OK));
    return rpc_stream_finish(&stream, &reply, &why);
}

static bool reply_has(const char *text)
{
    size_t bytes = strlen(text);
    for (size_t at = 0; at + bytes <= reply.count; at++)
        if (memcmp(reply.data + at, text, bytes) == 0)
            return true;
    return false;
}

Test(rpc_calls, reflection_answers_questions_and_refuses_what_is_none)
{
    cr_assert(eq(int, reflect("\x3a\x00", 2), STATUS_OK), "%s", why.text); // list_services
    cr_expect(reply_has("reco.test.Echo"));
    cr_expect(reply_has("grpc.reflection.v1alpha.ServerReflection"));

    cr_assert(eq(int, reflect("\x22\x13reco.test.Echo.Hang", 21), STATUS_OK), "%s", why.text);
    cr_expect(reply_has("rpc_echo.proto"));
    cr_assert(eq(int, reflect("\x22\x04no.S", 6), STATUS_OK), "%s", why.text);
    cr_expect(reply_has("there is no such"));

    cr_expect(eq(int, reflect("\x22\xff", 2), STATUS_INVALID));
    cr_expect(eq(int, reflect("\x22\x02\xc0\xaf", 4), STATUS_INVALID));
    expect_alive();
}

Test(rpc_calls, draining_refuses_new_calls_and_lets_running_ones_finish)
{
    struct rpc_client *other = new_client();
    struct rpc_stream *stream = open_stream(other, RPC_ECHO_COLLECT_PATH, DEADLINE_NONE);
    cr_assert(eq(int, rpc_stream_send(stream, (struct bytes){NULL, 0}), STATUS_OK));
    cr_assert(rpc_echo_wait(echo, RPC_ECHO_MESSAGES, 1, clock_deadline_in_us(LONG_US)));
    cr_expect(eq(int, rpc_client_health(client, clock_deadline_in_us(LONG_US), &why), STATUS_OK));

    rpc_echo_set_serving(echo, false);
    cr_expect(eq(int, unary(RPC_ECHO_PATH, "x", 1), STATUS_UNAVAILABLE));
    cr_expect(eq(str, why.text, (char *)"the server takes no new calls"));
    cr_expect(eq(int, rpc_client_health(client, clock_deadline_in_us(LONG_US), &why),
                 STATUS_UNAVAILABLE));
    cr_expect(ne(ptr, strstr(why.text, "not serving"), NULL), "%s", why.text);
    cr_expect(eq(int, rpc_stream_finish(&stream, &reply, &why), STATUS_OK), "%s", why.text);
    rpc_client_close(&other);

    rpc_echo_set_serving(echo, true);
    expect_alive();
}

// --- reaching a server

Test(rpc_calls, two_servers_on_one_port_are_refused)
{
    struct rpc_echo *second = NULL;
    cr_expect(eq(int, rpc_echo_start(address, &second, &why), STATUS_UNAVAILABLE));
    cr_expect(eq(str, why.field, (char *)"--listen"));
    cr_expect(ne(ptr, strstr(why.text, "in use"), NULL), "%s", why.text);
    expect_alive();
}

Test(rpc_calls, addresses_that_others_can_reach_are_refused)
{
    static const char *const far[] = {"0.0.0.0:0", "[::]:0", "10.0.0.1:0", "example.test:0"};
    struct rpc_echo *second = NULL;
    for (size_t i = 0; i < sizeof(far) / sizeof(far[0]); i++) {
        cr_expect(eq(int, rpc_echo_start(far[i], &second, &why), STATUS_INVALID));
        cr_expect(ne(ptr, strstr(why.text, "[tls] certificate"), NULL), "%s", why.text);
    }
    cr_expect(eq(int, rpc_echo_start("127.0.0.1", &second, &why), STATUS_INVALID));
    cr_expect(eq(int, rpc_echo_start("localhost:0", &second, &why), STATUS_OK), "%s", why.text);
    rpc_echo_stop(&second);
}

Test(rpc_calls, nobody_there_is_told_soon_and_by_address)
{
    rpc_echo_stop(&echo);
    int64_t started_us = clock_now_us();
    cr_expect(eq(int, unary(RPC_ECHO_PATH, "x", 1), STATUS_UNAVAILABLE));
    cr_expect(lt(i64, clock_now_us() - started_us, 1000000));
    cr_expect(ne(ptr, strstr(why.text, address), NULL), "%s", why.text);
    cr_expect(eq(int, rpc_client_health(client, clock_deadline_in_us(LONG_US), &why),
                 STATUS_UNAVAILABLE));

    // The same client reaches a server that starts there later.
    cr_assert(eq(int, rpc_echo_start(address, &echo, &why), STATUS_OK), "%s", why.text);
    int64_t deadline_us = clock_deadline_in_us(LONG_US);
    enum status status = STATUS_UNAVAILABLE;
    while (status == STATUS_UNAVAILABLE && !clock_passed(deadline_us))
        status = rpc_client_health(client, deadline_us, &why);
    cr_expect(eq(int, status, STATUS_OK), "%s", why.text);
}

Test(rpc_calls, an_address_that_is_none_is_refused_at_opening)
{
    static const char *const bad[] = {"", "localhost", "127.0.0.1:0", "http://127.0.0.1:80/"};
    struct rpc_client *none = NULL;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_expect(eq(int, rpc_client_open(bad[i], &none, &why), STATUS_INVALID));
    cr_expect(eq(ptr, none, NULL));
    rpc_client_close(&none);
}
