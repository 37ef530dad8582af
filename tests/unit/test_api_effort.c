// SPDX-License-Identifier: Apache-2.0
// Goal: how far an index is looked into is said in one way, within bounds, and never together with
// an exact search, whether a question comes as protobuf or as JSON; what a search did is told in
// both.
//
// Method: questions with each way of saying it, right and wrong, through the codec and the reader
// of JSON; one answer written as JSON.

#include <math.h>
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/limits.h"
#include "proto/wire/api_json.h"

#define ARENA_BYTES (1 << 20)

static struct bytes view(const struct buffer *buffer)
{
    return (struct bytes){buffer->data, buffer->count};
}

// Through the codec; the field that is blamed, or an empty text.
static const char *refused_field(const struct api_options *options, struct api_options *again)
{
    static struct reason why;
    struct buffer bytes = {0};
    struct arena *arena = arena_create(ARENA_BYTES);
    struct api_query_request out = {.top = 0};
    const struct api_query_request query = {
        .input = API_INPUT_TEXT, .text = {"x", 1}, .options = *options};
    why = (struct reason){{0}, {0}};
    cr_assert(eq(int, api_encode_query(API_SEARCH, &query, &bytes), STATUS_OK));
    if (api_decode_query(API_SEARCH, view(&bytes), arena, &out, &why) == STATUS_OK)
        cr_expect(eq(str, why.field, (char *)""));
    else
        cr_expect(ne(chr, why.field[0], '\0'));
    *again = out.options;
    buffer_deinit(&bytes);
    arena_destroy(&arena);
    return why.field;
}

Test(api_effort, every_way_of_saying_it_arrives)
{
    const struct api_options ways[] = {
        {.k = 1},
        {.k = 1, .index = API_INDEX_EXACT},
        {.k = 1, .nprobe = 1},
        {.k = 1, .nprobe = PROBES_MAX, .index = API_INDEX_IVF},
        {.k = 1, .target_recall = TARGET_RECALL_MIN},
        {.k = 1, .target_recall = TARGET_RECALL_MAX, .index = API_INDEX_IVF},
        {.k = 1, .approx = API_APPROX_FAST},
        {.k = 1, .approx = API_APPROX_ACCURATE, .index = API_INDEX_IVF},
    };
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        struct api_options again;
        cr_expect(eq(str, (char *)refused_field(&ways[i], &again), (char *)""));
        cr_expect(eq(int, again.index, ways[i].index));
        cr_expect(eq(u32, again.nprobe, ways[i].nprobe));
        cr_expect(eq(flt, again.target_recall, ways[i].target_recall));
        cr_expect(eq(int, again.approx, ways[i].approx));
    }
}

Test(api_effort, what_is_out_of_range_or_contradicts_is_refused_by_name)
{
    const struct {
        const char *field;
        struct api_options options;
    } bad[] = {
        {"options.nprobe", {.k = 1, .nprobe = PROBES_MAX + 1}},
        {"options.target_recall", {.k = 1, .target_recall = 0.49f}},
        {"options.target_recall", {.k = 1, .target_recall = 1}},
        {"options.target_recall", {.k = 1, .target_recall = -0.9f}},
        {"options.target_recall", {.k = 1, .target_recall = INFINITY}},
        {"options.approx", {.k = 1, .approx = (enum api_approx)4}},
        {"options.index", {.k = 1, .index = (enum api_index)3}},
        {"options.nprobe", {.k = 1, .nprobe = 1, .index = API_INDEX_EXACT}},
        {"options.target_recall", {.k = 1, .target_recall = 0.9f, .index = API_INDEX_EXACT}},
        {"options.approx", {.k = 1, .approx = API_APPROX_FAST, .index = API_INDEX_EXACT}},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct api_options again;
        cr_expect(eq(str, (char *)refused_field(&bad[i].options, &again), (char *)bad[i].field));
    }
}

// --- JSON

// Reads {"text":"x","options":{...}}.
static enum status read(const char *options, struct api_options *out, struct reason *why)
{
    char text[256];
    struct json *document = NULL;
    struct api_json_query query = {.method = API_SEARCH};
    struct arena *arena = arena_create(ARENA_BYTES);
    (void)snprintf(text, sizeof(text), "{\"text\":\"x\",\"options\":{%s}}", options);
    cr_assert(eq(int, json_parse(text, strlen(text), &document, why), STATUS_OK), "%s", text);
    const enum status status = api_json_read_query(API_JSON_SEARCH, document, arena, &query, why);
    *out = query.request.options;
    json_destroy(&document);
    arena_destroy(&arena);
    return status;
}

Test(api_effort, json_says_it_with_the_same_words)
{
    struct reason why = {{0}, {0}};
    struct api_options options;
    cr_expect(eq(int, read("\"index\":\"ivf\",\"nprobe\":7", &options, &why), STATUS_OK));
    cr_expect(eq(int, options.index, API_INDEX_IVF));
    cr_expect(eq(u32, options.nprobe, 7));
    cr_expect(eq(int, read("\"target_recall\":0.75", &options, &why), STATUS_OK));
    cr_expect(eq(flt, options.target_recall, 0.75f));
    cr_expect(eq(int, read("\"approx\":\"accurate\"", &options, &why), STATUS_OK));
    cr_expect(eq(int, options.approx, API_APPROX_ACCURATE));
    cr_expect(eq(int, read("", &options, &why), STATUS_OK));
    cr_expect(eq(int, options.approx, API_APPROX_DEFAULT));
}

Test(api_effort, json_is_refused_for_a_second_way_and_for_what_is_none)
{
    const struct {
        const char *field;
        const char *options;
    } bad[] = {
        {"options.target_recall", "\"nprobe\":7,\"target_recall\":0.9"},
        {"options.approx", "\"nprobe\":7,\"approx\":\"fast\""},
        {"options.approx", "\"target_recall\":0.9,\"approx\":\"fast\""},
        {"options.approx", "\"approx\":\"best\""},
        {"options.nprobe", "\"nprobe\":-1"},
        {"options.nprobe", "\"nprobe\":\"7\""},
        {"options.target_recall", "\"target_recall\":\"high\""},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct reason why = {{0}, {0}};
        struct api_options options;
        cr_expect(eq(int, read(bad[i].options, &options, &why), STATUS_INVALID));
        cr_expect(eq(str, why.field, (char *)bad[i].field));
        cr_expect(ne(chr, why.text[0], '\0'));
    }
}

Test(api_effort, json_tells_what_the_search_did)
{
    static const char expected[] =
        "\"work\":{\"exact\":false,\"lists_probed\":3,\"codes_scanned\":900,\"rows_refined\":80,"
        "\"rows_read\":24}";
    const struct api_answer answer = {.index = text_of("ivf"), .work = {false, 3, 900, 80, 24}};
    struct json_writer writer = {.failed = false};
    api_json_put_answer(&writer, API_SEARCH, text_of("x"), &answer);
    struct buffer *line = &writer.out;
    cr_assert(eq(int, buffer_append(line, "", 1), STATUS_OK));
    cr_expect(ne(ptr, strstr((const char *)line->data, expected), NULL), "%s",
              (const char *)line->data);
    json_writer_deinit(&writer);
}
