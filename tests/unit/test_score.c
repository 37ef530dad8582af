// SPDX-License-Identifier: Apache-2.0
// Goal: labels are ranked by their inner products, equal ones keep their order, and an effect is
// the margin's change.
//
// Method: vectors small enough to compute by hand; random ones against a plain loop.

#include <math.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "coordinator/score.h"

// A small generator: the same numbers in every run.
static uint32_t random_u32(void)
{
    static uint64_t state = 20261124;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33);
}

Test(score, a_dot_is_the_sum_of_products_for_every_length)
{
    float a[67];
    float b[67];
    for (uint32_t n = 1; n <= 67; n++) {
        double sum = 0;
        for (uint32_t i = 0; i < n; i++) {
            a[i] = (float)random_u32() / 2147483648.0f - 0.5f;
            b[i] = (float)random_u32() / 2147483648.0f - 0.5f;
            sum += (double)a[i] * (double)b[i];
        }
        cr_expect(epsilon_eq(dbl, score_dot(a, b, n), sum, 1e-6));
        cr_expect(eq(flt, score_dot(a, b, n), score_dot(b, a, n)));
    }
}

Test(score, ranks_by_score_and_keeps_the_order_of_equal_ones)
{
    const float query[] = {1, 0};
    const float values[] = {0, 1, 1, 0, 0.5f, 0, 1, 0, -1, 0};
    struct score_labels labels = {values, 5, 2};
    struct neighbour ranked[5];
    static const uint64_t order[] = {1, 3, 2, 0, 4};
    score_rank(query, &labels, ranked);
    for (int i = 0; i < 5; i++)
        cr_expect(eq(u64, ranked[i].id, order[i]));
    cr_expect(eq(flt, ranked[2].score, 0.5f));
}

Test(score, tells_a_gate_of_a_ranked_list)
{
    const struct neighbour ranked[] = {
        {.id = 4, .score = 0.5f}, {.id = 1, .score = 0.25f}, {.id = 0, .score = -0.5f}};
    const struct fusion_gate_list list = score_list(ranked, 3);
    cr_expect(eq(sz, list.count, 3));
    cr_expect(eq(sz, list.first, 4));
    cr_expect(eq(dbl, list.largest, 0.5));
    cr_expect(eq(dbl, list.next, 0.25));
    cr_expect(eq(dbl, list.sum, 0.25));
    cr_expect(eq(dbl, list.squares, 0.5625));
}

static const struct fuser_params fuser = {.fusion = {.mode = FUSION_MEAN, .beta = 2},
                                          .dimension = 3,
                                          .k = 2,
                                          .gate_floor = 0,
                                          .gate_ceiling = 1};

Test(score, the_neighbour_that_speaks_for_the_winner_has_the_positive_effect)
{
    const float query[] = {0.6f, 0.6f, 0.52915f};
    const float towards[] = {1, 0, 0};
    const float away[] = {0, 1, 0};
    const struct fuser_hit hits[] = {{1, 0.9f, 0, towards, NULL}, {2, 0.8f, 0, away, NULL}};
    const float values[] = {1, 0, 0, 0, 1, 0};
    struct score_labels labels = {values, 2, 3};
    struct fuser_result selection;
    float refined[3];
    float effects[2];
    fuser_select(&fuser, hits, 2, &selection);
    cr_assert(eq(u32, selection.count, 2));
    cr_assert(
        eq(int, fuser_refine(&fuser, query, hits, &selection, FUSER_ALL, refined), STATUS_OK));
    struct score_explain explain = {&fuser, query, refined, hits, &selection, 0, 0, 2};
    explain.margin = score_margin(explain.refined, &labels, 0);
    cr_assert(eq(int, score_effects(&explain, &labels, 0, effects), STATUS_OK));
    cr_expect(gt(flt, effects[0], 0.1f));
    cr_expect(lt(flt, effects[1], -0.1f));

    // One after the other they are the same.
    float again[2];
    for (uint32_t i = 0; i < 2; i++) {
        explain.from = i;
        explain.to = i + 1;
        cr_assert(eq(int, score_effects(&explain, &labels, 0, again), STATUS_OK));
        cr_expect(eq(flt, again[i], effects[i]));
    }
}

Test(score, with_one_label_the_margin_is_its_score)
{
    const float query[] = {1, 0, 0};
    const float payload[] = {0, 1, 0};
    const struct fuser_hit hits[] = {{1, 1, 0, payload, NULL}};
    const float values[] = {0, 1, 0};
    struct score_labels labels = {values, 1, 3};
    struct fuser_result selection;
    float refined[3];
    float effect = 0;
    fuser_select(&fuser, hits, 1, &selection);
    cr_assert(
        eq(int, fuser_refine(&fuser, query, hits, &selection, FUSER_ALL, refined), STATUS_OK));
    struct score_explain explain = {&fuser, query, refined, hits, &selection, 0, 0, 1};
    explain.margin = score_margin(explain.refined, &labels, 0);
    cr_assert(eq(int, score_effects(&explain, &labels, 0, &effect), STATUS_OK));
    // Without its only neighbour the query is what it was, and scores 0.
    cr_expect(epsilon_eq(flt, effect, 2 / sqrtf(5), 1e-6f));
}
