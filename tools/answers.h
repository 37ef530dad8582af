// SPDX-License-Identifier: Apache-2.0
// answers.h - the parts that several answers share, as JSON members and for people.
//
// The names of the JSON members are a promise to scripts; they stand in the README of
// this folder.
//
// Thread-safety: none; a writer belongs to one thread, stdout to the main one.

#ifndef RECO_TOOLS_ANSWERS_H
#define RECO_TOOLS_ANSWERS_H

#include <stdbool.h>

#include "proto/base/json.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "proto/wire/api.h"
#include "tools/options.h"

// "neighbours":[{"id","key","score","caption","source","tags","weight","effect","image_embedding",
// "text_embedding"}]; weight where there was fusion, effect where it was explained, the others
// where --fields asked for them.
void answers_put_neighbours(struct json_writer *writer, const struct api_neighbours *neighbours);

// "NAME":[{"label","score"}]
void answers_put_labels(struct json_writer *writer, const char *name,
                        const struct api_labels *labels);

// "gate","gate_reason"
void answers_put_gate(struct json_writer *writer, const struct api_answer *answer);

// "coverage","degraded","memory","generation","space","index","records","request_id","timings_ms"
void answers_put_tail(struct json_writer *writer, const struct options *options,
                      const struct api_answer *answer);

// "timings_ms":{...}
void answers_put_timings(struct json_writer *writer, const struct api_timings *timings);

// "NAME":[...]
void answers_put_floats(struct json_writer *writer, const char *name, const float *values,
                        size_t count);

// "tags":[...]
void answers_put_tags(struct json_writer *writer, const struct text *tags, size_t count);

// A table of the neighbours, and what is missing of the answer, on stdout.
void answers_print_neighbours(const struct api_neighbours *neighbours, int indent);
void answers_print_state(const struct api_answer *answer, int indent);

// Ends a line of JSON on stdout; says so on stderr when stdout is broken.
enum status answers_end_line(struct json_writer *writer) MUST_CHECK;

#endif
