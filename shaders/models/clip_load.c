// SPDX-License-Identifier: Apache-2.0
// Loading: names and shapes of tensors to parameters and prepared products. Every
// tensor's shape is checked against config.json before a value is read.

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/mem.h"
#include "shaders/models/clip_internal.h"

#define NAME_BYTES 128
#define PIECE ((size_t)1 << 20) // numbers of a tensor in memory at a time

static void shape_text(const uint64_t *shape, uint32_t rank, char *text, size_t room)
{
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < rank && used + 24 < room; i++)
        used += (size_t)snprintf(text + used, room - used, "%s%llu", i > 0 ? "," : "",
                                 (unsigned long long)shape[i]);
}

enum status clip_load_find(struct clip_loader *loader, const char *name, uint32_t rank,
                           const uint64_t *shape, const struct weights_tensor **out)
{
    const struct weights_tensor *tensor = weights_find(loader->reading->weights, name);
    if (!tensor)
        return reason_set(loader->why, STATUS_NOT_FOUND, loader->reading->file,
                          "has no tensor %s, which %s asks for", name, loader->config_file);
    if (tensor->rank != rank ||
        (rank > 0 && memcmp(tensor->shape, shape, rank * sizeof(shape[0])) != 0)) {
        char has[128];
        char wanted[128];
        shape_text(tensor->shape, tensor->rank, has, sizeof(has));
        shape_text(shape, rank, wanted, sizeof(wanted));
        return reason_set(loader->why, STATUS_INVALID, loader->reading->file,
                          "%s has shape [%s]; %s needs [%s]", tensor->origin, has,
                          loader->config_file, wanted);
    }
    bool *used = &loader->used[tensor - weights_at(loader->reading->weights, 0)];
    if (!*used) // found for the second time, another thread is reading it
        *used = true;
    *out = tensor;
    return STATUS_OK;
}

enum status clip_load_blame(const struct clip_reading *reading, enum status status,
                            struct reason *why)
{
    if (status == STATUS_OK || !atomic_load(&reading->failed) || status != reading->status)
        return status;
    return reason_set(why, status, reading->why.field, "%s", reading->why.text);
}

// Some values of a tensor, with the file's name in what goes wrong.
static enum status read_part(struct clip_reading *reading, const struct weights_tensor *tensor,
                             size_t first, size_t count, float *target)
{
    struct reason inner = {0};
    enum status status = weights_read_part(tensor, first, count, target, &inner);
    if (status != STATUS_OK && !atomic_exchange(&reading->failed, true)) {
        reading->status = status;
        (void)reason_set(&reading->why, status, reading->file, "%s %s", tensor->origin, inner.text);
    }
    return status;
}

enum status clip_load_part(struct clip_reading *reading, const struct weights_tensor *tensor,
                           size_t first, size_t count, float *target)
{
    enum status status = read_part(reading, tensor, first, count, target);
    size_t value_bytes = tensor->count > 0 ? tensor->bytes / tensor->count : 0;
    weights_release(reading->weights, tensor, first * value_bytes, count * value_bytes);
    return status;
}

enum status clip_load_values(struct clip_loader *loader, const struct weights_tensor *tensor,
                             float *target)
{
    assert(tensor);

    if (loader->check)
        return STATUS_OK;
    enum status status = clip_load_part(loader->reading, tensor, 0, tensor->count, target);
    return clip_load_blame(loader->reading, status, loader->why);
}

// --- rows

size_t clip_load_room(size_t rows, size_t columns)
{
    return (rows * columns + OPS_VIEW_ALIGN - 1) / OPS_VIEW_ALIGN * OPS_VIEW_ALIGN;
}

struct ops_view clip_load_place(struct clip_stack *stack, size_t rows, size_t columns)
{
    size_t room = clip_load_room(rows, columns);
    assert(room <= stack->parameters_count - stack->parameters_used);
    struct ops_view view = {stack->parameters, stack->parameters_used, rows, columns};
    stack->parameters_used += room;
    return view;
}

enum status clip_load_view(struct clip_reading *reading, struct ops *ops,
                           const struct weights_tensor *tensor, struct ops_view view,
                           struct reason *why)
{
    assert(tensor->count == view.rows * view.columns);

    // A table of tokens is the largest tensor of all.
    size_t piece = tensor->count < PIECE ? tensor->count : PIECE;
    float *values = mem_try_alloc_array(piece, sizeof(float));
    if (!values)
        return reason_set(why, STATUS_NO_MEMORY, reading->file,
                          "no memory for a tensor of %zu numbers", tensor->count);
    enum status status = STATUS_OK;
    for (size_t at = 0; at < tensor->count && status == STATUS_OK; at += piece) {
        size_t count = tensor->count - at < piece ? tensor->count - at : piece;
        status = clip_load_part(reading, tensor, at, count, values);
        if (status == STATUS_OK)
            status = ops_upload(ops, view.buffer, view.offset + at, values, count, why);
    }
    mem_free(values);
    return clip_load_blame(reading, status, why);
}

enum status clip_load_rows(struct clip_loader *loader, struct clip_stack *stack, const char *name,
                           size_t rows, size_t columns, struct ops_view *out)
{
    const struct weights_tensor *tensor = NULL;
    const uint64_t shape[2] = {rows, columns};
    bool is_vector = rows == 1;
    enum status status =
        clip_load_find(loader, name, is_vector ? 1 : 2, is_vector ? shape + 1 : shape, &tensor);
    if (status != STATUS_OK || loader->check)
        return status;
    struct ops_view view = clip_load_place(stack, rows, columns);
    status = clip_load_view(loader->reading, loader->ops, tensor, view, loader->why);
    if (status == STATUS_OK)
        *out = view;
    return status;
}

static enum status load_bias(struct clip_loader *loader, const char *name, uint32_t columns,
                             float *target)
{
    const uint64_t shape[1] = {columns};
    const struct weights_tensor *tensor = NULL;
    enum status status = clip_load_find(loader, name, 1, shape, &tensor);
    if (status == STATUS_OK)
        status = clip_load_values(loader, tensor, target);
    return status;
}

// --- products

// Where the rows of a product's weights are: up to three tensors, one above the other.
struct clip_source {
    struct clip_source *next;
    struct clip_reading *reading;
    const struct weights_tensor *tensor[3];
    uint32_t each; // rows of a tensor
    uint32_t depth;
    atomic_size_t read; // numbers, over and over
};

void clip_load_end(struct clip_reading *reading)
{
    while (reading->sources) {
        struct clip_source *source = reading->sources;
        reading->sources = source->next;
        mem_free(source);
    }
}

// Once all numbers were read the memory of the mapped tensors goes, at once: each time costs an
// interrupt of every thread.
static void release_source(struct clip_source *source, size_t count)
{
    size_t all = source->tensor[0]->count;
    for (uint32_t i = 1; i < 3 && source->tensor[i]; i++)
        all += source->tensor[i]->count;
    size_t read = atomic_fetch_add(&source->read, count) + count;
    if (all == 0 || read % all != 0)
        return;
    for (uint32_t i = 0; i < 3 && source->tensor[i]; i++)
        weights_release(source->reading->weights, source->tensor[i], 0, source->tensor[i]->bytes);
}

static enum status read_source(void *context, uint32_t first, uint32_t count, uint32_t at,
                               uint32_t depth, float *target)
{
    struct clip_source *source = context;
    enum status status = STATUS_OK;
    uint32_t step = 1; // rows at a time: some where they lie one behind the other
    for (uint32_t done = 0; done < count && status == STATUS_OK; done += step) {
        uint32_t number = (first + done) / source->each;
        uint32_t row = (first + done) % source->each;
        if (depth == source->depth)
            step = source->each - row < count - done ? source->each - row : count - done;
        status =
            read_part(source->reading, source->tensor[number], (size_t)row * source->depth + at,
                      (size_t)step * depth, target + (size_t)done * depth);
    }
    release_source(source, (size_t)count * depth);
    return status;
}

static enum status create_matrix(struct clip_loader *loader, const struct clip_source *given,
                                 struct ops_matrix_params *params, struct ops_matrix **out)
{
    struct clip_reading *reading = loader->reading;
    struct clip_source *source = mem_alloc(sizeof(*source));
    memcpy(source, given, sizeof(*source));
    source->reading = reading;
    source->depth = params->depth;
    atomic_init(&source->read, 0);
    source->next = reading->sources;
    reading->sources = source;
    params->rows = read_source;
    params->context = source;
    params->late = reading->late;
    enum status status = ops_matrix_create(loader->ops, params, out, loader->why);
    return clip_load_blame(reading, status, loader->why);
}

enum status clip_load_matrix(struct clip_loader *loader, const struct weights_tensor *tensor,
                             uint32_t columns, uint32_t depth, struct ops_matrix **out)
{
    assert(tensor && tensor->count == (size_t)columns * depth);

    const struct clip_source source = {.tensor = {tensor}, .each = columns};
    struct ops_matrix_params params = {.columns = columns, .depth = depth, .epilogue = OPS_PLAIN};
    return create_matrix(loader, &source, &params, out);
}

// A product's weights [columns][depth] from `name`.weight and, with `bias`, `name`.bias.
struct matrix_names {
    const char *prefix;
    const char *names[3]; // up to three matrices, one above the other
    uint32_t count;
    bool bias;
};

static enum status load_matrix(struct clip_loader *loader, const struct matrix_names *names,
                               uint32_t columns, uint32_t depth, enum ops_epilogue epilogue,
                               struct ops_matrix **out)
{
    assert(names->count >= 1 && names->count <= 3 && columns % names->count == 0);

    struct clip_source source = {.each = columns / names->count};
    const uint64_t shape[2] = {source.each, depth};
    enum status status = STATUS_OK;
    // NULL when only names and shapes are looked at.
    float *bias = loader->check ? NULL : mem_alloc_array(columns, sizeof(float));
    for (uint32_t i = 0; i < names->count && status == STATUS_OK; i++) {
        char name[NAME_BYTES];
        (void)snprintf(name, sizeof(name), "%s%s.weight", names->prefix, names->names[i]);
        status = clip_load_find(loader, name, 2, shape, &source.tensor[i]);
        if (status == STATUS_OK && names->bias) {
            (void)snprintf(name, sizeof(name), "%s%s.bias", names->prefix, names->names[i]);
            status =
                load_bias(loader, name, source.each, bias ? bias + (size_t)i * source.each : NULL);
        }
    }
    struct ops_matrix_params params = {
        .bias = names->bias ? bias : NULL,
        .columns = columns,
        .depth = depth,
        .epilogue = epilogue,
    };
    if (status == STATUS_OK && !loader->check)
        status = create_matrix(loader, &source, &params, out);
    mem_free(bias);
    return status;
}

// --- a stack of layers

static enum status load_norm(struct clip_loader *loader, struct clip_stack *stack,
                             const char *prefix, const char *norm, struct ops_view *gain,
                             struct ops_view *bias)
{
    char name[NAME_BYTES];
    (void)snprintf(name, sizeof(name), "%s%s.weight", prefix, norm);
    enum status status = clip_load_rows(loader, stack, name, 1, stack->shape.width, gain);
    if (status != STATUS_OK)
        return status;
    (void)snprintf(name, sizeof(name), "%s%s.bias", prefix, norm);
    return clip_load_rows(loader, stack, name, 1, stack->shape.width, bias);
}

static enum status load_layer(struct clip_loader *loader, struct clip_stack *stack,
                              const char *prefix, struct clip_layer *layer)
{
    const struct clip_tower *shape = &stack->shape;
    enum ops_epilogue activation = shape->activation == CLIP_QUICK_GELU ? OPS_QUICK_GELU : OPS_GELU;
    const struct matrix_names qkv = {
        prefix, {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}, 3, true};
    const struct matrix_names out = {prefix, {"self_attn.out_proj"}, 1, true};
    const struct matrix_names fc1 = {prefix, {"mlp.fc1"}, 1, true};
    const struct matrix_names fc2 = {prefix, {"mlp.fc2"}, 1, true};

    enum status status =
        load_norm(loader, stack, prefix, "layer_norm1", &layer->norm1_gain, &layer->norm1_bias);
    if (status == STATUS_OK)
        status =
            load_norm(loader, stack, prefix, "layer_norm2", &layer->norm2_gain, &layer->norm2_bias);
    if (status == STATUS_OK)
        status = load_matrix(loader, &qkv, 3 * shape->width, shape->width, OPS_PLAIN, &layer->qkv);
    if (status == STATUS_OK)
        status = load_matrix(loader, &out, shape->width, shape->width, OPS_ADD, &layer->out);
    if (status == STATUS_OK)
        status = load_matrix(loader, &fc1, shape->mlp, shape->width, activation, &layer->fc1);
    if (status == STATUS_OK)
        status = load_matrix(loader, &fc2, shape->width, shape->mlp, OPS_ADD, &layer->fc2);
    return status;
}

static size_t greatest(size_t a, size_t b)
{
    return a > b ? a : b;
}

static enum status alloc_stack(struct clip_loader *loader, const struct clip_stack_sizes *sizes,
                               struct clip_stack *stack)
{
    size_t width = stack->shape.width;
    stack->wide =
        greatest(greatest(3 * width, stack->shape.mlp), greatest(sizes->wide, sizes->dimension));
    stack->rows_max = ops_rows_padded(
        loader->ops, greatest(sizes->longest, ops_batch_rows(loader->ops, stack->wide)));
    // Four vectors of normalisation in a layer, and the last two.
    stack->parameters_count =
        sizes->parameters + (4 * (size_t)stack->shape.layers + 2) * clip_load_room(1, width);

    const struct {
        struct ops_buffer **buffer;
        size_t count;
    } wanted[] = {
        {&stack->parameters, stack->parameters_count}, {&stack->x, stack->rows_max * width},
        {&stack->y, stack->rows_max * width},          {&stack->z, stack->rows_max * stack->wide},
        {&stack->read_x, stack->rows_max * width},     {&stack->read_y, stack->rows_max * width},
        {&stack->starts, stack->rows_max + 1},         {&stack->reads, stack->rows_max},
    };
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        enum status status = ops_alloc(loader->ops, wanted[i].count, wanted[i].buffer, loader->why);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

enum status clip_load_stack(struct clip_loader *loader, const struct clip_stack_names *names,
                            const struct clip_stack_sizes *sizes, struct clip_stack *stack)
{
    // Before memory is taken for a size, the file must have shown a tensor of it.
    char prefix[NAME_BYTES];
    const uint64_t fc1[2] = {stack->shape.mlp, stack->shape.width};
    const struct weights_tensor *tensor = NULL;
    (void)snprintf(prefix, sizeof(prefix), "%s.encoder.layers.0.mlp.fc1.weight", names->tower);
    enum status status = clip_load_find(loader, prefix, 2, fc1, &tensor);
    if (status == STATUS_OK && !loader->check) {
        status = alloc_stack(loader, sizes, stack);
        stack->layer = mem_alloc_array(stack->shape.layers, sizeof(stack->layer[0]));
    }
    if (status == STATUS_OK && !loader->check)
        status = ops_prepare_attention(loader->ops, stack->shape.width / stack->shape.heads,
                                       loader->why);
    if (status != STATUS_OK)
        return status;
    struct clip_layer unused = {.qkv = NULL};
    for (uint32_t i = 0; i < stack->shape.layers; i++) {
        (void)snprintf(prefix, sizeof(prefix), "%s.encoder.layers.%u.", names->tower, i);
        status = load_layer(loader, stack, prefix, loader->check ? &unused : &stack->layer[i]);
        if (status != STATUS_OK)
            return status;
    }
    (void)snprintf(prefix, sizeof(prefix), "%s.", names->tower);
    status =
        load_norm(loader, stack, prefix, names->last_norm, &stack->last_gain, &stack->last_bias);
    if (status != STATUS_OK)
        return status;
    const struct matrix_names projection = {"", {names->projection}, 1, false};
    return load_matrix(loader, &projection, sizes->dimension, stack->shape.width, OPS_PLAIN,
                       &stack->projection);
}

void clip_stack_free(struct ops *ops, struct clip_stack *stack)
{
    for (uint32_t i = 0; stack->layer && i < stack->shape.layers; i++) {
        ops_matrix_destroy(ops, &stack->layer[i].qkv);
        ops_matrix_destroy(ops, &stack->layer[i].out);
        ops_matrix_destroy(ops, &stack->layer[i].fc1);
        ops_matrix_destroy(ops, &stack->layer[i].fc2);
    }
    mem_free(stack->layer);
    stack->layer = NULL;
    ops_matrix_destroy(ops, &stack->projection);
    ops_free(ops, &stack->parameters);
    ops_free(ops, &stack->x);
    ops_free(ops, &stack->y);
    ops_free(ops, &stack->z);
    ops_free(ops, &stack->read_x);
    ops_free(ops, &stack->read_y);
    ops_free(ops, &stack->starts);
    ops_free(ops, &stack->reads);
}
