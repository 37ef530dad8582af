// SPDX-License-Identifier: Apache-2.0
// train_set.h - changes fields of a head's config, by the names that its file has for them.
//
// Thread-safety: pure.

#ifndef RECO_TOOLS_TRAIN_SET_H
#define RECO_TOOLS_TRAIN_SET_H

#include <stddef.h>

#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "shaders/models/fusion_head.h"

// Takes "FIELD=VALUE" for both sides, or "image.FIELD=VALUE" or "text.FIELD=VALUE" for one. What
// fields ask of each other is checked when all are set, so their order does not matter.
// STATUS_INVALID naming field, value and what is allowed; the configs are then as before.
enum status train_set(struct fusion_config config[FUSION_HEAD_SIDES],
                      const char *const *assignments, size_t count, struct reason *why) MUST_CHECK;

#endif
