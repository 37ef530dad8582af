// SPDX-License-Identifier: Apache-2.0
// random_head.h - fusion heads whose every number is drawn from a seed, and scenes for them.
//
// Thread-safety: pure; a state belongs to one thread.

#ifndef RECO_TESTS_SUPPORT_RANDOM_HEAD_H
#define RECO_TESTS_SUPPORT_RANDOM_HEAD_H

#include <stddef.h>
#include <stdint.h>

#include "shaders/models/fusion_head.h"

// -1..1, from a state that any number begins.
float random_head_float(uint64_t *state);

// A unit vector.
void random_head_unit(uint64_t *state, uint32_t dimension, float *values);

// Numbers of about the size that training leaves: gains around 1, no tensor at zero.
void random_head_numbers(const struct fusion_config *config, uint64_t seed, float *numbers);

// An info for `dimension` with the default config on both sides, heads of 4 where that divides.
struct fusion_head_info random_head_info(uint32_t dimension, const char *space);

// Both sides' numbers for `info`; the caller frees each.
void random_head_both(const struct fusion_head_info *info, uint64_t seed,
                      float *numbers[FUSION_HEAD_SIDES]);

#endif
