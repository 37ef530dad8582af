// SPDX-License-Identifier: Apache-2.0
// The words of the kernels come from a header that the build writes; there each variant
// NAME is either an array and `#define NAME_WORDS array, bytes` or, when it could not be
// compiled, `#define NAME_WORDS NULL, 0`.

#include "shaders/kernels/kernel_table.h"

#include <assert.h>
#include <spirv_list.h>

#define WRITES(binding) (1u << (binding))

static const struct kernel_entry entries[KERNEL_COUNT] = {
    [KERNEL_GEMM_DIRECT_F32] = {"gemm_direct_f32", gemm_direct_f32_WORDS, sizeof(struct gemm_args),
                                4, WRITES(3), 5},
    [KERNEL_GEMM_DIRECT_F16] = {"gemm_direct_f16", gemm_direct_f16_WORDS, sizeof(struct gemm_args),
                                4, WRITES(3), 5},
    [KERNEL_GEMM_TILED_F32] = {"gemm_tiled_f32", gemm_tiled_f32_WORDS, sizeof(struct gemm_args), 4,
                               WRITES(3), 6},
    [KERNEL_GEMM_TILED_F16] = {"gemm_tiled_f16", gemm_tiled_f16_WORDS, sizeof(struct gemm_args), 4,
                               WRITES(3), 6},
    [KERNEL_GEMM_MATRIX] = {"gemm_matrix", gemm_matrix_WORDS, sizeof(struct gemm_args), 4,
                            WRITES(3), 10},
    [KERNEL_LAYERNORM] = {"layernorm", layernorm_WORDS, sizeof(struct layernorm_args), 4, WRITES(3),
                          1},
    [KERNEL_ATTENTION] = {"attention", attention_WORDS, sizeof(struct attention_args), 3, WRITES(2),
                          4},
    [KERNEL_ATTENTION_MATRIX] = {"attention_matrix", attention_matrix_WORDS,
                                 sizeof(struct attention_args), 3, WRITES(2), 6},
    [KERNEL_EMBED_TOKENS] = {"embed_tokens", embed_tokens_WORDS, sizeof(struct embed_tokens_args),
                             5, WRITES(4), 1},
    [KERNEL_PATCHIFY] = {"patchify", patchify_WORDS, sizeof(struct patchify_args), 2, WRITES(1), 1},
    [KERNEL_PATCHIFY_NORMALISE] = {"patchify_normalise", patchify_normalise_WORDS,
                                   sizeof(struct patchify_args), 3, WRITES(2), 1},
    [KERNEL_EMBED_PATCHES] = {"embed_patches", embed_patches_WORDS,
                              sizeof(struct embed_patches_args), 4, WRITES(3), 1},
    [KERNEL_GATHER] = {"gather", gather_WORDS, sizeof(struct gather_args), 3, WRITES(2), 1},
    [KERNEL_NORMALISE] = {"normalise", normalise_WORDS, sizeof(struct normalise_args), 2,
                          WRITES(0) | WRITES(1), 1},
    [KERNEL_SCORE_TOPK] = {"score_topk", score_topk_WORDS, sizeof(struct score_topk_args), 3,
                           WRITES(2), 2},
    [KERNEL_TOPK_MERGE] = {"topk_merge", topk_merge_WORDS, sizeof(struct topk_merge_args), 3,
                           WRITES(1) | WRITES(2), 1},
};

const struct kernel_entry *kernel_table_entry(enum kernel_id id)
{
    assert((unsigned)id < KERNEL_COUNT);

    return &entries[id];
}

bool kernel_table_is_built(void)
{
    return entries[KERNEL_GEMM_DIRECT_F32].words != NULL;
}

static uint32_t divide_up(uint32_t count, uint32_t by)
{
    return count / by + (count % by > 0);
}

void kernel_table_spread(uint32_t rows, uint32_t groups[3])
{
    groups[0] = rows < KERNEL_GROUPS_MAX ? rows : KERNEL_GROUPS_MAX;
    groups[1] = groups[0] > 0 ? divide_up(rows, groups[0]) : 0;
    groups[2] = 1;
    assert(groups[1] <= KERNEL_GROUPS_MAX);
}

// --- matrix products

// Constants of gemm_direct: threads, rows, vectors. Of gemm_tiled, where a thread has 8 rows:
// threads down, threads across, vectors, threads.
static const struct kernel_tile tiles[KERNEL_TILE_COUNT] = {
    [KERNEL_TILE_DIRECT] = {KERNEL_GEMM_DIRECT_F32, KERNEL_GEMM_DIRECT_F16, .rows = 5,
                            .columns = 64, .threads = 8, .shared_bytes = 0, .constants = {8, 5, 2}},
    [KERNEL_TILE_FEW] = {KERNEL_GEMM_DIRECT_F32, KERNEL_GEMM_DIRECT_F16, .rows = 8, .columns = 256,
                         .threads = 64, .shared_bytes = 0, .constants = {64, 8, 1}},
    [KERNEL_TILE_32] = {KERNEL_GEMM_TILED_F32, KERNEL_GEMM_TILED_F16, .rows = 32, .columns = 64,
                        .threads = 64, .shared_bytes = 16 * (32 + 64) * 4,
                        .constants = {4, 16, 1, 64}},
    [KERNEL_TILE_64] = {KERNEL_GEMM_TILED_F32, KERNEL_GEMM_TILED_F16, .rows = 64, .columns = 64,
                        .threads = 128, .shared_bytes = 16 * (64 + 64) * 4,
                        .constants = {8, 16, 1, 128}},
    [KERNEL_TILE_128] = {KERNEL_GEMM_TILED_F32, KERNEL_GEMM_TILED_F16, .rows = 128, .columns = 128,
                         .threads = 256, .shared_bytes = 16 * (128 + 128) * 4,
                         .constants = {16, 16, 2, 256}},
};

const struct kernel_tile *kernel_table_tile(enum kernel_tile_id id)
{
    assert((unsigned)id < KERNEL_TILE_COUNT);

    return &tiles[id];
}

// Constants of gemm_matrix: m, n, k, threads, subgroups down and across, matrices down and across.
static void matrix_tile(const struct kernel_matrix *matrix, uint32_t down, uint32_t across,
                        struct kernel_tile *tile)
{
    uint32_t rows = 2 * down * matrix->m;
    uint32_t columns = 2 * across * matrix->n;
    *tile = (struct kernel_tile){
        .f32 = KERNEL_GEMM_MATRIX,
        .f16 = KERNEL_GEMM_MATRIX,
        .rows = rows,
        .columns = columns,
        .threads = 4 * matrix->subgroup,
        // Halves of both sides, 32 deep, with two vectors to spare for each row; then the sums.
        .shared_bytes = rows * (32 + 8) * 2 + 32 * (columns + 8) * 2 +
                        4 * matrix->m * matrix->n * (uint32_t)sizeof(float),
        .constants = {matrix->m, matrix->n, matrix->k, 4 * matrix->subgroup, 2, 2, down, across},
    };
}

// Whether the kernels can work with matrices of this size.
static bool matrix_fits(const struct kernel_matrix *matrix)
{
    return matrix->m > 0 && matrix->n >= 8 && 32 % matrix->n == 0 && matrix->k >= 8 &&
           32 % matrix->k == 0;
}

bool kernel_table_matrix(const struct kernel_matrix *matrix, struct kernel_tile *out)
{
    assert(matrix && out);

    if (!entries[KERNEL_GEMM_MATRIX].words || !matrix_fits(matrix))
        return false;
    for (uint32_t side = 64; side >= 16; side /= 2) {
        // More than four by four sums would not stay in registers.
        uint32_t down = divide_up(side, matrix->m);
        uint32_t across = divide_up(side, matrix->n);
        matrix_tile(matrix, down < 4 ? down : 4, across < 4 ? across : 4, out);
        if (out->shared_bytes <= matrix->shared_bytes_max && out->threads <= matrix->threads_max)
            return true;
    }
    return false;
}

void kernel_table_product(const struct kernel_tile *tile, enum kernel_epilogue epilogue,
                          const struct gemm_args *args, uint32_t constants[KERNEL_CONSTANTS_MAX])
{
    constants[0] = (uint32_t)epilogue;
    constants[1] = args->columns % 4 == 0 && args->depth % 4 == 0;
    for (uint32_t i = 2; i < entries[tile->f32].constants; i++)
        constants[i] = tile->constants[i - 2];
}

void kernel_table_product_groups(const struct kernel_tile *tile, const struct gemm_args *args,
                                 uint32_t groups[3])
{
    groups[0] = divide_up(args->columns, tile->columns);
    groups[1] = divide_up(args->rows, tile->rows);
    groups[2] = 1;
}

// --- attention

void kernel_table_attention(uint32_t dimension, bool software,
                            uint32_t constants[KERNEL_CONSTANTS_MAX])
{
    assert(dimension >= 1 && dimension <= KERNEL_HEAD_MAX);

    // Keys and values of 16 rows, 16 KiB for the widest head, are staged in shared memory.
    constants[0] = software ? 8 : 64;
    constants[1] = divide_up(dimension, 4);
    constants[2] = dimension % 4 == 0;
    constants[3] = !software;
}

// Bytes of shared memory, as attention_matrix.comp declares it.
static uint32_t attention_shared_bytes(uint32_t queries, uint32_t columns)
{
    uint32_t staged = queries > 32 ? queries : 32;
    return 2 * (staged + 32) * (columns + 8) + 2 * queries * (32 + 8) + 4 * queries * (32 + 3);
}

bool kernel_table_attention_matrix(const struct kernel_matrix *matrix, uint32_t dimension,
                                   uint32_t constants[KERNEL_CONSTANTS_MAX])
{
    assert(matrix && dimension >= 1 && dimension <= KERNEL_HEAD_MAX);

    if (!entries[KERNEL_ATTENTION_MATRIX].words || !matrix_fits(matrix))
        return false;
    uint32_t step = matrix->n > matrix->k ? matrix->n : matrix->k; // both are 8, 16 or 32
    uint32_t columns = divide_up(dimension, step) * step;
    for (uint32_t subgroups = 4; subgroups > 0; subgroups /= 2) {
        uint32_t queries = subgroups * matrix->m;
        if (subgroups * matrix->subgroup > matrix->threads_max ||
            attention_shared_bytes(queries, columns) > matrix->shared_bytes_max)
            continue;
        constants[0] = queries;
        constants[1] = matrix->m;
        constants[2] = matrix->n;
        constants[3] = matrix->k;
        constants[4] = subgroups * matrix->subgroup;
        constants[5] = columns;
        return true;
    }
    return false;
}

void kernel_table_attention_groups(const uint32_t *constants, uint32_t longest, uint32_t heads,
                                   uint32_t sequences, uint32_t groups[3])
{
    groups[0] = divide_up(longest, constants[0]);
    groups[1] = heads;
    groups[2] = sequences;
}

// --- exact search

void kernel_table_topk(uint32_t k, uint32_t constants[KERNEL_CONSTANTS_MAX])
{
    assert(k >= 1 && k <= KERNEL_TOPK_MAX);

    // Lists of a few lengths only, so that few kernels are compiled.
    constants[0] = 64;
    constants[1] = k <= 16 ? 16 : KERNEL_TOPK_MAX;
}

void kernel_table_topk_groups(const struct score_topk_args *args, uint32_t groups[3])
{
    groups[0] = divide_up(args->rows, args->block_rows);
    groups[1] = divide_up(args->queries, 16);
    groups[2] = 1;
}
