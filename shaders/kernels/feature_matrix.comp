// SPDX-License-Identifier: Apache-2.0
// feature_matrix.comp - compiles where GL_KHR_cooperative_matrix is known; asked for at configure
// time only.

#version 450
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require

layout(local_size_x = 8) in;
layout(std430, binding = 0) buffer Values { float values[]; };

void main()
{
    coopmat<float, gl_ScopeSubgroup, 8, 8, gl_MatrixUseAccumulator> sums;
    coopMatLoad(sums, values, 0, 8, gl_CooperativeMatrixLayoutRowMajor);
    coopMatStore(sums, values, 0, 8, gl_CooperativeMatrixLayoutRowMajor);
}
