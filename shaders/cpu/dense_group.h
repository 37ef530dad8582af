// SPDX-License-Identifier: Apache-2.0
// dense_group.h - a group of rows in one worker's memory, and how it meets the panels of a product.
//
// A chunk of the group (450 KiB) and a panel (128 KiB) stay in the second-level cache: each panel
// meets all rows before the next one. Whose rows these are and where the panels come from is for
// dense_panels.c and gemm.c to say.
//
// Thread-safety: a group belongs to one worker.

#ifndef RECO_SHADERS_CPU_DENSE_GROUP_H
#define RECO_SHADERS_CPU_DENSE_GROUP_H

#include "shaders/cpu/dense_fma.h"

#define DENSE_GROUP_ROWS 112u
#define DENSE_GROUP_PANELS 8u // that may wait for their next chunk: more a job must not have
#define DENSE_GROUP_SUMS ((size_t)DENSE_GROUP_ROWS * DENSE_GROUP_PANELS * DENSE_FMA_PANEL_MAX)
#define DENSE_GROUP_FLOATS (DENSE_GROUP_ROWS * DENSE_FMA_STRIDE + DENSE_GROUP_SUMS)

struct dense_group {
    float *source;   // [DENSE_GROUP_ROWS][DENSE_FMA_STRIDE], and behind it
    float *sums;     // [DENSE_GROUP_SUMS]
    uint64_t run;    // whose rows are in `source`, and
    uint32_t number; // which of its groups
};

bool dense_group_init(struct dense_group *group); // false without memory
void dense_group_deinit(struct dense_group *group);

// Groups of nearly equal height that so many rows make.
uint32_t dense_group_count(size_t rows);

// Panels of a job, so that there are `jobs` of them or a few more.
uint32_t dense_group_piece(uint64_t groups, uint32_t panels, uint32_t jobs);

// All rows of a group with one panel, in tiles of nearly equal height. `rows` has source, sums and
// target of the first row, and as many rows as the group; `fetch` is the next panel. The panel is
// the job's number `panel`, from 0.
void dense_group_run(const struct dense_fma *fma, const struct dense_fma_tile *rows,
                     uint32_t panel);

#endif
