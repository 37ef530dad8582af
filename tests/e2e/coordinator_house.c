// SPDX-License-Identifier: Apache-2.0
// coordinator_house.c - see coordinator_house.h. Records are made from their number by a small
// generator, so that every house holds the same ones.

#include "tests/e2e/coordinator_house.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/clock.h"
#include "proto/base/embedding.h"
#include "proto/base/log.h"
#include "tests/support/patience.h"

#define WAIT_US 20000000
#define ARENA_BYTES ((size_t)256 << 20)

static void start_node(struct house *house, uint32_t i)
{
    char directory[96];
    char query[64];
    char bulk[64];
    struct reason why = {0};
    (void)snprintf(directory, sizeof(directory), "%s/node-%u", house->root, i);
    (void)snprintf(query, sizeof(query), "inproc://node-%u", i);
    (void)snprintf(bulk, sizeof(bulk), "inproc://bulk-%u", i);
    struct node_params params = {.bus = house->bus,
                                 .directory = directory,
                                 .query_endpoint = query,
                                 .bulk_endpoint = bulk,
                                 .index = i,
                                 .search_threads = 1};
    cr_assert(eq(int, node_start(&params, &house->nodes[i], &why), STATUS_OK), "%s", why.text);
}

static void start(struct house *house, const char *listen)
{
    struct coordinator_node nodes[NODES_MAX];
    static char names[NODES_MAX][2][64];
    struct reason why = {0};
    cr_assert(eq(int, bus_open(NULL, &house->bus, &why), STATUS_OK), "%s", why.text);
    for (uint32_t i = 0; i < house->node_count; i++) {
        start_node(house, i);
        (void)snprintf(names[i][0], sizeof(names[i][0]), "inproc://node-%u", i);
        (void)snprintf(names[i][1], sizeof(names[i][1]), "inproc://bulk-%u", i);
        nodes[i] = (struct coordinator_node){names[i][0], names[i][1]};
    }
    struct coordinator_params params = {
        .data_directory = house->root,
        .bus = house->bus,
        .nodes = nodes,
        .node_count = house->node_count,
        .clip = {.threads = 1},
        .listen = listen,
    };
    cr_assert(eq(int, coordinator_start(&params, &house->coordinator, &why), STATUS_OK), "%s",
              why.text);
    cr_assert(eq(int, coordinator_wait_nodes(house->coordinator, clock_deadline_in_us(WAIT_US)),
                 STATUS_OK));
}

void house_open(struct house *house, uint32_t nodes, const char *listen)
{
    log_set_level(LOG_ERROR);
    *house = (struct house){.node_count = nodes};
    (void)snprintf(house->root, sizeof(house->root), "/tmp/reco-house-XXXXXX");
    cr_assert(ne(ptr, mkdtemp(house->root), NULL));
    house->arena = arena_create(ARENA_BYTES);
    start(house, listen);
}

static void stop(struct house *house)
{
    coordinator_stop(&house->coordinator, WAIT_US);
    for (uint32_t i = 0; i < house->node_count; i++)
        node_stop(&house->nodes[i]);
    bus_close(&house->bus);
}

void house_close(struct house *house)
{
    char command[96];
    stop(house);
    arena_destroy(&house->arena);
    (void)snprintf(command, sizeof(command), "rm -rf %s", house->root);
    cr_assert(eq(int, system(command), 0));
}

void house_restart(struct house *house)
{
    stop(house);
    start(house, NULL);
}

static bool is_up(struct house *house, uint32_t node)
{
    struct bytes reply;
    struct buffer request = {0};
    struct api_node_list list;
    cr_assert(
        eq(int, house_call(house, API_CLUSTER_LIST_NODES, &request, &reply, NULL), STATUS_OK));
    cr_assert(eq(int, api_decode_node_list(reply, house->arena, &list, NULL), STATUS_OK));
    return text_equal(list.nodes[node].state, text_of("up"));
}

static void wait_state(struct house *house, uint32_t node, bool up)
{
    int64_t limit_us = clock_deadline_in_us(WAIT_US);
    while (is_up(house, node) != up)
        cr_assert(patience_lasts(limit_us), "node %u did not change its state", node);
}

void house_stop_node(struct house *house, uint32_t node)
{
    node_stop(&house->nodes[node]);
}

void house_wait_down(struct house *house, uint32_t node)
{
    wait_state(house, node, false);
}

void house_start_node(struct house *house, uint32_t node)
{
    start_node(house, node);
    wait_state(house, node, true);
}

enum status house_call(struct house *house, enum api_method method, struct buffer *request,
                       struct bytes *reply, struct reason *why)
{
    struct buffer out = {0};
    struct bytes message = {request->data, request->count};
    int64_t deadline_us =
        house->deadline_us == 0 ? DEADLINE_NONE : clock_deadline_in_us(house->deadline_us);
    enum status status =
        coordinator_call(house->coordinator, method, message, deadline_us, &out, why);
    if (status == STATUS_OK) {
        uint8_t *copy = arena_alloc(house->arena, out.count + 1);
        cr_assert(ne(ptr, copy, NULL));
        if (out.count > 0)
            memcpy(copy, out.data, out.count);
        *reply = (struct bytes){copy, out.count};
    }
    buffer_deinit(&out);
    buffer_deinit(request);
    return status;
}

// ---------------------------------------------------------------- memories

enum status house_create_status(struct house *house, const struct api_create_request *request,
                                struct api_memory_info *info, struct reason *why)
{
    struct buffer message = {0};
    struct bytes reply;
    cr_assert(eq(int, api_encode_create_request(request, &message), STATUS_OK));
    enum status status = house_call(house, API_MEMORY_CREATE, &message, &reply, why);
    if (status == STATUS_OK)
        cr_assert(eq(int, api_decode_memory_info(reply, house->arena, info, NULL), STATUS_OK));
    return status;
}

void house_create(struct house *house, const char *name, bool building, bool replace)
{
    struct api_memory_info info;
    struct reason why = {0};
    struct api_create_request request = {.name = text_of(name),
                                         .space = text_of(HOUSE_SPACE),
                                         .building = building,
                                         .replace = replace};
    cr_assert(eq(int, house_create_status(house, &request, &info, &why), STATUS_OK), "%s",
              why.text);
}

void house_embedding(uint32_t record, uint32_t modality, float out[HOUSE_DIMENSION])
{
    // Forty directions with noise around each: neighbours are near, and there are many alike.
    uint64_t state = 0x9e3779b97f4a7c15u * (record + 1) + modality;
    uint64_t cluster = 0xd1b54a32d192ed03u * (record % 40 + 1) + modality * 77;
    for (uint32_t i = 0; i < HOUSE_DIMENSION; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        cluster = cluster * 6364136223846793005u + 1442695040888963407u;
        float noise = (float)(state >> 40) / 16777216.0f - 0.5f;
        out[i] = (float)(cluster >> 40) / 16777216.0f - 0.5f + 0.4f * noise;
    }
    cr_assert(eq(int, embedding_normalise(out, HOUSE_DIMENSION), STATUS_OK));
}

static enum status send_batch(struct house *house, struct coordinator_stream *stream,
                              const struct house_ingest *ingest, uint32_t from, uint32_t to)
{
    static float embeddings[WRITE_RECORDS_MAX][2][HOUSE_DIMENSION];
    static struct api_ingest_record records[WRITE_RECORDS_MAX];
    static char texts[WRITE_RECORDS_MAX][3][32];
    static struct text tags[WRITE_RECORDS_MAX][2];
    (void)house;
    for (uint32_t i = from; i < to; i++) {
        uint32_t at = i - from;
        house_embedding(i, 0, embeddings[at][0]);
        house_embedding(i, 1, embeddings[at][1]);
        (void)snprintf(texts[at][0], sizeof(texts[at][0]), "k%u", i);
        (void)snprintf(texts[at][1], sizeof(texts[at][1]), "caption %u", i);
        (void)snprintf(texts[at][2], sizeof(texts[at][2]), "m%u", i % 10);
        tags[at][0] = text_of(texts[at][2]);
        tags[at][1] = text_of(ingest->tag ? ingest->tag : "");
        records[at] = (struct api_ingest_record){
            .key = text_of(texts[at][0]),
            .caption = text_of(texts[at][1]),
            .source = text_of("house"),
            .tags = tags[at],
            .tag_count = ingest->tag ? 2 : 0,
            .image_embedding = embeddings[at][0],
            .image_count = HOUSE_DIMENSION,
            .text_embedding = embeddings[at][1],
            .text_count = HOUSE_DIMENSION,
        };
    }
    struct api_ingest_request request = {
        .memory = from == ingest->from ? text_of(ingest->memory) : (struct text){0},
        .records = records,
        .count = to - from,
        .finish = ingest->finish && to == ingest->to,
        .skip_existing = ingest->skip_existing,
    };
    struct buffer message = {0};
    cr_assert(eq(int, api_encode_ingest_request(&request, &message), STATUS_OK));
    enum status status =
        coordinator_stream_send(stream, (struct bytes){message.data, message.count});
    buffer_deinit(&message);
    return status;
}

enum status house_ingest(struct house *house, const struct house_ingest *ingest,
                         struct api_ingest_reply *reply, struct reason *why)
{
    struct coordinator_stream *stream = NULL;
    struct buffer out = {0};
    uint32_t batch = ingest->batch == 0 ? 100 : ingest->batch;
    cr_assert(eq(int, coordinator_stream_open(house->coordinator, API_MEMORY_INGEST, &stream, why),
                 STATUS_OK));
    for (uint32_t from = ingest->from; from < ingest->to; from += batch) {
        uint32_t to = from + batch < ingest->to ? from + batch : ingest->to;
        if (send_batch(house, stream, ingest, from, to) != STATUS_OK)
            break; // finish tells why
    }
    enum status status = coordinator_stream_finish(&stream, &out, why);
    if (status == STATUS_OK) {
        uint8_t *copy = arena_alloc(house->arena, out.count + 1);
        memcpy(copy, out.data, out.count);
        cr_assert(
            eq(int,
               api_decode_ingest_reply((struct bytes){copy, out.count}, house->arena, reply, NULL),
               STATUS_OK));
    }
    buffer_deinit(&out);
    return status;
}

void house_fill(struct house *house, const char *name, uint32_t records)
{
    struct api_ingest_reply reply;
    struct reason why = {0};
    house_create(house, name, false, false);
    struct house_ingest ingest = {.memory = name, .to = records};
    cr_assert(eq(int, house_ingest(house, &ingest, &reply, &why), STATUS_OK), "%s", why.text);
    cr_assert(eq(u64, reply.stored, records));
}

void house_model_embedding(uint32_t seed, float out[HOUSE_MODEL_DIMENSION])
{
    uint64_t state = 0x9e3779b97f4a7c15u * (seed + 1);
    for (uint32_t i = 0; i < HOUSE_MODEL_DIMENSION; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        out[i] = (float)(state >> 33) / 1073741824.0f - 1.0f;
    }
}

void house_fill_model_space(struct house *house, uint32_t records)
{
    static float rows[WRITE_RECORDS_MAX][2][HOUSE_MODEL_DIMENSION];
    static char keys[WRITE_RECORDS_MAX][16];
    static struct api_ingest_record list[WRITE_RECORDS_MAX];
    struct api_memory_info info;
    struct reason why = {0};
    const struct api_create_request create = {.name = text_of("default")};
    cr_assert(le(u32, records, WRITE_RECORDS_MAX));
    cr_assert(eq(int, house_create_status(house, &create, &info, &why), STATUS_OK), "%s", why.text);
    cr_assert(eq(u32, info.dimension, HOUSE_MODEL_DIMENSION));
    for (uint32_t i = 0; i < records; i++) {
        house_model_embedding(2 * i, rows[i][0]);
        house_model_embedding(2 * i + 1, rows[i][1]);
        (void)snprintf(keys[i], sizeof(keys[i]), "r%u", i);
        list[i] = (struct api_ingest_record){.key = text_of(keys[i]),
                                             .caption = text_of(keys[i]),
                                             .image_embedding = rows[i][0],
                                             .image_count = HOUSE_MODEL_DIMENSION,
                                             .text_embedding = rows[i][1],
                                             .text_count = HOUSE_MODEL_DIMENSION};
    }
    const struct api_ingest_request request = {
        .memory = text_of("default"), .records = list, .count = records};
    struct buffer message = {0};
    struct buffer out = {0};
    struct coordinator_stream *stream = NULL;
    cr_assert(eq(int, api_encode_ingest_request(&request, &message), STATUS_OK));
    cr_assert(eq(int, coordinator_stream_open(house->coordinator, API_MEMORY_INGEST, &stream, &why),
                 STATUS_OK));
    cr_assert(eq(int, coordinator_stream_send(stream, (struct bytes){message.data, message.count}),
                 STATUS_OK));
    cr_assert(eq(int, coordinator_stream_finish(&stream, &out, &why), STATUS_OK), "%s", why.text);
    buffer_deinit(&message);
    buffer_deinit(&out);
}

// ---------------------------------------------------------------- questions

struct api_query_request house_question(uint32_t record, float embedding[HOUSE_DIMENSION])
{
    house_embedding(record, 0, embedding);
    for (uint32_t i = 0; i < HOUSE_DIMENSION; i++) // near the record, not on it
        embedding[i] += (i % 3 == 0 ? 0.03f : -0.02f);
    return (struct api_query_request){
        .input = API_INPUT_EMBEDDING,
        .embedding = embedding,
        .embedding_count = HOUSE_DIMENSION,
        .options = {.memory = text_of("m"), .k = 10},
    };
}

enum status house_query(struct house *house, enum api_method method,
                        const struct api_query_request *request, struct api_answer *answer,
                        struct reason *why)
{
    struct buffer message = {0};
    struct bytes reply;
    cr_assert(eq(int, api_encode_query(method, request, &message), STATUS_OK));
    enum status status = house_call(house, method, &message, &reply, why);
    if (status == STATUS_OK)
        cr_assert(eq(int, api_decode_answer(method, reply, house->arena, answer, NULL), STATUS_OK));
    return status;
}

enum status house_compile(struct house *house, const struct api_labels_request *request,
                          struct api_answer *answer, struct reason *why)
{
    struct buffer message = {0};
    struct bytes reply;
    cr_assert(eq(int, api_encode_labels_request(request, &message), STATUS_OK));
    enum status status = house_call(house, API_COMPILE_LABELS, &message, &reply, why);
    if (status == STATUS_OK)
        cr_assert(eq(int, api_decode_answer(API_COMPILE_LABELS, reply, house->arena, answer, NULL),
                     STATUS_OK));
    return status;
}

static bool same_floats(const float *a, const float *b, size_t count)
{
    return count == 0 || memcmp(a, b, count * sizeof(*a)) == 0;
}

static bool same_labels(const struct api_labels *a, const struct api_labels *b)
{
    if (a->count != b->count || !same_floats(a->scores, b->scores, a->count))
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (!text_equal(a->labels[i], b->labels[i]))
            return false;
    return true;
}

bool house_same(const struct api_answer *a, const struct api_answer *b)
{
    const struct api_neighbours *left = &a->neighbours;
    const struct api_neighbours *right = &b->neighbours;
    if (left->count != right->count || a->embedding_count != b->embedding_count ||
        !same_floats(&a->gate, &b->gate, 1) || a->records != b->records)
        return false;
    for (size_t i = 0; i < left->count; i++)
        if (left->ids[i] != right->ids[i] || !text_equal(left->keys[i], right->keys[i]) ||
            !text_equal(left->captions[i], right->captions[i]))
            return false;
    return same_floats(left->scores, right->scores, left->count) &&
           (!left->weights) == (!right->weights) &&
           same_floats(left->weights, right->weights, left->weights ? left->count : 0) &&
           same_floats(a->embedding, b->embedding, a->embedding_count) &&
           same_labels(&a->plain, &b->plain) && same_labels(&a->refined, &b->refined);
}
