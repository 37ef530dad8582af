// SPDX-License-Identifier: Apache-2.0
// SEARCH: decoding and viewing by the pool thread that begins it, gathering ids, scores and payload
// by the one that ends it.
//
// By an index, unless the asker wants every row compared, there is none yet, or the filter lets so
// few pass that comparing those is the cheaper way and misses none.

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "proto/base/clock.h"
#include "proto/base/mem.h"
#include "shard_node/node_parts.h"

#define INDEX_PERCENT_MIN 1 // of the slots that pass a filter; with fewer the index is not worth it
#define QUERY_ELEMENT_MAX 65504.0f // the largest half; products of such cannot overflow

struct search {
    struct scan_task task; // first: the pool's pointer is the search's
    struct node *node;
    struct router_request *request;
    struct arena *arena;
    struct shard_search_request asked;
    struct shelf_generation *generation;
    struct rows_view view;
    struct shelf_lease *lease; // of the index; NULL: an exact scan
    struct reason why;
    int64_t began_us;
};

static enum status check_search(struct search *search)
{
    const struct shard_search_request *asked = &search->asked;
    const uint32_t dimension = search->generation->about.dimension;
    if (asked->dimension != dimension)
        return reason_set(&search->why, STATUS_INVALID, "dimension",
                          "%" PRIu32 "; generation %" PRIu32 " has %" PRIu32, asked->dimension,
                          asked->generation, dimension);
    const size_t count = (size_t)asked->row_count * dimension;
    for (size_t i = 0; i < count; i++) {
        // NaN fails this comparison too.
        if (!(fabsf(asked->rows[i]) <= QUERY_ELEMENT_MAX))
            return reason_set(&search->why, STATUS_INVALID, "rows",
                              "element %zu is %g; -65504 to 65504 are allowed", i,
                              (double)asked->rows[i]);
    }
    const size_t payload = (size_t)asked->row_count * asked->k * dimension * sizeof(uint16_t);
    if (asked->want_payload && payload > ROWS_BYTES_MAX)
        return reason_set(&search->why, STATUS_INVALID, "k",
                          "%" PRIu32 " neighbours of %" PRIu32 " rows have %zu bytes of payload; "
                          "%u are allowed",
                          asked->k, asked->row_count, payload, ROWS_BYTES_MAX);
    return STATUS_OK;
}

// The records at this moment, those that the filter lets pass live.
static enum status begin_view(struct search *search)
{
    const struct shard_search_request *asked = &search->asked;
    const struct rows_choice choice = {.excluded = asked->exclude_ids,
                                       .excluded_count = asked->exclude_count,
                                       .only = asked->only_ids,
                                       .only_count = asked->only_count,
                                       .has_only = asked->has_only_ids};
    const struct tags_filter filter = {.all = asked->all_tags,
                                       .all_count = asked->all_count,
                                       .any = asked->any_tags,
                                       .any_count = asked->any_count,
                                       .no = asked->no_tags,
                                       .no_count = asked->no_count};
    struct shelf_generation *generation = search->generation;
    enum status status = rows_view_begin(generation->rows, &choice, &search->view);
    if (status == STATUS_OK)
        status = tags_keep(generation->tags, &filter, search->view.slot_count, search->view.live);
    if (status != STATUS_OK)
        return reason_set(&search->why, STATUS_NO_MEMORY, "", "no memory to view the rows");
    if (asked->has_only_ids || filter.all_count + filter.any_count + filter.no_count > 0)
        rows_view_recount(&search->view);
    return STATUS_OK;
}

static bool has_filter(const struct shard_search_request *asked)
{
    return asked->has_only_ids ||
           asked->exclude_count + asked->all_count + asked->any_count + asked->no_count > 0;
}

static struct shelf_index *side_of(const struct search *search)
{
    return &search->generation->index[search->asked.modality];
}

// The view, and the plan where an index is the way.
static enum status plan_search(struct search *search)
{
    const struct shard_search_request *asked = &search->asked;
    if (asked->index_mode != SHARD_INDEX_EXACT)
        search->lease = shelf_index_lease(side_of(search));
    if (!search->lease)
        return begin_view(search);

    struct index *index = search->lease->index;
    struct probe_plan plan = {.index = index, .rows = search->generation->rows};
    if (has_filter(asked)) {
        // Before the view is taken: what the index takes in afterwards, it may take in without a
        // record that was replaced since the view.
        plan.end = index_end(index);
        const enum status status = begin_view(search);
        if (status != STATUS_OK)
            return status;
        if (search->view.live_count < INDEX_RECORDS_FROM ||
            search->view.live_count * 100 < (uint64_t)search->view.slot_count * INDEX_PERCENT_MIN) {
            shelf_index_end(side_of(search), &search->lease);
            return STATUS_OK;
        }
    } else {
        rows_view_share(search->generation->rows, &search->view);
    }
    const float recall = asked->target_recall > 0 ? asked->target_recall : TARGET_RECALL_DEFAULT;
    // Of a query's ten best this node has its part.
    const float part = asked->nodes > 1 ? 10.0F / (float)asked->nodes : 10.0F;
    plan.probes =
        asked->probes > 0 ? asked->probes : index_probes(index, recall, part < 1 ? 1 : part);
    search->task.plan = plan;
    return STATUS_OK;
}

static enum status prepare_search(struct search *search)
{
    struct scan_task *task = &search->task;
    struct router_request *request = search->request;
    struct reason *why = &search->why;
    search->began_us = clock_now_us();
    enum status status = shard_decode_search_request(request->body, request->rows, search->arena,
                                                     &search->asked, why);
    if (status != STATUS_OK)
        return status;

    const struct shard_search_request *asked = &search->asked;
    search->generation = shelf_acquire(search->node->shelf, asked->generation);
    if (!search->generation)
        return reason_set(why, STATUS_NOT_FOUND, "generation",
                          "generation %" PRIu32 " is not on this node", asked->generation);
    status = check_search(search);
    if (status == STATUS_OK)
        status = plan_search(search);
    task->request = (struct scan_request){.view = &search->view,
                                          .modality = asked->modality,
                                          .queries = asked->rows,
                                          .query_count = asked->row_count,
                                          .k = asked->k};
    return status;
}

static enum status prepare(struct scan_task *task)
{
    struct search *search = (struct search *)task;
    trace_follow(&search->request->trace);
    enum status status = prepare_search(search);
    trace_follow(NULL);
    return status;
}

static bool is_cancelled(struct scan_task *task)
{
    return router_is_cancelled(((struct search *)task)->request);
}

// Arrays of a reply, in the arena.
struct hits {
    uint32_t *counts;
    uint64_t *ids;
    float *scores;
    float *pair_scores;
    uint16_t *payload; // from mem_try_alloc(), or NULL
    size_t count;
};

static bool allocate(struct search *search, const struct scan_lists *lists, struct hits *hits)
{
    const struct shard_search_request *asked = &search->asked;
    for (size_t q = 0; q < asked->row_count; q++) {
        const struct scan_hit *list;
        hits->count += scan_lists_get(lists, q, &list);
    }
    struct arena *arena = search->arena;
    hits->counts = arena_alloc_array(arena, asked->row_count, sizeof(*hits->counts));
    hits->ids = arena_alloc_array(arena, hits->count, sizeof(*hits->ids));
    hits->scores = arena_alloc_array(arena, hits->count, sizeof(*hits->scores));
    hits->pair_scores = arena_alloc_array(arena, hits->count, sizeof(*hits->pair_scores));
    if (!hits->counts || !hits->ids || !hits->scores || !hits->pair_scores)
        return false;
    if (!asked->want_payload || hits->count == 0)
        return true;
    hits->payload = mem_try_alloc_array(hits->count, search->view.dimension * sizeof(uint16_t));
    return hits->payload != NULL;
}

static void gather(struct search *search, const struct scan_lists *lists, struct hits *hits)
{
    const struct rows_view *view = &search->view;
    const uint16_t *other = view->rows[modality_other(search->asked.modality)];
    size_t at = 0;
    for (size_t q = 0; q < search->asked.row_count; q++) {
        const struct scan_hit *list;
        const size_t count = scan_lists_get(lists, q, &list);
        hits->counts[q] = (uint32_t)count;
        for (size_t i = 0; i < count; i++, at++) {
            hits->ids[at] = list[i].neighbour.id;
            hits->scores[at] = list[i].neighbour.score;
            hits->pair_scores[at] = view->slots[list[i].slot].pair_score;
            if (hits->payload)
                memcpy(hits->payload + at * view->dimension,
                       other + (size_t)list[i].slot * view->dimension,
                       view->dimension * sizeof(*other));
        }
    }
}

static uint32_t to_u32(int64_t us)
{
    return us < 0 ? 0 : us > (int64_t)UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

// Answers by the index to whom every record counts.
static void offer_audit(const struct search *search, const struct scan_lists *lists)
{
    if (!search->lease || has_filter(&search->asked))
        return;
    struct audit_offer offer = {.generation = search->asked.generation,
                                .modality = search->asked.modality,
                                .dimension = search->asked.dimension,
                                .query = search->asked.rows,
                                .k = search->asked.k};
    offer.count = scan_lists_get(lists, 0, &offer.hits);
    audit_offer(search->node->audit, &offer);
}

static void answer(struct search *search, const struct scan_lists *lists)
{
    struct hits hits = {0};
    if (!allocate(search, lists, &hits)) {
        reason_set(&search->why, STATUS_NO_MEMORY, "", "no memory for the reply");
        node_reply_failure(&search->request, STATUS_NO_MEMORY, &search->why);
        return;
    }
    gather(search, lists, &hits);
    offer_audit(search, lists);
    const struct shard_search_reply reply = {
        .counts = hits.counts,
        .row_count = search->asked.row_count,
        .ids = hits.ids,
        .scores = hits.scores,
        .pair_scores = hits.pair_scores,
        .hit_count = hits.count,
        .records = search->view.live_count,
        .queue_us = to_u32(search->began_us - search->request->received_us),
        .search_us = to_u32(clock_now_us() - search->began_us),
        .vshards = search->generation->about.own_count,
        .exact = !search->lease,
        .lists_probed = search->task.counts.lists,
        .codes_scanned = search->task.counts.codes,
        .rows_refined = search->task.counts.refined,
        .rows_read = search->task.counts.rows,
        .payload = hits.payload,
    };
    node_side_searched(search->node->side, reply.queue_us, reply.search_us, reply.exact);
    struct buffer body = node_body();
    const enum status status = shard_encode_search_reply(&reply, &body);
    const size_t rows_bytes =
        hits.payload ? hits.count * search->view.dimension * sizeof(uint16_t) : 0;
    node_reply_body(&search->request, status, &body, hits.payload, rows_bytes);
}

static void finish(struct scan_task *task, enum status status, const struct scan_lists *lists)
{
    struct search *search = (struct search *)task;
    if (status == STATUS_OK) {
        answer(search, lists);
    } else {
        if (search->why.text[0] == '\0')
            reason_set(&search->why, status, "", "%s",
                       status == STATUS_CANCELLED ? "nobody waits for the answer any more"
                                                  : "no memory for the search");
        node_reply_failure(&search->request, status, &search->why);
    }
    rows_view_end(&search->view);
    if (search->lease)
        shelf_index_end(side_of(search), &search->lease);
    shelf_release(search->node->shelf, &search->generation);
    arena_destroy(&search->arena);
    mem_free(search);
}

void node_search(struct node *node, struct router_request *request)
{
    struct search *search = mem_alloc(sizeof(*search));
    search->task.prepare = prepare;
    search->task.is_cancelled = is_cancelled;
    search->task.finish = finish;
    search->node = node;
    search->request = request;
    search->arena = arena_create(NODE_ARENA_BYTES);
    const enum status status = scan_pool_submit(node->pool, &search->task);
    if (status == STATUS_OK)
        return;
    reason_set(&search->why, status, "", "node %u has %d searches waiting", (unsigned)node->index,
               SCAN_POOL_TASKS_MAX);
    finish(&search->task, status, NULL);
}
