// SPDX-License-Identifier: Apache-2.0
// wire_scan.h - reads a protobuf message's bytes without taking memory, and refuses bad ones.
//
// It runs before protobuf-c, which believes every count. After it has passed: the bytes are well
// formed; no count or length exceeds wire_limits; required fields are there; texts are UTF-8
// without NUL; floats are finite; enums have a value that the .proto file names; there are
// no groups, at most WIRE_SCAN_UNKNOWN_MAX unknown fields, and no message field is given twice.
//
// Thread-safety: pure.

#ifndef RECO_PROTO_WIRE_WIRE_SCAN_H
#define RECO_PROTO_WIRE_WIRE_SCAN_H

#include <protobuf-c/protobuf-c.h>

#include "proto/base/bytes.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"

#define WIRE_SCAN_UNKNOWN_MAX 64 // fields of a newer version, in the whole message

// STATUS_INVALID with the field as a path ("records[3].key"), the value, and what is allowed.
enum status wire_scan(const ProtobufCMessageDescriptor *type, struct bytes message,
                      struct reason *why) MUST_CHECK;

#endif
