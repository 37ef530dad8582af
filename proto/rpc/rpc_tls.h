// SPDX-License-Identifier: Apache-2.0
// rpc_tls.h - the certificates of a server, and which clients it takes.
//
// New connections get the newest certificate; running calls go on with the one they began with.
//
// Thread-safety: gRPC's threads ask while one other updates and checks.

#ifndef RECO_PROTO_RPC_RPC_TLS_H
#define RECO_PROTO_RPC_RPC_TLS_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/base/reason.h"
#include "proto/base/status.h"

#define RPC_TLS_FILE_BYTES_MAX (1u << 20)

enum rpc_tls_clients {
    RPC_TLS_CLIENTS_OPTIONAL, // a client may show a certificate; a bad one is refused
    RPC_TLS_CLIENTS_REQUIRED, // without one there is no connection
};

struct rpc_tls_params {
    const char *certificate; // PEM files: the server's chain,
    const char *key;         // its private key,
    const char *client_ca;   // who signs clients; NULL: clients are not asked
    enum rpc_tls_clients clients;
    const char *const *names; // [name_count] patterns of clients; none: all that are signed
    size_t name_count;
};

struct rpc_tls;

// Reads the files and has gRPC judge them. STATUS_INVALID naming the file. `params` is copied.
enum status rpc_tls_open(const struct rpc_tls_params *params, struct rpc_tls **out,
                         struct reason *why) MUST_CHECK;

// The server must be gone. Sets *tls to NULL; NULL is allowed.
void rpc_tls_close(struct rpc_tls **tls);

// Takes files and names over, all or nothing. Whether clients are asked, and must answer, stays:
// STATUS_INVALID for a change of it.
enum status rpc_tls_update(struct rpc_tls *tls, const struct rpc_tls_params *params,
                           struct reason *why) MUST_CHECK;

// Looks at the files; when one has changed and all of them fit together, takes them over. What does
// not fit is logged once, and the old certificate stays. To be called every second or so.
void rpc_tls_check_files(struct rpc_tls *tls);

// Whether every client has to show a certificate.
bool rpc_tls_knows_clients(const struct rpc_tls *tls);

// Whether a name fits a pattern, in which '*' stands for any characters but '.' and '/'.
bool rpc_tls_matches(const char *pattern, const char *name);

#endif
