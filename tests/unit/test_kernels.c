// SPDX-License-Identifier: Apache-2.0
// Goal: the inner loops give the same bits on every level of CPU.
//
// Method: seeded numbers of odd sizes through every level that this CPU has,
// compared with the scalar one. What the numbers mean is tested in test_ops.c.

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/cpu.h"
#include "shaders/cpu/kernels.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static uint64_t state = 88172645463325252u;

// Whether two arrays are the same bits, which for floats is more than being equal.
static bool same_bits(const void *a, const void *b, size_t bytes)
{
    return memcmp(a, b, bytes) == 0;
}

static float *random_floats(size_t count)
{
    float *values = aligned_alloc(64, (count * sizeof(float) + 127) / 64 * 64);
    cr_assert(values != NULL);
    for (size_t i = 0; i < count; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        values[i] = (float)((double)(int64_t)state / 4611686018427387904.0); // -2..2
    }
    return values;
}

// The levels above scalar that this CPU can run.
static size_t levels(const struct kernels *out[2])
{
    size_t count = 0;
#if defined(__x86_64__)
    if (cpu_best() >= CPU_AVX2)
        out[count++] = &kernels_avx2;
    if (cpu_best() >= CPU_AVX512)
        out[count++] = &kernels_avx512;
#else
    (void)out;
#endif
    return count;
}

Test(kernels, layernorm_and_add_have_the_same_bits_on_every_level)
{
    const struct kernels *level[2];
    size_t count = levels(level);
    for (size_t width = 1; width < 130; width++) {
        float *source = random_floats(width);
        float *gain = random_floats(width);
        float *bias = random_floats(width);
        float *expected = random_floats(width);
        float *got = random_floats(width);
        for (size_t i = 0; i < count; i++) {
            kernels_scalar.layernorm(source, gain, bias, 1e-5f, width, expected);
            level[i]->layernorm(source, gain, bias, 1e-5f, width, got);
            cr_expect(same_bits(got, expected, width * sizeof(float)), "layernorm, width %zu",
                      width);
            kernels_scalar.add(source, gain, width, expected);
            level[i]->add(source, gain, width, got);
            cr_expect(same_bits(got, expected, width * sizeof(float)), "add, width %zu", width);
        }
        free(got);
        free(expected);
        free(bias);
        free(gain);
        free(source);
    }
}

static void run_head(const struct kernels *kernels, const struct kernels_head *shape, float *target)
{
    float *scratch = random_floats(kernels_head_scratch(shape->length, shape->dimension));
    struct kernels_head head = *shape;
    head.target = target;
    kernels->head(&head, scratch);
    free(scratch);
}

Test(kernels, attention_has_the_same_bits_on_every_level)
{
    static const uint32_t lengths[] = {1, 2, 3, 4, 5, 15, 16, 17, 33, 77};
    static const uint32_t dimensions[] = {1, 7, 16, 23, 32, 48, 64, 80};
    const struct kernels *level[2];
    size_t count = levels(level);
    for (size_t i = 0; i < 2 * COUNT(lengths) * COUNT(dimensions); i++) {
        uint32_t length = lengths[i / 2 % COUNT(lengths)];
        uint32_t dimension = dimensions[i / 2 / COUNT(lengths)];
        size_t floats = (size_t)length * dimension;
        float *source = random_floats(3 * floats);
        float *expected = random_floats(floats);
        float *got = random_floats(floats);
        struct kernels_head head = {
            .source = source,
            .stride = (size_t)3 * dimension,
            .width = dimension,
            .target_stride = dimension,
            .length = length,
            .dimension = dimension,
            .scale = 0.37f,
            .causal = i % 2 == 1,
        };
        run_head(&kernels_scalar, &head, expected);
        for (size_t l = 0; l < count; l++) {
            run_head(level[l], &head, got);
            cr_expect(same_bits(got, expected, floats * sizeof(float)),
                      "length %u, dimension %u, causal %d", length, dimension, head.causal);
        }
        free(got);
        free(expected);
        free(source);
    }
}
