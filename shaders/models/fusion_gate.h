// SPDX-License-Identifier: Apache-2.0
// fusion_gate.h - where CLIP's own answer and the memory's differ, whom to believe.
//
// A query is compared with labels twice: as CLIP embeds both, and with both refined by a memory.
// When another label comes first then, the gate says how likely the memory's is the right one of
// the two:
//
//   gate = sigmoid(bias + sum(weights * evidence))
//     nearest         the largest inner product of the query and a neighbour's payload, less the
//                     level
//     plain           that of the query and CLIP's own answer, less the level
//     plain_spread    the deviation of the inner products of the query and all labels
//     refined_margin  the refined answer's inner product less the next label's
//     refined_spread  as plain_spread, of what is refined
//     labels          logarithm of the number of labels
//     known           the largest score of the neighbours of the label that is CLIP's own answer
//     told_plain      the largest inner product of CLIP's own answer and a payload of the query's
//                     neighbours
//     told_refined    that of the refined answer, as CLIP embeds it
//
// The level is the mean inner product of the query and all labels: how near a query lies to texts
// and to other pictures is a matter of its style, too, and a gate that knew one style only must not
// take another for ignorance.
//
// From FUSION_GATE_OPEN on the refined answer stands, below it CLIP's own. So a memory that knows
// nothing of a query, or is wrong about it, takes nothing away that CLIP knows. Weights are learnt
// from answers of which one was right (fusion_gate_fit), and lie in a head's file as one JSON
// object: {"bias":n,"nearest":n,"plain":n,...}.
//
// Thread-safety: pure functions.

#ifndef RECO_SHADERS_MODELS_FUSION_GATE_H
#define RECO_SHADERS_MODELS_FUSION_GATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/bytes.h"
#include "proto/base/json.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "shaders/models/fusion.h"

#define FUSION_GATE_OPEN 0.5

enum fusion_gate_evidence {
    FUSION_GATE_NEAREST,
    FUSION_GATE_PLAIN,
    FUSION_GATE_PLAIN_SPREAD,
    FUSION_GATE_REFINED_MARGIN,
    FUSION_GATE_REFINED_SPREAD,
    FUSION_GATE_LABELS,
    FUSION_GATE_KNOWN,
    FUSION_GATE_TOLD_PLAIN,
    FUSION_GATE_TOLD_REFINED,
    FUSION_GATE_EVIDENCE,
};

struct fusion_gate {
    double bias;
    double weights[FUSION_GATE_EVIDENCE];
};

// Reads a head's constants. STATUS_INVALID with the field, its value and what is allowed;
// STATUS_NO_MEMORY.
enum status fusion_gate_parse(struct text constants, struct fusion_gate *out,
                              struct reason *why) MUST_CHECK;
void fusion_gate_write(const struct fusion_gate *gate, struct json_writer *writer);

// A query's inner products with labels, offered one after the other. Begun as {.count = 0}.
struct fusion_gate_list {
    size_t count;
    size_t first;   // the label of the largest one, the earlier one of equals
    double largest; // valid with a label
    double next;    // the largest of the others, valid with two
    double sum;
    double squares;
};
void fusion_gate_offer(struct fusion_gate_list *list, size_t label, double product);

// Two lists of the same labels, at least two, and what the memory says; values are as above,
// without the level taken off.
struct fusion_gate_dispute {
    struct fusion_gate_list plain;
    struct fusion_gate_list refined;
    double nearest;
    double known;
    double told_plain;
    double told_refined;
};
void fusion_gate_weigh(const struct fusion_gate_dispute *dispute,
                       double evidence[FUSION_GATE_EVIDENCE]);

// 0..1. The evidence is finite.
double fusion_gate_value(const struct fusion_gate *gate,
                         const double evidence[FUSION_GATE_EVIDENCE]);

// The largest inner product of a vector [dimension] and a neighbour's payload; 0 without
// neighbours.
double fusion_gate_nearest(const float *vector, uint32_t dimension,
                           const struct fusion_neighbours *neighbours);

// Two answers that differ and of which one was right.
struct fusion_gate_case {
    double evidence[FUSION_GATE_EVIDENCE];
    double weight;        // above 0
    bool memory_is_right; // or else CLIP was
};

// The weights of least cross entropy plus FUSION_GATE_RIDGE times their squares (of evidence
// scaled to a deviation of 1), by Newton's method. STATUS_FAILED_PRECONDITION unless there are
// cases of both kinds; STATUS_INVALID for evidence that is not finite.
#define FUSION_GATE_RIDGE 3e-3
enum status fusion_gate_fit(const struct fusion_gate_case *cases, size_t count,
                            struct fusion_gate *out, struct reason *why) MUST_CHECK;

#endif
