// SPDX-License-Identifier: Apache-2.0
// encoder.h - picture files and texts to embeddings, in batches that fit in memory.
//
// Thread-safety: none; the thread that owns the clip makes every call.

#ifndef RECO_COORDINATOR_ENCODER_H
#define RECO_COORDINATOR_ENCODER_H

#include <stdatomic.h>
#include <stddef.h>

#include "proto/base/bytes.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "shaders/models/clip.h"
#include "shaders/models/image.h"

struct encoder_images {
    const struct bytes *files; // [count]
    size_t count;
    enum image_profile profile;
    float *embeddings;            // [count][dimension]; that of a failed picture is zero
    enum status *statuses;        // [count]
    struct reason *reasons;       // [count]; set for those that failed
    const atomic_bool *cancelled; // asked before each picture; NULL: never
    double decode_ms;             // sums over all pictures
    double preprocess_ms;
    double encode_ms;
};

// Encodes every picture that can be; a broken one costs only itself. Fails as a whole with
// STATUS_UNSUPPORTED for a model without pictures, STATUS_CANCELLED, STATUS_NO_MEMORY, and what the
// clip says.
enum status encoder_images(struct clip *clip, struct encoder_images *work,
                           struct reason *why) MUST_CHECK;

#endif
