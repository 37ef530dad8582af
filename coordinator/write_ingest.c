// SPDX-License-Identifier: Apache-2.0
// write_ingest.c - the client stream Memory.Ingest.
//
//   message -> load (encode, send) -> next message is read -> ... -> end
//                  \-> acknowledged by the nodes            \-> all acknowledged -> answer
//
// At most LOADS_MAX loads are under way: a client that sends faster waits. While a generation is
// built, records go in bulk and are made durable by BULK_COMMIT, every COMMIT_RECORDS and at
// the end; only then does the answer count them. When a node goes down in between, what it had not
// committed may be lost: the stream then ends with UNAVAILABLE, and nothing was promised.

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "coordinator/roundup.h"
#include "coordinator/service.h"
#include "coordinator/write_internal.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

#define LOADS_MAX 4           // messages under way of one stream
#define COMMIT_RECORDS 65536  // bulk records between two commits
#define COMMIT_LIMIT_US 600000000 // a commit sorts and syncs what came before
#define LISTED_MAX 1024       // failures told one by one

struct ingest {
    struct service_call *call;
    struct backend *backend;
    struct meta_generation memory; // number 0: not known yet
    bool is_bulk;
    struct write_load *loads; // under way
    size_t load_count;
    bool is_reading; // a message or the end will come
    bool has_ended;  // the client sends no more
    bool wants_finish;
    bool is_committing;
    struct roundup roundup;
    uint64_t uncommitted;      // bulk records since the last commit
    uint32_t downs[NODES_MAX]; // when they began
    enum status failure;       // STATUS_OK: none yet
    struct reason why;

    // What the answer says.
    uint64_t stored;
    uint64_t duplicates;
    uint64_t skipped;
    uint64_t failed;
    size_t listed;
    struct text *failed_keys;
    struct text *failed_reasons;
    struct arena *arena; // of the lists
};

// ---------------------------------------------------------------- the end

static void end(struct ingest *ingest, enum status status, struct buffer *reply,
                const struct reason *why)
{
    assert(!ingest->loads && !ingest->is_committing);

    service_finish(ingest->call, status, reply, why);
    arena_destroy(&ingest->arena);
    mem_free(ingest);
}

static void answer(struct ingest *ingest)
{
    struct api_ingest_reply message = {
        .request_id = service_request_id(ingest->call),
        .memory = text_of(ingest->memory.memory),
        .generation = ingest->memory.number,
        .stored = ingest->stored,
        .duplicates = ingest->duplicates,
        .failed_keys = ingest->failed_keys,
        .failed_reasons = ingest->failed_reasons,
        .failed_listed = ingest->listed,
        .failed = ingest->failed,
        .skipped = ingest->skipped,
    };
    struct buffer reply = {0};
    struct reason why = {0};
    enum status status = api_encode_ingest_reply(&message, &reply);
    if (status != STATUS_OK)
        (void)reason_set(&why, status, NULL, "the answer does not fit a message");
    end(ingest, status, &reply, &why);
    buffer_deinit(&reply);
}

// The first failure counts. What is under way is stopped; the call ends when nothing is.
static void fail(struct ingest *ingest, enum status status, const struct reason *why)
{
    if (ingest->failure == STATUS_OK) {
        ingest->failure = status;
        ingest->why = *why;
    }
    struct write_load *following = NULL;
    for (struct write_load *load = ingest->loads; load; load = following) {
        following = load->next;
        if (!load->is_cancelled)
            write_load_cancel(load);
    }
    if (ingest->is_committing) {
        roundup_cancel(&ingest->roundup);
        ingest->is_committing = false;
    }
}

// ---------------------------------------------------------------- commits

// Whether a node went down since the commit before: its buffer went with it.
static enum status check_downs(const struct ingest *ingest, struct reason *why)
{
    const struct fanout *fanout = ingest->backend->fanout;
    for (uint32_t node = 0; node < fanout_count(fanout); node++)
        if (fanout_downs(fanout, node) != ingest->downs[node])
            return reason_set(why, STATUS_UNAVAILABLE, NULL,
                              "node %u went down while it held records that were not committed; "
                              "send them again",
                              node);
    return STATUS_OK;
}

static void note_downs(struct ingest *ingest)
{
    const struct fanout *fanout = ingest->backend->fanout;
    for (uint32_t node = 0; node < fanout_count(fanout); node++)
        ingest->downs[node] = fanout_downs(fanout, node);
}

static void go_on(struct ingest *ingest);

static void take_commit(struct ingest *ingest)
{
    struct reason why = {0};
    enum status status = roundup_status(&ingest->roundup, STATUS_OK, &why);
    meta_touch(ingest->backend->meta, ingest->memory.number);
    if (status == STATUS_OK)
        status = check_downs(ingest, &why);
    if (status != STATUS_OK)
        fail(ingest, status, &why);
    ingest->uncommitted = 0;
    note_downs(ingest);
}

static void on_committed(void *context)
{
    struct ingest *ingest = context;
    ingest->is_committing = false;
    take_commit(ingest);
    go_on(ingest);
}

static void commit(struct ingest *ingest)
{
    ingest->roundup.backend = ingest->backend;
    ingest->roundup.generation = ingest->memory;
    ingest->roundup.type = SHARD_BULK_COMMIT;
    ingest->roundup.done = on_committed;
    ingest->roundup.context = ingest;
    ingest->is_committing = roundup_begin(&ingest->roundup, clock_deadline_in_us(COMMIT_LIMIT_US),
                                          service_request_id(ingest->call));
    if (!ingest->is_committing)
        take_commit(ingest); // nobody could be asked: that is a failure
}

// ---------------------------------------------------------------- what comes next

static void read_next(struct ingest *ingest)
{
    ingest->is_reading = true;
    service_read(ingest->call);
}

static void complete(struct ingest *ingest)
{
    struct reason why = {0};
    enum status status = STATUS_OK;
    if (ingest->wants_finish && ingest->is_bulk)
        status = meta_serve(ingest->backend->meta, ingest->memory.number, &why);
    if (status != STATUS_OK) {
        fail(ingest, status, &why);
        return;
    }
    if (ingest->wants_finish)
        log_info("memory_serves", "memory=%s generation=%u", ingest->memory.memory,
                 ingest->memory.number);
    answer(ingest);
}

static void end_failed(struct ingest *ingest)
{
    struct buffer none = {0};
    struct reason why = ingest->why;
    end(ingest, ingest->failure, &none, &why);
}

// Called whenever something has ended; the last thing its caller does.
static void go_on(struct ingest *ingest)
{
    bool wants_commit = ingest->is_bulk && ingest->uncommitted > 0 &&
                        (ingest->has_ended || ingest->uncommitted >= COMMIT_RECORDS);
    if (ingest->failure == STATUS_OK && ingest->load_count == 0 && wants_commit &&
        !ingest->is_committing && !ingest->is_reading)
        commit(ingest);
    if (ingest->failure != STATUS_OK) {
        if (ingest->load_count == 0)
            end_failed(ingest);
        return;
    }
    if (ingest->is_committing || ingest->is_reading)
        return;
    if (ingest->has_ended) {
        if (ingest->load_count == 0)
            complete_or_fail(ingest);
        return;
    }
    // Before a commit everything under way must be acknowledged; one load at a time is read in.
    if (!wants_commit && ingest->load_count < LOADS_MAX && !ingest->is_loading)
        read_next(ingest);
}

