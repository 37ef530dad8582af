// SPDX-License-Identifier: Apache-2.0
// telemetry.h - what a coordinator counts, for /metrics.
//
// One object for each coordinator, made before its threads. README.md lists the metrics.
//
// Thread-safety: every function but create and destroy may be called by any thread, except
// telemetry_call_*(), which keep a number and belong to the loop. NULL as the telemetry
// counts nothing.

#ifndef RECO_COORDINATOR_TELEMETRY_H
#define RECO_COORDINATOR_TELEMETRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/metrics.h"
#include "proto/base/status.h"
#include "proto/wire/api.h"
#include "proto/wire/api_json.h"

struct telemetry;

// Why an answer is less than it could be.
enum telemetry_degraded {
    TELEMETRY_NODE_DOWN,
    TELEMETRY_NODE_LATE,
    TELEMETRY_NODE_FAILED,
    TELEMETRY_NODE_INCOMPLETE, // answered for some of its vshards
    TELEMETRY_NO_MEMORY,       // the memory does not exist
    TELEMETRY_NO_NODES,
    TELEMETRY_DEADLINE,  // no time for a step
    TELEMETRY_DOCUMENTS, // keys and captions are missing
    TELEMETRY_PAYLOAD,   // neighbours were left out: their embeddings did not come
    TELEMETRY_DEGRADED_COUNT,
};

enum telemetry_cancel {
    TELEMETRY_CANCEL_CLIENT,   // it hung up or said so
    TELEMETRY_CANCEL_SHUTDOWN, // the coordinator stops
    TELEMETRY_CANCEL_COUNT,
};

struct telemetry *telemetry_create(uint32_t nodes, const char *version);
void telemetry_destroy(struct telemetry **telemetry); // NULL is allowed

struct metrics *telemetry_metrics(struct telemetry *telemetry);

// A gRPC call begins and ends.
void telemetry_call_begun(struct telemetry *telemetry);
void telemetry_call_ended(struct telemetry *telemetry, enum api_method method, enum status status,
                          int64_t took_us);
void telemetry_cancelled(struct telemetry *telemetry, enum telemetry_cancel reason);

// Calls that were refused because too much is under way.
enum telemetry_reject {
    TELEMETRY_REJECT_BUSY,  // a queue behind the call was full
    TELEMETRY_REJECT_CALLS, // as many ran as there may be
    TELEMETRY_REJECT_BYTES, // its message did not fit beside those under way
    TELEMETRY_REJECT_COUNT,
};
void telemetry_rejected(struct telemetry *telemetry, enum telemetry_reject reason, uint64_t count);

// A query was answered: with its timings and its coverage.
void telemetry_query(struct telemetry *telemetry, const struct api_timings *timings,
                     float coverage);
void telemetry_degraded(struct telemetry *telemetry, enum telemetry_degraded reason);

// Pictures or texts went through the model together, whoever asked for them.
enum telemetry_batch {
    TELEMETRY_BATCH_IMAGES,
    TELEMETRY_BATCH_TEXTS,
    TELEMETRY_BATCH_COUNT,
};
void telemetry_batch(struct telemetry *telemetry, enum telemetry_batch kind, size_t items);

// reco-encoder, where there is to be one.
enum telemetry_encoder {
    TELEMETRY_ENCODER_NONE, // all is computed in this process
    TELEMETRY_ENCODER_DOWN,
    TELEMETRY_ENCODER_UP,
};
enum telemetry_death {
    TELEMETRY_DEATH_START,  // it could not open its model
    TELEMETRY_DEATH_EXIT,   // it ended, or was killed from outside
    TELEMETRY_DEATH_HANG,   // no answer in time
    TELEMETRY_DEATH_DEVICE, // its device failed
    TELEMETRY_DEATH_ANSWER, // an answer that cannot be right
    TELEMETRY_DEATH_COUNT,
};
void telemetry_encoder_state(struct telemetry *telemetry, enum telemetry_encoder state);
void telemetry_encoder_death(struct telemetry *telemetry, enum telemetry_death cause);
enum telemetry_encoder telemetry_encoder(const struct telemetry *telemetry);
const char *telemetry_death_name(enum telemetry_death cause);

// Who computed a batch.
enum telemetry_encoded {
    TELEMETRY_BY_PROCESS, // reco-encoder
    TELEMETRY_BY_CPU,     // this process
    TELEMETRY_BY_RETRY,   // this process, after reco-encoder had failed with it
    TELEMETRY_BY_COUNT,
};
void telemetry_encoded(struct telemetry *telemetry, enum telemetry_encoded by);

// A request to a node ended after `took_us`, or could not be sent (`took_us` below 0).
void telemetry_node(struct telemetry *telemetry, uint32_t node, enum status status,
                    int64_t took_us);

// A query in JSON was answered with an HTTP code.
void telemetry_http(struct telemetry *telemetry, enum api_json_verb verb, unsigned code);

// What a node is like at the moment.
void telemetry_node_state(struct telemetry *telemetry, uint32_t node, bool up, uint32_t credits);

#endif
