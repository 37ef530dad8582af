// SPDX-License-Identifier: Apache-2.0
// Batches travel in a circle of two queues: empty ones to the reader, full ones back.
// Both have room for all batches, so that a push never finds a full queue.

#include "tools/feed.h"

#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>

#include "proto/base/arena.h"
#include "proto/base/clock.h"
#include "proto/base/limits.h"
#include "proto/base/mem.h"
#include "proto/base/queue.h"
#include "proto/base/thread.h"
#include "proto/wire/api.h"

#define BATCHES 3
#define ARENA_BYTES ((size_t)160 << 20) // a batch, one picture above it, and its texts

_Static_assert(FEED_RECORDS_MAX <= WRITE_RECORDS_MAX, "a batch fits one message");

struct feed {
    struct dataset *dataset;
    struct feed_params params;
    struct feed_batch batches[BATCHES];
    struct queue *empty;
    struct queue *full;
    struct thread *thread;
    atomic_bool stopping;
    struct api_ingest_record records[FEED_RECORDS_MAX]; // of the batch being filled
};

static void clear_batch(struct feed_batch *batch)
{
    for (size_t i = 0; i < batch->bad_count; i++)
        mem_free(batch->bad[i].name);
    for (size_t i = 0; i < batch->item_count; i++) {
        mem_free(batch->items[i].key);
        mem_free(batch->items[i].name);
    }
    mem_free(batch->items);
    mem_free(batch->bad);
    batch->items = NULL;
    batch->item_count = 0;
    batch->bad = NULL;
    batch->bad_count = 0;
    batch->message.count = 0;
    batch->count = 0;
    batch->last = false;
}

static void add_bad(struct feed_batch *batch, const char *name, const struct reason *why)
{
    batch->bad = mem_grow(batch->bad, batch->bad_count + 1, sizeof(batch->bad[0]));
    struct feed_bad *bad = &batch->bad[batch->bad_count++];
    bad->name = mem_copy_text(name ? name : "?");
    bad->why = *why;
}

static void add_item(struct feed_batch *batch, const struct dataset_item *item)
{
    const struct text key = item->record.key;
    if (!batch->items)
        batch->items = mem_alloc_array(FEED_PICTURES_MAX, sizeof(batch->items[0]));
    struct feed_item *added = &batch->items[batch->item_count++];
    added->name = mem_copy_text(item->name);
    added->key = mem_alloc(key.bytes + 1);
    for (size_t i = 0; i < key.bytes; i++)
        added->key[i] = key.data[i];
}

// Encodes what was read. A batch that cannot be encoded becomes bad as a whole.
static void encode_batch(struct feed *feed, struct feed_batch *batch)
{
    struct api_ingest_request request = {
        .memory = text_of(feed->params.memory),
        .records = feed->records,
        .count = batch->count,
        .skip_existing = feed->params.skip_existing,
    };
    enum status status =
        batch->count ? api_encode_ingest_request(&request, &batch->message) : STATUS_OK;
    if (!status)
        return;

    struct reason why = {.text = ""};
    (void)reason_set(&why, status, NULL, "cannot be sent: %s", status_text(status));
    for (size_t i = 0; i < batch->count; i++) {
        char *key = mem_alloc(feed->records[i].key.bytes + 1);
        for (size_t j = 0; j < feed->records[i].key.bytes; j++)
            key[j] = feed->records[i].key.data[j];
        add_bad(batch, key, &why);
        mem_free(key);
    }
    batch->message.count = 0;
    batch->count = 0;
}

static void fill_batch(struct feed *feed, struct feed_batch *batch)
{
    size_t count_max =
        dataset_dimension(feed->dataset) ? FEED_RECORDS_MAX : (size_t)FEED_PICTURES_MAX;
    struct arena *arena = arena_create(ARENA_BYTES);
    size_t bytes = 0;
    size_t seen = 0; // bad ones too: a batch of only bad items must end

    clear_batch(batch);
    while (seen < count_max && bytes < FEED_BATCH_BYTES && !atomic_load(&feed->stopping)) {
        struct dataset_item item;
        struct reason why = {.text = ""};
        enum dataset_step step = dataset_next(feed->dataset, arena, &item, &why);
        if (step == DATASET_END) {
            batch->last = true;
            break;
        }
        seen++;
        if (step == DATASET_BAD) {
            add_bad(batch, item.name, &why);
            continue;
        }
        bytes += item.record.image.count;
        if (!dataset_dimension(feed->dataset))
            add_item(batch, &item);
        feed->records[batch->count++] = item.record;
    }
    encode_batch(feed, batch);
    arena_destroy(&arena);
}

static void read_all(struct thread *self, void *context)
{
    struct feed *feed = context;
    thread_ready(self, STATUS_OK);
    for (bool last = false; !last && !atomic_load(&feed->stopping);) {
        struct feed_batch *batch = queue_pop(feed->empty, DEADLINE_NONE);
        if (!batch)
            break;
        fill_batch(feed, batch);
        last = batch->last;
        if (queue_push(feed->full, batch))
            break; // closed: the feed stops
    }
}

enum status feed_start(struct dataset *dataset, const struct feed_params *params, struct feed **out)
{
    struct feed *feed = mem_alloc(sizeof(*feed));
    feed->dataset = dataset;
    feed->params = *params;
    feed->empty = queue_create(BATCHES, false);
    feed->full = queue_create(BATCHES, false);
    for (size_t i = 0; i < BATCHES; i++) {
        enum status pushed = queue_push(feed->empty, &feed->batches[i]);
        assert(!pushed);
        (void)pushed;
    }

    enum status status = thread_start("reco-feed", read_all, feed, &feed->thread);
    if (status)
        feed_stop(&feed);
    else
        *out = feed;
    return status;
}

struct feed_batch *feed_next(struct feed *feed)
{
    struct feed_batch *batch = queue_pop(feed->full, DEADLINE_NONE);
    assert(batch);
    return batch;
}

void feed_done(struct feed *feed, struct feed_batch *batch)
{
    enum status pushed = queue_push(feed->empty, batch);
    assert(!pushed);
    (void)pushed;
}

static void empty_queue(struct queue **queue)
{
    while (queue_try_pop(*queue))
        continue;
    queue_destroy(queue);
}

void feed_stop(struct feed **feed)
{
    struct feed *stopping = *feed;
    if (!stopping)
        return;
    atomic_store(&stopping->stopping, true);
    queue_close(stopping->empty);
    queue_close(stopping->full);
    thread_join(&stopping->thread);
    empty_queue(&stopping->empty);
    empty_queue(&stopping->full);
    for (size_t i = 0; i < BATCHES; i++) {
        clear_batch(&stopping->batches[i]);
        buffer_deinit(&stopping->batches[i].message);
    }
    mem_free(stopping);
    *feed = NULL;
}
