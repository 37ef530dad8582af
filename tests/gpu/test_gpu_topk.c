// SPDX-License-Identifier: Apache-2.0
// Goal: exact search on the GPU finds the k nearest rows, ties by the lower row, whatever way
// the rows are cut into blocks and pieces, and whoever else is asked for.
//
// Method: seeded rows in half precision, some of them twice, against double precision. Where
// two scores are closer than rounding both orders are right: the scores are compared, and each
// found row's score with its own.

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/half.h"
#include "tests/gpu/gpu_fixture.h"
#include "tests/reference/reference.h"

TestSuite(gpu_topk, .init = gpu_fixture_open, .fini = gpu_fixture_close);

int main(int argc, char **argv)
{
    return gpu_fixture_main(argc, argv);
}

struct search {
    uint32_t queries;
    uint32_t rows;
    uint32_t depth;
    uint32_t k;
    uint32_t block_rows;
    uint32_t pieces; // the rows are given in
};

struct data {
    float *queries;
    uint16_t *rows;
};

// Every seventh row is there again further on, so that there are ties.
static struct data make_data(const struct search *s)
{
    size_t count = (size_t)s->rows * s->depth;
    struct data data = {reference_random((size_t)s->queries * s->depth, 61),
                        malloc(count * sizeof(uint16_t))};
    float *rows = reference_random(count, 62);
    for (size_t i = 0; i < count; i++)
        data.rows[i] = half_from_float(fabsf(rows[i]) < 1e-4f ? 0.5f : rows[i]);
    for (size_t row = 7; row < s->rows; row += 7)
        memcpy(data.rows + row * s->depth, data.rows + row / 2 * s->depth,
               s->depth * sizeof(uint16_t));
    free(rows);
    return data;
}

static void free_data(struct data *data)
{
    free(data->queries);
    free(data->rows);
}

static void search(const struct search *s, const struct data *data, uint32_t *found, float *scores)
{
    uint32_t piece = (s->rows + s->pieces - 1) / s->pieces;
    uint32_t piece_blocks = (piece + s->block_rows - 1) / s->block_rows;
    uint32_t blocks = 0;
    size_t room = (size_t)s->pieces * piece_blocks * s->queries * s->k * 2;
    struct guarded lists = guarded_poisoned(room);
    struct guarded queries = guarded_with(data->queries, (size_t)s->queries * s->depth);
    for (uint32_t first = 0; first < s->rows; first += piece) {
        uint32_t rows = s->rows - first < piece ? s->rows - first : piece;
        struct score_topk_args args = {s->queries,    rows,  s->depth, s->k,
                                       s->block_rows, first, blocks};
        uint32_t constants[KERNEL_CONSTANTS_MAX];
        kernel_table_topk(s->k, constants);
        struct kernel_run run = {
            .id = KERNEL_SCORE_TOPK,
            .constants = constants,
            .args = &args,
            .arrays = {queries,
                       guarded_with(data->rows + (size_t)first * s->depth,
                                    (size_t)rows * s->depth / 2),
                       lists},
        };
        kernel_table_topk_groups(&args, run.groups);
        blocks += run.groups[0];
        gpu_fixture_run(&run);
        guarded_end(&run.arrays[1], NULL);
    }
    guarded_end(&queries, NULL);

    struct topk_merge_args args = {s->queries, blocks, s->k};
    const uint32_t threads = 64;
    struct kernel_run run = {
        .id = KERNEL_TOPK_MERGE,
        .constants = &threads,
        .args = &args,
        .arrays = {lists, guarded_poisoned((size_t)s->queries * s->k),
                   guarded_poisoned((size_t)s->queries * s->k)},
    };
    kernel_table_spread(s->queries, run.groups);
    gpu_fixture_run(&run);
    guarded_end(&run.arrays[0], NULL);
    guarded_end(&run.arrays[1], found);
    guarded_end(&run.arrays[2], scores);
}

static double score_of(const struct search *s, const struct data *data, uint32_t query,
                       uint32_t row)
{
    double sum = 0.0;
    for (uint32_t c = 0; c < s->depth; c++)
        sum += (double)data->queries[(size_t)query * s->depth + c] *
               (double)half_to_float(data->rows[(size_t)row * s->depth + c]);
    return sum;
}

static void check_search(const struct search *s)
{
    struct data data = make_data(s);
    size_t count = (size_t)s->queries * s->k;
    uint32_t *found = malloc(count * sizeof(uint32_t));
    float *scores = malloc(count * sizeof(float));
    double *all = malloc(s->rows * sizeof(double));
    double *best = malloc(s->k * sizeof(double));
    search(s, &data, found, scores);
    for (uint32_t q = 0; q < s->queries; q++) {
        for (uint32_t row = 0; row < s->rows; row++)
            all[row] = score_of(s, &data, q, row);
        reference_topk(all, s->rows, s->k, best);
        for (uint32_t i = 0; i < s->k; i++) {
            uint32_t row = found[(size_t)q * s->k + i];
            float score = scores[(size_t)q * s->k + i];
            if (i >= s->rows) {
                cr_assert(eq(u32, row, UINT32_MAX));
                continue;
            }
            double bound = 1e-6 * sqrt((double)s->depth) + 1e-6;
            cr_assert(row < s->rows, "query %u, place %u: row %u of %u", q, i, row, s->rows);
            cr_assert(fabs(best[i] - (double)score) <= bound &&
                          fabs(all[row] - (double)score) <= bound,
                      "query %u, place %u: row %u with %.9g, which has %.9g; expected %.9g", q, i,
                      row, (double)score, all[row], best[i]);
            uint32_t before = i > 0 ? found[(size_t)q * s->k + i - 1] : 0;
            bool ordered = i == 0 || scores[(size_t)q * s->k + i - 1] > score ||
                           (scores[(size_t)q * s->k + i - 1] >= score && before < row);
            cr_assert(ordered, "query %u, place %u: row %u behind row %u", q, i, row, before);
        }
    }
    free(best);
    free(all);
    free(scores);
    free(found);
    free_data(&data);
}

Test(gpu_topk, finds_the_nearest_rows)
{
    static const struct search searches[] = {
        {1, 1, 4, 1, 64, 1},        {3, 5, 8, 10, 64, 1},      {17, 63, 20, 10, 64, 1},
        {16, 64, 16, 10, 32, 1},    {15, 65, 12, 10, 64, 2},   {5, 1009, 64, 10, 100, 1},
        {33, 2003, 36, 10, 256, 3}, {2, 700, 512, 64, 128, 1}, {1, 3000, 4, 10, 3, 1},
    };
    for (size_t i = 0; i < COUNT(searches); i++)
        check_search(&searches[i]);
}

Test(gpu_topk, the_answer_has_the_same_bits_however_the_rows_are_cut_and_for_one_query_alone)
{
    struct search s = {19, 1500, 32, 10, 1500, 1};
    struct data data = make_data(&s);
    size_t count = (size_t)s.queries * s.k;
    uint32_t *found = malloc(2 * count * sizeof(uint32_t));
    float *scores = malloc(2 * count * sizeof(float));
    search(&s, &data, found, scores);
    static const uint32_t cuts[][2] = {{1500, 1}, {64, 1}, {100, 4}, {17, 7}};
    for (size_t i = 0; i < COUNT(cuts); i++) {
        s.block_rows = cuts[i][0];
        s.pieces = cuts[i][1];
        search(&s, &data, found + count, scores + count);
        cr_assert(memcmp(found, found + count, count * sizeof(uint32_t)) == 0);
        expect_bits("scores", scores + count, scores, count);
    }
    s.queries = 1;
    struct data one = {data.queries + (size_t)18 * s.depth, data.rows};
    search(&s, &one, found + count, scores + count);
    cr_assert(memcmp(found + (size_t)18 * s.k, found + count, s.k * sizeof(uint32_t)) == 0);
    free(scores);
    free(found);
    free_data(&data);
}
