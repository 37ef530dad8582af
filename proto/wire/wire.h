// SPDX-License-Identifier: Apache-2.0
// wire.h - what the codecs of this folder share: protobuf-c with budgets, and simple checks.
//
// Decoding: wire_unpack() scans the bytes (wire_scan.h), then lets protobuf-c unpack them into the
// caller's arena; wire_texts() and friends turn its arrays into ours. Encoding: a struct
// wire_memory with an arena of its own holds the NUL-terminated copies that protobuf-c needs, and
// wire_pack() ends it. A failure is remembered in the memory, so that a codec checks once.
//
// Private to proto/wire: every file here may include it, nobody else.
//
// Thread-safety: none of the structs is shared.

#ifndef RECO_PROTO_WIRE_WIRE_H
#define RECO_PROTO_WIRE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

#include "proto/base/arena.h"
#include "proto/base/bytes.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"

struct wire_memory {
    struct arena *arena;
    enum status status; // the first failure
};

// --- decoding

// The message lies in `arena`. STATUS_INVALID, also when it has more than bytes_max bytes;
// STATUS_NO_MEMORY when the budget is spent.
enum status wire_unpack(const ProtobufCMessageDescriptor *type, struct bytes message,
                        size_t bytes_max, struct arena *arena, ProtobufCMessage **out,
                        struct reason *why) MUST_CHECK;

// Views of what protobuf-c has unpacked. Never NULL.
struct text wire_text(const char *text);
struct bytes wire_bytes(ProtobufCBinaryData bytes);
const struct text *wire_texts(struct wire_memory *memory, char **texts, size_t count);

// `bytes` zeroed bytes per element, NULL only after a failure (or for no element).
void *wire_array(struct wire_memory *memory, size_t count, size_t bytes);

// The memory's failure as the end of a decoder.
enum status wire_finish(const struct wire_memory *memory, struct reason *why) MUST_CHECK;

// --- encoding

// An empty memory for one message; wire_pack() must follow.
struct wire_memory wire_begin(void);

char *wire_put_text(struct wire_memory *memory, struct text text);
// `texts` NULL: `count` empty texts.
char **wire_put_texts(struct wire_memory *memory, const struct text *texts, size_t count);
ProtobufCBinaryData wire_put_bytes(struct bytes bytes);

// protobuf-c's structs have no const, though packing only reads.
void *wire_borrow(const void *pointer);

// Appends the message to `out`, unless the memory has failed, and frees the memory.
// STATUS_NO_MEMORY; STATUS_INVALID for a text that is not UTF-8 or holds a NUL.
enum status wire_pack(struct wire_memory *memory, const ProtobufCMessage *message,
                      struct buffer *out) MUST_CHECK;

// --- checks of decoded values

enum status wire_check_uint(const char *field, uint64_t value, uint64_t min, uint64_t max,
                            struct reason *why) MUST_CHECK;
enum status wire_check_float(const char *field, float value, float min, float max,
                             struct reason *why) MUST_CHECK;
// A share of the true best that a search aims at: 0, or TARGET_RECALL_MIN..TARGET_RECALL_MAX.
enum status wire_check_recall(const char *field, float value, struct reason *why) MUST_CHECK;
// Parallel arrays: `count` must be `expected`, or 0 where `may_lack`.
enum status wire_check_count(const char *field, size_t count, size_t expected, bool may_lack,
                             struct reason *why) MUST_CHECK;
// Half precision rows: their length, and no NaN or infinity among them.
enum status wire_check_halves(const char *field, struct bytes rows, size_t expected_bytes,
                              struct reason *why) MUST_CHECK;

#endif
