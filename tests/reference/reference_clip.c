// SPDX-License-Identifier: Apache-2.0
// The towers as their papers draw them: embeddings, pre-norm layers, read out, project.

#include "tests/reference/reference_clip.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/reference/reference.h"

static double *room(size_t count)
{
    double *values = calloc(count > 0 ? count : 1, sizeof(double));
    assert(values);
    return values;
}

// The tensor `prefix``name` in doubles; the caller frees it.
static double *tensor(const struct reference_clip *clip, const char *prefix, const char *name)
{
    char full[160];
    (void)snprintf(full, sizeof(full), "%s%s", prefix, name);
    const struct weights_tensor *found = weights_find(clip->weights, full);
    assert(found);
    float *single = malloc((found->count + 1) * sizeof(float));
    assert(single);
    enum status status = weights_read(found, single, NULL);
    assert(status == STATUS_OK);
    double *values = room(found->count);
    for (size_t i = 0; i < found->count; i++)
        values[i] = (double)single[i];
    free(single);
    return values;
}

static void trace(const struct reference_clip *clip, const char *step, uint32_t layer,
                  const double *values, size_t rows, size_t width)
{
    if (clip->trace)
        clip->trace(clip->context, step, layer, values, rows, width);
}

static void layernorm(const struct reference_clip *clip, const char *prefix, const char *name,
                      const struct clip_tower *tower, const double *source, size_t rows,
                      double *target)
{
    char gain_name[64];
    char bias_name[64];
    (void)snprintf(gain_name, sizeof(gain_name), "%s.weight", name);
    (void)snprintf(bias_name, sizeof(bias_name), "%s.bias", name);
    double *gain = tensor(clip, prefix, gain_name);
    double *bias = tensor(clip, prefix, bias_name);
    reference_layernorm(&(struct reference_layernorm){
        .source = source,
        .gain = gain,
        .bias = bias,
        .epsilon = (double)tower->epsilon,
        .rows = rows,
        .width = tower->width,
        .target = target,
    });
    free(gain);
    free(bias);
}

// A linear map whose result is [rows][columns]; the caller frees it.
static double *linear(const struct reference_clip *clip, const char *prefix, const char *name,
                      const double *source, size_t rows, size_t columns, size_t depth)
{
    char weights_name[64];
    char bias_name[64];
    (void)snprintf(weights_name, sizeof(weights_name), "%s.weight", name);
    (void)snprintf(bias_name, sizeof(bias_name), "%s.bias", name);
    double *weights = tensor(clip, prefix, weights_name);
    double *bias = tensor(clip, prefix, bias_name);
    double *target = room(rows * columns);
    reference_product(
        &(struct reference_product){source, weights, bias, rows, columns, depth, target});
    free(weights);
    free(bias);
    return target;
}

static void attention_block(const struct reference_clip *clip, const char *prefix,
                            const struct clip_tower *tower, double *x, size_t rows, bool causal)
{
    static const char *const names[] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"};
    size_t width = tower->width;
    double *normed = room(rows * width);
    double *qkv = room(rows * 3 * width);
    double *mixed = room(rows * width);

    layernorm(clip, prefix, "layer_norm1", tower, x, rows, normed);
    for (size_t part = 0; part < 3; part++) {
        double *one = linear(clip, prefix, names[part], normed, rows, width, width);
        for (size_t row = 0; row < rows; row++)
            memcpy(qkv + row * 3 * width + part * width, one + row * width, width * sizeof(*one));
        free(one);
    }
    reference_attention(
        &(struct reference_attention){qkv, rows, width, tower->heads, causal, mixed});
    double *out = linear(clip, prefix, "self_attn.out_proj", mixed, rows, width, width);
    for (size_t i = 0; i < rows * width; i++)
        x[i] += out[i];
    free(out);
    free(mixed);
    free(qkv);
    free(normed);
}

static void perceptron_block(const struct reference_clip *clip, const char *prefix,
                             const struct clip_tower *tower, double *x, size_t rows)
{
    size_t width = tower->width;
    double *normed = room(rows * width);
    layernorm(clip, prefix, "layer_norm2", tower, x, rows, normed);
    double *hidden = linear(clip, prefix, "mlp.fc1", normed, rows, tower->mlp, width);
    for (size_t i = 0; i < rows * tower->mlp; i++)
        hidden[i] = tower->activation == CLIP_QUICK_GELU ? reference_quick_gelu(hidden[i])
                                                         : reference_gelu(hidden[i]);
    double *out = linear(clip, prefix, "mlp.fc2", hidden, rows, width, tower->mlp);
    for (size_t i = 0; i < rows * width; i++)
        x[i] += out[i];
    free(out);
    free(hidden);
    free(normed);
}

static void layers(const struct reference_clip *clip, const char *name,
                   const struct clip_tower *tower, double *x, size_t rows, bool causal)
{
    for (uint32_t i = 0; i < tower->layers; i++) {
        char prefix[96];
        (void)snprintf(prefix, sizeof(prefix), "%s.encoder.layers.%u.", name, i);
        attention_block(clip, prefix, tower, x, rows, causal);
        perceptron_block(clip, prefix, tower, x, rows);
        trace(clip, "block", i, x, rows, tower->width);
    }
}

static void project(const struct reference_clip *clip, const char *name, const double *row,
                    size_t width, double *embedding)
{
    double *weights = tensor(clip, "", name);
    reference_product(&(struct reference_product){row, weights, NULL, 1, clip->config->dimension,
                                                  width, embedding});
    reference_normalise(embedding, clip->config->dimension);
    free(weights);
}

void reference_clip_read_out(const struct reference_clip *clip, bool is_image, const double *row,
                             double *embedding)
{
    const struct clip_tower *tower = is_image ? &clip->config->image : &clip->config->text;
    double *normed = room(tower->width);
    layernorm(clip, is_image ? "vision_model." : "text_model.",
              is_image ? "post_layernorm" : "final_layer_norm", tower, row, 1, normed);
    project(clip, is_image ? "visual_projection.weight" : "text_projection.weight", normed,
            tower->width, embedding);
    free(normed);
}

void reference_clip_text(const struct reference_clip *clip, const uint32_t *ids, uint32_t count,
                         double *embedding)
{
    const struct clip_tower *tower = &clip->config->text;
    size_t width = tower->width;
    double *table = tensor(clip, "text_model.embeddings.", "token_embedding.weight");
    double *positions = tensor(clip, "text_model.embeddings.", "position_embedding.weight");
    double *x = room(count * width);
    size_t end = count;
    for (size_t i = 0; i < count; i++) {
        for (size_t c = 0; c < width; c++)
            x[i * width + c] = table[ids[i] * width + c] + positions[i * width + c];
        if (end == count && ids[i] == clip->config->end_token)
            end = i;
    }
    assert(end < count);
    trace(clip, "embeddings", 0, x, count, width);
    layers(clip, "text_model", tower, x, count, true);
    layernorm(clip, "text_model.", "final_layer_norm", tower, x, count, x);
    trace(clip, "final_norm", 0, x, count, width);
    project(clip, "text_projection.weight", x + end * width, width, embedding);
    free(x);
    free(positions);
    free(table);
}

void reference_clip_image(const struct reference_clip *clip, const float *pixels, double *embedding)
{
    const struct clip_tower *tower = &clip->config->image;
    size_t width = tower->width;
    size_t size = clip->config->image_size;
    size_t patch = clip->config->patch_size;
    size_t tokens = clip_config_image_tokens(clip->config);
    size_t depth = 3 * patch * patch;

    double *picture = room(3 * size * size);
    for (size_t i = 0; i < 3 * size * size; i++)
        picture[i] = (double)pixels[i];
    double *patches = room((tokens - 1) * depth);
    reference_patchify(picture, size, patch, patches);

    double *weights = tensor(clip, "vision_model.embeddings.", "patch_embedding.weight");
    double *first = tensor(clip, "vision_model.embeddings.", "class_embedding");
    double *positions = tensor(clip, "vision_model.embeddings.", "position_embedding.weight");
    double *x = room(tokens * width);
    memcpy(x, first, width * sizeof(*x));
    reference_product(
        &(struct reference_product){patches, weights, NULL, tokens - 1, width, depth, x + width});
    for (size_t i = 0; i < tokens * width; i++)
        x[i] += positions[i];
    trace(clip, "embeddings", 0, x, tokens, width);
    layernorm(clip, "vision_model.", "pre_layrnorm", tower, x, tokens, x);
    trace(clip, "pre_norm", 0, x, tokens, width);
    layers(clip, "vision_model", tower, x, tokens, false);
    layernorm(clip, "vision_model.", "post_layernorm", tower, x, 1, x);
    trace(clip, "final_norm", 0, x, 1, width);
    project(clip, "visual_projection.weight", x, width, embedding);
    free(x);
    free(positions);
    free(first);
    free(weights);
    free(patches);
    free(picture);
}
