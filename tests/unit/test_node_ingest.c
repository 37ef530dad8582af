// SPDX-License-Identifier: Apache-2.0
// Goal: what ingest acknowledges is in the store and in the rows, exactly; what it refuses, it
// names; rows that fell behind the store are brought up or made anew.
//
// Method: ingest on a real store and shelf in a fresh directory; everything reopened; a record with
// the id of another key planted through the store; limits small enough to be reached.

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "tests/unit/ingest_fixture.h"

TestSuite(node_ingest, .init = make_directory, .fini = remove_directory);

Test(node_ingest, writes_deletes_and_replaces_survive_a_stop_and_a_crash)
{
    struct place place = created_place();
    struct shard_write_reply reply = write_records(&place, 0, 100, 1);
    cr_expect(eq(u64, reply.stored, 100));
    cr_expect(eq(u64, reply.duplicates, 0));
    cr_expect(eq(sz, reply.count, 0));
    reply = write_records(&place, 90, 20, 2);
    cr_expect(eq(u64, reply.duplicates, 10));
    delete_records(&place, 0, 10, 10);
    delete_records(&place, 5, 10, 5);
    for (int crash = 0; crash < 2; crash++) {
        reopen(&place, crash == 0);
        expect_count(&place, 95);
        expect_absent(&place, 3);
        expect_record(&place, 50, 1);
        expect_record(&place, 95, 2);
        expect_record(&place, 109, 2);
        write_records(&place, 50, 1, 1);
    }
    // Behind the checkpoint: found through the log.
    write_records(&place, 200, 30, 3);
    delete_records(&place, 20, 5, 5);
    write_records(&place, 21, 1, 4);
    reopen(&place, false);
    expect_count(&place, 121);
    expect_record(&place, 229, 3);
    expect_absent(&place, 20);
    expect_record(&place, 21, 4);
    close_place(&place, true);
}

Test(node_ingest, one_group_keeps_the_order_of_its_requests)
{
    struct place place = created_place();
    struct batch first = new_batch(0, 4, 1);
    struct batch second = new_batch(2, 4, 2);
    const uint64_t ids[] = {id_of(3), id_of(9)};
    const struct shard_ids_request gone = {GENERATION, ids, 2};
    struct batch third = new_batch(3, 1, 3);
    struct shard_write_reply replies[3] = {0};
    struct shard_flags_reply flags = {0};
    struct reason why = {0};
    cr_assert(eq(int, ingest_begin(place.ingest, GENERATION, &why), STATUS_OK));
    cr_assert(eq(int, ingest_write(place.ingest, &first.request, place.arena, &replies[0], &why),
                 STATUS_OK));
    cr_assert(eq(int, ingest_write(place.ingest, &second.request, place.arena, &replies[1], &why),
                 STATUS_OK));
    cr_assert(eq(int, ingest_delete(place.ingest, &gone, place.arena, &flags, &why), STATUS_OK));
    cr_assert(eq(int, ingest_write(place.ingest, &third.request, place.arena, &replies[2], &why),
                 STATUS_OK));
    cr_expect(eq(u64, store_sequence(place.store), 0)); // nothing yet
    cr_expect(eq(u64, rows_live_count(rows_of(&place)), 0));
    cr_assert(eq(int, ingest_commit(place.ingest, &why), STATUS_OK));
    cr_expect(eq(u64, replies[1].duplicates, 2));
    cr_expect(eq(u32, flags.flags[0], 1));
    cr_expect(eq(u32, flags.flags[1], 0));
    cr_expect(eq(u64, replies[2].duplicates, 0)); // it was deleted just before
    free_batch(&first);
    free_batch(&second);
    free_batch(&third);
    for (int round = 0; round < 2; round++) {
        expect_count(&place, 6);
        expect_record(&place, 0, 1);
        expect_record(&place, 2, 2);
        expect_record(&place, 3, 3);
        expect_record(&place, 5, 2);
        reopen(&place, false);
    }
    close_place(&place, true);
}

// Two keys with one id cannot be found by trying, so one is planted: "key-1"'s id with another key.
static void plant(struct place *place, uint64_t number, const char *key)
{
    uint16_t rows[2 * DIMENSION];
    fill_rows(rows, 999, 1);
    const uint64_t id = id_of(number);
    const struct store_record record = {
        .place = {GENERATION, (uint16_t)(id % VSHARDS), id},
        .dimension = DIMENSION,
        .image = rows,
        .text = rows + DIMENSION,
        .rows_crc = store_rows_crc(rows, rows + DIMENSION, DIMENSION),
        .key = text_of(key),
    };
    struct store_batch *batch = store_batch_begin(place->store);
    store_batch_put(batch, &record);
    struct reason why = {0};
    cr_assert(eq(int, store_batch_commit(&batch, &why), STATUS_OK));
    reopen(place, false);
}

Test(node_ingest, another_key_with_the_same_id_is_refused_naming_both)
{
    struct place place = created_place();
    plant(&place, 1, "an older key");
    struct shard_write_reply reply = write_records(&place, 0, 3, 5);
    cr_assert(eq(sz, reply.count, 3));
    cr_expect(eq(u64, reply.stored, 2));
    cr_expect(eq(u32, reply.status[0], STATUS_OK));
    cr_expect(eq(u32, reply.status[1], STATUS_ALREADY_EXISTS));
    cr_expect(eq(u32, reply.status[2], STATUS_OK));
    cr_expect(ne(ptr, strstr(reply.reasons[1].data, "'key-1'"), NULL));
    cr_expect(ne(ptr, strstr(reply.reasons[1].data, "'an older key'"), NULL));
    cr_expect(eq(sz, reply.reasons[0].bytes, 0));

    struct reason why = {0};
    cr_assert(eq(int, bulk_records(&place, 0, 3, 6, &reply, &why), STATUS_OK));
    cr_assert(eq(sz, reply.count, 3));
    cr_expect(eq(u32, reply.status[1], STATUS_ALREADY_EXISTS));
    cr_expect(eq(u64, reply.duplicates, 2));
    commit_bulk(&place, 2, 2);
    expect_record(&place, 0, 6);
    expect_record(&place, 1 + 1, 6);
    delete_records(&place, 1, 1, 1);
    reply = write_records(&place, 1, 1, 7);
    cr_expect(eq(sz, reply.count, 0));
    expect_record(&place, 1, 7);
    close_place(&place, true);
}

Test(node_ingest, records_of_other_vshards_are_refused_one_by_one)
{
    struct place place = open_place();
    struct reason why = {0};
    static const uint32_t own[] = {2, 5};
    const struct shard_create_request request = {.generation = GENERATION,
                                                 .dimension = DIMENSION,
                                                 .vshards = VSHARDS,
                                                 .own = own,
                                                 .own_count = 2};
    cr_assert(eq(int, ingest_create_generation(place.ingest, &request, &why), STATUS_OK));
    const struct shard_write_reply reply = write_records(&place, 0, 200, 1);
    cr_assert(eq(sz, reply.count, 200));
    uint64_t stored = 0;
    for (uint64_t i = 0; i < 200; i++) {
        const uint64_t vshard = id_of(i) % VSHARDS;
        const bool ours = vshard == 2 || vshard == 5;
        cr_expect(eq(u32, reply.status[i], ours ? STATUS_OK : STATUS_INVALID));
        stored += ours;
    }
    cr_expect(eq(u64, reply.stored, stored));
    expect_count(&place, stored);
    close_place(&place, true);
}

Test(node_ingest, requests_that_cannot_be_are_refused_as_a_whole)
{
    struct place place = created_place();
    struct reason why = {0};
    cr_expect(eq(int, ingest_begin(place.ingest, GENERATION + 1, &why), STATUS_NOT_FOUND));
    struct batch batch = new_batch(0, 2, 1);
    batch.request.dimension = DIMENSION / 2;
    struct shard_write_reply reply = {0};
    cr_assert(eq(int, ingest_begin(place.ingest, GENERATION, &why), STATUS_OK));
    cr_expect(eq(int, ingest_write(place.ingest, &batch.request, place.arena, &reply, &why),
                 STATUS_INVALID));
    cr_expect(ne(ptr, strstr(why.text, "8; generation 4 has 16"), NULL), "%s", why.text);
    cr_assert(eq(int, ingest_commit(place.ingest, &why), STATUS_OK));
    cr_expect(eq(int, ingest_bulk(place.ingest, &batch.request, place.arena, &reply, &why),
                 STATUS_INVALID));
    batch.request.generation = 77;
    cr_expect(eq(int, ingest_bulk(place.ingest, &batch.request, place.arena, &reply, &why),
                 STATUS_NOT_FOUND));
    cr_expect(eq(int, ingest_bulk_commit(place.ingest, 77, &reply, &why), STATUS_NOT_FOUND));
    uint64_t records = 0;
    cr_expect(eq(int, ingest_drop_generation(place.ingest, 77, &records, &why), STATUS_NOT_FOUND));
    expect_count(&place, 0);
    free_batch(&batch);
    close_place(&place, true);
}

Test(node_ingest, bulk_records_are_seen_after_the_commit_and_not_before)
{
    struct place place = created_place();
    struct reason why = {0};
    struct shard_write_reply reply = {0};
    for (uint64_t first = 0; first < 5000; first += 500)
        cr_assert(eq(int, bulk_records(&place, first, 500, 1, &reply, &why), STATUS_OK));
    cr_assert(eq(int, bulk_records(&place, 4900, 200, 2, &reply, &why), STATUS_OK));
    cr_expect(eq(u64, reply.stored, 200));
    cr_expect(eq(u64, reply.duplicates, 100));
    expect_count(&place, 0);
    expect_absent(&place, 17);
    commit_bulk(&place, 5200, 100);
    for (int round = 0; round < 3; round++) {
        expect_count(&place, 5100);
        for (uint64_t number = 0; number < 5100; number += 13)
            expect_record(&place, number, number < 4900 ? 1 : 2);
        reopen(&place, round == 0);
    }
    commit_bulk(&place, 0, 0); // nothing to do
    close_place(&place, true);
}

Test(node_ingest, bulk_records_that_were_not_committed_are_gone_and_can_be_sent_again)
{
    struct place place = created_place();
    struct reason why = {0};
    struct shard_write_reply reply = {0};
    cr_assert(eq(int, bulk_records(&place, 0, 3000, 1, &reply, &why), STATUS_OK));
    reopen(&place, false);
    expect_count(&place, 0);
    cr_assert(eq(int, bulk_records(&place, 0, 3000, 1, &reply, &why), STATUS_OK));
    cr_expect(eq(u64, reply.duplicates, 0));
    commit_bulk(&place, 3000, 0);
    expect_count(&place, 3000);
    close_place(&place, true);
}

Test(node_ingest, a_full_buffer_is_written_early_and_counted_all_the_same)
{
    struct place place = open_place_with((struct ingest_params){.bulk_records_max = 2500}, 0);
    struct reason why = {0};
    struct shard_write_reply reply = {0};
    cr_assert(eq(int, create(&place, GENERATION, &why), STATUS_OK));
    for (uint64_t first = 0; first < 7000; first += 1000)
        cr_assert(eq(int, bulk_records(&place, first, 1000, 1, &reply, &why), STATUS_OK));
    cr_expect(ge(u64, rows_live_count(rows_of(&place)), 4000));
    cr_assert(eq(int, bulk_records(&place, 0, 1000, 2, &reply, &why), STATUS_OK));
    cr_expect(eq(u64, reply.duplicates, 1000)); // of records that are written already
    commit_bulk(&place, 8000, 1000);
    expect_count(&place, 7000);
    expect_record(&place, 0, 2);
    expect_record(&place, 6999, 1);
    reopen(&place, false);
    expect_count(&place, 7000);
    expect_record(&place, 999, 2);
    close_place(&place, true);
}

Test(node_ingest, two_generations_that_are_loaded_at_once_are_counted_apart)
{
    enum { OTHER = GENERATION + 1 };
    struct place place = created_place();
    struct reason why = {0};
    struct shard_write_reply reply = {0};
    cr_assert(eq(int, create(&place, OTHER, &why), STATUS_OK), "%s", why.text);
    struct batch other = new_batch(0, 200, 2);
    other.request.generation = OTHER;
    for (uint64_t first = 0; first < 1500; first += 500) {
        cr_assert(eq(int, bulk_records(&place, first, 500, 1, &reply, &why), STATUS_OK));
        cr_assert(eq(int, ingest_bulk(place.ingest, &other.request, place.arena, &reply, &why),
                     STATUS_OK),
                  "%s", why.text);
    }
    free_batch(&other);

    commit_bulk(&place, 1500, 0);
    expect_count(&place, 1500);
    cr_assert(eq(int, ingest_bulk_commit(place.ingest, OTHER, &reply, &why), STATUS_OK), "%s",
              why.text);
    cr_expect(eq(u64, reply.stored, 600));
    cr_expect(eq(u64, reply.duplicates, 400));
    commit_bulk(&place, 0, 0); // each was told once
    close_place(&place, true);
}

Test(node_ingest, a_write_or_deletion_between_bulk_records_comes_after_them)
{
    struct place place = created_place();
    struct reason why = {0};
    struct shard_write_reply reply = {0};
    cr_assert(eq(int, bulk_records(&place, 0, 100, 1, &reply, &why), STATUS_OK));
    write_records(&place, 5, 1, 2);
    delete_records(&place, 6, 1, 1);
    cr_assert(eq(int, bulk_records(&place, 7, 1, 3, &reply, &why), STATUS_OK));
    commit_bulk(&place, 101, 1);
    for (int round = 0; round < 2; round++) {
        expect_count(&place, 99);
        expect_record(&place, 5, 2);
        expect_absent(&place, 6);
        expect_record(&place, 7, 3);
        reopen(&place, false);
    }
    close_place(&place, true);
}

Test(node_ingest, a_commit_tells_that_a_buffer_was_lost)
{
    struct place place = created_place();
    struct reason why = {0};
    struct shard_write_reply reply = {0};
    cr_assert(eq(int, bulk_records(&place, 0, 3000, 1, &reply, &why), STATUS_OK));
    (void)signal(SIGXFSZ, SIG_IGN);
    const struct rlimit limit = {50000, RLIM_INFINITY};
    const struct rlimit none = {RLIM_INFINITY, RLIM_INFINITY};
    cr_assert(eq(int, setrlimit(RLIMIT_FSIZE, &limit), 0));
    cr_expect(eq(int, ingest_bulk_flush(place.ingest, &why), STATUS_IO));
    cr_assert(eq(int, setrlimit(RLIMIT_FSIZE, &none), 0));
    cr_expect(eq(int, ingest_bulk_commit(place.ingest, GENERATION, &reply, &why), STATUS_IO));
    cr_expect(store_is_read_only(place.store));
    cr_expect(eq(int, bulk_records(&place, 0, 10, 1, &reply, &why), STATUS_FAILED_PRECONDITION));
    cr_assert(eq(int, ingest_begin(place.ingest, GENERATION, &why), STATUS_OK));
    struct batch batch = new_batch(0, 2, 1);
    cr_expect(eq(int, ingest_write(place.ingest, &batch.request, place.arena, &reply, &why),
                 STATUS_FAILED_PRECONDITION));
    free_batch(&batch);
    cr_assert(eq(int, ingest_commit(place.ingest, &why), STATUS_OK));
    reopen(&place, false);
    write_records(&place, 0, 10, 1);
    expect_count(&place, 10);
    close_place(&place, true);
}

Test(node_ingest, a_group_that_cannot_be_written_is_not_there)
{
    struct place place = created_place();
    write_records(&place, 0, 10, 1);
    struct batch batch = new_batch(5, 500, 2);
    struct shard_write_reply reply = {0};
    struct reason why = {0};
    cr_assert(eq(int, ingest_begin(place.ingest, GENERATION, &why), STATUS_OK));
    cr_assert(
        eq(int, ingest_write(place.ingest, &batch.request, place.arena, &reply, &why), STATUS_OK));
    (void)signal(SIGXFSZ, SIG_IGN);
    const struct rlimit limit = {4000, RLIM_INFINITY};
    const struct rlimit none = {RLIM_INFINITY, RLIM_INFINITY};
    cr_assert(eq(int, setrlimit(RLIMIT_FSIZE, &limit), 0));
    cr_expect(eq(int, ingest_commit(place.ingest, &why), STATUS_IO));
    cr_assert(eq(int, setrlimit(RLIMIT_FSIZE, &none), 0));
    free_batch(&batch);
    cr_expect(store_is_read_only(place.store));
    expect_count(&place, 10);
    expect_record(&place, 5, 1);
    reopen(&place, false);
    expect_count(&place, 10);
    expect_record(&place, 5, 1);
    close_place(&place, true);
}

Test(node_ingest, a_full_disk_refuses_writes_bulk_and_creation_but_deletes_and_drops)
{
    struct place place = created_place();
    write_records(&place, 0, 10, 1);
    close_place(&place, true);
    place = open_place_with((struct ingest_params){0}, 1); // every disk is 1 % full
    struct reason why = {0};
    struct shard_write_reply reply = {0};
    struct batch batch = new_batch(0, 2, 1);
    cr_assert(eq(int, ingest_begin(place.ingest, GENERATION, &why), STATUS_OK));
    cr_expect(eq(int, ingest_write(place.ingest, &batch.request, place.arena, &reply, &why),
                 STATUS_EXHAUSTED));
    cr_assert(eq(int, ingest_commit(place.ingest, &why), STATUS_OK));
    cr_expect(eq(int, ingest_bulk(place.ingest, &batch.request, place.arena, &reply, &why),
                 STATUS_EXHAUSTED));
    cr_expect(eq(int, create(&place, GENERATION + 1, &why), STATUS_EXHAUSTED));
    delete_records(&place, 0, 5, 5);
    expect_count(&place, 5);
    uint64_t records = 0;
    cr_expect(eq(int, ingest_drop_generation(place.ingest, GENERATION, &records, &why), STATUS_OK));
    cr_expect(eq(u64, records, 5));
    free_batch(&batch);
    close_place(&place, false);
}

Test(node_ingest, generations_are_created_once_and_dropped_for_good)
{
    struct place place = created_place();
    struct reason why = {0};
    cr_expect(eq(int, create(&place, GENERATION, &why), STATUS_OK)); // again
    const uint32_t own[] = {1};
    const struct shard_create_request other = {.generation = GENERATION,
                                               .dimension = DIMENSION,
                                               .vshards = VSHARDS,
                                               .own = own,
                                               .own_count = 1};
    cr_expect(eq(int, ingest_create_generation(place.ingest, &other, &why), STATUS_ALREADY_EXISTS));
    cr_expect(eq(int, create(&place, 0, &why), STATUS_INVALID));
    cr_expect(eq(int, create(&place, UINT32_MAX, &why), STATUS_INVALID));

    write_records(&place, 0, 50, 1);
    struct shard_write_reply reply = {0};
    cr_assert(eq(int, bulk_records(&place, 100, 10, 1, &reply, &why), STATUS_OK));
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/rows/%d", directory, GENERATION);
    struct stat about;
    cr_expect(eq(int, stat(path, &about), 0));
    struct shelf_generation *held = shelf_acquire(place.shelf, GENERATION);
    uint64_t records = 0;
    cr_assert(eq(int, ingest_drop_generation(place.ingest, GENERATION, &records, &why), STATUS_OK));
    cr_expect(eq(u64, records, 50));
    cr_expect(eq(ptr, shelf_acquire(place.shelf, GENERATION), NULL));
    cr_expect(eq(u64, rows_live_count(held->rows), 50)); // who began may end
    shelf_release(place.shelf, &held);
    cr_expect(ne(int, stat(path, &about), 0));

    for (int round = 0; round < 2; round++) {
        cr_expect(
            eq(int, ingest_drop_generation(place.ingest, GENERATION, &records, &why), STATUS_OK));
        cr_expect(eq(u64, records, 0));
        cr_expect(eq(int, create(&place, GENERATION, &why), STATUS_FAILED_PRECONDITION));
        cr_expect(eq(int, ingest_begin(place.ingest, GENERATION, &why), STATUS_NOT_FOUND));
        reopen(&place, true);
    }
    close_place(&place, true);
}

static void damage_rows(const char *name)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/rows/%d/%s", directory, GENERATION, name);
    FILE *file = fopen(path, "r+b");
    cr_assert(ne(ptr, file, NULL));
    (void)fseek(file, 200, SEEK_SET);
    const int byte = fgetc(file);
    (void)fseek(file, 200, SEEK_SET);
    (void)fputc(byte ^ 0x21, file);
    (void)fclose(file);
}

Test(node_ingest, rows_that_are_damaged_cut_or_missing_come_back_from_the_store)
{
    struct place place = created_place();
    write_records(&place, 0, 1000, 1);
    delete_records(&place, 0, 20, 20);
    static const char *const names[] = {"image", "text", "slots", "head"};
    for (int what = 0; what < 3; what++) {
        for (int i = 0; i < 4; i++) {
            close_place(&place, true);
            char path[128];
            (void)snprintf(path, sizeof(path), "%s/rows/%d/%s", directory, GENERATION, names[i]);
            if (what == 0)
                damage_rows(names[i]);
            else if (what == 1)
                cr_assert(eq(int, truncate(path, 100), 0));
            else
                cr_assert(eq(int, unlink(path), 0));
            place = open_place();
            expect_count(&place, 980);
            for (uint64_t number = 20; number < 1000; number += 11)
                expect_record(&place, number, 1);
            expect_absent(&place, 7);
        }
    }
    close_place(&place, true);
}

Test(node_ingest, rows_with_many_dead_slots_are_made_anew_at_the_next_start)
{
    struct place place = created_place();
    for (uint32_t version = 1; version <= 6; version++)
        write_records(&place, 0, 1000, version);
    cr_expect(eq(u32, rows_slot_count(rows_of(&place)), 6000));
    reopen(&place, true);
    cr_expect(eq(u32, rows_slot_count(rows_of(&place)), 1000));
    expect_record(&place, 999, 6);
    close_place(&place, true);
}

Test(node_ingest, reports_no_memory_and_stays_usable)
{
    struct place place = created_place();
    write_records(&place, 0, 10, 1);
    struct reason why = {0};
    struct shard_write_reply reply = {0};
    struct batch batch = new_batch(0, 900, 2);
    for (uint64_t n = 1; n < 4; n++) {
        cr_assert(eq(int, ingest_begin(place.ingest, GENERATION, &why), STATUS_OK));
        mem_fail_after(n);
        const enum status status =
            ingest_write(place.ingest, &batch.request, place.arena, &reply, &why);
        mem_fail_after(0);
        cr_expect(eq(int, status, STATUS_NO_MEMORY));
        cr_assert(eq(int, ingest_commit(place.ingest, &why), STATUS_OK));
        expect_record(&place, 5, 1);
    }
    mem_fail_after(1);
    const enum status status = ingest_bulk(place.ingest, &batch.request, place.arena, &reply, &why);
    mem_fail_after(0);
    cr_expect(eq(int, status, STATUS_NO_MEMORY));
    cr_assert(
        eq(int, ingest_bulk(place.ingest, &batch.request, place.arena, &reply, &why), STATUS_OK));
    commit_bulk(&place, 900, 10);
    expect_record(&place, 5, 2);
    free_batch(&batch);
    close_place(&place, true);
}
