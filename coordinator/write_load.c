// SPDX-License-Identifier: Apache-2.0
// write_load.c - the way of one message's records to the nodes.
//
// A record that cannot be stored is told by its key and does not hold up the others. A node that
// cannot be reached fails the load: nothing of it counts as stored then, though some of it
// may be; sending it again is harmless.

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "coordinator/ledger.h"
#include "coordinator/question.h"
#include "coordinator/write_internal.h"
#include "proto/base/clock.h"
#include "proto/base/embedding.h"
#include "proto/base/half.h"
#include "proto/base/hash.h"
#include "proto/base/mem.h"
#include "proto/wire/shard_msg.h"

#define NODE_LIMIT_US 60000000 // for a node to acknowledge

static void encode_images(struct write_load *load);
static void encode_texts(struct write_load *load);
static void send_records(struct write_load *load);

static void finish(struct write_load *load, enum status status, const struct reason *why)
{
    load->status = status;
    if (why)
        load->why = *why;
    load->params.events.done(load->params.events.context, load);
}

static void drop_record(struct write_load *load, size_t index, const char *reason)
{
    load->dropped[index] = true;
    load->params.events.failed(load->params.events.context, load->params.records[index].key,
                               reason);
}

// ---------------------------------------------------------------- checks

// Copies a given embedding as a unit vector, one that is a row already as it is; false with a
// reason when it cannot be one.
static bool take_embedding(const float *values, size_t count, uint32_t dimension, const char *name,
                           float *out, struct reason *why)
{
    struct reason inner = {0};
    if (count == dimension && embedding_is_row(values, count)) {
        memcpy(out, values, count * sizeof(*out));
        return true;
    }
    if (question_embedding(values, count, dimension, out, &inner) == STATUS_OK)
        return true;
    (void)reason_set(why, STATUS_INVALID, NULL, "%s: %s", name, inner.text);
    return false;
}

// Whether the record can be stored at all; what is given as an embedding is taken.
static bool check_record(struct write_load *load, size_t index, struct reason *why)
{
    const struct api_ingest_record *record = &load->params.records[index];
    uint32_t dimension = load->params.memory.dimension;
    bool encodes_image = record->image_count == 0;
    bool encodes_text = record->text_count == 0;
    if (encodes_image && record->image.count == 0) {
        (void)reason_set(why, STATUS_INVALID, NULL, "it has neither image nor image_embedding");
        return false;
    }
    if (encodes_text && record->caption.bytes == 0) {
        (void)reason_set(why, STATUS_INVALID, NULL, "it has neither caption nor text_embedding");
        return false;
    }
    if ((encodes_image || encodes_text) &&
        question_check_space(load->params.backend, &load->params.memory, why) != STATUS_OK)
        return false;
    if (!encodes_image && !take_embedding(record->image_embedding, record->image_count, dimension,
                                          "image_embedding", load->images + index * dimension, why))
        return false;
    return encodes_text || take_embedding(record->text_embedding, record->text_count, dimension,
                                          "text_embedding", load->texts + index * dimension, why);
}

static void check_records(struct write_load *load)
{
    for (size_t i = 0; i < load->params.count; i++) {
        struct text key = load->params.records[i].key;
        struct reason why = {0};
        load->ids[i] = hash_id(key.data, key.bytes);
        load->hidden[i] = load->params.records[i].hidden;
        if (!load->dropped[i] && !check_record(load, i, &why))
            drop_record(load, i, why.text);
    }
}

// ---------------------------------------------------------------- what is there already

enum status write_reply_flags(const struct fanout_reply *reply, uint32_t count, struct arena *arena,
                              struct shard_flags_reply *out, struct reason *why)
{
    enum status status = fanout_reply_status(reply, why);
    if (status == STATUS_OK)
        status = shard_decode_flags_reply(reply->body, reply->rows, arena, out, why);
    if (status == STATUS_OK && out->count != count)
        status = reason_set(why, STATUS_CORRUPT, NULL, "it sent %zu flags for %u records",
                            out->count, count);
    return status;
}

static void on_has_reply(void *context, const struct fanout_reply *reply)
{
    struct write_load *load = context;
    uint32_t first = load->starts[reply->node];
    uint32_t count = load->starts[reply->node + 1] - first;
    struct shard_flags_reply flags = {0};
    struct reason why = {0};
    struct arena *arena = arena_create(WRITE_ARENA_BYTES);
    enum status status = write_reply_flags(reply, count, arena, &flags, &why);
    for (uint32_t i = 0; status == STATUS_OK && i < count; i++) {
        size_t record = load->order[first + i];
        // One that comes hidden is written again: its mark may not have been.
        if (flags.flags[i] && !load->dropped[record] && !load->hidden[record]) {
            load->dropped[record] = true;
            load->skipped++;
        }
    }
    if (status != STATUS_OK && load->status == STATUS_OK)
        load->status = reason_set(&load->why, status, NULL, "node %u: %s", reply->node, why.text);
    arena_destroy(&arena);
}

static void on_has_end(void *context)
{
    struct write_load *load = context;
    if (load->status != STATUS_OK)
        finish(load, load->status, NULL);
    else
        encode_images(load);
}

// What was asked may be done all the same, and nobody will say so.
static void stop_asking(struct write_load *load)
{
    fanout_ask_cancel(&load->ask);
    meta_touch(load->params.backend->meta, load->params.memory.number);
}

// The sends of one message type to each node that has records. Returns the first failure.
static enum status send_to_nodes(struct write_load *load, const struct fanout_handler *handler,
                                 enum status (*send_one)(struct write_load *load, uint32_t node,
                                                         struct reason *why),
                                 struct reason *why)
{
    struct fanout *fanout = load->params.backend->fanout;
    fanout_ask_begin(&load->ask, fanout, handler);
    for (uint32_t node = 0; node < fanout_count(fanout); node++) {
        if (load->starts[node] == load->starts[node + 1])
            continue;
        enum status status = send_one(load, node, why);
        if (status != STATUS_OK) {
            stop_asking(load);
            return status;
        }
    }
    return STATUS_OK;
}

static enum status send_has(struct write_load *load, uint32_t node, struct reason *why)
{
    uint32_t first = load->starts[node];
    uint64_t ids[WRITE_RECORDS_MAX];
    struct shard_ids_request message = {
        .generation = load->params.memory.number,
        .ids = ids,
        .count = load->starts[node + 1] - first,
    };
    for (size_t i = 0; i < message.count; i++)
        ids[i] = load->ids[load->order[first + i]];
    struct buffer body = {0};
    enum status status = shard_encode_ids_request(&message, &body);
    struct fanout_send request = {
        .node = node,
        .class = DEALER_BULK,
        .type = SHARD_HAS,
        .body = {body.data, body.count},
        .deadline_us = clock_deadline_in_us(NODE_LIMIT_US),
        .trace = &load->params.trace,
    };
    if (status == STATUS_OK)
        status = fanout_send(&load->ask, &request, why);
    else
        (void)reason_set(why, status, NULL, "no memory for a request");
    buffer_deinit(&body);
    return status;
}

static void skip_existing(struct write_load *load)
{
    struct placement placement = {load->params.memory.vshards,
                                  fanout_count(load->params.backend->fanout)};
    struct fanout_handler handler = {on_has_reply, on_has_end, load};
    struct reason why = {0};
    placement_split(&placement, load->ids, load->params.count, load->order, load->starts);
    enum status status = send_to_nodes(load, &handler, send_has, &why);
    if (status != STATUS_OK)
        finish(load, status, &why);
}

// ---------------------------------------------------------------- encode

// Starts the batch of all listed items; `next` when there is none.
static void run_batch(struct write_load *load, size_t count, void (*next)(struct write_load *load))
{
    if (count == 0) {
        next(load);
        return;
    }
    struct reason why = {0};
    struct encode_batch *batch = &load->batch;
    batch->compute = load->params.backend->compute;
    batch->class = COMPUTE_BULK;
    batch->count = count;
    batch->files = load->batch_files;
    batch->texts = load->batch_texts;
    batch->profile = IMAGE_PROFILE_RECO;
    batch->statuses = load->batch_statuses;
    batch->reasons = load->batch_reasons;
    batch->embeddings = load->batch_rows;
    batch->context = load;
    enum status status = encode_batch_begin(batch, &why);
    load->batch_is_out = status == STATUS_OK;
    if (status != STATUS_OK)
        finish(load, status, &why);
}

// Moves the batch's rows to where they belong; false when the load ended over a failure.
static bool take_batch(struct write_load *load, float *target, enum status status,
                       const struct reason *why)
{
    uint32_t dimension = load->params.memory.dimension;
    struct reason cancelled = {0};
    load->batch_is_out = false;
    if (load->is_cancelled && status == STATUS_OK) {
        status = reason_set(&cancelled, STATUS_CANCELLED, NULL, "cancelled");
        why = &cancelled;
    }
    if (status != STATUS_OK) {
        finish(load, status, why);
        return false;
    }
    for (size_t i = 0; i < load->batch.count; i++) {
        size_t record = load->places[i];
        if (load->batch.kind == COMPUTE_IMAGES && load->batch_statuses[i] != STATUS_OK)
            drop_record(load, record, load->batch_reasons[i].text);
        else
            memcpy(target + record * dimension, load->batch_rows + i * dimension,
                   dimension * sizeof(*target));
    }
    return true;
}

static void on_images(void *context, enum status status, const struct reason *why)
{
    struct write_load *load = context;
    if (take_batch(load, load->images, status, why))
        encode_texts(load);
}

static void encode_images(struct write_load *load)
{
    size_t count = 0;
    for (size_t i = 0; i < load->params.count; i++) {
        if (load->dropped[i] || load->params.records[i].image_count > 0)
            continue;
        load->batch_files[count] = load->params.records[i].image;
        load->places[count++] = (uint32_t)i;
    }
    load->batch.kind = COMPUTE_IMAGES;
    load->batch.done = on_images;
    run_batch(load, count, encode_texts);
}

static void on_texts(void *context, enum status status, const struct reason *why)
{
    struct write_load *load = context;
    if (take_batch(load, load->texts, status, why))
        send_records(load);
}

static void encode_texts(struct write_load *load)
{
    size_t count = 0;
    for (size_t i = 0; i < load->params.count; i++) {
        if (load->dropped[i] || load->params.records[i].text_count > 0)
            continue;
        load->batch_texts[count] = load->params.records[i].caption;
        load->places[count++] = (uint32_t)i;
    }
    load->batch.kind = COMPUTE_TEXTS;
    load->batch.done = on_texts;
    run_batch(load, count, send_records);
}

// ---------------------------------------------------------------- write

static void fail_write(struct write_load *load, uint32_t node, enum status status, const char *text)
{
    if (load->status == STATUS_OK)
        load->status = reason_set(&load->why, status, NULL, "node %u: %s%s%s", node,
                                  status_text(status), text[0] != '\0' ? ": " : "", text);
}

static void on_write_reply(void *context, const struct fanout_reply *reply)
{
    struct write_load *load = context;
    uint32_t first = load->starts[reply->node];
    uint32_t count = load->starts[reply->node + 1] - first;
    struct shard_write_reply decoded = {0};
    struct reason why = {0};
    // Whatever it says: something may have changed.
    meta_touch(load->params.backend->meta, load->params.memory.number);
    enum status status = fanout_reply_status(reply, &why);
    struct arena *arena = arena_create(WRITE_ARENA_BYTES);
    if (status == STATUS_OK)
        status = shard_decode_write_reply(reply->body, reply->rows, arena, &decoded, &why);
    if (status == STATUS_OK && decoded.count != 0 && decoded.count != count)
        status = reason_set(&why, STATUS_CORRUPT, NULL, "it answered %zu records of %u",
                            decoded.count, count);
    if (status != STATUS_OK)
        fail_write(load, reply->node, status, why.text);
    for (size_t i = 0; status == STATUS_OK && i < decoded.count; i++) {
        if (decoded.status[i] == STATUS_OK)
            continue;
        struct reason told = {0};
        (void)reason_set(
            &told, STATUS_INTERNAL, NULL, "%s: %.*s",
            status_is_known(decoded.status[i]) ? status_text((enum status)decoded.status[i])
                                               : "failed",
            (int)decoded.reasons[i].bytes, decoded.reasons[i].data ? decoded.reasons[i].data : "");
        load->params.events.failed(load->params.events.context, load->keys[first + i], told.text);
    }
    if (load->params.bulk)
        ledger_add(load->params.backend->ledger, load->params.memory.number, reply->node,
                   decoded.stored);
    load->stored += decoded.stored;
    load->duplicates += decoded.duplicates;
    arena_destroy(&arena);
}

static void on_write_end(void *context)
{
    struct write_load *load = context;
    finish(load, load->status, NULL);
}

// Joins a record's tags as the nodes keep them.
static bool join_tags(struct arena *arena, const struct api_ingest_record *record, struct text *out)
{
    size_t bytes = record->tag_count;
    for (size_t i = 0; i < record->tag_count; i++)
        bytes += record->tags[i].bytes;
    char *joined = arena_alloc(arena, bytes);
    if (!joined)
        return false;
    size_t used = 0;
    for (size_t i = 0; i < record->tag_count; i++) {
        if (i > 0)
            joined[used++] = SHARD_TAG_SEPARATOR;
        if (record->tags[i].bytes > 0)
            memcpy(joined + used, record->tags[i].data, record->tags[i].bytes);
        used += record->tags[i].bytes;
    }
    *out = (struct text){joined, used};
    return true;
}

// The node's records as one message; the texts are parallel arrays of `count` in one block.
static enum status fill_message(struct write_load *load, uint32_t node,
                                struct shard_write_request *message, uint16_t *rows)
{
    struct arena *arena = load->params.arena;
    uint32_t dimension = load->params.memory.dimension;
    uint32_t first = load->starts[node];
    size_t count = load->starts[node + 1] - first;
    struct text *texts = arena_alloc_array(arena, 4 * count, sizeof(*texts));
    uint32_t *hidden = arena_alloc_array(arena, count, sizeof(*hidden));
    if (!texts || !hidden)
        return STATUS_NO_MEMORY;
    for (size_t i = 0; i < count; i++) {
        size_t index = load->order[first + i];
        const struct api_ingest_record *record = &load->params.records[index];
        texts[i] = record->key;
        texts[count + i] = record->caption;
        texts[2 * count + i] = record->source;
        hidden[i] = record->hidden ? 1 : 0;
        if (!join_tags(arena, record, &texts[3 * count + i]))
            return STATUS_NO_MEMORY;
        half_from_floats(load->images + index * dimension, rows + 2 * i * dimension, dimension);
        half_from_floats(load->texts + index * dimension, rows + (2 * i + 1) * dimension,
                         dimension);
        char *key = arena_copy_text(arena, record->key.data, record->key.bytes);
        if (!key)
            return STATUS_NO_MEMORY;
        load->keys[first + i] = (struct text){key, record->key.bytes};
    }
    *message = (struct shard_write_request){
        .generation = load->params.memory.number,
        .dimension = dimension,
        .count = count,
        .keys = texts,
        .captions = texts + count,
        .sources = texts + 2 * count,
        .tags = texts + 3 * count,
        .hidden = hidden,
        .rows = rows,
    };
    return STATUS_OK;
}

static enum status send_write(struct write_load *load, uint32_t node, struct reason *why)
{
    size_t count = load->starts[node + 1] - load->starts[node];
    size_t row_bytes = count * 2 * load->params.memory.dimension * sizeof(uint16_t);
    uint16_t *rows = mem_try_alloc_aligned(64, row_bytes);
    struct shard_write_request message;
    struct buffer body = {0};
    enum status status = STATUS_NO_MEMORY;
    if (rows)
        status = fill_message(load, node, &message, rows);
    if (status == STATUS_OK)
        status = shard_encode_write_request(&message, &body);
    if (status == STATUS_OK) {
        struct fanout_send request = {
            .node = node,
            .class = DEALER_BULK,
            .type = load->params.bulk ? SHARD_BULK : SHARD_WRITE,
            .body = {body.data, body.count},
            .rows = {(const uint8_t *)rows, row_bytes},
            .deadline_us = clock_deadline_in_us(NODE_LIMIT_US),
            .trace = &load->params.trace,
        };
        status = fanout_send(&load->ask, &request, why);
    } else {
        (void)reason_set(why, status, NULL, "no memory to send %zu records", count);
    }
    buffer_deinit(&body);
    mem_free(rows);
    return status;
}

// Lists what is left, by node: `order` and `starts` then name these records only.
static void list_rest(struct write_load *load)
{
    struct placement placement = {load->params.memory.vshards,
                                  fanout_count(load->params.backend->fanout)};
    uint32_t kept = 0;
    uint32_t from = 0;
    placement_split(&placement, load->ids, load->params.count, load->order, load->starts);
    for (uint32_t node = 0; node < NODES_MAX; node++) {
        uint32_t to = load->starts[node + 1];
        for (uint32_t i = from; i < to; i++)
            if (!load->dropped[load->order[i]])
                load->order[kept++] = load->order[i];
        from = to;
        load->starts[node + 1] = kept;
    }
}

static void send_records(struct write_load *load)
{
    struct fanout_handler handler = {on_write_reply, on_write_end, load};
    struct reason why = {0};
    list_rest(load);
    enum status status = send_to_nodes(load, &handler, send_write, &why);
    // The message's own arrays end with it.
    load->params.records = NULL;
    if (status != STATUS_OK) {
        finish(load, status, &why);
        return;
    }
    bool waits = fanout_ask_waiting(&load->ask) > 0;
    load->params.events.sent(load->params.events.context, load);
    if (!waits)
        finish(load, STATUS_OK, NULL);
}

// ---------------------------------------------------------------- life

static void on_begin(void *context)
{
    struct write_load *load = context;
    check_records(load);
    if (load->params.skip_existing)
        skip_existing(load);
    else
        encode_images(load);
}

static bool alloc_load(struct write_load *load)
{
    struct arena *arena = load->params.arena;
    size_t count = load->params.count;
    size_t floats = count * load->params.memory.dimension;
    load->dropped = arena_zero(arena, count * sizeof(load->dropped[0]));
    load->ids = arena_alloc_array(arena, count, sizeof(load->ids[0]));
    load->hidden = arena_alloc_array(arena, count, sizeof(load->hidden[0]));
    load->images = arena_alloc_array(arena, floats, sizeof(load->images[0]));
    load->texts = arena_alloc_array(arena, floats, sizeof(load->texts[0]));
    load->order = arena_alloc_array(arena, count, sizeof(load->order[0]));
    load->places = arena_alloc_array(arena, count, sizeof(load->places[0]));
    load->batch_files = arena_alloc_array(arena, count, sizeof(load->batch_files[0]));
    load->batch_texts = arena_alloc_array(arena, count, sizeof(load->batch_texts[0]));
    load->batch_rows = arena_alloc_array(arena, floats, sizeof(load->batch_rows[0]));
    load->batch_statuses = arena_alloc_array(arena, count, sizeof(load->batch_statuses[0]));
    load->batch_reasons = arena_zero(arena, count * sizeof(load->batch_reasons[0]));
    load->keys = arena_zero(arena, count * sizeof(load->keys[0]));
    return load->dropped && load->ids && load->hidden && load->images && load->texts &&
           load->order && load->places && load->batch_files && load->batch_texts &&
           load->batch_rows && load->batch_statuses && load->batch_reasons && load->keys;
}

enum status write_load_begin(const struct write_load_params *params, struct write_load **out,
                             struct reason *why)
{
    assert(params && params->arena && params->count > 0 && out);
    assert(params->count <= WRITE_RECORDS_MAX);

    struct write_load *load = mem_alloc(sizeof(*load));
    load->params = *params;
    if (!alloc_load(load)) {
        write_load_free(load);
        return reason_set(why, STATUS_NO_MEMORY, NULL, "no memory for %zu records", params->count);
    }
    load->timer.fire = on_begin;
    load->timer.context = load;
    timers_arm(&params->backend->timers, &load->timer, clock_now_us());
    *out = load;
    return STATUS_OK;
}

void write_load_cancel(struct write_load *load)
{
    assert(load);

    struct reason why = {0};
    load->is_cancelled = true;
    if (load->batch_is_out) {
        encode_batch_cancel(&load->batch); // its `done` ends the load
        return;
    }
    timers_disarm(&load->params.backend->timers, &load->timer);
    stop_asking(load);
    finish(load, reason_set(&why, STATUS_CANCELLED, NULL, "cancelled"), &why);
}

void write_load_free(struct write_load *load)
{
    timers_disarm(&load->params.backend->timers, &load->timer);
    arena_destroy(&load->params.arena);
    mem_free(load);
}
