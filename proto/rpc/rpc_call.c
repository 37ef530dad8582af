// SPDX-License-Identifier: Apache-2.0
// One call on the server, from the moment a client has called to the moment its object is free.
//
//          armed           REQUEST comes back          rpc_call_finish()
//   FREE --------> ARMED --------------------> OPEN ----------------------> ENDING
//    ^               |      starts CLOSE       | |^       starts FINISH      ^ |
//    |               | server shuts down       | ++ READ, SEND              | | all tags are back
//    |               |                         |                            | v
//    |               |                         +------> CLOSING ------------+(DONE)
//    |               v          rpc_call_finish() while    SEND comes back,    |
//    +---------------+          SEND is under way          starts FINISH       |
//    +<------------------------------- next rpc_server_next() <----------------+
//
// A call has at most one READ and one SEND under way, each started by its owner. SEND comes back
// when flow control has let the message through, or when the call is over; so a client that does
// not read stops its owner from sending, and its call may stay CLOSING until it reads, leaves or is
// late.
//
// CLOSE is a batch of its own, started first: only so does gRPC tell at once that the client has
// gone or that the deadline has passed. It also comes back after FINISH; DONE waits for
// both and for a READ that was still waiting, so nothing of gRPC's points here afterwards.
// gRPC's batches of one call must not run into each other: only the owner starts them.

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include <grpc/slice.h>
#include <grpc/status.h>

#include "proto/base/arena.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"
#include "proto/rpc/rpc_internal.h"

#define DETAILS_ARENA_BYTES 16384
#define OPS_MAX 3

// --- batches

static void start(struct rpc_call *call, const grpc_op *ops, size_t count, enum rpc_tag_kind kind)
{
    assert((call->under_way & 1u << kind) == 0);

    call->under_way |= 1u << kind;
    grpc_call_error error = grpc_call_start_batch(call->grpc, ops, count, &call->tags[kind], NULL);
    assert(error == GRPC_CALL_OK); // anything else is a wrong batch
    (void)error;
}

static bool is_under_way(const struct rpc_call *call, enum rpc_tag_kind kind)
{
    return (call->under_way & 1u << kind) != 0;
}

// The initial metadata: the client's id, where it has one, and this hop.
struct greeting {
    grpc_metadata entries[2];
    size_t count;
};

// Adds it, once per call. greeting_deinit() follows after the batch has started.
static size_t add_greeting(struct rpc_call *call, grpc_op *op, struct greeting *greeting)
{
    greeting->count = 0;
    if (call->greeted)
        return 0;

    char room[TRACE_PARENT_BYTES + 1];
    struct text parent = trace_parent(&call->trace, room);
    if (call->trace.id[0] != '\0')
        greeting->entries[greeting->count++] =
            rpc_core_entry(RPC_REQUEST_ID_KEY, call->trace.id, strlen(call->trace.id));
    if (parent.bytes > 0)
        greeting->entries[greeting->count++] = rpc_core_entry(TRACE_KEY, parent.data, parent.bytes);
    call->greeted = true;
    op->op = GRPC_OP_SEND_INITIAL_METADATA;
    op->data.send_initial_metadata.metadata = greeting->entries;
    op->data.send_initial_metadata.count = greeting->count;
    return 1;
}

static void greeting_deinit(struct greeting *greeting)
{
    for (size_t i = 0; i < greeting->count; i++)
        rpc_core_entry_deinit(&greeting->entries[i]);
}

void rpc_call_open(struct rpc_call *call)
{
    assert(call->state == RPC_CALL_ARMED);

    call->state = RPC_CALL_OPEN;
    grpc_op op;
    memset(&op, 0, sizeof(op));
    op.op = GRPC_OP_RECV_CLOSE_ON_SERVER;
    op.data.recv_close_on_server.cancelled = &call->close_cancelled;
    start(call, &op, 1, RPC_TAG_CLOSE);
}

void rpc_call_send(struct rpc_call *call, struct buffer *message)
{
    assert(call && message);
    assert(call->state == RPC_CALL_OPEN);
    assert(call->server->rows[call->row].server_streams);
    assert(!is_under_way(call, RPC_TAG_SEND)); // gRPC takes one sender at a time
    assert(message->count <= MESSAGE_BYTES_MAX);

    if (call->cancelled) {
        buffer_deinit(message);
        return;
    }
    grpc_op ops[OPS_MAX];
    memset(ops, 0, sizeof(ops));
    struct greeting greeting;
    size_t count = add_greeting(call, ops, &greeting);

    call->sent = rpc_core_give(message);
    ops[count].op = GRPC_OP_SEND_MESSAGE;
    ops[count++].data.send_message.send_message = call->sent;
    start(call, ops, count, RPC_TAG_SEND);
    greeting_deinit(&greeting);
}

// --- the answer

static bool may_retry(enum status status)
{
    return status == STATUS_EXHAUSTED || status == STATUS_UNAVAILABLE;
}

// Packs google.rpc.Status. Without memory for it the details stay empty: the code and the message
// still tell the client what happened.
static void pack_details(enum status status, const struct reason *why, struct text message,
                         struct buffer *out)
{
    struct rpc_msg_status details = {
        .code = status_grpc_code(status),
        .message = message,
        .reason = text_of(status_name(status)),
        .domain = text_of(RPC_ERROR_DOMAIN),
        .retry_us = may_retry(status) ? RPC_RETRY_US : 0,
    };
    if (why && why->field[0] != '\0') {
        details.field = text_of(why->field);
        details.violation = text_of(why->text);
    }

    struct arena *arena = arena_create(DETAILS_ARENA_BYTES);
    if (rpc_msg_encode_status(arena, &details, out) != STATUS_OK)
        out->count = 0;
    arena_destroy(&arena);
}

static void finish_with_error(struct rpc_call *call, enum status status, const struct reason *why)
{
    // A client that knows nothing of details is told the field by the message.
    char named[REASON_FIELD_BYTES + REASON_TEXT_BYTES + 2];
    struct text message = text_of(status_text(status));
    if (why && why->text[0] != '\0') {
        const char *separator = why->field[0] != '\0' ? ": " : "";
        (void)snprintf(named, sizeof(named), "%s%s%s", why->field, separator, why->text);
        message = text_of(named);
    }

    struct buffer packed = {.count = 0};
    pack_details(status, why, message, &packed);

    grpc_op ops[OPS_MAX];
    memset(ops, 0, sizeof(ops));
    struct greeting greeting;
    grpc_metadata details = rpc_core_entry(RPC_DETAILS_KEY, packed.data, packed.count);
    grpc_slice text = grpc_slice_from_copied_buffer(message.data, message.bytes);
    size_t count = add_greeting(call, ops, &greeting);

    ops[count].op = GRPC_OP_SEND_STATUS_FROM_SERVER;
    ops[count].data.send_status_from_server.status = (grpc_status_code)status_grpc_code(status);
    ops[count].data.send_status_from_server.status_details = &text;
    ops[count].data.send_status_from_server.trailing_metadata = &details;
    ops[count++].data.send_status_from_server.trailing_metadata_count = packed.count > 0 ? 1 : 0;
    start(call, ops, count, RPC_TAG_FINISH);

    grpc_slice_unref(text);
    rpc_core_entry_deinit(&details);
    greeting_deinit(&greeting);
    buffer_deinit(&packed);
}

// The end of a call that went well: `reply` and OK, or for a stream, which has sent its messages
// already, OK alone.
static void finish_well(struct rpc_call *call, struct buffer *reply)
{
    grpc_op ops[OPS_MAX];
    memset(ops, 0, sizeof(ops));
    struct greeting greeting;
    size_t count = add_greeting(call, ops, &greeting);

    if (!call->server->rows[call->row].server_streams) {
        call->sent = rpc_core_give(reply);
        ops[count].op = GRPC_OP_SEND_MESSAGE;
        ops[count++].data.send_message.send_message = call->sent;
    }
    ops[count].op = GRPC_OP_SEND_STATUS_FROM_SERVER;
    ops[count++].data.send_status_from_server.status = GRPC_STATUS_OK;
    start(call, ops, count, RPC_TAG_FINISH);
    greeting_deinit(&greeting);
}

// `why` may be the call's own end_why.
static void finish(struct rpc_call *call, enum status status, struct buffer *reply,
                   const struct reason *why)
{
    assert(call->state == RPC_CALL_OPEN || call->state == RPC_CALL_CLOSING);
    assert(!is_under_way(call, RPC_TAG_SEND)); // gRPC takes one sender at a time

    struct reason ours = {.field = ""};
    if (call->out_of_memory) {
        status = call->end_status;
        ours = call->end_why;
        why = &ours;
    } else if (status == STATUS_OK && reply && reply->count > MESSAGE_BYTES_MAX) {
        status = reason_set(&ours, STATUS_EXHAUSTED, NULL,
                            "the reply has %zu bytes; at most %u are allowed", reply->count,
                            MESSAGE_BYTES_MAX);
        why = &ours;
    }

    call->state = RPC_CALL_ENDING;
    rpc_call_drop_message(call);
    if (status == STATUS_OK)
        finish_well(call, reply);
    else
        finish_with_error(call, status, why);
    if (reply)
        buffer_deinit(reply);
}

// --- completions

// DONE, or free, once nothing is under way.
static bool end_if_over(struct rpc_call *call, struct rpc_event *event)
{
    if (call->state != RPC_CALL_ENDING || call->under_way != 0)
        return false;
    if (call->inner) {
        rpc_server_release(call);
        return false;
    }
    assert(!call->server->done);
    call->server->running--;
    call->server->done = call;
    *event = (struct rpc_event){.kind = RPC_DONE, .call = call};
    return true;
}

// The client is gone. The owner hears of it, once, unless it has answered already.
static bool cancel(struct rpc_call *call, struct rpc_event *event)
{
    if (call->state != RPC_CALL_OPEN || call->cancelled)
        return end_if_over(call, event);

    call->cancelled = true;
    if (call->inner) {
        // A message under way fails at once, and then the call ends.
        if (!is_under_way(call, RPC_TAG_SEND))
            finish(call, STATUS_CANCELLED, NULL, NULL);
        return false;
    }
    *event = (struct rpc_event){.kind = RPC_CANCELLED, .call = call};
    return true;
}

bool rpc_call_closed(struct rpc_call *call, struct rpc_event *event)
{
    if (call->close_cancelled)
        return cancel(call, event);
    return end_if_over(call, event);
}

enum status rpc_call_take_message(struct rpc_call *call, struct reason *why)
{
    struct rpc_server *server = call->server;
    rpc_call_drop_message(call);
    const size_t bytes = grpc_byte_buffer_length(call->received);
    const size_t held_max = atomic_load(&server->held_bytes_max);
    const size_t message_max = atomic_load(&server->message_bytes_max);
    const size_t bytes_max = message_max < held_max ? message_max : held_max;
    if (bytes > bytes_max) {
        grpc_byte_buffer_destroy(call->received);
        call->received = NULL;
        return reason_set(why, STATUS_EXHAUSTED, NULL,
                          "the message has %zu bytes; at most %zu are allowed", bytes, bytes_max);
    }
    if (bytes + server->held_bytes > held_max) {
        server->refusals.bytes++;
        grpc_byte_buffer_destroy(call->received);
        call->received = NULL;
        return reason_set(
            why, STATUS_EXHAUSTED, NULL,
            "the message has %zu bytes, and the calls under way hold %zu; together at "
            "most %zu are allowed: try again",
            bytes, server->held_bytes, held_max);
    }
    if (rpc_core_flatten(&call->received, &call->message) != STATUS_OK)
        return reason_set(why, STATUS_NO_MEMORY, NULL, "no memory for the message");
    call->held_bytes = bytes;
    server->held_bytes += bytes;
    return STATUS_OK;
}

void rpc_call_drop_message(struct rpc_call *call)
{
    rpc_core_message_deinit(&call->message);
    call->server->held_bytes -= call->held_bytes;
    call->held_bytes = 0;
}

// Takes the message that has been read. False when it is the end of the stream or of the call.
static bool take_message(struct rpc_call *call)
{
    if (!call->received)
        return false;
    call->end_status = rpc_call_take_message(call, &call->end_why);
    call->out_of_memory = call->end_status != STATUS_OK;
    return !call->out_of_memory;
}

bool rpc_call_has_read(struct rpc_call *call, bool success, struct rpc_event *event)
{
    if (call->state != RPC_CALL_OPEN || call->cancelled) {
        if (call->received)
            grpc_byte_buffer_destroy(call->received);
        call->received = NULL;
        return end_if_over(call, event);
    }

    if (take_message(call)) {
        if (call->inner) {
            rpc_reflection_message(call);
            return false;
        }
        *event =
            (struct rpc_event){.kind = RPC_MESSAGE, .call = call, .message = call->message.bytes};
        return true;
    }

    // A message that is too long or half there ends like a stream, but has failed.
    if (!success || call->out_of_memory || grpc_call_failed_before_recv_message(call->grpc))
        return cancel(call, event);
    call->ended = true;
    if (call->inner) {
        finish(call, STATUS_OK, NULL, NULL);
        return false;
    }
    *event = (struct rpc_event){.kind = RPC_END, .call = call};
    return true;
}

void rpc_call_abandon(struct rpc_call *call)
{
    assert(call && call->server->stopping);

    if (call->state != RPC_CALL_OPEN || is_under_way(call, RPC_TAG_SEND))
        return;
    struct reason why = {.field = ""};
    enum status status = reason_set(&why, STATUS_UNAVAILABLE, NULL, "the server is stopping");
    finish(call, status, NULL, &why);
}

bool rpc_call_has_sent(struct rpc_call *call, bool success, struct rpc_event *event)
{
    grpc_byte_buffer_destroy(call->sent);
    call->sent = NULL;
    if (call->state == RPC_CALL_CLOSING) {
        finish(call, call->end_status, NULL, &call->end_why);
        return false;
    }
    if (call->cancelled) {
        if (call->inner)
            finish(call, STATUS_CANCELLED, NULL, NULL);
        return false;
    }
    if (!success)
        return cancel(call, event);

    if (call->server->stopping) {
        rpc_call_abandon(call);
        return false;
    }
    if (!call->inner) {
        *event = (struct rpc_event){.kind = RPC_SENT, .call = call};
        return true;
    }
    if (call->server->rows[call->row].kind == RPC_ROW_REFLECTION)
        rpc_call_read(call);
    else
        rpc_health_update(call);
    return false;
}

bool rpc_call_has_finished(struct rpc_call *call, struct rpc_event *event)
{
    if (call->sent)
        grpc_byte_buffer_destroy(call->sent);
    call->sent = NULL;
    return end_if_over(call, event);
}

// --- what the owner does with a call

size_t rpc_call_method(const struct rpc_call *call)
{
    assert(call);
    return call->row;
}

int64_t rpc_call_deadline_us(const struct rpc_call *call)
{
    assert(call);
    return call->deadline_us;
}

const struct trace *rpc_call_trace(const struct rpc_call *call)
{
    assert(call);
    return &call->trace;
}

void rpc_call_set_context(struct rpc_call *call, void *context)
{
    assert(call);
    call->context = context;
}

void *rpc_call_context(const struct rpc_call *call)
{
    assert(call);
    return call->context;
}

void rpc_call_read(struct rpc_call *call)
{
    assert(call);
    assert(call->state == RPC_CALL_OPEN);
    assert(!call->ended);

    rpc_call_drop_message(call);
    if (call->cancelled)
        return;

    grpc_op op;
    memset(&op, 0, sizeof(op));
    op.op = GRPC_OP_RECV_MESSAGE;
    op.data.recv_message.recv_message = &call->received;
    start(call, &op, 1, RPC_TAG_READ);
}

void rpc_call_finish(struct rpc_call *call, enum status status, struct buffer *reply,
                     const struct reason *why)
{
    assert(call && !call->inner);
    assert(call->state == RPC_CALL_OPEN);
    assert(status != STATUS_OK || !reply || !call->server->rows[call->row].server_streams);

    if (!is_under_way(call, RPC_TAG_SEND)) {
        finish(call, status, reply, why);
        return;
    }
    call->state = RPC_CALL_CLOSING;
    if (!call->out_of_memory) {
        call->end_status = status;
        call->end_why = why ? *why : (struct reason){.field = ""};
    }
    rpc_call_drop_message(call);
    if (reply)
        buffer_deinit(reply);
}

void rpc_call_answer(struct rpc_call *call, enum status status, struct buffer *reply,
                     const struct reason *why)
{
    assert(call && call->inner);
    finish(call, status, reply, why);
}
