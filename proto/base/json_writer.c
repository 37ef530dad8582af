// SPDX-License-Identifier: Apache-2.0
// json_writer.c - writing JSON lines.
//
// A failure sets one flag and the calls after it do nothing, so that a caller
// asks once, at the end. `has_item` holds one bit for each open object or
// array, and one for the outermost value: whether a comma comes before the next.

#include <assert.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/json.h"

#define WRITER_DEPTH_MAX 60
#define NUMBER_BYTES 32     // the longest is -1.17549435e-38 or 20 digits
#define FLOAT_DIGITS_SURE 9 // as many always read back to the same float

static void put(struct json_writer *writer, const char *data, size_t count)
{
    if (!writer->failed && buffer_append(&writer->out, data, count) != STATUS_OK)
        writer->failed = true;
}

// Puts the comma that the next value or name needs.
static void begin_item(struct json_writer *writer)
{
    assert(writer);

    if (writer->after_name) {
        writer->after_name = false;
        return;
    }
    uint64_t bit = UINT64_C(1) << writer->depth;
    if (writer->has_item & bit) {
        assert(writer->depth > 0); // one value only
        put(writer, ",", 1);
    }
    writer->has_item |= bit;
}

static void begin_nested(struct json_writer *writer, const char *bracket)
{
    begin_item(writer);
    put(writer, bracket, 1);
    if (writer->depth == WRITER_DEPTH_MAX) {
        writer->failed = true;
        writer->lost_depth++;
        return;
    }
    writer->depth++;
    writer->has_item &= ~(UINT64_C(1) << writer->depth);
}

static void end_nested(struct json_writer *writer, const char *bracket)
{
    assert(writer);
    assert(writer->depth > 0);
    assert(!writer->after_name);

    put(writer, bracket, 1);
    if (writer->lost_depth > 0)
        writer->lost_depth--;
    else
        writer->depth--;
}

void json_begin_object(struct json_writer *writer)
{
    begin_nested(writer, "{");
}

void json_end_object(struct json_writer *writer)
{
    end_nested(writer, "}");
}

void json_begin_array(struct json_writer *writer)
{
    begin_nested(writer, "[");
}

void json_end_array(struct json_writer *writer)
{
    end_nested(writer, "]");
}

// The letter behind the backslash for a character that has a short form, or 0.
static char short_escape(unsigned char c)
{
    switch (c) {
    case '"':
        return '"';
    case '\\':
        return '\\';
    case '\b':
        return 'b';
    case '\f':
        return 'f';
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    default:
        return 0;
    }
}

static void put_escaped(struct json_writer *writer, unsigned char c)
{
    char letter = short_escape(c);
    if (letter) {
        put(writer, (const char[]){'\\', letter}, 2);
        return;
    }
    char form[8];
    (void)snprintf(form, sizeof(form), "\\u%04x", (unsigned)c & 0xffu);
    put(writer, form, strlen(form));
}

static void put_quoted(struct json_writer *writer, const char *text, size_t bytes)
{
    put(writer, "\"", 1);
    size_t from = 0; // not written yet
    size_t at = 0;
    while (at < bytes) {
        unsigned char c = (unsigned char)text[at];
        size_t step = bytes_utf8_step(text + at, bytes - at);
        if (step > 0 && c >= 0x20 && c != '"' && c != '\\') {
            at += step;
            continue;
        }
        put(writer, text + from, at - from);
        if (step == 0)
            put(writer, "\xef\xbf\xbd", 3); // U+FFFD
        else
            put_escaped(writer, c);
        at++;
        from = at;
    }
    if (at > from)
        put(writer, text + from, at - from);
    put(writer, "\"", 1);
}

void json_name(struct json_writer *writer, const char *name)
{
    assert(name);
    assert(!writer->after_name);
    assert(writer->depth > 0);

    begin_item(writer);
    put_quoted(writer, name, strlen(name));
    put(writer, ":", 1);
    writer->after_name = true;
}

void json_put_text(struct json_writer *writer, struct text value)
{
    assert(value.data || value.bytes == 0);

    begin_item(writer);
    put_quoted(writer, value.data ? value.data : "", value.bytes);
}

void json_put_cstr(struct json_writer *writer, const char *value)
{
    if (value)
        json_put_text(writer, text_of(value));
    else
        json_put_null(writer);
}

void json_put_int(struct json_writer *writer, int64_t value)
{
    begin_item(writer);
    char number[NUMBER_BYTES];
    (void)snprintf(number, sizeof(number), "%" PRId64, value);
    put(writer, number, strlen(number));
}

void json_put_uint(struct json_writer *writer, uint64_t value)
{
    begin_item(writer);
    char number[NUMBER_BYTES];
    (void)snprintf(number, sizeof(number), "%" PRIu64, value);
    put(writer, number, strlen(number));
}

// Up to FLT_DIG digits survive the way through a normal float, so a float that
// has so short a form shows it with FLT_DIG digits. Subnormal ones hold less.
void json_put_float(struct json_writer *writer, float value)
{
    if (!isfinite(value)) {
        json_put_null(writer);
        return;
    }

    begin_item(writer);
    char number[NUMBER_BYTES];
    int digits = fabsf(value) < FLT_MIN ? 1 : FLT_DIG;
    for (; digits <= FLOAT_DIGITS_SURE; digits++) {
        (void)snprintf(number, sizeof(number), "%.*g", digits, (double)value);
        if (strtof(number, NULL) == value)
            break;
    }
    // A reader takes "-0" for the whole number 0, which has no sign.
    if (value == 0.0f && signbit(value))
        (void)snprintf(number, sizeof(number), "-0.0");
    put(writer, number, strlen(number));
}

void json_put_double(struct json_writer *writer, double value)
{
    if (!isfinite(value)) {
        json_put_null(writer);
        return;
    }

    begin_item(writer);
    char number[NUMBER_BYTES];
    (void)snprintf(number, sizeof(number), "%.6g", value);
    put(writer, number, strlen(number));
}

void json_put_bool(struct json_writer *writer, bool value)
{
    begin_item(writer);
    put(writer, value ? "true" : "false", value ? 4 : 5);
}

void json_put_null(struct json_writer *writer)
{
    begin_item(writer);
    put(writer, "null", 4);
}

enum status json_write_line(struct json_writer *writer, FILE *file)
{
    assert(writer);
    assert(file);
    assert(writer->depth == 0);
    assert(!writer->after_name);

    put(writer, "\n", 1);
    enum status status = STATUS_OK;
    if (writer->failed)
        status = STATUS_NO_MEMORY;
    else if (fwrite(writer->out.data, 1, writer->out.count, file) != writer->out.count)
        status = STATUS_IO;

    writer->out.count = 0;
    writer->has_item = 0;
    writer->failed = false;
    return status;
}

void json_writer_deinit(struct json_writer *writer)
{
    assert(writer);

    buffer_deinit(&writer->out);
    *writer = (struct json_writer){.out = writer->out};
}
