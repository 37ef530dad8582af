// SPDX-License-Identifier: Apache-2.0
// rpc_accept.h - keeps a listener alive when files run out, and connections below 4,096.
//
// gRPC 1.51 stops listening for good when accept4() fails with EMFILE. So accept4() of this program
// is ours: a connection that would take one of the last files is taken and closed at once, and
// gRPC is told that there was none. Those that are open go on; new ones are taken again as soon
// as there are files.
//
// Thread-safety: safe.

#ifndef RECO_PROTO_RPC_RPC_ACCEPT_H
#define RECO_PROTO_RPC_RPC_ACCEPT_H

// Reads the limit of open files; before a server listens. Without it nothing is refused.
void rpc_accept_prepare(void);

#endif
