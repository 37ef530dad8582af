// SPDX-License-Identifier: Apache-2.0
// ops_internal.h - the operator table: what a backend provides.
//
// ops.c has checked every shape when it calls an entry, so a backend only computes.
// The meaning of each operation is in ops.h. A new backend is one file ops_NAME.c
// with such a table, one line in ops_open(), and must pass tests/unit/test_ops.c.

#ifndef RECO_SHADERS_OPS_OPS_INTERNAL_H
#define RECO_SHADERS_OPS_OPS_INTERNAL_H

#include "shaders/ops/ops.h"

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
    enum status (*embed_patches)(void *state, const struct ops_embed_patches *args,
                                 struct reason *why);
    enum status (*gather)(void *state, const struct ops_gather *args, struct reason *why);
    enum status (*normalise)(void *state, const struct ops_view *rows, struct reason *why);

    // Both may be NULL. `wait` returns when all operations so far have ended; NULL: they run at once.
    enum status (*wait)(void *state, struct reason *why);
    double (*peak)(void *state); // see ops_peak()
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
bool ops_profile_is_on(const struct ops_profile *profile); // NULL is off
void ops_profile_add(struct ops_profile *profile, const struct ops_work *work, double seconds);
double ops_profile_now(void); // seconds

struct ops_buffer {
    void *memory; // the backend's
    size_t count; // elements
};

struct ops {
    const struct ops_backend *backend;
    void *state;                 // the backend's
    struct ops_profile *profile; // NULL until one was asked for
};

struct ops_matrix {
    void *prepared; // the backend's
    uint32_t columns;
    uint32_t depth;
    enum ops_epilogue epilogue;
};

extern const struct ops_backend ops_cpu_backend;
extern const struct ops_backend ops_vulkan_backend;

#endif
