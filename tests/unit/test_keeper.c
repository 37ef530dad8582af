// SPDX-License-Identifier: Apache-2.0
// Goal: an index comes back from its file after a stop and after a crash, is made anew when the
// file is of no use, and in every case has every record.
//
// Method: an indexer beside ingest on a real store and shelf, which are closed without a checkpoint
// and opened again; whether a file was opened or written again tells its inode.

#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "shard_node/index/seed.h"
#include "shard_node/indexer.h"
#include "shard_node/keeper.h"
#include "tests/unit/ingest_fixture.h"

#define PATIENCE_US 60000000
#define PAGE 1000
#define FIRST INDEX_RECORDS_FROM

static void begin(void)
{
    make_directory();
    log_set_level(LOG_ERROR);
}

TestSuite(keeper, .init = begin, .fini = remove_directory, .timeout = 240);

// As new_batch(), with rows that are all different.
static struct batch own_batch(uint64_t first, size_t count, uint32_t version)
{
    struct batch batch = new_batch(first, count, version);
    for (size_t i = 0; i < count; i++) {
        uint64_t state = (first + i) * 1000 + version;
        for (size_t d = 0; d < 2 * DIMENSION; d++)
            batch.rows[i * 2 * DIMENSION + d] =
                half_from_float((float)(seed_next(&state) >> 40) / 33554432.0F - 0.25F);
    }
    return batch;
}

static void load(struct place *place, uint64_t first, uint64_t count, uint32_t version)
{
    struct reason why = {0};
    struct shard_write_reply reply = {0};
    for (uint64_t at = 0; at < count; at += PAGE) {
        struct batch batch = own_batch(first + at, count - at < PAGE ? count - at : PAGE, version);
        cr_assert(eq(int, ingest_bulk(place->ingest, &batch.request, place->arena, &reply, &why),
                     STATUS_OK));
        free_batch(&batch);
    }
    cr_assert(eq(int, ingest_bulk_commit(place->ingest, GENERATION, &reply, &why), STATUS_OK));
}

static void put(struct place *place, uint64_t first, size_t count, uint32_t version)
{
    struct batch batch = own_batch(first, count, version);
    struct shard_write_reply reply = {0};
    struct reason why = {0};
    cr_assert(eq(int, ingest_begin(place->ingest, GENERATION, &why), STATUS_OK));
    cr_assert(eq(int, ingest_write(place->ingest, &batch.request, place->arena, &reply, &why),
                 STATUS_OK));
    cr_assert(eq(int, ingest_commit(place->ingest, &why), STATUS_OK));
    free_batch(&batch);
}

static struct indexer *start(struct place *place)
{
    struct indexer *indexer = NULL;
    const struct indexer_params params = {
        .shelf = place->shelf, .store = place->store, .threads = 2};
    cr_assert(eq(int, indexer_start(&params, &indexer), STATUS_OK));
    return indexer;
}

static void name_file(enum modality modality, char path[128])
{
    (void)snprintf(path, 128, "%s/rows/%d/index-%s", directory, GENERATION,
                   modality == MODALITY_IMAGE ? "image" : "text");
}

static ino_t inode(enum modality modality)
{
    char path[128];
    struct stat about;
    name_file(modality, path);
    return stat(path, &about) == 0 ? about.st_ino : 0;
}

// Until both indexes cover all slots, and both files are there and none of these.
static void wait_for(struct place *place, ino_t not_image, ino_t not_text)
{
    const int64_t until_us = clock_deadline_in_us(PATIENCE_US);
    struct rows *rows = rows_of(place);
    struct shelf_index_totals totals = {0};
    while (totals.rows != 2 * (uint64_t)rows_slot_count(rows) ||
           inode(MODALITY_IMAGE) == not_image || inode(MODALITY_TEXT) == not_text) {
        cr_assert(not(clock_passed(until_us)), "%" PRIu64 " rows of %" PRIu32, totals.rows,
                  rows_slot_count(rows));
        (void)sched_yield();
        shelf_index_add_up(place->shelf, &totals);
    }
}

// Each live slot is found when it is the only one that counts.
static void expect_all(struct place *place, enum modality modality, uint32_t dense_from)
{
    struct shelf_generation *generation = shelf_acquire(place->shelf, GENERATION);
    struct rows *rows = generation->rows;
    struct shelf_lease *lease = shelf_index_lease(&generation->index[modality]);
    cr_assert(lease != NULL);
    struct index_scratch *scratch = index_scratch_create(shelf_epoch(place->shelf));
    struct index_about about;
    index_describe(lease->index, &about);
    const size_t words = rows_slot_count(rows) / 64 + 1;
    _Atomic uint64_t *only = calloc(words, sizeof(*only));
    for (uint32_t slot = 0; slot < rows_slot_count(rows); slot += slot < dense_from ? 37 : 1) {
        float query[DIMENSION];
        struct scan_hit hit = {0};
        if (!rows_bit(rows_live(rows), slot))
            continue;
        only[slot / 64] = 1ull << (slot % 64);
        half_to_floats(rows_row(rows, modality, slot), query, DIMENSION);
        const struct index_query asked = {
            .query = query, .k = 1, .probes = about.lists, .live = only};
        cr_assert(eq(sz, index_search(lease->index, scratch, &asked, &hit, NULL), 1), "slot %u",
                  slot);
        cr_assert(eq(u32, hit.slot, slot));
        only[slot / 64] = 0;
    }
    free((void *)only);
    index_scratch_destroy(&scratch);
    shelf_index_end(&generation->index[modality], &lease);
    shelf_release(place->shelf, &generation);
}

static void expect_both(struct place *place, uint32_t dense_from)
{
    expect_all(place, MODALITY_IMAGE, dense_from);
    expect_all(place, MODALITY_TEXT, dense_from);
}

static uint32_t kept_end(struct place *place, enum modality modality)
{
    struct shelf_generation *generation = shelf_acquire(place->shelf, GENERATION);
    const uint32_t end = generation->index[modality].kept.end;
    shelf_release(place->shelf, &generation);
    return end;
}

// Stops as a node does, or as a crash does.
static void stop(struct place *place, struct indexer **indexer, bool cleanly)
{
    struct reason why = {0};
    indexer_stop(indexer);
    if (cleanly) {
        cr_assert(eq(int, shelf_checkpoint_all(place->shelf, &why), STATUS_OK));
        keeper_save_all(&(struct keeper){.shelf = place->shelf, .store = place->store});
    }
    close_place(place, false);
}

Test(keeper, an_index_comes_back_after_a_crash_and_after_a_stop)
{
    struct place place = created_place();
    load(&place, 0, FIRST, 1);
    struct indexer *indexer = start(&place);
    wait_for(&place, 0, 0);
    const ino_t files[2] = {inode(MODALITY_IMAGE), inode(MODALITY_TEXT)};

    // 300 that no checkpoint has, and which may get other slots.
    put(&place, 100000, 300, 1);
    indexer_notice(indexer);
    wait_for(&place, 0, 0);
    stop(&place, &indexer, false);
    place = open_place();
    indexer = start(&place);
    wait_for(&place, 0, 0);
    cr_expect(inode(MODALITY_IMAGE) == files[0] && inode(MODALITY_TEXT) == files[1]);
    expect_both(&place, FIRST - 100);

    // The stop saves what has changed, though it is little; the next one has nothing to do.
    uint64_t records = 0;
    uint64_t bytes = 0;
    stop(&place, &indexer, true);
    const ino_t newer[2] = {inode(MODALITY_IMAGE), inode(MODALITY_TEXT)};
    cr_expect(newer[0] != files[0] && newer[1] != files[1]);
    place = open_place();
    indexer = start(&place);
    wait_for(&place, 0, 0);
    expect_both(&place, FIRST);
    shelf_totals(place.shelf, &records, &bytes);
    cr_expect(gt(u64, bytes, rows_bytes(rows_of(&place)) + 2 * FIRST * DIMENSION / 2));
    stop(&place, &indexer, true);
    cr_expect(inode(MODALITY_IMAGE) == newer[0] && inode(MODALITY_TEXT) == newer[1]);
}

// Records that are written again as they were get new slots. When the index is saved without their
// old ones, and a crash brings these back, it must have them.
Test(keeper, records_written_again_before_a_crash_are_found)
{
    struct place place = created_place();
    load(&place, 0, FIRST, 1);
    struct indexer *indexer = start(&place);
    wait_for(&place, 0, 0);
    const ino_t files[2] = {inode(MODALITY_IMAGE), inode(MODALITY_TEXT)};
    indexer_stop(&indexer);

    load(&place, FIRST, 5000, 1);
    put(&place, FIRST, 300, 1);
    put(&place, FIRST, 300, 1);
    cr_expect(eq(u32, rows_slot_count(rows_of(&place)), FIRST + 5600));
    indexer = start(&place);
    wait_for(&place, files[0], files[1]);
    stop(&place, &indexer, false);

    place = open_place();
    cr_expect(eq(u32, rows_slot_count(rows_of(&place)), FIRST + 5000));
    const ino_t newer[2] = {inode(MODALITY_IMAGE), inode(MODALITY_TEXT)};
    indexer = start(&place);
    wait_for(&place, 0, 0);
    cr_expect(inode(MODALITY_IMAGE) == newer[0] && inode(MODALITY_TEXT) == newer[1]);
    expect_both(&place, FIRST - 100);
    indexer_stop(&indexer);
    cr_expect(eq(u32, kept_end(&place, MODALITY_IMAGE), FIRST + 5000));
    close_place(&place, false);
}

static void damage(enum modality modality)
{
    char path[128];
    uint8_t byte = 0;
    name_file(modality, path);
    const int fd = open(path, O_RDWR);
    cr_assert(eq(sz, pread(fd, &byte, 1, 5000), 1));
    byte ^= 1;
    cr_assert(eq(sz, pwrite(fd, &byte, 1, 5000), 1));
    (void)close(fd);
}

Test(keeper, a_file_of_no_use_is_made_anew_and_goes_with_its_generation)
{
    struct place place = created_place();
    load(&place, 0, FIRST, 1);
    struct indexer *indexer = start(&place);
    wait_for(&place, 0, 0);
    stop(&place, &indexer, true);

    ino_t files[2] = {inode(MODALITY_IMAGE), inode(MODALITY_TEXT)};
    damage(MODALITY_TEXT);
    place = open_place();
    indexer = start(&place);
    wait_for(&place, 0, files[1]);
    cr_expect(inode(MODALITY_IMAGE) == files[0]);
    expect_both(&place, FIRST);

    // Rows that are written anew have other slots: what was replaced has none.
    put(&place, 5, 60, 2);
    indexer_notice(indexer);
    wait_for(&place, 0, 0);
    stop(&place, &indexer, true);
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/rows/%d/head", directory, GENERATION);
    cr_assert(eq(int, unlink(path), 0));
    files[0] = inode(MODALITY_IMAGE);
    files[1] = inode(MODALITY_TEXT);
    place = open_place();
    indexer = start(&place);
    wait_for(&place, files[0], files[1]);
    expect_both(&place, FIRST);

    struct reason why = {0};
    uint64_t records = 0;
    cr_assert(eq(int, ingest_drop_generation(place.ingest, GENERATION, &records, &why), STATUS_OK));
    stop(&place, &indexer, true);
    cr_expect(inode(MODALITY_IMAGE) == 0 && inode(MODALITY_TEXT) == 0);
}
