// SPDX-License-Identifier: Apache-2.0
// The operator table on a GPU: operations are recorded, and run at the latest when something is
// downloaded.
//
// A kernel with other constants is another pipeline, so pipelines are kept by both. Those of
// products are made when a matrix is, for every way to cut a product that the device can do; which
// way is taken is decided by the batch. All ways sum in the same order, so a row's bits do not
// tell; but cooperative matrices do not, so where they are right nothing else multiplies.

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/mem.h"
#include "shaders/kernels/kernel_pack.h"
#include "shaders/ops/ops_vulkan_internal.h"

#define NO_BAD_ROW UINT32_MAX
#define THREADS_SOFTWARE 8 // of the kernels that work row by row: one vector of a CPU
#define THREADS 128
#define FEW_ROWS 16      // below, a tile of rows would be mostly empty
#define GROUPS_ENOUGH 96 // workgroups that keep a large GPU busy
#define BATCH_ROWS                                                                                 \
    8192 // 384 tiles of 128 x 128 in a product of 768 columns: three for each multiprocessor of a large GPU

_Static_assert(OPS_VIEW_ALIGN * 4 == GPU_ALIGNMENT, "every view can be bound to a kernel");
_Static_assert(KERNEL_CONSTANTS_MAX <= GPU_CONSTANTS_MAX, "constants fit");
_Static_assert(KERNEL_HEAD_MAX == 64 * OPS_HEAD_WORDS, "every dimension of heads has a bit");
_Static_assert((int)OPS_WAY_PRODUCT_128 == (int)KERNEL_TILE_128, "a tile is a way with its number");
_Static_assert((int)OPS_PLAIN == (int)KERNEL_PLAIN && (int)OPS_ADD == (int)KERNEL_ADD &&
                   (int)OPS_GELU == (int)KERNEL_GELU &&
                   (int)OPS_QUICK_GELU == (int)KERNEL_QUICK_GELU,
               "an epilogue has the kernel's number");

struct vulkan_matrix {
    struct gpu_buffer *weights;
    struct gpu_buffer *bias;
    uint32_t columns;
    uint32_t depth;
    enum ops_epilogue epilogue;
    bool is_half; // the weights
};

// --- life

static void vulkan_close(void *opaque)
{
    struct vulkan_state *state = opaque;
    if (state->gpu) {
        for (size_t i = 0; i < state->kept_count; i++)
            gpu_kernel_destroy(state->gpu, &state->kept[i].kernel);
        gpu_free(state->gpu, &state->bad_row);
        gpu_free(state->gpu, &state->lists);
        gpu_close(&state->gpu);
    }
    mem_free(state->kept);
    mem_free(state);
}

enum status ops_vulkan_kernel(struct vulkan_state *state, enum kernel_id id,
                              const uint32_t *constants, const struct gpu_kernel **out,
                              struct reason *why)
{
    const struct kernel_entry *entry = kernel_table_entry(id);
    size_t bytes = entry->constants * sizeof(constants[0]);
    for (size_t i = 0; i < state->kept_count; i++) {
        const struct ops_vulkan_kept *kept = &state->kept[i];
        if (kept->id == id && memcmp(kept->constants, constants, bytes) == 0) {
            *out = kept->kernel;
            return STATUS_OK;
        }
    }
    struct gpu_kernel_params params = {
        .name = entry->name,
        .words = entry->words,
        .word_count = entry->bytes / sizeof(entry->words[0]),
        .bindings = entry->bindings,
        .push_bytes = entry->args_bytes,
        .constant_count = entry->constants,
    };
    struct ops_vulkan_kept made = {.id = id};
    memcpy(params.constants, constants, bytes);
    memcpy(made.constants, constants, bytes);
    enum status status = gpu_kernel_create(state->gpu, &params, &made.kernel, why);
    if (status != STATUS_OK)
        return status;
    state->kept = mem_grow(state->kept, state->kept_count + 1, sizeof(state->kept[0]));
    state->kept[state->kept_count++] = made;
    *out = made.kernel;
    return STATUS_OK;
}

// The one constant of the kernels that work row by row.
static uint32_t row_threads(const struct vulkan_state *state)
{
    return state->software ? THREADS_SOFTWARE : THREADS;
}

static enum status make_row_kernels(struct vulkan_state *state, struct reason *why)
{
    static const enum kernel_id ids[] = {
        KERNEL_LAYERNORM,     KERNEL_EMBED_TOKENS, KERNEL_PATCHIFY, KERNEL_PATCHIFY_NORMALISE,
        KERNEL_EMBED_PATCHES, KERNEL_GATHER,       KERNEL_NORMALISE};
    const struct gpu_kernel *kernel = NULL;
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        const uint32_t constants[KERNEL_CONSTANTS_MAX] = {row_threads(state)};
        enum status status = ops_vulkan_kernel(state, ids[i], constants, &kernel, why);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

// RECO_GPU=single keeps everything in single precision; RECO_GPU=half keeps the weights of products
// in half precision also where they are not multiplied by cooperative matrices.
static enum status choose_precision(struct vulkan_state *state, struct reason *why)
{
    const struct gpu_device *device = gpu_device(state->gpu);
    // NOLINTNEXTLINE(concurrency-mt-unsafe): nobody here changes the environment
    const char *wish = getenv("RECO_GPU");
    bool is_single = wish && strcmp(wish, "single") == 0;
    state->half_weights = wish && strcmp(wish, "half") == 0;
    if (wish && wish[0] != '\0' && !is_single && !state->half_weights)
        return reason_set(why, STATUS_INVALID, "RECO_GPU", "'%s': possible are single and half",
                          wish);
    if (is_single)
        return STATUS_OK;
    state->matrix = (struct kernel_matrix){
        .m = device->matrix_m,
        .n = device->matrix_n,
        .k = device->matrix_k,
        .subgroup = device->subgroup,
        .shared_bytes_max = device->shared_bytes_max,
        .threads_max = device->invocations_max,
    };
    if (!kernel_table_matrix(&state->matrix, &state->matrix_tile))
        state->matrix_tile.rows = 0;
    return STATUS_OK;
}

// Bits of the ways that the device has room for.
static uint32_t possible_ways(const struct vulkan_state *state)
{
    const struct gpu_device *device = gpu_device(state->gpu);
    uint32_t constants[KERNEL_CONSTANTS_MAX];
    uint32_t ways = 1u << OPS_WAY_ATTENTION;
    if (state->half_weights)
        ways |= OPS_HALF_WEIGHTS;
    if (state->matrix_tile.rows > 0)
        ways |= 1u << OPS_WAY_PRODUCT_MATRIX;
    if (kernel_table_attention_matrix(&state->matrix, 1, constants))
        ways |= 1u << OPS_WAY_ATTENTION_MATRIX;
    if (state->software)
        return ways | 1u << OPS_WAY_PRODUCT_DIRECT;
    ways |= 1u << OPS_WAY_ATTENTION_STAGED;
    for (int id = 0; id < KERNEL_TILE_COUNT; id++) {
        const struct kernel_tile *tile = kernel_table_tile((enum kernel_tile_id)id);
        if (tile->threads <= device->invocations_max &&
            tile->shared_bytes <= device->shared_bytes_max &&
            kernel_table_entry(tile->f32)->words != NULL)
            ways |= 1u << id;
    }
    return ways;
}

static enum status vulkan_open(const char *device, uint32_t threads, void **out, struct reason *why)
{
    (void)threads;
    if (!kernel_table_is_built())
        return reason_set(why, STATUS_UNSUPPORTED, "device",
                          "'%s': this build has no kernels for GPUs, for it was made without a "
                          "GLSL compiler; possible are auto and cpu",
                          device);

    struct vulkan_state *state = mem_alloc(sizeof(*state));
    enum status status = gpu_open(device, &state->gpu, why);
    if (status == STATUS_OK)
        status = choose_precision(state, why);
    if (status == STATUS_OK) {
        state->software = gpu_device(state->gpu)->kind == GPU_SOFTWARE;
        ops_cache_open(state->gpu, possible_ways(state), &state->verdict);
        state->ways = ops_verdict_ways(&state->verdict);
        status = gpu_alloc(state->gpu, sizeof(uint32_t), &state->bad_row, why);
    }
    if (status == STATUS_OK)
        status = make_row_kernels(state, why);
    if (status != STATUS_OK) {
        vulkan_close(state);
        return status;
    }
    *out = state;
    return STATUS_OK;
}

// --- ways

void ops_vulkan_use(void *opaque, uint32_t ways)
{
    struct vulkan_state *state = opaque;
    state->ways = ways;
}

struct ops_verdict *ops_vulkan_verdict(void *opaque)
{
    struct vulkan_state *state = opaque;
    return &state->verdict;
}

void ops_vulkan_keep(void *opaque)
{
    struct vulkan_state *state = opaque;
    ops_cache_save(state->gpu, &state->verdict);
}

static size_t vulkan_batch_rows(const void *opaque, size_t columns)
{
    const struct vulkan_state *state = opaque;
    size_t most = ops_vulkan_rows(state, columns * sizeof(float));
    size_t rows = state->software ? OPS_BATCH_ROWS : BATCH_ROWS;
    rows = rows < most ? rows : most;
    return rows > 0 ? rows : 1;
}

static bool is_used(const struct vulkan_state *state, int way)
{
    return (state->ways & 1u << way) != 0;
}

// --- memory

static enum status vulkan_alloc(void *opaque, size_t count, void **memory, struct reason *why)
{
    struct vulkan_state *state = opaque;
    size_t bytes;
    struct gpu_buffer *buffer = NULL;
    if (!mem_multiply(count, 4, &bytes))
        return reason_set(why, STATUS_NO_MEMORY, "", "no memory for %zu numbers", count);
    enum status status = gpu_alloc(state->gpu, bytes, &buffer, why);
    if (status == STATUS_OK)
        *memory = buffer;
    return status;
}

static void vulkan_free(void *opaque, void *memory)
{
    struct vulkan_state *state = opaque;
    struct gpu_buffer *buffer = memory;
    gpu_free(state->gpu, &buffer);
}

static enum status vulkan_upload(void *opaque, void *memory, size_t offset, const void *data,
                                 size_t count, struct reason *why)
{
    struct vulkan_state *state = opaque;
    return gpu_upload(state->gpu, memory, (uint64_t)offset * 4, data, (uint64_t)count * 4, why);
}

static enum status check_rows(struct vulkan_state *state, struct reason *why)
{
    if (!state->bad_row_pending)
        return STATUS_OK;
    uint32_t bad = NO_BAD_ROW;
    enum status status = gpu_download(state->gpu, state->bad_row, 0, &bad, sizeof(bad), why);
    if (status != STATUS_OK)
        return status;
    state->bad_row_pending = false;
    if (bad != NO_BAD_ROW)
        return reason_set(why, STATUS_INTERNAL, "",
                          "embedding %u of the batch is zero or not finite", bad);
    return STATUS_OK;
}

static enum status vulkan_download(void *opaque, const void *memory, size_t offset, void *data,
                                   size_t count, struct reason *why)
{
    struct vulkan_state *state = opaque;
    enum status status = check_rows(state, why);
    if (status != STATUS_OK)
        return status;
    return gpu_download(state->gpu, memory, (uint64_t)offset * 4, data, (uint64_t)count * 4, why);
}

static enum status vulkan_fetch(void *opaque, const void *memory, size_t offset, void *data,
                                size_t count, struct reason *why)
{
    struct vulkan_state *state = opaque;
    return gpu_fetch(state->gpu, memory, (uint64_t)offset * 4, data, (uint64_t)count * 4, why);
}

static enum status vulkan_finish(void *opaque, struct reason *why)
{
    struct vulkan_state *state = opaque;
    return state->bad_row_pending ? check_rows(state, why) : gpu_finish(state->gpu, why);
}

// --- running kernels

struct gpu_view ops_vulkan_bound(const struct ops_view *view)
{
    return (struct gpu_view){
        .buffer = view->buffer->memory,
        .offset = (uint64_t)view->offset * 4,
        .bytes = (uint64_t)view->rows * view->columns * 4,
    };
}

size_t ops_vulkan_rows(const struct vulkan_state *state, size_t row_bytes)
{
    size_t rows = (size_t)(gpu_device(state->gpu)->binding_bytes_max / row_bytes);
    return rows / OPS_VIEW_ALIGN * OPS_VIEW_ALIGN;
}

struct ops_view ops_vulkan_part(const struct ops_view *view, size_t first, size_t most)
{
    struct ops_view part = *view;
    part.offset += first * view->columns;
    part.rows = view->rows - first < most ? view->rows - first : most;
    return part;
}

struct gpu_view ops_vulkan_whole(const struct gpu_buffer *buffer, size_t count)
{
    return (struct gpu_view){.buffer = buffer, .bytes = (uint64_t)count * 4};
}

// Runs a kernel that has a workgroup for each of `rows` rows; the rest of *dispatch is filled in.
static enum status run_rows(struct vulkan_state *state, enum kernel_id id, uint32_t rows,
                            struct gpu_dispatch *dispatch, struct reason *why)
{
    const uint32_t constants[KERNEL_CONSTANTS_MAX] = {row_threads(state)};
    enum status status = ops_vulkan_kernel(state, id, constants, &dispatch->kernel, why);
    if (status != STATUS_OK)
        return status;
    kernel_table_spread(rows, dispatch->groups);
    return gpu_dispatch(state->gpu, dispatch, why);
}

static uint32_t small(size_t value)
{
    assert(value <= UINT32_MAX);
    return (uint32_t)value;
}

// --- products

// The largest tile that leaves enough workgroups, or else the smallest of those that are used.
static const struct kernel_tile *tile_for(const struct vulkan_state *state,
                                          const struct gemm_args *args)
{
    if (is_used(state, OPS_WAY_PRODUCT_MATRIX))
        return &state->matrix_tile;
    const struct kernel_tile *best = NULL;
    int best_id = 0;
    for (int id = 0; id < KERNEL_TILE_COUNT; id++) {
        uint32_t groups[3];
        const struct kernel_tile *tile = kernel_table_tile((enum kernel_tile_id)id);
        if (!is_used(state, id))
            continue;
        if (best && args->rows < FEW_ROWS && best_id >= KERNEL_TILE_FEW)
            break;
        kernel_table_product_groups(tile, args, groups);
        if (!best || best_id <= KERNEL_TILE_FEW || groups[0] * groups[1] >= GROUPS_ENOUGH) {
            best = tile;
            best_id = id;
        }
    }
    assert(best);
    return best;
}

static enum status product_kernel(struct vulkan_state *state, const struct kernel_tile *tile,
                                  const struct vulkan_matrix *matrix, const struct gpu_kernel **out,
                                  struct reason *why)
{
    const struct gemm_args args = {.columns = matrix->columns, .depth = matrix->depth};
    uint32_t constants[KERNEL_CONSTANTS_MAX];
    kernel_table_product(tile, (enum kernel_epilogue)matrix->epilogue, &args, constants);
    return ops_vulkan_kernel(state, matrix->is_half ? tile->f16 : tile->f32, constants, out, why);
}

static enum status make_product_kernels(struct vulkan_state *state,
                                        const struct vulkan_matrix *matrix, struct reason *why)
{
    const struct gpu_kernel *kernel = NULL;
    if (is_used(state, OPS_WAY_PRODUCT_MATRIX))
        return product_kernel(state, &state->matrix_tile, matrix, &kernel, why);
    enum status status = STATUS_OK;
    for (int id = 0; id < KERNEL_TILE_COUNT && status == STATUS_OK; id++) {
        if (is_used(state, id))
            status = product_kernel(state, kernel_table_tile((enum kernel_tile_id)id), matrix,
                                    &kernel, why);
    }
    return status;
}

static void vulkan_matrix_destroy(void *opaque, void *prepared)
{
    struct vulkan_state *state = opaque;
    struct vulkan_matrix *matrix = prepared;
    gpu_free(state->gpu, &matrix->weights);
    gpu_free(state->gpu, &matrix->bias);
    mem_free(matrix);
}

// Packs weights and bias on the host, in memory that is given back at once.
static enum status upload_matrix(struct vulkan_state *state, const struct kernel_pack *pack,
                                 struct vulkan_matrix *matrix, struct reason *why)
{
    size_t weights = kernel_pack_weights_count(pack);
    size_t bias = kernel_pack_bias_count(pack);
    uint32_t *packed = mem_try_alloc_array(weights, sizeof(packed[0]));
    float *added = mem_try_alloc_array(bias, sizeof(added[0]));
    enum status status = STATUS_OK;
    if (!packed || !added)
        status = reason_set(why, STATUS_NO_MEMORY, "", "no memory for a matrix of %u x %u",
                            pack->columns, pack->depth);
    if (status == STATUS_OK)
        status = gpu_alloc(state->gpu, (uint64_t)weights * 4, &matrix->weights, why);
    if (status == STATUS_OK)
        status = gpu_alloc(state->gpu, (uint64_t)bias * 4, &matrix->bias, why);
    if (status == STATUS_OK) {
        kernel_pack_weights(pack, packed);
        kernel_pack_bias(pack, added);
        status = gpu_upload(state->gpu, matrix->weights, 0, packed, (uint64_t)weights * 4, why);
    }
    if (status == STATUS_OK)
        status = gpu_upload(state->gpu, matrix->bias, 0, added, (uint64_t)bias * 4, why);
    mem_free(packed);
    mem_free(added);
    return status;
}

static enum status vulkan_matrix_create(void *opaque, const struct ops_matrix_params *params,
                                        void **out, struct reason *why)
{
    struct vulkan_state *state = opaque;
    struct vulkan_matrix *matrix = mem_alloc(sizeof(*matrix));
    matrix->columns = params->columns;
    matrix->depth = params->depth;
    matrix->epilogue = params->epilogue;
    matrix->is_half = state->half_weights || is_used(state, OPS_WAY_PRODUCT_MATRIX);
    const struct kernel_pack pack = {
        .weights = params->weights,
        .bias = params->bias,
        .columns = params->columns,
        .depth = params->depth,
        .f16 = matrix->is_half,
    };
    enum status status = make_product_kernels(state, matrix, why);
    if (status == STATUS_OK)
        status = upload_matrix(state, &pack, matrix, why);
    if (status != STATUS_OK) {
        vulkan_matrix_destroy(state, matrix);
        return status;
    }
    *out = matrix;
    return STATUS_OK;
}

static enum status vulkan_product(void *opaque, const void *prepared, const struct ops_view *source,
                                  const struct ops_view *target, struct reason *why)
{
    struct vulkan_state *state = opaque;
    const struct vulkan_matrix *matrix = prepared;
    if (source->rows == 0)
        return STATUS_OK;
    const struct gemm_args args = {
        .rows = small(source->rows),
        .columns = matrix->columns,
        .depth = matrix->depth,
    };
    const struct kernel_pack pack = {
        .columns = matrix->columns,
        .depth = matrix->depth,
        .f16 = matrix->is_half,
    };
    struct gpu_dispatch dispatch = {
        .views = {ops_vulkan_bound(source),
                  ops_vulkan_whole(matrix->weights, kernel_pack_weights_count(&pack)),
                  ops_vulkan_whole(matrix->bias, kernel_pack_bias_count(&pack)),
                  ops_vulkan_bound(target)},
        .push = &args,
        .work = 2.0 * (double)args.rows * args.columns * args.depth,
    };
    const struct kernel_tile *tile = tile_for(state, &args);
    kernel_table_product_groups(tile, &args, dispatch.groups);
    enum status status = product_kernel(state, tile, matrix, &dispatch.kernel, why);
    if (status != STATUS_OK)
        return status;
    return gpu_dispatch(state->gpu, &dispatch, why);
}

// --- the rest

static enum status vulkan_layernorm(void *opaque, const struct ops_layernorm *args,
                                    struct reason *why)
{
    if (args->source.rows == 0)
        return STATUS_OK;
    const struct layernorm_args push = {
        .rows = small(args->source.rows),
        .width = small(args->source.columns),
        .epsilon = args->epsilon,
    };
    struct gpu_dispatch dispatch = {
        .views = {ops_vulkan_bound(&args->source), ops_vulkan_bound(&args->gain),
                  ops_vulkan_bound(&args->bias), ops_vulkan_bound(&args->target)},
        .push = &push,
        .work = 8.0 * (double)args->source.rows * (double)args->source.columns,
    };
    return run_rows(opaque, KERNEL_LAYERNORM, push.rows, &dispatch, why);
}

static enum status vulkan_attention(void *opaque, const struct ops_attention *args,
                                    struct reason *why)
{
    struct vulkan_state *state = opaque;
    uint32_t sequences = small(args->starts.columns - 1);
    uint32_t width = small(args->target.columns);
    uint32_t dimension = width / args->heads;
    if (args->source.rows == 0 || sequences == 0 || args->longest == 0)
        return STATUS_OK;

    const struct attention_args push = {
        .width = width,
        .dimension = dimension,
        .causal = args->causal,
        .scale = (float)(1.0 / sqrt((double)dimension)),
    };
    struct gpu_dispatch dispatch = {
        .views = {ops_vulkan_bound(&args->source), ops_vulkan_bound(&args->starts),
                  ops_vulkan_bound(&args->target)},
        .push = &push,
        .work = 4.0 * (double)args->source.rows * args->longest * width,
    };
    uint32_t constants[KERNEL_CONSTANTS_MAX];
    enum kernel_id id = KERNEL_ATTENTION_MATRIX;
    if (!is_used(state, OPS_WAY_ATTENTION_MATRIX) ||
        !kernel_table_attention_matrix(&state->matrix, dimension, constants)) {
        id = KERNEL_ATTENTION;
        kernel_table_attention(dimension, !is_used(state, OPS_WAY_ATTENTION_STAGED), constants);
    }
    kernel_table_attention_groups(constants, args->longest, args->heads, sequences,
                                  dispatch.groups);
    enum status status = ops_vulkan_kernel(state, id, constants, &dispatch.kernel, why);
    if (status != STATUS_OK)
        return status;
    return gpu_dispatch(state->gpu, &dispatch, why);
}

static enum status vulkan_embed_tokens(void *opaque, const struct ops_embed_tokens *args,
                                       struct reason *why)
{
    struct vulkan_state *state = opaque;
    if (args->target.rows == 0)
        return STATUS_OK;
    // L/14's table of tokens has 152 MB, and a binding may end at 128 MiB: then it comes in parts.
    size_t most = ops_vulkan_rows(state, args->table.columns * sizeof(float));
    for (size_t first = 0; first < args->table.rows; first += most) {
        struct ops_view table = ops_vulkan_part(&args->table, first, most);
        const struct embed_tokens_args push = {
            .rows = small(args->target.rows),
            .width = small(args->target.columns),
            .first = small(first),
            .count = small(table.rows),
        };
        struct gpu_dispatch dispatch = {
            .views = {ops_vulkan_bound(&table), ops_vulkan_bound(&args->positions),
                      ops_vulkan_bound(&args->ids), ops_vulkan_bound(&args->places),
                      ops_vulkan_bound(&args->target)},
            .push = &push,
            .work = (double)args->target.rows * (double)args->target.columns,
        };
        enum status status = run_rows(state, KERNEL_EMBED_TOKENS, push.rows, &dispatch, why);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

static enum status vulkan_patchify(void *opaque, const struct ops_patchify *args,
                                   struct reason *why)
{
    if (args->target.rows == 0)
        return STATUS_OK;
    const struct patchify_args push = {
        .rows = small(args->target.rows),
        .size = small(args->pixels.columns),
        .side = args->patch,
    };
    struct gpu_dispatch dispatch = {
        .views = {ops_vulkan_bound(&args->pixels), ops_vulkan_bound(&args->target)},
        .push = &push,
        .work = (double)args->target.rows * (double)args->target.columns,
    };
    return run_rows(opaque, KERNEL_PATCHIFY, push.rows, &dispatch, why);
}

static enum status vulkan_patchify_normalise(void *opaque,
                                             const struct ops_patchify_normalise *args,
                                             struct reason *why)
{
    if (args->target.rows == 0)
        return STATUS_OK;
    const struct patchify_args push = {
        .rows = small(args->target.rows),
        .size = args->size,
        .side = args->patch,
    };
    struct gpu_dispatch dispatch = {
        .views = {ops_vulkan_bound(&args->pixels), ops_vulkan_bound(&args->table),
                  ops_vulkan_bound(&args->target)},
        .push = &push,
        .work = (double)args->target.rows * (double)args->target.columns,
    };
    return run_rows(opaque, KERNEL_PATCHIFY_NORMALISE, push.rows, &dispatch, why);
}

static enum status vulkan_embed_patches(void *opaque, const struct ops_embed_patches *args,
                                        struct reason *why)
{
    if (args->target.rows == 0)
        return STATUS_OK;
    const struct embed_patches_args push = {
        .rows = small(args->target.rows),
        .grid = small(args->positions.rows - 1),
        .width = small(args->target.columns),
    };
    struct gpu_dispatch dispatch = {
        .views = {ops_vulkan_bound(&args->patches), ops_vulkan_bound(&args->first),
                  ops_vulkan_bound(&args->positions), ops_vulkan_bound(&args->target)},
        .push = &push,
        .work = (double)args->target.rows * (double)args->target.columns,
    };
    return run_rows(opaque, KERNEL_EMBED_PATCHES, push.rows, &dispatch, why);
}

static enum status vulkan_gather(void *opaque, const struct ops_gather *args, struct reason *why)
{
    if (args->target.rows == 0 || args->target.columns == 0)
        return STATUS_OK;
    const struct gather_args push = {
        .rows = small(args->target.rows),
        .width = small(args->target.columns),
    };
    struct gpu_dispatch dispatch = {
        .views = {ops_vulkan_bound(&args->source), ops_vulkan_bound(&args->rows),
                  ops_vulkan_bound(&args->target)},
        .push = &push,
    };
    return run_rows(opaque, KERNEL_GATHER, push.rows, &dispatch, why);
}

static enum status vulkan_normalise(void *opaque, const struct ops_view *rows, struct reason *why)
{
    struct vulkan_state *state = opaque;
    if (rows->rows == 0)
        return STATUS_OK;
    if (!state->bad_row_pending) {
        enum status status =
            gpu_fill(state->gpu, state->bad_row, 0, sizeof(uint32_t), NO_BAD_ROW, why);
        if (status != STATUS_OK)
            return status;
        state->bad_row_pending = true;
    }
    const struct normalise_args push = {
        .rows = small(rows->rows),
        .width = small(rows->columns),
    };
    struct gpu_dispatch dispatch = {
        .views = {ops_vulkan_bound(rows), ops_vulkan_whole(state->bad_row, 1)},
        .push = &push,
        .work = 3.0 * (double)rows->rows * (double)rows->columns,
    };
    return run_rows(state, KERNEL_NORMALISE, push.rows, &dispatch, why);
}

static enum status vulkan_wait(void *opaque, struct reason *why)
{
    struct vulkan_state *state = opaque;
    return gpu_finish(state->gpu, why);
}

static bool vulkan_clock(void *opaque, bool on)
{
    struct vulkan_state *state = opaque;
    return gpu_clock(state->gpu, on);
}

static double vulkan_clock_take(void *opaque)
{
    struct vulkan_state *state = opaque;
    return gpu_clock_take(state->gpu);
}

const struct ops_backend ops_vulkan_backend = {
    .name = "vulkan",
    .row_tile = 1,
    .open = vulkan_open,
    .close = vulkan_close,
    .alloc = vulkan_alloc,
    .free = vulkan_free,
    .upload = vulkan_upload,
    .download = vulkan_download,
    .fetch = vulkan_fetch,
    .finish = vulkan_finish,
    .matrix_create = vulkan_matrix_create,
    .matrix_destroy = vulkan_matrix_destroy,
    .product = vulkan_product,
    .layernorm = vulkan_layernorm,
    .attention = vulkan_attention,
    .embed_tokens = vulkan_embed_tokens,
    .patchify = vulkan_patchify,
    .patchify_normalise = vulkan_patchify_normalise,
    .embed_patches = vulkan_embed_patches,
    .gather = vulkan_gather,
    .score_topk = ops_vulkan_score_topk,
    .normalise = vulkan_normalise,
    .batch_rows = vulkan_batch_rows,
    .wait = vulkan_wait,
    .clock = vulkan_clock,
    .clock_take = vulkan_clock_take,
};
