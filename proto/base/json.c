// SPDX-License-Identifier: Apache-2.0
// json.c - reading JSON documents with jansson.
//
// A `struct json` is a json_t behind a cast. Before jansson sees a text, one
// pass counts its depth and its values: jansson's parser calls itself for each
// level, and a value takes up to 80 bytes of memory where its text has 2.
//
// jansson drops the failures of some of its allocations and goes on with the
// text cut short. So its allocations go through a function that takes note.

#include "proto/base/json.h"

#include <assert.h>
#include <pthread.h>
#include <string.h>

#include <jansson.h>

#include "proto/base/mem.h"
#include "proto/base/system_error.h"

// Macros of jansson whose names are functions of ours.
#undef json_is_object
#undef json_is_array
#undef json_is_number
#undef json_is_null

static pthread_once_t library_once = PTHREAD_ONCE_INIT;
static _Thread_local bool allocation_failed;

static void *allocate(size_t bytes)
{
    void *memory = mem_try_alloc(bytes);
    if (!memory)
        allocation_failed = true;
    return memory;
}

static void prepare_library(void)
{
    json_set_alloc_funcs(allocate, mem_free);
}

// The one place where a value becomes jansson's. What is const here stays
// unchanged: jansson's reading functions merely lack the const.
static json_t *inner(const struct json *value)
{
    union {
        const struct json *outer;
        json_t *inner;
    } both = {.outer = value};
    return both.inner;
}

static const struct json *outer(const json_t *value)
{
    return (const struct json *)(const void *)value;
}

// Counts what the text opens at once and how many values it may hold. It need
// not be right for a text that is no JSON, only never too low for one that is.
static enum status check_size(const char *text, size_t bytes, size_t values_max, struct reason *why)
{
    size_t depth = 0;
    size_t value_count = 1;
    bool in_text = false;
    for (size_t i = 0; i < bytes; i++) {
        char c = text[i];
        if (in_text && c == '\\') {
            i++;
        } else if (c == '"') {
            in_text = !in_text;
        } else if (!in_text && (c == '[' || c == '{')) {
            depth++;
            value_count++;
        } else if (!in_text && (c == ']' || c == '}')) {
            depth -= depth > 0 ? 1 : 0;
        } else if (!in_text && c == ',') {
            value_count++;
        }
        if (depth > JSON_DEPTH_MAX)
            return reason_set(why, STATUS_INVALID, NULL, "is nested deeper than %d levels",
                              JSON_DEPTH_MAX);
        if (value_count > values_max)
            return reason_set(why, STATUS_INVALID, NULL, "has more than %zu values", values_max);
    }
    return STATUS_OK;
}

enum status json_parse(const void *data, size_t bytes, struct json **out, struct reason *why)
{
    return json_parse_few(data, bytes, JSON_VALUES_MAX, out, why);
}

enum status json_parse_few(const void *data, size_t bytes, size_t values_max, struct json **out,
                           struct reason *why)
{
    assert(data || bytes == 0);
    assert(out);

    if (bytes > JSON_BYTES_MAX)
        return reason_set(why, STATUS_INVALID, NULL, "has %zu bytes; at most %u are allowed", bytes,
                          JSON_BYTES_MAX);
    const char *zero = bytes > 0 ? memchr(data, 0, bytes) : NULL;
    if (zero) // jansson skips one behind a number
        return reason_set(why, STATUS_INVALID, NULL, "has a NUL byte at offset %zu",
                          (size_t)(zero - (const char *)data));
    enum status status = check_size(data, bytes, values_max, why);
    if (status != STATUS_OK)
        return status;
    const size_t mark = bytes_utf8_mark(data, bytes);
    const char *text = bytes > mark ? (const char *)data + mark : "";

    (void)pthread_once(&library_once, prepare_library);
    allocation_failed = false;
    json_error_t error = {0};
    json_t *document =
        json_loadb(text, bytes - mark, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &error);
    if (allocation_failed) {
        json_decref(document);
        return reason_set(why, STATUS_NO_MEMORY, NULL, "needs more memory than there is");
    }
    if (!document)
        return reason_set(why, STATUS_INVALID, NULL, "line %d, column %d: %s", error.line,
                          error.column, error.text);
    *out = (struct json *)(void *)document;
    return STATUS_OK;
}

enum status json_parse_file(const char *path, size_t bytes_max, struct json **out,
                            struct reason *why)
{
    assert(path);
    assert(out);

    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    struct buffer text = {0};
    enum status status = bytes_read_file(path, bytes_max, &text);
    if (status == STATUS_NOT_FOUND)
        return reason_set(why, status, name, "there is no file %s", path);
    if (status == STATUS_INVALID)
        return reason_set(why, status, name, "%s is larger than the %zu bytes allowed", path,
                          bytes_max);
    if (status != STATUS_OK)
        return reason_set(why, status, name, "%s cannot be read: %s", path, SYSTEM_TROUBLE(status));

    struct reason inside = {0};
    status = json_parse(text.data, text.count, out, &inside);
    buffer_deinit(&text);
    if (status != STATUS_OK)
        return reason_set(why, status, name, "%s: %s", path, inside.text);
    return STATUS_OK;
}

void json_destroy(struct json **document)
{
    assert(document);

    json_decref(inner(*document)); // NULL is allowed
    *document = NULL;
}

bool json_is_object(const struct json *value)
{
    return value && json_typeof(inner(value)) == JSON_OBJECT;
}

bool json_is_array(const struct json *value)
{
    return value && json_typeof(inner(value)) == JSON_ARRAY;
}

bool json_is_text(const struct json *value)
{
    return value && json_typeof(inner(value)) == JSON_STRING;
}

bool json_is_number(const struct json *value)
{
    return json_is_integer(inner(value)) || json_is_real(inner(value));
}

bool json_is_bool(const struct json *value)
{
    return json_is_boolean(inner(value));
}

bool json_is_null(const struct json *value)
{
    return value && json_typeof(inner(value)) == JSON_NULL;
}

const struct json *json_member(const struct json *object, const char *name)
{
    assert(name);

    return outer(json_object_get(inner(object), name));
}

size_t json_count(const struct json *array_or_object)
{
    return json_is_array(array_or_object) ? json_array_size(inner(array_or_object))
                                          : json_object_size(inner(array_or_object));
}

const struct json *json_element(const struct json *array, size_t index)
{
    return outer(json_array_get(inner(array), index));
}

bool json_next(const struct json *object, void **iterator, const char **name,
               const struct json **value)
{
    assert(iterator);

    json_t *all = inner(object);
    *iterator = *iterator ? json_object_iter_next(all, *iterator) : json_object_iter(all);
    if (!*iterator)
        return false;
    if (name)
        *name = json_object_iter_key(*iterator);
    if (value)
        *value = outer(json_object_iter_value(*iterator));
    return true;
}

struct text json_text(const struct json *value)
{
    if (!json_is_text(value))
        return (struct text){NULL, 0};
    return (struct text){json_string_value(inner(value)), json_string_length(inner(value))};
}

bool json_int(const struct json *value, int64_t *out)
{
    assert(out);

    if (!json_is_integer(inner(value)))
        return false;
    *out = json_integer_value(inner(value));
    return true;
}

bool json_double(const struct json *value, double *out)
{
    assert(out);

    if (!json_is_number(value))
        return false;
    *out = json_number_value(inner(value));
    return true;
}

bool json_bool(const struct json *value, bool fallback)
{
    return json_is_bool(value) ? json_is_true(inner(value)) : fallback;
}
