// SPDX-License-Identifier: Apache-2.0
// api_json.h - the public messages as JSON: what `reco search --json` prints and what the side port
// answers are the same bytes.
//
// The names of the members are a promise to scripts; they stand in tools/README.md.
//
// Thread-safety: none; a writer belongs to one thread.

#ifndef RECO_PROTO_WIRE_API_JSON_H
#define RECO_PROTO_WIRE_API_JSON_H

#include "proto/base/json.h"
#include "proto/wire/api.h"

// One object: "input" and, by the method,
//   Search             "neighbours"
//   Refine*            "embedding","fusion","gate","gate_reason","neighbours"
//   Classify, Explain  "plain","refined","fusion","gate","gate_reason","neighbours"
// then "coverage","degraded","memory","generation","space","index","records","work","request_id",
// "timings_ms". "work" has "exact","lists_probed","codes_scanned","rows_refined","rows_read". A
// neighbour has "id","key","score","caption","source", with fusion "weight", explained "effect",
// and what its fields asked for: "tags","image_embedding","text_embedding".
void api_json_put_answer(struct json_writer *writer, enum api_method method, struct text input,
                         const struct api_answer *answer);

// "timings_ms":{...}
void api_json_put_timings(struct json_writer *writer, const struct api_timings *timings);

// "work":{...}
void api_json_put_work(struct json_writer *writer, const struct api_work *work);

// "tags":[...]
void api_json_put_tags(struct json_writer *writer, const struct text *tags, size_t count);

// "NAME":[...]
void api_json_put_floats(struct json_writer *writer, const char *name, const float *values,
                         size_t count);

// --- requests

enum api_json_verb { API_JSON_SEARCH, API_JSON_REFINE, API_JSON_CLASSIFY };

struct api_json_query {
    enum api_method method; // by the verb, the kind of input, and whether effects are wanted
    struct api_query_request request;
    struct text
        name; // "input" of the answer: what the request says, else the text, or the kind of input
};

// Reads a request:
//   one of "image" (base64), "text", "embedding" ([...], with "embedding_modality": image, text);
//   "options": {"memory","k" (10 when absent),"over","fusion","min_similarity","min_coverage",
//     "exclude_keys","index","profile","min_pair_similarity","dedup","fields":["key", ...],
//     one of "nprobe","target_recall","approx",
//     "filter":{"all_tags","any_tags","no_tags","keys","ids"}}; "input": a name for the answer
//   Search also: "parts" ([{one of the inputs, "weight"}]) instead of the input
//   Classify also: "labels","templates","label_set_id","top","explain"; no "text"
// *out points into the document and the arena. STATUS_INVALID with the member in `why`, the nearest
// known one for an unknown; STATUS_NO_MEMORY. Ranges are left to api_decode_query().
enum status api_json_read_query(enum api_json_verb verb, const struct json *document,
                                struct arena *arena, struct api_json_query *out,
                                struct reason *why) MUST_CHECK;

#endif
