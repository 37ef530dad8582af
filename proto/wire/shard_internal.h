// SPDX-License-Identifier: Apache-2.0
// shard_internal.h - what the shard codecs share.
//
// Thread-safety: pure.

#ifndef RECO_PROTO_WIRE_SHARD_INTERNAL_H
#define RECO_PROTO_WIRE_SHARD_INTERNAL_H

#include <wire/shard.pb-c.h>

#include "proto/wire/shard_msg.h"
#include "proto/wire/wire.h"

// Unpacks a body; *out is of the struct that belongs to the descriptor.
enum status shard_unpack(const ProtobufCMessageDescriptor *type, struct bytes body,
                         struct arena *arena, ProtobufCMessage **out,
                         struct reason *why) MUST_CHECK;

// As shard_unpack, for a message that comes without rows.
enum status shard_unpack_alone(const ProtobufCMessageDescriptor *type, struct bytes body,
                               struct bytes rows, struct arena *arena, ProtobufCMessage **out,
                               struct reason *why) MUST_CHECK;

// The rows as halves, in the frame where it is aligned, else as a copy; NULL for none.
const uint16_t *shard_halves(struct wire_memory *memory, struct bytes rows);

#endif
