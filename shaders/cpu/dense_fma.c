// SPDX-License-Identifier: Apache-2.0
// A tile keeps rows x 2 registers of sums and, for each step of the depth, loads two registers of
// weights and one number of each row. 14 x 2 of 32 AVX-512 registers, or 6 x 2 of 16 AVX2 ones,
// leave just room for those (NEON: 8 x 2 of 32; gcc 12 keeps more in memory). Weights are fetched
// ahead, since the processor's own fetching stops at each page of 4 KiB.
//
// Intrinsics instead of the compiler's vectors: every multiply-add must be fused, in both
// tables and by both compilers.

#include "shaders/cpu/dense_fma.h"

#include <assert.h>

#include "proto/base/cpu.h"

#if defined(__x86_64__)
#include <immintrin.h>
#else
#include <arm_neon.h>
#include <string.h>
#endif

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#define LINE ((size_t)(PANEL < 16 ? PANEL : 16)) // floats that are fetched at once
#define AHEAD 512 // floats of the panel between what is fetched and what is used

// Struct tags cannot name registers, so these are typedefs.
#if defined(__AVX512F__)
#define LANES 16
#define ROWS 14
typedef __m512 lanes;
typedef __mmask16 some;
#define load _mm512_loadu_ps
#define store _mm512_storeu_ps
#define all _mm512_set1_ps
#define fused _mm512_fmadd_ps
#define times _mm512_mul_ps
#define plus _mm512_add_ps
#define less _mm512_sub_ps
#define over _mm512_div_ps
#define lower _mm512_min_ps
#define upper _mm512_max_ps

#if defined(__AVX512BF16__)
// sum + x[odd] * w[odd] + x[even] * w[even], each in single precision; numbers below 2^-126 count
// as 0.
ALWAYS_INLINE lanes step(lanes x, lanes w, lanes sum)
{
    union {
        lanes floats;
        __m512bh pairs;
    } a = {.floats = x}, b = {.floats = w};
    return _mm512_dpbf16_ps(sum, a.pairs, b.pairs);
}

#define STEP_NUMBERS 2
#else
#define step fused
#endif

ALWAYS_INLINE some first_lanes(uint32_t count)
{
    return (some)((1u << count) - 1);
}

ALWAYS_INLINE lanes load_some(const float *from, some lane)
{
    return _mm512_maskz_loadu_ps(lane, from);
}

ALWAYS_INLINE void store_some(float *to, some lane, lanes values)
{
    _mm512_mask_storeu_ps(to, lane, values);
}

// values * 2^n, where `n_shifted` is n as a float plus 1.5 * 2^23.
ALWAYS_INLINE lanes scale_by(lanes values, lanes n_shifted)
{
    __m512i power = _mm512_slli_epi32(_mm512_castps_si512(n_shifted), 23);
    return times(values,
                 _mm512_castsi512_ps(_mm512_add_epi32(power, _mm512_set1_epi32(127 << 23))));
}

ALWAYS_INLINE lanes absolute(lanes x)
{
    return _mm512_abs_ps(x);
}

// Where `sign` is below zero, `a`, otherwise `b`.
ALWAYS_INLINE lanes by_sign(lanes sign, lanes a, lanes b)
{
    return _mm512_mask_blend_ps(_mm512_movepi32_mask(_mm512_castps_si512(sign)), b, a);
}
#elif defined(__x86_64__)
#define LANES 8
#define ROWS 6
typedef __m256 lanes;
typedef __m256i some;
#define load _mm256_loadu_ps
#define store _mm256_storeu_ps
#define all _mm256_set1_ps
#define fused _mm256_fmadd_ps
#define step fused
#define times _mm256_mul_ps
#define plus _mm256_add_ps
#define less _mm256_sub_ps
#define over _mm256_div_ps
#define lower _mm256_min_ps
#define upper _mm256_max_ps

ALWAYS_INLINE some first_lanes(uint32_t count)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)count),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

ALWAYS_INLINE lanes load_some(const float *from, some lane)
{
    return _mm256_maskload_ps(from, lane);
}

ALWAYS_INLINE void store_some(float *to, some lane, lanes values)
{
    _mm256_maskstore_ps(to, lane, values);
}

// values * 2^n, where `n_shifted` is n as a float plus 1.5 * 2^23.
ALWAYS_INLINE lanes scale_by(lanes values, lanes n_shifted)
{
    __m256i power = _mm256_slli_epi32(_mm256_castps_si256(n_shifted), 23);
    return times(values,
                 _mm256_castsi256_ps(_mm256_add_epi32(power, _mm256_set1_epi32(127 << 23))));
}

ALWAYS_INLINE lanes absolute(lanes x)
{
    return _mm256_andnot_ps(all(-0.0f), x);
}

// Where `sign` is below zero, `a`, otherwise `b`.
ALWAYS_INLINE lanes by_sign(lanes sign, lanes a, lanes b)
{
    return _mm256_blendv_ps(b, a, sign);
}
#else
#define LANES 4
#define ROWS 8
typedef float32x4_t lanes;
typedef uint32_t some; // the first so many
#define load vld1q_f32
#define store vst1q_f32
#define all vdupq_n_f32
#define step fused
#define times vmulq_f32
#define plus vaddq_f32
#define less vsubq_f32
#define over vdivq_f32

ALWAYS_INLINE lanes fused(lanes a, lanes b, lanes c)
{
    return vfmaq_f32(c, a, b);
}

// `b` where one is not a number, as on x86.
ALWAYS_INLINE lanes lower(lanes a, lanes b)
{
    return vbslq_f32(vcltq_f32(a, b), a, b);
}

ALWAYS_INLINE lanes upper(lanes a, lanes b)
{
    return vbslq_f32(vcgtq_f32(a, b), a, b);
}

ALWAYS_INLINE some first_lanes(uint32_t count)
{
    return count;
}

ALWAYS_INLINE lanes load_some(const float *from, some lane)
{
    float values[LANES] = {0};
    memcpy(values, from, lane * sizeof(*from));
    return load(values);
}

ALWAYS_INLINE void store_some(float *to, some lane, lanes values)
{
    float all_values[LANES];
    store(all_values, values);
    memcpy(to, all_values, lane * sizeof(*to));
}

// values * 2^n, where `n_shifted` is n as a float plus 1.5 * 2^23.
ALWAYS_INLINE lanes scale_by(lanes values, lanes n_shifted)
{
    int32x4_t power = vshlq_n_s32(vreinterpretq_s32_f32(n_shifted), 23);
    return times(values, vreinterpretq_f32_s32(vaddq_s32(power, vdupq_n_s32(127 << 23))));
}

ALWAYS_INLINE lanes absolute(lanes x)
{
    return vabsq_f32(x);
}

// Where `sign` is below zero, `a`, otherwise `b`.
ALWAYS_INLINE lanes by_sign(lanes sign, lanes a, lanes b)
{
    int32x4_t below = vshrq_n_s32(vreinterpretq_s32_f32(sign), 31);
    return vbslq_f32(vreinterpretq_u32_s32(below), a, b);
}
#endif

#ifndef STEP_NUMBERS
#define STEP_NUMBERS 1
#endif
#define PANEL ((size_t)2 * LANES)

// e^x for |x| <= 87, further ones taken as those; within 2 units in the last place. Cody and
// Waite's reduction by ln 2 in two parts, then the Taylor polynomial of degree 7 on |r| <= ln 2 /
// 2, whose remainder is below 6e-9.
ALWAYS_INLINE lanes exponential(lanes x)
{
    const lanes shift = all(12582912.0f); // 1.5 * 2^23: adding it rounds to an integer

    x = lower(upper(x, all(-87.0f)), all(87.0f));
    lanes shifted = fused(x, all(1.44269504088896341f), shift);
    lanes n = less(shifted, shift);
    lanes r = fused(n, all(-0.693359375f), x);
    r = fused(n, all(2.12194440054690583e-4f), r);

    lanes p = fused(r, all(1.0f / 5040.0f), all(1.0f / 720.0f));
    p = fused(p, r, all(1.0f / 120.0f));
    p = fused(p, r, all(1.0f / 24.0f));
    p = fused(p, r, all(1.0f / 6.0f));
    p = fused(p, r, all(0.5f));
    p = fused(p, r, all(1.0f));
    p = fused(p, r, all(1.0f));
    return scale_by(p, shifted);
}

// x / (1 + e^(-1.702 x))
ALWAYS_INLINE lanes quick_gelu(lanes x)
{
    return over(x, plus(all(1.0f), exponential(times(x, all(-1.702f)))));
}

// x * (1 + erf(x / sqrt(2))) / 2. With z = |x| / sqrt(2), erfc(z) / 2 = e^(-z^2) * q(u), u = 1 / (1
// + 0.3 z), for a polynomial q that was fitted to z <= 9.4 with a relative error below 2e-8;
// beyond, the product vanishes.
ALWAYS_INLINE lanes gelu(lanes x)
{
    static const float q[] = {0.24247337877750397f,  -0.25544512271881104f, 0.2729862928390503f,
                              -0.04665346443653107f, 0.10714036971330643f,  0.07426393777132034f,
                              0.08534227311611176f,  0.08459506183862686f,  0.0f};
    lanes u = over(all(1.0f), fused(absolute(x), all(0.21213203f), all(1.0f)));
    lanes p = all(-0.06470274925231934f);
    UNROLL
    for (int i = 0; i < 9; i++)
        p = fused(p, u, all(q[i]));
    lanes tail = times(x, times(p, exponential(times(times(x, x), all(-0.5f)))));
    return by_sign(x, tail, less(x, tail));
}

ALWAYS_INLINE lanes activate(lanes x, enum dense_epilogue epilogue)
{
    if (epilogue == DENSE_QUICK_GELU)
        return quick_gelu(x);
    return epilogue == DENSE_GELU ? gelu(x) : x;
}

// Bias, activation and residual of one row's sums.
ALWAYS_INLINE void finish_row(const struct dense_fma_tile *tile, uint32_t row,
                              enum dense_epilogue epilogue)
{
    const float *sums = tile->sums + row * PANEL;
    float *target = tile->target + (size_t)row * tile->stride;
    lanes x0 = activate(plus(load(sums), load(tile->bias)), epilogue);
    lanes x1 = activate(plus(load(sums + LANES), load(tile->bias + LANES)), epilogue);
    if (tile->columns == PANEL) {
        if (epilogue == DENSE_ADD) {
            x0 = plus(load(target), x0);
            x1 = plus(load(target + LANES), x1);
        }
        store(target, x0);
        store(target + LANES, x1);
        return;
    }
    uint32_t left = tile->columns;
    some lane0 = first_lanes(left < LANES ? left : LANES);
    some lane1 = first_lanes(left < LANES ? 0 : left - LANES);
    if (epilogue == DENSE_ADD) {
        x0 = plus(load_some(target, lane0), x0);
        x1 = plus(load_some(target + LANES, lane1), x1);
    }
    store_some(target, lane0, x0);
    store_some(target + LANES, lane1, x1);
}

// `epilogue` is a constant wherever this is used.
ALWAYS_INLINE void finish_rows(const struct dense_fma_tile *tile, enum dense_epilogue epilogue)
{
    for (uint32_t row = 0; row < tile->rows; row++)
        finish_row(tile, row, epilogue);
}

static void finish(const struct dense_fma_tile *tile)
{
    switch (tile->epilogue) {
    case DENSE_PLAIN:
        finish_rows(tile, DENSE_PLAIN);
        break;
    case DENSE_QUICK_GELU:
        finish_rows(tile, DENSE_QUICK_GELU);
        break;
    case DENSE_GELU:
        finish_rows(tile, DENSE_GELU);
        break;
    case DENSE_ADD:
        finish_rows(tile, DENSE_ADD);
        break;
    }
}

// `rows` is a constant wherever this is used, so that all sums stay in registers.
ALWAYS_INLINE void run_rows(const struct dense_fma_tile *tile, const int rows)
{
    lanes sum[ROWS][2];
    UNROLL
    for (int r = 0; r < rows; r++) {
        sum[r][0] = all(0.0f);
        sum[r][1] = all(0.0f);
    }

    const float *source = tile->source;
    const float *panel = tile->panel;
    const float *fetch = tile->fetch;
    for (uint32_t k = tile->depth; k > 0; k--) {
        lanes w0 = load(panel);
        lanes w1 = load(panel + LANES);
        __builtin_prefetch(panel + AHEAD, 0, 3);
        if (PANEL > LINE)
            __builtin_prefetch(panel + AHEAD + LINE, 0, 3);
        __builtin_prefetch(fetch, 0, 2);
        fetch += LINE;
        UNROLL
        for (int r = 0; r < rows; r++) {
            lanes x = all(source[(size_t)r * DENSE_FMA_STRIDE]);
            sum[r][0] = step(x, w0, sum[r][0]);
            sum[r][1] = step(x, w1, sum[r][1]);
        }
        panel += PANEL;
        source++;
    }

    UNROLL
    for (int r = 0; r < rows; r++) {
        float *sums = tile->sums + (size_t)r * PANEL;
        store(sums, tile->first ? sum[r][0] : plus(load(sums), sum[r][0]));
        store(sums + LANES, tile->first ? sum[r][1] : plus(load(sums + LANES), sum[r][1]));
    }
}

#define RUN_ROWS(count)                                                                            \
    static void run_##count(const struct dense_fma_tile *tile)                                     \
    {                                                                                              \
        run_rows(tile, count);                                                                     \
    }
RUN_ROWS(1)
RUN_ROWS(2)
RUN_ROWS(3)
RUN_ROWS(4)
RUN_ROWS(5)
RUN_ROWS(6)
#if ROWS > 6
RUN_ROWS(7)
RUN_ROWS(8)
#endif
#if ROWS > 8
RUN_ROWS(9)
RUN_ROWS(10)
RUN_ROWS(11)
RUN_ROWS(12)
RUN_ROWS(13)
RUN_ROWS(14)
#endif

static void run(const struct dense_fma_tile *tile)
{
    static void (*const by_rows[ROWS])(const struct dense_fma_tile *) = {
        run_1,
        run_2,
        run_3,
        run_4,
        run_5,
        run_6,
#if ROWS > 6
        run_7,
        run_8,
#endif
#if ROWS > 8
        run_9,
        run_10,
        run_11,
        run_12,
        run_13,
        run_14,
#endif
    };
    assert(tile->rows >= 1 && tile->rows <= ROWS);
    assert(tile->columns >= 1 && tile->columns <= PANEL);

    by_rows[tile->rows - 1](tile);
    if (tile->last)
        finish(tile);
}

#if defined(__x86_64__)
#define TURN ((size_t)8) // rows and columns that are turned at a time

// to[k][r] = from[r][k], to's rows a panel apart: pairs, then fours, then eights change places.
ALWAYS_INLINE void turn(const float *from, size_t depth, float *to)
{
    __m256 a[TURN];
    __m256 b[TURN];
    UNROLL
    for (size_t r = 0; r < TURN; r += 2) {
        __m256 even = _mm256_loadu_ps(from + r * depth);
        __m256 odd = _mm256_loadu_ps(from + (r + 1) * depth);
        a[r] = _mm256_unpacklo_ps(even, odd);
        a[r + 1] = _mm256_unpackhi_ps(even, odd);
    }
    UNROLL
    for (size_t r = 0; r < TURN; r += 4) {
        b[r] = _mm256_shuffle_ps(a[r], a[r + 2], 0x44);
        b[r + 1] = _mm256_shuffle_ps(a[r], a[r + 2], 0xee);
        b[r + 2] = _mm256_shuffle_ps(a[r + 1], a[r + 3], 0x44);
        b[r + 3] = _mm256_shuffle_ps(a[r + 1], a[r + 3], 0xee);
    }
    UNROLL
    for (size_t k = 0; k < 4; k++) {
        _mm256_storeu_ps(to + k * PANEL, _mm256_permute2f128_ps(b[k], b[k + 4], 0x20));
        _mm256_storeu_ps(to + (k + 4) * PANEL, _mm256_permute2f128_ps(b[k], b[k + 4], 0x31));
    }
}
#else
#define TURN ((size_t)4)

ALWAYS_INLINE void turn(const float *from, size_t depth, float *to)
{
    float32x4x2_t low = vtrnq_f32(vld1q_f32(from), vld1q_f32(from + depth));
    float32x4x2_t high = vtrnq_f32(vld1q_f32(from + 2 * depth), vld1q_f32(from + 3 * depth));
    for (size_t k = 0; k < 2; k++) {
        vst1q_f32(to + k * PANEL,
                  vcombine_f32(vget_low_f32(low.val[k]), vget_low_f32(high.val[k])));
        vst1q_f32(to + (k + 2) * PANEL,
                  vcombine_f32(vget_high_f32(low.val[k]), vget_high_f32(high.val[k])));
    }
}
#endif

static void pack(const float *rows, uint32_t count, size_t depth, float *panel)
{
    size_t whole = depth / TURN * TURN;
    size_t row = 0;
    for (; row + TURN <= count; row += TURN) {
        for (size_t k = 0; k < whole; k += TURN)
            turn(rows + row * depth + k, depth, panel + k * PANEL + row);
        for (size_t k = whole; k < depth; k++) {
            for (size_t r = row; r < row + TURN; r++)
                panel[k * PANEL + r] = rows[r * depth + k];
        }
    }
    for (; row < count; row++) {
        for (size_t k = 0; k < depth; k++)
            panel[k * PANEL + row] = rows[row * depth + k];
    }
}

#if STEP_NUMBERS == 2
// The first numbers become the low halves. What is read lies before what is written, as `to` may be
// `from`.
static void narrow(const float *from, size_t count, float *to)
{
    size_t i = 0;
    for (; i < count; i += PANEL) {
        size_t left = count - i;
        some lane0 = first_lanes(left < LANES ? (uint32_t)left : LANES);
        some lane1 = first_lanes(left < LANES ? 0 : left < PANEL ? (uint32_t)left - LANES : LANES);
        lanes low = load_some(from + i, lane0);
        lanes high = load_some(from + i + LANES, lane1);
        union {
            __m512bh pairs;
            lanes floats;
        } both = {.pairs = _mm512_cvtne2ps_pbh(high, low)};
        size_t steps = (left + 1) / 2;
        store_some(to + i / 2, first_lanes(steps < LANES ? (uint32_t)steps : LANES), both.floats);
    }
}
#define NARROW narrow
#else
#define NARROW NULL
#endif

static float chains(size_t rounds)
{
    lanes sum[DENSE_FMA_CHAINS];
    const lanes factor = all(0.999f);
    UNROLL
    for (uint32_t i = 0; i < DENSE_FMA_CHAINS; i++)
        sum[i] = all((float)i);
    for (size_t round = 0; round < rounds; round++) {
        UNROLL
        for (uint32_t i = 0; i < DENSE_FMA_CHAINS; i++)
            sum[i] = step(factor, factor, sum[i]);
    }
    float lane[LANES];
    float result = 0.0f;
    UNROLL
    for (uint32_t i = 0; i < DENSE_FMA_CHAINS; i++) {
        store(lane, sum[i]);
        result += lane[i % LANES];
    }
    return result;
}

#define TABLE_NAME_(level) dense_fma_##level
#define TABLE_NAME(level) TABLE_NAME_(level)

const struct dense_fma TABLE_NAME(KERNELS_LEVEL) = {
    .panel = 2 * LANES,
    .rows = ROWS,
    .numbers = STEP_NUMBERS,
    .narrow = NARROW,
    .run = run,
    .pack = pack,
    .chains = chains,
};
