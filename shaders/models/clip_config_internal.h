// SPDX-License-Identifier: Apache-2.0
// clip_config_internal.h - how both layouts' configurations are read; private to clip_config*.c.
//
// Thread-safety: pure.

#ifndef RECO_SHADERS_MODELS_CLIP_CONFIG_INTERNAL_H
#define RECO_SHADERS_MODELS_CLIP_CONFIG_INTERNAL_H

#include "shaders/models/clip_config.h"

// Keys of a tower, or of the whole; Hugging Face's may stand under either of two names.
struct clip_config_section {
    const char *file;
    const char *name;         // "" for the whole
    const struct json *plain; // NULL: absent
    const struct json *dict;
};

struct clip_config_number {
    const char *key;
    uint32_t fallback;
    uint32_t min;
    uint32_t max;
    uint32_t *target;
};

// STATUS_INVALID for a key: `text` says what is wrong with it.
enum status clip_config_fail(struct reason *why, const struct clip_config_section *section,
                             const char *key, const char *text);

// The key's value, or NULL when missing or null. Keys of both forms are compared.
enum status clip_config_find(const struct clip_config_section *section, const char *key,
                             const struct json **out, struct reason *why) MUST_CHECK;

// Whole numbers in their ranges. STATUS_INVALID naming the key, its value and what is possible.
enum status clip_config_read_numbers(const struct clip_config_section *section,
                                     const struct clip_config_number *numbers, size_t count,
                                     struct reason *why) MUST_CHECK;

// Whether patches fit into the picture, and not too many.
enum status clip_config_check_patches(const struct clip_config_section *section,
                                      const struct clip_config *config,
                                      struct reason *why) MUST_CHECK;

#endif
