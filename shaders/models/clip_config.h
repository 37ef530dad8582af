// SPDX-License-Identifier: Apache-2.0
// clip_config.h - the shape of a CLIP model from its configuration, in Hugging Face's layout or
// open_clip's.
//
// Keys that are missing have the values of Hugging Face's configuration class. One has
// no default here: the activation. Models in circulation were trained with either of
// two, and the wrong one costs accuracy without any other sign; so hidden_act must be
// there, in both towers.
//
// Thread-safety: pure.

#ifndef RECO_SHADERS_MODELS_CLIP_CONFIG_H
#define RECO_SHADERS_MODELS_CLIP_CONFIG_H

#include <stddef.h>
#include <stdint.h>

#include "proto/base/json.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"

#define CLIP_WIDTH_MAX 8192u
#define CLIP_MLP_MAX 32768u
#define CLIP_LAYERS_MAX 128u
#define CLIP_HEADS_MAX 128u
#define CLIP_VOCABULARY_MAX 1048576u
#define CLIP_CONTEXT_MAX 1024u
#define CLIP_IMAGE_SIZE_MAX 1024u
#define CLIP_PATCHES_MAX 4096u // of an image

enum clip_activation {
    CLIP_QUICK_GELU,
    CLIP_GELU,
};

struct clip_tower {
    uint32_t width; // floats of a token; a multiple of heads
    uint32_t mlp;   // floats between the two layers of the perceptron
    uint32_t layers;
    uint32_t heads;
    enum clip_activation activation;
    float epsilon; // of the layer normalisations
};

struct clip_config {
    uint32_t dimension; // of the joint space
    struct clip_tower text;
    struct clip_tower image;
    uint32_t vocabulary;
    uint32_t context;   // tokens of a text, both end tokens included
    uint32_t end_token; // a text is read where it stands; 2 means: where the largest id stands
    uint32_t image_size;
    uint32_t patch_size;
};

// Reads the parsed config.json. STATUS_INVALID naming the key, its value and what is
// possible; STATUS_UNSUPPORTED for another kind of model.
enum status clip_config_parse(const struct json *document, struct clip_config *out,
                              struct reason *why) MUST_CHECK;

// Reads the parsed open_clip_config.json of open_clip's layout, whose defaults are that library's.
// There an absent quick_gelu means gelu: unlike Hugging Face's, its writers leave the key out only
// then. Keys that would change what is computed are refused by name. The end token is 2: open_clip
// reads a text where the largest id stands.
enum status clip_config_parse_openclip(const struct json *document, struct clip_config *out,
                                       struct reason *why) MUST_CHECK;

// Tokens of an image: its patches and the class token.
uint32_t clip_config_image_tokens(const struct clip_config *config);

const char *clip_config_activation_name(enum clip_activation activation);

#endif
