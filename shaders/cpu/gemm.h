// SPDX-License-Identifier: Apache-2.0
// gemm.h - products of two matrices that are both new every time, in any layout: what training
// needs.
//
//     target = a * b, or target + a * b        a: [rows][depth], b: [depth][columns]
//
// `dense` prepares one side once; here both are arranged at each call, b once and a by whoever
// needs it. The inner loop is dense_fma.h's, so an element is a chain of fused multiply-adds over
// each chunk of the depth.
//
// Promise: an element's bits depend on its row of a and its column of b alone, not on the number of
// threads. Where the CPU has no fused multiply-add that this project writes for, a plain loop takes
// its place; its last bits differ.
//
// Thread-safety: none. One thread at a time uses a gemm; the team may be shared with other
// operations of that thread.

#ifndef RECO_SHADERS_CPU_GEMM_H
#define RECO_SHADERS_CPU_GEMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/status.h"
#include "shaders/cpu/team.h"

#define GEMM_SIZE_MAX 65536u // rows, columns, depth

struct gemm;

// Elements of a matrix: at row * row_step + column * column_step; one of the steps is 1.
struct gemm_view {
    const float *at;
    size_t row_step;
    size_t column_step;
};

// `count` products of one shape, whose matrices lie `a_next`, `b_next` and `target_next` floats
// behind each other.
struct gemm_product {
    struct gemm_view a; // [rows][depth]
    struct gemm_view b; // [depth][columns]
    float *target;      // [rows][columns]; overlaps neither
    size_t target_step; // floats from one row to the next
    uint32_t rows;      // all sizes 1..GEMM_SIZE_MAX
    uint32_t columns;
    uint32_t depth;
    bool add;       // to what the target holds
    uint32_t count; // 0 is taken as 1
    size_t a_next;
    size_t b_next;
    size_t target_next;
};

#define GEMM_PANEL_MAX 32u

// Room that b of a product takes: columns come in whole panels.
static inline size_t gemm_floats(size_t columns, size_t depth, size_t count)
{
    return (columns + GEMM_PANEL_MAX - 1) / GEMM_PANEL_MAX * GEMM_PANEL_MAX * depth * count;
}

// `floats` is the largest gemm_floats() of a product. `team` is borrowed until gemm_close().
// STATUS_NO_MEMORY.
enum status gemm_open(struct team *team, size_t floats, struct gemm **out) MUST_CHECK;

// The same with the plain loop, for tests.
enum status gemm_open_plain(struct team *team, size_t floats, struct gemm **out) MUST_CHECK;

// Frees *gemm and sets it to NULL. NULL is allowed.
void gemm_close(struct gemm **gemm);

void gemm_run(struct gemm *gemm, const struct gemm_product *product);

#endif
