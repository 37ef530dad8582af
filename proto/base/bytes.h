// SPDX-License-Identifier: Apache-2.0
// bytes.h - views of memory, and bounded reading and writing of fixed formats.
//
// Thread-safety: pure.

#ifndef RECO_PROTO_BASE_BYTES_H
#define RECO_PROTO_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/status.h"

// A view: not owned, not NUL-terminated unless said so. {NULL, 0} is empty.
struct bytes {
    const uint8_t *data;
    size_t count;
};

struct text {
    const char *data; // UTF-8 unless said otherwise
    size_t bytes;
};

struct text text_of(const char *nul_terminated);
bool text_equal(struct text a, struct text b);

// For qsort() and bsearch() over struct text: by the bytes as unsigned numbers, a beginning of
// another text before that one.
int text_compare(const void *a, const void *b);

// Whether the bytes are well-formed UTF-8 (no surrogates, no overlong forms).
bool bytes_is_utf8(const void *data, size_t count);

// The length, 1..4, of the well-formed UTF-8 sequence that the bytes begin with; 0
// when they begin with none.
size_t bytes_utf8_step(const void *data, size_t count);

// The bytes of the byte order mark that the text begins with, 3 or 0: editors of Windows put one in
// front.
size_t bytes_utf8_mark(const void *data, size_t count);

// Whether the bytes are the beginning of a UTF-8 sequence whose end is missing.
bool bytes_utf8_is_cut(const void *data, size_t count);

void bytes_put_u16_be(uint8_t *at, uint16_t v);
void bytes_put_u32_be(uint8_t *at, uint32_t v);
void bytes_put_u64_be(uint8_t *at, uint64_t v);
uint16_t bytes_get_u16_be(const uint8_t *at);
uint32_t bytes_get_u32_be(const uint8_t *at);
uint64_t bytes_get_u64_be(const uint8_t *at);
void bytes_put_u32_le(uint8_t *at, uint32_t v);
void bytes_put_u64_le(uint8_t *at, uint64_t v);
uint32_t bytes_get_u32_le(const uint8_t *at);
uint64_t bytes_get_u64_le(const uint8_t *at);

// A buffer that grows; owns its memory. Zero-initialise it; buffer_deinit frees.
struct buffer {
    uint8_t *data;
    size_t count;
    size_t room;
    size_t count_max; // 0 = no limit; more gives STATUS_NO_MEMORY
};

enum status buffer_append(struct buffer *buffer, const void *data, size_t count) MUST_CHECK;
enum status buffer_reserve(struct buffer *buffer, size_t more) MUST_CHECK;
void buffer_deinit(struct buffer *buffer);

// Whole file into memory with a NUL behind it; at most bytes_max. The caller
// frees out->data with mem_free. STATUS_NOT_FOUND, STATUS_IO, STATUS_INVALID (too large),
// STATUS_NO_MEMORY. A pipe is STATUS_IO with errno ESPIPE: a server would wait for its writer.
enum status bytes_read_file(const char *path, size_t bytes_max, struct buffer *out) MUST_CHECK;

// The same of what a person names, which may be a pipe (/dev/stdin, <(...)): waits for its end.
enum status bytes_read_stream(const char *path, size_t bytes_max, struct buffer *out) MUST_CHECK;

// Writes a file so that after a crash either the old or the new one is there:
// temporary file, fsync, rename, fsync of the folder. The old file's permissions
// stay; a symbolic link to a file is replaced, not followed. STATUS_IO with errno: ESPIPE for a pipe
// or device, EISDIR for a folder, and for a link to one.
enum status bytes_replace_file(const char *path, const void *data, size_t count) MUST_CHECK;

// Whether bytes_replace_file() could begin: makes the temporary file and takes it away again. What
// is there stays as it is. STATUS_IO with errno, as that would say.
enum status bytes_try_replace(const char *path) MUST_CHECK;

// Makes a name that was created, renamed or removed survive a crash: fsync of the folder that
// `path` lies in. On failure errno says why.
bool bytes_sync_folder_of(const char *path) MUST_CHECK;

#endif
