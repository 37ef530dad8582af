// SPDX-License-Identifier: Apache-2.0
// Goal: every variant of the GPU's matrix products gives what the formula says, and a
// row's bits depend on that row only.
//
// Method: seeded numbers at sizes of 1, around the tiles, primes and the sequence lengths
// of CLIP, against double precision; the element's bound is that of sums in single
// precision: (depth + 8) * 2^-24 * sum of |source * weight|. Half-precision weights are
// compared with the rounded weights. Then the row alone, the batch again, the other tiles.

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/half.h"
#include "shaders/kernels/kernel_pack.h"
#include "tests/gpu/gpu_fixture.h"
#include "tests/reference/reference.h"

TestSuite(gpu_products, .init = gpu_fixture_open, .fini = gpu_fixture_close);

int main(int argc, char **argv)
{
    return gpu_fixture_main(argc, argv);
}

#define TILE_MATRIX KERNEL_TILE_COUNT // by cooperative matrices, where the device has them

struct product {
    int tile; // of enum kernel_tile_id, or TILE_MATRIX
    bool f16;
    enum kernel_epilogue epilogue;
    uint32_t columns;
    uint32_t depth;
};

// Numbers of one product; weights and bias are equal for equal columns and depth.
struct numbers {
    float *weights; // these two rounded to half precision where the product rounds them
    float *source;
    float *bias;
    float *before; // of the target
};

// Rounds to half precision; not below 2^-14, which devices may take for zero.
static void round_to_halves(float *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        values[i] = half_to_float(half_from_float(fabsf(values[i]) < 1e-4f ? 0.25f : values[i]));
}

static struct numbers make_numbers(const struct product *p, uint32_t rows)
{
    struct numbers n = {
        .weights = reference_random((size_t)p->columns * p->depth, 11),
        .bias = reference_random(p->columns, 12),
        .source = reference_random((size_t)rows * p->depth, 13),
        .before = reference_random((size_t)rows * p->columns, 14),
    };
    if (p->f16)
        round_to_halves(n.weights, (size_t)p->columns * p->depth);
    if (p->tile == TILE_MATRIX)
        round_to_halves(n.source, (size_t)rows * p->depth);
    return n;
}

static void free_numbers(struct numbers *n)
{
    free(n->weights);
    free(n->bias);
    free(n->source);
    free(n->before);
}

// NULL where the device or the build has no such kernel.
static const struct kernel_tile *tile_of(int tile)
{
    static struct kernel_tile by_matrices;
    const struct kernel_matrix matrix = gpu_fixture_matrix();
    if (tile != TILE_MATRIX)
        return kernel_table_tile((enum kernel_tile_id)tile);
    return kernel_table_matrix(&matrix, &by_matrices) ? &by_matrices : NULL;
}

static void run_product(const struct product *p, const struct numbers *n, uint32_t rows,
                        float *target)
{
    const struct kernel_tile *tile = tile_of(p->tile);
    cr_assert(tile != NULL);
    struct kernel_pack pack = {n->weights, n->bias, p->columns, p->depth, p->f16};
    size_t weights = kernel_pack_weights_count(&pack);
    size_t biases = kernel_pack_bias_count(&pack);
    uint32_t *packed = malloc(weights * 4);
    float *bias = malloc(biases * 4);
    kernel_pack_weights(&pack, packed);
    kernel_pack_bias(&pack, bias);

    struct gemm_args args = {rows, p->columns, p->depth};
    uint32_t constants[KERNEL_CONSTANTS_MAX];
    kernel_table_product(tile, p->epilogue, &args, constants);
    struct kernel_run run = {
        .id = p->f16 ? tile->f16 : tile->f32,
        .constants = constants,
        .args = &args,
        .arrays = {guarded_with(n->source, (size_t)rows * p->depth), guarded_with(packed, weights),
                   guarded_with(bias, biases),
                   p->epilogue == KERNEL_ADD ? guarded_with(n->before, (size_t)rows * p->columns)
                                             : guarded_poisoned((size_t)rows * p->columns)},
    };
    kernel_table_product_groups(tile, &args, run.groups);
    gpu_fixture_run(&run);
    for (size_t i = 0; i < 3; i++)
        guarded_end(&run.arrays[i], NULL);
    guarded_end(&run.arrays[3], target);
    free(bias);
    free(packed);
}

static double activated(enum kernel_epilogue epilogue, double x, double before)
{
    switch (epilogue) {
    case KERNEL_QUICK_GELU:
        return reference_quick_gelu(x);
    case KERNEL_GELU:
        return reference_gelu(x);
    case KERNEL_ADD:
        return before + x;
    case KERNEL_PLAIN:
        break;
    }
    return x;
}

static void name_product(const struct product *p, uint32_t rows, char text[96])
{
    (void)snprintf(text, 96, "tile %d, %s, epilogue %d, %u x %u, %u rows", p->tile,
                   p->f16 ? "f16" : "f32", (int)p->epilogue, p->columns, p->depth, rows);
}

static void check_product(const struct product *p, uint32_t rows)
{
    struct numbers n = make_numbers(p, rows);
    float *target = malloc((size_t)rows * p->columns * sizeof(float));
    run_product(p, &n, rows, target);

    char what[96];
    name_product(p, rows, what);
    for (uint32_t row = 0; row < rows; row++) {
        for (uint32_t column = 0; column < p->columns; column++) {
            double sum = (double)n.bias[column];
            double size = fabs(sum);
            for (uint32_t k = 0; k < p->depth; k++) {
                double part = (double)n.source[(size_t)row * p->depth + k] *
                              (double)n.weights[(size_t)column * p->depth + k];
                sum += part;
                size += fabs(part);
            }
            size_t at = (size_t)row * p->columns + column;
            double expected = activated(p->epilogue, sum, (double)n.before[at]);
            // The activations are steeper than 1 by little, and off by up to 1.5e-7 of x.
            double bound = 1.2 * (p->depth + 8) * 0x1p-24 * (size + 1) + 4e-7 * fabs(sum);
            cr_assert(fabs((double)target[at] - expected) <= bound,
                      "%s: row %u, column %u is %.9g, expected %.9g +- %g", what, row, column,
                      (double)target[at], expected, bound);
        }
    }
    free(target);
    free_numbers(&n);
}

static const uint32_t sizes[][2] = {
    {1, 1},   {1, 7},   {3, 5},    {17, 31},  {4, 4},    {63, 15},  {64, 16},
    {65, 17}, {68, 20}, {127, 33}, {128, 64}, {129, 65}, {132, 68}, {257, 96},
};

// All sizes, the number of rows changing with them. A kernel is compiled for each epilogue, and
// that takes long on a software device: the sizes go through two of the four.
static void check_sizes(int id)
{
    const struct kernel_tile *tile = tile_of(id);
    cr_assert(tile != NULL);
    const uint32_t rows[] = {1, tile->rows - 1, tile->rows, tile->rows + 1, 2 * tile->rows + 1, 7,
                             50};
    for (int f16 = id == TILE_MATRIX; f16 < 2; f16++) {
        for (size_t i = 0; i < COUNT(sizes); i++) {
            bool aligned = sizes[i][0] % 4 == 0 && sizes[i][1] % 4 == 0;
            struct product p = {id, f16 == 1, aligned ? KERNEL_ADD : KERNEL_PLAIN, sizes[i][0],
                                sizes[i][1]};
            check_product(&p, rows[i % COUNT(rows)]);
            check_product(&p, rows[(i + 3) % COUNT(rows)]);
        }
    }
}

Test(gpu_products, every_epilogue_agrees_with_the_reference)
{
    static const enum kernel_tile_id ids[] = {KERNEL_TILE_DIRECT, KERNEL_TILE_32};
    for (size_t i = 0; i < 4 * COUNT(ids); i++) {
        struct product p = {ids[i / 4], i % 2 == 1, (enum kernel_epilogue)(i % 4), 72, 52};
        check_product(&p, 37);
        p.columns = 71;
        check_product(&p, 37);
    }
}

Test(gpu_products, direct_tiles_agree_with_the_reference)
{
    check_sizes(KERNEL_TILE_DIRECT);
    check_sizes(KERNEL_TILE_FEW);
}

Test(gpu_products, tiles_of_32_rows_agree_with_the_reference)
{
    check_sizes(KERNEL_TILE_32);
}

Test(gpu_products, tiles_of_64_rows_agree_with_the_reference)
{
    check_sizes(KERNEL_TILE_64);
}

Test(gpu_products, tiles_of_128_rows_agree_with_the_reference)
{
    check_sizes(KERNEL_TILE_128);
}

Test(gpu_products, tiles_of_cooperative_matrices_agree_with_the_reference)
{
    static const uint32_t rows[] = {1, 50, 257};
    if (!tile_of(TILE_MATRIX))
        cr_skip_test("the device has no cooperative matrices, or the build no kernel for them");
    check_sizes(TILE_MATRIX);
    for (int e = 0; e < 4; e++) {
        struct product p = {TILE_MATRIX, true, (enum kernel_epilogue)e, 192, 588};
        for (size_t i = 0; i < COUNT(rows); i++)
            check_product(&p, rows[i]);
    }
}

Test(gpu_products, a_row_by_cooperative_matrices_has_the_same_bits_alone_and_again)
{
    enum { ROWS = 150 };
    struct product p = {TILE_MATRIX, true, KERNEL_QUICK_GELU, 136, 100};
    if (!tile_of(TILE_MATRIX))
        cr_skip_test("the device has no cooperative matrices, or the build no kernel for them");
    struct numbers n = make_numbers(&p, ROWS);
    size_t count = (size_t)ROWS * p.columns;
    float *first = malloc(count * sizeof(float));
    float *other = malloc(count * sizeof(float));
    run_product(&p, &n, ROWS, first);
    run_product(&p, &n, ROWS, other);
    expect_bits("again", other, first, count);
    for (uint32_t row = 0; row < ROWS; row += 37) {
        struct numbers one = n;
        one.source += (size_t)row * p.depth;
        run_product(&p, &one, 1, other);
        expect_bits("alone", other, first + (size_t)row * p.columns, p.columns);
    }
    free(other);
    free(first);
    free_numbers(&n);
}

Test(gpu_products, sequence_lengths_and_widths_of_clip_agree_with_the_reference)
{
    static const struct product shapes[] = {
        {KERNEL_TILE_DIRECT, false, KERNEL_QUICK_GELU, 768, 192},
        {KERNEL_TILE_64, false, KERNEL_ADD, 192, 768},
        {KERNEL_TILE_128, true, KERNEL_GELU, 384, 128},
        {KERNEL_TILE_32, false, KERNEL_PLAIN, 100, 588},
        {KERNEL_TILE_FEW, true, KERNEL_ADD, 64, 3072},
    };
    static const uint32_t rows[] = {257, 77, 197, 50, 1};
    for (size_t i = 0; i < COUNT(shapes); i++)
        check_product(&shapes[i], rows[i]);
}

// Every tile adds in the same order, so the rows of all of them are the same bits; on one
// device, which adds products in one way.
Test(gpu_products, a_row_has_the_same_bits_alone_in_a_batch_again_and_by_any_tile)
{
    enum { ROWS = 150 };
    static const uint32_t shapes[][2] = {{72, 52}, {71, 53}, {192, 128}};
    for (size_t s = 0; s < 2 * COUNT(shapes); s++) {
        struct product p = {KERNEL_TILE_DIRECT, s % 2 == 1, KERNEL_ADD, shapes[s / 2][0],
                            shapes[s / 2][1]};
        struct numbers n = make_numbers(&p, ROWS);
        size_t count = (size_t)ROWS * p.columns;
        float *first = malloc(count * sizeof(float));
        float *other = malloc(count * sizeof(float));
        run_product(&p, &n, ROWS, first);
        run_product(&p, &n, ROWS, other);
        expect_bits("again", other, first, count);
        for (int t = 0; t < KERNEL_TILE_COUNT; t++) {
            p.tile = t;
            run_product(&p, &n, ROWS, other);
            char what[96];
            name_product(&p, ROWS, what);
            expect_bits(what, other, first, count);
            for (uint32_t row = 0; row < ROWS; row += 37) {
                struct numbers one = n;
                one.source += (size_t)row * p.depth;
                one.before += (size_t)row * p.columns;
                run_product(&p, &one, 1, other);
                expect_bits("alone", other, first + (size_t)row * p.columns, p.columns);
            }
        }
        free(other);
        free(first);
        free_numbers(&n);
    }
}

Test(gpu_products, activations_are_right_over_their_whole_range)
{
    // A matrix of one element passes numbers through the activation alone.
    enum { VALUES = 4001, MIDDLE = 2000 };
    for (int e = KERNEL_QUICK_GELU; e <= KERNEL_GELU; e++) {
        struct product p = {KERNEL_TILE_DIRECT, false, (enum kernel_epilogue)e, 1, 1};
        static float source[VALUES];
        static float target[VALUES];
        float one = 1.0f;
        for (int i = 0; i < VALUES; i++)
            source[i] = (float)(i - MIDDLE) / 50.0f; // -40..40
        struct numbers n = {.weights = &one, .source = source};
        run_product(&p, &n, VALUES, target);
        for (int i = 0; i < VALUES; i++) {
            double x = (double)source[i];
            double expected = activated(p.epilogue, x, 0.0);
            cr_assert(fabs((double)target[i] - expected) <= 4e-7 * fmax(1.0, fabs(x)),
                      "f(%g) = %.9g, expected %.9g", x, (double)target[i], expected);
        }
    }
}
