// SPDX-License-Identifier: Apache-2.0
// FETCH, HAS and STATS: reading documents and rows by id.
//
// Rows come from the mapped files and are checked against their CRC; one that fails is read from
// the store instead. A record whose document cannot be read is reported as not found, and the store
// has named it in the log.

#include <inttypes.h>
#include <string.h>

#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "shard_node/node_parts.h"

struct fetch {
    struct node *node;
    struct shelf_generation *generation;
    struct shard_fetch_request asked;
    struct arena *arena;
    uint32_t *found;   // enum shard_found of each
    struct text *keys; // NULL without documents
    struct text *captions;
    struct text *sources;
    struct text *tags;
    uint16_t *rows;        // NULL without rows
    size_t rows_of_record; // rows asked for of each record: 0, 1 or 2
};

static enum status allocate(struct fetch *fetch, struct reason *why)
{
    const struct shard_fetch_request *asked = &fetch->asked;
    const size_t dimension = fetch->generation->about.dimension;
    fetch->rows_of_record = (asked->want_image_rows ? 1u : 0u) + (asked->want_text_rows ? 1u : 0u);
    const size_t rows_bytes =
        asked->count * fetch->rows_of_record * dimension * sizeof(*fetch->rows);
    if (rows_bytes > ROWS_BYTES_MAX)
        return reason_set(why, STATUS_INVALID, "ids",
                          "the rows of %zu records have %zu bytes; %u are allowed", asked->count,
                          rows_bytes, ROWS_BYTES_MAX);

    fetch->found = arena_alloc_array(fetch->arena, asked->count, sizeof(*fetch->found));
    bool complete = fetch->found != NULL;
    if (asked->want_documents) {
        struct text **const all[] = {&fetch->keys, &fetch->captions, &fetch->sources, &fetch->tags};
        for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
            *all[i] = arena_alloc_array(fetch->arena, asked->count, sizeof(**all[i]));
            complete = complete && *all[i];
        }
    }
    if (complete && rows_bytes > 0) {
        fetch->rows = mem_try_alloc(rows_bytes);
        complete = fetch->rows != NULL;
    }
    return complete ? STATUS_OK
                    : reason_set(why, STATUS_NO_MEMORY, "ids", "no memory for %zu records",
                                 asked->count);
}

static struct store_place place_of(const struct fetch *fetch, uint64_t id)
{
    const struct store_generation *about = &fetch->generation->about;
    return (struct store_place){about->number, (uint16_t)(id % about->vshards), id};
}

// Both rows of a slot, from the map or, if that is damaged, from the store.
static bool read_rows(const struct fetch *fetch, uint32_t slot, const uint16_t *rows[2],
                      uint16_t *spare)
{
    const struct rows *from = fetch->generation->rows;
    const size_t dimension = fetch->generation->about.dimension;
    const struct rows_slot *about = rows_slot(from, slot);
    rows[MODALITY_IMAGE] = rows_row(from, MODALITY_IMAGE, slot);
    rows[MODALITY_TEXT] = rows_row(from, MODALITY_TEXT, slot);
    if (store_rows_crc(rows[MODALITY_IMAGE], rows[MODALITY_TEXT], dimension) == about->crc)
        return true;

    log_error("row_damaged", "generation=%" PRIu32 " slot=%" PRIu32 " id=%016" PRIx64,
              fetch->generation->about.number, slot, about->id);
    struct reason why;
    if (store_read_rows(fetch->node->store, place_of(fetch, about->id), dimension, spare, &why) !=
        STATUS_OK)
        return false;
    rows[MODALITY_IMAGE] = spare;
    rows[MODALITY_TEXT] = spare + dimension;
    return true;
}

static bool fetch_rows(struct fetch *fetch, size_t index, uint32_t slot, uint16_t *spare)
{
    const size_t dimension = fetch->generation->about.dimension;
    const uint16_t *rows[2];
    if (!read_rows(fetch, slot, rows, spare))
        return false;
    uint16_t *at = fetch->rows + index * fetch->rows_of_record * dimension;
    if (fetch->asked.want_image_rows) {
        memcpy(at, rows[MODALITY_IMAGE], dimension * sizeof(*at));
        at += dimension;
    }
    if (fetch->asked.want_text_rows)
        memcpy(at, rows[MODALITY_TEXT], dimension * sizeof(*at));
    return true;
}

// Parts that nobody asked for stay empty.
static void put_document(struct fetch *fetch, size_t index, const struct store_document *document)
{
    const uint32_t asked = fetch->asked.document_parts;
    const uint32_t parts = asked != 0 ? asked : SHARD_DOCUMENT_ALL;
    const struct text none = {0};
    fetch->keys[index] = parts & SHARD_DOCUMENT_KEY ? document->key : none;
    fetch->captions[index] = parts & SHARD_DOCUMENT_CAPTION ? document->caption : none;
    fetch->sources[index] = parts & SHARD_DOCUMENT_SOURCE ? document->source : none;
    fetch->tags[index] = parts & SHARD_DOCUMENT_TAGS ? document->tags : none;
}

// *found tells whether the record is there and whole.
static enum status fetch_one(struct fetch *fetch, size_t index, uint16_t *spare, bool *found,
                             struct reason *why)
{
    const uint64_t id = fetch->asked.ids[index];
    const uint32_t slot = rows_find(fetch->generation->rows, id);
    *found = false;
    if (slot == ROWS_NONE)
        return STATUS_OK;
    if (fetch->keys) {
        struct store_document document;
        const enum status status = store_read_document(fetch->node->store, place_of(fetch, id),
                                                       fetch->arena, &document, why);
        if (status == STATUS_NOT_FOUND || status == STATUS_CORRUPT)
            return STATUS_OK;
        if (status != STATUS_OK)
            return status;
        put_document(fetch, index, &document);
    }
    *found = !fetch->rows || fetch_rows(fetch, index, slot, spare);
    return STATUS_OK;
}

static void clear_one(struct fetch *fetch, size_t index)
{
    const size_t row_bytes = fetch->rows_of_record * fetch->generation->about.dimension;
    if (fetch->keys) {
        fetch->keys[index] = (struct text){0};
        fetch->captions[index] = (struct text){0};
        fetch->sources[index] = (struct text){0};
        fetch->tags[index] = (struct text){0};
    }
    if (fetch->rows)
        memset(fetch->rows + index * row_bytes, 0, row_bytes * sizeof(*fetch->rows));
}

static enum status fetch_all(struct fetch *fetch, struct router_request *request,
                             struct reason *why)
{
    uint16_t *spare =
        mem_alloc_array((size_t)fetch->generation->about.dimension * 2, sizeof(*spare));
    enum status status = STATUS_OK;
    for (size_t i = 0; i < fetch->asked.count && status == STATUS_OK; i++) {
        bool found = false;
        status = fetch_one(fetch, i, spare, &found, why);
        fetch->found[i] = SHARD_FOUND_NOT;
        if (!found)
            clear_one(fetch, i);
        else if (rows_is_hidden(fetch->generation->rows, fetch->asked.ids[i]))
            fetch->found[i] = SHARD_FOUND_HIDDEN;
        else
            fetch->found[i] = SHARD_FOUND_SHOWN;
        if (i % 256 == 255 && router_is_cancelled(request))
            status = reason_set(why, STATUS_CANCELLED, "", "nobody waits for the answer any more");
    }
    mem_free(spare);
    return status;
}

static struct shelf_generation *acquire(struct node *node, uint32_t number, struct reason *why)
{
    struct shelf_generation *generation = shelf_acquire(node->shelf, number);
    if (!generation)
        reason_set(why, STATUS_NOT_FOUND, "generation",
                   "generation %" PRIu32 " is not on this node", number);
    return generation;
}

static void answer_fetch(struct node *node, struct router_request *request, struct arena *arena)
{
    struct reason why = {0};
    struct fetch fetch = {.node = node, .arena = arena};
    enum status status =
        shard_decode_fetch_request(request->body, request->rows, arena, &fetch.asked, &why);
    if (status == STATUS_OK) {
        fetch.generation = acquire(node, fetch.asked.generation, &why);
        status = fetch.generation ? allocate(&fetch, &why) : STATUS_NOT_FOUND;
    }
    if (status == STATUS_OK)
        status = fetch_all(&fetch, request, &why);
    if (status != STATUS_OK) {
        mem_free(fetch.rows);
        shelf_release(node->shelf, &fetch.generation);
        node_reply_failure(&request, status, &why);
        return;
    }
    const struct shard_fetch_reply reply = {.count = fetch.asked.count,
                                            .found = fetch.found,
                                            .keys = fetch.keys,
                                            .captions = fetch.captions,
                                            .sources = fetch.sources,
                                            .tags = fetch.tags,
                                            .rows = fetch.rows};
    const size_t rows_bytes = fetch.rows ? fetch.asked.count * fetch.rows_of_record *
                                               fetch.generation->about.dimension * sizeof(uint16_t)
                                         : 0;
    struct buffer body = node_body();
    status = shard_encode_fetch_reply(&reply, &body);
    shelf_release(node->shelf, &fetch.generation);
    node_reply_body(&request, status, &body, fetch.rows, rows_bytes);
}

static void answer_has(struct node *node, struct router_request *request, struct arena *arena)
{
    struct reason why = {0};
    struct shard_ids_request asked = {0};
    struct shelf_generation *generation = NULL;
    uint32_t *flags = NULL;
    enum status status =
        shard_decode_ids_request(request->body, request->rows, arena, &asked, &why);
    if (status == STATUS_OK) {
        generation = acquire(node, asked.generation, &why);
        status = generation ? STATUS_OK : STATUS_NOT_FOUND;
    }
    if (status == STATUS_OK) {
        flags = arena_alloc_array(arena, asked.count, sizeof(*flags));
        if (!flags)
            status =
                reason_set(&why, STATUS_NO_MEMORY, "ids", "no memory for %zu ids", asked.count);
    }
    if (status == STATUS_OK && flags) {
        for (size_t i = 0; i < asked.count; i++)
            flags[i] = rows_find(generation->rows, asked.ids[i]) != ROWS_NONE ? 1 : 0;
    }
    shelf_release(node->shelf, &generation);
    if (status != STATUS_OK) {
        node_reply_failure(&request, status, &why);
        return;
    }
    struct buffer body = node_body();
    status = shard_encode_flags_reply(
        &(struct shard_flags_reply){.flags = flags, .count = asked.count}, &body);
    node_reply_body(&request, status, &body, NULL, 0);
}

static void add_indexes(struct shelf_generation *generation, struct shard_stats_reply *reply)
{
    for (size_t i = 0; i < sizeof(generation->index) / sizeof(generation->index[0]); i++) {
        struct shelf_index *side = &generation->index[i];
        const uint64_t longest = atomic_load(&side->longest);
        reply->index_bytes += atomic_load(&side->bytes);
        reply->index_lists += atomic_load(&side->lists);
        reply->index_vectors += atomic_load(&side->vectors);
        reply->index_list_max = longest > reply->index_list_max ? longest : reply->index_list_max;
    }
}

static void answer_stats(struct node *node, struct router_request *request, struct arena *arena)
{
    struct reason why = {0};
    struct shard_generation_request asked = {0};
    struct shard_stats_reply reply = {.sequence = store_sequence(node->store),
                                      .read_only = store_is_read_only(node->store)};
    enum status status =
        shard_decode_generation_request(request->body, request->rows, arena, &asked, &why);
    if (status == STATUS_OK && asked.generation == 0) {
        shelf_totals(node->shelf, &reply.records, &reply.rows_bytes);
        reply.bytes = store_bytes(node->store);
    } else if (status == STATUS_OK) {
        struct shelf_generation *generation = acquire(node, asked.generation, &why);
        status = generation ? STATUS_OK : STATUS_NOT_FOUND;
        if (generation) {
            reply.dimension = generation->about.dimension;
            reply.records = rows_live_count(generation->rows);
            reply.hidden = rows_hidden_count(generation->rows);
            reply.rows_bytes = rows_bytes(generation->rows);
            // What is still in memtables has no size of its own; this much there is at least.
            const uint64_t least = reply.records * (4ull * reply.dimension + 18);
            const uint64_t files = store_generation_bytes(node->store, asked.generation);
            reply.bytes = files > least ? files : least;
            add_indexes(generation, &reply);
        }
        shelf_release(node->shelf, &generation);
    }
    if (status != STATUS_OK) {
        node_reply_failure(&request, status, &why);
        return;
    }
    struct buffer body = node_body();
    status = shard_encode_stats_reply(&reply, &body);
    node_reply_body(&request, status, &body, NULL, 0);
}

void node_read_body(struct thread *self, void *context)
{
    struct node *node = context;
    thread_ready(self, STATUS_OK);
    struct router_request *request;
    while ((request = queue_pop(node->reads, INT64_MAX)) != NULL) {
        if (node_drop_cancelled(&request))
            continue;
        trace_follow(&request->trace);
        struct arena *arena = arena_create(NODE_ARENA_BYTES);
        if (request->type == SHARD_FETCH)
            answer_fetch(node, request, arena);
        else if (request->type == SHARD_HAS)
            answer_has(node, request, arena);
        else
            answer_stats(node, request, arena);
        arena_destroy(&arena);
        trace_follow(NULL);
    }
}
