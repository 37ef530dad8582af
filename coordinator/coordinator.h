// SPDX-License-Identifier: Apache-2.0
// coordinator.h - the whole front of a cluster as one object: gRPC in, shard nodes behind, CLIP
// inside.
//
// The program reco-coordinator serves it over gRPC; a command line without a server runs it
// inside its own process with coordinator_call(): the same handlers see the same bytes,
// so both give the same answer.
//
// Thread-safety: start and stop belong to one thread; coordinator_call() and streams may be
// used by any thread (a stream by one at a time).

#ifndef RECO_COORDINATOR_COORDINATOR_H
#define RECO_COORDINATOR_COORDINATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/bytes.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "proto/bus/bus.h"
#include "proto/rpc/rpc_server.h"
#include "proto/wire/api.h"
#include "shaders/models/clip.h"

struct coordinator;
struct coordinator_stream;

struct coordinator_node {
    const char *query_endpoint;
    const char *bulk_endpoint;
};

struct coordinator_params {
    const char *data_directory; // holds meta.json; NULL: no memories, encoding only
    const char *snapshots;      // folder of those asked for over gRPC; NULL: DATA/snapshots
    struct bus *bus;            // NULL without nodes
    const struct coordinator_node *nodes; // [node_count], in the order of their numbers
    bool nodes_are_threads;               // of this process, never killed alone
    size_t node_count;                    // 0..NODES_MAX; with a data directory the N of its FORMAT
    struct clip_params clip;
    const char *head;         // file of a trained head; NULL: as trained_head.h looks for one
    const char *encoder;      // path of reco-encoder, which then computes; NULL: this process does
    const char *listen;       // "127.0.0.1:7700", port 0 picks one; NULL: coordinator_call() only
    const char *http;         // side port: "127.0.0.1:7780", port 0 picks one; NULL: none
    struct rpc_tls *tls;      // of the listener, must outlive it; NULL: plain text
    struct rpc_limits limits; // of the listener
    int64_t deadline_us;      // of unary calls over gRPC that come without one; 0: none
    // 0: the default, which is also the most of items.
    enum api_approx approx; // of questions that do not say: normal
    size_t streams;         // ...Stream calls at once: 64
    size_t stream_items;    // questions of one stream, at once: API_STREAM_ITEMS
};

// Opens the model and the metadata, connects to the nodes, serves. Does not wait for nodes:
// see coordinator_wait_nodes(). Errors of clip_open(), rpc_server_start() and the metadata.
enum status coordinator_start(const struct coordinator_params *params, struct coordinator **out,
                              struct reason *why) MUST_CHECK;

// Health says NOT_SERVING, running calls get `grace_us` to finish, the rest is cancelled. Streams
// of this process must be finished by their threads, and no call may begin any more. Sets
// *coordinator to NULL; NULL is allowed.
void coordinator_stop(struct coordinator **coordinator, int64_t grace_us);

// Takes limits and default deadline of the listener over; without one there is no effect. Any
// thread.
void coordinator_set_limits(struct coordinator *coordinator, const struct rpc_limits *limits,
                            int64_t deadline_us);

// Port of the gRPC server and of the side port; 0 without one.
int coordinator_port(const struct coordinator *coordinator);
int coordinator_http_port(const struct coordinator *coordinator);

// What the model is; valid as long as the coordinator.
const struct clip_info *coordinator_clip_info(const struct coordinator *coordinator);

// Waits until every node is up. STATUS_DEADLINE otherwise.
enum status coordinator_wait_nodes(struct coordinator *coordinator, int64_t deadline_us) MUST_CHECK;

// What is alive at this moment: all zero (but for arena_bytes, which has a floor) when nobody
// calls. A call that has just ended is gone from it soon after its answer.
struct coordinator_counters {
    size_t rpc_calls;    // gRPC calls that are not done
    size_t calls;        // with a handler: gRPC's and this process's
    size_t streams;      // ...Stream calls among them
    size_t items;        // questions of streams that are being answered
    size_t stream_bytes; // questions that streams hold
    size_t queries;
    size_t builds;      // label sets that are being made
    size_t jobs;        // for the compute thread, waiting, running or not yet taken back
    size_t requests;    // to nodes, without an answer yet
    size_t arena_bytes; // of the whole process
};
// Any thread may ask. The figures are those of the end of the loop's last turn.
void coordinator_counters(const struct coordinator *coordinator, struct coordinator_counters *out);

// One unary call, exactly as over gRPC: request bytes in, reply bytes appended to `reply`.
enum status coordinator_call(struct coordinator *coordinator, enum api_method method,
                             struct bytes request, int64_t deadline_us, struct buffer *reply,
                             struct reason *why) MUST_CHECK;

// The same with an id and a trace for the request, which the answer and the logs repeat.
struct coordinator_request {
    enum api_method method;
    struct bytes message;
    int64_t deadline_us;            // DEADLINE_NONE
    const struct trace *trace;      // begun; without id one is made; NULL: a trace is begun
    bool (*is_gone)(void *context); // asked while it runs: true cancels it; NULL: never
    void *context;
};
enum status coordinator_call_as(struct coordinator *coordinator,
                                const struct coordinator_request *request, struct buffer *reply,
                                struct reason *why) MUST_CHECK;

// A stream: open, send any number, close (no more will be sent; finish does it too), finish (always
// ends *stream and sets it to NULL). send waits while too much is on its way; after its failure
// finish tells why. A method whose client does not stream takes one message.
//
// Where the server streams: receive until *ended, then finish, with `reply` NULL, gives the status;
// before the end it cancels the call. A message that is not received holds the handler back, and
// the handler then takes no more: who has API_STREAM_ITEMS requests unanswered receives before it
// sends.
enum status coordinator_stream_open(struct coordinator *coordinator, enum api_method method,
                                    struct coordinator_stream **out, struct reason *why) MUST_CHECK;
enum status coordinator_stream_send(struct coordinator_stream *stream,
                                    struct bytes message) MUST_CHECK;
void coordinator_stream_close(struct coordinator_stream *stream);
// In place of what `message` held.
enum status coordinator_stream_receive(struct coordinator_stream *stream, struct buffer *message,
                                       bool *ended) MUST_CHECK;
enum status coordinator_stream_finish(struct coordinator_stream **stream, struct buffer *reply,
                                      struct reason *why) MUST_CHECK;

#endif
