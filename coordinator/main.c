// SPDX-License-Identifier: Apache-2.0
// reco-coordinator: the front of a cluster as a process.
//
// It prints "ready HOST:PORT" once it answers, drains on SIGTERM or SIGINT, and exits with 0;
// with 1 when it cannot start, with 2 for wrong usage.
//
// It holds the lock of its data directory. When the process that started it does (as `reco up`
// does, which starts shards as well), it works under that lock.

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "coordinator/coordinator.h"
#include "coordinator/datadir.h"
#include "proto/base/limits.h"
#include "proto/base/log.h"
#include "proto/base/machine.h"
#include "proto/bus/bus.h"

#define EXIT_FAILED 1
#define EXIT_USAGE 2
#define GRACE_US 30000000 // for running calls when it drains
#define PORT_MAX 65535
#define THREADS_MAX 1024
#define ADDRESS_BYTES 300

static const char usage[] =
    "usage: reco-coordinator [--data DIR] [flags]\n"
    "\n"
    "Answers gRPC calls with a CLIP model and the memories that its shard nodes hold.\n"
    "\n"
    "  --data DIR            the data directory; without it: encoding only, no memories\n"
    "  --listen HOST:PORT    default 127.0.0.1:7700; port 0 picks one\n"
    "  --node QUERY,BULK     endpoints of node 0, 1, 2 ... (give it once for each)\n"
    "  --nodes N             or: N nodes (1 to 32), node i at tcp://127.0.0.1:P+10+2i and one\n"
    "                        higher, P being the port listened to (default: as the data\n"
    "                        directory says)\n"
    "  --keys DIR            coordinator.secret and both public keys (default: DATA/keys)\n"
    "  --model DIR           a Hugging Face CLIP directory (default: the embedded reco-tiny)\n"
    "  --device NAME         auto (default) or cpu\n"
    "  --threads N           of the encoder, 0 to 1024; 0 (default): as many as there are\n"
    "  --log-level LEVEL     error, warn, info (default) or debug\n"
    "  --die-with-parent     ends, like by SIGTERM, when the process that started it is gone\n"
    "  --help, --version\n"
    "\n"
    "Prints 'ready HOST:PORT' when it answers. SIGTERM drains it: health says NOT_SERVING,\n"
    "running calls finish.\n";

struct flags {
    const char *data;
    const char *listen;
    const char *keys;
    const char *model;
    const char *device;
    const char *log_level;
    const char *nodes[NODES_MAX]; // "QUERY,BULK"
    size_t node_count;
    uint32_t derived; // --nodes
    uint32_t threads;
    bool die_with_parent;
    bool help;
    bool version;
};

// What main() owns.
struct house {
    struct datadir *datadir; // NULL without, or under the parent's lock
    struct bus *bus;
    struct coordinator *coordinator;
    char endpoints[NODES_MAX][2][BUS_ENDPOINT_BYTES];
    struct coordinator_node nodes[NODES_MAX];
    size_t node_count;
    char host[ADDRESS_BYTES]; // of --listen
    uint32_t port;
};

// ---------------------------------------------------------------- flags

static enum status read_number(const char *name, const char *text, uint32_t max, uint32_t *out,
                               struct reason *why)
{
    char *end = NULL;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || value > max)
        return reason_set(why, STATUS_INVALID, name, "'%s'; 0 to %u are allowed", text, max);
    *out = (uint32_t)value;
    return STATUS_OK;
}

static enum status read_value(struct flags *flags, const char *name, const char *value,
                              struct reason *why)
{
    const struct {
        const char *name;
        const char **target;
    } texts[] = {
        {"--data", &flags->data},     {"--listen", &flags->listen},
        {"--keys", &flags->keys},     {"--model", &flags->model},
        {"--device", &flags->device}, {"--log-level", &flags->log_level},
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        if (strcmp(name, texts[i].name) == 0) {
            *texts[i].target = value;
            return STATUS_OK;
        }
    if (strcmp(name, "--nodes") == 0)
        return read_number(name, value, NODES_MAX, &flags->derived, why);
    if (strcmp(name, "--threads") == 0)
        return read_number(name, value, THREADS_MAX, &flags->threads, why);
    if (flags->node_count == NODES_MAX)
        return reason_set(why, STATUS_INVALID, name, "at most %d of them", NODES_MAX);
    flags->nodes[flags->node_count++] = value;
    return STATUS_OK;
}

static bool read_switch(struct flags *flags, const char *name)
{
    if (strcmp(name, "--die-with-parent") == 0)
        flags->die_with_parent = true;
    else if (strcmp(name, "--help") == 0)
        flags->help = true;
    else if (strcmp(name, "--version") == 0)
        flags->version = true;
    else
        return false;
    return true;
}

static bool takes_value(const char *name)
{
    static const char *const names[] = {"--data",  "--listen",  "--keys",
                                        "--model", "--device",  "--log-level",
                                        "--nodes", "--threads", "--node"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

static enum status check_flags(const struct flags *flags, struct reason *why)
{
    enum log_level level = LOG_INFO;
    if (log_level_parse(flags->log_level, &level) != STATUS_OK)
        return reason_set(why, STATUS_INVALID, "--log-level",
                          "'%s'; error, warn, info and debug are allowed", flags->log_level);
    log_set_level(level);
    if (flags->node_count > 0 && flags->derived > 0)
        return reason_set(why, STATUS_INVALID, "--nodes",
                          "given together with --node; one of both");
    if (!flags->data && (flags->node_count > 0 || flags->derived > 0))
        return reason_set(why, STATUS_INVALID, "--data",
                          "nodes hold memories, and those need a data directory");
    return STATUS_OK;
}

static enum status read_flags(int argc, char **argv, struct flags *flags, struct reason *why)
{
    for (int i = 1; i < argc; i++) {
        if (read_switch(flags, argv[i]))
            continue;
        if (!takes_value(argv[i]))
            return reason_set(why, STATUS_INVALID, argv[i],
                              "unknown flag; see reco-coordinator --help");
        if (i + 1 == argc)
            return reason_set(why, STATUS_INVALID, argv[i], "needs a value");
        enum status status = read_value(flags, argv[i], argv[i + 1], why);
        if (status != STATUS_OK)
            return status;
        i++;
    }
    return flags->help || flags->version ? STATUS_OK : check_flags(flags, why);
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
    return read_number("--listen", colon + 1, PORT_MAX, &house->port, why);
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

static enum status name_nodes(const struct flags *flags, struct house *house, struct reason *why)
{
    for (size_t i = 0; i < flags->node_count; i++) {
        enum status status = name_node(house, flags->nodes[i], why);
        if (status != STATUS_OK)
            return status;
    }
    uint32_t derived = flags->derived;
    if (flags->node_count == 0 && derived == 0 && house->datadir)
        derived = datadir_nodes(house->datadir);
    if (derived > 0 && (house->port == 0 || house->port + 11 + 2 * derived > PORT_MAX))
        return reason_set(why, STATUS_INVALID, "--listen",
                          "port %u; the nodes' ports follow from it, so it must be of 1..%u, or "
                          "name the nodes with --node",
                          house->port, PORT_MAX - 11 - 2 * derived);
    for (uint32_t i = 0; i < derived; i++) {
        char pair[2 * BUS_ENDPOINT_BYTES];
        uint32_t port = house->port + 10 + 2 * i;
        (void)snprintf(pair, sizeof(pair), "tcp://127.0.0.1:%u,tcp://127.0.0.1:%u", port, port + 1);
        enum status status = name_node(house, pair, why);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

// ---------------------------------------------------------------- start

static enum status open_data(const struct flags *flags, struct house *house, struct reason *why)
{
    if (!flags->data || datadir_is_held_by(flags->data, (long)getppid()))
        return STATUS_OK;
    struct datadir_params params = {
        .path = flags->data,
        .create = true,
        .nodes = flags->node_count > 0 ? (uint32_t)flags->node_count : flags->derived,
        .address = flags->listen,
    };
    return datadir_open(&params, &house->datadir, why);
}

static enum status open_bus(const struct flags *flags, struct house *house, struct reason *why)
{
    char path[DATADIR_PATH_BYTES + 8];
    struct bus_keys keys;
    if (house->node_count == 0)
        return STATUS_OK;
    (void)snprintf(path, sizeof(path), "%s/keys", flags->data);
    const char *directory = flags->keys ? flags->keys : path;
    enum status status = bus_keys_load(directory, !flags->keys, &keys, why);
    return status == STATUS_OK ? bus_open(&keys, &house->bus, why) : status;
}

static enum status start(const struct flags *flags, struct house *house, struct reason *why)
{
    enum status status = read_listen(flags->listen, house, why);
    if (status == STATUS_OK)
        status = open_data(flags, house, why);
    if (status == STATUS_OK)
        status = name_nodes(flags, house, why);
    if (status == STATUS_OK)
        status = open_bus(flags, house, why);
    if (status != STATUS_OK)
        return status;

    struct coordinator_params params = {
        .data_directory = flags->data,
        .bus = house->bus,
        .nodes = house->nodes,
        .node_count = house->node_count,
        .clip = {.directory = flags->model,
                 .device = flags->device,
                 .threads = (int)flags->threads},
        .listen = flags->listen,
    };
    status = coordinator_start(&params, &house->coordinator, why);
    if (status != STATUS_OK || !house->datadir)
        return status;
    char address[ADDRESS_BYTES + 16];
    (void)snprintf(address, sizeof(address), "%s:%d", house->host,
                   coordinator_port(house->coordinator));
    if (datadir_set_address(house->datadir, address) != STATUS_OK)
        return reason_set(why, STATUS_IO, "--data", "cannot write into %s/LOCK", flags->data);
    return STATUS_OK;
}

static void stop(struct house *house)
{
    coordinator_stop(&house->coordinator, GRACE_US);
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
    (void)pthread_sigmask(SIG_BLOCK, signals, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
}

int main(int argc, char **argv)
{
    static struct house house;
    struct flags flags = {.listen = "127.0.0.1:7700", .log_level = "info"};
    struct reason why = {0};
    if (read_flags(argc, argv, &flags, &why) != STATUS_OK)
        return complain(EXIT_USAGE, &why);
    if (flags.help) {
        (void)fputs(usage, stdout);
        return 0;
    }
    if (flags.version) {
        (void)printf("reco-coordinator %s\n", RECO_VERSION);
        return 0;
    }
    machine_raise_files();
    sigset_t signals;
    block_signals(&signals);
    if (flags.die_with_parent && !bind_to_parent())
        return EXIT_FAILED;

    enum status status = start(&flags, &house, &why);
    if (status != STATUS_OK) {
        stop(&house);
        return complain(status == STATUS_INVALID ? EXIT_USAGE : EXIT_FAILED, &why);
    }
    (void)printf("ready %s:%d\n", house.host, coordinator_port(house.coordinator));
    (void)fflush(stdout);

    int received = 0;
    while (sigwait(&signals, &received) != 0)
        ;
    stop(&house);
    return 0;
}
