// SPDX-License-Identifier: Apache-2.0
// random_clip_small.h - a whole CLIP model of 140 KB with seeded weights and odd sizes:
// nothing is a multiple of a vector or a tile, the towers differ in everything, the two
// activations included, and patches do not divide the picture.
//
// For tests: every problem ends the program with a message.
//
// Thread-safety: pure.

#ifndef RECO_TESTS_SUPPORT_RANDOM_CLIP_SMALL_H
#define RECO_TESTS_SUPPORT_RANDOM_CLIP_SMALL_H

#include "proto/base/bytes.h"

// The sizes in the config below.
#define RANDOM_CLIP_SMALL_DIMENSION 18u
#define RANDOM_CLIP_SMALL_VOCABULARY 50u
#define RANDOM_CLIP_SMALL_CONTEXT 13u
#define RANDOM_CLIP_SMALL_END 49u
#define RANDOM_CLIP_SMALL_IMAGE 17u

// The model's config.json.
extern const char random_clip_small_config[];

// Makes its safetensors file (float32). The caller frees out->data with mem_free().
void random_clip_small(struct buffer *out);

#endif
