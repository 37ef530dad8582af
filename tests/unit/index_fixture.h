// SPDX-License-Identifier: Apache-2.0
// index_fixture.h - clustered vectors from a fixed seed, an index of them, and whether two indexes
// are alike.

#ifndef RECO_TESTS_UNIT_INDEX_FIXTURE_H
#define RECO_TESTS_UNIT_INDEX_FIXTURE_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/half.h"
#include "shard_node/index/index.h"
#include "shard_node/index/seed.h"

#define DIMENSION 96
#define ROWS 12000
#define CLUSTERS 150
#define QUERIES 60
#define K 10

static uint64_t seed = 20261129;

static struct world {
    uint16_t *rows;
    struct rows_slot *slots;
    float *queries;
    struct epoch *epoch;
} world;

static inline float uniform(void)
{
    return (float)(seed_next(&seed) >> 40) / 8388608.0F - 1;
}

static inline void make_vector(const float *centre, float *out)
{
    double norm = 0;
    for (size_t d = 0; d < DIMENSION; d++) {
        out[d] = centre[d] + 0.9F * uniform();
        norm += (double)out[d] * (double)out[d];
    }
    for (size_t d = 0; d < DIMENSION; d++)
        out[d] = (float)((double)out[d] / sqrt(norm));
}

static inline void open_world(void)
{
    static float centres[CLUSTERS][DIMENSION];
    for (size_t c = 0; c < CLUSTERS; c++) {
        for (size_t d = 0; d < DIMENSION; d++)
            centres[c][d] = uniform();
    }
    world.rows = calloc((size_t)ROWS * DIMENSION, sizeof(uint16_t));
    world.slots = calloc(ROWS, sizeof(struct rows_slot));
    world.queries = calloc((size_t)QUERIES * DIMENSION, sizeof(float));
    float vector[DIMENSION];
    for (size_t i = 0; i < ROWS; i++) {
        make_vector(centres[seed_below(&seed, CLUSTERS)], vector);
        half_from_floats(vector, world.rows + i * DIMENSION, DIMENSION);
        world.slots[i].id = seed_next(&seed);
    }
    for (size_t i = 0; i < QUERIES; i++)
        make_vector(centres[seed_below(&seed, CLUSTERS)], world.queries + i * DIMENSION);
    world.epoch = epoch_create();
}

static inline void close_world(void)
{
    epoch_destroy(&world.epoch);
    free(world.rows);
    free(world.slots);
    free(world.queries);
}

static inline struct index_params params_of(enum cpu_level level, uint32_t threads)
{
    return (struct index_params){
        .rows = {.dimension = DIMENSION, .rows = world.rows, .slots = world.slots},
        .epoch = world.epoch,
        .level = level,
        .list_vectors = 64,
        .threads = threads,
        .seed = 5,
    };
}

static inline struct index *train(const struct index_params *params)
{
    static uint32_t sample[ROWS];
    const uint32_t count = index_sample_count(params, ROWS);
    for (uint32_t i = 0; i < count; i++)
        sample[i] = (uint32_t)((uint64_t)i * ROWS / count);
    struct index *index = NULL;
    struct reason why = {0};
    cr_assert(eq(int, index_train(params, sample, count, ROWS, &index, &why), STATUS_OK), "%s",
              why.text);
    return index;
}

static inline struct index *build(const struct index_params *params)
{
    struct index *index = train(params);
    cr_assert(eq(int, index_extend(index, ROWS, NULL, NULL), STATUS_OK));
    cr_expect(eq(u32, index_end(index), ROWS));
    return index;
}

// As the index reads them.
static inline const _Atomic uint64_t *shared(const uint64_t *bits)
{
    return (const _Atomic uint64_t *)bits;
}

static inline void expect_same_answers(struct index *a, struct index *b)
{
    struct index_scratch *scratch = index_scratch_create(world.epoch);
    for (size_t q = 0; q < QUERIES; q++) {
        struct scan_hit hits[2][K];
        struct index_counts counts[2];
        memset(counts, 0, sizeof(counts));
        const struct index_query query = {
            .query = world.queries + q * DIMENSION, .k = K, .probes = 6};
        const size_t count = index_search(a, scratch, &query, hits[0], &counts[0]);
        cr_assert(eq(sz, index_search(b, scratch, &query, hits[1], &counts[1]), count));
        for (size_t i = 0; i < count; i++) {
            cr_expect(eq(u32, hits[0][i].slot, hits[1][i].slot));
            cr_expect(memcmp(&hits[0][i].neighbour.score, &hits[1][i].neighbour.score,
                             sizeof(float)) == 0);
        }
        cr_expect(eq(u64, counts[0].codes, counts[1].codes));
        cr_expect(eq(u32, counts[0].refined, counts[1].refined));
    }
    index_scratch_destroy(&scratch);
}

#endif
