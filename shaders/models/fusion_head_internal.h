// SPDX-License-Identifier: Apache-2.0
// fusion_head_internal.h - an open head, shared by the file's reader and the forward pass.

#ifndef RECO_SHADERS_MODELS_FUSION_HEAD_INTERNAL_H
#define RECO_SHADERS_MODELS_FUSION_HEAD_INTERNAL_H

#include <pthread.h>

#include "shaders/models/fusion_head.h"
#include "shaders/ops/ops.h"

// One side, ready to run. Matrices of absent tensors are NULL.
struct fusion_side {
    float *numbers; // as `layout` says
    struct fusion_layout layout;
    struct ops_matrix *query;
    struct ops_matrix *key[FUSION_HEADS_MAX]; // [d][d / heads]: a head's query to the tokens' side
    struct ops_matrix *value[FUSION_HEADS_MAX]; // [d / heads][d]
    struct ops_matrix *out;
    struct ops_matrix *mlp1;
    struct ops_matrix *mlp2;
};

struct fusion_head {
    struct fusion_head_info info;
    char *curve; // what info's texts point at
    char *gate;
    struct fusion_side side[FUSION_HEAD_SIDES];

    pthread_mutex_t turn; // guards all below
    struct ops *ops;
    uint32_t rows;             // queries at a time
    struct ops_buffer *source; // of one product
    struct ops_buffer *target;
    float *scratch; // of a batch
};

// STATUS_INVALID for an info that no head can have.
enum status fusion_head_check(const struct fusion_head_info *info, struct reason *why) MUST_CHECK;

// Makes `head`, whose info and numbers are there, ready to run.
enum status fusion_head_prepare(struct fusion_head *head, uint32_t threads,
                                struct reason *why) MUST_CHECK;

// What fusion_head_prepare() made, as far as it came.
void fusion_head_release(struct fusion_head *head);

#endif
