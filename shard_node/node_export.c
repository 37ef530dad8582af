// SPDX-License-Identifier: Apache-2.0
// EXPORT_BEGIN, EXPORT_NEXT, EXPORT_END: cursors over whole generations.
//
// One thread owns all cursors and serves them in turn, a short step each, so that a long copy
// holds up neither searches nor the two readers, and needs no lock.

#include <inttypes.h>
#include <string.h>

#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "shard_node/node_parts.h"

#define CURSORS_MAX 16
#define IDLE_US 60000000
#define STEP_BYTES (2u << 20) // packed records of one step,
#define STEP_RECORDS 1024u    // which have at most so many,
#define STEP_DIGESTS 4096u    // or so many without their bytes

struct cursor {
    uint64_t number; // 0: free
    struct shelf_generation *generation;
    struct store_export *export;
    int64_t used_us;
};

struct exporter {
    struct node *node;
    struct cursor cursors[CURSORS_MAX];
    uint64_t last;
    struct buffer record; // one, packed
};

static void end_cursor(struct exporter *exporter, struct cursor *cursor)
{
    store_export_end(&cursor->export);
    shelf_release(exporter->node->shelf, &cursor->generation);
    *cursor = (struct cursor){0};
}

static struct cursor *find_cursor(struct exporter *exporter, uint64_t number)
{
    for (size_t i = 0; i < CURSORS_MAX; i++)
        if (exporter->cursors[i].number == number)
            return &exporter->cursors[i];
    return NULL;
}

static enum status begin(struct exporter *exporter, const struct shard_export_request *asked,
                         struct shard_export_reply *reply, struct reason *why)
{
    struct node *node = exporter->node;
    struct cursor *cursor = find_cursor(exporter, 0);
    if (!cursor)
        return reason_set(why, STATUS_EXHAUSTED, "generation",
                          "%d copies are being made of this node already", CURSORS_MAX);
    cursor->generation = shelf_acquire(node->shelf, asked->generation);
    if (!cursor->generation)
        return reason_set(why, STATUS_NOT_FOUND, "generation",
                          "generation %" PRIu32 " is not on this node", asked->generation);
    cursor->export = store_export_begin(node->store, asked->generation,
                                        cursor->generation->about.dimension, why);
    if (!cursor->export) {
        shelf_release(node->shelf, &cursor->generation);
        return STATUS_UNAVAILABLE;
    }
    cursor->number = ++exporter->last;
    cursor->used_us = clock_now_us();
    reply->cursor = cursor->number;
    reply->count = rows_live_count(cursor->generation->rows);
    return STATUS_OK;
}

static enum status pack(struct exporter *exporter, const struct store_record *record,
                        struct reason *why)
{
    const struct packed_record packed = {
        .key = record->key,
        .caption = record->caption,
        .source = record->source,
        .tags = record->tags,
        .hidden = record->hidden,
        .dimension = (uint32_t)record->dimension,
        .image = (const uint8_t *)record->image,
        .text = (const uint8_t *)record->text,
    };
    exporter->record.count = 0;
    if (packed_append(&packed, &exporter->record) != STATUS_OK)
        return reason_set(why, STATUS_NO_MEMORY, "", "no memory for a record");
    return STATUS_OK;
}

// The next records of a cursor into `out`.
static enum status step(struct exporter *exporter, struct cursor *cursor,
                        const struct shard_export_request *asked, struct buffer *out,
                        struct shard_export_reply *reply, struct reason *why)
{
    const uint64_t most = asked->want_records ? STEP_RECORDS : STEP_DIGESTS;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && reply->count < most && out->count < STEP_BYTES) {
        struct store_record record;
        status = store_export_next(cursor->export, &record, why);
        if (status != STATUS_OK)
            break;
        status = pack(exporter, &record, why);
        const struct bytes packed = {exporter->record.data, exporter->record.count};
        if (status == STATUS_OK && asked->want_digest)
            packed_digest_add(&reply->digest, packed);
        if (status == STATUS_OK && asked->want_records &&
            buffer_append(out, packed.data, packed.count) != STATUS_OK)
            status = reason_set(why, STATUS_NO_MEMORY, "", "no memory for records");
        reply->count++;
    }
    reply->end = status == STATUS_NOT_FOUND;
    return reply->end ? STATUS_OK : status;
}

static enum status serve(struct exporter *exporter, const struct router_request *request,
                         struct shard_export_reply *reply, struct buffer *out, struct reason *why)
{
    struct shard_export_request asked = {0};
    struct arena *arena = arena_create(SHARD_ARENA_BYTES(request->body.count, 0));
    enum status status =
        shard_decode_export_request(request->body, request->rows, arena, &asked, why);
    arena_destroy(&arena);
    if (status != STATUS_OK)
        return status;
    if (request->type == SHARD_EXPORT_BEGIN)
        return begin(exporter, &asked, reply, why);

    struct cursor *cursor = asked.cursor != 0 ? find_cursor(exporter, asked.cursor) : NULL;
    if (request->type == SHARD_EXPORT_END) {
        if (cursor)
            end_cursor(exporter, cursor);
        return STATUS_OK;
    }
    if (!cursor)
        return reason_set(why, STATUS_NOT_FOUND, "cursor",
                          "there is no cursor %" PRIu64 "; one that nobody asks for %d s is ended",
                          asked.cursor, IDLE_US / 1000000);
    reply->cursor = cursor->number;
    status = step(exporter, cursor, &asked, out, reply, why);
    cursor->used_us = clock_now_us();
    if (status != STATUS_OK || reply->end)
        end_cursor(exporter, cursor);
    return status;
}

static void answer(struct exporter *exporter, struct router_request *request)
{
    struct shard_export_reply reply = {0};
    struct buffer out = {.count_max = ROWS_BYTES_MAX};
    struct reason why = {0};
    enum status status = serve(exporter, request, &reply, &out, &why);
    if (status != STATUS_OK) {
        buffer_deinit(&out);
        node_reply_failure(&request, status, &why);
        return;
    }
    struct buffer body = node_body();
    status = shard_encode_export_reply(&reply, &body);
    node_reply_body(&request, status, &body, out.data, out.count);
}

// Ends cursors of clients that went away. Returns when the next one could be due.
static int64_t end_idle(struct exporter *exporter)
{
    const int64_t now = clock_now_us();
    int64_t next = DEADLINE_NONE;
    for (size_t i = 0; i < CURSORS_MAX; i++) {
        struct cursor *cursor = &exporter->cursors[i];
        if (cursor->number != 0 && now - cursor->used_us >= IDLE_US) {
            log_info("export_idle", "node=%" PRIu32 " generation=%" PRIu32, exporter->node->index,
                     cursor->generation->about.number);
            end_cursor(exporter, cursor);
        } else if (cursor->number != 0 && cursor->used_us + IDLE_US < next) {
            next = cursor->used_us + IDLE_US;
        }
    }
    return next;
}

void node_export_body(struct thread *self, void *context)
{
    struct exporter *exporter = mem_alloc(sizeof(*exporter));
    exporter->node = context;
    thread_ready(self, STATUS_OK);
    for (;;) {
        struct router_request *request = queue_pop(exporter->node->exports, end_idle(exporter));
        if (!request && atomic_load(&exporter->node->stopping))
            break;
        if (!request || node_drop_cancelled(&request))
            continue;
        trace_follow(&request->trace);
        answer(exporter, request);
        trace_follow(NULL);
    }
    for (size_t i = 0; i < CURSORS_MAX; i++)
        if (exporter->cursors[i].number != 0)
            end_cursor(exporter, &exporter->cursors[i]);
    buffer_deinit(&exporter->record);
    mem_free(exporter);
}
