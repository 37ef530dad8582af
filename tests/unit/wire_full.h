// SPDX-License-Identifier: Apache-2.0
// wire_full.h - helpers of the codecs' round trips: is every field of a message really filled?
//
// Thread-safety: none.

#ifndef RECO_TESTS_UNIT_WIRE_FULL_H
#define RECO_TESTS_UNIT_WIRE_FULL_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <protobuf-c/protobuf-c.h>

#include "proto/base/bytes.h"

#define FULL_DEPTH_MAX 64

// Reads a member of a struct known by its offset only.
#define FULL_READ(type, at) (*(const type *)(const void *)(at))

static inline bool full_field(const ProtobufCMessage *message,
                              const ProtobufCFieldDescriptor *field)
{
    const char *base = (const char *)message;
    if (field->label == PROTOBUF_C_LABEL_REPEATED)
        return FULL_READ(size_t, base + field->quantifier_offset) > 0;
    if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
        return FULL_READ(int, base + field->quantifier_offset) > 0;

    const char *at = base + field->offset;
    if (field->type == PROTOBUF_C_TYPE_STRING)
        return FULL_READ(char *, at) && *FULL_READ(char *, at);
    if (field->type == PROTOBUF_C_TYPE_BYTES)
        return FULL_READ(ProtobufCBinaryData, at).len > 0;
    if (field->type == PROTOBUF_C_TYPE_MESSAGE)
        return FULL_READ(ProtobufCMessage *, at) != NULL;
    if (field->type == PROTOBUF_C_TYPE_UINT64 || field->type == PROTOBUF_C_TYPE_FIXED64)
        return FULL_READ(uint64_t, at) != 0;
    return FULL_READ(uint32_t, at) != 0; // bool, enum and float have 32 bits as well
}

// The first field, in this message or one inside it, that has its default; NULL when none has.
static inline const char *full_missing(const ProtobufCMessageDescriptor *type, struct bytes bytes)
{
    ProtobufCMessage *root = protobuf_c_message_unpack(type, NULL, bytes.count, bytes.data);
    if (!root)
        return "no message";

    const ProtobufCMessage *open[FULL_DEPTH_MAX] = {root};
    size_t count = 1;
    const char *missing = NULL;
    while (count > 0 && !missing) {
        const ProtobufCMessage *message = open[--count];
        for (unsigned i = 0; i < message->descriptor->n_fields && !missing; i++) {
            const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
            if (!full_field(message, field))
                missing = field->name;
            if (field->type != PROTOBUF_C_TYPE_MESSAGE || missing || count == FULL_DEPTH_MAX)
                continue;
            const char *at = (const char *)message + field->offset;
            bool chosen =
                !(field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) ||
                FULL_READ(uint32_t, (const char *)message + field->quantifier_offset) == field->id;
            if (field->label == PROTOBUF_C_LABEL_REPEATED)
                open[count++] = *FULL_READ(ProtobufCMessage *const *, at);
            else if (chosen)
                open[count++] = FULL_READ(ProtobufCMessage *, at);
        }
    }
    // Names are constants of the generated code, so they outlive the message.
    protobuf_c_message_free_unpacked(root, NULL);
    return missing;
}

#endif
