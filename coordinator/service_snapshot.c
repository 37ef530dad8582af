// SPDX-License-Identifier: Apache-2.0
// service_snapshot.c - Memory.Snapshot: a generation as it is at one moment, into files.
//
//   open the folder -> every node takes its cursor -> { records of a step -> write them } -> manifest
//                                                                         \-> failed: files removed
//
// Files are the clerk's work; meanwhile the loop asks nobody for more, so that a slow disk slows
// the copy down and nothing else.

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "coordinator/clerk.h"
#include "coordinator/service.h"
#include "coordinator/snapshot_files.h"
#include "coordinator/walk.h"
#include "proto/base/arena.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

struct snapshot {
    struct service_call *call;
    struct arena *arena;
    struct api_snapshot_request request;
    char directory[SNAPSHOT_PATH_BYTES];
    struct walk walk;
    struct clerk_job job;
    bool is_working; // the clerk has it, and everything below
    bool is_cancelled;
    struct snapshot_writer *writer;
    struct snapshot_about about;
    struct buffer packed;
    enum status failure; // while the files are removed
    struct reason why;
};

static void free_snapshot(struct snapshot *snapshot)
{
    walk_end(&snapshot->walk);
    buffer_deinit(&snapshot->packed);
    arena_destroy(&snapshot->arena);
    mem_free(snapshot);
}

static void work(struct snapshot *snapshot, void (*run)(struct clerk_job *job),
                 void (*done)(void *context))
{
    snapshot->job.run = run;
    snapshot->job.done = done;
    snapshot->job.context = snapshot;
    snapshot->is_working = true;
    clerk_submit(snapshot->call->backend->clerk, &snapshot->job);
}

// ---------------------------------------------------------------- the end

static void run_close(struct clerk_job *job)
{
    struct snapshot *snapshot = job->context;
    snapshot_writer_close(&snapshot->writer);
}

static void on_removed(void *context)
{
    struct snapshot *snapshot = context;
    const struct reason why = snapshot->why;
    service_fail(snapshot->call, snapshot->failure, &why);
    free_snapshot(snapshot);
}

static void fail(struct snapshot *snapshot, enum status status, const struct reason *why)
{
    snapshot->failure = status;
    snapshot->why = *why;
    walk_end(&snapshot->walk);
    work(snapshot, run_close, on_removed);
}

// True when the call is being ended because of a failure or a cancel.
static bool has_failed(struct snapshot *snapshot, enum status status, const struct reason *why)
{
    struct reason cancelled = {0};
    if (status == STATUS_OK && snapshot->is_cancelled) {
        status = reason_set(&cancelled, STATUS_CANCELLED, NULL, "cancelled");
        why = &cancelled;
    }
    if (status == STATUS_OK)
        return false;
    const struct reason told = *why;
    fail(snapshot, status, &told);
    return true;
}

static void on_finished(void *context)
{
    struct snapshot *snapshot = context;
    snapshot->is_working = false;
    if (has_failed(snapshot, snapshot->job.status, &snapshot->job.why))
        return;
    const struct snapshot_about *about = &snapshot->about;
    const struct api_snapshot_reply reply = {
        .request_id = service_request_id(snapshot->call),
        .memory = text_of(about->memory),
        .generation = about->generation,
        .directory = snapshot->request.directory,
        .records = about->records,
        .bytes = about->bytes,
        .content_hash = text_of(about->content_hash),
    };
    struct buffer out = {0};
    enum status status = api_encode_snapshot_reply(&reply, &out);
    trace_line(&snapshot->call->trace, LOG_INFO, "snapshot_written",
               "memory=%s generation=%u records=%llu bytes=%llu hash=%s", about->memory,
               about->generation, (unsigned long long)about->records,
               (unsigned long long)about->bytes, about->content_hash);
    service_answer(snapshot->call, status, &out);
    free_snapshot(snapshot);
}

// What was written must be what the nodes sent, digest for digest.
static void run_finish(struct clerk_job *job)
{
    struct snapshot *snapshot = job->context;
    char expected[PACKED_DIGEST_HEX_BYTES];
    packed_digest_hex(&snapshot->walk.digest, expected);
    job->status = snapshot_finish(snapshot->writer, &snapshot->about, &job->why);
    if (job->status == STATUS_OK && strcmp(expected, snapshot->about.content_hash) != 0)
        job->status = reason_set(&job->why, STATUS_INTERNAL, NULL,
                                 "the files have the content hash %s, the memory %s",
                                 snapshot->about.content_hash, expected);
    if (job->status == STATUS_OK)
        snapshot_writer_close(&snapshot->writer);
}

// ---------------------------------------------------------------- records

static void run_write(struct clerk_job *job)
{
    struct snapshot *snapshot = job->context;
    const struct bytes packed = {snapshot->packed.data, snapshot->packed.count};
    job->status = snapshot_write(snapshot->writer, packed, &job->why);
}

static void on_written(void *context)
{
    struct snapshot *snapshot = context;
    snapshot->is_working = false;
    if (has_failed(snapshot, snapshot->job.status, &snapshot->job.why))
        return;
    if (snapshot->walk.is_done)
        work(snapshot, run_finish, on_finished);
    else
        walk_next(&snapshot->walk);
}

static void on_step(void *context)
{
    struct snapshot *snapshot = context;
    const struct walk *walk = &snapshot->walk;
    if (has_failed(snapshot, walk->status, &walk->why))
        return;
    snapshot->packed.count = 0;
    if (buffer_append(&snapshot->packed, walk->packed.data, walk->packed.count) != STATUS_OK) {
        struct reason why = {0};
        fail(snapshot, reason_set(&why, STATUS_NO_MEMORY, NULL, "no memory for records"), &why);
        return;
    }
    work(snapshot, run_write, on_written);
}

// ---------------------------------------------------------------- the call

static void run_open(struct clerk_job *job)
{
    struct snapshot *snapshot = job->context;
    const struct service_call *call = snapshot->call;
    const struct snapshot_place place = {
        .base = call->transport->is_grpc ? call->backend->snapshots : NULL,
        .name = snapshot->directory,
    };
    job->status = snapshot_writer_open(&place, &snapshot->writer, &job->why);
}

static void on_opened(void *context)
{
    struct snapshot *snapshot = context;
    snapshot->is_working = false;
    if (has_failed(snapshot, snapshot->job.status, &snapshot->job.why))
        return;
    walk_begin(&snapshot->walk);
}

static enum status plan(struct snapshot *snapshot, struct reason *why)
{
    const struct backend *backend = snapshot->call->backend;
    struct meta_generation found;
    enum status status = api_decode_snapshot_request(snapshot->call->message, snapshot->arena,
                                                     &snapshot->request, why);
    const struct text directory = snapshot->request.directory;
    if (status == STATUS_OK && snapshot->call->transport->is_grpc)
        status = snapshot_check_name(directory, why);
    if (status == STATUS_OK)
        status = meta_find(backend->meta, snapshot->request.memory, META_FOR_QUERY, &found, why);
    if (status != STATUS_OK)
        return status;
    memcpy(snapshot->directory, directory.data, directory.bytes); // the codec has bounded it
    snapshot->about.generation = found.number;
    snapshot->about.dimension = found.dimension;
    snapshot->about.vshards = found.vshards;
    (void)snprintf(snapshot->about.memory, sizeof(snapshot->about.memory), "%s", found.memory);
    (void)snprintf(snapshot->about.space, sizeof(snapshot->about.space), "%s", found.space);
    snapshot->walk = (struct walk){
        .backend = snapshot->call->backend,
        .generation = found,
        .want_records = true,
        .want_digest = true,
        .trace = snapshot->call->trace,
        .step = on_step,
        .context = snapshot,
    };
    return STATUS_OK;
}

static void begin(struct service_call *call)
{
    struct snapshot *snapshot = mem_alloc(sizeof(*snapshot));
    snapshot->call = call;
    snapshot->arena = arena_create(SERVICE_ARENA_BYTES);
    call->state = snapshot;
    struct reason why = {0};
    const enum status status = plan(snapshot, &why);
    if (status == STATUS_OK) {
        work(snapshot, run_open, on_opened);
        return;
    }
    service_fail(call, status, &why);
    free_snapshot(snapshot);
}

// While the clerk works it is told afterwards.
static void cancel(struct service_call *call)
{
    struct snapshot *snapshot = call->state;
    snapshot->is_cancelled = true;
    if (!snapshot->is_working)
        (void)has_failed(snapshot, STATUS_OK, NULL);
}

const struct service_handler service_snapshot = {.begin = begin, .cancel = cancel};
