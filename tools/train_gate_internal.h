// SPDX-License-Identifier: Apache-2.0
// train_gate_internal.h - the scenes in which a gate is learnt, and what they are called.
//
// Thread-safety: constant.

#ifndef RECO_TOOLS_TRAIN_GATE_INTERNAL_H
#define RECO_TOOLS_TRAIN_GATE_INTERNAL_H

#include "tools/train_gate.h"

struct train_gate_asked {
    bool is_asked;
    double weight; // of its cases; 0: none, the shares are only shown
};

struct train_gate_scene {
    const char *name;  // for programs
    const char *words; // for people
    enum train_gate_memory memory;
    double wrong; // share of captions
    struct train_gate_asked asked[TRAIN_GATE_KINDS];
};

// Those of weight 0 are the last: what is learnt from stands before.
extern const struct train_gate_scene train_gate_scenes[TRAIN_GATE_SCENES];
extern const char *const train_gate_kinds[TRAIN_GATE_KINDS];

#endif
