// SPDX-License-Identifier: Apache-2.0
// half.c - IEEE 754 binary16 and bfloat16 from and to float.
//
// The scalar functions work on the bits, so that neither the rounding mode nor
// flush-to-zero reaches them. NaN rule, that of F16C: a NaN keeps its sign and
// the upper bits of its payload and comes out quiet. (numpy's software path
// leaves a signalling NaN signalling; all other values agree with it.)

#include "proto/base/half.h"

#include <assert.h>
#include <string.h>

#include "proto/base/cpu.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define FLOAT_INFINITY 0x7f800000u
#define FLOAT_HALF_OVERFLOW 0x477ff000u // 65520: halfway from 65504, the largest half, to 65536
#define FLOAT_HALF_NORMAL 0x38800000u   // 2^-14: the smallest normal half
#define FLOAT_HALF_TINY 0x33000000u     // 2^-25: halfway from 0 to the smallest half

static uint32_t float_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static float float_of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

// `size` is 2^-25 or more and less than 2^-14: the half is subnormal, a
// multiple of 2^-24, or rounds up to the smallest normal one.
static uint32_t subnormal_half(uint32_t size)
{
    uint32_t significand = (size & 0x7fffffu) | 0x800000u;
    uint32_t shift = 126u - (size >> 23); // 14..24
    uint32_t half = significand >> shift;
    uint32_t rest = significand & ((1u << shift) - 1u);
    uint32_t middle = 1u << (shift - 1u);
    if (rest > middle || (rest == middle && (half & 1u)))
        half++;
    return half;
}

uint16_t half_from_float(float value)
{
    uint32_t bits = float_bits(value);
    uint32_t sign = (bits >> 16) & 0x8000u;
    uint32_t size = bits & 0x7fffffffu;

    uint32_t half;
    if (size > FLOAT_INFINITY)
        half = 0x7e00u | ((size >> 13) & 0x1ffu);
    else if (size >= FLOAT_HALF_OVERFLOW)
        half = 0x7c00u;
    else if (size >= FLOAT_HALF_NORMAL) // a carry moves into the exponent, as it should
        half = (size - 0x38000000u + 0xfffu + ((size >> 13) & 1u)) >> 13;
    else if (size >= FLOAT_HALF_TINY)
        half = subnormal_half(size);
    else
        half = 0;
    return (uint16_t)(sign | half);
}

float half_to_float(uint16_t half)
{
    uint32_t sign = ((uint32_t)half & 0x8000u) << 16;
    uint32_t exponent = ((uint32_t)half >> 10) & 0x1fu;
    uint32_t fraction = (uint32_t)half & 0x3ffu;

    if (exponent == 0x1fu) {
        uint32_t quiet = fraction ? 0x400000u : 0u;
        return float_of_bits(sign | FLOAT_INFINITY | quiet | (fraction << 13));
    }
    if (exponent == 0) // a multiple of 2^-24; every one of them is a normal float
        return float_of_bits(sign | float_bits((float)fraction * 0x1p-24f));
    return float_of_bits(sign | ((exponent + 112u) << 23) | (fraction << 13));
}

#define WIDTH 8 // halves in one step

// Both return how many of `count` are done: whole steps only.
#if defined(__x86_64__)

#define WIDE_LEVEL CPU_AVX2

CPU_TARGET("avx,f16c")
static size_t from_floats_wide(const float *source, uint16_t *target, size_t count)
{
    size_t done = 0;
    for (; done + WIDTH <= count; done += WIDTH) {
        __m256 values = _mm256_loadu_ps(source + done);
        __m128i halves = _mm256_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        _mm_storeu_si128((__m128i *)(void *)(target + done), halves);
    }
    return done;
}

CPU_TARGET("avx,f16c")
static size_t to_floats_wide(const uint16_t *source, float *target, size_t count)
{
    size_t done = 0;
    for (; done + WIDTH <= count; done += WIDTH) {
        __m128i halves = _mm_loadu_si128((const __m128i *)(const void *)(source + done));
        _mm256_storeu_ps(target + done, _mm256_cvtph_ps(halves));
    }
    return done;
}

#elif defined(__aarch64__)

#define WIDE_LEVEL CPU_NEON

// The rounding is that of FPCR, to nearest even unless somebody changes it.
static size_t from_floats_wide(const float *source, uint16_t *target, size_t count)
{
    size_t done = 0;
    for (; done + WIDTH <= count; done += WIDTH) {
        float16x4_t low = vcvt_f16_f32(vld1q_f32(source + done));
        float16x8_t halves = vcvt_high_f16_f32(low, vld1q_f32(source + done + 4));
        vst1q_u16(target + done, vreinterpretq_u16_f16(halves));
    }
    return done;
}

static size_t to_floats_wide(const uint16_t *source, float *target, size_t count)
{
    size_t done = 0;
    for (; done + WIDTH <= count; done += WIDTH) {
        float16x8_t halves = vreinterpretq_f16_u16(vld1q_u16(source + done));
        vst1q_f32(target + done, vcvt_f32_f16(vget_low_f16(halves)));
        vst1q_f32(target + done + 4, vcvt_high_f32_f16(halves));
    }
    return done;
}

#endif

void half_from_floats(const float *source, uint16_t *target, size_t count)
{
    assert((source && target) || count == 0);

    size_t done = 0;
#if defined(WIDE_LEVEL)
    if (cpu_has(WIDE_LEVEL))
        done = from_floats_wide(source, target, count);
#endif
    for (; done < count; done++)
        target[done] = half_from_float(source[done]);
}

void half_to_floats(const uint16_t *source, float *target, size_t count)
{
    assert((source && target) || count == 0);

    size_t done = 0;
#if defined(WIDE_LEVEL)
    if (cpu_has(WIDE_LEVEL))
        done = to_floats_wide(source, target, count);
#endif
    for (; done < count; done++)
        target[done] = half_to_float(source[done]);
}

float half_bf16_to_float(uint16_t bf16)
{
    return float_of_bits((uint32_t)bf16 << 16);
}
