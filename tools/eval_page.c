// SPDX-License-Identifier: Apache-2.0
#include "tools/eval_page.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define PUT_BYTES 1024

static void append(struct eval_page *page, const void *data, size_t count)
{
    if (!page->failed && count)
        page->failed = buffer_append(&page->out, data, count) != STATUS_OK;
}

void eval_page_put(struct eval_page *page, const char *format, ...)
{
    char text[PUT_BYTES];
    va_list arguments;
    va_start(arguments, format);
    const int bytes = vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    assert(bytes >= 0 && bytes < PUT_BYTES);
    append(page, text, (size_t)bytes);
}

void eval_page_join(struct eval_page *page, const struct eval_page *other)
{
    append(page, other->out.data, other->out.count);
    page->failed |= other->failed;
}

static const char *escape_of(char c)
{
    switch (c) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '"':
        return "&quot;";
    case '\t':
    case '\n':
        return " ";
    default:
        return (unsigned char)c < 0x20 || c == 0x7f ? "\xef\xbf\xbd" : NULL;
    }
}

void eval_page_text(struct eval_page *page, struct text text)
{
    for (size_t i = 0; i < text.bytes;) {
        const size_t step = bytes_utf8_step(text.data + i, text.bytes - i);
        const char *escape = step == 0 ? "\xef\xbf\xbd" : escape_of(text.data[i]);
        if (escape)
            append(page, escape, strlen(escape));
        else
            append(page, text.data + i, step);
        i += step ? step : 1;
    }
}

void eval_page_png(struct eval_page *page, struct bytes png)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    eval_page_put(page, "data:image/png;base64,");
    for (size_t i = 0; i < png.count; i += 3) {
        const size_t left = png.count - i;
        const uint32_t three = (uint32_t)png.data[i] << 16 |
                               (left > 1 ? (uint32_t)png.data[i + 1] << 8 : 0) |
                               (left > 2 ? (uint32_t)png.data[i + 2] : 0);
        char four[4] = {digits[three >> 18], digits[three >> 12 & 63], '=', '='};
        if (left > 1)
            four[2] = digits[three >> 6 & 63];
        if (left > 2)
            four[3] = digits[three & 63];
        append(page, four, sizeof(four));
    }
}
