// SPDX-License-Identifier: Apache-2.0
// service_records.c - GetRecords and GetVectors: records by key and id, from the nodes that hold
// them.
//
// Each record is fetched once, however often it was named. A key is compared with the record's own:
// an id is only a hash of it. A node that does not answer is named in `degraded`, and what it holds
// is neither found nor missing; when no node answers there is no answer.

#include <assert.h>
#include <string.h>

#include "coordinator/placement.h"
#include "coordinator/query.h"
#include "coordinator/question.h"
#include "coordinator/service.h"
#include "proto/base/arena.h"
#include "proto/base/clock.h"
#include "proto/base/half.h"
#include "proto/base/hash.h"
#include "proto/base/ids.h"
#include "proto/base/mem.h"
#include "proto/wire/shard_msg.h"

#define NODE_LIMIT_US 30000000 // for a node to answer, when the call has no earlier deadline

// One record that was named.
struct wanted {
    uint64_t id;
    uint32_t node;
    bool answered; // its node did
    bool found;
    bool hidden;
    bool told; // it stands in the answer
    struct shard_document document;
    const float *image; // NULL: not asked for
    const float *text;
};

struct lookup {
    struct service_call *call;
    struct arena *arena;
    struct meta_generation memory;
    struct api_records_request request;
    uint32_t fields; // of the answer, as bits
    struct fanout_ask ask;
    struct wanted *wanted; // [count] ascending by id, each once
    size_t count;
    uint32_t *order; // by node
    uint32_t starts[NODES_MAX + 1];
    size_t asked;    // nodes
    size_t answered; //
    struct text degraded[NODES_MAX];
    size_t degraded_count;
    enum status status; // the first failure
    struct reason why;
};

static bool is_vectors(const struct lookup *lookup)
{
    return lookup->call->method == API_GET_VECTORS;
}

static bool wants(const struct lookup *lookup, enum api_record_field field)
{
    return (lookup->fields & 1u << field) != 0;
}

static void free_lookup(struct lookup *lookup)
{
    fanout_ask_cancel(&lookup->ask);
    arena_destroy(&lookup->arena);
    mem_free(lookup);
}

static void fail(struct lookup *lookup, enum status status, const struct reason *why)
{
    struct reason told = *why;
    service_fail(lookup->call, status, &told);
    free_lookup(lookup);
}

// ---------------------------------------------------------------- the answer

static struct wanted *find(const struct lookup *lookup, uint64_t id)
{
    size_t low = 0;
    size_t high = lookup->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (lookup->wanted[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    assert(low < lookup->count && lookup->wanted[low].id == id);
    return &lookup->wanted[low];
}

// The records in the order of the request; those missing apart.
struct told {
    const struct wanted **records;
    size_t count;
    struct text *keys; // missing
    size_t key_count;
    uint64_t *ids;
    size_t id_count;
};

static void tell(struct told *told, struct wanted *wanted)
{
    if (!wanted->told)
        told->records[told->count++] = wanted;
    wanted->told = true;
}

static bool collect(struct lookup *lookup, struct told *told)
{
    const struct api_records_request *request = &lookup->request;
    told->records = arena_alloc_array(lookup->arena, lookup->count, sizeof(struct wanted *));
    told->keys = arena_alloc_array(lookup->arena, request->key_count, sizeof(*told->keys));
    told->ids = arena_alloc_array(lookup->arena, request->id_count, sizeof(*told->ids));
    if (!told->records || !told->keys || !told->ids)
        return false;

    for (size_t i = 0; i < request->key_count; i++) {
        struct text key = request->keys[i];
        struct wanted *wanted = find(lookup, hash_id(key.data, key.bytes));
        if (wanted->found && text_equal(wanted->document.key, key))
            tell(told, wanted);
        else if (wanted->answered)
            told->keys[told->key_count++] = key;
    }
    for (size_t i = 0; i < request->id_count; i++) {
        struct wanted *wanted = find(lookup, request->ids[i]);
        if (wanted->found)
            tell(told, wanted);
        else if (wanted->answered)
            told->ids[told->id_count++] = wanted->id;
    }
    return true;
}

static bool put_records(struct lookup *lookup, const struct told *told,
                        struct api_records_reply *reply)
{
    struct api_record *records = arena_alloc_array(lookup->arena, told->count, sizeof(*records));
    if (!records)
        return false;
    for (size_t i = 0; i < told->count; i++) {
        const struct wanted *wanted = told->records[i];
        struct api_record *record = &records[i];
        *record = (struct api_record){.id = wanted->id, .hidden = wanted->hidden};
        if (wants(lookup, API_FIELD_KEY))
            record->key = wanted->document.key;
        record->caption = wanted->document.caption;
        record->source = wanted->document.source;
        record->image_embedding = wanted->image;
        record->image_count = wanted->image ? lookup->memory.dimension : 0;
        record->text_embedding = wanted->text;
        record->text_count = wanted->text ? lookup->memory.dimension : 0;
        record->tag_count = shard_tag_count(wanted->document.tags);
        struct text *tags =
            arena_alloc_array(lookup->arena, record->tag_count, sizeof(*record->tags));
        if (!tags)
            return false;
        shard_split_tags(wanted->document.tags, tags);
        record->tags = tags;
    }
    reply->records = records;
    reply->count = told->count;
    return true;
}

static bool put_vectors(struct lookup *lookup, const struct told *told,
                        struct api_records_reply *reply)
{
    size_t dimension = lookup->memory.dimension;
    size_t floats = told->count * dimension;
    uint64_t *ids = arena_alloc_array(lookup->arena, told->count, sizeof(*ids));
    float *images = arena_alloc_array(lookup->arena, floats, sizeof(*images));
    float *texts = arena_alloc_array(lookup->arena, floats, sizeof(*texts));
    if (!ids || !images || !texts)
        return false;
    for (size_t i = 0; i < told->count; i++) {
        const struct wanted *wanted = told->records[i];
        ids[i] = wanted->id;
        if (wanted->image)
            memcpy(images + i * dimension, wanted->image, dimension * sizeof(*images));
        if (wanted->text)
            memcpy(texts + i * dimension, wanted->text, dimension * sizeof(*texts));
    }
    reply->dimension = lookup->memory.dimension;
    reply->ids = ids;
    reply->vector_count = told->count;
    reply->image_embeddings = images;
    reply->image_floats = wants(lookup, API_FIELD_IMAGE_EMBEDDING) ? floats : 0;
    reply->text_embeddings = texts;
    reply->text_floats = wants(lookup, API_FIELD_TEXT_EMBEDDING) ? floats : 0;
    return true;
}

static void answer(struct lookup *lookup)
{
    struct told told = {0};
    struct reason why = {0};
    struct buffer bytes = {0};
    struct api_records_reply reply = {
        .request_id = service_request_id(lookup->call),
        .memory = text_of(lookup->memory.memory),
        .generation = lookup->memory.number,
        .space = text_of(lookup->memory.space),
        .degraded = lookup->degraded,
        .degraded_count = lookup->degraded_count,
    };
    enum status status = STATUS_NO_MEMORY;
    bool complete =
        collect(lookup, &told) && (is_vectors(lookup) ? put_vectors(lookup, &told, &reply)
                                                      : put_records(lookup, &told, &reply));
    reply.missing_keys = told.keys;
    reply.missing_key_count = told.key_count;
    reply.missing_ids = told.ids;
    reply.missing_id_count = told.id_count;
    if (complete)
        status = api_encode_records_reply(is_vectors(lookup), &reply, &bytes);
    if (status == STATUS_OK) {
        service_finish(lookup->call, STATUS_OK, &bytes, NULL);
        free_lookup(lookup);
    } else {
        fail(lookup, reason_set(&why, status, NULL, "no memory for the answer: ask for less"),
             &why);
    }
    buffer_deinit(&bytes);
}

// ---------------------------------------------------------------- asking

// One node's rows and texts. They are copied: the reply is gone after the callback.
static enum status take(struct lookup *lookup, struct wanted *wanted,
                        const struct shard_fetch_reply *fetched, size_t index, const uint16_t *rows)
{
    size_t dimension = lookup->memory.dimension;
    const float *sides[2] = {NULL, NULL};
    for (int side = 0; side < 2; side++) {
        if (!wants(lookup, side == 0 ? API_FIELD_IMAGE_EMBEDDING : API_FIELD_TEXT_EMBEDDING))
            continue;
        float *copy = arena_alloc_array(lookup->arena, dimension, sizeof(*copy));
        if (!copy)
            return STATUS_NO_MEMORY;
        half_to_floats(rows, copy, dimension);
        sides[side] = copy;
        rows += dimension;
    }
    wanted->image = sides[0];
    wanted->text = sides[1];
    if (fetched->keys)
        wanted->document = (struct shard_document){.key = fetched->keys[index],
                                                   .caption = fetched->captions[index],
                                                   .source = fetched->sources[index],
                                                   .tags = fetched->tags[index]};
    wanted->found = true;
    wanted->hidden = fetched->found[index] == SHARD_FOUND_HIDDEN;
    return STATUS_OK;
}

static enum status take_all(struct lookup *lookup, const struct fanout_reply *reply,
                            struct reason *why)
{
    uint32_t first = lookup->starts[reply->node];
    uint32_t count = lookup->starts[reply->node + 1] - first;
    size_t row_floats =
        (size_t)lookup->memory.dimension * ((wants(lookup, API_FIELD_IMAGE_EMBEDDING) ? 1u : 0u) +
                                            (wants(lookup, API_FIELD_TEXT_EMBEDDING) ? 1u : 0u));
    struct shard_fetch_reply fetched = {0};
    enum status status =
        shard_decode_fetch_reply(reply->body, reply->rows, lookup->arena, &fetched, why);
    if (status != STATUS_OK)
        return status;
    if (fetched.count != count || reply->rows.count != count * row_floats * sizeof(uint16_t))
        return reason_set(why, STATUS_CORRUPT, NULL, "it sent %zu records for %u", fetched.count,
                          count);
    for (uint32_t i = 0; i < count && status == STATUS_OK; i++) {
        struct wanted *wanted = &lookup->wanted[lookup->order[first + i]];
        wanted->answered = true;
        if (fetched.found[i])
            status = take(lookup, wanted, &fetched, i,
                          fetched.rows ? fetched.rows + i * row_floats : NULL);
    }
    return status == STATUS_OK ? status
                               : reason_set(why, status, NULL, "no memory for its records");
}

static void lose_node(struct lookup *lookup, uint32_t node, enum status status, struct text text)
{
    struct reason line;
    (void)reason_set(&line, status, NULL, "node %u: %s%s%.*s", node, status_text(status),
                     text.bytes > 0 ? ": " : "", (int)text.bytes, text.data ? text.data : "");
    size_t bytes = strlen(line.text);
    char *copy = arena_copy_text(lookup->arena, line.text, bytes);
    if (copy && lookup->degraded_count < NODES_MAX)
        lookup->degraded[lookup->degraded_count++] = (struct text){copy, bytes};
    if (lookup->status == STATUS_OK) {
        lookup->status = status;
        lookup->why = line;
    }
}

static void on_reply(void *context, const struct fanout_reply *reply)
{
    struct lookup *lookup = context;
    struct reason why = {0};
    enum status status = fanout_reply_status(reply, &why);
    if (status == STATUS_OK)
        status = take_all(lookup, reply, &why);
    if (status == STATUS_OK)
        lookup->answered++;
    else
        lose_node(lookup, reply->node, status, text_of(why.text));
}

static void on_end(void *context)
{
    struct lookup *lookup = context;
    if (lookup->answered == 0 && lookup->status != STATUS_OK)
        fail(lookup, lookup->status, &lookup->why);
    else
        answer(lookup);
}

static enum status send_node(struct lookup *lookup, uint32_t node, struct reason *why)
{
    uint32_t first = lookup->starts[node];
    size_t count = lookup->starts[node + 1] - first;
    uint64_t *ids = arena_alloc_array(lookup->arena, count, sizeof(*ids));
    if (!ids)
        return reason_set(why, STATUS_NO_MEMORY, NULL, "no memory for a request");
    for (size_t i = 0; i < count; i++)
        ids[i] = lookup->wanted[lookup->order[first + i]].id;

    // The keys also where only vectors are wanted, to see that they are the right ones.
    uint32_t parts = question_document_parts(lookup->fields);
    if (lookup->request.key_count > 0)
        parts |= SHARD_DOCUMENT_KEY;
    struct shard_fetch_request message = {
        .generation = lookup->memory.number,
        .ids = ids,
        .count = count,
        .want_documents = parts != 0,
        .document_parts = parts,
        .want_image_rows = wants(lookup, API_FIELD_IMAGE_EMBEDDING),
        .want_text_rows = wants(lookup, API_FIELD_TEXT_EMBEDDING),
    };
    struct buffer body = {0};
    enum status status = shard_encode_fetch_request(&message, &body);
    if (status == STATUS_OK) {
        const struct service_call *call = lookup->call;
        int64_t limit_us = clock_deadline_in_us(NODE_LIMIT_US);
        int64_t soft_us = query_soft_deadline_us(call->begun_us, call->deadline_us);
        struct fanout_send send = {
            .node = node,
            .class = DEALER_QUERY,
            .type = SHARD_FETCH,
            .body = {body.data, body.count},
            .deadline_us = soft_us < limit_us ? soft_us : limit_us,
            .trace = &call->trace,
        };
        status = fanout_send(&lookup->ask, &send, why);
    } else {
        (void)reason_set(why, status, NULL, "no memory for a request");
    }
    buffer_deinit(&body);
    return status;
}

static void send_all(struct lookup *lookup)
{
    struct fanout *fanout = lookup->call->backend->fanout;
    struct fanout_handler handler = {on_reply, on_end, lookup};
    fanout_ask_begin(&lookup->ask, fanout, &handler);
    for (uint32_t node = 0; node < fanout_count(fanout); node++) {
        if (lookup->starts[node] == lookup->starts[node + 1])
            continue;
        struct reason why = {0};
        enum status status = send_node(lookup, node, &why);
        if (status != STATUS_OK)
            lose_node(lookup, node, status, text_of(why.text));
    }
    if (fanout_ask_waiting(&lookup->ask) == 0)
        on_end(lookup);
}

// ---------------------------------------------------------------- begin

// Every id that is named, each once, and which node has it.
static enum status plan(struct lookup *lookup, struct reason *why)
{
    const struct api_records_request *request = &lookup->request;
    struct placement placement = {lookup->memory.vshards,
                                  fanout_count(lookup->call->backend->fanout)};
    if (placement.nodes == 0)
        return reason_set(why, STATUS_UNAVAILABLE, NULL, "there are no shard nodes");
    size_t named = request->key_count + request->id_count;
    uint64_t *ids = arena_alloc_array(lookup->arena, named, sizeof(*ids));
    lookup->wanted = arena_zero(lookup->arena, named * sizeof(lookup->wanted[0]));
    lookup->order = arena_alloc_array(lookup->arena, named, sizeof(lookup->order[0]));
    if (!ids || !lookup->wanted || !lookup->order)
        return reason_set(why, STATUS_NO_MEMORY, NULL, "no memory for %zu records", named);

    for (size_t i = 0; i < request->key_count; i++)
        ids[i] = hash_id(request->keys[i].data, request->keys[i].bytes);
    for (size_t i = 0; i < request->id_count; i++)
        ids[request->key_count + i] = request->ids[i];
    lookup->count = ids_sort(ids, named);
    for (size_t i = 0; i < lookup->count; i++)
        lookup->wanted[i].id = ids[i];
    placement_split(&placement, ids, lookup->count, lookup->order, lookup->starts);
    return STATUS_OK;
}

static void choose_fields(struct lookup *lookup)
{
    const uint32_t image = 1u << API_FIELD_IMAGE_EMBEDDING;
    const uint32_t text = 1u << API_FIELD_TEXT_EMBEDDING;
    lookup->fields = lookup->request.fields ? lookup->request.fields : API_FIELDS_OF_RECORDS;
    if (!is_vectors(lookup))
        return;
    lookup->fields = lookup->request.modality == API_MODALITY_IMAGE  ? image
                     : lookup->request.modality == API_MODALITY_TEXT ? text
                                                                     : image | text;
}

static void begin(struct service_call *call)
{
    struct lookup *lookup = mem_alloc(sizeof(*lookup));
    lookup->call = call;
    lookup->arena = arena_create(SERVICE_ARENA_BYTES);
    call->state = lookup;
    struct reason why = {0};
    enum status status = api_decode_records_request(is_vectors(lookup), call->message,
                                                    lookup->arena, &lookup->request, &why);
    if (status == STATUS_OK)
        status = meta_find(call->backend->meta, lookup->request.memory, META_FOR_QUERY,
                           &lookup->memory, &why);
    choose_fields(lookup);
    if (status == STATUS_OK)
        status = plan(lookup, &why);
    if (status != STATUS_OK)
        fail(lookup, status, &why);
    else
        send_all(lookup);
}

static void cancel(struct service_call *call)
{
    struct reason why = {0};
    fail(call->state, reason_set(&why, STATUS_CANCELLED, NULL, "cancelled"), &why);
}

const struct service_handler service_records = {.begin = begin, .cancel = cancel};
