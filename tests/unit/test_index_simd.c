// SPDX-License-Identifier: Apache-2.0
// Goal: codes estimate inner products as RaBitQ promises, and every kernel of this CPU writes and
// reads them with the same bits.
//
// Method: vectors from a fixed seed, of many dimensions; estimates against products in double
// precision; the portable kernels are the definition, the others are compared with them byte by
// byte.

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/half.h"
#include "proto/base/hash.h"
#include "shard_node/index/seed.h"
#include "shard_node/index/simd.h"

static const uint32_t dimensions_tried[] = {1, 63, 64, 65, 200, 512, 768, 784, 1024, 1280, 4096};
#define TRIED (sizeof(dimensions_tried) / sizeof(dimensions_tried[0]))

static uint64_t seed = 20261129;

static struct rotation rotation;
static struct lookup lookups[3];

// About normal: the sum of twelve uniform numbers.
static float normal(void)
{
    float sum = -6;
    for (int i = 0; i < 12; i++)
        sum += (float)(seed_next(&seed) >> 40) / 16777216.0F;
    return sum;
}

static void make_unit(float *vector, size_t dimension)
{
    double norm = 0;
    for (size_t i = 0; i < dimension; i++) {
        vector[i] = normal();
        norm += (double)vector[i] * (double)vector[i];
    }
    const double scale = norm > 0 ? 1 / sqrt(norm) : 0;
    for (size_t i = 0; i < dimension; i++)
        vector[i] = (float)((double)vector[i] * scale);
}

static double product(const float *a, const float *b, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

static void *allocate(size_t bytes)
{
    void *memory = aligned_alloc(CODES_ALIGNMENT, (bytes + 63) / 64 * 64);
    cr_assert(memory != NULL);
    memset(memory, 0, (bytes + 63) / 64 * 64);
    return memory;
}

Test(index_simd, a_rotation_keeps_products)
{
    const struct simd *simd = simd_for(CPU_SCALAR);
    for (size_t t = 0; t < TRIED; t++) {
        static float a[4096];
        static float b[4096];
        static float a_rotated[4096];
        static float b_rotated[4096];
        const uint32_t dimension = dimensions_tried[t];
        rotation_init(&rotation, dimension, 7);
        make_unit(a, dimension);
        make_unit(b, dimension);
        simd->rotate(&rotation, a, a_rotated);
        simd->rotate(&rotation, b, b_rotated);
        const double before = product(a, b, dimension);
        const double after = product(a_rotated, b_rotated, rotation.dimensions);
        cr_expect(fabs(before - after) < 2e-6, "%u dimensions: %g, rotated %g", dimension, before,
                  after);
    }
}

// One dimension alone is the worst case for sign bits.
Test(index_simd, a_rotation_spreads_a_single_dimension)
{
    const struct simd *simd = simd_for(CPU_SCALAR);
    for (size_t t = 2; t < TRIED; t++) {
        static float rotated[4096];
        static float single[4096];
        const uint32_t dimension = dimensions_tried[t];
        rotation_init(&rotation, dimension, 7);
        for (uint32_t which = 0; which < dimension; which += 37) {
            memset(single, 0, sizeof(single));
            single[which] = 1;
            simd->rotate(&rotation, single, rotated);
            double sizes = 0;
            for (uint32_t i = 0; i < rotation.dimensions; i++)
                sizes += fabs((double)rotated[i]);
            // |r|_1 / sqrt(D) is 1 when all are alike and 0.8 for a normal distribution.
            const double spread = sizes / sqrt((double)rotation.dimensions);
            cr_expect(spread > 0.6, "%u dimensions, number %u: %g", dimension, which, spread);
        }
    }
}

// What an estimate takes, done in double from the codes.
struct trial {
    struct codes_shape shape;
    const struct simd *simd;
    float centre[4096];
    float vectors[CODES_BLOCK][4096];
    void *block;
    void *extra;
};

static struct trial trial;

static void begin_trial(uint32_t dimension, uint32_t extra_bits, enum cpu_level level)
{
    trial.simd = simd_for(level);
    rotation_init(&rotation, dimension, 7);
    trial.shape = (struct codes_shape){.dimensions = rotation.dimensions, .extra_bits = extra_bits};
    trial.block = allocate(codes_block_bytes(&trial.shape));
    trial.extra = extra_bits ? allocate(codes_extra_bytes(&trial.shape)) : NULL;
    static float plain[4096];
    make_unit(plain, dimension);
    trial.simd->rotate(&rotation, plain, trial.centre);
    for (uint32_t i = 0; i < CODES_BLOCK; i++) {
        make_unit(plain, dimension);
        trial.simd->rotate(&rotation, plain, trial.vectors[i]);
        // Nearer to the centre than at random, some more and some less.
        for (uint32_t d = 0; d < rotation.dimensions; d++)
            trial.vectors[i][d] = trial.centre[d] + trial.vectors[i][d] * (0.2F + 0.02F * (float)i);
        trial.simd->encode(&trial.shape, trial.vectors[i], trial.centre, i, trial.block,
                           trial.extra);
    }
}

static void end_trial(void)
{
    free(trial.block);
    free(trial.extra);
}

static void ask(struct lookup *lookup, uint32_t dimension)
{
    static float plain[4096];
    make_unit(plain, dimension);
    trial.simd->rotate(&rotation, plain, lookup->query);
    trial.simd->look_up(rotation.dimensions, lookup);
}

static double distance(const float *a, const float *b, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return sqrt(sum);
}

Test(index_simd, sign_codes_estimate_within_their_bound)
{
    size_t inside = 0;
    size_t all = 0;
    double bias = 0;
    for (int round = 0; round < 40; round++) {
        begin_trial(512, 0, CPU_SCALAR);
        ask(&lookups[0], 512);
        const size_t d = trial.shape.dimensions;
        const float dot = (float)product(lookups[0].query, trial.centre, d);
        const double reach = distance(lookups[0].query, trial.centre, d);
        float estimates[CODES_BLOCK];
        const struct codes_block block = codes_block_at(&trial.shape, trial.block);
        const struct simd_centre centre = {.dot = dot, .threshold = 0.1F};
        trial.simd->estimate(&trial.shape, &lookups[0], &block, &centre, estimates);
        for (uint32_t i = 0; i < CODES_BLOCK; i++) {
            const double true_value = product(lookups[0].query, trial.vectors[i], d);
            const double error = (double)estimates[i] - true_value;
            bias += error;
            inside += fabs(error) <= (double)half_to_float(block.error[i]) * reach;
            all++;
        }
        end_trial();
    }
    // 1.4 deviations of a normal distribution hold 84 of 100 on both sides; 1,280 were tried.
    const double share = (double)inside / (double)all;
    cr_expect(share > 0.81 && share < 0.87, "%zu of %zu", inside, all);
    cr_expect(fabs(bias / (double)all) < 0.002, "bias %g", bias / (double)all);
}

// Normalised squared error of estimates from extra bits: 4 bits leave 1.2 % of a normal variance
// (Max 1960), 8 bits 0.01 %; sign bits alone leave 36 %, and RaBitQ's scaling 57 %.
static double extra_error(uint32_t extra_bits)
{
    double errors = 0;
    double spread = 0;
    for (int round = 0; round < 40; round++) {
        begin_trial(512, extra_bits, CPU_SCALAR);
        ask(&lookups[0], 512);
        const struct lookup *lookup = &lookups[0];
        const size_t d = trial.shape.dimensions;
        const double dot = product(lookup->query, trial.centre, d);
        const struct codes_extra extra = codes_extra_at(trial.extra);
        const struct simd_centre centre = {.threshold = -INFINITY};
        uint16_t sums[CODES_BLOCK];
        const struct codes_block block = codes_block_at(&trial.shape, trial.block);
        trial.simd->scan(&trial.shape, lookup, &centre, &block, sums);
        for (uint32_t i = 0; i < CODES_BLOCK; i++) {
            const double top = pow(2, extra_bits);
            const int32_t products = trial.simd->extra(
                &trial.shape, lookup, extra.rows + i * codes_extra_row_bytes(&trial.shape));
            const double signs = top * ((double)lookup->step * sums[i] + (double)lookup->lowest);
            const double rest =
                (double)lookup->byte_step * products - (top - 0.5) * (double)lookup->total;
            const double value =
                dot + (double)extra.add[i] + (double)extra.factor[i] * (signs + rest);
            const double true_value = product(lookup->query, trial.vectors[i], d);
            errors += (value - true_value) * (value - true_value);
            // What a residual of this length would vary by at random.
            const double length = distance(trial.vectors[i], trial.centre, d);
            spread += length * length / (double)d;
        }
        end_trial();
    }
    return errors / spread;
}

Test(index_simd, extra_bits_make_estimates_finer)
{
    const double three = extra_error(CODES_EXTRA_BITS);
    const double seven = extra_error(CODES_EXTRA_BITS_FINE);
    cr_expect(three < 0.03, "3 bits: %g", three);
    cr_expect(seven < 0.001, "7 bits: %g", seven);
}

static void compare(uint32_t dimension, uint32_t extra_bits, enum cpu_level level)
{
    const uint64_t begin = seed;
    begin_trial(dimension, extra_bits, CPU_SCALAR);
    ask(&lookups[0], dimension);
    const struct trial want = trial;
    seed = begin;
    begin_trial(dimension, extra_bits, level);
    ask(&lookups[1], dimension);

    const struct codes_shape *shape = &trial.shape;
    const char *name = trial.simd->name;
    cr_expect(memcmp(want.block, trial.block, codes_block_bytes(shape)) == 0, "%s, %u: codes", name,
              dimension);
    if (extra_bits > 0)
        cr_expect(memcmp(want.extra, trial.extra, codes_extra_bytes(shape)) == 0,
                  "%s, %u: extra codes", name, dimension);
    cr_expect(memcmp(lookups[0].query, lookups[1].query, shape->dimensions * sizeof(float)) == 0);
    cr_expect(memcmp(lookups[0].table, lookups[1].table, (size_t)shape->dimensions * 4) == 0,
              "%s, %u: table", name, dimension);
    cr_expect(memcmp(lookups[0].coarse, lookups[1].coarse, (size_t)shape->dimensions * 4) == 0);
    cr_expect(memcmp(lookups[0].bytes, lookups[1].bytes, shape->dimensions) == 0);

    const struct codes_block block = codes_block_at(shape, trial.block);
    float estimates[2][CODES_BLOCK];
    const struct simd_centre middle = {.dot = 0.25F, .threshold = 0.25F};
    const uint32_t above =
        simd_for(CPU_SCALAR)->estimate(shape, &lookups[0], &block, &middle, estimates[0]);
    cr_expect(
        eq(u32, trial.simd->estimate(shape, &lookups[0], &block, &middle, estimates[1]), above));
    cr_expect(memcmp(estimates[0], estimates[1], sizeof(estimates[0])) == 0, "%s, %u: estimates",
              name, dimension);
    for (int step = -20; step < 20; step++) {
        uint16_t sums[2][CODES_BLOCK];
        const struct simd_centre centre = {
            .dot = 0.25F, .reach = 0.8F, .threshold = 0.25F + 0.02F * (float)step};
        const uint32_t mask =
            simd_for(CPU_SCALAR)->scan(shape, &lookups[0], &centre, &block, sums[0]);
        cr_expect(eq(u32, trial.simd->scan(shape, &lookups[0], &centre, &block, sums[1]), mask));
        cr_expect(memcmp(sums[0], sums[1], sizeof(sums[0])) == 0, "%s, %u: sums", name, dimension);
    }
    for (uint32_t i = 0; extra_bits && i < CODES_BLOCK; i++) {
        const uint8_t *row = codes_extra_at(trial.extra).rows + i * codes_extra_row_bytes(shape);
        cr_expect(eq(i32, trial.simd->extra(shape, &lookups[0], row),
                     simd_for(CPU_SCALAR)->extra(shape, &lookups[0], row)));
    }
    end_trial();
    free(want.block);
    free(want.extra);
}

Test(index_simd, every_instruction_set_gives_the_same_bits)
{
    for (int level = CPU_SCALAR + 1; level < CPU_LEVELS; level++) {
        if (!cpu_has((enum cpu_level)level))
            continue;
        for (size_t t = 0; t < TRIED; t++) {
            compare(dimensions_tried[t], 0, (enum cpu_level)level);
            compare(dimensions_tried[t], CODES_EXTRA_BITS, (enum cpu_level)level);
            compare(dimensions_tried[t], CODES_EXTRA_BITS_FINE, (enum cpu_level)level);
        }
    }
}

// What is compared above is compared on one machine. This number holds codes, tables and estimates
// of x86 and AArch64 together.
Test(index_simd, codes_and_estimates_are_those_of_every_machine)
{
    begin_trial(200, CODES_EXTRA_BITS, cpu_best());
    ask(&lookups[0], 200);
    const struct codes_shape *shape = &trial.shape;
    const struct simd_centre centre = {.dot = 0.25F, .threshold = 0.25F};
    const struct codes_block block = codes_block_at(shape, trial.block);
    float estimates[CODES_BLOCK];
    const uint32_t above = trial.simd->estimate(shape, &lookups[0], &block, &centre, estimates);
    const uint64_t parts[] = {
        hash_id(trial.block, codes_block_bytes(shape)),
        hash_id(trial.extra, codes_extra_bytes(shape)),
        hash_id(lookups[0].table, (size_t)shape->dimensions * 4),
        hash_id(lookups[0].bytes, shape->dimensions),
        hash_id(estimates, sizeof(estimates)),
        above,
    };
    cr_expect(eq(u64, hash_id(parts, sizeof(parts)), UINT64_C(0x9f3929518f155f1f)));
    end_trial();
}

Test(index_simd, tiles_of_products_have_the_same_bits)
{
    static float points[300 * SIMD_POINTS];
    static float panel[300 * SIMD_PANEL];
    for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++)
        points[i] = normal();
    for (size_t i = 0; i < sizeof(panel) / sizeof(panel[0]); i++)
        panel[i] = normal();
    float want[SIMD_POINTS * SIMD_PANEL];
    float got[SIMD_POINTS * SIMD_PANEL];
    simd_for(CPU_SCALAR)->multiply(300, points, panel, want);
    for (int level = CPU_SCALAR + 1; level < CPU_LEVELS; level++) {
        if (!cpu_has((enum cpu_level)level))
            continue;
        cr_expect(simd_for((enum cpu_level)level) != simd_for(CPU_SCALAR));
        simd_for((enum cpu_level)level)->multiply(300, points, panel, got);
        cr_expect(memcmp(want, got, sizeof(want)) == 0);
    }
    double sum = 0;
    for (size_t i = 0; i < 300; i++)
        sum += (double)points[i * SIMD_POINTS + 5] * (double)panel[i * SIMD_PANEL + 63];
    cr_expect(fabs(sum - (double)want[5 * SIMD_PANEL + 63]) < 1e-3);
}

// A vector that is its centre, and a query of zeros, have nothing to divide by.
Test(index_simd, nothing_left_of_a_vector_is_no_division_by_zero)
{
    begin_trial(128, CODES_EXTRA_BITS, cpu_best());
    memset(trial.block, 0, codes_block_bytes(&trial.shape));
    trial.simd->encode(&trial.shape, trial.centre, trial.centre, 3, trial.block, trial.extra);
    ask(&lookups[0], 128);
    const struct codes_block block = codes_block_at(&trial.shape, trial.block);
    float estimates[CODES_BLOCK];
    struct simd_centre centre = {.dot = 0.5F};
    trial.simd->estimate(&trial.shape, &lookups[0], &block, &centre, estimates);
    cr_expect(eq(flt, estimates[3], 0.5F));
    memset(lookups[0].query, 0, sizeof(lookups[0].query));
    trial.simd->look_up(trial.shape.dimensions, &lookups[0]);
    centre.dot = 0;
    trial.simd->estimate(&trial.shape, &lookups[0], &block, &centre, estimates);
    cr_expect(eq(flt, estimates[3], 0.0F));
    // Numbers that have no reciprocal.
    lookups[0].query[5] = 1e-38F;
    trial.simd->look_up(trial.shape.dimensions, &lookups[0]);
    cr_expect(lookups[0].bytes[5] == 0);
    end_trial();
}
