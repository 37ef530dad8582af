// SPDX-License-Identifier: Apache-2.0
// Names and shapes are listed here by hand, apart from the loader's, so that one
// checks the other.

#include "tests/support/random_clip_small.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/mem.h"

#define NAME_BYTES 96
#define TENSORS_MAX 128
#define HEADER_BYTES_MAX 32768

const char random_clip_small_config[] =
    "{\"model_type\": \"clip\", \"projection_dim\": 18,\n"
    " \"text_config\": {\"hidden_size\": 20, \"intermediate_size\": 36, \"num_hidden_layers\": 2,\n"
    "  \"num_attention_heads\": 5, \"hidden_act\": \"quick_gelu\", \"vocab_size\": 50,\n"
    "  \"max_position_embeddings\": 13, \"eos_token_id\": 49},\n"
    " \"vision_config\": {\"hidden_size\": 27, \"intermediate_size\": 41,\n"
    "  \"num_hidden_layers\": 3, \"num_attention_heads\": 3, \"hidden_act\": \"gelu\",\n"
    "  \"image_size\": 17, \"patch_size\": 5}}\n";

struct entry {
    char name[NAME_BYTES + 16];
    size_t shape[4];
    size_t rank;
    size_t count;
};

struct plan {
    struct entry entry[TENSORS_MAX];
    size_t entries;
};

static void add(struct plan *plan, const char *prefix, const char *name, size_t rows,
                size_t columns)
{
    if (plan->entries == TENSORS_MAX)
        abort();
    struct entry *entry = &plan->entry[plan->entries++];
    (void)snprintf(entry->name, sizeof(entry->name), "%s%s", prefix, name);
    entry->shape[0] = rows;
    entry->shape[1] = columns;
    entry->rank = columns > 0 ? 2 : 1;
    entry->count = columns > 0 ? rows * columns : rows;
}

static void add_pair(struct plan *plan, const char *prefix, const char *name, size_t rows,
                     size_t columns)
{
    char full[NAME_BYTES];
    (void)snprintf(full, sizeof(full), "%s%s", prefix, name);
    add(plan, full, ".weight", rows, columns);
    add(plan, full, ".bias", rows, 0);
}

static void add_layers(struct plan *plan, const char *tower, size_t layers, size_t width,
                       size_t mlp)
{
    for (size_t i = 0; i < layers; i++) {
        char prefix[NAME_BYTES / 2];
        (void)snprintf(prefix, sizeof(prefix), "%s.encoder.layers.%zu.", tower, i);
        add_pair(plan, prefix, "layer_norm1", width, 0);
        add_pair(plan, prefix, "layer_norm2", width, 0);
        add_pair(plan, prefix, "self_attn.k_proj", width, width);
        add_pair(plan, prefix, "self_attn.out_proj", width, width);
        add_pair(plan, prefix, "self_attn.q_proj", width, width);
        add_pair(plan, prefix, "self_attn.v_proj", width, width);
        add_pair(plan, prefix, "mlp.fc1", mlp, width);
        add_pair(plan, prefix, "mlp.fc2", width, mlp);
    }
}

static void make_plan(struct plan *plan)
{
    add(plan, "", "logit_scale", 1, 0);
    plan->entry[0].rank = 0;
    add(plan, "", "text_projection.weight", 18, 20);
    add(plan, "", "visual_projection.weight", 18, 27);
    add(plan, "text_model.embeddings.", "token_embedding.weight", 50, 20);
    add(plan, "text_model.embeddings.", "position_embedding.weight", 13, 20);
    add_layers(plan, "text_model", 2, 20, 36);
    add_pair(plan, "text_model.", "final_layer_norm", 20, 0);
    add(plan, "vision_model.embeddings.", "class_embedding", 27, 0);
    add(plan, "vision_model.embeddings.", "position_embedding.weight", 10, 27);
    add(plan, "vision_model.embeddings.", "patch_embedding.weight", 27, 75);
    struct entry *patches = &plan->entry[plan->entries - 1];
    patches->rank = 4;
    patches->shape[1] = 3;
    patches->shape[2] = 5;
    patches->shape[3] = 5;
    add_pair(plan, "vision_model.", "pre_layrnorm", 27, 0);
    add_layers(plan, "vision_model", 3, 27, 41);
    add_pair(plan, "vision_model.", "post_layernorm", 27, 0);
}

static size_t write_header(const struct plan *plan, char *header)
{
    size_t used = (size_t)snprintf(header, HEADER_BYTES_MAX, "{");
    size_t at = 0;
    for (size_t i = 0; i < plan->entries; i++) {
        const struct entry *entry = &plan->entry[i];
        used += (size_t)snprintf(header + used, HEADER_BYTES_MAX - used,
                                 "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[", i > 0 ? "," : "",
                                 entry->name);
        for (size_t d = 0; d < entry->rank; d++)
            used += (size_t)snprintf(header + used, HEADER_BYTES_MAX - used, "%s%zu",
                                     d > 0 ? "," : "", entry->shape[d]);
        size_t end = at + entry->count * sizeof(float);
        used += (size_t)snprintf(header + used, HEADER_BYTES_MAX - used,
                                 "],\"data_offsets\":[%zu,%zu]}", at, end);
        at = end;
    }
    used += (size_t)snprintf(header + used, HEADER_BYTES_MAX - used, "}");
    if (used >= HEADER_BYTES_MAX)
        abort();
    return used;
}

static bool is_norm(const char *name)
{
    return strstr(name, "norm") && strstr(name, ".weight");
}

void random_clip_small(struct buffer *out)
{
    struct plan *plan = mem_alloc(sizeof(*plan));
    char *header = mem_alloc(HEADER_BYTES_MAX);
    uint8_t length[8];
    uint64_t state = 20240229;

    make_plan(plan);
    size_t header_bytes = write_header(plan, header);
    bytes_put_u64_le(length, header_bytes);
    *out = (struct buffer){0};
    if (buffer_append(out, length, sizeof(length)) != STATUS_OK ||
        buffer_append(out, header, header_bytes) != STATUS_OK)
        abort();
    for (size_t i = 0; i < plan->entries; i++) {
        const struct entry *entry = &plan->entry[i];
        // Wide enough that attention and activations leave their linear range.
        double depth = entry->rank < 2 ? 12.0 : (double)entry->count / (double)entry->shape[0];
        double scale = strstr(entry->name, "embedding") ? 1.0 : 2.0 * sqrt(3.0 / depth);
        for (size_t v = 0; v < entry->count; v++) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            double unit = (double)(int64_t)state / 9223372036854775808.0;
            float value = (float)(is_norm(entry->name) ? 1.0 + 0.3 * unit : scale * unit);
            if (buffer_append(out, &value, sizeof(value)) != STATUS_OK)
                abort();
        }
    }
    mem_free(header);
    mem_free(plan);
}
