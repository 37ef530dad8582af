// SPDX-License-Identifier: Apache-2.0
// kernel_pack.h - weights and bias laid out as the matrix products of the GPU read them.
//
// Weights are turned and filled up with zeros: [depth up to a multiple of 16][columns up to
// one of 64], in single or in half precision; the bias is single, as long as a row of them.
//
// Thread-safety: pure.

#ifndef RECO_SHADERS_KERNELS_KERNEL_PACK_H
#define RECO_SHADERS_KERNELS_KERNEL_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kernel_pack {
    const float *weights; // [columns][depth]
    const float *bias;    // [columns], or NULL for zeros
    uint32_t columns;
    uint32_t depth;
    bool f16; // weights in half precision, rounded to the nearest
};

// 4-byte elements of the packed weights and of the packed bias; a size of at most
// 2^16 by 2^16 does not overflow.
size_t kernel_pack_weights_count(const struct kernel_pack *pack);
size_t kernel_pack_bias_count(const struct kernel_pack *pack);

// Writes as many elements as the functions above say.
void kernel_pack_weights(const struct kernel_pack *pack, uint32_t *target);
void kernel_pack_bias(const struct kernel_pack *pack, float *target);

#endif
