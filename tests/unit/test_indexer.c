// SPDX-License-Identifier: Apache-2.0
// Goal: the indexer makes an index when there are records enough, takes in what comes later, makes
// a larger one when the records have multiplied, and lets go when a generation is dropped, the node
// stops, or memory does not suffice.
//
// Method: an indexer beside ingest on a real store and shelf; what it has done is asked until it is
// there.

#include <sched.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/clock.h"
#include "shard_node/indexer.h"
#include "tests/unit/ingest_fixture.h"

#define PATIENCE_US 120000000
#define PAGE 1000

TestSuite(indexer, .init = make_directory, .fini = remove_directory, .timeout = 280);

static struct indexer *start(struct place *place, uint64_t memory_max)
{
    struct indexer *indexer = NULL;
    const struct indexer_params params = {
        .shelf = place->shelf, .store = place->store, .threads = 2, .memory_max = memory_max};
    cr_assert(eq(int, indexer_start(&params, &indexer), STATUS_OK));
    return indexer;
}

static void load(struct place *place, uint64_t first, uint64_t end)
{
    struct reason why = {0};
    struct shard_write_reply reply = {0};
    for (uint64_t at = first; at < end; at += PAGE)
        cr_assert(eq(int,
                     bulk_records(place, at, end - at < PAGE ? end - at : PAGE, 1, &reply, &why),
                     STATUS_OK));
    cr_assert(eq(int, ingest_bulk_commit(place->ingest, GENERATION, &reply, &why), STATUS_OK));
}

// Until both indexes cover so many slots and have so many lists.
static void wait_until(struct place *place, uint64_t rows, uint64_t lists)
{
    const int64_t until_us = clock_deadline_in_us(PATIENCE_US);
    struct shelf_index_totals totals = {0};
    while (totals.rows != 2 * rows || totals.lists < 2 * lists) {
        cr_assert(not(clock_passed(until_us)), "%" PRIu64 " rows, %" PRIu64 " lists", totals.rows,
                  totals.lists);
        (void)sched_yield();
        shelf_index_add_up(place->shelf, &totals);
    }
    cr_expect(eq(u64, totals.waiting, 0));
    cr_expect(gt(u64, totals.bytes, 0));
    cr_expect(gt(u64, shelf_memory(place->shelf), totals.bytes));
}

Test(indexer, makes_an_index_takes_in_what_comes_and_makes_a_larger_one)
{
    struct place place = created_place();
    struct indexer *indexer = start(&place, 0);
    load(&place, 0, INDEX_RECORDS_FROM - 1);
    indexer_notice(indexer);
    write_records(&place, INDEX_RECORDS_FROM - 1, 1, 1);
    indexer_notice(indexer);
    wait_until(&place, INDEX_RECORDS_FROM, 2);

    write_records(&place, 90000, 3, 1); // too few to be taken in at once
    indexer_notice(indexer);
    wait_until(&place, INDEX_RECORDS_FROM + 3, 2);
    load(&place, 100000, 100500);
    indexer_notice(indexer);
    wait_until(&place, INDEX_RECORDS_FROM + 503, 2);

    struct shelf_generation *generation = shelf_acquire(place.shelf, GENERATION);
    struct shelf_lease *old = shelf_index_lease(&generation->index[0]);
    load(&place, 200000, 200000 + 3 * INDEX_RECORDS_FROM);
    indexer_notice(indexer);
    wait_until(&place, 4 * INDEX_RECORDS_FROM + 503, 2);
    const int64_t until_us = clock_deadline_in_us(PATIENCE_US);
    struct shelf_lease *lease = shelf_index_lease(&generation->index[0]);
    while (lease == old) {
        cr_assert(not(clock_passed(until_us)));
        shelf_index_end(&generation->index[0], &lease);
        lease = shelf_index_lease(&generation->index[0]);
    }
    shelf_index_end(&generation->index[0], &lease);
    // Who holds the old one may still use it.
    struct index_about about;
    index_describe(old->index, &about);
    cr_expect(ge(u64, about.vectors, INDEX_RECORDS_FROM + 503)); // it took some more in, or none
    shelf_index_end(&generation->index[0], &old);
    shelf_release(place.shelf, &generation);
    indexer_stop(&indexer);
    close_place(&place, true);
}

Test(indexer, lets_go_of_what_is_dropped_and_stops_at_once)
{
    struct place place = created_place();
    load(&place, 0, 2 * INDEX_RECORDS_FROM);
    struct indexer *indexer = start(&place, 0); // finds what is there by itself
    uint64_t records = 0;
    struct reason why = {0};
    cr_assert(eq(int, ingest_drop_generation(place.ingest, GENERATION, &records, &why), STATUS_OK));
    cr_expect(eq(u64, records, 2 * INDEX_RECORDS_FROM));
    indexer_notice(indexer);
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/rows/%d", directory, GENERATION);
    const int64_t until_us = clock_deadline_in_us(PATIENCE_US);
    while (access(path, F_OK) == 0) {
        cr_assert(not(clock_passed(until_us)), "somebody still holds the rows");
        (void)sched_yield();
    }
    indexer_stop(&indexer);
    close_place(&place, true);
}

Test(indexer, makes_no_index_that_does_not_fit_the_memory)
{
    struct place place = created_place();
    load(&place, 0, INDEX_RECORDS_FROM);
    const uint64_t used = shelf_memory(place.shelf) + store_memory(place.store);
    struct shelf_generation *generation = shelf_acquire(place.shelf, GENERATION);
    const int64_t until_us = clock_deadline_in_us(PATIENCE_US);
    while (generation->index[1].notes.train_from_us == 0) { // the thread has put it off
        cr_assert(not(clock_passed(until_us)));
        struct indexer *indexer = start(&place, used + 100000);
        (void)sched_yield();
        indexer_stop(&indexer);
    }
    shelf_release(place.shelf, &generation);
    struct shelf_index_totals totals;
    shelf_index_add_up(place.shelf, &totals);
    cr_expect(eq(u64, totals.rows, 0));
    close_place(&place, true);
}
