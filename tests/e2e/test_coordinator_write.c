// SPDX-License-Identifier: Apache-2.0
// Goal: what is acknowledged is stored, once; what is not stored is named; builds resume and
// replace each other without anyone seeing half of one.
//
// Method: real nodes behind inproc://, records of known embeddings, nodes that stop.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/clock.h"
#include "proto/base/hash.h"
#include "tests/e2e/coordinator_house.h"

static struct api_memory_info describe(struct house *house, const char *name)
{
    struct buffer message = {0};
    struct bytes reply;
    struct api_memory_info info;
    struct reason why = {0};
    struct api_name_request request = {.name = text_of(name)};
    cr_assert(eq(int, api_encode_name_request(&request, &message), STATUS_OK));
    cr_assert(eq(int, house_call(house, API_MEMORY_DESCRIBE, &message, &reply, &why), STATUS_OK),
              "%s", why.text);
    cr_assert(eq(int, api_decode_memory_info(reply, house->arena, &info, NULL), STATUS_OK));
    return info;
}

static enum status drop(struct house *house, const char *name, uint64_t *records,
                        struct reason *why)
{
    struct buffer message = {0};
    struct bytes reply;
    struct api_drop_reply dropped;
    struct api_name_request request = {.name = text_of(name)};
    cr_assert(eq(int, api_encode_name_request(&request, &message), STATUS_OK));
    enum status status = house_call(house, API_MEMORY_DROP, &message, &reply, why);
    if (status == STATUS_OK) {
        cr_assert(eq(int, api_decode_drop_reply(reply, house->arena, &dropped, NULL), STATUS_OK));
        *records = dropped.records;
    }
    return status;
}

static struct api_memory_list list(struct house *house)
{
    struct buffer message = {0};
    struct bytes reply;
    struct api_memory_list found;
    cr_assert(eq(int, house_call(house, API_MEMORY_LIST, &message, &reply, NULL), STATUS_OK));
    cr_assert(eq(int, api_decode_memory_list(reply, house->arena, &found, NULL), STATUS_OK));
    return found;
}

static enum status search(struct house *house, const char *memory, uint32_t record,
                          struct api_answer *answer, struct reason *why)
{
    float embedding[HOUSE_DIMENSION];
    struct api_query_request question = house_question(record, embedding);
    question.options.memory = text_of(memory);
    return house_query(house, API_SEARCH, &question, answer, why);
}

// --- memories

Test(write, a_memory_has_what_it_was_made_with)
{
    struct house house;
    house_open(&house, 2, NULL);
    struct api_memory_info info;
    struct api_create_request request = {.name = text_of("birds"), .vshards = 7};
    cr_assert(eq(int, house_create_status(&house, &request, &info, NULL), STATUS_OK));
    cr_expect(eq(u32, info.generation, 1));
    cr_expect(eq(u32, info.vshards, 7));
    cr_expect(eq(u32, info.dimension, coordinator_clip_info(house.coordinator)->dimension));
    cr_expect(text_equal(info.space, text_of(coordinator_clip_info(house.coordinator)->space)));
    cr_expect(text_equal(info.state, text_of("serving")));
    info = describe(&house, "birds");
    cr_expect(eq(u64, info.records, 0));
    house_close(&house);
}

Test(write, names_spaces_and_vshards_are_checked)
{
    struct house house;
    house_open(&house, 1, NULL);
    static const struct {
        const char *name;
        const char *space;
        uint32_t vshards;
        enum status status;
    } cases[] = {
        {"a/b", "", 0, STATUS_INVALID},      {"a", "nonsense", 0, STATUS_INVALID},
        {"a", "x:0", 0, STATUS_INVALID},     {"a", "x:4097", 0, STATUS_INVALID},
        {"a", "", 4097, STATUS_INVALID},     {"a", "x:4096", 4096, STATUS_OK},
        {"a", "", 0, STATUS_ALREADY_EXISTS},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct api_memory_info info;
        struct reason why = {0};
        struct api_create_request request = {.name = text_of(cases[i].name),
                                             .space = text_of(cases[i].space),
                                             .vshards = cases[i].vshards};
        cr_expect(eq(int, house_create_status(&house, &request, &info, &why), cases[i].status),
                  "case %zu: %s", i, why.text);
    }
    house_close(&house);
}

Test(write, memories_survive_a_restart)
{
    struct house house;
    struct api_answer before;
    struct api_answer after;
    house_open(&house, 3, NULL);
    house_fill(&house, "m", 200);
    cr_assert(eq(int, search(&house, "m", 3, &before, NULL), STATUS_OK));
    house_restart(&house);
    cr_assert(eq(int, search(&house, "m", 3, &after, NULL), STATUS_OK));
    cr_expect(house_same(&before, &after));
    cr_expect(eq(u64, describe(&house, "m").records, 200));
    house_close(&house);
}

Test(write, a_list_counts_each_memory)
{
    struct house house;
    house_open(&house, 3, NULL);
    house_fill(&house, "b", 20);
    house_fill(&house, "a", 30);
    house_create(&house, "c", true, false);
    struct api_memory_list found = list(&house);
    cr_assert(eq(sz, found.count, 3));
    cr_expect(text_equal(found.memories[0].name, text_of("a")));
    cr_expect(eq(u64, found.memories[0].records, 30));
    cr_expect(eq(u64, found.memories[1].records, 20));
    cr_expect(gt(u64, found.memories[1].bytes, 0));
    cr_expect(text_equal(found.memories[2].state, text_of("building")));
    cr_expect(eq(sz, found.memories[2].degraded_count, 0));

    house_stop_node(&house, 1);
    house_wait_down(&house, 1);
    found = list(&house);
    cr_assert(eq(sz, found.memories[0].degraded_count, 1));
    cr_expect(ne(ptr, strstr(found.memories[0].degraded[0].data, "node 1"), NULL));
    cr_expect(lt(u64, found.memories[0].records, 30));
    house_close(&house);
}

Test(write, what_is_dropped_is_gone_everywhere_and_its_number_is_not_used_again)
{
    struct house house;
    struct api_answer answer;
    struct reason why = {0};
    uint64_t records = 0;
    house_open(&house, 3, NULL);
    house_fill(&house, "m", 100);
    cr_assert(eq(int, drop(&house, "m", &records, &why), STATUS_OK), "%s", why.text);
    cr_expect(eq(u64, records, 100));
    cr_expect(eq(int, search(&house, "m", 3, &answer, &why), STATUS_NOT_FOUND));
    cr_expect(eq(int, drop(&house, "m", &records, &why), STATUS_NOT_FOUND));
    cr_expect(eq(sz, list(&house).count, 0));
    house_restart(&house);
    house_fill(&house, "m", 10);
    cr_expect(eq(u32, describe(&house, "m").generation, 2));
    cr_assert(eq(int, search(&house, "m", 3, &answer, &why), STATUS_OK));
    cr_expect(eq(u64, answer.records, 10));
    house_close(&house);
}

Test(write, creating_and_dropping_need_every_node)
{
    struct house house;
    struct api_memory_info info;
    struct reason why = {0};
    uint64_t records = 0;
    house_open(&house, 2, NULL);
    house_fill(&house, "m", 10);
    house_stop_node(&house, 1);
    house_wait_down(&house, 1);
    struct api_create_request request = {.name = text_of("n")};
    cr_expect(eq(int, house_create_status(&house, &request, &info, &why), STATUS_UNAVAILABLE));
    cr_expect(ne(ptr, strstr(why.text, "node 1"), NULL));
    cr_expect(eq(int, drop(&house, "m", &records, &why), STATUS_UNAVAILABLE));
    house_start_node(&house, 1);
    cr_expect(eq(int, house_create_status(&house, &request, &info, &why), STATUS_OK));
    cr_expect(eq(int, drop(&house, "m", &records, &why), STATUS_OK));
    house_close(&house);
}

// --- records

Test(write, the_same_key_again_replaces_the_record)
{
    struct house house;
    struct api_ingest_reply reply;
    house_open(&house, 3, NULL);
    house_fill(&house, "m", 150);
    struct house_ingest again = {.memory = "m", .from = 100, .to = 200};
    cr_assert(eq(int, house_ingest(&house, &again, &reply, NULL), STATUS_OK));
    cr_expect(eq(u64, reply.stored, 100));
    cr_expect(eq(u64, reply.duplicates, 50));
    cr_expect(eq(u64, describe(&house, "m").records, 200));
    house_close(&house);
}

Test(write, a_bad_record_is_named_and_the_others_are_stored)
{
    struct house house;
    struct coordinator_stream *stream = NULL;
    struct buffer message = {0};
    struct buffer out = {0};
    struct api_ingest_reply reply;
    float good[HOUSE_DIMENSION];
    float zero[HOUSE_DIMENSION] = {0};
    house_open(&house, 2, NULL);
    house_create(&house, "m", false, false);
    house_embedding(1, 0, good);
#define BOTH(image, image_n, text, text_n)                                                         \
    .image_embedding = (image), .image_count = (image_n), .text_embedding = (text),                \
    .text_count = (text_n)
    const struct api_ingest_record records[] = {
        {.key = text_of("good"), BOTH(good, HOUSE_DIMENSION, good, HOUSE_DIMENSION)},
        {.key = text_of("short"), BOTH(good, 5, good, HOUSE_DIMENSION)},
        {.key = text_of("zero"), BOTH(good, HOUSE_DIMENSION, zero, HOUSE_DIMENSION)},
        {.key = text_of("no-image"), BOTH(NULL, 0, good, HOUSE_DIMENSION)},
        {.key = text_of("no-text"), BOTH(good, HOUSE_DIMENSION, NULL, 0)},
        {.key = text_of("encode"),
         .caption = text_of("a bird"),
         BOTH(good, HOUSE_DIMENSION, NULL, 0)},
        {.key = text_of("good2"), BOTH(good, HOUSE_DIMENSION, good, HOUSE_DIMENSION)},
    };
    static const char *const words[] = {"5 values", "length 0", "neither image", "neither caption",
                                        HOUSE_SPACE};
    struct api_ingest_request request = {
        .memory = text_of("m"), .records = records, .count = sizeof(records) / sizeof(records[0])};
    cr_assert(eq(int, api_encode_ingest_request(&request, &message), STATUS_OK));
    cr_assert(eq(int, coordinator_stream_open(house.coordinator, API_MEMORY_INGEST, &stream, NULL),
                 STATUS_OK));
    cr_assert(eq(int, coordinator_stream_send(stream, (struct bytes){message.data, message.count}),
                 STATUS_OK));
    cr_assert(eq(int, coordinator_stream_finish(&stream, &out, NULL), STATUS_OK));
    cr_assert(
        eq(int,
           api_decode_ingest_reply((struct bytes){out.data, out.count}, house.arena, &reply, NULL),
           STATUS_OK));
    cr_expect(eq(u64, reply.stored, 2));
    cr_assert(eq(u64, reply.failed, 5));
    cr_assert(eq(sz, reply.failed_listed, 5));
    for (size_t i = 0; i < 5; i++) {
        cr_expect(text_equal(reply.failed_keys[i], records[i + 1].key));
        cr_expect(ne(ptr, strstr(reply.failed_reasons[i].data, words[i]), NULL), "%s",
                  reply.failed_reasons[i].data);
    }
    buffer_deinit(&message);
    buffer_deinit(&out);
    house_close(&house);
}

Test(write, what_is_acknowledged_is_found_at_once)
{
    struct house house;
    struct api_ingest_reply reply;
    struct api_answer answer;
    house_open(&house, 3, NULL);
    house_create(&house, "m", false, false);
    for (uint32_t i = 0; i < 20; i++) {
        struct house_ingest one = {.memory = "m", .from = i, .to = i + 1};
        cr_assert(eq(int, house_ingest(&house, &one, &reply, NULL), STATUS_OK));
        cr_assert(eq(int, search(&house, "m", i, &answer, NULL), STATUS_OK));
        char key[16];
        (void)snprintf(key, sizeof(key), "k%u", i);
        cr_expect(eq(u64, answer.neighbours.ids[0], hash_id(key, strlen(key))));
        cr_expect(eq(u64, answer.records, i + 1));
    }
    house_close(&house);
}

Test(write, deleted_records_are_gone_and_missing_ones_are_named)
{
    struct house house;
    struct api_answer answer;
    struct buffer message = {0};
    struct bytes bytes;
    struct api_delete_reply reply;
    struct reason why = {0};
    house_open(&house, 3, NULL);
    house_fill(&house, "m", 100);
    const struct text keys[] = {text_of("k7"), text_of("nobody"), text_of("k47")};
    const uint64_t ids[] = {hash_id("k87", 3), 12345};
    struct api_delete_request request = {
        .memory = text_of("m"), .keys = keys, .key_count = 3, .ids = ids, .id_count = 2};
    cr_assert(eq(int, api_encode_delete_request(&request, &message), STATUS_OK));
    cr_assert(eq(int, house_call(&house, API_MEMORY_DELETE, &message, &bytes, &why), STATUS_OK),
              "%s", why.text);
    cr_assert(eq(int, api_decode_delete_reply(bytes, house.arena, &reply, NULL), STATUS_OK));
    cr_expect(eq(u64, reply.deleted, 3));
    cr_assert(eq(sz, reply.missing_key_count, 1));
    cr_expect(text_equal(reply.missing_keys[0], text_of("nobody")));
    cr_assert(eq(sz, reply.missing_id_count, 1));
    cr_expect(eq(u64, reply.missing_ids[0], 12345));
    cr_assert(eq(int, search(&house, "m", 7, &answer, NULL), STATUS_OK));
    cr_expect(eq(u64, answer.records, 97));
    for (size_t i = 0; i < answer.neighbours.count; i++)
        cr_expect(ne(u64, answer.neighbours.ids[i], hash_id("k7", 2)));

    house_stop_node(&house, 0);
    house_stop_node(&house, 1);
    house_stop_node(&house, 2);
    house_wait_down(&house, 0);
    house_wait_down(&house, 1);
    house_wait_down(&house, 2);
    cr_assert(eq(int, api_encode_delete_request(&request, &message), STATUS_OK));
    cr_expect(
        eq(int, house_call(&house, API_MEMORY_DELETE, &message, &bytes, &why), STATUS_UNAVAILABLE));
    house_close(&house);
}

static struct api_delete_reply change(struct house *house, enum api_method method,
                                      const struct api_delete_request *request)
{
    struct buffer message = {0};
    struct bytes bytes;
    struct api_delete_reply reply;
    struct reason why = {0};
    cr_assert(eq(int, api_encode_delete_request(request, &message), STATUS_OK));
    cr_assert(eq(int, house_call(house, method, &message, &bytes, &why), STATUS_OK), "%s",
              why.text);
    cr_assert(eq(int, api_decode_delete_reply(bytes, house->arena, &reply, NULL), STATUS_OK));
    return reply;
}

static bool finds(struct house *house, enum api_method method, const char *key)
{
    struct api_answer answer;
    float embedding[HOUSE_DIMENSION];
    struct api_query_request question = house_question((uint32_t)atoi(key + 1), embedding);
    question.options.memory = text_of("m");
    cr_assert(eq(int, house_query(house, method, &question, &answer, NULL), STATUS_OK));
    bool found = false;
    for (size_t i = 0; i < answer.neighbours.count; i++)
        found = found || answer.neighbours.ids[i] == hash_id(key, strlen(key));
    return found;
}

Test(write, hidden_records_are_in_no_answer_until_they_are_shown_again)
{
    struct house house;
    struct api_ingest_reply stored;
    house_open(&house, 3, NULL);
    house_fill(&house, "m", 100);
    const struct text keys[] = {text_of("k7"), text_of("nobody"), text_of("k47")};
    const uint64_t ids[] = {hash_id("k87", 3), 12345};
    struct api_delete_request request = {
        .memory = text_of("m"), .keys = keys, .key_count = 3, .ids = ids, .id_count = 2};
    cr_expect(finds(&house, API_SEARCH, "k7"));
    struct api_delete_reply reply = change(&house, API_MEMORY_HIDE, &request);
    cr_expect(eq(u64, reply.deleted, 3));
    cr_assert(eq(sz, reply.missing_key_count, 1));
    cr_expect(text_equal(reply.missing_keys[0], text_of("nobody")));
    cr_assert(eq(sz, reply.missing_id_count, 1));
    cr_expect(eq(u64, reply.missing_ids[0], 12345));
    cr_expect(eq(u64, change(&house, API_MEMORY_HIDE, &request).deleted, 0)); // they are

    struct house_ingest again = {.memory = "m", .from = 47, .to = 48}; // a takedown holds
    cr_assert(eq(int, house_ingest(&house, &again, &stored, NULL), STATUS_OK));
    for (int restarts = 0; restarts < 2; restarts++) {
        struct api_memory_info info = describe(&house, "m");
        cr_expect(eq(u64, info.records, 100));
        cr_expect(eq(u64, info.hidden, 3));
        static const char *const hidden[] = {"k7", "k47", "k87"};
        for (size_t i = 0; i < 3; i++) {
            cr_expect(not(finds(&house, API_SEARCH, hidden[i])));
            cr_expect(not(finds(&house, API_REFINE_EMBEDDING, hidden[i])));
        }
        house_restart(&house);
    }
    cr_expect(eq(u64, change(&house, API_MEMORY_UNHIDE, &request).deleted, 3));
    cr_expect(finds(&house, API_SEARCH, "k47"));
    cr_expect(eq(u64, describe(&house, "m").hidden, 0));
    house_close(&house);
}

static struct text hash_of(struct house *house, const char *name)
{
    struct buffer message = {0};
    struct bytes reply;
    struct api_memory_info info;
    struct api_name_request request = {.name = text_of(name), .content_hash = true};
    cr_assert(eq(int, api_encode_name_request(&request, &message), STATUS_OK));
    cr_assert(eq(int, house_call(house, API_MEMORY_DESCRIBE, &message, &reply, NULL), STATUS_OK));
    cr_assert(eq(int, api_decode_memory_info(reply, house->arena, &info, NULL), STATUS_OK));
    cr_expect(eq(sz, info.degraded_count, 0));
    cr_assert(eq(sz, info.content_hash.bytes, CONTENT_HASH_BYTES));
    return info.content_hash;
}

Test(write, the_content_hash_depends_on_the_records_alone)
{
    struct house one;
    struct house four;
    struct api_ingest_reply reply;
    house_open(&one, 1, NULL);
    house_open(&four, 4, NULL);
    house_fill(&one, "m", 150);
    struct api_create_request other = {
        .name = text_of("m"), .space = text_of(HOUSE_SPACE), .vshards = 7};
    cr_assert(
        eq(int, house_create_status(&four, &other, &(struct api_memory_info){0}, NULL), STATUS_OK));
    struct house_ingest late = {.memory = "m", .from = 70, .to = 150, .batch = 13};
    struct house_ingest early = {.memory = "m", .from = 0, .to = 80, .batch = 7};
    cr_assert(eq(int, house_ingest(&four, &late, &reply, NULL), STATUS_OK));
    cr_expect(not(text_equal(hash_of(&one, "m"), hash_of(&four, "m"))));
    cr_assert(eq(int, house_ingest(&four, &early, &reply, NULL), STATUS_OK));
    const struct text before = hash_of(&one, "m");
    cr_expect(text_equal(before, hash_of(&four, "m")));

    const struct text key[] = {text_of("k7")};
    struct api_delete_request request = {.memory = text_of("m"), .keys = key, .key_count = 1};
    change(&one, API_MEMORY_HIDE, &request); // what is hidden belongs to it
    cr_expect(not(text_equal(before, hash_of(&one, "m"))));
    change(&four, API_MEMORY_HIDE, &request);
    cr_expect(text_equal(hash_of(&one, "m"), hash_of(&four, "m")));
    change(&one, API_MEMORY_UNHIDE, &request);
    house_restart(&one);
    cr_expect(text_equal(before, hash_of(&one, "m")));
    house_close(&one);
    house_close(&four);
}

// --- builds

Test(write, a_build_is_seen_by_nobody_until_it_is_finished)
{
    struct house house;
    struct api_ingest_reply reply;
    struct api_answer answer;
    struct reason why = {0};
    house_open(&house, 3, NULL);
    house_create(&house, "m", true, false);
    struct house_ingest part = {.memory = "m", .to = 150};
    cr_assert(eq(int, house_ingest(&house, &part, &reply, &why), STATUS_OK), "%s", why.text);
    cr_expect(eq(u64, reply.stored, 150));
    cr_expect(eq(int, search(&house, "m", 3, &answer, &why), STATUS_NOT_FOUND));
    cr_expect(ne(ptr, strstr(why.text, "is not finished"), NULL), "%s", why.text);
    cr_expect(eq(int, search(&house, "m@1", 3, &answer, &why), STATUS_FAILED_PRECONDITION));
    cr_expect(text_equal(describe(&house, "m").state, text_of("building")));
    cr_expect(eq(u64, describe(&house, "m").records, 150));

    struct house_ingest rest = {
        .memory = "m", .to = 300, .finish = true, .skip_existing = true, .batch = 64};
    cr_assert(eq(int, house_ingest(&house, &rest, &reply, &why), STATUS_OK), "%s", why.text);
    cr_expect(eq(u64, reply.skipped, 150));
    cr_expect(eq(u64, reply.stored, 150));
    cr_expect(eq(u64, reply.duplicates, 0));
    cr_assert(eq(int, search(&house, "m", 3, &answer, &why), STATUS_OK));
    cr_expect(eq(u64, answer.records, 300));
    house_close(&house);
}

Test(write, a_build_goes_on_after_a_restart)
{
    struct house house;
    struct api_ingest_reply reply;
    struct api_memory_info info;
    struct api_answer answer;
    struct reason why = {0};
    house_open(&house, 2, NULL);
    house_create(&house, "m", true, false);
    struct house_ingest part = {.memory = "m", .to = 100};
    cr_assert(eq(int, house_ingest(&house, &part, &reply, &why), STATUS_OK));
    house_restart(&house);
    // The same question again finds the build; another one is refused.
    struct api_create_request request = {
        .name = text_of("m"), .space = text_of(HOUSE_SPACE), .building = true};
    cr_assert(eq(int, house_create_status(&house, &request, &info, &why), STATUS_OK));
    cr_expect(eq(u32, info.generation, 1));
    request.space = text_of("other:32");
    cr_expect(
        eq(int, house_create_status(&house, &request, &info, &why), STATUS_FAILED_PRECONDITION));
    request.building = false;
    cr_expect(eq(int, house_create_status(&house, &request, &info, &why), STATUS_ALREADY_EXISTS));
    struct house_ingest rest = {.memory = "m", .to = 120, .finish = true, .skip_existing = true};
    cr_assert(eq(int, house_ingest(&house, &rest, &reply, &why), STATUS_OK));
    cr_expect(eq(u64, reply.skipped, 100));
    cr_assert(eq(int, search(&house, "m", 3, &answer, &why), STATUS_OK));
    cr_expect(eq(u64, answer.records, 120));
    house_close(&house);
}

Test(write, two_builds_at_once_do_not_disturb_each_other)
{
    static const char *const names[2] = {"a", "b"};
    struct house house;
    struct coordinator_stream *streams[2] = {NULL};
    struct reason why = {0};
    float embedding[HOUSE_DIMENSION];
    char key[16];
    house_open(&house, 2, NULL);
    for (int i = 0; i < 2; i++) {
        house_create(&house, names[i], true, false);
        cr_assert(eq(
            int, coordinator_stream_open(house.coordinator, API_MEMORY_INGEST, &streams[i], NULL),
            STATUS_OK));
    }
    for (uint32_t record = 0; record < 40; record++) {
        struct buffer message = {0};
        house_embedding(record, 0, embedding);
        (void)snprintf(key, sizeof(key), "k%u", record);
        const struct api_ingest_record content = {
            .key = text_of(key), BOTH(embedding, HOUSE_DIMENSION, embedding, HOUSE_DIMENSION)};
        struct api_ingest_request request = {.memory = text_of(names[record % 2]),
                                             .records = &content,
                                             .count = 1,
                                             .finish = record >= 38};
        cr_assert(eq(int, api_encode_ingest_request(&request, &message), STATUS_OK));
        cr_assert(eq(int,
                     coordinator_stream_send(streams[record % 2],
                                             (struct bytes){message.data, message.count}),
                     STATUS_OK));
        buffer_deinit(&message);
    }
    for (int i = 0; i < 2; i++) {
        struct buffer out = {0};
        cr_expect(eq(int, coordinator_stream_finish(&streams[i], &out, &why), STATUS_OK), "%s",
                  why.text);
        cr_expect(eq(u64, describe(&house, names[i]).records, 20));
        buffer_deinit(&out);
    }
    house_close(&house);
}

Test(write, a_replacement_takes_the_name_in_one_step)
{
    struct house house;
    struct api_ingest_reply reply;
    struct api_answer answer;
    struct reason why = {0};
    uint64_t records = 0;
    house_open(&house, 3, NULL);
    house_fill(&house, "m", 100);
    house_create(&house, "m", false, true);
    struct house_ingest next = {.memory = "m@2", .to = 40, .finish = false};
    cr_assert(eq(int, house_ingest(&house, &next, &reply, &why), STATUS_OK), "%s", why.text);
    cr_assert(eq(int, search(&house, "m", 3, &answer, &why), STATUS_OK));
    cr_expect(eq(u64, answer.records, 100));
    cr_expect(eq(u32, answer.generation, 1));
    struct house_ingest end = {.memory = "m@2", .from = 40, .to = 41, .finish = true};
    cr_assert(eq(int, house_ingest(&house, &end, &reply, &why), STATUS_OK), "%s", why.text);
    cr_assert(eq(int, search(&house, "m", 3, &answer, &why), STATUS_OK));
    cr_expect(eq(u64, answer.records, 41));
    cr_expect(eq(u32, answer.generation, 2));
    cr_assert(eq(int, search(&house, "m@1", 3, &answer, &why), STATUS_OK));
    cr_expect(eq(u64, answer.records, 100));
    cr_assert(eq(int, drop(&house, "m@1", &records, &why), STATUS_OK));
    cr_assert(eq(int, search(&house, "m", 3, &answer, &why), STATUS_OK));
    cr_expect(eq(u64, answer.records, 41));
    house_close(&house);
}

Test(write, the_last_message_is_the_last)
{
    struct house house;
    struct coordinator_stream *stream = NULL;
    struct buffer message = {0};
    struct buffer out = {0};
    struct reason why = {0};
    house_open(&house, 1, NULL);
    house_create(&house, "m", true, false);
    struct api_ingest_request request = {.memory = text_of("m"), .finish = true};
    cr_assert(eq(int, api_encode_ingest_request(&request, &message), STATUS_OK));
    cr_assert(eq(int, coordinator_stream_open(house.coordinator, API_MEMORY_INGEST, &stream, NULL),
                 STATUS_OK));
    for (int i = 0; i < 2; i++)
        cr_assert(eq(int,
                     coordinator_stream_send(stream, (struct bytes){message.data, message.count}),
                     STATUS_OK));
    cr_expect(eq(int, coordinator_stream_finish(&stream, &out, &why), STATUS_INVALID));
    cr_expect(eq(str, why.field, (char *)"finish"));
    cr_expect(text_equal(describe(&house, "m").state, text_of("building")));
    buffer_deinit(&message);
    house_close(&house);
}

Test(write, a_stream_needs_a_memory)
{
    struct house house;
    struct api_ingest_reply reply;
    struct reason why = {0};
    house_open(&house, 1, NULL);
    struct house_ingest nothing = {.memory = "m"};
    cr_expect(eq(int, house_ingest(&house, &nothing, &reply, &why), STATUS_INVALID));
    struct house_ingest unknown = {.memory = "m", .to = 500, .batch = 10};
    cr_expect(eq(int, house_ingest(&house, &unknown, &reply, &why), STATUS_NOT_FOUND));
    house_close(&house);
}

// --- nodes that are missing

Test(write, nothing_is_acknowledged_while_its_node_is_down)
{
    struct house house;
    struct api_ingest_reply reply;
    struct reason why = {0};
    house_open(&house, 2, NULL);
    house_create(&house, "m", false, false);
    house_create(&house, "b", true, false);
    house_stop_node(&house, 1);
    house_wait_down(&house, 1);
    struct house_ingest ingest = {.memory = "m", .to = 100};
    cr_expect(eq(int, house_ingest(&house, &ingest, &reply, &why), STATUS_UNAVAILABLE));
    cr_expect(ne(ptr, strstr(why.text, "node 1"), NULL), "%s", why.text);
    ingest.memory = "b";
    cr_expect(eq(int, house_ingest(&house, &ingest, &reply, &why), STATUS_UNAVAILABLE));
    house_start_node(&house, 1);
    ingest.memory = "m";
    cr_expect(eq(int, house_ingest(&house, &ingest, &reply, &why), STATUS_OK), "%s", why.text);
    cr_expect(eq(u64, reply.stored, 100));
    cr_expect(eq(u64, describe(&house, "m").records, 100));
    house_close(&house);
}

Test(write, a_build_whose_node_went_down_in_between_is_not_acknowledged)
{
    struct house house;
    struct coordinator_stream *stream = NULL;
    struct buffer message = {0};
    struct buffer out = {0};
    struct reason why = {0};
    struct api_ingest_reply reply;
    float embedding[HOUSE_DIMENSION];
    house_open(&house, 2, NULL);
    house_create(&house, "m", true, false);
    house_embedding(1, 0, embedding);
    const struct api_ingest_record record = {
        .key = text_of("k"), BOTH(embedding, HOUSE_DIMENSION, embedding, HOUSE_DIMENSION)};
    struct api_ingest_request request = {.memory = text_of("m"), .records = &record, .count = 1};
    cr_assert(eq(int, api_encode_ingest_request(&request, &message), STATUS_OK));
    cr_assert(eq(int, coordinator_stream_open(house.coordinator, API_MEMORY_INGEST, &stream, NULL),
                 STATUS_OK));
    cr_assert(eq(int, coordinator_stream_send(stream, (struct bytes){message.data, message.count}),
                 STATUS_OK));
    cr_assert(eq(int, coordinator_stream_send(stream, (struct bytes){message.data, message.count}),
                 STATUS_OK)); // the first one has been taken
    for (uint32_t i = 0; i < 2; i++) {
        house_stop_node(&house, i);
        house_wait_down(&house, i);
        house_start_node(&house, i);
    }
    cr_expect(eq(int, coordinator_stream_finish(&stream, &out, &why), STATUS_UNAVAILABLE));
    cr_expect(ne(ptr, strstr(why.text, "node"), NULL), "%s", why.text);
    struct house_ingest again = {.memory = "m", .to = 10, .finish = true};
    cr_expect(eq(int, house_ingest(&house, &again, &reply, &why), STATUS_OK), "%s", why.text);
    buffer_deinit(&message);
    house_close(&house);
}
