// SPDX-License-Identifier: Apache-2.0
// attention.comp - softmax(q k^T * scale) v for each head of each sequence, without storing the
// scores.
//
// A thread owns one query. It goes over the keys in groups of four, keeps the largest
// score so far, and scales what it has summed when a group brings a larger one, as in
// Dao et al., FlashAttention (2022), algorithm 1. A group begins at a multiple of
// four of its own sequence, so a row's bits depend on the rows that it sees only. Sequences lie
// one behind the other without padding.
//
// shapes     source [rows][3 * width]: queries, keys, values, heads side by side;
//            starts [sequences + 1]: sequence s is rows starts[s]..starts[s + 1] - 1; target [rows][width]
// constants  0: threads; 1: vectors of four of a head's dimension, rounded up; 2: whether the
//            dimension is a multiple of 4; 3: whether keys and values are brought into shared memory
//            (kernel_table_attention() chooses them)
// dispatch   (rows of the longest sequence / QUERIES rounded up, heads, sequences)
// shared     2 * KEYS * constant 1 * 16 bytes
// reference  reference_attention() in tests/reference; tested by tests/gpu/test_gpu_attention.c

#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require

#include "kernel_args.h"

layout(constant_id = 0) const uint QUERIES = 32;
layout(constant_id = 1) const uint VECTORS = 16;
layout(constant_id = 2) const uint ALIGNED = 1;
layout(constant_id = 3) const uint STAGED = 1;
layout(local_size_x_id = 0) in;

#define GROUP 4u // keys between two looks at the largest score
#define KEYS 16u // brought into shared memory at a time

layout(push_constant) uniform Arguments { attention_args args; };

layout(std430, binding = 0) readonly buffer Source { float source[]; };
layout(std430, binding = 0) readonly buffer Source4 { vec4 source4[]; };
layout(std430, binding = 1) readonly buffer Starts { uint starts[]; };
layout(std430, binding = 2) writeonly buffer Target { float target[]; };
layout(std430, binding = 2) writeonly buffer Target4 { vec4 target4[]; };

const uint STAGE = STAGED == 1 ? KEYS * VECTORS : 1;
shared vec4 keys[STAGE];
shared vec4 values[STAGE];

uint thread = gl_LocalInvocationID.x;
uint start;  // of the sequence
uint length; // of the sequence

// Vector v of the head in the queries (part 0), keys (1) or values (2) of a row of the sequence.
vec4 head_at(uint part, uint row, uint v)
{
    uint first = ((start + row) * 3 + part) * args.width + gl_WorkGroupID.y * args.dimension + v * 4;
    if (ALIGNED == 1)
        return source4[first / 4];
    vec4 result = vec4(0.0);
    for (uint i = 0; i < 4 && v * 4 + i < args.dimension; i++)
        result[i] = source[first + i];
    return result;
}

void stage(uint base)
{
    for (uint i = thread; i < STAGE; i += QUERIES) {
        uint row = min(base + i / VECTORS, length - 1);
        keys[i] = head_at(1, row, i % VECTORS);
        values[i] = head_at(2, row, i % VECTORS);
    }
}

vec4 key_at(uint row, uint v)
{
    return STAGED == 1 ? keys[row % KEYS * VECTORS + v] : head_at(1, min(row, length - 1), v);
}

vec4 value_at(uint row, uint v)
{
    return STAGED == 1 ? values[row % KEYS * VECTORS + v] : head_at(2, row, v);
}

vec4 query[VECTORS];
vec4 result[VECTORS];
float largest; // score so far
float total;   // of the weights so far

// Keys base..base + GROUP - 1, of which the thread's query sees those below `seen`, at least one.
void attend(uint base, uint seen)
{
    float scores[GROUP];
    float next = largest;
    [[unroll]] for (uint j = 0; j < GROUP; j++) {
        vec4 sum = vec4(0.0);
        [[unroll]] for (uint v = 0; v < VECTORS; v++)
            sum = fma(query[v], key_at(base + j, v), sum);
        scores[j] = ((sum.x + sum.y) + (sum.z + sum.w)) * args.scale;
        next = base + j < seen ? max(next, scores[j]) : next;
    }

    float keep = base == 0 ? 0.0 : exp(largest - next);
    largest = next;
    total *= keep;
    [[unroll]] for (uint v = 0; v < VECTORS; v++)
        result[v] *= keep;

    [[unroll]] for (uint j = 0; j < GROUP; j++) {
        if (base + j < seen) {
            float weight = exp(scores[j] - next);
            total += weight;
            [[unroll]] for (uint v = 0; v < VECTORS; v++)
                result[v] = fma(vec4(weight), value_at(base + j, v), result[v]);
        }
    }
}

void write(uint row)
{
    uint first = (start + row) * args.width + gl_WorkGroupID.y * args.dimension;
    for (uint v = 0; v < VECTORS; v++) {
        vec4 value = result[v] / total;
        if (ALIGNED == 1) {
            target4[first / 4 + v] = value;
        } else {
            for (uint i = 0; i < 4 && v * 4 + i < args.dimension; i++)
                target[first + v * 4 + i] = value[i];
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

    uint row = first + thread;
    bool live = row < length;
    // Of the whole workgroup, then of this thread's query.
    uint end = args.causal == 1 ? min(first + QUERIES, length) : length;
    uint seen = !live ? 0 : args.causal == 1 ? row + 1 : length;

    largest = uintBitsToFloat(0xff7fffffu); // the least finite number
    total = 0.0;
    for (uint v = 0; v < VECTORS; v++) {
        query[v] = head_at(0, min(row, length - 1), v);
        result[v] = vec4(0.0);
    }
    for (uint base = 0; base < end; base += KEYS) {
        if (STAGED == 1) {
            barrier(); // the last group may still be read
            stage(base);
            barrier();
        }
        for (uint group = base; group < min(base + KEYS, seen); group += GROUP)
            attend(group, seen);
    }
    if (live)
        write(row);
}
