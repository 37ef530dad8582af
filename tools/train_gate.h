// SPDX-License-Identifier: Apache-2.0
// train_gate.h - the gate of a head, fitted where it is known which answer is right.
//
// Two kinds of things are asked for: new ones, of which only the memory knows (the pairs that a
// head learns from), and known ones, which CLIP names without a memory. Two memories answer: one
// that has the things, and one that has nothing of the known ones. Captions are wrong in some of
// the scenes:
//
//   scene           memory           wrong captions   weight of new   of known
//   memory          that has them    none             2               TRAIN_GATE_KNOWN
//   half_wrong      that has them    half             0.7             not asked
//   wrong           that has them    all              0.3             TRAIN_GATE_KNOWN
//   without_wrong   without          all              not asked       0.3 TRAIN_GATE_KNOWN
//   without         without          none             0: only shown   TRAIN_GATE_KNOWN
//
// Each picture is answered from the labels of its own kind, and from those of both kinds. Where
// CLIP's answer and the refined one differ and one of them is right, the gate has a case to learn
// from (fusion_gate.h).
//
// Neighbours are those of training: without the floors and the collapse of repeated pairs that a
// coordinator may be asked for.
//
// Thread-safety: none; the main thread's, since it tells how far it is. It starts threads, which
// end with it.

#ifndef RECO_TOOLS_TRAIN_GATE_H
#define RECO_TOOLS_TRAIN_GATE_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/json.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "shaders/models/fusion_gate.h"
#include "shaders/models/fusion_head.h"
#include "tools/train_memory.h"
#include "tools/train_neighbours.h"
#include "tools/train_pairs.h"

// More new things than known ones are what a memory is for; so known ones weigh less, but not
// little.
#define TRAIN_GATE_KNOWN 0.4

#define TRAIN_GATE_MAX 4096 // pictures, and labels, of each kind

enum train_gate_kind {
    TRAIN_GATE_NEW_THINGS,
    TRAIN_GATE_KNOWN_THINGS,
    TRAIN_GATE_KINDS,
};

enum train_gate_memory {
    TRAIN_GATE_WITH,
    TRAIN_GATE_WITHOUT,
    TRAIN_GATE_MEMORIES,
};

enum train_gate_labels {
    TRAIN_GATE_OWN,
    TRAIN_GATE_ALL,
    TRAIN_GATE_LABELS,
};

#define TRAIN_GATE_SCENES 5

struct train_gate_params {
    const struct train_memory *memories[TRAIN_GATE_MEMORIES];
    const struct train_pairs *pairs[TRAIN_GATE_KINDS];
    const struct train_neighbours *neighbours[TRAIN_GATE_MEMORIES][TRAIN_GATE_KINDS]; // of one k
    uint64_t seed; // of the captions that are wrong
};

// Shares of right answers.
struct train_gate_shares {
    double plain;
    double refined;
    double chosen; // of the two, by the gate
};

struct train_gate {
    struct fusion_gate gate;
    uint64_t cases; // that it learnt from
    uint64_t memory_right;
    uint32_t pictures[TRAIN_GATE_KINDS];
    uint32_t labels[TRAIN_GATE_KINDS];
    struct train_gate_shares shares[TRAIN_GATE_SCENES][TRAIN_GATE_KINDS][TRAIN_GATE_LABELS];
};

// STATUS_FAILED_PRECONDITION when the answers do not say when to believe the memory: all that
// differ are of one kind, or a constant is beyond what a head's file may have; else
// STATUS_NO_MEMORY or as the head fails.
enum status train_gate_fit(const struct train_gate_params *params, struct fusion_head *head,
                           struct train_gate *out, struct reason *why) MUST_CHECK;

// {"cases","memory_right","constants","new","known"}; each kind
// {"pictures","labels",SCENE:{"own","all"}}.
void train_gate_put(const struct train_gate *gate, struct json_writer *writer);
// The same as a table on stdout.
void train_gate_show(const struct train_gate *gate);

#endif
