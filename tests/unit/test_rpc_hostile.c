// SPDX-License-Identifier: Apache-2.0
// Goal: whatever bytes strangers write to the port, and whenever they leave, the server goes on
// serving others and ends without a leak.
//
// Method: plain sockets send garbage, other protocols, and HTTP/2 that is broken on purpose; after
// each a normal client is served.

#include <arpa/inet.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/bytes.h"
#include "proto/base/clock.h"
#include "proto/rpc/rpc_client.h"
#include "proto/rpc/rpc_server.h"
#include "tests/unit/rpc_echo.h"

#define LONG_US 20000000
#define SEED 20240517u

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define PREFACE_BYTES (sizeof(PREFACE) - 1)
#define SETTINGS "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
#define SETTINGS_BYTES (sizeof(SETTINGS) - 1)

static struct rpc_echo *echo;
static char address[64];
static struct reason why;

static void begin(void)
{
    cr_assert(eq(int, rpc_echo_start("127.0.0.1:0", &echo, &why), STATUS_OK));
    (void)snprintf(address, sizeof(address), "127.0.0.1:%d", rpc_echo_port(echo));
}

static void end(void)
{
    rpc_echo_stop(&echo);
}

TestSuite(rpc_hostile, .init = begin, .fini = end);

static void expect_alive(const char *after)
{
    struct rpc_client *client = NULL;
    struct buffer reply = {.count = 0};
    const struct rpc_client_call call = {.path = RPC_ECHO_PATH,
                                         .deadline_us = clock_deadline_in_us(LONG_US)};
    cr_assert(eq(int, rpc_client_open(address, &client, &why), STATUS_OK));
    cr_expect(
        eq(int,
           rpc_client_unary(client, &call, (struct bytes){(const uint8_t *)"x", 1}, &reply, &why),
           STATUS_OK),
        "after %s: %s", after, why.text);
    buffer_deinit(&reply);
    rpc_client_close(&client);
}

static int connect_raw(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)rpc_echo_port(echo)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert(ge(int, fd, 0));
    cr_assert(eq(int, connect(fd, (const struct sockaddr *)&to, sizeof(to)), 0));
    return fd;
}

// Sends as much as the server takes.
static void send_raw(int fd, const void *data, size_t count)
{
    const uint8_t *at = data;
    while (count > 0) {
        ssize_t sent = send(fd, at, count, MSG_NOSIGNAL);
        if (sent <= 0)
            return;
        at += sent;
        count -= (size_t)sent;
    }
}

// Reads until the server closes; false when it has not within the time.
static bool is_closed_within(int fd, int64_t us)
{
    int64_t deadline_us = clock_deadline_in_us(us);
    uint8_t ignored[4096];
    for (;;) {
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        if (poll(&poll_fd, 1, clock_poll_ms(deadline_us, 60000)) == 0)
            return false;
        if (read(fd, ignored, sizeof(ignored)) <= 0)
            return true;
    }
}

// A frame header and its payload behind each other; returns the frame's bytes.
static size_t frame(uint8_t *at, uint8_t type, uint8_t flags, uint32_t stream, const void *payload,
                    size_t count)
{
    const uint8_t head[] = {(uint8_t)(count >> 16), (uint8_t)(count >> 8), (uint8_t)count, type,
                            flags};
    memcpy(at, head, sizeof(head));
    bytes_put_u32_be(at + 5, stream);
    if (count > 0)
        memcpy(at + 9, payload, count);
    return 9 + count;
}

Test(rpc_hostile, other_protocols_are_turned_away)
{
    static const struct {
        const char *text;
        size_t bytes;
    } greetings[] = {
        {"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 36},
        {"POST /reco.test.Echo/Echo HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n{}", 68},
        {"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03", 11}, // TLS ClientHello
        {"SSH-2.0-OpenSSH_9.2\r\n", 21},
        {"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", 10},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX", 24},
        {"\xff\xff\xff\xff\xff\xff\xff\xff\xff", 9},
    };
    for (size_t i = 0; i < sizeof(greetings) / sizeof(greetings[0]); i++) {
        int fd = connect_raw();
        send_raw(fd, greetings[i].text, greetings[i].bytes);
        cr_expect(is_closed_within(fd, LONG_US), "%zu", i);
        (void)close(fd);
        expect_alive(greetings[i].text);
    }
}

Test(rpc_hostile, who_says_nothing_or_half_is_let_go)
{
    int silent = connect_raw();
    int half = connect_raw();
    send_raw(half, PREFACE, PREFACE_BYTES / 2);
    int gone = connect_raw();
    (void)close(gone);
    expect_alive("silence");
    cr_expect(is_closed_within(silent, LONG_US)); // handshake limit: 5 s
    cr_expect(is_closed_within(half, LONG_US));
    (void)close(silent);
    (void)close(half);
}

Test(rpc_hostile, broken_frames_end_the_connection_only)
{
    uint8_t out[70000];
    uint8_t payload[65536];
    memset(payload, 0x82, sizeof(payload)); // an indexed header again and again
    static const struct {
        uint8_t type;
        uint8_t flags;
        uint32_t stream;
        size_t count;
    } frames[] = {
        {0, 0, 1, 10},       // DATA on a stream that is not open
        {1, 4, 0, 10},       // HEADERS on stream 0
        {1, 4, 2, 10},       // HEADERS on an even stream
        {1, 4, 1, 16000},    // far too many headers
        {1, 0, 1, 100},      // HEADERS without end, then nothing
        {3, 0, 1, 4},        // RST_STREAM of nothing
        {4, 0, 0, 5},        // SETTINGS of a wrong length
        {5, 4, 2, 4},        // PUSH_PROMISE from a client
        {6, 0, 0, 3},        // PING of a wrong length
        {7, 0, 0, 2},        // GOAWAY of a wrong length
        {8, 0, 0, 4},        // WINDOW_UPDATE that overflows
        {9, 4, 1, 10},       // CONTINUATION of nothing
        {77, 0xff, 9, 60000} // unknown type
    };
    for (size_t i = 0; i < sizeof(frames) / sizeof(frames[0]); i++) {
        int fd = connect_raw();
        size_t count = 0;
        memcpy(out, PREFACE SETTINGS, PREFACE_BYTES + SETTINGS_BYTES);
        count = PREFACE_BYTES + SETTINGS_BYTES;
        count += frame(out + count, frames[i].type, frames[i].flags, frames[i].stream, payload,
                       frames[i].count);
        send_raw(fd, out, count);
        expect_alive("a broken frame");
        (void)shutdown(fd, SHUT_WR);
        cr_expect(is_closed_within(fd, LONG_US), "%zu", i);
        (void)close(fd);
    }
}

// A HEADERS frame that calls `path`, HPACK without compression.
static size_t call_headers(uint8_t *out, uint32_t stream, const char *path, const char *extra_name,
                           const char *extra)
{
    const char *const pairs[][2] = {
        {":method", "POST"},         {":scheme", "http"}, {":path", path},
        {":authority", "localhost"}, {"te", "trailers"},  {"content-type", "application/grpc"},
        {extra_name, extra},
    };
    uint8_t block[16000];
    size_t at = 0;
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]) && pairs[i][0]; i++) {
        block[at++] = 0x00; // literal, not indexed, new name
        for (size_t part = 0; part < 2; part++) {
            size_t bytes = strlen(pairs[i][part]);
            if (bytes < 127) {
                block[at++] = (uint8_t)bytes;
            } else { // an HPACK integer of more than one byte
                block[at++] = 127;
                size_t rest = bytes - 127;
                for (; rest >= 128; rest >>= 7)
                    block[at++] = (uint8_t)(rest & 127) | 128;
                block[at++] = (uint8_t)rest;
            }
            memcpy(block + at, pairs[i][part], bytes);
            at += bytes;
        }
    }
    return frame(out, 1, 4, stream, block, at);
}

static int open_http2(void)
{
    int fd = connect_raw();
    send_raw(fd, PREFACE SETTINGS, PREFACE_BYTES + SETTINGS_BYTES);
    return fd;
}

Test(rpc_hostile, calls_that_are_cut_off_leave_nothing_behind)
{
    uint8_t out[20000];
    static const uint8_t message[] = {0, 0, 0, 0, 3, 'a', 'b', 'c'};
    static const struct {
        const char *path;
        size_t bytes;    // of the message that are sent
        bool handed_out; // a unary call is only with its whole message
    } cuts[] = {
        {RPC_ECHO_COLLECT_PATH, 0, true}, {RPC_ECHO_COLLECT_PATH, 6, true},
        {RPC_ECHO_COLLECT_PATH, 8, true}, {RPC_ECHO_HANG_PATH, 0, false},
        {RPC_ECHO_HANG_PATH, 6, false},   {RPC_ECHO_HANG_PATH, 8, true},
    };
    size_t calls = 0;
    for (size_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
        int fd = open_http2();
        size_t count = call_headers(out, 1, cuts[i].path, NULL, NULL);
        if (cuts[i].bytes > 0)
            count += frame(out + count, 0, 0, 1, message, cuts[i].bytes);
        send_raw(fd, out, count);
        calls += cuts[i].handed_out ? 1 : 0;
        cr_expect(rpc_echo_wait(echo, RPC_ECHO_CALLS, calls, clock_deadline_in_us(LONG_US)));
        (void)close(fd);
        expect_alive("a cut call");
        calls++;
    }
    // Collect 3 times, Hang once, and 6 echoes.
    cr_expect(rpc_echo_wait(echo, RPC_ECHO_CANCELLED, 4, clock_deadline_in_us(LONG_US)));
    cr_expect(rpc_echo_wait(echo, RPC_ECHO_DONE, 10, clock_deadline_in_us(LONG_US)));
    cr_expect(eq(sz, rpc_echo_running(echo), 0));
}

Test(rpc_hostile, a_unary_call_without_a_message_is_answered)
{
    uint8_t out[20000];
    int fd = open_http2();
    size_t count = call_headers(out, 1, RPC_ECHO_PATH, NULL, NULL);
    count += frame(out + count, 0, 1, 1, NULL, 0); // END_STREAM
    send_raw(fd, out, count);
    expect_alive("a call without a message");
    (void)close(fd);
}

Test(rpc_hostile, a_message_that_is_only_promised_ends_with_its_connection)
{
    uint8_t out[20000];
    static const uint8_t head[] = {0, 0xff, 0xff, 0xff, 0xff, 'a'};
    int fd = open_http2();
    size_t count = call_headers(out, 1, RPC_ECHO_COLLECT_PATH, NULL, NULL);
    count += frame(out + count, 0, 0, 1, head, sizeof(head));
    send_raw(fd, out, count);
    cr_expect(rpc_echo_wait(echo, RPC_ECHO_CALLS, 1, clock_deadline_in_us(LONG_US)));
    expect_alive("a huge promise");
    (void)close(fd);
    cr_expect(rpc_echo_wait(echo, RPC_ECHO_CANCELLED, 1, clock_deadline_in_us(LONG_US)));
}

Test(rpc_hostile, too_much_metadata_is_refused)
{
    static uint8_t out[20000];
    static char value[RPC_METADATA_BYTES_MAX + 1];
    memset(value, 'v', sizeof(value) - 1);
    int fd = open_http2();
    size_t count = call_headers(out, 1, RPC_ECHO_COLLECT_PATH, "x-large", value);
    send_raw(fd, out, count);
    expect_alive("much metadata");
    cr_expect(not(rpc_echo_wait(echo, RPC_ECHO_CALLS, 2, clock_deadline_in_us(100000))));
    (void)close(fd);
}

Test(rpc_hostile, a_bad_request_id_never_reaches_the_owner)
{
    static uint8_t out[20000];
    static char value[200];
    memset(value, 'v', sizeof(value) - 1);
    int fd = open_http2();
    size_t count = call_headers(out, 1, RPC_ECHO_COLLECT_PATH, "x-request-id", value);
    count += call_headers(out + count, 3, RPC_ECHO_COLLECT_PATH, "x-request-id", "two words");
    send_raw(fd, out, count);
    expect_alive("a bad request id");
    cr_expect(not(rpc_echo_wait(echo, RPC_ECHO_CALLS, 2, clock_deadline_in_us(100000))));
    (void)close(fd);
}

Test(rpc_hostile, random_bytes_after_a_good_start_are_survived)
{
    uint64_t state = SEED;
    cr_log_info("seed %u", SEED);
    for (int round = 0; round < 60; round++) {
        uint8_t out[4096];
        size_t count = 0;
        if (round % 2)
            count = call_headers(out, 1, RPC_ECHO_COLLECT_PATH, NULL, NULL);
        while (count < sizeof(out)) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            out[count++] = (uint8_t)(state >> 56);
        }
        int fd = open_http2();
        send_raw(fd, out, sizeof(out));
        (void)shutdown(fd, SHUT_WR);
        cr_expect(is_closed_within(fd, LONG_US), "round %d", round);
        (void)close(fd);
    }
    expect_alive("random bytes");
}
