// SPDX-License-Identifier: Apache-2.0
// Goal: no message can be larger than our code expects, whatever its bytes say.
//
// Method: walks the descriptors that protoc-c made of both .proto files. Each field of each
// message is then driven to its maximum, one past it, and through every other kind of damage
// that its type allows; the bytes are written by hand.

#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "proto/base/mem.h"
#include "proto/wire/wire_limits.h"
#include "proto/wire/wire_scan.h"
#include "tests/unit/wire_build.h"

#define REPEATED PROTOBUF_C_LABEL_REPEATED

static bool has_length(const ProtobufCFieldDescriptor *field)
{
    return field->label == REPEATED || field->type == PROTOBUF_C_TYPE_STRING ||
           field->type == PROTOBUF_C_TYPE_BYTES;
}

static bool is_text(const ProtobufCFieldDescriptor *field)
{
    return field->type == PROTOBUF_C_TYPE_STRING || field->type == PROTOBUF_C_TYPE_BYTES;
}

static unsigned wire_type_of(const ProtobufCFieldDescriptor *field)
{
    if (is_text(field) || field->type == PROTOBUF_C_TYPE_MESSAGE)
        return 2;
    if (field->type == PROTOBUF_C_TYPE_FLOAT || field->type == PROTOBUF_C_TYPE_FIXED32)
        return 5;
    return field->type == PROTOBUF_C_TYPE_FIXED64 ? 1 : 0;
}

// One harmless element.
static void build_element(struct buffer *out, const ProtobufCFieldDescriptor *field,
                          struct bytes inner, size_t bytes)
{
    const uint8_t zeros[8] = {0};
    switch (wire_type_of(field)) {
    case 0:
        build_number(out, field->id, 0);
        break;
    case 2:
        if (is_text(field))
            build_run(out, field->id, 'a', bytes);
        else
            build_text(out, field->id, inner.data, inner.count);
        break;
    default:
        build_tag(out, field->id, wire_type_of(field));
        build_bytes(out, zeros, wire_type_of(field) == 1 ? 8 : 4);
    }
}

// What the message cannot do without, except `skip`.
static void build_required(struct buffer *out, const struct wire_limits *limits,
                           const ProtobufCFieldDescriptor *skip)
{
    for (size_t i = 0; i < limits->count; i++) {
        const struct wire_limit *limit = &limits->fields[i];
        const ProtobufCFieldDescriptor *field =
            protobuf_c_message_descriptor_get_field_by_name(limits->type, limit->field);
        if (limit->count_min > 0 && field != skip)
            build_element(out, field, (struct bytes){NULL, 0}, limit->bytes_min);
    }
}

// `count` elements of `bytes` bytes each, with what else the message needs.
static void build_message(struct buffer *out, const struct wire_limits *limits,
                          const ProtobufCFieldDescriptor *field, size_t count, size_t bytes)
{
    struct buffer inner = {0};
    if (field->type == PROTOBUF_C_TYPE_MESSAGE)
        build_required(&inner, wire_limits_of(field->descriptor), NULL);

    out->count = 0;
    build_required(out, limits, field);
    unsigned type = wire_type_of(field);
    if (type == 2) {
        for (size_t i = 0; i < count; i++)
            build_element(out, field, built(&inner), bytes);
    } else {
        build_run(out, field->id, 0, count * (type == 1 ? 8 : type == 5 ? 4 : 1));
    }
    buffer_deinit(&inner);
}

static enum status scan(const struct wire_limits *limits, const struct buffer *message,
                        struct reason *why)
{
    *why = (struct reason){{0}, {0}};
    return wire_scan(limits->type, built(message), why);
}

// Runs `visit` on every field of every message.
static void for_each_field(void (*visit)(const struct wire_limits *limits,
                                         const ProtobufCFieldDescriptor *field))
{
    size_t count;
    const struct wire_limits *all = wire_limits_all(&count);
    for (size_t i = 0; i < count; i++)
        for (unsigned f = 0; f < all[i].type->n_fields; f++)
            visit(&all[i], &all[i].type->fields[f]);
}

// --- the files

static void check_file(const char *path, const char *package)
{
    struct buffer file = {0};
    cr_assert(eq(int, bytes_read_file(path, 1 << 20, &file), STATUS_OK));
    size_t count;
    const struct wire_limits *all = wire_limits_all(&count);
    size_t messages = 0;
    for (const char *at = (const char *)file.data; (at = strstr(at, "\nmessage ")); at++) {
        char name[128];
        cr_assert(eq(int, sscanf(at, "\nmessage %60[A-Za-z]", name), 1));
        bool found = false;
        for (size_t i = 0; i < count; i++)
            found = found || (strcmp(all[i].type->short_name, name) == 0 &&
                              strcmp(all[i].type->package_name, package) == 0);
        cr_expect(found, "message %s has no limits", name);
        messages++;
    }
    size_t listed = 0;
    for (size_t i = 0; i < count; i++)
        listed += strcmp(all[i].type->package_name, package) == 0;
    cr_expect(eq(sz, listed, messages));
    buffer_deinit(&file);
}

Test(wire_limits, every_message_of_both_files_is_listed)
{
    check_file(RECO_SOURCE_DIR "/proto/reco.proto", "reco.v1");
    check_file(RECO_SOURCE_DIR "/proto/shard.proto", "reco.shard.v1");
}

static void has_its_limit(const struct wire_limits *limits, const ProtobufCFieldDescriptor *field)
{
    const struct wire_limit *limit = wire_limits_field(limits, field->name);
    cr_expect(eq(int, limit != NULL, has_length(field)), "%s.%s", limits->type->name, field->name);
    if (!limit)
        return;
    cr_expect(limit->count_min <= limit->count_max);
    cr_expect(limit->bytes_min <= limit->bytes_max);
    cr_expect(eq(int, limit->bytes_max > 0, is_text(field)));
    cr_expect(field->label == REPEATED || limit->count_max == 1);
}

Test(wire_limits, every_field_with_a_length_has_a_maximum)
{
    for_each_field(has_its_limit);
}

static void is_a_type_we_scan(const struct wire_limits *limits,
                              const ProtobufCFieldDescriptor *field)
{
    cr_expect(field->type == PROTOBUF_C_TYPE_UINT32 || field->type == PROTOBUF_C_TYPE_UINT64 ||
                  field->type == PROTOBUF_C_TYPE_FIXED32 ||
                  field->type == PROTOBUF_C_TYPE_FIXED64 || field->type == PROTOBUF_C_TYPE_FLOAT ||
                  field->type == PROTOBUF_C_TYPE_BOOL || field->type == PROTOBUF_C_TYPE_ENUM ||
                  field->type == PROTOBUF_C_TYPE_STRING || field->type == PROTOBUF_C_TYPE_BYTES ||
                  field->type == PROTOBUF_C_TYPE_MESSAGE,
              "%s.%s", limits->type->name, field->name);
    cr_expect(limits->type->n_fields <= WIRE_LIMITS_FIELDS_MAX);
}

Test(wire_limits, only_types_that_the_scanner_knows_are_used)
{
    for_each_field(is_a_type_we_scan);
}

Test(wire_limits, no_message_contains_itself_and_none_is_deep)
{
    // Depth grows along each containment; with a cycle it never ends.
    size_t count;
    const struct wire_limits *all = wire_limits_all(&count);
    size_t depth[128];
    cr_assert(count <= 128);
    for (size_t i = 0; i < count; i++)
        depth[i] = 1;
    for (size_t round = 0; round <= WIRE_LIMITS_DEPTH_MAX; round++)
        for (size_t i = 0; i < count; i++)
            for (unsigned f = 0; f < all[i].type->n_fields; f++) {
                if (all[i].type->fields[f].type != PROTOBUF_C_TYPE_MESSAGE)
                    continue;
                size_t inner = (size_t)(wire_limits_of(all[i].type->fields[f].descriptor) - all);
                if (depth[i] < depth[inner] + 1)
                    depth[i] = depth[inner] + 1;
            }
    for (size_t i = 0; i < count; i++)
        cr_expect(depth[i] <= WIRE_LIMITS_DEPTH_MAX, "%s", all[i].type->name);
}

static void expect_same_shape(const char *a, const char *b)
{
    size_t count;
    const struct wire_limits *all = wire_limits_all(&count);
    const ProtobufCMessageDescriptor *first = NULL;
    const ProtobufCMessageDescriptor *second = NULL;
    for (size_t i = 0; i < count; i++) {
        first = strcmp(all[i].type->name, a) == 0 ? all[i].type : first;
        second = strcmp(all[i].type->name, b) == 0 ? all[i].type : second;
    }
    cr_assert(first && second, "%s %s", a, b);
    cr_assert(first->n_fields <= second->n_fields, "%s %s", a, b);
    for (unsigned f = 0; f < first->n_fields; f++) {
        cr_expect(eq(int, first->fields[f].id, second->fields[f].id), "%s %s", a, b);
        cr_expect(eq(int, first->fields[f].type, second->fields[f].type), "%s %s", a, b);
        cr_expect(eq(int, first->fields[f].label, second->fields[f].label), "%s %s", a, b);
    }
}

Test(wire_limits, messages_with_one_codec_have_one_shape)
{
    expect_same_shape("reco.v1.EncodeTextRequest", "reco.v1.TokenizeRequest");
    expect_same_shape("reco.v1.DropMemoryRequest", "reco.v1.DescribeMemoryRequest");
    expect_same_shape("reco.v1.DeleteRecordsRequest", "reco.v1.HideRequest");
    expect_same_shape("reco.v1.DeleteRecordsReply", "reco.v1.HideReply");
    expect_same_shape("reco.shard.v1.DeleteRequest", "reco.shard.v1.HasRequest");
    expect_same_shape("reco.shard.v1.DeleteReply", "reco.shard.v1.HasReply");
    expect_same_shape("reco.shard.v1.StatsRequest", "reco.shard.v1.DropRequest");
    expect_same_shape("reco.shard.v1.StatsRequest", "reco.shard.v1.CommitRequest");
    expect_same_shape("reco.shard.v1.DropReply", "reco.shard.v1.StatsReply");
}

// --- each field

static void takes_its_maximum(const struct wire_limits *limits,
                              const ProtobufCFieldDescriptor *field)
{
    const struct wire_limit *limit = wire_limits_field(limits, field->name);
    if (!limit)
        return;

    struct buffer message = {0};
    struct reason why;
    build_message(&message, limits, field, 1, limit->bytes_max);
    cr_expect(eq(int, scan(limits, &message, &why), STATUS_OK), "%s.%s: %s", limits->type->name,
              field->name, why.text);
    build_message(&message, limits, field, limit->count_max, limit->bytes_min);
    cr_expect(eq(int, scan(limits, &message, &why), STATUS_OK), "%s.%s: %s", limits->type->name,
              field->name, why.text);
    buffer_deinit(&message);
}

Test(wire_limits, every_field_takes_its_maximum)
{
    for_each_field(takes_its_maximum);
}

// Refused, and with the field's name.
static void expect_refused(const struct wire_limits *limits, const ProtobufCFieldDescriptor *field,
                           const struct buffer *message)
{
    struct reason why;
    cr_expect(eq(int, scan(limits, message, &why), STATUS_INVALID), "%s.%s", limits->type->name,
              field->name);
    cr_expect(strncmp(why.field, field->name, strlen(field->name)) == 0, "%s.%s: %s",
              limits->type->name, field->name, why.field);
    cr_expect(why.text[0] != '\0');
}

static void refuses_one_more(const struct wire_limits *limits,
                             const ProtobufCFieldDescriptor *field)
{
    const struct wire_limit *limit = wire_limits_field(limits, field->name);
    if (!limit)
        return;

    struct buffer message = {0};
    if (is_text(field)) {
        build_message(&message, limits, field, 1, limit->bytes_max + 1);
        expect_refused(limits, field, &message);
    }
    if (is_text(field) && limit->bytes_min > 0) {
        build_message(&message, limits, field, 1, limit->bytes_min - 1);
        expect_refused(limits, field, &message);
    }
    if (field->label == REPEATED) {
        build_message(&message, limits, field, (size_t)limit->count_max + 1, limit->bytes_min);
        expect_refused(limits, field, &message);
    }
    if (limit->count_min > 0) {
        message.count = 0;
        build_required(&message, limits, field);
        expect_refused(limits, field, &message);
    }
    buffer_deinit(&message);
}

Test(wire_limits, every_field_refuses_one_more_and_one_less)
{
    for_each_field(refuses_one_more);
}

static void refuses_wrong_wire_types(const struct wire_limits *limits,
                                     const ProtobufCFieldDescriptor *field)
{
    const uint8_t content[8] = {0};
    for (unsigned type = 0; type < 8; type++) {
        bool packed = field->label == REPEATED && type == 2;
        if (type == wire_type_of(field) || packed)
            continue;

        struct buffer message = {0};
        build_required(&message, limits, field);
        build_tag(&message, field->id, type);
        build_bytes(&message, content, type == 0 || type == 2 ? 1 : type == 5 ? 4 : 8);
        expect_refused(limits, field, &message);
        buffer_deinit(&message);
    }
}

Test(wire_limits, every_field_refuses_other_wire_types)
{
    for_each_field(refuses_wrong_wire_types);
}

static void refuses_bad_content(const struct wire_limits *limits,
                                const ProtobufCFieldDescriptor *field)
{
    const uint32_t bad_floats[] = {0x7f800000u, 0xff800000u, 0x7fc00000u, 0x7f800001u};
    struct buffer message = {0};
    if (field->type == PROTOBUF_C_TYPE_STRING) {
        const char *const bad[] = {"a\xff", "a\xc0\x80", "\xed\xa0\x80", "abc\xe2\x82"};
        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
            message.count = 0;
            build_text(&message, field->id, bad[i], strlen(bad[i]));
            expect_refused(limits, field, &message);
        }
        message.count = 0;
        build_text(&message, field->id, "a\0b", 3);
        expect_refused(limits, field, &message);
    }
    for (size_t i = 0; field->type == PROTOBUF_C_TYPE_FLOAT && i < 4; i++) {
        uint8_t bytes[4];
        bytes_put_u32_le(bytes, bad_floats[i]);
        message.count = 0;
        build_tag(&message, field->id, 5);
        build_bytes(&message, bytes, 4);
        expect_refused(limits, field, &message);
    }
    if (field->type == PROTOBUF_C_TYPE_ENUM && !limits->open_enums) {
        const uint64_t bad[] = {100, UINT64_MAX, 1u << 31};
        for (size_t i = 0; i < 3; i++) {
            message.count = 0;
            build_number(&message, field->id, bad[i]);
            expect_refused(limits, field, &message);
        }
    }
    if (field->type == PROTOBUF_C_TYPE_MESSAGE && field->label != REPEATED) {
        // Joined, two of them could hold twice the maximum.
        struct buffer inner = {0};
        build_required(&inner, wire_limits_of(field->descriptor), NULL);
        build_element(&message, field, built(&inner), 0);
        build_element(&message, field, built(&inner), 0);
        expect_refused(limits, field, &message);
        buffer_deinit(&inner);
    }
    buffer_deinit(&message);
}

Test(wire_limits, every_field_refuses_bad_content)
{
    for_each_field(refuses_bad_content);
}

static void refuses_halves_of_packed_numbers(const struct wire_limits *limits,
                                             const ProtobufCFieldDescriptor *field)
{
    if (field->label != REPEATED || wire_type_of(field) == 2)
        return;

    struct buffer message = {0};
    build_required(&message, limits, field);
    build_run(&message, field->id, 0x80, 7); // seven eighths, or a varint without an end
    expect_refused(limits, field, &message);
    buffer_deinit(&message);
}

Test(wire_limits, every_packed_field_refuses_a_cut_number)
{
    for_each_field(refuses_halves_of_packed_numbers);
}
