// SPDX-License-Identifier: Apache-2.0
// clock.c - monotonic time, deadlines, and wall time for logs.

#include "proto/base/clock.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#define US_PER_SECOND 1000000
#define NS_PER_US 1000
#define NS_PER_MS 1000000
#define US_PER_MS 1000

int64_t clock_now_us(void)
{
    struct timespec now;
    int result = clock_gettime(CLOCK_MONOTONIC, &now);
    assert(result == 0);
    (void)result;
    return (int64_t)now.tv_sec * US_PER_SECOND + (int64_t)now.tv_nsec / NS_PER_US;
}

int64_t clock_deadline_in_us(int64_t us)
{
    int64_t now = clock_now_us(); // never negative
    return us >= DEADLINE_NONE - now ? DEADLINE_NONE : now + us;
}

int64_t clock_left_us(int64_t deadline_us)
{
    if (deadline_us == DEADLINE_NONE)
        return DEADLINE_NONE;

    int64_t now = clock_now_us();
    return deadline_us <= now ? 0 : deadline_us - now;
}

bool clock_passed(int64_t deadline_us)
{
    return clock_left_us(deadline_us) == 0;
}

int clock_poll_ms(int64_t deadline_us, int limit_ms)
{
    assert(limit_ms >= 0);

    // Rounded up: a poll that ends before the deadline would spin.
    int64_t left = clock_left_us(deadline_us);
    int64_t left_ms = left / US_PER_MS + (left % US_PER_MS != 0 ? 1 : 0);
    return left_ms < limit_ms ? (int)left_ms : limit_ms;
}

void clock_utc_text(char text[CLOCK_TEXT_BYTES])
{
    assert(text);

    struct timespec now;
    struct tm utc;
    char seconds[] = "2026-01-31T12:34:56"; // the room it needs
    if (clock_gettime(CLOCK_REALTIME, &now) != 0 || !gmtime_r(&now.tv_sec, &utc) ||
        strftime(seconds, sizeof(seconds), "%Y-%m-%dT%H:%M:%S", &utc) != sizeof(seconds) - 1) {
        // A clock set before year 0 or after 9999: a time that nobody takes for true.
        memcpy(text, "0000-00-00T00:00:00.000Z", CLOCK_TEXT_BYTES);
        return;
    }

    unsigned ms = (unsigned)(now.tv_nsec / NS_PER_MS);
    char rest[] = {
        '.', (char)('0' + ms / 100 % 10), (char)('0' + ms / 10 % 10), (char)('0' + ms % 10), 'Z',
        '\0'};
    memcpy(text, seconds, sizeof(seconds) - 1);
    memcpy(text + sizeof(seconds) - 1, rest, sizeof(rest));
}
