// SPDX-License-Identifier: Apache-2.0
// Goal: the index finds nearly what an exact search finds, has the same answer on every instruction
// set and with every number of threads, and takes rows in while others search.
//
// Method: clustered vectors from a fixed seed against a sort of all products.

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/half.h"
#include "proto/base/thread.h"
#include "shard_node/distance.h"
#include "shard_node/index/blocks.h"
#include "tests/unit/index_fixture.h"

#define TREE_ALL 2000 // more lists than there are

static int by_score(const void *first, const void *second)
{
    const struct scan_hit *a = first;
    const struct scan_hit *b = second;
    return neighbour_ahead(a->neighbour, b->neighbour) ? -1 : 1;
}

// The true best of the slots below `end` that are live.
static void find_exactly(const float *query, uint32_t end, const uint64_t *live,
                         struct scan_hit *best)
{
    static struct scan_hit all[ROWS];
    size_t count = 0;
    for (uint32_t i = 0; i < end; i++) {
        if (live && !(live[i / 64] >> (i % 64) & 1))
            continue;
        const struct distance_block block = {.queries = query,
                                             .query_count = 1,
                                             .rows = world.rows + (size_t)i * DIMENSION,
                                             .row_count = 1,
                                             .dimension = DIMENSION};
        all[count] = (struct scan_hit){.neighbour = {.id = world.slots[i].id}, .slot = i};
        distance_scores(CPU_SCALAR, &block, &all[count++].neighbour.score);
    }
    qsort(all, count, sizeof(all[0]), by_score);
    memcpy(best, all, K * sizeof(all[0]));
}

static double recall(struct index *index, uint32_t probes, uint32_t end, const uint64_t *live)
{
    struct index_scratch *scratch = index_scratch_create(world.epoch);
    size_t found = 0;
    for (size_t q = 0; q < QUERIES; q++) {
        const struct index_query query = {
            .query = world.queries + q * DIMENSION, .k = K, .probes = probes, .live = shared(live)};
        struct scan_hit hits[K];
        struct scan_hit best[K];
        find_exactly(query.query, end, live, best);
        const size_t count = index_search(index, scratch, &query, hits, NULL);
        for (size_t i = 0; i < count; i++) {
            for (size_t j = 0; j < K; j++) {
                if (hits[i].slot != best[j].slot)
                    continue;
                found++;
                // The last step is the exact one.
                cr_expect(eq(flt, hits[i].neighbour.score, best[j].neighbour.score));
            }
        }
    }
    index_scratch_destroy(&scratch);
    return (double)found / (QUERIES * K);
}

Test(index, finds_what_an_exact_search_finds)
{
    open_world();
    const struct index_params params = params_of(cpu_best(), 1);
    struct index *index = build(&params);
    struct index_about about;
    index_describe(index, &about);
    cr_expect(eq(u64, about.vectors, ROWS));
    cr_expect(about.lists >= ROWS / 64 / 2 && about.lists <= ROWS / 64 * 2, "%u", about.lists);
    const double few = recall(index, 4, ROWS, NULL);
    const double many = recall(index, 32, ROWS, NULL);
    const double all = recall(index, about.lists, ROWS, NULL);
    cr_expect(few > 0.85, "4 lists: %g", few);
    cr_expect(many > 0.98, "32 lists: %g", many);
    cr_expect(all > 0.985, "all lists: %g", all);
    index_destroy(&index);
    close_world();
}

Test(index, knows_how_many_lists_a_recall_takes)
{
    open_world();
    const struct index_params params = params_of(cpu_best(), 2);
    struct index *index = build(&params);
    cr_assert(eq(int, index_calibrate(index, NULL), STATUS_OK));
    uint32_t before = 1;
    const float targets[] = {0.5F, 0.8F, 0.9F, 0.95F, 0.97F};
    for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
        const uint32_t probes = index_probes(index, targets[i], 10);
        cr_expect(probes >= before, "%g: %u probes, less took %u", (double)targets[i], probes,
                  before);
        // The queries are as the rows are; 60 of them say it to within a few points.
        const double found = recall(index, probes, ROWS, NULL);
        cr_expect(found > (double)targets[i] - 0.04, "%g: %u probes find %g", (double)targets[i],
                  probes, found);
        // The nearest of the ten lie in nearer lists.
        cr_expect(le(u32, index_probes(index, targets[i], 1), index_probes(index, targets[i], 3)));
        cr_expect(le(u32, index_probes(index, targets[i], 3), probes));
        before = probes;
    }
    index_destroy(&index);
    close_world();
}

Test(index, says_what_it_did)
{
    open_world();
    const struct index_params params = params_of(cpu_best(), 1);
    struct index *index = build(&params);
    struct index_scratch *scratch = index_scratch_create(world.epoch);
    struct index_about about;
    index_describe(index, &about);
    struct scan_hit hits[K];
    struct index_counts counts;
    const struct index_query query = {.query = world.queries, .k = K, .probes = about.lists};
    cr_expect(eq(sz, index_search(index, scratch, &query, hits, &counts), K));
    cr_expect(eq(u32, counts.probes, about.lists));
    cr_expect(eq(u64, counts.codes, ROWS));
    cr_expect(counts.refined >= counts.rows && counts.rows >= K);
    cr_expect(eq(u32, counts.end, ROWS));
    index_scratch_destroy(&scratch);
    index_destroy(&index);
    close_world();
}

Test(index, is_the_same_with_every_instruction_set_and_number_of_threads)
{
    open_world();
    const struct index_params scalar = params_of(CPU_SCALAR, 1);
    struct index *want = build(&scalar);
    for (int level = CPU_SCALAR; level < CPU_LEVELS; level++) {
        if (!cpu_has((enum cpu_level)level))
            continue;
        const struct index_params params = params_of((enum cpu_level)level, 3);
        struct index *index = build(&params);
        expect_same_answers(want, index);
        index_destroy(&index);
    }
    index_destroy(&want);
    close_world();
}

// Rows that come one after the other end up where those end up that come at once.
Test(index, taking_rows_in_by_and_by_makes_the_same_index)
{
    open_world();
    const struct index_params params = params_of(cpu_best(), 1);
    struct index *at_once = build(&params);
    struct index *slowly = train(&params);
    for (uint32_t end = 0; end < ROWS;) {
        end += 1 + (uint32_t)seed_below(&seed, 100);
        cr_assert(eq(int, index_extend(slowly, end < ROWS ? end : ROWS, NULL, NULL), STATUS_OK));
    }
    expect_same_answers(at_once, slowly);
    index_destroy(&at_once);
    index_destroy(&slowly);
    close_world();
}

Test(index, finds_only_what_is_live)
{
    open_world();
    const struct index_params params = params_of(cpu_best(), 1);
    struct index *index = build(&params);
    uint64_t live[ROWS / 64 + 1];
    for (size_t i = 0; i < sizeof(live) / sizeof(live[0]); i++)
        live[i] = seed_next(&seed);
    const double found = recall(index, 40, ROWS, live);
    cr_expect(found > 0.97, "%g", found);
    memset(live, 0, sizeof(live));
    struct index_scratch *scratch = index_scratch_create(world.epoch);
    struct scan_hit hits[K];
    const struct index_query query = {
        .query = world.queries, .k = K, .probes = 40, .live = shared(live)};
    cr_expect(eq(sz, index_search(index, scratch, &query, hits, NULL), 0));
    index_scratch_destroy(&scratch);
    index_destroy(&index);
    close_world();
}

static atomic_bool is_over;
static atomic_uint searches;
static atomic_uint wrong;

static void search_on(struct thread *self, void *context)
{
    struct index *index = context;
    struct index_scratch *scratch = index_scratch_create(world.epoch);
    thread_ready(self, STATUS_OK);
    for (size_t q = 0; !atomic_load(&is_over); q = (q + 1) % QUERIES) {
        struct scan_hit hits[K];
        struct index_counts counts;
        const uint32_t before = index_end(index);
        const struct index_query query = {
            .query = world.queries + q * DIMENSION, .k = K, .probes = 8};
        const size_t count = index_search(index, scratch, &query, hits, &counts);
        bool is_right = counts.end >= before;
        for (size_t i = 0; i < count; i++) {
            is_right = is_right && hits[i].slot < counts.end;
            for (size_t j = 0; j < i; j++)
                is_right = is_right && hits[i].slot != hits[j].slot;
        }
        if (!is_right)
            atomic_fetch_add(&wrong, 1);
        atomic_fetch_add(&searches, 1);
    }
    index_scratch_destroy(&scratch);
}

// Asks all lists for rows with an even number, each by itself.
static void find_itself_on(struct thread *self, void *context)
{
    struct index *index = context;
    struct index_scratch *scratch = index_scratch_create(world.epoch);
    thread_ready(self, STATUS_OK);
    for (uint32_t slot = 0; !atomic_load(&is_over); slot = (slot + 2) % (ROWS / 2)) {
        float query[DIMENSION];
        struct scan_hit hits[K];
        uint64_t only[ROWS / 64 + 1] = {0};
        only[slot / 64] = 1ull << (slot % 64);
        half_to_floats(world.rows + (size_t)slot * DIMENSION, query, DIMENSION);
        const struct index_query asked = {
            .query = query, .k = K, .probes = TREE_ALL, .live = shared(only)};
        const size_t count = index_search(index, scratch, &asked, hits, NULL);
        if (count != 1 || hits[0].slot != slot)
            atomic_fetch_add(&wrong, 1);
        atomic_fetch_add(&searches, 1);
    }
    index_scratch_destroy(&scratch);
}

Test(index, takes_rows_in_while_others_search)
{
    open_world();
    const struct index_params params = params_of(cpu_best(), 1);
    struct index *index = train(&params);
    struct thread *readers[2];
    for (int i = 0; i < 2; i++)
        cr_assert(eq(int, thread_start("reader", search_on, index, &readers[i]), STATUS_OK));
    for (uint32_t end = 0; end < ROWS;) {
        end += 1 + (uint32_t)seed_below(&seed, 60);
        cr_assert(eq(int, index_extend(index, end < ROWS ? end : ROWS, NULL, NULL), STATUS_OK));
    }
    atomic_store(&is_over, true);
    for (int i = 0; i < 2; i++)
        thread_join(&readers[i]);
    cr_expect(atomic_load(&searches) > 0);
    cr_expect(eq(u32, atomic_load(&wrong), 0));
    const double found = recall(index, 32, ROWS, NULL);
    cr_expect(found > 0.98, "%g", found);
    index_destroy(&index);
    close_world();
}

// Every live slot is in the index exactly once.
static void expect_complete(struct index *index, const uint64_t *live)
{
    struct index_scratch *scratch = index_scratch_create(world.epoch);
    struct index_about about;
    index_describe(index, &about);
    uint64_t only[ROWS / 64 + 1];
    for (uint32_t slot = 0; slot < ROWS; slot++) {
        if (!(live[slot / 64] >> (slot % 64) & 1))
            continue;
        memset(only, 0, sizeof(only));
        only[slot / 64] = 1ull << (slot % 64);
        struct scan_hit hits[K];
        const struct index_query query = {
            .query = world.queries, .k = K, .probes = about.lists, .live = shared(only)};
        struct index_counts counts;
        const size_t count = index_search(index, scratch, &query, hits, &counts);
        cr_assert(eq(sz, count, 1), "slot %u", slot);
        cr_assert(eq(u32, counts.refined, 1), "slot %u stands in %u places", slot, counts.refined);
    }
    index_scratch_destroy(&scratch);
}

// The second half of the rows is all of a few clusters; then half of everything is deleted.
Test(index, upkeep_keeps_recall_and_loses_nothing)
{
    open_world();
    for (size_t i = ROWS / 2; i < ROWS; i++) {
        float vector[DIMENSION];
        half_to_floats(world.rows + (i % 5) * DIMENSION, vector, DIMENSION);
        for (size_t d = 0; d < DIMENSION; d++)
            vector[d] *= 6; // as long as the centres that make_vector() is used with
        make_vector(vector, vector);
        half_from_floats(vector, world.rows + i * DIMENSION, DIMENSION);
    }
    for (size_t q = 0; q < QUERIES; q += 2)
        half_to_floats(world.rows + (ROWS - 1 - q) * DIMENSION, world.queries + q * DIMENSION,
                       DIMENSION);
    const struct index_params params = params_of(cpu_best(), 1);
    static uint32_t sample[ROWS / 2];
    for (uint32_t i = 0; i < ROWS / 2; i++)
        sample[i] = i;
    struct index *index = NULL;
    cr_assert(eq(int, index_train(&params, sample, ROWS / 2, ROWS / 2, &index, NULL), STATUS_OK));
    uint64_t live[ROWS / 64 + 1];
    memset(live, 0xff, sizeof(live));
    struct index_upkeep upkeep = {0};
    for (uint32_t end = 0; end < ROWS;) {
        end += 1 + (uint32_t)seed_below(&seed, 200);
        cr_assert(eq(int, index_extend(index, end < ROWS ? end : ROWS, NULL, NULL), STATUS_OK));
        while (index_maintain(index, shared(live), 40, &upkeep))
            ;
    }
    cr_expect(upkeep.splits > 20, "%lu", (unsigned long)upkeep.splits);
    cr_expect(upkeep.moves > 0);
    const double grown = recall(index, 16, ROWS, NULL);
    cr_expect(grown > 0.9, "%g", grown);
    expect_complete(index, live);

    for (size_t i = 0; i < sizeof(live) / sizeof(live[0]); i++)
        live[i] = seed_next(&seed);
    while (index_maintain(index, shared(live), 10000, &upkeep))
        ;
    cr_expect(upkeep.rewrites > 0);
    const double shrunk = recall(index, 16, ROWS, live);
    cr_expect(shrunk > 0.9, "%g", shrunk);
    expect_complete(index, live);
    struct index_about about;
    index_describe(index, &about);
    cr_expect(about.vectors < ROWS * 3 / 4, "%lu", (unsigned long)about.vectors);
    index_destroy(&index);
    close_world();
}

#define MANY 100000

static void add_rows(void)
{
    world.rows = realloc(world.rows, (size_t)MANY * DIMENSION * sizeof(uint16_t));
    world.slots = realloc(world.slots, MANY * sizeof(struct rows_slot));
    for (size_t i = ROWS; i < MANY; i++) {
        float vector[DIMENSION];
        half_to_floats(world.rows + (i % ROWS) * DIMENSION, vector, DIMENSION);
        for (size_t d = 0; d < DIMENSION; d++)
            vector[d] *= 6; // as long as the centres that make_vector() is used with
        make_vector(vector, vector);
        half_from_floats(vector, world.rows + i * DIMENSION, DIMENSION);
        world.slots[i].id = seed_next(&seed);
    }
}

static struct index *build_many(uint32_t records, const uint64_t *live)
{
    struct index_params params = params_of(cpu_best(), 1);
    params.list_vectors = 256;
    params.extra_bits = 7;
    static uint32_t sample[ROWS];
    for (uint32_t i = 0; i < ROWS; i++)
        sample[i] = i;
    struct index *index = NULL;
    cr_assert(eq(int, index_train(&params, sample, ROWS, records, &index, NULL), STATUS_OK));
    cr_assert(eq(int, index_extend(index, MANY, live ? shared(live) : NULL, NULL), STATUS_OK));
    return index;
}

// Rows that are live find themselves.
static void expect_themselves(struct index *index, const uint64_t *live)
{
    struct index_scratch *scratch = index_scratch_create(world.epoch);
    uint32_t found = 0;
    uint32_t asked = 0;
    for (uint32_t slot = 0; slot < MANY; slot += 97) {
        if (!(live[slot / 64] >> (slot % 64) & 1))
            continue;
        float row[DIMENSION];
        half_to_floats(world.rows + (size_t)slot * DIMENSION, row, DIMENSION);
        const struct index_query query = {.query = row, .k = 1, .probes = 8, .live = shared(live)};
        struct scan_hit hit = {0};
        asked++;
        found += index_search(index, scratch, &query, &hit, NULL) == 1 && hit.slot == slot;
    }
    cr_expect(found > asked * 99 / 100, "%u of %u", found, asked);
    index_scratch_destroy(&scratch);
}

Test(index, upkeep_gives_back_the_memory_of_what_was_deleted)
{
    open_world();
    add_rows();
    struct index *index = build_many(MANY, NULL);
    struct index_about full;
    index_describe(index, &full);
    static uint64_t live[MANY / 64 + 1];
    uint32_t count = 0;
    for (uint32_t slot = 0; slot < MANY; slot++) {
        const uint64_t bit = seed_below(&seed, 2);
        live[slot / 64] |= bit << (slot % 64);
        count += (uint32_t)bit;
    }
    struct index_upkeep upkeep = {0};
    while (index_maintain(index, shared(live), full.lists, &upkeep))
        ;
    struct index *anew = build_many(count, live);
    struct index_about shrunk;
    struct index_about fresh;
    index_describe(index, &shrunk);
    index_describe(anew, &fresh);
    cr_expect(eq(u64, fresh.vectors, count));
    // There is something to give back.
    cr_expect(full.bytes > fresh.bytes + 3 * BLOCKS_SLAB_BYTES);
    cr_expect(le(u64, shrunk.bytes, fresh.bytes + fresh.bytes / 10 + BLOCKS_SLAB_BYTES));
    expect_themselves(index, live);
    index_destroy(&anew);
    index_destroy(&index);
    close_world();
}

static void keep_up(struct index *index, const uint64_t *live, struct index_upkeep *upkeep)
{
    for (int i = 0; i < 40; i++)
        (void)index_maintain(index, shared(live), 20, upkeep);
}

// As before, with readers; each must find a row that is surely there.
Test(index, upkeep_goes_on_while_others_search)
{
    open_world();
    struct index_params params = params_of(cpu_best(), 1);
    struct index *index = train(&params);
    cr_assert(eq(int, index_extend(index, ROWS / 2, NULL, NULL), STATUS_OK));
    struct thread *readers[2];
    for (int i = 0; i < 2; i++)
        cr_assert(eq(int, thread_start("reader", find_itself_on, index, &readers[i]), STATUS_OK));
    static uint64_t live[ROWS / 64 + 1];
    memset(live, 0xff, sizeof(live));
    struct index_upkeep upkeep = {0};
    for (uint32_t end = ROWS / 2; end < ROWS; end += 100) {
        cr_assert(eq(int, index_extend(index, end, NULL, NULL), STATUS_OK));
        for (uint32_t dead = 0; dead < 300; dead++) {
            // Never those that the readers look for.
            const uint32_t slot = (uint32_t)seed_below(&seed, end) | 1;
            live[slot / 64] &= ~(1ull << (slot % 64));
        }
        keep_up(index, live, &upkeep);
    }
    atomic_store(&is_over, true);
    for (int i = 0; i < 2; i++)
        thread_join(&readers[i]);
    cr_expect(upkeep.splits + upkeep.merges + upkeep.rewrites > 50);
    cr_expect(atomic_load(&searches) > 0);
    cr_expect(eq(u32, atomic_load(&wrong), 0));
    index_destroy(&index);
    close_world();
}

Test(index, refuses_to_learn_from_too_little)
{
    open_world();
    const struct index_params params = params_of(cpu_best(), 1);
    uint32_t sample[INDEX_RECORDS_MIN - 1] = {0};
    struct index *index = NULL;
    struct reason why = {0};
    cr_expect(eq(int, index_train(&params, sample, INDEX_RECORDS_MIN - 1, 100, &index, &why),
                 STATUS_INVALID));
    cr_expect(strcmp(why.field, "sample") == 0);
    cr_expect(index == NULL);
    close_world();
}

// Many equal rows leave clusters without points and distances of nothing.
Test(index, equal_rows_are_no_trouble)
{
    open_world();
    for (size_t i = 1; i < ROWS; i++)
        memcpy(world.rows + i * DIMENSION, world.rows, DIMENSION * sizeof(uint16_t));
    const struct index_params params = params_of(cpu_best(), 1);
    struct index *index = build(&params);
    struct index_scratch *scratch = index_scratch_create(world.epoch);
    struct scan_hit hits[K];
    const struct index_query query = {.query = world.queries, .k = K, .probes = 8};
    cr_expect(eq(sz, index_search(index, scratch, &query, hits, NULL), K));
    index_scratch_destroy(&scratch);
    index_destroy(&index);
    close_world();
}

// A list of many equal rows cannot be split, and is not tried again and again.
Test(index, upkeep_comes_to_rest_with_equal_rows)
{
    open_world();
    for (size_t i = ROWS - 1000; i < ROWS; i++)
        memcpy(world.rows + i * DIMENSION, world.rows, DIMENSION * sizeof(uint16_t));
    const struct index_params params = params_of(cpu_best(), 1);
    struct index *index = build(&params);
    struct index_upkeep upkeep = {0};
    int turns = 0;
    for (int quiet = 0; quiet < 20 && turns < 3000; turns++)
        quiet = index_maintain(index, NULL, 64, &upkeep) ? 0 : quiet + 1;
    cr_expect(lt(i32, turns, 1500), "%lu splits, %lu merges in %d turns",
              (unsigned long)upkeep.splits, (unsigned long)upkeep.merges, turns);
    index_destroy(&index);
    close_world();
}
