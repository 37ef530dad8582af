// SPDX-License-Identifier: Apache-2.0
// kernel_table.h - the door to the GPU's kernels: SPIR-V, bindings and constants of each.
//
// Every kernel has one descriptor set with the storage buffers 0..bindings - 1, one block
// of push constants (kernel_args.h) and the entry point "main". Specialisation constants
// have the ids 0..constants - 1 and 4 bytes each. What a kernel's buffers and constants
// mean is said at the head of its file. No kernel reads or writes rows behind the last one.
//
// Thread-safety: pure; everything is constant.

#ifndef RECO_SHADERS_KERNELS_KERNEL_TABLE_H
#define RECO_SHADERS_KERNELS_KERNEL_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shaders/kernels/kernel_args.h"

#define KERNEL_CONSTANTS_MAX 10u
#define KERNEL_GROUPS_MAX 65535u // workgroups along an axis that every device can do
#define KERNEL_HEAD_MAX 128u     // dimension of a head in attention
#define KERNEL_TOPK_MAX 64u      // neighbours of a query in exact search
#define KERNEL_BLOCKS_MAX 1024u  // lists that KERNEL_TOPK_MERGE joins, with 64 threads

enum kernel_id {
    KERNEL_GEMM_DIRECT_F32,
    KERNEL_GEMM_DIRECT_F16,
    KERNEL_GEMM_TILED_F32,
    KERNEL_GEMM_TILED_F16,
    KERNEL_GEMM_MATRIX,
    KERNEL_LAYERNORM,
    KERNEL_ATTENTION,
    KERNEL_ATTENTION_MATRIX,
    KERNEL_EMBED_TOKENS,
    KERNEL_PATCHIFY,
    KERNEL_PATCHIFY_NORMALISE,
    KERNEL_EMBED_PATCHES,
    KERNEL_GATHER,
    KERNEL_NORMALISE,
    KERNEL_SCORE_TOPK,
    KERNEL_TOPK_MERGE,
    KERNEL_COUNT,
};

struct kernel_entry {
    const char *name;
    const uint32_t *words; // NULL when this build's GLSL compiler, if any, cannot do it
    size_t bytes;          // of the words
    uint32_t args_bytes;   // of the push constants
    uint32_t bindings;
    uint32_t writes; // bit b: binding b is written
    uint32_t constants;
};

const struct kernel_entry *kernel_table_entry(enum kernel_id id);

// Whether this build holds kernels at all: it was made with a GLSL compiler.
bool kernel_table_is_built(void);

// Workgroups for `rows` rows of one each, as rows.glsl counts them: x * y >= rows.
// rows <= KERNEL_GROUPS_MAX^2.
void kernel_table_spread(uint32_t rows, uint32_t groups[3]);

// --- matrix products

enum kernel_epilogue { // constant 0 of every product
    KERNEL_PLAIN,
    KERNEL_QUICK_GELU,
    KERNEL_GELU,
    KERNEL_ADD,
};

enum kernel_tile_id {
    KERNEL_TILE_DIRECT, // no shared memory, 8 threads: for software devices, and a way out
    KERNEL_TILE_FEW,    // the same with 64 threads: for less than a tile of rows
    KERNEL_TILE_32,     // rows of a tile in shared memory
    KERNEL_TILE_64,
    KERNEL_TILE_128,
    KERNEL_TILE_COUNT,
};

// A way to cut products into workgroups.
struct kernel_tile {
    enum kernel_id f32; // the kernel with weights in single precision
    enum kernel_id f16; // with weights in half precision
    uint32_t rows;      // of the target that a workgroup computes
    uint32_t columns;
    uint32_t threads;      // of a workgroup
    uint32_t shared_bytes; // of its shared memory
    uint32_t constants[8]; // with the ids 2, 3, ...; as many as the kernel has
};

const struct kernel_tile *kernel_table_tile(enum kernel_tile_id id);

// What a device multiplies in one step, and how much it has room for.
struct kernel_matrix {
    uint32_t m; // fp16 [m][k] * fp16 [k][n] + fp32 [m][n], by a subgroup together
    uint32_t n; // 8, 16 or 32
    uint32_t k; // 8, 16 or 32
    uint32_t subgroup;
    uint32_t shared_bytes_max; // of a workgroup
    uint32_t threads_max;      // of a workgroup
};

// Fills in the widest tile of products by cooperative matrices that has room, at most 128 x
// 128 where m and n are 16; weights are in half precision. False when none has, or this build has
// no such kernel.
bool kernel_table_matrix(const struct kernel_matrix *matrix, struct kernel_tile *out);

// Fills in all constants of a product: how many is in the kernel's entry.
void kernel_table_product(const struct kernel_tile *tile, enum kernel_epilogue epilogue,
                          const struct gemm_args *args, uint32_t constants[KERNEL_CONSTANTS_MAX]);

// Workgroups of a product.
void kernel_table_product_groups(const struct kernel_tile *tile, const struct gemm_args *args,
                                 uint32_t groups[3]);

// --- attention

// Fills in the constants of attention for heads of `dimension`, 1..KERNEL_HEAD_MAX.
// `software`: for a device where barriers are dear and a workgroup is one vector.
void kernel_table_attention(uint32_t dimension, bool software,
                            uint32_t constants[KERNEL_CONSTANTS_MAX]);

// The same for KERNEL_ATTENTION_MATRIX. False when the device has no room for such heads, or this
// build no such kernel.
bool kernel_table_attention_matrix(const struct kernel_matrix *matrix, uint32_t dimension,
                                   uint32_t constants[KERNEL_CONSTANTS_MAX]);

// Workgroups of either; `constants` are those above.
void kernel_table_attention_groups(const uint32_t *constants, uint32_t longest, uint32_t heads,
                                   uint32_t sequences, uint32_t groups[3]);

// --- exact search

// Fills in the constants of KERNEL_SCORE_TOPK for `k` neighbours, 1..KERNEL_TOPK_MAX. Those
// of KERNEL_TOPK_MERGE are the threads.
void kernel_table_topk(uint32_t k, uint32_t constants[KERNEL_CONSTANTS_MAX]);

// Workgroups of KERNEL_SCORE_TOPK: groups[0] is the number of blocks, a list each.
void kernel_table_topk_groups(const struct score_topk_args *args, uint32_t groups[3]);

#endif
