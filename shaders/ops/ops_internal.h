// SPDX-License-Identifier: Apache-2.0
// ops_internal.h - the operator table: what a backend provides.
//
// ops.c has checked every shape when it calls an entry, so a backend only computes.
// The meaning of each operation is in ops.h. A new backend is one file ops_NAME.c
// with such a table, one line in ops_open(), and must pass tests/unit/test_ops.c.

#ifndef RECO_SHADERS_OPS_OPS_INTERNAL_H
#define RECO_SHADERS_OPS_OPS_INTERNAL_H

#include "shaders/ops/ops.h"

#define OPS_BATCH_ROWS 1024u // that keep a CPU busy, and its software devices

struct ops_backend {
    const char *name;
    uint32_t row_tile; // rows of buffers of products are padded to it

    enum status (*open)(const char *device, uint32_t threads, void **state, struct reason *why);
    void (*close)(void *state);

    enum status (*alloc)(void *state, size_t count, void **memory, struct reason *why);
    void (*free)(void *state, void *memory);
    enum status (*upload)(void *state, void *memory, size_t offset, const void *data, size_t count,
                          struct reason *why);
    enum status (*download)(void *state, const void *memory, size_t offset, void *data,
                            size_t count, struct reason *why);
    // May be NULL, then downloads and operations are not put off. See ops_fetch(), ops_finish().
    enum status (*fetch)(void *state, const void *memory, size_t offset, void *data, size_t count,
                         struct reason *why);
    enum status (*finish)(void *state, struct reason *why);

    bool takes_rows; // otherwise matrix_create() has params->weights always
    enum status (*matrix_create)(void *state, const struct ops_matrix_params *params, void **out,
                                 struct reason *why);
    void (*matrix_destroy)(void *state, void *matrix);

    enum status (*product)(void *state, const void *matrix, const struct ops_view *source,
                           const struct ops_view *target, struct reason *why);
    enum status (*layernorm)(void *state, const struct ops_layernorm *args, struct reason *why);
    enum status (*attention)(void *state, const struct ops_attention *args, struct reason *why);
    enum status (*embed_tokens)(void *state, const struct ops_embed_tokens *args,
                                struct reason *why);
    enum status (*patchify)(void *state, const struct ops_patchify *args, struct reason *why);
    enum status (*patchify_normalise)(void *state, const struct ops_patchify_normalise *args,
                                      struct reason *why);
    enum status (*embed_patches)(void *state, const struct ops_embed_patches *args,
                                 struct reason *why);
    enum status (*gather)(void *state, const struct ops_gather *args, struct reason *why);
    enum status (*score_topk)(void *state, const struct ops_score_topk *args, struct reason *why);
    enum status (*normalise)(void *state, const struct ops_view *rows, struct reason *why);

    // See ops_batch_rows(). NULL: OPS_BATCH_ROWS.
    size_t (*batch_rows)(const void *state, size_t columns);

    // May be NULL. `wait` returns when all operations so far have ended; NULL: they run at once.
    enum status (*wait)(void *state, struct reason *why);
    double (*peak)(void *state); // see ops_peak()

    // May be NULL. Begins, or ends, to measure on the device's own clock; false when it has none.
    bool (*clock)(void *state, bool on);
    double (*clock_take)(void *state); // seconds of what was waited for since the last call
};

// What an operation is and does, for the profile.
struct ops_work {
    const char *kind;
    size_t columns;
    size_t depth;        // 0: no such
    const char *variant; // "" or what follows a comma
    size_t rows;
    double operations;
    double bytes;
};

struct ops_profile; // counts, ops_profile.c
void ops_profile_destroy(struct ops_profile **profile);
bool ops_profile_is_on(const struct ops_profile *profile);        // NULL is off
bool ops_profile_is_counting(const struct ops_profile *profile);  // it is on, and nothing is done
bool ops_profile_is_of_device(const struct ops_profile *profile); // it is on, by the device's clock
void ops_profile_add(struct ops_profile *profile, const struct ops_work *work, double seconds);
double ops_profile_now(void); // seconds

#define OPS_HEAD_WORDS 2u // for a bit for each dimension of heads that a GPU can do

// What is known of a device.
struct ops_verdict {
    uint32_t possible;              // bits of enum ops_way: those that the device has room for
    uint32_t right;                 // those that gave what the CPU gives, and OPS_SEARCH
    uint32_t wrong;                 // those that did not, and are not used
    uint64_t heads[OPS_HEAD_WORDS]; // dimension d of heads: bit d - 1, whose attention was tried
};

struct ops_buffer {
    void *memory; // the backend's
    size_t count; // elements
};

struct ops {
    const struct ops_backend *backend;
    void *state;                 // the backend's
    struct ops_profile *profile; // NULL until one was asked for
    struct ops_verdict
        *verdict; // the state's; NULL on the CPU, which is what others are compared with
};

struct ops_matrix {
    void *prepared; // the backend's
    uint32_t columns;
    uint32_t depth;
    enum ops_epilogue epilogue;
};

// --- ops_vulkan.c

// What a Vulkan device may do in more than one way. All but those by cooperative matrices give the
// same bits where the device computes rightly; those are taken alone where they are right. The
// first of an operation is the way out, used only when no other is right.
enum ops_way {
    OPS_WAY_PRODUCT_DIRECT, // the tiles of kernel_table.h
    OPS_WAY_PRODUCT_FEW,
    OPS_WAY_PRODUCT_32,
    OPS_WAY_PRODUCT_64,
    OPS_WAY_PRODUCT_128,
    OPS_WAY_PRODUCT_MATRIX, // by cooperative matrices, in half precision with single sums
    OPS_WAY_ATTENTION,
    OPS_WAY_ATTENTION_STAGED, // keys and values in shared memory
    OPS_WAY_ATTENTION_MATRIX, // as OPS_WAY_PRODUCT_MATRIX
    OPS_WAY_COUNT,
};
#define OPS_WAYS_PRODUCT ((1u << OPS_WAY_ATTENTION) - 1)
#define OPS_WAYS_ATTENTION ((1u << OPS_WAY_COUNT) - 1 - OPS_WAYS_PRODUCT)
#define OPS_WAYS_MATRIX (1u << OPS_WAY_PRODUCT_MATRIX | 1u << OPS_WAY_ATTENTION_MATRIX)
// No way, but among the possible ones it says that all products have weights in half precision.
#define OPS_HALF_WEIGHTS (1u << 31)
// No way either: exact search was tried and is right, or is being tried.
#define OPS_SEARCH (1u << 30)

// From now on only these are taken, at least one of products and one of attention.
void ops_vulkan_use(void *state, uint32_t ways);

// What is known of the device, from an earlier run too: it lives in the state.
struct ops_verdict *ops_vulkan_verdict(void *state);

// Keeps the verdict, and what the driver compiled, for a later run.
void ops_vulkan_keep(void *state);

// --- ops_cache.c

// Fills in what an earlier run knew of the device, if the same was possible; else nothing.
struct gpu;
void ops_cache_open(struct gpu *gpu, uint32_t possible, struct ops_verdict *verdict);
void ops_cache_save(struct gpu *gpu, const struct ops_verdict *verdict);

// --- ops_canary.c

// Tries all operations but attention and exact search on the device and on the CPU, each way alone,
// and lets the device use those that are right. STATUS_UNAVAILABLE naming an operation that is
// wrong in all.
enum status ops_canary(struct ops *device, struct reason *why) MUST_CHECK;

// The same of attention with heads of this dimension.
enum status ops_canary_attention(struct ops *device, uint32_t dimension,
                                 struct reason *why) MUST_CHECK;

// The same of exact search. What is wrong is not used at this time, and tried again at the next.
enum status ops_canary_search(struct ops *device, struct reason *why) MUST_CHECK;

// The ways to take.
uint32_t ops_verdict_ways(const struct ops_verdict *verdict);

extern const struct ops_backend ops_cpu_backend;
extern const struct ops_backend ops_cpu_bf16_backend; // products by pairs of bfloat16
extern const struct ops_backend ops_vulkan_backend;

#endif
