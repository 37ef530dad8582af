// SPDX-License-Identifier: Apache-2.0
// How many lists a search must look into to find a wanted share of the true neighbours: measured on
// rows of the index itself, each asked without itself, against an exact scan.
//
// It speaks for queries that are like the rows. Queries of another kind (a text asked among images)
// need more lists for the same recall.

#include <assert.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/half.h"
#include "proto/base/mem.h"
#include "proto/base/parallel.h"
#include "shard_node/distance.h"
#include "shard_node/index/index_internal.h"
#include "shard_node/index/seed.h"

#define QUERIES_MIN 200
#define QUERIES 2000                 // of these recall is known to some 0.3 points
#define PRODUCTS UINT64_C(500000000) // of a query and a row: fewer ask when there are many rows
#define ENOUGH 0.9995F               // more lists are not measured
#define TOGETHER 8                   // queries that share a pass over the rows
#define K INDEX_TEN                  // recall@10
#define CHUNK 1024                   // rows of one block of products

struct calibration {
    struct index *index;
    const _Atomic uint64_t *live;
    uint32_t end;
    uint32_t count;             // of queries, 0..QUERIES
    uint32_t slots[QUERIES];    // the rows that ask
    uint32_t truth[QUERIES][K]; // slots
    uint32_t truth_count[QUERIES];
    uint32_t probes;
    struct index_scratch **scratches;
    atomic_uint found[INDEX_CURVES];
};

static void choose(struct calibration *calibration)
{
    uint64_t seed = calibration->index->params.seed ^ 0xca11b7a7eu;
    const uint64_t few = PRODUCTS / calibration->end;
    const uint32_t wanted = few < QUERIES_MIN ? QUERIES_MIN
                            : few > QUERIES   ? QUERIES
                                              : (uint32_t)few;
    for (uint32_t tries = 0; tries < 4 * wanted && calibration->count < wanted; tries++) {
        const uint32_t slot = (uint32_t)seed_below(&seed, calibration->end);
        if (index_is_live(calibration->live, slot))
            calibration->slots[calibration->count++] = slot;
    }
}

// The true best of a few queries, by one pass over all rows.
static void find_truth(void *context, uint32_t worker, size_t piece)
{
    (void)worker;
    struct calibration *calibration = context;
    const struct index *index = calibration->index;
    const uint32_t dimension = index->params.rows.dimension;
    if (index_is_cancelled(index))
        return;
    const uint32_t first = (uint32_t)piece * TOGETHER;
    const uint32_t left = calibration->count - first;
    const uint32_t together = left < TOGETHER ? left : TOGETHER;
    struct best_item items[TOGETHER][K];
    struct best best[TOGETHER];
    float queries[(size_t)TOGETHER * DIMENSION_MAX];
    float scores[(size_t)TOGETHER * CHUNK];
    for (uint32_t q = 0; q < together; q++) {
        best_begin(&best[q], items[q], K);
        half_to_floats(index_row(index, calibration->slots[first + q]),
                       queries + (size_t)q * dimension, dimension);
    }
    for (uint32_t row = 0; row < calibration->end && !index_is_cancelled(index); row += CHUNK) {
        const uint32_t rest = calibration->end - row;
        const struct distance_block block = {.queries = queries,
                                             .query_count = together,
                                             .rows = index_row(index, row),
                                             .row_count = rest < CHUNK ? rest : CHUNK,
                                             .dimension = dimension};
        distance_scores(index->params.level, &block, scores);
        for (uint32_t q = 0; q < together; q++) {
            for (uint32_t r = 0; r < block.row_count; r++) {
                const float score = scores[q * block.row_count + r];
                if (score >= best[q].threshold && row + r != calibration->slots[first + q] &&
                    index_is_live(calibration->live, row + r))
                    best_offer(&best[q], score, row + r);
            }
        }
    }
    for (uint32_t q = 0; q < together; q++) {
        best_sort(&best[q]);
        calibration->truth_count[first + q] = best[q].count;
        for (uint32_t i = 0; i < best[q].count; i++)
            calibration->truth[first + q][i] = best_number(best[q].items[i]);
    }
}

static void ask(void *context, uint32_t worker, size_t number)
{
    struct calibration *calibration = context;
    struct index *index = calibration->index;
    float query[DIMENSION_MAX];
    struct scan_hit hits[K + 1];
    half_to_floats(index_row(index, calibration->slots[number]), query,
                   index->params.rows.dimension);
    const struct index_query asked = {
        .query = query, .k = K + 1, .probes = calibration->probes, .live = calibration->live};
    const size_t count = index_search(index, calibration->scratches[worker], &asked, hits, NULL);
    uint32_t found[INDEX_CURVES] = {0};
    for (size_t i = 0; i < count; i++) {
        for (uint32_t j = 0; j < calibration->truth_count[number]; j++) {
            const bool is_found = hits[i].slot == calibration->truth[number][j];
            found[INDEX_OF_TEN] += is_found;
            found[INDEX_OF_FIRST] += is_found && j == 0;
        }
    }
    for (size_t curve = 0; curve < INDEX_CURVES; curve++)
        (void)atomic_fetch_add(&calibration->found[curve], found[curve]);
}

// Asks with calibration->probes.
static void find_recalls(struct calibration *calibration, float recalls[INDEX_CURVES])
{
    uint32_t all[INDEX_CURVES] = {0};
    for (uint32_t q = 0; q < calibration->count; q++) {
        all[INDEX_OF_TEN] += calibration->truth_count[q];
        all[INDEX_OF_FIRST] += calibration->truth_count[q] > 0;
    }
    for (size_t curve = 0; curve < INDEX_CURVES; curve++)
        atomic_store(&calibration->found[curve], 0);
    parallel_run(calibration->index->params.threads, calibration->count, ask, calibration);
    for (size_t curve = 0; curve < INDEX_CURVES; curve++) {
        const float found = (float)atomic_load(&calibration->found[curve]);
        recalls[curve] = all[curve] == 0 ? 1 : found / (float)all[curve];
    }
}

// Measures all steps; nothing is kept when it is given up.
static enum status measure(struct calibration *calibration)
{
    struct index *index = calibration->index;
    float recalls[INDEX_STEPS][INDEX_CURVES] = {{0}};
    float best[INDEX_CURVES] = {0}; // recall does not fall with more probes but for chance
    parallel_run(index->params.threads, (calibration->count + TOGETHER - 1) / TOGETHER, find_truth,
                 calibration);
    for (uint32_t step = 0; step < INDEX_STEPS && !index_is_cancelled(index); step++) {
        calibration->probes = 1u << step;
        if (best[INDEX_OF_TEN] < ENOUGH)
            find_recalls(calibration, recalls[step]);
        for (size_t curve = 0; curve < INDEX_CURVES; curve++) {
            best[curve] = recalls[step][curve] > best[curve] ? recalls[step][curve] : best[curve];
            recalls[step][curve] = best[curve];
        }
    }
    if (index_is_cancelled(index))
        return STATUS_CANCELLED;
    for (uint32_t step = 0; step < INDEX_STEPS; step++)
        for (size_t curve = 0; curve < INDEX_CURVES; curve++)
            atomic_store(&index->recall[curve][step], recalls[step][curve]);
    return STATUS_OK;
}

enum status index_calibrate(struct index *index, const _Atomic uint64_t *live)
{
    struct calibration *calibration = mem_alloc(sizeof(*calibration));
    calibration->index = index;
    calibration->live = live;
    calibration->end = index_end(index);
    calibration->scratches = index_scratches_create(index, index->params.epoch);
    enum status status = calibration->scratches ? STATUS_OK : STATUS_NO_MEMORY;
    if (status == STATUS_OK && calibration->end > 0)
        choose(calibration);
    if (status == STATUS_OK && calibration->count > 0) // else it says what is usual
        status = measure(calibration);
    index_scratches_destroy(index, &calibration->scratches);
    mem_free(calibration);
    return status;
}

// The logarithm of the probes that a curve reaches the target with; as it is between two numbers
// that were measured, recall is taken to grow with it.
static double log_probes(const _Atomic float recall[INDEX_STEPS], float target_recall)
{
    float before = atomic_load(&recall[0]);
    if (before >= target_recall)
        return 0;
    for (uint32_t step = 1; step < INDEX_STEPS; step++) {
        const float now = atomic_load(&recall[step]);
        if (now >= target_recall)
            return step - 1 + (double)((target_recall - before) / (now - before));
        before = now;
    }
    return INDEX_STEPS - 1;
}

uint32_t index_probes(const struct index *index, float target_recall, float wanted)
{
    assert(target_recall > 0 && target_recall < 1);
    assert(wanted >= 1 && wanted <= INDEX_TEN);

    const double ten = log_probes(index->recall[INDEX_OF_TEN], target_recall);
    const double first = log_probes(index->recall[INDEX_OF_FIRST], target_recall);
    const double share = log2((double)wanted) / log2(INDEX_TEN);
    return (uint32_t)ceil(exp2(first + (ten - first) * share));
}
