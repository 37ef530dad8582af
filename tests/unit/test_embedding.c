// SPDX-License-Identifier: Apache-2.0
// Goal: embeddings are normalised to the same bits everywhere, what cannot be
// normalised is refused, and neighbours have one order.
//
// Method: a plain oracle in double; the extremes of float; ties.

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/embedding.h"
#include "proto/base/half.h"
#include "proto/base/limits.h"
#include "proto/base/neighbour.h"

Test(embedding, each_modality_has_another)
{
    cr_expect(eq(int, modality_other(MODALITY_IMAGE), MODALITY_TEXT));
    cr_expect(eq(int, modality_other(MODALITY_TEXT), MODALITY_IMAGE));
}

Test(embedding, finite_means_no_nan_and_no_infinity_anywhere)
{
    float values[5] = {0.0f, -FLT_MAX, FLT_TRUE_MIN, 1.0f, FLT_MAX};
    cr_expect(embedding_is_finite(values, 5));
    cr_expect(embedding_is_finite(NULL, 0));

    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        for (int at = 0; at < 5; at++) {
            float saved = values[at];
            values[at] = bad[i];
            cr_expect(not(embedding_is_finite(values, 5)));
            values[at] = saved;
        }
    }
}

Test(embedding, normalise_has_the_bits_of_the_plain_formula)
{
    static float values[DIMENSION_MAX];
    static float expected[DIMENSION_MAX];
    const size_t counts[] = {1, 2, 3, 512, 768, 1280, DIMENSION_MAX};
    for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
        double sum = 0.0;
        for (size_t i = 0; i < counts[c]; i++) {
            values[i] = sinf((float)i * 1.7f + (float)c) * 3.0f + 0.25f;
            sum += (double)values[i] * (double)values[i];
        }
        for (size_t i = 0; i < counts[c]; i++)
            expected[i] = (float)((double)values[i] / sqrt(sum));

        cr_assert(eq(int, embedding_normalise(values, counts[c]), STATUS_OK));
        cr_expect(eq(int, memcmp(values, expected, counts[c] * sizeof(float)), 0));
    }
}

Test(embedding, normalise_survives_the_ends_of_the_range)
{
    float large[] = {FLT_MAX, FLT_MAX, FLT_MAX, FLT_MAX};
    cr_expect(eq(int, embedding_normalise(large, 4), STATUS_OK));
    float small[] = {FLT_TRUE_MIN, 0.0f, -FLT_TRUE_MIN, 0.0f};
    cr_expect(eq(int, embedding_normalise(small, 4), STATUS_OK));

    for (int i = 0; i < 4; i++)
        cr_expect(eq(flt, large[i], 0.5f));
    cr_expect(eq(flt, small[0], (float)sqrt(0.5)));
    cr_expect(eq(flt, small[2], (float)-sqrt(0.5)));
}

Test(embedding, normalise_refuses_and_leaves_alone_what_has_no_direction)
{
    const float bad[][3] = {
        {0, 0, 0}, {0, -0.0f, 0}, {1, NAN, 2}, {1, INFINITY, 2}, {-INFINITY, 0, 0}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        float values[3];
        memcpy(values, bad[i], sizeof(values));
        cr_expect(eq(int, embedding_normalise(values, 3), STATUS_INVALID));
        cr_expect(eq(int, memcmp(values, bad[i], sizeof(values)), 0));
    }
    cr_expect(eq(int, embedding_normalise(NULL, 0), STATUS_INVALID));
}

Test(neighbour, the_higher_score_then_the_lower_id_is_ahead)
{
    const struct neighbour high = {9, 0.5f};
    const struct neighbour low = {1, 0.25f};
    const struct neighbour tie = {10, 0.5f};

    cr_expect(neighbour_ahead(high, low));
    cr_expect(not(neighbour_ahead(low, high)));
    cr_expect(neighbour_ahead(high, tie));
    cr_expect(not(neighbour_ahead(tie, high)));
    cr_expect(not(neighbour_ahead(high, high)));
}

static uint64_t random_state = 4;

static float random_value(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (float)((double)(random_state >> 11) * 0x1p-53 * 2 - 1);
}

// Stores `values` as a memory does: kept when they are a row, else normalised; then halves.
static void store(float *values, size_t count, uint16_t *row)
{
    if (!embedding_is_row(values, count))
        cr_assert(eq(int, embedding_normalise(values, count), STATUS_OK));
    half_from_floats(values, row, count);
}

Test(embedding, a_stored_row_keeps_its_bits_when_it_is_stored_again)
{
    static const size_t dimensions[] = {1, 2, 3, 7, 32, 512, 4096};
    static float values[4096];
    static uint16_t first[4096];
    static uint16_t second[4096];
    size_t moved = 0;
    for (size_t d = 0; d < 7; d++) {
        const size_t count = dimensions[d];
        for (int round = 0; round < 2000 / (int)(1 + count / 64); round++) {
            for (size_t i = 0; i < count; i++) // also far from unit length, and with tiny elements
                values[i] = random_value() * (i % 5 == 4 ? 1e-6f : 1.0f) * (float)(1 + round % 3);
            store(values, count, first);
            half_to_floats(first, values, count);
            cr_assert(embedding_is_row(values, count), "%zu, round %d", count, round);
            store(values, count, second);
            cr_assert(eq(int, memcmp(first, second, count * sizeof(*first)), 0), "%zu, round %d",
                      count, round);
            cr_assert(eq(int, embedding_normalise(values, count), STATUS_OK));
            half_from_floats(values, second, count);
            moved += memcmp(first, second, count * sizeof(*first)) != 0;
        }
    }
    cr_expect(gt(sz, moved, 0)); // normalising alone does not keep them: that is why
}

Test(embedding, what_is_no_row_is_none)
{
    float values[4] = {0.5f, 0.5f, 0.5f, 0.5f};
    cr_expect(embedding_is_row(values, 4));
    values[0] = 0.501f; // no half
    cr_expect(not(embedding_is_row(values, 4)));
    values[0] = 1.0f; // too long
    cr_expect(not(embedding_is_row(values, 4)));
    values[0] = 0.498046875f; // a half, and too short by more than rounding explains
    cr_expect(not(embedding_is_row(values, 4)));
    values[0] = NAN;
    cr_expect(not(embedding_is_row(values, 4)));
    values[0] = INFINITY;
    cr_expect(not(embedding_is_row(values, 4)));
    cr_expect(not(embedding_is_row(NULL, 0)));
    float large[2] = {60000.0f, 0.0f};
    cr_expect(not(embedding_is_row(large, 2)));
}
