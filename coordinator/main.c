// SPDX-License-Identifier: Apache-2.0
// reco-coordinator: the front of a cluster as a process.
//
// It prints "ready HOST:PORT" once it answers, reads its configuration again on SIGHUP, drains on
// SIGTERM or SIGINT, and exits with 0; with 1 when it cannot start, with 2 for wrong usage.
//
// It holds the lock of its data directory. When the process that started it does (as `reco up`
// does, which starts shards as well), it works under that lock.

#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "coordinator/coordinator.h"
#include "coordinator/datadir.h"
#include "proto/base/config.h"
#include "proto/base/limits.h"
#include "proto/base/log.h"
#include "proto/base/machine.h"
#include "proto/base/settings.h"
#include "proto/base/words.h"
#include "proto/bus/bus.h"
#include "proto/http/http.h"
#include "proto/rpc/rpc_tls.h"

#define EXIT_FAILED 1
#define EXIT_USAGE 2
#define GRACE_US 30000000 // for running calls when it drains
#define PORT_MAX 65535
#define CERTIFICATES_S 1 // between two looks at their files
#define ADDRESS_BYTES 300
#define HTTP_PORT_ABOVE 80 // the side port, of the gRPC port
#define SIDE_HOST "127.0.0.1"

// How the program was started, for a reload.
struct command {
    int argc;
    const char *const *argv;
    const struct config *config; // as it was then
    bool die_with_parent;
};

// What main() owns.
struct house {
    struct datadir *datadir; // NULL without, or under the parent's lock
    struct bus *bus;
    struct rpc_tls *tls; // NULL: plain text
    struct coordinator *coordinator;
    char endpoints[NODES_MAX][2][BUS_ENDPOINT_BYTES];
    struct coordinator_node nodes[NODES_MAX];
    size_t node_count;
    char host[ADDRESS_BYTES]; // of --listen
    uint64_t port;
    char http[ADDRESS_BYTES + 16]; // "": no side port
};

// ---------------------------------------------------------------- settings

// What no single key shows.
static enum status check_settings(const struct settings_coordinator *settings, struct reason *why)
{
    log_set_level((enum log_level)settings->log_level);
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
    return STATUS_OK;
}

// Splits HOST:PORT.
static enum status read_listen(const char *listen, struct house *house, struct reason *why)
{
    const char *colon = strrchr(listen, ':');
    size_t bytes = colon ? (size_t)(colon - listen) : 0;
    if (bytes == 0 || bytes >= sizeof(house->host))
        return reason_set(why, STATUS_INVALID, "--listen", "'%s'; HOST:PORT is wanted", listen);
    memcpy(house->host, listen, bytes);
    house->host[bytes] = '\0';
    if (!words_read_count(colon + 1, 0, PORT_MAX, &house->port))
        return reason_set(why, STATUS_INVALID, "--listen", "port '%s'; 0 to %d are allowed",
                          colon + 1, PORT_MAX);
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
    if (derived > 0 && (house->port == 0 || house->port + 11 + 2 * derived > PORT_MAX))
        return reason_set(why, STATUS_INVALID, "--listen",
                          "port %" PRIu64 "; the nodes' ports follow from it, so it must be of "
                          "1..%" PRIu64 ", or name the nodes with --node",
                          house->port, PORT_MAX - 11 - 2 * derived);
    for (uint64_t i = 0; i < derived; i++) {
        char pair[2 * BUS_ENDPOINT_BYTES];
        uint64_t port = house->port + 10 + 2 * i;
        (void)snprintf(pair, sizeof(pair), "tcp://127.0.0.1:%" PRIu64 ",tcp://127.0.0.1:%" PRIu64,
                       port, port + 1);
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
    const char *http = settings->http;
    if (http) {
        if (strlen(http) >= sizeof(house->http))
            return reason_set(why, STATUS_INVALID, "--http", "it has %zu bytes; at most %zu",
                              strlen(http), sizeof(house->http) - 1);
        if (strcmp(http, HTTP_LISTEN_OFF) != 0)
            (void)snprintf(house->http, sizeof(house->http), "%s", http);
        return STATUS_OK;
    }
    if (house->port == 0)
        return STATUS_OK;
    if (house->port + HTTP_PORT_ABOVE > PORT_MAX)
        return reason_set(why, STATUS_INVALID, "--listen",
                          "port %" PRIu64 "; the side port is %d higher, so it must be of 1..%d, "
                          "or name the side port with --http",
                          house->port, HTTP_PORT_ABOVE, PORT_MAX - HTTP_PORT_ABOVE);
    (void)snprintf(house->http, sizeof(house->http), "%s:%" PRIu64, SIDE_HOST,
                   house->port + HTTP_PORT_ABOVE);
    return STATUS_OK;
}

static struct rpc_tls_params tls_params(const struct settings_coordinator *settings)
{
    return (struct rpc_tls_params){
        .certificate = settings->tls_certificate,
        .key = settings->tls_key,
        .client_ca = settings->tls_client_ca,
        .clients = (enum rpc_tls_clients)settings->tls_client_auth,
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

static enum status start(const struct settings_coordinator *settings, struct house *house,
                         struct reason *why)
{
    enum status status = read_listen(settings->listen, house, why);
    if (status == STATUS_OK)
        status = choose_http(settings, house, why);
    if (status == STATUS_OK)
        status = open_data(settings, house, why);
    if (status == STATUS_OK)
        status = name_nodes(settings, house, why);
    if (status == STATUS_OK)
        status = open_bus(settings, house, why);
    const struct rpc_tls_params tls = tls_params(settings);
    if (status == STATUS_OK && wants_tls(settings))
        status = rpc_tls_open(&tls, &house->tls, why);
    if (status != STATUS_OK)
        return status;

    struct coordinator_params params = {
        .data_directory = settings->data,
        .snapshots = settings->snapshots,
        .bus = house->bus,
        .nodes = house->nodes,
        .node_count = house->node_count,
        .clip = {.directory = settings->model,
                 .device = settings_device_names[settings->device],
                 .threads = (int)settings->threads},
        .listen = settings->listen,
        .http = house->http[0] ? house->http : NULL,
        .tls = house->tls,
        .limits = limits_of(settings),
        .deadline_us = (int64_t)settings->limit_deadline_ms * 1000,
        .streams = settings->limit_streams,
        .stream_items = settings->limit_stream_items,
    };
    status = coordinator_start(&params, &house->coordinator, why);
    if (status != STATUS_OK || !house->datadir)
        return status;
    char address[ADDRESS_BYTES + 16];
    (void)snprintf(address, sizeof(address), "%s:%d", house->host,
                   coordinator_port(house->coordinator));
    if (datadir_set_address(house->datadir, address) != STATUS_OK)
        return reason_set(why, STATUS_IO, "--data", "cannot write into %s/LOCK", settings->data);
    return STATUS_OK;
}

static void stop(struct house *house)
{
    coordinator_stop(&house->coordinator, GRACE_US);
    rpc_tls_close(&house->tls);
    bus_close(&house->bus);
    datadir_close(&house->datadir);
}

static int complain(int code, const struct reason *why)
{
    (void)fprintf(stderr, "reco-coordinator: %s%s%s\n", why->field, why->field[0] ? ": " : "",
                  why->text);
    return code;
}

// The parent may be gone before the kernel was asked to tell.
static bool bind_to_parent(void)
{
    pid_t parent = getppid();
    return prctl(PR_SET_PDEATHSIG, SIGTERM) == 0 && getppid() == parent;
}

// Blocked in this thread before any other is started, so that they are only ever waited for here.
static void block_signals(sigset_t *signals)
{
    (void)sigemptyset(signals);
    (void)sigaddset(signals, SIGTERM);
    (void)sigaddset(signals, SIGINT);
    (void)sigaddset(signals, SIGHUP);
    (void)pthread_sigmask(SIG_BLOCK, signals, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
}

// Reads the configuration again and takes over what can be, all or nothing.
static void reload(const struct command *command, struct house *house)
{
    struct settings_coordinator settings = {0};
    struct config_words words;
    struct config *config = NULL;
    struct reason why = {0};
    char text[LOG_QUOTE_BYTES];
    enum status status =
        config_load(&settings_coordinator, command->argc, command->argv, &words, &config, &why);
    if (status == STATUS_OK) {
        config_store(config, &settings);
        const struct rpc_tls_params tls = tls_params(&settings);
        if (house->tls)
            status = rpc_tls_update(house->tls, &tls, &why);
        else if (wants_tls(&settings))
            status = reason_set(&why, STATUS_INVALID, "[tls]",
                                "a listener of plain text becomes one of TLS by a restart only");
    }
    if (status != STATUS_OK) {
        log_error("config_refused", "field=\"%s\" reason=%s", why.field, log_quote(why.text, text));
    } else {
        const struct rpc_limits limits = limits_of(&settings);
        log_set_level((enum log_level)settings.log_level);
        coordinator_set_limits(house->coordinator, &limits,
                               (int64_t)settings.limit_deadline_ms * 1000);
        config_log_restarts(command->config, config);
        log_info("config_reloaded", "file=\"%s\"", words.file ? words.file : "");
    }
    config_destroy(&config);
}

// Until the signal that ends the program. Certificates are looked at while waiting.
static void wait_for_end(const struct command *command, struct house *house,
                         const sigset_t *signals)
{
    const struct timespec look = {.tv_sec = CERTIFICATES_S};
    int received = 0;
    while (received != SIGTERM && received != SIGINT) {
        received = sigtimedwait(signals, NULL, house->tls ? &look : NULL);
        if (received == SIGHUP)
            reload(command, house);
        else if (received < 0 && house->tls)
            rpc_tls_check_files(house->tls);
    }
}

// The whole life between the settings and the end; returns the exit status.
static int serve(const struct command *command, const struct settings_coordinator *settings)
{
    static struct house house;
    struct reason why = {0};
    machine_raise_files();
    sigset_t signals;
    block_signals(&signals);
    if (command->die_with_parent && !bind_to_parent())
        return EXIT_FAILED;

    enum status status = start(settings, &house, &why);
    if (status != STATUS_OK) {
        stop(&house);
        return complain(status == STATUS_INVALID ? EXIT_USAGE : EXIT_FAILED, &why);
    }
    (void)printf("ready %s:%d\n", house.host, coordinator_port(house.coordinator));
    if (coordinator_http_port(house.coordinator) > 0)
        (void)printf("http %.*s:%d\n", (int)(strrchr(house.http, ':') - house.http), house.http,
                     coordinator_http_port(house.coordinator));
    (void)fflush(stdout);

    wait_for_end(command, &house, &signals);
    stop(&house);
    return 0;
}

int main(int argc, char **argv)
{
    struct settings_coordinator settings = {0};
    struct config_words words;
    struct config *config = NULL;
    struct reason why = {0};
    if (config_load(&settings_coordinator, argc, (const char *const *)argv, &words, &config,
                    &why) != STATUS_OK)
        return complain(EXIT_USAGE, &why);
    int exit_status = 0;
    config_store(config, &settings);
    if (words.help)
        config_print_help(&settings_coordinator, stdout);
    else if (words.version)
        (void)printf("reco-coordinator %s\n", RECO_VERSION);
    else if (check_settings(&settings, &why) != STATUS_OK)
        exit_status = complain(EXIT_USAGE, &why);
    else if (words.print)
        config_print(config, NULL, stdout);
    else
        exit_status =
            serve(&(struct command){argc, (const char *const *)argv, config, words.die_with_parent},
                  &settings);
    config_destroy(&config);
    return exit_status;
}
