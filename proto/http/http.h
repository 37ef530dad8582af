// SPDX-License-Identifier: Apache-2.0
// http.h - a small HTTP server for the side port of a process: health, metrics, JSON.
//
// A table of routes says which path and method goes to which function. Quick routes are answered by
// the server's own thread and must not wait for anything; all others by one of a few workers,
// which may. There is no TLS, so it listens on the loopback only; a Host header with a name that is
// neither the loopback's nor the one listened at is told 403.
//
//   http_start -> ... -> http_refuse -> (http_running() == 0) -> http_stop
//
// What a client can cost: HTTP_CONNECTIONS_MAX connections, each silent for HTTP_SILENCE_S at most;
// when they become many, the one that has been idle longest makes room for a new one. Headers
// of HTTP_HEADER_BYTES, a body as its route allows, bodies of HTTP_BODIES_BYTES together.
//
// Thread-safety: start and stop belong to one thread; http_refuse() and http_running() may be
// called by any. Handlers of quick routes run one at a time, the others at once.

#ifndef RECO_PROTO_HTTP_HTTP_H
#define RECO_PROTO_HTTP_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/bytes.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "proto/base/trace.h"

#define HTTP_ROUTES_MAX 16
#define HTTP_CONNECTIONS_MAX 128             // file descriptors that it may take
#define HTTP_CONNECTIONS_FEW 64              // from here on idle ones are closed for new ones
#define HTTP_HEADER_BYTES ((size_t)32 << 10) // of a request; its reply's header has room there too
#define HTTP_BODIES_BYTES ((size_t)128 << 20)
#define HTTP_SILENCE_S 10u       // without a byte from or to the client
#define HTTP_REQUEST_US 60000000 // for a body to arrive
#define HTTP_WORKERS 8           // calls that wait at the same time
#define HTTP_WAITING_MAX 64      // requests that wait for a worker
#define HTTP_LISTEN_OFF "off"

struct http_server;
struct http_request;

// What a handler answers. Zero is an empty 200.
struct http_reply {
    unsigned code;                             // 0: 200
    const char *content_type;                  // NULL: text/plain; static text
    struct buffer body;                        // the server frees it
    unsigned retry_after_s;                    // 0: no such header
    char request_id[REQUEST_ID_BYTES_MAX + 1]; // told as x-request-id; empty, or unfit: not told
    char traceparent[TRACE_PARENT_BYTES + 1];  // empty: not told
};

typedef void (*http_handler)(void *context, const struct http_request *request,
                             struct http_reply *reply);

struct http_route {
    const char *path; // "/metrics"
    bool is_post;     // else GET and HEAD
    bool is_quick;
    size_t body_bytes_max; // of a POST
    http_handler handle;
};

struct http_params {
    const char *listen;              // "127.0.0.1:7780", port 0 picks one
    const char *field;               // what errors call it: "--http"
    const struct http_route *routes; // [route_count]; must outlive the server
    size_t route_count;
    void *context;
    // Writes the body of an error that the server makes itself; `text` says what is wrong.
    void (*put_error)(unsigned code, const char *text, struct http_reply *reply);
};

// STATUS_INVALID for an address that is none or not of the loopback, STATUS_UNAVAILABLE when it is
// taken, STATUS_EXHAUSTED.
enum status http_start(const struct http_params *params, struct http_server **out,
                       struct reason *why) MUST_CHECK;
int http_port(const struct http_server *server);

// From now on routes that are not quick are told 503. Their number falls to 0 and stays there.
void http_refuse(struct http_server *server);
size_t http_running(const struct http_server *server);

// Ends it, with every connection. Waits for running handlers. Sets *server to NULL; NULL is
// allowed.
void http_stop(struct http_server **server);

// --- for handlers; what is returned is valid until the handler returns

struct bytes http_body(const struct http_request *request);
const char *http_header(const struct http_request *request, const char *name);   // NULL: none
const char *http_argument(const struct http_request *request, const char *name); // of the query
bool http_is_gone(const struct http_request *request); // the client has hung up

// Fills a reply with text (printf format); the type stays as it is.
void http_put(struct http_reply *reply, unsigned code, const char *format, ...) PRINTF_LIKE(3, 4);

#endif
