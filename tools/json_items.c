// SPDX-License-Identifier: Apache-2.0
// Brackets are counted and texts passed over; nothing else is looked at.

#include "tools/json_items.h"

#include <assert.h>
#include <stdbool.h>

static bool is_at(const struct json_items *items, char c)
{
    return items->at < items->document.bytes && items->document.data[items->at] == c;
}

static void skip_space(struct json_items *items)
{
    while (is_at(items, ' ') || is_at(items, '\t') || is_at(items, '\n') || is_at(items, '\r'))
        items->at++;
}

// From one quote behind the other; false at the end of the document.
static bool skip_text(struct json_items *items)
{
    items->at++;
    while (items->at < items->document.bytes) {
        const char c = items->document.data[items->at++];
        if (c == '"')
            return true;
        items->at += c == '\\';
    }
    return false;
}

// Behind a value of any kind; false when it is empty or does not end.
static bool skip_value(struct json_items *items)
{
    const size_t begin = items->at;
    size_t depth = 0;
    while (items->at < items->document.bytes) {
        const char c = items->document.data[items->at];
        const bool is_close = c == '}' || c == ']';
        if (depth == 0 && (is_close || c == ',' || c == ' ' || c == '\n' || c == '\r' || c == '\t'))
            return items->at > begin;
        if (c == '"') {
            if (!skip_text(items))
                return false;
        } else {
            depth += c == '{' || c == '[';
            depth -= is_close;
            items->at++;
        }
        if (depth == 0 && (is_close || c == '"'))
            return true;
    }
    return false;
}

static enum status broken(const struct json_items *items, const char *what, struct reason *why)
{
    return reason_set(why, STATUS_INVALID, NULL, "broken JSON at byte %zu: %s", items->at, what);
}

// Goes behind "NAME": of the next member; *is_it tells whether it is the one.
static enum status read_name(struct json_items *items, const char *name, bool *is_it,
                             struct reason *why)
{
    skip_space(items);
    const size_t begin = items->at + 1;
    if (!is_at(items, '"') || !skip_text(items))
        return broken(items, "the name of a member is expected", why);
    const struct text found = {items->document.data + begin, items->at - 1 - begin};
    *is_it = text_equal(found, text_of(name));
    skip_space(items);
    if (!is_at(items, ':'))
        return broken(items, "':' is expected", why);
    items->at++;
    skip_space(items);
    return STATUS_OK;
}

enum status json_items_begin(struct json_items *items, struct text document, const char *name,
                             struct reason *why)
{
    assert(items && name);

    *items = (struct json_items){
        .document = document,
        .at = bytes_utf8_mark(document.data, document.bytes),
    };
    skip_space(items);
    if (!is_at(items, '{'))
        return broken(items, "an object is expected", why);
    for (;;) {
        bool is_it = false;
        items->at++;
        const enum status status = read_name(items, name, &is_it, why);
        if (status)
            return status;
        if (is_it)
            break;
        if (!skip_value(items))
            return broken(items, "a value does not end", why);
        skip_space(items);
        if (!is_at(items, ','))
            return reason_set(why, STATUS_INVALID, NULL, "has no member \"%s\"", name);
    }
    if (!is_at(items, '['))
        return reason_set(why, STATUS_INVALID, NULL, "\"%s\" is no array", name);
    items->at++;
    return STATUS_OK;
}

enum status json_items_next(struct json_items *items, struct text *out, struct reason *why)
{
    assert(items && out);

    *out = (struct text){NULL, 0};
    skip_space(items);
    if (is_at(items, ']')) // and stays there
        return STATUS_OK;
    if (items->count) {
        if (!is_at(items, ','))
            return broken(items, "',' or ']' is expected", why);
        items->at++;
        skip_space(items);
    }
    const size_t begin = items->at;
    if (!skip_value(items))
        return broken(items, "an element does not end", why);
    if (items->at - begin > JSON_ITEMS_BYTES_MAX)
        return reason_set(why, STATUS_INVALID, NULL,
                          "element %zu has %zu bytes: at most %zu are allowed", items->count,
                          items->at - begin, JSON_ITEMS_BYTES_MAX);
    *out = (struct text){items->document.data + begin, items->at - begin};
    items->count++;
    return STATUS_OK;
}
