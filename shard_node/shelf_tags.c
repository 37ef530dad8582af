// SPDX-License-Identifier: Apache-2.0
// Reads the tags of all records from their documents when a generation is opened.
//
// Most of that is waiting for memory: each document's slot lies somewhere in the map, its id
// somewhere in the table of slots. So several threads walk a part of the vshards each, and look for
// slots many at a time.

#include <inttypes.h>
#include <pthread.h>

#include "proto/base/clock.h"
#include "proto/base/cpu.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/base/parallel.h"
#include "shard_node/shelf.h"

#define PARTS_MAX 64 // of the vshards, for threads to share
#define TOGETHER 64  // documents whose slots are looked for at once

struct tag_fill {
    struct store *store;
    const struct store_generation *about;
    struct rows *rows;
    uint32_t parts;

    pthread_mutex_t lock; // below
    struct tags *tags;
    uint64_t *unread; // a bit for each live slot whose document has not come yet
    size_t left;
    enum status status; // the first that went wrong
    struct reason *why;
};

// Documents of one thread whose slots are not known yet; their tags stand one behind the other.
struct tag_batch {
    size_t count;
    uint64_t ids[TOGETHER];
    size_t ends[TOGETHER]; // of each one's tags
    struct buffer tags;
};

static enum status fail(struct tag_fill *fill, enum status status, const struct reason *why)
{
    pthread_mutex_lock(&fill->lock);
    if (fill->status == STATUS_OK)
        fill->status = reason_set(fill->why, status, why->field, "%s", why->text);
    pthread_mutex_unlock(&fill->lock);
    return status;
}

static enum status no_memory(struct tag_fill *fill)
{
    struct reason why;
    return fail(fill, reason_set(&why, STATUS_NO_MEMORY, "tags", "no memory for the records' tags"),
                &why);
}

// Under the lock.
static enum status take(struct tag_fill *fill, uint32_t slot, struct text tags)
{
    if (slot == ROWS_NONE)
        return STATUS_OK;
    const uint64_t bit = 1ull << (slot % 64);
    fill->left -= (fill->unread[slot / 64] & bit) != 0;
    fill->unread[slot / 64] &= ~bit;
    return tags_add(fill->tags, slot, tags);
}

static enum status take_batch(struct tag_fill *fill, struct tag_batch *batch)
{
    uint32_t slots[TOGETHER];
    rows_find_many(fill->rows, batch->ids, batch->count, slots);
    enum status status = STATUS_OK;
    size_t begin = 0;
    pthread_mutex_lock(&fill->lock);
    for (size_t i = 0; i < batch->count && status == STATUS_OK; i++) {
        const size_t bytes = batch->ends[i] - begin;
        struct text tags = {.bytes = bytes};
        if (bytes > 0) // else there may be no buffer to point into
            tags.data = (const char *)batch->tags.data + begin;
        status = take(fill, slots[i], tags);
        begin = batch->ends[i];
    }
    pthread_mutex_unlock(&fill->lock);
    batch->count = 0;
    batch->tags.count = 0;
    return status == STATUS_OK ? STATUS_OK : no_memory(fill);
}

static enum status put(struct tag_fill *fill, struct tag_batch *batch, uint64_t id,
                       struct text tags)
{
    if (tags.bytes > 0 && buffer_append(&batch->tags, tags.data, tags.bytes) != STATUS_OK)
        return no_memory(fill);
    batch->ids[batch->count] = id;
    batch->ends[batch->count++] = batch->tags.count;
    return batch->count == TOGETHER ? take_batch(fill, batch) : STATUS_OK;
}

static enum status walk(struct tag_fill *fill, struct store_cursor *cursor, struct tag_batch *batch)
{
    for (;;) {
        uint64_t id = 0;
        struct store_document document;
        struct reason why = {0};
        enum status status = store_cursor_next_document(cursor, &id, &document, &why);
        if (status == STATUS_NOT_FOUND)
            return take_batch(fill, batch);
        if (status == STATUS_CORRUPT)
            continue; // logged; it stays among those unread
        if (status != STATUS_OK)
            return fail(fill, status, &why);
        status = put(fill, batch, id, document.tags);
        if (status != STATUS_OK)
            return status;
    }
}

static bool has_failed(struct tag_fill *fill)
{
    pthread_mutex_lock(&fill->lock);
    const bool failed = fill->status != STATUS_OK;
    pthread_mutex_unlock(&fill->lock);
    return failed;
}

static void read_part(void *context, uint32_t worker, size_t part)
{
    (void)worker;
    struct tag_fill *fill = context;
    if (has_failed(fill))
        return;
    const uint32_t vshards = fill->about->vshards;
    const uint32_t first = (uint32_t)(part * vshards / fill->parts);
    const uint32_t end = (uint32_t)((part + 1) * vshards / fill->parts);
    struct tag_batch *batch = mem_alloc(sizeof(*batch));
    struct store_cursor *cursor =
        store_cursor_begin_documents(fill->store, fill->about->number, first, end);
    (void)walk(fill, cursor, batch); // fill->status has it
    store_cursor_end(&cursor);
    buffer_deinit(&batch->tags);
    mem_free(batch);
}

enum status shelf_fill_tags(struct store *store, const struct store_generation *about,
                            struct rows *rows, struct tags **out, struct reason *why)
{
    const int64_t began_us = clock_now_us();
    struct rows_view view;
    if (rows_view_begin(rows, &(struct rows_choice){0}, &view) != STATUS_OK)
        return reason_set(why, STATUS_NO_MEMORY, "tags", "no memory to look at the rows");
    struct tag_fill fill = {.store = store,
                            .about = about,
                            .rows = rows,
                            .parts = about->vshards < PARTS_MAX ? about->vshards : PARTS_MAX,
                            .tags = tags_create(),
                            .unread = view.live,
                            .left = view.live_count,
                            .why = why};
    pthread_mutex_init(&fill.lock, NULL);
    parallel_run((uint32_t)cpu_count(), fill.parts, read_part, &fill);
    pthread_mutex_destroy(&fill.lock);
    if (fill.status != STATUS_OK) {
        tags_destroy(&fill.tags);
        rows_view_end(&view);
        return fill.status;
    }
    if (fill.left > 0) {
        log_warn("tags_unknown", "generation=%" PRIu32 " records=%zu", about->number, fill.left);
        tags_set_unknown(fill.tags, fill.unread, ((size_t)view.slot_count + 63) / 64);
        view.live = NULL;
    }
    rows_view_end(&view);
    log_debug("tags_read", "generation=%" PRIu32 " seconds=%.3f", about->number,
              (double)(clock_now_us() - began_us) / 1e6);
    *out = fill.tags;
    return STATUS_OK;
}
