// SPDX-License-Identifier: Apache-2.0
// ops_vulkan_internal.h - what the files of the Vulkan backend share.

#ifndef RECO_SHADERS_OPS_OPS_VULKAN_INTERNAL_H
#define RECO_SHADERS_OPS_OPS_VULKAN_INTERNAL_H

#include "shaders/gpu/gpu.h"
#include "shaders/kernels/kernel_table.h"
#include "shaders/ops/ops_internal.h"

// A pipeline that has been made.
struct ops_vulkan_kept {
    enum kernel_id id;
    uint32_t constants[KERNEL_CONSTANTS_MAX];
    struct gpu_kernel *kernel;
};

struct vulkan_state {
    struct gpu *gpu;
    bool software;
    uint32_t ways; // bits of enum ops_way: those that are taken
    struct ops_verdict verdict;
    struct kernel_matrix matrix;    // 0 x 0 where the device has none, or none is wanted
    struct kernel_tile matrix_tile; // of OPS_WAY_PRODUCT_MATRIX
    bool half_weights;              // in every way
    struct ops_vulkan_kept *kept;
    size_t kept_count;
    struct gpu_buffer *bad_row; // uint32_t: the first row that had no length, or NO_BAD_ROW
    bool bad_row_pending;       // it was written since it was last read
    struct gpu_buffer *lists;   // of exact search, or NULL
    size_t lists_count;         // elements
};

// The pipeline of a kernel with these constants, which is made when it is not there yet.
enum status ops_vulkan_kernel(struct vulkan_state *state, enum kernel_id id,
                              const uint32_t *constants, const struct gpu_kernel **out,
                              struct reason *why) MUST_CHECK;

// A view, and the beginning of a buffer, as kernels see them.
struct gpu_view ops_vulkan_bound(const struct ops_view *view);
struct gpu_view ops_vulkan_whole(const struct gpu_buffer *buffer, size_t count);

// Rows that one binding has room for, as many as parts that begin where a view may begin have.
size_t ops_vulkan_rows(const struct vulkan_state *state, size_t row_bytes);

// At most `most` rows of a view, from `first` on, a multiple of OPS_VIEW_ALIGN.
struct ops_view ops_vulkan_part(const struct ops_view *view, size_t first, size_t most);

enum status ops_vulkan_score_topk(void *opaque, const struct ops_score_topk *args,
                                  struct reason *why) MUST_CHECK;

#endif
