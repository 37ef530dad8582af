// SPDX-License-Identifier: Apache-2.0
// Goal: evidence and value are the formulas of fusion_gate.h; constants come back as they were
// written, and wrong ones are named; what is fitted is where the loss is least, stays finite where
// cases can be told apart without fault, follows weights, and is refused where there is nothing to
// learn.
//
// Method: cases drawn from a seed; the loss is written once more in long double, from raw evidence
// and not from scaled one, and its slopes at the solution are taken by differences. Two fits have a
// solution that is known: evidence that tells nothing, and one that tells all.

#include <math.h>
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "shaders/models/fusion_gate.h"

#define DIMENSION 24
#define CASES 400
#define SEED 20261129u

static uint32_t random_state = SEED;

static double random_number(void)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (double)(random_state >> 8) / 8388608.0 - 1;
}

Test(fusion_gate, value_is_its_formula)
{
    const struct fusion_gate gate = {.bias = -1.5,
                                     .weights = {2, -1, 0.5, 1.25, -0.75, 3, 0.25, -4, 1}};
    const double evidence[FUSION_GATE_EVIDENCE] = {0.8, 0.1, 0.9, 0.3, 0.7, 0.4, 0.6, 0.2, 0.35};
    const double sum = 2 * 0.8 - 0.1 + 0.45 + 0.375 - 0.525 + 1.2 + 0.15 - 0.8 + 0.35;
    cr_expect(epsilon_eq(dbl, fusion_gate_value(&gate, evidence), 1 / (1 + exp(1.5 - sum)), 1e-12));

    // Far off it is 0 and 1, and no NaN.
    const struct fusion_gate steep = {.bias = 0, .weights = {1e6}};
    const double far[2][FUSION_GATE_EVIDENCE] = {{-1}, {1}};
    cr_expect(eq(dbl, fusion_gate_value(&steep, far[0]), 0.0));
    cr_expect(eq(dbl, fusion_gate_value(&steep, far[1]), 1.0));
}

Test(fusion_gate, nearest_is_the_largest_product_and_0_of_none)
{
    float rows[3][DIMENSION];
    float query[DIMENSION];
    const float *payload[3] = {rows[0], rows[1], rows[2]};
    double expected = -HUGE_VAL;
    for (int i = 0; i < DIMENSION; i++)
        query[i] = (float)random_number();
    for (int n = 0; n < 3; n++) {
        long double product = 0;
        for (int i = DIMENSION; i-- > 0;) {
            // The second one is the largest, and all are below 0.
            rows[n][i] = -query[i] * (n == 1 ? 0.1f : 1.0f) + 0.01f * (float)random_number();
            product += (long double)rows[n][i] * (long double)query[i];
        }
        expected = fmax(expected, (double)product);
    }
    const struct fusion_neighbours all = {.count = 3, .payload = payload};
    const struct fusion_neighbours none = {.count = 0};
    cr_expect(lt(dbl, expected, 0.0));
    cr_expect(epsilon_eq(dbl, fusion_gate_nearest(query, DIMENSION, &all), expected, 1e-12));
    cr_expect(eq(dbl, fusion_gate_nearest(query, DIMENSION, &none), 0.0));
}

#define LABELS 9

Test(fusion_gate, weighs_what_two_lists_say)
{
    double products[2][LABELS];
    struct fusion_gate_dispute dispute = {
        .nearest = 0.6, .known = 0.9, .told_plain = 0.3, .told_refined = 0.7};
    struct fusion_gate_list *lists[] = {&dispute.plain, &dispute.refined};
    long double mean[2] = {0};
    for (int i = 0; i < 2; i++) {
        for (size_t label = 0; label < LABELS; label++)
            products[i][label] = 0.3 + 0.1 * random_number();
        products[i][7] = products[i][3 + i] = 0.8; // of equals the earlier one is the first
        for (size_t label = LABELS; label-- > 0;)
            mean[i] += (long double)products[i][label] / LABELS;
        for (size_t label = 0; label < LABELS; label++)
            fusion_gate_offer(lists[i], 10 + label, products[i][label]);
        cr_expect(eq(sz, lists[i]->first, 13 + (size_t)i));
        cr_expect(eq(dbl, lists[i]->largest, 0.8));
        cr_expect(eq(dbl, lists[i]->next, 0.8));
    }
    dispute.refined.next = 0.65;
    long double spread[2] = {0};
    for (int i = 0; i < 2; i++)
        for (size_t label = LABELS; label-- > 0;)
            spread[i] += powl((long double)products[i][label] - mean[i], 2) / LABELS;
    const double expected[FUSION_GATE_EVIDENCE] = {
        [FUSION_GATE_NEAREST] = 0.6 - (double)mean[0],
        [FUSION_GATE_PLAIN] = 0.8 - (double)mean[0],
        [FUSION_GATE_PLAIN_SPREAD] = sqrt((double)spread[0]),
        [FUSION_GATE_REFINED_MARGIN] = 0.8 - 0.65,
        [FUSION_GATE_REFINED_SPREAD] = sqrt((double)spread[1]),
        [FUSION_GATE_LABELS] = log(LABELS),
        [FUSION_GATE_KNOWN] = 0.9,
        [FUSION_GATE_TOLD_PLAIN] = 0.3,
        [FUSION_GATE_TOLD_REFINED] = 0.7,
    };
    double evidence[FUSION_GATE_EVIDENCE];
    fusion_gate_weigh(&dispute, evidence);
    for (int i = 0; i < FUSION_GATE_EVIDENCE; i++)
        cr_expect(epsilon_eq(dbl, evidence[i], expected[i], 1e-12), "%d", i);
}

Test(fusion_gate, list_keeps_the_two_largest_in_any_order)
{
    static const double products[4][3] = {
        {-0.5, -0.2, -0.9}, {-0.2, -0.9, -0.5}, {-0.9, -0.5, -0.2}, {-0.9, -0.2, -0.5}};
    static const size_t first[] = {1, 0, 2, 1};
    for (int i = 0; i < 4; i++) {
        struct fusion_gate_list list = {.count = 0};
        for (size_t label = 0; label < 3; label++)
            fusion_gate_offer(&list, label, products[i][label]);
        cr_expect(eq(sz, list.first, first[i]), "%d", i);
        cr_expect(eq(dbl, list.largest, -0.2), "%d", i);
        cr_expect(eq(dbl, list.next, -0.5), "%d", i);
    }
}

// --- constants

Test(fusion_gate, constants_come_back_as_written)
{
    const struct fusion_gate gate = {
        .bias = -0.1f, .weights = {1e6, -1e-7f, 0, 1.0f / 3, -5, 7, 0.125, -1e-3f, 9}};
    struct fusion_gate again = {.bias = 9};
    struct json_writer writer = {0};
    struct reason why = {0};
    fusion_gate_write(&gate, &writer);
    cr_assert(not(writer.failed));
    const struct text text = {(const char *)writer.out.data, writer.out.count};
    cr_assert(eq(int, fusion_gate_parse(text, &again, &why), STATUS_OK), "%s %s", why.field,
              why.text);
    cr_expect(eq(flt, (float)again.bias, (float)gate.bias));
    for (int i = 0; i < FUSION_GATE_EVIDENCE; i++)
        cr_expect(eq(flt, (float)again.weights[i], (float)gate.weights[i]), "%d", i);
    json_writer_deinit(&writer);
}

#define CONSTANTS(bias, known)                                                                     \
    "{\"bias\":" bias ",\"nearest\":1,\"plain\":2,\"plain_spread\":3,\"refined_margin\":4,"        \
    "\"refined_spread\":5,\"labels\":7,\"told_plain\":8,\"told_refined\":9," known "}"

Test(fusion_gate, wrong_constants_are_named)
{
    static const struct {
        const char *text;
        const char *field;
        const char *says;
    } cases[] = {
        {"[[[", "gate", ""},
        {"[]", "gate", "no object of 10 numbers"},
        {"{\"bias\":0}", "gate", "no object of 10 numbers"},
        {"{\"bias\":0,\"best\":1,\"nearest\":2,\"plain\":3,\"plain_margin\":4,\"refined_margin\":5,"
         "\"known\":6}",
         "gate", "an earlier gate had 7: train the head anew"},
        {CONSTANTS("0", "\"known\":6,\"more\":7"), "gate", "no object of 10 numbers"},
        {CONSTANTS("0", "\"knows\":6"), "gate.known", "is missing"},
        {CONSTANTS("true", "\"known\":6"), "gate.bias", "no number"},
        {CONSTANTS("0", "\"known\":null"), "gate.known", "no number"},
        {CONSTANTS("0", "\"known\":1000001"), "gate.known",
         "1000001: -1000000..1000000 is allowed"},
        {CONSTANTS("-1e300", "\"known\":6"), "gate.bias", "-1e+300"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fusion_gate gate;
        struct reason why = {0};
        cr_expect(eq(int, fusion_gate_parse(text_of(cases[i].text), &gate, &why), STATUS_INVALID),
                  "%zu", i);
        cr_expect(eq(str, why.field, (char *)cases[i].field), "%zu", i);
        cr_expect(strstr(why.text, cases[i].says) != NULL, "%zu: %s", i, why.text);
    }
    struct fusion_gate gate;
    cr_expect(
        eq(int, fusion_gate_parse(text_of(CONSTANTS("0", "\"known\":6")), &gate, NULL), STATUS_OK));
    cr_expect(ne(int, fusion_gate_parse(text_of("{\"bias\":"), &gate, NULL), STATUS_OK));
}

// --- the fit

// Evidence of different sizes, of which some tells which answer is right and none tells it always.
static void draw_cases(struct fusion_gate_case *cases, size_t count)
{
    static const double size[FUSION_GATE_EVIDENCE] = {1, 0.2, 0.05, 3, 0.01, 40, 1, 0.5, 0.1};
    for (size_t c = 0; c < count; c++) {
        double sum = 0.3;
        for (size_t i = 0; i < FUSION_GATE_EVIDENCE; i++) {
            const double drawn = random_number();
            cases[c].evidence[i] = size[i] * (drawn + 0.7 * (double)i);
            sum += drawn * (i % 2 ? -1.5 : 2);
        }
        cases[c].weight = 1 + 0.9 * random_number();
        cases[c].memory_is_right = sum + 2 * random_number() > 0;
    }
}

static long double deviation_of(const struct fusion_gate_case *cases, size_t count, size_t i)
{
    long double weight = 0;
    long double sum = 0;
    long double squares = 0;
    for (size_t c = count; c-- > 0;) {
        weight += (long double)cases[c].weight;
        sum += (long double)(cases[c].weight * cases[c].evidence[i]);
    }
    for (size_t c = count; c-- > 0;) {
        const long double off = (long double)cases[c].evidence[i] - sum / weight;
        squares += (long double)cases[c].weight * off * off;
    }
    return sqrtl(squares / weight);
}

static long double oracle_loss(const struct fusion_gate_case *cases, size_t count,
                               const struct fusion_gate *gate)
{
    long double loss = 0;
    long double weight = 0;
    for (size_t c = count; c-- > 0;) {
        const long double open = (long double)fusion_gate_value(gate, cases[c].evidence);
        loss -= (long double)cases[c].weight * logl(cases[c].memory_is_right ? open : 1 - open);
        weight += (long double)cases[c].weight;
    }
    loss /= weight;
    for (size_t i = 0; i < FUSION_GATE_EVIDENCE; i++) {
        const long double scaled = (long double)gate->weights[i] * deviation_of(cases, count, i);
        loss += (long double)FUSION_GATE_RIDGE * scaled * scaled;
    }
    return loss;
}

Test(fusion_gate, loss_is_least_where_it_is_fitted)
{
    static struct fusion_gate_case cases[CASES];
    struct fusion_gate gate;
    struct reason why = {0};
    draw_cases(cases, CASES);
    cr_assert(eq(int, fusion_gate_fit(cases, CASES, &gate, &why), STATUS_OK), "%s", why.text);
    const long double least = oracle_loss(cases, CASES, &gate);
    cr_expect(least > 0.1L && least < 0.69L, "%Lf: it has learnt, and not by heart", least);
    for (size_t i = 0; i <= FUSION_GATE_EVIDENCE; i++) {
        const long double deviation = i < FUSION_GATE_EVIDENCE ? deviation_of(cases, CASES, i) : 1;
        const double by = (double)(1e-3L / deviation);
        long double beside[2];
        for (int side = 0; side < 2; side++) {
            struct fusion_gate moved = gate;
            double *number = i < FUSION_GATE_EVIDENCE ? &moved.weights[i] : &moved.bias;
            *number += side ? by : -by;
            beside[side] = oracle_loss(cases, CASES, &moved);
            cr_expect(beside[side] > least, "%zu", i);
        }
        // Newton's steps end at a gain of 1e-12: a slope of sqrt(2e-12 * curvature), and that is
        // below 0.3.
        const long double slope = (beside[1] - beside[0]) / 2e-3L;
        cr_expect(fabsl(slope) < 1e-6L, "%zu: %Lg", i, slope);
    }
}

Test(fusion_gate, evidence_that_tells_nothing_leaves_the_odds)
{
    struct fusion_gate_case cases[3] = {
        {.weight = 3, .memory_is_right = true}, {.weight = 0.5}, {.weight = 0.25}};
    struct fusion_gate gate;
    for (int c = 0; c < 3; c++)
        for (int i = 0; i < FUSION_GATE_EVIDENCE; i++)
            cases[c].evidence[i] = 0.25 * i;
    cr_assert(eq(int, fusion_gate_fit(cases, 3, &gate, NULL), STATUS_OK));
    for (int i = 0; i < FUSION_GATE_EVIDENCE; i++)
        cr_expect(eq(dbl, gate.weights[i], 0.0));
    cr_expect(epsilon_eq(dbl, gate.bias, log(3 / 0.75), 1e-5));
}

Test(fusion_gate, ridge_holds_what_tells_all)
{
    // Deviation 1, mean 0: the loss is log(1 + exp(-x)) + ridge x x.
    struct fusion_gate_case cases[2] = {
        {.evidence = {[FUSION_GATE_KNOWN] = 1}, .weight = 1, .memory_is_right = true},
        {.evidence = {[FUSION_GATE_KNOWN] = -1}, .weight = 1}};
    double low = 0;
    double high = 100;
    for (int i = 0; i < 100; i++) {
        const double x = (low + high) / 2;
        if (2 * FUSION_GATE_RIDGE * x < 1 / (1 + exp(x)))
            low = x;
        else
            high = x;
    }
    struct fusion_gate gate;
    cr_assert(eq(int, fusion_gate_fit(cases, 2, &gate, NULL), STATUS_OK));
    cr_expect(epsilon_eq(dbl, gate.weights[FUSION_GATE_KNOWN], low, 1e-4));
    cr_expect(epsilon_eq(dbl, gate.bias, 0.0, 1e-9));
    cr_expect(eq(dbl, gate.weights[FUSION_GATE_NEAREST], 0.0));
}

Test(fusion_gate, nothing_to_learn_is_refused)
{
    static struct fusion_gate_case cases[CASES];
    struct fusion_gate gate = {.bias = 7};
    struct reason why = {0};
    draw_cases(cases, CASES);
    cr_expect(eq(int, fusion_gate_fit(NULL, 0, &gate, &why), STATUS_FAILED_PRECONDITION));
    for (int kind = 0; kind < 2; kind++) {
        for (int c = 0; c < CASES; c++)
            cases[c].memory_is_right = kind;
        cr_expect(eq(int, fusion_gate_fit(cases, CASES, &gate, &why), STATUS_FAILED_PRECONDITION));
        cr_expect(strstr(why.text, kind ? "was right in 400" : "was right in 0") != NULL, "%s",
                  why.text);
    }
    static const double bad[] = {NAN, INFINITY, -INFINITY};
    cases[1].memory_is_right = false;
    for (int i = 0; i < 3; i++) {
        cases[17].evidence[i] = bad[i];
        cr_expect(eq(int, fusion_gate_fit(cases, CASES, &gate, &why), STATUS_INVALID));
        cr_expect(strstr(why.text, "case 17") != NULL, "%s", why.text);
        cases[17].evidence[i] = 0;
    }
    cr_expect(eq(dbl, gate.bias, 7.0), "what is refused writes nothing");
}
