// SPDX-License-Identifier: Apache-2.0
// query_run.c - the steps of a query and what happens when one of them cannot be done.
//
// Every step ends by beginning the next one or by query_finish(), always as the last thing a
// function does, because `done` may destroy the query. A node that fails after its hits were merged
// (its payload did not come) is taken out and the rest is merged again, so that the answer is the
// true best k of the nodes that are left.

#include <assert.h>
#include <string.h>

#include "coordinator/query_internal.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

#define NODE_LIMIT_US 30000000        // for a node's answer to a query without a deadline
#define MARGIN_MIN_US 2000            // to write and send an answer
#define MARGIN_SHARE 20               // or 1/20 of all the time there is
#define PAYLOAD_BYTES_MAX (32u << 20) // of a query, as floats

// A step does not take all the time there is: a node that is late must not cost what comes after.
#define RESERVE_SHARE 4      // a quarter of what is left stays for the later steps
#define RESERVE_MAX_US 50000 // at most this

static void search(struct query *query);
static void gather(struct query *query);
static void fuse(struct query *query);

// Candidates to ask for: hygiene drops some, dedup more.
static uint32_t candidates(const struct question *question)
{
    uint32_t k = question->fuser.k;
    uint32_t wanted = question->fuser.dedup > 0 ? 4 * k + 64 : 2 * k + 8;
    return wanted < K_WIRE_MAX ? wanted : K_WIRE_MAX;
}

static uint32_t width_of(const struct question *question, uint32_t dimension)
{
    return question->fuser.dedup > 0 ? 2 * dimension : dimension;
}

uint32_t query_rows_max(const struct question *question, uint32_t dimension)
{
    assert(question->fuser.k >= 1 && question->fuser.k <= K_MAX);
    assert(dimension >= 1 && dimension <= DIMENSION_MAX);

    size_t row_bytes = (size_t)candidates(question) * width_of(question, dimension) * sizeof(float);
    size_t rows = PAYLOAD_BYTES_MAX / row_bytes;
    if (rows < 1)
        return 1;
    return rows < SEARCH_ROWS_MAX ? (uint32_t)rows : SEARCH_ROWS_MAX;
}

int64_t query_soft_deadline_us(int64_t begun_us, int64_t deadline_us)
{
    if (deadline_us == DEADLINE_NONE)
        return DEADLINE_NONE;
    int64_t margin_us = (deadline_us - begun_us) / MARGIN_SHARE;
    return deadline_us - (margin_us > MARGIN_MIN_US ? margin_us : MARGIN_MIN_US);
}

// When the nodes must have answered in this step.
static int64_t step_deadline_us(const struct query *query)
{
    int64_t reserve_us = clock_left_us(query->soft_us) / RESERVE_SHARE;
    return query->soft_us - (reserve_us < RESERVE_MAX_US ? reserve_us : RESERVE_MAX_US);
}

static float ms_since(int64_t begun_us)
{
    return (float)(clock_now_us() - begun_us) / 1000.0f;
}

// ---------------------------------------------------------------- compute jobs

static void free_query(struct query *query)
{
    query_hits_free(&query->payload);
    mem_free(query->plain);
    mem_free(query->refined);
    mem_free(query->late_refined);
    mem_free(query->input);
    question_deinit(&query->question);
    arena_destroy(&query->arena);
    query->params.backend->queries--;
    mem_free(query);
}

static void on_encoded(struct query *query);
static void on_fused(struct query *query);

static void on_job(void *context, struct compute_job *job)
{
    struct query *query = context;
    query->job_is_out = false;
    query->result.timings.queue += (float)job->wait_us / 1000.0f;
    if (query->is_orphan)
        free_query(query);
    else if (query->state == QUERY_ENCODE)
        on_encoded(query);
    else if (query->state == QUERY_FUSE)
        on_fused(query);
    // Else its time ran out and the query went on without it.
}

static enum status submit(struct query *query, struct reason *why)
{
    query->job.class = COMPUTE_QUERY;
    query->job.done = on_job;
    query->job.context = query;
    enum status status = compute_submit(query->params.backend->compute, &query->job, why);
    query->job_is_out = status == STATUS_OK;
    return status;
}

// ---------------------------------------------------------------- encode

// Encodes what is left of the parts, then goes on with their sum.
static void encode_parts(struct query *query)
{
    struct reason why = {0};
    bool is_out = query_parts_next(query);
    enum status status = is_out ? submit(query, &why) : query_parts_sum(query, &why);
    if (status != STATUS_OK)
        query_fail(query, status, &why);
    else if (!is_out)
        search(query);
}

static void encode(struct query *query)
{
    struct reason why = {0};
    query->state = QUERY_ENCODE;
    if (query->params.input == API_INPUT_EMBEDDING) {
        search(query);
        return;
    }
    if (query->params.input == API_INPUT_PARTS) {
        encode_parts(query);
        return;
    }
    if (query->params.input == API_INPUT_IMAGE) {
        query->job_file = (struct bytes){(const uint8_t *)query->input, query->params.image.count};
        query->job.kind = COMPUTE_IMAGES;
        query->job.images = (struct encoder_images){
            .files = &query->job_file,
            .count = 1,
            .profile = query->question.profile,
            .embeddings = query->plain,
            .statuses = &query->file_status,
            .reasons = &query->file_why,
        };
    } else {
        query->job_text = (struct text){query->input, query->params.text.bytes};
        query->job.kind = COMPUTE_TEXTS;
        query->job.texts = (struct compute_texts){
            .texts = &query->job_text, .count = 1, .embeddings = query->plain};
    }
    enum status status = submit(query, &why);
    if (status != STATUS_OK)
        query_fail(query, status, &why);
}

static void on_encode_late(void *context)
{
    struct query *query = context;
    struct reason why = {0};
    compute_cancel(&query->job);
    query_fail(query,
               reason_set(&why, STATUS_DEADLINE, NULL,
                          "the deadline passed before the %s was encoded",
                          query->params.input == API_INPUT_IMAGE  ? "image"
                          : query->params.input == API_INPUT_TEXT ? "text"
                                                                  : "last of the parts"),
               &why);
}

static void on_encoded(struct query *query)
{
    struct compute_job *job = &query->job;
    struct api_timings *timings = &query->result.timings;
    if (job->kind == COMPUTE_IMAGES) {
        timings->decode = (float)job->images.decode_ms;
        timings->preprocess = (float)job->images.preprocess_ms;
        timings->encode += (float)job->images.encode_ms;
    } else {
        timings->encode += (float)job->run_us / 1000.0f;
    }
    bool is_parts = query->params.input == API_INPUT_PARTS;
    struct reason why = job->why;
    enum status status = job->status;
    if (status == STATUS_OK && is_parts) {
        status = query_parts_check(query, &why);
    } else if (status == STATUS_OK && job->kind == COMPUTE_IMAGES) {
        status = query->file_status;
        why = query->file_why;
    }
    if (status != STATUS_OK)
        query_fail(query, status, &why);
    else if (clock_passed(query->params.deadline_us))
        on_encode_late(query);
    else if (is_parts)
        encode_parts(query);
    else
        search(query);
}

// ---------------------------------------------------------------- search

static void on_search_reply(void *context, const struct fanout_reply *reply)
{
    struct query *query = context;
    struct reason why = {0};
    if (reply->status != STATUS_OK) {
        query->not_found += reply->status == STATUS_NOT_FOUND;
        query_lose_node(query, reply->node, reply->status, reply->text);
        return;
    }
    enum status status = query_hits_accept(query, reply, &why);
    if (status != STATUS_OK)
        query_lose_node(query, reply->node, status, text_of(why.text));
    else
        query->result.shard_ms[reply->node] =
            (float)query->nodes[reply->node].reply.search_us / 1000.0f;
}

static void on_search_end(void *context)
{
    struct query *query = context;
    query->result.timings.fanout = ms_since(query->step_us);
    gather(query);
}

// Sends one SEARCH to each node that holds vshards.
static void send_searches(struct query *query, const struct buffer *body)
{
    const struct query_params *params = &query->params;
    struct fanout *fanout = params->backend->fanout;
    struct placement placement = {query->question.memory.vshards, fanout_count(fanout)};
    size_t row_bytes = (size_t)params->row_count * params->dimension * sizeof(float);
    for (uint32_t node = 0; node < placement.nodes; node++) {
        struct query_node *asked = &query->nodes[node];
        asked->vshards = placement_own(&placement, node, NULL);
        if (asked->vshards == 0)
            continue;
        asked->asked = true;
        asked->left_us = clock_left_us(query->node_deadline_us);
        struct reason why = {0};
        struct fanout_send send = {
            .node = node,
            .class = DEALER_QUERY,
            .type = SHARD_SEARCH,
            .body = {body->data, body->count},
            .rows = {(const uint8_t *)query->plain, row_bytes},
            .deadline_us = query->node_deadline_us,
            .trace = &params->trace,
        };
        enum status status = fanout_send(&query->ask, &send, &why);
        if (status != STATUS_OK)
            query_lose_node(query, node, status, text_of(why.text));
    }
}

// Whether there is something to search and time to do it; else the query has gone on.
static bool may_search(struct query *query)
{
    if (query->question.memory.number == 0) {
        telemetry_degraded(query->params.backend->telemetry, TELEMETRY_NO_MEMORY);
        query_degrade(query, "there is no memory '%s'", META_NAME_DEFAULT);
        query_go_without(query, STATUS_UNAVAILABLE);
        return false;
    }
    if (fanout_count(query->params.backend->fanout) == 0) {
        telemetry_degraded(query->params.backend->telemetry, TELEMETRY_NO_NODES);
        query_degrade(query, "there are no nodes");
        query_go_without(query, STATUS_UNAVAILABLE);
        return false;
    }
    if (clock_passed(query->soft_us)) {
        telemetry_degraded(query->params.backend->telemetry, TELEMETRY_DEADLINE);
        query_degrade(query, "the deadline left no time for the search");
        query_go_without(query, STATUS_DEADLINE);
        return false;
    }
    return true;
}

// Whatever nodes hold an index of what is left of a memory, a small one is searched exactly. How
// many records there are the search before has told; until one has, the nodes decide.
static enum shard_index index_mode(const struct query *query)
{
    static const enum shard_index modes[] = {
        [API_INDEX_AUTO] = SHARD_INDEX_AUTO,
        [API_INDEX_EXACT] = SHARD_INDEX_EXACT,
        [API_INDEX_IVF] = SHARD_INDEX_IVF,
    };
    const struct question *question = &query->question;
    const struct meta_generation *memory =
        meta_at(query->params.backend->meta, question->memory.number);
    bool is_small = memory && memory->shown > 0 && memory->shown < INDEX_RECORDS_FROM;
    return question->index == API_INDEX_AUTO && is_small ? SHARD_INDEX_EXACT
                                                         : modes[question->index];
}

static void search(struct query *query)
{
    query->state = QUERY_SEARCH;
    query->step_us = clock_now_us();
    timers_disarm(&query->params.backend->timers, &query->timer);
    if (!may_search(query))
        return;

    const struct query_params *params = &query->params;
    struct fanout *fanout = params->backend->fanout;
    size_t payload_bytes = (size_t)fanout_count(fanout) * params->row_count * query->k_fetch *
                           params->dimension * sizeof(uint16_t);
    query->inline_payload =
        payload_bytes <= QUERY_INLINE_BYTES && query->row_width == params->dimension;
    struct shard_search_request message = {
        .generation = query->question.memory.number,
        .modality = params->over,
        .dimension = params->dimension,
        .row_count = params->row_count,
        .k = query->k_fetch,
        .want_payload = query->inline_payload,
        .exclude_ids = query->question.exclude,
        .exclude_count = query->question.exclude_count,
        .index_mode = index_mode(query),
        .probes = query->question.probes,
        .target_recall = query->question.target_recall,
        .nodes = (uint32_t)fanout_count(fanout),
        .rows = query->plain,
    };
    filter_fill(query->question.filter, &message);
    struct buffer body = {0};
    struct reason why = {0};
    if (shard_encode_search_request(&message, &body) != STATUS_OK) {
        query_fail(query, reason_set(&why, STATUS_NO_MEMORY, NULL, "no memory for a search"), &why);
        return;
    }
    struct fanout_handler handler = {on_search_reply, on_search_end, query};
    query->node_deadline_us = step_deadline_us(query);
    fanout_ask_begin(&query->ask, fanout, &handler);
    send_searches(query, &body);
    buffer_deinit(&body);
    if (fanout_ask_waiting(&query->ask) == 0)
        on_search_end(query);
}

// ---------------------------------------------------------------- merge and payload

static bool any_answered(const struct query *query)
{
    for (uint32_t i = 0; i < NODES_MAX; i++)
        if (query->nodes[i].answered)
            return true;
    return false;
}

// Every node that was asked says that it does not know the generation: it was dropped.
static bool is_dropped(const struct query *query)
{
    size_t asked = 0;
    for (uint32_t i = 0; i < NODES_MAX; i++)
        asked += query->nodes[i].asked;
    return asked > 0 && query->not_found == asked;
}

static void on_payload_reply(void *context, const struct fanout_reply *reply)
{
    query_fetch_payload_reply(context, reply);
}

static void on_payload_end(void *context)
{
    struct query *query = context;
    query->result.timings.fetch += ms_since(query->step_us);
    if (query->losses > query->losses_before)
        gather(query);
    else
        fuse(query);
}

// Merges the replies that count; false when the query has ended over that.
static bool merge_replies(struct query *query)
{
    struct reason why = {0};
    if (is_dropped(query)) {
        query_fail(query,
                   reason_set(&why, STATUS_NOT_FOUND, "memory", "memory %s@%u is gone",
                              query->question.memory.memory, query->question.memory.number),
                   &why);
        return false;
    }
    if (!any_answered(query)) {
        query_go_without(query,
                         clock_passed(query->soft_us) ? STATUS_DEADLINE : STATUS_UNAVAILABLE);
        return false;
    }
    int64_t begun_us = clock_now_us();
    enum status status = query_hits_merge(query);
    query->result.timings.merge += ms_since(begun_us);
    if (status == STATUS_OK)
        return true;
    query_fail(query, reason_set(&why, status, NULL, "no memory to merge the nodes' hits"), &why);
    return false;
}

// Merges what the nodes that count have sent and sees to it that every hit has its payload. When a
// node is lost over that, the rest is merged again: at most NODES_MAX times.
static void gather(struct query *query)
{
    struct fanout_handler handler = {on_payload_reply, on_payload_end, query};
    do {
        if (!merge_replies(query))
            return;
        query->state = QUERY_PAYLOAD;
        query->step_us = clock_now_us();
        query->losses_before = query->losses;
        if (clock_passed(query->soft_us))
            break; // hits whose payload has not come are dropped and counted
        query->node_deadline_us = step_deadline_us(query);
        fanout_ask_begin(&query->ask, query->params.backend->fanout, &handler);
        if (query_fetch_payload(query))
            return;
    } while (query->losses > query->losses_before);
    fuse(query);
}

// ---------------------------------------------------------------- fuse

static bool covers_enough(struct query *query)
{
    query_hits_tally(query);
    if (query->result.coverage >= 1 && !query->question.filter)
        meta_set_shown(query->params.backend->meta, query->question.memory.number,
                       query->result.records);
    if (query->result.coverage >= query->question.min_coverage)
        return true;
    query_fail_coverage(query);
    return false;
}

// The compute thread is busy with something else and there is no time left.
static void on_fuse_late(void *context)
{
    struct query *query = context;
    compute_cancel(&query->job);
    telemetry_degraded(query->params.backend->telemetry, TELEMETRY_DEADLINE);
    query_degrade(query, "the deadline left no time for the fusion");
    if (query->params.needs_neighbours) {
        struct reason late = {0};
        query_fail(
            query,
            reason_set(&late, STATUS_DEADLINE, NULL, "the deadline left no time for the fusion"),
            &late);
        return;
    }

    // The job may be running: what it writes to must not be what is answered.
    size_t rows = query->params.row_count;
    float *refined = mem_try_alloc_array(rows * query->params.dimension, sizeof(*refined));
    struct fuser_result *selections = arena_zero(query->arena, rows * sizeof(*selections));
    uint32_t *starts = arena_zero(query->arena, (rows + 1) * sizeof(*starts));
    if (!refined || !selections || !starts) {
        struct reason why = {0};
        mem_free(refined);
        query_fail(query, reason_set(&why, STATUS_NO_MEMORY, NULL, "no memory for an answer"),
                   &why);
        return;
    }
    query->late_refined = query->refined;
    query->refined = refined;
    query->selections = selections;
    query->hit_starts = starts;
    query_answer_plain(query);
}

static void fuse(struct query *query)
{
    if (!any_answered(query)) {
        query_go_without(query, STATUS_UNAVAILABLE);
        return;
    }
    if (!covers_enough(query))
        return;
    query_hits_settle(query);
    query->state = QUERY_FUSE;
    query->step_us = clock_now_us();
    query->job.kind = COMPUTE_FUSE;
    query->job.fuse = (struct compute_fuse){
        .params = query->question.fuser,
        .dimension = query->params.dimension,
        .row_count = query->params.row_count,
        .queries = query->plain,
        .hits = query->hits,
        .hit_starts = query->hit_starts,
        .halves = query->payload.halves,
        .payload = query->payload.floats,
        .payload_count = query->payload.count * query->row_width,
        .results = query->selections,
        .refined = query->refined,
    };
    struct reason why = {0};
    enum status status = submit(query, &why);
    if (status != STATUS_OK) {
        query_fail(query, status, &why);
        return;
    }
    if (query->params.deadline_us != DEADLINE_NONE) {
        query->timer.fire = on_fuse_late;
        timers_arm(&query->params.backend->timers, &query->timer,
                   query->soft_us + (query->params.deadline_us - query->soft_us) / 2);
    }
}

// Dedup chooses among the candidates that were fetched: with fewer than k left there may be more.
static void say_what_bounds_dedup(struct query *query)
{
    uint32_t kept = query->selections[0].count;
    uint32_t seen = query->hit_starts[1] - query->hit_starts[0];
    if (query->question.fuser.dedup > 0 && query->params.row_count == 1 &&
        kept < query->question.fuser.k && seen >= query->k_fetch)
        query_degrade(query,
                      "dedup %.3f left %u of the best %u candidates; there may be more records, "
                      "which were not looked at",
                      (double)query->question.fuser.dedup, kept, seen);
}

static void on_documents_reply(void *context, const struct fanout_reply *reply)
{
    query_fetch_documents_reply(context, reply);
}

static void on_documents_end(void *context)
{
    struct query *query = context;
    query->result.timings.fetch += ms_since(query->step_us);
    query_finish(query);
}

static void on_fused(struct query *query)
{
    timers_disarm(&query->params.backend->timers, &query->timer);
    query->result.timings.fuse = ms_since(query->step_us);
    if (query->job.status != STATUS_OK) {
        query_fail(query, query->job.status, &query->job.why);
        return;
    }
    say_what_bounds_dedup(query);
    if (!query->params.wants_documents) {
        query_finish(query);
        return;
    }
    struct fanout_handler handler = {on_documents_reply, on_documents_end, query};
    query->state = QUERY_DOCUMENTS;
    query->node_deadline_us = query->soft_us;
    query->step_us = clock_now_us();
    fanout_ask_begin(&query->ask, query->params.backend->fanout, &handler);
    if (!query_fetch_documents(query))
        query_finish(query);
}

// ---------------------------------------------------------------- life

static void on_begin(void *context)
{
    struct query *query = context;
    query->timer.fire = on_encode_late;
    timers_arm(&query->params.backend->timers, &query->timer, query->params.deadline_us);
    encode(query);
}

// Memory that depends on the question's size.
static bool alloc_rows(struct query *query)
{
    const struct query_params *params = &query->params;
    size_t rows = params->row_count;
    size_t input_bytes =
        params->input == API_INPUT_IMAGE ? params->image.count : params->text.bytes;
    query->plain = mem_try_alloc_array(rows * params->dimension, sizeof(query->plain[0]));
    query->refined = mem_try_alloc_array(rows * params->dimension, sizeof(query->refined[0]));
    query->input = mem_try_alloc(input_bytes);
    query->hit_starts = arena_zero(query->arena, (rows + 1) * sizeof(query->hit_starts[0]));
    query->selections = arena_zero(query->arena, rows * sizeof(query->selections[0]));
    if (!query->plain || !query->refined || !query->input || !query->hit_starts ||
        !query->selections)
        return false;

    if (params->input == API_INPUT_PARTS)
        return query_parts_take(query);
    if (params->input == API_INPUT_EMBEDDING)
        memcpy(query->plain, params->rows, rows * params->dimension * sizeof(query->plain[0]));
    else if (input_bytes > 0)
        memcpy(query->input,
               params->input == API_INPUT_IMAGE ? (const char *)params->image.data
                                                : params->text.data,
               input_bytes);
    return true;
}

enum status query_start(const struct query_params *params, struct query **out, struct reason *why)
{
    assert(params && params->backend && params->question && params->done && out);
    assert(params->row_count >= 1 && params->row_count <= SEARCH_ROWS_MAX);
    assert(params->dimension >= 1 && params->dimension <= DIMENSION_MAX);
    assert(params->input != API_INPUT_NONE);
    assert(params->input == API_INPUT_EMBEDDING || params->row_count == 1);

    struct query *query = mem_alloc(sizeof(*query));
    query->params = *params;
    params->backend->queries++;
    question_copy(&query->question, params->question);
    query->question.fuser.dimension = params->dimension;
    query->question.fuser.fusion.modality = params->own;
    query->params.question = &query->question;
    query->arena = arena_create(QUERY_ARENA_BYTES);
    if (!alloc_rows(query)) {
        free_query(query);
        return reason_set(why, STATUS_NO_MEMORY, NULL, "no memory for a query of %u rows",
                          params->row_count);
    }
    query->k_fetch = candidates(&query->question);
    query->row_width = width_of(&query->question, params->dimension);
    int64_t now_us = clock_now_us();
    query->soft_us = params->deadline_us == DEADLINE_NONE
                         ? now_us + NODE_LIMIT_US
                         : query_soft_deadline_us(now_us, params->deadline_us);
    query->result.timings.shard_count = fanout_count(params->backend->fanout);

    // From the loop's next turn on, so that the caller has its pointer before `done`.
    query->timer.fire = on_begin;
    query->timer.context = query;
    timers_arm(&params->backend->timers, &query->timer, now_us);
    *out = query;
    return STATUS_OK;
}

const struct query_result *query_result(const struct query *query)
{
    assert(query && query->state == QUERY_DONE);

    return &query->result;
}

void query_destroy(struct query **query)
{
    assert(query);

    struct query *ended = *query;
    if (!ended)
        return;
    timers_disarm(&ended->params.backend->timers, &ended->timer);
    fanout_ask_cancel(&ended->ask);
    if (ended->job_is_out) {
        compute_cancel(&ended->job);
        ended->is_orphan = true;
    } else {
        free_query(ended);
    }
    *query = NULL;
}
