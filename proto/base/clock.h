// SPDX-License-Identifier: Apache-2.0
// clock.h - monotonic time, deadlines, and wall time for logs.
//
// A deadline is a point on the monotonic clock in microseconds. Between
// processes travels what is left of it, never the point itself.
//
// Thread-safety: pure.

#ifndef RECO_PROTO_BASE_CLOCK_H
#define RECO_PROTO_BASE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#define DEADLINE_NONE INT64_MAX

int64_t clock_now_us(void);                 // monotonic, microseconds
int64_t clock_deadline_in_us(int64_t us);   // now + us, saturating; DEADLINE_NONE stays
int64_t clock_left_us(int64_t deadline_us); // 0 when passed; DEADLINE_NONE for none
bool clock_passed(int64_t deadline_us);

// A poll timeout in milliseconds, rounded up, 0..limit_ms.
int clock_poll_ms(int64_t deadline_us, int limit_ms);

// UTC as 2026-01-31T12:34:56.789Z and a NUL: 25 bytes.
#define CLOCK_TEXT_BYTES 25
void clock_utc_text(char text[CLOCK_TEXT_BYTES]);

#endif
