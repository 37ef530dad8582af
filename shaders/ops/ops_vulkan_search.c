// SPDX-License-Identifier: Apache-2.0
// Exact search on a GPU: each block of rows keeps the best of its own for every query, then the
// lists of all blocks are joined. Rows that one binding has no room for are searched in parts,
// whose blocks are counted on.

#include <assert.h>

#include "shaders/ops/ops_vulkan_internal.h"

#define QUERIES 256u      // at a time: their lists in all blocks fit into one binding
#define BLOCK_ROWS 256u   // at least
#define MERGE_THREADS 64u // as KERNEL_BLOCKS_MAX asks for

_Static_assert(OPS_TOPK_MAX == KERNEL_TOPK_MAX, "lists have room");

// Room for the lists of every block; what is in them is of no use to a later search.
static enum status have_lists(struct vulkan_state *state, size_t count, struct reason *why)
{
    if (count <= state->lists_count)
        return STATUS_OK;
    gpu_free(state->gpu, &state->lists);
    state->lists_count = 0;
    enum status status = gpu_alloc(state->gpu, (uint64_t)count * 4, &state->lists, why);
    if (status == STATUS_OK)
        state->lists_count = count;
    return status;
}

// The best rows of every block, for queries that are taken together.
static enum status search_blocks(struct vulkan_state *state, const struct ops_score_topk *args,
                                 uint32_t *blocks, struct reason *why)
{
    size_t rows = args->rows.rows;
    size_t most = ops_vulkan_rows(state, args->rows.columns * sizeof(uint32_t));
    size_t parts = (rows + most - 1) / most;
    assert(parts < KERNEL_BLOCKS_MAX);
    size_t block_rows = rows / (KERNEL_BLOCKS_MAX - parts) + 1;
    struct score_topk_args push = {
        .queries = (uint32_t)args->queries.rows,
        .depth = (uint32_t)args->queries.columns,
        .k = (uint32_t)args->ids.columns,
        .block_rows = (uint32_t)(block_rows > BLOCK_ROWS ? block_rows : BLOCK_ROWS),
    };
    size_t room = (rows / push.block_rows + parts) * args->ids.rows * args->ids.columns * 2;
    uint32_t constants[KERNEL_CONSTANTS_MAX];
    kernel_table_topk(push.k, constants);
    struct gpu_dispatch dispatch = {.push = &push};
    enum status status = have_lists(state, room, why);
    if (status == STATUS_OK)
        status = ops_vulkan_kernel(state, KERNEL_SCORE_TOPK, constants, &dispatch.kernel, why);
    for (size_t first = 0; first < rows && status == STATUS_OK; first += most) {
        const struct ops_view part = ops_vulkan_part(&args->rows, first, most);
        push.rows = (uint32_t)part.rows;
        push.first_row = (uint32_t)first;
        push.first_block = *blocks;
        dispatch.views[0] = ops_vulkan_bound(&args->queries);
        dispatch.views[1] = ops_vulkan_bound(&part);
        dispatch.views[2] = ops_vulkan_whole(state->lists, room);
        dispatch.work = 2.0 * push.queries * push.rows * push.depth;
        kernel_table_topk_groups(&push, dispatch.groups);
        *blocks += dispatch.groups[0];
        status = gpu_dispatch(state->gpu, &dispatch, why);
    }
    return status;
}

static enum status search_queries(struct vulkan_state *state, const struct ops_score_topk *args,
                                  struct reason *why)
{
    uint32_t blocks = 0;
    enum status status = search_blocks(state, args, &blocks, why);
    if (status != STATUS_OK)
        return status;
    const struct topk_merge_args push = {
        .queries = (uint32_t)args->queries.rows,
        .blocks = blocks,
        .k = (uint32_t)args->ids.columns,
    };
    // Without rows there are no lists, but something must be bound.
    size_t count = (size_t)blocks * push.queries * push.k * 2;
    const uint32_t constants[KERNEL_CONSTANTS_MAX] = {MERGE_THREADS};
    struct gpu_dispatch dispatch = {
        .views = {count > 0 ? ops_vulkan_whole(state->lists, count)
                            : ops_vulkan_whole(state->bad_row, 1),
                  ops_vulkan_bound(&args->ids), ops_vulkan_bound(&args->scores)},
        .push = &push,
        .work = (double)count,
    };
    status = ops_vulkan_kernel(state, KERNEL_TOPK_MERGE, constants, &dispatch.kernel, why);
    if (status != STATUS_OK)
        return status;
    kernel_table_spread(push.queries, dispatch.groups);
    return gpu_dispatch(state->gpu, &dispatch, why);
}

enum status ops_vulkan_score_topk(void *opaque, const struct ops_score_topk *args,
                                  struct reason *why)
{
    enum status status = STATUS_OK;
    for (size_t first = 0; first < args->queries.rows && status == STATUS_OK; first += QUERIES) {
        const struct ops_score_topk part = {
            .queries = ops_vulkan_part(&args->queries, first, QUERIES),
            .rows = args->rows,
            .ids = ops_vulkan_part(&args->ids, first, QUERIES),
            .scores = ops_vulkan_part(&args->scores, first, QUERIES),
        };
        status = search_queries(opaque, &part, why);
    }
    return status;
}
