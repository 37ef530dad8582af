// SPDX-License-Identifier: Apache-2.0
// distance_internal.h - the kernels behind distance.h, one file for each instruction set.
//
// Each has the contract of distance_scores(). A CPU without the instruction set must not call it.

#ifndef RECO_SHARD_NODE_DISTANCE_INTERNAL_H
#define RECO_SHARD_NODE_DISTANCE_INTERNAL_H

#include "proto/base/cpu.h"
#include "shard_node/distance.h"

#if defined(__x86_64__)
#define DISTANCE_HAS_X86 1
void distance_scores_avx2(const struct distance_block *block, float *scores);
void distance_scores_avx512(const struct distance_block *block, float *scores);
#else
#define DISTANCE_HAS_X86 0
#endif

#if defined(__aarch64__)
#define DISTANCE_HAS_NEON 1
void distance_scores_neon(const struct distance_block *block, float *scores);
#else
#define DISTANCE_HAS_NEON 0
#endif

#endif
