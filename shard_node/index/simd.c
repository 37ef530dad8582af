// SPDX-License-Identifier: Apache-2.0
// The choice between the sets.

#include "shard_node/index/simd.h"

#include "shard_node/index/simd_internal.h"

const struct simd *simd_for(enum cpu_level level)
{
#if SIMD_HAVE_X86
    if (level == CPU_AVX512)
        return &simd_avx512;
    if (level == CPU_AVX2)
        return &simd_avx2;
#endif
#if SIMD_HAVE_NEON
    if (level == CPU_NEON)
        return &simd_neon;
#endif
    (void)level;
    return &simd_scalar;
}
