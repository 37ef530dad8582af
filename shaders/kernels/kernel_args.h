// SPDX-License-Identifier: Apache-2.0
// kernel_args.h - the push constants of every kernel, read by C and by GLSL.
//
// Vulkan promises 128 bytes of push constants, no more. All fields are 4 bytes long, so
// that both languages lay them out alike; what each buffer holds is in the kernel's file.

#ifndef RECO_SHADERS_KERNELS_KERNEL_ARGS_H
#define RECO_SHADERS_KERNELS_KERNEL_ARGS_H

#ifdef VULKAN // set by the GLSL compiler, never by a C compiler
#define uint32_t uint
#else
#include <stdint.h>
#endif

struct gemm_args {
    uint32_t rows;    // of source and target
    uint32_t columns; // of the target
    uint32_t depth;   // columns of the source
};

struct layernorm_args {
    uint32_t rows;
    uint32_t width;
    float epsilon; // added to the variance
};

struct attention_args {
    uint32_t width;     // columns of the target: heads * dimension
    uint32_t dimension; // of a head
    uint32_t causal;    // 1: a row sees itself and the rows before it only
    float scale;        // 1 / sqrt(dimension)
};

struct embed_tokens_args {
    uint32_t rows;
    uint32_t width;
    uint32_t first; // token that the table begins with
    uint32_t count; // rows of the table
};

struct patchify_args {
    uint32_t rows; // of the target: images * (size / side)^2
    uint32_t size; // rows and columns of a picture
    uint32_t side; // rows and columns of a patch, 1..size
};

struct embed_patches_args {
    uint32_t rows; // of the target: images * (grid + 1)
    uint32_t grid; // patches of a picture
    uint32_t width;
};

struct gather_args {
    uint32_t rows; // of the target
    uint32_t width;
};

struct normalise_args {
    uint32_t rows;
    uint32_t width;
};

struct score_topk_args {
    uint32_t queries;
    uint32_t rows;
    uint32_t depth;       // columns of both, a multiple of 4
    uint32_t k;           // 1..room of the lists
    uint32_t block_rows;  // rows that a workgroup goes through
    uint32_t first_row;   // what the first row is called: rows may be given in pieces
    uint32_t first_block; // where the lists of this piece begin
};

struct topk_merge_args {
    uint32_t queries;
    uint32_t blocks;
    uint32_t k;
};

#ifndef VULKAN
#define KERNEL_ARGS_FIT(name) _Static_assert(sizeof(struct name) <= 128, "push constants too large")
KERNEL_ARGS_FIT(gemm_args);
KERNEL_ARGS_FIT(layernorm_args);
KERNEL_ARGS_FIT(attention_args);
KERNEL_ARGS_FIT(embed_tokens_args);
KERNEL_ARGS_FIT(patchify_args);
KERNEL_ARGS_FIT(embed_patches_args);
KERNEL_ARGS_FIT(gather_args);
KERNEL_ARGS_FIT(normalise_args);
KERNEL_ARGS_FIT(score_topk_args);
KERNEL_ARGS_FIT(topk_merge_args);
#undef KERNEL_ARGS_FIT
#endif

#endif
