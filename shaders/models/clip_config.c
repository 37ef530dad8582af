// SPDX-License-Identifier: Apache-2.0
// Old files hold a tower's keys twice, as text_config and text_config_dict. Where both
// have a key they must agree: which of the two a reader prefers has changed over time.

#include "shaders/models/clip_config.h"

#include <assert.h>
#include <stdbool.h>
#include <stdio.h>

#include "proto/base/limits.h"
#include "shaders/models/clip_config_internal.h"

#define FILE_NAME "config.json"

enum status clip_config_fail(struct reason *why, const struct clip_config_section *section,
                             const char *key, const char *text)
{
    return reason_set(why, STATUS_INVALID, section->file, "%s%s%s %s", section->name,
                      section->name[0] ? "." : "", key, text);
}

// The key's value, or NULL when missing or null. Keys of both forms are compared.
enum status clip_config_find(const struct clip_config_section *section, const char *key,
                             const struct json **out, struct reason *why)
{
    const struct json *plain = json_member(section->plain, key);
    const struct json *dict = json_member(section->dict, key);
    plain = json_is_null(plain) ? NULL : plain;
    dict = json_is_null(dict) ? NULL : dict;
    if (plain && dict) {
        double a;
        double b;
        bool equal = false;
        if (json_double(plain, &a) && json_double(dict, &b))
            equal = !(a < b) && !(b < a);
        else if (json_is_text(plain) && json_is_text(dict))
            equal = text_equal(json_text(plain), json_text(dict));
        if (!equal)
            return clip_config_fail(why, section, key,
                                    "differs from the same key of its _dict form");
    }
    *out = plain ? plain : dict;
    return STATUS_OK;
}

static enum status read_number(const struct clip_config_section *section,
                               const struct clip_config_number *number, struct reason *why)
{
    const struct json *value = NULL;
    enum status status = clip_config_find(section, number->key, &value, why);
    if (status != STATUS_OK)
        return status;
    int64_t got = number->fallback;
    if (value && !json_int(value, &got))
        return clip_config_fail(why, section, number->key, "is not an integer");
    if (got < (int64_t)number->min || got > (int64_t)number->max) {
        char text[96];
        (void)snprintf(text, sizeof(text), "is %lld; %u..%u are possible", (long long)got,
                       number->min, number->max);
        return clip_config_fail(why, section, number->key, text);
    }
    *number->target = (uint32_t)got;
    return STATUS_OK;
}

enum status clip_config_read_numbers(const struct clip_config_section *section,
                                     const struct clip_config_number *numbers, size_t count,
                                     struct reason *why)
{
    for (size_t i = 0; i < count; i++) {
        enum status status = read_number(section, &numbers[i], why);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

static enum status read_epsilon(const struct clip_config_section *section, float *out,
                                struct reason *why)
{
    const struct json *value = NULL;
    enum status status = clip_config_find(section, "layer_norm_eps", &value, why);
    if (status != STATUS_OK)
        return status;
    double epsilon = 1e-5;
    if (value && !json_double(value, &epsilon))
        return clip_config_fail(why, section, "layer_norm_eps", "is not a number");
    if (!(epsilon >= 1e-12 && epsilon <= 0.1))
        return clip_config_fail(why, section, "layer_norm_eps",
                                "is out of range; 1e-12..0.1 are possible");
    *out = (float)epsilon;
    return STATUS_OK;
}

static enum status read_activation(const struct clip_config_section *section,
                                   enum clip_activation *out, struct reason *why)
{
    const struct json *value = NULL;
    enum status status = clip_config_find(section, "hidden_act", &value, why);
    if (status != STATUS_OK)
        return status;
    if (!value)
        return clip_config_fail(why, section, "hidden_act",
                                "is missing; write \"quick_gelu\" (weights of OpenAI) or \"gelu\" "
                                "(most others) there, it is never guessed");
    struct text text = json_text(value);
    if (text_equal(text, text_of("quick_gelu"))) {
        *out = CLIP_QUICK_GELU;
    } else if (text_equal(text, text_of("gelu"))) {
        *out = CLIP_GELU;
    } else {
        char problem[128];
        (void)snprintf(problem, sizeof(problem),
                       "is '%.*s'; \"quick_gelu\" and \"gelu\" are possible",
                       (int)(text.bytes < 32 ? text.bytes : 32), text.data ? text.data : "");
        return clip_config_fail(why, section, "hidden_act", problem);
    }
    return STATUS_OK;
}

static enum status read_tower(const struct clip_config_section *section,
                              const struct clip_tower *fallback, struct clip_tower *out,
                              struct reason *why)
{
    const struct clip_config_number numbers[] = {
        {"hidden_size", fallback->width, 1, CLIP_WIDTH_MAX, &out->width},
        {"intermediate_size", fallback->mlp, 1, CLIP_MLP_MAX, &out->mlp},
        {"num_hidden_layers", fallback->layers, 1, CLIP_LAYERS_MAX, &out->layers},
        {"num_attention_heads", fallback->heads, 1, CLIP_HEADS_MAX, &out->heads},
    };
    enum status status =
        clip_config_read_numbers(section, numbers, sizeof(numbers) / sizeof(numbers[0]), why);
    if (status == STATUS_OK)
        status = read_epsilon(section, &out->epsilon, why);
    if (status == STATUS_OK)
        status = read_activation(section, &out->activation, why);
    if (status != STATUS_OK)
        return status;
    if (out->width % out->heads != 0) {
        char text[96];
        (void)snprintf(text, sizeof(text), "is %u, which does not divide hidden_size %u",
                       out->heads, out->width);
        return clip_config_fail(why, section, "num_attention_heads", text);
    }
    return STATUS_OK;
}

static enum status open_section(const struct json *document, const char *name,
                                struct clip_config_section *section, struct reason *why)
{
    char dict[32];
    (void)snprintf(dict, sizeof(dict), "%s_dict", name);
    section->file = FILE_NAME;
    section->name = name;
    section->plain = json_member(document, name);
    section->dict = json_member(document, dict);
    if (section->plain && !json_is_object(section->plain) && !json_is_null(section->plain))
        return reason_set(why, STATUS_INVALID, FILE_NAME, "%s is not an object", name);
    if (section->dict && !json_is_object(section->dict) && !json_is_null(section->dict))
        return reason_set(why, STATUS_INVALID, FILE_NAME, "%s is not an object", dict);
    return STATUS_OK;
}

static enum status read_text(const struct json *document, struct clip_config *out,
                             struct reason *why)
{
    static const struct clip_tower fallback = {.width = 512, .mlp = 2048, .layers = 12, .heads = 8};
    struct clip_config_section section;
    enum status status = open_section(document, "text_config", &section, why);
    if (status == STATUS_OK)
        status = read_tower(&section, &fallback, &out->text, why);
    if (status != STATUS_OK)
        return status;
    const struct clip_config_number numbers[] = {
        {"vocab_size", 49408, 2, CLIP_VOCABULARY_MAX, &out->vocabulary},
        {"max_position_embeddings", 77, 2, CLIP_CONTEXT_MAX, &out->context},
        {"eos_token_id", 49407, 0, CLIP_VOCABULARY_MAX - 1, &out->end_token},
    };
    return clip_config_read_numbers(&section, numbers, sizeof(numbers) / sizeof(numbers[0]), why);
}

enum status clip_config_check_patches(const struct clip_config_section *section,
                                      const struct clip_config *config, struct reason *why)
{
    if (config->patch_size > config->image_size)
        return reason_set(why, STATUS_INVALID, section->file,
                          "%s.patch_size %u is larger than image_size %u", section->name,
                          config->patch_size, config->image_size);
    if (clip_config_image_tokens(config) > CLIP_PATCHES_MAX + 1)
        return reason_set(why, STATUS_INVALID, section->file,
                          "%s: image_size %u and patch_size %u make %u patches; at most %u are "
                          "possible",
                          section->name, config->image_size, config->patch_size,
                          clip_config_image_tokens(config) - 1, CLIP_PATCHES_MAX);
    return STATUS_OK;
}

static enum status read_image(const struct json *document, struct clip_config *out,
                              struct reason *why)
{
    static const struct clip_tower fallback = {
        .width = 768, .mlp = 3072, .layers = 12, .heads = 12};
    struct clip_config_section section;
    enum status status = open_section(document, "vision_config", &section, why);
    if (status == STATUS_OK)
        status = read_tower(&section, &fallback, &out->image, why);
    if (status != STATUS_OK)
        return status;
    uint32_t channels = 0;
    const struct clip_config_number numbers[] = {
        {"image_size", 224, 1, CLIP_IMAGE_SIZE_MAX, &out->image_size},
        {"patch_size", 32, 1, 128, &out->patch_size},
        {"num_channels", 3, 3, 3, &channels},
    };
    status = clip_config_read_numbers(&section, numbers, sizeof(numbers) / sizeof(numbers[0]), why);
    if (status != STATUS_OK)
        return status;
    return clip_config_check_patches(&section, out, why);
}

enum status clip_config_parse(const struct json *document, struct clip_config *out,
                              struct reason *why)
{
    assert(out);

    if (!json_is_object(document))
        return reason_set(why, STATUS_INVALID, FILE_NAME, "is not a JSON object");
    const struct json *type = json_member(document, "model_type");
    if (type && !text_equal(json_text(type), text_of("clip"))) {
        struct text text = json_text(type);
        return reason_set(why, STATUS_UNSUPPORTED, FILE_NAME,
                          "model_type is '%.*s'; only clip can be read",
                          (int)(text.bytes < 64 ? text.bytes : 64), text.data ? text.data : "");
    }

    struct clip_config config = {0};
    enum status status = read_text(document, &config, why);
    if (status == STATUS_OK)
        status = read_image(document, &config, why);
    if (status != STATUS_OK)
        return status;
    const struct clip_config_section top = {.file = FILE_NAME, .name = "", .plain = document};
    const struct clip_config_number dimension = {"projection_dim", 512, 1, DIMENSION_MAX,
                                                 &config.dimension};
    status = read_number(&top, &dimension, why);
    if (status == STATUS_OK)
        *out = config;
    return status;
}

uint32_t clip_config_image_tokens(const struct clip_config *config)
{
    uint32_t side = config->image_size / config->patch_size;
    return side * side + 1;
}

const char *clip_config_activation_name(enum clip_activation activation)
{
    return activation == CLIP_QUICK_GELU ? "quick_gelu" : "gelu";
}
