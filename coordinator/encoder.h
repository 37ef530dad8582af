// SPDX-License-Identifier: Apache-2.0
// encoder.h - picture files and texts to embeddings, of several askers at a time, in batches that
// fit in memory.
//
// An embedding does not depend on its batch (clip.h), so who shares one cannot be seen in the
// results.
//
// Thread-safety: none; the thread that opened it makes every call. What encoder_info() returns is
// read-only, and any thread may look.

#ifndef RECO_COORDINATOR_ENCODER_H
#define RECO_COORDINATOR_ENCODER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "proto/base/bytes.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "shaders/models/clip.h"
#include "shaders/models/image.h"

#define ENCODER_PICTURES_MAX 16u // decoded at a time: 2.4 MB at 224 x 224

struct encoder;
struct telemetry; // coordinator/telemetry.h

struct encoder_params {
    struct clip_params clip;
    const char *process; // path of reco-encoder, which computes on clip.device; this process
                         // does on its CPU when that fails. NULL: this one alone computes
    struct telemetry *telemetry; // NULL: nothing is counted
};

// The pictures of one asker.
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
    double encode_ms; // of the batches that they were in
    bool is_given_up; // cancelled before its last picture; the results are undefined
};

// Opens the model, twice with a process: what that says about its device and model is said here.
// Errors of clip_open(), and those of a program that cannot be run.
enum status encoder_open(const struct encoder_params *params, struct encoder **out,
                         struct reason *why) MUST_CHECK;
void encoder_close(struct encoder **encoder); // NULL is allowed

const struct clip_info *encoder_info(const struct encoder *encoder);
const struct tokenizer *encoder_tokenizer(const struct encoder *encoder);

// With a process: takes what it says, starts it again in its time. Never waits. Call it when the
// descriptor (-1: none) is readable, or the time has come.
void encoder_turn(struct encoder *encoder);
int encoder_fd(const struct encoder *encoder);
int64_t encoder_next_us(const struct encoder *encoder);

// What computes at the moment, as clip_info says it; constant texts that live as long as the
// encoder.
const char *encoder_device(const struct encoder *encoder);

// Encodes every picture of `count` askers that can be, all of one profile; a broken one costs only
// itself. Fails for all of them with STATUS_UNSUPPORTED for a model without pictures, and with what
// the clip says.
enum status encoder_images(struct encoder *encoder, struct encoder_images *const *works,
                           size_t count, struct reason *why) MUST_CHECK;

// clip_encode_texts(), of 1 or more.
enum status encoder_texts(struct encoder *encoder, const struct text *texts, size_t count,
                          float *embeddings, struct reason *why) MUST_CHECK;

#endif
