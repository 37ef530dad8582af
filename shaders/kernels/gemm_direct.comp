// SPDX-License-Identifier: Apache-2.0
// gemm_direct.comp - a matrix product from registers alone: no shared memory, no barrier.
//
// Each thread holds ROWS x VECTORS sums of four columns. All threads of a workgroup read
// the same elements of the source and neighbouring ones of the weights. It runs everywhere
// and is the quickest on a software device, where barriers are dear and one
// workgroup is one vector of the processor.
//
// constants  2: threads, 3: rows and 4: vectors of columns of a thread
// dispatch   (columns / (4 * THREADS * VECTORS), rows / ROWS, 1), rounded up
// the rest   gemm.glsl
// reference  reference_product() in tests/reference; tested by tests/gpu/test_gpu_products.c

#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require

layout(constant_id = 2) const uint THREADS = 8;
layout(constant_id = 3) const uint ROWS = 5;
layout(constant_id = 4) const uint VECTORS = 2;
layout(local_size_x_id = 2) in;

#include "gemm.glsl"

uint first_row = gl_WorkGroupID.y * ROWS;
uint first_vector = gl_WorkGroupID.x * VECTORS * THREADS + gl_LocalInvocationID.x;
vec4 sums[ROWS * VECTORS];

// Adds one element of each row, an expression of the row r, times one row of the weights.
#define STEP(k, element)                                                                           \
    {                                                                                              \
        vec4 w[VECTORS];                                                                           \
        [[unroll]] for (uint v = 0; v < VECTORS; v++)                                              \
            w[v] = weights_at((k) * stride + min(first_vector + v * THREADS, stride - 1));         \
        [[unroll]] for (uint r = 0; r < ROWS; r++)                                                 \
            [[unroll]] for (uint v = 0; v < VECTORS; v++)                                          \
                sums[r * VECTORS + v] = fma(vec4(element), w[v], sums[r * VECTORS + v]);           \
    }

void main()
{
    uint stride = weight_vectors();
    uint rows[ROWS];
    [[unroll]] for (uint r = 0; r < ROWS; r++)
        rows[r] = min(first_row + r, args.rows - 1);
    [[unroll]] for (uint i = 0; i < ROWS * VECTORS; i++)
        sums[i] = vec4(0.0);

    if (ALIGNED == 1) {
        uint depth4 = args.depth / 4;
        for (uint k = 0; k < depth4; k++) {
            vec4 s[ROWS];
            [[unroll]] for (uint r = 0; r < ROWS; r++)
                s[r] = source4[rows[r] * depth4 + k];
            STEP(4 * k, s[r].x)
            STEP(4 * k + 1, s[r].y)
            STEP(4 * k + 2, s[r].z)
            STEP(4 * k + 3, s[r].w)
        }
    } else {
        for (uint k = 0; k < args.depth; k++)
            STEP(k, source[rows[r] * args.depth + k])
    }

    [[unroll]] for (uint r = 0; r < ROWS; r++)
        [[unroll]] for (uint v = 0; v < VECTORS; v++)
            store(first_row + r, first_vector + v * THREADS, sums[r * VECTORS + v]);
}
