// SPDX-License-Identifier: Apache-2.0
// clip.h - a CLIP model: texts and pictures to embeddings of one joint space.
//
// A model is a directory in Hugging Face's CLIP layout (config.json, model.safetensors,
// preprocessor_config.json) or open_clip's (open_clip_config.json, open_clip_model.safetensors),
// with vocab.json and merges.txt or else tokenizer.json, and optionally reco.json; or the small one
// that is embedded in the program. The same weights are the same space in both.
//
// Promise: an embedding depends on its text or picture only, to the last bit; not on
// the batch around it, its place in it, or the number of threads.
//
// Thread-safety: none. A clip belongs to one thread at a time, the compute thread;
// what clip_info() and clip_tokenizer() return is read-only and may be shared.

#ifndef RECO_SHADERS_MODELS_CLIP_H
#define RECO_SHADERS_MODELS_CLIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/bytes.h"
#include "proto/base/limits.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"

#define CLIP_NAME_BYTES 64      // including the final NUL
#define CLIP_TEMPLATE_BYTES 256 // including the final NUL

struct clip;
struct ops;          // shaders/ops/ops.h
struct image_params; // shaders/models/image.h
struct tokenizer;    // shaders/models/tokenizer.h

struct clip_params {
    const char *directory; // NULL = the embedded reco-tiny
    const char *device;    // "auto", "cpu", "cpu-bf16", or a UUID (ops.h); NULL = "auto"
    int threads;           // 0 = as many as this process may use
    unsigned towers;       // CLIP_TEXTS, CLIP_IMAGES, or both added; 0 = both

    // For a process that may have one question only: weights are prepared when they are used for
    // the second time. The first answer comes sooner, the second one later, and a weight that is
    // not finite, or memory that runs out, is found when encoding. The file stays mapped. Without
    // effect on reco-tiny, and beyond the CPU.
    bool hasty;
};

// What a model is opened for. The other tower's names and shapes are checked and hashed, and take
// no memory.
#define CLIP_TEXTS 1u
#define CLIP_IMAGES 2u

struct clip_info {
    const char *name;   // last part of the directory, or "reco-tiny"
    const char *device; // that was picked: "cpu", "cpu-bf16" or "vulkan"
    double agreement;  // least cosine of a trial input with single precision; 1 where that was used
    const char *space; // 64 hexadecimal digits, ':', dimension
    uint32_t dimension;  // floats of an embedding
    uint32_t context;    // tokens of a text, both end tokens included
    uint32_t image_size; // S: pictures are [3][S][S]
    const struct image_params
        *image;                // how pictures are prepared; NULL for a model without that file
    double fusion_beta;        // of weighted fusion, and
    double fusion_temperature; // its softmax; 2 and 20 unless reco.json says otherwise
    const char *template_text; // default prompt with one "{}"
    double logit_scale;        // similarities times this are logits
};

// Reads a model and prepares its device. STATUS_NOT_FOUND for a missing file,
// STATUS_INVALID, STATUS_CORRUPT or STATUS_UNSUPPORTED with the file and key that is
// wrong, STATUS_NO_MEMORY.
enum status clip_open(const struct clip_params *params, struct clip **out,
                      struct reason *why) MUST_CHECK;

// Frees *clip and sets it to NULL. NULL is allowed.
void clip_close(struct clip **clip);

// All live as long as the clip.
const struct clip_info *clip_info(const struct clip *clip);
const struct tokenizer *clip_tokenizer(const struct clip *clip);
struct ops *clip_ops(struct clip *clip); // for its profile (shaders/ops/ops_profile.h)

// Encodes `count` texts (any number) into unit vectors [count][dimension]. An over-long
// text is cut as tokenizer_encode() says. STATUS_FAILED_PRECONDITION without that tower; of a hasty
// model also what clip_open() may return. After a failure the embeddings are undefined.
enum status clip_encode_texts(struct clip *clip, const struct text *texts, size_t count,
                              float *embeddings, struct reason *why) MUST_CHECK;

// Encodes `count` prepared pictures [count][3][S][S] into unit vectors [count][dimension].
// STATUS_INVALID naming the picture when a pixel is not finite, STATUS_FAILED_PRECONDITION without
// that tower.
enum status clip_encode_pixels(struct clip *clip, const float *pixels, size_t count,
                               float *embeddings, struct reason *why) MUST_CHECK;

// The same of pictures as image_prepare() leaves them, [count][IMAGE_PICTURE_BYTES(S)], a quarter
// of the memory. STATUS_FAILED_PRECONDITION also for a model without preprocessor_config.json.
enum status clip_encode_pictures(struct clip *clip, const uint8_t *pictures, size_t count,
                                 float *embeddings, struct reason *why) MUST_CHECK;

#endif
