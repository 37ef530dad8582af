// SPDX-License-Identifier: Apache-2.0
// gemm_tiled.comp - a matrix product in tiles that a workgroup shares.
//
// A workgroup computes TILE_ROWS x TILE_COLUMNS elements. For each DEPTH_STEP of the depth it
// brings both sides into shared memory, then each thread adds to its ROWS x 4 * VECTORS sums. The
// source is turned, so that a thread reads its rows of one k as vectors; a thread's vectors of
// columns lie apart, so that neighbours read without conflicts.
//
// constants  2, 3: threads along the rows and along the columns, whose product is
//            5, the threads; 4: vectors of four columns of a thread. A thread has 8 rows.
// shared     16 * (8 * constant 2 + 4 * constant 3 * constant 4) * 4 bytes
// dispatch   (columns / TILE_COLUMNS, rows / TILE_ROWS, 1), rounded up
// the rest   gemm.glsl
// reference  reference_product() in tests/reference; tested by tests/gpu/test_gpu_products.c

#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require

layout(constant_id = 2) const uint THREADS_DOWN = 16;
layout(constant_id = 3) const uint THREADS_ACROSS = 16;
layout(constant_id = 4) const uint VECTORS = 2;
layout(constant_id = 5) const uint THREADS = 256;
layout(local_size_x_id = 5) in;

#include "gemm.glsl"

#define ROW_VECTORS 2u // of four rows, of a thread
#define DEPTH_STEP 16u // weights are filled up to a multiple of it

const uint TILE_ROWS = 4 * ROW_VECTORS * THREADS_DOWN;
const uint TILE_VECTORS = VECTORS * THREADS_ACROSS;

shared vec4 source_tile[DEPTH_STEP * TILE_ROWS / 4]; // [k][row / 4]
shared vec4 weight_tile[DEPTH_STEP * TILE_VECTORS];  // [k][column / 4]

uint thread = gl_LocalInvocationID.x;
uint first_row = gl_WorkGroupID.y * TILE_ROWS;
uint first_vector = gl_WorkGroupID.x * TILE_VECTORS;
uint down = thread / THREADS_ACROSS;
uint across = thread % THREADS_ACROSS;

// Brings rows of the tile, four at a time, columns first..first + DEPTH_STEP - 1 of the source.
void load_source(uint first)
{
    for (uint i = thread; i < TILE_ROWS / 4 * (DEPTH_STEP / 4); i += THREADS) {
        uint k = i % (DEPTH_STEP / 4) * 4;
        uint four = i / (DEPTH_STEP / 4);
        mat4 block;
        [[unroll]] for (uint r = 0; r < 4; r++)
            block[r] = source_vector(min(first_row + four * 4 + r, args.rows - 1), first + k);
        block = transpose(block);
        [[unroll]] for (uint j = 0; j < 4; j++)
            source_tile[(k + j) * (TILE_ROWS / 4) + four] = block[j];
    }
}

void load_weights(uint first)
{
    uint stride = weight_vectors();
    for (uint i = thread; i < DEPTH_STEP * TILE_VECTORS; i += THREADS)
        weight_tile[i] = weights_at((first + i / TILE_VECTORS) * stride +
                                    min(first_vector + i % TILE_VECTORS, stride - 1));
}

vec4 sums[4 * ROW_VECTORS * VECTORS];

void multiply()
{
    for (uint k = 0; k < DEPTH_STEP; k++) {
        vec4 s[ROW_VECTORS];
        vec4 w[VECTORS];
        [[unroll]] for (uint r = 0; r < ROW_VECTORS; r++)
            s[r] = source_tile[k * (TILE_ROWS / 4) + r * THREADS_DOWN + down];
        [[unroll]] for (uint v = 0; v < VECTORS; v++)
            w[v] = weight_tile[k * TILE_VECTORS + v * THREADS_ACROSS + across];
        [[unroll]] for (uint r = 0; r < 4 * ROW_VECTORS; r++)
            [[unroll]] for (uint v = 0; v < VECTORS; v++)
                sums[r * VECTORS + v] = fma(vec4(s[r / 4][r % 4]), w[v], sums[r * VECTORS + v]);
    }
}

void main()
{
    [[unroll]] for (uint i = 0; i < 4 * ROW_VECTORS * VECTORS; i++)
        sums[i] = vec4(0.0);

    for (uint first = 0; first < args.depth; first += DEPTH_STEP) {
        load_source(first);
        load_weights(first);
        barrier();
        multiply();
        barrier();
    }

    [[unroll]] for (uint r = 0; r < 4 * ROW_VECTORS; r++)
        [[unroll]] for (uint v = 0; v < VECTORS; v++)
            store(first_row + (r / 4 * THREADS_DOWN + down) * 4 + r % 4,
                  first_vector + v * THREADS_ACROSS + across, sums[r * VECTORS + v]);
}
