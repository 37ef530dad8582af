// SPDX-License-Identifier: Apache-2.0
// Goal: both kinds of products are right and give a row the same bits everywhere; our own gives
// them with every kind of register.
//
// Method: seeded numbers of odd sizes, also around the chunks of the depth, the panels and the
// groups of rows; double precision; then bit for bit. What all backends promise is in test_ops.c.

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/cpu.h"
#include "proto/base/hash.h"
#include "proto/base/mem.h"
#include "shaders/cpu/dense_fma.h"
#include "shaders/cpu/dense_internal.h"
#include "tests/reference/reference.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
// Normalised squared: single precision stays below, a wrong index is far above.
#ifdef __aarch64__
#define ERROR_MAX 2e-12 // oneDNN there, 3,100 products: 1.05e-12
#else
#define ERROR_MAX 1e-12
#endif

// Eight bits of a mantissa, rounded: 2^-9 at most, 2^-18 / 3 squared on average, for both factors.
#define BF16_ERROR_MAX 5e-6

struct shape {
    uint32_t columns;
    uint32_t depth;
    enum dense_epilogue epilogue;
};

// Depths of one chunk and of several, equal and unequal; columns that end anywhere in a panel.
static const struct shape shapes[] = {
    {1, 1, DENSE_PLAIN},    {31, 3, DENSE_ADD},     {33, 1023, DENSE_QUICK_GELU},
    {16, 1024, DENSE_GELU}, {65, 1025, DENSE_ADD},  {17, 2049, DENSE_PLAIN},
    {300, 64, DENSE_ADD},   {513, 130, DENSE_GELU}, {7, 3100, DENSE_QUICK_GELU},
};

// A kind that this CPU can run.
struct choice {
    const char *name;
    const struct dense_kind *kind;
    double error_max;
};

enum { CHOICES_MAX = 4 };

static size_t choices(struct choice out[CHOICES_MAX])
{
    size_t count = 0;
    out[count++] = (struct choice){"oneDNN", &dense_tiles_kind, ERROR_MAX};
    if (dense_fma_best()) {
        out[count++] = (struct choice){"panels", &dense_panels_kind, ERROR_MAX};
        out[count++] = (struct choice){"panels of AVX2", &dense_panels_avx2_kind, ERROR_MAX};
    }
    if (cpu_has_bf16())
        out[count++] =
            (struct choice){"panels of bfloat16", &dense_panels_bf16_kind, BF16_ERROR_MAX};
    return count;
}

struct fixture {
    struct team *team;
    struct dense *dense;
};

static struct fixture open_kind(const struct dense_kind *kind, uint32_t threads)
{
    struct fixture fixture = {NULL, NULL};
    struct reason why = {0};
    cr_assert(eq(int, team_create(threads, &fixture.team, &why), STATUS_OK), "%s", why.text);
    cr_assert(eq(int, dense_open_kind(kind, fixture.team, &fixture.dense, &why), STATUS_OK), "%s",
              why.text);
    return fixture;
}

static void end(struct fixture *fixture)
{
    dense_close(&fixture->dense);
    team_destroy(&fixture->team);
}

static struct dense_matrix *prepare(struct fixture *fixture, const struct shape *shape)
{
    float *weights = reference_random((size_t)shape->columns * shape->depth, 1);
    float *bias = reference_random(shape->columns, 2);
    struct dense_matrix *matrix = NULL;
    struct reason why = {0};
    const struct dense_params params = {.weights = weights,
                                        .bias = bias,
                                        .columns = shape->columns,
                                        .depth = shape->depth,
                                        .epilogue = shape->epilogue};
    cr_assert(eq(int, dense_prepare(fixture->dense, &params, &matrix, &why), STATUS_OK), "%s",
              why.text);
    free(bias);
    free(weights);
    return matrix;
}

// Runs `rows` rows of a long source from its row `first` on; the caller frees the target.
static float *multiply(struct fixture *fixture, const struct dense_matrix *matrix,
                       const struct shape *shape, size_t first, size_t rows)
{
    size_t padded = (rows + DENSE_ROWS - 1) / DENSE_ROWS * DENSE_ROWS;
    float *source = reference_random((first + padded) * shape->depth, 3);
    float *target = reference_random((first + padded) * shape->columns, 4);
    struct reason why = {0};
    cr_assert(eq(int,
                 dense_run(fixture->dense, matrix, source + first * shape->depth, rows,
                           target + first * shape->columns, &why),
                 STATUS_OK),
              "%s", why.text);
    memmove(target, target + first * shape->columns, rows * shape->columns * sizeof(float));
    free(source);
    return target;
}

static double *random_doubles(size_t count, uint64_t seed)
{
    float *values = reference_random(count, seed);
    double *wide = reference_widen(values, count);
    free(values);
    return wide;
}

static double *expected(const struct shape *shape, size_t rows)
{
    double *source = random_doubles(rows * shape->depth, 3);
    double *target = random_doubles(rows * shape->columns, 4);
    double *weights = random_doubles((size_t)shape->columns * shape->depth, 1);
    double *bias = random_doubles(shape->columns, 2);
    double *product = calloc(rows * shape->columns, sizeof(double));
    cr_assert(product != NULL);
    reference_product(&(struct reference_product){source, weights, bias, rows, shape->columns,
                                                  shape->depth, product});
    for (size_t i = 0; i < rows * shape->columns; i++) {
        if (shape->epilogue == DENSE_ADD)
            target[i] += product[i];
        else if (shape->epilogue == DENSE_QUICK_GELU)
            target[i] = reference_quick_gelu(product[i]);
        else
            target[i] = shape->epilogue == DENSE_GELU ? reference_gelu(product[i]) : product[i];
    }
    free(product);
    free(bias);
    free(weights);
    free(source);
    return target;
}

Test(dense, every_kind_multiplies)
{
    struct choice kinds[CHOICES_MAX];
    size_t count = choices(kinds);
    for (size_t k = 0; k < count; k++) {
        struct fixture fixture = open_kind(kinds[k].kind, 2);
        for (size_t s = 0; s < COUNT(shapes); s++) {
            const size_t rows = 115; // two groups
            struct dense_matrix *matrix = prepare(&fixture, &shapes[s]);
            float *got = multiply(&fixture, matrix, &shapes[s], 0, rows);
            double *wanted = expected(&shapes[s], rows);
            double error = reference_squared_error(got, wanted, rows * shapes[s].columns);
            cr_expect(error < kinds[k].error_max, "%s, %u x %u: %g", kinds[k].name,
                      shapes[s].columns, shapes[s].depth, error);
            free(wanted);
            free(got);
            dense_free(&matrix);
        }
        end(&fixture);
    }
}

Test(dense, a_row_has_the_same_bits_in_every_batch_place_and_thread_count)
{
    static const size_t batches[] = {2, 5, 6, 7, 13, 14, 15, 50, 111, 113, 230};
    struct choice kinds[CHOICES_MAX];
    size_t count = choices(kinds);
    for (size_t k = 0; k < count; k++) {
        struct fixture one = open_kind(kinds[k].kind, 1);
        struct fixture two = open_kind(kinds[k].kind, 2);
        for (size_t s = 0; s < COUNT(shapes); s++) {
            const struct shape *shape = &shapes[s];
            struct dense_matrix *matrix = prepare(&one, shape);
            struct dense_matrix *other = prepare(&two, shape);
            float *all = multiply(&one, matrix, shape, 0, 240);
            for (size_t b = 0; b < COUNT(batches); b++) {
                size_t first = 240 - batches[b];
                float *some =
                    multiply(b % 2 ? &one : &two, b % 2 ? matrix : other, shape, first, batches[b]);
                cr_expect(memcmp(some, all + first * shape->columns,
                                 batches[b] * shape->columns * sizeof(float)) == 0,
                          "%s, %u x %u, %zu rows", kinds[k].name, shape->columns, shape->depth,
                          batches[b]);
                free(some);
            }
            free(all);
            dense_free(&matrix);
            dense_free(&other);
        }
        end(&two);
        end(&one);
    }
}

// Weights that are read from an array, until none may be read any more.
struct shelf {
    float *weights;
    uint32_t depth;
    atomic_size_t reads;
    atomic_bool closed;
};

static enum status read_shelf(void *context, uint32_t first, uint32_t count, uint32_t at,
                              uint32_t depth, float *target)
{
    struct shelf *shelf = context;
    if (atomic_load(&shelf->closed))
        return STATUS_CORRUPT;
    atomic_fetch_add(&shelf->reads, 1);
    for (uint32_t row = 0; row < count; row++)
        memcpy(target + (size_t)row * depth,
               shelf->weights + (size_t)(first + row) * shelf->depth + at, depth * sizeof(float));
    return STATUS_OK;
}

static struct dense_matrix *prepare_late(struct fixture *fixture, const struct shape *shape,
                                         struct shelf *shelf, bool late)
{
    float *bias = reference_random(shape->columns, 2);
    shelf->weights = reference_random((size_t)shape->columns * shape->depth, 1);
    shelf->depth = shape->depth;
    atomic_init(&shelf->reads, 0);
    atomic_init(&shelf->closed, false);
    const struct dense_params params = {.bias = bias,
                                        .columns = shape->columns,
                                        .depth = shape->depth,
                                        .epilogue = shape->epilogue,
                                        .rows = read_shelf,
                                        .context = shelf,
                                        .late = late};
    struct dense_matrix *matrix = NULL;
    struct reason why = {0};
    cr_assert(eq(int, dense_prepare(fixture->dense, &params, &matrix, &why), STATUS_OK), "%s",
              why.text);
    free(bias);
    return matrix;
}

Test(dense, weights_that_are_read_give_the_same_bits_at_once_and_late)
{
    struct choice kinds[CHOICES_MAX];
    size_t count = choices(kinds);
    for (size_t k = 0; k < count; k++) {
        struct fixture fixture = open_kind(kinds[k].kind, 2);
        for (size_t s = 0; s < 2 * COUNT(shapes); s++) {
            const struct shape *shape = &shapes[s / 2];
            bool late = s % 2 && kinds[k].kind->takes_rows;
            struct shelf shelf;
            struct dense_matrix *matrix = prepare(&fixture, shape);
            struct dense_matrix *read = prepare_late(&fixture, shape, &shelf, s % 2);
            cr_expect(eq(int, atomic_load(&shelf.reads) == 0, late));
            float *wanted = multiply(&fixture, matrix, shape, 0, 115); // two groups of rows
            // The first time as they are read, the second time prepared; then nothing is read any
            // more.
            for (int run = 0; run < 3; run++) {
                atomic_store(&shelf.closed, run == 2 || !late);
                float *got = multiply(&fixture, read, shape, 0, 115);
                cr_expect(memcmp(got, wanted, (size_t)115 * shape->columns * sizeof(float)) == 0,
                          "%s, %u x %u, run %d", kinds[k].name, shape->columns, shape->depth, run);
                free(got);
            }
            free(wanted);
            dense_free(&read);
            dense_free(&matrix);
            free(shelf.weights);
        }
        end(&fixture);
    }
}

Test(dense, late_weights_that_cannot_be_read_or_kept_fail_the_product)
{
    if (!dense_fma_best())
        cr_skip("oneDNN prepares at once");
    const struct shape shape = {300, 64, DENSE_PLAIN};
    struct fixture fixture = open_kind(&dense_panels_kind, 2);
    struct shelf shelf;
    struct dense_matrix *matrix = prepare_late(&fixture, &shape, &shelf, true);
    float *source = reference_random((size_t)16 * shape.depth, 3);
    float *target = reference_random((size_t)16 * shape.columns, 4);
    struct reason why = {0};
    atomic_store(&shelf.closed, true);
    for (int run = 0; run < 2; run++)
        cr_expect(
            eq(int, dense_run(fixture.dense, matrix, source, 5, target, &why), STATUS_CORRUPT));
    atomic_store(&shelf.closed, false);
    mem_fail_after(1);
    cr_expect(eq(int, dense_run(fixture.dense, matrix, source, 5, target, &why), STATUS_NO_MEMORY));
    mem_fail_after(0);
    cr_expect(eq(int, dense_run(fixture.dense, matrix, source, 5, target, &why), STATUS_OK));
    free(target);
    free(source);
    dense_free(&matrix);
    free(shelf.weights);
    end(&fixture);
}

Test(dense, our_own_products_have_the_same_bits_with_every_register)
{
    if (!dense_fma_best())
        cr_skip("this CPU has no fused multiply-add");
    struct fixture best = open_kind(&dense_panels_kind, 2);
    struct fixture avx2 = open_kind(&dense_panels_avx2_kind, 2);
    for (size_t s = 0; s < COUNT(shapes); s++) {
        struct dense_matrix *matrix = prepare(&best, &shapes[s]);
        struct dense_matrix *other = prepare(&avx2, &shapes[s]);
        float *a = multiply(&best, matrix, &shapes[s], 0, 40);
        float *b = multiply(&avx2, other, &shapes[s], 0, 40);
        cr_expect(memcmp(a, b, (size_t)40 * shapes[s].columns * sizeof(float)) == 0, "%u x %u",
                  shapes[s].columns, shapes[s].depth);
        free(b);
        free(a);
        dense_free(&other);
        dense_free(&matrix);
    }
    end(&avx2);
    end(&best);
}

// The test above compares what one machine has. This number holds x86 and AArch64 together.
Test(dense, our_own_products_are_those_of_every_machine)
{
    if (!dense_fma_best())
        cr_skip("this CPU has no fused multiply-add");
    struct fixture fixture = open_kind(&dense_panels_kind, 1);
    uint64_t hashes[COUNT(shapes)];
    for (size_t s = 0; s < COUNT(shapes); s++) {
        struct dense_matrix *matrix = prepare(&fixture, &shapes[s]);
        float *product = multiply(&fixture, matrix, &shapes[s], 0, 40);
        hashes[s] = hash_id(product, (size_t)40 * shapes[s].columns * sizeof(float));
        free(product);
        dense_free(&matrix);
    }
    cr_expect(eq(u64, hash_id(hashes, sizeof(hashes)), UINT64_C(0xd335555f21d70f21)));
    end(&fixture);
}

// Numbers that bfloat16 has, with sums that single precision has, so that nothing is rounded.
static void make_whole(float *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        values[i] = (float)(int)(values[i] * 100.0f);
}

Test(dense, bfloat16_is_exact_where_its_numbers_are)
{
    if (!cpu_has_bf16())
        cr_skip("this CPU has no bfloat16");
    struct fixture single = open_kind(&dense_panels_kind, 2);
    struct fixture half = open_kind(&dense_panels_bf16_kind, 2);
    for (size_t s = 0; s < COUNT(shapes); s++) {
        const struct shape *shape = &shapes[s];
        enum { ROWS = 21 };
        float *weights = reference_random((size_t)shape->columns * shape->depth, 1);
        float *source = reference_random((size_t)32 * shape->depth, 3);
        float *wanted = reference_random((size_t)32 * shape->columns, 4);
        float *got = reference_random((size_t)32 * shape->columns, 4);
        make_whole(weights, (size_t)shape->columns * shape->depth);
        make_whole(source, (size_t)32 * shape->depth);
        const struct dense_params params = {.weights = weights,
                                            .columns = shape->columns,
                                            .depth = shape->depth,
                                            .epilogue = shape->epilogue};
        struct dense_matrix *a = NULL;
        struct dense_matrix *b = NULL;
        cr_assert(eq(int, dense_prepare(single.dense, &params, &a, NULL), STATUS_OK));
        cr_assert(eq(int, dense_prepare(half.dense, &params, &b, NULL), STATUS_OK));
        cr_assert(eq(int, dense_run(single.dense, a, source, ROWS, wanted, NULL), STATUS_OK));
        cr_assert(eq(int, dense_run(half.dense, b, source, ROWS, got, NULL), STATUS_OK));
        cr_expect(memcmp(got, wanted, (size_t)ROWS * shape->columns * sizeof(float)) == 0,
                  "%u x %u", shape->columns, shape->depth);
        dense_free(&b);
        dense_free(&a);
        free(got);
        free(wanted);
        free(source);
        free(weights);
    }
    end(&half);
    end(&single);
}

Test(dense, bfloat16_where_there_is_none_is_refused)
{
    struct team *team = NULL;
    struct dense *dense = NULL;
    struct reason why = {0};
    cr_assert(eq(int, team_create(1, &team, &why), STATUS_OK));
    enum status status = dense_open(team, DENSE_BF16, &dense, &why);
    cr_expect(eq(int, status, cpu_has_bf16() ? STATUS_OK : STATUS_UNSUPPORTED));
    cr_expect(eq(int, status == STATUS_OK, strstr(why.text, "AVX512-BF16") == NULL));
    dense_close(&dense);
    team_destroy(&team);
}

Test(dense, only_rows_and_columns_of_the_product_are_written)
{
    if (!dense_fma_best())
        cr_skip("oneDNN writes the rows behind");
    const struct shape shape = {33, 40, DENSE_PLAIN};
    struct fixture fixture = open_kind(&dense_panels_kind, 2);
    struct dense_matrix *matrix = prepare(&fixture, &shape);
    float *before = reference_random((size_t)64 * shape.columns, 4);
    float *source = reference_random((size_t)64 * shape.depth, 3);
    float *target = reference_random((size_t)64 * shape.columns, 4);
    cr_assert(eq(int, dense_run(fixture.dense, matrix, source, 50, target, NULL), STATUS_OK));
    cr_expect(memcmp(target + 50 * shape.columns, before + 50 * shape.columns,
                     14 * shape.columns * sizeof(float)) == 0);
    free(target);
    free(source);
    free(before);
    dense_free(&matrix);
    end(&fixture);
}

Test(dense, says_when_memory_is_out)
{
    struct choice kinds[CHOICES_MAX];
    size_t count = choices(kinds);
    for (size_t k = 0; k < count; k++) {
        struct fixture fixture = open_kind(kinds[k].kind, 2);
        const float weight = 1.0f;
        const struct dense_params params = {.weights = &weight, .columns = 1, .depth = 1};
        struct dense_matrix *matrix = NULL;
        struct reason why = {0};
        mem_fail_after(1);
        cr_expect(eq(int, dense_prepare(fixture.dense, &params, &matrix, &why), STATUS_NO_MEMORY),
                  "%s", kinds[k].name);
        mem_fail_after(0);
        cr_expect(eq(ptr, matrix, NULL));
        cr_expect(strstr(why.text, "1 x 1") != NULL, "%s", why.text);
        end(&fixture);

        struct dense *dense = NULL;
        struct team *team = NULL;
        cr_assert(eq(int, team_create(2, &team, &why), STATUS_OK));
        if (kinds[k].kind != &dense_tiles_kind) {
            mem_fail_after(2); // the second worker's memory
            cr_expect(
                eq(int, dense_open_kind(kinds[k].kind, team, &dense, &why), STATUS_NO_MEMORY));
            mem_fail_after(0);
        }
        team_destroy(&team);
    }
}

Test(dense, the_peak_is_a_rate_that_a_product_stays_below)
{
    struct team *team = NULL;
    struct reason why = {0};
    cr_assert(eq(int, team_create(1, &team, &why), STATUS_OK));
    double peak = dense_peak(team, DENSE_SINGLE);
    cr_expect(peak > 1e8 && peak < 1e13, "%g", peak); // a tenth of a GFLOP/s: under valgrind
    team_destroy(&team);
}
