// SPDX-License-Identifier: Apache-2.0
// Goal: an inner product is the same bits on every instruction set, in every batch, and close
// to the true value.
//
// Method: random rows of every awkward length; each level against the scalar code bit for bit, the
// scalar code against a sum in double, and one case folded by hand.

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/cpu.h"
#include "proto/base/half.h"
#include "proto/base/limits.h"
#include "shard_node/distance.h"

#define QUERIES 7 // one tile of four and three left over
#define ROWS 5

static uint64_t state = 20261124;

static float next_float(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (float)((double)(state >> 11) / (double)(1ull << 53) * 2.0 - 1.0);
}

struct sample {
    float *queries;
    uint16_t *rows;
    size_t dimension;
};

// The rows end where their allocation ends, so that a sanitizer sees a read behind them.
static struct sample new_sample(size_t dimension, float scale)
{
    struct sample sample = {
        .queries = malloc(QUERIES * dimension * sizeof(float)),
        .rows = malloc(ROWS * dimension * sizeof(uint16_t)),
        .dimension = dimension,
    };
    for (size_t i = 0; i < QUERIES * dimension; i++)
        sample.queries[i] = next_float() * scale;
    for (size_t i = 0; i < ROWS * dimension; i++)
        sample.rows[i] = half_from_float(next_float() * scale);
    return sample;
}

static void free_sample(struct sample *sample)
{
    free(sample->queries);
    free(sample->rows);
}

static void score(enum cpu_level level, const struct sample *sample, size_t queries, float *scores)
{
    const struct distance_block block = {.queries = sample->queries,
                                         .query_count = queries,
                                         .rows = sample->rows,
                                         .row_count = ROWS,
                                         .dimension = sample->dimension};
    distance_scores(level, &block, scores);
}

static void expect_same_bits(const struct sample *sample)
{
    float expected[QUERIES * ROWS];
    score(CPU_SCALAR, sample, QUERIES, expected);
    for (int level = CPU_SCALAR; level < CPU_LEVELS; level++) {
        if (!cpu_has((enum cpu_level)level))
            continue;
        for (size_t queries = 1; queries <= QUERIES; queries++) {
            float scores[QUERIES * ROWS];
            score((enum cpu_level)level, sample, queries, scores);
            cr_assert(eq(int, memcmp(scores, expected, queries * ROWS * sizeof(float)), 0),
                      "level %s, dimension %zu, %zu queries", cpu_level_name((enum cpu_level)level),
                      sample->dimension, queries);
        }
    }
}

Test(distance, every_level_gives_the_same_bits_for_every_length_and_batch)
{
    for (size_t dimension = 1; dimension <= 200; dimension++) {
        struct sample sample = new_sample(dimension, 1.0f);
        expect_same_bits(&sample);
        free_sample(&sample);
    }
    static const size_t lengths[] = {255, 256, 512, 640, 767, 768, 1024, 1280, 4095, DIMENSION_MAX};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        struct sample sample = new_sample(lengths[i], 0.05f);
        expect_same_bits(&sample);
        free_sample(&sample);
    }
}

Test(distance, tiny_and_huge_values_give_the_same_bits)
{
    struct sample tiny = new_sample(100, 1e-6f); // halves below the normal range
    expect_same_bits(&tiny);
    free_sample(&tiny);
    struct sample huge = new_sample(100, 60000.0f);
    expect_same_bits(&huge);
    free_sample(&huge);

    struct sample zeros = new_sample(33, 1.0f);
    for (size_t i = 0; i < 33 * ROWS; i++)
        zeros.rows[i] = i % 2 ? 0x8000u : 0u; // -0 and +0
    expect_same_bits(&zeros);
    free_sample(&zeros);
}

Test(distance, is_the_inner_product)
{
    for (size_t dimension = 1; dimension <= 1280; dimension = dimension * 3 / 2 + 1) {
        struct sample sample = new_sample(dimension, 1.0f);
        float scores[QUERIES * ROWS];
        score(cpu_best(), &sample, QUERIES, scores);
        for (size_t q = 0; q < QUERIES; q++) {
            for (size_t r = 0; r < ROWS; r++) {
                double sum = 0;
                double size = 0;
                for (size_t i = 0; i < dimension; i++) {
                    const double product = (double)sample.queries[q * dimension + i] *
                                           (double)half_to_float(sample.rows[r * dimension + i]);
                    sum += product;
                    size += fabs(product);
                }
                // Each of d / 32 + 6 additions and one multiplication rounds once.
                const double allowed = size * ((double)dimension / 32 + 7) * 6e-8;
                cr_assert(le(dbl, fabs(sum - (double)scores[q * ROWS + r]), allowed));
            }
        }
        free_sample(&sample);
    }
}

Test(distance, lanes_are_folded_sixteen_apart_first)
{
    // Lane 0 holds 2^24, lane 16 holds -2^24, all others 1: folding 16 apart first cancels the
    // large ones before any 1 is lost beside them.
    float query[32];
    uint16_t row[32];
    for (size_t i = 0; i < 32; i++) {
        query[i] = 1.0f;
        row[i] = half_from_float(1.0f);
    }
    query[0] = 4096.0f;
    row[0] = half_from_float(4096.0f);
    query[16] = -4096.0f;
    row[16] = half_from_float(4096.0f);
    const struct distance_block block = {
        .queries = query, .query_count = 1, .rows = row, .row_count = 1, .dimension = 32};
    for (int level = CPU_SCALAR; level < CPU_LEVELS; level++) {
        if (!cpu_has((enum cpu_level)level))
            continue;
        float result = 0;
        distance_scores((enum cpu_level)level, &block, &result);
        cr_expect(eq(flt, result, 30.0f));
    }
}

Test(distance, a_pair_does_not_depend_on_which_row_is_the_query)
{
    for (size_t dimension = 1; dimension <= 130; dimension++) {
        struct sample sample = new_sample(dimension, 1.0f);
        const uint16_t *a = sample.rows;
        const uint16_t *b = sample.rows + dimension;
        const float forth = distance_pair(cpu_best(), a, b, dimension);
        const float back = distance_pair(CPU_SCALAR, b, a, dimension);
        cr_assert(eq(int, memcmp(&forth, &back, sizeof(forth)), 0));
        free_sample(&sample);
    }
}
