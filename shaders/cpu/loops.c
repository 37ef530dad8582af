// SPDX-License-Identifier: Apache-2.0
// Rows meet four by two, so that each loaded vector is used more than once; a block that ends early
// repeats its last row. Loops without sums across a vector are written plainly and left to the
// compiler.

#include "shaders/cpu/loops.h"

#include <math.h>

#include "shaders/cpu/kernels_lanes.h"

#define BLOCK_A 4u
#define BLOCK_B 2u

static inline lanes load_some(const float *from, size_t count)
{
    float some[WIDTH] = {0};
    memcpy(some, from, (count < WIDTH ? count : WIDTH) * sizeof(float));
    return load(some);
}

// Sixteen floats of a row from `at` on, zeros behind its end.
static inline void load_lanes(const float *row, size_t at, size_t width, lanes out[PARTS])
{
    for (uint32_t i = 0; i < PARTS; i++) {
        size_t from = at + i * WIDTH;
        if (from + WIDTH <= width)
            out[i] = load(row + from);
        else
            out[i] = from < width ? load_some(row + from, width - from) : all(0.0f);
    }
}

static inline void meet_block(const float *const a[BLOCK_A], const float *const b[BLOCK_B],
                              size_t width, float out[BLOCK_A][BLOCK_B])
{
    struct sums sums[BLOCK_A][BLOCK_B] = {0};
    for (size_t c = 0; c < width; c += KERNELS_LANES) {
        lanes right[BLOCK_B][PARTS];
        for (uint32_t j = 0; j < BLOCK_B; j++)
            load_lanes(b[j], c, width, right[j]);
        for (uint32_t i = 0; i < BLOCK_A; i++) {
            lanes left[PARTS];
            load_lanes(a[i], c, width, left);
            for (uint32_t j = 0; j < BLOCK_B; j++) {
                for (uint32_t p = 0; p < PARTS; p++)
                    sums[i][j].part[p] += left[p] * right[j][p];
            }
        }
    }
    for (uint32_t i = 0; i < BLOCK_A; i++) {
        for (uint32_t j = 0; j < BLOCK_B; j++)
            out[i][j] = fold_sums(&sums[i][j]);
    }
}

static void meet(const float *a, size_t a_rows, const float *b, size_t b_rows, size_t width,
                 float *target)
{
    for (size_t i = 0; i < a_rows; i += BLOCK_A) {
        const float *left[BLOCK_A];
        for (size_t n = 0; n < BLOCK_A; n++)
            left[n] = a + (i + n < a_rows ? i + n : a_rows - 1) * width;
        for (size_t j = 0; j < b_rows; j += BLOCK_B) {
            const float *right[BLOCK_B];
            for (size_t n = 0; n < BLOCK_B; n++)
                right[n] = b + (j + n < b_rows ? j + n : b_rows - 1) * width;
            float out[BLOCK_A][BLOCK_B];
            meet_block(left, right, width, out);
            for (size_t n = 0; n < BLOCK_A && i + n < a_rows; n++) {
                for (size_t m = 0; m < BLOCK_B && j + m < b_rows; m++)
                    target[(i + n) * b_rows + j + m] = out[n][m];
            }
        }
    }
}

// Four rows of the target, WIDTH columns of them from `at` on.
static inline void mix_block(const float *const weights[BLOCK_A], const float *b, size_t count,
                             size_t width, lanes out[BLOCK_A])
{
    for (uint32_t i = 0; i < BLOCK_A; i++)
        out[i] = all(0.0f);
    for (size_t j = 0; j < count; j++) {
        lanes row = load(b + j * width);
        for (uint32_t i = 0; i < BLOCK_A; i++)
            out[i] += weights[i][j] * row;
    }
}

static void mix(const float *weights, size_t rows, const float *b, size_t count, size_t width,
                float *target)
{
    for (size_t i = 0; i < rows; i += BLOCK_A) {
        const float *left[BLOCK_A];
        size_t some = rows - i < BLOCK_A ? rows - i : BLOCK_A;
        for (size_t n = 0; n < BLOCK_A; n++)
            left[n] = weights + (n < some ? i + n : rows - 1) * count;
        size_t c = 0;
        for (; c + WIDTH <= width; c += WIDTH) {
            lanes out[BLOCK_A];
            mix_block(left, b + c, count, width, out);
            for (size_t n = 0; n < some; n++)
                store(target + (i + n) * width + c, out[n]);
        }
        for (; c < width; c++) {
            for (size_t n = 0; n < some; n++) {
                float sum = 0.0f;
                for (size_t j = 0; j < count; j++)
                    sum += left[n][j] * b[j * width + c];
                target[(i + n) * width + c] = sum;
            }
        }
    }
}

static float standardise(const float *source, float epsilon, size_t width, float *target)
{
    struct sums sums = {0};
    lanes part[PARTS];
    for (size_t c = 0; c < width; c += KERNELS_LANES) {
        load_lanes(source, c, width, part);
        for (uint32_t i = 0; i < PARTS; i++)
            sums.part[i] += part[i];
    }
    float mean = fold_sums(&sums) / (float)width;
    for (size_t c = 0; c < width; c++)
        target[c] = source[c] - mean;
    sums = (struct sums){0};
    for (size_t c = 0; c < width; c += KERNELS_LANES) {
        load_lanes(target, c, width, part);
        for (uint32_t i = 0; i < PARTS; i++)
            sums.part[i] += part[i] * part[i];
    }
    float inverse = 1.0f / sqrtf(fold_sums(&sums) / (float)width + epsilon);
    for (size_t c = 0; c < width; c++)
        target[c] *= inverse;
    return inverse;
}

static void exponential_of(float *values, size_t count)
{
    size_t i = 0;
    for (; i + WIDTH <= count; i += WIDTH)
        store(values + i, exponential(load(values + i)));
    if (i < count) {
        float some[WIDTH];
        store(some, exponential(load_some(values + i, count - i)));
        memcpy(values + i, some, (count - i) * sizeof(float));
    }
}

static inline lanes absolute(lanes x)
{
    lanes_int bits;
    memcpy(&bits, &x, sizeof(bits));
    bits &= 0x7fffffff;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

// Where x is below 0, a; else b.
static inline lanes by_sign(lanes x, lanes a, lanes b)
{
    return chosen(x < 0.0f, a, b);
}

// f = x * P(x), f' = P(x) + x * p(x), for the normal distribution's P and p. P(-|x|) = e^(-x^2 / 2)
// * q(u) with u = 1 / (1 + 0.3 |x| / sqrt(2)), the polynomial of dense_fma.c.
static inline lanes gelu_lanes(lanes x, lanes *slope)
{
    static const float q[] = {0.24247337877750397f,  -0.25544512271881104f, 0.2729862928390503f,
                              -0.04665346443653107f, 0.10714036971330643f,  0.07426393777132034f,
                              0.08534227311611176f,  0.08459506183862686f,  0.0f};
    lanes u = 1.0f / (absolute(x) * 0.21213203f + 1.0f);
    lanes p = all(-0.06470274925231934f);
    for (int i = 0; i < 9; i++)
        p = p * u + q[i];
    lanes bell = exponential(x * x * -0.5f);
    lanes tail = p * bell;
    lanes share = by_sign(x, tail, 1.0f - tail);
    *slope = share + x * bell * 0.39894228040143267f;
    return x * share;
}

// f = x * S(1.702 x), f' = S + 1.702 x S (1 - S), for the logistic function S.
static inline lanes quick_gelu_lanes(lanes x, lanes *slope)
{
    lanes small = exponential(absolute(x) * -1.702f);
    lanes share = by_sign(x, small, all(1.0f)) / (small + 1.0f);
    *slope = share + x * 1.702f * share * (1.0f - share);
    return x * share;
}

#define ACTIVATION(name)                                                                           \
    static void name(const float *x, size_t count, float *value, float *slope)                     \
    {                                                                                              \
        size_t i = 0;                                                                              \
        lanes steep;                                                                               \
        for (; i + WIDTH <= count; i += WIDTH) {                                                   \
            lanes f = name##_lanes(load(x + i), &steep);                                           \
            store(value + i, f);                                                                   \
            store(slope + i, steep);                                                               \
        }                                                                                          \
        if (i < count) {                                                                           \
            float some[WIDTH];                                                                     \
            lanes f = name##_lanes(load_some(x + i, count - i), &steep);                           \
            store(some, f);                                                                        \
            memcpy(value + i, some, (count - i) * sizeof(float));                                  \
            store(some, steep);                                                                    \
            memcpy(slope + i, some, (count - i) * sizeof(float));                                  \
        }                                                                                          \
    }
ACTIVATION(gelu)
ACTIVATION(quick_gelu)

static void add_scaled(float factor, const float *source, size_t count, float *target)
{
    for (size_t i = 0; i < count; i++)
        target[i] += factor * source[i];
}

static void multiply(const float *a, const float *b, size_t count, float *target)
{
    for (size_t i = 0; i < count; i++)
        target[i] = a[i] * b[i];
}

static void multiply_add(const float *a, const float *b, size_t count, float *target)
{
    for (size_t i = 0; i < count; i++)
        target[i] += a[i] * b[i];
}

static void adamw(const struct loops_adamw *args)
{
    float *restrict numbers = args->numbers;
    float *restrict moment1 = args->moment1;
    float *restrict moment2 = args->moment2;
    const float *restrict gradient = args->gradient;
    const struct loops_adamw a = *args;
    for (size_t i = 0; i < a.count; i++) {
        float g = a.factor * gradient[i];
        float m = a.beta1 * moment1[i] + (1.0f - a.beta1) * g;
        float v = a.beta2 * moment2[i] + (1.0f - a.beta2) * (g * g);
        moment1[i] = m;
        moment2[i] = v;
        numbers[i] = a.keep * numbers[i] - a.rate * m / (sqrtf(v) * a.second + a.epsilon);
    }
}

#define TABLE_NAME_(level) loops_##level
#define TABLE_NAME(level) TABLE_NAME_(level)

const struct loops TABLE_NAME(KERNELS_LEVEL) = {
    .meet = meet,
    .mix = mix,
    .standardise = standardise,
    .exponential = exponential_of,
    .gelu = gelu,
    .quick_gelu = quick_gelu,
    .add_scaled = add_scaled,
    .multiply = multiply,
    .multiply_add = multiply_add,
    .adamw = adamw,
};

#ifdef KERNELS_CHOOSE // set for one of the levels
#include "proto/base/cpu.h"

const struct loops *loops_best(void)
{
#if defined(__x86_64__)
    enum cpu_level level = cpu_best();
    if (level >= CPU_AVX512)
        return &loops_avx512;
    if (level >= CPU_AVX2)
        return &loops_avx2;
#endif
    return &loops_scalar;
}
#endif
