// SPDX-License-Identifier: Apache-2.0
// query_internal.h - what the files of the query share.
//
// Thread-safety: as query.h.

#ifndef RECO_COORDINATOR_QUERY_INTERNAL_H
#define RECO_COORDINATOR_QUERY_INTERNAL_H

#include "coordinator/merge.h"
#include "coordinator/placement.h"
#include "coordinator/query.h"
#include "coordinator/telemetry.h"
#include "proto/base/arena.h"
#include "proto/wire/shard_msg.h"

#define QUERY_TEXT_BYTES 256      // of one reason for being degraded
#define QUERY_INLINE_BYTES 65536u // payload that may come with the hits, from all nodes
#define QUERY_ARENA_BYTES ((size_t)256 << 20)

enum query_state {
    QUERY_ENCODE,
    QUERY_SEARCH,
    QUERY_PAYLOAD,
    QUERY_FUSE,
    QUERY_DOCUMENTS,
    QUERY_DONE,
};

// One node's part.
struct query_node {
    bool asked;
    bool answered; // its reply is good and counts
    uint32_t vshards;
    int64_t left_us; // of the time to answer, when it was asked
    struct shard_search_reply reply;
    const uint32_t *starts; // [row_count + 1] first hit of each row in the reply
};

enum query_known {
    QUERY_UNKNOWN = 0,
    QUERY_HAVE = 1, // the row is there
    QUERY_GONE = 2, // its record was deleted meanwhile
};

// The other modality's rows of all hits (with dedup followed by the searched side's), each record
// once.
struct query_payload {
    size_t count;
    uint64_t *ids;    // [count] ascending
    uint32_t *nodes;  // [count] who has it
    uint8_t *known;   // [count] enum query_known
    uint16_t *halves; // [count][query's row_width]
    float *floats;    // the same
};

// Part of a FETCH: ids[first .. first + count) of the list, all on one node.
struct query_chunk {
    uint32_t node;
    uint32_t first;
    uint32_t count;
};

// A FETCH from several nodes: places[i] is what ids[i] is for.
struct query_fetch {
    uint64_t *ids;
    uint32_t *places;
    struct query_chunk *chunks;
    size_t chunk_count;
};

struct query {
    struct query_params params;
    struct question question;
    struct query_result result;
    enum query_state state;
    struct arena *arena;
    char *input; // copy of image or text
    struct query_parts *parts;
    float *plain;
    float *refined;
    uint32_t k_fetch;
    uint32_t
        row_width; // of the payload's table: the other side's row, with dedup also the searched one
    bool inline_payload;
    int64_t soft_us;          // when the answer must be ready
    int64_t node_deadline_us; // of this step's requests
    struct timer timer;
    struct fanout_ask ask;
    struct compute_job job;
    struct text job_text;  // what job.texts points to
    struct bytes job_file; // and job.images
    enum status file_status;
    struct reason file_why;
    bool job_is_out;
    bool is_orphan;       // destroyed while the job was out
    int64_t step_us;      // when the step began
    size_t not_found;     // nodes that do not know the generation
    size_t losses;        // nodes lost so far
    size_t losses_before; // when the payload was asked for
    float *late_refined;  // what a fusion that came too late still writes to

    struct query_node nodes[NODES_MAX];
    struct query_payload payload;
    struct query_fetch fetch;
    struct fuser_hit *hits; // [row_count * k_fetch]
    uint32_t *hit_nodes;    // parallel: who has it
    uint32_t *hit_places;   // parallel: index in that node's row list
    uint32_t *hit_starts;   // [row_count + 1]
    struct fuser_result *selections;
    struct query_document *documents;
};

// --- query_end.c

// Adds a line to `degraded`; further ones than fit are dropped.
void query_degrade(struct query *query, const char *format, ...) PRINTF_LIKE(2, 3);

// Takes a node out of the answer, naming why.
void query_lose_node(struct query *query, uint32_t node, enum status status, struct text text);

// The ends of a query. Each calls `done`, which may destroy the query.
void query_finish(struct query *query); // with what the steps have found
void query_fail(struct query *query, enum status status, const struct reason *why);
void query_fail_coverage(struct query *query); // it is below the one that was asked for
void query_answer_plain(struct query *query);  // without any neighbour: the query as it is

// No neighbours can be had, for the reasons in `degraded`: answers plainly where that is allowed.
// `status` is what a search then ends with.
void query_go_without(struct query *query, enum status status);

// --- query_parts.c

// Copies the parts of the params into the query; false without memory.
bool query_parts_take(struct query *query);

// Sets the next job that encodes some of them; false when there is none left.
bool query_parts_next(struct query *query);

// After a job with pictures: the first that could not be encoded, named by its place.
enum status query_parts_check(const struct query *query, struct reason *why) MUST_CHECK;

// The query's row from all parts. STATUS_INVALID when they cancel out.
enum status query_parts_sum(struct query *query, struct reason *why) MUST_CHECK;

// --- query_hits.c

// Copies what a SEARCH reply says into the query. STATUS_CORRUPT when it does not fit the question.
enum status query_hits_accept(struct query *query, const struct fanout_reply *reply,
                              struct reason *why) MUST_CHECK;

// Coverage, records and work of the nodes that count.
void query_hits_tally(struct query *query);

// Merges the replies of all nodes that count; those with bad lists are lost. Then builds the
// payload's table, keeping rows that are there already. STATUS_NO_MEMORY.
enum status query_hits_merge(struct query *query) MUST_CHECK;

// Drops hits without payload (naming how many, but for deleted records) and points the others to
// theirs.
void query_hits_settle(struct query *query);

void query_hits_free(struct query_payload *payload);

// --- query_fetch.c

// Asks for all payload rows that are missing; a node that cannot be asked is lost. True when
// something is on its way; then query_fetch_payload_reply() gets each reply.
bool query_fetch_payload(struct query *query);
void query_fetch_payload_reply(struct query *query, const struct fanout_reply *reply);

// The same for the documents of row 0's selection.
bool query_fetch_documents(struct query *query);
void query_fetch_documents_reply(struct query *query, const struct fanout_reply *reply);

#endif
