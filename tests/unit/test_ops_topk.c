// SPDX-License-Identifier: Apache-2.0
// Goal: exact search of many queries at a time finds the nearest rows, ties by the lower row, on
// every device, whoever else is asked for and however the device cuts the rows.
//
// Method: seeded rows in half precision, many of them twice, against double precision. Where two
// scores are closer than rounding both orders are right, so scores are compared, and each found
// row's score with its own; a second test has whole numbers, whose sums are exact, and wants every
// id.

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/cpu.h"
#include "proto/base/half.h"
#include "shaders/ops/ops.h"
#include "tests/reference/reference.h"
#include "tests/support/vulkan_device.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct search {
    uint32_t queries;
    uint32_t rows;
    uint32_t depth;
    uint32_t k;
    bool whole; // numbers
};

struct data {
    float *queries;
    uint16_t *rows;
    uint32_t *ids;
    float *scores;
};

static float number(uint64_t *state, bool whole)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    float value = (float)((double)(int64_t)*state / 9223372036854775808.0);
    return whole ? roundf(4 * value) : value;
}

// Every seventh row is there again further on.
static struct data make_data(const struct search *s)
{
    size_t depth = s->depth;
    struct data data = {
        .queries = malloc(s->queries * depth * sizeof(float)),
        .rows = malloc(s->rows * depth * sizeof(uint16_t) + 1),
        .ids = malloc((size_t)s->queries * s->k * sizeof(uint32_t)),
        .scores = malloc((size_t)s->queries * s->k * sizeof(float)),
    };
    cr_assert(data.queries && data.rows && data.ids && data.scores);
    uint64_t state = 0x9e3779b97f4a7c15u;
    for (size_t i = 0; i < s->queries * depth; i++)
        data.queries[i] = number(&state, s->whole);
    for (size_t i = 0; i < s->rows * depth; i++)
        data.rows[i] = half_from_float(number(&state, s->whole));
    for (size_t row = 7; row < s->rows; row += 7)
        memcpy(data.rows + row * depth, data.rows + row / 2 * depth, depth * sizeof(uint16_t));
    return data;
}

static void free_data(struct data *data)
{
    free(data->queries);
    free(data->rows);
    free(data->ids);
    free(data->scores);
}

static struct ops *open_ops(uint32_t threads)
{
    struct ops *ops = NULL;
    struct reason why = {0};
    cr_assert(eq(int, ops_open(vulkan_device_name(), threads, &ops, &why), STATUS_OK), "%s",
              why.text);
    return ops;
}

static struct ops *open_named(const char *name)
{
    struct ops *ops = NULL;
    struct reason why = {0};
    cr_assert(eq(int, ops_open(name, 2, &ops, &why), STATUS_OK), "%s", why.text);
    return ops;
}

static struct ops_view view_with(struct ops *ops, const void *data, size_t rows, size_t columns)
{
    struct ops_view view = {NULL, 0, rows, columns};
    cr_assert(eq(int, ops_alloc(ops, rows * columns, &view.buffer, NULL), STATUS_OK));
    if (data)
        cr_assert(eq(int, ops_upload(ops, view.buffer, 0, data, rows * columns, NULL), STATUS_OK));
    return view;
}

static void search(struct ops *ops, const struct search *s, const struct data *data)
{
    struct reason why = {0};
    struct ops_score_topk args = {
        .queries = view_with(ops, data->queries, s->queries, s->depth),
        .rows = view_with(ops, data->rows, s->rows, s->depth / 2),
        .ids = view_with(ops, NULL, s->queries, s->k),
        .scores = view_with(ops, NULL, s->queries, s->k),
    };
    size_t count = (size_t)s->queries * s->k;
    cr_assert(eq(int, ops_score_topk(ops, &args, &why), STATUS_OK), "%s", why.text);
    cr_assert(eq(int, ops_download(ops, args.ids.buffer, 0, data->ids, count, NULL), STATUS_OK));
    cr_assert(
        eq(int, ops_download(ops, args.scores.buffer, 0, data->scores, count, NULL), STATUS_OK));
    ops_free(ops, &args.queries.buffer);
    ops_free(ops, &args.rows.buffer);
    ops_free(ops, &args.ids.buffer);
    ops_free(ops, &args.scores.buffer);
}

static void score_all(const struct search *s, const struct data *data, size_t query, double *all)
{
    float *row = malloc(s->depth * sizeof(float));
    for (size_t r = 0; r < s->rows; r++) {
        half_to_floats(data->rows + r * s->depth, row, s->depth);
        all[r] = 0;
        for (size_t c = 0; c < s->depth; c++)
            all[r] += (double)data->queries[query * s->depth + c] * (double)row[c];
    }
    free(row);
}

static void check_query(const struct search *s, const struct data *data, size_t query)
{
    double *all = malloc((s->rows + 1) * sizeof(double));
    double *best = malloc(s->k * sizeof(double));
    const uint32_t *ids = data->ids + query * s->k;
    const float *scores = data->scores + query * s->k;
    const double bound = s->whole ? 0 : 1e-6 * sqrt((double)s->depth) + 1e-6;
    score_all(s, data, query, all);
    reference_topk(all, s->rows, s->k, best);
    for (uint32_t i = 0; i < s->k; i++) {
        if (i >= s->rows) {
            cr_assert(ids[i] == UINT32_MAX && scores[i] == 0.0f, "query %zu, place %u: %u", query,
                      i, ids[i]);
            continue;
        }
        cr_assert(ids[i] < s->rows, "query %zu, place %u: row %u of %u", query, i, ids[i], s->rows);
        cr_assert(fabs(best[i] - (double)scores[i]) <= bound &&
                      fabs(all[ids[i]] - (double)scores[i]) <= bound,
                  "query %zu, place %u: row %u with %.9g, which has %.9g; expected %.9g", query, i,
                  ids[i], (double)scores[i], all[ids[i]], best[i]);
        cr_assert(i == 0 || scores[i - 1] > scores[i] ||
                      (scores[i - 1] == scores[i] && ids[i - 1] < ids[i]),
                  "query %zu, place %u: row %u behind row %u", query, i, ids[i], ids[i - 1]);
    }
    // With exact scores the order above and these leave one answer.
    for (uint32_t r = 0; s->whole && s->rows > s->k && r < s->rows; r++) {
        uint32_t last = ids[s->k - 1];
        bool ahead = all[r] > all[last] || (all[r] == all[last] && r < last);
        bool found = false;
        for (uint32_t i = 0; ahead && i < s->k && !found; i++)
            found = ids[i] == r;
        cr_assert(found || !ahead, "query %zu: row %u is missing", query, r);
    }
    free(best);
    free(all);
}

Test(ops_topk, finds_the_nearest_rows_in_double_precision)
{
    static const struct search searches[] = {
        {1, 0, 4, 3, false},     {1, 1, 4, 1, false},     {3, 5, 8, 10, false},
        {17, 63, 20, 10, false}, {5, 1009, 64, 10, true}, {33, 3001, 36, 10, false},
        {2, 700, 512, 64, true}, {1, 5000, 4, 16, true},  {300, 1100, 12, 17, true},
    };
    struct ops *ops = open_ops(2);
    for (size_t i = 0; i < COUNT(searches); i++) {
        struct data data = make_data(&searches[i]);
        search(ops, &searches[i], &data);
        for (size_t query = 0; query < searches[i].queries; query++)
            check_query(&searches[i], &data, query);
        free_data(&data);
    }
    ops_close(&ops);
}

Test(ops_topk, a_query_has_the_same_bits_alone_and_with_other_threads)
{
    struct search s = {259, 2100, 32, 10, false};
    struct ops *ops = open_ops(2);
    struct ops *other = open_ops(1);
    struct data data = make_data(&s);
    struct data alone = make_data(&s);
    search(ops, &s, &data);
    const struct search one = {1, s.rows, s.depth, s.k, false};
    for (size_t query = 0; query < s.queries; query += 43) {
        struct data part = alone;
        part.queries = alone.queries + query * s.depth;
        search(other, &one, &part);
        cr_assert(memcmp(part.ids, data.ids + query * s.k, s.k * sizeof(uint32_t)) == 0);
        cr_assert(memcmp(part.scores, data.scores + query * s.k, s.k * sizeof(float)) == 0);
    }
    free_data(&alone);
    free_data(&data);
    ops_close(&other);
    ops_close(&ops);
}

Test(ops_topk, is_as_exact_where_products_are_in_bfloat16)
{
    if (!cpu_has_bf16() || strcmp(vulkan_device_name(), "cpu") != 0)
        cr_skip("this device has no bfloat16");
    struct search s = {5, 300, 32, 10, false};
    struct ops *ops = open_named("cpu");
    struct ops *half = open_named("cpu-bf16");
    struct data data = make_data(&s);
    struct data other = make_data(&s);
    search(ops, &s, &data);
    search(half, &s, &other);
    cr_expect(memcmp(data.ids, other.ids, (size_t)s.queries * s.k * sizeof(uint32_t)) == 0);
    cr_expect(memcmp(data.scores, other.scores, (size_t)s.queries * s.k * sizeof(float)) == 0);
    free_data(&data);
    free_data(&other);
    ops_close(&ops);
    ops_close(&half);
}

Test(ops_topk, scores_that_are_no_numbers_are_behind_all_others)
{
    enum { ROWS = 6, DEPTH = 4 };
    float query[DEPTH] = {1, 0, 0, 0};
    // inf, -1, NaN, -inf, 0, 2; products with zeros make NaN of the infinities' rows only where
    // the zero meets them, and here it does not.
    static const uint16_t first[ROWS] = {0x7c00, 0xbc00, 0x7e00, 0xfc00, 0, 0x4000};
    static const uint32_t order[ROWS] = {0, 5, 4, 1, 3, 2};
    uint16_t rows[ROWS * DEPTH] = {0};
    uint32_t ids[ROWS];
    float scores[ROWS];
    for (size_t r = 0; r < ROWS; r++)
        rows[r * DEPTH] = first[r];
    const struct search s = {1, ROWS, DEPTH, ROWS, false};
    struct data data = {query, rows, ids, scores};
    struct ops *ops = open_ops(1);
    search(ops, &s, &data);
    for (size_t i = 0; i < ROWS; i++)
        cr_expect(eq(u32, ids[i], order[i]), "place %zu, score %g", i, (double)scores[i]);
    cr_expect(isnan(scores[ROWS - 1]));
    ops_close(&ops);
}

Test(ops_topk, rows_that_one_binding_has_no_room_for_are_taken_in_parts)
{
    // 135 MB; lavapipe's kernels see 128 MiB of an array.
    const struct search s = {2, 132000, 512, 10, true};
    struct gpu_device device;
    if (strcmp(vulkan_device_name(), "cpu") == 0 || !vulkan_device_find(&device) ||
        device.binding_bytes_max > (uint64_t)s.rows * s.depth * 2)
        return;
    struct data data = make_data(&s);
    struct ops *ops = open_ops(1);
    search(ops, &s, &data);
    for (size_t query = 0; query < s.queries; query++)
        check_query(&s, &data, query);
    ops_close(&ops);
    free_data(&data);
}

int main(int argc, char **argv)
{
    return vulkan_device_main(argc, argv);
}
