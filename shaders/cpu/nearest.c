// SPDX-License-Identifier: Apache-2.0
// Scores are a matrix product whose weights are the queries: a block of rows is widened to single
// precision and multiplied by all of them, then each query's list takes what is ahead of its last.
//
// Scores are compared as numbers without a sign that rise with them (shaders/kernels/topk.glsl has
// the same), so that NaN and both zeros have their place.

#include "shaders/cpu/nearest.h"

#include <assert.h>
#include <string.h>

#include "proto/base/half.h"
#include "proto/base/mem.h"

#define BLOCK_ROWS 1024u   // a multiple of DENSE_ROWS
#define QUERIES_MAX 256u   // a product at a time
#define QUERIES_OF_JOB 16u // a line of the cache
#define ROWS_OF_JOB 64u

_Static_assert(BLOCK_ROWS % DENSE_ROWS == 0, "products write whole tiles");

struct found {
    uint32_t key; // 0: none
    uint32_t row;
};

struct nearest {
    const struct nearest_params *params;
    size_t first_query;
    uint32_t queries; // of this product
    size_t first_row;
    size_t rows;        // of this block
    float *wide;        // [BLOCK_ROWS][depth]
    float *scores;      // [BLOCK_ROWS][queries]
    struct found *kept; // [queries][k], best first
};

static uint32_t key_of(float score)
{
    uint32_t bits;
    memcpy(&bits, &score, sizeof(bits));
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return 1;
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

static float score_of(uint32_t key)
{
    uint32_t bits = key & 0x80000000u ? key & 0x7fffffffu : ~key;
    float score;
    memcpy(&score, &bits, sizeof(score));
    return key > 0 ? score : 0.0f;
}

static void widen(void *context, uint32_t job, uint32_t worker)
{
    (void)worker;
    const struct nearest *nearest = context;
    size_t depth = nearest->params->depth;
    size_t first = (size_t)job * ROWS_OF_JOB;
    size_t rows = nearest->rows - first < ROWS_OF_JOB ? nearest->rows - first : ROWS_OF_JOB;
    half_to_floats(nearest->params->rows + (nearest->first_row + first) * depth,
                   nearest->wide + first * depth, rows * depth);
}

// Rows come in rising order, so a row goes behind all of its score.
static void offer(struct found *kept, uint32_t k, struct found next)
{
    uint32_t at = k - 1;
    for (; at > 0 && next.key > kept[at - 1].key; at--)
        kept[at] = kept[at - 1];
    kept[at] = next;
}

static void keep(void *context, uint32_t job, uint32_t worker)
{
    (void)worker;
    const struct nearest *nearest = context;
    uint32_t k = nearest->params->k;
    uint32_t first = job * QUERIES_OF_JOB;
    uint32_t end =
        first + QUERIES_OF_JOB < nearest->queries ? first + QUERIES_OF_JOB : nearest->queries;
    for (size_t row = 0; row < nearest->rows; row++) {
        const float *scores = nearest->scores + row * nearest->queries;
        for (uint32_t query = first; query < end; query++) {
            struct found *kept = nearest->kept + (size_t)query * k;
            const struct found next = {key_of(scores[query]), (uint32_t)(nearest->first_row + row)};
            if (next.key > kept[k - 1].key)
                offer(kept, k, next);
        }
    }
}

static void tell(const struct nearest *nearest)
{
    const struct nearest_params *params = nearest->params;
    size_t first = nearest->first_query * params->k;
    for (size_t i = 0; i < (size_t)nearest->queries * params->k; i++) {
        struct found found = nearest->kept[i];
        params->ids[first + i] = found.key > 0 ? found.row : UINT32_MAX;
        params->scores[first + i] = score_of(found.key);
    }
}

// All rows for the queries that a product takes.
static enum status search(struct team *team, struct dense *dense, struct nearest *nearest,
                          struct reason *why)
{
    const struct nearest_params *params = nearest->params;
    struct dense_matrix *matrix = NULL;
    const struct dense_params prepared = {
        .weights = params->queries + nearest->first_query * params->depth,
        .columns = nearest->queries,
        .depth = params->depth,
        .epilogue = DENSE_PLAIN,
    };
    memset(nearest->kept, 0, (size_t)nearest->queries * params->k * sizeof(nearest->kept[0]));
    enum status status = dense_prepare(dense, &prepared, &matrix, why);
    for (size_t row = 0; row < params->row_count && status == STATUS_OK; row += BLOCK_ROWS) {
        nearest->first_row = row;
        nearest->rows = params->row_count - row < BLOCK_ROWS ? params->row_count - row : BLOCK_ROWS;
        team_run(team, (uint32_t)((nearest->rows + ROWS_OF_JOB - 1) / ROWS_OF_JOB), widen, nearest);
        status = dense_run(dense, matrix, nearest->wide, nearest->rows, nearest->scores, why);
        if (status == STATUS_OK)
            team_run(team, (nearest->queries + QUERIES_OF_JOB - 1) / QUERIES_OF_JOB, keep, nearest);
    }
    dense_free(&matrix);
    if (status == STATUS_OK)
        tell(nearest);
    return status;
}

enum status nearest_search(struct team *team, struct dense *dense,
                           const struct nearest_params *params, struct reason *why)
{
    assert(team && dense && params);
    assert(params->k > 0 && params->row_count < UINT32_MAX);

    if (params->query_count == 0)
        return STATUS_OK;
    size_t most = params->query_count < QUERIES_MAX ? params->query_count : QUERIES_MAX;
    struct nearest nearest = {
        .params = params,
        .wide = mem_try_alloc_array((size_t)BLOCK_ROWS * params->depth, sizeof(float)),
        .scores = mem_try_alloc_array(BLOCK_ROWS * most, sizeof(float)),
        .kept = mem_try_alloc_array(most * params->k, sizeof(struct found)),
    };
    enum status status = STATUS_OK;
    if (!nearest.wide || !nearest.scores || !nearest.kept) {
        status =
            reason_set(why, STATUS_NO_MEMORY, "", "no memory to search with %zu queries", most);
    } else {
        for (size_t first = 0; first < params->query_count && status == STATUS_OK; first += most) {
            size_t left = params->query_count - first;
            nearest.first_query = first;
            nearest.queries = (uint32_t)(left < most ? left : most);
            status = search(team, dense, &nearest, why);
        }
    }
    mem_free(nearest.kept);
    mem_free(nearest.scores);
    mem_free(nearest.wide);
    return status;
}
