// SPDX-License-Identifier: Apache-2.0
// A picture is cut into patches, each a row of a product (the convolution of CLIP has
// a stride of its own size), and the class token is put before them. It is read at
// the class token.

#include <assert.h>
#include <math.h>

#include "proto/base/embedding.h"
#include "proto/base/mem.h"
#include "shaders/models/clip_internal.h"
#include "shaders/models/image.h"

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
    return clip_load_matrix(loader, tensor, config->image.width, (uint32_t)(3 * side * side),
                            &out->patches);
}

enum status clip_image_load(struct clip_loader *loader, const struct clip_config *config,
                            struct clip_image_encoder *out)
{
    static const struct clip_stack_names names = {"vision_model", "post_layernorm",
                                                  "visual_projection"};
    size_t tokens = clip_config_image_tokens(config);
    size_t width = config->image.width;
    size_t pixels = (size_t)3 * config->image_size * config->image_size;
    size_t patch = (size_t)3 * config->patch_size * config->patch_size;
    size_t share = pixels / tokens + 1; // of a row in its picture, for pixels are one buffer too
    const struct clip_stack_sizes sizes = {
        .longest = tokens,
        .wide = patch > share ? patch : share,
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
    status = ops_alloc(loader->ops, out->batch * pixels, &out->pixels, loader->why);
    if (status == STATUS_OK)
        out->staging = mem_alloc_array(2 * (size_t)out->batch + 1, sizeof(out->staging[0]));
    return status;
}

enum status clip_image_load_table(struct clip *clip, struct reason *why)
{
    if (!clip->image_params)
        return STATUS_OK;
    float table[3][256];
    image_table(clip->image_params, table);
    enum status status = ops_alloc(clip->ops, sizeof(table) / 4, &clip->image.table, why);
    if (status == STATUS_OK)
        status = ops_upload(clip->ops, clip->image.table, 0, table, sizeof(table) / 4, why);
    return status;
}

void clip_image_free(struct ops *ops, struct clip_image_encoder *encoder)
{
    clip_stack_free(ops, &encoder->stack);
    ops_matrix_destroy(ops, &encoder->patches);
    ops_free(ops, &encoder->pixels);
    ops_free(ops, &encoder->table);
    mem_free(encoder->staging);
    encoder->staging = NULL;
}

_Static_assert(IMAGE_PICTURE_BYTES(3) == 4 * OPS_PICTURE_WORDS(3),
               "prepared pictures are uploaded as they are");

// Pictures of either kind; the other pointer is NULL.
struct source {
    const float *pixels;     // [images][3][S][S]
    const uint8_t *pictures; // [images][IMAGE_PICTURE_BYTES(S)]
};

// The pictures from `first` on, cut into patches.
static enum status cut(struct clip *clip, const struct source *source, size_t first,
                       uint32_t images, struct ops_view patches, struct reason *why)
{
    struct clip_image_encoder *image = &clip->image;
    const size_t size = clip->config.image_size;
    const size_t words = OPS_PICTURE_WORDS(size);
    const size_t floats = 3 * size * size;
    const struct ops_patchify of_floats = {
        .pixels = {image->pixels, 0, 3 * size * images, size},
        .patch = clip->config.patch_size,
        .target = patches,
    };
    const struct ops_patchify_normalise of_bytes = {
        .pixels = {image->pixels, 0, images, words},
        .table = {image->table, 0, 3, 256},
        .size = clip->config.image_size,
        .patch = clip->config.patch_size,
        .target = patches,
    };
    enum status status;
    if (source->pictures) {
        status = ops_upload(clip->ops, image->pixels, 0, source->pictures + first * words * 4,
                            images * words, why);
        return status == STATUS_OK ? ops_patchify_normalise(clip->ops, &of_bytes, why) : status;
    }
    status = ops_upload(clip->ops, image->pixels, 0, source->pixels + first * floats,
                        images * floats, why);
    return status == STATUS_OK ? ops_patchify(clip->ops, &of_floats, why) : status;
}

// Patches to the residual stream: class token, positions, normalisation.
static enum status embed(struct clip *clip, uint32_t images, struct ops_view patches,
                         struct reason *why)
{
    struct clip_image_encoder *image = &clip->image;
    struct clip_stack *stack = &image->stack;
    struct ops *ops = clip->ops;
    size_t width = stack->shape.width;
    struct ops_view embedded = {stack->y, 0, patches.rows, width};
    struct ops_view x = {stack->x, 0, patches.rows + images, width};

    enum status status = ops_product(ops, image->patches, patches, embedded, why);
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

static enum status run_batch(struct clip *clip, const struct source *source, size_t first,
                             uint32_t images, float *embeddings, struct reason *why)
{
    struct clip_image_encoder *image = &clip->image;
    size_t patch = clip->config.patch_size;
    uint32_t tokens = clip_config_image_tokens(&clip->config);
    uint32_t *starts = image->staging;
    uint32_t *reads = starts + image->batch + 1;
    for (uint32_t i = 0; i < images; i++) {
        starts[i] = i * tokens;
        reads[i] = i * tokens;
    }
    starts[images] = images * tokens;

    const struct ops_view patches = {image->stack.z, 0, (size_t)images * (tokens - 1),
                                     3 * patch * patch};
    enum status status =
        ops_upload(clip->ops, image->stack.starts, 0, starts, (size_t)images + 1, why);
    if (status == STATUS_OK)
        status = ops_upload(clip->ops, image->stack.reads, 0, reads, images, why);
    if (status == STATUS_OK)
        status = cut(clip, source, first, images, patches, why);
    if (status == STATUS_OK)
        status = embed(clip, images, patches, why);
    if (status != STATUS_OK)
        return status;
    const struct clip_stack_run run = {
        .rows = (size_t)images * tokens,
        .sequences = images,
        .longest = tokens,
    };
    return clip_stack_run(clip->ops, &image->stack, &run, embeddings, why);
}

// Groups of as many as the stack has rows for.
static enum status run_all(struct clip *clip, const struct source *source, size_t count,
                           float *embeddings, struct reason *why)
{
    enum status status = STATUS_OK;
    for (size_t first = 0; first < count && status == STATUS_OK; first += clip->image.batch) {
        size_t left = count - first;
        uint32_t images = left < clip->image.batch ? (uint32_t)left : clip->image.batch;
        status = run_batch(clip, source, first, images, embeddings + first * clip->config.dimension,
                           why);
    }
    status = clip_stack_finish(clip->ops, status, why);
    return clip_load_blame(&clip->reading, status, why);
}

static enum status check_tower(const struct clip *clip, const char *field, struct reason *why)
{
    if (clip->towers & CLIP_IMAGES)
        return STATUS_OK;
    return reason_set(why, STATUS_FAILED_PRECONDITION, field,
                      "the model %s was opened for texts only", clip->name);
}

enum status clip_encode_pixels(struct clip *clip, const float *pixels, size_t count,
                               float *embeddings, struct reason *why)
{
    assert(clip);
    assert((pixels && embeddings) || count == 0);

    enum status status = check_tower(clip, "pixels", why);
    if (status != STATUS_OK)
        return status;
    size_t picture = (size_t)3 * clip->config.image_size * clip->config.image_size;
    for (size_t i = 0; i < count; i++) {
        if (!embedding_is_finite(pixels + i * picture, picture))
            return reason_set(why, STATUS_INVALID, "pixels",
                              "picture %zu has a value that is not finite", i);
    }
    return run_all(clip, &(struct source){.pixels = pixels}, count, embeddings, why);
}

enum status clip_encode_pictures(struct clip *clip, const uint8_t *pictures, size_t count,
                                 float *embeddings, struct reason *why)
{
    assert(clip);
    assert((pictures && embeddings) || count == 0);

    enum status status = check_tower(clip, "pictures", why);
    if (status != STATUS_OK)
        return status;
    if (!clip->image_params)
        return reason_set(why, STATUS_FAILED_PRECONDITION, "pictures",
                          "the model %s has no preprocessor_config.json", clip->name);
    return run_all(clip, &(struct source){.pictures = pictures}, count, embeddings, why);
}
