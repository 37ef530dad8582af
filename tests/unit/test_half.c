// SPDX-License-Identifier: Apache-2.0
// Goal: half precision means the same bits on every machine and on every path.
//
// Method: an oracle that knows only what a half is worth: its value by ldexp,
// its neighbours by a sorted table, the nearer one by exact arithmetic in
// double. All 65,536 halves; random floats; the borders; every 257th float
// through the fast path and the scalar one.

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/cpu.h"
#include "proto/base/half.h"

#define SEED 0x5eed0001u
#define HALF_INFINITY 0x7c00u

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

// What a positive half below or at infinity is worth; infinity as the 65536
// that rounding takes it for.
static double worth(uint32_t half)
{
    int exponent = (int)(half >> 10);
    int fraction = (int)(half & 0x3ffu);
    return exponent == 0 ? ldexp(fraction, -24) : ldexp(1024 + fraction, exponent - 25);
}

// Positive halves are sorted by their bits: a binary search finds the two neighbours.
static uint16_t oracle(float value)
{
    uint16_t sign = signbit(value) ? 0x8000u : 0;
    double size = fabs((double)value);
    if (size >= worth(HALF_INFINITY))
        return (uint16_t)(sign | HALF_INFINITY);

    uint32_t low = 0; // worth(low) <= size < worth(high)
    uint32_t high = HALF_INFINITY;
    while (high - low > 1) {
        uint32_t middle = (low + high) / 2;
        if (worth(middle) <= size)
            low = middle;
        else
            high = middle;
    }
    double below = size - worth(low);
    double above = worth(high) - size;
    bool take_low = below < above || (below == above && low % 2 == 0);
    return (uint16_t)(sign | (take_low ? low : high));
}

static uint64_t next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state >> 32;
}

Test(half, every_half_has_its_value_and_comes_back)
{
    for (uint32_t half = 0; half <= 0xffffu; half++) {
        float value = half_to_float((uint16_t)half);
        uint32_t size = half & 0x7fffu;
        if (size > HALF_INFINITY) {
            cr_assert(isnan(value));
            // Quiet, and otherwise the same sign and payload.
            cr_assert(eq(u32, bits_of(value),
                         (half & 0x8000u) << 16 | 0x7fc00000u | (half & 0x3ffu) << 13));
            cr_assert(eq(u32, half_from_float(value), half | 0x200u));
            continue;
        }
        if (size == HALF_INFINITY)
            cr_assert(eq(dbl, fabs((double)value), (double)INFINITY));
        else
            cr_assert(eq(dbl, fabs((double)value), worth(size)));
        cr_assert(eq(int, signbit(value) != 0, (half & 0x8000u) != 0));
        cr_assert(eq(u32, half_from_float(value), half));
    }
}

Test(half, rounds_to_nearest_even_at_every_middle)
{
    for (uint32_t half = 0; half < HALF_INFINITY; half++) {
        float middle = (float)((worth(half) + worth(half + 1)) / 2); // exact
        const float around[] = {nextafterf(middle, 0.0f), middle, nextafterf(middle, INFINITY)};
        for (int i = 0; i < 3; i++) {
            cr_assert(eq(u32, half_from_float(around[i]), oracle(around[i])));
            cr_assert(eq(u32, half_from_float(-around[i]), oracle(-around[i])));
        }
    }
}

Test(half, random_floats_round_as_the_oracle_says)
{
    uint64_t state = SEED;
    for (int i = 0; i < 500000; i++) {
        uint32_t bits = (uint32_t)next_random(&state);
        if (i % 2 == 0) // half of them where halves live: 2^-26 .. 2^17
            bits = (bits & 0x807fffffu) | (101u + bits % 43u) << 23;
        float value = float_of(bits);
        if (isnan(value))
            continue;
        cr_assert(half_from_float(value) == oracle(value), "seed %#x, float %#x: %#x, not %#x",
                  SEED, bits, half_from_float(value), oracle(value));
    }
}

Test(half, known_values)
{
    static const struct {
        uint32_t value;
        uint16_t half;
    } table[] = {
        {0x00000000u, 0x0000}, {0x80000000u, 0x8000}, // zeros
        {0x3f800000u, 0x3c00}, {0xc0000000u, 0xc000}, // 1, -2
        {0x477fe000u, 0x7bff},                        // 65504, the largest
        {0x477fefffu, 0x7bff}, {0x477ff000u, 0x7c00}, // below 65520 and 65520
        {0x7f7fffffu, 0x7c00}, {0xff800000u, 0xfc00}, // FLT_MAX, -infinity
        {0x38800000u, 0x0400}, {0x387fffffu, 0x0400}, // 2^-14 and just below: rounds up
        {0x33800000u, 0x0001}, {0x33000000u, 0x0000}, // 2^-24, 2^-25: to even
        {0x33000001u, 0x0001}, {0x00000001u, 0x0000}, // just above, the smallest float
        {0x7fc00000u, 0x7e00}, {0xffc00000u, 0xfe00}, // NaN
        {0x7f800001u, 0x7e00}, {0x7fffe000u, 0x7fff}, // a signalling one, a full payload
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        cr_expect(eq(u32, half_from_float(float_of(table[i].value)), table[i].half));
}

// Whole rows against the scalar functions, NaNs included.
static void compare_rows(void)
{
    enum { ROW = 4099 }; // no multiple of a vector
    static float source[ROW];
    static uint16_t halves[ROW];
    static float back[ROW];

    uint64_t bits = 0;
    while (bits <= UINT32_MAX) {
        for (int i = 0; i < ROW; i++, bits += 257)
            source[i] = float_of((uint32_t)bits);
        half_from_floats(source, halves, ROW);
        half_to_floats(halves, back, ROW);
        for (int i = 0; i < ROW; i++) {
            if (halves[i] != half_from_float(source[i]))
                cr_fatal("float %#x gives %#x", bits_of(source[i]), halves[i]);
            if (bits_of(back[i]) != bits_of(half_to_float(halves[i])))
                cr_fatal("half %#x gives %#x", halves[i], bits_of(back[i]));
        }
    }
}

Test(half, rows_have_the_bits_of_single_values)
{
    compare_rows();
}

Test(half, rows_have_the_bits_of_single_values_without_f16c)
{
    cr_assert(eq(int, setenv("RECO_CPU", "scalar", 1), 0));
    cr_assert(eq(int, cpu_best(), CPU_SCALAR));
    compare_rows();
}

Test(half, every_half_through_the_row_function)
{
    static uint16_t all[0x10000];
    static float values[0x10000];
    for (uint32_t i = 0; i <= 0xffffu; i++)
        all[i] = (uint16_t)i;
    half_to_floats(all, values, 0x10000);
    for (uint32_t i = 0; i <= 0xffffu; i++)
        cr_assert(eq(u32, bits_of(values[i]), bits_of(half_to_float((uint16_t)i))));
}

Test(half, rows_write_no_element_more_than_asked)
{
    const float source[24] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
                              1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    for (size_t count = 0; count < 20; count++) {
        uint16_t target[24];
        float back[24];
        memset(target, 0xee, sizeof(target));
        memset(back, 0xee, sizeof(back));
        half_from_floats(source, target, count);
        half_to_floats(target, back, count);
        for (size_t i = 0; i < 24; i++) {
            cr_assert(eq(u32, target[i], i < count ? 0x3c00u : 0xeeeeu));
            cr_assert(eq(u32, bits_of(back[i]), i < count ? 0x3f800000u : 0xeeeeeeeeu));
        }
    }
    half_from_floats(NULL, NULL, 0);
    half_to_floats(NULL, NULL, 0);
}

Test(half, bfloat16_is_the_upper_half_of_a_float)
{
    cr_expect(eq(flt, half_bf16_to_float(0x3f80), 1.0f));
    cr_expect(eq(flt, half_bf16_to_float(0xc049), -3.140625f));
    cr_expect(eq(u32, bits_of(half_bf16_to_float(0x8000)), 0x80000000u));
    cr_expect(eq(u32, bits_of(half_bf16_to_float(0x0001)), 0x00010000u));
    cr_expect(isinf(half_bf16_to_float(0x7f80)));
    cr_expect(isnan(half_bf16_to_float(0x7fc1)));
}
