// SPDX-License-Identifier: Apache-2.0
// dispatch.h - hands each request of the bus to the part of the node that answers it.
//
// Thread-safety: both run on the router's thread and never wait.

#ifndef RECO_SHARD_NODE_DISPATCH_H
#define RECO_SHARD_NODE_DISPATCH_H

#include "proto/bus/router.h"

// `context` is the struct node.
void dispatch_request(void *context, struct router_request *request);
void dispatch_load(void *context, struct shard_ping_reply *load);

#endif
