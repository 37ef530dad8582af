// SPDX-License-Identifier: Apache-2.0
// ops_profile.h - where the time of a model's operations goes.
//
// Operations of one kind and shape are one row. Operations and bytes are counted from the shapes:
// those that the result needs, each operand read once and each result written once. While a profile
// is on, a device that puts operations off is waited for before and behind each of them; its own
// clock says how long it worked, or the host's, with what submitting and waiting take, where it has
// none.
//
// Thread-safety: as ops.h.

#ifndef RECO_SHADERS_OPS_OPS_PROFILE_H
#define RECO_SHADERS_OPS_OPS_PROFILE_H

#include <stddef.h>
#include <stdint.h>

#include "shaders/ops/ops.h"

#define OPS_PROFILE_ROWS_MAX 64 // operations of further shapes are counted in the last row
#define OPS_PROFILE_NAME_BYTES 64

struct ops_profile_row {
    char name[OPS_PROFILE_NAME_BYTES]; // "product 3072 x 768, quick-GELU"
    uint64_t calls;
    uint64_t rows; // of the targets, summed
    double seconds;
    double operations; // a multiply-add is two
    double bytes;
};

// Begins to count from zero, or ends to (`on` false); what was counted can be read until the next
// begin.
void ops_profile(struct ops *ops, bool on);

// The same without doing any of it: operations, uploads and downloads return at once, and seconds
// are 0.
void ops_profile_count(struct ops *ops, bool on);

// Points *rows at what was counted, in the order of their first calls, and returns their number.
// They belong to the ops.
size_t ops_profile_rows(const struct ops *ops, const struct ops_profile_row **rows);

// Whose clock measured: "device" or "host".
const char *ops_profile_clock(const struct ops *ops);

// Operations a second that this device reaches on multiply-adds alone, measured now; 0 when that is
// not known.
double ops_peak(struct ops *ops);

#endif
