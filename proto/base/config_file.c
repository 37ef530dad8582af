// SPDX-License-Identifier: Apache-2.0
// config_file.c - INI through libinih, and what libinih lets pass.
//
// Debian's libinih 55 is built for lines of 200 bytes and does not tell the handler its line. It
// is fed line by line, so the line is known here; and every line is looked at before, for what it
// would misread without a word: a line longer than its buffer (cut in two), a NUL (the rest is
// lost), text behind [section] (lost), a line that begins with blanks (taken for more of the value
// before). A name that is too long is cut by it, and then unknown. The rest of its grammar holds:
// '=' or ':' between key and value, '#' and ';' begin a comment, and so does a ';' behind a blank.

#include <assert.h>
#include <ini.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/config.h"
#include "proto/base/config_internal.h"
#include "proto/base/mem.h"
#include "proto/base/system_error.h"
#include "proto/base/words.h"

#define BLANKS " \t\r\n\v\f"
#define PLACE_BYTES 256
#define PATH_BYTES_SHOWN 200

struct reading {
    struct config *config;
    const char *name; // of the file, as errors show it
    bool shared;
    const char *at; // of the text that is left
    const char *end;
    int line;    // that libinih has now; 1 is the first
    bool failed; // `why` is set
    struct reason *why;
};

static void place_of(const struct reading *reading, char out[PLACE_BYTES])
{
    size_t bytes = strlen(reading->name);
    const char *shown =
        bytes > PATH_BYTES_SHOWN ? reading->name + bytes - PATH_BYTES_SHOWN : reading->name;
    (void)snprintf(out, PLACE_BYTES, "%s%s:%d", shown == reading->name ? "" : "...", shown,
                   reading->line);
    for (char *at = out; *at; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            *at = '?';
}

static void fail(struct reading *reading, const char *text)
{
    char place[PLACE_BYTES];
    place_of(reading, place);
    reading->failed = true;
    (void)reason_set(reading->why, STATUS_INVALID, NULL, "%s: %s", place, text);
}

// Refuses what libinih would misread. `line` has no newline.
static bool check_line(struct reading *reading, const char *line, size_t bytes)
{
    if (bytes > CONFIG_LINE_BYTES_MAX) {
        char text[96];
        (void)snprintf(text, sizeof(text), "the line has %zu bytes; at most %d are allowed", bytes,
                       CONFIG_LINE_BYTES_MAX);
        fail(reading, text);
    } else if (memchr(line, 0, bytes)) {
        fail(reading, "the line holds a NUL");
    } else if (!bytes_is_utf8(line, bytes)) {
        fail(reading, "the line is not UTF-8");
    } else if (bytes > 0 && line[0] == '[') {
        const char *close = memchr(line, ']', bytes);
        size_t behind = close ? (size_t)(close + 1 - line) : bytes;
        while (behind < bytes && strchr(BLANKS, line[behind]))
            behind++;
        if (behind < bytes && line[behind] != ';' && line[behind] != '#')
            fail(reading, "text behind [section]; a key stands on a line of its own");
    }
    return !reading->failed;
}

// libinih's source of lines.
static char *next_line(char *out, int room, void *stream)
{
    struct reading *reading = stream;
    if (reading->failed || reading->at == reading->end)
        return NULL;
    const char *line = reading->at;
    size_t left = (size_t)(reading->end - line);
    const char *newline = memchr(line, '\n', left);
    size_t bytes = newline ? (size_t)(newline - line) : left;
    reading->at = newline ? newline + 1 : reading->end;
    reading->line++;
    const size_t mark = reading->line == 1 ? bytes_utf8_mark(line, bytes) : 0;
    line += mark;
    bytes -= mark;
    while (bytes > 0 && strchr(BLANKS, line[0]) && line[0] != '\0') {
        line++;
        bytes--;
    }
    if (bytes > 0 && (line[0] == '#' || line[0] == ';'))
        bytes = 1; // a comment may hold anything
    if (!check_line(reading, line, bytes))
        return NULL;
    if (bytes + 2 > (size_t)room) { // a libinih that was built for shorter lines
        fail(reading, "the line is longer than this libinih takes");
        return NULL;
    }
    memcpy(out, line, bytes);
    out[bytes] = '\n';
    out[bytes + 1] = '\0';
    return out;
}

// Names of the table's sections or, with `section`, of that section's keys.
static size_t list_names(const struct config_table *table, const char *section,
                         const char *names[CONFIG_KEYS_MAX])
{
    size_t count = 0;
    for (size_t i = 0; i < table->key_count; i++)
        if (!section)
            names[count++] = table->keys[i].section;
        else if (strcmp(table->keys[i].section, section) == 0)
            names[count++] = table->keys[i].name;
    return count;
}

static void unknown_key(struct reading *reading, const char *section, const char *name)
{
    const struct config_table *table = reading->config->table;
    const char *names[CONFIG_KEYS_MAX];
    char text[REASON_TEXT_BYTES];
    size_t count = list_names(table, section, names);
    bool is_section = count == 0;
    for (const struct config_table *const *member = table->family; *member; member++)
        if (config_find(*member, section, name) < (*member)->key_count) {
            (void)snprintf(text, sizeof(text), "[%s] %s is a key of %s, not of %s", section, name,
                           (*member)->program, table->program);
            fail(reading, text);
            return;
        }
    if (is_section)
        count = list_names(table, NULL, names);
    const char *nearest = words_nearest(is_section ? section : name, names, count);
    size_t used = (size_t)snprintf(text, sizeof(text),
                                   is_section ? "unknown section [%s]" : "unknown key '%s' of [%s]",
                                   is_section ? section : name, section);
    if (section[0] == '\0')
        used = (size_t)snprintf(text, sizeof(text), "'%s' stands before any [section]", name);
    if (nearest)
        (void)snprintf(text + used, sizeof(text) - used, "; did you mean %s?", nearest);
    else
        (void)snprintf(text + used, sizeof(text) - used, "; `reco config %s` lists all of them",
                       table->program);
    fail(reading, text);
}

static bool is_of_another(const struct reading *reading, const char *section, const char *name)
{
    const struct config_table *table = reading->config->table;
    for (const struct config_table *const *member = table->family; *member; member++)
        if (config_find(*member, section, name) < (*member)->key_count)
            return true;
    return false;
}

// libinih's handler of one key; 0 is an error.
static int on_key(void *user, const char *section, const char *name, const char *value)
{
    struct reading *reading = user;
    char place[PLACE_BYTES];
    if (reading->failed)
        return 0;
    size_t index = config_find(reading->config->table, section, name);
    if (index == reading->config->table->key_count) {
        if (reading->shared && is_of_another(reading, section, name))
            return 1;
        unknown_key(reading, section, name);
        return 0;
    }
    place_of(reading, place);
    const struct config_place at = {CONFIG_FILE, place};
    if (config_put(reading->config, index, &at, value, reading->why) != STATUS_OK)
        reading->failed = true;
    return !reading->failed;
}

enum status config_read_text(struct config *config, const char *name, struct bytes text,
                             bool shared, struct reason *why)
{
    assert(config && name);

    struct reason mine = {.text = ""};
    const char *begin = text.data ? (const char *)text.data : "";
    struct reading reading = {.config = config,
                              .name = name,
                              .shared = shared,
                              .at = begin,
                              .end = begin + text.count,
                              .why = &mine};
    int wrong = ini_parse_stream(next_line, &reading, on_key, &reading);
    if (wrong > 0 && (!reading.failed || wrong < reading.line)) {
        // A line that libinih itself refused, and went on behind.
        reading.line = wrong;
        fail(&reading, "neither [section] nor key = value");
    }
    if (!reading.failed && wrong == 0)
        return STATUS_OK;
    if (why)
        *why = mine;
    return reading.failed ? STATUS_INVALID
                          : reason_set(why, STATUS_NO_MEMORY, NULL, "%s: no memory", name);
}

enum status config_read_file(struct config *config, const char *path, bool shared,
                             struct reason *why)
{
    assert(config && path);

    struct buffer text = {0};
    enum status status = bytes_read_file(path, CONFIG_FILE_BYTES_MAX, &text);
    if (status == STATUS_INVALID)
        return reason_set(why, status, "--config", "%.200s has more than %u bytes", path,
                          CONFIG_FILE_BYTES_MAX);
    if (status != STATUS_OK)
        return reason_set(why, STATUS_INVALID, "--config", "%.200s cannot be read: %s", path,
                          SYSTEM_TROUBLE(status));
    status = config_read_text(config, path, (struct bytes){text.data, text.count}, shared, why);
    mem_free(text.data);
    return status;
}
