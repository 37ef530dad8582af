// SPDX-License-Identifier: Apache-2.0
// A loop with a stack of frames, one for each message that is open. Our messages do not contain
// themselves, so the stack has a fixed size; groups, the other way to nest, are refused.
// Wire format: https://protobuf.dev/programming-guides/encoding/

#include "proto/wire/wire_scan.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "proto/wire/wire_limits.h"

#define NUMBER_MAX 536870911u // of a field: 29 bits
#define LIST_BYTES 256

enum wire_type {
    WIRE_VARINT = 0,
    WIRE_FIXED64 = 1,
    WIRE_BYTES = 2,
    WIRE_FIXED32 = 5,
};

struct frame {
    const ProtobufCMessageDescriptor *type;
    const struct wire_limits *limits;
    const uint8_t *at;
    const uint8_t *end;
    const char *name; // the field it sits in; NULL for the outermost
    bool repeated;
    uint32_t index;                          // in that field
    uint32_t counts[WIRE_LIMITS_FIELDS_MAX]; // elements seen, by the field's place in `type`
};

struct scan {
    struct frame frames[WIRE_LIMITS_DEPTH_MAX];
    size_t depth; // open frames
    size_t unknown;
    struct reason *why;
};

// One element of the field being read, or all elements of a packed one.
struct value {
    enum wire_type type;
    uint64_t number;    // WIRE_VARINT
    struct bytes bytes; // the others
};

static struct frame *top(struct scan *scan)
{
    return &scan->frames[scan->depth - 1];
}

// Writes "records[3].key"; a path too long for `path` is cut.
static void write_path(const struct scan *scan, const ProtobufCFieldDescriptor *field,
                       uint32_t index, char path[REASON_FIELD_BYTES])
{
    size_t used = 0;
    path[0] = '\0';
    for (size_t i = 1; i < scan->depth && used < REASON_FIELD_BYTES; i++) {
        const struct frame *frame = &scan->frames[i];
        int wrote = frame->repeated
                        ? snprintf(path + used, REASON_FIELD_BYTES - used, "%s[%" PRIu32 "].",
                                   frame->name, frame->index)
                        : snprintf(path + used, REASON_FIELD_BYTES - used, "%s.", frame->name);
        used += wrote > 0 ? (size_t)wrote : 0;
    }
    if (!field || used >= REASON_FIELD_BYTES)
        return;

    if (field->label == PROTOBUF_C_LABEL_REPEATED && index != UINT32_MAX)
        (void)snprintf(path + used, REASON_FIELD_BYTES - used, "%s[%" PRIu32 "]", field->name,
                       index);
    else
        (void)snprintf(path + used, REASON_FIELD_BYTES - used, "%s", field->name);
}

#define WHOLE_FIELD UINT32_MAX // instead of an index

static enum status refuse(const struct scan *scan, const ProtobufCFieldDescriptor *field,
                          uint32_t index, const char *format, ...) PRINTF_LIKE(4, 5);

static enum status refuse(const struct scan *scan, const ProtobufCFieldDescriptor *field,
                          uint32_t index, const char *format, ...)
{
    char path[REASON_FIELD_BYTES];
    write_path(scan, field, index, path);

    char text[REASON_TEXT_BYTES];
    va_list list;
    va_start(list, format);
    (void)vsnprintf(text, sizeof(text), format, list);
    va_end(list);
    return reason_set(scan->why, STATUS_INVALID, path, "%s", text);
}

static bool read_varint(struct frame *frame, uint64_t *out)
{
    uint64_t number = 0;
    for (unsigned shift = 0; shift < 70 && frame->at < frame->end; shift += 7) {
        uint8_t byte = *frame->at++;
        number |= shift < 64 ? (uint64_t)(byte & 0x7f) << shift : 0;
        if (byte < 0x80) {
            *out = number;
            return true;
        }
    }
    return false;
}

static bool read_bytes(struct frame *frame, uint64_t count, struct bytes *out)
{
    if (count > (uint64_t)(frame->end - frame->at))
        return false;

    *out = (struct bytes){frame->at, (size_t)count};
    frame->at += count;
    return true;
}

static bool read_value(struct frame *frame, uint64_t wire_type, struct value *out)
{
    uint64_t count = 0;
    switch (wire_type) {
    case WIRE_VARINT:
        out->type = WIRE_VARINT;
        return read_varint(frame, &out->number);
    case WIRE_FIXED64:
        out->type = WIRE_FIXED64;
        return read_bytes(frame, 8, &out->bytes);
    case WIRE_FIXED32:
        out->type = WIRE_FIXED32;
        return read_bytes(frame, 4, &out->bytes);
    case WIRE_BYTES:
        out->type = WIRE_BYTES;
        return read_varint(frame, &count) && read_bytes(frame, count, &out->bytes);
    default: // groups, and types that do not exist
        return false;
    }
}

static enum wire_type wire_type_of(const ProtobufCFieldDescriptor *field)
{
    // The types that our files use; the test of the descriptors fails for others.
    if (field->type == PROTOBUF_C_TYPE_STRING || field->type == PROTOBUF_C_TYPE_BYTES ||
        field->type == PROTOBUF_C_TYPE_MESSAGE)
        return WIRE_BYTES;
    if (field->type == PROTOBUF_C_TYPE_FLOAT || field->type == PROTOBUF_C_TYPE_FIXED32)
        return WIRE_FIXED32;
    if (field->type == PROTOBUF_C_TYPE_FIXED64)
        return WIRE_FIXED64;
    return WIRE_VARINT;
}

// How many elements a packed field holds; false when its bytes do not divide into elements.
static bool count_packed(struct bytes packed, enum wire_type type, size_t *count)
{
    if (type == WIRE_FIXED32 || type == WIRE_FIXED64) {
        size_t width = type == WIRE_FIXED32 ? 4 : 8;
        *count = packed.count / width;
        return packed.count % width == 0;
    }

    size_t ends = 0;
    for (size_t i = 0; i < packed.count; i++)
        ends += packed.data[i] < 0x80;
    *count = ends;
    return packed.count == 0 || packed.data[packed.count - 1] < 0x80;
}

static bool float_is_finite(const uint8_t *at)
{
    return (bytes_get_u32_le(at) & 0x7f800000u) != 0x7f800000u;
}

// Whether all are. Only the two bytes with the exponent count; without a way out of the loop the
// compiler makes vectors of it.
static bool floats_are_finite(struct bytes floats)
{
    unsigned bad = 0;
    for (size_t i = 0; i < floats.count; i += 4) {
        unsigned high = floats.data[i + 2] | (unsigned)floats.data[i + 3] << 8;
        bad |= (high & 0x7f80u) == 0x7f80u;
    }
    return bad == 0;
}

static enum status check_floats(const struct scan *scan, const ProtobufCFieldDescriptor *field,
                                struct bytes floats, uint32_t first)
{
    if (floats_are_finite(floats))
        return STATUS_OK;
    for (size_t i = 0; i < floats.count; i += 4)
        if (!float_is_finite(floats.data + i))
            return refuse(scan, field, first + (uint32_t)(i / 4),
                          "not a finite number; NaN and infinities are not allowed");
    return STATUS_OK;
}

static enum status check_enum(const struct scan *scan, const ProtobufCFieldDescriptor *field,
                              uint64_t number)
{
    const ProtobufCEnumDescriptor *type = field->descriptor;
    int value = (int)(uint32_t)number;
    if (protobuf_c_enum_descriptor_get_value(type, value))
        return STATUS_OK;

    char allowed[LIST_BYTES] = "";
    size_t used = 0;
    for (unsigned i = 0; i < type->n_values && used < sizeof(allowed); i++)
        used += (size_t)snprintf(allowed + used, sizeof(allowed) - used, "%s%s (%d)",
                                 i > 0 ? ", " : "", type->values[i].name, type->values[i].value);
    return refuse(scan, field, WHOLE_FIELD, "%d is not one of %s", value, allowed);
}

// All elements of a packed field, which are whole numbers.
static enum status check_packed_enums(const struct scan *scan,
                                      const ProtobufCFieldDescriptor *field, struct bytes packed)
{
    struct frame at = {.at = packed.data, .end = packed.data + packed.count};
    enum status status = STATUS_OK;
    uint64_t number = 0;
    while (status == STATUS_OK && at.at < at.end && read_varint(&at, &number))
        status = check_enum(scan, field, number);
    return status == STATUS_OK && at.at < at.end
               ? refuse(scan, field, WHOLE_FIELD, "a number of more than 10 bytes")
               : status;
}

static enum status check_length(const struct scan *scan, const ProtobufCFieldDescriptor *field,
                                struct bytes bytes, uint32_t index)
{
    const struct wire_limit *limit =
        wire_limits_field(scan->frames[scan->depth - 1].limits, field->name);
    assert(limit);
    if (bytes.count < limit->bytes_min || bytes.count > limit->bytes_max)
        return refuse(scan, field, index, "%zu bytes; allowed: %" PRIu32 "..%" PRIu32, bytes.count,
                      limit->bytes_min, limit->bytes_max);
    if (field->type == PROTOBUF_C_TYPE_BYTES)
        return STATUS_OK;

    if (!bytes_is_utf8(bytes.data, bytes.count))
        return refuse(scan, field, index, "not UTF-8 text");
    // Behind a NUL, protobuf-c's texts end: two keys would become one.
    if (bytes.count > 0 && memchr(bytes.data, 0, bytes.count))
        return refuse(scan, field, index, "a NUL character; not allowed in a text");
    return STATUS_OK;
}

// Adds `count` elements to what the top frame has of this field.
static enum status add_count(struct scan *scan, const ProtobufCFieldDescriptor *field, size_t count)
{
    struct frame *frame = top(scan);
    uint32_t *seen = &frame->counts[field - frame->type->fields];
    if (field->label != PROTOBUF_C_LABEL_REPEATED) {
        // The last one counts; only messages would be joined, past every limit.
        if (*seen > 0 && field->type == PROTOBUF_C_TYPE_MESSAGE)
            return refuse(scan, field, WHOLE_FIELD, "given twice; allowed: once");
        *seen = 1;
        return STATUS_OK;
    }

    const struct wire_limit *limit = wire_limits_field(frame->limits, field->name);
    assert(limit);
    if (count > limit->count_max - *seen)
        return refuse(scan, field, WHOLE_FIELD, "%zu or more; allowed: at most %" PRIu32,
                      count + *seen, limit->count_max);
    *seen += (uint32_t)count;
    return STATUS_OK;
}

static void push(struct scan *scan, const ProtobufCFieldDescriptor *field,
                 const ProtobufCMessageDescriptor *type, struct bytes message)
{
    assert(scan->depth < WIRE_LIMITS_DEPTH_MAX);
    assert(type->n_fields <= WIRE_LIMITS_FIELDS_MAX);

    uint32_t index = 0;
    if (field)
        index = top(scan)->counts[field - top(scan)->type->fields] - 1;
    scan->frames[scan->depth++] = (struct frame){
        .type = type,
        .limits = wire_limits_of(type),
        .at = message.data,
        .end = message.count > 0 ? message.data + message.count : message.data,
        .name = field ? field->name : NULL,
        .repeated = field && field->label == PROTOBUF_C_LABEL_REPEATED,
        .index = index,
    };
}

static enum status scan_field(struct scan *scan, const ProtobufCFieldDescriptor *field,
                              const struct value *value)
{
    enum wire_type type = wire_type_of(field);
    bool packed = field->label == PROTOBUF_C_LABEL_REPEATED && type != WIRE_BYTES &&
                  value->type == WIRE_BYTES;
    if (value->type != type && !packed)
        return refuse(scan, field, WHOLE_FIELD, "wire type %d; allowed: %d", (int)value->type,
                      (int)type);

    size_t count = 1;
    if (packed && !count_packed(value->bytes, type, &count))
        return refuse(scan, field, WHOLE_FIELD, "%zu bytes, which are no packed numbers",
                      value->bytes.count);

    uint32_t first = top(scan)->counts[field - top(scan)->type->fields];
    enum status status = add_count(scan, field, count);
    if (status != STATUS_OK)
        return status;

    if (field->type == PROTOBUF_C_TYPE_FLOAT)
        return check_floats(scan, field, value->bytes, first);
    if (field->type == PROTOBUF_C_TYPE_STRING || field->type == PROTOBUF_C_TYPE_BYTES)
        return check_length(scan, field, value->bytes, first);
    if (field->type == PROTOBUF_C_TYPE_MESSAGE)
        push(scan, field, field->descriptor, value->bytes);
    if (field->type == PROTOBUF_C_TYPE_ENUM && !top(scan)->limits->open_enums)
        return packed ? check_packed_enums(scan, field, value->bytes)
                      : check_enum(scan, field, value->number);
    return STATUS_OK;
}

// At the end of a message: what is required must have come.
static enum status check_required(const struct scan *scan)
{
    const struct frame *frame = &scan->frames[scan->depth - 1];
    for (size_t i = 0; i < frame->limits->count; i++) {
        const struct wire_limit *limit = &frame->limits->fields[i];
        if (limit->count_min == 0)
            continue;

        const ProtobufCFieldDescriptor *field =
            protobuf_c_message_descriptor_get_field_by_name(frame->type, limit->field);
        if (frame->counts[field - frame->type->fields] > 0)
            continue;
        if (field->label == PROTOBUF_C_LABEL_REPEATED)
            return refuse(scan, field, WHOLE_FIELD, "required: %" PRIu32 "..%" PRIu32 " of them",
                          limit->count_min, limit->count_max);
        return refuse(scan, field, WHOLE_FIELD, "required: %" PRIu32 "..%" PRIu32 " bytes",
                      limit->bytes_min, limit->bytes_max);
    }
    return STATUS_OK;
}

static enum status scan_next(struct scan *scan)
{
    uint64_t tag = 0;
    if (!read_varint(top(scan), &tag) || tag >> 3 == 0 || tag >> 3 > NUMBER_MAX)
        return refuse(scan, NULL, WHOLE_FIELD, "malformed: no field number where one must be");

    struct value value = {0};
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field(top(scan)->type, (unsigned)(tag >> 3));
    if (!read_value(top(scan), tag & 7, &value))
        return refuse(scan, field, WHOLE_FIELD,
                      "malformed: field number %" PRIu64 " of wire type %d is cut or not allowed",
                      tag >> 3, (int)(tag & 7));
    if (field)
        return scan_field(scan, field, &value);

    if (++scan->unknown > WIRE_SCAN_UNKNOWN_MAX)
        return refuse(scan, NULL, WHOLE_FIELD, "more than %d fields that this version lacks",
                      WIRE_SCAN_UNKNOWN_MAX);
    return STATUS_OK;
}

enum status wire_scan(const ProtobufCMessageDescriptor *type, struct bytes message,
                      struct reason *why)
{
    assert(type);
    assert(message.data || message.count == 0);

    struct scan scan = {.why = why};
    push(&scan, NULL, type, message);
    while (scan.depth > 0) {
        enum status status = STATUS_OK;
        if (top(&scan)->at < top(&scan)->end) {
            status = scan_next(&scan);
        } else {
            status = check_required(&scan);
            scan.depth--;
        }
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}
