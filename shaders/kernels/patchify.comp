// SPDX-License-Identifier: Apache-2.0
// patchify.comp - cuts pictures into square patches, each a row of the target.
//
// shapes     pixels [images][3][size][size]; target [images * (size / side)^2][3 * side * side],
//            patches from left to right by rows; what is left at the right and bottom is not read
// constants, dispatch: rows.glsl
// aliasing   none
// reference  reference_patchify() in tests/reference; tested by tests/gpu/test_gpu_rows.c

#version 450
#extension GL_GOOGLE_include_directive : require

#include "kernel_args.h"
#include "rows.glsl"

layout(push_constant) uniform Arguments { patchify_args args; };

layout(std430, binding = 0) readonly buffer Pixels { float pixels[]; };
layout(std430, binding = 1) writeonly buffer Target { float target[]; };

void main()
{
    if (row >= args.rows)
        return;
    uint grid = args.size / args.side; // patches in a line of the picture
    uint image = row / (grid * grid);
    uint top = row / grid % grid * args.side;
    uint left = row % grid * args.side;
    uint width = 3 * args.side * args.side;

    for (uint c = thread; c < width; c += THREADS) {
        uint line = c / args.side; // of the patch, through all three channels
        uint channel = line / args.side;
        uint y = top + line % args.side;
        uint x = left + c % args.side;
        target[row * width + c] = pixels[((image * 3 + channel) * args.size + y) * args.size + x];
    }
}
