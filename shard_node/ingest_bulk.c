// SPDX-License-Identifier: Apache-2.0
// Bulk loads: a buffer of copied records, written out sorted.
//
// One buffer becomes one set of sorted files, so the larger it is, the fewer files overlap in the
// store. Its rows follow in the same order, so that every byte is written once and in sequence,
// and are made durable with a checkpoint: after a crash they need not be written anew.

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "shard_node/ingest_internal.h"

// --- the buffer

void ingest_bulk_forget(struct ingest *ingest)
{
    ingest_clear(ingest, &ingest->bulk);
    for (size_t b = 0; b < ingest->block_count; b++)
        mem_free(ingest->blocks[b]);
    ingest->block_count = 0;
    ingest->bulk_bytes = 0;
}

size_t ingest_bulk_count(const struct ingest *ingest)
{
    return ingest->bulk.count;
}

// A block that lives as long as the buffer. NULL when there is no memory.
static void *add_block(struct ingest *ingest, size_t bytes)
{
    if (ingest->block_count == ingest->block_room) {
        ingest->block_room = ingest->block_room ? ingest->block_room * 2 : 64;
        ingest->blocks = mem_grow(ingest->blocks, ingest->block_room, sizeof(*ingest->blocks));
    }
    void *block = mem_try_alloc(bytes);
    if (!block)
        return NULL;
    ingest->blocks[ingest->block_count++] = block;
    ingest->bulk_bytes += bytes;
    return block;
}

static struct text copy_text(char **at, struct text text)
{
    const struct text copy = {*at, text.bytes};
    if (text.bytes > 0)
        memcpy(*at, text.data, text.bytes);
    *at += text.bytes;
    return copy;
}

// Where a request's records are copied to.
struct copies {
    uint16_t *rows;
    char *texts;
};

static enum status reserve(struct ingest *ingest, const struct shard_write_request *request,
                           struct copies *copies, struct reason *why)
{
    const size_t row_bytes = request->count * 2 * request->dimension * sizeof(uint16_t);
    copies->rows = add_block(ingest, row_bytes);
    copies->texts =
        copies->rows ? add_block(ingest, ingest_request_bytes(request) - row_bytes) : NULL;
    if (!copies->rows || !copies->texts ||
        ingest_reserve(&ingest->bulk, request->count) != STATUS_OK) {
        (void)reason_set(why, STATUS_NO_MEMORY, "", "no memory to buffer %zu records",
                         request->count);
        return STATUS_NO_MEMORY;
    }
    memcpy(copies->rows, request->rows, row_bytes);
    return STATUS_OK;
}

static void add_record(struct ingest *ingest, const struct shard_write_request *request,
                       size_t index, struct copies *copies, struct ingest_results *results,
                       struct shard_write_reply *reply)
{
    struct reason reason = {0};
    struct ingest_entry entry = {0};
    struct store_record *record = &entry.record;
    const enum status status = ingest_check(ingest, &ingest->bulk, request, index, &entry, &reason);
    if (status != STATUS_OK) {
        ingest_note(results, index, status, &reason);
        return;
    }
    record->image = copies->rows + index * 2 * record->dimension;
    record->text = record->image + record->dimension;
    record->rows_crc = store_rows_crc(record->image, record->text, record->dimension);
    record->key = copy_text(&copies->texts, record->key);
    record->caption = copy_text(&copies->texts, record->caption);
    record->source = copy_text(&copies->texts, record->source);
    record->tags = copy_text(&copies->texts, record->tags);
    ingest_push(&ingest->bulk, &entry);
    reply->stored++;
    reply->duplicates += entry.replaces;
}

// The buffer must be of this generation and have room for the request.
static enum status prepare_buffer(struct ingest *ingest, const struct shard_write_request *request,
                                  struct reason *why)
{
    const bool other =
        ingest->bulk.generation && ingest->bulk.generation->about.number != request->generation;
    const bool full = ingest->bulk_bytes >= ingest->bulk_bytes_max ||
                      ingest->bulk.count + request->count > ingest->bulk_records_max;
    if (other || (full && ingest->bulk.count > 0)) {
        const enum status status = ingest_bulk_flush(ingest, why);
        if (status != STATUS_OK)
            return status;
    }
    if (!ingest->bulk.generation)
        ingest->bulk.generation = shelf_acquire(ingest->shelf, request->generation);
    if (!ingest->bulk.generation)
        return reason_set(why, STATUS_NOT_FOUND, "generation",
                          "generation %" PRIu32 " is not on this node", request->generation);
    return STATUS_OK;
}

enum status ingest_bulk(struct ingest *ingest, const struct shard_write_request *request,
                        struct arena *arena, struct shard_write_reply *reply, struct reason *why)
{
    assert(!ingest->batch);

    enum status status = ingest_may_grow(ingest, ingest_request_bytes(request), why);
    if (status == STATUS_OK)
        status = prepare_buffer(ingest, request, why);
    if (status == STATUS_OK)
        status = ingest_check_request(ingest->bulk.generation, request, why);
    struct ingest_results results = {0};
    if (status == STATUS_OK && ingest_results_begin(arena, request->count, &results) != STATUS_OK)
        status = reason_set(why, STATUS_NO_MEMORY, "", "no memory for %zu records", request->count);
    struct copies copies = {0};
    if (status == STATUS_OK)
        status = reserve(ingest, request, &copies, why);
    if (status != STATUS_OK)
        return status;

    *reply = (struct shard_write_reply){.sequence = store_sequence(ingest->store)};
    for (size_t i = 0; i < request->count; i++)
        add_record(ingest, request, i, &copies, &results, reply);
    ingest_results_end(&results, reply);
    ingest->bulk.generation->bulk.stored += reply->stored;
    ingest->bulk.generation->bulk.duplicates += reply->duplicates;
    return STATUS_OK;
}

// --- writing it out

struct sort_key {
    uint64_t id;
    uint32_t index;
    uint16_t vshard;
};

static int compare_keys(const void *a, const void *b)
{
    const struct sort_key *x = a;
    const struct sort_key *y = b;
    if (x->vshard != y->vshard)
        return x->vshard < y->vshard ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

// Puts the latest entries into the order of the store's keys. Returns how many there are.
static size_t sort_entries(struct ingest_pending *bulk, struct sort_key *keys)
{
    size_t count = 0;
    for (size_t i = 0; i < bulk->count; i++) {
        if (!ingest_is_latest(bulk, i))
            continue;
        const struct store_place place = bulk->entries[i].record.place;
        keys[count++] = (struct sort_key){place.id, (uint32_t)i, place.vshard};
    }
    qsort(keys, count, sizeof(*keys), compare_keys);
    return count;
}

static enum status write_batch(struct ingest *ingest, const struct store_record *records,
                               size_t count, struct reason *why)
{
    struct store_batch *batch = store_batch_begin(ingest->store);
    for (size_t i = 0; i < count; i++)
        store_batch_put(batch, &records[i]);
    return store_batch_commit(&batch, why);
}

static enum status write_rows(struct ingest *ingest, const struct store_record *records,
                              size_t count, struct reason *why)
{
    struct rows_item *items = mem_try_alloc_array(count, sizeof(*items));
    struct text *tags = mem_try_alloc_array(count, sizeof(*tags));
    if (!items || !tags) {
        mem_free(items);
        mem_free(tags);
        return reason_set(why, STATUS_NO_MEMORY, "", "no memory to show %zu records", count);
    }
    for (size_t i = 0; i < count; i++) {
        const struct store_record *record = &records[i];
        items[i] = (struct rows_item){.id = record->place.id,
                                      .image = record->image,
                                      .text = record->text,
                                      .crc = record->rows_crc,
                                      .hidden = record->hidden};
        tags[i] = record->tags;
    }
    struct shelf_generation *generation = ingest->bulk.generation;
    enum status status = shelf_append(generation, items, tags, count, why);
    mem_free(items);
    mem_free(tags);
    generation->changes += count;
    if (status == STATUS_OK)
        status =
            shelf_checkpoint(ingest->shelf, generation, count >= INGEST_BULK_FILE_RECORDS_MIN, why);
    return status;
}

// Files have no marks: those follow, and a crash in between leaves records that nobody was
// promised.
static enum status write_files(struct ingest *ingest, const struct store_record *records,
                               size_t count, struct reason *why)
{
    const enum status status = store_bulk_write(ingest->store, records, count, why);
    if (status != STATUS_OK)
        return status;
    struct store_batch *batch = store_batch_begin(ingest->store);
    for (size_t i = 0; i < count; i++)
        if (records[i].hidden)
            store_batch_hide(batch, records[i].place, true);
    return store_batch_commit(&batch, why);
}

static enum status write_out(struct ingest *ingest, const struct store_record *records,
                             size_t count, struct reason *why)
{
    const int64_t began_us = clock_now_us();
    enum status status = count < INGEST_BULK_FILE_RECORDS_MIN
                             ? write_batch(ingest, records, count, why)
                             : write_files(ingest, records, count, why);
    if (status != STATUS_OK)
        return status;
    const int64_t stored_us = clock_now_us();
    status = write_rows(ingest, records, count, why);
    if (status == STATUS_OK)
        ingest_has_followed(ingest);
    else
        ingest_fell_behind(ingest, ingest->bulk.generation, "the rows could not follow the store");
    log_debug("bulk_written", "records=%zu bytes=%zu store_ms=%.1f rows_ms=%.1f", count,
              ingest->bulk_bytes, (double)(stored_us - began_us) / 1e3,
              (double)(clock_now_us() - stored_us) / 1e3);
    return status;
}

static enum status sort_and_write(struct ingest *ingest, struct reason *why)
{
    struct ingest_pending *bulk = &ingest->bulk;
    enum status status = STATUS_NO_MEMORY;
    struct sort_key *keys = mem_try_alloc_array(bulk->count, sizeof(*keys));
    struct store_record *records = mem_try_alloc_array(bulk->count, sizeof(*records));
    if (keys && records) {
        const size_t count = sort_entries(bulk, keys);
        for (size_t i = 0; i < count; i++)
            records[i] = bulk->entries[keys[i].index].record;
        status = write_out(ingest, records, count, why);
    } else {
        (void)reason_set(why, status, "", "no memory to sort %zu records", bulk->count);
    }
    mem_free(keys);
    mem_free(records);
    return status;
}

enum status ingest_bulk_flush(struct ingest *ingest, struct reason *why)
{
    if (ingest->bulk.count == 0) {
        ingest_bulk_forget(ingest);
        return STATUS_OK;
    }
    assert(ingest->bulk.generation);

    struct reason own = {0};
    struct reason *reason = why ? why : &own;
    struct shelf_bulk *bulk = &ingest->bulk.generation->bulk;
    enum status status = store_may_grow(ingest->store, 2 * (uint64_t)ingest->bulk_bytes, reason);
    if (status == STATUS_OK)
        status = sort_and_write(ingest, reason);
    // Nothing of it was acknowledged as durable. The generation's commit will tell.
    if (status != STATUS_OK && bulk->failed == STATUS_OK) {
        bulk->failed = status;
        bulk->why = *reason;
    }
    ingest_bulk_forget(ingest);
    return status;
}

enum status ingest_bulk_commit(struct ingest *ingest, uint32_t generation,
                               struct shard_write_reply *reply, struct reason *why)
{
    struct shelf_generation *there = shelf_acquire(ingest->shelf, generation);
    if (!there)
        return reason_set(why, STATUS_NOT_FOUND, "generation",
                          "generation %" PRIu32 " is not on this node", generation);

    struct reason flushed = {0};
    (void)(ingest_bulk_flush(ingest, &flushed) == STATUS_OK); // a failure is its generation's
    const struct shelf_bulk *bulk = &there->bulk;
    enum status status = bulk->failed;
    if (status != STATUS_OK)
        reason_set(why, status, bulk->why.field, "%s", bulk->why.text);
    else
        status = shelf_checkpoint(ingest->shelf, there, false, why);
    if (status == STATUS_OK)
        *reply = (struct shard_write_reply){.stored = bulk->stored,
                                            .duplicates = bulk->duplicates,
                                            .sequence = store_sequence(ingest->store)};
    there->bulk = (struct shelf_bulk){0};
    shelf_release(ingest->shelf, &there);
    return status;
}
