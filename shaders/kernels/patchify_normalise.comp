// SPDX-License-Identifier: Apache-2.0
// patchify_normalise.comp - cuts pictures of bytes into square patches of floats, each a row of the
// target.
//
// A byte has 256 values, so scaling and normalising are a table, made on the host: every device
// gives the host's bits.
//
// shapes     pixels: four bytes in a number, the first the lowest; each picture [size][size][3], red first,
//            filled up to a whole number; table [3][256]; target and patches as in patchify.comp
// constants, dispatch: rows.glsl
// aliasing   none
// reference  reference_patchify() in tests/reference; tested by tests/gpu/test_gpu_rows.c

#version 450
#extension GL_GOOGLE_include_directive : require

#include "kernel_args.h"
#include "rows.glsl"

layout(push_constant) uniform Arguments { patchify_args args; };

layout(std430, binding = 0) readonly buffer Pixels { uint pixels[]; };
layout(std430, binding = 1) readonly buffer Table { float table[]; };
layout(std430, binding = 2) writeonly buffer Target { float target[]; };

void main()
{
    if (row >= args.rows)
        return;
    uint grid = args.size / args.side; // patches in a line of the picture
    uint image = row / (grid * grid);
    uint top = row / grid % grid * args.side;
    uint left = row % grid * args.side;
    uint width = 3 * args.side * args.side;
    uint first = image * ((3 * args.size * args.size + 3) / 4); // number of the picture

    for (uint c = thread; c < width; c += THREADS) {
        uint line = c / args.side; // of the patch, through all three channels
        uint channel = line / args.side;
        uint y = top + line % args.side;
        uint x = left + c % args.side;
        uint at = (y * args.size + x) * 3 + channel; // byte of the picture
        uint value = pixels[first + at / 4] >> (at % 4 * 8) & 0xffu;
        target[row * width + c] = table[channel * 256 + value];
    }
}
