// SPDX-License-Identifier: Apache-2.0
// mutate_node: sends mutated messages to a node that runs, with the cluster's own keys, and then
// asks it properly.
//
// usage: mutate_node KEYS QUERY_ENDPOINT BULK_ENDPOINT COUNT SEED
//        mutate_node KEYS    makes the keys
// Every message begins as a sound one of a random type and is damaged in one or more ways; half of
// them get right checksums afterwards, so that what is behind the checksums meets damage too. After
// every few messages a PING must be answered. Exit status 0 when the node still does everything.

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zmq.h>

#include "proto/base/clock.h"
#include "proto/base/hash.h"
#include "proto/base/mem.h"
#include "proto/bus/bus.h"
#include "proto/wire/shard_msg.h"

#define DIMENSION 16
#define RECORDS 4
#define ROW_BYTES (2 * DIMENSION * sizeof(uint16_t))
#define FRAMES_MAX 6
#define FRAME_BYTES 8192
#define ROUND 16
#define PATIENCE_MS 30000
#define RECONNECT 4096
#define TYPES_TRIED 24 // known ones and some that are not

struct frame {
    uint8_t data[FRAME_BYTES];
    size_t bytes;
};

struct attack {
    void *context;
    struct bus_keys keys;
    const char *endpoint[2];
    void *socket[2];
    uint64_t random;
    uint64_t next_id;
    struct frame frame[FRAMES_MAX];
    size_t frame_count;
};

static uint64_t next_number(struct attack *attack)
{
    attack->random ^= attack->random << 13;
    attack->random ^= attack->random >> 7;
    attack->random ^= attack->random << 17;
    return attack->random;
}

static size_t below(struct attack *attack, size_t limit)
{
    return limit == 0 ? 0 : (size_t)(next_number(attack) % limit);
}

static void fail(const char *what, uint64_t number)
{
    (void)fprintf(stderr, "mutate_node: %s (message %" PRIu64 ")\n", what, number);
    exit(1);
}

// --- sockets

static void *connect_to(struct attack *attack, int which)
{
    const int zero = 0;
    const int patience = PATIENCE_MS;
    void *socket = zmq_socket(attack->context, ZMQ_DEALER);
    if (!socket || zmq_setsockopt(socket, ZMQ_LINGER, &zero, sizeof(zero)) != 0 ||
        zmq_setsockopt(socket, ZMQ_RCVTIMEO, &patience, sizeof(patience)) != 0 ||
        zmq_setsockopt(socket, ZMQ_SNDTIMEO, &patience, sizeof(patience)) != 0 ||
        zmq_setsockopt(socket, ZMQ_CURVE_SERVERKEY, attack->keys.node_public, BUS_KEY_BYTES) != 0 ||
        zmq_setsockopt(socket, ZMQ_CURVE_PUBLICKEY, attack->keys.coordinator_public,
                       BUS_KEY_BYTES) != 0 ||
        zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, attack->keys.coordinator_secret,
                       BUS_KEY_BYTES) != 0 ||
        zmq_connect(socket, attack->endpoint[which]) != 0)
        fail("cannot connect", 0);
    return socket;
}

static void send_frames(struct attack *attack, void *socket)
{
    for (size_t f = 0; f < attack->frame_count; f++) {
        const struct frame *frame = &attack->frame[f];
        const int flags = f + 1 < attack->frame_count ? ZMQ_SNDMORE : 0;
        if (zmq_send(socket, frame->data, frame->bytes, flags) < 0)
            fail("the node takes nothing more", attack->next_id);
    }
}

// Takes messages until the answer to `id`; returns its status.
static enum status wait_for(struct attack *attack, void *socket, uint64_t id)
{
    static uint8_t frame[1u << 20];
    for (;;) {
        const int bytes = zmq_recv(socket, frame, sizeof(frame), 0);
        if (bytes < 0)
            fail("no answer: the node is stuck or gone", attack->next_id);
        struct arena *arena = arena_create(1u << 20);
        struct shard_envelope envelope = {0};
        const size_t used = (size_t)bytes < sizeof(frame) ? (size_t)bytes : sizeof(frame);
        const enum status status =
            shard_decode_envelope((struct bytes){frame, used}, arena, &envelope, NULL);
        arena_destroy(&arena);
        int more = 1;
        size_t size = sizeof(more);
        while (zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &size) == 0 && more)
            (void)zmq_recv(socket, frame, sizeof(frame), 0);
        if (status == STATUS_OK && envelope.reply && envelope.request_id == id)
            return envelope.status;
    }
}

// --- sound messages

static void set_frame(struct frame *frame, const void *data, size_t bytes)
{
    if (bytes > FRAME_BYTES)
        fail("a sound message is larger than this program expects", 0);
    if (bytes > 0)
        memcpy(frame->data, data, bytes);
    frame->bytes = bytes;
}

static enum status encode_write(uint32_t generation, struct buffer *body)
{
    static const struct text keys[RECORDS] = {{"a", 1}, {"b", 1}, {"key/c", 5}, {"d", 1}};
    static const struct text captions[RECORDS] = {{"x", 1}, {"", 0}, {"a caption", 9}, {"y", 1}};
    static const struct text sources[RECORDS] = {{"", 0}, {"file", 4}, {"", 0}, {"", 0}};
    static const struct text tags[RECORDS] = {{"", 0}, {"t", 1}, {"t\x1fu", 3}, {"", 0}};
    return shard_encode_write_request(&(struct shard_write_request){.generation = generation,
                                                                    .dimension = DIMENSION,
                                                                    .count = RECORDS,
                                                                    .keys = keys,
                                                                    .captions = captions,
                                                                    .sources = sources,
                                                                    .tags = tags},
                                      body);
}

static enum status encode_create(uint32_t generation, struct buffer *body)
{
    static const uint32_t own[] = {0, 1, 2, 3};
    return shard_encode_create_request(&(struct shard_create_request){.generation = generation,
                                                                      .dimension = DIMENSION,
                                                                      .vshards = 4,
                                                                      .own = own,
                                                                      .own_count = 4},
                                       body);
}

static enum status encode_search(uint32_t generation, struct buffer *body)
{
    static const uint64_t excluded[] = {7, 8};
    return shard_encode_search_request(&(struct shard_search_request){.generation = generation,
                                                                      .dimension = DIMENSION,
                                                                      .row_count = 2,
                                                                      .k = 5,
                                                                      .want_payload = true,
                                                                      .exclude_ids = excluded,
                                                                      .exclude_count = 2},
                                       body);
}

static enum status encode_fetch(uint32_t generation, struct buffer *body)
{
    static const uint64_t ids[] = {1, 2, 3};
    return shard_encode_fetch_request(&(struct shard_fetch_request){.generation = generation,
                                                                    .ids = ids,
                                                                    .count = 3,
                                                                    .want_documents = true,
                                                                    .want_image_rows = true},
                                      body);
}

static enum status encode_ids(uint32_t generation, struct buffer *body)
{
    static const uint64_t ids[] = {1, 2, 3, UINT64_MAX};
    return shard_encode_ids_request(
        &(struct shard_ids_request){.generation = generation, .ids = ids, .count = 4}, body);
}

// Body and rows of a message of the type; types without a codec here get a generation's.
static void make_body(struct attack *attack, uint32_t type, uint32_t generation)
{
    struct buffer body = {0};
    enum status status = STATUS_OK;
    size_t rows_bytes = 0;
    if (type == SHARD_WRITE || type == SHARD_BULK) {
        status = encode_write(generation, &body);
        rows_bytes = RECORDS * ROW_BYTES;
    } else if (type == SHARD_SEARCH) {
        status = encode_search(generation, &body);
        rows_bytes = (size_t)2 * DIMENSION * sizeof(float);
    } else if (type == SHARD_CREATE) {
        status = encode_create(generation, &body);
    } else if (type == SHARD_FETCH) {
        status = encode_fetch(generation, &body);
    } else if (type == SHARD_DELETE || type == SHARD_HAS) {
        status = encode_ids(generation, &body);
    } else {
        status = shard_encode_generation_request(
            &(struct shard_generation_request){.generation = generation}, &body);
    }
    if (status != STATUS_OK)
        fail("a sound message cannot be made", 0);
    set_frame(&attack->frame[1], body.data, body.count);
    buffer_deinit(&body);
    uint8_t rows[RECORDS * ROW_BYTES];
    for (size_t i = 0; i < sizeof(rows); i += 2) { // small halves; as floats they are finite too
        rows[i] = (uint8_t)next_number(attack);
        rows[i + 1] = 0x30 | (uint8_t)(next_number(attack) & 0x07);
    }
    set_frame(&attack->frame[2], rows, rows_bytes);
    attack->frame_count = rows_bytes > 0 ? 3 : 2;
}

static void make_envelope(struct attack *attack, uint32_t type, uint64_t id)
{
    struct buffer head = {0};
    const struct shard_envelope envelope = {
        .version = SHARD_VERSION,
        .type = (enum shard_type)type,
        .request_id = id,
        .deadline_us = 5000000,
        .trace = {"mutated", 7},
        .body_crc = attack->frame_count > 1
                        ? hash_crc32c(0, attack->frame[1].data, attack->frame[1].bytes)
                        : 0,
        .rows_crc = attack->frame_count > 2
                        ? hash_crc32c(0, attack->frame[2].data, attack->frame[2].bytes)
                        : 0};
    if (shard_encode_envelope(&envelope, &head) != STATUS_OK)
        fail("an envelope cannot be made", 0);
    set_frame(&attack->frame[0], head.data, head.count);
    buffer_deinit(&head);
}

// --- damage

static void flip_bits(struct attack *attack, struct frame *frame)
{
    for (size_t flips = 1 + below(attack, 6); flips > 0 && frame->bytes > 0; flips--)
        frame->data[below(attack, frame->bytes)] ^= (uint8_t)(1u << below(attack, 8));
}

// Writes a number that protobuf reads as a length or a count of its own choice.
static void lie_about_a_length(struct attack *attack, struct frame *frame)
{
    static const uint8_t lies[][5] = {{0xff, 0xff, 0xff, 0xff, 0x0f},
                                      {0x80, 0x80, 0x80, 0x80, 0x08},
                                      {0xff, 0xff, 0x7f, 0, 0},
                                      {0x7f, 0, 0, 0, 0}};
    if (frame->bytes < 6)
        return;
    memcpy(frame->data + below(attack, frame->bytes - 5), lies[below(attack, 4)], 5);
}

static void change_length(struct attack *attack, struct frame *frame)
{
    if (below(attack, 2) == 0) {
        frame->bytes = below(attack, frame->bytes + 1);
        return;
    }
    const size_t more = below(attack, 64);
    for (size_t i = 0; i < more && frame->bytes < FRAME_BYTES; i++)
        frame->data[frame->bytes++] = (uint8_t)next_number(attack);
}

static void damage_frame(struct attack *attack, struct frame *frame)
{
    switch (below(attack, 3)) {
    case 0:
        flip_bits(attack, frame);
        break;
    case 1:
        lie_about_a_length(attack, frame);
        break;
    default:
        change_length(attack, frame);
        break;
    }
}

static void change_count(struct attack *attack)
{
    const size_t before = attack->frame_count;
    attack->frame_count = 1 + below(attack, FRAMES_MAX);
    for (size_t f = before; f < attack->frame_count; f++)
        attack->frame[f] = attack->frame[below(attack, before)];
}

static void send_mutated(struct attack *attack)
{
    const uint32_t type = (uint32_t)below(attack, TYPES_TRIED);
    const uint32_t body_type = below(attack, 8) == 0 ? (uint32_t)below(attack, TYPES_TRIED) : type;
    const uint64_t id = ++attack->next_id;
    make_body(attack, body_type, 1 + (uint32_t)below(attack, 3));
    const bool sealed = below(attack, 2) == 0; // the checksums are made after the damage
    if (!sealed)
        make_envelope(attack, type, id);
    const size_t damage = below(attack, 4);
    for (size_t i = 0; i < damage; i++)
        damage_frame(attack, &attack->frame[1 + below(attack, attack->frame_count - 1)]);
    if (sealed)
        make_envelope(attack, type, id);
    if (below(attack, 6) == 0)
        damage_frame(attack, &attack->frame[0]);
    if (below(attack, 12) == 0)
        change_count(attack);
    send_frames(attack, attack->socket[below(attack, 2)]);
}

// A PING is answered at once; what asks the writer and a reader for a generation that is not there
// is answered behind everything before it, so that the node's credits do not run out.
static void expect_alive(struct attack *attack)
{
    static const uint32_t types[] = {SHARD_PING, SHARD_DROP, SHARD_STATS};
    for (size_t t = 0; t < 3; t++) {
        for (int s = 0; s < 2; s++) {
            const uint64_t id = (1ull << 60) + ++attack->next_id;
            make_body(attack, types[t], UINT32_MAX - 1);
            attack->frame_count = types[t] == SHARD_PING ? 1 : 2;
            make_envelope(attack, types[t], id);
            send_frames(attack, attack->socket[s]);
            const enum status status = wait_for(attack, attack->socket[s], id);
            if (status != (t == 0 ? STATUS_OK : STATUS_NOT_FOUND) && status != STATUS_EXHAUSTED)
                fail(status_text(status), attack->next_id);
        }
    }
}

// What was sent before may still be under way, and the node takes no more than its credits.
static void expect_sound(struct attack *attack, uint32_t type, uint32_t generation)
{
    const int64_t until = clock_deadline_in_us(PATIENCE_MS * 1000);
    enum status status = STATUS_EXHAUSTED;
    while (status == STATUS_EXHAUSTED && !clock_passed(until)) {
        const uint64_t id = (1ull << 61) + ++attack->next_id;
        make_body(attack, type, generation);
        make_envelope(attack, type, id);
        send_frames(attack, attack->socket[0]);
        status = wait_for(attack, attack->socket[0], id);
    }
    if (status != STATUS_OK)
        fail(status_text(status), type);
}

int main(int argc, char **argv)
{
    if (argc == 2) {
        struct bus_keys keys;
        return bus_keys_load(argv[1], true, &keys, NULL) == STATUS_OK ? 0 : 1;
    }
    if (argc != 6) {
        (void)fprintf(stderr, "usage: mutate_node KEYS [QUERY BULK COUNT SEED]\n");
        return 2;
    }
    struct attack *attack = mem_alloc(sizeof(*attack));
    const uint64_t count = strtoull(argv[4], NULL, 10);
    const uint64_t seed = strtoull(argv[5], NULL, 10);
    attack->random = seed * 2654435761u + 1;
    attack->next_id = seed << 32;
    attack->endpoint[0] = argv[2];
    attack->endpoint[1] = argv[3];
    attack->context = zmq_ctx_new();
    if (bus_keys_load(argv[1], false, &attack->keys, NULL) != STATUS_OK)
        fail("no keys", 0);
    for (uint64_t i = 0; i < count; i++) {
        for (int s = 0; s < 2 && i % RECONNECT == 0; s++) {
            if (attack->socket[s])
                (void)zmq_close(attack->socket[s]);
            attack->socket[s] = connect_to(attack, s);
        }
        send_mutated(attack);
        if (i % ROUND == ROUND - 1)
            expect_alive(attack);
    }
    const uint32_t generation = 1000000 + (uint32_t)(seed % 1000000);
    expect_sound(attack, SHARD_CREATE, generation);
    expect_sound(attack, SHARD_WRITE, generation);
    expect_sound(attack, SHARD_SEARCH, generation);
    for (int s = 0; s < 2; s++)
        (void)zmq_close(attack->socket[s]);
    (void)zmq_ctx_term(attack->context);
    mem_free(attack);
    (void)printf("ok %" PRIu64 "\n", count);
    return 0;
}
