// SPDX-License-Identifier: Apache-2.0
// embed_patches.comp - puts the class token before the patches of each picture and adds positions.
//
// shapes     patches [images * grid][width], first [width], positions [grid + 1][width];
//            target [images * (grid + 1)][width]
// constants, dispatch: rows.glsl
// aliasing   none
// tested by  tests/gpu/test_gpu_rows.c

#version 450
#extension GL_GOOGLE_include_directive : require

#include "kernel_args.h"
#include "rows.glsl"

layout(push_constant) uniform Arguments { embed_patches_args args; };

layout(std430, binding = 0) readonly buffer Patches { float patches[]; };
layout(std430, binding = 1) readonly buffer First { float first[]; };
layout(std430, binding = 2) readonly buffer Positions { float positions[]; };
layout(std430, binding = 3) writeonly buffer Target { float target[]; };

void main()
{
    if (row >= args.rows)
        return;
    uint image = row / (args.grid + 1);
    uint place = row % (args.grid + 1);
    uint from = (image * args.grid + place - 1) * args.width; // of a patch: place > 0
    for (uint c = thread; c < args.width; c += THREADS) {
        float value = place == 0 ? first[c] : patches[from + c];
        target[row * args.width + c] = value + positions[place * args.width + c];
    }
}
