// SPDX-License-Identifier: Apache-2.0
// open_clip's tensors under the names that Hugging Face's layout gives them. The bytes stay where
// they are, but for two: the projections are stored the other way round and are turned here. One
// fused product of queries, keys and values lies in three parts, one behind the other, so that each
// is a range of its bytes.
//
// The rest of the model is then loaded, checked and hashed as if it had come in the other layout:
// the same weights are the same space.

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/mem.h"
#include "shaders/models/clip_internal.h"

#define FILE_NAME "open_clip_model.safetensors"
#define NAME_BYTES 128
#define GLOBALS_MAX 16
#define PER_LAYER 16 // tensors of a layer under Hugging Face's names

struct name_pair {
    const char *theirs;
    const char *ours;
};

struct renaming {
    const struct weights *file;
    struct weights_tensor *tensors;
    char (*names)[NAME_BYTES]; // one for each
    size_t count;
    struct clip_openclip *out;
    struct reason *why;
};

static enum status find(struct renaming *renaming, const char *name,
                        const struct weights_tensor **out)
{
    *out = weights_find(renaming->file, name);
    if (*out)
        return STATUS_OK;
    return reason_set(renaming->why, STATUS_NOT_FOUND, FILE_NAME,
                      "has no tensor %s, which open_clip_config.json asks for", name);
}

static struct weights_tensor *add(struct renaming *renaming, const struct weights_tensor *theirs,
                                  const char *prefix, const char *name)
{
    struct weights_tensor *tensor = &renaming->tensors[renaming->count];
    char *ours = renaming->names[renaming->count++];
    (void)snprintf(ours, NAME_BYTES, "%s%s", prefix, name);
    *tensor = *theirs;
    tensor->name = ours;
    tensor->origin = theirs->name;
    return tensor;
}

static enum status rename_all(struct renaming *renaming, const char *theirs, const char *ours,
                              const struct name_pair *pairs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char name[NAME_BYTES];
        const struct weights_tensor *tensor = NULL;
        (void)snprintf(name, sizeof(name), "%s%s", theirs, pairs[i].theirs);
        enum status status = find(renaming, name, &tensor);
        if (status != STATUS_OK)
            return status;
        (void)add(renaming, tensor, ours, pairs[i].ours);
    }
    return STATUS_OK;
}

// --- one product for queries, keys and values

static enum status part_fused(struct renaming *renaming, const char *theirs, const char *ours,
                              const char *end)
{
    static const char *const parts[] = {"q", "k", "v"};
    char name[NAME_BYTES];
    const struct weights_tensor *tensor = NULL;
    (void)snprintf(name, sizeof(name), "%sattn.in_proj_%s", theirs, end);
    enum status status = find(renaming, name, &tensor);
    if (status != STATUS_OK)
        return status;
    if (tensor->rank == 0 || tensor->shape[0] % 3 != 0)
        return reason_set(renaming->why, STATUS_INVALID, FILE_NAME,
                          "%s has %llu rows; a multiple of three is needed: queries, keys, values",
                          name, tensor->rank ? (unsigned long long)tensor->shape[0] : 0);
    for (size_t i = 0; i < 3; i++) {
        (void)snprintf(name, sizeof(name), "self_attn.%s_proj.%s", parts[i], end);
        struct weights_tensor *part = add(renaming, tensor, ours, name);
        part->shape[0] /= 3;
        part->count /= 3;
        part->bytes /= 3;
        part->data += i * part->bytes;
    }
    return STATUS_OK;
}

// --- projections

static void transpose(const struct weights_tensor *tensor, uint8_t *target)
{
    size_t rows = (size_t)tensor->shape[0];
    size_t columns = (size_t)tensor->shape[1];
    size_t bytes = tensor->bytes / tensor->count;
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < columns; c++)
            memcpy(target + (c * rows + r) * bytes, tensor->data + (r * columns + c) * bytes,
                   bytes);
}

static enum status turn(struct renaming *renaming, const struct name_pair *pair)
{
    const struct weights_tensor *theirs = NULL;
    enum status status = find(renaming, pair->theirs, &theirs);
    if (status != STATUS_OK)
        return status;
    if (theirs->rank != 2 || theirs->count == 0)
        return reason_set(renaming->why, STATUS_INVALID, FILE_NAME, "%s is not a matrix",
                          pair->theirs);
    uint8_t *turned = mem_try_alloc(theirs->bytes);
    if (!turned)
        return reason_set(renaming->why, STATUS_NO_MEMORY, FILE_NAME, "no memory to turn %s",
                          pair->theirs);
    transpose(theirs, turned);
    assert(renaming->out->turned_count < CLIP_OPENCLIP_TURNED);
    renaming->out->turned[renaming->out->turned_count++] = turned;
    struct weights_tensor *ours = add(renaming, theirs, "", pair->ours);
    ours->shape[0] = theirs->shape[1];
    ours->shape[1] = theirs->shape[0];
    ours->data = turned;
    return STATUS_OK;
}

// --- all of it

static enum status rename_globals(struct renaming *renaming)
{
    static const struct name_pair plain[] = {
        {"logit_scale", "logit_scale"},
        {"token_embedding.weight", "text_model.embeddings.token_embedding.weight"},
        {"positional_embedding", "text_model.embeddings.position_embedding.weight"},
        {"ln_final.weight", "text_model.final_layer_norm.weight"},
        {"ln_final.bias", "text_model.final_layer_norm.bias"},
        {"visual.class_embedding", "vision_model.embeddings.class_embedding"},
        {"visual.positional_embedding", "vision_model.embeddings.position_embedding.weight"},
        {"visual.conv1.weight", "vision_model.embeddings.patch_embedding.weight"},
        {"visual.ln_pre.weight", "vision_model.pre_layrnorm.weight"},
        {"visual.ln_pre.bias", "vision_model.pre_layrnorm.bias"},
        {"visual.ln_post.weight", "vision_model.post_layernorm.weight"},
        {"visual.ln_post.bias", "vision_model.post_layernorm.bias"},
    };
    static const struct name_pair turned[CLIP_OPENCLIP_TURNED] = {
        {"text_projection", "text_projection.weight"},
        {"visual.proj", "visual_projection.weight"},
    };
    _Static_assert(sizeof(plain) / sizeof(plain[0]) + CLIP_OPENCLIP_TURNED <= GLOBALS_MAX, "");
    enum status status = rename_all(renaming, "", "", plain, sizeof(plain) / sizeof(plain[0]));
    for (size_t i = 0; i < CLIP_OPENCLIP_TURNED && status == STATUS_OK; i++)
        status = turn(renaming, &turned[i]);
    return status;
}

static enum status rename_layer(struct renaming *renaming, const char *theirs, const char *ours)
{
    static const struct name_pair pairs[] = {
        {"ln_1.weight", "layer_norm1.weight"},
        {"ln_1.bias", "layer_norm1.bias"},
        {"ln_2.weight", "layer_norm2.weight"},
        {"ln_2.bias", "layer_norm2.bias"},
        {"attn.out_proj.weight", "self_attn.out_proj.weight"},
        {"attn.out_proj.bias", "self_attn.out_proj.bias"},
        {"mlp.c_fc.weight", "mlp.fc1.weight"},
        {"mlp.c_fc.bias", "mlp.fc1.bias"},
        {"mlp.c_proj.weight", "mlp.fc2.weight"},
        {"mlp.c_proj.bias", "mlp.fc2.bias"},
    };
    _Static_assert(sizeof(pairs) / sizeof(pairs[0]) + 6 == PER_LAYER, "");
    enum status status =
        rename_all(renaming, theirs, ours, pairs, sizeof(pairs) / sizeof(pairs[0]));
    if (status == STATUS_OK)
        status = part_fused(renaming, theirs, ours, "weight");
    if (status == STATUS_OK)
        status = part_fused(renaming, theirs, ours, "bias");
    return status;
}

static enum status rename_tower(struct renaming *renaming, const struct name_pair *tower,
                                uint32_t layers)
{
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i < layers && status == STATUS_OK; i++) {
        char theirs[64];
        char ours[64];
        (void)snprintf(theirs, sizeof(theirs), "%s.resblocks.%u.", tower->theirs, i);
        (void)snprintf(ours, sizeof(ours), "%s.encoder.layers.%u.", tower->ours, i);
        status = rename_layer(renaming, theirs, ours);
    }
    return status;
}

enum status clip_openclip_open(const struct weights *file, const struct clip_config *config,
                               struct clip_openclip *out, struct reason *why)
{
    static const struct name_pair text = {"transformer", "text_model"};
    static const struct name_pair image = {"visual.transformer", "vision_model"};
    size_t room = GLOBALS_MAX + PER_LAYER * ((size_t)config->text.layers + config->image.layers);
    *out = (struct clip_openclip){.weights = NULL};
    struct renaming renaming = {
        .file = file,
        .tensors = mem_alloc_array(room, sizeof(struct weights_tensor)),
        .names = mem_alloc_array(room, NAME_BYTES),
        .out = out,
        .why = why,
    };
    enum status status = rename_globals(&renaming);
    if (status == STATUS_OK)
        status = rename_tower(&renaming, &text, config->text.layers);
    if (status == STATUS_OK)
        status = rename_tower(&renaming, &image, config->image.layers);
    if (status == STATUS_OK)
        status = weights_of_tensors(renaming.tensors, renaming.count, &out->weights, why);
    mem_free(renaming.tensors);
    mem_free(renaming.names);
    if (status != STATUS_OK)
        clip_openclip_close(out);
    return status;
}

void clip_openclip_close(struct clip_openclip *openclip)
{
    weights_close(&openclip->weights);
    for (size_t i = 0; i < openclip->turned_count; i++)
        mem_free(openclip->turned[i]);
    *openclip = (struct clip_openclip){.weights = NULL};
}
