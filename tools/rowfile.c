// SPDX-License-Identifier: Apache-2.0
// A row's fields lie one behind the other in one buffer; where each begins is kept as an offset
// and becomes a pointer when the row is whole. A quote that never closes would swallow the
// rest of the file: it costs at most ROWFILE_ROW_BYTES_MAX, then reading goes on at the next line.
//
//   BEGIN --quote--> QUOTED --quote--> CLOSED (another quote: back, it stands for itself)
//     |                                  |
//     +--other--> PLAIN                  +--separator or line end--> field ends

#include "tools/rowfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/mem.h"
#include "proto/base/system_error.h"

#define READ_BYTES ((size_t)65536)

enum state {
    BEGIN,
    PLAIN,
    QUOTED,
    CLOSED,
};

struct rowfile {
    FILE *file;
    enum rowfile_format format;
    bool keep_empty;
    bool failed;            // the file cannot be read on: told once
    uint64_t line;          // of the next byte, from 1
    size_t at, count_ahead; // of `ahead`: taken, read
    uint8_t ahead[READ_BYTES];
    char *data; // [ROWFILE_ROW_BYTES_MAX]
    size_t used;
    uint32_t begins[ROWFILE_FIELDS_MAX];
    struct text fields[ROWFILE_FIELDS_MAX];
    size_t count;
};

static enum status open_path(const char *path, FILE **out, struct reason *why)
{
    // Without O_NONBLOCK a pipe of that name would wait for its writer.
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0)
        return reason_set(why, errno == ENOENT ? STATUS_NOT_FOUND : STATUS_IO, path,
                          "cannot be opened: %s", SYSTEM_ERROR(errno));
    struct stat about;
    if (fstat(file, &about) != 0 || !S_ISREG(about.st_mode)) {
        (void)close(file);
        return reason_set(why, STATUS_INVALID, path, "is not a regular file; a pipe goes to stdin");
    }
    *out = fdopen(file, "r");
    if (!*out) {
        (void)close(file);
        return reason_set(why, STATUS_NO_MEMORY, path, "%s", status_text(STATUS_NO_MEMORY));
    }
    return STATUS_OK;
}

static void fill(struct rowfile *file)
{
    file->at = 0;
    file->count_ahead = fread(file->ahead, 1, sizeof(file->ahead), file->file);
}

static void skip_mark(struct rowfile *file)
{
    fill(file);
    file->at = bytes_utf8_mark(file->ahead, file->count_ahead);
}

enum status rowfile_open(const char *path, enum rowfile_format format, struct rowfile **out,
                         struct reason *why)
{
    FILE *opened = stdin;
    if (strcmp(path, "-") != 0) {
        enum status status = open_path(path, &opened, why);
        if (status)
            return status;
    }
    struct rowfile *file = mem_alloc(sizeof(*file));
    file->file = opened;
    file->format = format;
    file->line = 1;
    file->data = mem_alloc(ROWFILE_ROW_BYTES_MAX);
    skip_mark(file);
    *out = file;
    return STATUS_OK;
}

void rowfile_close(struct rowfile **file)
{
    if (!*file)
        return;
    if ((*file)->file != stdin)
        (void)fclose((*file)->file);
    mem_free((*file)->data);
    mem_free(*file);
    *file = NULL;
}

void rowfile_keep_empty(struct rowfile *file)
{
    file->keep_empty = true;
}

// --- one row

static int next_byte(struct rowfile *file)
{
    if (file->at == file->count_ahead)
        fill(file);
    int byte = file->at < file->count_ahead ? file->ahead[file->at++] : EOF;
    file->line += byte == '\n';
    return byte;
}

static void skip_line(struct rowfile *file)
{
    int byte = 0;
    while (byte != '\n' && byte != EOF)
        byte = next_byte(file);
}

// Appends a byte to the row; false when there is no room.
static bool put(struct rowfile *file, int byte)
{
    if (file->used == ROWFILE_ROW_BYTES_MAX)
        return false;
    file->data[file->used++] = (char)byte;
    return true;
}

static bool begin_field(struct rowfile *file)
{
    if (file->count == ROWFILE_FIELDS_MAX)
        return false;
    file->begins[file->count++] = (uint32_t)file->used;
    return true;
}

static void end_row(struct rowfile *file)
{
    for (size_t i = 0; i < file->count; i++) {
        size_t end = i + 1 < file->count ? file->begins[i + 1] : file->used;
        file->fields[i] = (struct text){file->data + file->begins[i], end - file->begins[i]};
    }
}

// Takes off the CR that stood before a line's end; never one that was quoted.
static void cut_return(struct rowfile *file)
{
    if (file->used > file->begins[file->count - 1] && file->data[file->used - 1] == '\r')
        file->used--;
}

static enum status too_long(struct rowfile *file, bool at_line_end, struct reason *why)
{
    if (!at_line_end)
        skip_line(file);
    return reason_set(why, STATUS_INVALID, NULL,
                      "a row of more than %zu bytes or %d columns is passed over up to line %llu; "
                      "is a quote not closed?",
                      ROWFILE_ROW_BYTES_MAX, ROWFILE_FIELDS_MAX,
                      (unsigned long long)file->line - 1);
}

static enum status bad_quote(struct rowfile *file, int byte, struct reason *why)
{
    if (byte != EOF)
        skip_line(file);
    return reason_set(why, STATUS_INVALID, NULL, "column %zu: %s", file->count,
                      byte == EOF ? "a quote is not closed before the end of the file"
                                  : "text behind a closing quote; a quote inside is doubled");
}

static enum status read_jsonl(struct rowfile *file, int byte, struct reason *why)
{
    (void)begin_field(file);
    for (; byte != '\n' && byte != EOF; byte = next_byte(file))
        if (!put(file, byte))
            return too_long(file, false, why);
    cut_return(file);
    return STATUS_OK;
}

// Whether the byte behind a closing quote, or anywhere outside quotes, ends the field.
static bool ends_field(const struct rowfile *file, int byte)
{
    return byte == (file->format == ROWFILE_TSV ? '\t' : ',') || byte == '\n' || byte == EOF;
}

// The state after `byte` within a field; STATUS_INVALID when it may not stand there.
static enum status take_byte(struct rowfile *file, int byte, enum state *state, struct reason *why)
{
    if (*state == BEGIN && byte == '"') {
        *state = QUOTED;
        return STATUS_OK;
    }
    if (*state == QUOTED && byte == '"') {
        *state = CLOSED;
        return STATUS_OK;
    }
    if (*state == CLOSED && byte == '\r')
        return STATUS_OK; // of the line's end
    if (*state == CLOSED && byte != '"')
        return bad_quote(file, byte, why);
    *state = *state == CLOSED ? QUOTED : *state == BEGIN ? PLAIN : *state;
    return put(file, byte) ? STATUS_OK : too_long(file, byte == '\n', why);
}

static enum status read_fields(struct rowfile *file, int byte, struct reason *why)
{
    enum state state = BEGIN;
    (void)begin_field(file);
    for (;; byte = next_byte(file)) {
        if (state == QUOTED && byte == EOF)
            return bad_quote(file, byte, why);
        if (state == QUOTED || !ends_field(file, byte)) {
            enum status status = take_byte(file, byte, &state, why);
            if (status)
                return status;
            continue;
        }
        if (byte == '\n' || byte == EOF) {
            if (state == PLAIN)
                cut_return(file);
            return STATUS_OK;
        }
        if (!begin_field(file))
            return too_long(file, false, why);
        state = BEGIN;
    }
}

// The first byte of a row that is not empty; EOF at the end.
static int find_row(struct rowfile *file)
{
    int byte = next_byte(file);
    while (!file->keep_empty && (byte == '\n' || byte == '\r'))
        byte = next_byte(file);
    return byte;
}

enum rowfile_step rowfile_next(struct rowfile *file, struct rowfile_row *out, struct reason *why)
{
    file->used = 0;
    file->count = 0;
    int byte = find_row(file);
    *out = (struct rowfile_row){.line = file->line - (byte == '\n')};
    if (byte == EOF && ferror(file->file) && !file->failed) {
        file->failed = true;
        (void)reason_set(why, STATUS_IO, NULL, "cannot be read: %s", SYSTEM_ERROR(errno));
        return ROWFILE_BAD;
    }
    if (byte == EOF)
        return ROWFILE_END;

    enum status status =
        file->format == ROWFILE_JSONL ? read_jsonl(file, byte, why) : read_fields(file, byte, why);
    if (status)
        return ROWFILE_BAD;
    end_row(file);
    out->fields = file->fields;
    out->count = file->count;
    return ROWFILE_ROW;
}
