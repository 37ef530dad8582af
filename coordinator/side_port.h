// SPDX-License-Identifier: Apache-2.0
// side_port.h - the coordinator over HTTP: health, readiness, metrics, and queries as JSON.
//
//   GET  /healthz   200 while the process lives
//   GET  /readyz    200 when it serves, else 503 with the reasons
//   GET  /metrics   the text format of Prometheus
//   POST /v1/search /v1/refine /v1/classify   json_api.h
//
// Thread-safety: create, listen and destroy belong to the thread that starts the coordinator;
// drain, running and turn to the loop.

#ifndef RECO_COORDINATOR_SIDE_PORT_H
#define RECO_COORDINATOR_SIDE_PORT_H

#include <stddef.h>

#include "coordinator/fanout.h"
#include "coordinator/telemetry.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"

struct coordinator;
struct side_port;

// Does not listen yet. Borrows both.
struct side_port *side_port_create(struct coordinator *coordinator, struct telemetry *telemetry);
void side_port_destroy(struct side_port **port); // NULL is allowed

// Errors of http_start().
enum status side_port_listen(struct side_port *port, const char *listen,
                             struct reason *why) MUST_CHECK;
int side_port_port(const struct side_port *port); // 0: it does not listen

// The loop tells what it sees, at each of its turns.
void side_port_turn(struct side_port *port, const struct fanout *fanout);

// Not ready from now on, and no new queries.
void side_port_drain(struct side_port *port);
size_t side_port_running(const struct side_port *port); // queries

#endif
