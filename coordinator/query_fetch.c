// SPDX-License-Identifier: Apache-2.0
// query_fetch.c - payload rows and documents from the nodes that have them.
//
// Both ask alike: the wanted ids grouped by node, cut into chunks that fit a FETCH and its reply.

#include <assert.h>
#include <string.h>

#include "coordinator/query_internal.h"
#include "proto/base/half.h"
#include "proto/base/mem.h"

// Ids of one chunk, so that the rows of its reply stay within a frame.
static uint32_t chunk_max(const struct query *query)
{
    size_t row_bytes = sizeof(uint16_t) * query->params.dimension;
    size_t rows = ROWS_BYTES_MAX / (2 * row_bytes); // both sides
    return rows < FETCH_IDS_MAX ? (uint32_t)rows : FETCH_IDS_MAX;
}

// Lists `count` wanted things by node: ids[i] on nodes[i]; skip[i] are left out (skip may be NULL).
static bool list_by_node(struct query *query, const uint64_t *ids, const uint32_t *nodes,
                         const uint8_t *skip, size_t count)
{
    struct query_fetch *fetch = &query->fetch;
    uint32_t room = chunk_max(query);
    fetch->ids = arena_alloc_array(query->arena, count, sizeof(fetch->ids[0]));
    fetch->places = arena_alloc_array(query->arena, count, sizeof(fetch->places[0]));
    fetch->chunks =
        arena_alloc_array(query->arena, NODES_MAX + count / room, sizeof(fetch->chunks[0]));
    fetch->chunk_count = 0;
    if (!fetch->ids || !fetch->places || !fetch->chunks)
        return false;

    uint32_t listed = 0;
    for (uint32_t node = 0; node < NODES_MAX; node++) {
        struct query_chunk chunk = {.node = node, .first = listed};
        for (size_t i = 0; i < count; i++) {
            if (nodes[i] != node || (skip && skip[i]))
                continue;
            if (chunk.count == room) {
                fetch->chunks[fetch->chunk_count++] = chunk;
                chunk = (struct query_chunk){.node = node, .first = listed};
            }
            fetch->ids[listed] = ids[i];
            fetch->places[listed++] = (uint32_t)i;
            chunk.count++;
        }
        if (chunk.count > 0)
            fetch->chunks[fetch->chunk_count++] = chunk;
    }
    return true;
}

// Sends every chunk; a node that cannot be asked is lost at once by `lose`.
static bool send_chunks(struct query *query, const struct shard_fetch_request *shape,
                        void (*lose)(struct query *query, uint32_t node, enum status status,
                                     struct text text))
{
    const struct query_fetch *fetch = &query->fetch;
    bool sent = false;
    for (size_t i = 0; i < fetch->chunk_count; i++) {
        const struct query_chunk *chunk = &fetch->chunks[i];
        struct shard_fetch_request message = *shape;
        message.generation = query->question.memory.number;
        message.ids = fetch->ids + chunk->first;
        message.count = chunk->count;
        struct buffer body = {0};
        struct reason why = {0};
        enum status status = shard_encode_fetch_request(&message, &body);
        if (status == STATUS_OK) {
            struct fanout_send send = {
                .node = chunk->node,
                .tag = (uint32_t)i,
                .class = DEALER_QUERY,
                .type = SHARD_FETCH,
                .body = {body.data, body.count},
                .deadline_us = query->node_deadline_us,
                .trace = &query->params.trace,
            };
            status = fanout_send(&query->ask, &send, &why);
        }
        buffer_deinit(&body);
        if (status == STATUS_OK)
            sent = true;
        else
            lose(query, chunk->node, status, text_of(why.text));
    }
    return sent;
}

// Decodes the reply to a chunk. STATUS_CORRUPT when it does not fit the question.
static enum status decode(struct query *query, const struct fanout_reply *reply, size_t row_bytes,
                          struct arena *arena, struct shard_fetch_reply *out, struct reason *why)
{
    enum status status = fanout_reply_status(reply, why);
    if (status != STATUS_OK)
        return status;
    status = shard_decode_fetch_reply(reply->body, reply->rows, arena, out, why);
    if (status != STATUS_OK)
        return status == STATUS_NO_MEMORY ? status : STATUS_CORRUPT;
    uint32_t asked = query->fetch.chunks[reply->tag].count;
    if (out->count != asked || !out->found || reply->rows.count != asked * row_bytes)
        return reason_set(why, STATUS_CORRUPT, NULL, "it sent %zu records for %u", out->count,
                          asked);
    return STATUS_OK;
}

// ---------------------------------------------------------------- payload

bool query_fetch_payload(struct query *query)
{
    struct query_payload *payload = &query->payload;
    size_t missing = 0;
    for (size_t i = 0; i < payload->count; i++)
        missing += payload->known[i] == QUERY_UNKNOWN;
    if (missing == 0)
        return false;
    if (!list_by_node(query, payload->ids, payload->nodes, payload->known, payload->count)) {
        telemetry_degraded(query->params.backend->telemetry, TELEMETRY_PAYLOAD);
        query_degrade(query, "no memory to fetch %zu embeddings; their records are left out",
                      missing);
        return false;
    }
    bool wants_both = query->row_width > query->params.dimension;
    bool wants_images = modality_other(query->params.over) == MODALITY_IMAGE;
    struct shard_fetch_request shape = {.want_image_rows = wants_images || wants_both,
                                        .want_text_rows = !wants_images || wants_both};
    return send_chunks(query, &shape, query_lose_node);
}

void query_fetch_payload_reply(struct query *query, const struct fanout_reply *reply)
{
    const struct query_chunk *chunk = &query->fetch.chunks[reply->tag];
    struct query_payload *payload = &query->payload;
    size_t dimension = query->params.dimension;
    size_t width = query->row_width;
    // A reply has the image before the text; here the other side stands before the searched one.
    bool turn = width > dimension && modality_other(query->params.over) == MODALITY_TEXT;
    struct shard_fetch_reply decoded = {0};
    struct reason why = {0};
    struct arena *arena = arena_create(QUERY_ARENA_BYTES);
    enum status status = decode(query, reply, width * sizeof(uint16_t), arena, &decoded, &why);
    if (status != STATUS_OK)
        query_lose_node(query, chunk->node, status, text_of(why.text));

    assert(status != STATUS_OK || decoded.found);

    // A record that is gone was deleted a moment ago: its hit is dropped, as it should be.
    for (uint32_t i = 0; status == STATUS_OK && i < chunk->count; i++) {
        uint32_t place = query->fetch.places[chunk->first + i];
        payload->known[place] = decoded.found[i] ? QUERY_HAVE : QUERY_GONE;
        if (!decoded.found[i])
            continue;
        uint16_t *target = payload->halves + place * width;
        const uint16_t *rows = decoded.rows + i * width;
        memcpy(target, turn ? rows + dimension : rows, dimension * sizeof(*rows));
        if (width > dimension)
            memcpy(target + dimension, turn ? rows : rows + dimension, dimension * sizeof(*rows));
    }
    arena_destroy(&arena);
}

// ---------------------------------------------------------------- documents

// Neighbours stay without their texts; the answer is none the worse otherwise.
static void lose_documents(struct query *query, uint32_t node, enum status status, struct text text)
{
    telemetry_degraded(query->params.backend->telemetry, TELEMETRY_DOCUMENTS);
    query_degrade(query, "node %u did not send keys and captions of its neighbours (%s%s%.*s)",
                  node, status_text(status), text.bytes > 0 ? ": " : "", (int)text.bytes,
                  text.data ? text.data : "");
}

static bool wants(const struct query *query, enum api_record_field field)
{
    return (query->question.fields & 1u << field) != 0;
}

bool query_fetch_documents(struct query *query)
{
    const struct fuser_result *selection = &query->selections[0];
    if (selection->count == 0 || query->question.fields == 0)
        return false;
    uint64_t ids[K_MAX];
    uint32_t nodes[K_MAX];
    for (uint32_t i = 0; i < selection->count; i++) {
        ids[i] = query->hits[selection->kept[i]].id;
        nodes[i] = query->hit_nodes[selection->kept[i]];
    }
    query->documents = arena_zero(query->arena, selection->count * sizeof(query->documents[0]));
    if (!query->documents || !list_by_node(query, ids, nodes, NULL, selection->count)) {
        telemetry_degraded(query->params.backend->telemetry, TELEMETRY_DOCUMENTS);
        query_degrade(query, "no memory for the neighbours' keys and captions");
        query->documents = NULL;
        return false;
    }
    uint32_t parts = question_document_parts(query->question.fields);
    struct shard_fetch_request shape = {
        .want_documents = parts != 0,
        .document_parts = parts,
        .want_image_rows = wants(query, API_FIELD_IMAGE_EMBEDDING),
        .want_text_rows = wants(query, API_FIELD_TEXT_EMBEDDING),
    };
    return send_chunks(query, &shape, lose_documents);
}

static struct text copy_text(struct query *query, struct text text)
{
    char *copy = text.bytes > 0 ? arena_copy_text(query->arena, text.data, text.bytes) : NULL;
    return copy ? (struct text){copy, text.bytes} : (struct text){0};
}

// A row of the reply as floats; *rows moves on to the next. NULL when it is not asked for.
static const float *take_row(struct query *query, enum api_record_field field,
                             const uint16_t **rows)
{
    if (!wants(query, field))
        return NULL;
    size_t dimension = query->params.dimension;
    float *copy = arena_alloc_array(query->arena, dimension, sizeof(*copy));
    if (copy)
        half_to_floats(*rows, copy, dimension);
    *rows += dimension;
    return copy;
}

void query_fetch_documents_reply(struct query *query, const struct fanout_reply *reply)
{
    const struct query_chunk *chunk = &query->fetch.chunks[reply->tag];
    struct shard_fetch_reply decoded = {0};
    struct reason why = {0};
    struct arena *arena = arena_create(QUERY_ARENA_BYTES);
    size_t width =
        (size_t)query->params.dimension * ((wants(query, API_FIELD_IMAGE_EMBEDDING) ? 1u : 0u) +
                                           (wants(query, API_FIELD_TEXT_EMBEDDING) ? 1u : 0u));
    bool wants_texts = question_document_parts(query->question.fields) != 0;
    enum status status = decode(query, reply, width * sizeof(uint16_t), arena, &decoded, &why);
    if (status == STATUS_OK && wants_texts && !decoded.keys)
        status = reason_set(&why, STATUS_CORRUPT, NULL, "there are none in its reply");
    if (status != STATUS_OK)
        lose_documents(query, chunk->node, status, text_of(why.text));
    assert(status != STATUS_OK || decoded.found);
    for (uint32_t i = 0; status == STATUS_OK && i < chunk->count; i++) {
        if (!decoded.found[i])
            continue;
        struct query_document *document = &query->documents[query->fetch.places[chunk->first + i]];
        const uint16_t *rows = decoded.rows ? decoded.rows + i * width : NULL;
        document->image = take_row(query, API_FIELD_IMAGE_EMBEDDING, &rows);
        document->text = take_row(query, API_FIELD_TEXT_EMBEDDING, &rows);
        if (!decoded.keys)
            continue;
        document->key = copy_text(query, decoded.keys[i]);
        document->caption = copy_text(query, decoded.captions[i]);
        document->source = copy_text(query, decoded.sources[i]);
        document->tags = copy_text(query, decoded.tags[i]);
    }
    arena_destroy(&arena);
}
