// SPDX-License-Identifier: Apache-2.0
// Goal: a head computes what fusion_config.h says, whatever its choices; the same bits in every
// batch, for every order of the neighbours and number of threads; a new head is its baseline, and
// gate 0 is the query.
//
// Method: seeded heads and unit vectors against double precision that makes keys and values of all
// tokens; normalised squared error below 1e-11 (single precision stays below 1e-12 here). Then
// bits.

#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/mem.h"
#include "shaders/models/fusion_head.h"
#include "tests/reference/reference.h"
#include "tests/reference/reference_fusion.h"
#include "tests/support/random_head.h"

#define SEED 20261129u
#define SPACE "test:24"
#define DIMENSION 24u
#define NEIGHBOURS_MAX 40u
#define ERROR_MAX 1e-11
#define CONFIGS 16
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct scene {
    uint32_t dimension;
    size_t count;
    float query[512];
    float rows[NEIGHBOURS_MAX][512];
    float scores[NEIGHBOURS_MAX];
    const float *payload[NEIGHBOURS_MAX];
    float pair_scores[NEIGHBOURS_MAX];
};

static struct scene *new_scene(uint32_t dimension, size_t count, uint64_t seed)
{
    struct scene *scene = calloc(1, sizeof(*scene));
    uint64_t state = seed;
    scene->dimension = dimension;
    scene->count = count;
    random_head_unit(&state, dimension, scene->query);
    for (size_t i = 0; i < count; i++) {
        random_head_unit(&state, dimension, scene->rows[i]);
        scene->scores[i] = 0.9f - 0.02f * (float)i;
        scene->payload[i] = scene->rows[i];
        scene->pair_scores[i] = (float)((i * 7) % 10) / 10.0f;
    }
    return scene;
}

static struct fusion_head_query query_of(const struct scene *scene, float *refined)
{
    return (struct fusion_head_query){
        .query = scene->query,
        .neighbours = {scene->count, scene->scores, scene->payload, scene->pair_scores},
        .refined = refined,
        .status = STATUS_INTERNAL,
    };
}

static struct fusion_head *new_head(const struct fusion_head_info *info, uint64_t seed,
                                    uint32_t threads)
{
    float *numbers[FUSION_HEAD_SIDES];
    struct fusion_head *head = NULL;
    struct reason why = {0};
    random_head_both(info, seed, numbers);
    cr_assert(eq(int, fusion_head_create(info, (const float *const *)numbers, threads, &head, &why),
                 STATUS_OK),
              "%s: %s", why.field, why.text);
    mem_free(numbers[0]);
    mem_free(numbers[1]);
    return head;
}

static void oracle(const struct fusion_head *head, enum modality side, const struct scene *scene,
                   double *refined)
{
    const struct fusion_config *config = &fusion_head_info(head)->config[side];
    uint32_t d = scene->dimension;
    double *numbers =
        reference_widen(fusion_head_numbers(head, side), fusion_layout_of(config).count);
    double *query = reference_widen(scene->query, d);
    double *scores = reference_widen(scene->scores, scene->count);
    double *pair_scores = reference_widen(scene->pair_scores, scene->count);
    double *payload = calloc(scene->count * d + 1, sizeof(*payload));
    for (size_t i = 0; i < scene->count * d; i++)
        payload[i] = (double)scene->rows[i / d][i % d];
    reference_fusion(&(struct reference_fusion){.config = config,
                                                .numbers = numbers,
                                                .query = query,
                                                .payload = payload,
                                                .scores = scores,
                                                .pair_scores = pair_scores,
                                                .count = scene->count},
                     refined);
    free(numbers);
    free(query);
    free(scores);
    free(pair_scores);
    free(payload);
}

static void expect_as_the_oracle(struct fusion_head *head, enum modality side, size_t count)
{
    uint32_t d = fusion_head_info(head)->dimension;
    struct scene *scene = new_scene(d, count, SEED + count);
    float got[512];
    double want[512];
    struct fusion_head_query query = query_of(scene, got);
    cr_assert(eq(int, fusion_head_refine(head, side, &query), STATUS_OK));
    oracle(head, side, scene, want);
    double error = reference_squared_error(got, want, d);
    cr_expect(lt(dbl, error, ERROR_MAX), "d %u, %zu neighbours", d, count);
    free(scene);
}

// Every choice, one away from the default and some together.
static size_t all_configs(uint32_t d, struct fusion_config out[CONFIGS])
{
    size_t count = 0;
    for (size_t i = 0; i < CONFIGS; i++)
        out[i] = random_head_info(d, SPACE).config[0];
    out[count++].heads = d % 4 == 0 ? 4 : 1;
    out[count++].norm = FUSION_NORM_POST;
    out[count++].norm = FUSION_NORM_NONE;
    out[count++].baseline = FUSION_BASELINE_MEAN;
    out[count++].baseline = FUSION_BASELINE_QUERY;
    out[count++].baseline = FUSION_BASELINE_NONE;
    out[count++].activation = FUSION_QUICK_GELU;
    out[count++].type_embedding = false;
    out[count].score_embedding = true;
    out[count++].score_bias = true;
    out[count++].mlp = 0;
    out[count].heads = 1;
    out[count].norm = FUSION_NORM_POST;
    out[count++].mlp = 0;
    out[count].norm = FUSION_NORM_NONE;
    out[count].type_embedding = false;
    out[count++].mlp = 7;
    out[count++].consensus = true;
    out[count].consensus = true;
    out[count++].block = false;
    out[count].consensus = true;
    out[count++].pairing = true;
    out[count].baseline = FUSION_BASELINE_MEAN;
    out[count++].block = false;
    cr_assert(eq(sz, count, CONFIGS));
    return count;
}

Test(fusion_head, computes_the_function_of_each_config)
{
    static const size_t counts[] = {1, 2, 10,
                                    NEIGHBOURS_MAX}; // the last: more than it was trained with
    static const uint32_t dimensions[] = {1, 7, DIMENSION, 128};
    for (size_t n = 0; n < COUNT(dimensions); n++) {
        struct fusion_config configs[CONFIGS];
        size_t config_count = all_configs(dimensions[n], configs);
        for (size_t c = 0; c < config_count; c++) {
            struct fusion_head_info info = random_head_info(dimensions[n], "test");
            info.config[MODALITY_IMAGE] = configs[c];
            info.config[MODALITY_TEXT] = configs[(c + 1) % config_count];
            // A norm of one number is its bias, and without a baseline that is ±1 by rounding only.
            if (dimensions[n] == 1)
                continue;
            struct fusion_head *head = new_head(&info, SEED + c, 1);
            for (size_t i = 0; i < COUNT(counts); i++) {
                expect_as_the_oracle(head, MODALITY_IMAGE, counts[i]);
                expect_as_the_oracle(head, MODALITY_TEXT, counts[i]);
            }
            fusion_head_close(&head);
            cr_assert(eq(ptr, head, NULL));
        }
    }
}

Test(fusion_head, a_query_has_the_same_bits_in_every_batch_and_with_more_threads)
{
    enum { QUERIES = 150 };
    struct fusion_head_info info = random_head_info(DIMENSION, SPACE);
    info.config[MODALITY_TEXT].score_bias = true;
    struct fusion_head *head = new_head(&info, SEED, 1);
    struct fusion_head *wide = new_head(&info, SEED, 3);
    struct scene *scenes[QUERIES];
    static float alone[QUERIES][DIMENSION];
    static float batch[QUERIES][DIMENSION];
    static float other[QUERIES][DIMENSION];
    static struct fusion_head_query queries[QUERIES];
    static struct fusion_head_query wides[QUERIES];

    for (size_t i = 0; i < QUERIES; i++) {
        scenes[i] = new_scene(DIMENSION, i % 13, SEED + i);
        queries[i] = query_of(scenes[i], alone[i]);
        cr_assert(eq(int, fusion_head_refine(head, MODALITY_TEXT, &queries[i]), STATUS_OK));
        queries[i].refined = batch[i];
        wides[QUERIES - 1 - i] = query_of(scenes[i], other[i]);
    }
    cr_assert(
        eq(int, fusion_head_refine_batch(head, MODALITY_TEXT, queries, QUERIES, NULL), STATUS_OK));
    cr_assert(
        eq(int, fusion_head_refine_batch(wide, MODALITY_TEXT, wides, QUERIES, NULL), STATUS_OK));
    cr_expect(memcmp(alone, batch, sizeof(alone)) == 0);
    cr_expect(memcmp(alone, other, sizeof(alone)) == 0);
    for (size_t i = 0; i < QUERIES; i++)
        free(scenes[i]);
    fusion_head_close(&head);
    fusion_head_close(&wide);
}

Test(fusion_head, the_order_of_the_neighbours_does_not_matter_to_the_last_bit)
{
    struct fusion_head_info info = random_head_info(DIMENSION, SPACE);
    info.config[MODALITY_IMAGE].score_embedding = true;
    struct fusion_head *head = new_head(&info, SEED, 1);
    struct scene *scene = new_scene(DIMENSION, 11, SEED);
    scene->scores[4] = scene->scores[3]; // ties go by their payload
    scene->scores[5] = scene->scores[3];
    float first[DIMENSION];
    float again[DIMENSION];
    struct fusion_head_query query = query_of(scene, first);
    cr_assert(eq(int, fusion_head_refine(head, MODALITY_IMAGE, &query), STATUS_OK));

    uint64_t state = SEED;
    query.refined = again;
    for (int round = 0; round < 50; round++) {
        for (size_t i = scene->count - 1; i > 0; i--) {
            size_t j = (size_t)((random_head_float(&state) + 1.0f) / 2.0f * (float)i);
            float score = scene->scores[i];
            const float *row = scene->payload[i];
            scene->scores[i] = scene->scores[j];
            scene->payload[i] = scene->payload[j];
            scene->scores[j] = score;
            scene->payload[j] = row;
        }
        cr_assert(eq(int, fusion_head_refine(head, MODALITY_IMAGE, &query), STATUS_OK));
        cr_assert(memcmp(first, again, sizeof(first)) == 0, "round %d, seed %u", round, SEED);
    }
    free(scene);
    fusion_head_close(&head);
}

Test(fusion_head, a_new_head_is_its_baseline_to_the_last_bit)
{
    static const enum fusion_norm norms[] = {FUSION_NORM_PRE, FUSION_NORM_NONE};
    for (size_t n = 0; n < 4; n++) {
        struct fusion_head_info info = random_head_info(DIMENSION, SPACE);
        struct fusion_config *config = &info.config[MODALITY_IMAGE];
        config->norm = norms[n % 2];
        config->baseline = n < 2 ? FUSION_BASELINE_WEIGHTED : FUSION_BASELINE_MEAN;
        float *numbers[FUSION_HEAD_SIDES];
        random_head_both(&info, SEED, numbers);
        fusion_config_begin(config, SEED, numbers[MODALITY_IMAGE]);
        struct fusion_head *head = NULL;
        cr_assert(eq(int, fusion_head_create(&info, (const float *const *)numbers, 1, &head, NULL),
                     STATUS_OK));

        struct scene *scene = new_scene(DIMENSION, 10, SEED);
        const struct fusion_neighbours neighbours = {10, scene->scores, scene->payload, NULL};
        const struct fusion_params plain = {.mode = n < 2 ? FUSION_WEIGHTED : FUSION_MEAN,
                                            .beta = FUSION_BETA_DEFAULT,
                                            .temperature = FUSION_TEMPERATURE_DEFAULT};
        const struct fusion_params trained = {
            .mode = FUSION_HEAD, .head = head, .modality = MODALITY_IMAGE};
        float want[DIMENSION];
        float got[DIMENSION];
        double shares[2][10];
        cr_assert(eq(int, fusion_refine(&plain, scene->query, DIMENSION, &neighbours, 1, want),
                     STATUS_OK));
        cr_assert(eq(int, fusion_refine(&trained, scene->query, DIMENSION, &neighbours, 1, got),
                     STATUS_OK));
        cr_expect(memcmp(got, want, sizeof(got)) == 0);
        fusion_weights(&plain, DIMENSION, &neighbours, shares[0]);
        fusion_weights(&trained, DIMENSION, &neighbours, shares[1]);
        cr_expect(memcmp(shares[0], shares[1], sizeof(shares[0])) == 0);
        free(scene);
        fusion_head_close(&head);
        mem_free(numbers[0]);
        mem_free(numbers[1]);
    }
}

Test(fusion_head, the_gate_moves_from_the_query_and_at_0_is_its_bits)
{
    struct fusion_head_info info = random_head_info(DIMENSION, SPACE);
    struct fusion_head *head = new_head(&info, SEED, 1);
    struct scene *scene = new_scene(DIMENSION, 10, SEED);
    const struct fusion_neighbours neighbours = {10, scene->scores, scene->payload, NULL};
    const struct fusion_neighbours nobody = {0};
    const struct fusion_params params = {
        .mode = FUSION_HEAD, .head = head, .modality = MODALITY_TEXT};
    float got[DIMENSION];
    double want[DIMENSION];

    scene->query[0] *= 1.0001f; // shows that nothing touched it
    cr_assert(
        eq(int, fusion_refine(&params, scene->query, DIMENSION, &neighbours, 0, got), STATUS_OK));
    cr_expect(memcmp(got, scene->query, sizeof(got)) == 0);
    cr_assert(eq(int, fusion_refine(&params, scene->query, DIMENSION, &nobody, 1, got), STATUS_OK));
    cr_expect(memcmp(got, scene->query, sizeof(got)) == 0);

    oracle(head, MODALITY_TEXT, scene, want);
    for (uint32_t i = 0; i < DIMENSION; i++)
        want[i] = (double)scene->query[i] + 0.25 * (want[i] - (double)scene->query[i]);
    reference_normalise(want, DIMENSION);
    cr_assert(eq(int, fusion_refine(&params, scene->query, DIMENSION, &neighbours, 0.25, got),
                 STATUS_OK));
    cr_expect(lt(dbl, reference_squared_error(got, want, DIMENSION), ERROR_MAX));
    free(scene);
    fusion_head_close(&head);
}

Test(fusion_head, a_query_that_cancels_out_fails_alone_and_changes_nothing)
{
    struct fusion_head_info info = random_head_info(DIMENSION, SPACE);
    struct fusion_config *config = &info.config[MODALITY_IMAGE];
    config->baseline = FUSION_BASELINE_MEAN;
    config->beta = 1;
    float *numbers[FUSION_HEAD_SIDES];
    random_head_both(&info, SEED, numbers);
    fusion_config_begin(config, SEED, numbers[MODALITY_IMAGE]);
    struct fusion_head *head = NULL;
    cr_assert(eq(int, fusion_head_create(&info, (const float *const *)numbers, 1, &head, NULL),
                 STATUS_OK));

    struct scene *scene = new_scene(DIMENSION, 1, SEED);
    struct scene *opposite = new_scene(DIMENSION, 1, SEED);
    for (uint32_t i = 0; i < DIMENSION; i++)
        opposite->rows[0][i] = -opposite->query[i];
    float refined[2][DIMENSION] = {{7}, {7}};
    struct fusion_head_query queries[] = {query_of(opposite, refined[0]),
                                          query_of(scene, refined[1])};
    cr_assert(eq(int, fusion_head_refine_batch(head, MODALITY_IMAGE, queries, 2, NULL), STATUS_OK));
    cr_expect(eq(int, queries[0].status, STATUS_INVALID));
    cr_expect(eq(flt, refined[0][0], 7));
    cr_expect(eq(int, queries[1].status, STATUS_OK));
    cr_expect(ne(flt, refined[1][0], 7));
    free(scene);
    free(opposite);
    fusion_head_close(&head);
    mem_free(numbers[0]);
    mem_free(numbers[1]);
}
