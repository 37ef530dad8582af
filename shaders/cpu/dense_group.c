// SPDX-License-Identifier: Apache-2.0
// Each tile fetches a part of the next panel while it works on this one.

#include "shaders/cpu/dense_group.h"

#include "proto/base/mem.h"

#define ALIGNMENT 64u

bool dense_group_init(struct dense_group *group)
{
    *group = (struct dense_group){
        .source = mem_try_alloc_aligned(ALIGNMENT, DENSE_GROUP_FLOATS * sizeof(float))};
    if (!group->source)
        return false;
    group->sums = group->source + DENSE_GROUP_ROWS * DENSE_FMA_STRIDE;
    return true;
}

void dense_group_deinit(struct dense_group *group)
{
    mem_free(group->source);
}

uint32_t dense_group_count(size_t rows)
{
    return (uint32_t)((rows + DENSE_GROUP_ROWS - 1) / DENSE_GROUP_ROWS);
}

uint32_t dense_group_piece(uint64_t groups, uint32_t panels, uint32_t jobs)
{
    uint64_t piece = groups * panels / jobs;
    if (piece < 1)
        return 1;
    return piece > DENSE_GROUP_PANELS ? DENSE_GROUP_PANELS : (uint32_t)piece;
}

void dense_group_run(const struct dense_fma *fma, const struct dense_fma_tile *rows, uint32_t panel)
{
    size_t width = fma->panel;
    // Sums that wait for the next chunk have a place for each row and panel of the job.
    bool waits = !rows->first || !rows->last;
    uint32_t tiles = (rows->rows + fma->rows - 1) / fma->rows;
    uint32_t row = 0;
    for (uint32_t i = 0; i < tiles; i++) {
        size_t part = (size_t)16 * i; // of the next panel, fetched by this tile
        struct dense_fma_tile tile = *rows;
        tile.rows = (rows->rows - row + tiles - i - 1) / (tiles - i);
        tile.source += row * DENSE_FMA_STRIDE;
        tile.fetch = part < width ? rows->fetch + part * rows->depth : rows->panel;
        if (waits)
            tile.sums += width * ((size_t)DENSE_GROUP_ROWS * panel + row);
        tile.target += row * rows->stride;
        fma->run(&tile);
        row += tile.rows;
    }
}
