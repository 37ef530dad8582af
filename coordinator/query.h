// SPDX-License-Identifier: Apache-2.0
// query.h - one question to the memory, from an image, a text or embeddings to refined embeddings.
//
// This is the only place that knows the order of steps:
//
//   ENCODE -> SEARCH -> PAYLOAD -> FUSE -> DOCUMENTS -> done
//     |         |          |         |         |
//     |         +----------+---------+---------+--> no node, no time: plain CLIP, and says so
//     +--> done with an error when even that cannot be had
//
// A query has 1..SEARCH_ROWS_MAX rows, which are searched and refined side by side. What was not
// had (a node that is down, late or wrong; time that ran out) is named in `degraded`, never left
// out silently. An answer's bits do not depend on the number of nodes nor on their order.
//
// Thread-safety: none; the loop thread makes every call, `done` runs on it.

#ifndef RECO_COORDINATOR_QUERY_H
#define RECO_COORDINATOR_QUERY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "coordinator/backend.h"
#include "coordinator/question.h"
#include "proto/base/embedding.h"
#include "proto/wire/api.h"

#define QUERY_DEGRADED_MAX 64

struct query;

struct query_params {
    struct backend *backend;
    const struct question *question;    // copied
    enum api_input input;               // IMAGE, TEXT, PARTS or EMBEDDING: unit vectors
    struct bytes image;                 // copied
    struct text text;                   // copied
    const struct api_query_part *parts; // copied; their embeddings are unit vectors
    size_t part_count;
    const float *rows;  // [row_count][dimension], copied
    uint32_t row_count; // 1 for image, text and parts
    uint32_t dimension;
    enum modality own;           // of what is asked and refined
    enum modality over;          // the side that is searched
    bool needs_neighbours;       // Search: no shard is an error; else plain CLIP is an answer
    bool wants_documents;        // the question's fields of row 0's neighbours
    int64_t deadline_us;         // DEADLINE_NONE
    struct trace trace;          // of the request
    void (*done)(void *context); // once, never from query_start(); may destroy the query
    void *context;
};

struct query_document {
    struct text key;
    struct text caption;
    struct text source;
    struct text tags;   // joined
    const float *image; // [dimension]; NULL unless it is one of the fields
    const float *text;
};

// Valid from `done` until query_destroy(). With a status but OK, only `why` and the timings hold.
struct query_result {
    enum status status;
    struct reason why;
    uint32_t row_count;
    uint32_t dimension;
    const float *plain;   // [row_count][dimension]
    const float *refined; // [row_count][dimension]
    const struct fuser_params *fuser;
    const struct fuser_hit *hits;           // all rows
    const uint32_t *hit_starts;             // [row_count + 1]
    const struct fuser_result *selections;  // [row_count]
    const struct query_document *documents; // of selections[0]; NULL unless wanted
    float coverage;                         // answered vshards / all
    uint64_t records;                       // searched
    struct api_work work;                   // of the search
    struct text degraded[QUERY_DEGRADED_MAX];
    size_t degraded_count;
    float shard_ms[NODES_MAX];
    struct api_timings timings; // all but labels and total; shard[] points to shard_ms
};

// The most rows that one query may have for this question and dimension, so that its payload stays
// within 32 MiB.
uint32_t query_rows_max(const struct question *question, uint32_t dimension);

// Begins. STATUS_NO_MEMORY; else `done` is called later.
enum status query_start(const struct query_params *params, struct query **out,
                        struct reason *why) MUST_CHECK;

const struct query_result *query_result(const struct query *query);

// Ends it at any time: what is on its way is cancelled. Sets *query to NULL; NULL is allowed.
void query_destroy(struct query **query);

// When the answer must be ready so that it reaches the client before the deadline: 5 % of the whole
// time or 2 ms earlier, whatever is more.
int64_t query_soft_deadline_us(int64_t begun_us, int64_t deadline_us);

#endif
