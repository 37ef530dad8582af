// SPDX-License-Identifier: Apache-2.0
// gather.comp - target[i] = source[rows[i]]
//
// shapes     source [any][width]; rows [args.rows]; target [args.rows][width]
// constants, dispatch: rows.glsl
// aliasing   none
// tested by  tests/gpu/test_gpu_rows.c

#version 450
#extension GL_GOOGLE_include_directive : require

#include "kernel_args.h"
#include "rows.glsl"

layout(push_constant) uniform Arguments { gather_args args; };

layout(std430, binding = 0) readonly buffer Source { float source[]; };
layout(std430, binding = 1) readonly buffer Rows { uint rows[]; };
layout(std430, binding = 2) writeonly buffer Target { float target[]; };

void main()
{
    if (row >= args.rows)
        return;
    uint from = rows[row] * args.width;
    for (uint c = thread; c < args.width; c += THREADS)
        target[row * args.width + c] = source[from + c];
}
