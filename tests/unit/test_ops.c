// SPDX-License-Identifier: Apache-2.0
// Goal: every operation of the table gives what its formula says, and a row's bits
// depend on its own sequence only.
//
// Method: each operation against the double precision reference on seeded numbers and
// odd sizes; then the same row alone, among others, at other places, with one and
// with two threads, compared bit for bit. A new backend must pass this file.

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "shaders/ops/ops.h"
#include "tests/reference/reference.h"
#include "tests/support/vulkan_device.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

// Single precision with sums of up to 3,072 products stays below this; a wrong sign, index or
// constant is far above. A GPU adds them up in one chain.
#define ERROR_MAX 1e-12
#define ERROR_MAX_CHAIN 5e-12
#define ERROR_MAX_HALF 1e-6 // both operands rounded to halves

// --- common to the tests

// Whether two arrays are the same bits, which for floats is more than being equal.
static bool same_bits(const void *a, const void *b, size_t bytes)
{
    return memcmp(a, b, bytes) == 0;
}

// Whether `text` holds `part`.
static bool has(const char *text, const char *part)
{
    return strstr(text, part) != NULL;
}

static struct ops *open_ops(uint32_t threads)
{
    struct ops *ops = NULL;
    struct reason why = {0};
    cr_assert(eq(int, ops_open(vulkan_device_name(), threads, &ops, &why), STATUS_OK), "%s",
              why.text);
    return ops;
}

static struct ops_buffer *buffer_with(struct ops *ops, const void *data, size_t count, size_t room)
{
    struct ops_buffer *buffer = NULL;
    cr_assert(eq(int, ops_alloc(ops, room, &buffer, NULL), STATUS_OK));
    cr_assert(eq(int, ops_upload(ops, buffer, 0, data, count, NULL), STATUS_OK));
    return buffer;
}

static void fetch(struct ops *ops, const struct ops_buffer *buffer, float *target, size_t count)
{
    cr_assert(eq(int, ops_download(ops, buffer, 0, target, count, NULL), STATUS_OK));
}

static void expect_close(const char *what, const float *got, const double *expected, size_t count)
{
    const double error = reference_squared_error(got, expected, count);
    const double most = vulkan_device_is_half()                    ? ERROR_MAX_HALF
                        : strcmp(vulkan_device_name(), "cpu") == 0 ? ERROR_MAX
                                                                   : ERROR_MAX_CHAIN;
    cr_expect(error < most, "%s: normalised squared error %g", what, error);
}

static void expect_bits(const char *what, const float *got, const float *expected, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!same_bits(&got[i], &expected[i], sizeof(float)))
            cr_fail("%s: element %zu of %zu is %.9g instead of %.9g", what, i, count,
                    (double)got[i], (double)expected[i]);
    }
}

// --- matrix products

struct product_case {
    uint32_t columns;
    uint32_t depth;
    bool bias;
    enum ops_epilogue epilogue;
};

// Odd sizes, sizes around the tiles and blocks, and the shapes of CLIP.
static const struct product_case product_cases[] = {
    {1, 1, true, OPS_PLAIN},         {1, 7, false, OPS_ADD},       {3, 5, true, OPS_QUICK_GELU},
    {15, 17, true, OPS_GELU},        {16, 16, false, OPS_PLAIN},   {17, 31, true, OPS_ADD},
    {127, 33, true, OPS_QUICK_GELU}, {128, 64, true, OPS_GELU},    {129, 65, false, OPS_PLAIN},
    {131, 300, true, OPS_ADD},       {257, 96, true, OPS_PLAIN},   {384, 192, true, OPS_QUICK_GELU},
    {192, 768, true, OPS_ADD},       {512, 768, false, OPS_PLAIN}, {768, 3072, true, OPS_ADD},
    {1024, 588, false, OPS_PLAIN},
};

static struct ops_matrix *make_matrix(struct ops *ops, const struct product_case *c)
{
    float *weights = reference_random((size_t)c->columns * c->depth, 11);
    float *bias = reference_random(c->columns, 12);
    struct ops_matrix *matrix = NULL;
    struct reason why = {0};
    struct ops_matrix_params params = {.weights = weights,
                                       .bias = c->bias ? bias : NULL,
                                       .columns = c->columns,
                                       .depth = c->depth,
                                       .epilogue = c->epilogue};
    cr_assert(eq(int, ops_matrix_create(ops, &params, &matrix, &why), STATUS_OK), "%s", why.text);
    free(weights);
    free(bias);
    return matrix;
}

// target holds what the epilogue OPS_ADD adds to, then the result.
static void product(struct ops *ops, const struct ops_matrix *matrix, const struct product_case *c,
                    const float *source, size_t rows, float *target)
{
    size_t padded = ops_rows_padded(ops, rows);
    struct ops_buffer *from = buffer_with(ops, source, rows * c->depth, padded * c->depth);
    struct ops_buffer *to = buffer_with(ops, target, rows * c->columns, padded * c->columns);
    struct reason why = {0};
    enum status status = ops_product(ops, matrix, (struct ops_view){from, 0, rows, c->depth},
                                     (struct ops_view){to, 0, rows, c->columns}, &why);
    cr_assert(eq(int, status, STATUS_OK), "%s", why.text);
    fetch(ops, to, target, rows * c->columns);
    ops_free(ops, &from);
    ops_free(ops, &to);
}

static double *expected_product(const struct product_case *c, const float *source,
                                const float *before, size_t rows)
{
    float *weights = reference_random((size_t)c->columns * c->depth, 11);
    float *bias = reference_random(c->columns, 12);
    double *wide_source = reference_widen(source, rows * c->depth);
    double *wide_weights = reference_widen(weights, (size_t)c->columns * c->depth);
    double *wide_bias = reference_widen(bias, c->columns);
    double *target = reference_widen(before, rows * c->columns);
    double *product = reference_widen(before, rows * c->columns);
    reference_product(&(struct reference_product){wide_source, wide_weights,
                                                  c->bias ? wide_bias : NULL, rows, c->columns,
                                                  c->depth, product});
    for (size_t i = 0; i < rows * c->columns; i++) {
        if (c->epilogue == OPS_ADD)
            target[i] += product[i];
        else if (c->epilogue == OPS_QUICK_GELU)
            target[i] = reference_quick_gelu(product[i]);
        else
            target[i] = c->epilogue == OPS_GELU ? reference_gelu(product[i]) : product[i];
    }
    free(product);
    free(wide_bias);
    free(wide_weights);
    free(wide_source);
    free(bias);
    free(weights);
    return target;
}

Test(ops, product_is_source_times_weights_plus_bias_through_its_epilogue)
{
    static const size_t row_counts[] = {1, 2, 15, 16, 17, 50};
    struct ops *ops = open_ops(2);
    for (size_t i = 0; i < COUNT(product_cases); i++) {
        const struct product_case *c = &product_cases[i];
        struct ops_matrix *matrix = make_matrix(ops, c);
        cr_expect(eq(u32, ops_matrix_columns(matrix), c->columns));
        for (size_t r = 0; r < COUNT(row_counts); r++) {
            size_t rows = row_counts[r];
            float *source = reference_random(rows * c->depth, 13);
            float *target = reference_random(rows * c->columns, 14);
            double *expected = expected_product(c, source, target, rows);
            char what[96];
            (void)snprintf(what, sizeof(what), "%u x %u, epilogue %d, %zu rows", c->columns,
                           c->depth, (int)c->epilogue, rows);
            product(ops, matrix, c, source, rows, target);
            expect_close(what, target, expected, rows * c->columns);
            free(expected);
            free(target);
            free(source);
        }
        ops_matrix_destroy(ops, &matrix);
        cr_expect(eq(ptr, matrix, NULL));
    }
    ops_close(&ops);
    cr_expect(eq(ptr, ops, NULL));
}

// One row alone, then the same row at every place of batches of other rows.
static void row_is_alone_in_batch(struct ops *ops, const struct product_case *c, const float *row,
                                  const float *before, const float *alone, size_t rows)
{
    struct ops_matrix *matrix = make_matrix(ops, c);
    for (size_t place = 0; place<rows; place += rows> 7 ? 13 : 1) {
        float *source = reference_random(rows * c->depth, 100 + place);
        float *target = reference_random(rows * c->columns, 200 + place);
        memcpy(source + place * c->depth, row, c->depth * sizeof(float));
        memcpy(target + place * c->columns, before, c->columns * sizeof(float));
        product(ops, matrix, c, source, rows, target);
        char what[96];
        (void)snprintf(what, sizeof(what), "%u x %u, place %zu of %zu", c->columns, c->depth, place,
                       rows);
        expect_bits(what, target + place * c->columns, alone, c->columns);
        free(target);
        free(source);
    }
    ops_matrix_destroy(ops, &matrix);
}

Test(ops, a_row_of_a_product_has_the_same_bits_in_every_batch_place_and_thread_count)
{
    struct ops *one = open_ops(1);
    struct ops *two = open_ops(2);
    for (size_t i = 0; i < COUNT(product_cases); i++) {
        const struct product_case *c = &product_cases[i];
        float *row = reference_random(c->depth, 21);
        float *before = reference_random(c->columns, 22);
        float *alone = reference_random(c->columns, 22);
        struct ops_matrix *matrix = make_matrix(one, c);
        product(one, matrix, c, row, 1, alone);
        ops_matrix_destroy(one, &matrix);

        row_is_alone_in_batch(one, c, row, before, alone, 7);
        row_is_alone_in_batch(two, c, row, before, alone, 7);
        row_is_alone_in_batch(two, c, row, before, alone, 1);
        row_is_alone_in_batch(one, c, row, before, alone, 150);
        row_is_alone_in_batch(two, c, row, before, alone, 150);
        free(alone);
        free(before);
        free(row);
    }
    ops_close(&two);
    ops_close(&one);
}

Test(ops, activations_are_right_over_their_whole_range)
{
    // A 1 x 1 matrix of one passes numbers through the activation alone.
    enum { VALUES = 4001, MIDDLE = 2000 };
    static const enum ops_epilogue epilogues[] = {OPS_QUICK_GELU, OPS_GELU};
    struct ops *ops = open_ops(1);
    const float one = 1.0f;
    for (size_t e = 0; e < COUNT(epilogues); e++) {
        struct ops_matrix *matrix = NULL;
        const struct ops_matrix_params params = {
            .weights = &one, .columns = 1, .depth = 1, .epilogue = epilogues[e]};
        cr_assert(eq(int, ops_matrix_create(ops, &params, &matrix, NULL), STATUS_OK));
        const struct product_case c = {1, 1, false, epilogues[e]};
        static float source[VALUES];
        static float target[VALUES];
        for (int i = 0; i < VALUES; i++)
            source[i] = (float)(i - MIDDLE) / 50.0f; // -40..40
        product(ops, matrix, &c, source, VALUES, target);
        for (int i = 0; i < VALUES; i++) {
            double x = (double)source[i];
            double expected =
                epilogues[e] == OPS_GELU ? reference_gelu(x) : reference_quick_gelu(x);
            double allowed = (vulkan_device_is_half() ? 1e-3 : 4e-7) *
                             fmax(1.0, fabs(x)); // a few units in the last place of x
            cr_assert(fabs((double)target[i] - expected) <= allowed, "f(%g) = %.9g, expected %.9g",
                      x, (double)target[i], expected);
        }
        ops_matrix_destroy(ops, &matrix);
    }
    ops_close(&ops);
}

Test(ops, refuses_a_matrix_without_rows_or_beyond_the_limit)
{
    struct ops *ops = open_ops(1);
    struct ops_matrix *matrix = NULL;
    const float one = 1.0f;
    static const uint32_t sizes[][2] = {{0, 1}, {1, 0}, {OPS_SIZE_MAX + 1, 1}, {1, UINT32_MAX}};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        struct reason why = {0};
        struct ops_matrix_params params = {
            .weights = &one, .columns = sizes[i][0], .depth = sizes[i][1], .epilogue = OPS_PLAIN};
        cr_expect(eq(int, ops_matrix_create(ops, &params, &matrix, &why), STATUS_INVALID));
        cr_expect(has(why.text, "65536"), "%s", why.text);
        cr_expect(eq(ptr, matrix, NULL));
    }
    ops_close(&ops);
}

Test(ops, the_device_that_is_taken_without_being_named_is_the_cpu)
{
    struct ops *ops = NULL;
    cr_assert(eq(int, ops_open("auto", 1, &ops, NULL), STATUS_OK));
    cr_expect(eq(int, strcmp(ops_name(ops), "cpu"), 0));
    ops_close(&ops);
}

Test(ops, refuses_a_device_that_is_not_there_and_names_the_possible_ones)
{
    static const char *const devices[] = {"vulkan",
                                          "",
                                          "CPU",
                                          "cpu ",
                                          "6d657361-3232-2e33-2e36-00000000000",
                                          "6d657361-3232-2e33-2e36-0000000000000",
                                          "6d657361-3232-2e33-2e36-00000000000g"};
    for (size_t i = 0; i < COUNT(devices); i++) {
        struct ops *ops = NULL;
        struct reason why = {0};
        cr_expect(eq(int, ops_open(devices[i], 1, &ops, &why), STATUS_INVALID));
        cr_expect(has(why.text, "auto") && has(why.text, "cpu"), "%s", why.text);
        cr_expect(eq(ptr, ops, NULL));
    }
}

// --- layer normalisation

static const size_t widths[] = {1, 2, 15, 16, 17, 31, 192, 511, 512, 768, 1024, 1283};

static void layernorm(struct ops *ops, const float *source, size_t rows, size_t width,
                      bool in_place, float *target)
{
    float *gain = reference_random(width, 31);
    float *bias = reference_random(width, 32);
    struct ops_buffer *from = buffer_with(ops, source, rows * width, rows * width);
    struct ops_buffer *to = buffer_with(ops, source, 0, rows * width);
    struct ops_buffer *gains = buffer_with(ops, gain, width, width);
    struct ops_buffer *biases = buffer_with(ops, bias, width, width);
    struct ops_buffer *result = in_place ? from : to;
    struct ops_layernorm args = {
        .source = {from, 0, rows, width},
        .gain = {gains, 0, 1, width},
        .bias = {biases, 0, 1, width},
        .epsilon = 1e-5f,
        .target = {result, 0, rows, width},
    };
    cr_assert(eq(int, ops_layernorm(ops, &args, NULL), STATUS_OK));
    fetch(ops, result, target, rows * width);
    ops_free(ops, &biases);
    ops_free(ops, &gains);
    ops_free(ops, &to);
    ops_free(ops, &from);
    free(bias);
    free(gain);
}

Test(ops, layernorm_agrees_with_the_reference)
{
    enum { ROWS = 37 };
    struct ops *ops = open_ops(2);
    for (size_t i = 0; i < COUNT(widths); i++) {
        size_t width = widths[i];
        float *source = reference_random(ROWS * width, 33);
        // A mean far from zero: E[x^2] - E[x]^2 would cancel.
        for (size_t c = 0; c < ROWS * width; c++)
            source[c] += 30.0f;
        float *gain = reference_random(width, 31);
        float *bias = reference_random(width, 32);
        double *wide = reference_widen(source, ROWS * width);
        double *wide_gain = reference_widen(gain, width);
        double *wide_bias = reference_widen(bias, width);
        reference_layernorm(
            &(struct reference_layernorm){wide, wide_gain, wide_bias, 1e-5, ROWS, width, wide});
        float *target = reference_random(ROWS * width, 34);
        layernorm(ops, source, ROWS, width, false, target);
        // The rounding of the inputs' mean, 2^-24 * 30, is what limits this.
        double error = reference_squared_error(target, wide, ROWS * width);
        cr_expect(error < 1e-10, "width %zu: %g", width, error);
        float *again = reference_random(ROWS * width, 34);
        layernorm(ops, source, ROWS, width, true, again);
        expect_bits("in place", again, target, ROWS * width);
        free(again);
        free(target);
        free(wide_bias);
        free(wide_gain);
        free(wide);
        free(bias);
        free(gain);
        free(source);
    }
    ops_close(&ops);
}

Test(ops, a_normalised_row_has_the_same_bits_in_every_batch_place_and_thread_count)
{
    enum { ROWS = 150 };
    struct ops *one = open_ops(1);
    struct ops *two = open_ops(2);
    for (size_t i = 0; i < COUNT(widths); i++) {
        size_t width = widths[i];
        float *row = reference_random(width, 35);
        float *alone = reference_random(width, 36);
        layernorm(one, row, 1, width, false, alone);
        for (size_t place = 0; place < ROWS; place += 37) {
            float *source = reference_random(ROWS * width, 37);
            float *target = reference_random(ROWS * width, 37);
            memcpy(source + place * width, row, width * sizeof(float));
            layernorm(place % 2 ? one : two, source, ROWS, width, false, target);
            expect_bits("layernorm", target + place * width, alone, width);
            free(target);
            free(source);
        }
        free(alone);
        free(row);
    }
    ops_close(&two);
    ops_close(&one);
}

// --- attention

struct heads_case {
    uint32_t heads;
    uint32_t dimension;
};
static const struct heads_case heads_cases[] = {{1, 1},  {3, 5},  {2, 16},
                                                {5, 17}, {4, 48}, {12, 64}};

static void attend(struct ops *ops, const struct heads_case *c, const float *source,
                   const uint32_t *starts, uint32_t sequences, bool causal, float *target)
{
    size_t width = (size_t)c->heads * c->dimension;
    size_t rows = starts[sequences];
    uint32_t longest = 0;
    for (uint32_t s = 0; s < sequences; s++) {
        uint32_t length = starts[s + 1] - starts[s];
        longest = length > longest ? length : longest;
    }
    struct ops_buffer *from = buffer_with(ops, source, rows * 3 * width, rows * 3 * width);
    struct ops_buffer *to = buffer_with(ops, source, 0, rows * width);
    struct ops_buffer *places = buffer_with(ops, starts, sequences + 1, sequences + 1);
    struct ops_attention args = {
        .source = {from, 0, rows, 3 * width},
        .starts = {places, 0, 1, (size_t)sequences + 1},
        .heads = c->heads,
        .longest = longest,
        .causal = causal,
        .target = {to, 0, rows, width},
    };
    cr_assert(eq(int, ops_attention(ops, &args, NULL), STATUS_OK));
    fetch(ops, to, target, rows * width);
    ops_free(ops, &places);
    ops_free(ops, &to);
    ops_free(ops, &from);
}

Test(ops, attention_agrees_with_the_reference_for_every_sequence_of_a_batch)
{
    static const uint32_t starts[] = {0, 1, 3, 20, 21, 98, 98, 155}; // one of them empty
    enum { SEQUENCES = COUNT(starts) - 1 };
    struct ops *ops = open_ops(2);
    for (size_t i = 0; i < 2 * COUNT(heads_cases); i++) {
        const struct heads_case *c = &heads_cases[i / 2];
        bool causal = i % 2 == 1;
        size_t width = (size_t)c->heads * c->dimension;
        size_t rows = starts[SEQUENCES];
        float *source = reference_random(rows * 3 * width, 41);
        for (size_t v = 0; v < rows * 3 * width; v++)
            source[v] *= 4.0f; // scores of up to 16 * sqrt(dimension): a softmax far from flat
        double *wide = reference_widen(source, rows * 3 * width);
        double *expected = calloc(rows * width, sizeof(double));
        for (uint32_t s = 0; s < SEQUENCES; s++)
            reference_attention(&(struct reference_attention){
                wide + (size_t)starts[s] * 3 * width, starts[s + 1] - starts[s], width, c->heads,
                causal, expected + starts[s] * width});
        float *target = reference_random(rows * width, 42);
        attend(ops, c, source, starts, SEQUENCES, causal, target);
        char what[64];
        (void)snprintf(what, sizeof(what), "%u heads of %u, causal %d", c->heads, c->dimension,
                       causal);
        // Scores near 100 lose two digits before the exponential.
        double error = reference_squared_error(target, expected, rows * width);
        cr_expect(error < (vulkan_device_is_half() ? ERROR_MAX_HALF : 1e-11), "%s: %g", what,
                  error);
        free(target);
        free(expected);
        free(wide);
        free(source);
    }
    ops_close(&ops);
}

Test(ops, attention_survives_scores_that_overflow_a_naive_softmax)
{
    const struct heads_case c = {1, 16};
    const uint32_t starts[] = {0, 5};
    struct ops *ops = open_ops(1);
    float source[5 * 48];
    float target[5 * 16];
    for (size_t i = 0; i < COUNT(source); i++)
        source[i] = i % 3 ? 900.0f : -900.0f;
    attend(ops, &c, source, starts, 1, false, target);
    for (size_t i = 0; i < COUNT(target); i++)
        cr_expect(isfinite(target[i]) && fabsf(target[i]) <= 900.0f);
    ops_close(&ops);
}

Test(ops, a_sequence_has_the_same_bits_in_every_batch_place_and_thread_count)
{
    static const uint32_t lengths[] = {1, 2, 4, 5, 17, 50, 77};
    struct ops *one = open_ops(1);
    struct ops *two = open_ops(2);
    const struct heads_case c = {3, 20};
    size_t width = 60;
    for (size_t i = 0; i < 2 * COUNT(lengths); i++) {
        uint32_t length = lengths[i / 2];
        bool causal = i % 2 == 1;
        float *own = reference_random((size_t)length * 3 * width, 43);
        float *alone = reference_random(length * width, 44);
        const uint32_t single[] = {0, length};
        attend(one, &c, own, single, 1, causal, alone);
        for (uint32_t place = 0; place < 7; place++) {
            uint32_t starts[8] = {0};
            for (uint32_t s = 0; s < 7; s++)
                starts[s + 1] = starts[s] + (s == place ? length : 1 + 3 * s);
            float *source = reference_random((size_t)starts[7] * 3 * width, 45);
            float *target = reference_random((size_t)starts[7] * width, 46);
            memcpy(source + (size_t)starts[place] * 3 * width, own,
                   (size_t)length * 3 * width * sizeof(float));
            attend(place % 2 ? one : two, &c, source, starts, 7, causal, target);
            expect_bits("attention", target + starts[place] * width, alone, length * width);
            free(target);
            free(source);
        }
        free(alone);
        free(own);
    }
    ops_close(&two);
    ops_close(&one);
}

Test(ops, a_causal_row_does_not_see_what_follows)
{
    const struct heads_case c = {2, 12};
    const uint32_t whole[] = {0, 23};
    size_t width = 24;
    struct ops *ops = open_ops(2);
    float *source = reference_random((size_t)23 * 3 * width, 47);
    float *full = reference_random(23 * width, 48);
    attend(ops, &c, source, whole, 1, true, full);
    for (uint32_t length = 1; length < 23; length++) {
        const uint32_t part[] = {0, length};
        float *cut = reference_random(length * width, 48);
        attend(ops, &c, source, part, 1, true, cut);
        expect_bits("cut behind a row", cut, full, length * width);
        free(cut);
    }
    free(full);
    free(source);
    ops_close(&ops);
}

// --- embeddings, patches, rows

Test(ops, token_embeddings_are_the_tables_row_plus_the_positions_row)
{
    enum { VOCABULARY = 11, CONTEXT = 7, ROWS = 150, PLACES = 3 * OPS_VIEW_ALIGN };
    struct ops *ops = open_ops(2);
    for (size_t i = 0; i < COUNT(widths); i++) {
        size_t width = widths[i];
        float *table = reference_random(VOCABULARY * width, 51);
        float *positions = reference_random(CONTEXT * width, 52);
        float *target = reference_random(ROWS * width, 53);
        uint32_t ids[ROWS];
        uint32_t places[ROWS];
        for (uint32_t r = 0; r < ROWS; r++) {
            ids[r] = (r * 7 + 3) % VOCABULARY;
            places[r] = r % CONTEXT;
        }
        struct ops_buffer *tables = buffer_with(ops, table, VOCABULARY * width, VOCABULARY * width);
        struct ops_buffer *wheres = buffer_with(ops, positions, CONTEXT * width, CONTEXT * width);
        struct ops_buffer *numbers = buffer_with(ops, ids, ROWS, (size_t)PLACES + ROWS);
        cr_assert(eq(int, ops_upload(ops, numbers, PLACES, places, ROWS, NULL), STATUS_OK));
        struct ops_buffer *to = buffer_with(ops, table, 0, ROWS * width);
        struct ops_embed_tokens args = {
            .table = {tables, 0, VOCABULARY, width},
            .positions = {wheres, 0, CONTEXT, width},
            .ids = {numbers, 0, 1, ROWS},
            .places = {numbers, PLACES, 1, ROWS},
            .target = {to, 0, ROWS, width},
        };
        cr_assert(eq(int, ops_embed_tokens(ops, &args, NULL), STATUS_OK));
        fetch(ops, to, target, ROWS * width);
        for (size_t r = 0; r < ROWS; r++) {
            for (size_t c = 0; c < width; c++) {
                float expected = table[ids[r] * width + c] + positions[places[r] * width + c];
                cr_assert(eq(flt, target[r * width + c], expected));
            }
        }
        ops_free(ops, &to);
        ops_free(ops, &numbers);
        ops_free(ops, &wheres);
        ops_free(ops, &tables);
        free(target);
        free(positions);
        free(table);
    }
    ops_close(&ops);
}

Test(ops, patches_are_the_reference_s_also_when_they_do_not_divide_the_picture)
{
    static const struct {
        size_t size;
        uint32_t patch;
    } cases[] = {{1, 1}, {8, 8}, {9, 4}, {17, 5}, {64, 8}, {30, 7}};
    enum { IMAGES = 3 };
    struct ops *ops = open_ops(2);
    for (size_t i = 0; i < COUNT(cases); i++) {
        size_t size = cases[i].size;
        size_t side = size / cases[i].patch;
        size_t columns = (size_t)3 * cases[i].patch * cases[i].patch;
        size_t image = 3 * size * size;
        size_t rows = IMAGES * side * side;
        float *pixels = reference_random(IMAGES * image, 61);
        float *target = reference_random(rows * columns, 62);
        double *wide = reference_widen(pixels, IMAGES * image);
        double *expected = reference_widen(target, rows * columns);
        for (size_t n = 0; n < IMAGES; n++)
            reference_patchify(wide + n * image, size, cases[i].patch,
                               expected + n * side * side * columns);
        struct ops_buffer *from = buffer_with(ops, pixels, IMAGES * image, IMAGES * image);
        struct ops_buffer *to = buffer_with(ops, pixels, 0, rows * columns);
        struct ops_patchify args = {
            .pixels = {from, 0, (size_t)IMAGES * 3 * size, size},
            .patch = cases[i].patch,
            .target = {to, 0, rows, columns},
        };
        cr_assert(eq(int, ops_patchify(ops, &args, NULL), STATUS_OK));
        fetch(ops, to, target, rows * columns);
        for (size_t v = 0; v < rows * columns; v++)
            cr_assert(eq(dbl, (double)target[v], expected[v]));
        ops_free(ops, &to);
        ops_free(ops, &from);
        free(expected);
        free(wide);
        free(target);
        free(pixels);
    }
    ops_close(&ops);
}

Test(ops, every_image_begins_with_the_class_token_and_all_get_positions)
{
    enum { IMAGES = 3, GRID = 4 };
    struct ops *ops = open_ops(2);
    for (size_t i = 0; i < COUNT(widths); i++) {
        size_t width = widths[i];
        const size_t rows = (size_t)IMAGES * (GRID + 1);
        const size_t grids = (size_t)IMAGES * GRID;
        float *patches = reference_random(grids * width, 71);
        float *first = reference_random(width, 72);
        float *positions = reference_random((GRID + 1) * width, 73);
        float *target = reference_random(rows * width, 74);
        struct ops_buffer *a = buffer_with(ops, patches, grids * width, grids * width);
        struct ops_buffer *b = buffer_with(ops, first, width, width);
        struct ops_buffer *p = buffer_with(ops, positions, (GRID + 1) * width, (GRID + 1) * width);
        struct ops_buffer *to = buffer_with(ops, first, 0, rows * width);
        struct ops_embed_patches args = {
            .patches = {a, 0, grids, width},
            .first = {b, 0, 1, width},
            .positions = {p, 0, GRID + 1, width},
            .target = {to, 0, rows, width},
        };
        cr_assert(eq(int, ops_embed_patches(ops, &args, NULL), STATUS_OK));
        fetch(ops, to, target, rows * width);
        for (size_t r = 0; r < rows; r++) {
            size_t n = r / (GRID + 1);
            size_t token = r % (GRID + 1);
            const float *from = token == 0 ? first : patches + (n * GRID + token - 1) * width;
            for (size_t c = 0; c < width; c++)
                cr_assert(eq(flt, target[r * width + c], from[c] + positions[token * width + c]));
        }
        ops_free(ops, &to);
        ops_free(ops, &p);
        ops_free(ops, &b);
        ops_free(ops, &a);
        free(target);
        free(positions);
        free(first);
        free(patches);
    }
    ops_close(&ops);
}

Test(ops, gather_copies_the_named_rows_in_their_order)
{
    enum { ROWS = 9, WIDTH = 13 };
    const size_t count = (size_t)ROWS * WIDTH;
    static const uint32_t rows[] = {8, 0, 3, 3, 7};
    struct ops *ops = open_ops(1);
    float *source = reference_random(count, 81);
    float target[COUNT(rows) * WIDTH];
    struct ops_buffer *from = buffer_with(ops, source, count, count);
    struct ops_buffer *numbers = buffer_with(ops, rows, COUNT(rows), COUNT(rows));
    struct ops_buffer *to = buffer_with(ops, source, 0, COUNT(target));
    struct ops_gather args = {
        .source = {from, 0, ROWS, WIDTH},
        .rows = {numbers, 0, 1, COUNT(rows)},
        .target = {to, 0, COUNT(rows), WIDTH},
    };
    cr_assert(eq(int, ops_gather(ops, &args, NULL), STATUS_OK));
    fetch(ops, to, target, COUNT(target));
    for (size_t i = 0; i < COUNT(rows); i++)
        expect_bits("gather", target + i * WIDTH, source + (size_t)rows[i] * WIDTH, WIDTH);
    ops_free(ops, &to);
    ops_free(ops, &numbers);
    ops_free(ops, &from);
    free(source);
    ops_close(&ops);
}

// --- unit length

static enum status normalise(struct ops *ops, float *values, size_t rows, size_t width)
{
    struct ops_buffer *buffer = buffer_with(ops, values, rows * width, rows * width);
    enum status status = ops_normalise(ops, (struct ops_view){buffer, 0, rows, width}, NULL);
    fetch(ops, buffer, values, rows * width);
    ops_free(ops, &buffer);
    return status;
}

Test(ops, normalised_rows_agree_with_the_reference_and_with_themselves_alone)
{
    enum { ROWS = 7 };
    struct ops *ops = open_ops(2);
    for (size_t i = 0; i < COUNT(widths); i++) {
        size_t width = widths[i];
        float *values = reference_random(ROWS * width, 91);
        float *alone = reference_random(ROWS * width, 91);
        double *expected = reference_widen(values, ROWS * width);
        cr_assert(eq(int, normalise(ops, values, ROWS, width), STATUS_OK));
        for (size_t row = 0; row < ROWS; row++) {
            reference_normalise(expected + row * width, width);
            cr_assert(eq(int, normalise(ops, alone + row * width, 1, width), STATUS_OK));
        }
        expect_close("normalise", values, expected, ROWS * width);
        expect_bits("normalise alone", alone, values, ROWS * width);
        free(expected);
        free(alone);
        free(values);
    }
    ops_close(&ops);
}

Test(ops, a_row_that_has_no_direction_is_an_error_that_names_it)
{
    static const float bad[] = {0.0f, NAN, INFINITY};
    struct ops *ops = open_ops(1);
    for (size_t i = 0; i < COUNT(bad); i++) {
        float rows[3][2] = {{1.0f, 2.0f}, {0.0f, bad[i]}, {3.0f, 4.0f}};
        struct ops_buffer *buffer = buffer_with(ops, rows, 6, 6);
        struct reason why = {0};
        // Now, or when the result is asked for.
        enum status status = ops_normalise(ops, (struct ops_view){buffer, 0, 3, 2}, &why);
        if (status == STATUS_OK)
            status = ops_download(ops, buffer, 0, rows, 6, &why);
        cr_expect(eq(int, status, STATUS_INTERNAL));
        cr_expect(has(why.text, "embedding 1"), "%s", why.text);
        ops_free(ops, &buffer);
    }
    ops_close(&ops);
}

int main(int argc, char **argv)
{
    return vulkan_device_main(argc, argv);
}
