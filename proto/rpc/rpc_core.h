// SPDX-License-Identifier: Apache-2.0
// rpc_core.h - what server and client share: gRPC's own life, its bytes, texts and times in ours.
//
// Thread-safety: safe, but a message belongs to one thread.

#ifndef RECO_PROTO_RPC_RPC_CORE_H
#define RECO_PROTO_RPC_RPC_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <grpc/grpc.h>

#include "proto/base/bytes.h"
#include "proto/base/status.h"

#define RPC_REQUEST_ID_KEY "x-request-id"
#define RPC_DETAILS_KEY "grpc-status-details-bin"
#define RPC_ERROR_DOMAIN "reco"

// gRPC's library lives from the first begin to the last end. What it logs becomes debug lines of
// ours: whatever matters comes back to the caller as a status.
void rpc_core_begin(void);
void rpc_core_end(void);

// A number for the list of arguments of a server or a channel.
grpc_arg rpc_core_arg(const char *key, int value);

// --- messages

// A received message in one piece: a view of gRPC's only slice, or a copy of many.
struct rpc_core_message {
    struct bytes bytes;
    grpc_byte_buffer *buffer;
    uint8_t *copy;
};

// Takes *buffer over and sets it to NULL. STATUS_NO_MEMORY: the buffer is gone and *out unchanged.
enum status rpc_core_flatten(grpc_byte_buffer **buffer, struct rpc_core_message *out) MUST_CHECK;
void rpc_core_message_deinit(struct rpc_core_message *message);

// A byte buffer that holds the memory of `reply`, which is emptied; NULL or empty: no bytes.
grpc_byte_buffer *rpc_core_give(struct buffer *reply);

// --- metadata

// The first value of that key, a view, and how many there are.
size_t rpc_core_metadata(const grpc_metadata_array *array, const char *key, struct bytes *value);

// One entry with a copied value; rpc_core_entry_deinit once the batch has started.
grpc_metadata rpc_core_entry(const char *key, const void *value, size_t bytes);
void rpc_core_entry_deinit(grpc_metadata *entry);

// Whether this can be a request id: 1..REQUEST_ID_BYTES_MAX printable ASCII bytes without spaces,
// so that it can stand in a log line and in metadata as it is.
bool rpc_core_is_request_id(struct text id);

// --- times

gpr_timespec rpc_core_timespec(int64_t deadline_us); // from clock.h's deadline
int64_t rpc_core_deadline_us(gpr_timespec timespec); // and back

#endif
