// SPDX-License-Identifier: Apache-2.0
// Goal: records and vectors are given by key and id, each once, in the order asked for; what is not
// there and who did not answer is said apart.
//
// Method: real nodes behind inproc:// and a real coordinator; records of known embeddings and tags.

#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/half.h"
#include "proto/base/hash.h"
#include "tests/e2e/coordinator_house.h"

#define T(literal) ((struct text){literal, sizeof(literal) - 1})

static enum status get(struct house *house, bool vectors, const struct api_records_request *request,
                       struct api_records_reply *reply, struct reason *why)
{
    struct buffer message = {0};
    struct bytes bytes;
    cr_assert(eq(int, api_encode_records_request(vectors, request, &message), STATUS_OK));
    enum status status =
        house_call(house, vectors ? API_GET_VECTORS : API_GET_RECORDS, &message, &bytes, why);
    if (status == STATUS_OK)
        cr_assert(eq(int, api_decode_records_reply(vectors, bytes, house->arena, reply, NULL),
                     STATUS_OK));
    return status;
}

static void expect_row(const float *values, uint32_t record, uint32_t modality)
{
    float row[HOUSE_DIMENSION];
    house_embedding(record, modality, row);
    for (int i = 0; i < HOUSE_DIMENSION; i++)
        cr_expect(eq(flt, values[i], half_to_float(half_from_float(row[i]))));
}

static uint64_t id_of(const char *key)
{
    return hash_id(key, strlen(key));
}

Test(records, come_by_key_and_id_in_order_and_once)
{
    struct house house;
    house_open(&house, 3, NULL);
    house_fill(&house, "m", 50);
    const struct text keys[] = {T("k7"), T("nobody"), T("k3"), T("k7")};
    const uint64_t ids[] = {id_of("k3"), 4711, id_of("k40")}; // k3 is there by key already
    struct api_records_request request = {
        .memory = T("m"), .keys = keys, .key_count = 4, .ids = ids, .id_count = 3};
    struct api_records_reply reply;
    cr_assert(eq(int, get(&house, false, &request, &reply, NULL), STATUS_OK));
    cr_assert(eq(sz, reply.count, 3));
    cr_expect(text_equal(reply.records[0].key, T("k7")));
    cr_expect(text_equal(reply.records[1].key, T("k3")));
    cr_expect(text_equal(reply.records[2].key, T("k40")));
    cr_expect(text_equal(reply.records[2].caption, T("caption 40")));
    cr_expect(text_equal(reply.records[2].source, T("house")));
    cr_expect(eq(sz, reply.records[2].image_count, 0)); // not asked for
    cr_assert(eq(sz, reply.missing_key_count, 1));
    cr_expect(text_equal(reply.missing_keys[0], T("nobody")));
    cr_assert(eq(sz, reply.missing_id_count, 1));
    cr_expect(eq(u64, reply.missing_ids[0], 4711));
    cr_expect(eq(sz, reply.degraded_count, 0));
    cr_expect(text_equal(reply.memory, T("m")));
    cr_expect(eq(u32, reply.generation, 1));

    cr_assert(eq(int, get(&house, true, &request, &reply, NULL), STATUS_OK));
    cr_assert(eq(sz, reply.vector_count, 3));
    cr_expect(eq(u32, reply.dimension, HOUSE_DIMENSION));
    cr_expect(eq(u64, reply.ids[0], id_of("k7")));
    expect_row(reply.image_embeddings, 7, 0);
    expect_row(reply.text_embeddings + HOUSE_DIMENSION, 3, 1);
    expect_row(reply.text_embeddings + (size_t)2 * HOUSE_DIMENSION, 40, 1);
    cr_expect(eq(sz, reply.missing_key_count, 1));
    request.modality = API_MODALITY_TEXT;
    cr_assert(eq(int, get(&house, true, &request, &reply, NULL), STATUS_OK));
    cr_expect(eq(sz, reply.image_floats, 0));
    cr_expect(eq(sz, reply.text_floats, (size_t)3 * HOUSE_DIMENSION));
    house_close(&house);
}

Test(records, have_what_was_asked_for_and_nothing_else)
{
    struct house house;
    house_open(&house, 2, NULL);
    house_fill(&house, "m", 10);
    const struct text keys[] = {T("k5")};
    struct api_records_request request = {.memory = T("m"), .keys = keys, .key_count = 1};
    struct api_records_reply reply;
    request.fields = 1u << API_FIELD_CAPTION | 1u << API_FIELD_TEXT_EMBEDDING;
    cr_assert(eq(int, get(&house, false, &request, &reply, NULL), STATUS_OK));
    cr_assert(eq(sz, reply.count, 1));
    cr_expect(eq(sz, reply.records[0].key.bytes, 0));
    cr_expect(text_equal(reply.records[0].caption, T("caption 5")));
    cr_expect(eq(sz, reply.records[0].source.bytes, 0));
    cr_expect(eq(sz, reply.records[0].image_count, 0));
    cr_assert(eq(sz, reply.records[0].text_count, HOUSE_DIMENSION));
    expect_row(reply.records[0].text_embedding, 5, 1);

    request.fields = 1u << API_FIELD_NONE;
    cr_assert(eq(int, get(&house, false, &request, &reply, NULL), STATUS_OK));
    cr_assert(eq(sz, reply.count, 1));
    cr_expect(eq(u64, reply.records[0].id, id_of("k5")));
    cr_expect(eq(sz, reply.records[0].caption.bytes, 0));
    house_close(&house);
}

Test(records, of_a_node_that_is_down_are_not_missing)
{
    struct house house;
    house_open(&house, 2, NULL);
    house_fill(&house, "m", 20);
    house_stop_node(&house, 1);
    house_wait_down(&house, 1);
    struct text keys[20];
    char names[20][8];
    for (int i = 0; i < 20; i++) {
        (void)snprintf(names[i], sizeof(names[i]), "k%d", i);
        keys[i] = text_of(names[i]);
    }
    struct api_records_request request = {.memory = T("m"), .keys = keys, .key_count = 20};
    struct api_records_reply reply;
    cr_assert(eq(int, get(&house, false, &request, &reply, NULL), STATUS_OK));
    cr_expect(reply.count > 0 && reply.count < 20);
    cr_expect(eq(sz, reply.missing_key_count, 0));
    cr_assert(eq(sz, reply.degraded_count, 1));
    cr_expect(strstr(reply.degraded[0].data, "node 1") != NULL);

    house_stop_node(&house, 0);
    house_wait_down(&house, 0);
    cr_expect(eq(int, get(&house, false, &request, &reply, NULL), STATUS_UNAVAILABLE));
    house_close(&house);
}

Test(records, of_a_memory_that_is_not_there_are_refused)
{
    struct house house;
    house_open(&house, 1, NULL);
    const struct text keys[] = {T("k5")};
    struct api_records_request request = {.memory = T("m"), .keys = keys, .key_count = 1};
    struct api_records_reply reply;
    struct reason why = {0};
    cr_expect(eq(int, get(&house, false, &request, &reply, &why), STATUS_NOT_FOUND));
    cr_expect(why.text[0] != '\0');
    house_fill(&house, "m", 3); // and the coordinator goes on
    cr_expect(eq(int, get(&house, false, &request, &reply, NULL), STATUS_OK));
    cr_expect(eq(sz, reply.missing_key_count, 1));
    house_close(&house);
}
