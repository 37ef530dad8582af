// SPDX-License-Identifier: Apache-2.0
// Reads preprocessor_config.json of Hugging Face's CLIPImageProcessor.
//
// What the file asks for is either done exactly or refused: a step that is turned off,
// another filter or a crop beside the resized edge would give other embeddings
// than the model was trained with, without anyone noticing.

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/json.h"
#include "shaders/models/image_internal.h"

#define FILE_NAME "preprocessor_config.json"
#define RESCALE_DEFAULT (1.0 / 255.0)
#define SIZE_DEFAULT 224

static enum status refuse_in(const char *file, struct reason *why, enum status status,
                             const char *key, const char *text)
{
    char field[REASON_FIELD_BYTES];
    (void)snprintf(field, sizeof(field), "%s: %s", file, key);
    return reason_set(why, status, field, "%s", text);
}

static enum status refuse(struct reason *why, enum status status, const char *key, const char *text)
{
    return refuse_in(FILE_NAME, why, status, key, text);
}

static const struct image_params defaults = {
    .crop = IMAGE_CROP_FLOOR,
    .filter = IMAGE_FILTER_BICUBIC,
    .profile = IMAGE_PROFILE_RECO,
    .rescale = RESCALE_DEFAULT,
    .mean = {0.48145466f, 0.4578275f, 0.40821073f},
    .std = {0.26862954f, 0.26130258f, 0.27577711f},
};

// A member that is there and not null.
static const struct json *member(const struct json *object, const char *key)
{
    const struct json *value = json_member(object, key);
    return json_is_null(value) ? NULL : value;
}

static enum status check_steps(const struct json *root, struct reason *why)
{
    static const struct {
        const char *key;
        bool wanted;
    } steps[] = {
        {"do_resize", true},    {"do_center_crop", true}, {"do_rescale", true},
        {"do_normalize", true}, {"do_convert_rgb", true}, {"do_pad", false},
    };
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        const struct json *value = member(root, steps[i].key);
        if (!value)
            continue;
        if (!json_is_bool(value))
            return refuse(why, STATUS_INVALID, steps[i].key, "must be true or false");
        if (json_bool(value, false) != steps[i].wanted)
            return refuse(why, STATUS_UNSUPPORTED, steps[i].key,
                          steps[i].wanted ? "is false; CLIP's preprocessing needs this step"
                                          : "is true; CLIP's preprocessing has no such step");
    }
    return STATUS_OK;
}

static enum status check_type(const struct json *root, struct reason *why)
{
    static const char *const keys[] = {"image_processor_type", "feature_extractor_type"};
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        struct text type = json_text(member(root, keys[i]));
        if (type.data && (type.bytes < 4 || memcmp(type.data, "CLIP", 4) != 0))
            return refuse(why, STATUS_UNSUPPORTED, keys[i],
                          "is none of CLIPImageProcessor, CLIPImageProcessorFast and "
                          "CLIPFeatureExtractor");
    }
    return STATUS_OK;
}

static enum status check_filter(const struct json *root, struct reason *why)
{
    const struct json *value = member(root, "resample");
    int64_t filter = IMAGE_FILTER_BICUBIC;
    if (value && !json_int(value, &filter))
        return refuse(why, STATUS_INVALID, "resample", "must be one of Pillow's numbers, 0..5");
    if (filter != IMAGE_FILTER_BICUBIC)
        return refuse(why, STATUS_UNSUPPORTED, "resample",
                      "asks for another filter; only 3, bicubic, is supported");
    return STATUS_OK;
}

static bool is_size(const struct json *value, uint32_t *out)
{
    int64_t size = 0;
    if (!json_int(value, &size) || size < 1 || size > IMAGE_SIZE_MAX)
        return false;
    *out = (uint32_t)size;
    return true;
}

// "size": S or {"shortest_edge": S}.
static enum status read_size(const struct json *root, uint32_t *size, struct reason *why)
{
    const struct json *value = member(root, "size");
    *size = SIZE_DEFAULT;
    if (!value)
        return STATUS_OK;
    if (json_is_object(value)) {
        if (!member(value, "shortest_edge") || member(value, "longest_edge"))
            return refuse(why, STATUS_UNSUPPORTED, "size",
                          "must have shortest_edge and nothing else: other ways to resize are "
                          "not supported");
        value = member(value, "shortest_edge");
    }
    if (!is_size(value, size))
        return refuse(why, STATUS_INVALID, "size", "shortest_edge must be an integer in 1..1024");
    return STATUS_OK;
}

// "crop_size": S or {"height": S, "width": S}.
static enum status check_crop(const struct json *root, uint32_t size, struct reason *why)
{
    const struct json *value = member(root, "crop_size");
    uint32_t edges[2] = {SIZE_DEFAULT, SIZE_DEFAULT};
    if (json_is_object(value)) {
        if (!is_size(member(value, "height"), &edges[0]) ||
            !is_size(member(value, "width"), &edges[1]))
            return refuse(why, STATUS_INVALID, "crop_size",
                          "height and width must be integers in 1..1024");
    } else if (value) {
        if (!is_size(value, &edges[0]))
            return refuse(why, STATUS_INVALID, "crop_size", "must be an integer in 1..1024");
        edges[1] = edges[0];
    }
    if (edges[0] != size || edges[1] != size)
        return refuse(why, STATUS_UNSUPPORTED, "crop_size",
                      "must be a square as large as size.shortest_edge");
    return STATUS_OK;
}

// Three numbers; `is_divisor` when they must be above 0.
static enum status read_three(const struct json *root, const char *file, const char *key,
                              bool is_divisor, float out[3], struct reason *why)
{
    const struct json *value = member(root, key);
    if (!value)
        return STATUS_OK;
    if (!json_is_array(value) || json_count(value) != 3)
        return refuse_in(file, why, STATUS_INVALID, key, "must be three numbers");
    for (size_t i = 0; i < 3; i++) {
        double number = 0;
        if (!json_double(json_element(value, i), &number) || !isfinite((float)number))
            return refuse_in(file, why, STATUS_INVALID, key, "must be three numbers");
        if (is_divisor && (float)number <= 0)
            return refuse_in(file, why, STATUS_INVALID, key, "must be three numbers above 0");
        out[i] = (float)number;
    }
    return STATUS_OK;
}

static enum status read_rescale(const struct json *root, double *rescale, struct reason *why)
{
    const struct json *value = member(root, "rescale_factor");
    *rescale = RESCALE_DEFAULT;
    if (!value)
        return STATUS_OK;
    double number = 0;
    if (!json_double(value, &number) || !isfinite(number) || number <= 0 || number > 1)
        return refuse(why, STATUS_INVALID, "rescale_factor", "must be a number in 0..1, not 0");
    *rescale = number;
    return STATUS_OK;
}

static enum status read_root(const struct json *root, struct image_params *params,
                             struct reason *why)
{
    if (!json_is_object(root))
        return reason_set(why, STATUS_INVALID, FILE_NAME, "must be an object");
    enum status status = check_type(root, why);
    if (status == STATUS_OK)
        status = check_steps(root, why);
    if (status == STATUS_OK)
        status = check_filter(root, why);
    if (status == STATUS_OK)
        status = read_size(root, &params->size, why);
    if (status == STATUS_OK)
        status = check_crop(root, params->size, why);
    if (status == STATUS_OK)
        status = read_rescale(root, &params->rescale, why);
    if (status == STATUS_OK)
        status = read_three(root, FILE_NAME, "image_mean", false, params->mean, why);
    if (status == STATUS_OK)
        status = read_three(root, FILE_NAME, "image_std", true, params->std, why);
    return status;
}

enum status image_params_parse(struct bytes preprocessor_json, uint32_t image_size,
                               struct image_params *out, struct reason *why)
{
    assert(out);

    if (preprocessor_json.count > IMAGE_CONFIG_BYTES_MAX)
        return reason_set(why, STATUS_INVALID, FILE_NAME, "%zu bytes; at most %d are allowed",
                          preprocessor_json.count, IMAGE_CONFIG_BYTES_MAX);
    struct json *root = NULL;
    enum status status = json_parse(preprocessor_json.data, preprocessor_json.count, &root, why);
    if (status != STATUS_OK)
        return status;

    struct image_params params = defaults;
    status = read_root(root, &params, why);
    json_destroy(&root);
    if (status != STATUS_OK)
        return status;
    if (params.size != image_size)
        return reason_set(why, STATUS_INVALID, FILE_NAME ": size",
                          "makes pictures of %u x %u pixels, but the model takes %u x %u",
                          params.size, params.size, image_size, image_size);
    *out = params;
    return STATUS_OK;
}

enum status image_params_parse_openclip(const struct json *preprocess, uint32_t image_size,
                                        struct image_params *out, struct reason *why)
{
    static const struct {
        const char *key, *word;
    } words[] = {{"mode", "RGB"}, {"interpolation", "bicubic"}, {"resize_mode", "shortest"}};
    const char *file = "open_clip_config.json: preprocess_cfg";
    assert(out);

    struct image_params params = defaults;
    params.size = image_size;
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        const struct json *value = member(preprocess, words[i].key);
        if (value && !text_equal(json_text(value), text_of(words[i].word))) {
            char text[64];
            (void)snprintf(text, sizeof(text), "is not \"%s\", the only one that is supported",
                           words[i].word);
            return refuse_in(file, why, STATUS_UNSUPPORTED, words[i].key, text);
        }
    }
    const struct json *size = member(preprocess, "size");
    for (size_t i = 0; i < (json_is_array(size) ? json_count(size) : size != NULL); i++) {
        uint32_t edge = 0;
        if (!is_size(json_is_array(size) ? json_element(size, i) : size, &edge) ||
            edge != image_size)
            return refuse_in(file, why, STATUS_INVALID, "size",
                             "is not what vision_cfg.image_size says");
    }
    enum status status = read_three(preprocess, file, "mean", false, params.mean, why);
    if (status == STATUS_OK)
        status = read_three(preprocess, file, "std", true, params.std, why);
    if (status == STATUS_OK)
        *out = params;
    return status;
}
