// SPDX-License-Identifier: Apache-2.0
// train_state.h - how far a training is: its curve, its best weights, and the files that survive a
// kill.
//
//   OUT.best   the head that did best on held-out pairs so far
//   OUT.state  everything else: written after OUT.best, replaced as a whole
//
// A kill between the two leaves an OUT.best that is ahead. That does no harm: the training makes
// the same weights again when it comes to that step.
//
// Thread-safety: none.

#ifndef RECO_TOOLS_TRAIN_STATE_H
#define RECO_TOOLS_TRAIN_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/json.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "shaders/models/fusion_train.h"
#include "tools/dataset.h"

#define TRAIN_FACTS_MAX 24
#define TRAIN_FACT_BYTES 72
#define TRAIN_NOTE_BYTES_MAX ((size_t)16 << 20)

// What must be the same when a training goes on: a flag, or the hash of data.
struct train_fact {
    const char *name;
    char value[TRAIN_FACT_BYTES];
};

// What held-out pairs show, and what training showed since the point before.
struct train_figures {
    float loss[FUSION_TRAIN_TERMS];
    float recall; // share of pairs, both ways, whose refined partner scores highest in its batch
};

struct train_point {
    uint64_t step; // steps made
    float rate;    // of the last of them
    float loss[FUSION_TRAIN_TERMS];
    struct train_figures held_out;
};

struct train_state {
    char path[DATASET_PATH_BYTES];      // OUT.state
    char best_path[DATASET_PATH_BYTES]; // OUT.best
    struct train_fact facts[TRAIN_FACTS_MAX];
    size_t fact_count;
    struct train_figures plain; // CLIP's own
    struct train_point *points; // the first is of step 0: no training, no loss
    size_t point_count;
    size_t best;                      // place of the point that did best
    float weight[FUSION_TRAIN_TERMS]; // of the terms, as they are learnt; 1 unless set
};

// STATUS_INVALID for a path that is too long.
enum status train_state_init(struct train_state *state, const char *out,
                             struct reason *why) MUST_CHECK;
void train_state_deinit(struct train_state *state);

void train_state_fact(struct train_state *state, const char *name, const char *format, ...)
    PRINTF_LIKE(3, 4);

// Adds a point; whether it is the best so far.
bool train_state_add(struct train_state *state, const struct train_point *point);
// Points behind the best one.
size_t train_state_stale(const struct train_state *state);
// The weighed sum of the terms.
double train_state_sum(const struct train_state *state, const float loss[FUSION_TRAIN_TERMS]);

// {"refined_refined","refined_original","original_refined"}
void train_state_put_loss(struct json_writer *writer, const float loss[FUSION_TRAIN_TERMS]);
// {"loss","recall_at_1"}
void train_state_put_figures(struct json_writer *writer, const struct train_figures *figures);
// {"step","loss","lr","held_out"}
void train_state_put_point(struct json_writer *writer, const struct train_point *point);
// {"plain","points"}: what a head's file has as its curve
void train_state_put_curve(struct json_writer *writer, const struct train_state *state);

// The facts and the curve as one JSON object; appended to writer->out.
void train_state_write(const struct train_state *state, struct json_writer *writer);
// Takes over the curve of such an object. STATUS_FAILED_PRECONDITION naming the first fact of
// `state` that the object has with another value; STATUS_CORRUPT. The state is then as before.
enum status train_state_parse(struct train_state *state, struct text note,
                              struct reason *why) MUST_CHECK;

// Whether there is a file to go on from.
bool train_state_exists(const struct train_state *state);
// Reads and writes OUT.state with the state of `train`. STATUS_IO, STATUS_CORRUPT,
// STATUS_NO_MEMORY, STATUS_FAILED_PRECONDITION as fusion_train_restore() and train_state_parse().
enum status train_state_load(struct train_state *state, struct fusion_train *train,
                             struct reason *why) MUST_CHECK;
enum status train_state_save(const struct train_state *state, const struct fusion_train *train,
                             struct reason *why) MUST_CHECK;
// Removes both files.
void train_state_remove(const struct train_state *state);

#endif
