// SPDX-License-Identifier: Apache-2.0
// Goal: Export gives every record once, as it was at one moment, exactly; a part of a memory never
// ends like the whole; and whoever does not read or leaves costs nothing.
//
// Method: real nodes, the coordinator served over gRPC and called within the process, the same
// question both ways.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/clock.h"
#include "proto/base/half.h"
#include "proto/rpc/rpc_client.h"
#include "tests/e2e/coordinator_house.h"

#define RECORDS 6000u // more than one step of a node
#define LONG_US 20000000

static struct house house;
static char address[32];

static void open_house(void)
{
    house_open(&house, 2, "127.0.0.1:0");
    house_create(&house, "m", false, false);
    struct api_ingest_reply reply;
    struct reason why = {0};
    const struct house_ingest ingest = {.memory = "m", .to = RECORDS, .tag = "t"};
    cr_assert(eq(int, house_ingest(&house, &ingest, &reply, &why), STATUS_OK), "%s", why.text);
    (void)snprintf(address, sizeof(address), "127.0.0.1:%d", coordinator_port(house.coordinator));
}

struct talk {
    struct rpc_client *client; // NULL: within the process
    struct rpc_stream *remote;
    struct coordinator_stream *local;
};

static struct talk talk_to(const struct api_export_request *request, bool by_rpc,
                           int64_t deadline_us)
{
    struct talk talk = {0};
    struct reason why = {0};
    struct buffer message = {0};
    cr_assert(eq(int, api_encode_export_request(request, &message), STATUS_OK));
    const struct bytes bytes = {message.data, message.count};
    if (by_rpc) {
        const struct rpc_client_call call = {.path = api_method_info(API_MEMORY_EXPORT)->path,
                                             .deadline_us = deadline_us,
                                             .server_streams = true};
        cr_assert(eq(int, rpc_client_open(address, &talk.client, &why), STATUS_OK), "%s", why.text);
        cr_assert(eq(int, rpc_stream_open(talk.client, &call, &talk.remote, &why), STATUS_OK));
        cr_assert(eq(int, rpc_stream_send(talk.remote, bytes), STATUS_OK));
        rpc_stream_close(talk.remote);
    } else {
        cr_assert(eq(
            int, coordinator_stream_open(house.coordinator, API_MEMORY_EXPORT, &talk.local, &why),
            STATUS_OK));
        cr_assert(eq(int, coordinator_stream_send(talk.local, bytes), STATUS_OK));
        coordinator_stream_close(talk.local);
    }
    buffer_deinit(&message);
    return talk;
}

// The next message, in the house's arena; false at the end.
static bool hear(struct talk *talk, struct api_export_reply *out)
{
    struct buffer message = {0};
    struct reason why = {0};
    bool ended = false;
    const enum status status = talk->local
                                   ? coordinator_stream_receive(talk->local, &message, &ended)
                                   : rpc_stream_receive(talk->remote, &message, &ended);
    cr_assert(eq(int, status, STATUS_OK));
    if (!ended) {
        uint8_t *copy = arena_alloc(house.arena, message.count + 1);
        memcpy(copy, message.data, message.count);
        const struct bytes bytes = {copy, message.count};
        cr_assert(lt(sz, message.count, 4u << 20));
        cr_assert(eq(int, api_decode_export_reply(bytes, house.arena, out, &why), STATUS_OK),
                  "%s: %s", why.field, why.text);
    }
    buffer_deinit(&message);
    return !ended;
}

static enum status talk_end(struct talk *talk, struct reason *why)
{
    const enum status status = talk->local ? coordinator_stream_finish(&talk->local, NULL, why)
                                           : rpc_stream_finish(&talk->remote, NULL, why);
    rpc_client_close(&talk->client);
    return status;
}

static void wait_nothing_is_left(void)
{
    const int64_t limit_us = clock_deadline_in_us(LONG_US);
    struct coordinator_counters left = {.calls = 1};
    while (left.calls + left.rpc_calls + left.requests > 0) {
        cr_assert(not(clock_passed(limit_us)), "calls %zu rpc %zu requests %zu", left.calls,
                  left.rpc_calls, left.requests);
        struct buffer none = {0};
        struct bytes ignored;
        // A call turns the loop, after which the figures are new.
        cr_assert(eq(int, house_call(&house, API_LIST_MODELS, &none, &ignored, NULL), STATUS_OK));
        coordinator_counters(house.coordinator, &left);
    }
}

// --- what comes

static uint8_t seen[RECORDS];

static uint32_t number_of(struct text key)
{
    cr_assert(key.bytes > 1 && key.data[0] == 'k');
    const uint32_t number = (uint32_t)strtoul(key.data + 1, NULL, 10);
    cr_assert(lt(u32, number, RECORDS));
    return number;
}

static double dot(const float *a, const float *b)
{
    double sum = 0;
    double length = 0;
    for (uint32_t i = 0; i < HOUSE_DIMENSION; i++) {
        sum += (double)a[i] * (double)b[i];
        length += (double)b[i] * (double)b[i];
    }
    return sum * sum / length;
}

static void expect_record(const struct api_record *record, bool is_hidden)
{
    char text[32];
    float embedding[HOUSE_DIMENSION];
    const uint32_t number = number_of(record->key);
    seen[number]++;
    (void)snprintf(text, sizeof(text), "caption %u", number);
    cr_expect(text_equal(record->caption, text_of(text)));
    cr_expect(eq(sz, record->tag_count, 2));
    cr_expect(eq(int, record->hidden, is_hidden));
    cr_assert(eq(sz, record->image_count, HOUSE_DIMENSION));
    cr_assert(eq(sz, record->text_count, HOUSE_DIMENSION));
    for (uint32_t side = 0; side < 2; side++) {
        const float *row = side == 0 ? record->image_embedding : record->text_embedding;
        house_embedding(number, side, embedding);
        cr_expect(gt(dbl, dot(row, embedding), 0.999));
        for (uint32_t i = 0; i < HOUSE_DIMENSION; i++)
            cr_assert(half_to_float(half_from_float(row[i])) == row[i]); // as it is stored
    }
}

static void expect_whole(bool by_rpc)
{
    const struct api_export_request request = {.memory = text_of("m")};
    struct talk talk = talk_to(&request, by_rpc, DEADLINE_NONE);
    struct api_export_reply reply;
    struct reason why = {0};
    size_t messages = 0;
    memset(seen, 0, sizeof(seen));
    for (; hear(&talk, &reply); messages++) {
        cr_expect(text_equal(reply.memory, text_of("m")));
        cr_expect(text_equal(reply.space, text_of(HOUSE_SPACE)));
        cr_expect(eq(u32, reply.dimension, HOUSE_DIMENSION));
        cr_expect(eq(u64, reply.total, RECORDS));
        for (size_t i = 0; i < reply.count; i++)
            expect_record(&reply.records[i], number_of(reply.records[i].key) == 7);
    }
    cr_assert(eq(int, talk_end(&talk, &why), STATUS_OK), "%s", why.text);
    cr_expect(gt(sz, messages, 2));
    for (uint32_t i = 0; i < RECORDS; i++)
        cr_assert(eq(int, seen[i], 1), "record %u", i);
}

static void change(enum api_method method, const char *key)
{
    const struct text keys[1] = {text_of(key)};
    const struct api_delete_request request = {
        .memory = text_of("m"), .keys = keys, .key_count = 1};
    struct buffer message = {0};
    struct bytes reply;
    cr_assert(eq(int, api_encode_delete_request(&request, &message), STATUS_OK));
    cr_assert(eq(int, house_call(&house, method, &message, &reply, NULL), STATUS_OK));
}

Test(export, every_record_comes_once_and_exactly)
{
    open_house();
    change(API_MEMORY_HIDE, "k7");
    expect_whole(false);
    expect_whole(true);
    wait_nothing_is_left();
    house_close(&house);
}

Test(export, is_of_one_moment)
{
    open_house();
    const struct api_export_request request = {.memory = text_of("m")};
    struct talk talk = talk_to(&request, false, DEADLINE_NONE);
    struct api_export_reply reply;
    struct reason why = {0};
    uint64_t count = 0;
    cr_assert(hear(&talk, &reply));
    count += reply.count;
    for (uint32_t i = 0; i < RECORDS; i += 60) {
        char key[16];
        (void)snprintf(key, sizeof(key), "k%u", i);
        change(API_MEMORY_DELETE, key);
    }
    while (hear(&talk, &reply))
        count += reply.count;
    cr_assert(eq(int, talk_end(&talk, &why), STATUS_OK), "%s", why.text);
    cr_expect(eq(u64, count, RECORDS));
    house_close(&house);
}

// --- parts of it

static uint64_t count_of(const struct api_export_request *request, size_t *messages)
{
    struct talk talk = talk_to(request, false, DEADLINE_NONE);
    struct api_export_reply reply;
    struct reason why = {0};
    uint64_t count = 0;
    for (*messages = 0; hear(&talk, &reply); (*messages)++) {
        cr_expect(text_equal(reply.memory, text_of("m")));
        count += reply.count;
    }
    cr_assert(eq(int, talk_end(&talk, &why), STATUS_OK), "%s: %s", why.field, why.text);
    return count;
}

Test(export, a_filter_lets_through_what_passes)
{
    open_house();
    const struct text m3[] = {text_of("m3"), text_of("t")};
    const struct text m45[] = {text_of("m4"), text_of("m5")};
    const struct text keys[] = {text_of("k3"), text_of("k13"), text_of("k4"), text_of("none")};
    size_t messages = 0;
    struct api_export_request request = {.memory = text_of("m")};
    request.filter = (struct api_filter){.all_tags = m3, .all_count = 2};
    cr_expect(eq(u64, count_of(&request, &messages), RECORDS / 10));
    request.filter = (struct api_filter){.any_tags = m45, .any_count = 2};
    cr_expect(eq(u64, count_of(&request, &messages), RECORDS / 5));
    request.filter = (struct api_filter){.no_tags = m45, .no_count = 2};
    cr_expect(eq(u64, count_of(&request, &messages), RECORDS - RECORDS / 5));
    request.filter = (struct api_filter){.keys = keys, .key_count = 4};
    cr_expect(eq(u64, count_of(&request, &messages), 3));
    request.filter.all_tags = m3;
    request.filter.all_count = 1;
    cr_expect(eq(u64, count_of(&request, &messages), 2));
    request.filter = (struct api_filter){.only_listed = true};
    cr_expect(eq(u64, count_of(&request, &messages), 0));
    cr_expect(eq(sz, messages, 1)); // which memory it was is told all the same
    house_close(&house);
}

Test(export, has_what_was_asked_for_and_no_more)
{
    open_house();
    const struct api_export_request request = {.memory = text_of("m"),
                                               .fields = 1u << API_FIELD_NONE};
    struct talk talk = talk_to(&request, true, DEADLINE_NONE);
    struct api_export_reply reply;
    struct reason why = {0};
    cr_assert(hear(&talk, &reply));
    cr_assert(gt(sz, reply.count, 0));
    cr_expect(ne(u64, reply.records[0].id, 0));
    cr_expect(eq(sz, reply.records[0].key.bytes + reply.records[0].caption.bytes, 0));
    cr_expect(eq(sz, reply.records[0].tag_count, 0));
    cr_expect(eq(sz, reply.records[0].image_count + reply.records[0].text_count, 0));
    while (hear(&talk, &reply))
        ;
    cr_assert(eq(int, talk_end(&talk, &why), STATUS_OK), "%s", why.text);
    house_close(&house);
}

// --- what goes wrong

static void expect_refused(const struct api_export_request *request, enum status status,
                           const char *field)
{
    for (int by_rpc = 0; by_rpc < 2; by_rpc++) {
        struct talk talk = talk_to(request, by_rpc, DEADLINE_NONE);
        struct api_export_reply reply;
        struct reason why = {0};
        cr_assert(not(hear(&talk, &reply)));
        cr_expect(eq(int, talk_end(&talk, &why), status), "%s", why.text);
        cr_expect(eq(str, why.field, (char *)field), "%s", why.text);
    }
}

Test(export, bad_questions_are_told)
{
    open_house();
    static uint64_t ids[FILTER_IDS_MAX];
    const struct text key = text_of("k1");
    struct api_export_request request = {.memory = text_of("nowhere")};
    expect_refused(&request, STATUS_NOT_FOUND, "memory");
    request.memory = text_of("m");
    request.fields = 1u << API_FIELD_NONE | 1u << API_FIELD_KEY;
    expect_refused(&request, STATUS_INVALID, "fields");
    request.fields = 0;
    request.filter =
        (struct api_filter){.keys = &key, .key_count = 1, .ids = ids, .id_count = FILTER_IDS_MAX};
    expect_refused(&request, STATUS_INVALID, "filter.ids");
    wait_nothing_is_left();
    house_close(&house);
}

Test(export, a_lost_node_is_an_error_and_no_shorter_memory)
{
    open_house();
    for (int by_rpc = 0; by_rpc < 2; by_rpc++) {
        // Embeddings are more than flow control lets through unread: the end is not on its way yet.
        const struct api_export_request request = {.memory = text_of("m"),
                                                   .fields = 1u << API_FIELD_IMAGE_EMBEDDING |
                                                             1u << API_FIELD_TEXT_EMBEDDING};
        struct talk talk = talk_to(&request, by_rpc, DEADLINE_NONE);
        struct api_export_reply reply;
        struct reason why = {0};
        uint64_t count = 0;
        cr_assert(hear(&talk, &reply));
        count += reply.count;
        house_stop_node(&house, 1);
        while (hear(&talk, &reply))
            count += reply.count;
        cr_expect(eq(int, talk_end(&talk, &why), STATUS_UNAVAILABLE), "%s", why.text);
        cr_expect(ne(ptr, strstr(why.text, "node 1"), NULL), "%s", why.text);
        cr_expect(lt(u64, count, RECORDS));
        house_start_node(&house, 1);
    }
    wait_nothing_is_left();
    house_close(&house);
}

Test(export, who_does_not_read_or_leaves_costs_nothing)
{
    open_house();
    const struct api_export_request request = {.memory = text_of("m")};
    struct api_export_reply reply;
    struct reason why = {0};
    // More often than a node has cursors: each is given back.
    for (int i = 0; i < 20; i++) {
        struct talk talk = talk_to(&request, i % 2 == 0, DEADLINE_NONE);
        cr_assert(hear(&talk, &reply));
        cr_expect(eq(int, talk_end(&talk, &why), STATUS_CANCELLED));
    }
    wait_nothing_is_left();

    // One that takes nothing: soon nothing is asked of the nodes for it any more.
    struct talk talk = talk_to(&request, false, DEADLINE_NONE);
    struct coordinator_counters counters = {.requests = 1};
    const int64_t limit_us = clock_deadline_in_us(LONG_US);
    for (int quiet = 0; quiet < 20;
         quiet = counters.requests == 0 && counters.calls == 1 ? quiet + 1 : 0) {
        struct buffer none = {0};
        struct bytes ignored;
        cr_assert(not(clock_passed(limit_us)));
        cr_assert(eq(int, house_call(&house, API_LIST_MODELS, &none, &ignored, NULL), STATUS_OK));
        coordinator_counters(house.coordinator, &counters);
    }
    cr_expect(eq(int, talk_end(&talk, &why), STATUS_CANCELLED));
    wait_nothing_is_left();
    house_close(&house);
}
