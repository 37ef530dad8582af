// SPDX-License-Identifier: Apache-2.0
// layernorm.comp - target[r][c] = (source[r][c] - mean_r) / sqrt(variance_r + epsilon) * gain[c] +
// bias[c]
//
// shapes     source, target: [rows][width]; gain, bias: [width]
// constants, dispatch: rows.glsl
// precision  the mean first, then the variance of the differences, because
//            E[x^2] - E[x]^2 cancels when the mean is large
// aliasing   target may be the source
// reference  reference_layernorm() in tests/reference; tested by tests/gpu/test_gpu_rows.c

#version 450
#extension GL_GOOGLE_include_directive : require

#include "kernel_args.h"
#include "rows.glsl"

#include "reduce.glsl"

layout(push_constant) uniform Arguments { layernorm_args args; };

layout(std430, binding = 0) buffer Source { float source[]; };
layout(std430, binding = 1) readonly buffer Gain { float gain[]; };
layout(std430, binding = 2) readonly buffer Bias { float bias[]; };
layout(std430, binding = 3) buffer Target { float target[]; };

void main()
{
    if (row >= args.rows)
        return;
    uint first = row * args.width;

    float sum = 0.0;
    for (uint c = thread; c < args.width; c += THREADS)
        sum += source[first + c];
    float mean = reduce_sum(sum) / float(args.width);

    float squares = 0.0;
    for (uint c = thread; c < args.width; c += THREADS) {
        float difference = source[first + c] - mean;
        squares += difference * difference;
    }
    float variance = reduce_sum(squares) / float(args.width);

    float scale = 1.0 / sqrt(variance + args.epsilon);
    for (uint c = thread; c < args.width; c += THREADS)
        target[first + c] = (source[first + c] - mean) * scale * gain[c] + bias[c];
}
