// SPDX-License-Identifier: Apache-2.0
// The only file that calls oneDNN. Its C interface changed between 2.x (Debian 12)
// and 3.x (Debian 13, Ubuntu 24.04): descriptions became opaque pointers and a
// primitive is described in one call. Both are written here behind small functions.
//
// Debian's oneDNN is built on OpenMP. Every thread that calls it first sets its own
// number of OpenMP threads to one, both when a primitive is made (it remembers the
// number) and when it runs; so oneDNN never starts a thread, never splits a sum, and
// the work is shared by our own team.

#include <assert.h>
#include <string.h>

#include <oneapi/dnnl/dnnl.h>

#include "proto/base/mem.h"
#include "shaders/cpu/dense_internal.h"

// GNU OpenMP's; declared here because clang does not come with the header.
void omp_set_num_threads(int threads);

#define ALIGNMENT 64u

#if DNNL_VERSION_MAJOR >= 3
#define VIEW(desc) (*(desc)) // what functions take for a description
#else
#define VIEW(desc) (desc)
#endif

struct dense_engine {
    dnnl_engine_t engine;
    uint32_t workers;
    dnnl_stream_t stream[TEAM_WORKERS_MAX];
};

struct product_worker {
    dnnl_memory_t source;
    dnnl_memory_t target;
    dnnl_memory_t scratch;
    void *scratch_data;
};

struct dense_product {
    struct dense_shape shape;
    dnnl_memory_desc_t source;
    dnnl_memory_desc_t weights; // as given: [columns][depth] read as its transpose
    dnnl_memory_desc_t packed;  // as oneDNN wants them
    dnnl_memory_desc_t bias;
    dnnl_memory_desc_t target;
    dnnl_memory_desc_t scratch;
    dnnl_primitive_t primitive;
    uint32_t workers;
    struct product_worker worker[TEAM_WORKERS_MAX];
};

struct dense_block {
    void *data; // packed weights, then the bias
    dnnl_memory_t weights;
    dnnl_memory_t bias;
};

// --- what differs between the versions

#if DNNL_VERSION_MAJOR >= 3

static bool describe(dnnl_memory_desc_t *desc, int64_t rows, int64_t columns, int64_t row_stride,
                     int64_t column_stride)
{
    dnnl_dims_t dims = {rows, columns};
    dnnl_dims_t strides = {row_stride, column_stride};
    return dnnl_memory_desc_create_with_strides(desc, 2, dims, dnnl_f32, strides) == dnnl_success;
}

static bool describe_any(dnnl_memory_desc_t *desc, int64_t rows, int64_t columns)
{
    dnnl_dims_t dims = {rows, columns};
    return dnnl_memory_desc_create_with_tag(desc, 2, dims, dnnl_f32, dnnl_format_tag_any) ==
           dnnl_success;
}

static void forget(dnnl_memory_desc_t *desc)
{
    if (*desc)
        (void)dnnl_memory_desc_destroy(*desc);
    *desc = NULL;
}

static bool copy_desc(dnnl_memory_desc_t *to, const_dnnl_primitive_desc_t primitive,
                      dnnl_query_t what)
{
    const_dnnl_memory_desc_t found = dnnl_primitive_desc_query_md(primitive, what, 0);
    return found && dnnl_memory_desc_clone(to, found) == dnnl_success;
}

static dnnl_status_t append_epilogue(dnnl_post_ops_t list, enum dense_epilogue epilogue)
{
    if (epilogue == DENSE_QUICK_GELU)
        return dnnl_post_ops_append_eltwise(list, dnnl_eltwise_swish, 1.702f, 0.0f);
    if (epilogue == DENSE_GELU)
        return dnnl_post_ops_append_eltwise(list, dnnl_eltwise_gelu_erf, 0.0f, 0.0f);
    if (epilogue == DENSE_ADD)
        return dnnl_post_ops_append_sum(list, 1.0f, 0, dnnl_data_type_undef);
    return dnnl_success;
}

static dnnl_status_t describe_product(dnnl_primitive_desc_t *out, dnnl_engine_t engine,
                                      const struct dense_product *product,
                                      const dnnl_memory_desc_t *any, dnnl_primitive_attr_t attr)
{
    return dnnl_matmul_primitive_desc_create(out, engine, product->source, *any,
                                             product->shape.has_bias ? product->bias : NULL,
                                             product->target, attr);
}

#else

static bool describe(dnnl_memory_desc_t *desc, int64_t rows, int64_t columns, int64_t row_stride,
                     int64_t column_stride)
{
    dnnl_dims_t dims = {rows, columns};
    dnnl_dims_t strides = {row_stride, column_stride};
    return dnnl_memory_desc_init_by_strides(desc, 2, dims, dnnl_f32, strides) == dnnl_success;
}

static bool describe_any(dnnl_memory_desc_t *desc, int64_t rows, int64_t columns)
{
    dnnl_dims_t dims = {rows, columns};
    return dnnl_memory_desc_init_by_tag(desc, 2, dims, dnnl_f32, dnnl_format_tag_any) ==
           dnnl_success;
}

static void forget(dnnl_memory_desc_t *desc)
{
    (void)desc; // plain structs in this version
}

static bool copy_desc(dnnl_memory_desc_t *to, const_dnnl_primitive_desc_t primitive,
                      dnnl_query_t what)
{
    const dnnl_memory_desc_t *found = dnnl_primitive_desc_query_md(primitive, what, 0);
    if (found)
        *to = *found;
    return found != NULL;
}

static dnnl_status_t append_epilogue(dnnl_post_ops_t list, enum dense_epilogue epilogue)
{
    if (epilogue == DENSE_QUICK_GELU)
        return dnnl_post_ops_append_eltwise(list, 1.0f, dnnl_eltwise_swish, 1.702f, 0.0f);
    if (epilogue == DENSE_GELU)
        return dnnl_post_ops_append_eltwise(list, 1.0f, dnnl_eltwise_gelu_erf, 0.0f, 0.0f);
    if (epilogue == DENSE_ADD)
        return dnnl_post_ops_append_sum(list, 1.0f);
    return dnnl_success;
}

static dnnl_status_t describe_product(dnnl_primitive_desc_t *out, dnnl_engine_t engine,
                                      const struct dense_product *product,
                                      const dnnl_memory_desc_t *any, dnnl_primitive_attr_t attr)
{
    dnnl_matmul_desc_t desc;
    dnnl_status_t status =
        dnnl_matmul_desc_init(&desc, &product->source, any,
                              product->shape.has_bias ? &product->bias : NULL, &product->target);
    if (status != dnnl_success)
        return status;
    return dnnl_primitive_desc_create(out, &desc, attr, engine, NULL);
}

#endif

// --- what does not

static enum status status_of(dnnl_status_t status)
{
    if (status == dnnl_success)
        return STATUS_OK;
    return status == dnnl_out_of_memory ? STATUS_NO_MEMORY : STATUS_INTERNAL;
}

void dense_engine_enter(void)
{
    omp_set_num_threads(1);
}

enum status dense_engine_create(uint32_t workers, struct dense_engine **out)
{
    assert(workers >= 1 && workers <= TEAM_WORKERS_MAX);

    dense_engine_enter();
    struct dense_engine *engine = mem_alloc(sizeof(*engine));
    dnnl_status_t status = dnnl_engine_create(&engine->engine, dnnl_cpu, 0);
    for (uint32_t i = 0; status == dnnl_success && i < workers; i++) {
        status = dnnl_stream_create(&engine->stream[i], engine->engine, dnnl_stream_default_flags);
        engine->workers = i + 1;
    }
    if (status != dnnl_success) {
        dense_engine_destroy(&engine);
        return status_of(status);
    }
    *out = engine;
    return STATUS_OK;
}

void dense_engine_destroy(struct dense_engine **engine_in)
{
    struct dense_engine *engine = *engine_in;
    if (!engine)
        return;
    for (uint32_t i = 0; i < engine->workers; i++) {
        if (engine->stream[i])
            (void)dnnl_stream_destroy(engine->stream[i]);
    }
    if (engine->engine)
        (void)dnnl_engine_destroy(engine->engine);
    mem_free(engine);
    *engine_in = NULL;
}

// Makes the primitive and reads back the layouts that it wants.
static dnnl_status_t make_primitive(struct dense_engine *engine, struct dense_product *product,
                                    const dnnl_memory_desc_t *any)
{
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t list = NULL;
    dnnl_primitive_desc_t desc = NULL;

    dnnl_status_t status = dnnl_primitive_attr_create(&attr);
    if (status == dnnl_success)
        status = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    if (status == dnnl_success)
        status = dnnl_post_ops_create(&list);
    if (status == dnnl_success)
        status = append_epilogue(list, product->shape.epilogue);
    if (status == dnnl_success)
        status = dnnl_primitive_attr_set_post_ops(attr, list);
    if (status == dnnl_success)
        status = describe_product(&desc, engine->engine, product, any, attr);
    if (status == dnnl_success && !(copy_desc(&product->packed, desc, dnnl_query_weights_md) &&
                                    copy_desc(&product->scratch, desc, dnnl_query_scratchpad_md)))
        status = dnnl_unimplemented;
    if (status == dnnl_success)
        status = dnnl_primitive_create(&product->primitive, desc);

    if (desc)
        (void)dnnl_primitive_desc_destroy(desc);
    if (list)
        (void)dnnl_post_ops_destroy(list);
    if (attr)
        (void)dnnl_primitive_attr_destroy(attr);
    return status;
}

static dnnl_status_t make_worker(struct dense_engine *engine, struct dense_product *product,
                                 struct product_worker *worker)
{
    size_t bytes = dnnl_memory_desc_get_size(VIEW(&product->scratch));
    dnnl_status_t status = dnnl_memory_create(&worker->source, VIEW(&product->source),
                                              engine->engine, DNNL_MEMORY_NONE);
    if (status == dnnl_success)
        status = dnnl_memory_create(&worker->target, VIEW(&product->target), engine->engine,
                                    DNNL_MEMORY_NONE);
    if (status == dnnl_success && bytes > 0) {
        worker->scratch_data = mem_try_alloc_aligned(ALIGNMENT, bytes);
        status = !worker->scratch_data
                     ? dnnl_out_of_memory
                     : dnnl_memory_create(&worker->scratch, VIEW(&product->scratch), engine->engine,
                                          worker->scratch_data);
    }
    return status;
}

enum status dense_product_create(struct dense_engine *engine, const struct dense_shape *shape,
                                 struct dense_product **out)
{
    dense_engine_enter();
    struct dense_product *product = mem_alloc(sizeof(*product));
    product->shape = *shape;

    dnnl_memory_desc_t any;
    memset(&any, 0, sizeof(any));
    bool described = describe_any(&any, shape->depth, shape->columns) &&
                     describe(&product->source, shape->rows, shape->depth, shape->depth, 1) &&
                     describe(&product->weights, shape->depth, shape->columns, 1, shape->depth) &&
                     describe(&product->bias, 1, shape->columns, shape->columns, 1) &&
                     describe(&product->target, shape->rows, shape->columns, shape->stride, 1);
    dnnl_status_t status =
        described ? make_primitive(engine, product, &any) : dnnl_invalid_arguments;
    forget(&any);
    for (uint32_t i = 0; status == dnnl_success && i < engine->workers; i++) {
        product->workers = i + 1;
        status = make_worker(engine, product, &product->worker[i]);
    }
    if (status != dnnl_success) {
        dense_product_destroy(&product);
        return status_of(status);
    }
    *out = product;
    return STATUS_OK;
}

static void end_memory(dnnl_memory_t memory)
{
    if (memory)
        (void)dnnl_memory_destroy(memory);
}

void dense_product_destroy(struct dense_product **product_in)
{
    struct dense_product *product = *product_in;
    if (!product)
        return;
    for (uint32_t i = 0; i < product->workers; i++) {
        end_memory(product->worker[i].source);
        end_memory(product->worker[i].target);
        end_memory(product->worker[i].scratch);
        mem_free(product->worker[i].scratch_data);
    }
    if (product->primitive)
        (void)dnnl_primitive_destroy(product->primitive);
    forget(&product->source);
    forget(&product->weights);
    forget(&product->packed);
    forget(&product->bias);
    forget(&product->target);
    forget(&product->scratch);
    mem_free(product);
    *product_in = NULL;
}

// Copies the weights into the layout that the primitive wants.
static dnnl_status_t pack(struct dense_engine *engine, const struct dense_product *product,
                          const float *weights, dnnl_memory_t packed)
{
    dnnl_memory_t plain = NULL;
    dnnl_primitive_desc_t desc = NULL;
    dnnl_primitive_t reorder = NULL;

    // oneDNN takes pointers to what it may write; a source is only read.
    union {
        const float *in;
        void *out;
    } handle = {.in = weights};
    dnnl_status_t status =
        dnnl_memory_create(&plain, VIEW(&product->weights), engine->engine, handle.out);
    if (status == dnnl_success)
        status = dnnl_reorder_primitive_desc_create(&desc, VIEW(&product->weights), engine->engine,
                                                    VIEW(&product->packed), engine->engine, NULL);
    if (status == dnnl_success)
        status = dnnl_primitive_create(&reorder, desc);
    if (status == dnnl_success) {
        dnnl_exec_arg_t arguments[] = {{DNNL_ARG_FROM, plain}, {DNNL_ARG_TO, packed}};
        status = dnnl_primitive_execute(reorder, engine->stream[0], 2, arguments);
    }
    if (status == dnnl_success)
        status = dnnl_stream_wait(engine->stream[0]);

    if (reorder)
        (void)dnnl_primitive_destroy(reorder);
    if (desc)
        (void)dnnl_primitive_desc_destroy(desc);
    end_memory(plain);
    return status;
}

enum status dense_block_create(struct dense_engine *engine, const struct dense_product *product,
                               const float *weights, const float *bias, struct dense_block **out)
{
    assert((bias != NULL) == product->shape.has_bias);

    dense_engine_enter();
    size_t weights_bytes = dnnl_memory_desc_get_size(VIEW(&product->packed));
    size_t bias_at = (weights_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    size_t bias_bytes = bias ? product->shape.columns * sizeof(float) : 0;

    struct dense_block *block = mem_alloc(sizeof(*block));
    block->data = mem_try_alloc_aligned(ALIGNMENT, bias_at + bias_bytes);
    dnnl_status_t status = block->data ? dnnl_success : dnnl_out_of_memory;
    if (status == dnnl_success)
        status = dnnl_memory_create(&block->weights, VIEW(&product->packed), engine->engine,
                                    block->data);
    if (status == dnnl_success)
        status = pack(engine, product, weights, block->weights);
    if (status == dnnl_success && bias) {
        float *copy = (float *)(void *)((uint8_t *)block->data + bias_at);
        memcpy(copy, bias, bias_bytes);
        status = dnnl_memory_create(&block->bias, VIEW(&product->bias), engine->engine, copy);
    }
    if (status != dnnl_success) {
        dense_block_destroy(&block);
        return status_of(status);
    }
    *out = block;
    return STATUS_OK;
}

void dense_block_destroy(struct dense_block **block)
{
    if (!*block)
        return;
    end_memory((*block)->weights);
    end_memory((*block)->bias);
    mem_free((*block)->data);
    mem_free(*block);
    *block = NULL;
}

bool dense_product_run(struct dense_engine *engine, struct dense_product *product,
                       const struct dense_block *block, const float *source, float *target,
                       uint32_t worker)
{
    assert(worker < product->workers);

    struct product_worker *own = &product->worker[worker];
    union {
        const float *in;
        void *out;
    } handle = {.in = source};
    if (dnnl_memory_set_data_handle(own->source, handle.out) != dnnl_success ||
        dnnl_memory_set_data_handle(own->target, target) != dnnl_success)
        return false;

    dnnl_exec_arg_t arguments[5] = {
        {DNNL_ARG_SRC, own->source},
        {DNNL_ARG_WEIGHTS, block->weights},
        {DNNL_ARG_DST, own->target},
    };
    int count = 3;
    if (block->bias)
        arguments[count++] = (dnnl_exec_arg_t){DNNL_ARG_BIAS, block->bias};
    if (own->scratch)
        arguments[count++] = (dnnl_exec_arg_t){DNNL_ARG_SCRATCHPAD, own->scratch};
    return dnnl_primitive_execute(product->primitive, engine->stream[worker], count, arguments) ==
               dnnl_success &&
           dnnl_stream_wait(engine->stream[worker]) == dnnl_success;
}
