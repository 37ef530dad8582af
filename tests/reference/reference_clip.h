// SPDX-License-Identifier: Apache-2.0
// reference_clip.h - both towers of CLIP in double precision, from the same weights file
// and configuration as the real encoder.
//
// Thread-safety: pure. Memory that runs out ends the program: this is for tests.

#ifndef RECO_TESTS_REFERENCE_REFERENCE_CLIP_H
#define RECO_TESTS_REFERENCE_REFERENCE_CLIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shaders/models/clip_config.h"
#include "shaders/models/weights.h"

// Called after each step with what it made: "embeddings", "pre_norm", "block" with the
// layer's number, "final_norm". `values` is [rows][width] and valid during the call.
typedef void (*reference_trace)(void *context, const char *step, uint32_t layer,
                                const double *values, size_t rows, size_t width);

struct reference_clip {
    const struct weights *weights;
    const struct clip_config *config;
    reference_trace trace; // NULL for none
    void *context;
};

// The unit embedding of one row as it leaves the last layer of the image or
// text tower: last normalisation and projection.
void reference_clip_read_out(const struct reference_clip *clip, bool is_image, const double *row,
                             double *embedding);

// One text, all `count` tokens run, read at the first end token; its unit embedding.
void reference_clip_text(const struct reference_clip *clip, const uint32_t *ids, uint32_t count,
                         double *embedding);

// One picture [3][S][S]; its unit embedding.
void reference_clip_image(const struct reference_clip *clip, const float *pixels,
                          double *embedding);

#endif
