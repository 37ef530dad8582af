// SPDX-License-Identifier: Apache-2.0
// json_api.h - Search, Refine and Classify as JSON over HTTP.
//
// A request is proto/wire/api_json.h's; it becomes the bytes of a gRPC message and goes through
// coordinator_call_as(), the same handlers as every other call. The answer is the JSON line of
// `reco search|refine|classify --json`. An error is {"error":{"code","field","message"}}, code
// being the name of the gRPC status, with the HTTP status that fits.
//
//   x-request-id           as over gRPC
//   x-deadline-ms, or the argument deadline_ms: 1..3600000, default 30000
//
// A client that hangs up cancels its call.
//
// Thread-safety: any thread.

#ifndef RECO_COORDINATOR_JSON_API_H
#define RECO_COORDINATOR_JSON_API_H

#include "coordinator/coordinator.h"
#include "proto/http/http.h"
#include "proto/wire/api_json.h"

#define JSON_API_BODY_BYTES ((size_t)48 << 20) // an image of 32 MiB in base64, and room for labels
#define JSON_API_DEADLINE_MS 30000
#define JSON_API_DEADLINE_MS_MAX 3600000

void json_api_answer(struct coordinator *coordinator, enum api_json_verb verb,
                     const struct http_request *request, struct http_reply *reply);

// An error that the HTTP server finds itself, in the same form.
void json_api_put_error(unsigned code, const char *text, struct http_reply *reply);

#endif
