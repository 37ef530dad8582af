// SPDX-License-Identifier: Apache-2.0
// A picture is cut into patches, each a row of a product (the convolution of CLIP has
// a stride of its own size), and the class token is put before them. It is read at
// the class token.

#include <assert.h>
#include <math.h>

#include "proto/base/embedding.h"
#include "proto/base/mem.h"
#include "shaders/models/clip_internal.h"

static enum status load_embeddings(struct clip_loader *loader, const struct clip_config *config,
                                   struct clip_image_encoder *out)
{
    struct clip_stack *stack = &out->stack;
    size_t width = config->image.width;
    enum status status = clip_load_rows(loader, stack, "vision_model.embeddings.class_embedding", 1,
                                        width, &out->first);
    if (status == STATUS_OK)
        status = clip_load_rows(loader, stack, "vision_model.embeddings.position_embedding.weight",
                                clip_config_image_tokens(config), width, &out->positions);
    // The name is misspelt in every file of this layout.
    if (status == STATUS_OK)
        status = clip_load_rows(loader, stack, "vision_model.pre_layrnorm.weight", 1, width,
                                &out->pre_gain);
    if (status == STATUS_OK)
        status = clip_load_rows(loader, stack, "vision_model.pre_layrnorm.bias", 1, width,
                                &out->pre_bias);
    return status;
}

// The convolution's weights [width][3][P][P], read as a matrix.
static enum status load_patches(struct clip_loader *loader, const struct clip_config *config,
                                struct clip_image_encoder *out)
{
    uint64_t side = config->patch_size;
    const uint64_t shape[4] = {config->image.width, 3, side, side};
    const struct weights_tensor *tensor = NULL;
    enum status status =
        clip_load_find(loader, "vision_model.embeddings.patch_embedding.weight", 4, shape, &tensor);
    if (status != STATUS_OK || loader->check)
        return status;
    float *values = mem_try_alloc_array(tensor->count, sizeof(float));
    if (!values)
        return reason_set(loader->why, STATUS_NO_MEMORY, loader->weights_file,
                          "no memory for a tensor of %zu numbers", tensor->count);
    status = clip_load_values(loader, tensor, values);
    if (status == STATUS_OK)
        status = ops_matrix_create(loader->ops,
                                   &(struct ops_matrix_params){
                                       .weights = values,
                                       .columns = config->image.width,
                                       .depth = (uint32_t)(3 * side * side),
                                       .epilogue = OPS_PLAIN,
                                   },
                                   &out->patches, loader->why);
    mem_free(values);
    return status;
}

enum status clip_image_load(struct clip_loader *loader, const struct clip_config *config,
                            struct clip_image_encoder *out)
{
    static const struct clip_stack_names names = {"vision_model", "post_layernorm",
                                                  "visual_projection"};
    size_t tokens = clip_config_image_tokens(config);
    size_t width = config->image.width;
    const struct clip_stack_sizes sizes = {
        .longest = tokens,
        .wide = (size_t)3 * config->patch_size * config->patch_size,
        .parameters = clip_load_room(tokens, width) + 3 * clip_load_room(1, width),
        .dimension = config->dimension,
    };
    out->stack.shape = config->image;
    enum status status = clip_load_stack(loader, &names, &sizes, &out->stack);
    if (status == STATUS_OK)
        status = load_embeddings(loader, config, out);
    if (status == STATUS_OK)
        status = load_patches(loader, config, out);
    if (status != STATUS_OK || loader->check)
        return status;

    out->batch = (uint32_t)(out->stack.rows_max / tokens);
    size_t pixels = (size_t)3 * config->image_size * config->image_size;
    status = ops_alloc(loader->ops, out->batch * pixels, &out->pixels, loader->why);
    if (status == STATUS_OK)
        out->staging = mem_alloc_array(2 * (size_t)out->batch + 1, sizeof(out->staging[0]));
    return status;
}

void clip_image_free(struct ops *ops, struct clip_image_encoder *encoder)
{
    clip_stack_free(ops, &encoder->stack);
    ops_matrix_destroy(ops, &encoder->patches);
    ops_free(ops, &encoder->pixels);
    mem_free(encoder->staging);
    encoder->staging = NULL;
}

// Pixels to the residual stream: patches, class token, positions, normalisation.
static enum status embed(struct clip *clip, uint32_t images, size_t tokens, struct reason *why)
{
    struct clip_image_encoder *image = &clip->image;
    struct clip_stack *stack = &image->stack;
    struct ops *ops = clip->ops;
    size_t size = clip->config.image_size;
    size_t patch = clip->config.patch_size;
    size_t width = stack->shape.width;
    struct ops_view patches = {stack->z, 0, images * (tokens - 1), 3 * patch * patch};
    struct ops_view embedded = {stack->y, 0, images * (tokens - 1), width};
    struct ops_view x = {stack->x, 0, images * tokens, width};

    enum status status =
        ops_patchify(ops,
                     &(struct ops_patchify){
                         .pixels = {image->pixels, 0, (size_t)images * 3 * size, size},
                         .patch = clip->config.patch_size,
                         .target = patches,
                     },
                     why);
    if (status == STATUS_OK)
        status = ops_product(ops, image->patches, patches, embedded, why);
    if (status == STATUS_OK)
        status = ops_embed_patches(ops,
                                   &(struct ops_embed_patches){
                                       .patches = embedded,
                                       .first = image->first,
                                       .positions = image->positions,
                                       .target = x,
                                   },
                                   why);
    if (status == STATUS_OK)
        status = ops_layernorm(ops,
                               &(struct ops_layernorm){
                                   .source = x,
                                   .gain = image->pre_gain,
                                   .bias = image->pre_bias,
                                   .epsilon = stack->shape.epsilon,
                                   .target = x,
                               },
                               why);
    return status;
}

static enum status run_batch(struct clip *clip, const float *pixels, uint32_t images,
                             float *embeddings, struct reason *why)
{
    struct clip_image_encoder *image = &clip->image;
    size_t picture = (size_t)3 * clip->config.image_size * clip->config.image_size;
    uint32_t tokens = clip_config_image_tokens(&clip->config);
    uint32_t *starts = image->staging;
    uint32_t *reads = starts + image->batch + 1;
    for (uint32_t i = 0; i < images; i++) {
        starts[i] = i * tokens;
        reads[i] = i * tokens;
    }
    starts[images] = images * tokens;

    enum status status = ops_upload(clip->ops, image->pixels, 0, pixels, images * picture, why);
    if (status == STATUS_OK)
        status = ops_upload(clip->ops, image->stack.starts, 0, starts, (size_t)images + 1, why);
    if (status == STATUS_OK)
        status = ops_upload(clip->ops, image->stack.reads, 0, reads, images, why);
    if (status == STATUS_OK)
        status = embed(clip, images, tokens, why);
    if (status != STATUS_OK)
        return status;
    const struct clip_stack_run run = {
        .rows = (size_t)images * tokens,
        .sequences = images,
        .longest = tokens,
    };
    return clip_stack_run(clip->ops, &image->stack, &run, embeddings, why);
}

enum status clip_encode_pixels(struct clip *clip, const float *pixels, size_t count,
                               float *embeddings, struct reason *why)
{
    assert(clip);
    assert((pixels && embeddings) || count == 0);

    if (!(clip->towers & CLIP_IMAGES))
        return reason_set(why, STATUS_FAILED_PRECONDITION, "pixels",
                          "the model %s was opened for texts only", clip->name);
    size_t picture = (size_t)3 * clip->config.image_size * clip->config.image_size;
    for (size_t i = 0; i < count; i++) {
        if (!embedding_is_finite(pixels + i * picture, picture))
            return reason_set(why, STATUS_INVALID, "pixels",
                              "picture %zu has a value that is not finite", i);
    }
    enum status status = STATUS_OK;
    for (size_t first = 0; first < count && status == STATUS_OK; first += clip->image.batch) {
        size_t left = count - first;
        uint32_t images = left < clip->image.batch ? (uint32_t)left : clip->image.batch;
        status = run_batch(clip, pixels + first * picture, images,
                           embeddings + first * clip->config.dimension, why);
    }
    return clip_stack_finish(clip->ops, status, why);
}
