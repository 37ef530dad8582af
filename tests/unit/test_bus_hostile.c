// SPDX-License-Identifier: Apache-2.0
// Goal: no frames, however wrong, stop a router or a dealer; what can be answered is answered with
// what was wrong.
//
// Method: raw ZeroMQ sockets inside the bus's own context write frames by hand to a router, and
// play a node that lies to a dealer.

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <zmq.h>

#include "proto/base/hash.h"
#include "proto/bus/bus_internal.h"
#include "tests/unit/bus_fixture.h"

#define POLL_MS 20000

static const int zero = 0;

struct hostile {
    struct bus *bus;
    struct fixture_node node;
    void *raw; // a DEALER of our own, connected to the node's query socket
};

static void open_hostile(struct hostile *hostile, uint32_t credits)
{
    *hostile = (struct hostile){0};
    cr_assert(eq(int, bus_open(NULL, &hostile->bus, NULL), STATUS_OK));
    fixture_start(&hostile->node, hostile->bus, "inproc://query", "inproc://bulk", credits);
    hostile->raw = zmq_socket(hostile->bus->context, ZMQ_DEALER);
    cr_assert(eq(int, zmq_setsockopt(hostile->raw, ZMQ_LINGER, &zero, sizeof(zero)), 0));
    cr_assert(eq(int, zmq_connect(hostile->raw, "inproc://query"), 0));
}

static void close_hostile(struct hostile *hostile)
{
    (void)zmq_close(hostile->raw);
    fixture_stop(&hostile->node);
    bus_close(&hostile->bus);
}

static struct shard_envelope envelope_of(enum shard_type type, uint64_t id)
{
    return (struct shard_envelope){.version = SHARD_VERSION, .type = type, .request_id = id};
}

static void send_frame(void *socket, const void *data, size_t bytes, bool more)
{
    cr_assert(eq(int, zmq_send(socket, data, bytes, more ? ZMQ_SNDMORE : 0), (int)bytes));
}

// Sends an envelope with the CRCs that it says, and `frame_count` texts behind it.
static void send_message(void *socket, const struct shard_envelope *envelope,
                         const char *const *frames, size_t frame_count)
{
    struct buffer head = {0};
    cr_assert(eq(int, shard_encode_envelope(envelope, &head), STATUS_OK));
    send_frame(socket, head.data, head.count, frame_count > 0);
    for (size_t i = 0; i < frame_count; i++)
        send_frame(socket, frames[i], strlen(frames[i]), i + 1 < frame_count);
    buffer_deinit(&head);
}

static void send_plain(struct hostile *hostile, enum shard_type type, uint64_t id)
{
    struct shard_envelope envelope = envelope_of(type, id);
    send_message(hostile->raw, &envelope, NULL, 0);
}

// Throws away what is left of a message.
static void drop_rest(void *socket)
{
    uint8_t frame[1];
    int more = 1;
    size_t size = sizeof(more);
    while (zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &size) == 0 && more)
        (void)zmq_recv(socket, frame, sizeof(frame), 0);
}

// Takes one message of the node and returns its envelope without texts.
static struct shard_envelope take_answer(struct hostile *hostile)
{
    zmq_pollitem_t item = {hostile->raw, 0, ZMQ_POLLIN, 0};
    uint8_t frame[ENVELOPE_BYTES_MAX];
    cr_assert(eq(int, zmq_poll(&item, 1, POLL_MS), 1), "no answer");
    int bytes = zmq_recv(hostile->raw, frame, sizeof(frame), 0);
    cr_assert(bytes > 0 && bytes <= (int)sizeof(frame));
    struct arena *arena = arena_create(1 << 20);
    struct shard_envelope envelope;
    cr_assert(
        eq(int, shard_decode_envelope((struct bytes){frame, (size_t)bytes}, arena, &envelope, NULL),
           STATUS_OK));
    arena_destroy(&arena);
    envelope.field = envelope.text = envelope.trace = (struct text){NULL, 0};
    drop_rest(hostile->raw);
    return envelope;
}

// The next answer must be to this request and with this status.
static void expect_answer(struct hostile *hostile, uint64_t id, enum status status)
{
    struct shard_envelope answer = take_answer(hostile);
    cr_expect(answer.reply);
    cr_expect(eq(u64, answer.request_id, id));
    cr_expect(eq(int, answer.status, status));
    cr_expect(eq(u32, answer.credits, ROUTER_CREDITS_DEFAULT));
}

// Answers come in order, so whatever was sent before got none of its own.
static void expect_alive(struct hostile *hostile)
{
    static uint64_t next_id = 1u << 20;
    next_id++;
    send_plain(hostile, SHARD_PING, next_id);
    expect_answer(hostile, next_id, STATUS_OK);
}

Test(bus_hostile, random_frames_get_no_answer)
{
    struct hostile hostile;
    uint32_t seed = 4711;
    open_hostile(&hostile, 0);
    for (int round = 0; round < 300; round++) {
        uint8_t frame[600];
        int frames = 1 + round % 5;
        for (int f = 0; f < frames; f++) {
            for (size_t i = 0; i < sizeof(frame); i++) {
                seed = seed * 1664525u + 1013904223u;
                frame[i] = (uint8_t)(seed >> 24);
            }
            send_frame(hostile.raw, frame, seed % sizeof(frame), f + 1 < frames);
        }
    }
    // Random bytes may be an envelope with a number by chance; then they are answered.
    uint64_t last = 77;
    send_plain(&hostile, SHARD_PING, last);
    while (take_answer(&hostile).request_id != last)
        continue;
    expect_alive(&hostile);
    close_hostile(&hostile);
}

Test(bus_hostile, damaged_envelopes_harm_nobody)
{
    struct hostile hostile;
    struct buffer head = {0};
    struct shard_envelope envelope = envelope_of(SHARD_SEARCH, 5);
    envelope.trace = text_of("trace");
    open_hostile(&hostile, 0);
    cr_assert(eq(int, shard_encode_envelope(&envelope, &head), STATUS_OK));
    for (size_t cut = 0; cut < head.count; cut++)
        send_frame(hostile.raw, head.data, cut, false);
    for (size_t at = 0; at < head.count; at++)
        for (int bit = 0; bit < 8; bit++) {
            head.data[at] ^= (uint8_t)(1 << bit);
            send_frame(hostile.raw, head.data, head.count, false);
            head.data[at] ^= (uint8_t)(1 << bit);
        }
    uint64_t last = 78;
    send_plain(&hostile, SHARD_PING, last);
    struct router_request *held;
    for (bool done = false; !done;) {
        done = take_answer(&hostile).request_id == last;
        while ((held = queue_try_pop(hostile.node.held)) != NULL)
            fixture_reply(held, STATUS_OK, "");
    }
    buffer_deinit(&head);
    close_hostile(&hostile);
}

Test(bus_hostile, an_envelope_of_9_KiB_is_dropped)
{
    struct hostile hostile;
    uint8_t large[9 * 1024] = {0};
    open_hostile(&hostile, 0);
    send_frame(hostile.raw, large, sizeof(large), false);
    send_frame(hostile.raw, "", 0, false);
    expect_alive(&hostile);
    close_hostile(&hostile);
}

Test(bus_hostile, too_many_frames_are_dropped)
{
    struct hostile hostile;
    const char *const frames[] = {"", "", "one too many"};
    struct shard_envelope envelope = envelope_of(SHARD_SEARCH, 3);
    open_hostile(&hostile, 0);
    send_message(hostile.raw, &envelope, frames, 3);
    for (int i = 0; i < 1000; i++)
        send_frame(hostile.raw, "x", 1, i < 999);
    expect_alive(&hostile);
    close_hostile(&hostile);
}

Test(bus_hostile, wrong_sums_are_answered_as_corrupt)
{
    struct hostile hostile;
    const char *const frames[] = {"body", "rows"};
    struct shard_envelope envelope = envelope_of(SHARD_SEARCH, 11);
    envelope.body_crc = hash_crc32c(0, "body", 4);
    envelope.rows_crc = hash_crc32c(0, "rows", 4);
    open_hostile(&hostile, 0);
    send_message(hostile.raw, &envelope, frames, 2);
    expect_answer(&hostile, 11, STATUS_OK);
    envelope.body_crc ^= 1;
    send_message(hostile.raw, &envelope, frames, 2);
    expect_answer(&hostile, 11, STATUS_CORRUPT);
    envelope.body_crc ^= 1;
    envelope.rows_crc ^= 0x80000000u;
    send_message(hostile.raw, &envelope, frames, 2);
    expect_answer(&hostile, 11, STATUS_CORRUPT);
    envelope.rows_crc ^= 0x80000000u;
    send_message(hostile.raw, &envelope, frames, 1); // the rows are missing
    expect_answer(&hostile, 11, STATUS_CORRUPT);
    close_hostile(&hostile);
}

Test(bus_hostile, other_versions_and_types_are_answered_as_unsupported)
{
    struct hostile hostile;
    struct shard_envelope envelope = envelope_of(SHARD_SEARCH, 21);
    open_hostile(&hostile, 0);
    envelope.version = 2000;
    send_message(hostile.raw, &envelope, NULL, 0);
    expect_answer(&hostile, 21, STATUS_UNSUPPORTED);
    send_plain(&hostile, SHARD_NOTHING, 22);
    expect_answer(&hostile, 22, STATUS_UNSUPPORTED);
    send_plain(&hostile, (enum shard_type)99, 23);
    expect_answer(&hostile, 23, STATUS_UNSUPPORTED);
    close_hostile(&hostile);
}

Test(bus_hostile, a_greeting_with_noise_is_refused)
{
    struct hostile hostile;
    const char *const noise[] = {"\x07\xff"};
    struct shard_envelope envelope = envelope_of(SHARD_HELLO, 25);
    envelope.body_crc = hash_crc32c(0, noise[0], 2);
    open_hostile(&hostile, 0);
    send_message(hostile.raw, &envelope, noise, 1);
    expect_answer(&hostile, 25, STATUS_INVALID);
    send_plain(&hostile, SHARD_HELLO, 26); // who says nothing about itself is welcome
    expect_answer(&hostile, 26, STATUS_OK);
    close_hostile(&hostile);
}

Test(bus_hostile, replies_and_cancels_out_of_nowhere_are_ignored)
{
    struct hostile hostile;
    struct shard_envelope envelope = envelope_of(SHARD_SEARCH, 31);
    envelope.reply = true;
    open_hostile(&hostile, 0);
    send_message(hostile.raw, &envelope, NULL, 0);
    send_plain(&hostile, SHARD_CANCEL, 4711);
    send_plain(&hostile, SHARD_CANCEL, 0);
    expect_alive(&hostile);
    close_hostile(&hostile);
}

Test(bus_hostile, a_number_that_is_in_flight_is_refused)
{
    struct hostile hostile;
    open_hostile(&hostile, 0);
    send_plain(&hostile, SHARD_FETCH, 41);
    struct router_request *held = fixture_take_held(&hostile.node);
    send_plain(&hostile, SHARD_FETCH, 41);
    expect_answer(&hostile, 41, STATUS_INVALID);
    fixture_reply(held, STATUS_OK, "");
    expect_answer(&hostile, 41, STATUS_OK);
    send_plain(&hostile, SHARD_SEARCH, 41); // free again
    expect_answer(&hostile, 41, STATUS_OK);
    close_hostile(&hostile);
}

Test(bus_hostile, whoever_exceeds_the_credits_is_refused)
{
    struct hostile hostile;
    open_hostile(&hostile, 0);
    for (uint64_t id = 1; id <= ROUTER_CREDITS_DEFAULT + 5; id++)
        send_plain(&hostile, SHARD_FETCH, id);
    for (uint64_t id = ROUTER_CREDITS_DEFAULT + 1; id <= ROUTER_CREDITS_DEFAULT + 5; id++)
        expect_answer(&hostile, id, STATUS_EXHAUSTED);
    for (uint64_t id = 1; id <= ROUTER_CREDITS_DEFAULT; id++) {
        fixture_reply(fixture_take_held(&hostile.node), STATUS_OK, "");
        expect_answer(&hostile, id, STATUS_OK);
    }
    close_hostile(&hostile);
}

Test(bus_hostile, one_askers_cancel_does_not_stop_anothers_request)
{
    struct hostile hostile;
    open_hostile(&hostile, 0);
    void *other = zmq_socket(hostile.bus->context, ZMQ_DEALER);
    cr_assert(eq(int, zmq_setsockopt(other, ZMQ_LINGER, &zero, sizeof(zero)), 0));
    cr_assert(eq(int, zmq_connect(other, "inproc://query"), 0));
    send_plain(&hostile, SHARD_FETCH, 51);
    struct router_request *held = fixture_take_held(&hostile.node);
    struct shard_envelope cancel = envelope_of(SHARD_CANCEL, 51);
    struct shard_envelope ping = envelope_of(SHARD_PING, 52);
    send_message(other, &cancel, NULL, 0);
    send_message(other, &ping, NULL, 0);
    zmq_pollitem_t item = {other, 0, ZMQ_POLLIN, 0};
    cr_assert(eq(int, zmq_poll(&item, 1, POLL_MS), 1)); // so the CANCEL was read before
    cr_expect(not(router_is_cancelled(held)));
    send_plain(&hostile, SHARD_CANCEL, 51);
    expect_alive(&hostile);
    cr_expect(router_is_cancelled(held));
    fixture_reply(held, STATUS_CANCELLED, "");
    expect_answer(&hostile, 51, STATUS_CANCELLED);
    (void)zmq_close(other);
    close_hostile(&hostile);
}

Test(bus_hostile, absurd_deadlines_are_none_or_have_passed)
{
    struct hostile hostile;
    struct shard_envelope envelope = envelope_of(SHARD_FETCH, 61);
    open_hostile(&hostile, 0);
    envelope.deadline_us = UINT64_MAX;
    send_message(hostile.raw, &envelope, NULL, 0);
    struct router_request *held = fixture_take_held(&hostile.node);
    cr_expect(eq(i64, held->deadline_us, DEADLINE_NONE));
    fixture_reply(held, STATUS_OK, "");
    expect_answer(&hostile, 61, STATUS_OK);
    close_hostile(&hostile);
}

Test(bus_hostile, an_asker_that_vanishes_costs_only_its_replies)
{
    struct hostile hostile;
    open_hostile(&hostile, 0);
    send_plain(&hostile, SHARD_FETCH, 71);
    struct router_request *held = fixture_take_held(&hostile.node);
    (void)zmq_close(hostile.raw);
    struct buffer body = {0};
    cr_assert(eq(int, buffer_append(&body, "gone", 4), STATUS_OK));
    router_reply(
        &held, &(struct router_answer){.body = &body, .rows = mem_alloc(1000), .rows_bytes = 1000});
    hostile.raw = zmq_socket(hostile.bus->context, ZMQ_DEALER);
    cr_assert(eq(int, zmq_setsockopt(hostile.raw, ZMQ_LINGER, &zero, sizeof(zero)), 0));
    cr_assert(eq(int, zmq_connect(hostile.raw, "inproc://query"), 0));
    expect_alive(&hostile);
    close_hostile(&hostile);
}

// --- a node that lies

struct liar {
    struct bus *bus;
    struct fixture_caller caller;
    void *sockets[2]; // ROUTERs
    uint8_t identity[2][64];
    int identity_bytes[2];
};

// Reads requests on one socket until one of this type comes; returns its number.
static uint64_t liar_take(struct liar *liar, int which, enum shard_type type)
{
    int64_t until = clock_deadline_in_us(FIXTURE_WAIT_US);
    while (!clock_passed(until)) {
        uint8_t frame[ENVELOPE_BYTES_MAX];
        int bytes = zmq_recv(liar->sockets[which], liar->identity[which], 64, ZMQ_DONTWAIT);
        if (bytes < 0) { // the dealer has something to do first
            cr_assert(eq(int, dealer_poll(liar->caller.dealer, NULL, 0, clock_deadline_in_us(5000)),
                         STATUS_OK));
            continue;
        }
        liar->identity_bytes[which] = bytes;
        bytes = zmq_recv(liar->sockets[which], frame, sizeof(frame), 0);
        drop_rest(liar->sockets[which]);
        struct arena *arena = arena_create(1 << 20);
        struct shard_envelope envelope;
        cr_assert(
            eq(int,
               shard_decode_envelope((struct bytes){frame, (size_t)bytes}, arena, &envelope, NULL),
               STATUS_OK));
        uint64_t id = envelope.request_id;
        enum shard_type found = envelope.type;
        arena_destroy(&arena);
        if (found == type)
            return id;
    }
    cr_assert(false, "no such request");
    return 0;
}

static void liar_reply(struct liar *liar, int which, const struct shard_envelope *envelope,
                       const void *body, size_t body_bytes)
{
    struct buffer head = {0};
    cr_assert(eq(int, shard_encode_envelope(envelope, &head), STATUS_OK));
    send_frame(liar->sockets[which], liar->identity[which], (size_t)liar->identity_bytes[which],
               true);
    send_frame(liar->sockets[which], head.data, head.count, body_bytes > 0);
    if (body_bytes > 0)
        send_frame(liar->sockets[which], body, body_bytes, false);
    buffer_deinit(&head);
}

static void liar_greet(struct liar *liar, int which, uint32_t credits)
{
    struct shard_envelope envelope = envelope_of(SHARD_HELLO, liar_take(liar, which, SHARD_HELLO));
    struct shard_hello_reply hello = {.node = 1, .credits = credits};
    struct buffer body = {0};
    cr_assert(eq(int, shard_encode_hello_reply(&hello, &body), STATUS_OK));
    envelope.reply = true;
    envelope.body_crc = hash_crc32c(0, body.data, body.count);
    liar_reply(liar, which, &envelope, body.data, body.count);
    buffer_deinit(&body);
}

static void open_liar(struct liar *liar, uint32_t credits)
{
    const char *const endpoints[] = {"inproc://query", "inproc://bulk"};
    *liar = (struct liar){0};
    cr_assert(eq(int, bus_open(NULL, &liar->bus, NULL), STATUS_OK));
    for (int i = 0; i < 2; i++) {
        liar->sockets[i] = zmq_socket(liar->bus->context, ZMQ_ROUTER);
        cr_assert(eq(int, zmq_setsockopt(liar->sockets[i], ZMQ_LINGER, &zero, sizeof(zero)), 0));
        cr_assert(eq(int, zmq_bind(liar->sockets[i], endpoints[i]), 0));
    }
    fixture_open_caller(&liar->caller, liar->bus);
    (void)fixture_add_peer(&liar->caller, endpoints[0], endpoints[1]);
    liar_greet(liar, 0, credits);
    liar_greet(liar, 1, credits);
    FIXTURE_POLL_UNTIL(&liar->caller, liar->caller.up[0], FIXTURE_WAIT_US);
}

static void close_liar(struct liar *liar)
{
    dealer_destroy(&liar->caller.dealer);
    (void)zmq_close(liar->sockets[0]);
    (void)zmq_close(liar->sockets[1]);
    bus_close(&liar->bus);
}

Test(bus_hostile, a_reply_with_wrong_sums_ends_its_request_as_corrupt)
{
    struct liar liar;
    struct fixture_call call;
    open_liar(&liar, 4);
    fixture_send_type(&liar.caller, SHARD_SEARCH, &call);
    struct shard_envelope envelope = envelope_of(SHARD_SEARCH, liar_take(&liar, 0, SHARD_SEARCH));
    envelope.reply = true;
    envelope.body_crc = 1;
    liar_reply(&liar, 0, &envelope, "body", 4);
    FIXTURE_POLL_UNTIL(&liar.caller, call.ended == 1, FIXTURE_WAIT_US);
    cr_expect(eq(int, call.status, STATUS_CORRUPT));
    cr_expect(call.text[0] != '\0');
    close_liar(&liar);
}

Test(bus_hostile, replies_to_nothing_and_noise_are_ignored)
{
    struct liar liar;
    struct fixture_call call;
    open_liar(&liar, 4);
    fixture_send_type(&liar.caller, SHARD_SEARCH, &call);
    struct shard_envelope envelope = envelope_of(SHARD_SEARCH, liar_take(&liar, 0, SHARD_SEARCH));
    uint64_t id = envelope.request_id;
    envelope.reply = true;
    envelope.request_id = id + 64;
    liar_reply(&liar, 0, &envelope, NULL, 0);
    envelope.request_id = 0;
    liar_reply(&liar, 0, &envelope, NULL, 0);
    envelope.reply = false;
    envelope.request_id = id; // no reply, though it has the number
    liar_reply(&liar, 0, &envelope, NULL, 0);
    send_frame(liar.sockets[0], liar.identity[0], (size_t)liar.identity_bytes[0], true);
    send_frame(liar.sockets[0], "noise", 5, false);
    envelope.reply = true;
    liar_reply(&liar, 0, &envelope, NULL, 0);
    liar_reply(&liar, 0, &envelope, NULL, 0); // twice
    FIXTURE_POLL_UNTIL(&liar.caller, call.ended == 1, FIXTURE_WAIT_US);
    cr_expect(eq(int, call.status, STATUS_OK));
    cr_assert(
        eq(int, dealer_poll(liar.caller.dealer, NULL, 0, clock_deadline_in_us(50000)), STATUS_OK));
    cr_expect(eq(u32, call.ended, 1));
    close_liar(&liar);
}

Test(bus_hostile, a_reply_on_the_other_connection_is_not_believed)
{
    struct liar liar;
    struct fixture_call call;
    open_liar(&liar, 4);
    fixture_send_type(&liar.caller, SHARD_SEARCH, &call);
    struct shard_envelope envelope = envelope_of(SHARD_SEARCH, liar_take(&liar, 0, SHARD_SEARCH));
    envelope.reply = true;
    liar_reply(&liar, 1, &envelope, NULL, 0);
    cr_assert(
        eq(int, dealer_poll(liar.caller.dealer, NULL, 0, clock_deadline_in_us(50000)), STATUS_OK));
    cr_expect(eq(u32, call.ended, 0));
    close_liar(&liar);
}

Test(bus_hostile, absurd_credits_are_cut)
{
    enum { MORE = ROUTER_CREDITS_MAX + 10 };
    static struct fixture_call calls[MORE];
    struct liar liar;
    open_liar(&liar, UINT32_MAX);
    for (size_t i = 0; i < MORE; i++)
        fixture_send_type(&liar.caller, SHARD_SEARCH, &calls[i]);
    size_t got = 0;
    uint8_t frame[ENVELOPE_BYTES_MAX];
    while (zmq_recv(liar.sockets[0], frame, sizeof(frame), ZMQ_DONTWAIT) >= 0) {
        drop_rest(liar.sockets[0]);
        got++;
    }
    cr_expect(got >= ROUTER_CREDITS_MAX && got <= ROUTER_CREDITS_MAX + 4, "%zu",
              got); // some are PINGs
    close_liar(&liar);
}

Test(bus_hostile, a_node_that_hears_but_never_answers_a_ping_goes_down)
{
    struct liar liar;
    struct fixture_call calls[2];
    open_liar(&liar, 1);
    int64_t begin = clock_now_us();
    for (size_t i = 0; i < 2; i++)
        fixture_send_type(&liar.caller, SHARD_FETCH, &calls[i]);
    FIXTURE_POLL_UNTIL(&liar.caller, calls[0].ended + calls[1].ended == 2, FIXTURE_WAIT_US);
    cr_expect(eq(int, calls[0].status, STATUS_UNAVAILABLE));
    cr_expect(eq(int, calls[1].status, STATUS_UNAVAILABLE));
    cr_expect(not(liar.caller.up[0]));
    cr_expect(clock_now_us() - begin >= DEALER_SILENCE_US - DEALER_PING_US);
    close_liar(&liar);
}

Test(bus_hostile, a_greeting_without_credits_is_no_greeting)
{
    struct liar liar = {0};
    const char *const endpoints[] = {"inproc://query", "inproc://bulk"};
    cr_assert(eq(int, bus_open(NULL, &liar.bus, NULL), STATUS_OK));
    for (int i = 0; i < 2; i++) {
        liar.sockets[i] = zmq_socket(liar.bus->context, ZMQ_ROUTER);
        cr_assert(eq(int, zmq_setsockopt(liar.sockets[i], ZMQ_LINGER, &zero, sizeof(zero)), 0));
        cr_assert(eq(int, zmq_bind(liar.sockets[i], endpoints[i]), 0));
    }
    fixture_open_caller(&liar.caller, liar.bus);
    (void)fixture_add_peer(&liar.caller, endpoints[0], endpoints[1]);
    liar_greet(&liar, 0, 0);
    liar_greet(&liar, 1, 5);
    int64_t until = clock_deadline_in_us(100000);
    while (!clock_passed(until))
        cr_assert(eq(int, dealer_poll(liar.caller.dealer, NULL, 0, until), STATUS_OK));
    cr_expect(not(liar.caller.up[0]));
    close_liar(&liar);
}
