// SPDX-License-Identifier: Apache-2.0
// recall.h - how much of what an exact search finds a search by the index finds, too.
//
// A memory's own records ask: each of a sample by its image and by its text, over the images and
// over the texts. Over its own side a record is no neighbour of itself. A record that the index
// finds counts when its score is not below that of the last one which the exact search finds, so
// that it does not matter which of several equal ones is found.
//
// Thread-safety: the client's thread makes every call.

#ifndef RECO_TOOLS_RECALL_H
#define RECO_TOOLS_RECALL_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "proto/wire/api.h"
#include "tools/client.h"

#define RECALL_K 10
#define RECALL_SAMPLE_MAX 1000 // of one message of an Export

enum recall_way {
    RECALL_IMAGE_OVER_IMAGE,
    RECALL_TEXT_OVER_TEXT,
    RECALL_IMAGE_OVER_TEXT,
    RECALL_TEXT_OVER_IMAGE,
    RECALL_WAYS,
};

struct recall_params {
    const char *memory;                // NAME@GENERATION
    const struct api_options *options; // nprobe, target_recall and approx of it
    uint32_t sample;                   // 1..RECALL_SAMPLE_MAX; fewer when there are fewer
    int64_t wait_us;                   // for an index that is not ready yet
};

struct recall_figures { // of one way
    double recall;      // of the first RECALL_K, mean over all questions
    double lowest;      // of one question
    bool is_exact;      // no node used an index
    double lists_probed, codes_scanned, rows_refined, rows_read; // means of a question by the index
    double ms, exact_ms;                                         // medians, as the server counts
};

// STATUS_NOT_FOUND without a record that is shown, STATUS_UNAVAILABLE when an answer is not of the
// whole memory; else as the calls fail. *asked is how many records did ask.
enum status recall_measure(struct client *client, const struct recall_params *params,
                           struct recall_figures figures[RECALL_WAYS], uint32_t *asked,
                           struct reason *why) MUST_CHECK;

#endif
