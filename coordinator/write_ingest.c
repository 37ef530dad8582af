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

#include "coordinator/ledger.h"
#include "coordinator/roundup.h"
#include "coordinator/service.h"
#include "coordinator/write_internal.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

#define LOADS_MAX 4               // messages under way of one stream
#define COMMIT_RECORDS 65536      // bulk records between two commits
#define COMMIT_LIMIT_US 600000000 // a commit sorts and syncs what came before
#define LISTED_MAX 1024           // failures told one by one

struct ingest {
    struct service_call *call;
    struct backend *backend;
    struct meta_generation memory; // number 0: not known yet
    bool is_bulk;
    struct write_load *loads; // under way
    size_t load_count;
    bool is_reading;    // a message or the end will come
    bool is_loading;    // a load still needs the message that was read last
    bool has_ended;     // the client sends no more
    bool wants_finish;  // and has said that the build is complete
    bool is_failing;    // loads are being cancelled
    bool is_committing; // the roundup is under way
    bool is_committed;  // the commit after the last record is done
    struct roundup roundup;
    uint64_t uncommitted;      // bulk records since the last commit
    uint32_t downs[NODES_MAX]; // of each node, at the last commit
    uint64_t losses;           // of the generation, at the last commit
    enum status failure;       // STATUS_OK: none yet
    struct reason why;

    // What the answer says.
    uint64_t stored;
    uint64_t duplicates;
    uint64_t skipped;
    uint64_t failed;
    size_t listed;
    struct text failed_keys[LISTED_MAX];
    struct text failed_reasons[LISTED_MAX];
    struct arena *arena; // of the lists
};

static void go_on(struct ingest *ingest);

// ---------------------------------------------------------------- the end

static void end(struct ingest *ingest, enum status status, struct buffer *reply,
                const struct reason *why)
{
    assert(!ingest->loads && !ingest->is_committing);

    service_finish(ingest->call, status, reply, why);
    arena_destroy(&ingest->arena);
    mem_free(ingest);
}

static void end_failed(struct ingest *ingest)
{
    struct buffer none = {0};
    struct reason why = ingest->why;
    end(ingest, ingest->failure, &none, &why);
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

// The first failure counts. What is under way is stopped; go_on(), which the caller calls next,
// ends the call once nothing is.
static void fail(struct ingest *ingest, enum status status, const struct reason *why)
{
    if (ingest->failure == STATUS_OK) {
        ingest->failure = status;
        ingest->why = *why;
    }
    ingest->is_failing = true;
    struct write_load *following = NULL;
    for (struct write_load *load = ingest->loads; load; load = following) {
        following = load->next;
        if (!load->is_cancelled)
            write_load_cancel(load);
    }
    ingest->is_failing = false;
    if (ingest->is_committing) {
        roundup_cancel(&ingest->roundup);
        ingest->is_committing = false;
    }
}

static void complete(struct ingest *ingest)
{
    struct reason why = {0};
    enum status status = STATUS_OK;
    if (ingest->memory.number == 0)
        status = reason_set(&why, STATUS_INVALID, "memory", "no message named one");
    else if (ingest->wants_finish && ingest->is_bulk)
        status = meta_serve(ingest->backend->meta, ingest->memory.number, &why);
    if (status != STATUS_OK) {
        fail(ingest, status, &why);
        end_failed(ingest);
        return;
    }
    if (ingest->wants_finish && ingest->is_bulk)
        trace_line(&ingest->call->trace, LOG_INFO, "memory_serves", "memory=%s generation=%u",
                   ingest->memory.memory, ingest->memory.number);
    answer(ingest);
}

// ---------------------------------------------------------------- commits

// Whether everything acknowledged since the commit before has become durable: no node has committed
// less than that, and none was away, when it may have forgotten its buffer.
static enum status check_losses(const struct ingest *ingest, struct reason *why)
{
    const struct fanout *fanout = ingest->backend->fanout;
    for (uint32_t node = 0; node < fanout_count(fanout); node++)
        if (fanout_downs(fanout, node) != ingest->downs[node])
            return reason_set(why, STATUS_UNAVAILABLE, NULL,
                              "node %u went down while it held records that were not committed; "
                              "send them again",
                              node);
    if (ledger_losses(ingest->backend->ledger, ingest->memory.number) != ingest->losses)
        return reason_set(why, STATUS_UNAVAILABLE, NULL,
                          "a node has lost records that were not committed; send them again");
    return STATUS_OK;
}

static void note_losses(struct ingest *ingest)
{
    const struct fanout *fanout = ingest->backend->fanout;
    for (uint32_t node = 0; node < fanout_count(fanout); node++)
        ingest->downs[node] = fanout_downs(fanout, node);
    ingest->losses = ledger_losses(ingest->backend->ledger, ingest->memory.number);
}

static void take_commit(struct ingest *ingest)
{
    struct reason why = {0};
    enum status status = roundup_status(&ingest->roundup, STATUS_OK, &why);
    meta_touch(ingest->backend->meta, ingest->memory.number);
    for (uint32_t node = 0; node < NODES_MAX; node++)
        if (ingest->roundup.asked & 1u << node && ingest->roundup.statuses[node] == STATUS_OK)
            ledger_commit(ingest->backend->ledger, ingest->memory.number, node,
                          ingest->roundup.stored[node]);
    if (status == STATUS_OK)
        status = check_losses(ingest, &why);
    if (status != STATUS_OK)
        fail(ingest, status, &why);
    ingest->uncommitted = 0;
    ingest->is_committed = ingest->has_ended;
    note_losses(ingest);
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
                                          &ingest->call->trace);
    if (!ingest->is_committing)
        take_commit(ingest); // nobody could be asked: that is a failure
}

// Bulk records are committed when there are many, after the last one, and before a build serves.
static bool wants_commit(const struct ingest *ingest)
{
    if (!ingest->is_bulk || ingest->is_committed)
        return false;
    if (ingest->has_ended)
        return ingest->uncommitted > 0 || ingest->wants_finish;
    return ingest->uncommitted >= COMMIT_RECORDS;
}

// ---------------------------------------------------------------- what comes next

// Called whenever something has ended, as the last thing its caller does.
static void go_on(struct ingest *ingest)
{
    if (ingest->failure == STATUS_OK &&
        (ingest->is_reading || ingest->is_loading || ingest->is_committing))
        return;
    if (ingest->failure == STATUS_OK && wants_commit(ingest)) {
        if (ingest->load_count > 0)
            return; // its records belong into the commit
        commit(ingest);
        if (ingest->is_committing)
            return;
    }
    if (ingest->failure != STATUS_OK) {
        if (ingest->load_count == 0)
            end_failed(ingest);
        return;
    }
    if (ingest->has_ended) {
        if (ingest->load_count == 0)
            complete(ingest);
        return;
    }
    if (ingest->load_count < LOADS_MAX) {
        ingest->is_reading = true;
        service_read(ingest->call);
    }
}

// ---------------------------------------------------------------- loads

static void on_record_failed(void *context, struct text key, const char *reason)
{
    struct ingest *ingest = context;
    ingest->failed++;
    if (ingest->listed == LISTED_MAX)
        return;
    char *key_copy = arena_copy_text(ingest->arena, key.data, key.bytes);
    char *reason_copy = arena_copy_text(ingest->arena, reason, strlen(reason));
    if (!key_copy || !reason_copy)
        return;
    ingest->failed_keys[ingest->listed] = (struct text){key_copy, key.bytes};
    ingest->failed_reasons[ingest->listed++] = text_of(reason_copy);
}

static void on_load_sent(void *context, struct write_load *load)
{
    (void)load;
    struct ingest *ingest = context;
    ingest->is_loading = false;
    go_on(ingest);
}

static void on_load_done(void *context, struct write_load *load)
{
    struct ingest *ingest = context;
    struct write_load **at = &ingest->loads;
    bool was_first =
        ingest->loads == load; // the last one begun; only it may still need its message
    while (*at != load)
        at = &(*at)->next;
    *at = load->next;
    ingest->load_count--;
    if (was_first)
        ingest->is_loading = false;

    enum status status = load->status;
    struct reason why = load->why;
    if (status == STATUS_OK) {
        ingest->stored += load->stored;
        ingest->duplicates += load->duplicates;
        ingest->uncommitted += load->stored;
    }
    ingest->skipped += load->skipped;
    write_load_free(load);
    if (status != STATUS_OK && !ingest->is_failing)
        fail(ingest, status, &why);
    if (!ingest->is_failing)
        go_on(ingest);
}

// The memory that the stream writes to is the first message's; later ones may repeat it.
static enum status find_memory(struct ingest *ingest, struct text name, struct reason *why)
{
    struct meta_generation found;
    if (ingest->memory.number != 0 && name.bytes == 0)
        return STATUS_OK;
    const bool restores = ingest->call->handler == &write_restore;
    enum status status = meta_find(ingest->backend->meta, name,
                                   restores ? META_FOR_RESTORE : META_FOR_WRITE, &found, why);
    if (status != STATUS_OK)
        return status;
    if (ingest->memory.number != 0 && found.number != ingest->memory.number)
        return reason_set(why, STATUS_INVALID, "memory",
                          "%s@%u; this stream writes to %s@%u, another memory needs another",
                          found.memory, found.number, ingest->memory.memory, ingest->memory.number);
    if (ingest->memory.number != 0)
        return STATUS_OK;

    if (fanout_count(ingest->backend->fanout) == 0)
        return reason_set(why, STATUS_UNAVAILABLE, NULL, "there are no shard nodes");
    if (found.state != META_SERVING)
        status = fanout_all_up(ingest->backend->fanout, why);
    if (status != STATUS_OK)
        return status;
    ingest->memory = found;
    ingest->is_bulk = found.state != META_SERVING;
    note_losses(ingest);
    return STATUS_OK;
}

// Begins a load of the message's records; *arena is taken over by it.
static enum status begin_load(struct ingest *ingest, const struct api_ingest_request *request,
                              struct arena **arena, struct reason *why)
{
    struct write_load_params params = {
        .backend = ingest->backend,
        .memory = ingest->memory,
        .arena = *arena,
        .records = request->records,
        .count = request->count,
        .skip_existing = request->skip_existing,
        .bulk = ingest->is_bulk,
        .trace = ingest->call->trace,
        .events = {.failed = on_record_failed,
                   .sent = on_load_sent,
                   .done = on_load_done,
                   .context = ingest},
    };
    struct write_load *load = NULL;
    *arena = NULL;
    enum status status = write_load_begin(&params, &load, why);
    if (status != STATUS_OK)
        return status;
    load->next = ingest->loads;
    ingest->loads = load;
    ingest->load_count++;
    ingest->is_loading = true;
    return STATUS_OK;
}

// ---------------------------------------------------------------- the call

static void begin(struct service_call *call)
{
    struct ingest *ingest = mem_alloc(sizeof(*ingest));
    ingest->call = call;
    ingest->backend = call->backend;
    ingest->arena = arena_create(SERVICE_ARENA_BYTES);
    call->state = ingest;
    go_on(ingest);
}

static void on_message(struct service_call *call, struct bytes bytes)
{
    struct ingest *ingest = call->state;
    struct api_ingest_request request;
    struct reason why = {0};
    ingest->is_reading = false;
    if (ingest->failure != STATUS_OK) { // only what is under way is still waited for
        go_on(ingest);
        return;
    }
    struct arena *arena = arena_create(WRITE_ARENA_BYTES);
    enum status status = api_decode_ingest_request(bytes, arena, &request, &why);
    if (status == STATUS_OK && ingest->wants_finish)
        status = reason_set(&why, STATUS_INVALID, "finish",
                            "the message with finish must be the last one");
    if (status == STATUS_OK)
        status = find_memory(ingest, request.memory, &why);
    if (status == STATUS_OK) {
        ingest->wants_finish = request.finish;
        if (request.count > 0)
            status = begin_load(ingest, &request, &arena, &why);
    }
    arena_destroy(&arena);
    if (status != STATUS_OK)
        fail(ingest, status, &why);
    go_on(ingest);
}

static void on_stream_end(struct service_call *call)
{
    struct ingest *ingest = call->state;
    ingest->is_reading = false;
    ingest->has_ended = true;
    go_on(ingest);
}

static void cancel(struct service_call *call)
{
    struct ingest *ingest = call->state;
    struct reason why = {0};
    fail(ingest, reason_set(&why, STATUS_CANCELLED, NULL, "cancelled"), &why);
    go_on(ingest);
}

const struct service_handler write_ingest = {
    .begin = begin,
    .message = on_message,
    .end = on_stream_end,
    .cancel = cancel,
};

// The same under a name of its own, which may write to a generation that is being restored.
const struct service_handler write_restore = {
    .begin = begin,
    .message = on_message,
    .end = on_stream_end,
    .cancel = cancel,
};
