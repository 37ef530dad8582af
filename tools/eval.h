// SPDX-License-Identifier: Apache-2.0
// eval.h - what every evaluation begins with: the model, the memory's embeddings, the modes of
// fusion.
//
// A question is a set of embeddings of one side; its answer are the same embeddings refined in a
// mode by the memory. Searches are kept from one mode to the next: eval_side.
//
// Thread-safety: the client's thread makes every call.

#ifndef RECO_TOOLS_EVAL_H
#define RECO_TOOLS_EVAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "coordinator/fuser.h"
#include "proto/base/embedding.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "shaders/models/fusion_gate.h"
#include "shaders/models/fusion_head.h"
#include "tools/client.h"
#include "tools/eval_memory.h"
#include "tools/options.h"

#define EVAL_MODES 4u
#define EVAL_MODE_WORDS "none, mean, weighted, head"
#define EVAL_MODEL_BYTES 256
#define EVAL_HELD 0.999f // what halves leave of one's own row is above

struct eval {
    const struct options *options;
    struct client *client;
    uint32_t threads;
    // The model.
    char model[EVAL_MODEL_BYTES];
    char space[SPACE_BYTES_MAX + 1];
    char template_text[1024];
    uint32_t dimension;
    double beta, temperature; // of its training-free fusion
    // What is measured.
    enum fusion_mode modes[EVAL_MODES]; // in the order given, plain CLIP (FUSION_NONE) first
    size_t mode_count;
    struct fusion_head *head; // NULL: not asked for
    struct fusion_gate gate;  // of the head
    bool has_gate;
    struct eval_memory memory; // empty when only plain CLIP is asked for
};

// Reads --modes, opens the client, and reads model, head and, unless `brings_memory`, the memory.
// Errors are told on stderr; returns VERBS_DONE or the exit status. Whatever comes, *eval is ended
// with eval_end().
int eval_begin(struct eval *eval, const struct options *options, bool brings_memory);
void eval_end(struct eval *eval);

// The word for a mode.
const char *eval_mode_word(enum fusion_mode mode);

// STATUS_INVALID naming the flag when there are fewer records than neighbours.
enum status eval_check_k(const struct eval *eval, const char *flag, uint64_t k, uint64_t records,
                         struct reason *why) MUST_CHECK;

// Embeddings that ask: pictures, or texts. Ended by eval_side_deinit().
struct eval_side {
    enum modality own;
    const float *queries; // [count][dimension], borrowed
    size_t count;
    enum modality over; // the side they were searched on
    uint32_t width;     // hits kept of each
    struct eval_hit *hits;
    uint32_t *found;
    size_t held; // queries that the memory has itself: above EVAL_HELD with a record of their kind
    float *refined; // [count][dimension], of the last eval_side_refine()
    float *best;    // [count], of the same: the first neighbour's score, or 0
};

// Searches `over` for at least k neighbours of each. STATUS_NO_MEMORY.
enum status eval_side_search(struct eval_side *side, const struct eval *eval, enum modality over,
                             uint32_t k, struct reason *why) MUST_CHECK;

// Points *out at the queries refined in `mode` with k neighbours, whose `payload` side is mixed in,
// or the query `itself` as the one neighbour; at the queries themselves for plain CLIP. Valid until
// the next call. As eval_refine().
struct eval_how {
    enum fusion_mode mode;
    uint32_t k;
    enum modality payload;
    bool itself;
    bool is_open; // as in fuser.h
};
enum status eval_side_refine(struct eval_side *side, const struct eval *eval, struct eval_how how,
                             const float **out, struct reason *why) MUST_CHECK;
// As eval_refine_nearest(), of the neighbours of the same refinement.
enum status eval_side_nearest(const struct eval_side *side, const struct eval *eval,
                              struct eval_how how, size_t query, const float *const vectors[3],
                              double nearest[3]) MUST_CHECK;
void eval_side_deinit(struct eval_side *side);

#endif
