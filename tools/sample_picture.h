// SPDX-License-Identifier: Apache-2.0
// sample_picture.h - small PNG pictures made of nothing, for measurements without a data set.
//
// Thread-safety: pure.

#ifndef RECO_TOOLS_SAMPLE_PICTURE_H
#define RECO_TOOLS_SAMPLE_PICTURE_H

#include <stdint.h>

#include "proto/base/bytes.h"
#include "proto/base/status.h"

#define SAMPLE_PICTURE_EDGE 256 // pixels

// Appends a picture of coloured waves to *out; each `number` gives another one.
// STATUS_NO_MEMORY.
enum status sample_picture_make(uint32_t number, struct buffer *out) MUST_CHECK;

#endif
