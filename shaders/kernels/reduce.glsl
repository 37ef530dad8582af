// SPDX-License-Identifier: Apache-2.0
// reduce.glsl - a value of each thread of a workgroup to one for all of them, always in
// the same order; without subgroups, whose size differs between devices.

shared float reduce_slots[THREADS];

#define REDUCE(value, combine)                                                                     \
    barrier(); /* the slots may still be read */                                                   \
    reduce_slots[thread] = value;                                                                  \
    barrier();                                                                                     \
    for (uint width = THREADS / 2; width > 0; width /= 2) {                                        \
        if (thread < width)                                                                        \
            reduce_slots[thread] = combine(reduce_slots[thread], reduce_slots[thread + width]);    \
        barrier();                                                                                 \
    }                                                                                              \
    return reduce_slots[0];

float reduce_add(float a, float b) { return a + b; }
float reduce_sum(float value) { REDUCE(value, reduce_add) }
float reduce_max(float value) { REDUCE(value, max) }
