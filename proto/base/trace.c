// SPDX-License-Identifier: Apache-2.0
// trace.c - traceparent: VERSION "-" TRACE "-" SPAN "-" FLAGS, in lower-case hexadecimal digits.
//
// W3C Trace Context: version ff is none, ids of zeros are none, version 00 has exactly 55
// characters. A later version may be longer, behind another dash; what is understood of it is
// taken, and told on as version 00. Of the flags only the first bit has a meaning in version 00.

#include "proto/base/trace.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "proto/base/clock.h"
#include "proto/base/hash.h"

#define VERSION_NONE 0xff
#define FLAG_SAMPLED 1u
#define LINE_BYTES 4096

static _Thread_local struct trace followed;
static _Thread_local bool follows;

// Reads `digits` digits; false when one is none.
static bool read_hex(const char *at, size_t digits, uint64_t *out)
{
    uint64_t value = 0;
    for (size_t i = 0; i < digits; i++) {
        if (at[i] >= '0' && at[i] <= '9')
            value = value << 4 | (uint64_t)(at[i] - '0');
        else if (at[i] >= 'a' && at[i] <= 'f')
            value = value << 4 | (uint64_t)(at[i] - 'a' + 10);
        else
            return false;
    }
    *out = value;
    return true;
}

static bool read_parent(struct text text, struct trace *out)
{
    uint64_t version = 0;
    uint64_t span = 0;
    uint64_t flags = 0;
    const char *at = text.data;
    if (text.bytes < TRACE_PARENT_BYTES || at[2] != '-' || at[35] != '-' || at[52] != '-')
        return false;
    if (!read_hex(at, 2, &version) || !read_hex(at + 3, 16, &out->high) ||
        !read_hex(at + 19, 16, &out->low) || !read_hex(at + 36, 16, &span) ||
        !read_hex(at + 53, 2, &flags))
        return false;
    if (version == VERSION_NONE || !trace_is_begun(out) || span == 0)
        return false;
    if (text.bytes > TRACE_PARENT_BYTES && (version == 0 || at[TRACE_PARENT_BYTES] != '-'))
        return false;
    out->sampled = flags & FLAG_SAMPLED;
    return true;
}

// Numbers that no other process makes. A kernel without any left has time and place instead: ids
// need only be different, nothing is kept secret by them.
static void fill_random(uint64_t *numbers, size_t count)
{
    if (getrandom(numbers, count * sizeof(*numbers), GRND_NONBLOCK) !=
        (ssize_t)(count * sizeof(*numbers)))
        for (size_t i = 0; i < count; i++) {
            const struct {
                int64_t now_us;
                const void *place;
                uint64_t number;
            } seed = {clock_now_us(), numbers, i};
            numbers[i] = hash_id(&seed, sizeof(seed));
        }
    for (size_t i = 0; i < count; i++)
        numbers[i] += numbers[i] == 0; // zeros are none
}

bool trace_begin(struct trace *trace, struct text parent)
{
    assert(trace);

    uint64_t numbers[3];
    struct trace found = {.sampled = false};
    fill_random(numbers, 3);
    bool goes_on = read_parent(parent, &found);
    trace->span = numbers[0];
    trace->high = goes_on ? found.high : numbers[1];
    trace->low = goes_on ? found.low : numbers[2];
    trace->sampled = goes_on && found.sampled;
    return goes_on;
}

bool trace_is_begun(const struct trace *trace)
{
    assert(trace);

    return trace->high != 0 || trace->low != 0;
}

bool trace_set_id(struct trace *trace, struct text id)
{
    assert(trace);

    size_t bytes = id.bytes < REQUEST_ID_BYTES_MAX ? id.bytes : REQUEST_ID_BYTES_MAX;
    memset(trace->id, 0, sizeof(trace->id));
    if (bytes == 0 || !bytes_is_utf8(id.data, bytes))
        return false;
    memcpy(trace->id, id.data, bytes);
    return true;
}

struct text trace_parent(const struct trace *trace, char room[TRACE_PARENT_BYTES + 1])
{
    assert(trace && room);

    if (!trace_is_begun(trace))
        return (struct text){NULL, 0};
    (void)snprintf(room, TRACE_PARENT_BYTES + 1,
                   "00-%016" PRIx64 "%016" PRIx64 "-%016" PRIx64 "-%s", trace->high, trace->low,
                   trace->span, trace->sampled ? "01" : "00");
    return text_of(room);
}

const char *trace_words(const struct trace *trace, char room[TRACE_WORDS_BYTES])
{
    assert(trace && room);

    char id[LOG_QUOTE_BYTES];
    size_t count = 0;
    room[0] = '\0';
    if (trace->id[0] != '\0')
        count = (size_t)snprintf(room, TRACE_WORDS_BYTES, "id=%s", log_quote(trace->id, id));
    if (trace_is_begun(trace))
        (void)snprintf(room + count, TRACE_WORDS_BYTES - count,
                       "%strace=%016" PRIx64 "%016" PRIx64 " span=%016" PRIx64, count ? " " : "",
                       trace->high, trace->low, trace->span);
    return room;
}

void trace_follow(const struct trace *trace)
{
    follows = trace != NULL;
    if (trace)
        followed = *trace;
}

const struct trace *trace_followed(void)
{
    return follows ? &followed : NULL;
}

enum log_level trace_level(enum status status, int64_t took_us)
{
    switch ((int)status) {
    case STATUS_INTERNAL:
    case STATUS_CORRUPT:
    case STATUS_IO:
    case STATUS_NO_MEMORY:
        return LOG_WARN;
    case STATUS_CANCELLED:
        return LOG_DEBUG;
    default:
        return status == STATUS_OK && took_us < TRACE_SLOW_US ? LOG_DEBUG : LOG_INFO;
    }
}

void trace_line(const struct trace *trace, enum log_level level, const char *event,
                const char *format, ...)
{
    assert(trace && format);

    if (!log_takes(level))
        return;
    char text[LINE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    const struct trace before = followed;
    const bool followed_before = follows;
    trace_follow(trace);
    log_line(level, event, "%s", text);
    trace_follow(followed_before ? &before : NULL);
}
