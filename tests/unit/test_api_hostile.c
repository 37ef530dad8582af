// SPDX-License-Identifier: Apache-2.0
// Goal: what hostile and careless senders write costs no more memory than its bytes allow, is
// refused or read, and never breaks the reader; neither does memory that runs out.
//
// Method: bytes written by hand, messages cut at every place, allocations and budgets that fail one
// after the other.

#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/mem.h"
#include "tests/unit/api_fixture.h"
#include "tests/unit/wire_build.h"

Test(api_hostile, four_mebibytes_of_empty_records_take_no_memory)
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

Test(api_hostile, groups_inside_groups_are_refused)
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

Test(api_hostile, a_few_fields_of_a_newer_version_are_ignored)
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

Test(api_hostile, every_cut_of_a_message_is_refused_or_read)
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

Test(api_hostile, the_largest_counts_fit_the_named_budget)
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

Test(api_hostile, a_spent_budget_is_told_as_such)
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

Test(api_hostile, memory_that_runs_out_is_told_at_every_place)
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

Test(api_hostile, more_than_64_mebibytes_are_refused)
{
    struct bytes large = {(const uint8_t *)"", (size_t)MESSAGE_BYTES_MAX + 1};
    struct arena *arena = arena_create(1 << 20);
    struct api_texts_request texts;
    cr_expect(eq(int, api_decode_texts_request(large, arena, &texts, NULL), STATUS_INVALID));
    arena_destroy(&arena);
}

Test(api_hostile, texts_that_cannot_travel_are_refused_when_encoded)
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
