// SPDX-License-Identifier: Apache-2.0
// half.h - IEEE 754 binary16 and bfloat16 from and to float.
//
// float to half rounds to nearest, ties to even, the same bits as F16C and as
// numpy; overflow gives infinity. A NaN keeps its sign and the upper bits of its
// payload and comes out quiet, in both directions.
//
// Thread-safety: pure.

#ifndef RECO_PROTO_BASE_HALF_H
#define RECO_PROTO_BASE_HALF_H

#include <stddef.h>
#include <stdint.h>

uint16_t half_from_float(float value);
float half_to_float(uint16_t half);

// Converts `count` values; source and target must not overlap. Uses F16C or
// NEON where the CPU has it, with the same bits as the functions above.
void half_from_floats(const float *source, uint16_t *target, size_t count);
void half_to_floats(const uint16_t *source, float *target, size_t count);

// bfloat16 is the upper half of a float.
float half_bf16_to_float(uint16_t bf16);

#endif
