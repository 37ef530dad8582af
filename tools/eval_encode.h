// SPDX-License-Identifier: Apache-2.0
// eval_encode.h - texts and pictures to embeddings in memory, by the Encoder's calls.
//
// Thread-safety: the client's thread makes every call.

#ifndef RECO_TOOLS_EVAL_ENCODE_H
#define RECO_TOOLS_EVAL_ENCODE_H

#include <stddef.h>
#include <stdint.h>

#include "proto/base/bytes.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "proto/wire/api.h"
#include "tools/client.h"

#define EVAL_ENCODE_TEXTS 512u // texts of one call

struct eval_encoder {
    struct client *client;
    uint32_t dimension;       // of the model's space
    enum api_profile profile; // of pictures
};

// embeddings[count][dimension] of any number of texts. STATUS_CORRUPT for an answer of another
// dimension; else as EncodeText fails.
enum status eval_encode_texts(const struct eval_encoder *encoder, const struct text *texts,
                              size_t count, float *embeddings, struct reason *why) MUST_CHECK;

// The same of at most IMAGES_MAX pictures in one call. The reason's field is "images[N]" where one
// is to blame.
enum status eval_encode_pictures(const struct eval_encoder *encoder, const struct bytes *pictures,
                                 size_t count, float *embeddings, struct reason *why) MUST_CHECK;

#endif
