// SPDX-License-Identifier: Apache-2.0
// cpu.h - what this CPU can do, and which kernels to use.
//
// Thread-safety: pure after the first call, which is safe anywhere.

#ifndef RECO_PROTO_BASE_CPU_H
#define RECO_PROTO_BASE_CPU_H

#include <stdbool.h>

// CPU_TARGET("avx2,fma") before a function lets it use these instructions; the
// caller first asks cpu_best().
#if defined(__GNUC__)
#define CPU_TARGET(instructions) __attribute__((target(instructions)))
#else
#define CPU_TARGET(instructions)
#endif

// Of the innermost functions of kernels: a count that the caller knows becomes a constant of its loops.
#if defined(__GNUC__)
#define ALWAYS_INLINE static inline __attribute__((always_inline))
#else
#define ALWAYS_INLINE static inline
#endif

enum cpu_level {
    CPU_SCALAR = 0,
    CPU_AVX2 = 1,   // x86: AVX2, FMA, F16C
    CPU_AVX512 = 2, // and F, BW, DQ, VL
    CPU_NEON = 3,   // AArch64, all of them; no other level there but scalar
};
#define CPU_LEVELS 4

// The best level of this CPU and operating system, lowered by the environment
// variable RECO_CPU (scalar, avx2, avx512, neon) when it names a lower one.
enum cpu_level cpu_best(void);
enum cpu_level cpu_hardware(void);  // likewise, whatever RECO_CPU says
bool cpu_has(enum cpu_level level); // whether `level` may be used: cpu_best() or below
const char *cpu_level_name(enum cpu_level level); // "scalar", "avx2", "avx512", "neon"
bool cpu_has_bf16(void);
bool cpu_has_crc32c(void);   // an instruction for CRC-32C; false also under RECO_CPU=scalar
bool cpu_has_sha(void);      // SHA-256 and SSE4.1, on x86; likewise
int cpu_count(void);         // usable by this process (affinity), at least 1
const char *cpu_model(void); // "AMD EPYC ...", "AArch64, implementer 0x41, part 0xd0c" or "unknown"

#endif
