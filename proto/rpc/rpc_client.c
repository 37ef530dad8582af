// SPDX-License-Identifier: Apache-2.0
// Each call is an exchange: its gRPC object and what comes back. Everything that comes back once is
// asked for in one batch at the start, so the server's reason arrives however the
// sending goes. The thread that calls waits on the client's own completion queue by tag.
//
//   unary          RECEIVE{SEND_INITIAL, SEND_MESSAGE, SEND_CLOSE, all RECV} -> wait -> result
//   client stream  RECEIVE{SEND_INITIAL, all RECV}; SEND{SEND_MESSAGE} -> wait, ...;
//                  SEND{SEND_CLOSE} -> wait; wait for RECEIVE -> result
//   server stream  the same without RECV_MESSAGE in RECEIVE; MESSAGE{RECV_MESSAGE} -> wait, ...
//
// gRPC gives RECEIVE back only after every message has been read, so a stream that is finished
// before its end is cancelled first.
//
// Proxies of the environment are not used.

#include "proto/rpc/rpc_client.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/time.h>

#include "proto/base/address.h"
#include "proto/base/arena.h"
#include "proto/base/clock.h"
#include "proto/base/limits.h"
#include "proto/base/mem.h"
#include "proto/base/system_error.h"
#include "proto/base/trace.h"
#include "proto/rpc/rpc_core.h"
#include "proto/rpc/rpc_server.h"
#include "proto/wire/rpc/rpc_msg.h"

#define CONNECT_MS 5000          // one attempt to connect
#define BACKOFF_MIN_MS 100       // until the next one, growing
#define BACKOFF_MAX_MS 1000      //
#define CONNECT_STEP_US 50000    // an interrupt is seen within
#define SECOND_ATTEMPT_US 250000 // after the first has failed
#define KEEPALIVE_MS 30000       // a server that is silent during a call is asked whether it lives
#define KEEPALIVE_TIMEOUT_MS 20000
#define OPS_MAX 6

static const char *const health_path = "/grpc.health.v1.Health/Check";

struct rpc_client {
    char *address;
    grpc_channel *channel;
    grpc_completion_queue *queue;
    pthread_mutex_t lock; // protects the rest
    bool busy;            // a call has begun
    grpc_call *waiting;   // what an interrupt cancels; NULL while still connecting
    bool interrupted;     // this call has been
};

struct exchange {
    struct rpc_client *client;
    grpc_call *grpc;
    grpc_metadata_array initial;
    grpc_metadata_array trailing;
    grpc_byte_buffer *sent;
    grpc_byte_buffer *received;
    grpc_status_code code;
    grpc_slice text;
    char receive_tag; // only their addresses matter
    char send_tag;
    char message_tag;
};

struct rpc_stream {
    struct exchange exchange;
    bool failed;         // a send did not go through
    bool closed;         // the client sends no more
    bool server_streams; //
    bool ended;          // the server sends no more
};

// --- client

#define PEM_BYTES_MAX (1u << 20)

// Reads a PEM file into *out; nothing for NULL.
static enum status read_pem(const char *path, const char *field, struct buffer *out,
                            struct reason *why)
{
    if (!path)
        return STATUS_OK;
    enum status status = bytes_read_file(path, PEM_BYTES_MAX, out);
    if (status != STATUS_OK)
        return reason_set(why, STATUS_INVALID, field, "%.200s cannot be read: %s", path,
                          SYSTEM_TROUBLE(status));
    if (!strstr((const char *)out->data, "-----BEGIN "))
        return reason_set(why, STATUS_INVALID, field, "%.200s is not PEM", path);
    return STATUS_OK;
}

static enum status create_credentials(const struct rpc_client_tls *tls,
                                      grpc_channel_credentials **out, struct reason *why)
{
    if (!tls) {
        *out = grpc_insecure_credentials_create();
        return STATUS_OK;
    }
    if (!tls->certificate != !tls->key)
        return reason_set(why, STATUS_INVALID, tls->key ? "--tls-cert" : "--tls-key",
                          "is missing: a client shows a certificate and has its key");
    struct buffer ca = {0};
    struct buffer certificate = {0};
    struct buffer key = {0};
    enum status status = read_pem(tls->ca, "--tls-ca", &ca, why);
    if (status == STATUS_OK)
        status = read_pem(tls->certificate, "--tls-cert", &certificate, why);
    if (status == STATUS_OK)
        status = read_pem(tls->key, "--tls-key", &key, why);
    if (status == STATUS_OK) {
        grpc_ssl_pem_key_cert_pair pair = {(const char *)key.data, (const char *)certificate.data};
        *out =
            grpc_ssl_credentials_create((const char *)ca.data, key.data ? &pair : NULL, NULL, NULL);
    }
    buffer_deinit(&ca);
    buffer_deinit(&certificate);
    if (key.data)
        memset(key.data, 0, key.count);
    buffer_deinit(&key);
    return status;
}

enum status rpc_client_open(const char *address, struct rpc_client **out, struct reason *why)
{
    return rpc_client_open_tls(address, NULL, out, why);
}

enum status rpc_client_open_tls(const char *address, const struct rpc_client_tls *tls,
                                struct rpc_client **out, struct reason *why)
{
    assert(address);
    assert(out);

    struct address read;
    enum status status = address_parse(address, "--server", &read, why);
    if (status != STATUS_OK)
        return status;
    if (read.port == 0)
        return reason_set(why, STATUS_INVALID, "--server", "%s: nobody can listen at port 0",
                          address);

    rpc_core_begin();
    grpc_channel_credentials *credentials = NULL;
    status = create_credentials(tls, &credentials, why);
    if (status != STATUS_OK) {
        rpc_core_end();
        return status;
    }
    grpc_arg list[] = {
        rpc_core_arg(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, (int)MESSAGE_BYTES_MAX),
        rpc_core_arg(GRPC_ARG_MAX_METADATA_SIZE, RPC_METADATA_BYTES_MAX),
        rpc_core_arg(GRPC_ARG_ENABLE_HTTP_PROXY, 0),
        rpc_core_arg(GRPC_ARG_ENABLE_RETRIES, 0),
        rpc_core_arg(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1),
        rpc_core_arg(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1), // a new client tries anew
        rpc_core_arg(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, CONNECT_MS),
        rpc_core_arg(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, BACKOFF_MIN_MS),
        rpc_core_arg(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, BACKOFF_MAX_MS),
        rpc_core_arg(GRPC_ARG_KEEPALIVE_TIME_MS, KEEPALIVE_MS),
        rpc_core_arg(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, KEEPALIVE_TIMEOUT_MS),
        rpc_core_arg(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0),
        rpc_core_arg(GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET, 1 << GRPC_COMPRESS_NONE),
        rpc_core_arg(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0),
        rpc_core_arg(GRPC_ARG_ENABLE_CHANNELZ, 0),
        rpc_core_arg(GRPC_SSL_TARGET_NAME_OVERRIDE_ARG, 0), // only with a name
    };
    grpc_channel_args args = {sizeof(list) / sizeof(list[0]), list};
    grpc_arg *last = &list[args.num_args - 1];
    char *name = tls && tls->name ? mem_copy_text(tls->name) : NULL;
    last->type = GRPC_ARG_STRING;
    last->value.string = name;
    if (!name)
        args.num_args--;

    struct rpc_client *client = mem_alloc(sizeof(*client));
    client->address = mem_copy_text(address);
    client->channel = grpc_channel_create(address, credentials, &args);
    client->queue = grpc_completion_queue_create_for_pluck(NULL);
    grpc_channel_credentials_release(credentials);
    mem_free(name);
    int error = pthread_mutex_init(&client->lock, NULL);
    assert(error == 0);
    (void)error;
    *out = client;
    return STATUS_OK;
}

void rpc_client_close(struct rpc_client **client)
{
    assert(client);

    struct rpc_client *closing = *client;
    *client = NULL;
    if (!closing)
        return;
    assert(!closing->busy); // streams are finished first

    grpc_channel_destroy(closing->channel);
    grpc_completion_queue_shutdown(closing->queue);
    grpc_completion_queue_destroy(closing->queue);
    (void)pthread_mutex_destroy(&closing->lock);
    mem_free(closing->address);
    mem_free(closing);
    rpc_core_end();
}

void rpc_client_interrupt(struct rpc_client *client)
{
    assert(client);

    (void)pthread_mutex_lock(&client->lock);
    client->interrupted = client->busy;
    if (client->waiting)
        (void)grpc_call_cancel(client->waiting, NULL);
    (void)pthread_mutex_unlock(&client->lock);
}

// --- connecting

static bool is_interrupted(struct rpc_client *client)
{
    (void)pthread_mutex_lock(&client->lock);
    bool interrupted = client->interrupted;
    (void)pthread_mutex_unlock(&client->lock);
    return interrupted;
}

// Waits until the connection is there or cannot be had; the call then tells which.
//
// A call on a connection that has failed would fail at once. So a second attempt gets its time
// first: the server may be just starting, and gRPC 1.51 now and then takes a good attempt for a
// failed one when many threads connect (it reads errno of connect() after other system calls).
static void connect_first(struct rpc_client *client, int64_t deadline_us)
{
    int64_t until_us = deadline_us;
    bool failed = false;
    grpc_connectivity_state state = grpc_channel_check_connectivity_state(client->channel, 1);
    while (state != GRPC_CHANNEL_READY && !clock_passed(until_us) && !is_interrupted(client)) {
        if (state == GRPC_CHANNEL_TRANSIENT_FAILURE && !failed) {
            failed = true;
            int64_t second_us = clock_deadline_in_us(SECOND_ATTEMPT_US);
            until_us = second_us < deadline_us ? second_us : deadline_us;
        }
        int64_t step_us = clock_deadline_in_us(CONNECT_STEP_US);
        gpr_timespec step = rpc_core_timespec(step_us < until_us ? step_us : until_us);
        grpc_channel_watch_connectivity_state(client->channel, state, step, client->queue, client);
        (void)grpc_completion_queue_pluck(client->queue, client, gpr_inf_future(GPR_CLOCK_REALTIME),
                                          NULL);
        state = grpc_channel_check_connectivity_state(client->channel, 1);
    }
}

// --- one exchange

static void start(struct exchange *exchange, const grpc_op *ops, size_t count, void *tag)
{
    grpc_call_error error = grpc_call_start_batch(exchange->grpc, ops, count, tag, NULL);
    assert(error == GRPC_CALL_OK); // anything else is a wrong batch
    (void)error;
}

// Waits for a batch; whether it went through. It always comes back: at the deadline at the latest,
// after an interrupt, or when the connection is lost.
static bool wait_for(struct rpc_client *client, void *tag)
{
    grpc_event event =
        grpc_completion_queue_pluck(client->queue, tag, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
    assert(event.type == GRPC_OP_COMPLETE);
    return event.success != 0;
}

// The sending operations of a message.
static size_t add_message(struct exchange *exchange, struct bytes message, grpc_op *op)
{
    // A copy: gRPC may still write after a cancelled call has come back.
    grpc_slice slice = grpc_slice_from_copied_buffer((const char *)message.data, message.count);
    exchange->sent = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    op->op = GRPC_OP_SEND_MESSAGE;
    op->data.send_message.send_message = exchange->sent;
    return 1;
}

static void drop_sent(struct exchange *exchange)
{
    if (exchange->sent)
        grpc_byte_buffer_destroy(exchange->sent);
    exchange->sent = NULL;
}

static void set_idle(struct rpc_client *client)
{
    (void)pthread_mutex_lock(&client->lock);
    client->waiting = NULL;
    client->busy = false;
    (void)pthread_mutex_unlock(&client->lock);
}

// Opens the call and starts RECEIVE; `request` is all that will be sent, or NULL for a stream.
static enum status begin(struct exchange *exchange, struct rpc_client *client,
                         const struct rpc_client_call *call, const struct bytes *request,
                         struct reason *why)
{
    if (call->request_id.bytes > 0 && !rpc_core_is_request_id(call->request_id))
        return reason_set(why, STATUS_INVALID, "request id",
                          "an id of %zu bytes; allowed are 1..%d printable ASCII bytes without "
                          "spaces",
                          call->request_id.bytes, REQUEST_ID_BYTES_MAX);

    (void)pthread_mutex_lock(&client->lock);
    assert(!client->busy); // one call at a time
    client->busy = true;
    client->interrupted = false;
    (void)pthread_mutex_unlock(&client->lock);
    connect_first(client, call->deadline_us);
    if (clock_passed(call->deadline_us)) { // gRPC might still let a quick call through
        set_idle(client);
        return reason_set(why, STATUS_DEADLINE, NULL, "%s has not answered before the deadline",
                          client->address);
    }

    memset(exchange, 0, sizeof(*exchange));
    exchange->client = client;
    exchange->code = GRPC_STATUS_UNKNOWN;
    exchange->text = grpc_empty_slice();
    grpc_metadata_array_init(&exchange->initial);
    grpc_metadata_array_init(&exchange->trailing);
    grpc_slice path = grpc_slice_from_copied_string(call->path);
    exchange->grpc =
        grpc_channel_create_call(client->channel, NULL, GRPC_PROPAGATE_DEFAULTS, client->queue,
                                 path, NULL, rpc_core_timespec(call->deadline_us), NULL);
    grpc_slice_unref(path);

    (void)pthread_mutex_lock(&client->lock);
    client->waiting = exchange->grpc;
    if (client->interrupted)
        (void)grpc_call_cancel(exchange->grpc, NULL);
    (void)pthread_mutex_unlock(&client->lock);

    grpc_op ops[OPS_MAX];
    memset(ops, 0, sizeof(ops));
    grpc_metadata entries[2];
    size_t entry_count = 0;
    if (call->request_id.bytes > 0)
        entries[entry_count++] =
            rpc_core_entry(RPC_REQUEST_ID_KEY, call->request_id.data, call->request_id.bytes);
    if (call->traceparent.bytes > 0)
        entries[entry_count++] =
            rpc_core_entry(TRACE_KEY, call->traceparent.data, call->traceparent.bytes);
    size_t count = 0;
    ops[count].op = GRPC_OP_SEND_INITIAL_METADATA;
    ops[count].data.send_initial_metadata.metadata = entries;
    ops[count++].data.send_initial_metadata.count = entry_count;
    if (request) {
        count += add_message(exchange, *request, &ops[count]);
        ops[count++].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
    }
    ops[count].op = GRPC_OP_RECV_INITIAL_METADATA;
    ops[count++].data.recv_initial_metadata.recv_initial_metadata = &exchange->initial;
    if (!call->server_streams) {
        ops[count].op = GRPC_OP_RECV_MESSAGE;
        ops[count++].data.recv_message.recv_message = &exchange->received;
    }
    ops[count].op = GRPC_OP_RECV_STATUS_ON_CLIENT;
    ops[count].data.recv_status_on_client.trailing_metadata = &exchange->trailing;
    ops[count].data.recv_status_on_client.status = &exchange->code;
    ops[count++].data.recv_status_on_client.status_details = &exchange->text;
    start(exchange, ops, count, &exchange->receive_tag);
    for (size_t i = 0; i < entry_count; i++)
        rpc_core_entry_deinit(&entries[i]);
    return STATUS_OK;
}

static void end(struct exchange *exchange)
{
    set_idle(exchange->client);
    drop_sent(exchange);
    if (exchange->received)
        grpc_byte_buffer_destroy(exchange->received);
    grpc_slice_unref(exchange->text);
    grpc_metadata_array_destroy(&exchange->initial);
    grpc_metadata_array_destroy(&exchange->trailing);
    grpc_call_unref(exchange->grpc);
}

// --- results

// A failure that the server explained: our own status, text and field.
static enum status explained(const struct exchange *exchange, struct bytes packed,
                             struct reason *why)
{
    enum status status = status_from_grpc_code((int)exchange->code);
    struct arena *arena = arena_create(RPC_MSG_ARENA_BYTES);
    struct rpc_msg_status details;
    if (rpc_msg_decode_status(arena, packed, &details, NULL) == STATUS_OK) {
        if (text_equal(details.domain, text_of(RPC_ERROR_DOMAIN)))
            (void)status_named(details.reason.data, details.reason.bytes, (int)exchange->code,
                               &status);
        char field[REASON_FIELD_BYTES] = "";
        size_t bytes =
            details.field.bytes < sizeof(field) ? details.field.bytes : sizeof(field) - 1;
        if (bytes > 0)
            memcpy(field, details.field.data, bytes);
        struct text text = bytes > 0 ? details.violation : details.message;
        (void)reason_set(why, status, field, "%.*s", (int)text.bytes, text.data);
    } else {
        (void)reason_set(why, status, NULL, "%.*s", (int)GRPC_SLICE_LENGTH(exchange->text),
                         (const char *)GRPC_SLICE_START_PTR(exchange->text));
    }
    arena_destroy(&arena);
    return status;
}

// What to do about a connection that did not come to be, by what gRPC says of it.
static const char *advice(const char *cause)
{
    static const struct {
        const char *cause;
        const char *advice;
    } table[] = {
        {"Trying to connect an http1.x server",
         "that port speaks HTTP, as the side port does; gRPC's is 80 lower unless it was set"},
        {"wrong version number", "that server speaks no TLS: ask it without a CA"},
        {"certificate verify failed",
         "the given CA has not signed that server's certificate, or it is out of date"},
        {"is not in peer certificate", "the server's certificate has another name"},
        {": Socket closed", "does it want TLS, or a client's certificate?"},
        {"empty address list", "are certificate and key no pair?"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (strstr(cause, table[i].cause))
            return table[i].advice;
    return "is a server running there?";
}

static enum status failure(const struct exchange *exchange, struct reason *why)
{
    struct rpc_client *client = exchange->client;
    struct bytes packed;
    if (rpc_core_metadata(&exchange->trailing, RPC_DETAILS_KEY, &packed) > 0)
        return explained(exchange, packed, why);

    int bytes = (int)GRPC_SLICE_LENGTH(exchange->text);
    const char *text = (const char *)GRPC_SLICE_START_PTR(exchange->text);
    enum status status = status_from_grpc_code((int)exchange->code);
    if (exchange->code == GRPC_STATUS_UNAVAILABLE) {
        char cause[REASON_TEXT_BYTES];
        (void)snprintf(cause, sizeof(cause), "%.*s", bytes, text);
        return reason_set(why, status, NULL, "%s does not answer (%s): %s", client->address,
                          advice(cause), cause);
    }
    if (exchange->code == GRPC_STATUS_DEADLINE_EXCEEDED)
        return reason_set(why, status, NULL, "%s has not answered before the deadline",
                          client->address);
    if (exchange->code == GRPC_STATUS_CANCELLED && is_interrupted(client))
        return reason_set(why, status, NULL, "the call was interrupted");
    return reason_set(why, status, NULL, "%s says: %.*s", client->address, bytes, text);
}

// Appends the bytes of `received`; nothing on failure.
static enum status take_reply(const struct exchange *exchange, struct buffer *reply,
                              struct reason *why)
{
    size_t total = grpc_byte_buffer_length(exchange->received);
    if (buffer_reserve(reply, total) != STATUS_OK)
        return reason_set(why, STATUS_NO_MEMORY, NULL, "no memory for a reply of %zu bytes", total);

    enum status status = STATUS_OK;
    const grpc_slice_buffer *slices = &exchange->received->data.raw.slice_buffer;
    for (size_t i = 0; i < slices->count && status == STATUS_OK; i++)
        status = buffer_append(reply, GRPC_SLICE_START_PTR(slices->slices[i]),
                               GRPC_SLICE_LENGTH(slices->slices[i]));
    assert(status == STATUS_OK); // there is room
    return status;
}

// What a finished RECEIVE means. Ends the exchange. `reply` NULL: no message belongs to it.
static enum status result(struct exchange *exchange, struct buffer *reply, struct reason *why)
{
    enum status status = STATUS_OK;
    if (exchange->code != GRPC_STATUS_OK)
        status = failure(exchange, why);
    else if (reply && !exchange->received)
        status = reason_set(why, STATUS_INTERNAL, NULL, "%s sent no reply message",
                            exchange->client->address);
    else if (reply)
        status = take_reply(exchange, reply, why);
    end(exchange);
    return status;
}

// --- calls

enum status rpc_client_unary(struct rpc_client *client, const struct rpc_client_call *call,
                             struct bytes request, struct buffer *reply, struct reason *why)
{
    assert(client);
    assert(call && call->path && !call->server_streams);
    assert(reply);

    struct exchange exchange;
    enum status status = begin(&exchange, client, call, &request, why);
    if (status != STATUS_OK)
        return status;
    (void)wait_for(client, &exchange.receive_tag);
    return result(&exchange, reply, why);
}

enum status rpc_stream_open(struct rpc_client *client, const struct rpc_client_call *call,
                            struct rpc_stream **out, struct reason *why)
{
    assert(client);
    assert(call && call->path);
    assert(out);

    struct rpc_stream *stream = mem_alloc(sizeof(*stream));
    stream->server_streams = call->server_streams;
    enum status status = begin(&stream->exchange, client, call, NULL, why);
    if (status != STATUS_OK) {
        mem_free(stream);
        return status;
    }
    *out = stream;
    return STATUS_OK;
}

enum status rpc_stream_send(struct rpc_stream *stream, struct bytes message)
{
    assert(stream);

    if (stream->failed)
        return STATUS_UNAVAILABLE;
    assert(!stream->closed);

    struct exchange *exchange = &stream->exchange;
    grpc_op op;
    memset(&op, 0, sizeof(op));
    (void)add_message(exchange, message, &op);
    start(exchange, &op, 1, &exchange->send_tag);
    stream->failed = !wait_for(exchange->client, &exchange->send_tag);
    drop_sent(exchange);
    return stream->failed ? STATUS_UNAVAILABLE : STATUS_OK;
}

void rpc_stream_close(struct rpc_stream *stream)
{
    assert(stream);

    struct exchange *exchange = &stream->exchange;
    if (!stream->failed && !stream->closed) {
        grpc_op op;
        memset(&op, 0, sizeof(op));
        op.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
        start(exchange, &op, 1, &exchange->send_tag);
        (void)wait_for(exchange->client, &exchange->send_tag);
    }
    stream->closed = true;
}

enum status rpc_stream_receive(struct rpc_stream *stream, struct buffer *message, bool *ended)
{
    assert(stream && stream->server_streams);
    assert(message && ended);

    struct exchange *exchange = &stream->exchange;
    message->count = 0;
    if (!stream->ended) {
        grpc_op op;
        memset(&op, 0, sizeof(op));
        op.op = GRPC_OP_RECV_MESSAGE;
        op.data.recv_message.recv_message = &exchange->received;
        start(exchange, &op, 1, &exchange->message_tag);
        (void)wait_for(exchange->client, &exchange->message_tag);
    }
    stream->ended = !exchange->received;
    *ended = stream->ended;
    enum status status = stream->ended ? STATUS_OK : take_reply(exchange, message, NULL);
    if (exchange->received)
        grpc_byte_buffer_destroy(exchange->received);
    exchange->received = NULL;
    return status;
}

enum status rpc_stream_finish(struct rpc_stream **stream, struct buffer *reply, struct reason *why)
{
    assert(stream && *stream);

    struct rpc_stream *finishing = *stream;
    *stream = NULL;
    struct exchange *exchange = &finishing->exchange;
    assert(reply || finishing->server_streams);
    if (finishing->server_streams && !finishing->ended)
        (void)grpc_call_cancel(exchange->grpc, NULL);
    rpc_stream_close(finishing);
    (void)wait_for(exchange->client, &exchange->receive_tag);
    enum status status = result(exchange, finishing->server_streams ? NULL : reply, why);
    mem_free(finishing);
    return status;
}

enum status rpc_client_health(struct rpc_client *client, int64_t deadline_us, struct reason *why)
{
    assert(client);

    struct buffer request = {.count = 0};
    struct buffer reply = {.count = 0};
    const struct rpc_client_call call = {.path = health_path, .deadline_us = deadline_us};
    enum status status = rpc_msg_encode_health_request((struct text){NULL, 0}, &request);
    if (status == STATUS_OK)
        status = rpc_client_unary(client, &call, (struct bytes){request.data, request.count},
                                  &reply, why);
    if (status == STATUS_OK) {
        struct arena *arena = arena_create(RPC_MSG_ARENA_BYTES);
        enum rpc_msg_serving serving;
        status = rpc_msg_decode_health_reply(arena, (struct bytes){reply.data, reply.count},
                                             &serving, why);
        if (status == STATUS_OK && serving != RPC_MSG_SERVING)
            status =
                reason_set(why, STATUS_UNAVAILABLE, NULL, "%s is not serving", client->address);
        arena_destroy(&arena);
    }
    buffer_deinit(&request);
    buffer_deinit(&reply);
    return status;
}
