// SPDX-License-Identifier: Apache-2.0
// rows.glsl - for kernels that give one workgroup to each row of the target.
//
// constants  0: threads of a workgroup, a power of two; they stride over the columns
// dispatch   kernel_table_spread(rows): the rows go on in y where x alone has no room

layout(constant_id = 0) const uint THREADS = 64;
layout(local_size_x_id = 0) in;

uint thread = gl_LocalInvocationID.x;
uint row = gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x; // may lie behind the last
