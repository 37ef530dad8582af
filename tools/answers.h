// SPDX-License-Identifier: Apache-2.0
// answers.h - what several verbs print of an answer, as JSON and for people.
//
// Thread-safety: none; a writer belongs to one thread, stdout to the main one.

#ifndef RECO_TOOLS_ANSWERS_H
#define RECO_TOOLS_ANSWERS_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/json.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "proto/wire/api.h"
#include "tools/options.h"

// An answer as a line of JSON on stdout (proto/wire/api_json.h), with the request id of the flags
// when there is one. As answers_end_line().
enum status answers_put_line(const struct options *options, enum api_method method,
                             const char *input, const struct api_answer *answer) MUST_CHECK;

// What became of a record: {"key","id","status"}, or a line for people. `key` may be NULL: known by
// its id only. As answers_end_line().
enum status answers_show_record(const struct options *options, const char *key, uint64_t id,
                                const char *state) MUST_CHECK;

// The question as a title, with "(ivf)" behind it when an index found its neighbours.
void answers_print_input(const char *input, const struct api_answer *answer);

// A table of the neighbours, and what is missing of the answer, on stdout.
void answers_print_neighbours(const struct api_neighbours *neighbours, int indent);
void answers_print_state(const struct api_answer *answer, int indent);

// Ends a line of JSON on stdout; says so on stderr when stdout is broken.
enum status answers_end_line(struct json_writer *writer) MUST_CHECK;

#endif
