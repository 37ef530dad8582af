// SPDX-License-Identifier: Apache-2.0
// dense_internal.h - the two kinds of products: our own loop, and oneDNN's.
//
// Thread-safety: a product may run on all workers at once; each worker passes its
// own number.

#ifndef RECO_SHADERS_CPU_DENSE_INTERNAL_H
#define RECO_SHADERS_CPU_DENSE_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/status.h"
#include "shaders/cpu/dense.h"

// What a kind provides; dense.c has checked sizes and pointers.
struct dense_kind {
    enum status (*open)(struct team *team, void **state);
    void (*close)(void *state);
    enum status (*prepare)(void *state, const struct dense_params *params, void **matrix);
    bool takes_rows; // otherwise prepare() has params->weights always
    void (*free)(void *state, void *matrix);
    enum status (*run)(void *state, void *matrix, const float *source, size_t rows,
                       float *target); // rows >= 1
};

extern const struct dense_kind dense_panels_kind;      // where dense_fma_best() is there
extern const struct dense_kind dense_panels_avx2_kind; // likewise, with AVX2's registers: for tests
extern const struct dense_kind
    dense_panels_bf16_kind; // where cpu_has_bf16(), otherwise it does not open
extern const struct dense_kind dense_tiles_kind;

// Opens with that kind instead of the best for this CPU: for tests.
enum status dense_open_kind(const struct dense_kind *kind, struct team *team, struct dense **out,
                            struct reason *why) MUST_CHECK;

// --- one shape of product in oneDNN, whose interface differs by version (dense_dnnl.c)

struct dense_engine;  // oneDNN's engine and one stream for each worker
struct dense_product; // one shape, ready to run
struct dense_block;   // the weights of one block of columns in a product's layout

struct dense_shape {
    uint32_t rows;    // of a tile
    uint32_t depth;   // floats in a row of the source
    uint32_t columns; // of the block
    uint32_t stride;  // floats from one row of the target to the next
    enum dense_epilogue epilogue;
    bool has_bias;
};

enum status dense_engine_create(uint32_t workers, struct dense_engine **out) MUST_CHECK;
void dense_engine_destroy(struct dense_engine **engine);

enum status dense_product_create(struct dense_engine *engine, const struct dense_shape *shape,
                                 struct dense_product **out) MUST_CHECK;
void dense_product_destroy(struct dense_product **product);

// weights: [columns][depth], bias: [columns] or NULL; both are copied.
enum status dense_block_create(struct dense_engine *engine, const struct dense_product *product,
                               const float *weights, const float *bias,
                               struct dense_block **out) MUST_CHECK;
void dense_block_destroy(struct dense_block **block);

// One tile. False when oneDNN fails. source: [rows][depth]; target: [rows][stride].
bool dense_product_run(struct dense_engine *engine, struct dense_product *product,
                       const struct dense_block *block, const float *source, float *target,
                       uint32_t worker);

// Keeps oneDNN from starting threads of its own in the calling thread.
void dense_engine_enter(void);

#endif
