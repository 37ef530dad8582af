// SPDX-License-Identifier: Apache-2.0
// Goal: the gate's features, its value and the anchored step are the formulas of fusion_gate.h; gate 0 and no
// neighbours give the query's bits; constants come back as they were written, and wrong ones are named.
//
// Method: random unit vectors against the formulas written once more in long double and in another order.
// Tolerance 1e-6 of features: scores and payload are the same floats, so what differs is rounding in double;
// 1e-7 of embeddings: one rounding to float near 1.

#include <math.h>
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "shaders/models/fusion_gate.h"

#define DIMENSION 24
#define NEIGHBOURS 7
#define SEED 20261129u

struct scene {
    float query[DIMENSION];
    float refined[DIMENSION];
    float rows[NEIGHBOURS][DIMENSION];
    float scores[NEIGHBOURS];
    const float *payload[NEIGHBOURS];
};

static uint32_t random_state = SEED;

static void random_unit(float *row)
{
    double squares = 0;
    for (int i = 0; i < DIMENSION; i++) {
        random_state = random_state * 1664525u + 1013904223u;
        row[i] = (float)(random_state >> 8) / 8388608.0f - 1.0f;
        squares += (double)row[i] * (double)row[i];
    }
    for (int i = 0; i < DIMENSION; i++)
        row[i] = (float)((double)row[i] / sqrt(squares));
}

static struct scene *new_scene(void)
{
    static struct scene scene;
    random_unit(scene.query);
    random_unit(scene.refined);
    for (int n = 0; n < NEIGHBOURS; n++) {
        random_unit(scene.rows[n]);
        scene.scores[n] = 0.7f - 0.03f * (float)((n * 3) % NEIGHBOURS); // the best is not the first
        scene.payload[n] = scene.rows[n];
    }
    return &scene;
}

static const struct fusion_params weighted = {
    .mode = FUSION_WEIGHTED, .beta = 2, .temperature = 30, .consensus = 0.3, .sharpness = 12};

static long double oracle_dot(const float *a, const float *b)
{
    long double sum = 0;
    for (int i = DIMENSION; i-- > 0;)
        sum += (long double)a[i] * (long double)b[i];
    return sum;
}

static void oracle_features(const struct scene *scene, long double *out)
{
    long double share[NEIGHBOURS];
    long double logit[NEIGHBOURS];
    long double sum = 0;
    for (int n = NEIGHBOURS; n-- > 0;) {
        long double over = 0;
        long double agree = 0;
        for (int j = NEIGHBOURS; j-- > 0;) {
            long double e = expl(30 * (long double)scene->scores[j]);
            over += e;
            agree += e * expl(12 * (oracle_dot(scene->rows[n], scene->rows[j]) - 1));
        }
        logit[n] = 30 * (long double)scene->scores[n] + 0.3L * logl(agree / over);
        sum += expl(logit[n]);
    }
    for (int n = 0; n < NEIGHBOURS; n++)
        share[n] = expl(logit[n]) / sum;

    long double best = -2;
    long double least = 2;
    long double nearest = -2;
    long double cold = 0;
    for (int n = NEIGHBOURS; n-- > 0;) {
        best = fmaxl(best, (long double)scene->scores[n]);
        least = fminl(least, (long double)scene->scores[n]);
        nearest = fmaxl(nearest, oracle_dot(scene->query, scene->rows[n]));
        cold += expl(20 * (long double)scene->scores[n]);
    }
    long double entropy = 0;
    for (int n = 0; n < NEIGHBOURS; n++) {
        long double p = expl(20 * (long double)scene->scores[n]) / cold;
        entropy -= p * logl(p) / logl(NEIGHBOURS);
    }
    long double squares = 0;
    long double along = 0;
    for (int a = 0; a < NEIGHBOURS; a++) {
        along += share[a] * oracle_dot(scene->query, scene->rows[a]);
        for (int b = 0; b < NEIGHBOURS; b++)
            squares += share[a] * share[b] * oracle_dot(scene->rows[a], scene->rows[b]);
    }
    out[FUSION_GATE_BEST] = best;
    out[FUSION_GATE_MARGIN] = best - least;
    out[FUSION_GATE_AGREEMENT] = sqrtl(squares);
    out[FUSION_GATE_CONSISTENCY] = along / sqrtl(squares);
    out[FUSION_GATE_ENTROPY] = entropy;
    out[FUSION_GATE_NEAREST] = nearest;
}

static void put_row(struct json_writer *writer, const char *name, const float *row)
{
    json_name(writer, name);
    json_begin_array(writer);
    for (int i = 0; i < DIMENSION; i++)
        json_put_float(writer, row[i]);
    json_end_array(writer);
}

// Constants with a centre and a familiarity on the text side, neither on the image side.
static struct fusion_gates *new_gates(const float *centre, const float *familiarity)
{
    struct json_writer writer = {0};
    json_begin_object(&writer);
    json_name(&writer, "image");
    json_begin_object(&writer);
    json_name(&writer, "bias");
    json_put_float(&writer, -1.5f);
    float weights[DIMENSION] = {2, -1, 0.5f, 1.25f, -0.75f, 3};
    json_name(&writer, "weights");
    json_begin_array(&writer);
    for (int i = 0; i < FUSION_GATE_FEATURES; i++)
        json_put_float(&writer, weights[i]);
    json_end_array(&writer);
    json_name(&writer, "floor");
    json_put_float(&writer, 0.05f);
    json_name(&writer, "level");
    json_put_float(&writer, 0);
    json_name(&writer, "centre");
    json_put_null(&writer);
    json_name(&writer, "familiarity");
    json_put_null(&writer);
    json_end_object(&writer);
    json_name(&writer, "text");
    json_begin_object(&writer);
    json_name(&writer, "bias");
    json_put_float(&writer, 0.25f);
    json_name(&writer, "weights");
    json_begin_array(&writer);
    for (int i = 0; i < FUSION_GATE_FEATURES; i++)
        json_put_float(&writer, -weights[i]);
    json_end_array(&writer);
    json_name(&writer, "floor");
    json_put_float(&writer, 0);
    json_name(&writer, "level");
    json_put_float(&writer, 0.375f);
    put_row(&writer, "centre", centre);
    put_row(&writer, "familiarity", familiarity);
    json_end_object(&writer);
    json_end_object(&writer);

    struct fusion_gates *gates = NULL;
    struct reason why = {0};
    cr_assert(eq(int,
                 fusion_gates_open((struct text){(const char *)writer.out.data, writer.out.count},
                                   DIMENSION, &gates, &why),
                 STATUS_OK),
              "%s %s", why.field, why.text);
    json_writer_deinit(&writer);
    return gates;
}

Test(fusion_gate, features_are_their_formulas)
{
    for (int round = 0; round < 20; round++) {
        struct scene *scene = new_scene();
        struct fusion_neighbours all = {NEIGHBOURS, scene->scores, scene->payload, NULL};
        double got[FUSION_GATE_FEATURES];
        long double expected[FUSION_GATE_FEATURES];
        fusion_gate_features(&weighted, scene->query, DIMENSION, &all, got);
        oracle_features(scene, expected);
        for (int i = 0; i < FUSION_GATE_FEATURES; i++)
            cr_expect(epsilon_eq(dbl, got[i], (double)expected[i], 1e-6), "feature %d", i);
    }
}

Test(fusion_gate, features_of_none_and_of_one)
{
    struct scene *scene = new_scene();
    double got[FUSION_GATE_FEATURES];
    fusion_gate_features(&weighted, scene->query, DIMENSION, &(struct fusion_neighbours){0}, got);
    for (int i = 0; i < FUSION_GATE_FEATURES; i++)
        cr_expect(eq(dbl, got[i], 0.0));

    struct fusion_neighbours one = {1, scene->scores, scene->payload, NULL};
    fusion_gate_features(&weighted, scene->query, DIMENSION, &one, got);
    cr_expect(eq(dbl, got[FUSION_GATE_MARGIN], 0.0));
    cr_expect(eq(dbl, got[FUSION_GATE_ENTROPY], 0.0));
    cr_expect(epsilon_eq(dbl, got[FUSION_GATE_AGREEMENT], 1.0, 1e-6));
    cr_expect(epsilon_eq(dbl, got[FUSION_GATE_CONSISTENCY], got[FUSION_GATE_NEAREST], 1e-6));
}

Test(fusion_gate, value_is_its_formula_with_a_floor)
{
    struct scene *scene = new_scene();
    struct fusion_gates *gates = new_gates(scene->rows[0], scene->rows[1]);
    const double features[FUSION_GATE_FEATURES] = {0.8, 0.1, 0.9, 0.3, 0.7, 0.4};
    double sum = 2 * 0.8 - 0.1 + 0.45 + 0.375 - 0.525 + 1.2;
    cr_expect(epsilon_eq(dbl, fusion_gate_value(gates, MODALITY_IMAGE, scene->query, features),
                         1 / (1 + exp(1.5 - sum)), 1e-6));
    double familiar = (double)oracle_dot(scene->rows[1], scene->query);
    cr_expect(epsilon_eq(dbl, fusion_gate_value(gates, MODALITY_TEXT, scene->query, features),
                         1 / (1 + exp(sum - 0.25 - familiar)), 1e-6));

    const double low[FUSION_GATE_FEATURES] = {-1, 0.5, 0, 0, 0, 0};
    cr_expect(eq(dbl, fusion_gate_value(gates, MODALITY_IMAGE, scene->query, low), 0.0));
    cr_expect(gt(dbl, fusion_gate_value(gates, MODALITY_TEXT, scene->query, low), 0.0));
    fusion_gates_close(&gates);
    cr_expect(zero(ptr, gates));
}

static void oracle_apply(const struct scene *scene, const float *centre, long double gate,
                         long double *result)
{
    const long double level = 0.375L;
    long double along = oracle_dot(scene->refined, centre);
    long double squares = 0;
    for (int i = DIMENSION; i-- > 0;) {
        result[i] = (long double)scene->refined[i] - along * (long double)centre[i];
        squares += result[i] * result[i];
    }
    long double total = 0;
    for (int i = DIMENSION; i-- > 0;) {
        long double anchored = result[i] * sqrtl((1 - level * level) / squares);
        anchored += level * (long double)centre[i];
        result[i] = gate * anchored + (1 - gate) * (long double)scene->query[i];
        total += result[i] * result[i];
    }
    for (int i = 0; i < DIMENSION; i++)
        result[i] /= sqrtl(total);
}

Test(fusion_gate, step_is_anchored_and_zero_gives_the_querys_bits)
{
    struct scene *scene = new_scene();
    struct fusion_gates *gates = new_gates(scene->rows[0], scene->rows[1]);
    float got[DIMENSION];
    long double expected[DIMENSION];
    for (int step = 0; step <= 4; step++) {
        double gate = 0.25 * step;
        cr_assert(eq(
            int, fusion_gate_apply(gates, MODALITY_TEXT, scene->query, scene->refined, gate, got),
            STATUS_OK));
        if (step == 0)
            cr_expect(zero(int, memcmp(got, scene->query, sizeof(got))));
        oracle_apply(scene, scene->rows[0], (long double)gate, expected);
        for (int i = 0; i < DIMENSION; i++)
            cr_expect(epsilon_eq(dbl, (double)got[i], (double)expected[i], 1e-7));
    }

    // Full gate: the share of the centre is the level, whatever the refined embedding had of it.
    cr_expect(epsilon_eq(dbl, (double)oracle_dot(got, scene->rows[0]), 0.375, 1e-6));

    // Without a centre it is the step of fusion.h.
    float plain[DIMENSION];
    cr_assert(eq(int,
                 fusion_gate_apply(gates, MODALITY_IMAGE, scene->query, scene->refined, 0.5, got),
                 STATUS_OK));
    cr_assert(
        eq(int, fusion_apply_gate(scene->query, scene->refined, DIMENSION, 0.5, plain), STATUS_OK));
    cr_expect(zero(int, memcmp(got, plain, sizeof(got))));

    // Nothing but the centre: no direction is left.
    memcpy(got, scene->query, sizeof(got));
    cr_expect(eq(int,
                 fusion_gate_apply(gates, MODALITY_TEXT, scene->query,
                                   gates->side[MODALITY_TEXT].centre, 0.5, got),
                 STATUS_INVALID));
    cr_expect(zero(int, memcmp(got, scene->query, sizeof(got))));
    fusion_gates_close(&gates);
}

Test(fusion_gate, without_constants_it_is_open)
{
    struct scene *scene = new_scene();
    struct fusion_gates *gates = NULL;
    const double none[FUSION_GATE_FEATURES] = {0};
    float got[DIMENSION];
    cr_assert(
        eq(int, fusion_gates_open((struct text){NULL, 0}, DIMENSION, &gates, NULL), STATUS_OK));
    cr_expect(eq(dbl, fusion_gate_value(gates, MODALITY_TEXT, scene->query, none), 1.0));
    cr_assert(eq(int, fusion_gate_apply(gates, MODALITY_TEXT, scene->query, scene->refined, 1, got),
                 STATUS_OK));
    cr_expect(zero(int, memcmp(got, scene->refined, sizeof(got))));
    fusion_gates_close(&gates);
}

Test(fusion_gate, constants_come_back_as_written)
{
    struct scene *scene = new_scene();
    struct fusion_gates *gates = new_gates(scene->rows[0], scene->rows[1]);
    struct json_writer first = {0};
    struct json_writer second = {0};
    struct fusion_gates *again = NULL;
    fusion_gates_write(gates, &first);
    cr_assert(not(first.failed));
    struct text text = {(const char *)first.out.data, first.out.count};
    cr_assert(eq(int, fusion_gates_open(text, DIMENSION, &again, NULL), STATUS_OK));
    cr_expect(zero(
        int, memcmp(again->side[MODALITY_TEXT].centre, scene->rows[0], sizeof(scene->rows[0]))));
    fusion_gates_write(again, &second);
    cr_expect(text_equal(text, (struct text){(const char *)second.out.data, second.out.count}));
    json_writer_deinit(&first);
    json_writer_deinit(&second);
    fusion_gates_close(&gates);
    fusion_gates_close(&again);
}

#define SIDE(bias, weights, floor, level, centre)                                                  \
    "{\"bias\":" bias ",\"weights\":" weights ",\"floor\":" floor ",\"level\":" level              \
    ",\"centre\":" centre ",\"familiarity\":null}"
#define GOOD SIDE("0", "[1,2,3,4,5,6]", "0", "0", "null")

Test(fusion_gate, wrong_constants_are_named)
{
    static const struct {
        const char *text;
        const char *field;
        const char *says;
    } cases[] = {
        {"[]", "gate", "no object"},
        {"{\"image\":" GOOD "}", "gate", "image and text"},
        {"{\"image\":" GOOD ",\"words\":" GOOD "}", "gate.text", "missing"},
        {"{\"image\":{},\"text\":" GOOD "}", "gate.image", "6 fields"},
        {"{\"image\":" SIDE("true", "[1,2,3,4,5,6]", "0", "0", "null") ",\"text\":" GOOD "}",
         "gate.image.bias", "no number"},
        {"{\"image\":" GOOD ",\"text\":" SIDE("0", "[1,2,3]", "0", "0", "null") "}",
         "gate.text.weights", "6 numbers"},
        {"{\"image\":" GOOD ",\"text\":" SIDE("0", "[1,2,3,4,5,1e9]", "0", "0", "null") "}",
         "gate.text.weights", "1e+09"},
        {"{\"image\":" GOOD ",\"text\":" SIDE("0", "[1,2,3,4,5,6]", "1.5", "0", "null") "}",
         "gate.text.floor", "1.5"},
        {"{\"image\":" GOOD ",\"text\":" SIDE("0", "[1,2,3,4,5,6]", "0", "1", "null") "}",
         "gate.text.level", "0.999"},
        {"{\"image\":" GOOD ",\"text\":" SIDE("0", "[1,2,3,4,5,6]", "0", "0", "[1]") "}",
         "gate.text.centre", "2 numbers"},
        {"{\"image\":" GOOD ",\"text\":" SIDE("0", "[1,2,3,4,5,6]", "0", "0", "[1,1]") "}",
         "gate.text.centre", "length 1.41"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fusion_gates *gates = NULL;
        struct reason why = {0};
        cr_expect(
            eq(int, fusion_gates_open(text_of(cases[i].text), 2, &gates, &why), STATUS_INVALID),
            "%zu", i);
        cr_expect(zero(ptr, gates));
        cr_expect(eq(str, why.field, (char *)cases[i].field), "%zu", i);
        cr_expect(strstr(why.text, cases[i].says) != NULL, "%zu: %s", i, why.text);
    }
}
