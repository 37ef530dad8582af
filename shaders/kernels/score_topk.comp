// SPDX-License-Identifier: Apache-2.0
// score_topk.comp - the nearest rows of one block of them to each query, by inner product.
//
// A workgroup goes through the rows of its block, as many at a time as it has threads: each thread
// computes the scores of one row with QUERIES queries. Then one thread for each query puts those
// that are ahead of the last one kept into a sorted list; after the first few hundred rows that is
// seldom. A score is one sum over the depth in one order, so it does not depend on the block or on
// the other queries.
//
// shapes     queries [queries][depth], single; rows [rows][depth], half precision, two in a number;
//            depth is a multiple of 4; lists [blocks][queries][k]: neighbours (topk.glsl), best
//            first, filled up with NO_NEIGHBOUR
// constants  0: threads, at least QUERIES; 1: room in the lists, args.k at most
// dispatch   (blocks, queries / QUERIES rounded up, 1)
// shared     8 * QUERIES * constant 1 + (4 * QUERIES + 16 * DEPTH_STEP / 4) * threads + 1 KiB
// reference  reference_topk() in tests/reference; tested by tests/gpu/test_gpu_topk.c

#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require

#include "kernel_args.h"
#include "topk.glsl"

layout(constant_id = 0) const uint THREADS = 64;
layout(constant_id = 1) const uint ROOM = 32;
layout(local_size_x_id = 0) in;

#define QUERIES 16u
#define STEP_VECTORS 4u // of four numbers, of the depth, brought into shared memory at a time

layout(push_constant) uniform Arguments { score_topk_args args; };

layout(std430, binding = 0) readonly buffer Queries { vec4 queries[]; };
layout(std430, binding = 1) readonly buffer Rows { uvec2 rows[]; };
layout(std430, binding = 2) writeonly buffer Lists { uvec2 lists[]; };

shared vec4 query_tile[QUERIES * STEP_VECTORS];
shared vec4 row_tile[THREADS * (STEP_VECTORS + 1)]; // one more: neighbours read other banks
shared float scores[QUERIES * THREADS];
shared uvec2 kept[QUERIES * ROOM];

uint thread = gl_LocalInvocationID.x;
uint first_query = gl_WorkGroupID.y * QUERIES;
uint vectors = args.depth / 4;

vec4 row_vector(uint at)
{
    uvec2 pairs = rows[at];
    return vec4(unpackHalf2x16(pairs.x), unpackHalf2x16(pairs.y));
}

// Brings vectors first..first + STEP_VECTORS - 1 of the queries and of the rows from `base` on.
void load(uint base, uint first)
{
    for (uint i = thread; i < QUERIES * STEP_VECTORS; i += THREADS) {
        uint query = min(first_query + i / STEP_VECTORS, args.queries - 1);
        uint v = first + i % STEP_VECTORS;
        query_tile[i] = v < vectors ? queries[query * vectors + v] : vec4(0.0);
    }
    for (uint i = thread; i < THREADS * STEP_VECTORS; i += THREADS) {
        uint row = min(base + i / STEP_VECTORS, args.rows - 1);
        uint v = first + i % STEP_VECTORS;
        row_tile[i / STEP_VECTORS * (STEP_VECTORS + 1) + i % STEP_VECTORS] =
            v < vectors ? row_vector(row * vectors + v) : vec4(0.0);
    }
}

void score_rows(uint base)
{
    vec4 sums[QUERIES];
    [[unroll]] for (uint q = 0; q < QUERIES; q++)
        sums[q] = vec4(0.0);
    for (uint first = 0; first < vectors; first += STEP_VECTORS) {
        barrier(); // what was loaded before may still be read
        load(base, first);
        barrier();
        for (uint v = 0; v < STEP_VECTORS; v++) {
            vec4 own = row_tile[thread * (STEP_VECTORS + 1) + v];
            [[unroll]] for (uint q = 0; q < QUERIES; q++)
                sums[q] = fma(query_tile[q * STEP_VECTORS + v], own, sums[q]);
        }
    }
    [[unroll]] for (uint q = 0; q < QUERIES; q++)
        scores[q * THREADS + thread] = (sums[q].x + sums[q].y) + (sums[q].z + sums[q].w);
}

// Puts a neighbour where it belongs in the thread's list; the last one falls out.
void insert(uvec2 neighbour)
{
    uint at = args.k - 1;
    while (at > 0 && is_ahead(neighbour, kept[thread * ROOM + at - 1])) {
        kept[thread * ROOM + at] = kept[thread * ROOM + at - 1];
        at--;
    }
    kept[thread * ROOM + at] = neighbour;
}

void main()
{
    uint begin = gl_WorkGroupID.x * args.block_rows;
    uint end = min(begin + args.block_rows, args.rows);
    for (uint i = thread; i < QUERIES * ROOM; i += THREADS)
        kept[i] = NO_NEIGHBOUR;
    barrier();

    for (uint base = begin; base < end; base += THREADS) {
        score_rows(base);
        barrier();
        if (thread < QUERIES) {
            for (uint i = 0; i < min(THREADS, end - base); i++) {
                uvec2 next = uvec2(key_of_score(scores[thread * THREADS + i]), args.first_row + base + i);
                if (is_ahead(next, kept[thread * ROOM + args.k - 1]))
                    insert(next);
            }
        }
    }

    if (thread < QUERIES && first_query + thread < args.queries) {
        uint list = ((args.first_block + gl_WorkGroupID.x) * args.queries + first_query + thread) * args.k;
        for (uint i = 0; i < args.k; i++)
            lists[list + i] = kept[thread * ROOM + i];
    }
}
