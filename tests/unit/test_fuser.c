// SPDX-License-Identifier: Apache-2.0
// Goal: only neighbours that deserve it refine a query, the gate follows the best of
// them, and leaving one out is the same as never having found it.
//
// Method: hits by hand in four dimensions.

#include <math.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "coordinator/fuser.h"

static const float red[4] = {1, 0, 0, 0};
static const float nearly_red[4] = {0.99999f, 0.001f, 0, 0};
static const float green[4] = {0, 1, 0, 0};
static const float blue[4] = {0, 0, 1, 0};

static struct fuser_params usual(void)
{
    return (struct fuser_params){.fusion = {.mode = FUSION_WEIGHTED, .beta = 2, .temperature = 20},
                                 .dimension = 4,
                                 .k = 10,
                                 .gate_floor = 0,
                                 .gate_ceiling = 1};
}

static struct fuser_result select_from(const struct fuser_params *params,
                                       const struct fuser_hit *hits, size_t count)
{
    struct fuser_result result;
    fuser_select(params, hits, count, &result);
    return result;
}

Test(fuser, drops_what_lies_below_the_floors)
{
    const struct fuser_hit hits[] = {
        {1, 0.9f, 0.1f, red, NULL}, {2, 0.8f, 0.5f, green, NULL}, {3, 0.2f, 0.5f, blue, NULL}};
    struct fuser_params params = usual();
    params.min_similarity = 0.5f;
    params.min_pair_similarity = 0.3f;

    struct fuser_result result = select_from(&params, hits, 3);
    cr_assert(eq(u32, result.count, 1));
    cr_expect(eq(u32, result.kept[0], 1));
    cr_expect(eq(flt, result.weights[0], 1));
    cr_expect(epsilon_eq(dbl, result.gate, 0.8, 1e-6));
    cr_expect(strstr(result.reason, "1 dissimilar, 1 mismatched") != NULL);
}

Test(fuser, floors_of_zero_are_no_floors)
{
    const struct fuser_hit hits[] = {{1, -0.1f, -0.5f, red, NULL}, {2, -0.2f, -0.5f, green, NULL}};
    struct fuser_params params = usual();

    cr_expect(eq(u32, select_from(&params, hits, 2).count, 2));
}

Test(fuser, the_same_pair_twice_counts_once_but_two_pictures_of_a_thing_count_twice)
{
    const struct fuser_hit hits[] = {
        {1, 0.9f, 0, red, NULL},        // the first
        {2, 0.9f, 0, nearly_red, NULL}, // the same picture and text once more
        {3, 0.9f, 0, green, NULL},      // the same picture, another text
        {4, 0.8f, 0, red, NULL},        // another picture, the same text
    };
    struct fuser_params params = usual();

    struct fuser_result result = select_from(&params, hits, 4);
    cr_assert(eq(u32, result.count, 3));
    cr_expect(eq(u32, result.kept[0], 0));
    cr_expect(eq(u32, result.kept[1], 2));
    cr_expect(eq(u32, result.kept[2], 3));
    cr_expect(strstr(result.reason, "1 repeated") != NULL);
}

Test(fuser, dedup_leaves_out_what_is_like_a_better_one_on_the_searched_side)
{
    static const float near_green[4] = {0, 0.995f, 0.0999f, 0};
    const struct fuser_hit hits[] = {{1, 0.9f, 0, red, green},
                                     {2, 0.8f, 0, green, near_green}, // of the first
                                     {3, 0.7f, 0, blue, red},
                                     {4, 0.6f, 0, red, green}}; // the first once more
    struct fuser_params params = usual();
    params.k = 3;
    params.dedup = 0.99f;
    struct fuser_result result = select_from(&params, hits, 4);
    cr_assert(eq(u32, result.count, 2));
    cr_expect(eq(u32, result.kept[0], 0));
    cr_expect(eq(u32, result.kept[1], 2));
    cr_expect(strstr(result.reason, "2 alike") != NULL, "%s", result.reason);

    params.dedup = 0.999f; // now the second is different enough
    cr_expect(eq(u32, select_from(&params, hits, 4).count, 3));
    params.dedup = 0;
    cr_expect(eq(u32, select_from(&params, hits, 4).count, 3)); // k
}

Test(fuser, keeps_the_best_k)
{
    const struct fuser_hit hits[] = {
        {1, 0.9f, 0, red, NULL}, {2, 0.8f, 0, green, NULL}, {3, 0.7f, 0, blue, NULL}};
    struct fuser_params params = usual();
    params.k = 2;

    struct fuser_result result = select_from(&params, hits, 3);
    cr_assert(eq(u32, result.count, 2));
    cr_expect(epsilon_eq(flt, result.weights[0] + result.weights[1], 1, 1e-6f));
}

Test(fuser, gate_runs_from_the_floor_to_the_ceiling)
{
    struct fuser_params params = usual();
    params.gate_floor = 0.25;
    params.gate_ceiling = 0.75;
    const float scores[] = {0.125f, 0.25f, 0.5f, 0.75f, 0.95f};
    const double gates[] = {0, 0, 0.5, 1, 1};

    for (size_t i = 0; i < 5; i++) {
        const struct fuser_hit hit = {1, scores[i], 0, red, NULL};
        struct fuser_result result = select_from(&params, &hit, 1);
        cr_expect(epsilon_eq(dbl, result.gate, gates[i], 1e-6), "score %g", (double)scores[i]);
        cr_expect(eq(int, strstr(result.reason, "plain CLIP") != NULL, gates[i] <= 0));
    }
}

Test(fuser, without_neighbours_the_answer_is_plain_and_says_so)
{
    const struct fuser_hit hit = {1, 0.2f, 0, red, NULL};
    struct fuser_params params = usual();
    params.min_similarity = 0.5f;
    const float query[4] = {0, 0, 0.6f, 0.8f};
    float refined[4];

    struct fuser_result dropped = select_from(&params, &hit, 1);
    cr_expect(strstr(dropped.reason, "minimum similarity 0.500") != NULL);
    cr_assert(eq(int, fuser_refine(&params, query, &hit, &dropped, FUSER_ALL, refined), STATUS_OK));
    cr_expect(memcmp(query, refined, sizeof(query)) == 0);
    cr_expect(strstr(select_from(&params, NULL, 0).reason, "no neighbour was found") != NULL);
}

Test(fuser, fusion_none_is_plain_but_still_has_neighbours)
{
    const struct fuser_hit hits[] = {{1, 0.9f, 0, red, NULL}, {2, 0.8f, 0, green, NULL}};
    struct fuser_params params = usual();
    params.fusion.mode = FUSION_NONE;

    struct fuser_result result = select_from(&params, hits, 2);
    cr_expect(eq(u32, result.count, 2));
    cr_expect(eq(dbl, result.gate, 0));
}

Test(fuser, leaving_one_out_is_never_having_found_it)
{
    const struct fuser_hit all[] = {
        {1, 0.9f, 0, red, NULL}, {2, 0.8f, 0, green, NULL}, {3, 0.7f, 0, blue, NULL}};
    const float query[4] = {0, 0, 0.6f, 0.8f};
    struct fuser_params params = usual();
    struct fuser_result selection = select_from(&params, all, 3);

    for (uint32_t without = 0; without < 3; without++) {
        struct fuser_hit fewer[2];
        size_t count = 0;
        for (uint32_t i = 0; i < 3; i++)
            if (i != without)
                fewer[count++] = all[i];
        struct fuser_result never = select_from(&params, fewer, 2);
        float got[4];
        float want[4];
        cr_assert(eq(int, fuser_refine(&params, query, all, &selection, without, got), STATUS_OK));
        cr_assert(eq(int, fuser_refine(&params, query, fewer, &never, FUSER_ALL, want), STATUS_OK));
        cr_expect(memcmp(got, want, sizeof(got)) == 0, "without %u", without);
    }
}
