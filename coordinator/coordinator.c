// SPDX-License-Identifier: Apache-2.0
// coordinator.c - puts the parts together and turns the loop.
//
// One thread owns the queries, timers, connections to the nodes and the gRPC calls; one
// computes. A turn of the loop:
//
//   due timers -> results of the compute thread -> calls of this process -> events of gRPC
//     -> (stopping?) -> wait for any of them, and for the nodes, which are heard while waiting
//
// Stopping: NOT_SERVING, running calls get their grace, the rest is cancelled; the loop ends
// when nothing is under way any more, so that no job or reply comes to an object that is gone.

#include "coordinator/coordinator.h"

#include <assert.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "coordinator/backend.h"
#include "coordinator/clerk.h"
#include "coordinator/label_build.h"
#include "coordinator/labels.h"
#include "coordinator/ledger.h"
#include "coordinator/local_call.h"
#include "coordinator/service.h"
#include "coordinator/side_port.h"
#include "coordinator/telemetry.h"
#include "coordinator/trained_head.h"
#include "proto/base/arena.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/base/thread.h"
#include "proto/rpc/rpc_server.h"

#define TURN_US 1000000  // longest wait of a turn
#define FLUSH_US 2000000 // for the last answers to leave
#define FDS_MAX 4
#define PATH_BYTES 4352 // a data directory and "/snapshots"

struct coordinator {
    struct backend backend;
    struct service service;
    struct local_calls *local;
    struct rpc_server *rpc;       // NULL without
    struct side_port *side;       // what it tells; listens only when wanted
    struct rpc_refusals refusals; // that are counted already
    char snapshots[PATH_BYTES];
    struct fusion_gate gate; // of the head that has one
    char head_file[TRAINED_HEAD_FILE_BYTES];
    struct thread *thread;

    // While starting: what the loop's thread needs, and its reason for not starting.
    const struct coordinator_params *params;
    struct reason why;

    atomic_llong default_deadline_us; // of unary calls without one; 0: none
    // Written by the loop's thread at the end of a turn; relaxed: they only tell.
    struct {
        atomic_size_t rpc_calls, calls, streams, items, stream_bytes;
        atomic_size_t queries, builds, jobs, requests;
    } counters;

    atomic_bool stop;  // set by coordinator_stop()
    int64_t grace_us;  // written before `stop`
    bool is_stopping;  // the loop's
    bool is_cancelled; // calls were told
    int64_t stop_us;   // when the grace ends
    int64_t flush_us;  // when the last answers must have left
};

// ---------------------------------------------------------------- gRPC

static void on_rpc_read(void *channel)
{
    rpc_call_read(channel);
}

static void on_rpc_send(void *channel, struct buffer *message)
{
    rpc_call_send(channel, message);
}

static void on_rpc_finish(void *channel, enum status status, struct buffer *reply,
                          const struct reason *why)
{
    struct rpc_call *call = channel;
    rpc_call_set_context(call, NULL);
    rpc_call_finish(call, status, reply, why);
}

static const struct service_transport rpc_transport = {
    .is_grpc = true, .read = on_rpc_read, .send = on_rpc_send, .finish = on_rpc_finish};

static int64_t deadline_of(struct coordinator *coordinator, const struct rpc_call *call)
{
    int64_t deadline_us = rpc_call_deadline_us(call);
    int64_t default_us =
        atomic_load_explicit(&coordinator->default_deadline_us, memory_order_relaxed);
    const struct api_method_info *info = api_method_info((enum api_method)rpc_call_method(call));
    if (deadline_us != DEADLINE_NONE || default_us == 0 || info->client_streams ||
        info->server_streams)
        return deadline_us;
    return clock_deadline_in_us(default_us);
}

static void open_rpc_call(struct coordinator *coordinator, const struct rpc_event *event)
{
    struct service_open params = {
        .method = (enum api_method)rpc_call_method(event->call),
        .message = event->message,
        .deadline_us = deadline_of(coordinator, event->call),
        .trace = rpc_call_trace(event->call),
        .transport = &rpc_transport,
        .channel = event->call,
    };
    struct service_call *call = service_open(&coordinator->service, &params);
    rpc_call_set_context(event->call, call);
    service_begin(call);
}

static void handle_rpc(struct coordinator *coordinator, const struct rpc_event *event)
{
    if (event->kind == RPC_CALL) {
        open_rpc_call(coordinator, event);
        return;
    }
    struct service_call *call = rpc_call_context(event->call);
    if (!call)
        return; // it has ended here already
    if (event->kind == RPC_MESSAGE)
        service_message(call, event->message);
    else if (event->kind == RPC_END)
        service_end(call);
    else if (event->kind == RPC_SENT)
        service_sent(call);
    else if (event->kind == RPC_CANCELLED)
        service_cancel(call);
}

static void handle_rpc_events(struct coordinator *coordinator)
{
    struct rpc_event event;
    while (coordinator->rpc && rpc_server_next(coordinator->rpc, &event))
        handle_rpc(coordinator, &event);
}

// ---------------------------------------------------------------- the loop

// True when the loop may end.
static bool stop_step(struct coordinator *coordinator)
{
    struct backend *backend = &coordinator->backend;
    if (!atomic_load_explicit(&coordinator->stop, memory_order_acquire))
        return false;
    if (!coordinator->is_stopping) {
        coordinator->is_stopping = true;
        coordinator->stop_us = clock_deadline_in_us(coordinator->grace_us);
        if (coordinator->rpc)
            rpc_server_set_serving(coordinator->rpc, false);
        side_port_drain(coordinator->side);
        log_info("coordinator_drains", "calls=%zu", coordinator->service.count);
    }
    bool is_late = clock_passed(coordinator->stop_us);
    if (!coordinator->is_cancelled && (coordinator->service.count == 0 || is_late)) {
        coordinator->is_cancelled = true;
        service_cancel_all(&coordinator->service);
        label_builds_cancel(backend->builds);
        coordinator->flush_us = clock_deadline_in_us(FLUSH_US);
    }
    if (!coordinator->is_cancelled || coordinator->service.count > 0 ||
        compute_running(backend->compute) > 0 || clerk_running(backend->clerk) > 0 ||
        local_calls_count(coordinator->local) > 0 || side_port_running(coordinator->side) > 0)
        return false;
    bool has_flushed = !coordinator->rpc || rpc_server_running(coordinator->rpc) == 0;
    return has_flushed || clock_passed(coordinator->flush_us);
}

static int64_t next_turn_us(const struct coordinator *coordinator)
{
    int64_t next_us = clock_deadline_in_us(coordinator->is_stopping ? TURN_US / 100 : TURN_US);
    int64_t timers_us = timers_next_us(&coordinator->backend.timers);
    int64_t local_us = local_calls_next_us(coordinator->local);
    if (timers_us < next_us)
        next_us = timers_us;
    return local_us < next_us ? local_us : next_us;
}

static void put(atomic_size_t *counter, size_t value)
{
    atomic_store_explicit(counter, value, memory_order_relaxed);
}

static size_t get(const atomic_size_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

// What gRPC's room refused by itself since the last turn.
static void count_refusals(struct coordinator *coordinator)
{
    if (!coordinator->rpc)
        return;
    const struct rpc_refusals before = coordinator->refusals;
    const struct rpc_refusals now = rpc_server_refusals(coordinator->rpc);
    struct telemetry *telemetry = coordinator->backend.telemetry;
    telemetry_rejected(telemetry, TELEMETRY_REJECT_CALLS, now.calls - before.calls);
    telemetry_rejected(telemetry, TELEMETRY_REJECT_BYTES, now.bytes - before.bytes);
    coordinator->refusals = now;
}

static void publish_counters(struct coordinator *coordinator)
{
    const struct backend *backend = &coordinator->backend;
    const struct service *service = &coordinator->service;
    put(&coordinator->counters.rpc_calls,
        coordinator->rpc ? rpc_server_running(coordinator->rpc) : 0);
    put(&coordinator->counters.calls, service->count);
    put(&coordinator->counters.streams, service->streams);
    put(&coordinator->counters.items, service->items);
    put(&coordinator->counters.stream_bytes, service->stream_bytes);
    put(&coordinator->counters.queries, backend->queries);
    put(&coordinator->counters.builds, label_builds_count(backend->builds));
    put(&coordinator->counters.jobs, compute_running(backend->compute));
    put(&coordinator->counters.requests, fanout_waiting(backend->fanout));
}

static enum status turn(struct coordinator *coordinator)
{
    struct backend *backend = &coordinator->backend;
    struct pollfd fds[FDS_MAX] = {
        {.fd = compute_fd(backend->compute), .events = POLLIN},
        {.fd = local_calls_fd(coordinator->local), .events = POLLIN},
        {.fd = clerk_fd(backend->clerk), .events = POLLIN},
    };
    size_t count = 3;
    if (coordinator->rpc)
        fds[count++] = (struct pollfd){.fd = rpc_server_fd(coordinator->rpc), .events = POLLIN};
    enum status status = fanout_poll(backend->fanout, fds, count, next_turn_us(coordinator));
    timers_fire(&backend->timers, clock_now_us());
    compute_collect(backend->compute);
    clerk_collect(backend->clerk);
    local_calls_handle(coordinator->local, &coordinator->service, coordinator->is_stopping);
    handle_rpc_events(coordinator);
    local_calls_check_nodes(coordinator->local, backend->fanout);
    publish_counters(coordinator);
    count_refusals(coordinator);
    side_port_turn(coordinator->side, backend->fanout);
    return status;
}

static void ignore_reply(void *context, const struct fanout_reply *reply)
{
    (void)context;
    (void)reply;
}

static void ignore_end(void *context)
{
    (void)context;
}

static enum status connect_nodes(struct coordinator *coordinator)
{
    const struct coordinator_params *params = coordinator->params;
    struct fanout_node nodes[NODES_MAX] = {{0}};
    for (size_t i = 0; i < params->node_count; i++)
        nodes[i] =
            (struct fanout_node){params->nodes[i].query_endpoint, params->nodes[i].bulk_endpoint};
    struct fanout_params fanout = {.bus = params->bus,
                                   .nodes = nodes,
                                   .count = params->node_count,
                                   .are_threads = params->nodes_are_threads,
                                   .telemetry = coordinator->backend.telemetry};
    enum status status = fanout_create(&fanout, &coordinator->backend.fanout, &coordinator->why);
    const struct fanout_handler nobody = {ignore_reply, ignore_end, NULL};
    if (status == STATUS_OK)
        fanout_ask_begin(&coordinator->backend.farewells, coordinator->backend.fanout, &nobody);
    return status;
}

static void body(struct thread *self, void *context)
{
    struct coordinator *coordinator = context;
    enum status status = connect_nodes(coordinator);
    if (status == STATUS_OK && coordinator->rpc)
        rpc_server_set_serving(coordinator->rpc, true);
    thread_ready(self, status);
    if (status != STATUS_OK)
        return;

    while (!stop_step(coordinator)) {
        if (turn(coordinator) != STATUS_OK)
            log_error("poll_failed", "status=%s", "io"); // and tried again
    }
    fanout_ask_cancel(&coordinator->backend.farewells);
    fanout_destroy(&coordinator->backend.fanout);
}

// ---------------------------------------------------------------- start and stop

static enum status start_rpc(struct coordinator *coordinator, const char *address,
                             struct reason *why)
{
    struct rpc_method methods[API_METHOD_COUNT];
    for (size_t i = 0; i < API_METHOD_COUNT; i++) {
        const struct api_method_info *info = api_method_info((enum api_method)i);
        methods[i] = (struct rpc_method){info->path, info->client_streams, info->server_streams};
    }
    struct rpc_server_params params = {
        .address = address,
        .field = "--listen",
        .methods = methods,
        .method_count = API_METHOD_COUNT,
        .descriptor_set = api_descriptor_set(),
        .limits = coordinator->params->limits,
        .tls = coordinator->params->tls,
    };
    return rpc_server_start(&params, &coordinator->rpc, why);
}

static void free_parts(struct coordinator *coordinator)
{
    struct backend *backend = &coordinator->backend;
    side_port_destroy(&coordinator->side);
    rpc_server_stop(&coordinator->rpc);
    label_builds_destroy(&backend->builds);
    labels_destroy(&backend->labels);
    ledger_destroy(&backend->ledger);
    meta_close(&backend->meta);
    compute_stop(&backend->compute);
    fusion_head_close(&backend->head);
    clerk_stop(&backend->clerk);
    local_calls_destroy(&coordinator->local);
    telemetry_destroy(&backend->telemetry);
    mem_free(coordinator);
}

static enum status open_head(struct coordinator *coordinator, struct reason *why)
{
    const struct coordinator_params *params = coordinator->params;
    struct backend *backend = &coordinator->backend;
    const struct trained_head_params head = {.file = params->head,
                                             .model = params->clip.directory,
                                             .data = params->data_directory,
                                             .space = backend->clip->space,
                                             .threads = (uint32_t)params->clip.threads};
    enum status status = trained_head_open(&head, &backend->head, coordinator->head_file, why);
    backend->head_file = coordinator->head_file;
    if (status != STATUS_OK || !backend->head || fusion_head_info(backend->head)->gate.bytes == 0)
        return status;
    backend->gate = &coordinator->gate;
    return fusion_gate_parse(fusion_head_info(backend->head)->gate, &coordinator->gate, why);
}

static enum status start_clerk(struct coordinator *coordinator, struct reason *why)
{
    const struct coordinator_params *params = coordinator->params;
    int bytes = 0;
    if (params->snapshots)
        bytes = snprintf(coordinator->snapshots, PATH_BYTES, "%s", params->snapshots);
    else if (params->data_directory)
        bytes =
            snprintf(coordinator->snapshots, PATH_BYTES, "%s/snapshots", params->data_directory);
    if (bytes >= PATH_BYTES)
        return reason_set(why, STATUS_INVALID, "snapshots", "the path is too long");
    coordinator->backend.snapshots = coordinator->snapshots;
    const enum status status = clerk_start(&coordinator->backend.clerk);
    if (status == STATUS_OK)
        return STATUS_OK;
    return reason_set(why, status, NULL, "the thread for files cannot start");
}

enum status coordinator_start(const struct coordinator_params *params, struct coordinator **out,
                              struct reason *why)
{
    assert(params && out);
    assert(params->nodes || params->node_count == 0);
    if (params->node_count > NODES_MAX)
        return reason_set(why, STATUS_INVALID, "nodes", "%zu nodes; at most %d", params->node_count,
                          NODES_MAX);

    struct coordinator *coordinator = mem_alloc(sizeof(*coordinator));
    struct backend *backend = &coordinator->backend;
    coordinator->params = params;
    coordinator->local = local_calls_create();
    atomic_init(&coordinator->default_deadline_us, params->deadline_us);
    backend->ledger = ledger_create();
    backend->approx = params->approx;
    const struct service_limits limits = {params->streams, params->stream_items};
    backend->telemetry = telemetry_create((uint32_t)params->node_count, RECO_VERSION);
    coordinator->side = side_port_create(coordinator, backend->telemetry);
    service_init(&coordinator->service, backend, &limits);
    enum status status = STATUS_OK;
    if (!coordinator->local)
        status = reason_set(why, STATUS_EXHAUSTED, NULL, "no file descriptor is left");
    if (status == STATUS_OK)
        status = meta_open(params->data_directory, &backend->meta, why);
    if (status == STATUS_OK)
        status = start_clerk(coordinator, why);
    const struct encoder_params encoder = {
        .clip = params->clip, .process = params->encoder, .telemetry = backend->telemetry};
    if (status == STATUS_OK)
        status = compute_start(&encoder, &backend->compute, why);
    if (status == STATUS_OK) {
        backend->clip = compute_info(backend->compute);
        backend->labels = labels_create(LABELS_CACHE_BYTES);
        backend->builds = label_builds_create(backend);
        status = open_head(coordinator, why);
    }
    if (status == STATUS_OK && params->listen)
        status = start_rpc(coordinator, params->listen, why);
    if (status == STATUS_OK) {
        status = thread_start("reco-loop", body, coordinator, &coordinator->thread);
        if (status != STATUS_OK && why)
            *why = coordinator->why;
    }
    coordinator->params = NULL;
    if (status != STATUS_OK) {
        free_parts(coordinator);
        return status;
    }
    status = params->http ? side_port_listen(coordinator->side, params->http, why) : STATUS_OK;
    if (status != STATUS_OK) {
        coordinator_stop(&coordinator, 0);
        return status;
    }
    log_info("coordinator_started", "model=%s dimension=%u head=%s nodes=%zu port=%d",
             backend->clip->name, backend->clip->dimension,
             log_quote(backend->head ? backend->head_file : "none", (char[LOG_QUOTE_BYTES]){0}),
             params->node_count, coordinator_port(coordinator));
    *out = coordinator;
    return STATUS_OK;
}

void coordinator_stop(struct coordinator **coordinator, int64_t grace_us)
{
    assert(coordinator);

    struct coordinator *stopped = *coordinator;
    if (!stopped)
        return;
    stopped->grace_us = grace_us;
    atomic_store_explicit(&stopped->stop, true, memory_order_release);
    local_calls_wake(stopped->local);
    thread_join(&stopped->thread);
    free_parts(stopped);
    *coordinator = NULL;
}

void coordinator_set_limits(struct coordinator *coordinator, const struct rpc_limits *limits,
                            int64_t deadline_us)
{
    assert(coordinator && limits);

    if (coordinator->rpc)
        rpc_server_set_limits(coordinator->rpc, limits);
    atomic_store_explicit(&coordinator->default_deadline_us, deadline_us, memory_order_relaxed);
}

int coordinator_port(const struct coordinator *coordinator)
{
    assert(coordinator);

    return coordinator->rpc ? rpc_server_port(coordinator->rpc) : 0;
}

int coordinator_http_port(const struct coordinator *coordinator)
{
    assert(coordinator);

    return side_port_port(coordinator->side);
}

const struct clip_info *coordinator_clip_info(const struct coordinator *coordinator)
{
    assert(coordinator);

    return coordinator->backend.clip;
}

void coordinator_counters(const struct coordinator *coordinator, struct coordinator_counters *out)
{
    assert(coordinator && out);

    *out = (struct coordinator_counters){
        .rpc_calls = get(&coordinator->counters.rpc_calls),
        .calls = get(&coordinator->counters.calls),
        .streams = get(&coordinator->counters.streams),
        .items = get(&coordinator->counters.items),
        .stream_bytes = get(&coordinator->counters.stream_bytes),
        .queries = get(&coordinator->counters.queries),
        .builds = get(&coordinator->counters.builds),
        .jobs = get(&coordinator->counters.jobs),
        .requests = get(&coordinator->counters.requests),
        .arena_bytes = arena_held_bytes(),
    };
}

enum status coordinator_wait_nodes(struct coordinator *coordinator, int64_t deadline_us)
{
    assert(coordinator);

    return local_call_wait_nodes(coordinator->local, deadline_us);
}

// ---------------------------------------------------------------- calls of this process

enum status coordinator_call(struct coordinator *coordinator, enum api_method method,
                             struct bytes request, int64_t deadline_us, struct buffer *reply,
                             struct reason *why)
{
    struct coordinator_request call = {
        .method = method, .message = request, .deadline_us = deadline_us};
    return coordinator_call_as(coordinator, &call, reply, why);
}

enum status coordinator_call_as(struct coordinator *coordinator,
                                const struct coordinator_request *request, struct buffer *reply,
                                struct reason *why)
{
    assert(coordinator && request && reply);

    const struct api_method_info *info = api_method_info(request->method);
    if (info->client_streams || info->server_streams)
        return reason_set(why, STATUS_INVALID, NULL, "%s is a stream", info->path);
    struct local_request local = {
        .method = request->method,
        .message = request->message,
        .deadline_us = request->deadline_us,
        .trace = request->trace,
        .is_gone = request->is_gone,
        .context = request->context,
    };
    return local_call_unary(coordinator->local, &local, reply, why);
}

// A stream is a local call under another name.
struct coordinator_stream {
    struct local_call *call;
};

enum status coordinator_stream_open(struct coordinator *coordinator, enum api_method method,
                                    struct coordinator_stream **out, struct reason *why)
{
    assert(coordinator && out);

    const struct api_method_info *info = api_method_info(method);
    if (!info->client_streams && !info->server_streams)
        return reason_set(why, STATUS_INVALID, NULL, "%s is no stream", info->path);
    struct local_request local = {.method = method, .deadline_us = DEADLINE_NONE};
    struct local_call *call = NULL;
    enum status status = local_call_open(coordinator->local, &local, &call, why);
    if (status != STATUS_OK)
        return status;
    struct coordinator_stream *stream = mem_alloc(sizeof(*stream));
    stream->call = call;
    *out = stream;
    return STATUS_OK;
}

enum status coordinator_stream_send(struct coordinator_stream *stream, struct bytes message)
{
    assert(stream);

    return local_call_send(stream->call, message);
}

void coordinator_stream_close(struct coordinator_stream *stream)
{
    assert(stream);

    local_call_close(stream->call);
}

enum status coordinator_stream_receive(struct coordinator_stream *stream, struct buffer *message,
                                       bool *ended)
{
    assert(stream && message && ended);

    return local_call_receive(stream->call, message, ended);
}

enum status coordinator_stream_finish(struct coordinator_stream **stream, struct buffer *reply,
                                      struct reason *why)
{
    assert(stream && *stream);

    enum status status = local_call_finish(&(*stream)->call, reply, why);
    mem_free(*stream);
    *stream = NULL;
    return status;
}
