// SPDX-License-Identifier: Apache-2.0
// http.c - the way of a request.
//
//   headers --> refused? answer at once: 403, 404, 405, 413, 503
//      | body, collected
//      v
//   complete --> quick: handled here
//      \-------> suspended -> queue -> worker handles it -> resumed
//      v
//   answered --> the connection is idle again, or ends
//
// libmicrohttpd calls everything here from its one thread, except what the workers run; a
// connection that is suspended belongs to its worker. So only the queue and a few counters are
// shared.
//
// A connection is IDLE until the headers of a request are there, then READING its body, then BUSY.
// To make room the oldest IDLE one is shut down, else the oldest that is READING: libmicrohttpd
// sees the end of the stream and closes it. One whose bytes are waiting to be read is passed over,
// and BUSY ones are never touched.

#include "proto/http/http.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include <microhttpd.h>

#include "proto/base/address.h"
#include "proto/base/clock.h"
#include "proto/base/listener.h"
#include "proto/base/mem.h"
#include "proto/base/queue.h"
#include "proto/base/thread.h"

#define CODE_BAD_REQUEST 400u
#define CODE_FORBIDDEN 403u
#define CODE_NOT_FOUND 404u
#define CODE_METHOD 405u
#define CODE_TIMEOUT 408u
#define CODE_TOO_LARGE 413u
#define CODE_TOO_MANY 429u
#define CODE_UNAVAILABLE 503u
#define RETRY_AFTER_S 1u
#define TEXT_BYTES 512

enum link_state { LINK_FREE, LINK_IDLE, LINK_READING, LINK_BUSY };

// A connection.
struct link {
    enum link_state state;
    int fd;
    int64_t since_us; // in this state
    bool is_shut;
};

struct http_request {
    struct http_server *server;
    struct MHD_Connection *connection;
    struct link *link;
    const struct http_route *route;
    struct buffer body;
    struct http_reply reply;
    int64_t late_us;  // when the body must be there
    unsigned refused; // code of the refusal to come once the body has ended; 0: none
    bool is_handled;
    bool counts; // in server->running
};

struct http_server {
    struct http_params params;
    struct MHD_Daemon *daemon;
    int port;
    struct queue *queue; // of struct http_request, to the workers
    struct thread *workers[HTTP_WORKERS];
    atomic_bool refuses;
    atomic_size_t running; // requests in the queue and in the workers' hands

    // Of libmicrohttpd's thread.
    struct link links[HTTP_CONNECTIONS_MAX];
    size_t link_count;
    size_t body_bytes; // of all requests
};

// ---------------------------------------------------------------- replies

void http_put(struct http_reply *reply, unsigned code, const char *format, ...)
{
    assert(reply && format);

    char text[TEXT_BYTES];
    va_list arguments;
    va_start(arguments, format);
    // NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): it is, in the line above
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    reply->code = code;
    reply->body.count = 0;
    if (buffer_append(&reply->body, text, strlen(text)) != STATUS_OK)
        reply->body.count = 0; // the code alone
}

static enum MHD_Result send_reply(struct http_request *request, const char *allow)
{
    struct http_reply *reply = &request->reply;
    struct MHD_Response *response =
        MHD_create_response_from_buffer(reply->body.count, reply->body.data, MHD_RESPMEM_MUST_COPY);
    if (!response)
        return MHD_NO;
    const char *type = reply->content_type ? reply->content_type : "text/plain; charset=utf-8";
    bool ok = MHD_add_response_header(response, "Content-Type", type) == MHD_YES &&
              MHD_add_response_header(response, "Cache-Control", "no-store") == MHD_YES;
    if (ok && allow)
        ok = MHD_add_response_header(response, "Allow", allow) == MHD_YES;
    if (ok && reply->retry_after_s > 0) {
        char seconds[16];
        (void)snprintf(seconds, sizeof(seconds), "%u", reply->retry_after_s);
        ok = MHD_add_response_header(response, "Retry-After", seconds) == MHD_YES;
    }
    // An id that cannot stand in a header is left out.
    if (ok && reply->request_id[0] != '\0')
        (void)MHD_add_response_header(response, "X-Request-Id", reply->request_id);
    if (ok && reply->traceparent[0] != '\0')
        ok = MHD_add_response_header(response, TRACE_KEY, reply->traceparent) == MHD_YES;
    enum MHD_Result result = MHD_NO;
    if (ok)
        result = MHD_queue_response(request->connection, reply->code ? reply->code : MHD_HTTP_OK,
                                    response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result refuse(struct http_request *request, unsigned code, const char *allow)
{
    const struct http_params *params = &request->server->params;
    const char *text = "not found; see reco help up for what there is";
    char room[TEXT_BYTES];
    if (code == CODE_FORBIDDEN) {
        text = "this port answers as localhost, a loopback address or the address it listens at, "
               "not under the name in the Host header; a proxy in front sets Host to one of them";
    } else if (code == CODE_METHOD) {
        (void)snprintf(room, sizeof(room), "method not allowed; allowed: %s", allow);
        text = room;
    } else if (code == CODE_TOO_LARGE) {
        (void)snprintf(room, sizeof(room), "the body is too large; at most %zu bytes",
                       request->route->body_bytes_max);
        text = room;
    } else if (code == CODE_TIMEOUT) {
        text = "the body did not arrive within 60 seconds";
    } else if (code == CODE_TOO_MANY) {
        text = "too many requests wait; try again later, or use gRPC";
    } else if (code == CODE_UNAVAILABLE) {
        text = "no new requests are taken at the moment: the process stops, or has too many "
               "bodies in memory";
    }
    if (code == CODE_TOO_MANY || code == CODE_UNAVAILABLE)
        request->reply.retry_after_s = RETRY_AFTER_S;
    request->is_handled = true;
    params->put_error(code, text, &request->reply);
    request->reply.code = code;
    return send_reply(request, allow);
}

// ---------------------------------------------------------------- connections

// Whether the client has sent something that was not read yet.
static bool has_unread(const struct link *link)
{
    char byte = 0;
    return recv(link->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

static struct link *oldest(struct http_server *server, enum link_state state)
{
    struct link *found = NULL;
    for (size_t i = 0; i < HTTP_CONNECTIONS_MAX; i++) {
        struct link *link = &server->links[i];
        if (link->state == state && !link->is_shut &&
            (!found || link->since_us < found->since_us) && !has_unread(link))
            found = link;
    }
    return found;
}

static void make_room(struct http_server *server)
{
    struct link *link = oldest(server, LINK_IDLE);
    if (!link)
        link = oldest(server, LINK_READING);
    if (!link)
        return;
    link->is_shut = true;
    (void)shutdown(link->fd, SHUT_RDWR);
}

static void set_state(struct link *link, enum link_state state)
{
    link->state = state;
    link->since_us = clock_now_us();
}

static void on_connection(void *context, struct MHD_Connection *connection, void **socket_context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct http_server *server = context;
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        struct link *closed = *socket_context;
        if (closed) {
            closed->state = LINK_FREE;
            server->link_count--;
        }
        return;
    }
    if (server->link_count >= HTTP_CONNECTIONS_FEW)
        make_room(server);
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    for (size_t i = 0; info && i < HTTP_CONNECTIONS_MAX; i++) {
        struct link *link = &server->links[i];
        if (link->state != LINK_FREE)
            continue;
        *link = (struct link){.fd = info->connect_fd};
        set_state(link, LINK_IDLE);
        server->link_count++;
        *socket_context = link;
        return;
    }
}

static struct link *link_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

// ---------------------------------------------------------------- workers

static void handle(struct http_request *request)
{
    request->route->handle(request->server->params.context, request, &request->reply);
    request->is_handled = true;
}

static void work(struct thread *self, void *context)
{
    struct http_server *server = context;
    struct http_request *request = NULL;
    thread_ready(self, STATUS_OK);
    while ((request = queue_pop(server->queue, DEADLINE_NONE)) != NULL) {
        struct MHD_Connection *connection = request->connection;
        handle(request);
        // After this the request may be gone at any moment.
        (void)atomic_fetch_sub(&server->running, 1);
        MHD_resume_connection(connection);
    }
}

// Hands a complete request to the workers.
static enum MHD_Result enqueue(struct http_request *request)
{
    struct http_server *server = request->server;
    // Counted before looking: after http_refuse() the number only falls.
    (void)atomic_fetch_add(&server->running, 1);
    unsigned code = 0;
    if (atomic_load(&server->refuses))
        code = CODE_UNAVAILABLE;
    if (code == 0) {
        MHD_suspend_connection(request->connection);
        if (queue_push(server->queue, request) == STATUS_OK)
            return MHD_YES;
        MHD_resume_connection(request->connection);
        request->refused = CODE_TOO_MANY; // told when libmicrohttpd comes again
        code = 0;
    }
    (void)atomic_fetch_sub(&server->running, 1);
    return code == 0 ? MHD_YES : refuse(request, code, NULL);
}

// ---------------------------------------------------------------- requests

static const struct http_route *find_route(const struct http_server *server, const char *path)
{
    for (size_t i = 0; i < server->params.route_count; i++)
        if (strcmp(server->params.routes[i].path, path) == 0)
            return &server->params.routes[i];
    return NULL;
}

static bool fits_method(const struct http_route *route, const char *method)
{
    if (route->is_post)
        return strcmp(method, MHD_HTTP_METHOD_POST) == 0;
    return strcmp(method, MHD_HTTP_METHOD_GET) == 0 || strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;
}

// Whether the client says itself that its body is too large.
static bool announces_too_much(const struct http_request *request)
{
    const char *length = http_header(request, MHD_HTTP_HEADER_CONTENT_LENGTH);
    if (!length)
        return false;
    unsigned long long bytes = 0;
    for (; *length >= '0' && *length <= '9'; length++) {
        bytes = bytes * 10 + (unsigned long long)(*length - '0');
        if (bytes > request->route->body_bytes_max)
            return true;
    }
    return false;
}

// A web page can make a browser on this machine ask here, under a name of its own that it lets
// point to the loopback (DNS rebinding). So the name that is asked for must be one of ours; without
// one, which HTTP/1.0 allows, it is no browser.
static bool is_asked_for_us(const struct http_request *request)
{
    const char *host = http_header(request, MHD_HTTP_HEADER_HOST);
    if (!host)
        return true;
    char with_port[ADDRESS_HOST_BYTES_MAX + 8];
    struct address asked;
    struct address ours;
    // A port is not needed, and which one it is does not matter.
    if (address_parse(host, NULL, &asked, NULL) != STATUS_OK) {
        int bytes = snprintf(with_port, sizeof(with_port), "%s:0", host);
        if (bytes < 0 || (size_t)bytes >= sizeof(with_port) ||
            address_parse(with_port, NULL, &asked, NULL) != STATUS_OK)
            return false;
    }
    return asked.loopback ||
           (address_parse(request->server->params.listen, NULL, &ours, NULL) == STATUS_OK &&
            strcasecmp(asked.host, ours.host) == 0);
}

// The headers are there.
static enum MHD_Result begin(struct http_request *request, const char *path, const char *method)
{
    struct http_server *server = request->server;
    if (!is_asked_for_us(request))
        return refuse(request, CODE_FORBIDDEN, NULL);
    request->route = find_route(server, path);
    if (!request->route)
        return refuse(request, CODE_NOT_FOUND, NULL);
    if (!fits_method(request->route, method))
        return refuse(request, CODE_METHOD, request->route->is_post ? "POST" : "GET, HEAD");
    if (announces_too_much(request))
        return refuse(request, CODE_TOO_LARGE, NULL);
    if (!request->route->is_quick &&
        (atomic_load(&server->refuses) || server->body_bytes >= HTTP_BODIES_BYTES))
        return refuse(request, CODE_UNAVAILABLE, NULL);
    return MHD_YES;
}

// A piece of the body. What cannot be kept is read and dropped, since libmicrohttpd sends an answer
// only before or behind a body; a client that takes too long for that is cut off.
static enum MHD_Result receive(struct http_request *request, const char *data, size_t count)
{
    struct http_server *server = request->server;
    if (clock_passed(request->late_us))
        return MHD_NO;
    if (request->refused)
        return MHD_YES;
    if (count > request->route->body_bytes_max - request->body.count)
        request->refused = CODE_TOO_LARGE;
    else if (count > HTTP_BODIES_BYTES - server->body_bytes ||
             buffer_append(&request->body, data, count) != STATUS_OK)
        request->refused = CODE_UNAVAILABLE;
    else
        server->body_bytes += count;
    if (request->refused) {
        server->body_bytes -= request->body.count;
        buffer_deinit(&request->body);
        request->body = (struct buffer){0};
    }
    return MHD_YES;
}

// The body is complete, or a worker is done.
static enum MHD_Result complete(struct http_request *request)
{
    if (request->is_handled)
        return send_reply(request, NULL);
    if (request->refused)
        return refuse(request, request->refused, NULL);
    if (request->link)
        set_state(request->link, LINK_BUSY);
    if (!request->route->is_quick)
        return enqueue(request);
    handle(request);
    return send_reply(request, NULL);
}

// NOLINTNEXTLINE(readability-function-size): the parameters are libmicrohttpd's
static enum MHD_Result on_request(void *context, struct MHD_Connection *connection,
                                  const char *path, const char *method, const char *version,
                                  const char *data, size_t *count, void **state)
{
    (void)version;
    struct http_request *request = *state;
    if (!request) {
        request = mem_alloc(sizeof(*request));
        request->server = context;
        request->connection = connection;
        request->link = link_of(connection);
        request->late_us = clock_deadline_in_us(HTTP_REQUEST_US);
        if (request->link)
            set_state(request->link, LINK_READING);
        *state = request;
        return begin(request, path, method);
    }
    if (*count == 0)
        return complete(request);
    enum MHD_Result result = receive(request, data, *count);
    *count = 0;
    return result;
}

static void on_completed(void *context, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode code)
{
    (void)connection;
    (void)code;
    struct http_server *server = context;
    struct http_request *request = *state;
    if (!request)
        return;
    if (request->link)
        set_state(request->link, LINK_IDLE);
    server->body_bytes -= request->body.count;
    buffer_deinit(&request->body);
    buffer_deinit(&request->reply.body);
    mem_free(request);
    *state = NULL;
}

// ---------------------------------------------------------------- start and stop

union place {
    struct sockaddr any;
    struct sockaddr_in four;
    struct sockaddr_in6 six;
};

static enum status read_place(const struct http_params *params, struct address *address,
                              union place *out, struct reason *why)
{
    enum status status = address_parse(params->listen, params->field, address, why);
    if (status != STATUS_OK)
        return status;
    const struct listener listener = {
        .field = params->field,
        .address = params->listen,
        .loopback = address->loopback,
        .way_out = "behind a proxy with TLS and authentication that forwards to it",
    };
    status = listener_check(&listener, why);
    if (status != STATUS_OK)
        return status;
    *out = (union place){.any = {0}};
    if (strchr(address->host, ':')) {
        out->six.sin6_family = AF_INET6;
        out->six.sin6_port = htons((uint16_t)address->port);
        out->six.sin6_addr = in6addr_loopback;
        return STATUS_OK;
    }
    out->four.sin_family = AF_INET;
    out->four.sin_port = htons((uint16_t)address->port);
    if (inet_pton(AF_INET, address->host, &out->four.sin_addr) != 1) // "localhost"
        out->four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return STATUS_OK;
}

static enum status start_daemon(struct http_server *server, struct reason *why)
{
    struct address address;
    union place place = {.six = {0}};
    enum status status = read_place(&server->params, &address, &place, why);
    if (status != STATUS_OK)
        return status;
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_SUSPEND_RESUME;
    if (place.any.sa_family == AF_INET6)
        flags |= MHD_USE_IPv6;
    server->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, server, MHD_OPTION_SOCK_ADDR, &place.any,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)HTTP_CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
        HTTP_SILENCE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT, HTTP_HEADER_BYTES,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, server, MHD_OPTION_NOTIFY_CONNECTION,
        on_connection, server, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
    if (!server->daemon)
        return address_not_bound(&address, server->params.field, why);
    const union MHD_DaemonInfo *info =
        MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_BIND_PORT);
    server->port = info && info->port ? info->port : address.port;
    return STATUS_OK;
}

enum status http_start(const struct http_params *params, struct http_server **out,
                       struct reason *why)
{
    assert(params && params->listen && params->field && params->put_error && out);
    assert(params->routes && params->route_count <= HTTP_ROUTES_MAX);

    struct http_server *server = mem_alloc(sizeof(*server));
    server->params = *params;
    server->queue = queue_create(HTTP_WAITING_MAX, false);
    enum status status = STATUS_OK;
    for (size_t i = 0; i < HTTP_WORKERS && status == STATUS_OK; i++)
        status = thread_start("http-worker", work, server, &server->workers[i]);
    if (status != STATUS_OK)
        (void)reason_set(why, status, NULL, "cannot start the threads of the HTTP server");
    else
        status = start_daemon(server, why);
    if (status != STATUS_OK) {
        http_stop(&server);
        return status;
    }
    *out = server;
    return STATUS_OK;
}

int http_port(const struct http_server *server)
{
    return server->port;
}

void http_refuse(struct http_server *server)
{
    assert(server);

    atomic_store(&server->refuses, true);
}

size_t http_running(const struct http_server *server)
{
    return atomic_load(&server->running);
}

void http_stop(struct http_server **server)
{
    assert(server);

    struct http_server *stopped = *server;
    if (!stopped)
        return;
    atomic_store(&stopped->refuses, true);
    // The workers end when their queue is empty; only then no connection is suspended any more.
    queue_close(stopped->queue);
    for (size_t i = 0; i < HTTP_WORKERS; i++)
        thread_join(&stopped->workers[i]);
    if (stopped->daemon)
        MHD_stop_daemon(stopped->daemon);
    queue_destroy(&stopped->queue);
    mem_free(stopped);
    *server = NULL;
}

// ---------------------------------------------------------------- for handlers

struct bytes http_body(const struct http_request *request)
{
    return (struct bytes){request->body.data, request->body.count};
}

const char *http_header(const struct http_request *request, const char *name)
{
    return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

const char *http_argument(const struct http_request *request, const char *name)
{
    return MHD_lookup_connection_value(request->connection, MHD_GET_ARGUMENT_KIND, name);
}

bool http_is_gone(const struct http_request *request)
{
    char byte = 0;
    if (!request->link)
        return false;
    ssize_t got = recv(request->link->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}
