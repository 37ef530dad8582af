// SPDX-License-Identifier: Apache-2.0
// Goal: the side port's server answers what its routes say, refuses everything else in words, and
// goes on answering while clients say nothing, say nonsense, say too much or leave.
//
// Method: a server on a port that the kernel picks, and bare sockets. A gate holds workers
// in their handler for as long as a test wants.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/clock.h"
#include "proto/http/http.h"
#include "tests/support/patience.h"

#define BODY_MAX 1000
#define ANSWER_BYTES 4096

struct gate {
    pthread_mutex_t mutex;
    pthread_cond_t moved;
    bool is_open;
    int inside;
    bool has_left;
    bool was_gone; // when it left
};

static struct gate gate = {.mutex = PTHREAD_MUTEX_INITIALIZER, .moved = PTHREAD_COND_INITIALIZER};

static void on_quick(void *context, const struct http_request *request, struct http_reply *reply)
{
    const char *name = http_argument(request, "name");
    const char *mood = http_header(request, "X-Mood");
    (void)context;
    http_put(reply, 200, "hello %s %s", name ? name : "nobody", mood ? mood : "calm");
}

static void on_echo(void *context, const struct http_request *request, struct http_reply *reply)
{
    (void)context;
    struct bytes body = http_body(request);
    (void)!buffer_append(&reply->body, body.data, body.count);
}

static void on_gate(void *context, const struct http_request *request, struct http_reply *reply)
{
    (void)context;
    (void)pthread_mutex_lock(&gate.mutex);
    gate.inside++;
    (void)pthread_cond_broadcast(&gate.moved);
    while (!gate.is_open)
        (void)pthread_cond_wait(&gate.moved, &gate.mutex);
    (void)pthread_mutex_unlock(&gate.mutex);
    http_put(reply, 200, "through");
    (void)request;
}

static void on_leave(void *context, const struct http_request *request, struct http_reply *reply)
{
    (void)context;
    int64_t limit_us = clock_deadline_in_us(PATIENCE_US);
    (void)pthread_mutex_lock(&gate.mutex);
    gate.inside++;
    (void)pthread_cond_broadcast(&gate.moved);
    (void)pthread_mutex_unlock(&gate.mutex);
    while (!http_is_gone(request) && patience_lasts(limit_us))
        continue;
    (void)pthread_mutex_lock(&gate.mutex);
    gate.has_left = true;
    gate.was_gone = http_is_gone(request);
    (void)pthread_cond_broadcast(&gate.moved);
    (void)pthread_mutex_unlock(&gate.mutex);
    http_put(reply, 200, "nobody");
}

static void put_error(unsigned code, const char *text, struct http_reply *reply)
{
    http_put(reply, code, "error %u: %s", code, text);
}

static const struct http_route routes[] = {
    {.path = "/quick", .is_quick = true, .handle = on_quick},
    {.path = "/echo", .is_post = true, .body_bytes_max = BODY_MAX, .handle = on_echo},
    {.path = "/gate", .handle = on_gate},
    {.path = "/leave", .handle = on_leave},
};

static struct http_server *open_server(void)
{
    struct http_server *server = NULL;
    struct reason why = {0};
    const struct http_params params = {.listen = "127.0.0.1:0",
                                       .field = "--http",
                                       .routes = routes,
                                       .route_count = sizeof(routes) / sizeof(routes[0]),
                                       .put_error = put_error};
    cr_assert(eq(int, http_start(&params, &server, &why), STATUS_OK), "%s", why.text);
    cr_assert(gt(int, http_port(server), 0));
    return server;
}

static int dial(const struct http_server *server)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)http_port(server)),
                                  .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    struct timeval patience = {.tv_sec = PATIENCE_US / 1000000};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert(ge(int, fd, 0));
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    cr_assert(eq(int, connect(fd, (const struct sockaddr *)&address, sizeof(address)), 0));
    return fd;
}

static void send_text(int fd, const char *text)
{
    size_t bytes = strlen(text);
    while (bytes > 0) {
        ssize_t sent = send(fd, text, bytes, MSG_NOSIGNAL);
        if (sent <= 0)
            return;
        text += sent;
        bytes -= (size_t)sent;
    }
}

// Everything until the server ends the connection.
static void receive_all(int fd, char answer[ANSWER_BYTES])
{
    size_t count = 0;
    ssize_t got = 0;
    while (count + 1 < ANSWER_BYTES &&
           (got = recv(fd, answer + count, ANSWER_BYTES - 1 - count, 0)) > 0)
        count += (size_t)got;
    answer[count] = '\0';
    (void)close(fd);
}

// One request on a connection of its own; `text` asks for its end.
static void ask(const struct http_server *server, const char *text, char answer[ANSWER_BYTES])
{
    int fd = dial(server);
    send_text(fd, text);
    receive_all(fd, answer);
}

static int code_of(const char *answer)
{
    return strncmp(answer, "HTTP/1.1 ", 9) == 0 ? atoi(answer + 9) : 0;
}

static const char *body_of(const char *answer)
{
    const char *at = strstr(answer, "\r\n\r\n");
    return at ? at + 4 : "";
}

#define END "Host: localhost\r\nConnection: close\r\n\r\n"

static void expect_alive(const struct http_server *server)
{
    char answer[ANSWER_BYTES];
    ask(server, "GET /quick HTTP/1.1\r\n" END, answer);
    cr_expect(eq(int, code_of(answer), 200));
    cr_expect(eq(str, (char *)body_of(answer), (char *)"hello nobody calm"));
}

static void wait_inside(int count)
{
    (void)pthread_mutex_lock(&gate.mutex);
    while (gate.inside < count)
        (void)pthread_cond_wait(&gate.moved, &gate.mutex);
    (void)pthread_mutex_unlock(&gate.mutex);
}

static void open_gate(void)
{
    (void)pthread_mutex_lock(&gate.mutex);
    gate.is_open = true;
    (void)pthread_cond_broadcast(&gate.moved);
    (void)pthread_mutex_unlock(&gate.mutex);
}

TestSuite(http, .timeout = 120);

Test(http, routes_see_their_arguments_and_headers)
{
    struct http_server *server = open_server();
    char answer[ANSWER_BYTES];
    ask(server, "GET /quick?name=a%20b HTTP/1.1\r\nx-mood: merry\r\n" END, answer);
    cr_expect(eq(int, code_of(answer), 200));
    cr_expect(eq(str, (char *)body_of(answer), (char *)"hello a b merry"));
    cr_expect(ne(ptr, strstr(answer, "Content-Type: text/plain; charset=utf-8\r\n"), NULL));

    ask(server, "HEAD /quick HTTP/1.1\r\n" END, answer);
    cr_expect(eq(int, code_of(answer), 200));
    cr_expect(ne(ptr, strstr(answer, "Content-Length: 17\r\n"), NULL));
    cr_expect(eq(str, (char *)body_of(answer), (char *)""));
    http_stop(&server);
    cr_expect(eq(ptr, server, NULL));
}

Test(http, unknown_paths_and_methods_are_refused)
{
    struct http_server *server = open_server();
    char answer[ANSWER_BYTES];
    ask(server, "GET /quick/ HTTP/1.1\r\n" END, answer);
    cr_expect(eq(int, code_of(answer), 404));
    cr_expect(eq(int, strncmp(body_of(answer), "error 404: ", 11), 0));
    ask(server, "DELETE /quick HTTP/1.1\r\n" END, answer);
    cr_expect(eq(int, code_of(answer), 405));
    cr_expect(ne(ptr, strstr(answer, "Allow: GET, HEAD\r\n"), NULL));
    ask(server, "GET /echo HTTP/1.1\r\n" END, answer);
    cr_expect(eq(int, code_of(answer), 405));
    cr_expect(ne(ptr, strstr(answer, "Allow: POST\r\n"), NULL));
    expect_alive(server);
    http_stop(&server);
}

Test(http, bodies_arrive_whole_and_within_their_limit)
{
    struct http_server *server = open_server();
    char answer[ANSWER_BYTES];
    char text[ANSWER_BYTES];
    char body[BODY_MAX + 2];
    memset(body, 'b', sizeof(body));
    for (int over = 0; over < 2; over++) {
        body[BODY_MAX + over] = '\0';
        (void)snprintf(text, sizeof(text), "POST /echo HTTP/1.1\r\nContent-Length: %d\r\n" END "%s",
                       BODY_MAX + over, body);
        ask(server, text, answer);
        cr_expect(eq(int, code_of(answer), over ? 413 : 200));
        if (!over)
            cr_expect(eq(str, (char *)body_of(answer), body));
        (void)snprintf(text, sizeof(text),
                       "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" END
                       "%x\r\n%s\r\n0\r\n\r\n",
                       BODY_MAX + over, body);
        ask(server, text, answer);
        cr_expect(eq(int, code_of(answer), over ? 413 : 200));
        body[BODY_MAX + over] = 'b';
    }
    ask(server, "POST /echo HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n" END, answer);
    cr_expect(ge(int, code_of(answer), 400));
    expect_alive(server);
    http_stop(&server);
}

Test(http, headers_have_a_limit)
{
    struct http_server *server = open_server();
    static char text[100000];
    char answer[ANSWER_BYTES];
    int used = snprintf(text, sizeof(text), "GET /quick HTTP/1.1\r\nX-Mood: ");
    memset(text + used, 'm', HTTP_HEADER_BYTES * 2);
    (void)snprintf(text + used + HTTP_HEADER_BYTES * 2, 100, "\r\n" END);
    ask(server, text, answer);
    cr_expect(eq(int, code_of(answer), 431), "%.40s", answer);
    expect_alive(server);
    http_stop(&server);
}

Test(http, a_thousand_silent_connections_do_not_keep_it_from_answering)
{
    enum { SILENT = 1000 };
    static int fds[SILENT];
    struct rlimit files;
    struct rlimit before;
    cr_assert(eq(int, getrlimit(RLIMIT_NOFILE, &before), 0));
    files = before;
    if (files.rlim_cur < SILENT + 400 && files.rlim_max >= SILENT + 400)
        files.rlim_cur = SILENT + 400;
    cr_assert(eq(int, setrlimit(RLIMIT_NOFILE, &files), 0));
    int count = files.rlim_cur >= SILENT + 400 ? SILENT : (int)files.rlim_cur - 400;
    struct http_server *server = open_server();
    for (int i = 0; i < count; i++) {
        fds[i] = dial(server);
        if (i % 3 == 1)
            send_text(fds[i], "GET /quick HTT"); // or begin and go silent
        if (i % 100 == 99)
            expect_alive(server);
    }
    int64_t began_us = clock_now_us();
    expect_alive(server);
    cr_expect(lt(i64, clock_now_us() - began_us, HTTP_SILENCE_S * 500000));
    for (int i = 0; i < count; i++)
        (void)close(fds[i]);
    expect_alive(server);
    http_stop(&server);
}

Test(http, what_waits_is_bounded_and_health_answers_meanwhile)
{
    enum { ALL = HTTP_WORKERS + HTTP_WAITING_MAX };
    struct http_server *server = open_server();
    int fds[ALL];
    char answer[ANSWER_BYTES];
    for (int i = 0; i < HTTP_WORKERS; i++) {
        fds[i] = dial(server);
        send_text(fds[i], "GET /gate HTTP/1.1\r\n" END);
    }
    wait_inside(HTTP_WORKERS);
    for (int i = HTTP_WORKERS; i < ALL; i++) {
        fds[i] = dial(server);
        send_text(fds[i], "GET /gate HTTP/1.1\r\n" END);
    }
    int64_t limit_us = clock_deadline_in_us(PATIENCE_US);
    while (http_running(server) < ALL && patience_lasts(limit_us))
        continue;
    cr_expect(eq(sz, http_running(server), ALL));
    ask(server, "GET /gate HTTP/1.1\r\n" END, answer);
    cr_expect(eq(int, code_of(answer), 429));
    cr_expect(ne(ptr, strstr(answer, "Retry-After: 1\r\n"), NULL));
    expect_alive(server);
    open_gate();
    for (int i = 0; i < ALL; i++) {
        receive_all(fds[i], answer);
        cr_expect(eq(int, code_of(answer), 200));
    }
    cr_expect(eq(sz, http_running(server), 0));
    http_stop(&server);
}

Test(http, refusing_lets_what_runs_finish)
{
    struct http_server *server = open_server();
    char answer[ANSWER_BYTES];
    int fd = dial(server);
    send_text(fd, "GET /gate HTTP/1.1\r\n" END);
    wait_inside(1);
    http_refuse(server);
    ask(server, "GET /gate HTTP/1.1\r\n" END, answer);
    cr_expect(eq(int, code_of(answer), 503));
    cr_expect(ne(ptr, strstr(answer, "Retry-After: 1\r\n"), NULL));
    expect_alive(server);
    cr_expect(eq(sz, http_running(server), 1));
    open_gate();
    receive_all(fd, answer);
    cr_expect(eq(int, code_of(answer), 200));
    cr_expect(eq(sz, http_running(server), 0));
    http_stop(&server);
}

Test(http, a_handler_sees_that_its_client_has_left)
{
    struct http_server *server = open_server();
    int fd = dial(server);
    send_text(fd, "GET /leave HTTP/1.1\r\n" END);
    wait_inside(1);
    (void)close(fd);
    (void)pthread_mutex_lock(&gate.mutex);
    while (!gate.has_left) // on_leave() has its own limit
        (void)pthread_cond_wait(&gate.moved, &gate.mutex);
    cr_expect(gate.was_gone);
    (void)pthread_mutex_unlock(&gate.mutex);
    expect_alive(server);
    http_stop(&server);
}

Test(http, another_hosts_name_is_refused)
{
    static const char *const ours[] = {"localhost",      "LOCALHOST:80", "127.0.0.1",
                                       "127.9.9.9:1234", "[::1]",        "[::1]:7780"};
    static const char *const others[] = {"x",
                                         "evil.example",
                                         "evil.example:80",
                                         "127.0.0.1.evil.example",
                                         "localhost.evil.example:7780",
                                         "10.0.0.1:80",
                                         "[::2]:80",
                                         "::1",
                                         "127.0.0.1:x",
                                         "user@localhost",
                                         "localhost:80:80"};
    struct http_server *server = open_server();
    char answer[ANSWER_BYTES];
    char question[256];
    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++) {
        (void)snprintf(question, sizeof(question),
                       "GET /quick HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", ours[i]);
        ask(server, question, answer);
        cr_expect(eq(int, code_of(answer), 200), "%s", ours[i]);
    }
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        (void)snprintf(question, sizeof(question),
                       "GET /quick HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", others[i]);
        ask(server, question, answer);
        cr_expect(eq(int, code_of(answer), 403), "%s", others[i]);
        cr_expect(ne(ptr, strstr(answer, "Host header"), NULL));
    }
    ask(server, "GET /quick HTTP/1.0\r\n\r\n", answer);
    cr_expect(eq(int, code_of(answer), 200));
    http_stop(&server);
}

Test(http, nonsense_is_survived)
{
    static const char *const seeds[] = {
        "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello",
        ("POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: "
         "chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        "GET /quick?name=x&name=%zz HTTP/1.0\r\nX-Mood: \t\r\n\r\n",
    };
    struct http_server *server = open_server();
    uint32_t random = 12345;
    for (int round = 0; round < 2000; round++) {
        char text[256];
        (void)snprintf(text, sizeof(text), "%s", seeds[round % 3]);
        size_t bytes = strlen(text);
        for (int i = 0; i < 1 + round % 5; i++) {
            random = random * 1664525u + 1013904223u;
            text[(random >> 8) % bytes] = (char)(1 + (random >> 24) % 255);
        }
        int fd = dial(server);
        send_text(fd, text);
        (void)close(fd);
    }
    expect_alive(server);
    http_stop(&server);
}

Test(http, a_wrong_address_is_refused_with_the_way_out)
{
    struct http_server *server = open_server();
    struct http_server *other = NULL;
    struct reason why = {0};
    struct http_params params = {.listen = "0.0.0.0:0",
                                 .field = "--http",
                                 .routes = routes,
                                 .route_count = 1,
                                 .put_error = put_error};
    cr_expect(eq(int, http_start(&params, &other, &why), STATUS_INVALID));
    cr_expect(eq(str, why.field, (char *)"--http"));
    cr_expect(ne(ptr, strstr(why.text, "proxy with TLS"), NULL));
    params.listen = "nonsense";
    cr_expect(eq(int, http_start(&params, &other, &why), STATUS_INVALID));
    char taken[64];
    (void)snprintf(taken, sizeof(taken), "127.0.0.1:%d", http_port(server));
    params.listen = taken;
    cr_expect(eq(int, http_start(&params, &other, &why), STATUS_UNAVAILABLE));
    cr_expect(eq(str, why.field, (char *)"--http"));
    cr_expect(eq(ptr, other, NULL));
    expect_alive(server);
    http_stop(&server);
}
