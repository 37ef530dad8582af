// SPDX-License-Identifier: Apache-2.0
// Goal: what a client writes is what the service reads, and the reverse: methods, requests other
// than queries, replies.
//
// Method: each message is filled in every field, encoded, decoded and encoded again: the bytes
// must be the same, and no field of them may have its default. Then bad values, one at a time.

#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <wire/reco.pb-c.h>

#include "tests/unit/api_fixture.h"
#include "tests/unit/wire_build.h"
#include "tests/unit/wire_full.h"

// Encodes, checks that `type` is full, decodes, encodes again: the same bytes.
#define ROUND_TRIP(name, type, message)                                                            \
    do {                                                                                           \
        struct buffer first = {0};                                                                 \
        struct buffer second = {0};                                                                \
        struct arena *arena = arena_create(1 << 20);                                               \
        struct reason why = {{0}, {0}};                                                            \
        struct api_##name again;                                                                   \
        cr_assert(eq(int, api_encode_##name(message, &first), STATUS_OK));                         \
        const char *missing = full_missing(&reco__v1__##type##__descriptor, built(&first));        \
        cr_expect(missing == NULL, "%s of %s is not filled", missing, #type);                      \
        cr_assert(eq(int, api_decode_##name(built(&first), arena, &again, &why), STATUS_OK),       \
                  "%s: %s", why.field, why.text);                                                  \
        cr_assert(eq(int, api_encode_##name(&again, &second), STATUS_OK));                         \
        expect_same(&first, &second);                                                              \
        buffer_deinit(&first);                                                                     \
        buffer_deinit(&second);                                                                    \
        arena_destroy(&arena);                                                                     \
    } while (0)

// --- methods

static bool contains(struct bytes bytes, const char *word)
{
    for (size_t i = 0; i + strlen(word) <= bytes.count; i++)
        if (memcmp(bytes.data + i, word, strlen(word)) == 0)
            return true;
    return false;
}

Test(api_msg, names_every_method_of_the_proto_file)
{
    const ProtobufCServiceDescriptor *const services[] = {
        &reco__v1__encoder__descriptor, &reco__v1__search__descriptor,
        &reco__v1__refiner__descriptor, &reco__v1__classifier__descriptor,
        &reco__v1__memory__descriptor,  &reco__v1__cluster__descriptor,
    };
    size_t count = 0;
    for (size_t s = 0; s < sizeof(services) / sizeof(services[0]); s++)
        for (unsigned m = 0; m < services[s]->n_methods; m++, count++) {
            char path[128];
            (void)snprintf(path, sizeof(path), "/%s/%s", services[s]->name,
                           services[s]->methods[m].name);
            bool found = false;
            for (int i = 0; i < API_METHOD_COUNT; i++)
                found = found || strcmp(api_method_info((enum api_method)i)->path, path) == 0;
            cr_expect(found, "%s", path);
        }
    cr_expect(eq(sz, count, API_METHOD_COUNT));
    cr_expect(api_method_info(API_MEMORY_INGEST)->client_streams);
    cr_expect(not(api_method_info(API_MEMORY_INGEST)->server_streams));
    cr_expect(api_method_info(API_SEARCH_STREAM)->client_streams);
    cr_expect(api_method_info(API_SEARCH_STREAM)->server_streams);
    expect_text(api_method_info(API_EXPLAIN)->service, "reco.v1.Classifier");
}

Test(api_msg, carries_the_descriptors)
{
    struct bytes set = api_descriptor_set();
    cr_assert(set.count > 1000);
    cr_expect(contains(set, "reco.proto"));
    cr_expect(contains(set, "RefineEmbedding"));
}

// --- requests

Test(api_msg, requests_survive_the_wire)
{
    static const struct text templates[] = {T("a {}")};
    static const struct bytes images[] = {B("JPEG"), B("\0\xff\0")};
    static const struct api_ingest_record records[] = {
        {T("key 1"), B("image"), floats, 3, T("caption"), floats, 2, words, 3, T("http://x/y"),
         true},
        {.key = T("key 2")},
    };
    struct api_labels_request labels = {words, 3, templates, 1, full_options};
    struct api_encode_image_request image = {images, 2, API_PROFILE_HF};
    struct api_texts_request texts = {words, 3};
    struct api_create_request create = {T("birds"), T("clip:512"), 4096, true, true};
    struct api_name_request name = {T("birds@3"), true};
    struct api_ingest_request ingest = {
        .memory = T("birds"),
        .records = records,
        .count = 2,
        .finish = true,
        .skip_existing = true,
    };
    struct api_delete_request delete = {T("birds"), words, 3, ids, 3};

    ROUND_TRIP(labels_request, compile_labels_request, &labels);
    ROUND_TRIP(encode_image_request, encode_image_request, &image);
    ROUND_TRIP(texts_request, tokenize_request, &texts);
    ROUND_TRIP(create_request, create_memory_request, &create);
    ROUND_TRIP(name_request, describe_memory_request, &name);
    ROUND_TRIP(ingest_request, ingest_request, &ingest);
    ROUND_TRIP(delete_request, delete_records_request, &delete);
    ROUND_TRIP(delete_request, hide_request, &delete);
    struct api_alias_request alias = {T("now"), T("birds@3"), true};
    ROUND_TRIP(alias_request, alias_request, &alias);
    struct api_snapshot_request snapshot = {T("birds@3"), T("monday")};
    ROUND_TRIP(snapshot_request, snapshot_request, &snapshot);
    struct api_restore_request restore = {T("monday"), T("birds"), true};
    ROUND_TRIP(restore_request, restore_request, &restore);
    const struct api_export_request export = {T("birds@3"), API_FIELDS_ALL, full_options.filter};
    ROUND_TRIP(export_request, export_request, &export);
}

Test(api_msg, an_ingest_record_arrives_as_it_was_sent)
{
    static const struct api_ingest_record records[] = {
        {.key = T("first")},
        {T("k"), B("img\0x"), floats, 3, T("cap"), floats, 2, words, 3, T("src"), false},
    };
    struct api_ingest_request ingest = {.memory = T("m"), .records = records, .count = 2};
    struct buffer bytes = {0};
    struct arena *arena = arena_create(1 << 20);
    struct api_ingest_request again;
    cr_assert(eq(int, api_encode_ingest_request(&ingest, &bytes), STATUS_OK));
    cr_assert(eq(int, api_decode_ingest_request(built(&bytes), arena, &again, NULL), STATUS_OK));
    cr_assert(eq(sz, again.count, 2));
    const struct api_ingest_record *record = &again.records[1];
    cr_expect(text_equal(record->key, T("k")));
    cr_expect(eq(sz, record->image.count, 5));
    cr_expect(eq(sz, record->image_count, 3));
    cr_expect(eq(flt, record->image_embedding[2], 3.0f));
    cr_expect(eq(sz, record->text_count, 2));
    cr_expect(text_equal(record->caption, T("cap")));
    cr_expect(text_equal(record->source, T("src")));
    cr_expect(eq(sz, record->tag_count, 3));
    cr_expect(text_equal(record->tags[1], words[1]));
    cr_expect(eq(sz, again.records[0].image.count, 0));
    buffer_deinit(&bytes);
    arena_destroy(&arena);
}

Test(api_msg, a_bad_record_is_named_by_its_place)
{
    static const struct api_ingest_record records[] = {
        {.key = T("a")}, {.key = T("b")}, {.image = B("x")}};
    struct api_ingest_request ingest = {.memory = T("m"), .records = records, .count = 3};
    struct buffer bytes = {0};
    struct arena *arena = arena_create(1 << 20);
    struct reason why = {{0}, {0}};
    struct api_ingest_request again;
    cr_assert(eq(int, api_encode_ingest_request(&ingest, &bytes), STATUS_OK));
    cr_expect(
        eq(int, api_decode_ingest_request(built(&bytes), arena, &again, &why), STATUS_INVALID));
    expect_text(why.field, "records[2].key");
    expect_text(why.text, "required: 1..512 bytes");
    buffer_deinit(&bytes);
    arena_destroy(&arena);
}

// --- replies

static void answer_round_trip(enum api_method method, const ProtobufCMessageDescriptor *type)
{
    struct api_answer answer = full_answer();
    struct buffer first = {0};
    struct buffer second = {0};
    struct arena *arena = arena_create(1 << 20);
    struct reason why = {{0}, {0}};
    struct api_answer again;
    cr_assert(eq(int, api_encode_answer(method, &answer, &first), STATUS_OK));
    const char *missing = full_missing(type, built(&first));
    cr_expect(missing == NULL, "%s is not filled", missing);
    cr_assert(eq(int, api_decode_answer(method, built(&first), arena, &again, &why), STATUS_OK),
              "%s: %s", why.field, why.text);
    cr_expect(text_equal(again.request_id, answer.request_id));
    cr_expect(eq(flt, again.coverage, 0.75f));
    cr_expect(eq(u64, again.records, UINT64_MAX));
    cr_expect(eq(flt, again.timings.total, 10));
    cr_assert(eq(int, api_encode_answer(method, &again, &second), STATUS_OK));
    expect_same(&first, &second);
    buffer_deinit(&first);
    buffer_deinit(&second);
    arena_destroy(&arena);
}

Test(api_msg, answers_survive_the_wire)
{
    answer_round_trip(API_SEARCH, &reco__v1__search_reply__descriptor);
    answer_round_trip(API_REFINE_IMAGE, &reco__v1__refine_reply__descriptor);
    answer_round_trip(API_REFINE_TEXT, &reco__v1__refine_reply__descriptor);
    answer_round_trip(API_REFINE_EMBEDDING, &reco__v1__refine_reply__descriptor);
    answer_round_trip(API_CLASSIFY, &reco__v1__classify_reply__descriptor);
    answer_round_trip(API_EXPLAIN, &reco__v1__classify_reply__descriptor);
    answer_round_trip(API_DISCOVER_LABELS, &reco__v1__classify_reply__descriptor);
    answer_round_trip(API_COMPILE_LABELS, &reco__v1__compile_labels_reply__descriptor);
}

Test(api_msg, replies_survive_the_wire)
{
    static const uint32_t counts[] = {1, 2};
    static const uint32_t tokens[] = {49406, 7, 49407};
    static const struct api_memory_info infos[] = {
        {T("birds"),
         3,
         T("serving"),
         T("tiny:64"),
         64,
         16,
         1000,
         1u << 30,
         T("exact"),
         words,
         2,
         5,
         words,
         3,
         T("00112233445566778899aabbccddeeff"),
         {6, 7, 8, 9}},
        {.name = T("empty")},
    };
    static const struct api_node_info nodes[] = {
        {T("tcp://10.0.0.1:7710"), T("up"), 5, 6, 31, 7, 0.5f, true, 64, 2},
        {.index = 1},
    };
    struct api_encode_reply encode = {T("r"), T("tiny:3"), 3, floats, 3, full_timings};
    struct api_tokenize_reply tokenize = {T("r"), counts, 2, tokens, 3};
    struct api_memory_list list = {infos, 2};
    struct api_ingest_reply ingest = {T("r"), T("m"), 3, 4, 5, words, words, 3, 9, 11};
    struct api_delete_reply delete = {T("r"), 6, words, 2, ids, 3};
    struct api_drop_reply drop = {T("r"), 7};
    struct api_node_list node_list = {T("0.1.0"), T("tiny:64"), nodes, 2};

    ROUND_TRIP(encode_reply, encode_reply, &encode);
    static const struct api_model_info model = {
        T("tiny"), T("space:3"), 3, 4, 5, T("cpu"), words, 3, 2.5F, 20, T("a/head"), true};
    struct api_model_list models = {&model, 1};
    ROUND_TRIP(model_list, list_models_reply, &models);
    ROUND_TRIP(tokenize_reply, tokenize_reply, &tokenize);
    ROUND_TRIP(memory_info, memory_info, &infos[0]);
    ROUND_TRIP(memory_list, list_memories_reply, &list);
    ROUND_TRIP(ingest_reply, ingest_reply, &ingest);
    ROUND_TRIP(delete_reply, delete_records_reply, &delete);
    ROUND_TRIP(delete_reply, hide_reply, &delete);
    ROUND_TRIP(drop_reply, drop_memory_reply, &drop);
    ROUND_TRIP(node_list, list_nodes_reply, &node_list);
    const struct api_record record = {
        7, T("key"), T("caption"), T("source"), words, 3, true, floats, 3, floats, 2};
    const struct api_export_reply export = {T("birds"), 3, T("clip:3"), 3, &record, 1, 17};
    ROUND_TRIP(export_reply, export_reply, &export);
}

Test(api_msg, empty_messages_are_read_as_defaults_where_nothing_is_required)
{
    struct bytes empty = {NULL, 0};
    struct arena *arena = arena_create(1 << 20);
    struct api_answer answer;
    struct api_memory_list list;
    struct api_ingest_request ingest;
    struct api_node_list nodes;
    cr_assert(eq(int, api_decode_answer(API_SEARCH, empty, arena, &answer, NULL), STATUS_OK));
    cr_expect(eq(sz, answer.neighbours.count, 0));
    cr_expect(eq(flt, answer.coverage, 0));
    cr_assert(eq(int, api_decode_memory_list(empty, arena, &list, NULL), STATUS_OK));
    cr_expect(eq(sz, list.count, 0));
    cr_assert(eq(int, api_decode_ingest_request(empty, arena, &ingest, NULL), STATUS_OK));
    cr_expect(eq(sz, ingest.count, 0));
    cr_expect(not(ingest.finish));
    cr_assert(eq(int, api_decode_node_list(empty, arena, &nodes, NULL), STATUS_OK));
    arena_destroy(&arena);
}

Test(api_msg, arrays_that_are_not_parallel_are_refused)
{
    struct buffer neighbours = {0};
    struct buffer reply = {0};
    struct arena *arena = arena_create(1 << 20);
    struct reason why = {{0}, {0}};
    struct api_answer answer;
    build_run(&neighbours, 1, 0, 16); // two ids
    build_run(&neighbours, 2, 0, 4);  // one score
    build_text(&reply, 2, neighbours.data, neighbours.count);
    cr_expect(eq(int, api_decode_answer(API_SEARCH, built(&reply), arena, &answer, &why),
                 STATUS_INVALID));
    expect_text(why.field, "neighbours.scores");

    struct buffer tokens = {0};
    struct api_tokenize_reply tokenize;
    build_run(&tokens, 2, 5, 1); // one text of five ids
    build_run(&tokens, 3, 5, 4); // four ids
    cr_expect(
        eq(int, api_decode_tokenize_reply(built(&tokens), arena, &tokenize, &why), STATUS_INVALID));

    struct buffer rows = {0};
    struct api_encode_reply encode;
    build_number(&rows, 3, 3);
    build_run(&rows, 4, 0, 16); // four floats of dimension three
    cr_expect(eq(int, api_decode_encode_reply(built(&rows), arena, &encode, &why), STATUS_INVALID));
    expect_text(why.field, "embeddings");
    buffer_deinit(&neighbours);
    buffer_deinit(&reply);
    buffer_deinit(&tokens);
    buffer_deinit(&rows);
    arena_destroy(&arena);
}
