// SPDX-License-Identifier: Apache-2.0
// query_hits.c - the nodes' hit lists become one list for each row, and a table of payload rows.
//
// Many rows find the same records (a thousand class prototypes over one memory), so the payload
// is a table with each record once, sorted by id; hits point into it.

#include <assert.h>
#include <string.h>

#include "coordinator/query_internal.h"
#include "proto/base/ids.h"
#include "proto/base/mem.h"

// ---------------------------------------------------------------- taking a reply in

static enum status check_counts(const struct query *query, const struct shard_search_reply *reply,
                                struct reason *why)
{
    if (reply->row_count != query->params.row_count)
        return reason_set(why, STATUS_CORRUPT, NULL, "it answered %zu rows instead of %u",
                          reply->row_count, query->params.row_count);
    size_t sum = 0;
    for (size_t row = 0; row < reply->row_count; row++) {
        if (reply->counts[row] > query->k_fetch)
            return reason_set(why, STATUS_CORRUPT, NULL, "it sent %u hits where %u are allowed",
                              reply->counts[row], query->k_fetch);
        sum += reply->counts[row];
    }
    if (sum != reply->hit_count)
        return reason_set(why, STATUS_CORRUPT, NULL, "its counts do not fit its %zu hits",
                          reply->hit_count);
    return STATUS_OK;
}

// The rows are the frame's and go with it.
static enum status copy_payload(struct query *query, const struct fanout_reply *reply,
                                struct shard_search_reply *decoded, struct reason *why)
{
    size_t bytes = decoded->hit_count * query->params.dimension * sizeof(uint16_t);
    if (!query->inline_payload || bytes == 0) {
        decoded->payload = NULL;
        return STATUS_OK;
    }
    if (!decoded->payload || reply->rows.count != bytes)
        return reason_set(why, STATUS_CORRUPT, NULL, "it sent %zu bytes of payload instead of %zu",
                          reply->rows.count, bytes);
    uint16_t *copy = arena_alloc(query->arena, bytes);
    if (!copy)
        return reason_set(why, STATUS_NO_MEMORY, NULL, "no memory for %zu bytes of payload", bytes);
    memcpy(copy, decoded->payload, bytes);
    decoded->payload = copy;
    return STATUS_OK;
}

enum status query_hits_accept(struct query *query, const struct fanout_reply *reply,
                              struct reason *why)
{
    struct query_node *node = &query->nodes[reply->node];
    struct shard_search_reply decoded = {0};
    enum status status =
        shard_decode_search_reply(reply->body, reply->rows, query->arena, &decoded, why);
    if (status != STATUS_OK)
        return status == STATUS_NO_MEMORY ? status : STATUS_CORRUPT;
    status = check_counts(query, &decoded, why);
    if (status != STATUS_OK)
        return status;
    status = copy_payload(query, reply, &decoded, why);
    if (status != STATUS_OK)
        return status;

    uint32_t *starts =
        arena_alloc_array(query->arena, (size_t)query->params.row_count + 1, sizeof(*starts));
    if (!starts)
        return reason_set(why, STATUS_NO_MEMORY, NULL, "no memory for its hits");
    starts[0] = 0;
    for (uint32_t row = 0; row < query->params.row_count; row++)
        starts[row + 1] = starts[row] + decoded.counts[row];
    node->reply = decoded;
    node->starts = starts;
    node->answered = true;
    if (decoded.vshards < node->vshards) {
        telemetry_degraded(query->params.backend->telemetry, TELEMETRY_NODE_INCOMPLETE);
        query_degrade(query, "node %u answered for %u of %u vshards", reply->node, decoded.vshards,
                      node->vshards);
        node->vshards = decoded.vshards;
    }
    return STATUS_OK;
}

// ---------------------------------------------------------------- sums

void query_hits_tally(struct query *query)
{
    uint32_t vshards = 0;
    query->result.records = 0;
    query->result.work = (struct api_work){.exact = true};
    for (uint32_t i = 0; i < NODES_MAX; i++) {
        if (!query->nodes[i].answered)
            continue;
        const struct shard_search_reply *reply = &query->nodes[i].reply;
        struct api_work *work = &query->result.work;
        vshards += query->nodes[i].vshards;
        query->result.records += reply->records;
        work->exact = work->exact && reply->exact;
        work->lists_probed += reply->lists_probed;
        work->codes_scanned += reply->codes_scanned;
        work->rows_refined += reply->rows_refined;
        work->rows_read += reply->rows_read;
    }
    uint32_t all = query->question.memory.vshards;
    query->result.coverage = all == 0 ? 0.0f : (float)vshards / (float)all;
}

// ---------------------------------------------------------------- merging

// Merges one row; false and *bad when a node's list is not what it should be.
static bool merge_row(struct query *query, struct merge *merge, uint32_t row, uint32_t *bad)
{
    merge_reset(merge);
    for (uint32_t i = 0; i < NODES_MAX; i++) {
        const struct query_node *node = &query->nodes[i];
        if (!node->answered || node->starts[row + 1] == node->starts[row])
            continue; // a node without any hit has no arrays
        struct merge_list list = {
            .shard = i,
            .ids = node->reply.ids + node->starts[row],
            .scores = node->reply.scores + node->starts[row],
            .count = node->starts[row + 1] - node->starts[row],
        };
        if (merge_offer(merge, &list) != STATUS_OK) {
            *bad = i;
            return false;
        }
    }

    const struct merge_hit *best = NULL;
    size_t count = merge_result(merge, &best);
    uint32_t at = query->hit_starts[row];
    for (size_t i = 0; i < count; i++, at++) {
        const struct query_node *node = &query->nodes[best[i].shard];
        uint32_t place = node->starts[row] + best[i].place;
        query->hits[at] = (struct fuser_hit){
            .id = best[i].neighbour.id,
            .score = best[i].neighbour.score,
            .pair_score = node->reply.pair_scores[place],
        };
        query->hit_nodes[at] = best[i].shard;
        query->hit_places[at] = place;
    }
    query->hit_starts[row + 1] = at;
    return true;
}

static enum status alloc_hits(struct query *query)
{
    if (query->hits)
        return STATUS_OK;
    size_t rows = query->params.row_count;
    query->hits = arena_alloc_array(query->arena, rows * query->k_fetch, sizeof(query->hits[0]));
    query->hit_nodes = arena_alloc_array(query->arena, rows * query->k_fetch, sizeof(uint32_t));
    query->hit_places = arena_alloc_array(query->arena, rows * query->k_fetch, sizeof(uint32_t));
    bool ok = query->hits && query->hit_nodes && query->hit_places;
    return ok ? STATUS_OK : STATUS_NO_MEMORY;
}

// ---------------------------------------------------------------- the payload's table

void query_hits_free(struct query_payload *payload)
{
    mem_free(payload->ids);
    mem_free(payload->nodes);
    mem_free(payload->known);
    mem_free(payload->halves);
    mem_free(payload->floats);
    *payload = (struct query_payload){0};
}

static bool alloc_payload(struct query_payload *payload, size_t count, uint32_t width)
{
    payload->ids = mem_try_alloc_array(count, sizeof(payload->ids[0]));
    payload->nodes = mem_try_alloc_array(count, sizeof(payload->nodes[0]));
    payload->known = mem_try_alloc_array(count, sizeof(payload->known[0]));
    payload->halves = mem_try_alloc_array(count * width, sizeof(payload->halves[0]));
    payload->floats = mem_try_alloc_array(count * width, sizeof(payload->floats[0]));
    return payload->ids && payload->nodes && payload->known && payload->halves && payload->floats;
}

// Rows that are known already: from the table before, or from the reply that brought the hit.
static void fill_known(struct query *query, const struct query_payload *before)
{
    struct query_payload *payload = &query->payload;
    size_t width = query->row_width;
    size_t row_bytes = width * sizeof(payload->halves[0]);
    for (size_t i = 0; i < payload->count; i++) {
        size_t old = ids_find(before->ids, before->count, payload->ids[i]);
        payload->known[i] = old == IDS_NONE ? QUERY_UNKNOWN : before->known[old];
        if (payload->known[i] == QUERY_HAVE)
            memcpy(payload->halves + i * width, before->halves + old * width, row_bytes);
    }
    for (uint32_t i = 0; i < query->hit_starts[query->params.row_count]; i++) {
        const uint16_t *rows = query->nodes[query->hit_nodes[i]].reply.payload;
        size_t at = ids_find(payload->ids, payload->count, query->hits[i].id);
        payload->nodes[at] = query->hit_nodes[i];
        if (!rows || payload->known[at] != QUERY_UNKNOWN)
            continue;
        payload->known[at] = QUERY_HAVE;
        // Rows come with the hits only without dedup: the width is the dimension.
        memcpy(payload->halves + at * width, rows + (size_t)query->hit_places[i] * width,
               row_bytes);
    }
}

static enum status build_payload(struct query *query)
{
    struct query_payload before = query->payload;
    struct query_payload next = {0};
    size_t hits = query->hit_starts[query->params.row_count];
    uint64_t *ids = mem_try_alloc_array(hits, sizeof(*ids));
    if (!ids)
        return STATUS_NO_MEMORY;
    for (size_t i = 0; i < hits; i++)
        ids[i] = query->hits[i].id;
    const size_t count = ids_sort(ids, hits);

    bool ok = alloc_payload(&next, count, query->row_width);
    if (ok) {
        memcpy(next.ids, ids, count * sizeof(*ids));
        next.count = count;
        query->payload = next;
        fill_known(query, &before);
        query_hits_free(&before);
    } else {
        query_hits_free(&next);
    }
    mem_free(ids);
    return ok ? STATUS_OK : STATUS_NO_MEMORY;
}

enum status query_hits_merge(struct query *query)
{
    enum status status = alloc_hits(query);
    if (status != STATUS_OK)
        return status;

    struct merge *merge = NULL;
    status = merge_create(query->k_fetch, &merge);
    assert(status == STATUS_OK);
    uint32_t bad = 0;
    uint32_t row = 0;
    while (row < query->params.row_count) {
        if (merge_row(query, merge, row, &bad)) {
            row++;
            continue;
        }
        query_lose_node(query, bad, STATUS_CORRUPT, text_of("its hits are not sorted"));
        row = 0; // each round loses a node, so this ends
    }
    merge_destroy(&merge);
    return build_payload(query);
}

void query_hits_settle(struct query *query)
{
    struct query_payload *payload = &query->payload;
    uint32_t kept = 0;
    uint32_t dropped = 0;
    for (uint32_t row = 0; row < query->params.row_count; row++) {
        uint32_t from = query->hit_starts[row];
        uint32_t to = query->hit_starts[row + 1];
        query->hit_starts[row] = kept;
        for (uint32_t i = from; i < to; i++) {
            size_t at = ids_find(payload->ids, payload->count, query->hits[i].id);
            dropped += payload->known[at] == QUERY_UNKNOWN;
            if (payload->known[at] != QUERY_HAVE)
                continue;
            query->hits[kept] = query->hits[i];
            query->hits[kept].payload = payload->floats + at * query->row_width;
            query->hits[kept].searched = query->row_width > query->params.dimension
                                             ? query->hits[kept].payload + query->params.dimension
                                             : NULL;
            query->hit_nodes[kept++] = query->hit_nodes[i];
        }
    }
    query->hit_starts[query->params.row_count] = kept;
    if (dropped > 0) {
        telemetry_degraded(query->params.backend->telemetry, TELEMETRY_PAYLOAD);
        query_degrade(query, "%u hits are left out: their embeddings did not come in time",
                      dropped);
    }
}
