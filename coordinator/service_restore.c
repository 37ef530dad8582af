// SPDX-License-Identifier: Apache-2.0
// service_restore.c - Memory.Restore: a snapshot becomes a generation that serves.
//
//   check every file -> drop what an interrupted restore left -> number, "restoring" -> CREATE on every node
//     -> { read records -> ingest } -> content hash of what the nodes have = the snapshot's? -> serve
//   a failure after "restoring" -> DROP on every node -> error
//
// The generation is in state "restoring" and invisible until the one replacement of meta.json that
// makes it serve. Records go the way of every build: an Ingest of this coordinator's own (struct
// feed), which the same checks, batches and commits carry.

#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "coordinator/clerk.h"
#include "coordinator/roundup.h"
#include "coordinator/service.h"
#include "coordinator/snapshot_files.h"
#include "coordinator/walk.h"
#include "proto/base/arena.h"
#include "proto/base/clock.h"
#include "proto/base/half.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/wire/shard_msg.h"

#define NODE_LIMIT_US 30000000
#define BATCH_FLOATS (4u << 20) // of the embeddings of one message: 16 MiB
#define MESSAGE_ARENA_BYTES ((size_t)256 << 20)

struct restore {
    struct service_call *call;
    struct backend *backend;
    struct arena *arena;
    struct api_restore_request request;
    char directory[SNAPSHOT_PATH_BYTES];
    struct roundup roundup; // CREATE and DROP; its generation is the new one
    struct walk walk;
    struct timer timer;
    struct clerk_job job;
    atomic_bool stop; // cancelled
    struct snapshot_reader *reader;
    bool is_known; // the generation stands in meta

    // The Ingest of our own.
    struct service_call *feed;
    bool is_reading;        // the clerk makes the next message
    bool feed_named;        // its first message was sent
    struct buffer message;  // the clerk's, then the loop's
    size_t message_records; // 0: there are no more
    enum status feed_status;
    struct reason feed_why;
    uint64_t feed_stored;

    enum status failure;
    struct reason why;
};

static void free_restore(struct restore *restore)
{
    timers_disarm(&restore->backend->timers, &restore->timer);
    roundup_cancel(&restore->roundup);
    walk_end(&restore->walk);
    buffer_deinit(&restore->message);
    arena_destroy(&restore->arena);
    mem_free(restore);
}

static void work(struct restore *restore, void (*run)(struct clerk_job *job),
                 void (*done)(void *context))
{
    restore->job.run = run;
    restore->job.done = done;
    restore->job.context = restore;
    clerk_submit(restore->backend->clerk, &restore->job);
}

static bool ask_nodes(struct restore *restore, enum shard_type type, void (*done)(void *context))
{
    restore->roundup.type = type;
    restore->roundup.done = done;
    return roundup_begin(&restore->roundup, clock_deadline_in_us(NODE_LIMIT_US),
                         &restore->call->trace);
}

// ---------------------------------------------------------------- the end

static void run_close(struct clerk_job *job)
{
    struct restore *restore = job->context;
    snapshot_reader_close(&restore->reader);
}

static void on_failed(void *context)
{
    struct restore *restore = context;
    const struct reason why = restore->why;
    service_fail(restore->call, restore->failure, &why);
    free_restore(restore);
}

// The generation goes; where a node could not be asked it stays "dropping", as after a drop.
static void on_undone(void *context)
{
    struct restore *restore = context;
    struct reason ignored = {0};
    if (roundup_status(&restore->roundup, STATUS_NOT_FOUND, &ignored) == STATUS_OK &&
        meta_remove(restore->backend->meta, restore->roundup.generation.number, &ignored) ==
            STATUS_OK)
        restore->is_known = false;
    work(restore, run_close, on_failed);
}

static void fail(struct restore *restore, enum status status, const struct reason *why)
{
    struct reason ignored = {0};
    restore->failure = status;
    restore->why = *why;
    walk_end(&restore->walk);
    if (!restore->is_known || meta_drop(restore->backend->meta, restore->roundup.generation.number,
                                        &ignored) != STATUS_OK)
        work(restore, run_close, on_failed);
    else if (!ask_nodes(restore, SHARD_DROP, on_undone))
        on_undone(restore);
}

static bool has_failed(struct restore *restore, enum status status, const struct reason *why)
{
    struct reason told = {0};
    if (status != STATUS_OK)
        told = *why;
    else if (atomic_load(&restore->stop))
        status = reason_set(&told, STATUS_CANCELLED, NULL, "cancelled");
    if (status == STATUS_OK)
        return false;
    fail(restore, status, &told);
    return true;
}

static void on_served(void *context)
{
    struct restore *restore = context;
    const struct meta_generation *generation = &restore->roundup.generation;
    char hash[PACKED_DIGEST_HEX_BYTES];
    packed_digest_hex(&restore->walk.digest, hash);
    const struct api_restore_reply reply = {
        .request_id = service_request_id(restore->call),
        .memory = text_of(generation->memory),
        .generation = generation->number,
        .records = restore->walk.count,
        .content_hash = text_of(hash),
    };
    struct buffer out = {0};
    enum status status = api_encode_restore_reply(&reply, &out);
    trace_line(&restore->call->trace, LOG_INFO, "memory_restored",
               "memory=%s generation=%u records=%llu hash=%s", generation->memory,
               generation->number, (unsigned long long)reply.records, hash);
    service_answer(restore->call, status, &out);
    free_restore(restore);
}

static bool is_running(const struct restore *restore)
{
    const char *name = restore->roundup.generation.memory;
    for (struct service_call *call = restore->call->service->first; call; call = call->next) {
        const struct restore *other = call->state;
        if (call != restore->call && call->method == API_MEMORY_RESTORE && other &&
            strcmp(other->roundup.generation.memory, name) == 0)
            return true;
    }
    return false;
}

static enum status check_name(struct restore *restore, struct reason *why)
{
    const struct meta *meta = restore->backend->meta;
    const struct text name = text_of(restore->roundup.generation.memory);
    struct meta_generation found;
    enum status status = meta_check_name(name, why);
    if (status != STATUS_OK)
        return status;
    if (is_running(restore))
        return reason_set(why, STATUS_ALREADY_EXISTS, "memory", "'%s' is being restored already",
                          name.data);
    if (meta_is_alias(meta, name))
        return reason_set(why, STATUS_ALREADY_EXISTS, "memory",
                          "'%s' is an alias; name another, or remove it", name.data);
    if (meta_find_building(meta, name, &found) == STATUS_OK)
        return reason_set(why, STATUS_ALREADY_EXISTS, "memory",
                          "%s@%u is being built; finish or drop it first", found.memory,
                          found.number);
    if (!restore->request.replace &&
        meta_find(meta, name, META_FOR_DESCRIBE, &found, NULL) == STATUS_OK)
        return reason_set(why, STATUS_ALREADY_EXISTS, "memory",
                          "memory '%s' exists (generation %u); replace it (--replace), or "
                          "give another name",
                          found.memory, found.number);
    return STATUS_OK;
}

static enum status check_nodes(const struct restore *restore, struct reason *why)
{
    if (fanout_count(restore->backend->fanout) == 0)
        return reason_set(why, STATUS_FAILED_PRECONDITION, NULL,
                          "there are no shard nodes to hold a memory");
    return fanout_all_up(restore->backend->fanout, why);
}

// What the nodes have now must be what the snapshot had, to the bit.
static void on_walked(void *context)
{
    struct restore *restore = context;
    struct walk *walk = &restore->walk;
    if (has_failed(restore, walk->status, &walk->why))
        return;
    if (!walk->is_done) {
        walk_next(walk);
        return;
    }
    char hash[PACKED_DIGEST_HEX_BYTES];
    struct reason why = {0};
    const struct snapshot_about *about = snapshot_about(restore->reader);
    enum status status = STATUS_OK;
    packed_digest_hex(&walk->digest, hash);
    if (walk->count != about->records || strcmp(hash, about->content_hash) != 0)
        status =
            reason_set(&why, STATUS_CORRUPT, "directory",
                       "%s: its %llu records have the content hash %s; the manifest says %llu and "
                       "%s",
                       restore->directory, (unsigned long long)walk->count, hash,
                       (unsigned long long)about->records, about->content_hash);
    if (status == STATUS_OK) // somebody else may have been faster
        status = check_name(restore, &why);
    if (status == STATUS_OK)
        status = meta_serve(restore->backend->meta, restore->roundup.generation.number, &why);
    if (has_failed(restore, status, &why))
        return;
    work(restore, run_close, on_served);
}

// ---------------------------------------------------------------- records

static bool take_tags(struct arena *arena, struct text joined, struct api_ingest_record *record)
{
    struct text *tags = arena_alloc_array(arena, TAGS_MAX, sizeof(*tags));
    if (!tags)
        return false;
    while (record->tag_count < TAGS_MAX && packed_take_tag(&joined, &tags[record->tag_count]))
        record->tag_count++;
    record->tags = tags;
    return true;
}

static bool take_row(struct arena *arena, const uint8_t *row, uint32_t dimension, const float **out)
{
    uint16_t *halves = arena_alloc_array(arena, dimension, sizeof(*halves));
    float *floats = arena_alloc_array(arena, dimension, sizeof(*floats));
    if (!halves || !floats)
        return false;
    memcpy(halves, row, dimension * sizeof(*halves));
    half_to_floats(halves, floats, dimension);
    *out = floats;
    return true;
}

static enum status make_message(struct restore *restore, struct bytes packed, size_t count,
                                struct arena *arena, struct reason *why)
{
    const uint32_t dimension = snapshot_about(restore->reader)->dimension;
    struct api_ingest_record *records = arena_zero(arena, count * sizeof(*records));
    bool is_whole = records != NULL;
    for (size_t i = 0; is_whole && i < count; i++) {
        struct packed_record record;
        const enum status status = packed_take(&packed, dimension, &record, why);
        if (status != STATUS_OK)
            return status;
        records[i] = (struct api_ingest_record){.key = record.key,
                                                .caption = record.caption,
                                                .source = record.source,
                                                .hidden = record.hidden,
                                                .image_count = dimension,
                                                .text_count = dimension};
        is_whole = take_tags(arena, record.tags, &records[i]) &&
                   take_row(arena, record.image, dimension, &records[i].image_embedding) &&
                   take_row(arena, record.text, dimension, &records[i].text_embedding);
    }
    char name[MEMORY_NAME_BYTES_MAX + 16];
    const struct meta_generation *generation = &restore->roundup.generation;
    (void)snprintf(name, sizeof(name), "%s@%u", generation->memory, generation->number);
    const struct api_ingest_request request = {
        .memory = text_of(name), .records = records, .count = count};
    restore->message.count = 0;
    if (is_whole && api_encode_ingest_request(&request, &restore->message) == STATUS_OK)
        return STATUS_OK;
    return reason_set(why, STATUS_NO_MEMORY, NULL, "no memory for %zu records", count);
}

static void run_read(struct clerk_job *job)
{
    struct restore *restore = job->context;
    const size_t fit = BATCH_FLOATS / (2 * snapshot_about(restore->reader)->dimension);
    const size_t most = fit < WRITE_RECORDS_MAX ? fit : WRITE_RECORDS_MAX;
    struct bytes packed = {0};
    job->status =
        snapshot_read(restore->reader, most, &packed, &restore->message_records, &job->why);
    if (job->status != STATUS_OK)
        return;
    struct arena *arena = arena_create(MESSAGE_ARENA_BYTES);
    job->status = make_message(restore, packed, restore->message_records, arena, &job->why);
    arena_destroy(&arena);
}

// The feed may have ended meanwhile; its end is dealt with by on_fed().
static void on_read(void *context)
{
    struct restore *restore = context;
    restore->is_reading = false;
    if (!restore->feed) {
        timers_arm(&restore->backend->timers, &restore->timer, clock_now_us());
        return;
    }
    if (restore->job.status != STATUS_OK || atomic_load(&restore->stop)) {
        service_cancel(restore->feed);
        return;
    }
    if (restore->message_records == 0 && restore->feed_named) {
        service_end(restore->feed);
        return;
    }
    restore->feed_named = true; // the first message names the memory, also when it has no records
    const struct bytes message = {restore->message.data, restore->message.count};
    service_message(restore->feed, message);
}

static void on_feed_read(void *channel)
{
    struct restore *restore = channel;
    restore->is_reading = true;
    work(restore, run_read, on_read);
}

static void on_feed_finish(void *channel, enum status status, struct buffer *reply,
                           const struct reason *why)
{
    struct restore *restore = channel;
    struct api_ingest_reply decoded = {.failed = 0};
    restore->feed_why = *why;
    if (status == STATUS_OK)
        status = api_decode_ingest_reply((struct bytes){reply->data, reply->count}, restore->arena,
                                         &decoded, &restore->feed_why);
    if (status == STATUS_OK && decoded.failed > 0)
        status = reason_set(&restore->feed_why, STATUS_INTERNAL, NULL,
                            "%llu records could not be stored; the first, %.*s: %.*s",
                            (unsigned long long)decoded.failed,
                            decoded.failed_listed ? (int)decoded.failed_keys[0].bytes : 0,
                            decoded.failed_listed ? decoded.failed_keys[0].data : "",
                            decoded.failed_listed ? (int)decoded.failed_reasons[0].bytes : 0,
                            decoded.failed_listed ? decoded.failed_reasons[0].data : "");
    restore->feed_status = status;
    restore->feed_stored = decoded.stored;
    restore->feed = NULL;
    // Not from within another call's end. While the clerk reads, on_read() does it.
    if (!restore->is_reading)
        timers_arm(&restore->backend->timers, &restore->timer, clock_now_us());
}

static void on_fed(void *context)
{
    struct restore *restore = context;
    if (restore->job.status != STATUS_OK) { // the reason for which the feed was cancelled
        const struct reason why = restore->job.why;
        fail(restore, restore->job.status, &why);
        return;
    }
    if (has_failed(restore, restore->feed_status, &restore->feed_why))
        return;
    restore->walk = (struct walk){
        .backend = restore->backend,
        .generation = restore->roundup.generation,
        .want_digest = true,
        .trace = restore->call->trace,
        .step = on_walked,
        .context = restore,
    };
    walk_begin(&restore->walk);
}

static void feed(struct restore *restore)
{
    static const struct service_transport transport = {.read = on_feed_read,
                                                       .finish = on_feed_finish};
    const struct service_open params = {
        .method = API_MEMORY_INGEST,
        .handler = &write_restore,
        .deadline_us = DEADLINE_NONE,
        .trace = &restore->call->trace,
        .transport = &transport,
        .channel = restore,
    };
    restore->timer.fire = on_fed;
    restore->timer.context = restore;
    restore->feed = service_open(restore->call->service, &params);
    service_begin(restore->feed);
}

// ---------------------------------------------------------------- the generation

static void on_created(void *context)
{
    struct restore *restore = context;
    struct reason why = {0};
    const enum status status = roundup_status(&restore->roundup, STATUS_OK, &why);
    if (!has_failed(restore, status, &why))
        feed(restore);
}

static void make_generation(struct restore *restore)
{
    struct meta *meta = restore->backend->meta;
    struct meta_generation *generation = &restore->roundup.generation;
    struct reason why = {0};
    enum status status = meta_reserve(meta, &generation->number, &why);
    generation->state = META_RESTORING;
    if (status == STATUS_OK)
        status = meta_add(meta, generation, &why);
    restore->is_known = status == STATUS_OK;
    if (has_failed(restore, status, &why))
        return;
    if (!ask_nodes(restore, SHARD_CREATE, on_created))
        on_created(restore);
}

static void clear_next(struct restore *restore);

// What the nodes said to a DROP; false when the call is ending over it.
static bool take_cleared(struct restore *restore)
{
    struct reason why = {0};
    enum status status = roundup_status(&restore->roundup, STATUS_NOT_FOUND, &why);
    if (status == STATUS_OK)
        status = meta_remove(restore->backend->meta, restore->roundup.generation.number, &why);
    return !has_failed(restore, status, &why);
}

static void on_cleared(void *context)
{
    if (take_cleared(context))
        clear_next(context);
}

// The number of a generation of this name that a restore before has left; 0 without one. (One that
// runs is not: check_name().)
static uint32_t find_leftover(const struct restore *restore)
{
    const struct meta_generation *all = NULL;
    const size_t count = meta_list(restore->backend->meta, &all);
    for (size_t i = 0; i < count; i++)
        if (all[i].state == META_RESTORING &&
            strcmp(all[i].memory, restore->roundup.generation.memory) == 0)
            return all[i].number;
    return 0;
}

static void clear_next(struct restore *restore)
{
    uint32_t leftover = 0;
    while ((leftover = find_leftover(restore)) != 0) {
        struct reason why = {0};
        restore->roundup.generation.number = leftover;
        const enum status status = meta_drop(restore->backend->meta, leftover, &why);
        if (has_failed(restore, status, &why))
            return;
        if (ask_nodes(restore, SHARD_DROP, on_cleared) || !take_cleared(restore))
            return;
    }
    make_generation(restore);
}

static void on_opened(void *context)
{
    struct restore *restore = context;
    struct meta_generation *generation = &restore->roundup.generation;
    struct reason why = restore->job.why;
    if (has_failed(restore, restore->job.status, &why))
        return;
    const struct snapshot_about *about = snapshot_about(restore->reader);
    const struct text named = restore->request.memory;
    generation->dimension = about->dimension;
    generation->vshards = about->vshards;
    (void)snprintf(generation->space, sizeof(generation->space), "%s", about->space);
    if (named.bytes > 0) // the codec has bounded it
        memcpy(generation->memory, named.data, named.bytes);
    else
        (void)snprintf(generation->memory, sizeof(generation->memory), "%s", about->memory);
    enum status status = check_name(restore, &why);
    if (status == STATUS_OK)
        status = check_nodes(restore, &why);
    if (!has_failed(restore, status, &why))
        clear_next(restore);
}

// ---------------------------------------------------------------- the call

static void run_open(struct clerk_job *job)
{
    struct restore *restore = job->context;
    const struct snapshot_place place = {
        .base = restore->call->transport->is_grpc ? restore->backend->snapshots : NULL,
        .name = restore->directory,
    };
    job->status = snapshot_reader_open(&place, &restore->stop, &restore->reader, &job->why);
}

static void begin(struct service_call *call)
{
    struct restore *restore = mem_alloc(sizeof(*restore));
    restore->call = call;
    restore->backend = call->backend;
    restore->roundup.backend = call->backend;
    restore->roundup.context = restore;
    restore->arena = arena_create(SERVICE_ARENA_BYTES);
    call->state = restore;
    struct reason why = {0};
    enum status status =
        api_decode_restore_request(call->message, restore->arena, &restore->request, &why);
    const struct text directory = restore->request.directory;
    if (status == STATUS_OK && call->transport->is_grpc)
        status = snapshot_check_name(directory, &why);
    if (status != STATUS_OK) {
        service_fail(call, status, &why);
        free_restore(restore);
        return;
    }
    memcpy(restore->directory, directory.data, directory.bytes); // the codec has bounded it
    work(restore, run_open, on_opened);
}

// Seen at the next step, which comes soon; a commit of the nodes would take longer.
static void cancel(struct service_call *call)
{
    struct restore *restore = call->state;
    atomic_store(&restore->stop, true);
    if (restore->feed && !restore->is_reading)
        service_cancel(restore->feed);
}

const struct service_handler service_restore = {.begin = begin, .cancel = cancel};
