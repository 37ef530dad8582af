// SPDX-License-Identifier: Apache-2.0
// Goal: no bytes make the JSON reader crash; what it accepts survives being
// written and read again; no text makes what we write, quote or explain
// anything but well-formed.
//
// Method: the input is parsed, written by the writer, parsed again and written
// again: both texts must be the same. Then it is taken as a text to quote.

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/json.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

#define TEXT_BYTES 300           // of the input, as a text
#define FLOAT_END 0x1.ffffffp127 // from here on a number rounds to no float

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool right)
{
    if (!right)
        abort();
}

// A place in a document: the members or elements of `value` not written yet.
struct level {
    const struct json *value;
    void *iterator;
    size_t index;
};

// Writes what has no members; false for an object or array, which is only begun.
static bool write_leaf(struct json_writer *writer, const struct json *value)
{
    int64_t whole = 0;
    double number = 0;
    if (json_is_object(value)) {
        json_begin_object(writer);
        return false;
    }
    if (json_is_array(value)) {
        json_begin_array(writer);
        return false;
    }
    if (json_is_text(value))
        json_put_text(writer, json_text(value));
    else if (json_int(value, &whole))
        json_put_int(writer, whole);
    else if (json_double(value, &number))
        json_put_float(writer, fabs(number) < FLOAT_END ? (float)number : 0.0f);
    else if (json_is_bool(value))
        json_put_bool(writer, json_bool(value, false));
    else if (json_is_null(value))
        json_put_null(writer);
    else
        abort();
    return true;
}

// The next value of the level, or NULL; its name is written.
static const struct json *next_value(struct json_writer *writer, struct level *level)
{
    const char *name = NULL;
    const struct json *value = NULL;
    if (json_is_array(level->value))
        return json_element(level->value, level->index++);
    if (!json_next(level->value, &level->iterator, &name, &value))
        return NULL;
    check(json_member(level->value, name) == value);
    json_name(writer, name);
    return value;
}

static void write_document(struct json_writer *writer, const struct json *document)
{
    struct level levels[JSON_DEPTH_MAX + 1];
    size_t depth = 0;
    if (!write_leaf(writer, document))
        levels[depth++] = (struct level){.value = document};
    while (depth > 0) {
        struct level *level = &levels[depth - 1];
        const struct json *value = next_value(writer, level);
        if (value) {
            if (!write_leaf(writer, value))
                levels[depth++] = (struct level){.value = value};
        } else if (json_is_object(level->value)) {
            json_end_object(writer);
            depth--;
        } else {
            json_end_array(writer);
            depth--;
        }
        check(depth <= JSON_DEPTH_MAX);
    }
}

static void read_and_write(const uint8_t *data, size_t size)
{
    struct json *document = NULL;
    struct reason why = {0};
    if (json_parse(data, size, &document, &why) != STATUS_OK) {
        check(!document && why.text[0] != '\0' && bytes_is_utf8(why.text, strlen(why.text)));
        return;
    }
    struct json_writer first = {0};
    write_document(&first, document);
    json_destroy(&document);
    if (first.failed) { // between the writer's depth and the reader's
        json_writer_deinit(&first);
        return;
    }

    check(json_parse(first.out.data, first.out.count, &document, &why) == STATUS_OK);
    struct json_writer second = {0};
    write_document(&second, document);
    json_destroy(&document);
    check(first.out.count == second.out.count &&
          memcmp(first.out.data, second.out.data, first.out.count) == 0);
    json_writer_deinit(&first);
    json_writer_deinit(&second);
}

static void quote(const uint8_t *data, size_t size)
{
    char text[TEXT_BYTES + 1] = "";
    size_t bytes = size < TEXT_BYTES ? size : TEXT_BYTES;
    if (bytes > 0)
        memcpy(text, data, bytes);

    char quoted[LOG_QUOTE_BYTES];
    size_t count = strlen(log_quote(text, quoted));
    check(count >= 2 && count < LOG_QUOTE_BYTES && bytes_is_utf8(quoted, count));
    check(quoted[0] == '"' && quoted[count - 1] == '"');

    struct reason why = {0};
    check(reason_set(&why, STATUS_INVALID, text, "%s", text) == STATUS_INVALID);
    check(bytes_is_utf8(why.field, strlen(why.field)) && bytes_is_utf8(why.text, strlen(why.text)));

    struct json_writer writer = {0};
    struct json *document = NULL;
    json_put_cstr(&writer, text);
    check(json_parse(writer.out.data, writer.out.count, &document, NULL) == STATUS_OK);
    bool is_utf8 = bytes_is_utf8(text, strlen(text));
    check(!is_utf8 || text_equal(json_text(document), text_of(text)));
    json_destroy(&document);
    json_writer_deinit(&writer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    read_and_write(data, size);
    quote(data, size);
    return 0;
}
