// SPDX-License-Identifier: Apache-2.0
// log.h - logfmt lines on stderr: ts level event key=value ...
//
// Level: error = someone must look; warn = degraded; info = life cycle;
// debug = one request. `event` is a constant name; the rest is a printf format
// of key=value pairs whose text values are quoted by the caller with %s only
// after log_quote().
//
// A line of a thread that follows a request (proto/base/trace.h) ends with that request's words.
//
// A line is cut at 4,096 bytes, those words are not; control characters left in it become '?'.
//
// Thread-safety: safe; a line is written with one write().

#ifndef RECO_PROTO_BASE_LOG_H
#define RECO_PROTO_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/base/status.h"

enum log_level {
    LOG_ERROR,
    LOG_WARN,
    LOG_INFO,
    LOG_DEBUG,
};

// Lines above `level` are dropped. Default LOG_INFO. Safe at any time.
void log_set_level(enum log_level level);

// Whether a line of this level would be written.
bool log_takes(enum log_level level);

// Reads "error", "warn", "info", "debug". STATUS_INVALID otherwise.
enum status log_level_parse(const char *text, enum log_level *level) MUST_CHECK;

void log_line(enum log_level level, const char *event, const char *format, ...) PRINTF_LIKE(3, 4);

#define log_error(event, ...) log_line(LOG_ERROR, event, __VA_ARGS__)
#define log_warn(event, ...) log_line(LOG_WARN, event, __VA_ARGS__)
#define log_info(event, ...) log_line(LOG_INFO, event, __VA_ARGS__)
#define log_debug(event, ...) log_line(LOG_DEBUG, event, __VA_ARGS__)

// Writes `text` as a quoted logfmt value (quotes, backslashes and control
// characters escaped), cut to the room; returns `target`.
#define LOG_QUOTE_BYTES 256
const char *log_quote(const char *text, char target[LOG_QUOTE_BYTES]);

#endif
