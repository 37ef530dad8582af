// SPDX-License-Identifier: Apache-2.0
// open_clip_config.json: {"model_cfg": {"embed_dim", "quick_gelu", "vision_cfg": {}, "text_cfg":
// {}}, "preprocess_cfg": {}}. The library builds many kinds of towers from such files; the one that
// is CLIP's is told by what the file does not ask for. So a key that is not known here may only say
// "off"; anything else is refused rather than computed wrongly.

#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/limits.h"
#include "shaders/models/clip_config_internal.h"

#define FILE_NAME "open_clip_config.json"

// A key that may be there: read elsewhere, without effect on embeddings, or with one allowed word.
struct known {
    const char *key;
    const char *word; // NULL: any value
};

static bool is_off(const struct json *value)
{
    double number = 0;
    if (json_is_null(value))
        return true;
    if (json_is_bool(value))
        return !json_bool(value, true);
    return json_double(value, &number) && !(number < 0) && !(number > 0);
}

static enum status check_keys(const struct clip_config_section *section, const struct known *known,
                              size_t count, struct reason *why)
{
    void *iterator = NULL;
    const char *key = NULL;
    const struct json *value = NULL;
    while (json_next(section->plain, &iterator, &key, &value)) {
        size_t i = 0;
        while (i < count && strcmp(known[i].key, key) != 0)
            i++;
        if (is_off(value) ||
            (i < count && (!known[i].word || text_equal(json_text(value), text_of(known[i].word)))))
            continue;
        return reason_set(why, STATUS_UNSUPPORTED, FILE_NAME,
                          "%s%s%.64s asks for another model than CLIP's; absent%s%s is possible",
                          section->name, section->name[0] ? "." : "", key,
                          i < count ? " or " : ", null or false",
                          i < count && known[i].word ? known[i].word : "");
    }
    return STATUS_OK;
}

// {"eps": x} of norm_kwargs.
static enum status read_epsilon(const struct clip_config_section *section, float *out,
                                struct reason *why)
{
    const struct json *kwargs = json_member(section->plain, "norm_kwargs");
    double epsilon = 1e-5;
    if (json_is_object(kwargs) && json_count(kwargs) == 1 && json_member(kwargs, "eps")) {
        if (!json_double(json_member(kwargs, "eps"), &epsilon))
            return clip_config_fail(why, section, "norm_kwargs.eps", "is not a number");
    } else if (kwargs && !json_is_null(kwargs) && json_count(kwargs) > 0) {
        return clip_config_fail(why, section, "norm_kwargs", "may hold eps and nothing else");
    }
    if (!(epsilon >= 1e-12 && epsilon <= 0.1))
        return clip_config_fail(why, section, "norm_kwargs.eps",
                                "is out of range; 1e-12..0.1 are possible");
    *out = (float)epsilon;
    return STATUS_OK;
}

// The perceptron's width: width * mlp_ratio, cut to a whole number.
static enum status read_mlp(const struct clip_config_section *section, uint32_t width,
                            uint32_t *out, struct reason *why)
{
    const struct json *value = json_member(section->plain, "mlp_ratio");
    double ratio = 4.0;
    if (value && !json_is_null(value) && !json_double(value, &ratio))
        return clip_config_fail(why, section, "mlp_ratio", "is not a number");
    double mlp = ratio * width;
    if (!(mlp >= 1.0 && mlp < CLIP_MLP_MAX + 1.0))
        return clip_config_fail(why, section, "mlp_ratio",
                                "times width makes no perceptron of 1..32768 columns");
    *out = (uint32_t)mlp;
    return STATUS_OK;
}

static enum status read_rest(const struct clip_config_section *section, struct clip_tower *tower,
                             struct reason *why)
{
    enum status status = read_mlp(section, tower->width, &tower->mlp, why);
    if (status == STATUS_OK)
        status = read_epsilon(section, &tower->epsilon, why);
    return status;
}

static enum status read_text(const struct clip_config_section *section, struct clip_config *out,
                             struct reason *why)
{
    static const struct known known[] = {
        {"context_length", NULL}, {"vocab_size", NULL},
        {"width", NULL},          {"heads", NULL},
        {"layers", NULL},         {"mlp_ratio", NULL},
        {"norm_kwargs", NULL},    {"pool_type", "argmax"},
        {"proj_type", "linear"},  {"block_type", "default"},
        {"pad_id", NULL},         {"eos_id", NULL},
        {"output_tokens", NULL},  {"hf_model_pretrained", NULL},
    };
    const struct clip_config_number numbers[] = {
        {"width", 512, 1, CLIP_WIDTH_MAX, &out->text.width},
        {"layers", 12, 1, CLIP_LAYERS_MAX, &out->text.layers},
        {"heads", 8, 1, CLIP_HEADS_MAX, &out->text.heads},
        {"vocab_size", 49408, 2, CLIP_VOCABULARY_MAX, &out->vocabulary},
        {"context_length", 77, 2, CLIP_CONTEXT_MAX, &out->context},
    };
    enum status status = check_keys(section, known, sizeof(known) / sizeof(known[0]), why);
    if (status == STATUS_OK)
        status =
            clip_config_read_numbers(section, numbers, sizeof(numbers) / sizeof(numbers[0]), why);
    if (status == STATUS_OK && out->text.width % out->text.heads != 0)
        status = clip_config_fail(why, section, "heads", "does not divide width");
    return status == STATUS_OK ? read_rest(section, &out->text, why) : status;
}

static enum status read_image(const struct clip_config_section *section, struct clip_config *out,
                              struct reason *why)
{
    static const struct known known[] = {
        {"image_size", NULL},
        {"layers", NULL},
        {"width", NULL},
        {"head_width", NULL},
        {"mlp_ratio", NULL},
        {"patch_size", NULL},
        {"norm_kwargs", NULL},
        {"pool_type", "tok"},
        {"pos_embed_type", "learnable"},
        {"patch_dropout", NULL},
        {"output_tokens", NULL},
        {"block_type", "default"},
        {"attn_pooler_queries", NULL},
        {"attn_pooler_heads", NULL},
        {"timm_pool", NULL},
        {"timm_proj", NULL},
    };
    uint32_t head_width = 0;
    const struct clip_config_number numbers[] = {
        {"width", 768, 1, CLIP_WIDTH_MAX, &out->image.width},
        {"layers", 12, 1, CLIP_LAYERS_MAX, &out->image.layers},
        {"head_width", 64, 1, CLIP_WIDTH_MAX, &head_width},
        {"image_size", 224, 1, CLIP_IMAGE_SIZE_MAX, &out->image_size},
        {"patch_size", 16, 1, 128, &out->patch_size},
    };
    enum status status = check_keys(section, known, sizeof(known) / sizeof(known[0]), why);
    if (status == STATUS_OK)
        status =
            clip_config_read_numbers(section, numbers, sizeof(numbers) / sizeof(numbers[0]), why);
    if (status != STATUS_OK)
        return status;
    out->image.heads = out->image.width / head_width;
    if (out->image.heads == 0 || out->image.width % out->image.heads != 0 ||
        out->image.heads > CLIP_HEADS_MAX)
        return clip_config_fail(why, section, "head_width",
                                "does not part width into 1..128 equal heads");
    status = read_rest(section, &out->image, why);
    return status == STATUS_OK ? clip_config_check_patches(section, out, why) : status;
}

static enum status read_activation(const struct clip_config_section *model, struct clip_config *out,
                                   struct reason *why)
{
    const struct json *value = json_member(model->plain, "quick_gelu");
    if (value && !json_is_null(value) && !json_is_bool(value))
        return clip_config_fail(why, model, "quick_gelu", "is not true or false");
    out->text.activation = json_bool(value, false) ? CLIP_QUICK_GELU : CLIP_GELU;
    out->image.activation = out->text.activation;
    return STATUS_OK;
}

static enum status read_model(const struct clip_config_section *model, struct clip_config *out,
                              struct reason *why)
{
    static const struct known known[] = {
        {"embed_dim", NULL},        {"quick_gelu", NULL}, {"vision_cfg", NULL},  {"text_cfg", NULL},
        {"init_logit_scale", NULL}, {"cast_dtype", NULL}, {"output_dict", NULL},
    };
    const struct clip_config_number dimension = {"embed_dim", 0, 1, DIMENSION_MAX, &out->dimension};
    const struct clip_config_section text = {FILE_NAME, "text_cfg",
                                             json_member(model->plain, "text_cfg"), NULL};
    const struct clip_config_section image = {FILE_NAME, "vision_cfg",
                                              json_member(model->plain, "vision_cfg"), NULL};
    if (!json_is_object(text.plain) || !json_is_object(image.plain))
        return clip_config_fail(why, model, json_is_object(text.plain) ? "vision_cfg" : "text_cfg",
                                "is not an object");
    enum status status = check_keys(model, known, sizeof(known) / sizeof(known[0]), why);
    if (status == STATUS_OK)
        status = clip_config_read_numbers(model, &dimension, 1, why);
    if (status == STATUS_OK)
        status = read_activation(model, out, why);
    if (status == STATUS_OK)
        status = read_text(&text, out, why);
    return status == STATUS_OK ? read_image(&image, out, why) : status;
}

enum status clip_config_parse_openclip(const struct json *document, struct clip_config *out,
                                       struct reason *why)
{
    assert(out);

    const struct clip_config_section model = {FILE_NAME, "model_cfg",
                                              json_member(document, "model_cfg"), NULL};
    if (!json_is_object(model.plain))
        return reason_set(why, STATUS_INVALID, FILE_NAME, "model_cfg is missing or not an object");
    struct clip_config config = {.end_token = 2};
    enum status status = read_model(&model, &config, why);
    if (status == STATUS_OK)
        *out = config;
    return status;
}
