// SPDX-License-Identifier: Apache-2.0
// settings.c - the tables. The order of the keys is the order of the printed files.

#include "proto/base/settings.h"

#include <stddef.h>

#include "proto/base/limits.h"

#define LOG_LEVELS "error|warn|info|debug" // in the order of enum log_level
#define LOG_HELP                                                                                   \
    "what is logged: error is for someone to look at, warn is degraded, info is life cycle, "      \
    "debug "                                                                                       \
    "is every request"
#define DEADLINE_MS_MAX 86400000 // one day

const char *const settings_device_names[] = {"auto", "cpu"};

// Variables that begin with RECO_ and set no key: of the log of a verb, of the kernels, of our
// scripts and tests.
static const char *const other_variables[] = {"RECO_LOG", "RECO_CPU", "RECO_JOBS", "RECO_TEST_SEED",
                                              NULL};

const struct config_table *const settings_tables[] = {&settings_coordinator, &settings_shard,
                                                      &settings_client, NULL};

// ---------------------------------------------------------------- reco-coordinator

#define MEMBER(name) offsetof(struct settings_coordinator, name)

static const struct config_key coordinator_keys[] = {
    {.section = "server",
     .name = "listen",
     .kind = CONFIG_TEXT,
     .fallback = "127.0.0.1:7700",
     .offset = MEMBER(listen),
     .flag = "--listen",
     .argument = "HOST:PORT",
     .help = "where gRPC is answered; port 0 picks one"},
    {.section = "server",
     .name = "data",
     .kind = CONFIG_TEXT,
     .offset = MEMBER(data),
     .flag = "--data",
     .argument = "DIR",
     .help = "the data directory; without it: encoding only, no memories"},
    {.section = "server",
     .name = "model",
     .kind = CONFIG_TEXT,
     .offset = MEMBER(model),
     .flag = "--model",
     .argument = "DIR",
     .help = "a Hugging Face CLIP directory; without it the embedded reco-tiny",
     .danger = "another model is another space: memories that were built with the old one are "
               "refused until they are built again"},
    {.section = "server",
     .name = "device",
     .kind = CONFIG_CHOICE,
     .fallback = "auto",
     .choices = SETTINGS_DEVICES,
     .offset = MEMBER(device),
     .flag = "--device",
     .argument = "NAME",
     .help = "where the model runs"},
    {.section = "server",
     .name = "threads",
     .kind = CONFIG_COUNT,
     .fallback = "0",
     .low = 0,
     .high = SETTINGS_THREADS_MAX,
     .offset = MEMBER(threads),
     .flag = "--threads",
     .argument = "N",
     .help = "threads of the encoder; 0: as many as there are"},
    {.section = "http",
     .name = "listen",
     .kind = CONFIG_TEXT,
     .offset = MEMBER(http),
     .flag = "--http",
     .argument = "HOST:PORT",
     .help =
         "health, readiness, metrics and queries in JSON over HTTP; port 0 picks one, off is none; "
         "without it 127.0.0.1 and the port of listen + 80, or none when that is 0",
     .danger = "there is no TLS and no authentication on it, so only loopback addresses are "
               "taken; other machines reach it through a proxy that has both"},
    {.section = "nodes",
     .name = "count",
     .kind = CONFIG_COUNT,
     .fallback = "0",
     .low = 0,
     .high = NODES_MAX,
     .offset = MEMBER(node_count),
     .flag = "--nodes",
     .argument = "N",
     .help = "nodes on this machine, node i at tcp://127.0.0.1:P+10+2i and one higher, P being "
             "the port listened to; 0: as the data directory says, or as endpoints names them",
     .danger = "fixed when the data directory is made; another number is refused"},
    {.section = "nodes",
     .name = "endpoints",
     .kind = CONFIG_LIST,
     .offset = MEMBER(endpoints),
     .flag = "--node",
     .argument = "QUERY,BULK",
     .help = "or: the two endpoints of node 0, 1, 2 ..., in this order, as "
             "tcp://127.0.0.1:7710,tcp://127.0.0.1:7711",
     .danger = "the order is the nodes' numbers; another order sends records to the wrong ones"},
    {.section = "nodes",
     .name = "keys",
     .kind = CONFIG_TEXT,
     .offset = MEMBER(keys),
     .flag = "--keys",
     .argument = "DIR",
     .help = "the folder with coordinator.secret and both public keys; without it DATA/keys"},
    {.section = "log",
     .name = "level",
     .kind = CONFIG_CHOICE,
     .fallback = "info",
     .choices = LOG_LEVELS,
     .offset = MEMBER(log_level),
     .flag = "--log-level",
     .argument = "LEVEL",
     .help = LOG_HELP},
};
#undef MEMBER

const struct config_table settings_coordinator = {
    .program = "reco-coordinator",
    .summary = "Answers gRPC calls with a CLIP model and the memories that its shard nodes hold.\n"
               "Prints 'ready HOST:PORT' when it answers. SIGTERM drains it: health says\n"
               "NOT_SERVING, running calls finish.",
    .keys = coordinator_keys,
    .key_count = sizeof(coordinator_keys) / sizeof(coordinator_keys[0]),
    .settings_bytes = sizeof(struct settings_coordinator),
    .family = settings_tables,
    .other_variables = other_variables,
};

// ---------------------------------------------------------------- reco-shard

#define MEMBER(name) offsetof(struct settings_shard, name)

static const struct config_key shard_keys[] = {
    {.section = "node",
     .name = "directory",
     .kind = CONFIG_TEXT,
     .offset = MEMBER(directory),
     .flag = "--data",
     .argument = "DIR",
     .help = "where its records are; made when missing; required"},
    {.section = "node",
     .name = "index",
     .kind = CONFIG_COUNT,
     .fallback = "0",
     .low = 0,
     .high = NODES_MAX - 1,
     .offset = MEMBER(index),
     .flag = "--index",
     .argument = "I",
     .help = "number of this node in its cluster"},
    {.section = "node",
     .name = "query",
     .kind = CONFIG_TEXT,
     .fallback = "tcp://127.0.0.1:7710",
     .offset = MEMBER(query),
     .flag = "--query",
     .argument = "ENDPOINT",
     .help = "where searches are answered; port 0 picks one"},
    {.section = "node",
     .name = "bulk",
     .kind = CONFIG_TEXT,
     .fallback = "tcp://127.0.0.1:7711",
     .offset = MEMBER(bulk),
     .flag = "--bulk",
     .argument = "ENDPOINT",
     .help = "where bulk loads are answered; port 0 picks one"},
    {.section = "node",
     .name = "search_threads",
     .kind = CONFIG_COUNT,
     .fallback = "0",
     .low = 0,
     .high = SETTINGS_SEARCH_THREADS_MAX,
     .offset = MEMBER(search_threads),
     .flag = "--search-threads",
     .argument = "N",
     .help = "threads of one search; 0: as many as the process may use"},
    {.section = "node",
     .name = "keys",
     .kind = CONFIG_TEXT,
     .offset = MEMBER(keys),
     .flag = "--keys",
     .argument = "DIR",
     .help = "the folder with node.secret and coordinator.public of the cluster; required"},
    {.section = "disk",
     .name = "throttle_percent",
     .kind = CONFIG_COUNT,
     .fallback = "85",
     .low = 1,
     .high = 100,
     .offset = MEMBER(disk_throttle_percent),
     .flag = "--disk-throttle-percent",
     .argument = "N",
     .help = "how full the disk is when new records are slowed down to 8 MiB a second"},
    {.section = "disk",
     .name = "full_percent",
     .kind = CONFIG_COUNT,
     .fallback = "92",
     .low = 1,
     .high = 100,
     .offset = MEMBER(disk_full_percent),
     .flag = "--disk-full-percent",
     .argument = "N",
     .help = "how full the disk is when only deletions are taken",
     .danger = "near 100 the store has no room to delete or to compact, and stops"},
    {.section = "memory",
     .name = "limit_mib",
     .kind = CONFIG_COUNT,
     .fallback = "0",
     .low = 0,
     .high = SETTINGS_MEMORY_MIB_MAX,
     .offset = MEMBER(memory_limit_mib),
     .flag = "--memory-limit-mib",
     .argument = "N",
     .help = "for rows, buffers and caches; 0: 90 % of what there is",
     .danger = "more than there is lets the kernel kill the node"},
    {.section = "http",
     .name = "listen",
     .kind = CONFIG_TEXT,
     .offset = MEMBER(http),
     .flag = "--http",
     .argument = "HOST:PORT",
     .help =
         "health, readiness and metrics over HTTP; port 0 picks one; without it, or with off: none",
     .danger = "there is no TLS and no authentication on it, so only loopback addresses are "
               "taken; other machines reach it through a proxy that has both"},
    {.section = "log",
     .name = "level",
     .kind = CONFIG_CHOICE,
     .fallback = "info",
     .choices = LOG_LEVELS,
     .offset = MEMBER(log_level),
     .flag = "--log-level",
     .argument = "LEVEL",
     .help = LOG_HELP},
};
#undef MEMBER

const struct config_table settings_shard = {
    .program = "reco-shard",
    .summary = "One shard node: keeps its part of every memory below --data and answers the\n"
               "coordinator that holds the other half of the keys.\n"
               "Prints 'ready QUERY_ENDPOINT BULK_ENDPOINT' when it answers. SIGTERM drains it.",
    .keys = shard_keys,
    .key_count = sizeof(shard_keys) / sizeof(shard_keys[0]),
    .settings_bytes = sizeof(struct settings_shard),
    .family = settings_tables,
    .other_variables = other_variables,
};

// ---------------------------------------------------------------- reco

#define MEMBER(name) offsetof(struct settings_client, name)

static const struct config_key client_keys[] = {
    {.section = "client",
     .name = "server",
     .kind = CONFIG_TEXT,
     .offset = MEMBER(server),
     .flag = "--server",
     .argument = "HOST:PORT",
     .help = "the server that verbs ask; without it the work is done inside the process. A verb "
             "with --data asks none"},
    {.section = "client",
     .name = "data",
     .kind = CONFIG_TEXT,
     .offset = MEMBER(data),
     .flag = "--data",
     .argument = "DIR",
     .also = "RECO_DATA",
     .help = "the data directory; without it $XDG_DATA_HOME/reco, else ~/.local/share/reco"},
    {.section = "client",
     .name = "model",
     .kind = CONFIG_TEXT,
     .offset = MEMBER(model),
     .flag = "--model",
     .argument = "DIR",
     .help = "a Hugging Face CLIP directory; without it the embedded reco-tiny. A server has its "
             "own"},
    {.section = "client",
     .name = "memory",
     .kind = CONFIG_TEXT,
     .offset = MEMBER(memory),
     .flag = "--memory",
     .argument = "NAME",
     .help = "the memory that queries search; without it the one called default"},
    {.section = "client",
     .name = "deadline_ms",
     .kind = CONFIG_COUNT,
     .fallback = "0",
     .low = 0,
     .high = DEADLINE_MS_MAX,
     .offset = MEMBER(deadline_ms),
     .flag = "--deadline-ms",
     .argument = "N",
     .help = "longest time for one request, in milliseconds; 0: none"},
};
#undef MEMBER

const struct config_table settings_client = {
    .program = "reco",
    .summary = "The command line; `reco help` lists its verbs.",
    .keys = client_keys,
    .key_count = sizeof(client_keys) / sizeof(client_keys[0]),
    .settings_bytes = sizeof(struct settings_client),
    .family = settings_tables,
    .other_variables = other_variables,
};
