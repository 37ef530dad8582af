// SPDX-License-Identifier: Apache-2.0
// reco up: a whole cluster on this machine: one reco-coordinator and N reco-shard, supervised.
//
// Node i listens at P+10+2i for queries and one higher for bulk, all on the loopback. With
// --port 0 the kernel picks every port; should another program take one of them before
// its listener does, the start is tried again with others.

#include <inttypes.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "coordinator/datadir.h"
#include "proto/base/address.h"
#include "proto/base/arena.h"
#include "proto/base/clock.h"
#include "proto/base/cpu.h"
#include "proto/base/limits.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/base/settings.h"
#include "proto/bus/bus.h"
#include "proto/http/http.h"
#include "proto/rpc/rpc_client.h"
#include "proto/wire/api.h"
#include "tools/client.h"
#include "tools/client_config.h"
#include "tools/output.h"
#include "tools/ports.h"
#include "tools/supervisor.h"
#include "tools/verbs.h"

#define SECOND_US ((int64_t)1000000)
#define NODES_ARENA_BYTES ((size_t)1 << 20) // a list of at most NODES_MAX nodes
#define POLL_US (50 * (int64_t)1000)        // between two questions for health
#define HEALTH_US SECOND_US                 // longest wait for one answer
#define REMIND_US (10 * SECOND_US)          // a line while the cluster is still starting
#define DRAIN_US                                                                                   \
    (35 * SECOND_US)       // for the coordinator (its own limit is 30 s), then for the shards
#define FIRST_DEATHS_MAX 3 // of one child before the first answer
#define TRIES_MAX 3        // with --port 0
#define PORT_MAX 65423     // P + 80 and the side ports of 32 nodes fit below 65536
#define SIDE_HOST "127.0.0.1"
#define SIDE_PORTS_ABOVE 80 // the coordinator's, of P

_Static_assert(2 + 3 * NODES_MAX <= PORTS_MAX, "every port can be picked");

struct up {
    const struct options *options;
    struct config *configs[3]; // the children's, and ours as a client: their file and environment
    struct settings_coordinator server;
    struct settings_shard node;
    struct settings_client client; // how to ask the coordinator whether it is ready
    struct address listen;         // of [server] listen
    uint64_t port;                 // 0: the kernel picks all
    char path[CLIENT_PATH_BYTES];
    struct datadir *datadir;
    char keys[DATADIR_PATH_BYTES];
    char directories[NODES_MAX][DATADIR_PATH_BYTES];
    uint32_t nodes;
    char programs[PATH_MAX]; // folder of this executable
    // [0] the coordinator's, [1 + 2i], [2 + 2i] node i's; behind them the side ports, in this order
    uint16_t ports[PORTS_MAX];
    char address[ADDRESS_TEXT_BYTES];
    char http[ADDRESS_TEXT_BYTES]; // the coordinator's side port; "": no side ports
    struct supervisor *supervisor;
    size_t coordinator;  // number of the child; the shards are the ones before it
    bool has_side;       // there are side ports
    struct address side; // the coordinator's; port 0: any
    bool ready;
};

static size_t port_count(const struct up *up)
{
    size_t side = up->has_side ? 1 + (size_t)up->nodes : 0;
    return 1 + 2 * (size_t)up->nodes + side;
}

// Where the side ports begin: the coordinator's, then those of the nodes.
static const uint16_t *side_ports(const struct up *up)
{
    return up->ports + 1 + 2 * (size_t)up->nodes;
}

// --- before the start

// Where gRPC is answered; --port goes before the port of [server] listen.
static enum status read_listen(struct up *up, struct reason *why)
{
    const char *listen = up->server.listen ? up->server.listen : "";
    enum status status = address_parse(listen, "--listen", &up->listen, why);
    if (!status && up->listen.port > PORT_MAX)
        status = reason_set(why, STATUS_INVALID, "--listen",
                            "port %d; allowed: 0 to %d, as the ports of the nodes follow from it",
                            up->listen.port, PORT_MAX);
    if (status)
        config_blame(up->configs[0], why);
    up->port =
        up->options->port != OPTIONS_PORT_UNSET ? up->options->port : (uint64_t)up->listen.port;
    return status;
}

// The side ports: the coordinator's as --http or [http] listen says, else P + 80; node i's 1 + i
// higher.
static enum status read_side(struct up *up, struct reason *why)
{
    const char *listen = up->options->http ? up->options->http : up->server.http;
    if (listen && strcmp(listen, HTTP_LISTEN_OFF) == 0)
        return STATUS_OK;
    up->has_side = true;
    up->side = (struct address){.host = SIDE_HOST,
                                .port = up->port ? (int)up->port + SIDE_PORTS_ABOVE : 0};
    if (!listen)
        return STATUS_OK;
    enum status status = address_parse(listen, "--http", &up->side, why);
    if (!status && (!up->side.loopback || strchr(up->side.host, ':') || up->side.port > PORT_MAX))
        status = reason_set(why, STATUS_INVALID, "--http",
                            "'%s'; allowed: off, or 127.0.0.1:PORT with a port of 0 to %d: there "
                            "is no TLS on these ports, let a proxy that has it forward to them",
                            listen, PORT_MAX);
    if (status && !up->options->http)
        config_blame(up->configs[0], why);
    return status;
}

// Reads what the children will read, so that a mistake in it is told once and now. Their flags
// are ours: so what they say about addresses, data and the number of nodes is obeyed here.
static enum status read_configs(struct up *up, struct reason *why)
{
    enum status status =
        client_config_read(&settings_coordinator, up->options, &up->configs[0], why);
    if (!status)
        status = client_config_read(&settings_shard, up->options, &up->configs[1], why);
    if (!status)
        status = client_config_read(&settings_client, up->options, &up->configs[2], why);
    if (status)
        return status;
    config_store(up->configs[0], &up->server);
    config_store(up->configs[1], &up->node);
    config_store(up->configs[2], &up->client);
    if (up->server.tls_certificate && !up->client.tls_ca)
        return reason_set(why, STATUS_INVALID, "[client] tls_ca",
                          "is missing: with [tls] this program asks its coordinator over TLS "
                          "whether it is ready, as a client that [client] describes");

    status = read_listen(up, why);
    return status ? status : read_side(up, why);
}

static void print_configs(const struct up *up)
{
    config_print(up->configs[0], NULL, stdout);
    config_print(up->configs[1], &settings_coordinator, stdout);
}

// Children of this program lie beside it.
static enum status find_programs(struct up *up, struct reason *why)
{
    static const char *const names[] = {"reco-shard", "reco-coordinator"};
    ssize_t bytes = readlink("/proc/self/exe", up->programs, sizeof(up->programs) - 1);
    if (bytes <= 0)
        return reason_set(why, STATUS_IO, NULL, "/proc/self/exe cannot be read");
    up->programs[bytes] = 0;
    *strrchr(up->programs, '/') = 0;

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char path[PATH_MAX + 32];
        (void)snprintf(path, sizeof(path), "%s/%s", up->programs, names[i]);
        if (access(path, X_OK) != 0)
            return reason_set(why, STATUS_NOT_FOUND, path,
                              "is missing: it belongs beside this program");
    }
    return STATUS_OK;
}

static enum status choose_ports(struct up *up, struct reason *why)
{
    uint64_t first = up->port;
    size_t count = 1 + 2 * (size_t)up->nodes;
    size_t all = port_count(up);
    enum status status = ports_pick(up->ports, all, why);
    if (status)
        return status;
    if (first) {
        up->ports[0] = (uint16_t)first;
        for (size_t i = 1; i < count; i++)
            up->ports[i] = (uint16_t)(first + 10 + i - 1);
    }
    for (size_t i = count; i < all && up->side.port; i++)
        up->ports[i] = (uint16_t)((size_t)up->side.port + i - count);
    for (size_t i = 0; i < count && first && !status; i++)
        if (!ports_is_free(up->ports[i]))
            status = reason_set(why, STATUS_FAILED_PRECONDITION, "--port",
                                "127.0.0.1:%u is taken (--port %" PRIu64 " needs it and %" PRIu64
                                " to %" PRIu64 "); another P or 0 is allowed",
                                up->ports[i], first, first + 10, first + 10 + count - 2);
    for (size_t i = count; i < all && up->side.port && !status; i++)
        if (!ports_is_free(up->ports[i]))
            status = reason_set(why, STATUS_FAILED_PRECONDITION, "--http",
                                "127.0.0.1:%u is taken (the side ports need %d"
                                " and one more for each shard); another 127.0.0.1:PORT, or off, "
                                "is allowed",
                                up->ports[i], up->side.port);
    (void)address_text(&up->listen, up->ports[0], up->address);
    if (up->has_side)
        (void)address_text(&up->side, side_ports(up)[0], up->http);
    return status;
}

static enum status open_data(struct up *up, struct reason *why)
{
    struct bus_keys keys;
    struct options where = *up->options;
    if (!where.data_given && up->server.data)
        where.data = up->server.data;
    enum status status = client_data_path(&where, up->path, why);
    if (status)
        return status;
    const struct datadir_params params = {
        .path = up->path,
        .create = true,
        .nodes = (uint32_t)(up->options->shards ? up->options->shards : up->server.node_count),
    };
    // A new folder fixes the number of shards for good: it is not made when the ports are taken.
    up->nodes = params.nodes ? params.nodes : 1;
    if (access(up->path, F_OK) != 0)
        status = choose_ports(up, why);
    if (status)
        return status;
    status = datadir_open(&params, &up->datadir, why);
    if (status && !where.data_given)
        config_blame(up->configs[0], why);
    if (status)
        return status;

    up->nodes = datadir_nodes(up->datadir);
    (void)snprintf(up->path, sizeof(up->path), "%s", datadir_path(up->datadir));
    datadir_keys_path(up->datadir, up->keys);
    for (uint32_t i = 0; i < up->nodes; i++)
        datadir_node_path(up->datadir, i, up->directories[i]);
    return bus_keys_load(up->keys, true, &keys, why);
}

// --- children

// What every child is told; returns the new count.
static size_t add_common(const struct up *up, const char **arguments, size_t count)
{
    const struct options *options = up->options;
    arguments[count++] = "--die-with-parent";
    if (options->config) {
        arguments[count++] = "--config";
        arguments[count++] = options->config;
        arguments[count++] = "--config-shared";
    }
    if (options->quiet || options->verbose) {
        arguments[count++] = "--log-level";
        arguments[count++] = options->quiet ? "error" : "debug";
    }
    return count;
}

static void add_shard(struct up *up, uint32_t index)
{
    char program[PATH_MAX + 32];
    char name[32];
    char number[16];
    char threads[16];
    char query[BUS_ENDPOINT_BYTES];
    char bulk[BUS_ENDPOINT_BYTES];
    char http[ADDRESS_TEXT_BYTES] = HTTP_LISTEN_OFF;
    (void)snprintf(program, sizeof(program), "%s/reco-shard", up->programs);
    if (up->has_side)
        (void)snprintf(http, sizeof(http), "127.0.0.1:%u", side_ports(up)[1 + index]);
    (void)snprintf(name, sizeof(name), "shard-%u", index);
    (void)snprintf(number, sizeof(number), "%u", index);
    // A query keeps all shards busy at once: together they use what there is.
    uint64_t share = ((uint32_t)cpu_count() + up->nodes - 1) / up->nodes;
    (void)snprintf(threads, sizeof(threads), "%" PRIu64,
                   up->node.search_threads ? up->node.search_threads : share);
    (void)snprintf(query, sizeof(query), "tcp://127.0.0.1:%u", up->ports[1 + 2 * index]);
    (void)snprintf(bulk, sizeof(bulk), "tcp://127.0.0.1:%u", up->ports[2 + 2 * index]);

    const char *arguments[SUPERVISOR_ARGUMENTS_MAX] = {
        program,  "--data",  up->directories[index],
        "--keys", up->keys,  "--index",
        number,   "--query", query,
        "--bulk", bulk,      "--search-threads",
        threads,  "--http",  http,
    };
    size_t count = 0;
    while (arguments[count])
        count++;
    count = add_common(up, arguments, count);
    arguments[count] = NULL;
    (void)supervisor_add(up->supervisor, name, arguments);
}

static void add_coordinator(struct up *up)
{
    char program[PATH_MAX + 32];
    char nodes[NODES_MAX][2 * BUS_ENDPOINT_BYTES];
    const char *arguments[SUPERVISOR_ARGUMENTS_MAX];
    size_t count = 0;
    (void)snprintf(program, sizeof(program), "%s/reco-coordinator", up->programs);
    arguments[count++] = program;
    arguments[count++] = "--data";
    arguments[count++] = up->path;
    arguments[count++] = "--listen";
    arguments[count++] = up->address;
    arguments[count++] = "--http";
    arguments[count++] = up->has_side ? up->http : HTTP_LISTEN_OFF;
    arguments[count++] = "--nodes"; // named one by one
    arguments[count++] = "0";
    count = add_common(up, arguments, count);
    for (uint32_t i = 0; i < up->nodes; i++) {
        (void)snprintf(nodes[i], sizeof(nodes[i]), "tcp://127.0.0.1:%u,tcp://127.0.0.1:%u",
                       up->ports[1 + 2 * i], up->ports[2 + 2 * i]);
        arguments[count++] = "--node";
        arguments[count++] = nodes[i];
    }
    if (up->options->model) {
        arguments[count++] = "--model";
        arguments[count++] = up->options->model;
    }
    if (up->options->head) {
        arguments[count++] = "--head";
        arguments[count++] = up->options->head;
    }
    if (up->options->device) {
        arguments[count++] = "--device";
        arguments[count++] = up->options->device;
    }
    arguments[count] = NULL;
    up->coordinator = supervisor_add(up->supervisor, "coordinator", arguments);
}

static enum status start_children(struct up *up, struct reason *why)
{
    for (uint32_t i = 0; i < up->nodes; i++)
        add_shard(up, i);
    add_coordinator(up);

    enum status status = STATUS_OK;
    for (size_t i = 0; i <= up->coordinator && !status; i++)
        status = supervisor_start(up->supervisor, i, why);
    return status;
}

// The coordinator first: it lets running calls finish, for which it needs the shards.
static void stop_children(struct up *up)
{
    supervisor_stop(up->supervisor, up->coordinator, up->coordinator + 1,
                    clock_deadline_in_us(DRAIN_US));
    supervisor_stop(up->supervisor, 0, up->coordinator, clock_deadline_in_us(DRAIN_US));
}

// --- running

// Whether the coordinator has reached every node: what is asked before that is answered in part.
static bool has_all_nodes(const struct up *up, struct rpc_client *client, struct reason *why)
{
    const struct rpc_client_call call = {
        .path = api_method_info(API_CLUSTER_LIST_NODES)->path,
        .deadline_us = clock_deadline_in_us(HEALTH_US),
    };
    struct buffer reply = {0};
    struct api_node_list list = {.count = 0};
    struct arena *arena = arena_create(NODES_ARENA_BYTES);
    size_t running = 0;
    if (rpc_client_unary(client, &call, (struct bytes){NULL, 0}, &reply, why) == STATUS_OK &&
        api_decode_node_list((struct bytes){reply.data, reply.count}, arena, &list, why) ==
            STATUS_OK)
        for (size_t i = 0; i < list.count; i++)
            running += text_equal(list.nodes[i].state, text_of("up"));
    arena_destroy(&arena);
    buffer_deinit(&reply);
    return running == up->nodes;
}

// Else `why` says what was answered.
static bool is_healthy(const struct up *up, struct rpc_client *client, struct reason *why)
{
    if (!supervisor_pid(up->supervisor, up->coordinator))
        return false;
    return rpc_client_health(client, clock_deadline_in_us(HEALTH_US), why) == STATUS_OK &&
           has_all_nodes(up, client, why);
}

static enum status open_client(const struct up *up, struct rpc_client **out, struct reason *why)
{
    const struct settings_client *client = &up->client;
    const struct rpc_client_tls tls = {client->tls_ca, client->tls_cert, client->tls_key,
                                       client->tls_name};
    return rpc_client_open_tls(up->address, up->server.tls_certificate ? &tls : NULL, out, why);
}

// A child that dies again and again before anything has answered will not get better.
static enum status check_first_deaths(const struct up *up, struct reason *why)
{
    for (size_t i = 0; i <= up->coordinator; i++)
        if (supervisor_starts(up->supervisor, i) > FIRST_DEATHS_MAX)
            return reason_set(
                why, STATUS_UNAVAILABLE, NULL,
                "%s ended %d times before the cluster was up; its own words stand above",
                i == up->coordinator ? "reco-coordinator" : "a reco-shard", FIRST_DEATHS_MAX);
    return STATUS_OK;
}

// Until the cluster answers; *stopped is true when a signal came before.
static enum status wait_ready(struct up *up, bool *stopped, struct reason *why)
{
    struct rpc_client *client = NULL;
    struct reason last = {.text = ""};
    enum status status = open_client(up, &client, why);
    int64_t remind_us = clock_deadline_in_us(REMIND_US);
    while (!status && !up->ready && !*stopped) {
        enum supervisor_event event =
            supervisor_wait(up->supervisor, clock_deadline_in_us(POLL_US));
        *stopped = event == SUPERVISOR_STOP;
        if (event == SUPERVISOR_DIED)
            status = check_first_deaths(up, why);
        else if (!*stopped)
            up->ready = is_healthy(up, client, &last);
        if (clock_passed(remind_us)) {
            char quoted[LOG_QUOTE_BYTES];
            log_info("starting", "address=%s nodes=%u reason=%s", up->address, up->nodes,
                     log_quote(last.text, quoted));
            remind_us = clock_deadline_in_us(REMIND_US);
        }
    }
    rpc_client_close(&client);
    return status;
}

static void announce(const struct up *up)
{
    if (up->options->json)
        printf("{\"ready\":\"%s\",\"http\":\"%s\"}\n", up->address, up->http);
    else
        printf("ready %s\n", up->address);
    if (!up->options->json && up->has_side)
        printf("http %s\n", up->http);
    (void)fflush(stdout);
    log_info("ready", "address=%s nodes=%u data=%s", up->address, up->nodes, up->path);
}

// Starts everything, waits until it answers and then for the signal that ends it.
static enum status serve(struct up *up, bool *stopped, struct reason *why)
{
    enum status status = start_children(up, why);
    if (!status)
        status = wait_ready(up, stopped, why);
    if (!status && up->ready)
        announce(up);
    while (!status && up->ready && !*stopped)
        *stopped = supervisor_wait(up->supervisor, DEADLINE_NONE) == SUPERVISOR_STOP;
    stop_children(up);
    return status;
}

// With everything of ours stopped: whether somebody else has one of the ports that were picked.
static bool lost_a_port(const struct up *up)
{
    for (size_t i = 0; i < port_count(up); i++)
        if (!ports_is_free(up->ports[i]))
            return true;
    return false;
}

static enum status serve_with_ports(struct up *up, struct reason *why)
{
    enum status status = STATUS_OK;
    bool stopped = false;
    for (int i = 0; i < TRIES_MAX && !up->ready && !stopped; i++) {
        status = choose_ports(up, why);
        if (status)
            return status;
        if (datadir_set_address(up->datadir, up->address))
            return reason_set(why, STATUS_IO, up->path, "its LOCK cannot be written");
        up->supervisor = supervisor_begin();
        status = serve(up, &stopped, why);
        supervisor_end(&up->supervisor);
        if (up->port || !lost_a_port(up))
            break;
    }
    return status;
}

static int run_up(const struct options *options)
{
    struct up *up = mem_alloc(sizeof(*up));
    struct reason why = {.text = ""};
    up->options = options;

    enum status status = read_configs(up, &why);
    int failed = status ? VERBS_USAGE : VERBS_FAILED;
    if (!status && options->print_config) {
        print_configs(up);
    } else if (!status) {
        status = find_programs(up, &why);
        if (!status)
            status = open_data(up, &why);
        if (!status)
            status = serve_with_ports(up, &why);
    }
    if (status)
        output_error(NULL, &why);
    datadir_close(&up->datadir);
    config_destroy(&up->configs[0]);
    config_destroy(&up->configs[1]);
    config_destroy(&up->configs[2]);
    mem_free(up);
    return status ? failed : VERBS_DONE;
}

static const struct args_flag up_flags[] = {
    {.name = "--shards",
     .kind = ARGS_COUNT,
     .argument = "N",
     .fallback = "as the data directory has; 1 for a new one",
     .help = "shard processes; fixed when the data directory is made",
     .offset = offsetof(struct options, shards),
     .low = 1,
     .high = NODES_MAX},
    {.name = "--port",
     .kind = ARGS_COUNT,
     .argument = "P",
     .fallback = "of [server] listen: 7700",
     .help = "gRPC port; node i has P+10+2i and P+11+2i; 0 picks free ports",
     .offset = offsetof(struct options, port),
     .low = 0,
     .high = PORT_MAX},
    {.name = "--head",
     .kind = ARGS_TEXT,
     .argument = "FILE",
     .fallback = "the data directory's, else the model's own, if there is one",
     .help = "a trained fusion head (`reco train`)",
     .offset = offsetof(struct options, head)},
    {.name = "--http",
     .kind = ARGS_TEXT,
     .argument = "HOST:PORT",
     .fallback = "of [http] listen: 127.0.0.1:P+80",
     .help = "side port of the coordinator: health, readiness, metrics and queries in JSON; node "
             "i's is 1+i higher; off: none",
     .offset = offsetof(struct options, http)},
    {.name = NULL},
};

const struct verb verb_up = {
    .args =
        {.name = "up",
         .items = "",
         .summary = "a whole cluster on this machine: coordinator and shards, supervised",
         .details =
             "Prints `ready HOST:PORT` when the cluster answers, then `http HOST:PORT`, the side\n"
             "port; its log goes to stderr. A\n"
             "process that dies is started again, after 0.1 s at first, 5 s at most. SIGTERM or\n"
             "Ctrl-C lets running calls finish and ends with status 0; so does SIGHUP of a\n"
             "terminal that is gone. Without a terminal SIGHUP lets all children read their\n"
             "configuration again. All ports are on the loopback. With [tls]\n"
             "in the configuration, [client] says how this program asks its coordinator.\n"
             "\n"
             "The side port answers GET /healthz, /readyz and /metrics (Prometheus), and POST\n"
             "/v1/search, /v1/refine and /v1/classify with JSON lines as --json prints them:\n"
             "  curl -d '{\"text\":\"an anchor\"}' http://127.0.0.1:7780/v1/search\n"
             "  curl -d '{\"text\":\"cat\",\"options\":{\"k\":5,\"fusion\":\"mean\"}}' \\\n"
             "      http://127.0.0.1:7780/v1/refine\n"
             "  printf '{\"image\":\"%s\",\"labels\":[\"cat\",\"dog\"]}' \"$(base64 -w0 cat.png)\" "
             "|\n"
             "      curl -d @- http://127.0.0.1:7780/v1/classify\n"
             "\n"
             "JSON line: {\"ready\":\"HOST:PORT\",\"http\":\"HOST:PORT\"}; http is empty without "
             "side ports",
         .groups = {up_flags, options_data, options_model, options_common}},
    .chapter = "clusters",
    .run = run_up,
};
