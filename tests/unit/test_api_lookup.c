// SPDX-License-Identifier: Apache-2.0
// Goal: records asked for by name, filters and lists of fields survive the wire, and what is wrong
// is refused with the name of the field.
//
// Method: as test_api_msg.c.

#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <wire/reco.pb-c.h>

#include "proto/wire/api.h"
#include "tests/unit/wire_build.h"
#include "tests/unit/wire_expect.h"
#include "tests/unit/wire_full.h"

static const struct text words[] = {T("one"), T("zwei \xc3\xa4"), T("three")};
static const float floats[] = {0.5f, -0.25f, 3.0f};
static const uint64_t ids[] = {1, UINT64_MAX, 77};

// --- records by name

static const struct api_record full_record = {
    .id = 77,
    .key = T("k"),
    .caption = T("cap"),
    .source = T("src"),
    .tags = words,
    .tag_count = 3,
    .hidden = true,
    .image_embedding = floats,
    .image_count = 3,
    .text_embedding = floats,
    .text_count = 2,
};

static void records_request_round_trip(bool vectors, const ProtobufCMessageDescriptor *type)
{
    struct api_records_request request = {
        .memory = T("birds@3"), .keys = words, .key_count = 3, .ids = ids, .id_count = 3};
    if (vectors)
        request.modality = API_MODALITY_TEXT;
    else
        request.fields = API_FIELDS_ALL;
    struct buffer first = {0};
    struct buffer second = {0};
    struct arena *arena = arena_create(1 << 20);
    struct api_records_request again;
    cr_assert(eq(int, api_encode_records_request(vectors, &request, &first), STATUS_OK));
    const char *missing = full_missing(type, built(&first));
    cr_expect(missing == NULL, "%s", missing);
    cr_assert(eq(int, api_decode_records_request(vectors, built(&first), arena, &again, NULL),
                 STATUS_OK));
    cr_expect(eq(u32, again.fields, request.fields));
    cr_expect(eq(int, again.modality, request.modality));
    cr_assert(eq(int, api_encode_records_request(vectors, &again, &second), STATUS_OK));
    expect_same(&first, &second);
    buffer_deinit(&first);
    buffer_deinit(&second);
    arena_destroy(&arena);
}

static void records_reply_round_trip(bool vectors, const ProtobufCMessageDescriptor *type)
{
    struct api_records_reply reply = {
        .request_id = T("r"),
        .memory = T("birds"),
        .generation = 3,
        .space = T("tiny:64"),
        .dimension = 1,
        .records = &full_record,
        .count = 1,
        .ids = ids,
        .vector_count = 3,
        .image_embeddings = floats,
        .image_floats = 3,
        .text_embeddings = floats,
        .text_floats = 3,
        .missing_keys = words,
        .missing_key_count = 2,
        .missing_ids = ids,
        .missing_id_count = 1,
        .degraded = words,
        .degraded_count = 1,
    };
    struct buffer first = {0};
    struct buffer second = {0};
    struct arena *arena = arena_create(1 << 20);
    struct api_records_reply again;
    cr_assert(eq(int, api_encode_records_reply(vectors, &reply, &first), STATUS_OK));
    const char *missing = full_missing(type, built(&first));
    cr_expect(missing == NULL, "%s", missing);
    cr_assert(
        eq(int, api_decode_records_reply(vectors, built(&first), arena, &again, NULL), STATUS_OK));
    cr_assert(eq(int, api_encode_records_reply(vectors, &again, &second), STATUS_OK));
    expect_same(&first, &second);

    reply.dimension = 2; // three floats are no rows of it
    first.count = 0;
    cr_assert(eq(int, api_encode_records_reply(vectors, &reply, &first), STATUS_OK));
    cr_expect(eq(int, api_decode_records_reply(vectors, built(&first), arena, &again, NULL),
                 vectors ? STATUS_INVALID : STATUS_OK));
    buffer_deinit(&first);
    buffer_deinit(&second);
    arena_destroy(&arena);
}

Test(api_lookup, records_by_name_survive_the_wire)
{
    records_request_round_trip(false, &reco__v1__get_records_request__descriptor);
    records_request_round_trip(true, &reco__v1__get_vectors_request__descriptor);
    records_reply_round_trip(false, &reco__v1__get_records_reply__descriptor);
    records_reply_round_trip(true, &reco__v1__get_vectors_reply__descriptor);
}

static void expect_records_refused(bool vectors, const struct api_records_request *request,
                                   const char *field)
{
    struct buffer bytes = {0};
    struct arena *arena = arena_create(1 << 20);
    struct reason why = {{0}, {0}};
    struct api_records_request again = {.fields = 4711};
    cr_assert(eq(int, api_encode_records_request(vectors, request, &bytes), STATUS_OK));
    cr_expect(eq(int, api_decode_records_request(vectors, built(&bytes), arena, &again, &why),
                 STATUS_INVALID));
    expect_text(why.field, field);
    cr_expect(eq(u32, again.fields, 4711));
    buffer_deinit(&bytes);
    arena_destroy(&arena);
}

Test(api_lookup, records_are_asked_for_by_1_to_1024_names_and_known_fields)
{
    static uint64_t many[GET_RECORDS_MAX];
    struct api_records_request nothing = {.memory = T("m")};
    struct api_records_request too_many = {
        .keys = words, .key_count = 1, .ids = many, .id_count = GET_RECORDS_MAX};
    struct api_records_request both = {
        .keys = words, .key_count = 1, .fields = 1u << API_FIELD_NONE | 1u << API_FIELD_KEY};
    expect_records_refused(false, &nothing, "keys");
    expect_records_refused(true, &nothing, "keys");
    expect_records_refused(false, &too_many, "keys");
    expect_records_refused(true, &too_many, "keys");
    expect_records_refused(false, &both, "fields");

    struct buffer unknown = {0};
    struct arena *arena = arena_create(1 << 20);
    struct reason why = {{0}, {0}};
    struct api_records_request again;
    build_text(&unknown, 2, "k", 1);
    build_number(&unknown, 4, 8);
    cr_expect(eq(int, api_decode_records_request(false, built(&unknown), arena, &again, &why),
                 STATUS_INVALID));
    cr_expect(strncmp(why.field, "fields", 6) == 0, "%s", why.field);
    buffer_deinit(&unknown);
    arena_destroy(&arena);
}

Test(api_lookup, a_delete_of_nothing_and_too_many_vshards_are_refused)
{
    struct api_delete_request nothing = {.memory = T("m")};
    struct api_create_request create = {.name = T("m"), .vshards = 4097};
    struct buffer bytes = {0};
    struct arena *arena = arena_create(1 << 20);
    struct reason why = {{0}, {0}};
    cr_assert(eq(int, api_encode_delete_request(&nothing, &bytes), STATUS_OK));
    cr_expect(eq(
        int, api_decode_delete_request(built(&bytes), arena, &(struct api_delete_request){0}, &why),
        STATUS_INVALID));
    expect_text(why.field, "keys");
    bytes.count = 0;
    cr_assert(eq(int, api_encode_create_request(&create, &bytes), STATUS_OK));
    cr_expect(eq(
        int, api_decode_create_request(built(&bytes), arena, &(struct api_create_request){0}, &why),
        STATUS_INVALID));
    expect_text(why.field, "vshards");
    buffer_deinit(&bytes);
    arena_destroy(&arena);
}
