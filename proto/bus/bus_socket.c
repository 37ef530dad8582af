// SPDX-License-Identifier: Apache-2.0
// Options, and why (measured with libzmq 4.3.4): IMMEDIATE, or a DEALER without a connection
// swallows messages; LINGER 0, or closing hangs; no ZMTP heartbeats, which kill live peers whose
// queue is full; high-water marks above the credits, which keep queues short; ROUTER_MANDATORY, or
// replies to vanished peers are dropped without a word.

#include "proto/bus/bus_socket.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/hash.h"
#include "proto/base/limits.h"
#include "proto/base/mem.h"
#include "proto/bus/bus_internal.h"

#define HIGH_WATER (4 * BUS_CREDITS_MAX)
#define HANDSHAKE_MS 1000
#define CONNECT_MS 1000
#define RECONNECT_MS 50
#define RECONNECT_MAX_MS 500 // a node that returns is noticed within a second
#define MONITOR_NAME_BYTES 64
#define MONITOR_EVENT_BYTES 6                   // event u16 and value u32, in the host's order
#define FRAME_BYTES_MAX (ROWS_BYTES_MAX + 1024) // CURVE counts its own bytes as well
#define ENVELOPE_ARENA_BYTES 65536              // an envelope of 8 KiB unpacks into far less

struct option {
    int name;
    int value;
};

static bool set_options(void *socket, const struct option *options, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (zmq_setsockopt(socket, options[i].name, &options[i].value, sizeof(int)) != 0)
            return false;
    }
    return true;
}

// With ZMQ_IPV6 an IPv4 address would be told as one of IPv6, so only who asks for it gets it.
static bool set_common(void *socket, const char *endpoint)
{
    const struct option options[] = {
        {ZMQ_LINGER, 0},
        {ZMQ_IMMEDIATE, 1},
        {ZMQ_SNDHWM, HIGH_WATER},
        {ZMQ_RCVHWM, HIGH_WATER},
        {ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS},
        {ZMQ_CONNECT_TIMEOUT, CONNECT_MS},
        {ZMQ_RECONNECT_IVL, RECONNECT_MS},
        {ZMQ_RECONNECT_IVL_MAX, RECONNECT_MAX_MS},
        {ZMQ_TCP_KEEPALIVE, 1},
        {ZMQ_BACKLOG, 1024},
        {ZMQ_IPV6, strchr(endpoint, '[') != NULL},
    };
    const int64_t message_max = FRAME_BYTES_MAX;
    return set_options(socket, options, sizeof(options) / sizeof(options[0])) &&
           zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &message_max, sizeof(message_max)) == 0;
}

static bool set_key(void *socket, int option, const char *key)
{
    return zmq_setsockopt(socket, option, key, BUS_KEY_BYTES - 1) == 0;
}

static bool set_server_keys(const struct bus *bus, void *socket)
{
    const int one = 1;
    return zmq_setsockopt(socket, ZMQ_CURVE_SERVER, &one, sizeof(one)) == 0 &&
           zmq_setsockopt(socket, ZMQ_ZAP_DOMAIN, BUS_ZAP_DOMAIN, strlen(BUS_ZAP_DOMAIN)) == 0 &&
           set_key(socket, ZMQ_CURVE_SECRETKEY, bus->keys.node_secret);
}

static bool set_client_keys(const struct bus *bus, void *socket)
{
    return set_key(socket, ZMQ_CURVE_SERVERKEY, bus->keys.node_public) &&
           set_key(socket, ZMQ_CURVE_PUBLICKEY, bus->keys.coordinator_public) &&
           set_key(socket, ZMQ_CURVE_SECRETKEY, bus->keys.coordinator_secret);
}

bool bus_endpoint_is_inproc(const char *endpoint)
{
    return strncmp(endpoint, "inproc://", 9) == 0;
}

static enum status check_endpoint(const char *endpoint, const char *field, bool has_key,
                                  struct reason *why)
{
    if (!bus_endpoint_is_inproc(endpoint) && strncmp(endpoint, "tcp://", 6) != 0)
        return reason_set(why, STATUS_INVALID, field,
                          "'%s' is no endpoint: tcp://ADDRESS:PORT or inproc://NAME", endpoint);
    if (strlen(endpoint) >= BUS_ENDPOINT_BYTES)
        return reason_set(why, STATUS_INVALID, field,
                          "'%.40s...' has %zu characters; allowed: at most %d", endpoint,
                          strlen(endpoint), BUS_ENDPOINT_BYTES - 1);
    if (!bus_endpoint_is_inproc(endpoint) && !has_key)
        return reason_set(
            why, STATUS_INVALID, field,
            "'%s' needs the keys of the cluster; without them only inproc:// is allowed", endpoint);
    return STATUS_OK;
}

// The socket, which may be NULL, is still to be closed.
static enum status explain(const void *socket, const char *endpoint, const char *field,
                           struct reason *why)
{
    int error = zmq_errno();
    enum status status = STATUS_INVALID;
    if (error == EADDRINUSE || error == EADDRNOTAVAIL || error == EACCES)
        status = STATUS_UNAVAILABLE;
    else if (!socket)
        status = STATUS_EXHAUSTED;
    return reason_set(why, status, field, "%s: %s", endpoint, zmq_strerror(error));
}

enum status bus_socket_bind(struct bus *bus, const char *endpoint, const char *field, void **out,
                            char bound[BUS_ENDPOINT_BYTES], struct reason *why)
{
    assert(bus && endpoint && out);

    enum status status =
        check_endpoint(endpoint, field, bus->has_keys && bus->keys.node_secret[0] != '\0', why);
    if (status != STATUS_OK)
        return status;

    const int one = 1;
    char real[BUS_ENDPOINT_BYTES] = "";
    size_t real_bytes = sizeof(real);
    void *socket = zmq_socket(bus->context, ZMQ_ROUTER);
    if (!socket || !set_common(socket, endpoint) ||
        zmq_setsockopt(socket, ZMQ_ROUTER_MANDATORY, &one, sizeof(one)) != 0 ||
        (!bus_endpoint_is_inproc(endpoint) && !set_server_keys(bus, socket)) ||
        zmq_bind(socket, endpoint) != 0 ||
        zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, real, &real_bytes) != 0) {
        status = explain(socket, endpoint, field, why);
        bus_socket_close(&socket);
        return status;
    }
    memcpy(bound, real, sizeof(real));
    *out = socket;
    return STATUS_OK;
}

// The monitor is made before the connection, so that it misses nothing of it. The I/O thread waits
// when a monitor's queue is full, and for ever when nobody holds its other end: so the queue
// has no limit, and bus_socket_disconnect() stops the monitor before it closes that end.
static bool open_monitor(struct bus *bus, void *socket, void **monitor)
{
    char name[MONITOR_NAME_BYTES];
    (void)snprintf(name, sizeof(name), "inproc://monitor-%u",
                   atomic_fetch_add(&bus->next_monitor, 1));
    const int events =
        ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;
    const int zero = 0;
    if (zmq_socket_monitor(socket, name, events) != 0)
        return false;

    *monitor = zmq_socket(bus->context, ZMQ_PAIR);
    return *monitor && zmq_setsockopt(*monitor, ZMQ_LINGER, &zero, sizeof(zero)) == 0 &&
           zmq_setsockopt(*monitor, ZMQ_RCVHWM, &zero, sizeof(zero)) == 0 &&
           zmq_connect(*monitor, name) == 0;
}

enum status bus_socket_connect(struct bus *bus, const char *endpoint, void **out, void **monitor,
                               struct reason *why)
{
    assert(bus && endpoint && out && monitor);

    enum status status = check_endpoint(
        endpoint, "--node", bus->has_keys && bus->keys.coordinator_secret[0] != '\0', why);
    if (status != STATUS_OK)
        return status;

    bool inproc = bus_endpoint_is_inproc(endpoint);
    void *watch = NULL;
    void *socket = zmq_socket(bus->context, ZMQ_DEALER);
    if (!socket || !set_common(socket, endpoint) ||
        (!inproc && (!set_client_keys(bus, socket) || !open_monitor(bus, socket, &watch))) ||
        zmq_connect(socket, endpoint) != 0) {
        status = explain(socket, endpoint, "--node", why);
        bus_socket_disconnect(&socket, &watch);
        return status;
    }
    *out = socket;
    *monitor = watch;
    return STATUS_OK;
}

void bus_socket_disconnect(void **socket, void **monitor)
{
    if (*socket)
        (void)zmq_socket_monitor(*socket, NULL, 0);
    bus_socket_close(socket);
    bus_socket_close(monitor);
}

void bus_socket_close(void **socket)
{
    if (*socket)
        (void)zmq_close(*socket);
    *socket = NULL;
}

struct bus_news bus_socket_news(void *monitor)
{
    struct bus_news news = {0};
    uint8_t event[MONITOR_EVENT_BYTES];
    char address[BUS_ENDPOINT_BYTES];
    // Each event has two frames; of a longer address only the beginning is kept.
    while (zmq_recv(monitor, event, sizeof(event), ZMQ_DONTWAIT) == MONITOR_EVENT_BYTES) {
        uint16_t kind;
        memcpy(&kind, event, sizeof(kind));
        news.connected = news.connected || kind == ZMQ_EVENT_HANDSHAKE_SUCCEEDED;
        news.lost = news.lost || kind == ZMQ_EVENT_DISCONNECTED;
        news.refused = news.refused || kind == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;
        if (zmq_recv(monitor, address, sizeof(address), ZMQ_DONTWAIT) < 0)
            break;
    }
    return news;
}

// Receives all frames of one message; more than there is room for are thrown away.
// False when there is no message.
static bool receive_frames(void *socket, bool from_router, struct bus_message *message, bool *fits)
{
    int more = 1;
    size_t index = from_router ? 0 : 1;
    for (bool first = true; more; first = false, index++) {
        zmq_msg_t frame;
        (void)zmq_msg_init(&frame);
        if (zmq_msg_recv(&frame, socket, first ? ZMQ_DONTWAIT : 0) < 0) {
            (void)zmq_msg_close(&frame);
            return !first;
        }
        more = zmq_msg_more(&frame);
        size_t bytes = zmq_msg_size(&frame);
        if (index == 0 && bytes <= BUS_IDENTITY_BYTES_MAX) {
            memcpy(message->identity, zmq_msg_data(&frame), bytes);
            message->identity_bytes = bytes;
        } else if (index >= 1 && index <= 3) {
            (void)zmq_msg_init(&message->frames[index - 1]);
            (void)zmq_msg_move(&message->frames[index - 1], &frame);
            message->frame_count = index;
        } else {
            *fits = false;
        }
        (void)zmq_msg_close(&frame);
    }
    return true;
}

static struct bytes frame_bytes(struct bus_message *message, size_t index)
{
    if (index >= message->frame_count)
        return (struct bytes){NULL, 0};
    return (struct bytes){zmq_msg_data(&message->frames[index]),
                          zmq_msg_size(&message->frames[index])};
}

static enum status align_rows(struct bus_message *message, struct reason *why)
{
    if (message->rows.count == 0 || (uintptr_t)message->rows.data % BUS_ROWS_ALIGNMENT == 0)
        return STATUS_OK;
    message->aligned = mem_try_alloc_aligned(BUS_ROWS_ALIGNMENT, message->rows.count);
    if (!message->aligned)
        return reason_set(why, STATUS_NO_MEMORY, "rows", "no memory for %zu bytes of rows",
                          message->rows.count);
    memcpy(message->aligned, message->rows.data, message->rows.count);
    message->rows.data = message->aligned;
    return STATUS_OK;
}

static enum status check_frames(struct bus_message *message, bool fits, struct reason *why)
{
    struct bytes head = frame_bytes(message, 0);
    if (!fits || message->frame_count == 0 || head.count > ENVELOPE_BYTES_MAX)
        return reason_set(why, STATUS_INVALID, "envelope",
                          "a message has 1 to 3 frames, the first at most %u bytes",
                          ENVELOPE_BYTES_MAX);

    message->arena = arena_create(ENVELOPE_ARENA_BYTES);
    enum status status = shard_decode_envelope(head, message->arena, &message->envelope, why);
    if (status != STATUS_OK)
        return status;

    message->body = frame_bytes(message, 1);
    message->rows = frame_bytes(message, 2);
    if (message->body.count > BODY_BYTES_MAX)
        return reason_set(why, STATUS_INVALID, "body", "%zu bytes; allowed: at most %u",
                          message->body.count, BODY_BYTES_MAX);
    if (message->rows.count > ROWS_BYTES_MAX)
        return reason_set(why, STATUS_INVALID, "rows", "%zu bytes; allowed: at most %u",
                          message->rows.count, ROWS_BYTES_MAX);
    if (hash_crc32c(0, message->body.data, message->body.count) != message->envelope.body_crc)
        return reason_set(why, STATUS_CORRUPT, "body", "the CRC of the body is wrong");
    if (hash_crc32c(0, message->rows.data, message->rows.count) != message->envelope.rows_crc)
        return reason_set(why, STATUS_CORRUPT, "rows", "the CRC of the rows is wrong");
    return align_rows(message, why);
}

enum status bus_message_receive(void *socket, bool from_router, struct bus_message *message,
                                struct reason *why)
{
    assert(socket && message);

    bool fits = true;
    message->identity_bytes = 0;
    message->envelope = (struct shard_envelope){0};
    message->body = (struct bytes){NULL, 0};
    message->rows = (struct bytes){NULL, 0};
    message->frame_count = 0;
    message->arena = NULL;
    message->aligned = NULL;
    if (!receive_frames(socket, from_router, message, &fits))
        return STATUS_NOT_FOUND;
    enum status status = check_frames(message, fits, why);
    if (status != STATUS_OK)
        bus_message_deinit(message);
    return status;
}

void bus_message_deinit(struct bus_message *message)
{
    for (size_t i = 0; i < message->frame_count; i++)
        (void)zmq_msg_close(&message->frames[i]);
    message->frame_count = 0;
    mem_free(message->aligned);
    message->aligned = NULL;
    arena_destroy(&message->arena);
}

static uint32_t frame_crc(zmq_msg_t *frame)
{
    return frame ? hash_crc32c(0, zmq_msg_data(frame), zmq_msg_size(frame)) : 0; // of no bytes: 0
}

enum status bus_message_send(void *socket, struct bus_outgoing *outgoing)
{
    zmq_msg_t *rows = outgoing->rows && zmq_msg_size(outgoing->rows) > 0 ? outgoing->rows : NULL;
    zmq_msg_t *body = outgoing->body && zmq_msg_size(outgoing->body) > 0 ? outgoing->body : NULL;
    struct buffer head = {.count_max = ENVELOPE_BYTES_MAX};

    outgoing->envelope.version = SHARD_VERSION;
    outgoing->envelope.body_crc = frame_crc(body);
    outgoing->envelope.rows_crc = frame_crc(rows);
    enum status status = shard_encode_envelope(&outgoing->envelope, &head);
    if (status == STATUS_INVALID) {
        // A reason that is not UTF-8: its status is still worth to be told.
        outgoing->envelope.field = (struct text){NULL, 0};
        outgoing->envelope.text = (struct text){NULL, 0};
        status = shard_encode_envelope(&outgoing->envelope, &head);
    }
    if (status != STATUS_OK) {
        buffer_deinit(&head);
        return status;
    }

    // Only the first frame can be refused; ZeroMQ then takes the rest of the message.
    bool has_more = body || rows;
    int sent = 0;
    if (outgoing->identity)
        sent = zmq_send(socket, outgoing->identity, outgoing->identity_bytes,
                        ZMQ_SNDMORE | ZMQ_DONTWAIT);
    if (sent >= 0)
        sent = zmq_send(socket, head.data, head.count, ZMQ_DONTWAIT | (has_more ? ZMQ_SNDMORE : 0));
    buffer_deinit(&head);
    if (sent < 0)
        return STATUS_UNAVAILABLE;
    if (has_more && !body)
        (void)zmq_send(socket, "", 0, ZMQ_SNDMORE | ZMQ_DONTWAIT);
    if (body)
        (void)zmq_msg_send(body, socket, ZMQ_DONTWAIT | (rows ? ZMQ_SNDMORE : 0));
    if (rows)
        (void)zmq_msg_send(rows, socket, ZMQ_DONTWAIT);
    return STATUS_OK;
}
