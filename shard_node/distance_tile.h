// SPDX-License-Identifier: Apache-2.0
// distance_tile.h - the way of a vector kernel through a block; included behind what tells the
// kernels apart:
//
//   DISTANCE_TILE                                   queries at once
//   struct lanes                                    the 32 sums of a query and a row
//   struct lanes zero(void)
//   float fold(const struct lanes *)                lanes 16, 8, 4, 2 and 1 apart are added
//   void add_group(sum, queries, count, stride, row)
//       adds 32 elements of `count` queries, `stride` apart, and of one row to `count` sums
//   DISTANCE_REST, if the kernel can do better than to fill up copies with zeros: the same with an argument
//       more, fewer than 32 elements

#ifndef RECO_SHARD_NODE_DISTANCE_TILE_H
#define RECO_SHARD_NODE_DISTANCE_TILE_H

#include <string.h>

#ifndef DISTANCE_REST
#define DISTANCE_REST distance_tile_rest
ALWAYS_INLINE void distance_tile_rest(struct lanes *sum, const float *queries, size_t count,
                                      size_t stride, const uint16_t *row, size_t rest)
{
    float query_tail[DISTANCE_TILE * DISTANCE_LANES] = {0};
    uint16_t row_tail[DISTANCE_LANES] = {0};
    for (size_t q = 0; q < count; q++)
        memcpy(query_tail + q * DISTANCE_LANES, queries + q * stride, rest * sizeof(*queries));
    memcpy(row_tail, row, rest * sizeof(*row));
    add_group(sum, query_tail, count, DISTANCE_LANES, row_tail);
}
#endif

// `count` queries, a constant for the compiler, against one row.
ALWAYS_INLINE void distance_tile(const float *queries, size_t count, const uint16_t *row,
                                 size_t dimension, float *out)
{
    const size_t whole = dimension - dimension % DISTANCE_LANES;
    struct lanes sum[DISTANCE_TILE];
    for (size_t q = 0; q < count; q++)
        sum[q] = zero();

    for (size_t i = 0; i < whole; i += DISTANCE_LANES)
        add_group(sum, queries + i, count, dimension, row + i);
    if (whole < dimension)
        DISTANCE_REST(sum, queries + whole, count, dimension, row + whole, dimension - whole);
    for (size_t q = 0; q < count; q++)
        out[q] = fold(&sum[q]);
}

ALWAYS_INLINE void distance_tile_walk(const struct distance_block *block, float *scores)
{
    const size_t dimension = block->dimension;
    const size_t rows = block->row_count;
    size_t q = 0;
    for (; q + DISTANCE_TILE <= block->query_count; q += DISTANCE_TILE) {
        for (size_t r = 0; r < rows; r++) {
            float out[DISTANCE_TILE];
            distance_tile(block->queries + q * dimension, DISTANCE_TILE,
                          block->rows + r * dimension, dimension, out);
            for (size_t i = 0; i < DISTANCE_TILE; i++)
                scores[(q + i) * rows + r] = out[i];
        }
    }
    for (; q < block->query_count; q++) {
        for (size_t r = 0; r < rows; r++)
            distance_tile(block->queries + q * dimension, 1, block->rows + r * dimension, dimension,
                          &scores[q * rows + r]);
    }
}

#endif
