// SPDX-License-Identifier: Apache-2.0
// Goal: the inner loops of training are right, and give the same bits on every level of CPU.
//
// Method: seeded numbers of odd sizes through every level that this CPU has, compared with the
// scalar one bit for bit, and that one with double precision.

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/cpu.h"
#include "shaders/cpu/loops.h"
#include "tests/reference/reference.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define WIDE 70u

static uint64_t random_state = 88172645463325252u;

static void random_fill(float *values, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        random_state = random_state * 6364136223846793005u + 1442695040888963407u;
        values[i] = (float)(random_state >> 40) / 4194304.0f - 2.0f;
    }
}

static size_t all_levels(const struct loops *out[3])
{
    size_t count = 0;
    out[count++] = &loops_scalar;
#if defined(__x86_64__)
    if (cpu_best() >= CPU_AVX2)
        out[count++] = &loops_avx2;
    if (cpu_best() >= CPU_AVX512)
        out[count++] = &loops_avx512;
#endif
    return count;
}

// What one level makes of the same numbers, one array behind the other.
struct results {
    float met[5][7];
    float mixed[5][WIDE];
    float standard[WIDE];
    float inverse;
    float exponentials[WIDE];
    float value[2][WIDE];
    float slope[2][WIDE];
    float added[WIDE];
    float product[WIDE];
    float numbers[3][WIDE];
};

static void run_level(const struct loops *loops, const float a[5][WIDE], const float b[7][WIDE],
                      size_t width, struct results *out)
{
    static float left[5 * WIDE];
    static float right[7 * WIDE];
    memset(out, 0, sizeof(*out));
    for (size_t i = 0; i < 5; i++)
        memcpy(left + i * width, a[i], width * sizeof(float));
    for (size_t i = 0; i < 7; i++)
        memcpy(right + i * width, b[i], width * sizeof(float));
    loops->meet(left, 5, right, 7, width, &out->met[0][0]);
    float packed[5 * WIDE];
    loops->mix(&out->met[0][0], 5, right, 7, width, packed);
    for (size_t i = 0; i < 5; i++)
        memcpy(out->mixed[i], packed + i * width, width * sizeof(float));
    out->inverse = loops->standardise(a[0], 1e-5f, width, out->standard);
    for (size_t i = 0; i < width; i++)
        out->exponentials[i] = -20.0f * fabsf(a[1][i]);
    loops->exponential(out->exponentials, width);
    loops->gelu(a[2], width, out->value[0], out->slope[0]);
    loops->quick_gelu(a[2], width, out->value[1], out->slope[1]);
    memcpy(out->added, a[3], width * sizeof(float));
    loops->add_scaled(0.3f, a[4], width, out->added);
    loops->multiply(a[3], a[4], width, out->product);
    loops->multiply_add(a[1], a[2], width, out->product);
    for (size_t i = 0; i < width; i++) {
        out->numbers[0][i] = a[0][i];
        out->numbers[1][i] = a[1][i];
        out->numbers[2][i] = fabsf(a[2][i]);
    }
    loops->adamw(&(struct loops_adamw){.numbers = out->numbers[0],
                                       .moment1 = out->numbers[1],
                                       .moment2 = out->numbers[2],
                                       .gradient = a[3],
                                       .count = width,
                                       .factor = 0.5f,
                                       .beta1 = 0.9f,
                                       .beta2 = 0.999f,
                                       .keep = 0.99f,
                                       .rate = 0.01f,
                                       .second = 2.0f,
                                       .epsilon = 1e-8f});
}

#define NEAR(got, want, tolerance)                                                                 \
    cr_expect(epsilon_eq(dbl, (double)(got), (want), tolerance), "width %zu", width)

static double normal_density(double x)
{
    return exp(-x * x / 2) / sqrt(2 * 3.14159265358979323846);
}

static void check_activations(const float *x, size_t width, const struct results *got)
{
    for (size_t i = 0; i < width; i++) {
        double v = (double)x[i];
        double share = 1 / (1 + exp(-1.702 * v));
        NEAR(got->value[0][i], reference_gelu(v), 1e-6);
        NEAR(got->slope[0][i], (1 + erf(v / sqrt(2))) / 2 + v * normal_density(v), 1e-6);
        NEAR(got->value[1][i], reference_quick_gelu(v), 1e-6);
        NEAR(got->slope[1][i], share + 1.702 * v * share * (1 - share), 1e-6);
    }
}

static void check_sums(const float a[5][WIDE], const float b[7][WIDE], size_t width,
                       const struct results *got)
{
    for (size_t i = 0; i < 5; i++) {
        for (size_t j = 0; j < 7; j++) {
            double sum = 0;
            for (size_t c = 0; c < width; c++)
                sum += (double)a[i][c] * (double)b[j][c];
            NEAR(got->met[i][j], sum, 1e-4);
        }
        for (size_t c = 0; c < width; c++) {
            double sum = 0;
            for (size_t j = 0; j < 7; j++)
                sum += (double)got->met[i][j] * (double)b[j][c];
            NEAR(got->mixed[i][c], sum, 1e-3);
        }
    }
}

static void check_rest(const float a[5][WIDE], size_t width, const struct results *got)
{
    double one[WIDE];
    double wide[WIDE];
    double zero[WIDE] = {0};
    for (size_t i = 0; i < width; i++) {
        one[i] = 1;
        wide[i] = (double)a[0][i];
    }
    reference_layernorm(&(struct reference_layernorm){wide, one, zero, 1e-5, 1, width, wide});
    for (size_t i = 0; i < width; i++) {
        NEAR(got->standard[i], wide[i], 1e-4);
        NEAR(got->exponentials[i], exp(-20.0 * fabs((double)a[1][i])), 1e-6);
        NEAR(got->added[i], (double)a[3][i] + (double)0.3f * (double)a[4][i], 1e-6);
        NEAR(got->product[i], (double)a[3][i] * (double)a[4][i] + (double)a[1][i] * (double)a[2][i],
             1e-5);
        double g = 0.5 * (double)a[3][i];
        double m = 0.9 * (double)a[1][i] + 0.1 * g;
        double v = 0.999 * fabs((double)a[2][i]) + 0.001 * g * g;
        NEAR(got->numbers[1][i], m, 1e-5);
        NEAR(got->numbers[2][i], v, 1e-5);
        NEAR(got->numbers[0][i], 0.99 * (double)a[0][i] - 0.01 * m / (sqrt(v) * 2 + 1e-8), 1e-4);
    }
}

Test(loops, are_right_and_the_same_bits_on_every_level)
{
    const struct loops *levels[3];
    size_t count = all_levels(levels);
    static float a[5][WIDE];
    static float b[7][WIDE];
    static struct results want;
    static struct results got;
    for (size_t width = 1; width <= WIDE; width++) {
        random_fill(&a[0][0], COUNT(a) * WIDE);
        random_fill(&b[0][0], COUNT(b) * WIDE);
        run_level(levels[0], (const float(*)[WIDE])a, (const float(*)[WIDE])b, width, &want);
        check_sums((const float(*)[WIDE])a, (const float(*)[WIDE])b, width, &want);
        check_activations(a[2], width, &want);
        check_rest((const float(*)[WIDE])a, width, &want);
        for (size_t i = 1; i < count; i++) {
            run_level(levels[i], (const float(*)[WIDE])a, (const float(*)[WIDE])b, width, &got);
            cr_expect(memcmp(&got, &want, sizeof(want)) == 0, "width %zu, level %zu", width, i);
        }
    }
}

Test(loops, activations_end_where_they_should)
{
    const float x[] = {-1e30f, -50.0f, -6.0f, 0.0f, 6.0f, 50.0f, 1e30f};
    float value[2][7];
    float slope[2][7];
    loops_best()->gelu(x, 7, value[0], slope[0]);
    loops_best()->quick_gelu(x, 7, value[1], slope[1]);
    for (int f = 0; f < 2; f++) {
        for (int i = 0; i < 7; i++) {
            cr_expect(ne(int, isfinite(value[f][i]), 0), "%d of %d", i, f);
            cr_expect(ne(int, isfinite(slope[f][i]), 0), "%d of %d", i, f);
        }
        cr_expect(eq(flt, value[f][3], 0.0f));
        cr_expect(epsilon_eq(flt, slope[f][3], 0.5f, 1e-6f));
        cr_expect(eq(flt, value[f][5], 50.0f));
        cr_expect(eq(flt, slope[f][6], 1.0f));
    }
}
