// SPDX-License-Identifier: Apache-2.0
// Goal: a hidden record is in no view, from the commit on, whatever is written, loaded or restarted
// afterwards; showing or deleting it ends that, and nothing else does.
//
// Method: ingest on a real store and shelf; views looked into; everything reopened, with and
// without a checkpoint.

#include <stdio.h>
#include <stdlib.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "tests/unit/ingest_fixture.h"

TestSuite(node_hide, .init = make_directory, .fini = remove_directory);

static void hide_records(struct place *place, uint64_t first, size_t count, bool hidden,
                         uint32_t expected)
{
    uint64_t ids[64];
    struct reason why = {0};
    struct shard_flags_reply reply = {0};
    for (size_t i = 0; i < count; i++)
        ids[i] = id_of(first + i);
    const struct shard_ids_request request = {GENERATION, ids, count};
    cr_assert(eq(int, ingest_begin(place->ingest, GENERATION, &why), STATUS_OK));
    cr_assert(eq(int, ingest_hide(place->ingest, &request, hidden, place->arena, &reply, &why),
                 STATUS_OK));
    cr_assert(eq(int, ingest_commit(place->ingest, &why), STATUS_OK), "%s", why.text);
    for (size_t i = 0; i < count; i++)
        cr_expect(eq(u32, reply.flags[i], expected), "record %" PRIu64, first + i);
}

static bool is_seen(struct place *place, uint64_t number)
{
    struct rows_view view;
    struct rows *rows = rows_of(place);
    cr_assert(eq(int, rows_view_begin(rows, &(struct rows_choice){0}, &view), STATUS_OK));
    const uint32_t slot = rows_find(rows, id_of(number));
    const bool seen = slot != ROWS_NONE && (view.live[slot / 64] >> slot % 64 & 1) != 0;
    rows_view_end(&view);
    return seen;
}

static void expect_hidden(struct place *place, uint64_t first, size_t count, bool hidden)
{
    for (uint64_t i = first; i < first + count; i++) {
        cr_expect(eq(int, is_seen(place, i), !hidden), "record %" PRIu64, i);
        cr_expect(eq(int, rows_is_hidden(rows_of(place), id_of(i)), hidden), "record %" PRIu64, i);
    }
}

Test(node_hide, hidden_records_stay_hidden_until_they_are_shown_or_deleted)
{
    struct place place = created_place();
    write_records(&place, 0, 50, 1);
    hide_records(&place, 10, 10, true, 1);
    hide_records(&place, 10, 5, true, SHARD_FLAG_ALREADY);
    hide_records(&place, 90, 5, true, 0); // there are none
    hide_records(&place, 0, 5, false, SHARD_FLAG_ALREADY);
    for (int stops = 0; stops < 3; stops++) { // as it is, after a crash, after a stop
        expect_hidden(&place, 10, 10, true);
        expect_hidden(&place, 0, 10, false);
        expect_hidden(&place, 20, 30, false);
        cr_expect(eq(u64, rows_hidden_count(rows_of(&place)), 10));
        expect_record(&place, 12, 1); // it is still there
        expect_count(&place, 50);
        reopen(&place, stops > 0);
    }
    write_records(&place, 10, 3, 2); // a takedown holds when the record comes again
    expect_hidden(&place, 10, 10, true);
    expect_record(&place, 11, 2);
    delete_records(&place, 13, 2, 2); // a deletion forgets it
    write_records(&place, 13, 2, 2);
    hide_records(&place, 15, 2, false, 1);
    for (int stops = 0; stops < 3; stops++) {
        expect_hidden(&place, 10, 3, true);
        expect_hidden(&place, 13, 4, false);
        expect_hidden(&place, 17, 3, true);
        cr_expect(eq(u64, rows_hidden_count(rows_of(&place)), 6));
        reopen(&place, stops > 0);
    }
    close_place(&place, true);
}

Test(node_hide, bulk_records_are_loaded_hidden_and_replaced_without_being_shown)
{
    struct place place = created_place();
    struct shard_write_reply reply = {0};
    struct reason why = {0};
    for (int round = 0; round < 2; round++) { // one batch; and files
        const size_t count = round == 0 ? 60 : INGEST_BULK_FILE_RECORDS_MIN;
        const uint64_t first = round == 0 ? 0 : 10000;
        struct batch batch = new_batch(first, count, 1);
        uint32_t *hidden = calloc(count, sizeof(*hidden));
        for (size_t i = 0; i < count; i += 3)
            hidden[i] = 1;
        batch.request.hidden = hidden;
        cr_assert(eq(int, ingest_bulk(place.ingest, &batch.request, place.arena, &reply, &why),
                     STATUS_OK));
        free_batch(&batch);
        free(hidden);
        commit_bulk(&place, count, 0);
        // Again without marks, twice in one buffer: they hold.
        cr_assert(eq(int, bulk_records(&place, first, 40, 2, &reply, &why), STATUS_OK));
        cr_assert(eq(int, bulk_records(&place, first, 40, 3, &reply, &why), STATUS_OK));
        commit_bulk(&place, 80, 80);
        reopen(&place, round == 0);
        for (uint64_t i = 0; i < 60; i++)
            expect_hidden(&place, first + i, 1, i % 3 == 0);
        expect_record(&place, first + 3, 3);
    }
    close_place(&place, true);
}

Test(node_hide, one_group_keeps_the_order_of_marks_too)
{
    struct place place = created_place();
    struct reason why = {0};
    write_records(&place, 0, 4, 1);
    hide_records(&place, 0, 2, true, 1);

    // 0: deleted and written anew: shown. 1: replaced: hidden. 2: replaced, then hidden. 3: hidden,
    // then replaced. 4: new, hidden, shown. 5: new, hidden, deleted.
    uint64_t ids[6];
    for (uint64_t i = 0; i < 6; i++)
        ids[i] = id_of(i);
    struct batch first = new_batch(0, 3, 2);
    struct batch second = new_batch(3, 3, 2);
    struct shard_write_reply written = {0};
    struct shard_flags_reply flags = {0};
    const struct shard_ids_request zero = {GENERATION, ids, 1};
    const struct shard_ids_request two_three = {GENERATION, ids + 2, 2};
    const struct shard_ids_request four_five = {GENERATION, ids + 4, 2};
    const struct shard_ids_request four = {GENERATION, ids + 4, 1};
    const struct shard_ids_request five = {GENERATION, ids + 5, 1};
    struct ingest *ingest = place.ingest;
    struct arena *arena = place.arena;
    cr_assert(eq(int, ingest_begin(ingest, GENERATION, &why), STATUS_OK));
    cr_assert(eq(int, ingest_delete(ingest, &zero, arena, &flags, &why), STATUS_OK));
    cr_assert(eq(int, ingest_write(ingest, &first.request, arena, &written, &why), STATUS_OK));
    cr_assert(eq(int, ingest_hide(ingest, &two_three, true, arena, &flags, &why), STATUS_OK));
    cr_assert(eq(int, ingest_write(ingest, &second.request, arena, &written, &why), STATUS_OK));
    cr_expect(eq(u64, written.duplicates, 1));
    cr_assert(eq(int, ingest_hide(ingest, &four_five, true, arena, &flags, &why), STATUS_OK));
    cr_assert(eq(int, ingest_hide(ingest, &four, false, arena, &flags, &why), STATUS_OK));
    cr_assert(eq(int, ingest_delete(ingest, &five, arena, &flags, &why), STATUS_OK));
    cr_assert(eq(int, ingest_commit(ingest, &why), STATUS_OK), "%s", why.text);
    free_batch(&first);
    free_batch(&second);
    for (int stops = 0; stops < 2; stops++) {
        expect_hidden(&place, 0, 1, false);
        expect_hidden(&place, 1, 3, true);
        expect_hidden(&place, 4, 1, false);
        expect_absent(&place, 5);
        expect_record(&place, 3, 2);
        cr_expect(eq(u64, rows_hidden_count(rows_of(&place)), 3));
        reopen(&place, false);
    }
    close_place(&place, true);
}
