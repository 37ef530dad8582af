// SPDX-License-Identifier: Apache-2.0
// client.h - who answers: a coordinator and shard nodes inside this process, or a server.
//
// A verb encodes a message of proto/wire, calls, and decodes the reply; it never knows
// which of the two answered, and both answer with the same bytes but for request id
// and timings.
//
// Thread-safety: a client and its streams belong to one thread; client_share() gives
// another thread its own.

#ifndef RECO_TOOLS_CLIENT_H
#define RECO_TOOLS_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/arena.h"
#include "proto/base/bytes.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "proto/wire/api.h"
#include "tools/options.h"

struct client;
struct client_stream;

enum client_need {
    CLIENT_ENCODER, // CLIP only: no data directory is opened
    CLIENT_READ,    // memories: a data directory must exist
    CLIENT_WRITE,   // memories: a data directory is made when there is none
};

// Opens what the flags name: options->server, else everything inside this process. Fails as
// rpc_client_open(), datadir_open(), node_start(), clip_open() and coordinator_start() do.
// STATUS_NOT_FOUND saying which directory is missing and how to make it.
enum status client_open(const struct options *options, enum client_need need, struct client **out,
                        struct reason *why) MUST_CHECK;

// Whether client_open() failed because of the command line: the reason's field is a flag.
bool client_blames_flags(const struct reason *why);

// Another handle to the same answerer for another thread; the first is closed last.
enum status client_share(struct client *client, struct client **out, struct reason *why) MUST_CHECK;

// Lets running work end; sets *client to NULL. NULL is allowed.
void client_close(struct client **client);

// One call with the deadline of the flags: request bytes in, reply bytes in place of what
// `reply` held.
enum status client_call(struct client *client, enum api_method method, struct bytes request,
                        struct buffer *reply, struct reason *why) MUST_CHECK;

// A stream, without deadline: open, send any number (one, where the method's client does not
// stream), close (nothing more is sent), finish, which closes too and always ends *stream and
// sets it to NULL. After a failed send, finish has the reason.
//
// Where the server streams: receive until *ended, each message in place of what `message` held;
// then finish, with `reply` NULL, has the result; before the end it cancels the call. Who has
// API_STREAM_ITEMS requests unanswered receives before it sends the next.
enum status client_stream_open(struct client *client, enum api_method method,
                               struct client_stream **out, struct reason *why) MUST_CHECK;
enum status client_stream_send(struct client_stream *stream, struct bytes message) MUST_CHECK;
void client_stream_close(struct client_stream *stream);
enum status client_stream_receive(struct client_stream *stream, struct buffer *message,
                                  bool *ended) MUST_CHECK;
enum status client_stream_finish(struct client_stream **stream, struct buffer *reply,
                                 struct reason *why) MUST_CHECK;

// "HOST:PORT" of the server, or the data directory, for messages to people.
const char *client_name(const struct client *client);

// The data directory that the flags name: --data, else the default. STATUS_NOT_FOUND.
#define CLIENT_PATH_BYTES 4096
enum status client_data_path(const struct options *options, char out[CLIENT_PATH_BYTES],
                             struct reason *why) MUST_CHECK;

#endif
