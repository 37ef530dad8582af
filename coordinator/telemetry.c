// SPDX-License-Identifier: Apache-2.0
// telemetry.c - the coordinator's metrics, and which label has which number.

#include "coordinator/telemetry.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>

#include "proto/base/limits.h"
#include "proto/base/mem.h"

#define GRPC_CODES 17
#define MS 1000.0
#define US 1e6

static const char *const codes[GRPC_CODES] = {
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
};

static const char *const degraded_names[TELEMETRY_DEGRADED_COUNT] = {
    [TELEMETRY_NODE_DOWN] = "node_down",     [TELEMETRY_NODE_LATE] = "node_late",
    [TELEMETRY_NODE_FAILED] = "node_failed", [TELEMETRY_NODE_INCOMPLETE] = "node_incomplete",
    [TELEMETRY_NO_MEMORY] = "no_memory",     [TELEMETRY_NO_NODES] = "no_nodes",
    [TELEMETRY_DEADLINE] = "deadline",       [TELEMETRY_DOCUMENTS] = "documents",
    [TELEMETRY_PAYLOAD] = "payload",
};

static const char *const reject_names[TELEMETRY_REJECT_COUNT] = {"busy", "calls", "bytes"};
static const char *const cancel_names[TELEMETRY_CANCEL_COUNT] = {
    [TELEMETRY_CANCEL_CLIENT] = "client",
    [TELEMETRY_CANCEL_SHUTDOWN] = "shutdown",
};

enum stage {
    STAGE_DECODE,
    STAGE_PREPROCESS,
    STAGE_ENCODE,
    STAGE_QUEUE,
    STAGE_FANOUT,
    STAGE_MERGE,
    STAGE_FETCH,
    STAGE_FUSE,
    STAGES,
};

static const char *const stage_names[STAGES] = {
    [STAGE_DECODE] = "decode", [STAGE_PREPROCESS] = "preprocess",
    [STAGE_ENCODE] = "encode", [STAGE_QUEUE] = "queue",
    [STAGE_FANOUT] = "fanout", [STAGE_MERGE] = "merge",
    [STAGE_FETCH] = "fetch",   [STAGE_FUSE] = "fuse",
};

enum result { RESULT_OK, RESULT_LATE, RESULT_DOWN, RESULT_FAILED, RESULTS };

static const char *const result_names[RESULTS] = {
    [RESULT_OK] = "ok",
    [RESULT_LATE] = "deadline",
    [RESULT_DOWN] = "down",
    [RESULT_FAILED] = "error",
};

static const double coverages[] = {0, 0.25, 0.5, 0.75, 0.9, 0.99, 1};

static const double batch_items[] = {1, 2, 4, 8, 16, 32, 64, 128, 256};
static const char *const batch_names[TELEMETRY_BATCH_COUNT] = {
    [TELEMETRY_BATCH_IMAGES] = "images",
    [TELEMETRY_BATCH_TEXTS] = "texts",
};

static const char *const death_names[TELEMETRY_DEATH_COUNT] = {
    [TELEMETRY_DEATH_START] = "start",   [TELEMETRY_DEATH_EXIT] = "exit",
    [TELEMETRY_DEATH_HANG] = "hang",     [TELEMETRY_DEATH_DEVICE] = "device",
    [TELEMETRY_DEATH_ANSWER] = "answer",
};
static const char *const encoded_names[TELEMETRY_BY_COUNT] = {
    [TELEMETRY_BY_PROCESS] = "process",
    [TELEMETRY_BY_CPU] = "cpu",
    [TELEMETRY_BY_RETRY] = "cpu_retry",
};

static const char *const http_paths[] = {
    [API_JSON_SEARCH] = "/v1/search",
    [API_JSON_REFINE] = "/v1/refine",
    [API_JSON_CLASSIFY] = "/v1/classify",
};

#define HTTP_CODES 11
static const unsigned http_codes[HTTP_CODES] = {200, 400, 401, 403, 404, 409,
                                                412, 429, 500, 503, 504};
static const char *const http_code_names[HTTP_CODES] = {"200", "400", "401", "403", "404", "409",
                                                        "412", "429", "500", "503", "504"};

struct telemetry {
    struct metrics *metrics;
    uint32_t running; // gRPC calls, the loop's
    struct metric *requests;
    struct metric *request_seconds;
    struct metric *inflight;
    struct metric *cancels;
    struct metric *rejected;
    struct metric *stage_seconds;
    struct metric *coverage;
    struct metric *degraded;
    struct metric *batches;
    struct metric *encoded;
    struct metric *encoder_up;
    struct metric *encoder_deaths;
    atomic_int encoder; // enum telemetry_encoder
    struct metric *http;
    struct metric *fanout_requests; // these four NULL without nodes
    struct metric *fanout_seconds;
    struct metric *node_up;
    struct metric *credits;
};

static struct metric *add(struct telemetry *telemetry, enum metric_kind kind, const char *name,
                          const char *help, struct metric_label label)
{
    struct metric_params params = {.name = name, .help = help, .kind = kind, .labels = {label}};
    if (kind == METRIC_HISTOGRAM) {
        params.bounds = metrics_seconds;
        params.bound_count = METRICS_SECONDS_COUNT;
    }
    return metrics_add(telemetry->metrics, &params);
}

static void add_calls(struct telemetry *telemetry)
{
    const struct metric_label none = {.name = NULL};
    const char *methods[API_METHOD_COUNT];
    for (size_t i = 0; i < API_METHOD_COUNT; i++)
        methods[i] = api_method_info((enum api_method)i)->path + 1; // without the slash
    struct metric_label method = {"method", methods, API_METHOD_COUNT};
    telemetry->requests = metrics_add(
        telemetry->metrics, &(struct metric_params){
                                .name = "reco_grpc_requests_total",
                                .help = "gRPC calls that ended, by method and gRPC status code.",
                                .kind = METRIC_COUNTER,
                                .labels = {method, {"code", codes, GRPC_CODES}},
                            });
    telemetry->request_seconds =
        add(telemetry, METRIC_HISTOGRAM, "reco_grpc_request_duration_seconds",
            "From the call's first message to its end.", method);
    telemetry->inflight =
        add(telemetry, METRIC_GAUGE, "reco_grpc_inflight", "gRPC calls under way.", none);
    telemetry->cancels = add(telemetry, METRIC_COUNTER, "reco_cancel_total",
                             "Calls that were cancelled, by who wanted it.",
                             (struct metric_label){"reason", cancel_names, TELEMETRY_CANCEL_COUNT});
    telemetry->rejected =
        add(telemetry, METRIC_COUNTER, "reco_admission_rejected_total",
            "Calls that were told RESOURCE_EXHAUSTED, by what there was too much of.",
            (struct metric_label){"reason", reject_names, TELEMETRY_REJECT_COUNT});
    metric_set(telemetry->inflight, 0, 0);
    telemetry->http =
        metrics_add(telemetry->metrics,
                    &(struct metric_params){
                        .name = "reco_http_requests_total",
                        .help = "Queries in JSON, by path and HTTP status.",
                        .kind = METRIC_COUNTER,
                        .labels = {{"path", http_paths, 3}, {"code", http_code_names, HTTP_CODES}},
                    });
}

static void add_queries(struct telemetry *telemetry)
{
    telemetry->stage_seconds =
        add(telemetry, METRIC_HISTOGRAM, "reco_search_stage_seconds",
            "Time of each step of a query, of the steps that took place (searches, refinements, "
            "classifications, and the queries behind a label set).",
            (struct metric_label){"stage", stage_names, STAGES});
    telemetry->coverage =
        metrics_add(telemetry->metrics,
                    &(struct metric_params){
                        .name = "reco_search_coverage_ratio",
                        .help = "Share of the memory that was searched, of each query answered.",
                        .kind = METRIC_HISTOGRAM,
                        .bounds = coverages,
                        .bound_count = sizeof(coverages) / sizeof(coverages[0]),
                    });
    telemetry->degraded =
        add(telemetry, METRIC_COUNTER, "reco_search_degraded_total",
            "Reasons for which queries were answered with less than they could have been.",
            (struct metric_label){"reason", degraded_names, TELEMETRY_DEGRADED_COUNT});
}

static void add_encoder(struct telemetry *telemetry)
{
    telemetry->batches = metrics_add(
        telemetry->metrics, &(struct metric_params){
                                .name = "reco_encode_batch_items",
                                .help = "Pictures or texts that went through the model together.",
                                .kind = METRIC_HISTOGRAM,
                                .bounds = batch_items,
                                .bound_count = sizeof(batch_items) / sizeof(batch_items[0]),
                                .labels = {{"kind", batch_names, TELEMETRY_BATCH_COUNT}},
                            });
    telemetry->encoded =
        add(telemetry, METRIC_COUNTER, "reco_encode_batches_total",
            "Batches by who computed them: reco-encoder, this process, or this process after "
            "reco-encoder had failed with them.",
            (struct metric_label){"by", encoded_names, TELEMETRY_BY_COUNT});
    telemetry->encoder_up = add(telemetry, METRIC_GAUGE, "reco_encoder_up",
                                "Whether reco-encoder computes; 0 also where there is none.",
                                (struct metric_label){.name = NULL});
    telemetry->encoder_deaths = add(
        telemetry, METRIC_COUNTER, "reco_encoder_deaths_total", "Ends of reco-encoder, by cause.",
        (struct metric_label){"cause", death_names, TELEMETRY_DEATH_COUNT});
    metric_set(telemetry->encoder_up, 0, 0);
}

static void add_nodes(struct telemetry *telemetry, uint32_t count)
{
    char names[NODES_MAX][12];
    const char *pointers[NODES_MAX];
    for (uint32_t i = 0; i < count; i++) {
        (void)snprintf(names[i], sizeof(names[i]), "%u", i);
        pointers[i] = names[i];
    }
    struct metric_label node = {"node", pointers, count};
    telemetry->fanout_requests =
        metrics_add(telemetry->metrics,
                    &(struct metric_params){
                        .name = "reco_fanout_requests_total",
                        .help = "Requests to nodes that ended, by node and result; a request that "
                                "was cancelled is not counted.",
                        .kind = METRIC_COUNTER,
                        .labels = {node, {"result", result_names, RESULTS}},
                    });
    telemetry->fanout_seconds =
        add(telemetry, METRIC_HISTOGRAM, "reco_fanout_latency_seconds",
            "From sending a request to a node to its reply or failure.", node);
    telemetry->node_up = add(telemetry, METRIC_GAUGE, "reco_node_up",
                             "Whether the coordinator reaches the node.", node);
    telemetry->credits = add(telemetry, METRIC_GAUGE, "reco_credits_available",
                             "Requests that a node would take at once.", node);
}

struct telemetry *telemetry_create(uint32_t nodes, const char *version)
{
    assert(nodes <= NODES_MAX);

    struct telemetry *telemetry = mem_alloc(sizeof(*telemetry));
    telemetry->metrics = metrics_create();
    metrics_add_process(telemetry->metrics, version);
    add_calls(telemetry);
    add_queries(telemetry);
    add_encoder(telemetry);
    if (nodes > 0)
        add_nodes(telemetry, nodes);
    return telemetry;
}

void telemetry_destroy(struct telemetry **telemetry)
{
    assert(telemetry);

    if (!*telemetry)
        return;
    metrics_destroy(&(*telemetry)->metrics);
    mem_free(*telemetry);
    *telemetry = NULL;
}

struct metrics *telemetry_metrics(struct telemetry *telemetry)
{
    return telemetry->metrics;
}

void telemetry_call_begun(struct telemetry *telemetry)
{
    if (telemetry)
        metric_set(telemetry->inflight, 0, ++telemetry->running);
}

void telemetry_call_ended(struct telemetry *telemetry, enum api_method method, enum status status,
                          int64_t took_us)
{
    if (!telemetry)
        return;
    assert(telemetry->running > 0);
    size_t code = (size_t)status_grpc_code(status);
    metric_count(telemetry->requests, (size_t)method * GRPC_CODES + code, 1);
    metric_observe(telemetry->request_seconds, (size_t)method, (double)took_us / US);
    metric_set(telemetry->inflight, 0, --telemetry->running);
}

void telemetry_cancelled(struct telemetry *telemetry, enum telemetry_cancel reason)
{
    if (telemetry)
        metric_count(telemetry->cancels, reason, 1);
}

void telemetry_rejected(struct telemetry *telemetry, enum telemetry_reject reason, uint64_t count)
{
    if (telemetry && count > 0)
        metric_count(telemetry->rejected, reason, count);
}

void telemetry_query(struct telemetry *telemetry, const struct api_timings *timings, float coverage)
{
    assert(timings);

    if (!telemetry)
        return;
    const float ms[STAGES] = {
        [STAGE_DECODE] = timings->decode, [STAGE_PREPROCESS] = timings->preprocess,
        [STAGE_ENCODE] = timings->encode, [STAGE_QUEUE] = timings->queue,
        [STAGE_FANOUT] = timings->fanout, [STAGE_MERGE] = timings->merge,
        [STAGE_FETCH] = timings->fetch,   [STAGE_FUSE] = timings->fuse,
    };
    for (size_t i = 0; i < STAGES; i++)
        if (ms[i] > 0)
            metric_observe(telemetry->stage_seconds, i, (double)ms[i] / MS);
    metric_observe(telemetry->coverage, 0, (double)coverage);
}

void telemetry_degraded(struct telemetry *telemetry, enum telemetry_degraded reason)
{
    if (telemetry)
        metric_count(telemetry->degraded, reason, 1);
}

void telemetry_batch(struct telemetry *telemetry, enum telemetry_batch kind, size_t items)
{
    if (telemetry)
        metric_observe(telemetry->batches, kind, (double)items);
}

void telemetry_encoder_state(struct telemetry *telemetry, enum telemetry_encoder state)
{
    if (!telemetry)
        return;
    atomic_store(&telemetry->encoder, state);
    metric_set(telemetry->encoder_up, 0, state == TELEMETRY_ENCODER_UP ? 1 : 0);
}

void telemetry_encoder_death(struct telemetry *telemetry, enum telemetry_death cause)
{
    if (telemetry)
        metric_count(telemetry->encoder_deaths, cause, 1);
}

enum telemetry_encoder telemetry_encoder(const struct telemetry *telemetry)
{
    return (enum telemetry_encoder)atomic_load(&telemetry->encoder);
}

const char *telemetry_death_name(enum telemetry_death cause)
{
    return death_names[cause];
}

void telemetry_encoded(struct telemetry *telemetry, enum telemetry_encoded by)
{
    if (telemetry)
        metric_count(telemetry->encoded, by, 1);
}

void telemetry_node(struct telemetry *telemetry, uint32_t node, enum status status, int64_t took_us)
{
    if (!telemetry || !telemetry->fanout_requests)
        return;
    enum result result = RESULT_FAILED;
    if (status == STATUS_OK)
        result = RESULT_OK;
    else if (status == STATUS_DEADLINE)
        result = RESULT_LATE;
    else if (status == STATUS_UNAVAILABLE)
        result = RESULT_DOWN;
    metric_count(telemetry->fanout_requests, (size_t)node * RESULTS + result, 1);
    if (took_us >= 0)
        metric_observe(telemetry->fanout_seconds, node, (double)took_us / US);
}

void telemetry_http(struct telemetry *telemetry, enum api_json_verb verb, unsigned code)
{
    if (!telemetry)
        return;
    for (size_t i = 0; i < HTTP_CODES; i++)
        if (http_codes[i] == code)
            metric_count(telemetry->http, (size_t)verb * HTTP_CODES + i, 1);
}

void telemetry_node_state(struct telemetry *telemetry, uint32_t node, bool up, uint32_t credits)
{
    if (!telemetry)
        return;
    metric_set(telemetry->node_up, node, up ? 1 : 0);
    metric_set(telemetry->credits, node, up ? credits : 0);
}
