// SPDX-License-Identifier: Apache-2.0
// settings.c - the tables. The order of the keys is the order of the printed files.

#include "proto/base/settings.h"

#include <stddef.h>

#include "proto/base/limits.h"

// The parts that most keys have; MEMBER() is defined anew for each table.
#define KEY(in, called, what, member)                                                              \
    .section = #in, .name = #called, .kind = CONFIG_##what, .offset = MEMBER(member)
#define FLAG(word, value) .flag = (word), .argument = (value)
#define RANGE(from, to) .low = (from), .high = (to)

#define HTTP_DANGER                                                                                \
    "there is no TLS and no authentication on it, so only loopback addresses are taken; other "    \
    "machines reach it through a proxy that has both"
// The choices are in the order of enum log_level.
#define LOG_LEVEL_KEY                                                                              \
    KEY(log, level, CHOICE, log_level), FLAG("--log-level", "LEVEL"),                              \
        .choices = "error|warn|info|debug", .fallback = "info",                                    \
        .help = "what is logged: error is for someone to look at, warn is degraded, info is life " \
                "cycle, debug is every request",                                                   \
        .reloads = true

#define TEXT_OF(number) #number
#define DIGITS(number) TEXT_OF(number)

// Variables that begin with RECO_ and set no key: of the log of a verb, of the kernels, of our
// scripts and tests.
static const char *const other_variables[] = {"RECO_LOG",  "RECO_CPU",       "RECO_GPU",
                                              "RECO_JOBS", "RECO_TEST_SEED", NULL};

const struct config_table *const settings_tables[] = {&settings_coordinator, &settings_shard,
                                                      &settings_client, NULL};

// ---------------------------------------------------------------- reco-coordinator

#define MEMBER(name) offsetof(struct settings_coordinator, name)

static const struct config_key coordinator_keys[] = {
    {KEY(server, listen, TEXT, listen), FLAG("--listen", "HOST:PORT"), .fallback = "127.0.0.1:7700",
     .help = "where gRPC is answered; port 0 picks one"},
    {KEY(server, data, TEXT, data), FLAG("--data", "DIR"),
     .help = "the data directory; without it: encoding only, no memories"},
    {KEY(server, model, TEXT, model), FLAG("--model", "DIR"),
     .help = "a Hugging Face CLIP directory; without it the embedded reco-tiny",
     .danger = "another model is another space: memories that were built with the old one are "
               "refused until they are built again"},
    {KEY(server, device, TEXT, device), FLAG("--device", "NAME"), .fallback = "auto",
     .help =
         "where the model runs: auto, cpu, cpu-bf16 (products in bfloat16, twice as fast, where "
         "the CPU and the model allow it), or the UUID of a Vulkan device, as `reco doctor` "
         "lists them",
     .danger = "embeddings differ from those of another device by rounding"},
    {KEY(server, head, TEXT, head), FLAG("--head", "FILE"),
     .help = "a trained fusion head (`reco train`); without it heads/NAME.safetensors in the data "
             "directory, NAME the space's 64 digits, else head.safetensors in the model's folder "
             "(that of reco-tiny is part of the program), else none",
     .danger = "answers that leave the fusion to the server change with the head"},
    {KEY(server, threads, COUNT, threads), FLAG("--threads", "N"), RANGE(0, SETTINGS_THREADS_MAX),
     .fallback = "0", .help = "threads of the encoder; 0: as many as there are"},
    {KEY(http, listen, TEXT, http), FLAG("--http", "HOST:PORT"),
     .help =
         "health, readiness, metrics and queries in JSON over HTTP; port 0 picks one, off is none; "
         "without it 127.0.0.1 and the port of listen + 80, or none when that is 0",
     .danger = HTTP_DANGER},
    {KEY(nodes, count, COUNT, node_count), FLAG("--nodes", "N"), RANGE(0, NODES_MAX),
     .fallback = "0",
     .help = "nodes on this machine, node i at tcp://127.0.0.1:P+10+2i and one higher, P being "
             "the port listened to; 0: as the data directory says, or as endpoints names them",
     .danger = "fixed when the data directory is made; another number is refused"},
    {KEY(nodes, endpoints, LIST, endpoints), FLAG("--node", "QUERY,BULK"),
     .help = "or: the two endpoints of node 0, 1, 2 ..., in this order, as "
             "tcp://127.0.0.1:7710,tcp://127.0.0.1:7711",
     .danger = "the order is the nodes' numbers; another order sends records to the wrong ones"},
    {KEY(nodes, keys, TEXT, keys), FLAG("--keys", "DIR"),
     .help = "the folder with coordinator.secret and both public keys; without it DATA/keys"},
    {KEY(tls, certificate, TEXT, tls_certificate), FLAG("--tls-cert", "FILE"),
     .help = "the server's certificate and its chain, PEM; with it every connection is TLS. A "
             "changed file is taken over within seconds, when it fits the key",
     .reloads = true},
    {KEY(tls, key, TEXT, tls_key), FLAG("--tls-key", "FILE"),
     .help = "the private key of the certificate, PEM",
     .danger = "whoever reads it can pretend to be this server: mode 0600", .reloads = true},
    {KEY(tls, client_ca, TEXT, tls_client_ca), FLAG("--tls-client-ca", "FILE"),
     .help = "who signs the certificates of clients, PEM; without it clients are not asked for "
             "any",
     .reloads = true},
    {KEY(tls, client_auth, CHOICE, tls_client_auth), FLAG("--tls-client-auth", "HOW"),
     .choices = SETTINGS_CLIENT_AUTHS, .fallback = "auto",
     .help = "whether a client must show a certificate; auto: required where client_ca is set. "
             "The others are refused without client_ca",
     .danger =
         "optional lets strangers speak HTTP/2 to the server, and is refused beyond loopback"},
    {KEY(tls, client_names, LIST, tls_client_names), FLAG("--tls-client-name", "PATTERN"),
     .help = "clients that may call, by a subject alternative name of their certificate, or the "
             "common name of one without; * stands for anything but . and /. Empty: all that "
             "client_ca has signed",
     .danger = "empty with a public CA lets the whole world in", .reloads = true},
    {KEY(limits, calls, COUNT, limit_calls), RANGE(1, CALLS_MAX), .fallback = DIGITS(CALLS_MAX),
     .help = "calls that run at once; more are told RESOURCE_EXHAUSTED", .reloads = true},
    {KEY(limits, streams, COUNT, limit_streams), RANGE(1, CALLS_MAX),
     .fallback = DIGITS(CALL_STREAMS_DEFAULT),
     .help = "EncodeStream, SearchStream, RefineStream and ClassifyStream calls among them"},
    {KEY(limits, stream_items, COUNT, limit_stream_items), RANGE(1, 8), .fallback = "8",
     .help = "questions of one such call that are worked at once"},
    {KEY(limits, message_bytes, COUNT, limit_message_bytes),
     RANGE(MESSAGE_BYTES_LOW, MESSAGE_BYTES_MAX), .fallback = "67108864",
     .help = "one message of a client",
     .danger = "a low limit refuses pictures and batches that clients are used to send",
     .reloads = true},
    {KEY(limits, memory_bytes, COUNT, limit_memory_bytes), RANGE(CALL_MEMORY_MIN, CALL_MEMORY_MAX),
     .fallback = "536870912",
     .help =
         "for messages of all clients together: half for calls under way, all for gRPC's buffers",
     .danger = "a message beyond its half is refused, so a low limit refuses large pictures",
     .reloads = true},
    {KEY(limits, deadline_ms_default, COUNT, limit_deadline_ms), RANGE(0, DEADLINE_MS_MAX),
     .fallback = "0",
     .help = "deadline of a call of one request that comes without one, in milliseconds; 0: none",
     .reloads = true},
    {KEY(search, approx, CHOICE, search_approx), .choices = SETTINGS_APPROX, .fallback = "normal",
     .help = "how near to the true best a search by an index comes when the client does not say: "
             "of the best ten fast aims at 90 %, normal at 95 %, accurate at 99 %",
     .danger = "another word gives other answers from memories that are searched by an index"},
    {KEY(encoder, process, CHOICE, encoder_process), FLAG("--encoder-process", "HOW"),
     .choices = SETTINGS_PROCESSES, .fallback = "auto",
     .help = "whether encoding runs in a process of its own, reco-encoder, which lies beside this "
             "program: when a driver crashes or hangs, this process computes on its CPU until the "
             "other is back. auto: for a device that is not the CPU",
     .danger = "on: the model is in memory twice. off: a driver that crashes ends this process"},
    {KEY(snapshots, directory, TEXT, snapshots), FLAG("--snapshots", "DIR"),
     .help = "the folder in which clients may make snapshots of memories and restore them; without "
             "it DATA/snapshots",
     .danger = "who may call may fill it; a folder of its own, on a disk that has room"},
    {LOG_LEVEL_KEY},
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
    {KEY(node, directory, TEXT, directory), FLAG("--data", "DIR"),
     .help = "where its records are; made when missing; required"},
    {KEY(node, index, COUNT, index), FLAG("--index", "I"), RANGE(0, NODES_MAX - 1), .fallback = "0",
     .help = "number of this node in its cluster"},
    {KEY(node, query, TEXT, query), FLAG("--query", "ENDPOINT"), .fallback = "tcp://127.0.0.1:7710",
     .help = "where searches are answered; port 0 picks one"},
    {KEY(node, bulk, TEXT, bulk), FLAG("--bulk", "ENDPOINT"), .fallback = "tcp://127.0.0.1:7711",
     .help = "where bulk loads are answered; port 0 picks one"},
    {KEY(node, search_threads, COUNT, search_threads), FLAG("--search-threads", "N"),
     RANGE(0, SETTINGS_SEARCH_THREADS_MAX), .fallback = "0",
     .help = "threads of one search; 0: as many as the process may use"},
    {KEY(node, keys, TEXT, keys), FLAG("--keys", "DIR"),
     .help = "the folder with node.secret and coordinator.public of the cluster; required",
     .reloads = true},
    {KEY(node, allow, LIST, allow), FLAG("--allow", "KEY"),
     .help = "public keys of further coordinators that may come in, besides coordinator.public, "
             "while keys are changed; `reco keys show` prints them",
     .danger = "whoever has the secret half of one can read and change all records",
     .reloads = true},
    {KEY(disk, throttle_percent, COUNT, disk_throttle_percent),
     FLAG("--disk-throttle-percent", "N"), RANGE(1, 100), .fallback = "85",
     .help = "how full the disk is when new records are slowed down to 8 MiB a second"},
    {KEY(disk, full_percent, COUNT, disk_full_percent), FLAG("--disk-full-percent", "N"),
     RANGE(1, 100), .fallback = "92", .help = "how full the disk is when only deletions are taken",
     .danger = "near 100 the store has no room to delete or to compact, and stops"},
    {KEY(memory, limit_mib, COUNT, memory_limit_mib), FLAG("--memory-limit-mib", "N"),
     RANGE(0, SETTINGS_MEMORY_MIB_MAX), .fallback = "0",
     .help = "for rows, buffers and caches, at least " DIGITS(
         SETTINGS_MEMORY_MIB_MIN) "; 0: 90 % of what there is",
     .danger = "more than there is lets the kernel kill the node"},
    {KEY(http, listen, TEXT, http), FLAG("--http", "HOST:PORT"),
     .help =
         "health, readiness and metrics over HTTP; port 0 picks one; without it, or with off: none",
     .danger = HTTP_DANGER},
    {LOG_LEVEL_KEY},
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
    {KEY(client, server, TEXT, server), FLAG("--server", "HOST:PORT"),
     .help = "the server that verbs ask; without it the work is done inside the process. A verb "
             "with --data asks none"},
    {KEY(client, data, TEXT, data), FLAG("--data", "DIR"), .also = "RECO_DATA",
     .help = "the data directory; without it $XDG_DATA_HOME/reco, else ~/.local/share/reco"},
    {KEY(client, model, TEXT, model), FLAG("--model", "DIR"),
     .help = "a Hugging Face CLIP directory; without it the embedded reco-tiny. A server has its "
             "own"},
    {KEY(client, head, TEXT, head), FLAG("--head", "FILE"),
     .help = "a trained fusion head; without it the data directory's, else the model's own, if "
             "there is one. A server has its own"},
    {KEY(client, memory, TEXT, memory), FLAG("--memory", "NAME"),
     .help = "the memory that queries search; without it the one called default"},
    {KEY(client, deadline_ms, COUNT, deadline_ms), FLAG("--deadline-ms", "N"),
     RANGE(0, DEADLINE_MS_MAX), .fallback = "0",
     .help = "longest time for one request, in milliseconds; 0: none"},
    {KEY(client, tls_ca, TEXT, tls_ca), FLAG("--tls-ca", "FILE"),
     .help = "speaks TLS to a server whose certificate this CA has signed, PEM; the word system: "
             "the CAs of this machine"},
    {KEY(client, tls_cert, TEXT, tls_cert), FLAG("--tls-cert", "FILE"),
     .help = "the certificate that is shown to the server, PEM"},
    {KEY(client, tls_key, TEXT, tls_key), FLAG("--tls-key", "FILE"),
     .help = "the private key of it, PEM"},
    {KEY(client, tls_name, TEXT, tls_name), FLAG("--tls-name", "NAME"),
     .help = "the name in the server's certificate, where it is not the host of --server"},
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
