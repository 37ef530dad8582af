// SPDX-License-Identifier: Apache-2.0
// side_port.c - what the loop sees is kept in atomics, so that health and metrics are answered
// without waiting for it. A loop that does not turn any more is seen by the age of what it told.
//
// Ready means: every node was reached once (a cluster that starts is not ready), and now at least
// one of them is: with some nodes down queries are answered, with their coverage. Without nodes,
// encoding alone, it is ready at once.

#include "coordinator/side_port.h"

#include <assert.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>

#include "coordinator/json_api.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/http/http.h"

#define GAUGES_US 50000   // between two looks at every node
#define STUCK_US 10000000 // the loop turns once a second when nothing happens

struct side_port {
    struct coordinator *coordinator;
    struct telemetry *telemetry;
    struct http_server *http; // NULL: does not listen

    // Told by the loop.
    atomic_bool drains;
    atomic_uint nodes;
    atomic_uint up;       // mask
    atomic_uint seen;     // mask of the nodes that were up once
    atomic_llong turn_us; // 0: no turn yet
    int64_t gauges_us;    // the loop's
};

// ---------------------------------------------------------------- the loop's side

void side_port_turn(struct side_port *port, const struct fanout *fanout)
{
    assert(port && fanout);

    uint32_t up = fanout_up_mask(fanout);
    int64_t now_us = clock_now_us();
    bool changed = up != atomic_load_explicit(&port->up, memory_order_relaxed);
    atomic_store(&port->nodes, fanout_count(fanout));
    atomic_store(&port->up, up);
    (void)atomic_fetch_or(&port->seen, up);
    atomic_store(&port->turn_us, now_us);
    if (!changed && now_us - port->gauges_us < GAUGES_US)
        return;
    port->gauges_us = now_us;
    for (uint32_t node = 0; node < fanout_count(fanout); node++) {
        struct dealer_peer_info info;
        fanout_info(fanout, node, &info);
        telemetry_node_state(port->telemetry, node, info.up, info.credits);
    }
}

void side_port_drain(struct side_port *port)
{
    assert(port);

    atomic_store(&port->drains, true);
    if (port->http)
        http_refuse(port->http);
}

size_t side_port_running(const struct side_port *port)
{
    return port->http ? http_running(port->http) : 0;
}

// ---------------------------------------------------------------- the routes

static void on_healthz(void *context, const struct http_request *request, struct http_reply *reply)
{
    (void)context;
    (void)request;
    http_put(reply, 200, "ok\n");
}

// Names the nodes of a mask: "nodes 0 3 are down".
static void name_down(uint32_t mask, char *text, size_t room)
{
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t node = 0; node < NODES_MAX && used + 4 < room; node++)
        if (mask & 1u << node)
            used += (size_t)snprintf(text + used, room - used, " %u", node);
}

static void on_readyz(void *context, const struct http_request *request, struct http_reply *reply)
{
    struct side_port *port = context;
    (void)request;
    uint32_t nodes = atomic_load(&port->nodes);
    uint32_t all = nodes == 0 ? 0 : UINT32_MAX >> (32 - nodes);
    uint32_t down = all & ~atomic_load(&port->up);
    uint32_t unseen = all & ~atomic_load(&port->seen);
    int64_t turn_us = atomic_load(&port->turn_us);
    int64_t age_us = clock_now_us() - turn_us;
    char names[128];
    if (atomic_load(&port->drains)) {
        http_put(reply, 503, "not ready: draining\n");
    } else if (turn_us == 0) {
        http_put(reply, 503, "not ready: starting\n");
    } else if (age_us > STUCK_US) {
        http_put(reply, 503, "not ready: the loop has not turned for %" PRId64 " s\n",
                 age_us / 1000000);
    } else if (unseen) {
        name_down(unseen, names, sizeof(names));
        http_put(reply, 503, "not ready: not reached yet: node%s\n", names);
    } else if (nodes > 0 && down == all) {
        http_put(reply, 503, "not ready: no node is up\n");
    } else {
        bool no_encoder = telemetry_encoder(port->telemetry) == TELEMETRY_ENCODER_DOWN;
        name_down(down, names, sizeof(names));
        http_put(reply, 200, "ready%s%s%s\n", down ? "; down: node" : "", names,
                 no_encoder ? "; reco-encoder is down, the CPU computes" : "");
    }
}

static void on_metrics(void *context, const struct http_request *request, struct http_reply *reply)
{
    struct side_port *port = context;
    (void)request;
    reply->content_type = "text/plain; version=0.0.4; charset=utf-8";
    if (metrics_write(telemetry_metrics(port->telemetry), &reply->body) != STATUS_OK)
        http_put(reply, 503, "no memory for the metrics\n");
}

static void on_query(const struct side_port *port, enum api_json_verb verb,
                     const struct http_request *request, struct http_reply *reply)
{
    json_api_answer(port->coordinator, verb, request, reply);
    telemetry_http(port->telemetry, verb, reply->code ? reply->code : 200);
}

static void on_search(void *context, const struct http_request *request, struct http_reply *reply)
{
    on_query(context, API_JSON_SEARCH, request, reply);
}

static void on_refine(void *context, const struct http_request *request, struct http_reply *reply)
{
    on_query(context, API_JSON_REFINE, request, reply);
}

static void on_classify(void *context, const struct http_request *request, struct http_reply *reply)
{
    on_query(context, API_JSON_CLASSIFY, request, reply);
}

static const struct http_route routes[] = {
    {.path = "/healthz", .is_quick = true, .handle = on_healthz},
    {.path = "/readyz", .is_quick = true, .handle = on_readyz},
    {.path = "/metrics", .is_quick = true, .handle = on_metrics},
    {.path = "/v1/search",
     .is_post = true,
     .body_bytes_max = JSON_API_BODY_BYTES,
     .handle = on_search},
    {.path = "/v1/refine",
     .is_post = true,
     .body_bytes_max = JSON_API_BODY_BYTES,
     .handle = on_refine},
    {.path = "/v1/classify",
     .is_post = true,
     .body_bytes_max = JSON_API_BODY_BYTES,
     .handle = on_classify},
};

// ---------------------------------------------------------------- life

struct side_port *side_port_create(struct coordinator *coordinator, struct telemetry *telemetry)
{
    assert(coordinator && telemetry);

    struct side_port *port = mem_alloc(sizeof(*port));
    port->coordinator = coordinator;
    port->telemetry = telemetry;
    return port;
}

enum status side_port_listen(struct side_port *port, const char *listen, struct reason *why)
{
    assert(port && listen && !port->http);

    const struct http_params params = {
        .listen = listen,
        .field = "--http",
        .routes = routes,
        .route_count = sizeof(routes) / sizeof(routes[0]),
        .context = port,
        .put_error = json_api_put_error,
    };
    enum status status = http_start(&params, &port->http, why);
    if (status == STATUS_OK)
        log_info("http_started", "port=%d", http_port(port->http));
    return status;
}

int side_port_port(const struct side_port *port)
{
    return port->http ? http_port(port->http) : 0;
}

void side_port_destroy(struct side_port **port)
{
    assert(port);

    if (!*port)
        return;
    http_stop(&(*port)->http);
    mem_free(*port);
    *port = NULL;
}
