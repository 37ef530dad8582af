// SPDX-License-Identifier: Apache-2.0
// ops.h - the operations that models are made of, on whatever device is there.
//
// A model prepares its weights once, allocates buffers once, then uploads a batch,
// calls operations in order and downloads the result. Buffers belong to the device.
// Operations take effect in the order of the calls; a backend may put them off until
// ops_download() or ops_finish(), which wait. So a batch that is fetched is computed while the next
// one is uploaded.
//
// Promise: a row's result depends on its own sequence only, to the last bit; not on
// the batch around it, its place in it, or the number of threads. One device gives
// the same bits every time; two devices agree within rounding.
//
// Sizes that do not fit together are bugs of the model and asserted here, once for
// all backends; models check what they read from files before.
//
// An operation, a download or ops_finish() fails with STATUS_UNAVAILABLE or STATUS_NO_MEMORY when a
// device is lost or cannot go on; all work before the last download may be gone then, and every
// later operation fails too. The CPU does not know such failures.
//
// Thread-safety: none. One thread at a time uses an ops and what it made.

#ifndef RECO_SHADERS_OPS_OPS_H
#define RECO_SHADERS_OPS_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/reason.h"
#include "proto/base/status.h"

#define OPS_SIZE_MAX 65536u // columns and depth of a matrix
#define OPS_TOPK_MAX 64u    // neighbours of a query
#define OPS_VIEW_ALIGN 64u  // elements; every view begins at a multiple
#define OPS_DROPPED_BYTES 512

struct ops;
struct ops_buffer; // memory of the device, of 4-byte elements
struct ops_matrix; // weights and bias prepared for products

// Rows of floats (or of uint32_t where an operation says so) that lie one after the
// other in a buffer, from its element `offset` on.
struct ops_view {
    struct ops_buffer *buffer;
    size_t offset;
    size_t rows;
    size_t columns;
};

enum ops_epilogue {
    OPS_PLAIN,      // target = x
    OPS_QUICK_GELU, // target = x / (1 + e^(-1.702 x))
    OPS_GELU,       // target = x / 2 * (1 + erf(x / sqrt(2)))
    OPS_ADD,        // target = target + x
};

// Writes the numbers `at` .. `at + depth - 1` of the rows `first` .. `first + count - 1` of a
// matrix' weights to `target`, [count][depth]. Several threads call it at once.
typedef enum status (*ops_rows)(void *context, uint32_t first, uint32_t count, uint32_t at,
                                uint32_t depth, float *target);

struct ops_matrix_params {
    const float *weights; // [columns][depth], of the host; only read during the call. NULL:
                          // `rows` gives them, with `context`, so that nobody needs room for all
    const float *bias;    // [columns], or NULL
    uint32_t columns;     // 1..OPS_SIZE_MAX
    uint32_t depth;       // 1..OPS_SIZE_MAX
    enum ops_epilogue epilogue;
    ops_rows rows;
    void *context;
    bool late; // `rows` may be called by the first products instead, as long as the matrix lives
};

struct ops_layernorm {
    struct ops_view source;
    struct ops_view gain; // one row
    struct ops_view bias; // one row
    float epsilon;
    struct ops_view target; // may be the source
};

struct ops_attention {
    struct ops_view source; // rows of queries, keys and values: 3 * width columns
    struct ops_view starts; // uint32_t, one row of sequences + 1: where each begins, and the end
    uint32_t heads;
    uint32_t longest; // rows of the longest sequence
    bool causal;      // a row sees itself and the rows before it only
    struct ops_view target;
};

struct ops_embed_tokens {
    struct ops_view table;     // [vocabulary][width]
    struct ops_view positions; // [context][width]
    struct ops_view ids;       // uint32_t, one row: the table's row
    struct ops_view places;    // uint32_t, one row: the position's row
    struct ops_view target;
};

struct ops_patchify {
    struct ops_view pixels; // [images * 3 * size][size]
    uint32_t patch;         // the target's columns are 3 * patch * patch
    struct ops_view target; // [images * (size / patch)^2][...], patches from left to right by rows
};

#define OPS_PICTURE_WORDS(size) (((size_t)3 * (size) * (size) + 3) / 4)

// The same from bytes: scaling and normalising are a table.
struct ops_patchify_normalise {
    // [images][OPS_PICTURE_WORDS(size)], four bytes in an element, the first the lowest:
    // [size][size][3], red first
    struct ops_view pixels;
    struct ops_view table; // [3][256]: what each byte of a channel stands for
    uint32_t size;
    uint32_t patch;
    struct ops_view target;
};

struct ops_embed_patches {
    struct ops_view patches;   // [images * grid][width]
    struct ops_view first;     // one row: what every image begins with, the class token
    struct ops_view positions; // [grid + 1][width]
    struct ops_view target;    // [images * (grid + 1)][width]
};

struct ops_gather {
    struct ops_view source;
    struct ops_view rows;   // uint32_t, one row: which rows of the source
    struct ops_view target; // as many rows
};

struct ops_score_topk {
    struct ops_view queries; // one in each row
    struct ops_view rows;    // uint32_t: two halves in each, so the queries have twice the columns
    struct ops_view ids;     // uint32_t, target: the 1..OPS_TOPK_MAX best rows of each query
    struct ops_view scores;  // target: theirs
};

// Opens a device. "auto" and "cpu" are the CPU with `threads` threads, 0 for as many as this
// process may use; "cpu-bf16" the same, with weights and sources of products rounded to bfloat16; a
// UUID is the Vulkan device that has it, if every operation gives there what it gives on the CPU.
// STATUS_INVALID for another word, STATUS_NOT_FOUND, STATUS_UNAVAILABLE or STATUS_UNSUPPORTED for a
// device that cannot be used here.
enum status ops_open(const char *device, uint32_t threads, struct ops **out,
                     struct reason *why) MUST_CHECK;

// Frees *ops, whose buffers and matrices must be gone, and sets it to NULL. NULL is allowed.
void ops_close(struct ops **ops);

const char *ops_name(const struct ops *ops); // "cpu", "cpu-bf16", "vulkan"
bool ops_is_reduced(
    const struct ops *ops); // whether the caller asked for less than single precision
bool ops_reads_late(const struct ops *ops); // whether ops_matrix_params.late makes a difference

// What this device could do but is not used for, since it does it wrongly; "" for nothing.
void ops_dropped(const struct ops *ops, char text[OPS_DROPPED_BYTES]);

// Buffers that products read or write need room for this many rows, a multiple of the
// device's tile: the rows behind the live ones are read and written and mean nothing.
size_t ops_rows_padded(const struct ops *ops, size_t rows);

// How many rows of at most `columns` columns are worth a batch of their own: as many as keep the
// device busy, at least one, and no more than it can see of one buffer.
size_t ops_batch_rows(const struct ops *ops, size_t columns);

// `count` elements, all zero. STATUS_NO_MEMORY.
enum status ops_alloc(struct ops *ops, size_t count, struct ops_buffer **out,
                      struct reason *why) MUST_CHECK;
void ops_free(struct ops *ops, struct ops_buffer **buffer); // NULL is allowed

// Copies `count` elements of 4 bytes to and from the element `offset`.
enum status ops_upload(struct ops *ops, struct ops_buffer *buffer, size_t offset, const void *data,
                       size_t count, struct reason *why) MUST_CHECK;
enum status ops_download(struct ops *ops, const struct ops_buffer *buffer, size_t offset,
                         void *data, size_t count, struct reason *why) MUST_CHECK;

// As ops_download(), but put off where the device works on its own: `data` is written at some time
// until the end of the next ops_finish() or ops_download(), and must stay until then, also after a
// failure.
enum status ops_fetch(struct ops *ops, const struct ops_buffer *buffer, size_t offset, void *data,
                      size_t count, struct reason *why) MUST_CHECK;
enum status ops_finish(struct ops *ops, struct reason *why) MUST_CHECK;

// Prepares weights for products. STATUS_INVALID for a size out of range, STATUS_NO_MEMORY, what
// `rows` returned.
enum status ops_matrix_create(struct ops *ops, const struct ops_matrix_params *params,
                              struct ops_matrix **out, struct reason *why) MUST_CHECK;
void ops_matrix_destroy(struct ops *ops, struct ops_matrix **matrix); // NULL is allowed
uint32_t ops_matrix_columns(const struct ops_matrix *matrix);

// target = epilogue(source * weights^T + bias). Source and target must not overlap. Of late weights
// also what `rows` returned.
enum status ops_product(struct ops *ops, const struct ops_matrix *matrix, struct ops_view source,
                        struct ops_view target, struct reason *why) MUST_CHECK;

enum status ops_layernorm(struct ops *ops, const struct ops_layernorm *args,
                          struct reason *why) MUST_CHECK;

// Compares attention with heads of this dimension with the CPU's, where it has not been; models ask
// for it when they are opened, so that the first batch does not wait. STATUS_UNAVAILABLE when it is
// wrong, STATUS_UNSUPPORTED when the device has no kernel for it.
enum status ops_prepare_attention(struct ops *ops, uint32_t dimension,
                                  struct reason *why) MUST_CHECK;
enum status ops_attention(struct ops *ops, const struct ops_attention *args,
                          struct reason *why) MUST_CHECK;
enum status ops_embed_tokens(struct ops *ops, const struct ops_embed_tokens *args,
                             struct reason *why) MUST_CHECK;
enum status ops_patchify(struct ops *ops, const struct ops_patchify *args,
                         struct reason *why) MUST_CHECK;
enum status ops_patchify_normalise(struct ops *ops, const struct ops_patchify_normalise *args,
                                   struct reason *why) MUST_CHECK;
enum status ops_embed_patches(struct ops *ops, const struct ops_embed_patches *args,
                              struct reason *why) MUST_CHECK;
enum status ops_gather(struct ops *ops, const struct ops_gather *args,
                       struct reason *why) MUST_CHECK;

// Exact search: the rows with the greatest inner products with each query, best first; of equal
// scores the lower row is ahead, and one that is not a number is behind all others. Where there are
// fewer rows, ids are UINT32_MAX and scores 0. The queries' columns are a multiple of 4.
// STATUS_UNAVAILABLE, at the first search of a device, when it gives there what the CPU does not.
enum status ops_score_topk(struct ops *ops, const struct ops_score_topk *args,
                           struct reason *why) MUST_CHECK;

// Scales every row to unit length in place. STATUS_INTERNAL when a row is not finite or zero,
// from here or from the next ops_download() or ops_finish().
enum status ops_normalise(struct ops *ops, struct ops_view rows, struct reason *why) MUST_CHECK;

#endif
