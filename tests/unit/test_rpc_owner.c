// SPDX-License-Identifier: Apache-2.0
// Goal: the owner of a server sees the events of a call in the promised order and no others.
//
// Method: the test itself is the owner. Client streams open and send without waiting for an
// answer, so one thread plays both sides.

#include <poll.h>
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/clock.h"
#include "proto/rpc/rpc_client.h"
#include "proto/rpc/rpc_server.h"

#define LONG_MS 20000

enum { UNARY, STREAM, SERVER, BOTH, METHODS };

static const struct rpc_method methods[METHODS] = {{"/t.T/Unary", false, false},
                                                   {"/t.T/Stream", true, false},
                                                   {"/t.T/Server", false, true},
                                                   {"/t.T/Both", true, true}};

static struct rpc_server *server;
static struct rpc_client *client;
static struct rpc_stream *stream;
static struct buffer reply;
static struct reason why;
static struct rpc_event event;

static void begin(void)
{
    const struct rpc_server_params params = {
        .address = "127.0.0.1:0", .field = "--listen", .methods = methods, .method_count = METHODS};
    cr_assert(eq(int, rpc_server_start(&params, &server, &why), STATUS_OK), "%s", why.text);
    char address[32];
    (void)snprintf(address, sizeof(address), "127.0.0.1:%d", rpc_server_port(server));
    cr_assert(eq(int, rpc_client_open(address, &client, &why), STATUS_OK));
}

static void end(void)
{
    cr_expect(eq(sz, rpc_server_running(server), 0));
    rpc_client_close(&client);
    rpc_server_stop(&server);
    cr_expect(eq(ptr, server, NULL));
    buffer_deinit(&reply);
}

TestSuite(rpc_owner, .init = begin, .fini = end);

// The next event; fails the test when none comes.
static enum rpc_event_kind next(void)
{
    int64_t deadline_us = clock_deadline_in_us((int64_t)LONG_MS * 1000);
    while (!rpc_server_next(server, &event)) {
        cr_assert(not(clock_passed(deadline_us)));
        struct pollfd fd = {.fd = rpc_server_fd(server), .events = POLLIN};
        cr_assert(eq(int, poll(&fd, 1, LONG_MS), 1));
    }
    return event.kind;
}

static void open_call(int method, const char *id, int64_t deadline_us)
{
    const struct rpc_client_call call = {.path = methods[method].path,
                                         .request_id = text_of(id),
                                         .deadline_us = deadline_us,
                                         .server_streams = methods[method].server_streams};
    cr_assert(eq(int, rpc_stream_open(client, &call, &stream, &why), STATUS_OK));
}

static void send_text(const char *text)
{
    const struct bytes message = {(const uint8_t *)text, strlen(text)};
    cr_assert(eq(int, rpc_stream_send(stream, message), STATUS_OK));
}

static void expect_message(const char *text)
{
    const struct text message = {(const char *)event.message.data, event.message.count};
    cr_expect(text_equal(message, text_of(text)), "%s", text);
}

static struct buffer *answer(const char *text)
{
    static struct buffer made;
    made = (struct buffer){.count = 0};
    cr_assert(eq(int, buffer_append(&made, text, strlen(text)), STATUS_OK));
    return &made;
}

static void expect_finish(enum status status, const char *text)
{
    reply.count = 0;
    cr_expect(eq(int, rpc_stream_finish(&stream, &reply, &why), status), "%s", why.text);
    if (status == STATUS_OK)
        cr_expect(text_equal((struct text){(const char *)reply.data, reply.count}, text_of(text)));
}

Test(rpc_owner, a_unary_call_is_call_then_done)
{
    cr_expect(not(rpc_server_next(server, &event)));
    open_call(UNARY, "id-7", DEADLINE_NONE);
    send_text("question");
    cr_assert(eq(int, next(), RPC_CALL));
    expect_message("question");
    struct rpc_call *call = event.call;
    cr_expect(eq(sz, rpc_call_method(call), UNARY));
    cr_expect(text_equal(text_of(rpc_call_trace(call)->id), text_of("id-7")));
    cr_expect(eq(i64, rpc_call_deadline_us(call), DEADLINE_NONE));
    cr_expect(eq(ptr, rpc_call_context(call), NULL));
    cr_expect(eq(sz, rpc_server_running(server), 1));
    int context;
    rpc_call_set_context(call, &context);

    struct buffer *given = answer("answer");
    rpc_call_finish(call, STATUS_OK, given, NULL);
    cr_expect(eq(ptr, given->data, NULL)); // taken over
    cr_expect(eq(sz, given->count, 0));
    expect_finish(STATUS_OK, "answer");

    cr_assert(eq(int, next(), RPC_DONE));
    cr_expect(eq(ptr, event.call, call));
    cr_expect(eq(ptr, rpc_call_context(call), &context));
    cr_expect(eq(sz, rpc_server_running(server), 0));
    cr_expect(not(rpc_server_next(server, &event)));
}

Test(rpc_owner, messages_under_way_are_bounded_by_the_memory_limit)
{
    static uint8_t large[20 << 20]; // two are more than half of the limit
    const struct rpc_limits low = {.memory_bytes = CALL_MEMORY_MIN};
    const struct bytes message = {large, sizeof(large)};
    rpc_server_set_limits(server, &low);
    open_call(UNARY, "", DEADLINE_NONE);
    cr_assert(eq(int, rpc_stream_send(stream, message), STATUS_OK));
    cr_assert(eq(int, next(), RPC_CALL));
    struct rpc_call *first = event.call;
    cr_expect(eq(sz, event.message.count, sizeof(large)));

    // Beside it there is no room for another one, as long as it is held.
    struct rpc_client *other = NULL;
    struct rpc_stream *second = NULL;
    char address[32];
    (void)snprintf(address, sizeof(address), "127.0.0.1:%d", rpc_server_port(server));
    cr_assert(eq(int, rpc_client_open(address, &other, &why), STATUS_OK));
    const struct rpc_client_call call = {.path = methods[UNARY].path, .deadline_us = DEADLINE_NONE};
    cr_assert(eq(int, rpc_stream_open(other, &call, &second, &why), STATUS_OK));
    cr_assert(eq(int, rpc_stream_send(second, message), STATUS_OK));
    int64_t deadline_us = clock_deadline_in_us((int64_t)LONG_MS * 1000);
    while (rpc_server_refusals(server).bytes == 0) {
        cr_assert(not(rpc_server_next(server, &event)));
        cr_assert(not(clock_passed(deadline_us)));
        struct pollfd fd = {.fd = rpc_server_fd(server), .events = POLLIN};
        cr_assert(ge(int, poll(&fd, 1, LONG_MS), 0));
    }
    cr_expect(eq(int, rpc_stream_finish(&second, &reply, &why), STATUS_EXHAUSTED));
    cr_expect(strstr(why.text, "at most 33554432") != NULL, "%s", why.text);

    // What is given back makes room; the default has room for both.
    rpc_call_finish(first, STATUS_OK, answer(""), NULL);
    expect_finish(STATUS_OK, "");
    cr_assert(eq(int, next(), RPC_DONE));
    cr_assert(eq(int, rpc_stream_open(other, &call, &second, &why), STATUS_OK));
    cr_assert(eq(int, rpc_stream_send(second, message), STATUS_OK));
    cr_assert(eq(int, next(), RPC_CALL));
    rpc_call_finish(event.call, STATUS_OK, answer("taken"), NULL);
    cr_expect(eq(int, rpc_stream_finish(&second, &reply, &why), STATUS_OK));
    cr_assert(eq(int, next(), RPC_DONE));
    cr_expect(eq(u64, rpc_server_refusals(server).bytes, 1));
    cr_expect(eq(u64, rpc_server_refusals(server).calls, 0));
    rpc_client_close(&other);
}

Test(rpc_owner, a_stream_is_call_messages_end_done)
{
    open_call(STREAM, "", DEADLINE_NONE);
    cr_assert(eq(int, next(), RPC_CALL));
    struct rpc_call *call = event.call;
    cr_expect(eq(sz, rpc_call_method(call), STREAM));
    cr_expect(eq(sz, strlen(rpc_call_trace(call)->id), 0));
    cr_expect(eq(sz, event.message.count, 0));

    static const char *const texts[] = {"one", "", "three"};
    for (size_t i = 0; i < 3; i++) {
        send_text(texts[i]);
        rpc_call_read(call);
        cr_assert(eq(int, next(), RPC_MESSAGE));
        cr_expect(eq(ptr, event.call, call));
        expect_message(texts[i]);
    }
    rpc_call_read(call);
    rpc_call_finish(call, STATUS_OK, answer("early"), NULL); // without waiting for the end
    expect_finish(STATUS_OK, "early");
    cr_assert(eq(int, next(), RPC_DONE));
}

Test(rpc_owner, a_cancel_comes_once_and_nothing_after_it)
{
    open_call(STREAM, "", DEADLINE_NONE);
    cr_assert(eq(int, next(), RPC_CALL));
    struct rpc_call *call = event.call;
    rpc_call_read(call);
    rpc_client_interrupt(client);
    expect_finish(STATUS_CANCELLED, NULL);
    cr_assert(eq(int, next(), RPC_CANCELLED));
    cr_expect(eq(sz, rpc_server_running(server), 1));

    rpc_call_read(call); // harmless
    struct pollfd fd = {.fd = rpc_server_fd(server), .events = POLLIN};
    while (poll(&fd, 1, 100) == 1)
        cr_assert(not(rpc_server_next(server, &event)));
    rpc_call_finish(call, STATUS_OK, answer("too late"), NULL);
    cr_assert(eq(int, next(), RPC_DONE));
}

Test(rpc_owner, a_cancel_after_the_answer_is_not_told)
{
    open_call(UNARY, "", DEADLINE_NONE);
    send_text("x");
    cr_assert(eq(int, next(), RPC_CALL));
    rpc_client_interrupt(client);
    expect_finish(STATUS_CANCELLED, NULL);
    struct pollfd fd = {.fd = rpc_server_fd(server), .events = POLLIN};
    cr_assert(eq(int, poll(&fd, 1, LONG_MS), 1)); // the cancel waits in the queue
    rpc_call_finish(event.call, STATUS_NOT_FOUND, NULL, NULL);
    cr_assert(eq(int, next(), RPC_DONE));
}

Test(rpc_owner, a_deadline_at_the_owner_is_the_clients)
{
    int64_t deadline_us = clock_deadline_in_us(5000000);
    open_call(UNARY, "", deadline_us);
    send_text("x");
    cr_assert(eq(int, next(), RPC_CALL));
    int64_t seen_us = rpc_call_deadline_us(event.call);
    cr_expect(lt(i64, seen_us, deadline_us + 100000));
    cr_expect(gt(i64, seen_us, deadline_us - 100000));
    rpc_call_finish(event.call, STATUS_OK, NULL, NULL);
    expect_finish(STATUS_OK, "");
    cr_assert(eq(int, next(), RPC_DONE));
}

Test(rpc_owner, a_reply_over_the_limit_becomes_an_error)
{
    open_call(UNARY, "", DEADLINE_NONE);
    send_text("x");
    cr_assert(eq(int, next(), RPC_CALL));
    struct buffer huge = {.count = 0};
    cr_assert(eq(int, buffer_reserve(&huge, (size_t)MESSAGE_BYTES_MAX + 1), STATUS_OK));
    huge.count = (size_t)MESSAGE_BYTES_MAX + 1;
    rpc_call_finish(event.call, STATUS_OK, &huge, NULL);
    cr_expect(eq(ptr, huge.data, NULL));
    expect_finish(STATUS_EXHAUSTED, NULL);
    cr_expect(ne(ptr, strstr(why.text, "67108865"), NULL), "%s", why.text);
    cr_assert(eq(int, next(), RPC_DONE));
}

Test(rpc_owner, an_error_takes_the_reply_over_as_well)
{
    open_call(UNARY, "", DEADLINE_NONE);
    send_text("x");
    cr_assert(eq(int, next(), RPC_CALL));
    struct buffer *given = answer("never sent");
    struct reason because = {.field = "", .text = "because"};
    rpc_call_finish(event.call, STATUS_CORRUPT, given, &because);
    cr_expect(eq(ptr, given->data, NULL));
    expect_finish(STATUS_CORRUPT, NULL);
    cr_expect(eq(str, why.text, (char *)"because"));
    cr_expect(eq(str, why.field, (char *)""));
    cr_assert(eq(int, next(), RPC_DONE));
}

Test(rpc_owner, a_server_refuses_methods_that_are_there_already)
{
    static const struct rpc_method twice[] = {{"/t.T/Unary", false, false},
                                              {"/t.T/Unary", true, false}};
    static const struct rpc_method inner[] = {{"/grpc.health.v1.Health/Check", false, false}};
    struct rpc_server *second = NULL;
    struct rpc_server_params params = {
        .address = "127.0.0.1:0", .field = "--listen", .methods = twice, .method_count = 2};
    cr_expect(eq(int, rpc_server_start(&params, &second, &why), STATUS_INVALID));
    cr_expect(ne(ptr, strstr(why.text, "/t.T/Unary"), NULL));
    params.methods = inner;
    params.method_count = 1;
    cr_expect(eq(int, rpc_server_start(&params, &second, &why), STATUS_INVALID));
    params.method_count = 0;
    params.descriptor_set = (struct bytes){(const uint8_t *)"\x0a\x05", 2};
    cr_expect(eq(int, rpc_server_start(&params, &second, &why), STATUS_INVALID));
    cr_expect(eq(str, why.field, (char *)"descriptor set"));
    params.descriptor_set = (struct bytes){NULL, 0};
    cr_expect(eq(int, rpc_server_start(&params, &second, &why), STATUS_OK));
    rpc_server_stop(&second);
    rpc_server_stop(&second); // NULL is allowed
}

// --- streams to the client

static struct buffer received;

static void end_received(void)
{
    buffer_deinit(&received);
    end();
}

TestSuite(rpc_owner_streams, .init = begin, .fini = end_received);

static void expect_received(const char *text)
{
    bool ended = true;
    cr_assert(eq(int, rpc_stream_receive(stream, &received, &ended), STATUS_OK));
    cr_assert(not(ended));
    cr_expect(text_equal((struct text){(const char *)received.data, received.count}, text_of(text)),
              "%s", text);
}

static void expect_end(enum status status)
{
    bool ended = false;
    cr_assert(eq(int, rpc_stream_receive(stream, &received, &ended), STATUS_OK));
    cr_assert(ended);
    cr_expect(eq(int, rpc_stream_finish(&stream, NULL, &why), status), "%s", why.text);
}

Test(rpc_owner_streams, a_server_stream_is_call_sent_done)
{
    open_call(SERVER, "", DEADLINE_NONE);
    send_text("question");
    rpc_stream_close(stream);
    cr_assert(eq(int, next(), RPC_CALL));
    expect_message("question");
    struct rpc_call *call = event.call;

    static const char *const texts[] = {"one", "", "three"};
    for (size_t i = 0; i < 3; i++) {
        struct buffer *given = answer(texts[i]);
        rpc_call_send(call, given);
        cr_expect(eq(ptr, given->data, NULL)); // taken over
        cr_assert(eq(int, next(), RPC_SENT));
        cr_expect(eq(ptr, event.call, call));
    }
    rpc_call_finish(call, STATUS_OK, NULL, NULL);
    for (size_t i = 0; i < 3; i++)
        expect_received(texts[i]);
    expect_end(STATUS_OK);
    cr_assert(eq(int, next(), RPC_DONE));
}

Test(rpc_owner_streams, both_directions_go_on_at_once)
{
    open_call(BOTH, "", DEADLINE_NONE);
    cr_assert(eq(int, next(), RPC_CALL));
    struct rpc_call *call = event.call;
    cr_expect(eq(sz, event.message.count, 0));

    rpc_call_read(call);
    rpc_call_send(call, answer("unasked"));
    cr_assert(eq(int, next(), RPC_SENT)); // while the read waits
    expect_received("unasked");
    send_text("question");
    cr_assert(eq(int, next(), RPC_MESSAGE));
    expect_message("question");
    rpc_call_send(call, answer("answer"));
    cr_assert(eq(int, next(), RPC_SENT));
    rpc_call_read(call);
    rpc_stream_close(stream);
    cr_assert(eq(int, next(), RPC_END));
    rpc_call_send(call, answer("after the end"));
    cr_assert(eq(int, next(), RPC_SENT));
    rpc_call_finish(call, STATUS_OK, NULL, NULL);
    expect_received("answer");
    expect_received("after the end");
    expect_end(STATUS_OK);
    cr_assert(eq(int, next(), RPC_DONE));
}

Test(rpc_owner_streams, a_message_on_its_way_arrives_before_the_status)
{
    open_call(SERVER, "", DEADLINE_NONE);
    send_text("x");
    cr_assert(eq(int, next(), RPC_CALL));
    struct reason reason = {.field = ""};
    enum status status = reason_set(&reason, STATUS_INVALID, "options.k", "900; allowed: 1..256");
    rpc_call_send(event.call, answer("last words"));
    rpc_call_finish(event.call, status, NULL, &reason);
    cr_assert(eq(int, next(), RPC_DONE)); // no SENT after the finish
    expect_received("last words");
    expect_end(STATUS_INVALID);
    cr_expect(eq(str, why.field, (char *)"options.k"));
    cr_expect(eq(str, why.text, (char *)"900; allowed: 1..256"));
}

#define CHUNK_BYTES ((size_t)1 << 20)
#define STALLED_MS 300 // no message leaves for so long: the client's window is full

// Sends until the client's window is full; the number of messages that left. One is under way then.
static size_t fill_window(struct rpc_call *call)
{
    size_t sent = 0;
    for (;;) {
        struct buffer chunk = {.count = 0};
        cr_assert(eq(int, buffer_reserve(&chunk, CHUNK_BYTES), STATUS_OK));
        memset(chunk.data, 0, CHUNK_BYTES);
        chunk.count = CHUNK_BYTES;
        rpc_call_send(call, &chunk);
        struct pollfd fd = {.fd = rpc_server_fd(server), .events = POLLIN};
        while (!rpc_server_next(server, &event))
            if (poll(&fd, 1, STALLED_MS) == 0)
                return sent;
        cr_assert(eq(int, event.kind, RPC_SENT));
        cr_assert(lt(sz, ++sent, 64));
    }
}

static struct rpc_call *open_stalled(size_t *sent)
{
    open_call(SERVER, "", DEADLINE_NONE);
    send_text("x");
    cr_assert(eq(int, next(), RPC_CALL));
    struct rpc_call *call = event.call;
    *sent = fill_window(call);
    return call;
}

Test(rpc_owner_streams, a_client_that_does_not_read_holds_the_owner_back)
{
    size_t sent = 0;
    struct rpc_call *call = open_stalled(&sent);
    bool ended = false;
    for (size_t i = 0; i < sent + 1; i++) {
        cr_assert(eq(int, rpc_stream_receive(stream, &received, &ended), STATUS_OK));
        cr_expect(eq(sz, received.count, CHUNK_BYTES));
    }
    cr_assert(eq(int, next(), RPC_SENT)); // it has read: there is room again
    rpc_call_finish(call, STATUS_OK, NULL, NULL);
    expect_end(STATUS_OK);
    cr_assert(eq(int, next(), RPC_DONE));
}

Test(rpc_owner_streams, a_client_that_cancels_is_told_once_and_nothing_follows)
{
    size_t sent = 0;
    struct rpc_call *call = open_stalled(&sent);
    rpc_client_interrupt(client);
    cr_assert(eq(int, next(), RPC_CANCELLED));
    rpc_call_finish(call, STATUS_CANCELLED, NULL, NULL);
    cr_assert(eq(int, next(), RPC_DONE)); // no SENT for the message that was under way
    cr_expect(eq(int, rpc_stream_finish(&stream, NULL, &why), STATUS_CANCELLED));
}

Test(rpc_owner_streams, what_a_cancelled_call_sends_is_dropped)
{
    open_call(BOTH, "", DEADLINE_NONE);
    cr_assert(eq(int, next(), RPC_CALL));
    struct rpc_call *call = event.call;
    cr_expect(eq(int, rpc_stream_finish(&stream, NULL, &why), STATUS_CANCELLED)); // before its end
    cr_assert(eq(int, next(), RPC_CANCELLED));
    struct buffer *given = answer("too late");
    rpc_call_send(call, given);
    cr_expect(eq(ptr, given->data, NULL));
    rpc_call_read(call);
    rpc_call_finish(call, STATUS_CANCELLED, NULL, NULL);
    cr_assert(eq(int, next(), RPC_DONE));
}

Test(rpc_owner_streams, a_finish_behind_a_stalled_message_waits_for_the_client)
{
    size_t sent = 0;
    struct rpc_call *call = open_stalled(&sent);
    rpc_call_finish(call, STATUS_UNAVAILABLE, NULL, NULL);
    cr_expect(not(rpc_server_next(server, &event)));
    cr_expect(eq(sz, rpc_server_running(server), 1));
    bool ended = false;
    for (size_t i = 0; i < sent + 1; i++)
        cr_assert(eq(int, rpc_stream_receive(stream, &received, &ended), STATUS_OK));
    cr_assert(eq(int, next(), RPC_DONE));
    expect_end(STATUS_UNAVAILABLE);
}

Test(rpc_owner_streams, a_finish_behind_a_stalled_message_ends_when_the_client_leaves)
{
    size_t sent = 0;
    struct rpc_call *call = open_stalled(&sent);
    rpc_call_finish(call, STATUS_OK, NULL, NULL);
    cr_expect(eq(int, rpc_stream_finish(&stream, NULL, &why), STATUS_CANCELLED));
    cr_assert(eq(int, next(), RPC_DONE)); // and no CANCELLED after the finish
}
