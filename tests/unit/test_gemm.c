// SPDX-License-Identifier: Apache-2.0
// Goal: products of any layout are right, add where they should, touch nothing else, and have the
// same bits with any number of threads; the plain loop too.
//
// Method: seeded numbers of odd sizes, around the panels, groups of rows and chunks of the depth,
// in all four layouts and several at a time, against double precision; normalised squared error
// below 1e-12.

#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "shaders/cpu/gemm.h"
#include "tests/reference/reference.h"

#define ERROR_MAX 1e-12
#define GUARD 7.0f
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static uint32_t random_state = 20261129u;

static float *random_floats(size_t count)
{
    float *values = calloc(count + 1, sizeof(*values));
    for (size_t i = 0; i < count; i++) {
        random_state = random_state * 1664525u + 1013904223u;
        values[i] = (float)(random_state >> 8) / 8388608.0f - 1.0f;
    }
    return values;
}

struct shape {
    uint32_t rows;
    uint32_t columns;
    uint32_t depth;
    uint32_t count;
};

static const struct shape shapes[] = {
    {1, 1, 1, 1},      {3, 33, 17, 1},  {113, 31, 5, 2},   {14, 64, 1024, 1},
    {15, 40, 1025, 1}, {256, 7, 64, 3}, {5, 100, 2100, 1},
};

static float element(struct gemm_view view, size_t row, size_t column)
{
    return view.at[row * view.row_step + column * view.column_step];
}

// One product of the batch against double precision; `before` is what the target held.
static double error_of(const struct gemm_product *product, uint32_t n, const float *before)
{
    struct gemm_view a = {product->a.at + n * product->a_next, product->a.row_step,
                          product->a.column_step};
    struct gemm_view b = {product->b.at + n * product->b_next, product->b.row_step,
                          product->b.column_step};
    size_t count = (size_t)product->rows * product->columns;
    float *got = calloc(count + 1, sizeof(*got));
    double *want = calloc(count + 1, sizeof(*want));
    for (size_t i = 0; i < count; i++) {
        size_t row = i / product->columns;
        size_t column = i % product->columns;
        size_t at = n * product->target_next + row * product->target_step + column;
        got[i] = product->target[at];
        want[i] = product->add ? (double)before[at] : 0.0;
        for (size_t k = 0; k < product->depth; k++)
            want[i] += (double)element(a, row, k) * (double)element(b, k, column);
    }
    double error = reference_squared_error(got, want, count);
    free(got);
    free(want);
    return error;
}

static void run_shape(struct gemm *gemm, struct gemm *other, const struct shape *shape, int layout)
{
    bool a_turned = layout & 1;
    bool b_turned = layout & 2;
    size_t a_step = (a_turned ? shape->rows : shape->depth) + 3u;
    size_t b_step = (b_turned ? shape->depth : shape->columns) + 2u;
    size_t a_floats = a_step * (a_turned ? shape->depth : shape->rows);
    size_t b_floats = b_step * (b_turned ? shape->columns : shape->depth);
    size_t target_step = shape->columns + 1u; // the last of a row is a guard
    size_t floats = target_step * shape->rows * shape->count;
    float *a = random_floats(a_floats * shape->count);
    float *b = random_floats(b_floats * shape->count);
    float *target = random_floats(floats);
    float *again = calloc(floats, sizeof(*again));
    float *before = calloc(floats, sizeof(*before));
    for (size_t i = shape->columns; i < floats; i += target_step)
        target[i] = GUARD;
    memcpy(before, target, floats * sizeof(*before));
    memcpy(again, target, floats * sizeof(*again));
    struct gemm_product product = {
        .a = {a, a_turned ? 1 : a_step, a_turned ? a_step : 1},
        .b = {b, b_turned ? 1 : b_step, b_turned ? b_step : 1},
        .target = target,
        .target_step = target_step,
        .rows = shape->rows,
        .columns = shape->columns,
        .depth = shape->depth,
        .add = layout & 4,
        .count = shape->count,
        .a_next = a_floats,
        .b_next = b_floats,
        .target_next = target_step * shape->rows,
    };
    gemm_run(gemm, &product);
    for (uint32_t n = 0; n < shape->count; n++)
        cr_expect(lt(dbl, error_of(&product, n, before), ERROR_MAX), "%u x %u x %u, layout %d",
                  shape->rows, shape->columns, shape->depth, layout);
    for (size_t i = shape->columns; i < floats; i += target_step)
        cr_assert(eq(flt, target[i], GUARD));
    product.target = again;
    gemm_run(other, &product);
    cr_expect(memcmp(target, again, floats * sizeof(*again)) == 0, "%u x %u x %u, layout %d",
              shape->rows, shape->columns, shape->depth, layout);
    free(a);
    free(b);
    free(target);
    free(again);
    free(before);
}

static void run_all(enum status (*open)(struct team *, size_t, struct gemm **))
{
    struct team *teams[2] = {NULL, NULL};
    struct gemm *gemms[2] = {NULL, NULL};
    for (uint32_t i = 0; i < 2; i++) {
        cr_assert(eq(int, team_create(1 + 2 * i, &teams[i], NULL), STATUS_OK));
        cr_assert(eq(int, open(teams[i], gemm_floats(128, 2100, 1), &gemms[i]), STATUS_OK));
    }
    for (size_t s = 0; s < COUNT(shapes); s++) {
        for (int layout = 0; layout < 8; layout++)
            run_shape(gemms[0], gemms[1], &shapes[s], layout);
    }
    for (uint32_t i = 0; i < 2; i++) {
        gemm_close(&gemms[i]);
        team_destroy(&teams[i]);
        cr_expect(eq(ptr, gemms[i], NULL));
    }
}

Test(gemm, products_of_every_layout_are_right_and_the_same_with_more_threads)
{
    run_all(gemm_open);
}

Test(gemm, so_are_those_of_the_plain_loop)
{
    run_all(gemm_open_plain);
}
