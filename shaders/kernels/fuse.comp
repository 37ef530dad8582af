// SPDX-License-Identifier: Apache-2.0
// fuse.comp - moves each query towards the weighted mean of its neighbours, as fusion_refine() does.
//
//     refined = unit(query + beta * sum(weight * payload)), weight = softmax(temperature * score)
//     target  = unit(query + gate * (refined - query))
//
// With a temperature of 0 all weights are equal. A query without neighbours, or with a gate of
// 0, is copied bit for bit; so is one whose sum has no direction, and its number
// goes into the flag as in normalise.comp.
//
// shapes     queries, target [rows][width]; starts [rows + 1]: the neighbours of query r are
//            starts[r]..starts[r + 1] - 1, at most NEIGHBOURS_MAX; payload [neighbours][width];
//            scores [neighbours]; gates [rows], 0..1; flag [1]
// constants, dispatch: rows.glsl
// aliasing   none
// tested by  tests/gpu/test_gpu_fuse.c, against fusion_refine(), which computes in double precision

#version 450
#extension GL_GOOGLE_include_directive : require

#include "kernel_args.h"
#include "rows.glsl"

#include "reduce.glsl"

#define NEIGHBOURS_MAX 512u

layout(push_constant) uniform Arguments { fuse_args args; };

layout(std430, binding = 0) readonly buffer Queries { float queries[]; };
layout(std430, binding = 1) readonly buffer Payload { float payload[]; };
layout(std430, binding = 2) readonly buffer Scores { float scores[]; };
layout(std430, binding = 3) readonly buffer Starts { uint starts[]; };
layout(std430, binding = 4) readonly buffer Gates { float gates[]; };
layout(std430, binding = 5) buffer Target { float target[]; };
layout(std430, binding = 6) buffer Flag { uint flag; };

shared float weights[NEIGHBOURS_MAX];

uint first = row * args.width; // of the query and of the target
uint start;                    // first neighbour
uint count;                    // of neighbours

// Fills `weights`, which sum up to 1.
void weigh()
{
    float largest = uintBitsToFloat(0xff7fffffu); // the least finite number
    for (uint i = thread; i < count; i += THREADS)
        largest = max(largest, args.temperature * scores[start + i]);
    largest = reduce_max(largest);
    float sum = 0.0;
    for (uint i = thread; i < count; i += THREADS) {
        weights[i] = exp(args.temperature * scores[start + i] - largest);
        sum += weights[i];
    }
    float total = reduce_sum(sum);
    for (uint i = thread; i < count; i += THREADS)
        weights[i] /= total;
    barrier();
}

void copy_query()
{
    for (uint c = thread; c < args.width; c += THREADS)
        target[first + c] = queries[first + c];
}

// Scales the target to unit length; false, with the query in it, when it has none.
bool scale_to_unit(float squares)
{
    float length = sqrt(reduce_sum(squares));
    // As numbers, bits of lengths are in order; those of infinity and of NaN are the greatest.
    uint bits = floatBitsToUint(length);
    if (bits < floatBitsToUint(1e-12) || bits >= 0x7f800000u) {
        copy_query();
        if (thread == 0)
            atomicMin(flag, row);
        return false;
    }
    for (uint c = thread; c < args.width; c += THREADS)
        target[first + c] /= length;
    return true;
}

void main()
{
    if (row >= args.rows)
        return;
    start = starts[row];
    count = min(starts[row + 1] - start, NEIGHBOURS_MAX);
    float gate = gates[row];
    if (count == 0 || gate <= 0.0) {
        copy_query();
        return;
    }

    weigh();
    float squares = 0.0;
    for (uint c = thread; c < args.width; c += THREADS) {
        float sum = 0.0;
        for (uint i = 0; i < count; i++)
            sum = fma(weights[i], payload[(start + i) * args.width + c], sum);
        float value = queries[first + c] + args.beta * sum;
        target[first + c] = value;
        squares += value * value;
    }
    if (!scale_to_unit(squares) || gate >= 1.0)
        return;

    squares = 0.0;
    for (uint c = thread; c < args.width; c += THREADS) {
        float value = queries[first + c] + gate * (target[first + c] - queries[first + c]);
        target[first + c] = value;
        squares += value * value;
    }
    scale_to_unit(squares);
}
