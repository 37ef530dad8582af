// SPDX-License-Identifier: Apache-2.0
// Goal: no open_clip_config.json and no tensors beside it make the readers of that layout crash, or
// hand out a tensor that reaches beyond the file.
//
// Method: the input is the configuration, a byte 0, and a safetensors file. What is renamed is
// read.

#include <stdlib.h>
#include <string.h>

#include "shaders/models/clip_internal.h"
#include "shaders/models/image.h"

#define READ_BYTES_MAX ((size_t)1 << 20) // of a tensor's values

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool right)
{
    if (!right)
        abort();
}

static bool read_config(const uint8_t *data, size_t size, struct clip_config *config)
{
    struct json *document = NULL;
    struct reason why = {0};
    if (json_parse(data, size, &document, NULL) != STATUS_OK)
        return false;
    bool right = clip_config_parse_openclip(document, config, &why) == STATUS_OK;
    check(right || why.text[0]);
    if (right) {
        check(config->text.heads > 0 && config->text.width % config->text.heads == 0);
        check(config->image.heads > 0 && config->image.width % config->image.heads == 0);
        check(config->text.mlp > 0 && config->text.mlp <= CLIP_MLP_MAX);
        check(config->image.layers <= CLIP_LAYERS_MAX && config->text.layers <= CLIP_LAYERS_MAX);
        check(clip_config_image_tokens(config) <= CLIP_PATCHES_MAX + 1);
        struct image_params params;
        struct reason bad = {0};
        if (image_params_parse_openclip(json_member(document, "preprocess_cfg"), config->image_size,
                                        &params, &bad) == STATUS_OK)
            check(params.std[0] > 0 && params.size == config->image_size);
        else
            check(bad.text[0]);
    }
    json_destroy(&document);
    return right;
}

static void read_renamed(const struct weights *weights)
{
    for (size_t i = 0; i < weights_count(weights); i++) {
        const struct weights_tensor *tensor = weights_at(weights, i);
        check(weights_find(weights, tensor->name) == tensor);
        float *values = malloc(tensor->count * sizeof(float) + 1);
        struct reason why = {0};
        check(values != NULL);
        if (tensor->bytes <= READ_BYTES_MAX && weights_read(tensor, values, &why) != STATUS_OK)
            check(why.text[0]);
        free(values);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *zero = size > 0 ? memchr(data, 0, size) : NULL;
    size_t count = zero ? (size_t)(zero - data) : size;
    struct clip_config config;
    if (!read_config(data, count, &config) || !zero)
        return 0;
    struct weights *file = NULL;
    struct clip_openclip renamed;
    struct reason why = {0};
    if (weights_open_bytes((struct bytes){zero + 1, size - count - 1}, &file, &why) != STATUS_OK)
        return 0;
    if (clip_openclip_open(file, &config, &renamed, &why) == STATUS_OK)
        read_renamed(renamed.weights);
    else
        check(why.text[0]);
    clip_openclip_close(&renamed);
    weights_close(&file);
    return 0;
}
