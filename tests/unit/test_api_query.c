// SPDX-License-Identifier: Apache-2.0
// Goal: a question arrives as it was asked; one that cannot be answered is refused with the name of
// the field as the client wrote it, and nothing else is touched.
//
// Method: each kind of question is filled in every field, encoded, decoded and encoded again: the
// bytes must be the same. Then bad values, one at a time.

#include <math.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <wire/reco.pb-c.h>

#include "tests/unit/api_fixture.h"
#include "tests/unit/wire_build.h"
#include "tests/unit/wire_full.h"

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

Test(api_query, queries_survive_the_wire)
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

Test(api_query, classify_questions_survive_the_wire)
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

Test(api_query, questions_without_labels_survive_the_wire_and_are_checked)
{
    struct api_query_request query = full_query(API_INPUT_IMAGE);
    query.top = 7;
    query.candidates_max = CANDIDATES_MAX;
    query_round_trip(API_DISCOVER_LABELS, &reco__v1__discover_labels_request__descriptor, &query,
                     NULL);
}

Test(api_query, a_query_needs_no_more_than_input_and_k)
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

Test(api_query, options_out_of_range_are_refused_by_name)
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

Test(api_query, an_unknown_choice_is_refused_with_the_allowed_names)
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

Test(api_query, a_query_without_input_is_refused)
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

Test(api_query, weighted_parts_survive_the_wire_and_are_checked)
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

Test(api_query, label_questions_are_checked)
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
