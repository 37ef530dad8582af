// SPDX-License-Identifier: Apache-2.0
// train_set.h - changes one field of a head's config, by the name that its file has for it.
//
// Thread-safety: pure.

#ifndef RECO_TOOLS_TRAIN_SET_H
#define RECO_TOOLS_TRAIN_SET_H

#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "shaders/models/fusion_head.h"

// Takes "FIELD=VALUE" for both sides, or "image.FIELD=VALUE" or "text.FIELD=VALUE" for one. STATUS_INVALID
// naming field, value and what is allowed; the configs are then as before.
enum status train_set(struct fusion_config config[FUSION_HEAD_SIDES], const char *assignment,
                      struct reason *why) MUST_CHECK;

#endif
