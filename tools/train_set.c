// SPDX-License-Identifier: Apache-2.0
// The config goes through its JSON, so that names, words and limits are those of a head's file.

#include "tools/train_set.h"

#include <stdio.h>
#include <string.h>

#include "proto/base/json.h"

#define ASSIGNMENT_BYTES_MAX 200

static void put_value(struct json_writer *writer, const struct json *value)
{
    int64_t whole = 0;
    double number = 0;
    if (json_is_text(value))
        json_put_text(writer, json_text(value));
    else if (json_is_bool(value))
        json_put_bool(writer, json_bool(value, false));
    else if (json_int(value, &whole))
        json_put_int(writer, whole);
    else if (json_double(value, &number))
        json_put_float(writer, (float)number);
    else
        json_put_null(writer);
}

// A number, true or false; any other word is a text.
static void put_word(struct json_writer *writer, const char *word)
{
    struct json *value = NULL;
    struct reason ignored;
    if (json_parse(word, strlen(word), &value, &ignored))
        json_put_cstr(writer, word);
    else
        put_value(writer, value);
    json_destroy(&value);
}

// The members of `object`, `name` with another value; false when there is none of that name.
static bool put_changed(struct json_writer *writer, const struct json *object, struct text name,
                        const char *word)
{
    void *at = NULL;
    const char *member = NULL;
    const struct json *value = NULL;
    bool is_known = false;
    json_begin_object(writer);
    while (json_next(object, &at, &member, &value)) {
        const bool is_it = text_equal(text_of(member), name);
        is_known = is_known || is_it;
        json_name(writer, member);
        if (is_it)
            put_word(writer, word);
        else
            put_value(writer, value);
    }
    json_end_object(writer);
    return is_known;
}

static enum status refuse_unknown(const struct json *object, struct text name, struct reason *why)
{
    char known[256] = "";
    size_t used = 0;
    void *at = NULL;
    const char *member = NULL;
    const struct json *value = NULL;
    while (json_next(object, &at, &member, &value) && used + strlen(member) + 3 < sizeof(known))
        used +=
            (size_t)snprintf(known + used, sizeof(known) - used, "%s%s", used ? ", " : "", member);
    return reason_set(why, STATUS_INVALID, "--set", "'%.*s' is no field of a head: there are %s",
                      (int)name.bytes, name.data, known);
}

// One field of the config that `json` holds as text.
static enum status change(struct buffer *json, struct text name, const char *word,
                          struct reason *why)
{
    struct json_writer after = {.failed = false};
    struct json *object = NULL;
    enum status status = json_parse((const char *)json->data, json->count, &object, why);
    if (!status && !put_changed(&after, object, name, word))
        status = refuse_unknown(object, name, why);
    json_destroy(&object);
    if (!status && after.failed)
        status = reason_set(why, STATUS_NO_MEMORY, "--set", "no memory for the config");
    if (!status) {
        buffer_deinit(json);
        *json = after.out;
        after.out = (struct buffer){0};
    }
    json_writer_deinit(&after);
    return status;
}

static enum status set_one(struct buffer json[FUSION_HEAD_SIDES], const char *assignment,
                           struct reason *why)
{
    static const char *const sides[FUSION_HEAD_SIDES] = {"image.", "text."};
    const char *equals = strchr(assignment, '=');
    const char *name = assignment;
    if (!equals || equals == assignment || strlen(assignment) > ASSIGNMENT_BYTES_MAX)
        return reason_set(why, STATUS_INVALID, "--set",
                          "'%.100s': FIELD=VALUE, image.FIELD=VALUE or text.FIELD=VALUE is allowed",
                          assignment);
    bool is_meant[FUSION_HEAD_SIDES] = {true, true};
    for (size_t side = 0; side < FUSION_HEAD_SIDES; side++) {
        if (strncmp(assignment, sides[side], strlen(sides[side])) != 0)
            continue;
        name = assignment + strlen(sides[side]);
        is_meant[1 - side] = false;
    }
    const struct text field = {name, (size_t)(equals - name)};
    enum status status = STATUS_OK;
    for (size_t side = 0; side < FUSION_HEAD_SIDES && !status; side++)
        if (is_meant[side])
            status = change(&json[side], field, equals + 1, why);
    return status;
}

static enum status check(const struct buffer *json, struct fusion_config *out, struct reason *why)
{
    struct json *object = NULL;
    enum status status = json_parse((const char *)json->data, json->count, &object, why);
    if (!status)
        status = fusion_config_parse(object, "--set", out, why);
    json_destroy(&object);
    return status;
}

enum status train_set(struct fusion_config config[FUSION_HEAD_SIDES],
                      const char *const *assignments, size_t count, struct reason *why)
{
    struct fusion_config changed[FUSION_HEAD_SIDES] = {config[0], config[1]};
    struct buffer json[FUSION_HEAD_SIDES];
    enum status status = STATUS_OK;
    for (size_t side = 0; side < FUSION_HEAD_SIDES; side++) {
        struct json_writer writer = {.failed = false};
        fusion_config_write(&config[side], &writer);
        json[side] = writer.out;
        if (writer.failed)
            status = reason_set(why, STATUS_NO_MEMORY, "--set", "no memory for the config");
    }
    for (size_t i = 0; i < count && !status; i++)
        status = set_one(json, assignments[i], why);
    for (size_t side = 0; side < FUSION_HEAD_SIDES && !status; side++)
        status = check(&json[side], &changed[side], why);
    for (size_t side = 0; side < FUSION_HEAD_SIDES; side++) {
        buffer_deinit(&json[side]);
        if (!status)
            config[side] = changed[side];
    }
    return status;
}
