// SPDX-License-Identifier: Apache-2.0
// embed_tokens.comp - target[r] = table[ids[r] - first] + positions[places[r]]
//
// A table that no binding has room for comes in parts: rows whose token is in another are left
// alone.
//
// shapes     table [count][width], positions [context][width]; ids, places [rows];
//            target [rows][width]
// constants, dispatch: rows.glsl
// aliasing   none
// tested by  tests/gpu/test_gpu_rows.c

#version 450
#extension GL_GOOGLE_include_directive : require

#include "kernel_args.h"
#include "rows.glsl"

layout(push_constant) uniform Arguments { embed_tokens_args args; };

layout(std430, binding = 0) readonly buffer Table { float table[]; };
layout(std430, binding = 1) readonly buffer Positions { float positions[]; };
layout(std430, binding = 2) readonly buffer Ids { uint ids[]; };
layout(std430, binding = 3) readonly buffer Places { uint places[]; };
layout(std430, binding = 4) writeonly buffer Target { float target[]; };

void main()
{
    if (row >= args.rows)
        return;
    uint in_part = ids[row] - args.first; // wraps around for a token before it
    if (in_part >= args.count)
        return;
    uint token = in_part * args.width;
    uint place = places[row] * args.width;
    for (uint c = thread; c < args.width; c += THREADS)
        target[row * args.width + c] = table[token + c] + positions[place + c];
}
