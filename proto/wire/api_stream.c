// SPDX-License-Identifier: Apache-2.0
// Messages of the streams. A request is a tag and a question, an answer a tag and a reply or an
// error; question and reply are messages of the unary calls, and stay bytes here: whoever answers
// the unary call decodes and encodes them, so that both ways say the same.
//
// So the outer message is read by hand, flat, and one that is damaged still gives its tag away, by
// which its error finds back. The bytes inside are checked by their own decoder.

#include <assert.h>
#include <string.h>

#include "proto/wire/api_internal.h"
#include "proto/wire/wire_scan.h"

enum { TAG_NUMBER = 1, QUESTION_NUMBER = 2, ERROR_NUMBER = 2, REPLY_NUMBER = 3 };

#define VARINT 0
#define LENGTH 2
#define NUMBER_MAX 536870911u // of a field: 29 bits

// --- reading

struct reader {
    const uint8_t *at;
    const uint8_t *end;
};

struct field {
    uint64_t number;
    unsigned type;
    uint64_t value;     // of a VARINT
    struct bytes bytes; // of a LENGTH
};

static bool read_varint(struct reader *reader, uint64_t *out)
{
    uint64_t number = 0;
    for (unsigned shift = 0; shift < 64 && reader->at < reader->end; shift += 7) {
        uint8_t byte = *reader->at++;
        number |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *out = number;
            return true;
        }
    }
    return false;
}

static bool read_field(struct reader *reader, struct field *out)
{
    uint64_t key = 0;
    uint64_t count = 0;
    if (!read_varint(reader, &key) || key >> 3 == 0 || key >> 3 > NUMBER_MAX)
        return false;
    *out = (struct field){.number = key >> 3, .type = (unsigned)(key & 7)};
    switch (out->type) {
    case VARINT:
        return read_varint(reader, &out->value);
    case LENGTH:
        if (!read_varint(reader, &count))
            return false;
        break;
    case 1:
        count = 8;
        break;
    case 5:
        count = 4;
        break;
    default: // groups, and types that do not exist
        return false;
    }
    if (count > (uint64_t)(reader->end - reader->at))
        return false;
    out->bytes = (struct bytes){reader->at, (size_t)count};
    reader->at += count;
    return true;
}

// What a flat message can hold.
struct parts {
    uint64_t tag;
    struct bytes inner[2]; // fields 2 and 3
    bool has[2];
};

// Reads as far as the bytes are sound; fields above `last` are a newer version's.
static enum status read_parts(struct bytes message, uint64_t last, struct parts *out,
                              struct reason *why)
{
    *out = (struct parts){.tag = 0};
    if (message.count > MESSAGE_BYTES_MAX)
        return reason_set(why, STATUS_INVALID, NULL, "%zu bytes; allowed: at most %u",
                          message.count, MESSAGE_BYTES_MAX);

    struct reader reader = {message.data,
                            message.count > 0 ? message.data + message.count : message.data};
    size_t unknown = 0;
    while (reader.at < reader.end) {
        struct field field;
        if (!read_field(&reader, &field))
            return reason_set(why, STATUS_INVALID, NULL,
                              "malformed: a field that is cut or of a type that is not allowed");
        if (field.number > last) {
            if (++unknown > WIRE_SCAN_UNKNOWN_MAX)
                return reason_set(why, STATUS_INVALID, NULL,
                                  "more than %d fields that this version lacks",
                                  WIRE_SCAN_UNKNOWN_MAX);
            continue;
        }
        unsigned wanted = field.number == TAG_NUMBER ? VARINT : LENGTH;
        if (field.type != wanted)
            return reason_set(why, STATUS_INVALID, field.number == TAG_NUMBER ? "tag" : NULL,
                              "field %u has wire type %u; allowed: %u", (unsigned)field.number,
                              field.type, wanted);
        if (field.number == TAG_NUMBER) {
            out->tag = field.value;
            continue;
        }
        if (out->has[field.number - 2])
            return reason_set(why, STATUS_INVALID, NULL, "field %u is given twice; allowed: once",
                              (unsigned)field.number);
        out->has[field.number - 2] = true;
        out->inner[field.number - 2] = field.bytes;
    }
    return STATUS_OK;
}

// --- writing

static enum status put_varint(struct buffer *out, uint64_t value)
{
    uint8_t bytes[10];
    size_t count = 0;
    do {
        bytes[count++] = (uint8_t)((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
        value >>= 7;
    } while (value > 0);
    return buffer_append(out, bytes, count);
}

static enum status put_tag(struct buffer *out, uint64_t tag)
{
    if (tag == 0)
        return STATUS_OK;
    enum status status = put_varint(out, TAG_NUMBER << 3 | VARINT);
    return status == STATUS_OK ? put_varint(out, tag) : status;
}

static enum status put_message(struct buffer *out, unsigned number, struct bytes message)
{
    enum status status = put_varint(out, number << 3 | LENGTH);
    if (status == STATUS_OK)
        status = put_varint(out, message.count);
    return status == STATUS_OK ? buffer_append(out, message.data, message.count) : status;
}

// What a failure has appended goes again.
static enum status end_message(struct buffer *out, size_t begun, enum status status)
{
    if (status == STATUS_OK && out->count - begun > MESSAGE_BYTES_MAX)
        status = STATUS_EXHAUSTED;
    if (status != STATUS_OK)
        out->count = begun;
    return status;
}

// --- requests

enum status api_encode_stream_request(const struct api_stream_request *message, struct buffer *out)
{
    assert(message && out);

    size_t begun = out->count;
    enum status status = put_tag(out, message->tag);
    if (status == STATUS_OK && message->question.count > 0)
        status = put_message(out, QUESTION_NUMBER, message->question);
    return end_message(out, begun, status);
}

enum status api_decode_stream_request(struct bytes message, struct api_stream_request *out,
                                      struct reason *why)
{
    assert(out);

    struct parts parts;
    enum status status = read_parts(message, QUESTION_NUMBER, &parts, why);
    *out = (struct api_stream_request){.tag = parts.tag};
    if (status == STATUS_OK)
        out->question = parts.inner[QUESTION_NUMBER - 2];
    return status;
}

enum status api_encode_encode_stream_request(const struct api_encode_stream_request *message,
                                             struct buffer *out)
{
    assert(message);

    struct wire_memory memory = wire_begin();
    Reco__V1__EncodeStreamRequest raw;
    reco__v1__encode_stream_request__init(&raw);
    raw.tag = message->tag;
    raw.profile = (Reco__V1__Profile)message->profile;
    if (message->input == API_INPUT_IMAGE) {
        raw.input_case = RECO__V1__ENCODE_STREAM_REQUEST__INPUT_IMAGE;
        raw.image = wire_put_bytes(message->image);
    } else if (message->input == API_INPUT_TEXT) {
        raw.input_case = RECO__V1__ENCODE_STREAM_REQUEST__INPUT_TEXT;
        raw.text = wire_put_text(&memory, message->text);
    }
    return wire_pack(&memory, &raw.base, out);
}

enum status api_decode_encode_stream_request(struct bytes message, struct arena *arena,
                                             struct api_encode_stream_request *out,
                                             struct reason *why)
{
    assert(out);

    ProtobufCMessage *found = NULL;
    enum status status =
        api_unpack(&reco__v1__encode_stream_request__descriptor, message, arena, &found, why);
    if (status != STATUS_OK)
        return status;

    const Reco__V1__EncodeStreamRequest *raw = (const void *)found;
    struct api_encode_stream_request request = {.tag = raw->tag,
                                                .profile = (enum api_profile)raw->profile};
    if (raw->input_case == RECO__V1__ENCODE_STREAM_REQUEST__INPUT_IMAGE) {
        request.input = API_INPUT_IMAGE;
        request.image = wire_bytes(raw->image);
    } else if (raw->input_case == RECO__V1__ENCODE_STREAM_REQUEST__INPUT_TEXT) {
        request.input = API_INPUT_TEXT;
        request.text = wire_text(raw->text);
    } else {
        return reason_set(why, STATUS_INVALID, "input", "required: an image or a text");
    }
    *out = request;
    return STATUS_OK;
}

// --- replies

static enum status put_error(struct buffer *out, const struct api_stream_reply *message)
{
    struct wire_memory memory = wire_begin();
    Reco__V1__ItemError raw;
    reco__v1__item_error__init(&raw);
    raw.code = (uint32_t)status_grpc_code(message->status);
    raw.reason = wire_put_text(&memory, text_of(status_name(message->status)));
    raw.field = wire_put_text(&memory, text_of(message->why.field));
    raw.message = wire_put_text(&memory, text_of(message->why.text));
    struct buffer packed = {0};
    enum status status = wire_pack(&memory, &raw.base, &packed);
    if (status == STATUS_OK)
        status = put_message(out, ERROR_NUMBER, (struct bytes){packed.data, packed.count});
    buffer_deinit(&packed);
    return status;
}

enum status api_encode_stream_reply(const struct api_stream_reply *message, struct buffer *out)
{
    assert(message && out);

    size_t begun = out->count;
    enum status status = put_tag(out, message->tag);
    if (status == STATUS_OK && message->status != STATUS_OK)
        status = put_error(out, message);
    else if (status == STATUS_OK)
        status = put_message(out, REPLY_NUMBER, message->reply);
    return end_message(out, begun, status);
}

static enum status read_error(struct bytes message, struct arena *arena,
                              struct api_stream_reply *out, struct reason *why)
{
    ProtobufCMessage *found = NULL;
    enum status status = api_unpack(&reco__v1__item_error__descriptor, message, arena, &found, why);
    if (status != STATUS_OK)
        return status;

    const Reco__V1__ItemError *raw = (const void *)found;
    if (raw->code == 0 || raw->code > 16)
        return reason_set(why, STATUS_INVALID, "error.code", "%u; allowed: 1..16",
                          (unsigned)raw->code);
    if (!status_named(raw->reason, strlen(raw->reason), (int)raw->code, &out->status))
        out->status = status_from_grpc_code((int)raw->code);
    (void)reason_set(&out->why, out->status, raw->field, "%s", raw->message);
    return STATUS_OK;
}

enum status api_decode_stream_reply(struct bytes message, struct arena *arena,
                                    struct api_stream_reply *out, struct reason *why)
{
    assert(out);

    struct parts parts;
    enum status status = read_parts(message, REPLY_NUMBER, &parts, why);
    if (status != STATUS_OK)
        return status;
    struct api_stream_reply reply = {.tag = parts.tag};
    if (parts.has[0] == parts.has[1])
        return reason_set(why, STATUS_INVALID, "reply", "required: a reply or an error, not both");
    if (parts.has[0])
        status = read_error(parts.inner[0], arena, &reply, why);
    else
        reply.reply = parts.inner[1];
    if (status == STATUS_OK)
        *out = reply;
    return status;
}
