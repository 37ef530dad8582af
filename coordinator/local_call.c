// SPDX-License-Identifier: Apache-2.0
// local_call.c - see the drawing in local_call.h.
//
// A call is freed by its caller, and only after the loop has said CLOSED to its CLOSE: events
// come in order, so by then the loop holds nothing of it. Each kind of event of a call is
// in the queue at most once, so the queue's capacity is a matter of counting calls.

#include "coordinator/local_call.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "proto/base/clock.h"
#include "proto/base/mem.h"
#include "proto/base/queue.h"

#define TOKENS_MAX 4  // of one call at once: room, message, done, closed
#define EVENTS_MAX 5  // of one call at once: MESSAGE or OPEN, END, TAKEN, CANCEL, CLOSE
#define GONE_US 20000 // between two questions whether the asker is gone

enum event_kind {
    EVENT_OPEN,
    EVENT_MESSAGE,
    EVENT_END,
    EVENT_TAKEN,
    EVENT_CANCEL,
    EVENT_CLOSE,
    EVENT_NODES, // waits for all nodes
    EVENT_WAKE,
};

struct event {
    enum event_kind kind;
    struct local_call *call;
};

struct local_calls {
    struct queue *queue;      // events to the loop
    atomic_uint open;         // calls of all callers
    struct local_call *nodes; // the loop's: those who wait for nodes
    size_t count;             // the loop's: opened and not closed
    struct event wake;
};

struct local_call {
    struct local_calls *calls;
    struct local_request request;
    struct event open;
    struct event message;
    struct event end;
    struct event taken;
    struct event cancel;
    struct event close;
    struct queue *back; // tokens to the caller

    // The caller's.
    const struct api_method_info *info;
    bool is_open;     // OPEN has been pushed
    bool has_room;    // the handler wants a message
    bool has_message; // `out` is one that nobody has received
    bool wants_end;   // END follows, in the place of a message
    bool is_done;
    bool is_closed;

    // Changes hands with the events.
    struct buffer data; // of the message to the handler
    struct buffer out;  // of the message from it
    enum status status; // of the end
    struct reason why;
    struct buffer reply;

    // The loop's.
    struct service_call *call; // NULL: not begun or ended
    struct local_call *next;   // in calls->nodes
};

// Tokens to the caller; only their addresses matter.
static char token_room;
static char token_message;
static char token_done;
static char token_closed;

// ---------------------------------------------------------------- the loop's side

static void tell(struct local_call *call, char *token)
{
    enum status status = queue_push(call->back, token);
    assert(status == STATUS_OK);
    (void)status;
}

static void on_read(void *channel)
{
    tell(channel, &token_room);
}

static void on_send(void *channel, struct buffer *message)
{
    struct local_call *call = channel;
    call->out = *message;
    *message = (struct buffer){0};
    tell(call, &token_message);
}

static void on_finish(void *channel, enum status status, struct buffer *reply,
                      const struct reason *why)
{
    struct local_call *call = channel;
    call->call = NULL;
    call->status = status;
    call->why = *why;
    if (status == STATUS_OK && reply) {
        call->reply = *reply;
        *reply = (struct buffer){0};
    }
    tell(call, &token_done);
}

static const struct service_transport transport = {
    .read = on_read, .send = on_send, .finish = on_finish};

static void open_call(struct local_call *call, struct service *service, bool refuse)
{
    struct service_open params = {
        .method = call->request.method,
        .message = call->request.message,
        .deadline_us = call->request.deadline_us,
        .trace = call->request.trace,
        .transport = &transport,
        .channel = call,
    };
    call->calls->count++;
    if (refuse) {
        struct buffer none = {0};
        struct reason why = {0};
        on_finish(call, reason_set(&why, STATUS_UNAVAILABLE, NULL, "the coordinator stops"), &none,
                  &why);
        return;
    }
    call->call = service_open(service, &params);
    service_begin(call->call);
}

static void handle(struct event *event, struct service *service, bool refuse)
{
    struct local_call *call = event->call;
    switch (event->kind) {
    case EVENT_OPEN:
        open_call(call, service, refuse);
        break;
    case EVENT_MESSAGE:
        if (call->call)
            service_message(call->call, (struct bytes){call->data.data, call->data.count});
        break;
    case EVENT_END:
        if (call->call)
            service_end(call->call);
        break;
    case EVENT_TAKEN:
        if (call->call)
            service_sent(call->call);
        break;
    case EVENT_CANCEL:
        if (call->call)
            service_cancel(call->call);
        break;
    case EVENT_CLOSE:
        assert(!call->call);
        call->calls->count--;
        tell(call, &token_closed);
        break;
    case EVENT_NODES:
        call->calls->count++;
        call->next = call->calls->nodes;
        call->calls->nodes = call;
        break;
    case EVENT_WAKE:
        break;
    }
}

int local_calls_fd(const struct local_calls *calls)
{
    return queue_fd(calls->queue);
}

void local_calls_handle(struct local_calls *calls, struct service *service, bool refuse)
{
    assert(calls && service);

    struct event *event = NULL;
    while ((event = queue_try_pop(calls->queue)) != NULL)
        handle(event, service, refuse);
}

void local_calls_check_nodes(struct local_calls *calls, const struct fanout *fanout)
{
    assert(calls && fanout);

    struct local_call **at = &calls->nodes;
    bool all_up = fanout_all_up(fanout, NULL) == STATUS_OK;
    while (*at) {
        struct local_call *call = *at;
        if (!all_up && !clock_passed(call->request.deadline_us)) {
            at = &call->next;
            continue;
        }
        *at = call->next;
        call->status = all_up ? STATUS_OK : STATUS_DEADLINE;
        tell(call, &token_done);
    }
}

int64_t local_calls_next_us(const struct local_calls *calls)
{
    int64_t next_us = DEADLINE_NONE;
    for (const struct local_call *call = calls->nodes; call; call = call->next)
        if (call->request.deadline_us < next_us)
            next_us = call->request.deadline_us;
    return next_us;
}

size_t local_calls_count(const struct local_calls *calls)
{
    return calls->count;
}

struct local_calls *local_calls_create(void)
{
    struct queue *queue = queue_create((size_t)LOCAL_CALLS_MAX * EVENTS_MAX + 1, true);
    if (!queue)
        return NULL;
    struct local_calls *calls = mem_alloc(sizeof(*calls));
    calls->queue = queue;
    calls->wake.kind = EVENT_WAKE;
    return calls;
}

void local_calls_destroy(struct local_calls **calls)
{
    assert(calls);

    if (!*calls)
        return;
    assert((*calls)->count == 0);
    while (queue_try_pop((*calls)->queue)) // a wake that nobody needed
        ;
    queue_destroy(&(*calls)->queue);
    mem_free(*calls);
    *calls = NULL;
}

// ---------------------------------------------------------------- the caller's side

static void push(struct local_calls *calls, struct event *event)
{
    enum status status = queue_push(calls->queue, event);
    assert(status == STATUS_OK);
    (void)status;
}

void local_calls_wake(struct local_calls *calls)
{
    assert(calls);

    push(calls, &calls->wake);
}

static enum status create(struct local_calls *calls, const struct local_request *request,
                          enum event_kind first, struct local_call **out, struct reason *why)
{
    // Relaxed: it only counts, the queue orders.
    if (atomic_fetch_add_explicit(&calls->open, 1, memory_order_relaxed) >= LOCAL_CALLS_MAX) {
        (void)atomic_fetch_sub_explicit(&calls->open, 1, memory_order_relaxed);
        return reason_set(why, STATUS_EXHAUSTED, NULL, "%d calls are under way in this process",
                          LOCAL_CALLS_MAX);
    }
    struct local_call *call = mem_alloc(sizeof(*call));
    call->calls = calls;
    call->request = *request;
    call->open = (struct event){first, call};
    call->message = (struct event){EVENT_MESSAGE, call};
    call->end = (struct event){EVENT_END, call};
    call->taken = (struct event){EVENT_TAKEN, call};
    call->cancel = (struct event){EVENT_CANCEL, call};
    call->close = (struct event){EVENT_CLOSE, call};
    call->back = queue_create(TOKENS_MAX, false);
    *out = call;
    return STATUS_OK;
}

static void open_now(struct local_call *call)
{
    call->is_open = true;
    push(call->calls, &call->open);
}

// The handler hears of the end once it wants to: in the place of a message.
static void end_if_wanted(struct local_call *call)
{
    if (!call->wants_end || !call->has_room || call->is_done)
        return;
    call->wants_end = false;
    call->has_room = false;
    push(call->calls, &call->end);
}

static void wait_token(struct local_call *call)
{
    const char *token = queue_pop(call->back, DEADLINE_NONE);
    call->has_room = call->has_room || token == &token_room;
    call->has_message = call->has_message || token == &token_message;
    call->is_done = call->is_done || token == &token_done;
    call->is_closed = call->is_closed || token == &token_closed;
    end_if_wanted(call);
}

static void wait_done(struct local_call *call)
{
    while (!call->is_done)
        wait_token(call);
}

// Waits for the end, which comes early when the asker is gone.
static void wait_or_cancel(struct local_call *call)
{
    bool is_cancelled = !call->request.is_gone;
    while (!call->is_done) {
        int64_t until_us = is_cancelled ? DEADLINE_NONE : clock_deadline_in_us(GONE_US);
        if (queue_pop(call->back, until_us) == &token_done) {
            call->is_done = true;
        } else if (!is_cancelled && call->request.is_gone(call->request.context)) {
            is_cancelled = true;
            push(call->calls, &call->cancel);
        }
    }
}

static void destroy(struct local_call **call)
{
    struct local_call *ended = *call;
    assert(ended->is_done);
    push(ended->calls, &ended->close);
    while (!ended->is_closed)
        wait_token(ended);
    (void)atomic_fetch_sub_explicit(&ended->calls->open, 1, memory_order_relaxed);
    queue_destroy(&ended->back);
    buffer_deinit(&ended->data);
    buffer_deinit(&ended->out);
    buffer_deinit(&ended->reply);
    mem_free(ended);
    *call = NULL;
}

// The result of a call that is done.
static enum status take_result(struct local_call *call, struct buffer *reply, struct reason *why)
{
    if (call->status != STATUS_OK) {
        if (why)
            *why = call->why;
        return call->status;
    }
    if (!reply)
        return STATUS_OK;
    enum status status = buffer_append(reply, call->reply.data, call->reply.count);
    if (status != STATUS_OK)
        return reason_set(why, status, NULL, "no memory for an answer of %zu bytes",
                          call->reply.count);
    return STATUS_OK;
}

enum status local_call_unary(struct local_calls *calls, const struct local_request *request,
                             struct buffer *reply, struct reason *why)
{
    assert(calls && request && reply);

    struct local_call *call = NULL;
    enum status status = create(calls, request, EVENT_OPEN, &call, why);
    if (status != STATUS_OK)
        return status;
    assert(call);
    open_now(call);
    wait_or_cancel(call);
    status = take_result(call, reply, why);
    destroy(&call);
    return status;
}

enum status local_call_open(struct local_calls *calls, const struct local_request *request,
                            struct local_call **out, struct reason *why)
{
    assert(calls && request && out);

    struct local_call *call = NULL;
    enum status status = create(calls, request, EVENT_OPEN, &call, why);
    if (status != STATUS_OK)
        return status;
    assert(call);
    call->info = api_method_info(request->method);
    if (call->info->client_streams)
        open_now(call);
    *out = call;
    return STATUS_OK;
}

// The one message of a call whose client does not stream opens it.
static enum status send_first(struct local_call *call, struct bytes message)
{
    if (call->is_open)
        return STATUS_FAILED_PRECONDITION;
    enum status status = buffer_append(&call->data, message.data, message.count);
    if (status != STATUS_OK)
        return status;
    call->request.message = (struct bytes){call->data.data, call->data.count};
    open_now(call);
    return STATUS_OK;
}

enum status local_call_send(struct local_call *call, struct bytes message)
{
    assert(call);

    if (!call->info->client_streams)
        return send_first(call, message);
    assert(!call->wants_end);
    while (!call->is_done && !call->has_room)
        wait_token(call);
    if (call->is_done)
        return call->status == STATUS_OK ? STATUS_FAILED_PRECONDITION : call->status;

    call->data.count = 0;
    enum status status = buffer_append(&call->data, message.data, message.count);
    if (status != STATUS_OK)
        return status; // the handler still waits for a message
    call->has_room = false;
    push(call->calls, &call->message);
    return STATUS_OK;
}

void local_call_close(struct local_call *call)
{
    assert(call);

    if (!call->is_open)
        open_now(call);
    call->wants_end = call->info->client_streams;
    end_if_wanted(call);
}

enum status local_call_receive(struct local_call *call, struct buffer *message, bool *ended)
{
    assert(call && message && ended);
    assert(call->is_open && call->info->server_streams);

    message->count = 0;
    while (!call->has_message && !call->is_done)
        wait_token(call);
    *ended = !call->has_message;
    if (*ended)
        return STATUS_OK;
    enum status status = buffer_append(message, call->out.data, call->out.count);
    buffer_deinit(&call->out);
    call->has_message = false;
    if (!call->is_done)
        push(call->calls, &call->taken);
    return status;
}

enum status local_call_finish(struct local_call **call, struct buffer *reply, struct reason *why)
{
    assert(call && *call);

    struct local_call *ended = *call;
    assert(reply || ended->info->server_streams);
    if (!ended->is_open)
        open_now(ended);
    if (ended->info->server_streams && !ended->is_done)
        push(ended->calls, &ended->cancel);
    else if (!ended->info->server_streams)
        local_call_close(ended);
    wait_done(ended);
    enum status status = take_result(ended, reply, why);
    destroy(call);
    return status;
}

enum status local_call_wait_nodes(struct local_calls *calls, int64_t deadline_us)
{
    assert(calls);

    struct local_request request = {.deadline_us = deadline_us};
    struct local_call *call = NULL;
    enum status status = create(calls, &request, EVENT_NODES, &call, NULL);
    if (status != STATUS_OK)
        return status;
    assert(call);
    open_now(call);
    wait_done(call);
    status = call->status;
    destroy(&call);
    return status;
}
