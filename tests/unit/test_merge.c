// SPDX-License-Identifier: Apache-2.0
// Goal: the coordinator returns the true best k of all shards, always the same
// ones, and one bad shard costs only its own neighbours.
//
// Method: three small hand-written shard replies in every order of arrival; random
// lists against a plain sort.

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <criterion/parameterized.h>

#include "coordinator/merge.h"

static const uint64_t ids_a[] = {11, 12};
static const float scores_a[] = {0.9f, 0.5f};
static const uint64_t ids_b[] = {21, 22};
static const float scores_b[] = {0.8f, 0.5f};
static const uint64_t ids_c[] = {31, 11};
static const float scores_c[] = {0.7f, 0.6f};

static const struct merge_list lists[] = {
    {.shard = 0, .ids = ids_a, .scores = scores_a, .count = 2},
    {.shard = 1, .ids = ids_b, .scores = scores_b, .count = 2},
    {.shard = 2, .ids = ids_c, .scores = scores_c, .count = 2},
};

static struct merge *new_merge(uint32_t k)
{
    struct merge *merge = NULL;
    cr_assert(eq(int, merge_create(k, &merge), STATUS_OK));
    return merge;
}

struct arrival {
    int order[3];
};

ParameterizedTestParameters(merge, same_result_for_every_order_of_arrival)
{
    static struct arrival all[] = {
        {{0, 1, 2}}, {{0, 2, 1}}, {{1, 0, 2}}, {{1, 2, 0}}, {{2, 0, 1}}, {{2, 1, 0}},
    };
    return cr_make_param_array(struct arrival, all, sizeof(all) / sizeof(all[0]));
}

ParameterizedTest(struct arrival *arrival, merge, same_result_for_every_order_of_arrival)
{
    struct merge *merge = new_merge(4);

    for (int i = 0; i < 3; i++)
        cr_assert(eq(int, merge_offer(merge, &lists[arrival->order[i]]), STATUS_OK));

    const struct merge_hit *best;
    cr_assert(eq(sz, merge_result(merge, &best), 4));
    cr_expect(eq(u64, best[0].neighbour.id, 11)); // on two shards: once, with the better score
    cr_expect(eq(u32, best[0].shard, 0));
    cr_expect(eq(u64, best[1].neighbour.id, 21));
    cr_expect(eq(u64, best[2].neighbour.id, 31));
    cr_expect(eq(u64, best[3].neighbour.id, 12)); // ties with 22: the lower id wins
    cr_expect(eq(u32, best[3].shard, 0));
    cr_expect(eq(u32, best[3].place, 1));

    merge_destroy(&merge);
    cr_expect(eq(ptr, merge, NULL));
}

Test(merge, names_the_lower_shard_of_equal_copies_in_any_order)
{
    const struct merge_list copy = {.shard = 7, .ids = ids_a, .scores = scores_a, .count = 2};
    for (int first = 0; first < 2; first++) {
        struct merge *merge = new_merge(2);
        cr_assert(eq(int, merge_offer(merge, first ? &copy : &lists[0]), STATUS_OK));
        cr_assert(eq(int, merge_offer(merge, first ? &lists[0] : &copy), STATUS_OK));

        const struct merge_hit *best;
        cr_assert(eq(sz, merge_result(merge, &best), 2));
        cr_expect(eq(u32, best[0].shard, 0));
        cr_expect(eq(u32, best[1].shard, 0));
        merge_destroy(&merge);
    }
}

Test(merge, refuses_a_bad_list_and_stays_usable)
{
    static const uint64_t ids[] = {1, 2};
    static const float rising[] = {0.1f, 0.2f};
    static const float not_a_number[] = {NAN, 0.1f};
    static const float nan_behind[] = {0.2f, NAN};
    static const uint64_t wrong_tie[] = {2, 1};
    static const float tie[] = {0.5f, 0.5f};
    const struct merge_list bad[] = {
        {.ids = ids, .scores = rising, .count = 2},
        {.ids = ids, .scores = not_a_number, .count = 1},
        {.ids = ids, .scores = not_a_number, .count = 2},
        {.ids = ids, .scores = nan_behind, .count = 2},
        {.ids = wrong_tie, .scores = tie, .count = 2},
        {.ids = ids, .scores = rising, .count = MERGE_K_MAX + 1},
    };
    struct merge *merge = new_merge(2);

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_expect(eq(int, merge_offer(merge, &bad[i]), STATUS_INVALID), "list %zu", i);
    cr_expect(eq(int, merge_offer(merge, &lists[0]), STATUS_OK));

    const struct merge_hit *best;
    cr_expect(eq(sz, merge_result(merge, &best), 2));
    merge_destroy(&merge);
}

Test(merge, refuses_a_k_out_of_range)
{
    struct merge *merge = NULL;
    cr_expect(eq(int, merge_create(0, &merge), STATUS_INVALID));
    cr_expect(eq(int, merge_create(MERGE_K_MAX + 1, &merge), STATUS_INVALID));
    cr_expect(eq(ptr, merge, NULL));
    merge_destroy(&merge); // NULL is allowed
}

Test(merge, takes_an_empty_list_and_starts_again_after_a_reset)
{
    struct merge *merge = new_merge(3);
    const struct merge_list none = {.shard = 3};
    const struct merge_hit *best;
    cr_expect(eq(int, merge_offer(merge, &none), STATUS_OK));
    cr_expect(eq(sz, merge_result(merge, &best), 0));
    cr_expect(eq(int, merge_offer(merge, &lists[1]), STATUS_OK));
    merge_reset(merge);
    cr_expect(eq(sz, merge_result(merge, &best), 0));
    cr_expect(eq(int, merge_offer(merge, &lists[2]), STATUS_OK));
    cr_expect(eq(sz, merge_result(merge, &best), 2));
    merge_destroy(&merge);
}

// --- random lists

#define SHARDS 5
#define LIST 40

// A small generator: the same numbers in every run.
static uint32_t random_u32(void)
{
    static uint64_t state = 20261124;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33);
}

static int rank_hits(const void *a, const void *b)
{
    const struct neighbour *left = a;
    const struct neighbour *right = b;
    return neighbour_ahead(*left, *right) ? -1 : neighbour_ahead(*right, *left);
}

Test(merge, agrees_with_sorting_everything)
{
    for (int round = 0; round < 200; round++) {
        static struct neighbour hits[SHARDS][LIST];
        static struct neighbour all[SHARDS * LIST];
        uint64_t ids[LIST];
        float scores[LIST];
        uint32_t k = 1 + (uint32_t)(random_u32() % 60);
        struct merge *merge = new_merge(k);

        for (int shard = 0; shard < SHARDS; shard++) {
            for (int i = 0; i < LIST; i++) // few scores: many ties
                hits[shard][i] = (struct neighbour){(uint64_t)(shard + SHARDS * i),
                                                    (float)(random_u32() % 16) / 16.0f};
            qsort(hits[shard], LIST, sizeof(hits[shard][0]), rank_hits);
            memcpy(&all[shard * LIST], hits[shard], sizeof(hits[shard]));
            for (int i = 0; i < LIST; i++) {
                ids[i] = hits[shard][i].id;
                scores[i] = hits[shard][i].score;
            }
            const struct merge_list list = {(uint32_t)shard, ids, scores, LIST};
            cr_assert(eq(int, merge_offer(merge, &list), STATUS_OK));
        }
        qsort(all, SHARDS * LIST, sizeof(all[0]), rank_hits);

        const struct merge_hit *best;
        cr_assert(eq(sz, merge_result(merge, &best), k));
        for (uint32_t i = 0; i < k; i++) {
            cr_assert(eq(u64, best[i].neighbour.id, all[i].id));
            cr_assert(eq(u64, hits[best[i].shard][best[i].place].id, all[i].id));
        }
        merge_destroy(&merge);
    }
}
