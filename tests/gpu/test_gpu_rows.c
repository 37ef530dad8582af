// SPDX-License-Identifier: Apache-2.0
// Goal: the kernels that go row by row give what their formulas say, and a row's bits
// depend on that row only.
//
// Method: seeded numbers at widths of 1, around powers of two and of CLIP, with few and with many
// threads to a row, against double precision where numbers are rounded and bit for bit
// where they are only moved or added once.

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "tests/gpu/gpu_fixture.h"
#include "tests/reference/reference.h"

TestSuite(gpu_rows, .init = gpu_fixture_open, .fini = gpu_fixture_close);

int main(int argc, char **argv)
{
    return gpu_fixture_main(argc, argv);
}

static const uint32_t widths[] = {1, 2, 7, 8, 9, 63, 64, 65, 192, 511, 768, 1283};
static const uint32_t thread_counts[] = {8, 64};

// Runs a kernel of one workgroup for each row of its target.
static void run_rows(struct kernel_run *run, uint32_t threads, uint32_t rows)
{
    run->constants = &threads;
    kernel_table_spread(rows, run->groups);
    gpu_fixture_run(run);
}

// Ends all arrays; the elements of `index` go to `target`.
static void end_arrays(struct kernel_run *run, uint32_t index, void *target)
{
    for (uint32_t i = 0; i < kernel_table_entry(run->id)->bindings; i++) {
        if (run->arrays[i].buffer)
            guarded_end(&run->arrays[i], i == index ? target : NULL);
    }
}

// --- layer normalisation

static void layernorm(const float *source, uint32_t rows, uint32_t width, uint32_t threads,
                      bool in_place, float *target)
{
    float *gain = reference_random(width, 31);
    float *bias = reference_random(width, 32);
    size_t count = (size_t)rows * width;
    struct layernorm_args args = {rows, width, 1e-5f};
    struct kernel_run run = {
        .id = KERNEL_LAYERNORM,
        .args = &args,
        .arrays = {guarded_with(source, count), guarded_with(gain, width),
                   guarded_with(bias, width)},
    };
    run.arrays[3] = in_place ? run.arrays[0] : guarded_poisoned(count);
    run_rows(&run, threads, rows);
    if (in_place)
        run.arrays[0].buffer = NULL; // ended as the target
    end_arrays(&run, 3, target);
    free(bias);
    free(gain);
}

Test(gpu_rows, layernorm_agrees_with_the_reference_in_place_too_and_row_by_row)
{
    enum { ROWS = 11 };
    for (size_t i = 0; i < COUNT(widths) * COUNT(thread_counts); i++) {
        uint32_t width = widths[i / COUNT(thread_counts)];
        uint32_t threads = thread_counts[i % COUNT(thread_counts)];
        size_t count = (size_t)ROWS * width;
        float *source = reference_random(count, 33);
        for (size_t c = 0; c < count; c++)
            source[c] += 30.0f; // E[x^2] - E[x]^2 would cancel
        float *gain = reference_random(width, 31);
        float *bias = reference_random(width, 32);
        double *wide = reference_widen(source, count);
        double *wide_gain = reference_widen(gain, width);
        double *wide_bias = reference_widen(bias, width);
        reference_layernorm(
            &(struct reference_layernorm){wide, wide_gain, wide_bias, 1e-5, ROWS, width, wide});
        float *target = malloc(count * sizeof(float));
        float *other = malloc(count * sizeof(float));
        layernorm(source, ROWS, width, threads, false, target);
        char what[64];
        (void)snprintf(what, sizeof(what), "layernorm of %u with %u threads", width, threads);
        // The rounding of the inputs' mean, 2^-24 * 30, is what limits this.
        expect_close(what, target, wide, count, 1e-9);
        layernorm(source, ROWS, width, threads, true, other);
        expect_bits("in place", other, target, count);
        layernorm(source + (size_t)5 * width, 1, width, threads, false, other);
        expect_bits("alone", other, target + (size_t)5 * width, width);
        free(other);
        free(target);
        free(wide_bias);
        free(wide_gain);
        free(wide);
        free(bias);
        free(gain);
        free(source);
    }
}

// --- embeddings, patches, rows

static uint32_t *random_indices(size_t count, uint32_t below, uint64_t seed)
{
    float *values = reference_random(count, seed);
    uint32_t *indices = malloc((count + 1) * sizeof(uint32_t));
    for (size_t i = 0; i < count; i++)
        indices[i] = (uint32_t)((values[i] + 1.0f) * 1048576.0f) % below;
    free(values);
    return indices;
}

Test(gpu_rows, token_embeddings_are_the_tables_row_plus_the_positions_row)
{
    enum { VOCABULARY = 11, CONTEXT = 7, ROWS = 150 };
    for (size_t i = 0; i < COUNT(widths); i++) {
        uint32_t width = widths[i];
        float *table = reference_random((size_t)VOCABULARY * width, 51);
        float *positions = reference_random((size_t)CONTEXT * width, 52);
        uint32_t *ids = random_indices(ROWS, VOCABULARY, 53);
        uint32_t *places = random_indices(ROWS, CONTEXT, 54);
        float *target = malloc((size_t)ROWS * width * sizeof(float));
        // The table in two parts, each of which fills rows of its own.
        const uint32_t split = VOCABULARY / 3;
        struct embed_tokens_args args = {ROWS, width, 0, split};
        struct kernel_run run = {
            .id = KERNEL_EMBED_TOKENS,
            .args = &args,
            .arrays = {guarded_with(table, (size_t)VOCABULARY * width),
                       guarded_with(positions, (size_t)CONTEXT * width), guarded_with(ids, ROWS),
                       guarded_with(places, ROWS), guarded_poisoned((size_t)ROWS * width)},
        };
        run_rows(&run, thread_counts[i % 2], ROWS);
        guarded_end(&run.arrays[0], NULL);
        run.arrays[0] =
            guarded_with(table + (size_t)split * width, (size_t)(VOCABULARY - split) * width);
        args.first = split;
        args.count = VOCABULARY - split;
        run_rows(&run, thread_counts[i % 2], ROWS);
        end_arrays(&run, 4, target);
        for (size_t at = 0; at < (size_t)ROWS * width; at++) {
            size_t row = at / width;
            float expected =
                table[ids[row] * width + at % width] + positions[places[row] * width + at % width];
            expect_bits("embed_tokens", &target[at], &expected, 1);
        }
        free(target);
        free(places);
        free(ids);
        free(positions);
        free(table);
    }
}

Test(gpu_rows, patches_are_cut_as_the_reference_cuts_them)
{
    static const uint32_t shapes[][3] = {{1, 1, 1},  {2, 7, 3},   {3, 32, 8},
                                         {1, 30, 7}, {2, 64, 16}, {1, 28, 14}};
    for (size_t i = 0; i < COUNT(shapes); i++) {
        uint32_t images = shapes[i][0];
        uint32_t size = shapes[i][1];
        uint32_t side = shapes[i][2];
        size_t pixels = (size_t)3 * size * size;
        uint32_t rows = images * (size / side) * (size / side);
        size_t count = (size_t)rows * 3 * side * side;
        float *source = reference_random(images * pixels, 61);
        double *wide = reference_widen(source, images * pixels);
        double *expected = malloc(count * sizeof(double));
        for (uint32_t m = 0; m < images; m++)
            reference_patchify(wide + m * pixels, size, side, expected + m * (count / images));
        float *target = malloc(count * sizeof(float));
        struct patchify_args args = {rows, size, side};
        struct kernel_run run = {
            .id = KERNEL_PATCHIFY,
            .args = &args,
            .arrays = {guarded_with(source, images * pixels), guarded_poisoned(count)},
        };
        run_rows(&run, thread_counts[i % 2], rows);
        end_arrays(&run, 1, target);
        for (size_t at = 0; at < count; at++)
            cr_assert(expected[at] == (double)target[at], "element %zu of %zu", at, count);
        free(target);
        free(expected);
        free(wide);
        free(source);
    }
}

Test(gpu_rows, patches_of_bytes_are_those_of_the_floats_that_they_stand_for)
{
    static const uint32_t shapes[][3] = {{3, 1, 1},  {2, 7, 3},   {3, 13, 4},
                                         {1, 30, 7}, {2, 64, 16}, {1, 28, 14}};
    for (size_t i = 0; i < COUNT(shapes); i++) {
        uint32_t images = shapes[i][0];
        uint32_t size = shapes[i][1];
        uint32_t side = shapes[i][2];
        size_t plane = (size_t)size * size;
        size_t words = (3 * plane + 3) / 4;
        uint32_t rows = images * (size / side) * (size / side);
        size_t count = (size_t)rows * 3 * side * side;
        uint32_t *source = random_indices(images * words, UINT32_MAX, 62);
        float *table = reference_random((size_t)3 * 256, 63);
        double *wide = malloc(3 * plane * sizeof(double));
        double *expected = malloc(count * sizeof(double));
        for (uint32_t m = 0; m < images; m++) {
            for (size_t at = 0; at < 3 * plane; at++) {
                uint32_t byte = source[m * words + at / 4] >> at % 4 * 8 & 0xff;
                wide[at % 3 * plane + at / 3] = (double)table[at % 3 * 256 + byte];
            }
            reference_patchify(wide, size, side, expected + m * (count / images));
        }
        float *target = malloc(count * sizeof(float));
        struct patchify_args args = {rows, size, side};
        struct kernel_run run = {
            .id = KERNEL_PATCHIFY_NORMALISE,
            .args = &args,
            .arrays = {guarded_with(source, images * words), guarded_with(table, (size_t)3 * 256),
                       guarded_poisoned(count)},
        };
        run_rows(&run, thread_counts[i % 2], rows);
        end_arrays(&run, 2, target);
        for (size_t at = 0; at < count; at++)
            cr_assert(expected[at] == (double)target[at], "element %zu of %zu", at, count);
        free(target);
        free(expected);
        free(wide);
        free(table);
        free(source);
    }
}

Test(gpu_rows, each_picture_gets_the_class_token_then_its_patches_with_positions)
{
    enum { IMAGES = 3, GRID = 4 };
    for (size_t i = 0; i < COUNT(widths); i++) {
        uint32_t width = widths[i];
        float *patches = reference_random((size_t)IMAGES * GRID * width, 71);
        float *first = reference_random(width, 72);
        float *positions = reference_random((size_t)(GRID + 1) * width, 73);
        size_t count = (size_t)IMAGES * (GRID + 1) * width;
        float *target = malloc(count * sizeof(float));
        struct embed_patches_args args = {IMAGES * (GRID + 1), GRID, width};
        struct kernel_run run = {
            .id = KERNEL_EMBED_PATCHES,
            .args = &args,
            .arrays = {guarded_with(patches, (size_t)IMAGES * GRID * width),
                       guarded_with(first, width),
                       guarded_with(positions, (size_t)(GRID + 1) * width),
                       guarded_poisoned(count)},
        };
        run_rows(&run, thread_counts[i % 2], args.rows);
        end_arrays(&run, 3, target);
        for (size_t at = 0; at < count; at++) {
            size_t image = at / width / (GRID + 1);
            size_t place = at / width % (GRID + 1);
            size_t c = at % width;
            float value = place == 0 ? first[c] : patches[(image * GRID + place - 1) * width + c];
            float expected = value + positions[place * width + c];
            expect_bits("embed_patches", &target[at], &expected, 1);
        }
        free(target);
        free(positions);
        free(first);
        free(patches);
    }
}

Test(gpu_rows, gather_copies_the_named_rows)
{
    enum { SOURCES = 13, ROWS = 29 };
    for (size_t i = 0; i < COUNT(widths); i++) {
        uint32_t width = widths[i];
        float *source = reference_random((size_t)SOURCES * width, 81);
        uint32_t *rows = random_indices(ROWS, SOURCES, 82);
        float *target = malloc((size_t)ROWS * width * sizeof(float));
        struct gather_args args = {ROWS, width};
        struct kernel_run run = {
            .id = KERNEL_GATHER,
            .args = &args,
            .arrays = {guarded_with(source, (size_t)SOURCES * width), guarded_with(rows, ROWS),
                       guarded_poisoned((size_t)ROWS * width)},
        };
        run_rows(&run, thread_counts[i % 2], ROWS);
        end_arrays(&run, 2, target);
        for (uint32_t row = 0; row < ROWS; row++)
            expect_bits("gather", target + (size_t)row * width, source + (size_t)rows[row] * width,
                        width);
        free(target);
        free(rows);
        free(source);
    }
}

Test(gpu_rows, more_rows_than_workgroups_along_one_axis_are_all_done)
{
    enum { ROWS = 65536 + 3 };
    uint32_t *rows = random_indices(ROWS, 5, 83);
    float source[5] = {1.5f, 2.5f, 3.5f, 4.5f, 5.5f};
    float *target = malloc(ROWS * sizeof(float));
    struct gather_args args = {ROWS, 1};
    struct kernel_run run = {
        .id = KERNEL_GATHER,
        .args = &args,
        .arrays = {guarded_with(source, 5), guarded_with(rows, ROWS), guarded_poisoned(ROWS)},
    };
    run_rows(&run, 8, ROWS);
    cr_expect(gt(u32, run.groups[1], 1));
    end_arrays(&run, 2, target);
    for (uint32_t row = 0; row < ROWS; row++)
        expect_bits("gather", &target[row], &source[rows[row]], 1);
    free(target);
    free(rows);
}

// --- unit vectors

// Returns the flag.
static uint32_t normalise(float *values, uint32_t rows, uint32_t width, uint32_t threads)
{
    uint32_t flag = UINT32_MAX;
    struct normalise_args args = {rows, width};
    struct kernel_run run = {
        .id = KERNEL_NORMALISE,
        .args = &args,
        .arrays = {guarded_with(values, (size_t)rows * width), guarded_with(&flag, 1)},
    };
    run_rows(&run, threads, rows);
    guarded_end(&run.arrays[0], values);
    guarded_end(&run.arrays[1], &flag);
    return flag;
}

Test(gpu_rows, normalised_rows_agree_with_the_reference_and_with_themselves_alone)
{
    enum { ROWS = 7 };
    static const float scales[ROWS] = {1.0f, 1e-20f, 1e20f, 1e30f, 1e-30f, 3.0f, 1e3f};
    for (size_t i = 0; i < COUNT(widths) * COUNT(thread_counts); i++) {
        uint32_t width = widths[i / COUNT(thread_counts)];
        uint32_t threads = thread_counts[i % COUNT(thread_counts)];
        size_t count = (size_t)ROWS * width;
        float *values = reference_random(count, 91);
        for (size_t at = 0; at < count; at++)
            values[at] *= scales[at / width];
        float *alone = copy_of(values, count * sizeof(float));
        double *expected = reference_widen(values, count);
        cr_expect(eq(u32, normalise(values, ROWS, width, threads), UINT32_MAX));
        for (uint32_t row = 0; row < ROWS; row++) {
            reference_normalise(expected + (size_t)row * width, width);
            cr_expect(
                eq(u32, normalise(alone + (size_t)row * width, 1, width, threads), UINT32_MAX));
        }
        expect_close("normalise", values, expected, count, 1e-12);
        expect_bits("normalise alone", alone, values, count);
        free(expected);
        free(alone);
        free(values);
    }
}

Test(gpu_rows, the_first_row_without_a_direction_is_flagged_and_left_as_it_is)
{
    static const float bad[] = {0.0f, NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < COUNT(bad); i++) {
        float rows[5][3] = {{1, 2, 3}, {3, 4, 5}, {0, bad[i], 0}, {0, 0, bad[i]}, {2, 3, 4}};
        cr_expect(eq(u32, normalise(&rows[0][0], 5, 3, 8), 2));
        cr_expect(memcmp(&rows[2][1], &bad[i], sizeof(float)) == 0);
        cr_expect(fabsf(rows[1][0] - 3.0f / sqrtf(50.0f)) < 1e-6f);
    }
}
