// SPDX-License-Identifier: Apache-2.0
// gemm.glsl - what all matrix products have in common: buffers, weights, epilogue.
//
//     target = epilogue(source * weights + bias)
//
// shapes     source [rows][depth]; target [rows][columns]; weights, transposed and filled
//            up with zeros, [depth up to a multiple of 16][columns up to one of 64];
//            bias [columns up to a multiple of 64]: kernel_pack.c makes both
// constants  0: the epilogue, 1: whether depth and columns are multiples of 4
// bits       every element is one sum over the depth from first to last, so neither
//            its place nor the other rows of the batch change it
// edges      rows behind the last are not read (the last is read again) nor written

#include "kernel_args.h"

#define EPILOGUE_QUICK_GELU 1u
#define EPILOGUE_GELU 2u
#define EPILOGUE_ADD 3u

layout(constant_id = 0) const uint EPILOGUE = 0;
layout(constant_id = 1) const uint ALIGNED = 1;

layout(push_constant) uniform Arguments { gemm_args args; };

layout(std430, binding = 0) readonly buffer Source { float source[]; };
layout(std430, binding = 0) readonly buffer Source4 { vec4 source4[]; };
#ifdef WEIGHTS_F16
layout(std430, binding = 1) readonly buffer Weights { uvec2 weights[]; };
#else
layout(std430, binding = 1) readonly buffer Weights { vec4 weights[]; };
#endif
layout(std430, binding = 2) readonly buffer Bias { vec4 bias[]; };
layout(std430, binding = 3) buffer Target { float target[]; };
layout(std430, binding = 3) buffer Target4 { vec4 target4[]; };

// The element (row, k) of the source, 0 behind the depth.
float source_at(uint row, uint k) { return k < args.depth ? source[row * args.depth + k] : 0.0; }

// Four elements of a row of the source from k on, a multiple of 4.
vec4 source_vector(uint row, uint k)
{
    if (ALIGNED == 1)
        return k < args.depth ? source4[(row * args.depth + k) / 4] : vec4(0.0);
    return vec4(source_at(row, k), source_at(row, k + 1), source_at(row, k + 2), source_at(row, k + 3));
}

// Vectors of a row of the weights and of the bias.
uint weight_vectors() { return (args.columns + 63u) / 64u * 16u; }

vec4 weights_at(uint at)
{
#ifdef WEIGHTS_F16
    uvec2 pairs = weights[at];
    return vec4(unpackHalf2x16(pairs.x), unpackHalf2x16(pairs.y));
#else
    return weights[at];
#endif
}

// Abramowitz and Stegun, 7.1.26: off by at most 1.5e-7.
vec4 error_function(vec4 x)
{
    vec4 size = abs(x);
    vec4 t = 1.0 / (1.0 + 0.3275911 * size);
    vec4 sum = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
    return sign(x) * (1.0 - sum * exp(-size * size));
}

vec4 activated(vec4 x)
{
    if (EPILOGUE == EPILOGUE_QUICK_GELU)
        return x / (1.0 + exp(-1.702 * x));
    if (EPILOGUE == EPILOGUE_GELU)
        return 0.5 * x * (1.0 + error_function(x * 0.70710678118654752));
    return x;
}

// Writes four columns of a row, the vector `vector` of it, as far as they exist.
void store(uint row, uint vector, vec4 sum)
{
    if (row >= args.rows || vector * 4 >= args.columns)
        return;
    vec4 value = activated(sum + bias[vector]);
    if (ALIGNED == 1) {
        uint at = row * (args.columns / 4) + vector;
        if (EPILOGUE == EPILOGUE_ADD)
            value += target4[at];
        target4[at] = value;
        return;
    }
    for (uint i = 0; i < 4 && vector * 4 + i < args.columns; i++) {
        uint at = row * args.columns + vector * 4 + i;
        target[at] = EPILOGUE == EPILOGUE_ADD ? target[at] + value[i] : value[i];
    }
}
