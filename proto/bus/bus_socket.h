// SPDX-License-Identifier: Apache-2.0
// bus_socket.h - sockets with the options every one of ours has, and messages of frames on them.
//
// A message on the wire: [identity,] envelope, body, rows; a body or rows that are empty
// are left out at the end. What arrives is checked here: number and size of frames,
// envelope, CRCs.
//
// Thread-safety: a socket belongs to one thread.

#ifndef RECO_PROTO_BUS_BUS_SOCKET_H
#define RECO_PROTO_BUS_BUS_SOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <zmq.h>

#include "proto/base/arena.h"
#include "proto/base/bytes.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "proto/bus/bus.h"
#include "proto/wire/shard_msg.h"

#define BUS_IDENTITY_BYTES_MAX 255
#define BUS_ROWS_ALIGNMENT 64
#define BUS_CREDITS_MAX 256 // high-water marks stand at four times as many

bool bus_endpoint_is_inproc(const char *endpoint);

// Makes a ROUTER that is bound to `endpoint`, which errors call `field`. `bound` receives the
// endpoint with the real port. STATUS_INVALID for an endpoint that cannot be, or tcp:// without
// keys; STATUS_UNAVAILABLE when it is taken.
enum status bus_socket_bind(struct bus *bus, const char *endpoint, const char *field, void **out,
                            char bound[BUS_ENDPOINT_BYTES], struct reason *why) MUST_CHECK;

// Makes a DEALER that connects to `endpoint`, and *monitor, which tells what becomes of the
// connection; NULL for inproc://, which has no such news.
enum status bus_socket_connect(struct bus *bus, const char *endpoint, void **out, void **monitor,
                               struct reason *why) MUST_CHECK;
void bus_socket_disconnect(void **socket, void **monitor); // NULL is allowed for both
void bus_socket_close(void **socket);                      // of bus_socket_bind(); NULL is allowed

// What the monitor has told since the last call.
struct bus_news {
    bool connected; // messages can be sent from now on
    bool lost;      // a connection that was there broke
    bool refused;   // the node does not know our key
};
struct bus_news bus_socket_news(void *monitor);

// A message that was received; its texts and frames point into its own memory, and its frames
// must not move, so it stays where it is.
struct bus_message {
    uint8_t identity[BUS_IDENTITY_BYTES_MAX]; // of a ROUTER's peer
    size_t identity_bytes;
    struct shard_envelope envelope;
    struct bytes body;
    struct bytes rows; // starts at a multiple of BUS_ROWS_ALIGNMENT
    zmq_msg_t frames[3];
    size_t frame_count;
    struct arena *arena; // of the envelope's texts
    void *aligned;       // copy of the rows where the frame was not aligned
};

// Takes one message from a socket without waiting. STATUS_OK; STATUS_NOT_FOUND when there is none;
// STATUS_INVALID, STATUS_CORRUPT, STATUS_NO_MEMORY or STATUS_UNSUPPORTED for a bad one: then the
// identity is set, and type and request_id of the envelope are set or 0, so that it can be
// answered. Only after OK has the caller to end it with bus_message_deinit().
enum status bus_message_receive(void *socket, bool from_router, struct bus_message *message,
                                struct reason *why) MUST_CHECK;
void bus_message_deinit(struct bus_message *message);

// A message to be sent; body and rows are taken over by the frames.
struct bus_outgoing {
    const uint8_t *identity; // for a ROUTER; NULL for a DEALER
    size_t identity_bytes;
    struct shard_envelope envelope; // its version and CRCs are set here
    zmq_msg_t *body;                // NULL or empty: none
    zmq_msg_t *rows;
};

// Sends without waiting. STATUS_UNAVAILABLE when nobody is connected or the queue is full: nothing
// was sent then, and body and rows are still the caller's.
enum status bus_message_send(void *socket, struct bus_outgoing *outgoing) MUST_CHECK;

#endif
