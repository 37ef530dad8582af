// SPDX-License-Identifier: Apache-2.0
// train_asks.h - many questions over one stream, whose answers are taken in their order.
//
// As many are under way as a server takes, so that it can work on them together.
//
// Thread-safety: none; the client's thread.

#ifndef RECO_TOOLS_TRAIN_ASKS_H
#define RECO_TOOLS_TRAIN_ASKS_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/base/bytes.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "proto/wire/api.h"
#include "tools/client.h"

// Gets each answer, valid during the call. What it returns but STATUS_OK ends everything, with what
// it put into `why`.
typedef enum status train_on_answer(void *context, const struct api_stream_reply *answer,
                                    struct reason *why);

struct train_asks {
    struct client_stream *stream;
    train_on_answer *take;
    void *context;
    size_t under_way;
    bool is_broken; // the stream itself: its end says why
    struct buffer answer;
};

// Opens a stream of `method`. Whatever comes, it is ended by train_asks_end().
enum status train_asks_begin(struct train_asks *asks, struct client *client, enum api_method method,
                             struct reason *why) MUST_CHECK;

// Sends one question; first takes an answer when there are as many under way as are allowed.
enum status train_asks_put(struct train_asks *asks, struct bytes message,
                           struct reason *why) MUST_CHECK;

// Takes all answers that are under way, unless `status` is a failure already; returns it, or why
// the stream failed.
enum status train_asks_end(struct train_asks *asks, enum status status,
                           struct reason *why) MUST_CHECK;

#endif
