// SPDX-License-Identifier: Apache-2.0
// answer.h - what every answer that used a memory says, from a query's result.
//
// Thread-safety: pure; the result and the arena must outlive the answer.

#ifndef RECO_COORDINATOR_ANSWER_H
#define RECO_COORDINATOR_ANSWER_H

#include <stdbool.h>

#include "coordinator/labels.h"
#include "coordinator/query.h"
#include "coordinator/service.h"
#include "proto/base/arena.h"
#include "proto/wire/api.h"

// Space, memory, generation, coverage, reasons, timings.
void answer_from_result(const struct service_call *call, const struct question *question,
                        const struct query_result *result, struct api_answer *out);

// The same without a query: only what the question tells.
void answer_from_question(const struct service_call *call, const struct question *question,
                          struct api_answer *out);

// What the searches behind an answer did; `is_searched` when any node answered them.
void answer_set_work(struct api_answer *answer, const struct api_work *work, bool is_searched);

// Neighbours of row 0 with these fields (question.h), and weights when there is a fusion.
// STATUS_NO_MEMORY.
enum status answer_neighbours(const struct query_result *result, uint32_t fields,
                              struct arena *arena, struct api_neighbours *out) MUST_CHECK;

// Adds what refined prototypes lack: the lower coverage counts. STATUS_NO_MEMORY.
enum status answer_add_labels(const struct label_prototypes *prototypes, struct arena *arena,
                              struct api_answer *answer) MUST_CHECK;

// Adds one reason. STATUS_NO_MEMORY.
enum status answer_degrade(struct api_answer *answer, struct arena *arena,
                           struct text reason) MUST_CHECK;

// Encodes the answer and ends the call with it.
void answer_finish(struct service_call *call, struct api_answer *answer);

#endif
