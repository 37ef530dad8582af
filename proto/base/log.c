// SPDX-License-Identifier: Apache-2.0
// log.c - logfmt lines on stderr.
//
// A line is put together on the stack and written by one write(), so that the
// lines of threads and processes that share the terminal do not mix. A control
// character that got in unquoted becomes '?': one event stays one line.

#include "proto/base/log.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/bytes.h"
#include "proto/base/clock.h"
#include "proto/base/trace.h"

#define LOG_LINE_BYTES 4096 // a longer line is cut

static const char *const level_names[] = {
    [LOG_ERROR] = "error", [LOG_WARN] = "warn", [LOG_INFO] = "info", [LOG_DEBUG] = "debug"};
#define LEVEL_COUNT (sizeof(level_names) / sizeof(level_names[0]))

// Read at every line; no other memory hangs on it, so relaxed order will do.
static atomic_int level_now = LOG_INFO;

void log_set_level(enum log_level level)
{
    assert((size_t)level < LEVEL_COUNT);

    atomic_store_explicit(&level_now, (int)level, memory_order_relaxed);
}

bool log_takes(enum log_level level)
{
    return (int)level <= atomic_load_explicit(&level_now, memory_order_relaxed);
}

enum status log_level_parse(const char *text, enum log_level *level)
{
    assert(level);

    if (!text)
        return STATUS_INVALID;
    for (size_t i = 0; i < LEVEL_COUNT; i++) {
        if (strcmp(text, level_names[i]) == 0) {
            *level = (enum log_level)i;
            return STATUS_OK;
        }
    }
    return STATUS_INVALID;
}

// The count of bytes to keep of `count`: a sequence that the line's end cut goes.
static size_t whole_characters(const char *line, size_t count)
{
    for (size_t back = 1; back <= 3 && back <= count; back++) {
        if (bytes_utf8_is_cut(line + count - back, back))
            return count - back;
    }
    return count;
}

static void write_line(const char *line, size_t count)
{
    while (count > 0) {
        ssize_t written = write(STDERR_FILENO, line, count);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return; // nowhere left to complain to
        line += written;
        count -= (size_t)written;
    }
}

// The words of the request that this thread follows, behind a space; their length.
static size_t request_words(char words[TRACE_WORDS_BYTES + 1])
{
    const struct trace *trace = trace_followed();
    words[0] = ' ';
    if (!trace || trace_words(trace, words + 1)[0] == '\0')
        return 0;
    return strlen(words);
}

static void clean(char *line, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        unsigned char c = (unsigned char)line[i];
        bool is_c1 = c == 0xc2 && i + 1 < count && (unsigned char)line[i + 1] < 0xa0;
        if (is_c1)
            line[i++] = '?';
        if (c < 0x20 || c == 0x7f || is_c1)
            line[i] = '?';
    }
}

void log_line(enum log_level level, const char *event, const char *format, ...)
{
    assert((size_t)level < LEVEL_COUNT);
    assert(event);
    assert(format);

    if (!log_takes(level))
        return;

    int saved_errno = errno;
    char line[LOG_LINE_BYTES + 1]; // and the newline
    char now[CLOCK_TEXT_BYTES];
    char words[TRACE_WORDS_BYTES + 1];
    const size_t words_bytes = request_words(words);
    const size_t room = LOG_LINE_BYTES - words_bytes;
    clock_utc_text(now);
    int head =
        snprintf(line, room, "%s %s %s%s", now, level_names[level], event, format[0] ? " " : "");
    size_t count = head < 0 ? 0 : (size_t)head;
    if (count < room) {
        va_list arguments;
        va_start(arguments, format);
        int rest = vsnprintf(line + count, room - count, format, arguments);
        va_end(arguments);
        count += rest < 0 ? 0 : (size_t)rest;
    }
    if (count >= room)
        count = whole_characters(line, room - 1);
    memcpy(line + count, words, words_bytes);
    count += words_bytes;
    clean(line, count);
    line[count] = '\n';
    write_line(line, count + 1);
    errno = saved_errno;
}

// The letter behind the backslash for a character that has a short form, or 0.
static char short_form(unsigned char c)
{
    switch (c) {
    case '"':
        return '"';
    case '\\':
        return '\\';
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

// Writes the form that the `step` bytes at `at` take inside quotes (step 0: an
// ill-formed byte) and returns its length, at most 6.
static size_t quote_one(const unsigned char *at, size_t step, char form[8])
{
    unsigned control = at[0];
    if (step == 2 && at[0] == 0xc2 && at[1] < 0xa0)
        control = at[1]; // a C1 character, which a terminal may obey
    else if (step != 1)
        control = ' ';

    char letter = short_form(at[0]);
    if (step == 0) {
        memcpy(form, "\xef\xbf\xbd", 4); // U+FFFD
    } else if (letter) {
        form[0] = '\\';
        form[1] = letter;
        form[2] = '\0';
    } else if (control < 0x20 || (control >= 0x7f && control < 0xa0)) {
        (void)snprintf(form, 8, "\\u%04x", control & 0xffu);
    } else {
        memcpy(form, at, step);
        form[step] = '\0';
    }
    return strlen(form);
}

// The room is for the opening quote, the text, "..." when it was cut, the
// closing quote and the NUL.
const char *log_quote(const char *text, char target[LOG_QUOTE_BYTES])
{
    assert(target);

    const unsigned char *at = (const unsigned char *)(text ? text : "");
    size_t left = strlen((const char *)at);
    size_t count = 0;
    target[count++] = '"';
    size_t keep = count; // up to here "..." still fits behind
    bool cut = false;
    while (left > 0 && !cut) {
        char form[8];
        size_t step = bytes_utf8_step(at, left);
        size_t length = quote_one(at, step, form);
        size_t taken = step == 0 ? 1 : step;
        cut = count + length + 2 > LOG_QUOTE_BYTES;
        if (!cut) {
            memcpy(target + count, form, length);
            count += length;
            at += taken;
            left -= taken;
            if (count + 3 + 2 <= LOG_QUOTE_BYTES)
                keep = count;
        }
    }
    if (cut) {
        memcpy(target + keep, "...", 3);
        count = keep + 3;
    }
    target[count] = '"';
    target[count + 1] = '\0';
    return target;
}
