// SPDX-License-Identifier: Apache-2.0
// Goal: the messages of the streams carry a tag, a question and an answer; what is inside stays as
// it is, and a damaged message gives its tag away.
//
// Method: round trips, checked with the descriptors of reco.proto; then bytes written by hand.

#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <wire/reco.pb-c.h>

#include "proto/wire/api.h"
#include "proto/wire/wire_scan.h"
#include "tests/unit/wire_build.h"
#include "tests/unit/wire_expect.h"
#include "tests/unit/wire_full.h"

static void encode_round_trip(const struct api_encode_stream_request *request)
{
    struct buffer first = {0};
    struct buffer second = {0};
    struct arena *arena = arena_create(1 << 20);
    struct api_encode_stream_request again;
    cr_assert(eq(int, api_encode_encode_stream_request(request, &first), STATUS_OK));
    const char *missing = full_missing(&reco__v1__encode_stream_request__descriptor, built(&first));
    cr_expect(missing == NULL, "%s", missing);
    cr_assert(
        eq(int, api_decode_encode_stream_request(built(&first), arena, &again, NULL), STATUS_OK));
    cr_assert(eq(int, api_encode_encode_stream_request(&again, &second), STATUS_OK));
    cr_assert(eq(sz, first.count, second.count));
    cr_expect(memcmp(first.data, second.data, first.count) == 0);
    buffer_deinit(&first);
    buffer_deinit(&second);
    arena_destroy(&arena);
}

// A question inside a stream's request is what SearchRequest or ClassifyRequest is alone.
static void stream_request_round_trip(enum api_method method,
                                      const ProtobufCMessageDescriptor *type,
                                      const struct api_query_request *query)
{
    struct buffer question = {0};
    struct buffer bytes = {0};
    struct reason why = {{0}, {0}};
    struct api_stream_request again;
    cr_assert(eq(int, api_encode_query(method, query, &question), STATUS_OK));
    const struct api_stream_request request = {UINT64_MAX, built(&question)};
    cr_assert(eq(int, api_encode_stream_request(&request, &bytes), STATUS_OK));
    cr_expect(eq(int, wire_scan(type, built(&bytes), &why), STATUS_OK), "%s", why.text);
    cr_assert(eq(int, api_decode_stream_request(built(&bytes), &again, &why), STATUS_OK));
    cr_expect(eq(u64, again.tag, UINT64_MAX));
    cr_assert(eq(sz, again.question.count, question.count));
    cr_expect(memcmp(again.question.data, question.data, question.count) == 0);
    buffer_deinit(&question);
    buffer_deinit(&bytes);
}

Test(api_stream, stream_requests_survive_the_wire)
{
    const struct api_query_request query = {
        .input = API_INPUT_TEXT, .text = T("a heron"), .options = {.k = 7}};
    stream_request_round_trip(API_SEARCH, &reco__v1__search_stream_request__descriptor, &query);
    stream_request_round_trip(API_REFINE_STREAM, &reco__v1__refine_stream_request__descriptor,
                              &query);
    const struct api_query_request image = {.input = API_INPUT_IMAGE,
                                            .image = B("\x89PNG\0 not really"),
                                            .options = {.k = 7},
                                            .label_set_id = T("0123456789abcdef0123456789abcdef"),
                                            .top = 3};
    stream_request_round_trip(API_CLASSIFY, &reco__v1__classify_stream_request__descriptor, &image);

    struct api_encode_stream_request encode = {
        .tag = 7, .input = API_INPUT_IMAGE, .image = B("JPEG"), .profile = API_PROFILE_HF};
    encode_round_trip(&encode);
    encode = (struct api_encode_stream_request){.tag = 7, .input = API_INPUT_TEXT, .text = T("x")};
    struct buffer bytes = {0};
    struct api_stream_request outer;
    cr_assert(eq(int, api_encode_encode_stream_request(&encode, &bytes), STATUS_OK));
    cr_assert(eq(int, api_decode_stream_request(built(&bytes), &outer, NULL), STATUS_OK));
    cr_expect(eq(u64, outer.tag, 7));
    buffer_deinit(&bytes);
}

Test(api_stream, a_damaged_stream_request_gives_its_tag_away)
{
    struct api_stream_request found;
    struct reason why = {{0}, {0}};
    struct buffer bytes = {0};
    build_number(&bytes, 1, 4711);
    build_tag(&bytes, 2, 2);
    build_varint(&bytes, 100); // that are not there
    cr_expect(eq(int, api_decode_stream_request(built(&bytes), &found, &why), STATUS_INVALID));
    cr_expect(eq(u64, found.tag, 4711));
    cr_expect(why.text[0] != '\0');

    bytes.count = 0;
    build_text(&bytes, 2, "a", 1);
    build_text(&bytes, 2, "b", 1);
    build_number(&bytes, 1, 5);
    cr_expect(eq(int, api_decode_stream_request(built(&bytes), &found, &why), STATUS_INVALID));
    cr_expect(strstr(why.text, "twice") != NULL, "%s", why.text);

    bytes.count = 0;
    for (uint32_t i = 0; i < 65; i++)
        build_number(&bytes, 100 + i, i);
    cr_expect(eq(int, api_decode_stream_request(built(&bytes), &found, &why), STATUS_INVALID));
    bytes.count = 0;
    build_text(&bytes, 1, "a tag", 5);
    cr_expect(eq(int, api_decode_stream_request(built(&bytes), &found, &why), STATUS_INVALID));
    expect_text(why.field, "tag");
    bytes.count = 0;
    build_tag(&bytes, 2, 3); // a group
    cr_expect(eq(int, api_decode_stream_request(built(&bytes), &found, &why), STATUS_INVALID));

    bytes.count = 0; // nothing at all: no question, tag 0
    cr_expect(eq(int, api_decode_stream_request(built(&bytes), &found, &why), STATUS_OK));
    cr_expect(eq(sz, found.question.count, 0));
    buffer_deinit(&bytes);
}

Test(api_stream, stream_replies_survive_the_wire)
{
    const ProtobufCMessageDescriptor *const types[] = {
        &reco__v1__encode_stream_reply__descriptor,
        &reco__v1__search_stream_reply__descriptor,
        &reco__v1__refine_stream_reply__descriptor,
        &reco__v1__classify_stream_reply__descriptor,
    };
    struct arena *arena = arena_create(1 << 20);
    struct reason why = {{0}, {0}};
    for (int number = 0; number <= STATUS_INTERNAL; number++) {
        struct api_stream_reply reply = {.tag = 99, .status = (enum status)number};
        if (number > 0)
            (void)reason_set(&reply.why, reply.status, "options.k", "900; allowed: 1..256");
        struct buffer bytes = {0};
        struct api_stream_reply again;
        cr_assert(eq(int, api_encode_stream_reply(&reply, &bytes), STATUS_OK));
        for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
            const char *missing = full_missing(types[i], built(&bytes));
            cr_expect(missing && strcmp(missing, number == 0 ? "error" : "reply") == 0, "%s",
                      missing);
        }
        cr_assert(eq(int, api_decode_stream_reply(built(&bytes), arena, &again, &why), STATUS_OK),
                  "%s", why.text);
        cr_expect(eq(u64, again.tag, 99));
        cr_expect(eq(int, again.status, number));
        expect_text(again.why.field, number == 0 ? "" : "options.k");
        expect_text(again.why.text, number == 0 ? "" : "900; allowed: 1..256");
        buffer_deinit(&bytes);
    }
    arena_destroy(&arena);
}

Test(api_stream, a_stream_reply_is_a_reply_or_an_error)
{
    struct arena *arena = arena_create(1 << 20);
    struct api_stream_reply found = {.tag = 4711};
    struct reason why = {{0}, {0}};
    struct buffer bytes = {0};
    build_number(&bytes, 1, 3);
    cr_expect(eq(int, api_decode_stream_reply(built(&bytes), arena, &found, &why), STATUS_INVALID));
    expect_text(why.field, "reply");
    build_text(&bytes, 3, "", 0);
    cr_expect(eq(int, api_decode_stream_reply(built(&bytes), arena, &found, &why), STATUS_OK));
    build_text(&bytes, 2, "\x08\x03", 2);
    cr_expect(eq(int, api_decode_stream_reply(built(&bytes), arena, &found, &why), STATUS_INVALID));
    bytes.count = 0;
    build_text(&bytes, 2, "", 0); // an error without a code
    cr_expect(eq(int, api_decode_stream_reply(built(&bytes), arena, &found, &why), STATUS_INVALID));
    expect_text(why.field, "error.code");
    buffer_deinit(&bytes);
    arena_destroy(&arena);
}
