// SPDX-License-Identifier: Apache-2.0
// Goal: what a client writes is what the service reads, and the reverse; what is wrong is refused
// with the name of the field as the client wrote it.
//
// Method: each message is filled in every field, encoded, decoded and encoded again: the bytes
// must be the same, and no field of them may have its default. Then bad values, one at a time.

#include <math.h>
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <wire/reco.pb-c.h>

#include "proto/base/mem.h"
#include "proto/wire/api.h"
#include "tests/unit/wire_build.h"
#include "tests/unit/wire_full.h"

#define T(literal) ((struct text){literal, sizeof(literal) - 1})
#define B(literal) ((struct bytes){(const uint8_t *)(literal), sizeof(literal) - 1})

static const struct text words[] = {T("one"), T("zwei \xc3\xa4"), T("three")};
static const float floats[] = {0.5f, -0.25f, 3.0f};
static const uint64_t ids[] = {1, UINT64_MAX, 77};
static const char hex_id[] = "0123456789abcdef0123456789abcdef";

static const struct api_options full_options = {
    .memory = T("birds@7"),
    .k = 256,
    .over = API_MODALITY_TEXT,
    .fusion = API_FUSION_WEIGHTED,
    .min_similarity = -1,
    .min_coverage = 1,
    .exclude_keys = words,
    .exclude_count = 3,
    .index = API_INDEX_IVF,
    .profile = API_PROFILE_OPENAI,
    .min_pair_similarity = 0.5f,
    .filter = {words, 3, words, 2, words, 1, words, 3, ids, 3, true},
    .dedup = 0.95f,
    .fields = API_FIELDS_ALL,
};

static const struct api_timings full_timings = {
    1, 2, 3, 4, 5, floats, 3, 6, 7, 8, 9, 10,
};

static const struct api_tag_list full_tags[] = {{words, 2}, {words, 0}, {words, 3}};

static const struct api_neighbours full_neighbours = {
    3, ids, floats, words, words, words, floats, floats, full_tags, 1, floats, floats,
};

static void expect_text(const char *text, const char *expected)
{
    cr_expect(strcmp(text, expected) == 0, "\"%s\", not \"%s\"", text, expected);
}

static bool contains(struct bytes bytes, const char *word)
{
    for (size_t i = 0; i + strlen(word) <= bytes.count; i++)
        if (memcmp(bytes.data + i, word, strlen(word)) == 0)
            return true;
    return false;
}

static void expect_same(const struct buffer *a, const struct buffer *b)
{
    cr_assert(eq(sz, a->count, b->count));
    cr_expect(a->count == 0 || memcmp(a->data, b->data, a->count) == 0);
}

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

// --- queries

static struct api_query_request full_query(enum api_input input)
{
    struct api_query_request query = {.input = input, .options = full_options};
    if (input == API_INPUT_IMAGE)
        query.image = B("\x89PNG\0 not really");
    if (input == API_INPUT_TEXT)
        query.text = T("a heron");
    if (input == API_INPUT_EMBEDDING) {
        query.embedding = floats;
        query.embedding_count = 3;
        query.embedding_modality = API_MODALITY_TEXT;
    }
    return query;
}

static void query_round_trip(enum api_method method, const ProtobufCMessageDescriptor *type,
                             const struct api_query_request *query, const char *may_lack)
{
    struct buffer first = {0};
    struct buffer second = {0};
    struct arena *arena = arena_create(1 << 20);
    struct reason why = {{0}, {0}};
    struct api_query_request again;
    cr_assert(eq(int, api_encode_query(method, query, &first), STATUS_OK));
    const char *missing = full_missing(type, built(&first));
    cr_expect(missing == NULL || (may_lack && strcmp(missing, may_lack) == 0), "%s", missing);
    cr_assert(eq(int, api_decode_query(method, built(&first), arena, &again, &why), STATUS_OK),
              "%s: %s", why.field, why.text);
    cr_expect(eq(int, again.input, query->input));
    cr_expect(eq(sz, again.embedding_count, query->embedding_count));
    cr_expect(eq(sz, again.image.count, query->image.count));
    cr_expect(text_equal(again.text, query->text));
    cr_expect(eq(u32, again.options.k, query->options.k));
    cr_expect(eq(sz, again.options.exclude_count, query->options.exclude_count));
    cr_assert(eq(int, api_encode_query(method, &again, &second), STATUS_OK));
    expect_same(&first, &second);
    buffer_deinit(&first);
    buffer_deinit(&second);
    arena_destroy(&arena);
}

Test(api_msg, queries_survive_the_wire)
{
    const enum api_input inputs[] = {API_INPUT_IMAGE, API_INPUT_TEXT, API_INPUT_EMBEDDING};
    for (size_t i = 0; i < 3; i++) {
        struct api_query_request query = full_query(inputs[i]);
        query_round_trip(API_SEARCH, &reco__v1__search_request__descriptor, &query, "parts");
    }
    struct api_query_request image = full_query(API_INPUT_IMAGE);
    query_round_trip(API_REFINE_IMAGE, &reco__v1__refine_image_request__descriptor, &image, NULL);
    struct api_query_request text = full_query(API_INPUT_TEXT);
    query_round_trip(API_REFINE_TEXT, &reco__v1__refine_text_request__descriptor, &text, NULL);
    struct api_query_request vector = full_query(API_INPUT_EMBEDDING);
    query_round_trip(API_REFINE_EMBEDDING, &reco__v1__refine_embedding_request__descriptor, &vector,
                     NULL);
}

Test(api_msg, classify_questions_survive_the_wire)
{
    static const struct text templates[] = {T("a photo of a {}."), T("{}")};
    struct api_query_request query = full_query(API_INPUT_IMAGE);
    query.labels = words;
    query.label_count = 3;
    query.templates = templates;
    query.template_count = 2;
    query.top = 5;
    query_round_trip(API_CLASSIFY, &reco__v1__classify_request__descriptor, &query, "label_set_id");
    query_round_trip(API_EXPLAIN, &reco__v1__classify_request__descriptor, &query, "label_set_id");

    struct api_query_request by_id = full_query(API_INPUT_EMBEDDING);
    by_id.label_set_id = T(hex_id);
    query_round_trip(API_CLASSIFY, &reco__v1__classify_request__descriptor, &by_id, "labels");
}

Test(api_msg, questions_without_labels_survive_the_wire_and_are_checked)
{
    struct api_query_request query = full_query(API_INPUT_IMAGE);
    query.top = 7;
    query.candidates_max = CANDIDATES_MAX;
    query_round_trip(API_DISCOVER_LABELS, &reco__v1__discover_labels_request__descriptor, &query,
                     NULL);
}

Test(api_msg, a_query_needs_no_more_than_input_and_k)
{
    struct api_query_request query = {.input = API_INPUT_TEXT, .text = T("x"), .options = {.k = 1}};
    struct buffer bytes = {0};
    struct arena *arena = arena_create(1 << 20);
    struct api_query_request again;
    cr_assert(eq(int, api_encode_query(API_SEARCH, &query, &bytes), STATUS_OK));
    cr_assert(eq(int, api_decode_query(API_SEARCH, built(&bytes), arena, &again, NULL), STATUS_OK));
    cr_expect(eq(sz, again.options.memory.bytes, 0));
    cr_expect(eq(int, again.options.fusion, API_FUSION_DEFAULT));
    cr_expect(eq(int, again.options.over, API_MODALITY_DEFAULT));
    cr_expect(eq(int, again.options.index, API_INDEX_AUTO));
    cr_expect(eq(sz, again.options.exclude_count, 0));
    buffer_deinit(&bytes);
    arena_destroy(&arena);
}

// The query is refused for this field, and *out is not touched.
static void expect_query_refused(enum api_method method, const struct api_query_request *query,
                                 const char *field)
{
    struct buffer bytes = {0};
    struct arena *arena = arena_create(1 << 20);
    struct reason why = {{0}, {0}};
    struct api_query_request again = {.top = 4711};
    cr_assert(eq(int, api_encode_query(method, query, &bytes), STATUS_OK));
    cr_expect(eq(int, api_decode_query(method, built(&bytes), arena, &again, &why), STATUS_INVALID),
              "%s", field);
    expect_text(why.field, field);
    cr_expect(why.text[0] != '\0');
    cr_expect(eq(u32, again.top, 4711));
    buffer_deinit(&bytes);
    arena_destroy(&arena);
}

Test(api_msg, options_out_of_range_are_refused_by_name)
{
    const struct {
        const char *field;
        uint32_t k;
        float similarity, coverage, pair;
    } bad[] = {
        {"options.k", 0, 0, 0, 0},
        {"options.k", 257, 0, 0, 0},
        {"options.k", UINT32_MAX, 0, 0, 0},
        {"options.min_similarity", 1, 1.01f, 0, 0},
        {"options.min_similarity", 1, -1.01f, 0, 0},
        {"options.min_similarity", 1, NAN, 0, 0},
        {"options.min_coverage", 1, 0, -0.01f, 0},
        {"options.min_coverage", 1, 0, 1.5f, 0},
        {"options.min_coverage", 1, 0, INFINITY, 0},
        {"options.min_pair_similarity", 1, 0, 0, 2},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct api_query_request query = full_query(API_INPUT_TEXT);
        query.options.k = bad[i].k;
        query.options.min_similarity = bad[i].similarity;
        query.options.min_coverage = bad[i].coverage;
        query.options.min_pair_similarity = bad[i].pair;
        expect_query_refused(API_SEARCH, &query, bad[i].field);
        expect_query_refused(API_REFINE_TEXT, &query, bad[i].field);
    }
}

Test(api_msg, an_unknown_choice_is_refused_with_the_allowed_names)
{
    struct api_query_request query = full_query(API_INPUT_TEXT);
    query.options.fusion = (enum api_fusion)9;
    struct buffer bytes = {0};
    struct arena *arena = arena_create(1 << 20);
    struct reason why = {{0}, {0}};
    struct api_query_request again;
    cr_assert(eq(int, api_encode_query(API_SEARCH, &query, &bytes), STATUS_OK));
    cr_expect(
        eq(int, api_decode_query(API_SEARCH, built(&bytes), arena, &again, &why), STATUS_INVALID));
    expect_text(why.field, "options.fusion");
    cr_expect(strstr(why.text, "FUSION_WEIGHTED (3)") != NULL, "%s", why.text);
    buffer_deinit(&bytes);
    arena_destroy(&arena);
}

Test(api_msg, a_query_without_input_is_refused)
{
    struct api_query_request query = {.options = {.k = 1}};
    expect_query_refused(API_SEARCH, &query, "input");
    expect_query_refused(API_REFINE_IMAGE, &query, "image");
    expect_query_refused(API_REFINE_TEXT, &query, "text");
    expect_query_refused(API_REFINE_EMBEDDING, &query, "embedding");
    expect_query_refused(API_CLASSIFY, &query, "input");
    query.input = API_INPUT_EMBEDDING; // of no floats
    expect_query_refused(API_SEARCH, &query, "embedding.values");
}

Test(api_msg, weighted_parts_survive_the_wire_and_are_checked)
{
    struct api_query_part parts[] = {
        {.input = API_INPUT_IMAGE, .image = B("\x89PNG"), .weight = 0.5f},
        {.input = API_INPUT_TEXT, .text = T("at night"), .weight = -100},
        {.input = API_INPUT_EMBEDDING,
         .embedding = floats,
         .embedding_count = 3,
         .embedding_modality = API_MODALITY_TEXT,
         .weight = 100},
    };
    struct api_query_request query = {
        .input = API_INPUT_PARTS, .parts = parts, .part_count = 3, .options = full_options};
    query_round_trip(API_SEARCH, &reco__v1__search_request__descriptor, &query, "image");

    const float bad[] = {0, -0.0f, 100.5f, -101, NAN, INFINITY};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        parts[1].weight = bad[i];
        expect_query_refused(API_SEARCH, &query, "parts[1].weight");
    }
    parts[1].weight = 1;
    parts[2].input = API_INPUT_NONE;
    expect_query_refused(API_SEARCH, &query, "parts[2].input");
    static struct api_query_part many[QUERY_PARTS_MAX + 1];
    query.parts = many;
    query.part_count = QUERY_PARTS_MAX + 1;
    expect_query_refused(API_SEARCH, &query, "parts");
}

Test(api_msg, label_questions_are_checked)
{
    static const struct text bad_templates[] = {T("no slot"), T("{} and {}"), T("{")};
    struct api_query_request query = full_query(API_INPUT_IMAGE);
    expect_query_refused(API_CLASSIFY, &query, "labels"); // neither labels nor an id

    query.labels = words;
    query.label_count = 3;
    query.template_count = 1;
    for (size_t i = 0; i < 3; i++) {
        query.templates = &bad_templates[i];
        expect_query_refused(API_CLASSIFY, &query, "templates[0]");
    }
    query.template_count = 0;
    query.top = LABELS_MAX + 1;
    expect_query_refused(API_EXPLAIN, &query, "top");
    query.top = 0;
    query.label_set_id = T(hex_id);
    expect_query_refused(API_CLASSIFY, &query, "label_set_id"); // labels and an id
    query.label_count = 0;
    query.label_set_id = T("0123456789ABCDEF0123456789ABCDEF");
    expect_query_refused(API_CLASSIFY, &query, "label_set_id");
    query.label_set_id = T("0123");
    expect_query_refused(API_CLASSIFY, &query, "label_set_id");
    query.candidates_max = CANDIDATES_MAX + 1;
    expect_query_refused(API_DISCOVER_LABELS, &query, "candidates_max");
    query.top = CANDIDATES_MAX + 1;
    expect_query_refused(API_DISCOVER_LABELS, &query, "top");
}

// --- other requests

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

static struct api_answer full_answer(void)
{
    return (struct api_answer){
        .request_id = T("r-1"),
        .space = T("tiny:64"),
        .memory = T("birds"),
        .generation = 3,
        .coverage = 0.75f,
        .degraded = words,
        .degraded_count = 3,
        .timings = full_timings,
        .index = T("exact"),
        .records = UINT64_MAX,
        .embedding = floats,
        .embedding_count = 3,
        .gate = 0.25f,
        .gate_reason = T("similar"),
        .neighbours = full_neighbours,
        .plain = {3, words, floats},
        .refined = {2, words, floats},
        .label_set_id = T(hex_id),
        .label_count = 3,
    };
}

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
        {T("birds"), 3, T("serving"), T("tiny:64"), 64, 16, 1000, 1u << 30, T("exact"), words, 2, 5,
         words, 3, T("00112233445566778899aabbccddeeff")},
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
    static const struct api_model_info model = {T("tiny"), T("space:3"), 3,     4,
                                                5,         T("cpu"),     words, 3};
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

// --- hostile and careless senders

Test(api_msg, four_mebibytes_of_empty_records_take_no_memory)
{
    struct buffer bomb = {0};
    for (size_t i = 0; i < (2u << 20); i++)
        build_text(&bomb, 2, NULL, 0);
    struct arena *arena = arena_create(API_ARENA_BYTES(bomb.count));
    struct reason why = {{0}, {0}};
    struct api_ingest_request ingest;
    cr_expect(
        eq(int, api_decode_ingest_request(built(&bomb), arena, &ingest, &why), STATUS_INVALID));
    cr_expect(eq(sz, arena_used(arena), 0));
    expect_text(why.field, "records[0].key");

    bomb.count = 0;
    for (size_t i = 0; i < (2u << 20); i++)
        build_number(&bomb, 15, 1); // fields of a version to come
    cr_expect(
        eq(int, api_decode_ingest_request(built(&bomb), arena, &ingest, &why), STATUS_INVALID));
    cr_expect(eq(sz, arena_used(arena), 0));
    buffer_deinit(&bomb);
    arena_destroy(&arena);
}

Test(api_msg, groups_inside_groups_are_refused)
{
    struct buffer bomb = {0};
    for (size_t i = 0; i < 10000; i++)
        build_tag(&bomb, 1000, 3);
    cr_assert(bomb.count >= 20000);
    struct arena *arena = arena_create(1 << 20);
    struct api_query_request query;
    cr_expect(
        eq(int, api_decode_query(API_SEARCH, built(&bomb), arena, &query, NULL), STATUS_INVALID));
    buffer_deinit(&bomb);
    arena_destroy(&arena);
}

Test(api_msg, a_few_fields_of_a_newer_version_are_ignored)
{
    struct api_query_request query = full_query(API_INPUT_TEXT);
    struct buffer bytes = {0};
    struct arena *arena = arena_create(1 << 20);
    struct api_query_request again;
    cr_assert(eq(int, api_encode_query(API_SEARCH, &query, &bytes), STATUS_OK));
    build_number(&bytes, 90, 17);
    build_text(&bytes, 91, "new", 3);
    cr_assert(eq(int, api_decode_query(API_SEARCH, built(&bytes), arena, &again, NULL), STATUS_OK));
    cr_expect(text_equal(again.text, query.text));
    buffer_deinit(&bytes);
    arena_destroy(&arena);
}

Test(api_msg, every_cut_of_a_message_is_refused_or_read)
{
    struct api_answer answer = full_answer();
    struct buffer bytes = {0};
    cr_assert(eq(int, api_encode_answer(API_CLASSIFY, &answer, &bytes), STATUS_OK));
    for (size_t cut = 0; cut < bytes.count; cut++) {
        uint8_t *copy = mem_alloc(cut > 0 ? cut : 1); // a read behind the end is seen
        memcpy(copy, bytes.data, cut);
        struct arena *arena = arena_create(1 << 20);
        struct api_answer again;
        enum status status =
            api_decode_answer(API_CLASSIFY, (struct bytes){copy, cut}, arena, &again, NULL);
        cr_expect(status == STATUS_OK || status == STATUS_INVALID);
        arena_destroy(&arena);
        mem_free(copy);
    }
    buffer_deinit(&bytes);
}

Test(api_msg, the_largest_counts_fit_the_named_budget)
{
    struct buffer bytes = {0};
    struct buffer record = {0};
    build_text(&record, 1, "k", 1);
    for (size_t i = 0; i < TAGS_MAX; i++)
        build_text(&record, 6, "t", 1);
    for (size_t i = 0; i < WRITE_RECORDS_MAX; i++)
        build_text(&bytes, 2, record.data, record.count);
    struct arena *arena = arena_create(API_ARENA_BYTES(bytes.count));
    struct api_ingest_request ingest;
    cr_expect(eq(int, api_decode_ingest_request(built(&bytes), arena, &ingest, NULL), STATUS_OK));
    arena_destroy(&arena);

    bytes.count = 0;
    struct buffer options = {0};
    build_number(&options, 2, 1);
    build_text(&bytes, 3, options.data, options.count);
    for (size_t i = 0; i < LABELS_MAX; i++)
        build_text(&bytes, 1, "x", 1);
    arena = arena_create(API_ARENA_BYTES(bytes.count));
    struct api_labels_request labels;
    cr_expect(eq(int, api_decode_labels_request(built(&bytes), arena, &labels, NULL), STATUS_OK));
    cr_expect(eq(sz, labels.label_count, LABELS_MAX));
    arena_destroy(&arena);
    buffer_deinit(&bytes);
    buffer_deinit(&record);
    buffer_deinit(&options);
}

Test(api_msg, a_spent_budget_is_told_as_such)
{
    struct api_ingest_record record = {.key = T("k"), .image = {NULL, 100000}};
    uint8_t *image = mem_alloc(100000);
    record.image.data = image;
    struct api_ingest_request ingest = {.records = &record, .count = 1};
    struct buffer bytes = {0};
    struct arena *arena = arena_create(50000);
    struct api_ingest_request again;
    struct reason why = {{0}, {0}};
    cr_assert(eq(int, api_encode_ingest_request(&ingest, &bytes), STATUS_OK));
    cr_expect(
        eq(int, api_decode_ingest_request(built(&bytes), arena, &again, &why), STATUS_NO_MEMORY));
    cr_expect(why.text[0] != '\0');
    buffer_deinit(&bytes);
    arena_destroy(&arena);
    mem_free(image);
}

Test(api_msg, memory_that_runs_out_is_told_at_every_place)
{
    struct api_answer answer = full_answer();
    struct buffer bytes = {0};
    enum status status = STATUS_NO_MEMORY;
    uint64_t places = 0;
    for (uint64_t n = 1; status != STATUS_OK && n < 1000; n++) {
        bytes.count = 0;
        mem_fail_after(n);
        status = api_encode_answer(API_CLASSIFY, &answer, &bytes);
        mem_fail_after(0);
        cr_assert(status == STATUS_OK || (status == STATUS_NO_MEMORY && bytes.count == 0));
        places = n;
    }
    cr_expect(places > 1);

    status = STATUS_NO_MEMORY;
    for (uint64_t n = 1; status != STATUS_OK && n < 1000; n++) {
        struct arena *arena = arena_create(1 << 20);
        struct api_answer again = {.label_count = 4711};
        mem_fail_after(n);
        status = api_decode_answer(API_CLASSIFY, built(&bytes), arena, &again, NULL);
        mem_fail_after(0);
        cr_assert(status == STATUS_OK || (status == STATUS_NO_MEMORY && again.label_count == 4711));
        arena_destroy(&arena);
    }
    cr_expect(eq(int, status, STATUS_OK));

    // The same with budgets instead: each is too small until one is enough.
    status = STATUS_NO_MEMORY;
    for (size_t budget = 0; status != STATUS_OK && budget < (1u << 16); budget += 64) {
        struct arena *arena = arena_create(budget);
        struct api_answer again;
        status = api_decode_answer(API_CLASSIFY, built(&bytes), arena, &again, NULL);
        cr_assert(status == STATUS_OK || status == STATUS_NO_MEMORY);
        arena_destroy(&arena);
    }
    cr_expect(eq(int, status, STATUS_OK));
    buffer_deinit(&bytes);
}

Test(api_msg, more_than_64_mebibytes_are_refused)
{
    struct bytes large = {(const uint8_t *)"", (size_t)MESSAGE_BYTES_MAX + 1};
    struct arena *arena = arena_create(1 << 20);
    struct api_texts_request texts;
    cr_expect(eq(int, api_decode_texts_request(large, arena, &texts, NULL), STATUS_INVALID));
    arena_destroy(&arena);
}

Test(api_msg, texts_that_cannot_travel_are_refused_when_encoded)
{
    struct api_name_request nul = {.name = {"a\0b", 3}};
    struct api_name_request latin = {.name = T("caf\xe9")};
    struct buffer bytes = {0};
    cr_expect(eq(int, api_encode_name_request(&nul, &bytes), STATUS_INVALID));
    cr_expect(eq(int, api_encode_name_request(&latin, &bytes), STATUS_INVALID));
    cr_expect(eq(sz, bytes.count, 0));
    struct buffer small = {.count_max = 2};
    struct api_name_request name = {.name = T("a longer name")};
    cr_expect(eq(int, api_encode_name_request(&name, &small), STATUS_NO_MEMORY));
    cr_expect(eq(sz, small.count, 0));
    buffer_deinit(&bytes);
    buffer_deinit(&small);
}
