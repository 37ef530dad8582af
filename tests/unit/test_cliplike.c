// SPDX-License-Identifier: Apache-2.0
// Goal: made-up vectors are the same bits everywhere and lie as CLIP's embeddings do: all near
// each other, in clusters of very different sizes, texts far from the pictures they ask for.
//
// Method: hashes of rows that were made once; the best of 20,000 rows for a few queries by
// brute force, beside bounds around what larger sets show (tools/bench/README.md).

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/hash.h"
#include "proto/base/limits.h"
#include "proto/base/mem.h"
#include "tools/cliplike.h"

#define DIMENSION 512
#define ROWS 20000
#define QUERIES 20

static struct cliplike *new_set(uint64_t seed, size_t dimension)
{
    struct cliplike *set = NULL;
    struct reason why = {.text = ""};
    cr_assert(eq(int, cliplike_create(seed, dimension, &set, &why), STATUS_OK), "%s", why.text);
    return set;
}

static double dot(const float *a, const float *b, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

static float *make_rows(const struct cliplike *set, enum cliplike_kind kind, size_t count)
{
    float *rows = mem_alloc_array(count * DIMENSION, sizeof(float));
    for (size_t i = 0; i < count; i++)
        cliplike_row(set, kind, i, rows + i * DIMENSION);
    return rows;
}

// The best score of any row, averaged over the queries.
static double mean_best(const float *rows, const struct cliplike *set, enum cliplike_kind kind)
{
    float *queries = make_rows(set, kind, QUERIES);
    double sum = 0;
    for (size_t q = 0; q < QUERIES; q++) {
        double best = -1;
        for (size_t i = 0; i < ROWS; i++)
            best = fmax(best, dot(queries + q * DIMENSION, rows + i * DIMENSION, DIMENSION));
        sum += best;
    }
    mem_free(queries);
    return sum / QUERIES;
}

Test(cliplike, makes_the_same_bits_everywhere)
{
    static const struct {
        size_t dimension;
        uint64_t hash;
    } known[] = {
        {512, UINT64_C(6484781779787992662)},
        {100, UINT64_C(5585942711963136531)}, // no power of two: the transform takes turns
        {16, UINT64_C(2937801675000528913)},
        {784, UINT64_C(9808130889168467604)},
    };
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        size_t dimension = known[i].dimension;
        struct cliplike *set = new_set(1, dimension);
        float *rows = mem_alloc_array(9 * dimension, sizeof(float));
        for (size_t j = 0; j < 9; j++)
            cliplike_row(set, (enum cliplike_kind)(j % 3), j * 1000003, rows + j * dimension);
        cr_expect(eq(u64, hash_id(rows, 9 * dimension * sizeof(float)), known[i].hash),
                  "%zu dimensions", dimension);
        mem_free(rows);
        cliplike_destroy(&set);
        cr_expect(eq(ptr, set, NULL));
    }
}

Test(cliplike, a_row_depends_on_seed_kind_and_number_only)
{
    struct cliplike *set = new_set(7, 64);
    struct cliplike *again = new_set(7, 64);
    struct cliplike *other = new_set(8, 64);
    float a[64];
    float b[64];
    cliplike_row(set, CLIPLIKE_BASE, 5, a);
    for (uint64_t i = 9; i-- > 5;)
        cliplike_row(again, CLIPLIKE_BASE, i, b); // backwards, and 5 last
    cr_expect(memcmp(a, b, sizeof(a)) == 0);
    cliplike_row(other, CLIPLIKE_BASE, 5, b);
    cr_expect(dot(a, b, 64) < 0.9);
    cliplike_row(set, CLIPLIKE_QUERY_ID, 5, b);
    cr_expect(dot(a, b, 64) < 0.999); // no query is a row that is searched
    cliplike_destroy(&set);
    cliplike_destroy(&again);
    cliplike_destroy(&other);
}

Test(cliplike, rows_lie_as_embeddings_do)
{
    struct cliplike *set = new_set(1, DIMENSION);
    float *rows = make_rows(set, CLIPLIKE_BASE, ROWS);
    double pairs = 0;
    for (size_t i = 0; i < ROWS; i++) {
        const float *row = rows + i * DIMENSION;
        cr_assert(fabs(dot(row, row, DIMENSION) - 1) < 1e-6);
        pairs += dot(row, rows + (i * 7919 + 13) % ROWS * DIMENSION, DIMENSION) / ROWS;
    }
    cr_expect(pairs > 0.43 && pairs < 0.49, "cosine of two rows: %.3f", pairs);

    // A million rows give 0.86 and 0.36: more rows, nearer neighbours.
    double near = mean_best(rows, set, CLIPLIKE_QUERY_ID);
    double far = mean_best(rows, set, CLIPLIKE_QUERY_OOD);
    cr_expect(near > 0.75 && near < 0.87, "best of a query as the rows: %.3f", near);
    cr_expect(far > 0.20 && far < 0.40, "best of a query as a text: %.3f", far);
    mem_free(rows);
    cliplike_destroy(&set);
}

// Rows of one small cluster are nearer to each other than 0.75, others are not. If all clusters
// were equal, one in a few hundred would have more than 5 rows here.
Test(cliplike, clusters_have_very_different_sizes)
{
    struct cliplike *set = new_set(1, DIMENSION);
    float *rows = make_rows(set, CLIPLIKE_BASE, ROWS);
    size_t alone = 0;
    size_t largest = 0;
    for (size_t i = 0; i < 100; i++) {
        size_t near = 0;
        for (size_t j = 0; j < ROWS; j++)
            near += j != i && dot(rows + i * DIMENSION, rows + j * DIMENSION, DIMENSION) > 0.75;
        alone += near == 0;
        largest = near > largest ? near : largest;
    }
    cr_expect(alone > 10, "%zu of 100 have no neighbour", alone);
    cr_expect(largest > 10, "the largest cluster seen has %zu more", largest);
    mem_free(rows);
    cliplike_destroy(&set);
}

Test(cliplike, refuses_dimensions_out_of_range)
{
    struct cliplike *set = NULL;
    struct reason why = {.text = ""};
    cr_expect(eq(int, cliplike_create(1, 15, &set, &why), STATUS_INVALID));
    cr_expect(strstr(why.text, "16 to 4096") != NULL, "%s", why.text);
    cr_expect(eq(int, cliplike_create(1, DIMENSION_MAX + 1, &set, &why), STATUS_INVALID));
    mem_fail_after(1);
    cr_expect(eq(int, cliplike_create(1, 16, &set, &why), STATUS_NO_MEMORY));
    mem_fail_after(0);
    cr_expect(eq(ptr, set, NULL));
}
