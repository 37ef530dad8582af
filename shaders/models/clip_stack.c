// SPDX-License-Identifier: Apache-2.0
// Pre-norm transformer layers on the residual stream `x`:
//
//     x += out(attention(qkv(norm1(x))))
//     x += fc2(activation(fc1(norm2(x))))
//
// Of the last layer only the rows that are read out are needed behind its attention,
// so only they go on: the others could change nothing.

#include <assert.h>

#include "shaders/models/clip_internal.h"

static struct ops_view view(struct ops_buffer *buffer, size_t rows, size_t columns)
{
    return (struct ops_view){buffer, 0, rows, columns};
}

struct step {
    struct ops *ops;
    const struct clip_stack *stack;
    struct reason *why;
};

static enum status normalise_rows(const struct step *step, struct ops_view source,
                                  struct ops_view gain, struct ops_view bias,
                                  struct ops_view target)
{
    return ops_layernorm(step->ops,
                         &(struct ops_layernorm){
                             .source = source,
                             .gain = gain,
                             .bias = bias,
                             .epsilon = step->stack->shape.epsilon,
                             .target = target,
                         },
                         step->why);
}

// y = attention(qkv(norm1(x)))
static enum status attend(const struct step *step, const struct clip_layer *layer,
                          const struct clip_stack_run *run)
{
    const struct clip_stack *stack = step->stack;
    size_t width = stack->shape.width;
    struct ops_view x = view(stack->x, run->rows, width);
    struct ops_view y = view(stack->y, run->rows, width);
    struct ops_view z = view(stack->z, run->rows, 3 * width);

    enum status status = normalise_rows(step, x, layer->norm1_gain, layer->norm1_bias, y);
    if (status == STATUS_OK)
        status = ops_product(step->ops, layer->qkv, y, z, step->why);
    if (status != STATUS_OK)
        return status;
    return ops_attention(step->ops,
                         &(struct ops_attention){
                             .source = z,
                             .starts = view(stack->starts, 1, (size_t)run->sequences + 1),
                             .heads = stack->shape.heads,
                             .longest = run->longest,
                             .causal = run->causal,
                             .target = y,
                         },
                         step->why);
}

// x += out(y), then the perceptron, on `rows` rows of the two buffers.
static enum status finish_layer(const struct step *step, const struct clip_layer *layer,
                                struct ops_view x, struct ops_view y)
{
    struct ops_view z = view(step->stack->z, x.rows, step->stack->shape.mlp);

    enum status status = ops_product(step->ops, layer->out, y, x, step->why);
    if (status == STATUS_OK)
        status = normalise_rows(step, x, layer->norm2_gain, layer->norm2_bias, y);
    if (status == STATUS_OK)
        status = ops_product(step->ops, layer->fc1, y, z, step->why);
    if (status == STATUS_OK)
        status = ops_product(step->ops, layer->fc2, z, x, step->why);
    return status;
}

static enum status gather(const struct step *step, struct ops_buffer *from, size_t rows,
                          struct ops_view target)
{
    return ops_gather(step->ops,
                      &(struct ops_gather){
                          .source = view(from, rows, target.columns),
                          .rows = view(step->stack->reads, 1, target.rows),
                          .target = target,
                      },
                      step->why);
}

enum status clip_stack_run(struct ops *ops, const struct clip_stack *stack,
                           const struct clip_stack_run *run, float *embeddings, struct reason *why)
{
    assert(run->rows <= stack->rows_max && run->sequences <= run->rows);

    const struct step step = {ops, stack, why};
    size_t width = stack->shape.width;
    struct ops_view x = view(stack->x, run->rows, width);
    struct ops_view y = view(stack->y, run->rows, width);
    struct ops_view read_x = view(stack->read_x, run->sequences, width);
    struct ops_view read_y = view(stack->read_y, run->sequences, width);

    enum status status = STATUS_OK;
    uint32_t last = stack->shape.layers - 1;
    for (uint32_t i = 0; i < last && status == STATUS_OK; i++) {
        status = attend(&step, &stack->layer[i], run);
        if (status == STATUS_OK)
            status = finish_layer(&step, &stack->layer[i], x, y);
    }
    if (status == STATUS_OK)
        status = attend(&step, &stack->layer[last], run);
    if (status == STATUS_OK)
        status = gather(&step, stack->x, run->rows, read_x);
    if (status == STATUS_OK)
        status = gather(&step, stack->y, run->rows, read_y);
    if (status == STATUS_OK)
        status = finish_layer(&step, &stack->layer[last], read_x, read_y);
    if (status == STATUS_OK)
        status = normalise_rows(&step, read_x, stack->last_gain, stack->last_bias, read_y);
    if (status != STATUS_OK)
        return status;

    uint32_t dimension = ops_matrix_columns(stack->projection);
    struct ops_view projected = view(stack->z, run->sequences, dimension);
    status = ops_product(ops, stack->projection, read_y, projected, why);
    if (status == STATUS_OK)
        status = ops_normalise(ops, projected, why);
    if (status == STATUS_OK)
        status = ops_fetch(ops, stack->z, 0, embeddings, (size_t)run->sequences * dimension, why);
    return status;
}

enum status clip_stack_finish(struct ops *ops, enum status status, struct reason *why)
{
    enum status finished = ops_finish(ops, status == STATUS_OK ? why : NULL);
    return status == STATUS_OK ? finished : status;
}
