// SPDX-License-Identifier: Apache-2.0
// Items come from argv or, at a "-", from stdin line by line, so that a pipe may
// be endless.

#include "tools/inputs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/limits.h"
#include "proto/base/mem.h"
#include "proto/base/system_error.h"

#define INPUTS_LINE_BYTES_MAX                                                                      \
    ((size_t)TEXT_BYTES_MAX + 2) // one more than a text may have, and a CR

void inputs_init(struct inputs *inputs, const struct args_list *list, bool skip_empty)
{
    *inputs = (struct inputs){.list = list, .skip_empty = skip_empty};
}

void inputs_deinit(struct inputs *inputs)
{
    mem_free(inputs->line);
    *inputs = (struct inputs){0};
}

// The next line of stdin; NULL at its end. Of a line too long for anything the beginning is kept,
// so that whoever takes it says that it is too long, and memory stays bounded.
static const char *next_line(struct inputs *inputs)
{
    if (!inputs->line)
        inputs->line = mem_alloc(INPUTS_LINE_BYTES_MAX + 1);
    for (;;) {
        size_t bytes = 0;
        int byte = getc(stdin);
        if (byte == EOF)
            return NULL;
        for (; byte != '\n' && byte != EOF; byte = getc(stdin))
            if (bytes < INPUTS_LINE_BYTES_MAX)
                inputs->line[bytes++] = (char)byte;
        if (bytes > 0 && inputs->line[bytes - 1] == '\r')
            bytes--;
        inputs->line[bytes] = 0;
        if (bytes > 0 || !inputs->skip_empty)
            return inputs->line;
    }
}

const char *inputs_next(struct inputs *inputs)
{
    for (;;) {
        if (inputs->in_stdin) {
            const char *line = next_line(inputs);
            if (line)
                return line;
            inputs->in_stdin = false;
        }
        if (inputs->at == inputs->list->count)
            return NULL;
        const char *item = inputs->list->items[inputs->at++];
        if (strcmp(item, "-") != 0)
            return item;
        inputs->in_stdin = true;
    }
}

enum status inputs_check_text(const char *item, struct reason *why)
{
    return bytes_is_utf8(item, strlen(item))
               ? STATUS_OK
               : reason_set(why, STATUS_INVALID, NULL, "is not UTF-8");
}

enum status inputs_read_file(const char *path, size_t bytes_max, struct buffer *out,
                             struct reason *why)
{
    enum status status = bytes_read_stream(path, bytes_max, out);
    const bool is_folder = status == STATUS_IO && errno == EISDIR;
    if (status == STATUS_OK)
        return STATUS_OK;
    if (status == STATUS_NOT_FOUND)
        return reason_set(why, status, NULL, "no such file");
    if (status == STATUS_INVALID)
        return reason_set(why, status, NULL, "larger than the %zu bytes that are allowed",
                          bytes_max);
    return reason_set(why, status, NULL, "cannot be read: %s%s", SYSTEM_TROUBLE(status),
                      is_folder ? "; name the files in it, DIR/*" : "");
}

enum status inputs_read_picture(const char *path, struct buffer *out, struct reason *why)
{
    return inputs_read_file(path, IMAGE_BYTES_MAX, out, why);
}
