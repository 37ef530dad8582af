// SPDX-License-Identifier: Apache-2.0
// question.h - what a client's options mean for this memory and this model.
//
// Thread-safety: the loop thread's.

#ifndef RECO_COORDINATOR_QUESTION_H
#define RECO_COORDINATOR_QUESTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "coordinator/backend.h"
#include "coordinator/filter.h"
#include "coordinator/fuser.h"
#include "coordinator/meta.h"
#include "proto/wire/api.h"
#include "shaders/models/image.h"

#define QUESTION_EXCLUDE_MAX 256

struct question {
    struct meta_generation memory; // number 0: none; then answers are plain CLIP
    struct fuser_params fuser;
    bool chooses_fusion; // the client left it to us
    enum image_profile profile;
    enum api_modality over;
    float min_coverage;
    uint64_t exclude[QUESTION_EXCLUDE_MAX];
    size_t exclude_count;
    struct filter *filter; // held; NULL: everything may be found
    uint32_t fields;       // of each neighbour, as bits of api_record_field; 0: none
    enum api_index index;  // as the client asked
    uint32_t probes;       // 0: by the target
    float target_recall;
};

// Looks the memory up and sets everything a query needs. A client that asks for no fusion, names no
// memory, and has no default one, gets plain CLIP. STATUS_NOT_FOUND,
// STATUS_FAILED_PRECONDITION, STATUS_INVALID, STATUS_UNSUPPORTED for an index that is not there.
// *out is ended by question_deinit().
enum status question_resolve(const struct backend *backend, const struct api_options *options,
                             struct question *out, struct reason *why) MUST_CHECK;

// Settles how a query of modality `own` is refined: by the trained head where the client leaves it
// to us and the head fits. When the client wants it and it does not: STATUS_FAILED_PRECONDITION
// without a head or with a memory of another space than the head's, STATUS_INVALID when the other
// side is to be searched.
enum status question_settle_fusion(const struct backend *backend, enum modality own,
                                   struct question *question, struct reason *why) MUST_CHECK;

// A copy, to be ended by itself; both may be a zero struct.
void question_copy(struct question *out, const struct question *question);
void question_deinit(struct question *question);

// Pictures and texts can only be compared with a memory whose space is the model's.
// STATUS_FAILED_PRECONDITION naming both.
enum status question_check_space(const struct backend *backend,
                                 const struct meta_generation *memory,
                                 struct reason *why) MUST_CHECK;

// Checks the embedding of a request and writes it as a unit vector to out[dimension].
// STATUS_INVALID for another dimension (naming both), for what is not finite or has length 0.
enum status question_embedding(const float *values, size_t count, uint32_t dimension, float *out,
                               struct reason *why) MUST_CHECK;

// How a picture is prepared; the profile must be one of the enum's.
enum image_profile question_image_profile(enum api_profile profile);

// What a FETCH needs to bring these fields (bits of api_record_field): SHARD_DOCUMENT_*, 0 for
// none.
uint32_t question_document_parts(uint32_t fields);

// The side that is searched by a query of modality `own`. Label prototypes are texts: theirs
// mirrors the query's, so that both are searched uni-modally, or both across.
enum modality question_over(const struct question *question, enum modality own);
enum modality question_over_labels(const struct question *question, enum modality own);

#endif
