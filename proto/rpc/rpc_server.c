// SPDX-License-Identifier: Apache-2.0
// How it works: a fixed pool of call objects, of which RPC_ARMED per method wait inside gRPC for a
// client. A poller blocks on its completion queue and pushes each tag that comes back; the owner
// pops it in rpc_server_next(), moves that call's state machine (rpc_call.c) and starts what
// comes next. When a method's call is taken, another is armed at once; when the pool is
// empty, further clients wait inside gRPC until an object is free again.
//
// One row is for every path that nobody registered: without it gRPC leaves such a client hanging
// until its deadline.

#include "proto/rpc/rpc_server.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/time.h>

#include "proto/base/address.h"
#include "proto/base/clock.h"
#include "proto/base/listener.h"
#include "proto/base/mem.h"
#include "proto/rpc/rpc_accept.h"
#include "proto/rpc/rpc_internal.h"

// gRPC's buffers for all clients together. gRPC collects a whole message before it compares its
// length with the limit, so this is what bounds a client that sends without end (measured: one
// message of 1.5 GB cost the server 0.55 GB, and the client got an error).
#define METADATA_ENTRY_BYTES 32 // what RFC 7541 adds to each entry
#define KEEPALIVE_MS 30000      // a silent client is asked whether it lives
#define KEEPALIVE_TIMEOUT_MS 10000
#define PING_INTERVAL_MIN_MS 10000 // clients that ping more often are cut off
#define IDLE_MS 600000    // a connection without calls; with one it may last: an ingest takes hours
#define HANDSHAKE_MS 5000 // until a connection speaks HTTP/2
#define STOP_GRACE_US 1000000 // for the last answers to leave
#define STEPS_MAX 256         // completions handled in one rpc_server_next()

static const struct {
    struct rpc_method method;
    enum rpc_row_kind kind;
} inner_methods[] = {
    {{"/grpc.health.v1.Health/Check", false, false}, RPC_ROW_HEALTH_CHECK},
    {{"/grpc.health.v1.Health/Watch", false, true}, RPC_ROW_HEALTH_WATCH},
    {{"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", true, true},
     RPC_ROW_REFLECTION},
    {{"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", true, true}, RPC_ROW_REFLECTION},
};

// --- pollers

static void poll_completions(struct thread *self, void *context)
{
    const struct rpc_poller *poller = context;
    thread_ready(self, STATUS_OK);

    for (;;) {
        grpc_event event =
            grpc_completion_queue_next(poller->queue, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
        if (event.type == GRPC_QUEUE_SHUTDOWN)
            return;

        struct rpc_tag *tag = event.tag;
        tag->success = event.success != 0;
        enum status status = queue_push(poller->server->events, tag);
        assert(status == STATUS_OK); // it has room for every tag there is
        (void)status;
    }
}

// --- arming and freeing calls

// Lets a free call wait for a client of this row.
static void arm(struct rpc_server *server, size_t at)
{
    struct rpc_call *call = server->free_calls;
    struct rpc_row *row = &server->rows[at];
    assert(call && call->state == RPC_CALL_FREE);

    server->free_calls = call->next_free;
    server->free_count--;
    row->armed++;
    call->state = RPC_CALL_ARMED;
    call->row = at;
    call->under_way = 1u << RPC_TAG_REQUEST;
    grpc_metadata_array_init(&call->metadata);

    grpc_completion_queue *queue = server->pollers[server->next_poller].queue;
    server->next_poller = (server->next_poller + 1) % RPC_POLLERS;
    void *tag = &call->tags[RPC_TAG_REQUEST];
    grpc_call_error error;
    if (row->kind == RPC_ROW_UNKNOWN) {
        grpc_call_details_init(&call->details);
        error = grpc_server_request_call(server->grpc, &call->grpc, &call->details, &call->metadata,
                                         queue, queue, tag);
    } else {
        error = grpc_server_request_registered_call(
            server->grpc, row->registered, &call->grpc, &call->grpc_deadline, &call->metadata,
            row->client_streams ? NULL : &call->received, queue, queue, tag);
    }
    assert(error == GRPC_CALL_OK);
    (void)error;
}

// Arms what is short of calls, the row with the fewest first, as long as there are free ones.
static void arm_all(struct rpc_server *server)
{
    while (!server->stopping && server->free_calls) {
        size_t poorest = 0;
        for (size_t i = 1; i < server->row_count; i++)
            if (server->rows[i].armed < server->rows[poorest].armed)
                poorest = i;
        if (server->rows[poorest].armed >= RPC_ARMED)
            return;
        arm(server, poorest);
    }
}

// Puts a blank call on the free list.
static void put_free(struct rpc_server *server, struct rpc_call *call)
{
    *call = (struct rpc_call){.server = server, .next_free = server->free_calls};
    for (int i = 0; i < RPC_TAG_COUNT; i++)
        call->tags[i] = (struct rpc_tag){.kind = (enum rpc_tag_kind)i, .call = call};
    server->free_calls = call;
    server->free_count++;
}

void rpc_server_release(struct rpc_call *call)
{
    assert(call && call->state != RPC_CALL_FREE && call->under_way == 0);
    assert(!call->sent);

    struct rpc_server *server = call->server;
    if (call->counted)
        server->inner--;
    rpc_call_drop_message(call);
    if (call->received)
        grpc_byte_buffer_destroy(call->received);
    grpc_metadata_array_destroy(&call->metadata);
    if (server->rows[call->row].kind == RPC_ROW_UNKNOWN)
        grpc_call_details_destroy(&call->details);
    if (call->grpc)
        grpc_call_unref(call->grpc);

    put_free(server, call);
    arm_all(server);
}

// --- a new call

// Reads deadline and request id. STATUS_INVALID when the id is none; STATUS_EXHAUSTED when there is
// too much: gRPC holds only those clients to its limit that have confirmed it.
static enum status read_metadata(struct rpc_call *call, struct reason *why)
{
    size_t bytes = 0;
    for (size_t i = 0; i < call->metadata.count; i++)
        bytes += GRPC_SLICE_LENGTH(call->metadata.metadata[i].key) +
                 GRPC_SLICE_LENGTH(call->metadata.metadata[i].value) + METADATA_ENTRY_BYTES;
    if (bytes > RPC_METADATA_BYTES_MAX)
        return reason_set(why, STATUS_EXHAUSTED, NULL,
                          "the metadata has %zu bytes; at most %d are allowed", bytes,
                          RPC_METADATA_BYTES_MAX);

    bool unknown = call->server->rows[call->row].kind == RPC_ROW_UNKNOWN;
    call->deadline_us =
        rpc_core_deadline_us(unknown ? call->details.deadline : call->grpc_deadline);

    // One that is there twice is none.
    struct bytes parent = {NULL, 0};
    if (rpc_core_metadata(&call->metadata, TRACE_KEY, &parent) != 1)
        parent = (struct bytes){NULL, 0};
    (void)trace_begin(&call->trace, (struct text){(const char *)parent.data, parent.count});

    struct bytes id;
    if (rpc_core_metadata(&call->metadata, RPC_REQUEST_ID_KEY, &id) == 0)
        return STATUS_OK;
    if (!rpc_core_is_request_id((struct text){(const char *)id.data, id.count}))
        return reason_set(why, STATUS_INVALID, RPC_REQUEST_ID_KEY,
                          "an id of %zu bytes; allowed are 1..%d printable ASCII bytes without "
                          "spaces",
                          id.count, REQUEST_ID_BYTES_MAX);
    (void)trace_set_id(&call->trace, (struct text){(const char *)id.data, id.count});
    return STATUS_OK;
}

// Whether the call can be taken: STATUS_OK, or what to tell the client.
static enum status admit(struct rpc_call *call, struct reason *why)
{
    struct rpc_server *server = call->server;
    enum rpc_row_kind kind = server->rows[call->row].kind;

    if (kind == RPC_ROW_UNKNOWN)
        return reason_set(why, STATUS_UNSUPPORTED, NULL, "there is no method %.*s",
                          (int)GRPC_SLICE_LENGTH(call->details.method),
                          (const char *)GRPC_SLICE_START_PTR(call->details.method));
    if (server->stopping)
        return reason_set(why, STATUS_UNAVAILABLE, NULL, "the server is stopping");
    if (server->tls && kind != RPC_ROW_HEALTH_CHECK && kind != RPC_ROW_HEALTH_WATCH) {
        enum status status = rpc_tls_admit(server->tls, call->grpc, why);
        if (status != STATUS_OK)
            return status;
    }
    if (kind == RPC_ROW_HEALTH_WATCH || kind == RPC_ROW_REFLECTION) {
        if (server->inner >= RPC_INNER_MAX)
            return reason_set(why, STATUS_EXHAUSTED, NULL,
                              "%d health and reflection streams are open, the most there may be",
                              RPC_INNER_MAX);
    } else if (kind == RPC_ROW_HEALTH_CHECK) {
        // Always: it ends at once.
    } else if (!server->serving) {
        return reason_set(why, STATUS_UNAVAILABLE, NULL, "the server takes no new calls");
    } else if (server->running >= atomic_load(&server->calls_max)) {
        server->refusals.calls++;
        return reason_set(why, STATUS_EXHAUSTED, NULL,
                          "%zu calls are running, the most there may be",
                          atomic_load(&server->calls_max));
    }
    if (!server->rows[call->row].client_streams && !call->received)
        return reason_set(why, STATUS_INVALID, NULL, "the call came without a message");
    return STATUS_OK;
}

// Hands an inner call to its service.
static void serve_inner(struct rpc_call *call, enum rpc_row_kind kind)
{
    if (kind == RPC_ROW_HEALTH_CHECK) {
        rpc_health_check(call);
        return;
    }
    call->counted = true;
    call->server->inner++;
    if (kind == RPC_ROW_HEALTH_WATCH)
        rpc_health_watch(call);
    else
        rpc_call_read(call); // reflection
}

static bool take_request(struct rpc_call *call, bool success, struct rpc_event *event)
{
    struct rpc_server *server = call->server;
    struct rpc_row *row = &server->rows[call->row];
    row->armed--;
    if (!success) { // the server shuts down
        rpc_server_release(call);
        return false;
    }

    rpc_call_open(call);
    arm_all(server);

    struct reason why = {.field = ""};
    enum status status = read_metadata(call, &why);
    if (status == STATUS_OK)
        status = admit(call, &why);
    if (status == STATUS_OK && call->received)
        status = rpc_call_take_message(call, &why);

    call->inner = status != STATUS_OK || row->kind != RPC_ROW_OWNER;
    if (status != STATUS_OK) {
        rpc_call_answer(call, status, NULL, &why);
        return false;
    }
    if (call->inner) {
        serve_inner(call, row->kind);
        return false;
    }
    server->running++;
    *event = (struct rpc_event){.kind = RPC_CALL, .call = call, .message = call->message.bytes};
    return true;
}

// --- the owner's loop

// Handles one completion; whether *event has been filled.
static bool step(struct rpc_server *server, const struct rpc_tag *tag, struct rpc_event *event)
{
    struct rpc_call *call = tag->call;
    if (call)
        call->under_way &= ~(1u << tag->kind);

    switch (tag->kind) {
    case RPC_TAG_REQUEST:
        return take_request(call, tag->success, event);
    case RPC_TAG_CLOSE:
        return rpc_call_closed(call, event);
    case RPC_TAG_READ:
        return rpc_call_has_read(call, tag->success, event);
    case RPC_TAG_SEND:
        return rpc_call_has_sent(call, tag->success, event);
    case RPC_TAG_FINISH:
        return rpc_call_has_finished(call, event);
    case RPC_TAG_SHUTDOWN:
        server->is_shut = true;
        return false;
    case RPC_TAG_COUNT:
        break;
    }
    assert(false); // a tag of no kind
    return false;
}

static void release_done(struct rpc_server *server)
{
    struct rpc_call *done = server->done;
    server->done = NULL;
    if (done)
        rpc_server_release(done);
}

bool rpc_server_next(struct rpc_server *server, struct rpc_event *event)
{
    assert(server);
    assert(event);

    release_done(server);
    for (int i = 0; i < STEPS_MAX; i++) {
        const struct rpc_tag *tag = queue_try_pop(server->events);
        if (!tag)
            return false;
        if (step(server, tag, event))
            return true;
    }
    return false; // the descriptor stays readable
}

int rpc_server_fd(const struct rpc_server *server)
{
    assert(server);
    return queue_fd(server->events);
}

int rpc_server_port(const struct rpc_server *server)
{
    assert(server);
    return server->port;
}

struct rpc_refusals rpc_server_refusals(const struct rpc_server *server)
{
    assert(server);
    return server->refusals;
}

size_t rpc_server_running(const struct rpc_server *server)
{
    assert(server);
    return server->running;
}

void rpc_server_set_serving(struct rpc_server *server, bool serving)
{
    assert(server);

    server->serving = serving;
    for (size_t i = 0; i < server->call_count; i++) {
        struct rpc_call *call = &server->calls[i];
        if (call->state == RPC_CALL_OPEN && call->watching && !call->cancelled)
            rpc_health_update(call);
    }
}

// --- starting

// Adds the service of "/service/method" to the list, once.
static void add_service(struct rpc_server *server, const char *path)
{
    const char *end = strchr(path + 1, '/');
    assert(path[0] == '/' && end);

    char *name = mem_copy_text(path + 1);
    name[end - path - 1] = '\0';
    for (size_t i = 0; i < server->service_count; i++) {
        if (strcmp(server->services[i], name) == 0) {
            mem_free(name);
            return;
        }
    }
    server->services[server->service_count++] = name;
}

// Tells gRPC of a method; false when there is one of that path already.
static bool add_row(struct rpc_server *server, const struct rpc_method *method,
                    enum rpc_row_kind kind)
{
    struct rpc_row *row = &server->rows[server->row_count++];
    row->kind = kind;
    row->client_streams = method->client_streams;
    row->server_streams = method->server_streams;
    add_service(server, method->path);
    row->registered = grpc_server_register_method(
        server->grpc, method->path, NULL,
        row->client_streams ? GRPC_SRM_PAYLOAD_NONE : GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER, 0);
    return row->registered != NULL;
}

static enum status add_rows(struct rpc_server *server, const struct rpc_server_params *params,
                            struct reason *why)
{
    for (size_t i = 0; i < params->method_count; i++) {
        const struct rpc_method *method = &params->methods[i];
        if (!add_row(server, method, RPC_ROW_OWNER))
            return reason_set(why, STATUS_INVALID, "methods", "%s is there twice", method->path);
    }
    server->method_count = params->method_count;

    for (size_t i = 0; i < sizeof(inner_methods) / sizeof(inner_methods[0]); i++)
        if (!add_row(server, &inner_methods[i].method, inner_methods[i].kind))
            return reason_set(why, STATUS_INVALID, "methods", "health and reflection are built in");

    server->rows[server->row_count++] =
        (struct rpc_row){.kind = RPC_ROW_UNKNOWN, .client_streams = true};
    return STATUS_OK;
}

static void create_grpc(struct rpc_server *server)
{
    server->quota = grpc_resource_quota_create("reco");
    grpc_arg list[] = {
        rpc_core_arg(GRPC_ARG_ALLOW_REUSEPORT,
                     0), // else two servers share a port without any error
        rpc_core_arg(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, (int)MESSAGE_BYTES_MAX),
        rpc_core_arg(GRPC_ARG_MAX_METADATA_SIZE, RPC_METADATA_BYTES_MAX),
        rpc_core_arg(GRPC_ARG_MAX_CONCURRENT_STREAMS, RPC_CALLS_MAX), // of one connection
        rpc_core_arg(GRPC_ARG_KEEPALIVE_TIME_MS, KEEPALIVE_MS),
        rpc_core_arg(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, KEEPALIVE_TIMEOUT_MS),
        rpc_core_arg(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1),
        rpc_core_arg(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0), // the server's own: no limit
        rpc_core_arg(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, PING_INTERVAL_MIN_MS),
        rpc_core_arg(GRPC_ARG_MAX_CONNECTION_IDLE_MS, IDLE_MS),
        rpc_core_arg(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, HANDSHAKE_MS),
        // A compressed message could unfold to any size: only identity is accepted.
        rpc_core_arg(GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET, 1 << GRPC_COMPRESS_NONE),
        rpc_core_arg(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0),
        rpc_core_arg(GRPC_ARG_ENABLE_CHANNELZ, 0),
        rpc_core_arg(GRPC_ARG_RESOURCE_QUOTA, 0), // replaced below
    };
    grpc_channel_args args = {sizeof(list) / sizeof(list[0]), list};
    grpc_arg *last = &list[args.num_args - 1];
    last->type = GRPC_ARG_POINTER;
    last->value.pointer.p = server->quota;
    last->value.pointer.vtable = grpc_resource_quota_arg_vtable();

    server->grpc = grpc_server_create(&args, NULL);
}

static size_t given_or(size_t given, size_t otherwise)
{
    return given ? given : otherwise;
}

void rpc_server_set_limits(struct rpc_server *server, const struct rpc_limits *limits)
{
    assert(server && limits);

    atomic_store(&server->calls_max, given_or(limits->calls, RPC_CALLS_MAX));
    atomic_store(&server->message_bytes_max, given_or(limits->message_bytes, MESSAGE_BYTES_MAX));
    const size_t memory = given_or(limits->memory_bytes, CALL_MEMORY_DEFAULT);
    atomic_store(&server->held_bytes_max, memory / 2);
    grpc_resource_quota_resize(server->quota, memory);
}

static enum status start_pollers(struct rpc_server *server)
{
    enum status status = STATUS_OK;
    for (int i = 0; i < RPC_POLLERS && status == STATUS_OK; i++) {
        struct rpc_poller *poller = &server->pollers[i];
        char name[16];
        (void)snprintf(name, sizeof(name), "rpc-poll-%d", i);
        poller->server = server;
        poller->queue = grpc_completion_queue_create_for_next(NULL);
        status = thread_start(name, poll_completions, poller, &poller->thread);
    }
    return status;
}

static size_t calls_for(size_t rows)
{
    return rows * RPC_ARMED + RPC_CALLS_MAX + RPC_INNER_MAX + RPC_SPARE_CALLS;
}

static void create_calls(struct rpc_server *server)
{
    server->call_count = calls_for(server->row_count);
    server->calls = mem_alloc_array(server->call_count, sizeof(*server->calls));
    for (size_t i = server->call_count; i > 0; i--)
        put_free(server, &server->calls[i - 1]);
}

static enum status listen_at(struct rpc_server *server, const struct rpc_server_params *params,
                             const struct address *address, struct reason *why)
{
    rpc_accept_prepare();
    grpc_server_credentials *credentials =
        server->tls ? rpc_tls_credentials(server->tls) : grpc_insecure_server_credentials_create();
    server->port = grpc_server_add_http2_port(server->grpc, params->address, credentials);
    grpc_server_credentials_release(credentials);
    if (server->port == 0)
        return address_not_bound(address, params->field, why);
    return STATUS_OK;
}

// --- stopping

// Handles completions until every call is free and gRPC has shut down, or the deadline.
static void drain(struct rpc_server *server, int64_t deadline_us)
{
    while (server->free_count < server->call_count || !server->is_shut) {
        const struct rpc_tag *tag = queue_pop(server->events, deadline_us);
        if (!tag)
            return;
        struct rpc_event event; // DONE at most, since every call has been answered
        (void)step(server, tag, &event);
        release_done(server);
    }
}

static void shut_down(struct rpc_server *server)
{
    server->stopping = true;
    release_done(server);
    for (size_t i = 0; i < server->call_count; i++)
        rpc_call_abandon(&server->calls[i]);

    server->shutdown_tag = (struct rpc_tag){.kind = RPC_TAG_SHUTDOWN};
    grpc_server_shutdown_and_notify(server->grpc, server->pollers[0].queue, &server->shutdown_tag);
    drain(server, clock_deadline_in_us(STOP_GRACE_US));
    if (server->free_count < server->call_count || !server->is_shut) {
        grpc_server_cancel_all_calls(server->grpc);
        drain(server, DEADLINE_NONE);
    }
    grpc_server_destroy(server->grpc);
}

// Ends a server in any state of starting.
static void destroy(struct rpc_server *server)
{
    if (server->grpc)
        shut_down(server);
    for (int i = 0; i < RPC_POLLERS; i++) {
        struct rpc_poller *poller = &server->pollers[i];
        if (!poller->queue)
            continue;
        grpc_completion_queue_shutdown(poller->queue);
        bool polled = poller->thread != NULL;
        thread_join(&poller->thread);
        while (!polled &&
               grpc_completion_queue_next(poller->queue, gpr_inf_future(GPR_CLOCK_REALTIME), NULL)
                       .type != GRPC_QUEUE_SHUTDOWN)
            continue;
        grpc_completion_queue_destroy(poller->queue);
    }

    if (server->quota)
        grpc_resource_quota_unref(server->quota);
    if (server->events)
        queue_destroy(&server->events);
    descriptor_index_destroy(&server->descriptors);
    for (size_t i = 0; i < server->service_count; i++)
        mem_free(server->services[i]);
    mem_free(server->calls);
    mem_free(server);
    rpc_core_end();
}

// --- life

enum status rpc_server_start(const struct rpc_server_params *params, struct rpc_server **out,
                             struct reason *why)
{
    assert(params && params->address && params->field);
    assert(params->method_count <= RPC_METHODS_MAX);
    assert(out);

    struct address address;
    enum status status = address_parse(params->address, params->field, &address, why);
    if (status != STATUS_OK)
        return status;
    const struct listener listener = {
        .field = params->field,
        .address = params->address,
        .loopback = address.loopback,
        .encrypted = params->tls != NULL,
        .authenticated = params->tls && rpc_tls_knows_clients(params->tls),
        .way_out = "or set [tls] certificate, key and client_ca",
    };
    status = listener_check(&listener, why);
    if (status != STATUS_OK)
        return status;

    rpc_core_begin();
    struct rpc_server *server = mem_alloc(sizeof(*server));
    server->serving = true;
    server->tls = params->tls;
    const struct bytes sets[] = {params->descriptor_set, rpc_msg_descriptor_set()};
    status =
        descriptor_index_create(sets, sizeof(sets) / sizeof(sets[0]), &server->descriptors, why);
    if (status == STATUS_OK) {
        size_t calls = calls_for(params->method_count + RPC_INNER_METHODS);
        server->events = queue_create(calls * RPC_TAG_COUNT + 1, true);
        status = server->events ? start_pollers(server) : STATUS_EXHAUSTED;
        if (status != STATUS_OK)
            (void)reason_set(why, status, NULL,
                             "the system has no file descriptor or thread left for a server");
    }
    if (status == STATUS_OK) {
        create_grpc(server);
        rpc_server_set_limits(server, &params->limits);
        for (int i = 0; i < RPC_POLLERS; i++)
            grpc_server_register_completion_queue(server->grpc, server->pollers[i].queue, NULL);
        status = add_rows(server, params, why);
    }
    if (status == STATUS_OK)
        status = listen_at(server, params, &address, why);
    if (status != STATUS_OK) {
        destroy(server);
        return status;
    }

    create_calls(server);
    grpc_server_start(server->grpc);
    arm_all(server);
    *out = server;
    return STATUS_OK;
}

void rpc_server_stop(struct rpc_server **server)
{
    assert(server);

    if (*server)
        destroy(*server);
    *server = NULL;
}
