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
MUST_CHECK static inline enum status api_unpack(const ProtobufCMessageDescriptor *type,
                                                struct bytes message, struct arena *arena,
                                                ProtobufCMessage **out, struct reason *why)
{
    return wire_unpack(type, message, MESSAGE_BYTES_MAX, arena, out, why);
}

// --- api_lookup.c

// Lists of RecordField as bits. STATUS_INVALID naming `field` when NONE is not alone.
enum status api_read_fields(const char *field, const Reco__V1__RecordField *raw, size_t count,
                            uint32_t *out, struct reason *why) MUST_CHECK;
// The list, ascending, in `target`, which has RECORD_FIELDS_MAX places; returns its length.
size_t api_write_fields(uint32_t fields, Reco__V1__RecordField *target);

const struct api_record *api_read_records(struct wire_memory *memory, Reco__V1__Record **raw,
                                          size_t count);
Reco__V1__Record **api_write_records(struct wire_memory *memory, const struct api_record *records,
                                     size_t count);

// `raw` NULL: everything passes.
void api_read_filter(struct wire_memory *memory, const Reco__V1__Filter *raw,
                     struct api_filter *out);
// NULL when everything passes.
Reco__V1__Filter *api_write_filter(struct wire_memory *memory, const struct api_filter *filter);

// --- api_answer.c

void api_read_timings(const Reco__V1__Timings *raw, struct api_timings *out);
void api_write_timings(const struct api_timings *timings, Reco__V1__Timings *raw);

#endif
