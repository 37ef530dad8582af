// SPDX-License-Identifier: Apache-2.0
// The ZAP handler (ZeroMQ RFC 27): every CURVE handshake of the context asks it, over
// inproc, whether the client's key may come in. Without a handler ZeroMQ lets every key in,
// which is why the handler is tested before the bus is used.

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include <zmq.h>

#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/base/thread.h"
#include "proto/bus/bus_internal.h"

#define ZAP_ENDPOINT "inproc://zeromq.zap.01"
#define ZAP_CONTROL "inproc://reco-zap-control"
#define ZAP_FRAMES 7 // version, request id, domain, address, identity, mechanism, key
#define ZAP_FRAME_BYTES 256
#define KEY_RAW_BYTES 32
#define TEST_US 5000000
#define TEST_STEP_MS 5

struct bus_zap {
    void *handler;
    void *control;        // the thread's end
    void *stop;           // our end: anything sent ends the thread
    pthread_mutex_t lock; // protects the list
    uint8_t allowed[BUS_ALLOWED_MAX][KEY_RAW_BYTES];
    size_t allowed_count;
    atomic_uint refused;
    struct thread *thread;
};

struct zap_request {
    char frame[ZAP_FRAMES][ZAP_FRAME_BYTES];
    size_t bytes[ZAP_FRAMES];
    int count;
};

// Takes all frames of a request; longer or further ones make it one that is refused.
static bool receive_request(void *handler, struct zap_request *request)
{
    bool good = true;
    int more = 1;
    request->count = 0;
    while (more) {
        char spare[ZAP_FRAME_BYTES];
        bool fits = request->count < ZAP_FRAMES;
        char *target = fits ? request->frame[request->count] : spare;
        int bytes = zmq_recv(handler, target, ZAP_FRAME_BYTES, 0);
        if (bytes < 0)
            return false;
        good = good && fits && bytes <= ZAP_FRAME_BYTES;
        if (good)
            request->bytes[request->count++] = (size_t)bytes;
        size_t size = sizeof(more);
        if (zmq_getsockopt(handler, ZMQ_RCVMORE, &more, &size) != 0)
            return false;
    }
    return good && request->count == ZAP_FRAMES;
}

static bool is_allowed(struct bus_zap *zap, const struct zap_request *request)
{
    if (request->bytes[5] != 5 || memcmp(request->frame[5], "CURVE", 5) != 0 ||
        request->bytes[6] != KEY_RAW_BYTES)
        return false;
    bool found = false;
    (void)pthread_mutex_lock(&zap->lock);
    for (size_t i = 0; i < zap->allowed_count; i++)
        found = found || memcmp(request->frame[6], zap->allowed[i], KEY_RAW_BYTES) == 0;
    (void)pthread_mutex_unlock(&zap->lock);
    return found;
}

enum status bus_zap_allow(struct bus_zap *zap, const char *const *keys, size_t count,
                          struct reason *why)
{
    uint8_t raw[BUS_ALLOWED_MAX][KEY_RAW_BYTES];
    if (count < 1 || count > BUS_ALLOWED_MAX)
        return reason_set(why, STATUS_INVALID, "allow", "%zu keys; 1 to %d are allowed", count,
                          BUS_ALLOWED_MAX);
    for (size_t i = 0; i < count; i++)
        if (strlen(keys[i]) != BUS_KEY_BYTES - 1 || !zmq_z85_decode(raw[i], keys[i]))
            return reason_set(why, STATUS_INVALID, "allow",
                              "'%.60s' is not a public key of 40 Z85 characters", keys[i]);
    (void)pthread_mutex_lock(&zap->lock);
    memcpy(zap->allowed, raw, count * sizeof(raw[0]));
    zap->allowed_count = count;
    (void)pthread_mutex_unlock(&zap->lock);
    return STATUS_OK;
}

static void send_text(void *handler, const void *text, size_t bytes, int flags)
{
    if (zmq_send(handler, text, bytes, flags) < 0)
        log_error("zap_send_failed", "reason=\"%s\"", zmq_strerror(zmq_errno()));
}

static void serve_one(struct bus_zap *zap)
{
    struct zap_request request;
    bool whole = receive_request(zap->handler, &request);
    bool allowed = whole && is_allowed(zap, &request);

    if (!allowed)
        atomic_fetch_add(&zap->refused, 1);
    send_text(zap->handler, "1.0", 3, ZMQ_SNDMORE);
    send_text(zap->handler, request.frame[1], request.count > 1 ? request.bytes[1] : 0,
              ZMQ_SNDMORE);
    send_text(zap->handler, allowed ? "200" : "400", 3, ZMQ_SNDMORE);
    send_text(zap->handler, allowed ? "OK" : "unknown key", allowed ? 2 : 11, ZMQ_SNDMORE);
    send_text(zap->handler, "", 0, ZMQ_SNDMORE);
    send_text(zap->handler, "", 0, 0);
}

static void zap_body(struct thread *self, void *context)
{
    struct bus_zap *zap = context;

    thread_ready(self, STATUS_OK);
    while (true) {
        zmq_pollitem_t items[] = {{zap->handler, 0, ZMQ_POLLIN, 0},
                                  {zap->control, 0, ZMQ_POLLIN, 0}};
        if (zmq_poll(items, 2, -1) < 0 && zmq_errno() == ETERM)
            break;
        if (items[1].revents & ZMQ_POLLIN)
            break;
        if (items[0].revents & ZMQ_POLLIN)
            serve_one(zap);
    }
}

static void close_sockets(struct bus_zap *zap)
{
    void *sockets[] = {zap->handler, zap->control, zap->stop};
    for (int i = 0; i < 3; i++) {
        if (sockets[i])
            (void)zmq_close(sockets[i]);
    }
}

static bool open_sockets(struct bus_zap *zap, void *context)
{
    zap->handler = zmq_socket(context, ZMQ_REP);
    zap->control = zmq_socket(context, ZMQ_PAIR);
    zap->stop = zmq_socket(context, ZMQ_PAIR);
    return zap->handler && zap->control && zap->stop && zmq_bind(zap->handler, ZAP_ENDPOINT) == 0 &&
           zmq_bind(zap->control, ZAP_CONTROL) == 0 && zmq_connect(zap->stop, ZAP_CONTROL) == 0;
}

enum status bus_zap_start(void *context, const char *coordinator_public, struct bus_zap **out,
                          struct reason *why)
{
    struct bus_zap *zap = mem_alloc(sizeof(*zap));
    (void)pthread_mutex_init(&zap->lock, NULL);
    enum status status = bus_zap_allow(zap, &coordinator_public, 1, why);
    if (status != STATUS_OK) {
        mem_free(zap);
        return status;
    }
    if (!open_sockets(zap, context)) {
        const char *error = zmq_strerror(zmq_errno());
        close_sockets(zap);
        mem_free(zap);
        return reason_set(why, STATUS_INTERNAL, "keys", "the ZAP handler cannot be bound: %s",
                          error);
    }
    status = thread_start("reco-zap", zap_body, zap, &zap->thread);
    if (status != STATUS_OK) {
        close_sockets(zap);
        mem_free(zap);
        return reason_set(why, status, "keys", "the ZAP thread cannot be started");
    }
    *out = zap;
    return STATUS_OK;
}

void bus_zap_stop(struct bus_zap **zap)
{
    if (!*zap)
        return;
    send_text((*zap)->stop, "", 0, 0);
    thread_join(&(*zap)->thread);
    close_sockets(*zap);
    (void)pthread_mutex_destroy(&(*zap)->lock);
    mem_free(*zap);
    *zap = NULL;
}

// --- the test

static bool set_text(void *socket, int option, const char *text)
{
    return zmq_setsockopt(socket, option, text, strlen(text)) == 0;
}

// A server like a node's, and a client whose key nobody knows. Both have keys of their own.
static bool open_probe(void *context, void **server, void **client)
{
    char keys[2][2][BUS_KEY_BYTES]; // server, client; public, secret
    char endpoint[BUS_ENDPOINT_BYTES];
    size_t endpoint_bytes = sizeof(endpoint);
    const int one = 1;
    const int zero = 0;

    *server = zmq_socket(context, ZMQ_ROUTER);
    *client = zmq_socket(context, ZMQ_DEALER);
    return *server && *client && zmq_curve_keypair(keys[0][0], keys[0][1]) == 0 &&
           zmq_curve_keypair(keys[1][0], keys[1][1]) == 0 &&
           zmq_setsockopt(*server, ZMQ_LINGER, &zero, sizeof(zero)) == 0 &&
           zmq_setsockopt(*client, ZMQ_LINGER, &zero, sizeof(zero)) == 0 &&
           zmq_setsockopt(*server, ZMQ_CURVE_SERVER, &one, sizeof(one)) == 0 &&
           set_text(*server, ZMQ_ZAP_DOMAIN, BUS_ZAP_DOMAIN) &&
           set_text(*server, ZMQ_CURVE_SECRETKEY, keys[0][1]) &&
           set_text(*client, ZMQ_CURVE_SERVERKEY, keys[0][0]) &&
           set_text(*client, ZMQ_CURVE_PUBLICKEY, keys[1][0]) &&
           set_text(*client, ZMQ_CURVE_SECRETKEY, keys[1][1]) &&
           zmq_bind(*server, "tcp://127.0.0.1:*") == 0 &&
           zmq_getsockopt(*server, ZMQ_LAST_ENDPOINT, endpoint, &endpoint_bytes) == 0 &&
           zmq_connect(*client, endpoint) == 0 && zmq_send(*client, "let me in", 9, 0) == 9;
}

enum status bus_zap_test(void *context, struct bus_zap *zap, struct reason *why)
{
    void *server = NULL;
    void *client = NULL;
    unsigned refused_before = atomic_load(&zap->refused);
    enum status status = STATUS_OK;

    if (!open_probe(context, &server, &client))
        status = reason_set(why, STATUS_INTERNAL, "keys", "the ZAP handler cannot be tested: %s",
                            zmq_strerror(zmq_errno()));

    int64_t deadline = clock_deadline_in_us(TEST_US);
    while (status == STATUS_OK && atomic_load(&zap->refused) == refused_before) {
        zmq_pollitem_t item = {server, 0, ZMQ_POLLIN, 0};
        if (zmq_poll(&item, 1, TEST_STEP_MS) > 0)
            status = reason_set(why, STATUS_INTERNAL, "keys",
                                "a client with an unknown key was let in: refusing to start");
        else if (clock_passed(deadline))
            status =
                reason_set(why, STATUS_INTERNAL, "keys",
                           "nobody asked the ZAP handler about an unknown key: refusing to start");
    }
    if (client)
        (void)zmq_close(client);
    if (server)
        (void)zmq_close(server);
    return status;
}
