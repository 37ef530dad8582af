// SPDX-License-Identifier: Apache-2.0
// rpc_tls_internal.h - what a server asks of its certificates.

#ifndef RECO_PROTO_RPC_RPC_TLS_INTERNAL_H
#define RECO_PROTO_RPC_RPC_TLS_INTERNAL_H

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>

#include "proto/rpc/rpc_tls.h"

// Credentials that ask `tls`, which outlives the server. The caller releases them.
grpc_server_credentials *rpc_tls_credentials(struct rpc_tls *tls);

// STATUS_OK when the peer of the call is one that may call; STATUS_UNAUTHENTICATED when it has
// shown no certificate though names are listed, STATUS_DENIED when no name of it is.
enum status rpc_tls_admit(struct rpc_tls *tls, grpc_call *call, struct reason *why) MUST_CHECK;

#endif
