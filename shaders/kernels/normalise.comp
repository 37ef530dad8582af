// SPDX-License-Identifier: Apache-2.0
// normalise.comp - scales every row to unit length in place.
//
// A row that is zero or not finite stays as it is and its number goes into the flag, when
// it is the least of all such rows; the host puts 0xffffffff there before.
//
// shapes     values [rows][width]; flag [1]
// constants, dispatch: rows.glsl
// precision  rows are divided by their largest element first, so that no square
//            overflows or vanishes
// reference  reference_normalise() in tests/reference; tested by tests/gpu/test_gpu_rows.c

#version 450
#extension GL_GOOGLE_include_directive : require

#include "kernel_args.h"
#include "rows.glsl"

#include "reduce.glsl"

layout(push_constant) uniform Arguments { normalise_args args; };

layout(std430, binding = 0) buffer Values { float values[]; };
layout(std430, binding = 1) buffer Flag { uint flag; };

void main()
{
    if (row >= args.rows)
        return;
    uint first = row * args.width;

    // Whether a number is finite is told by its bits: comparisons with NaN are not relied upon.
    uint bad = 0;
    float largest = 0.0;
    for (uint c = thread; c < args.width; c += THREADS) {
        uint bits = floatBitsToUint(values[first + c]) & 0x7fffffffu;
        bad = bits >= 0x7f800000u ? 1 : bad;
        largest = bits >= 0x7f800000u ? largest : max(largest, uintBitsToFloat(bits));
    }
    bool any_bad = reduce_max(float(bad)) > 0.0;
    largest = reduce_max(largest);
    if (any_bad || largest == 0.0) {
        if (thread == 0)
            atomicMin(flag, row);
        return;
    }

    float squares = 0.0;
    for (uint c = thread; c < args.width; c += THREADS) {
        float part = values[first + c] / largest;
        squares += part * part;
    }
    float length = sqrt(reduce_sum(squares));
    for (uint c = thread; c < args.width; c += THREADS)
        values[first + c] = values[first + c] / largest / length;
}
