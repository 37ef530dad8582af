// SPDX-License-Identifier: Apache-2.0
// kernels_lanes.h - vectors of the compiler's own for files that are compiled once for each level
// of CPU, and what they share: sums over sixteen lanes in one tree, and the exponential. Only those
// files include it.
//
// Thread-safety: pure.

#ifndef RECO_SHADERS_CPU_KERNELS_LANES_H
#define RECO_SHADERS_CPU_KERNELS_LANES_H

#include <stdint.h>
#include <string.h>

#include "shaders/cpu/kernels.h"

#if defined(__AVX512F__)
#define WIDTH ((size_t)16)
#elif defined(__AVX2__)
#define WIDTH ((size_t)8)
#else
#define WIDTH ((size_t)4)
#endif
#define PARTS (KERNELS_LANES / WIDTH)

#define KERNELS_VECTOR(type) type __attribute__((vector_size(WIDTH * 4)))

// A struct tag cannot name a vector, so these are typedefs.
typedef KERNELS_VECTOR(float) lanes;
typedef KERNELS_VECTOR(int32_t) lanes_int;

static inline lanes load(const float *from)
{
    lanes v;
    memcpy(&v, from, sizeof(v));
    return v;
}

static inline void store(float *to, lanes v)
{
    memcpy(to, &v, sizeof(v));
}

static inline lanes all(float value)
{
    return (lanes){0} + value;
}

// One fixed tree over 16 lanes: lane i with lane i + 8, then + 4, + 2, + 1.
static inline float fold(const float lane[KERNELS_LANES])
{
    float f[KERNELS_LANES];
    memcpy(f, lane, sizeof(f));
    for (uint32_t half = KERNELS_LANES / 2; half > 0; half /= 2) {
        for (uint32_t i = 0; i < half; i++)
            f[i] += f[i + half];
    }
    return f[0];
}

// Sums of 16 lanes.
struct sums {
    lanes part[PARTS];
};

static inline float fold_sums(const struct sums *sums)
{
    float lane[KERNELS_LANES];
    for (uint32_t i = 0; i < PARTS; i++)
        store(lane + i * WIDTH, sums->part[i]);
    return fold(lane);
}

// `a` in the lanes of `choose`, `b` in the others.
static inline lanes chosen(lanes_int choose, lanes a, lanes b)
{
    lanes_int a_bits;
    lanes_int b_bits;
    memcpy(&a_bits, &a, sizeof(a_bits));
    memcpy(&b_bits, &b, sizeof(b_bits));
    a_bits = (choose & a_bits) | (~choose & b_bits);
    memcpy(&a, &a_bits, sizeof(a));
    return a;
}

// The greater of each pair; `b` where one is not a number.
static inline lanes greater(lanes a, lanes b)
{
    return chosen(a > b, a, b);
}

// e^x for x <= 0, within 2 units in the last place; below -87 the smallest
// normal number, which a sum with 1 in it does not see. Cody and Waite's
// reduction by ln 2 in two parts, then the Taylor polynomial of degree 7 on
// |r| <= ln 2 / 2, whose remainder is below 6e-9.
static inline lanes exponential(lanes x)
{
    x = greater(x, all(-87.0f));

    const float shift = 12582912.0f; // 1.5 * 2^23: adding it rounds to an integer
    lanes n = x * 1.44269504088896341f + shift;
    lanes_int power;
    memcpy(&power, &n, sizeof(power));
    n -= shift;
    lanes r = x - n * 0.693359375f;
    r = r - n * -2.12194440054690583e-4f;

    lanes p = r * (1.0f / 5040.0f) + (1.0f / 720.0f);
    p = p * r + (1.0f / 120.0f);
    p = p * r + (1.0f / 24.0f);
    p = p * r + (1.0f / 6.0f);
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;

    lanes_int scale = (power << 23) + (127 << 23); // the low bits of `power` hold n
    lanes two_to_n;
    memcpy(&two_to_n, &scale, sizeof(two_to_n));
    return p * two_to_n;
}

#endif
