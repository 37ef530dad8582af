// SPDX-License-Identifier: Apache-2.0
// topk_merge.comp - joins the sorted lists of all blocks into one for each query.
//
// Each thread holds the head of every THREADS-th list; the best of all heads is taken k times.
//
// shapes     lists [blocks][queries][k] of score_topk.comp; found [queries][k]: rows, 0xffffffff
//            where there are fewer; found_scores [queries][k], 0 there
// constants, dispatch: rows.glsl, with one workgroup for each query; args.blocks <=
//            HEADS * threads
// reference  reference_topk() in tests/reference; tested by tests/gpu/test_gpu_topk.c

#version 450
#extension GL_GOOGLE_include_directive : require

#include "kernel_args.h"
#include "rows.glsl"
#include "topk.glsl"

#define HEADS 16u // lists of a thread

layout(push_constant) uniform Arguments { topk_merge_args args; };

layout(std430, binding = 0) readonly buffer Lists { uvec2 lists[]; };
layout(std430, binding = 1) writeonly buffer Found { uint found[]; };
layout(std430, binding = 2) writeonly buffer FoundScores { float found_scores[]; };

shared uvec2 best[THREADS];
shared uint owner[THREADS]; // the thread that has it

uint taken[HEADS]; // of each of the thread's lists

uvec2 head(uint h)
{
    uint block = h * THREADS + thread;
    if (block >= args.blocks || taken[h] >= args.k)
        return NO_NEIGHBOUR;
    return lists[(block * args.queries + row) * args.k + taken[h]];
}

void main()
{
    if (row >= args.queries)
        return;
    for (uint h = 0; h < HEADS; h++)
        taken[h] = 0;

    for (uint i = 0; i < args.k; i++) {
        uint own = 0; // the list with the best of the thread's heads
        uvec2 own_best = head(0);
        for (uint h = 1; h < HEADS && h * THREADS + thread < args.blocks; h++) {
            uvec2 next = head(h);
            own = is_ahead(next, own_best) ? h : own;
            own_best = is_ahead(next, own_best) ? next : own_best;
        }
        best[thread] = own_best;
        owner[thread] = thread;
        barrier();
        for (uint width = THREADS / 2; width > 0; width /= 2) {
            if (thread < width && is_ahead(best[thread + width], best[thread])) {
                best[thread] = best[thread + width];
                owner[thread] = owner[thread + width];
            }
            barrier();
        }
        uvec2 winner = best[0];
        if (owner[0] == thread)
            taken[own]++;
        if (thread == 0) {
            found[row * args.k + i] = winner.y;
            found_scores[row * args.k + i] = winner.x == 0 ? 0.0 : score_of_key(winner.x);
        }
        barrier(); // before the slots are written again
    }
}
