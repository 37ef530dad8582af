// SPDX-License-Identifier: Apache-2.0
// gemm_matrix.comp - a matrix product by the device's matrix units: half precision in, single out.
//
// A workgroup brings a tile of both sides into shared memory, the source rounded to half
// precision, and each of its subgroups multiplies and adds small matrices of the
// device's own size. They are summed over the depth from first to last, so every
// tile gives the same bits on one device. A sum passes through shared memory once more to
// be given its bias and activation by rows.
//
// needs      VK_KHR_cooperative_matrix with fp16 x fp16 -> fp32 of M x N x K at subgroup scope;
//            subgroups of one size
// constants  2, 3, 4: M, N, K of the device; 5: threads; 6, 7: subgroups down and across;
//            8, 9: matrices of a subgroup down and across (kernel_table_matrix() chooses)
// dispatch   (columns / TILE_COLUMNS, rows / TILE_ROWS, 1), rounded up
// range      elements of the source beyond 65,504 become infinite
// the rest   gemm.glsl
// reference  reference_product() in tests/reference; tested by tests/gpu/test_gpu_products.c

#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require

layout(constant_id = 2) const uint M = 16;
layout(constant_id = 3) const uint N = 16;
layout(constant_id = 4) const uint K = 16;
layout(constant_id = 5) const uint THREADS = 128;
layout(constant_id = 6) const uint SUBGROUPS_DOWN = 2;
layout(constant_id = 7) const uint SUBGROUPS_ACROSS = 2;
layout(constant_id = 8) const uint DOWN = 4;
layout(constant_id = 9) const uint ACROSS = 4;
layout(local_size_x_id = 5) in;

#define WEIGHTS_F16
#include "gemm.glsl"

#define DEPTH_STEP 32u
#define SOURCE_STRIDE (DEPTH_STEP / 4 + 2) // in vectors of four; two more spread rows over the banks

const uint TILE_ROWS = SUBGROUPS_DOWN * DOWN * M;
const uint TILE_VECTORS = SUBGROUPS_ACROSS * ACROSS * N / 4; // of columns
const uint WEIGHT_STRIDE = TILE_VECTORS + 2;

shared f16vec4 source_tile[TILE_ROWS * SOURCE_STRIDE];   // [row][k / 4]
shared f16vec4 weight_tile[DEPTH_STEP * WEIGHT_STRIDE];  // [k][column / 4]
shared vec4 results[SUBGROUPS_DOWN * SUBGROUPS_ACROSS * M * N / 4];

uint thread = gl_LocalInvocationID.x;
uint first_row = gl_WorkGroupID.y * TILE_ROWS;
uint first_vector = gl_WorkGroupID.x * TILE_VECTORS;
uint down = gl_SubgroupID / SUBGROUPS_ACROSS;
uint across = gl_SubgroupID % SUBGROUPS_ACROSS;

coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator> sums[DOWN * ACROSS];

void load_source(uint first)
{
    for (uint i = thread; i < TILE_ROWS * (DEPTH_STEP / 4); i += THREADS) {
        uint row = i / (DEPTH_STEP / 4);
        uint k4 = i % (DEPTH_STEP / 4);
        source_tile[row * SOURCE_STRIDE + k4] =
            f16vec4(source_vector(min(first_row + row, args.rows - 1), first + k4 * 4));
    }
}

void load_weights(uint first)
{
    uint stride = weight_vectors();
    for (uint i = thread; i < DEPTH_STEP * TILE_VECTORS; i += THREADS) {
        uint k = i / TILE_VECTORS;
        uint vector = i % TILE_VECTORS;
        uvec2 pairs = first + k < args.depth
                          ? weights[(first + k) * stride + min(first_vector + vector, stride - 1)]
                          : uvec2(0);
        weight_tile[k * WEIGHT_STRIDE + vector] =
            f16vec4(unpackFloat2x16(pairs.x), unpackFloat2x16(pairs.y));
    }
}

void multiply()
{
    for (uint k = 0; k < DEPTH_STEP; k += K) {
        coopmat<float16_t, gl_ScopeSubgroup, M, K, gl_MatrixUseA> a[DOWN];
        [[unroll]] for (uint i = 0; i < DOWN; i++)
            coopMatLoad(a[i], source_tile, ((down * DOWN + i) * M) * SOURCE_STRIDE + k / 4,
                        SOURCE_STRIDE, gl_CooperativeMatrixLayoutRowMajor);
        [[unroll]] for (uint j = 0; j < ACROSS; j++) {
            coopmat<float16_t, gl_ScopeSubgroup, K, N, gl_MatrixUseB> b;
            coopMatLoad(b, weight_tile, k * WEIGHT_STRIDE + (across * ACROSS + j) * (N / 4),
                        WEIGHT_STRIDE, gl_CooperativeMatrixLayoutRowMajor);
            [[unroll]] for (uint i = 0; i < DOWN; i++)
                sums[i * ACROSS + j] = coopMatMulAdd(a[i], b, sums[i * ACROSS + j]);
        }
    }
}

// The matrix (i, j) of the subgroup to the target.
void write(uint i, uint j)
{
    uint base = gl_SubgroupID * (M * N / 4);
    subgroupBarrier(); // the last matrix may still be read
    coopMatStore(sums[i * ACROSS + j], results, base, N / 4, gl_CooperativeMatrixLayoutRowMajor);
    subgroupMemoryBarrierShared();
    subgroupBarrier();
    for (uint at = gl_SubgroupInvocationID; at < M * N / 4; at += gl_SubgroupSize)
        store(first_row + (down * DOWN + i) * M + at / (N / 4),
              first_vector + (across * ACROSS + j) * (N / 4) + at % (N / 4), results[base + at]);
}

void main()
{
    [[unroll]] for (uint i = 0; i < DOWN * ACROSS; i++)
        sums[i] = coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator>(0.0);

    for (uint first = 0; first < args.depth; first += DEPTH_STEP) {
        load_source(first);
        load_weights(first);
        barrier();
        multiply();
        barrier();
    }

    [[unroll]] for (uint i = 0; i < DOWN; i++)
        [[unroll]] for (uint j = 0; j < ACROSS; j++)
            write(i, j);
}
