// SPDX-License-Identifier: Apache-2.0
// node_fixture.h - a node and a dealer that asks it, in one process (inproc), on a fresh directory;
// and records whose rows follow from their number and a version.
//
// Thread-safety: none; each Criterion test is a process of its own.

#ifndef RECO_TESTS_NODE_FIXTURE_H
#define RECO_TESTS_NODE_FIXTURE_H

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/clock.h"
#include "proto/base/half.h"
#include "proto/base/hash.h"
#include "proto/bus/dealer.h"
#include "shard_node/node.h"
#include "tests/support/patience.h"

#define DIMENSION 40
#define GENERATION 12
#define VSHARDS 4

static char directory[64];
static int node_number;

// A node and who asks it.
struct world {
    struct bus *bus;
    struct node *node;
    struct dealer *dealer;
    uint32_t peer;
};

static inline void make_directory(void)
{
    strcpy(directory, "test-node-XXXXXX");
    cr_assert(ne(ptr, mkdtemp(directory), NULL));
}

static inline void remove_directory(void)
{
    char command[128];
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", directory);
    cr_expect(eq(int, system(command), 0));
}

static inline bool is_up(const struct world *world)
{
    struct dealer_peer_info info;
    dealer_peer_info(world->dealer, world->peer, &info);
    return info.up;
}

static const char *node_listens_at; // NULL: no side port

static inline struct world open_world(uint32_t search_threads)
{
    struct world world = {0};
    struct reason why = {0};
    char query[64];
    char bulk[64];
    node_number++;
    (void)snprintf(query, sizeof(query), "inproc://query-%d", node_number);
    (void)snprintf(bulk, sizeof(bulk), "inproc://bulk-%d", node_number);
    cr_assert(eq(int, bus_open(NULL, &world.bus, &why), STATUS_OK), "%s", why.text);
    const struct node_params params = {.bus = world.bus,
                                       .directory = directory,
                                       .query_endpoint = query,
                                       .bulk_endpoint = bulk,
                                       .http = node_listens_at,
                                       .search_threads = search_threads};
    cr_assert(eq(int, node_start(&params, &world.node, &why), STATUS_OK), "%s", why.text);
    cr_assert(eq(int, dealer_create(world.bus, NULL, NULL, &world.dealer, &why), STATUS_OK));
    dealer_trust_threads(world.dealer); // on a busy machine they may be silent for a second
    cr_assert(eq(int, dealer_add_peer(world.dealer, query, bulk, &world.peer, &why), STATUS_OK));
    const int64_t until = clock_deadline_in_us(PATIENCE_US);
    while (!is_up(&world) && !clock_passed(until))
        cr_assert(eq(int, dealer_poll(world.dealer, NULL, 0, until), STATUS_OK));
    cr_assert(is_up(&world));
    return world;
}

static inline void close_world(struct world *world)
{
    dealer_destroy(&world->dealer);
    node_stop(&world->node);
    bus_close(&world->bus);
}

// What came back, copied.
struct answer {
    bool is_there;
    enum status status;
    char text[512];
    struct buffer body;
    uint16_t *rows;
    size_t rows_bytes;
    struct arena *arena;
};

static inline void keep_answer(void *context, const struct dealer_reply *reply)
{
    struct answer *answer = context;
    answer->is_there = true;
    answer->status = reply->status;
    (void)snprintf(answer->text, sizeof(answer->text), "%.*s: %.*s", (int)reply->field.bytes,
                   reply->field.data ? reply->field.data : "", (int)reply->text.bytes,
                   reply->text.data ? reply->text.data : "");
    if (reply->body.count > 0)
        cr_assert(
            eq(int, buffer_append(&answer->body, reply->body.data, reply->body.count), STATUS_OK));
    answer->rows = aligned_alloc(64, (reply->rows.count + 127) / 64 * 64);
    answer->rows_bytes = reply->rows.count;
    if (reply->rows.count > 0)
        memcpy(answer->rows, reply->rows.data, reply->rows.count);
}

// Puts a request on its way; `body` is freed.
static inline void send_request(struct world *world, enum dealer_class class, enum shard_type type,
                                struct buffer *body, struct bytes rows,
                                struct dealer_request *request)
{
    request->peer = world->peer;
    request->class = class;
    request->type = type;
    request->body = (struct bytes){body->data, body->count};
    request->rows = rows;
    request->deadline_us = clock_deadline_in_us(PATIENCE_US);
    uint64_t ticket;
    cr_assert(eq(int, dealer_send(world->dealer, request, &ticket), STATUS_OK));
    buffer_deinit(body);
}

static inline struct answer ask(struct world *world, enum shard_type type, struct buffer *body,
                                const void *rows, size_t rows_bytes)
{
    struct answer answer = {.arena = arena_create(64 << 20)};
    const bool bulk = type == SHARD_BULK || type == SHARD_BULK_COMMIT;
    struct dealer_request request = {.done = keep_answer, .context = &answer};
    send_request(world, bulk ? DEALER_BULK : DEALER_QUERY, type, body,
                 (struct bytes){rows, rows_bytes}, &request);
    while (!answer.is_there)
        cr_assert(eq(int, dealer_poll(world->dealer, NULL, 0, request.deadline_us), STATUS_OK));
    return answer;
}

static inline void end_answer(struct answer *answer)
{
    buffer_deinit(&answer->body);
    free(answer->rows);
    arena_destroy(&answer->arena);
}

static inline struct bytes body_of(const struct answer *answer)
{
    return (struct bytes){answer->body.data, answer->body.count};
}

static inline struct bytes rows_of(const struct answer *answer)
{
    return (struct bytes){(const uint8_t *)answer->rows, answer->rows_bytes};
}

// --- records "record N", rows from a small generator

static inline void fill_rows(uint64_t number, uint32_t version, uint16_t *rows)
{
    uint64_t state = number * 7919 + version * 104729 + 1;
    for (size_t i = 0; i < 2 * DIMENSION; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        rows[i] = half_from_float((float)(state >> 40) / (float)(1 << 24) - 0.5f);
    }
}

static inline void name_record(uint64_t number, char name[32])
{
    (void)snprintf(name, 32, "record %" PRIu64, number);
}

static inline uint64_t id_of(uint64_t number)
{
    char name[32];
    name_record(number, name);
    return hash_id(name, strlen(name));
}

static inline struct buffer create_body(uint32_t generation)
{
    static const uint32_t own[VSHARDS] = {0, 1, 2, 3};
    const struct shard_create_request request = {.generation = generation,
                                                 .dimension = DIMENSION,
                                                 .vshards = VSHARDS,
                                                 .own = own,
                                                 .own_count = VSHARDS};
    struct buffer body = {0};
    cr_assert(eq(int, shard_encode_create_request(&request, &body), STATUS_OK));
    return body;
}

static inline void create(struct world *world, uint32_t generation)
{
    struct buffer body = create_body(generation);
    struct answer answer = ask(world, SHARD_CREATE, &body, NULL, 0);
    cr_assert(eq(int, answer.status, STATUS_OK), "%s", answer.text);
    end_answer(&answer);
}

static inline struct buffer write_body(uint64_t first, size_t count, uint32_t version,
                                       uint16_t *rows)
{
    char(*names)[32] = calloc(count, 32);
    char(*captions)[48] = calloc(count, 48);
    struct text *texts = calloc(4 * count, sizeof(*texts));
    for (size_t i = 0; i < count; i++) {
        name_record(first + i, names[i]);
        (void)snprintf(captions[i], 48, "caption %" PRIu64 " version %" PRIu32, first + i, version);
        texts[i] = text_of(names[i]);
        texts[count + i] = text_of(captions[i]);
        texts[2 * count + i] = text_of("a source");
        texts[3 * count + i] = text_of("red\x1fgreen");
        fill_rows(first + i, version, rows + i * 2 * DIMENSION);
    }
    const struct shard_write_request request = {.generation = GENERATION,
                                                .dimension = DIMENSION,
                                                .count = count,
                                                .keys = texts,
                                                .captions = texts + count,
                                                .sources = texts + 2 * count,
                                                .tags = texts + 3 * count};
    struct buffer body = {0};
    cr_assert(eq(int, shard_encode_write_request(&request, &body), STATUS_OK));
    free(names);
    free(captions);
    free(texts);
    return body;
}

static inline struct shard_write_reply write_records(struct world *world, enum shard_type type,
                                                     uint64_t first, size_t count, uint32_t version)
{
    uint16_t *rows = calloc(count * 2 * DIMENSION, sizeof(*rows));
    struct buffer body = write_body(first, count, version, rows);
    struct answer answer = ask(world, type, &body, rows, count * 2 * DIMENSION * sizeof(*rows));
    cr_assert(eq(int, answer.status, STATUS_OK), "%s", answer.text);
    struct shard_write_reply reply;
    struct reason why = {0};
    cr_assert(eq(
        int,
        shard_decode_write_reply(body_of(&answer), (struct bytes){0}, answer.arena, &reply, &why),
        STATUS_OK));
    cr_assert(eq(sz, reply.count, 0));
    end_answer(&answer);
    free(rows);
    return reply;
}

static inline struct answer ask_generation(struct world *world, enum shard_type type,
                                           uint32_t generation)
{
    struct buffer body = {0};
    cr_assert(eq(int,
                 shard_encode_generation_request(
                     &(struct shard_generation_request){.generation = generation}, &body),
                 STATUS_OK));
    return ask(world, type, &body, NULL, 0);
}

static inline struct shard_stats_reply stats(struct world *world, uint32_t generation)
{
    struct answer answer = ask_generation(world, SHARD_STATS, generation);
    cr_assert(eq(int, answer.status, STATUS_OK), "%s", answer.text);
    struct shard_stats_reply reply;
    struct reason why;
    cr_assert(eq(
        int,
        shard_decode_stats_reply(body_of(&answer), (struct bytes){0}, answer.arena, &reply, &why),
        STATUS_OK));
    end_answer(&answer);
    return reply;
}

static inline struct answer ask_ids(struct world *world, enum shard_type type, const uint64_t *ids,
                                    size_t count)
{
    struct buffer body = {0};
    const struct shard_ids_request request = {GENERATION, ids, count};
    cr_assert(eq(int, shard_encode_ids_request(&request, &body), STATUS_OK));
    return ask(world, type, &body, NULL, 0);
}

static inline void expect_flags(struct world *world, enum shard_type type, const uint64_t *ids,
                                size_t count, const uint32_t *flags)
{
    struct answer answer = ask_ids(world, type, ids, count);
    cr_assert(eq(int, answer.status, STATUS_OK), "%s", answer.text);
    struct shard_flags_reply reply;
    struct reason why;
    cr_assert(eq(
        int,
        shard_decode_flags_reply(body_of(&answer), (struct bytes){0}, answer.arena, &reply, &why),
        STATUS_OK));
    cr_assert(eq(sz, reply.count, count));
    for (size_t i = 0; i < count; i++)
        cr_expect(eq(u32, reply.flags[i], flags[i]));
    end_answer(&answer);
}

#endif
