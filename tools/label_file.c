// SPDX-License-Identifier: Apache-2.0
// Texts point into one copy of the file.

#include "tools/label_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/limits.h"
#include "proto/base/mem.h"
#include "tools/inputs.h"

static struct text trimmed(const char *begin, const char *end)
{
    while (begin < end && (*begin == ' ' || *begin == '\r'))
        begin++;
    while (end > begin && (end[-1] == ' ' || end[-1] == '\r'))
        end--;
    return (struct text){begin, (size_t)(end - begin)};
}

static enum status add_name(struct label_file *file, struct text name, size_t line,
                            struct reason *why)
{
    if (name.bytes > LABEL_BYTES_MAX)
        return reason_set(why, STATUS_INVALID, NULL,
                          "line %zu: a name of %zu bytes: at most %d are allowed", line, name.bytes,
                          LABEL_BYTES_MAX);
    if (!bytes_is_utf8(name.data, name.bytes))
        return reason_set(why, STATUS_INVALID, NULL, "line %zu: not UTF-8", line);
    if (file->name_count == LABELS_MAX)
        return reason_set(why, STATUS_INVALID, NULL,
                          "line %zu: more than the %d names that are allowed", line, LABELS_MAX);
    file->names[file->name_count] = name;
    file->label_of[file->name_count++] = (uint32_t)(file->label_count - 1);
    return STATUS_OK;
}

// Takes one line, tabs between names; empty columns are passed over.
static enum status take_line(struct label_file *file, const char *begin, const char *end,
                             size_t line, struct reason *why)
{
    size_t names = 0;
    if (begin < end && *begin == '#')
        return STATUS_OK;
    for (const char *at = begin; at <= end;) {
        const char *tab = memchr(at, '\t', (size_t)(end - at));
        const char *stop = tab ? tab : end;
        struct text name = trimmed(at, stop);
        at = stop + 1;
        if (!name.bytes)
            continue;
        if (names == 0)
            file->labels[file->label_count++] = name;
        if (++names > LABEL_FILE_NAMES_PER_LABEL_MAX)
            return reason_set(why, STATUS_INVALID, NULL, "line %zu: at most %d names are allowed",
                              line, LABEL_FILE_NAMES_PER_LABEL_MAX);
        enum status status = add_name(file, name, line, why);
        if (status)
            return status;
    }
    file->aliases_max = names > file->aliases_max ? names : file->aliases_max;
    return STATUS_OK;
}

static enum status take_plain_line(struct label_file *file, const char *begin, const char *end,
                                   size_t line, struct reason *why)
{
    const struct text name = trimmed(begin, end);
    if (!name.bytes)
        return STATUS_OK;
    if (line != file->label_count + 1)
        return reason_set(why, STATUS_INVALID, NULL,
                          "line %zu: an empty line before it: each line is the label of its number",
                          line);
    file->labels[file->label_count++] = name;
    file->aliases_max = 1;
    return add_name(file, name, line, why);
}

// A name that two labels share could speak for neither.
static enum status check_unique(const struct label_file *file, struct reason *why)
{
    struct text *sorted = mem_alloc_array(file->name_count, sizeof(*sorted));
    for (size_t i = 0; i < file->name_count; i++)
        sorted[i] = file->names[i];
    qsort(sorted, file->name_count, sizeof(*sorted), text_compare);

    enum status status = STATUS_OK;
    for (size_t i = 1; i < file->name_count && !status; i++)
        if (text_equal(sorted[i - 1], sorted[i]))
            status =
                reason_set(why, STATUS_INVALID, NULL, "the name '%.*s' comes twice",
                           (int)(sorted[i].bytes < 100 ? sorted[i].bytes : 100), sorted[i].data);
    mem_free(sorted);
    return status;
}

static enum status parse_lines(struct label_file *file, size_t bytes, bool plain,
                               struct reason *why)
{
    const char *end = file->data + bytes;
    const char *at = file->data + bytes_utf8_mark(file->data, bytes);

    for (size_t line = 1; at < end; line++) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *stop = newline ? newline : end;
        enum status status = plain ? take_plain_line(file, at, stop, line, why)
                                   : take_line(file, at, stop, line, why);
        if (status)
            return status;
        at = stop + 1;
    }
    if (!file->label_count)
        return reason_set(why, STATUS_INVALID, NULL, "has no label");
    return plain ? STATUS_OK : check_unique(file, why);
}

static enum status parse(struct bytes data, bool plain, struct label_file *out, struct reason *why)
{
    struct label_file file = {.name_count = 0};
    file.data = mem_try_alloc(data.count + 1);
    if (!file.data)
        return reason_set(why, STATUS_NO_MEMORY, NULL, "%s", status_text(STATUS_NO_MEMORY));
    if (data.count)
        memcpy(file.data, data.data, data.count);
    file.data[data.count] = 0;
    // One more label than names fit: the name's check comes after it.
    file.names = mem_alloc_array(LABELS_MAX, sizeof(file.names[0]));
    file.label_of = mem_alloc_array(LABELS_MAX, sizeof(file.label_of[0]));
    file.labels = mem_alloc_array(LABELS_MAX + 1, sizeof(file.labels[0]));

    enum status status = parse_lines(&file, data.count, plain, why);
    if (status)
        label_file_deinit(&file);
    else
        *out = file;
    return status;
}

enum status label_file_parse(struct bytes data, struct label_file *out, struct reason *why)
{
    return parse(data, false, out, why);
}

enum status label_file_parse_plain(struct bytes data, struct label_file *out, struct reason *why)
{
    return parse(data, true, out, why);
}

static enum status read_file(const char *path, bool plain, struct label_file *out,
                             struct reason *why)
{
    struct buffer data = {0};
    if (strcmp(path, "-") == 0)
        path = "/dev/stdin";
    enum status status = inputs_read_file(path, LABEL_FILE_BYTES_MAX, &data, why);
    if (!status)
        status = parse((struct bytes){data.data, data.count}, plain, out, why);
    buffer_deinit(&data);
    return status;
}

enum status label_file_read(const char *path, struct label_file *out, struct reason *why)
{
    return read_file(path, false, out, why);
}

enum status label_file_read_plain(const char *path, struct label_file *out, struct reason *why)
{
    return read_file(path, true, out, why);
}

void label_file_deinit(struct label_file *file)
{
    mem_free(file->names);
    mem_free(file->label_of);
    mem_free(file->labels);
    mem_free(file->data);
    *file = (struct label_file){0};
}

size_t label_file_rank(const struct label_file *file, const struct api_labels *names, size_t top,
                       struct text *labels, float *scores)
{
    size_t kept = 0;
    bool *taken = mem_alloc_array(file->label_count, sizeof(*taken));
    for (size_t i = 0; i < names->count && kept < top; i++) {
        // A handful of names against a list: a walk costs less than an index of it.
        size_t at = 0;
        while (at < file->name_count && !text_equal(file->names[at], names->labels[i]))
            at++;
        if (at == file->name_count || taken[file->label_of[at]])
            continue;
        taken[file->label_of[at]] = true;
        labels[kept] = file->labels[file->label_of[at]];
        scores[kept++] = names->scores[i];
    }
    mem_free(taken);
    return kept;
}
