// SPDX-License-Identifier: Apache-2.0
// The writer: one thread, one request after the other, except that writes, deletes and marks of one
// generation which wait together become durable together, with one fsync.
//
// A group takes what is in the queue and never waits for more. Under load the queue fills while
// the disk works, so groups grow as they are needed and a lone write is not held up.
//
// On a disk that is nearly full, what brings records is slowed down: each request is paid for with
// time, and those that come earlier wait in a queue of their own, in their order. Everything else,
// as deletions and drops, goes past them. Out of space, the store is opened again: at once, since
// there is a reserve, and then every second.

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "shard_node/node_parts.h"

#define GROUP_CALLS_MAX 64
#define GROUP_RECORDS_MAX 8192
#define BYTES_ASKED_US 1000000
#define RECOVER_US 1000000 // between two tries

// A request with what became of it.
struct call {
    struct router_request *request;
    struct arena *arena;
    enum status status;
    struct reason why;
    union {
        struct shard_write_request write; // and BULK
        struct shard_ids_request ids;
        struct shard_create_request create;
        struct shard_generation_request generation; // DROP, BULK_COMMIT
    } asked;
    union {
        struct shard_write_reply write;
        struct shard_flags_reply flags;
        uint64_t records;
    } reply;
};

struct writer {
    struct node *node;
    struct call calls[GROUP_CALLS_MAX];
    size_t call_count;
    struct call next; // taken from the queue, did not fit the group

    struct queue *held;    // of struct router_request: records that must wait
    int64_t may_go_us;     // when the first of them may go
    int64_t recover_at_us; // when the store may be opened again
    int64_t busy_us;       // when the last request ended
};

static enum status decode(struct call *call)
{
    const struct bytes body = call->request->body;
    const struct bytes rows = call->request->rows;
    struct reason *why = &call->why;
    switch ((int)call->request->type) {
    case SHARD_WRITE:
    case SHARD_BULK:
        return shard_decode_write_request(body, rows, call->arena, &call->asked.write, why);
    case SHARD_DELETE:
    case SHARD_HIDE:
    case SHARD_UNHIDE:
        return shard_decode_ids_request(body, rows, call->arena, &call->asked.ids, why);
    case SHARD_CREATE:
        return shard_decode_create_request(body, rows, call->arena, &call->asked.create, why);
    default:
        return shard_decode_generation_request(body, rows, call->arena, &call->asked.generation,
                                               why);
    }
}

static enum status encode(const struct call *call, struct buffer *body)
{
    switch ((int)call->request->type) {
    case SHARD_WRITE:
    case SHARD_BULK:
    case SHARD_BULK_COMMIT:
        return shard_encode_write_reply(&call->reply.write, body);
    case SHARD_DELETE:
    case SHARD_HIDE:
    case SHARD_UNHIDE:
        return shard_encode_flags_reply(&call->reply.flags, body);
    case SHARD_DROP:
        return shard_encode_stats_reply(&(struct shard_stats_reply){.records = call->reply.records},
                                        body);
    default:
        return STATUS_OK; // CREATE has an empty reply
    }
}

// Ends the request by what is in the call.
static void answer(struct call *call)
{
    if (call->status != STATUS_OK) {
        node_reply_failure(&call->request, call->status, &call->why);
    } else {
        struct buffer body = node_body();
        const enum status status = encode(call, &body);
        node_reply_body(&call->request, status, &body, NULL, 0);
    }
    arena_destroy(&call->arena);
}

// Makes a call of a request; false when it ended at once.
static bool begin_call(struct call *call, struct router_request *request)
{
    *call = (struct call){.request = request};
    if (node_drop_cancelled(&call->request))
        return false;
    call->arena = arena_create(NODE_ARENA_BYTES);
    call->status = decode(call);
    if (call->status == STATUS_OK)
        return true;
    answer(call);
    return false;
}

static bool is_single(const struct call *call)
{
    const enum shard_type type = call->request->type;
    return type == SHARD_WRITE || type == SHARD_DELETE || type == SHARD_HIDE ||
           type == SHARD_UNHIDE;
}

static uint32_t generation_of(const struct call *call)
{
    return call->request->type == SHARD_WRITE ? call->asked.write.generation
                                              : call->asked.ids.generation;
}

// --- a disk that is nearly full

static bool brings_records(const struct router_request *request)
{
    return request->type == SHARD_WRITE || request->type == SHARD_BULK ||
           request->type == SHARD_BULK_COMMIT || request->type == SHARD_CREATE;
}

static bool must_wait(const struct writer *writer, const struct router_request *request)
{
    return brings_records(request) &&
           (queue_count(writer->held) > 0 || !clock_passed(writer->may_go_us));
}

static void hold(struct writer *writer, struct router_request *request)
{
    const enum status status = queue_push(writer->held, request);
    if (status == STATUS_OK)
        return;
    struct reason why = {0};
    reason_set(&why, status, "disk",
               "node %" PRIu32 " has %d requests waiting: its disk is nearly "
               "full, and it takes %u bytes a second",
               writer->node->index, NODE_QUEUE_MAX, NODE_THROTTLE_BYTES);
    node_reply_failure(&request, status, &why);
}

// Pays for what was written.
static void pay(struct writer *writer, const struct call *call)
{
    if (call->status != STATUS_OK || store_disk_level(writer->node->store) != STORE_DISK_THROTTLED)
        return;
    const size_t bytes = call->request->body.count + call->request->rows.count;
    const int64_t now = clock_now_us();
    const int64_t from = writer->may_go_us > now ? writer->may_go_us : now;
    writer->may_go_us = from + (int64_t)(bytes * 1000000 / NODE_THROTTLE_BYTES);
}

// The next request to do now; NULL when there is none until the deadline, or sooner.
static struct router_request *take(struct writer *writer, int64_t deadline_us)
{
    if (queue_count(writer->held) > 0) {
        if (clock_passed(writer->may_go_us) || atomic_load(&writer->node->stopping))
            return queue_try_pop(writer->held);
        if (writer->may_go_us < deadline_us)
            deadline_us = writer->may_go_us;
    }
    struct router_request *request = queue_pop(writer->node->writes, deadline_us);
    if (!request || !must_wait(writer, request))
        return request;
    hold(writer, request);
    return NULL;
}

static void recover(struct writer *writer)
{
    struct node *node = writer->node;
    struct reason why = {0};
    char quoted[LOG_QUOTE_BYTES];
    if (ingest_recover(node->ingest, &why) != STATUS_OK)
        log_debug("no_recovery_yet", "node=%" PRIu32 " reason=%s", node->index,
                  log_quote(why.text, quoted));
    writer->recover_at_us = clock_deadline_in_us(RECOVER_US);
}

// --- groups

static void add_to_group(struct writer *writer, struct call *call)
{
    struct ingest *ingest = writer->node->ingest;
    trace_follow(&call->request->trace);
    if (call->request->type == SHARD_WRITE)
        call->status =
            ingest_write(ingest, &call->asked.write, call->arena, &call->reply.write, &call->why);
    else if (call->request->type == SHARD_DELETE)
        call->status =
            ingest_delete(ingest, &call->asked.ids, call->arena, &call->reply.flags, &call->why);
    else
        call->status = ingest_hide(ingest, &call->asked.ids, call->request->type == SHARD_HIDE,
                                   call->arena, &call->reply.flags, &call->why);
    if (call->request->type == SHARD_WRITE)
        pay(writer, call);
    trace_follow(NULL);
}

// The next waiting request that belongs to the group; what does not is kept in writer->next.
static bool take_into_group(struct writer *writer, uint32_t generation)
{
    if (writer->call_count == GROUP_CALLS_MAX ||
        ingest_group_count(writer->node->ingest) >= GROUP_RECORDS_MAX)
        return false;
    struct router_request *request = queue_try_pop(writer->node->writes);
    if (!request)
        return false;
    if (must_wait(writer, request)) {
        hold(writer, request);
        return true;
    }
    struct call *call = &writer->calls[writer->call_count];
    if (!begin_call(call, request))
        return true;
    if (!is_single(call) || generation_of(call) != generation) {
        writer->next = *call;
        return false;
    }
    writer->call_count++;
    add_to_group(writer, call);
    return true;
}

// The reserve is for deletions: the one that found no space is done with it.
static bool recovers(struct writer *writer)
{
    if (!store_is_out_of_space(writer->node->store))
        return false;
    recover(writer);
    return !store_is_out_of_space(writer->node->store) && !store_is_read_only(writer->node->store);
}

// Once more the deletions of a group that was not stored, and only those: writes keep `status`.
// What the first try found present is told, since it may have been durable after all.
static enum status delete_again(struct writer *writer, uint32_t generation, enum status status,
                                struct reason *why)
{
    struct ingest *ingest = writer->node->ingest;
    for (size_t i = 0; i < writer->call_count; i++) {
        struct call *call = &writer->calls[i];
        if (call->status == STATUS_OK && call->request->type == SHARD_WRITE) {
            call->status = status;
            call->why = *why;
        }
    }
    status = ingest_begin(ingest, generation, why);
    if (status != STATUS_OK)
        return status;
    for (size_t i = 0; i < writer->call_count; i++) {
        struct call *call = &writer->calls[i];
        struct shard_flags_reply second;
        if (call->status == STATUS_OK)
            call->status =
                ingest_delete(ingest, &call->asked.ids, call->arena, &second, &call->why);
    }
    return ingest_commit(ingest, why);
}

// What a call has made durable.
static void count_rows(struct node *node, const struct call *call)
{
    if (call->status != STATUS_OK)
        return;
    uint64_t deleted = 0;
    switch ((int)call->request->type) {
    case SHARD_WRITE:
        node_side_wrote(node->side, NODE_SIDE_WRITTEN, call->reply.write.stored);
        break;
    case SHARD_BULK_COMMIT:
        node_side_wrote(node->side, NODE_SIDE_BULK, call->reply.write.stored);
        break;
    case SHARD_DELETE:
        for (size_t i = 0; i < call->reply.flags.count; i++)
            deleted += call->reply.flags.flags[i];
        node_side_wrote(node->side, NODE_SIDE_DELETED, deleted);
        break;
    default:
        break;
    }
}

static void run_group(struct writer *writer)
{
    struct node *node = writer->node;
    struct call *first = &writer->calls[0];
    const uint32_t generation = generation_of(first);
    writer->call_count = 1;
    first->status = ingest_begin(node->ingest, generation, &first->why);
    if (first->status != STATUS_OK) {
        answer(first);
        return;
    }
    add_to_group(writer, first);
    bool more = true;
    while (more)
        more = take_into_group(writer, generation);

    struct reason why = {0};
    const int64_t began_us = clock_now_us();
    enum status status = ingest_commit(node->ingest, &why);
    if (status == STATUS_EXHAUSTED && recovers(writer))
        status = delete_again(writer, generation, status, &why);
    node_side_committed(node->side, clock_now_us() - began_us);
    for (size_t i = 0; i < writer->call_count; i++) {
        struct call *call = &writer->calls[i];
        if (call->status == STATUS_OK && status != STATUS_OK) {
            call->status = status;
            call->why = why;
        }
        if (call->request->type == SHARD_WRITE)
            call->reply.write.sequence = store_sequence(node->store);
        count_rows(node, call);
        answer(call);
    }
}

// --- everything else

static enum status drop(struct writer *writer, struct call *call)
{
    struct ingest *ingest = writer->node->ingest;
    const uint32_t generation = call->asked.generation.generation;
    enum status status =
        ingest_drop_generation(ingest, generation, &call->reply.records, &call->why);
    if (status == STATUS_EXHAUSTED && recovers(writer))
        status = ingest_drop_generation(ingest, generation, &call->reply.records, &call->why);
    return status;
}

static void run_alone(struct writer *writer, struct call *call)
{
    struct ingest *ingest = writer->node->ingest;
    struct reason *why = &call->why;
    const int64_t began_us = clock_now_us();
    trace_follow(&call->request->trace);
    switch ((int)call->request->type) {
    case SHARD_BULK:
        call->status =
            ingest_bulk(ingest, &call->asked.write, call->arena, &call->reply.write, why);
        pay(writer, call);
        break;
    case SHARD_BULK_COMMIT:
        call->status =
            ingest_bulk_commit(ingest, call->asked.generation.generation, &call->reply.write, why);
        node_side_committed(writer->node->side, clock_now_us() - began_us);
        count_rows(writer->node, call);
        break;
    case SHARD_CREATE:
        call->status = ingest_create_generation(ingest, &call->asked.create, why);
        break;
    default:
        assert(call->request->type == SHARD_DROP);
        call->status = drop(writer, call);
        break;
    }
    trace_follow(NULL);
    answer(call);
}

static void run_call(struct writer *writer, struct call *call)
{
    if (is_single(call)) {
        writer->calls[0] = *call;
        run_group(writer);
    } else {
        run_alone(writer, call);
    }
    indexer_notice(writer->node->indexer);
    node_refresh_totals(writer->node);
}

void node_refresh_totals(struct node *node)
{
    uint64_t records = 0;
    uint64_t rows = 0;
    shelf_totals(node->shelf, &records, &rows);
    atomic_store(&node->records, records);
    const int64_t now = clock_now_us();
    if (node->bytes_asked_us != 0 && now - node->bytes_asked_us < BYTES_ASKED_US)
        return;
    node->bytes_asked_us = now;
    atomic_store(&node->bytes, store_bytes(node->store) + rows);
}

static void flush_idle(struct node *node)
{
    struct reason why = {0};
    if (ingest_bulk_flush(node->ingest, &why) != STATUS_OK) {
        char quoted[LOG_QUOTE_BYTES];
        log_error("bulk_lost", "node=%" PRIu32 " reason=%s", node->index,
                  log_quote(why.text, quoted));
    }
    indexer_notice(node->indexer);
    node_refresh_totals(node);
}

// How long the writer may wait for a request.
static int64_t patience(const struct writer *writer)
{
    int64_t until_us = DEADLINE_NONE;
    if (ingest_bulk_count(writer->node->ingest) > 0)
        until_us = writer->busy_us + NODE_BULK_IDLE_US;
    if (store_is_out_of_space(writer->node->store) && writer->recover_at_us < until_us)
        until_us = writer->recover_at_us;
    return until_us;
}

// One turn; false when the node ends and nothing is left to do.
static bool turn(struct writer *writer)
{
    struct node *node = writer->node;
    struct call call = writer->next;
    writer->next.request = NULL;
    if (!call.request) {
        if (store_is_out_of_space(node->store) && clock_passed(writer->recover_at_us))
            recover(writer);
        struct router_request *request = take(writer, patience(writer));
        if (!request && atomic_load(&node->stopping))
            return queue_count(writer->held) + queue_count(node->writes) > 0;
        if (!request && ingest_bulk_count(node->ingest) > 0 &&
            clock_passed(writer->busy_us + NODE_BULK_IDLE_US))
            flush_idle(node);
        if (!request || !begin_call(&call, request))
            return true;
    }
    run_call(writer, &call);
    writer->busy_us = clock_now_us();
    return true;
}

void node_write_body(struct thread *self, void *context)
{
    struct node *node = context;
    struct writer *writer = mem_alloc(sizeof(*writer));
    writer->node = node;
    writer->held = queue_create(NODE_QUEUE_MAX, false);
    thread_ready(self, STATUS_OK);
    bool more = true;
    while (more)
        more = turn(writer);
    queue_destroy(&writer->held);
    mem_free(writer);
}
