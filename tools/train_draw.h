// SPDX-License-Identifier: Apache-2.0
// train_draw.h - numbers that a training draws: from its seed, and the same on every machine.
//
// Thread-safety: a state belongs to one thread.

#ifndef RECO_TOOLS_TRAIN_DRAW_H
#define RECO_TOOLS_TRAIN_DRAW_H

#include <stdbool.h>
#include <stdint.h>

// What is drawn: one row of numbers for each of these and each number beside it.
enum train_draw_what {
    TRAIN_DRAW_PASS,
    TRAIN_DRAW_STEP,
    TRAIN_DRAW_HELD_OUT,
    TRAIN_DRAW_WRONG, // captions, in the scenes of the gate
};

// The state that a row of numbers begins with.
uint64_t train_draw_begin(uint64_t seed, enum train_draw_what what, uint64_t number);

// 0..1, without 1.
double train_draw_unit(uint64_t *state);
// Whether it is one of the `share` (0..1); of none and without a number drawn for 0.
bool train_draw_share(uint64_t *state, double share);
// 0..bound - 1.
uint32_t train_draw_below(uint64_t *state, uint32_t bound);

// Puts the list in an order by lot.
void train_draw_shuffle(uint64_t state, uint32_t *list, uint32_t count);

#endif
