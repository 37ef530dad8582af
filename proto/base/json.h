// SPDX-License-Identifier: Apache-2.0
// json.h - reading JSON documents and writing JSON lines.
//
// Reading: a document is parsed into memory; depth, size and duplicate keys are
// limited. A `const struct json *` is a value inside a document and lives as long
// as the document. All getters accept NULL and then answer "absent".
//
// Thread-safety: a document may be read by many threads; a writer belongs to one.

#ifndef RECO_PROTO_BASE_JSON_H
#define RECO_PROTO_BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "proto/base/bytes.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"

struct json; // a value

#define JSON_BYTES_MAX (64u << 20) // a document
#define JSON_VALUES_MAX 4000000    // values in it; one takes up to 80 bytes of memory
#define JSON_DEPTH_MAX 64          // objects and arrays inside each other

// Parses UTF-8 text; anything but one value and white space is STATUS_INVALID
// with line and column in `why`, STATUS_NO_MEMORY when memory is out. A byte order mark in front is
// passed over, as in every other text that people write. The caller
// ends *out with json_destroy(). For a file the field of `why` is the file's name.
enum status json_parse(const void *data, size_t bytes, struct json **out,
                       struct reason *why) MUST_CHECK;
// The same for texts of strangers: with at most `values_max` values.
enum status json_parse_few(const void *data, size_t bytes, size_t values_max, struct json **out,
                           struct reason *why) MUST_CHECK;
enum status json_parse_file(const char *path, size_t bytes_max, struct json **out,
                            struct reason *why) MUST_CHECK;
void json_destroy(struct json **document);

bool json_is_object(const struct json *value);
bool json_is_array(const struct json *value);
bool json_is_text(const struct json *value);
bool json_is_number(const struct json *value);
bool json_is_bool(const struct json *value);
bool json_is_null(const struct json *value); // false for absent

const struct json *json_member(const struct json *object, const char *name); // NULL when absent
size_t json_count(const struct json *array_or_object);
const struct json *json_element(const struct json *array, size_t index);
// Walks the members of an object in no promised order: start with *iterator = NULL;
// false at the end.
bool json_next(const struct json *object, void **iterator, const char **name,
               const struct json **value);

struct text json_text(const struct json *value);         // {NULL, 0} unless a text
bool json_int(const struct json *value, int64_t *out);   // false unless an integer
bool json_double(const struct json *value, double *out); // false unless a number
bool json_bool(const struct json *value, bool fallback);

// Writing: one value into a growing buffer. Commas are put by the writer; text is
// escaped; invalid UTF-8 is replaced by U+FFFD; floats are written with the fewest
// digits that read back to the same float; NaN and infinities become null.
struct json_writer {
    struct buffer out;
    uint32_t depth;
    uint32_t lost_depth; // opened beyond the deepest one allowed
    uint64_t has_item;   // one bit per depth
    bool after_name;
    bool failed; // out of memory or deeper than 60; checked once at the end
};

void json_begin_object(struct json_writer *writer);
void json_end_object(struct json_writer *writer);
void json_begin_array(struct json_writer *writer);
void json_end_array(struct json_writer *writer);
void json_name(struct json_writer *writer, const char *name);
void json_put_text(struct json_writer *writer, struct text value);
void json_put_cstr(struct json_writer *writer, const char *value); // NULL writes null
void json_put_int(struct json_writer *writer, int64_t value);
void json_put_uint(struct json_writer *writer, uint64_t value);
void json_put_float(struct json_writer *writer, float value);
void json_put_double(struct json_writer *writer, double value); // %.6g-like, for figures
void json_put_bool(struct json_writer *writer, bool value);
void json_put_null(struct json_writer *writer);

// Writes the text and a newline to `file` with one fwrite and empties the writer.
// STATUS_IO, STATUS_NO_MEMORY.
enum status json_write_line(struct json_writer *writer, FILE *file) MUST_CHECK;
void json_writer_deinit(struct json_writer *writer);

#endif
