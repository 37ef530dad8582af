// SPDX-License-Identifier: Apache-2.0
// trace.h - who asked: a request's id, and its place in a trace as W3C Trace Context has it.
//
// A trace id names everything that one request of a user leads to, in whatever process; a span is
// one hop of it. A process that is called takes the caller's trace id over and makes a span of
// its own, which it tells in turn to those that it calls. A caller that tells nothing, or nothing
// that is one, begins a trace here.
//
//   client --traceparent: T, its span--> coordinator --T, span A--> node, span B
//
// Thread-safety: safe, but a struct trace belongs to who has it.

#ifndef RECO_PROTO_BASE_TRACE_H
#define RECO_PROTO_BASE_TRACE_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/bytes.h"
#include "proto/base/limits.h"
#include "proto/base/log.h"

#define TRACE_KEY "traceparent" // of metadata and HTTP headers
#define TRACE_PARENT_BYTES 55   // of version 00
#define TRACE_WORDS_BYTES (LOG_QUOTE_BYTES + 80)

struct trace {
    char id[REQUEST_ID_BYTES_MAX + 1]; // of the request; empty: none
    uint64_t high;                     // of the trace id; both zero: there is no trace
    uint64_t low;
    uint64_t span; // this hop
    bool sampled;  // the caller records it; told on
};

// Begins this hop: goes on with the trace that `parent`, a traceparent, names, or with a new one
// where it is none by the rules of W3C. The request's id stays. True when the caller's trace goes
// on.
bool trace_begin(struct trace *trace, struct text parent);

// Whether a trace has begun.
bool trace_is_begun(const struct trace *trace);

// Sets the request's id, which is cut to its limit. False, and no id, when it is not UTF-8 text.
bool trace_set_id(struct trace *trace, struct text id);

// What is told to those that are called: version 00, this hop's span. Empty without a trace.
struct text trace_parent(const struct trace *trace, char room[TRACE_PARENT_BYTES + 1]);

// `id="..." trace=... span=...` for a log line; returns the room. What is not there is left out.
const char *trace_words(const struct trace *trace, char room[TRACE_WORDS_BYTES]);

// Log lines of this thread end with the words of `trace` from now on, which is copied; NULL: none.
void trace_follow(const struct trace *trace);
const struct trace *trace_followed(void); // NULL: none

// The level of the line that tells a request's end: debug, unless it failed or took TRACE_SLOW_US
// or longer (info), or failed in a way that is not the asker's doing (warn). A client that left is
// debug.
#define TRACE_SLOW_US 1000000
enum log_level trace_level(enum status status, int64_t took_us);

// One line of a request, as log_line().
void trace_line(const struct trace *trace, enum log_level level, const char *event,
                const char *format, ...) PRINTF_LIKE(4, 5);

#endif
