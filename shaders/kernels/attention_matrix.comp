// SPDX-License-Identifier: Apache-2.0
// attention_matrix.comp - attention as attention.comp, both its products by the device's matrix
// units.
//
// Each subgroup owns M queries of a head. Keys and values come KEYS at a time into the memory that
// the workgroup shares, rounded to half precision as the queries are. Scores pass through shared
// memory in single precision: there the softmax of a row is kept as in attention.comp, and what was
// summed before is scaled by a matrix whose columns all are the rows' factors. Groups of keys begin
// at multiples of KEYS of their own sequence.
//
// needs      as gemm_matrix.comp
// shapes     as attention.comp
// constants  0: queries, M for each subgroup; 1, 2, 3: M, N, K of the device; 4: threads; 5: columns
//            of a head, rounded up to a multiple of N and K (kernel_table_attention_matrix() chooses)
// dispatch   (rows of the longest sequence / QUERIES rounded up, heads, sequences)
// reference  reference_attention() in tests/reference; tested by tests/gpu/test_gpu_attention.c

#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require

#include "kernel_args.h"

layout(constant_id = 0) const uint QUERIES = 64;
layout(constant_id = 1) const uint M = 16;
layout(constant_id = 2) const uint N = 16;
layout(constant_id = 3) const uint K = 16;
layout(constant_id = 4) const uint THREADS = 128;
layout(constant_id = 5) const uint COLUMNS = 64;
layout(local_size_x_id = 4) in;

#define KEYS 32u

layout(push_constant) uniform Arguments { attention_args args; };

layout(std430, binding = 0) readonly buffer Source { float source[]; };
layout(std430, binding = 1) readonly buffer Starts { uint starts[]; };
layout(std430, binding = 2) writeonly buffer Target { float target[]; };

const uint STRIDE = COLUMNS + 8; // in halves; eight more spread rows over the banks
const uint STAGED_ROWS = QUERIES > KEYS ? QUERIES : KEYS;

shared float16_t first_tile[STAGED_ROWS * STRIDE];        // the queries, then keys: [row][column]
shared float16_t values[KEYS * STRIDE];
shared float16_t weights[QUERIES * (KEYS + 8)];           // [query][key]
shared float scores[QUERIES * KEYS];                      // [query][key], in the end results
shared float keep[QUERIES];                               // factor of what was summed before
shared float largest[QUERIES];                            // score so far
shared float total[QUERIES];                              // of the weights so far

uint thread = gl_LocalInvocationID.x;
uint lane = gl_SubgroupInvocationID;
uint own = gl_SubgroupID * M; // first query of the subgroup in the tile
uint start;  // of the sequence
uint length; // of the sequence

coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator> results[COLUMNS / N];

// Column c of the head in the queries (part 0), keys (1) or values (2) of a row of the sequence.
float16_t head_at(uint part, uint row, uint c)
{
    if (c >= args.dimension || row >= length)
        return float16_t(0.0);
    return float16_t(
        source[((start + row) * 3 + part) * args.width + gl_WorkGroupID.y * args.dimension + c]);
}

void stage_keys(uint base)
{
    for (uint i = thread; i < KEYS * COLUMNS; i += THREADS) {
        uint at = i / COLUMNS * STRIDE + i % COLUMNS;
        first_tile[at] = head_at(1, base + i / COLUMNS, i % COLUMNS);
        values[at] = head_at(2, base + i / COLUMNS, i % COLUMNS);
    }
}

// What is written by some invocations of a subgroup is read by others.
void subgroup_sync()
{
    subgroupMemoryBarrierShared();
    subgroupBarrier();
}

uint seen_by(uint row)
{
    return row >= length ? 0 : args.causal == 1 ? row + 1 : length;
}

// Scores of the group of keys at `base` to weights, and the rows' factors.
void soften(uint first, uint base)
{
    for (uint q = own + lane; q < own + M; q += gl_SubgroupSize) {
        uint seen = seen_by(first + q);
        float next = largest[q];
        for (uint j = 0; j < KEYS && base + j < seen; j++)
            next = max(next, scores[q * KEYS + j]);
        keep[q] = base == 0 ? 0.0 : exp((largest[q] - next) * args.scale);
        largest[q] = next;
    }
    subgroup_sync();
    for (uint i = lane; i < M * KEYS; i += gl_SubgroupSize) {
        uint q = own + i / KEYS;
        uint j = i % KEYS;
        bool sees = base + j < seen_by(first + q);
        float weight = sees ? exp((scores[q * KEYS + j] - largest[q]) * args.scale) : 0.0;
        weights[q * (KEYS + 8) + j] = float16_t(weight);
        scores[q * KEYS + j] = weight;
    }
    subgroup_sync();
    for (uint q = own + lane; q < own + M; q += gl_SubgroupSize) {
        float sum = total[q] * keep[q];
        for (uint j = 0; j < KEYS; j++)
            sum += scores[q * KEYS + j];
        total[q] = sum;
    }
}

// Adds weights times values to the results.
void add_values()
{
    coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator> factors;
    coopMatLoad(factors, keep, own, 0, gl_CooperativeMatrixLayoutColumnMajor);
    [[unroll]] for (uint c = 0; c < COLUMNS / N; c++)
        results[c] = results[c] * factors;
    for (uint k = 0; k < KEYS; k += K) {
        coopmat<float16_t, gl_ScopeSubgroup, M, K, gl_MatrixUseA> a;
        coopMatLoad(a, weights, own * (KEYS + 8) + k, KEYS + 8, gl_CooperativeMatrixLayoutRowMajor);
        [[unroll]] for (uint c = 0; c < COLUMNS / N; c++) {
            coopmat<float16_t, gl_ScopeSubgroup, K, N, gl_MatrixUseB> b;
            coopMatLoad(b, values, k * STRIDE + c * N, STRIDE, gl_CooperativeMatrixLayoutRowMajor);
            results[c] = coopMatMulAdd(a, b, results[c]);
        }
    }
}

void write(uint first)
{
    [[unroll]] for (uint c = 0; c < COLUMNS / N; c++) {
        subgroup_sync(); // the last matrix may still be read
        coopMatStore(results[c], scores, own * KEYS, N, gl_CooperativeMatrixLayoutRowMajor);
        subgroup_sync();
        for (uint i = lane; i < M * N; i += gl_SubgroupSize) {
            uint q = own + i / N;
            uint column = c * N + i % N;
            if (first + q < length && column < args.dimension)
                target[(start + first + q) * args.width + gl_WorkGroupID.y * args.dimension + column] =
                    scores[own * KEYS + i] / total[q];
        }
    }
}

void main()
{
    start = starts[gl_WorkGroupID.z];
    length = starts[gl_WorkGroupID.z + 1] - start;
    uint first = gl_WorkGroupID.x * QUERIES;
    if (first >= length)
        return;

    for (uint i = thread; i < QUERIES * COLUMNS; i += THREADS)
        first_tile[i / COLUMNS * STRIDE + i % COLUMNS] = head_at(0, first + i / COLUMNS, i % COLUMNS);
    for (uint q = thread; q < QUERIES; q += THREADS) {
        largest[q] = uintBitsToFloat(0xff7fffffu); // the least finite number
        total[q] = 0.0;
    }
    barrier();
    coopmat<float16_t, gl_ScopeSubgroup, M, K, gl_MatrixUseA> queries[COLUMNS / K];
    [[unroll]] for (uint c = 0; c < COLUMNS / K; c++)
        coopMatLoad(queries[c], first_tile, own * STRIDE + c * K, STRIDE,
                    gl_CooperativeMatrixLayoutRowMajor);
    [[unroll]] for (uint c = 0; c < COLUMNS / N; c++)
        results[c] = coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator>(0.0);

    uint end = args.causal == 1 ? min(first + QUERIES, length) : length;
    for (uint base = 0; base < end; base += KEYS) {
        barrier(); // the last group may still be read
        stage_keys(base);
        barrier();
        for (uint j = 0; j < KEYS; j += N) {
            coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator> sums =
                coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator>(0.0);
            [[unroll]] for (uint c = 0; c < COLUMNS / K; c++) {
                coopmat<float16_t, gl_ScopeSubgroup, K, N, gl_MatrixUseB> b;
                coopMatLoad(b, first_tile, j * STRIDE + c * K, STRIDE,
                            gl_CooperativeMatrixLayoutColumnMajor);
                sums = coopMatMulAdd(queries[c], b, sums);
            }
            coopMatStore(sums, scores, own * KEYS + j, KEYS, gl_CooperativeMatrixLayoutRowMajor);
        }
        subgroup_sync();
        soften(first, base);
        subgroup_sync();
        add_values();
    }
    write(first);
}
