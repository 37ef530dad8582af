// SPDX-License-Identifier: Apache-2.0
// bytes_file.c - whole files into memory and back.
//
// Replacing writes a temporary file beside the old one, syncs it, renames it
// over the old one and syncs the folder. A crash leaves the old or the new
// file, and at worst a temporary one whose name says that it is one.

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/bytes.h"
#include "proto/base/mem.h"

#define READ_BYTES_FIRST ((size_t)4096)
#define TEMPORARY_SUFFIX_BYTES 64 // ".tmp-PID-NUMBER" and the NUL
#define TEMPORARY_TRIES_MAX 100

// Reads to the end of the file. The buffer keeps room for a NUL behind it.
static enum status read_all(int file, size_t bytes_max, struct buffer *buffer)
{
    for (;;) {
        if (buffer->room - buffer->count < 2) {
            enum status status = buffer_reserve(buffer, READ_BYTES_FIRST);
            if (status != STATUS_OK)
                return status;
        }
        ssize_t got = read(file, buffer->data + buffer->count, buffer->room - buffer->count - 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return STATUS_IO;
        if (got == 0)
            return STATUS_OK;
        buffer->count += (size_t)got;
        if (buffer->count > bytes_max)
            return STATUS_INVALID;
    }
}

static enum status read_open_file(int file, bool may_be_pipe, size_t bytes_max,
                                  struct buffer *buffer)
{
    struct stat about;
    if (fstat(file, &about) != 0)
        return STATUS_IO;
    if (S_ISFIFO(about.st_mode) && !may_be_pipe) {
        errno = ESPIPE;
        return STATUS_IO;
    }

    // The size is a hint only: it is 0 under /proc, and a file can grow.
    size_t hint = about.st_size > 0 ? (size_t)about.st_size : READ_BYTES_FIRST;
    if (S_ISREG(about.st_mode) && about.st_size > 0 && hint > bytes_max)
        return STATUS_INVALID;
    size_t room;
    if (!mem_add(hint, 2, &room))
        return STATUS_NO_MEMORY;
    enum status status = buffer_reserve(buffer, room);
    if (status != STATUS_OK)
        return status;

    status = read_all(file, bytes_max, buffer);
    if (status == STATUS_OK)
        buffer->data[buffer->count] = '\0';
    return status;
}

static enum status read_path(const char *path, bool may_be_pipe, size_t bytes_max,
                             struct buffer *out)
{
    // Without O_NONBLOCK a pipe of that name would wait for its writer: a server for ever.
    int file = open(path, O_RDONLY | O_CLOEXEC | (may_be_pipe ? 0 : O_NONBLOCK));
    if (file < 0)
        return errno == ENOENT || errno == ENOTDIR ? STATUS_NOT_FOUND : STATUS_IO;

    struct buffer buffer = {0};
    enum status status = read_open_file(file, may_be_pipe, bytes_max, &buffer);
    int error = errno;
    (void)close(file);
    if (status != STATUS_OK) {
        buffer_deinit(&buffer);
        errno = error;
        return status;
    }
    *out = buffer;
    return STATUS_OK;
}

enum status bytes_read_file(const char *path, size_t bytes_max, struct buffer *out)
{
    assert(path);
    assert(out);

    return read_path(path, false, bytes_max, out);
}

enum status bytes_read_stream(const char *path, size_t bytes_max, struct buffer *out)
{
    assert(path);
    assert(out);

    return read_path(path, true, bytes_max, out);
}

// Creates a file beside `path` under a name that nobody else has, and puts its
// name into `name`. -1 when that fails.
static int create_temporary(const char *path, char *name, size_t name_bytes)
{
    static atomic_uint next_number;

    for (int i = 0; i < TEMPORARY_TRIES_MAX; i++) {
        unsigned number = atomic_fetch_add_explicit(&next_number, 1, memory_order_relaxed);
        int written = snprintf(name, name_bytes, "%s.tmp-%ld-%u", path, (long)getpid(), number);
        assert(written > 0 && (size_t)written < name_bytes);
        (void)written;
        int file = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (file >= 0 || errno != EEXIST)
            return file;
    }
    return -1;
}

static bool write_all(int file, const uint8_t *data, size_t count)
{
    while (count > 0) {
        size_t part = count < SSIZE_MAX ? count : SSIZE_MAX;
        ssize_t written = write(file, data, part);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return false;
        data += written;
        count -= (size_t)written;
    }
    return true;
}

// An old file's permissions stay: a secret must not become readable.
static bool keep_permissions(int file, const char *path)
{
    struct stat about;
    if (stat(path, &about) != 0)
        return errno == ENOENT;
    return fchmod(file, about.st_mode & 07777) == 0;
}

bool bytes_sync_folder_of(const char *path)
{
    assert(path);

    const char *slash = strrchr(path, '/');
    char *folder = mem_copy_text(slash ? path : ".");
    if (slash) // "/x" lies in "/", "a/x" in "a"
        folder[slash == path ? 1 : slash - path] = '\0';

    bool done = false;
    int file = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file >= 0) {
        done = fsync(file) == 0 || errno == EINVAL; // EINVAL: not offered by this file system
        (void)close(file);
    }
    mem_free(folder);
    return done;
}

// Whoever may write to /dev could put a file in the place of /dev/null. Else errno says what is
// there.
static bool is_replaceable(const char *path)
{
    struct stat about;
    if (stat(path, &about) != 0 || S_ISREG(about.st_mode))
        return true;
    errno = S_ISDIR(about.st_mode) ? EISDIR : ESPIPE;
    return false;
}

enum status bytes_try_replace(const char *path)
{
    assert(path);

    if (!is_replaceable(path))
        return STATUS_IO;
    size_t name_bytes = strlen(path) + TEMPORARY_SUFFIX_BYTES;
    char *name = mem_alloc(name_bytes);
    int file = create_temporary(path, name, name_bytes);
    int error = errno;
    if (file >= 0) {
        (void)close(file);
        (void)unlink(name);
    }
    mem_free(name);
    errno = error;
    return file >= 0 ? STATUS_OK : STATUS_IO;
}

enum status bytes_replace_file(const char *path, const void *data, size_t count)
{
    assert(path);
    assert(data || count == 0);

    if (!is_replaceable(path))
        return STATUS_IO;
    size_t name_bytes = strlen(path) + TEMPORARY_SUFFIX_BYTES;
    char *name = mem_alloc(name_bytes);
    int file = create_temporary(path, name, name_bytes);
    if (file < 0) {
        mem_free(name);
        return STATUS_IO;
    }

    // A failed fsync is not tried again: the kernel may have dropped the pages.
    bool written = keep_permissions(file, path) && write_all(file, data, count) && fsync(file) == 0;
    int error = errno;
    bool closed = close(file) == 0;
    bool renamed = written && closed && rename(name, path) == 0;
    if (written)
        error = errno;
    if (!renamed)
        (void)unlink(name);
    mem_free(name);
    errno = error;
    return renamed && bytes_sync_folder_of(path) ? STATUS_OK : STATUS_IO;
}
