// SPDX-License-Identifier: Apache-2.0
// Goal: fusion on the GPU gives what fusion_refine() gives, whatever the batch; queries that
// have nothing to be fused with keep their bits.
//
// Method: ragged batches with 0, 1, 10 and 512 neighbours and all kinds of gates against
// fusion_refine(), which computes in double precision.

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "shaders/models/fusion.h"
#include "tests/gpu/gpu_fixture.h"

TestSuite(gpu_fuse, .init = gpu_fixture_open, .fini = gpu_fixture_close);

int main(int argc, char **argv)
{
    return gpu_fixture_main(argc, argv);
}

static const uint32_t starts[] = {0, 1, 11, 11, 523, 533, 536};
static const float gates[] = {1.0f, 0.5f, 1.0f, 0.25f, 0.0f, 0.9f};
enum { ROWS = COUNT(gates), NEIGHBOURS = 536 };

struct batch {
    uint32_t width;
    float *queries;
    float *payload;
    float *scores;
};

static struct batch make_batch(uint32_t width)
{
    return (struct batch){
        .width = width,
        .queries = random_floats((size_t)ROWS * width, 71),
        .payload = random_floats((size_t)NEIGHBOURS * width, 72),
        .scores = random_floats(NEIGHBOURS, 73),
    };
}

static void free_batch(struct batch *batch)
{
    free(batch->queries);
    free(batch->payload);
    free(batch->scores);
}

// Queries first..first + rows - 1; returns the flag.
static uint32_t fuse(const struct batch *batch, const struct fusion_params *params, uint32_t first,
                     uint32_t rows, float *target)
{
    uint32_t flag = UINT32_MAX;
    uint32_t own_starts[ROWS + 1];
    uint32_t begin = starts[first];
    uint32_t neighbours = starts[first + rows] - begin;
    for (uint32_t i = 0; i <= rows; i++)
        own_starts[i] = starts[first + i] - begin;
    const size_t width = batch->width;
    const uint32_t threads = 64;
    struct fuse_args args = {
        .rows = rows,
        .width = batch->width,
        .beta = (float)params->beta,
        .temperature = params->mode == FUSION_WEIGHTED ? (float)params->temperature : 0.0f,
    };
    struct kernel_run run = {
        .id = KERNEL_FUSE,
        .constants = &threads,
        .args = &args,
        .arrays = {guarded_with(batch->queries + first * width, rows * width),
                   guarded_with(batch->payload + begin * width, neighbours * width),
                   guarded_with(batch->scores + begin, neighbours),
                   guarded_with(own_starts, rows + 1u), guarded_with(gates + first, rows),
                   guarded_poisoned(rows * width), guarded_with(&flag, 1)},
    };
    kernel_table_spread(rows, run.groups);
    gpu_fixture_run(&run);
    for (uint32_t i = 0; i < 5; i++)
        guarded_end(&run.arrays[i], NULL);
    guarded_end(&run.arrays[5], target);
    guarded_end(&run.arrays[6], &flag);
    return flag;
}

static void expected_of(const struct batch *batch, const struct fusion_params *params, uint32_t row,
                        float *target)
{
    const float *payload[NEIGHBOURS];
    uint32_t count = starts[row + 1] - starts[row];
    for (uint32_t i = 0; i < count; i++)
        payload[i] = batch->payload + (size_t)(starts[row] + i) * batch->width;
    struct fusion_neighbours neighbours = {
        .scores = batch->scores + starts[row],
        .payload = payload,
        .count = count,
    };
    cr_assert(eq(int,
                 fusion_refine(params, batch->queries + (size_t)row * batch->width, batch->width,
                               &neighbours, (double)gates[row], target),
                 STATUS_OK));
}

Test(gpu_fuse, agrees_with_double_precision_and_rows_with_themselves_alone)
{
    static const uint32_t sizes[] = {1, 7, 64, 65, 512};
    static const struct fusion_params all[] = {
        {.mode = FUSION_MEAN, .beta = 2, .temperature = 20},
        {.mode = FUSION_WEIGHTED, .beta = 2, .temperature = 20},
        {.mode = FUSION_WEIGHTED, .beta = 0.5, .temperature = 100},
    };
    for (size_t i = 0; i < COUNT(sizes) * COUNT(all); i++) {
        struct batch batch = make_batch(sizes[i / COUNT(all)]);
        const struct fusion_params *params = &all[i % COUNT(all)];
        size_t count = (size_t)ROWS * batch.width;
        float *target = malloc(count * sizeof(float));
        float *expected = malloc(count * sizeof(float));
        float *alone = malloc(batch.width * sizeof(float));
        cr_expect(eq(u32, fuse(&batch, params, 0, ROWS, target), UINT32_MAX));
        for (uint32_t row = 0; row < ROWS; row++)
            expected_of(&batch, params, row, expected + (size_t)row * batch.width);
        double *wide = widen(expected, count);
        expect_close("fuse", target, wide, count, 1e-11);
        expect_bits("no neighbours", target + (size_t)2 * batch.width,
                    batch.queries + (size_t)2 * batch.width, batch.width);
        expect_bits("gate 0", target + (size_t)4 * batch.width,
                    batch.queries + (size_t)4 * batch.width, batch.width);
        cr_expect(eq(u32, fuse(&batch, params, 3, 1, alone), UINT32_MAX));
        expect_bits("alone", alone, target + (size_t)3 * batch.width, batch.width);
        free(wide);
        free(alone);
        free(expected);
        free(target);
        free_batch(&batch);
    }
}

Test(gpu_fuse, a_sum_without_direction_is_flagged_and_its_query_kept)
{
    struct batch batch = make_batch(8);
    const struct fusion_params params = {.mode = FUSION_MEAN, .beta = 1, .temperature = 0};
    float target[ROWS * 8];
    // The only neighbour of the first query is its opposite.
    for (uint32_t c = 0; c < 8; c++)
        batch.payload[c] = -batch.queries[c];
    cr_expect(eq(u32, fuse(&batch, &params, 0, ROWS, target), 0));
    expect_bits("kept", target, batch.queries, 8);
    free_batch(&batch);
}
