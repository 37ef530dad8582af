// SPDX-License-Identifier: Apache-2.0
// What a .txt, a .json or a line of .jsonl says about a picture.

#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/embedding.h"
#include "proto/base/json.h"
#include "proto/base/limits.h"
#include "tools/dataset_internal.h"

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

struct text dataset_trimmed(struct text text)
{
    while (text.bytes && is_space(text.data[0])) {
        text.data++;
        text.bytes--;
    }
    while (text.bytes && is_space(text.data[text.bytes - 1]))
        text.bytes--;
    return text;
}

struct bytes dataset_bytes_of(struct text text)
{
    return (struct bytes){(const uint8_t *)text.data, text.bytes};
}

enum status dataset_copy(struct arena *arena, struct text text, struct text *out,
                         struct reason *why)
{
    const char *data = arena_copy_text(arena, text.data ? text.data : "", text.bytes);
    if (!data)
        return reason_set(why, STATUS_NO_MEMORY, NULL, "%s", status_text(STATUS_NO_MEMORY));
    *out = (struct text){data, text.bytes};
    return STATUS_OK;
}

enum status dataset_take_caption(struct bytes txt, struct arena *arena,
                                 struct api_ingest_record *record, struct reason *why)
{
    const size_t mark = bytes_utf8_mark(txt.data, txt.count);
    struct text text =
        dataset_trimmed((struct text){(const char *)txt.data + mark, txt.count - mark});
    if (!bytes_is_utf8(text.data, text.bytes))
        return reason_set(why, STATUS_INVALID, "caption", "is not UTF-8");
    return dataset_copy(arena, text, &record->caption, why);
}

enum status dataset_take_member(const struct json *object, const char *const *names,
                                struct arena *arena, struct text *out, struct reason *why)
{
    for (; *names; names++) {
        const struct json *member = json_member(object, *names);
        int64_t number = 0;
        if (json_is_text(member))
            return dataset_copy(arena, json_text(member), out, why);
        if (json_int(member, &number)) {
            char digits[24];
            (void)snprintf(digits, sizeof(digits), "%lld", (long long)number);
            return dataset_copy(arena, text_of(digits), out, why);
        }
        if (member && !json_is_null(member))
            return reason_set(why, STATUS_INVALID, *names, "is not a text");
    }
    return STATUS_OK;
}

// A list of texts, or one text.
static enum status take_tags(const struct json *tags, struct arena *arena,
                             struct api_ingest_record *record, struct reason *why)
{
    if (!tags || json_is_null(tags))
        return STATUS_OK;
    if (!json_is_array(tags) && !json_is_text(tags))
        return reason_set(why, STATUS_INVALID, "tags", "is not a list of texts");

    size_t count = json_is_array(tags) ? json_count(tags) : 1;
    if (count > TAGS_MAX)
        return reason_set(why, STATUS_INVALID, "tags", "%zu: at most %d are allowed", count,
                          TAGS_MAX);
    struct text *list = arena_alloc_array(arena, count, sizeof(*list));
    if (!list)
        return reason_set(why, STATUS_NO_MEMORY, NULL, "%s", status_text(STATUS_NO_MEMORY));
    for (size_t i = 0; i < count; i++) {
        const struct json *tag = json_is_array(tags) ? json_element(tags, i) : tags;
        if (!json_is_text(tag))
            return reason_set(why, STATUS_INVALID, "tags", "is not a list of texts");
        enum status status = dataset_copy(arena, json_text(tag), &list[i], why);
        if (status)
            return status;
    }
    record->tags = list;
    record->tag_count = count;
    return STATUS_OK;
}

// img2dataset tells of a sample that it could not fetch: "status": "failed_to_download".
static enum status check_success(const struct json *object, struct reason *why)
{
    struct text status = json_text(json_member(object, "status"));
    struct text error = json_text(json_member(object, "error_message"));
    if (status.bytes < 6 || memcmp(status.data, "failed", 6) != 0)
        return STATUS_OK;
    return reason_set(why, STATUS_NOT_FOUND, "status", "is \"%.*s\"%s%.*s: there is no picture",
                      (int)(status.bytes < 64 ? status.bytes : 64), status.data,
                      error.bytes ? ", " : "", (int)(error.bytes < 200 ? error.bytes : 200),
                      error.data ? error.data : "");
}

enum status dataset_take_object(const struct json *object, const struct dataset_names *names,
                                struct arena *arena, struct api_ingest_record *record,
                                struct reason *why)
{
    if (!json_is_object(object))
        return reason_set(why, STATUS_INVALID, NULL, "its JSON is not an object");
    struct text named = {NULL, 0};
    enum status status = check_success(object, why);
    if (!status)
        status = dataset_take_member(object, names->key, arena, &named, why);
    if (!status && named.bytes)
        record->key = named;
    if (!status && !record->caption.bytes)
        status = dataset_take_member(object, names->caption, arena, &record->caption, why);
    named = (struct text){NULL, 0};
    if (!status)
        status = dataset_take_member(object, names->source, arena, &named, why);
    if (!status && named.bytes)
        record->source = named;
    record->hidden = json_bool(json_member(object, "hidden"), false);
    return status ? status : take_tags(json_member(object, names->tags[0]), arena, record, why);
}

enum status dataset_take_entity(const struct json *object, struct arena *arena,
                                struct dataset_item *item, struct reason *why)
{
    const char *const names[] = {item->entity_name, NULL};
    return dataset_take_member(object, names, arena, &item->entity, why);
}

void dataset_begin_item(struct dataset_item *item, const char *name)
{
    *item = (struct dataset_item){.name = name, .entity_name = item->entity_name};
}

enum status dataset_take_json(struct bytes json, struct arena *arena, struct dataset_item *item,
                              struct reason *why)
{
    static const struct dataset_names names = {
        .key = {"key"},
        .caption = {"caption", "text"},
        .source = {"source", "url", "image_path"},
        .tags = {"tags"},
    };
    struct json *document = NULL;
    struct reason inner = {.text = ""};
    enum status status = json_parse(json.data, json.count, &document, &inner);
    if (status)
        return reason_set(why, status, NULL, "broken JSON: %s", inner.text);
    status = dataset_take_object(document, &names, arena, &item->record, why);
    if (!status)
        status = dataset_take_entity(document, arena, item, why);
    json_destroy(&document);
    return status;
}

bool dataset_has_direction(const float *values, size_t count)
{
    size_t zeros = 0;
    while (zeros < count && values[zeros] == 0)
        zeros++;
    return zeros < count && embedding_is_finite(values, count);
}

static enum status take_embedding(const struct json *object, const char *name, uint32_t dimension,
                                  struct arena *arena, const float **out, struct reason *why)
{
    const struct json *array = json_member(object, name);
    if (!json_is_array(array))
        return reason_set(why, STATUS_INVALID, name, "%s: an array of %u numbers is needed",
                          array ? "is no array" : "is missing", dimension);
    const size_t count = json_count(array);
    if (count != dimension)
        return reason_set(why, STATUS_INVALID, name,
                          "%zu numbers: %u are allowed, as many as in the first line", count,
                          dimension);
    float *values = arena_alloc_array(arena, count, sizeof(*values));
    if (!values)
        return reason_set(why, STATUS_NO_MEMORY, name, "%s", status_text(STATUS_NO_MEMORY));
    for (size_t i = 0; i < count; i++) {
        double value = 0;
        if (!json_double(json_element(array, i), &value))
            return reason_set(why, STATUS_INVALID, name, "element %zu is not a number", i);
        if (!(fabs(value) <= (double)FLT_MAX))
            return reason_set(why, STATUS_INVALID, name,
                              "element %zu is %g: what a float can hold is allowed", i, value);
        values[i] = (float)value;
    }
    if (!dataset_has_direction(values, count))
        return reason_set(why, STATUS_INVALID, name, "is all zeros: a direction is needed");
    *out = values;
    return STATUS_OK;
}

enum status dataset_take_embeddings(const struct json *object, uint32_t dimension,
                                    struct arena *arena, struct api_ingest_record *record,
                                    struct reason *why)
{
    enum status status =
        take_embedding(object, "image_embedding", dimension, arena, &record->image_embedding, why);
    if (!status)
        status = take_embedding(object, "text_embedding", dimension, arena, &record->text_embedding,
                                why);
    record->image_count = dimension;
    record->text_count = dimension;
    return status;
}

enum status dataset_check(const struct api_ingest_record *record, bool needs_caption,
                          struct reason *why)
{
    const struct {
        const char *name;
        struct text text;
        size_t bytes_max;
    } texts[] = {
        {"key", record->key, KEY_BYTES_MAX},
        {"caption", record->caption, CAPTION_BYTES_MAX},
        {"source", record->source, SOURCE_BYTES_MAX},
    };

    if (!record->key.bytes)
        return reason_set(why, STATUS_INVALID, "key", "is empty");
    if (needs_caption && !dataset_trimmed(record->caption).bytes)
        return reason_set(why, STATUS_INVALID, "caption", "is empty");
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (texts[i].text.bytes > texts[i].bytes_max)
            return reason_set(why, STATUS_INVALID, texts[i].name,
                              "%zu bytes: at most %zu are allowed", texts[i].text.bytes,
                              texts[i].bytes_max);
        if (!bytes_is_utf8(texts[i].text.data, texts[i].text.bytes))
            return reason_set(why, STATUS_INVALID, texts[i].name, "is not UTF-8");
    }
    for (size_t i = 0; i < record->tag_count; i++) {
        if (record->tags[i].bytes > TAG_BYTES_MAX)
            return reason_set(why, STATUS_INVALID, "tags",
                              "one has %zu bytes: at most %d are allowed", record->tags[i].bytes,
                              TAG_BYTES_MAX);
        if (!bytes_is_utf8(record->tags[i].data, record->tags[i].bytes))
            return reason_set(why, STATUS_INVALID, "tags", "one is not UTF-8");
    }
    return STATUS_OK;
}

const char *dataset_format(struct arena *arena, const char *format, ...)
{
    char text[2 * DATASET_PATH_BYTES];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    return arena_copy_text(arena, text, strlen(text));
}
