// SPDX-License-Identifier: Apache-2.0
// api_internal.h - parts of messages that several of the api codecs share.
//
// Thread-safety: pure.

#ifndef RECO_PROTO_WIRE_API_INTERNAL_H
#define RECO_PROTO_WIRE_API_INTERNAL_H

#include <wire/reco.pb-c.h>

#include "proto/base/limits.h"
#include "proto/wire/api.h"
#include "proto/wire/wire.h"

// Unpacks one public message; *out is of the struct that belongs to the descriptor.
enum status api_unpack(const ProtobufCMessageDescriptor *type, struct bytes message,
                       struct arena *arena, ProtobufCMessage **out, struct reason *why) MUST_CHECK;

void api_read_timings(const Reco__V1__Timings *raw, struct api_timings *out);
void api_write_timings(const struct api_timings *timings, Reco__V1__Timings *raw);

#endif
