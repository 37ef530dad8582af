// SPDX-License-Identifier: Apache-2.0
// Goal: mean and weighted fusion are the formulas of shaders/models/fusion.h, gate 0 and
// mode none give the query's own bits, and nothing overflows.
//
// Method: random unit vectors against the formulas written down once more in long double, in
// another order; then the edges by hand. Tolerance 1e-7: one rounding to float near 1.

#include <math.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "shaders/models/fusion.h"

#define DIMENSION 96
#define NEIGHBOURS 10
#define SEED 20260211u

struct scene {
    float query[DIMENSION];
    float rows[NEIGHBOURS][DIMENSION];
    float scores[NEIGHBOURS];
    const float *payload[NEIGHBOURS];
};

static uint32_t random_state = SEED;

static float random_float(void)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (float)(random_state >> 8) / 8388608.0f - 1.0f;
}

static void random_unit(float *row)
{
    double squares = 0;
    for (int i = 0; i < DIMENSION; i++) {
        row[i] = random_float();
        squares += (double)row[i] * (double)row[i];
    }
    for (int i = 0; i < DIMENSION; i++)
        row[i] = (float)((double)row[i] / sqrt(squares));
}

static struct scene *new_scene(void)
{
    static struct scene scene;
    random_unit(scene.query);
    for (int n = 0; n < NEIGHBOURS; n++) {
        random_unit(scene.rows[n]);
        scene.scores[n] = 0.9f - 0.05f * (float)n;
        scene.payload[n] = scene.rows[n];
    }
    return &scene;
}

static struct fusion_neighbours all_of(const struct scene *scene)
{
    return (struct fusion_neighbours){NEIGHBOURS, scene->scores, scene->payload, NULL};
}

static void oracle_unit(long double *values)
{
    long double squares = 0;
    for (int i = DIMENSION; i-- > 0;)
        squares += values[i] * values[i];
    for (int i = 0; i < DIMENSION; i++)
        values[i] /= sqrtl(squares);
}

static void oracle(const struct scene *scene, const struct fusion_params *params, long double gate,
                   long double *result)
{
    long double sum = 0;
    long double weight[NEIGHBOURS];
    for (int n = NEIGHBOURS; n-- > 0;) {
        weight[n] = params->mode == FUSION_MEAN
                        ? 1
                        : expl((long double)params->temperature * (long double)scene->scores[n]);
        sum += weight[n];
    }
    for (int i = 0; i < DIMENSION; i++) {
        result[i] = (long double)scene->query[i];
        for (int n = NEIGHBOURS; n-- > 0;)
            result[i] +=
                (long double)params->beta * weight[n] / sum * (long double)scene->rows[n][i];
    }
    oracle_unit(result);
    for (int i = 0; i < DIMENSION; i++)
        result[i] =
            (long double)scene->query[i] + gate * (result[i] - (long double)scene->query[i]);
    oracle_unit(result);
}

static void expect_as_the_oracle(const struct fusion_params *params, double gate)
{
    for (int round = 0; round < 20; round++) {
        struct scene *scene = new_scene();
        struct fusion_neighbours neighbours = all_of(scene);
        float got[DIMENSION];
        long double want[DIMENSION];
        cr_assert(eq(int, fusion_refine(params, scene->query, DIMENSION, &neighbours, gate, got),
                     STATUS_OK));
        oracle(scene, params, (long double)gate, want);
        for (int i = 0; i < DIMENSION; i++)
            cr_assert(epsilon_eq(dbl, got[i], (double)want[i], 1e-7), "seed %u", SEED);
    }
}

Test(fusion, mean_and_weighted_are_their_formulas)
{
    const struct fusion_params mean = {.mode = FUSION_MEAN, .beta = 2, .temperature = 20};
    const struct fusion_params weighted = {.mode = FUSION_WEIGHTED, .beta = 2, .temperature = 20};
    const struct fusion_params flat = {.mode = FUSION_WEIGHTED, .beta = 0.5, .temperature = 0};

    for (int step = 1; step <= 4; step++) {
        expect_as_the_oracle(&mean, step / 4.0);
        expect_as_the_oracle(&weighted, step / 4.0);
        expect_as_the_oracle(&flat, step / 4.0);
    }
}

Test(fusion, nothing_to_fuse_gives_the_bits_of_the_query)
{
    struct scene *scene = new_scene();
    struct fusion_neighbours neighbours = all_of(scene);
    const struct fusion_neighbours nobody = {0};
    const struct fusion_params none = {.mode = FUSION_NONE, .beta = 2, .temperature = 20};
    const struct fusion_params weighted = {.mode = FUSION_WEIGHTED, .beta = 2, .temperature = 20};
    float got[3][DIMENSION];

    // A query that is not quite of unit length shows that nothing touched it.
    scene->query[0] *= 1.0001f;
    cr_assert(
        eq(int, fusion_refine(&none, scene->query, DIMENSION, &neighbours, 1, got[0]), STATUS_OK));
    cr_assert(eq(int, fusion_refine(&weighted, scene->query, DIMENSION, &neighbours, 0, got[1]),
                 STATUS_OK));
    cr_assert(
        eq(int, fusion_refine(&weighted, scene->query, DIMENSION, &nobody, 1, got[2]), STATUS_OK));
    for (int i = 0; i < 3; i++)
        cr_expect(memcmp(got[i], scene->query, sizeof(scene->query)) == 0);
}

Test(fusion, weights_sum_to_one_at_any_temperature)
{
    const double temperatures[] = {0, 1, 20, 1e6};
    const float scores[] = {0.99f, 0.99f, 0.5f, -1.0f};

    for (size_t t = 0; t < 4; t++) {
        const struct fusion_params params = {
            .mode = FUSION_WEIGHTED, .beta = 2, .temperature = temperatures[t]};
        double weights[4];
        fusion_weights(&params, 2, &(struct fusion_neighbours){4, scores, NULL, NULL}, weights);
        cr_expect(epsilon_eq(dbl, weights[0] + weights[1] + weights[2] + weights[3], 1, 1e-12));
        cr_expect(eq(dbl, weights[0], weights[1]));
        cr_expect(ge(dbl, weights[0], weights[2]));
    }
}

Test(fusion, payload_that_cancels_the_query_is_an_error_and_changes_nothing)
{
    const float query[] = {1, 0};
    const float opposite[] = {-1, 0};
    const float *payload[] = {opposite};
    const float scores[] = {0.5f};
    const struct fusion_neighbours neighbours = {1, scores, payload, NULL};
    const struct fusion_params params = {.mode = FUSION_MEAN, .beta = 1, .temperature = 0};
    float result[] = {7, 7};

    cr_expect(eq(int, fusion_refine(&params, query, 2, &neighbours, 1, result), STATUS_INVALID));
    cr_expect(eq(flt, result[0], 7));
    cr_expect(eq(flt, result[1], 7));
}

Test(fusion, query_and_result_may_be_one_array)
{
    struct scene *scene = new_scene();
    struct fusion_neighbours neighbours = all_of(scene);
    const struct fusion_params params = {.mode = FUSION_WEIGHTED, .beta = 2, .temperature = 20};
    float apart[DIMENSION];

    cr_assert(eq(int, fusion_refine(&params, scene->query, DIMENSION, &neighbours, 0.5, apart),
                 STATUS_OK));
    cr_assert(eq(int,
                 fusion_refine(&params, scene->query, DIMENSION, &neighbours, 0.5, scene->query),
                 STATUS_OK));
    cr_expect(memcmp(apart, scene->query, sizeof(apart)) == 0);
}
