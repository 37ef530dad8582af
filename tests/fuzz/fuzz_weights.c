// SPDX-License-Identifier: Apache-2.0
// Goal: no bytes make the readers of a model's files crash, read outside the file, or
// take memory that the file does not account for.
//
// Method: the input is read as a safetensors file, all of whose tensors are then
// converted, and as a config.json. A refusal must give a reason.

#include <stdint.h>
#include <stdlib.h>

#include "proto/base/json.h"
#include "shaders/models/clip_config.h"
#include "shaders/models/weights.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int right)
{
    if (!right)
        abort();
}

static void read_weights(const uint8_t *data, size_t size)
{
    struct weights *weights = NULL;
    struct reason why = {0};
    if (weights_open_bytes((struct bytes){data, size}, &weights, &why) != STATUS_OK) {
        check(why.text[0] != '\0' && !weights);
        return;
    }
    size_t bytes = 0;
    for (size_t i = 0; i < weights_count(weights); i++) {
        const struct weights_tensor *tensor = weights_at(weights, i);
        check(weights_find(weights, tensor->name) == tensor);
        bytes += tensor->bytes;
        check(bytes <= size && tensor->count <= tensor->bytes);
        float *values = malloc((tensor->count + 1) * sizeof(float));
        check(values != NULL);
        struct reason bad = {0};
        if (weights_read(tensor, values, &bad) != STATUS_OK)
            check(bad.text[0] != '\0');
        free(values);
    }
    weights_close(&weights);
}

static void read_config(const uint8_t *data, size_t size)
{
    struct json *document = NULL;
    struct clip_config config;
    struct reason why = {0};
    if (json_parse(data, size, &document, NULL) != STATUS_OK)
        return;
    if (clip_config_parse(document, &config, &why) == STATUS_OK) {
        check(config.text.heads > 0 && config.text.width % config.text.heads == 0);
        check(config.image.heads > 0 && config.image.width % config.image.heads == 0);
        check(config.patch_size > 0 && config.patch_size <= config.image_size);
        check(clip_config_image_tokens(&config) <= CLIP_PATCHES_MAX + 1);
    } else {
        check(why.text[0] != '\0');
    }
    json_destroy(&document);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    read_weights(data, size);
    read_config(data, size);
    return 0;
}
