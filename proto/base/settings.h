// SPDX-License-Identifier: Apache-2.0
// settings.h - the keys of every program of reco, one line for each, in one place.
//
// A key here is a line of the program's file, an environment variable and, when it says so, a
// flag (config.h). All programs know all tables: so a variable that is meant for one does not
// trouble another, and `reco up` hands one file to all its children.
//
// Adding a key: a member, a line in settings.c, the code that obeys it, and
// `tools/examples.sh` for the committed examples, which a test compares.
//
// Thread-safety: constant data.

#ifndef RECO_PROTO_BASE_SETTINGS_H
#define RECO_PROTO_BASE_SETTINGS_H

#include <stdint.h>

#include "proto/base/config.h"

#define SETTINGS_THREADS_MAX 1024
#define SETTINGS_SEARCH_THREADS_MAX 256
#define SETTINGS_MEMORY_MIB_MIN 64         // what the cache of the store alone may take
#define SETTINGS_MEMORY_MIB_MAX 4294967295 // four petabytes

// Words of [search] approx.
#define SETTINGS_APPROX "fast|normal|accurate"

// Words of [encoder] process.
#define SETTINGS_PROCESSES "auto|on|off"
enum settings_process {
    SETTINGS_PROCESS_AUTO, // on for a device that is not the CPU
    SETTINGS_PROCESS_ON,
    SETTINGS_PROCESS_OFF,
};

// Words of [tls] client_auth.
#define SETTINGS_CLIENT_AUTHS "auto|optional|required"
enum settings_client_auth {
    SETTINGS_CLIENT_AUTH_AUTO, // required where there is a client_ca
    SETTINGS_CLIENT_AUTH_OPTIONAL,
    SETTINGS_CLIENT_AUTH_REQUIRED,
};

struct settings_coordinator {
    // [server]
    const char *listen;
    const char *data;
    const char *model;
    const char *device; // "auto", "cpu", "cpu-bf16" or a UUID
    const char *head;   // NULL: as the coordinator looks for one
    uint64_t threads;
    // [http]
    const char *http; // NULL: beside the gRPC port
    // [nodes]
    uint64_t node_count;
    struct config_list endpoints; // "QUERY,BULK" of each
    const char *keys;
    // [tls]
    const char *tls_certificate, *tls_key, *tls_client_ca;
    int tls_client_auth; // enum settings_client_auth
    struct config_list tls_client_names;
    // [limits]
    uint64_t limit_calls, limit_streams, limit_stream_items, limit_message_bytes,
        limit_memory_bytes;
    uint64_t limit_deadline_ms; // 0: none
    // [search]
    int search_approx; // place in SETTINGS_APPROX
    // [encoder]
    int encoder_process; // enum settings_process
    // [snapshots]
    const char *snapshots; // NULL: DATA/snapshots
    // [log]
    int log_level; // enum log_level
};

struct settings_shard {
    // [node]
    const char *directory;
    uint64_t index;
    const char *query;
    const char *bulk;
    uint64_t search_threads;
    const char *keys;
    struct config_list allow; // public keys
    // [disk]
    uint64_t disk_throttle_percent, disk_full_percent;
    // [memory]
    uint64_t memory_limit_mib; // 0: as the machine has it
    // [http]
    const char *http; // NULL: off
    // [log]
    int log_level; // enum log_level
};

struct settings_client {
    // [client]
    const char *server;
    const char *data;
    const char *model;
    const char *head;
    const char *memory;
    uint64_t deadline_ms; // 0: none
    const char *tls_ca, *tls_cert, *tls_key, *tls_name;
};

extern const struct config_table settings_coordinator;
extern const struct config_table settings_shard;
extern const struct config_table settings_client;

// All of them, ended by NULL.
extern const struct config_table *const settings_tables[];

#endif
