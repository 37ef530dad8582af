// SPDX-License-Identifier: Apache-2.0
// dense.h - matrix products with prepared weights: target = f(source * weights^T + bias).
//
// Promise: a row's bits depend neither on the other rows of its batch, nor on its place among
// them, nor on the number of threads, nor on RECO_CPU. Where the CPU has fused multiply-adds
// products are our own (dense_panels.c), elsewhere oneDNN's (dense_tiles.c); the two differ in the
// last bits.
//
// Thread-safety: none. One thread at a time uses a dense and its matrices; the team
// may be shared with the other operations of that thread.

#ifndef RECO_SHADERS_CPU_DENSE_H
#define RECO_SHADERS_CPU_DENSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "shaders/cpu/team.h"

#define DENSE_ROWS 16u
#define DENSE_SIZE_MAX 65536u // rows of weights, and of one row

struct dense;
struct dense_matrix;

enum dense_epilogue {
    DENSE_PLAIN,      // target = x
    DENSE_QUICK_GELU, // target = x / (1 + e^(-1.702 x))
    DENSE_GELU,       // target = x / 2 * (1 + erf(x / sqrt(2)))
    DENSE_ADD,        // target = target + x
};

// Writes the numbers `at` .. `at + depth - 1` of the rows `first` .. `first + count - 1` of a
// matrix' weights to `target`, [count][depth]. Several workers call it at once.
typedef enum status (*dense_rows)(void *context, uint32_t first, uint32_t count, uint32_t at,
                                  uint32_t depth, float *target);

struct dense_params {
    const float *weights; // [columns][depth]; NULL: `rows` gives them, with `context`
    const float *bias;    // [columns], or NULL
    uint32_t columns;     // 1..DENSE_SIZE_MAX
    uint32_t depth;       // 1..DENSE_SIZE_MAX
    enum dense_epilogue epilogue;
    dense_rows rows;
    void *context;

    // Weights are prepared at the second run; the first one lays out what it needs as it goes, and
    // keeps nothing. So a matrix that is used once is never copied. `rows` is called by dense_run()
    // then, as long as the matrix lives. Where oneDNN multiplies, it makes no difference.
    bool late;
};

enum dense_precision {
    DENSE_SINGLE,
    // Weights and sources are rounded to bfloat16, sums are single; other bits than DENSE_SINGLE's.
    DENSE_BF16,
};

// `team` is borrowed until dense_close(). STATUS_UNSUPPORTED where the CPU does not have that
// precision.
enum status dense_open(struct team *team, enum dense_precision precision, struct dense **out,
                       struct reason *why) MUST_CHECK;

// Frees *dense, whose matrices must be gone, and sets it to NULL. NULL is allowed.
void dense_close(struct dense **dense);

// Prepares weights and copies the bias; nothing of `params` is kept. STATUS_INVALID
// for a size out of range, STATUS_NO_MEMORY, STATUS_INTERNAL when oneDNN refuses, what `rows`
// returned.
enum status dense_prepare(struct dense *dense, const struct dense_params *params,
                          struct dense_matrix **out, struct reason *why) MUST_CHECK;
void dense_free(struct dense_matrix **matrix);

// Multiplies `rows` rows. Both arrays must have room for the next multiple of
// DENSE_ROWS rows: rows behind `rows` are read and written, and mean nothing.
// source: [rows][depth], target: [rows][columns]; they must not overlap. STATUS_INTERNAL when
// oneDNN fails; of late weights also STATUS_NO_MEMORY and what `rows` returned.
enum status dense_run(struct dense *dense, const struct dense_matrix *matrix, const float *source,
                      size_t rows, float *target, struct reason *why) MUST_CHECK;

// Operations a second (a multiply-add is two) that all workers together reach on independent chains
// of multiply-adds in registers, which no product can exceed: the best of a few tries of some
// milliseconds.
double dense_peak(struct team *team, enum dense_precision precision);

#endif
