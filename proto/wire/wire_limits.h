// SPDX-License-Identifier: Apache-2.0
// wire_limits.h - the maximum of every field of both .proto files that has a length.
//
// One table: each message, and in it each repeated, string and bytes field. The scanner
// (wire_scan.h) refuses what exceeds it before any memory is taken. A test walks the
// descriptors and fails when a message or such a field is missing here.
//
// Thread-safety: constant data.

#ifndef RECO_PROTO_WIRE_WIRE_LIMITS_H
#define RECO_PROTO_WIRE_WIRE_LIMITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

#define WIRE_LIMITS_FIELDS_MAX 17 // fields of one message
#define WIRE_LIMITS_DEPTH_MAX 4   // messages inside messages, the outermost counted

struct wire_limit {
    const char *field;
    uint32_t count_min; // 1: required
    uint32_t count_max; // 1 for a field that is not repeated
    uint32_t bytes_min; // of each text or bytes; 0 for numbers and messages
    uint32_t bytes_max; // 0 for numbers and messages
};

struct wire_limits {
    const ProtobufCMessageDescriptor *type;
    const struct wire_limit *fields;
    size_t count;
    bool open_enums; // the decoder judges them: a newer version may have more values
};

// The limits of a message. Every message of both files has an entry.
const struct wire_limits *wire_limits_of(const ProtobufCMessageDescriptor *type);

// The limit of one of its fields; NULL for a field that has no length.
const struct wire_limit *wire_limits_field(const struct wire_limits *limits, const char *field);

// The whole table.
const struct wire_limits *wire_limits_all(size_t *count);

#endif
