// SPDX-License-Identifier: Apache-2.0
// Goal: a search by an index finds what an exact scan finds, but for lists that it does not look
// into: rows that are not in the index yet, no row that is gone or does not pass, as many as there
// are, and a record that is being replaced exactly once.
//
// Method: rows in a fresh directory, an index over part of them, every list looked into where the
// expectation is exact; a writer, an index that grows, and a searcher at once.

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/half.h"
#include "proto/base/limits.h"
#include "shard_node/distance.h"
#include "shard_node/index/seed.h"
#include "shard_node/probe.h"
#include "shard_node/rows.h"

#define DIMENSION 32
#define RECORDS 6000
#define CENTRES 60
#define HOT 100 // records that lie together, apart from all others

static char directory[64];

static struct world {
    struct rows *rows;
    struct epoch *epoch;
    struct index *index;
    struct probe *probe;
    struct scan_lists *lists;
    struct probe_counts counts;
} world;

static void fill_row(uint64_t id, uint32_t version, uint16_t *row)
{
    float values[DIMENSION];
    uint64_t centre = id < HOT ? 99999 : id % CENTRES + 1;
    uint64_t noise = id * 1000 + version;
    for (size_t d = 0; d < DIMENSION; d++) {
        const float near = (float)seed_below(&centre, 2001) / 1000 - 1;
        values[d] = near + 0.3F * ((float)seed_below(&noise, 2001) / 1000 - 1);
    }
    float square = 0;
    for (size_t d = 0; d < DIMENSION; d++)
        square += values[d] * values[d];
    for (size_t d = 0; d < DIMENSION; d++)
        values[d] /= sqrtf(square);
    half_from_floats(values, row, DIMENSION);
}

static void put(uint64_t first, size_t count, uint32_t version)
{
    struct reason why = {0};
    uint16_t *halves = calloc(count, DIMENSION * sizeof(*halves));
    struct rows_item *items = calloc(count, sizeof(*items));
    for (size_t i = 0; i < count; i++) {
        fill_row(first + i, version, halves + i * DIMENSION);
        items[i] = (struct rows_item){
            .id = first + i, .image = halves + i * DIMENSION, .text = halves + i * DIMENSION};
    }
    cr_assert(eq(int, rows_append(world.rows, items, count, &why), STATUS_OK), "%s", why.text);
    free(items);
    free(halves);
}

static void extend(void)
{
    struct reason why = {0};
    cr_assert(
        eq(int, index_extend(world.index, rows_slot_count(world.rows), rows_live(world.rows), &why),
           STATUS_OK));
}

static void begin(void)
{
    strcpy(directory, "test-probe-XXXXXX");
    cr_assert(ne(ptr, mkdtemp(directory), NULL));
    struct reason why = {0};
    const struct rows_params params = {
        .directory = directory, .generation = 1, .dimension = DIMENSION, .store_identity = 1};
    cr_assert(eq(int, rows_create(&params, &world.rows, &why), STATUS_OK), "%s", why.text);
    put(0, RECORDS, 0);
    world.epoch = epoch_create();
    const struct index_params about = {.rows = {.dimension = DIMENSION,
                                                .rows = rows_row(world.rows, MODALITY_IMAGE, 0),
                                                .slots = rows_slot(world.rows, 0)},
                                       .epoch = world.epoch,
                                       .level = cpu_best(),
                                       .threads = 2,
                                       .seed = 5};
    uint32_t sample[RECORDS / 4];
    for (uint32_t i = 0; i < RECORDS / 4; i++)
        sample[i] = 4 * i;
    cr_assert(
        eq(int, index_train(&about, sample, RECORDS / 4, RECORDS, &world.index, &why), STATUS_OK));
    extend();
    world.probe = probe_create(cpu_best(), world.epoch);
    world.lists = scan_lists_create(1, K_WIRE_MAX);
    cr_assert(world.probe && world.lists);
}

static void end(void)
{
    struct reason why;
    scan_lists_destroy(&world.lists);
    probe_destroy(&world.probe);
    index_destroy(&world.index);
    epoch_destroy(&world.epoch);
    rows_close(&world.rows);
    cr_expect(eq(int, rows_delete_files(directory, &why), STATUS_OK));
}

TestSuite(probe, .init = begin, .fini = end);

// Searches by the index; a view of NULL is everybody. The hits stay until the next search.
static size_t search_in(struct rows_view *view, uint32_t end_before, const float *query, size_t k,
                        uint32_t probes, const struct scan_hit **hits)
{
    struct rows_view shared;
    if (!view)
        rows_view_share(world.rows, &shared);
    const struct probe_plan plan = {
        .index = world.index, .rows = world.rows, .probes = probes, .end = end_before};
    const struct scan_request request = {.view = view ? view : &shared,
                                         .modality = MODALITY_IMAGE,
                                         .queries = query,
                                         .query_count = 1,
                                         .k = k};
    scan_lists_begin(world.lists, 1, k);
    world.counts = (struct probe_counts){0};
    probe_query(world.probe, &plan, &request, 0, world.lists, &world.counts);
    return scan_lists_get(world.lists, 0, hits);
}

static size_t search(const float *query, size_t k, uint32_t probes, const struct scan_hit **hits)
{
    return search_in(NULL, 0, query, k, probes, hits);
}

static void query_of(uint64_t id, uint32_t version, float *query)
{
    uint16_t row[DIMENSION];
    fill_row(id, version, row);
    half_to_floats(row, query, DIMENSION);
}

static bool has(const struct scan_hit *hits, size_t count, uint64_t id)
{
    for (size_t i = 0; i < count; i++) {
        if (hits[i].neighbour.id == id)
            return true;
    }
    return false;
}

Test(probe, finds_what_an_exact_scan_finds_with_the_same_scores)
{
    size_t found = 0;
    struct rows_view view;
    cr_assert(eq(int, rows_view_begin(world.rows, &(struct rows_choice){0}, &view), STATUS_OK));
    for (uint64_t q = 0; q < 40; q++) {
        float query[DIMENSION];
        query_of(q * 151, 7, query); // near a record, not one
        struct scan_lists *truth = scan_lists_create(1, 10);
        const struct scan_request request = {
            .view = &view, .modality = MODALITY_IMAGE, .queries = query, .query_count = 1, .k = 10};
        scan_lists_begin(truth, 1, 10);
        for (size_t b = 0; b < scan_block_count(&request); b++)
            scan_block(cpu_best(), &request, b, truth);
        scan_lists_sort(truth);
        const struct scan_hit *expected;
        const struct scan_hit *hits;
        cr_assert(eq(sz, scan_lists_get(truth, 0, &expected), 10));
        cr_assert(eq(sz, search(query, 10, PROBES_MAX, &hits), 10));
        for (size_t i = 0; i < 10; i++) {
            for (size_t j = 0; j < 10; j++) {
                if (expected[j].neighbour.id != hits[i].neighbour.id)
                    continue;
                found++;
                cr_expect(eq(flt, hits[i].neighbour.score, expected[j].neighbour.score));
                cr_expect(eq(u32, hits[i].slot, expected[j].slot));
            }
            cr_expect(i == 0 || neighbour_ahead(hits[i - 1].neighbour, hits[i].neighbour));
        }
        scan_lists_destroy(&truth);
    }
    cr_expect(ge(sz, found, 380)); // of 400: the last step sees the best 24 by estimate
    rows_view_end(&view);
}

Test(probe, finds_rows_behind_the_index_and_none_that_is_gone)
{
    float query[DIMENSION];
    const struct scan_hit *hits;
    put(RECORDS, 300, 0);
    for (uint64_t id = RECORDS; id < RECORDS + 300; id += 23) {
        query_of(id, 0, query);
        cr_assert(eq(sz, search(query, 5, 2, &hits), 5));
        cr_expect(eq(u64, hits[0].neighbour.id, id));
    }
    cr_assert(rows_remove(world.rows, RECORDS + 1));
    cr_assert(rows_remove(world.rows, 500));
    cr_assert(rows_hide(world.rows, 600, true));
    const uint64_t gone[] = {RECORDS + 1, 500, 600};
    for (size_t i = 0; i < 3; i++) {
        query_of(gone[i], 0, query);
        const size_t count = search(query, 20, PROBES_MAX, &hits);
        cr_expect(not(has(hits, count, gone[i])));
    }
    cr_assert(rows_hide(world.rows, 600, false));
    query_of(600, 0, query);
    cr_assert(eq(sz, search(query, 1, PROBES_MAX, &hits), 1));
    cr_expect(eq(u64, hits[0].neighbour.id, 600));

    put(700, 1, 3); // replaced: the new row, once
    query_of(700, 3, query);
    cr_assert(ge(sz, search(query, 50, PROBES_MAX, &hits), 50));
    cr_expect(eq(u64, hits[0].neighbour.id, 700));
    for (size_t i = 1; i < 50; i++)
        cr_expect(ne(u64, hits[i].neighbour.id, 700));
}

Test(probe, looks_into_more_lists_until_it_has_k)
{
    float query[DIMENSION];
    const struct scan_hit *hits;
    query_of(50, 0, query);
    cr_expect(eq(sz, search(query, 512, 1, &hits), 512));
    cr_expect(gt(u64, world.counts.lists, 1));

    // One record in twenty passes: all 300 are found, and nobody else.
    uint64_t only[RECORDS / 20];
    for (size_t i = 0; i < RECORDS / 20; i++)
        only[i] = 20 * i;
    struct rows_view view;
    const uint32_t end_before = index_end(world.index);
    put(20, 1, 1); // has no part in the view, which is older than what follows
    const struct rows_choice choice = {.only = only, .only_count = RECORDS / 20, .has_only = true};
    cr_assert(eq(int, rows_view_begin(world.rows, &choice, &view), STATUS_OK));
    rows_view_recount(&view);
    put(40, 1, 1);
    extend();
    for (uint32_t probes = 1; probes <= 16; probes *= 4) {
        const size_t count = search_in(&view, end_before, query, 400, probes, &hits);
        cr_expect(eq(sz, count, RECORDS / 20));
        for (size_t i = 0; i < count; i++)
            cr_expect(eq(u64, hits[i].neighbour.id % 20, 0));
        cr_expect(eq(sz, search_in(&view, end_before, query, 100, probes, &hits), 100));
    }
    rows_view_end(&view);
}

Test(probe, finds_what_a_view_has_though_the_index_has_dropped_it)
{
    uint64_t only[HOT / 2];
    for (size_t i = 0; i < HOT / 2; i++)
        only[i] = 2 * i;
    struct rows_view view;
    const uint32_t end_before = index_end(world.index);
    const struct rows_choice choice = {.only = only, .only_count = HOT / 2, .has_only = true};
    cr_assert(eq(int, rows_view_begin(world.rows, &choice, &view), STATUS_OK));
    rows_view_recount(&view);
    put(0, HOT, 1);
    extend();
    struct index_upkeep upkeep = {0};
    while (index_maintain(world.index, rows_live(world.rows), 1000, &upkeep))
        ;
    cr_expect(gt(u64, upkeep.rewrites + upkeep.merges, 0));

    float query[DIMENSION];
    const struct scan_hit *hits;
    query_of(0, 0, query);
    const size_t count = search_in(&view, end_before, query, 20, 4, &hits);
    cr_expect(eq(sz, count, 20));
    cr_expect(eq(u64, hits[0].neighbour.id, 0)); // the row that it was
    for (size_t i = 0; i < count; i++)
        cr_expect(lt(u32, hits[i].slot, HOT));
    cr_expect(lt(u64, world.counts.rows, 200)); // not all rows were compared
    rows_view_end(&view);
}

static atomic_bool is_over;
static atomic_int rounds;

// The hot records are the nearest of this query, in whichever version.
static void *search_on(void *context)
{
    (void)context;
    float query[DIMENSION];
    query_of(0, 0, query);
    while (!atomic_load(&is_over)) {
        const struct scan_hit *hits;
        bool seen[HOT] = {false};
        const size_t count = search(query, HOT, PROBES_MAX, &hits);
        cr_assert(eq(sz, count, HOT));
        for (size_t i = 0; i < count; i++) {
            cr_assert(lt(u64, hits[i].neighbour.id, HOT), "a record is missing");
            cr_assert(not(seen[hits[i].neighbour.id]), "a record is there twice");
            seen[hits[i].neighbour.id] = true;
        }
        atomic_fetch_add(&rounds, 1);
    }
    return NULL;
}

Test(probe, finds_every_record_once_while_all_are_replaced)
{
    struct index_upkeep upkeep = {0};
    pthread_t thread;
    cr_assert(eq(int, pthread_create(&thread, NULL, search_on, NULL), 0));
    for (uint32_t version = 1; version < 3000 || atomic_load(&rounds) < 20; version++) {
        put(version * 7 % HOT, 1, version);
        if (version % 40 == 0)
            extend();
        if (version % 100 == 0) // lists full of replaced rows are written anew
            (void)index_maintain(world.index, rows_live(world.rows), 100, &upkeep);
    }
    atomic_store(&is_over, true);
    pthread_join(thread, NULL);
    cr_expect(gt(u64, upkeep.rewrites + upkeep.splits, 0));
}
