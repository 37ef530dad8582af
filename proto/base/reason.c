// SPDX-License-Identifier: Apache-2.0
// reason.c - formats reasons so that they are safe to show anywhere.
//
// A reason often quotes what a stranger sent and then travels in a protobuf
// string, a log line and a terminal. So what is not well-formed UTF-8 and every
// control character, C1 included, becomes '?'.

#include "proto/base/reason.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/bytes.h"

// Cleans `text` in place. A sequence that the buffer's end cut in two goes.
static void clean(char *text, bool was_cut)
{
    size_t count = strlen(text);
    size_t from = 0;
    size_t to = 0;
    while (from < count) {
        size_t step = bytes_utf8_step(text + from, count - from);
        if (step == 0 && was_cut && bytes_utf8_is_cut(text + from, count - from))
            break;

        const unsigned char *at = (const unsigned char *)text + from;
        bool is_control = at[0] < 0x20 || at[0] == 0x7f || (at[0] == 0xc2 && at[1] < 0xa0);
        if (step == 0 || is_control) {
            text[to++] = '?';
            from += step == 0 ? 1 : step;
            continue;
        }
        memmove(text + to, text + from, step);
        to += step;
        from += step;
    }
    text[to] = '\0';
}

// Of what is too long (a path) the end is kept.
static void set_field(struct reason *why, const char *field)
{
    const size_t count = strlen(field);
    const char *mark = "";
    if (count >= sizeof(why->field)) {
        mark = "...";
        field += count + strlen(mark) + 1 - sizeof(why->field);
        while ((*field & 0xc0) == 0x80) // the rest of a character
            field++;
    }
    (void)snprintf(why->field, sizeof(why->field), "%s%s", mark, field);
    clean(why->field, false);
}

enum status reason_set(struct reason *why, enum status status, const char *field,
                       const char *format, ...)
{
    if (!why)
        return status;

    set_field(why, field ? field : "");
    va_list arguments;
    va_start(arguments, format);
    const int written = vsnprintf(why->text, sizeof(why->text), format, arguments);
    va_end(arguments);
    if (written < 0) // a format that libc refuses
        why->text[0] = '\0';
    clean(why->text, written >= (int)sizeof(why->text));
    return status;
}
