// SPDX-License-Identifier: Apache-2.0
// reco-coordinator: the front of a cluster as a process.
//
// It prints "ready HOST:PORT" once it answers, reads its configuration again on SIGHUP, drains on
// SIGTERM or SIGINT, and exits with 0; with 1 when it cannot start, with 2 for wrong usage.
//
// It holds the lock of its data directory. When the process that started it does (as `reco up`
// does, which starts shards as well), it works under that lock.

#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "coordinator/coordinator.h"
#include "coordinator/datadir.h"
#include "proto/base/address.h"
#include "proto/base/limits.h"
#include "proto/base/program.h"
#include "proto/base/settings.h"
#include "proto/bus/bus.h"
#include "proto/http/http.h"
#include "proto/rpc/rpc_tls.h"

#define GRACE_US 30000000  // for running calls when it drains
#define HTTP_PORT_ABOVE 80 // the side port, of the gRPC port
#define SIDE_HOST "127.0.0.1"
#define ENCODER "/reco-encoder" // beside this program

// What main() owns.
struct house {
    struct datadir *datadir; // NULL without, or under the parent's lock
    struct bus *bus;
    struct rpc_tls *tls; // NULL: plain text
    struct coordinator *coordinator;
    char endpoints[NODES_MAX][2][BUS_ENDPOINT_BYTES];
    struct coordinator_node nodes[NODES_MAX];
    size_t node_count;
    struct address listen;
    struct address http; // of the side port
    bool has_http;
    char encoder[PATH_MAX + sizeof(ENCODER)]; // path of reco-encoder
};

// ---------------------------------------------------------------- settings

// What no single key shows.
static enum status check_settings(const void *from, struct reason *why)
{
    const struct settings_coordinator *settings = from;
    if (settings->endpoints.count > NODES_MAX)
        return reason_set(why, STATUS_INVALID, "--node", "%zu of them; at most %d are allowed",
                          settings->endpoints.count, NODES_MAX);
    if (settings->endpoints.count > 0 && settings->node_count > 0)
        return reason_set(why, STATUS_INVALID, "--nodes",
                          "given together with --node; one of both");
    if (!settings->data && (settings->endpoints.count > 0 || settings->node_count > 0))
        return reason_set(why, STATUS_INVALID, "--data",
                          "nodes hold memories, and those need a data directory");
    if (!settings->listen)
        return reason_set(why, STATUS_INVALID, "--listen", "empty; HOST:PORT is wanted");
    if (settings->tls_client_auth != SETTINGS_CLIENT_AUTH_AUTO && !settings->tls_client_ca)
        return reason_set(why, STATUS_INVALID, "--tls-client-auth",
                          "without --tls-client-ca ([tls] client_ca) no client is asked for a "
                          "certificate; name the CA, or let it be auto");
    return STATUS_OK;
}

// ---------------------------------------------------------------- nodes

static enum status name_node(struct house *house, const char *pair, struct reason *why)
{
    const char *comma = strchr(pair, ',');
    size_t query = comma ? (size_t)(comma - pair) : 0;
    if (query == 0 || query >= BUS_ENDPOINT_BYTES || comma[1] == '\0' ||
        strlen(comma + 1) >= BUS_ENDPOINT_BYTES)
        return reason_set(why, STATUS_INVALID, "--node",
                          "'%s'; two endpoints with a comma between them are wanted, e.g. "
                          "tcp://127.0.0.1:7710,tcp://127.0.0.1:7711",
                          pair);
    char(*endpoints)[BUS_ENDPOINT_BYTES] = house->endpoints[house->node_count];
    memcpy(endpoints[0], pair, query);
    (void)snprintf(endpoints[1], BUS_ENDPOINT_BYTES, "%s", comma + 1);
    house->nodes[house->node_count++] =
        (struct coordinator_node){.query_endpoint = endpoints[0], .bulk_endpoint = endpoints[1]};
    return STATUS_OK;
}

static enum status name_nodes(const struct settings_coordinator *settings, struct house *house,
                              struct reason *why)
{
    for (size_t i = 0; i < settings->endpoints.count; i++) {
        enum status status = name_node(house, settings->endpoints.items[i], why);
        if (status != STATUS_OK)
            return status;
    }
    uint64_t derived = settings->node_count;
    if (settings->endpoints.count == 0 && derived == 0 && house->datadir)
        derived = datadir_nodes(house->datadir);
    const uint64_t first = (uint64_t)house->listen.port + 10;
    if (derived > 0 && (house->listen.port == 0 || first + 1 + 2 * derived > ADDRESS_PORT_MAX))
        return reason_set(why, STATUS_INVALID, "--listen",
                          "port %d; the nodes' ports follow from it, so it must be of "
                          "1..%" PRIu64 ", or name the nodes with --node",
                          house->listen.port, ADDRESS_PORT_MAX - 11 - 2 * derived);
    for (uint64_t i = 0; i < derived; i++) {
        char pair[2 * BUS_ENDPOINT_BYTES];
        (void)snprintf(pair, sizeof(pair), "tcp://127.0.0.1:%" PRIu64 ",tcp://127.0.0.1:%" PRIu64,
                       first + 2 * i, first + 2 * i + 1);
        enum status status = name_node(house, pair, why);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

// ---------------------------------------------------------------- start

static enum status open_data(const struct settings_coordinator *settings, struct house *house,
                             struct reason *why)
{
    if (!settings->data || datadir_is_held_by(settings->data, (long)getppid()))
        return STATUS_OK;
    struct datadir_params params = {
        .path = settings->data,
        .create = true,
        .nodes = (uint32_t)(settings->endpoints.count > 0 ? settings->endpoints.count
                                                          : settings->node_count),
        .address = settings->listen,
    };
    return datadir_open(&params, &house->datadir, why);
}

static enum status open_bus(const struct settings_coordinator *settings, struct house *house,
                            struct reason *why)
{
    char path[DATADIR_PATH_BYTES + 8];
    struct bus_keys keys;
    if (house->node_count == 0)
        return STATUS_OK;
    (void)snprintf(path, sizeof(path), "%s/keys", settings->data);
    const char *directory = settings->keys ? settings->keys : path;
    enum status status = bus_keys_load(directory, !settings->keys, &keys, why);
    return status == STATUS_OK ? bus_open(&keys, &house->bus, why) : status;
}

// Where the side port listens: as --http says, else beside the gRPC port.
static enum status choose_http(const struct settings_coordinator *settings, struct house *house,
                               struct reason *why)
{
    if (settings->http && strcmp(settings->http, HTTP_LISTEN_OFF) == 0)
        return STATUS_OK;
    house->has_http = settings->http || house->listen.port > 0;
    if (settings->http)
        return address_parse(settings->http, "--http", &house->http, why);
    const int port = house->listen.port + HTTP_PORT_ABOVE;
    if (house->has_http && port > ADDRESS_PORT_MAX)
        return reason_set(why, STATUS_INVALID, "--listen",
                          "port %d; the side port is %d higher, so it must be of 1..%d, "
                          "or name the side port with --http",
                          house->listen.port, HTTP_PORT_ABOVE, ADDRESS_PORT_MAX - HTTP_PORT_ABOVE);
    house->http = (struct address){.host = SIDE_HOST, .port = port};
    return STATUS_OK;
}

static struct rpc_tls_params tls_params(const struct settings_coordinator *settings)
{
    return (struct rpc_tls_params){
        .certificate = settings->tls_certificate,
        .key = settings->tls_key,
        .client_ca = settings->tls_client_ca,
        .clients = settings->tls_client_auth == SETTINGS_CLIENT_AUTH_OPTIONAL
                       ? RPC_TLS_CLIENTS_OPTIONAL
                       : RPC_TLS_CLIENTS_REQUIRED,
        .names = settings->tls_client_names.items,
        .name_count = settings->tls_client_names.count,
    };
}

static bool wants_tls(const struct settings_coordinator *settings)
{
    return settings->tls_certificate || settings->tls_key || settings->tls_client_ca ||
           settings->tls_client_names.count > 0;
}

static struct rpc_limits limits_of(const struct settings_coordinator *settings)
{
    return (struct rpc_limits){.calls = settings->limit_calls,
                               .message_bytes = settings->limit_message_bytes,
                               .memory_bytes = settings->limit_memory_bytes};
}

static bool wants_encoder(const struct settings_coordinator *settings)
{
    if (settings->encoder_process != SETTINGS_PROCESS_AUTO)
        return settings->encoder_process == SETTINGS_PROCESS_ON;
    return strcmp(settings->device, "auto") != 0 && strcmp(settings->device, "cpu") != 0 &&
           strcmp(settings->device, "cpu-bf16") != 0;
}

static enum status find_encoder(const struct settings_coordinator *settings, struct house *house,
                                struct reason *why)
{
    if (!wants_encoder(settings))
        return STATUS_OK;
    ssize_t bytes = readlink("/proc/self/exe", house->encoder, PATH_MAX);
    char *slash = bytes > 0 ? strrchr(house->encoder, '/') : NULL; // static, so it has an end
    if (!slash)
        return reason_set(why, STATUS_IO, NULL, "/proc/self/exe cannot be read");
    memcpy(slash, ENCODER, sizeof(ENCODER));
    if (access(house->encoder, X_OK) != 0)
        return reason_set(why, STATUS_NOT_FOUND, "--encoder-process",
                          "%s is missing: it belongs beside this program", house->encoder);
    return STATUS_OK;
}

static enum status start(void *owned, const void *from, struct reason *why)
{
    struct house *house = owned;
    const struct settings_coordinator *settings = from;
    enum status status = address_parse(settings->listen, "--listen", &house->listen, why);
    if (status == STATUS_OK)
        status = choose_http(settings, house, why);
    if (status == STATUS_OK)
        status = open_data(settings, house, why);
    if (status == STATUS_OK)
        status = name_nodes(settings, house, why);
    if (status == STATUS_OK)
        status = open_bus(settings, house, why);
    if (status == STATUS_OK)
        status = find_encoder(settings, house, why);
    const struct rpc_tls_params tls = tls_params(settings);
    if (status == STATUS_OK && wants_tls(settings))
        status = rpc_tls_open(&tls, &house->tls, why);
    if (status != STATUS_OK)
        return status;

    char http[ADDRESS_TEXT_BYTES];
    struct coordinator_params params = {
        .data_directory = settings->data,
        .snapshots = settings->snapshots,
        .bus = house->bus,
        .nodes = house->nodes,
        .node_count = house->node_count,
        .clip = {.directory = settings->model,
                 .device = settings->device,
                 .threads = (int)settings->threads},
        .head = settings->head,
        .encoder = house->encoder[0] ? house->encoder : NULL,
        .listen = settings->listen,
        .http = house->has_http ? address_text(&house->http, house->http.port, http) : NULL,
        .tls = house->tls,
        .limits = limits_of(settings),
        .deadline_us = (int64_t)settings->limit_deadline_ms * 1000,
        .approx = (enum api_approx)(settings->search_approx + 1),
        .streams = settings->limit_streams,
        .stream_items = settings->limit_stream_items,
    };
    status = coordinator_start(&params, &house->coordinator, why);
    if (status != STATUS_OK || !house->datadir)
        return status;
    char address[ADDRESS_TEXT_BYTES];
    (void)address_text(&house->listen, coordinator_port(house->coordinator), address);
    if (datadir_set_address(house->datadir, address) != STATUS_OK)
        return reason_set(why, STATUS_IO, "--data", "cannot write into %s/LOCK", settings->data);
    return STATUS_OK;
}

static void announce(const void *owned)
{
    const struct house *house = owned;
    const int http_port = coordinator_http_port(house->coordinator);
    char text[ADDRESS_TEXT_BYTES];
    (void)printf("ready %s\n",
                 address_text(&house->listen, coordinator_port(house->coordinator), text));
    if (http_port > 0)
        (void)printf("http %s\n", address_text(&house->http, http_port, text));
}

static enum status reload(void *owned, const void *from, struct reason *why)
{
    struct house *house = owned;
    const struct settings_coordinator *settings = from;
    const struct rpc_tls_params tls = tls_params(settings);
    const struct rpc_limits limits = limits_of(settings);
    enum status status = STATUS_OK;
    if (house->tls)
        status = rpc_tls_update(house->tls, &tls, why);
    else if (wants_tls(settings))
        status = reason_set(why, STATUS_INVALID, "[tls]",
                            "a listener of plain text becomes one of TLS by a restart only");
    if (status == STATUS_OK)
        coordinator_set_limits(house->coordinator, &limits,
                               (int64_t)settings->limit_deadline_ms * 1000);
    return status;
}

static void look(void *owned)
{
    struct house *house = owned;
    if (house->tls)
        rpc_tls_check_files(house->tls);
}

static void stop(void *owned)
{
    struct house *house = owned;
    coordinator_stop(&house->coordinator, GRACE_US);
    rpc_tls_close(&house->tls);
    bus_close(&house->bus);
    datadir_close(&house->datadir);
}

int main(int argc, char **argv)
{
    static struct house house;
    const struct program program = {
        .table = &settings_coordinator,
        .version = RECO_VERSION,
        .level_offset = offsetof(struct settings_coordinator, log_level),
        .house = &house,
        .check = check_settings,
        .start = start,
        .announce = announce,
        .reload = reload,
        .look = look,
        .stop = stop,
    };
    return program_main(&program, argc, (const char *const *)argv);
}
