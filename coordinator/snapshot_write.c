// SPDX-License-Identifier: Apache-2.0
// Opening the folder, and writing.
//
// The folder is held open and locked, and every file is reached through it, so that nobody can put
// a link or another folder in its place meanwhile.

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "coordinator/snapshot_internal.h"
#include "proto/base/hash.h"
#include "proto/base/json.h"
#include "proto/base/mem.h"

#define FILE_BYTES_MAX (1ull << 30)
#define TEMPORARY "manifest.json.tmp"

struct snapshot_writer {
    struct snapshot_place place;
    char base[SNAPSHOT_PATH_BYTES];
    char name[SNAPSHOT_PATH_BYTES];
    int folder;
    bool made;
    bool finished;

    int file; // -1: none is open
    uint64_t file_bytes;
    struct hash_sha256 sha;
    struct snapshot_file *files; // [count], the open one too
    size_t count;

    uint64_t records;
    uint64_t hidden;
    struct packed_digest digest;
};

// ---------------------------------------------------------------- the folder

void snapshot_sha256(struct bytes data, char out[HASH_SHA256_HEX_BYTES])
{
    struct hash_sha256 sha;
    uint8_t digest[HASH_SHA256_BYTES];
    hash_sha256_init(&sha);
    hash_sha256_update(&sha, data.data, data.count);
    hash_sha256_final(&sha, digest);
    hash_hex(digest, sizeof(digest), out);
}

void snapshot_file_name(size_t index, char out[SNAPSHOT_NAME_BYTES])
{
    (void)snprintf(out, SNAPSHOT_NAME_BYTES, "records-%zu.bin", index);
}

enum status snapshot_error(const struct snapshot_place *place, const char *file, const char *doing,
                           struct reason *why)
{
    const int error = errno;
    char text[128];
    if (strerror_r(error, text, sizeof(text)) != 0)
        (void)snprintf(text, sizeof(text), "error %d", error);
    enum status status = STATUS_IO;
    if (error == ENOENT)
        status = STATUS_NOT_FOUND;
    else if (error == ENOSPC || error == EDQUOT)
        status = STATUS_EXHAUSTED;
    else if (error == ENOTDIR || error == ELOOP)
        status = STATUS_INVALID;
    return reason_set(why, status, "directory", "cannot %s %s%s%s: %s", doing, place->name,
                      file[0] ? "/" : "", file, text);
}

enum status snapshot_check_name(struct text name, struct reason *why)
{
    bool is_good = name.bytes >= 1 && name.bytes <= MEMORY_NAME_BYTES_MAX;
    for (size_t i = 0; is_good && i < name.bytes; i++) {
        const char c = name.data[i];
        const bool plain =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        is_good = plain || (i > 0 && (c == '.' || c == '_' || c == '-'));
    }
    if (is_good)
        return STATUS_OK;
    return reason_set(
        why, STATUS_INVALID, "directory",
        "'%.*s'; a server takes the name of a folder below its own snapshot folder: 1..%d "
        "letters, digits, '.', '_' and '-', the first a letter or digit",
        (int)(name.bytes < 160 ? name.bytes : 160), name.data ? name.data : "",
        MEMORY_NAME_BYTES_MAX);
}

static enum status open_base(const struct snapshot_place *place, bool create, int *fd,
                             struct reason *why)
{
    if (!place->base) {
        *fd = AT_FDCWD;
        return STATUS_OK;
    }
    enum status status = snapshot_check_name(text_of(place->name), why);
    if (status != STATUS_OK)
        return status;
    if (create && mkdir(place->base, 0700) != 0 && errno != EEXIST)
        return snapshot_error(place, "", "make the folder of", why);
    *fd = open(place->base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *fd < 0 ? snapshot_error(place, "", "open the folder of", why) : STATUS_OK;
}

enum status snapshot_open_folder(const struct snapshot_place *place, bool create, int *fd,
                                 bool *made, struct reason *why)
{
    int base = -1;
    enum status status = open_base(place, create, &base, why);
    if (status != STATUS_OK)
        return status;
    *made = create && mkdirat(base, place->name, 0700) == 0;
    if (create && !*made && errno != EEXIST)
        status = snapshot_error(place, "", "make", why);
    if (status == STATUS_OK) {
        const int links = place->base ? O_NOFOLLOW : 0; // a path of one's own may lead anywhere
        *fd = openat(base, place->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | links);
        if (*fd < 0)
            status = snapshot_error(place, "", "open", why);
    }
    if (status == STATUS_OK && *made && base >= 0)
        (void)fsync(base); // else the folder itself may be gone after a power cut
    if (base >= 0)
        close(base);
    if (status != STATUS_OK)
        return status;
    if (flock(*fd, (create ? LOCK_EX : LOCK_SH) | LOCK_NB) == 0)
        return STATUS_OK;
    close(*fd);
    return reason_set(why, STATUS_FAILED_PRECONDITION, "directory",
                      "%s is in use: a snapshot is being written or read there", place->name);
}

static bool is_ours(const char *name)
{
    size_t index = 0;
    char expected[SNAPSHOT_NAME_BYTES];
    if (strcmp(name, TEMPORARY) == 0)
        return true;
    if (sscanf(name, "records-%zu.bin", &index) != 1) // NOLINT(cert-err34-c): compared below
        return false;
    snapshot_file_name(index, expected);
    return strcmp(name, expected) == 0;
}

// What an unfinished snapshot has left goes; anything else is not touched.
static enum status clear_folder(struct snapshot_writer *writer, bool *is_free, struct reason *why)
{
    const int again = dup(writer->folder);
    DIR *folder = again >= 0 ? fdopendir(again) : NULL;
    if (!folder) {
        if (again >= 0)
            close(again);
        return snapshot_error(&writer->place, "", "list", why);
    }
    enum status status = STATUS_OK;
    rewinddir(folder);
    const struct dirent *entry = readdir(folder); // NOLINT(concurrency-mt-unsafe): a stream of ours
    for (; entry && status == STATUS_OK; entry = readdir(folder)) { // NOLINT(concurrency-mt-unsafe)
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || is_ours(name))
            continue;
        *is_free = false;
        status = reason_set(
            why, STATUS_ALREADY_EXISTS, "directory", "%s %s; name another one", writer->place.name,
            strcmp(name, SNAPSHOT_MANIFEST) == 0 ? "has a snapshot already" : "is not empty");
    }
    rewinddir(folder);
    entry = readdir(folder);                                      // NOLINT(concurrency-mt-unsafe)
    for (; entry && status == STATUS_OK; entry = readdir(folder)) // NOLINT(concurrency-mt-unsafe)
        if (is_ours(entry->d_name))
            (void)unlinkat(writer->folder, entry->d_name, 0);
    closedir(folder);
    return status;
}

enum status snapshot_writer_open(const struct snapshot_place *place, struct snapshot_writer **out,
                                 struct reason *why)
{
    struct snapshot_writer *writer = mem_alloc(sizeof(*writer));
    writer->file = -1;
    writer->folder = -1;
    (void)snprintf(writer->base, sizeof(writer->base), "%s", place->base ? place->base : "");
    (void)snprintf(writer->name, sizeof(writer->name), "%s", place->name);
    writer->place = (struct snapshot_place){
        .base = place->base ? writer->base : NULL,
        .name = writer->name,
        .file_bytes_max = place->file_bytes_max ? place->file_bytes_max : FILE_BYTES_MAX};
    bool is_free = true;
    enum status status =
        snapshot_open_folder(&writer->place, true, &writer->folder, &writer->made, why);
    if (status == STATUS_OK)
        status = clear_folder(writer, &is_free, why);
    if (status != STATUS_OK) {
        if (!is_free)
            writer->finished = true; // nothing there is ours to remove
        snapshot_writer_close(&writer);
        return status;
    }
    *out = writer;
    return STATUS_OK;
}

// ---------------------------------------------------------------- records

static enum status write_bytes(struct snapshot_writer *writer, const void *data, size_t count,
                               struct reason *why)
{
    const uint8_t *at = data;
    hash_sha256_update(&writer->sha, data, count);
    writer->file_bytes += count;
    while (count > 0) {
        const ssize_t written = write(writer->file, at, count);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0) {
            char name[SNAPSHOT_NAME_BYTES];
            snapshot_file_name(writer->count - 1, name);
            return snapshot_error(&writer->place, name, "write", why);
        }
        at += written;
        count -= (size_t)written;
    }
    return STATUS_OK;
}

static enum status begin_file(struct snapshot_writer *writer, struct reason *why)
{
    char name[SNAPSHOT_NAME_BYTES];
    if (writer->count == SNAPSHOT_FILES_MAX)
        return reason_set(why, STATUS_EXHAUSTED, "directory", "a snapshot has at most %u files",
                          SNAPSHOT_FILES_MAX);
    snapshot_file_name(writer->count, name);
    writer->file =
        openat(writer->folder, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (writer->file < 0)
        return snapshot_error(&writer->place, name, "make", why);
    writer->files = mem_grow(writer->files, writer->count + 1, sizeof(*writer->files));
    writer->files[writer->count++] = (struct snapshot_file){0};
    writer->file_bytes = 0;
    hash_sha256_init(&writer->sha);
    return write_bytes(writer, SNAPSHOT_MAGIC, SNAPSHOT_MAGIC_BYTES, why);
}

static enum status end_file(struct snapshot_writer *writer, struct reason *why)
{
    struct snapshot_file *file = &writer->files[writer->count - 1];
    uint8_t digest[HASH_SHA256_BYTES];
    char name[SNAPSHOT_NAME_BYTES];
    snapshot_file_name(writer->count - 1, name);
    hash_sha256_final(&writer->sha, digest);
    hash_hex(digest, sizeof(digest), file->sha256);
    file->bytes = writer->file_bytes;
    const bool synced = fsync(writer->file) == 0;
    enum status status = synced ? STATUS_OK : snapshot_error(&writer->place, name, "sync", why);
    if (close(writer->file) != 0 && status == STATUS_OK)
        status = snapshot_error(&writer->place, name, "close", why);
    writer->file = -1;
    return status;
}

enum status snapshot_write(struct snapshot_writer *writer, struct bytes packed, struct reason *why)
{
    while (packed.count > 0) {
        const struct bytes before = packed;
        struct packed_record record;
        enum status status = packed_take(&packed, 0, &record, why);
        if (status == STATUS_OK && writer->file < 0)
            status = begin_file(writer, why);
        const struct bytes one = {before.data, before.count - packed.count};
        if (status == STATUS_OK)
            status = write_bytes(writer, one.data, one.count, why);
        if (status != STATUS_OK)
            return status;
        packed_digest_add(&writer->digest, one);
        writer->records++;
        writer->hidden += record.hidden;
        if (writer->file_bytes >= writer->place.file_bytes_max)
            status = end_file(writer, why);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

// ---------------------------------------------------------------- the manifest

static void put_named(struct json_writer *json, const char *name, uint64_t value)
{
    json_name(json, name);
    json_put_uint(json, value);
}

static void put_manifest(struct json_writer *json, const struct snapshot_writer *writer,
                         const struct snapshot_about *about)
{
    json_begin_object(json);
    json_name(json, "kind");
    json_put_cstr(json, SNAPSHOT_KIND);
    put_named(json, "format", SNAPSHOT_FORMAT);
    json_name(json, "memory");
    json_put_cstr(json, about->memory);
    put_named(json, "generation", about->generation);
    json_name(json, "space");
    json_put_cstr(json, about->space);
    put_named(json, "dimension", about->dimension);
    put_named(json, "vshards", about->vshards);
    put_named(json, "records", about->records);
    put_named(json, "hidden", about->hidden);
    json_name(json, "content_hash");
    json_put_cstr(json, about->content_hash);
    json_name(json, "files");
    json_begin_array(json);
    for (size_t i = 0; i < writer->count; i++) {
        char name[SNAPSHOT_NAME_BYTES];
        snapshot_file_name(i, name);
        json_begin_object(json);
        json_name(json, "name");
        json_put_cstr(json, name);
        put_named(json, "bytes", writer->files[i].bytes);
        json_name(json, "sha256");
        json_put_cstr(json, writer->files[i].sha256);
        json_end_object(json);
    }
    json_end_array(json);
    if (json->failed)
        return;
    char hex[HASH_SHA256_HEX_BYTES];
    snapshot_sha256((struct bytes){json->out.data, json->out.count}, hex);
    json_name(json, "sha256");
    json_put_cstr(json, hex);
    json_end_object(json);
}

static enum status save_manifest(struct snapshot_writer *writer, const struct buffer *text,
                                 struct reason *why)
{
    const int fd = openat(writer->folder, TEMPORARY,
                          O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return snapshot_error(&writer->place, TEMPORARY, "make", why);
    bool whole = write(fd, text->data, text->count) == (ssize_t)text->count && fsync(fd) == 0;
    enum status status = STATUS_OK;
    if (!whole)
        status = snapshot_error(&writer->place, TEMPORARY, "write", why);
    close(fd);
    whole = whole && renameat(writer->folder, TEMPORARY, writer->folder, SNAPSHOT_MANIFEST) == 0 &&
            fsync(writer->folder) == 0;
    if (status == STATUS_OK && !whole)
        status = snapshot_error(&writer->place, SNAPSHOT_MANIFEST, "write", why);
    return status;
}

enum status snapshot_finish(struct snapshot_writer *writer, struct snapshot_about *about,
                            struct reason *why)
{
    enum status status = writer->file >= 0 ? end_file(writer, why) : STATUS_OK;
    if (status != STATUS_OK)
        return status;
    about->records = writer->records;
    about->hidden = writer->hidden;
    about->bytes = 0;
    for (size_t i = 0; i < writer->count; i++)
        about->bytes += writer->files[i].bytes;
    packed_digest_hex(&writer->digest, about->content_hash);

    struct json_writer json = {0};
    put_manifest(&json, writer, about);
    if (json.failed)
        status = reason_set(why, STATUS_NO_MEMORY, NULL, "no memory for the manifest");
    else
        status = save_manifest(writer, &json.out, why);
    json_writer_deinit(&json);
    writer->finished = status == STATUS_OK;
    return status;
}

void snapshot_writer_close(struct snapshot_writer **writer_pointer)
{
    struct snapshot_writer *writer = *writer_pointer;
    if (!writer)
        return;
    if (writer->file >= 0)
        close(writer->file);
    for (size_t i = 0; i < writer->count && !writer->finished; i++) {
        char name[SNAPSHOT_NAME_BYTES];
        snapshot_file_name(i, name);
        (void)unlinkat(writer->folder, name, 0);
    }
    if (writer->folder >= 0 && !writer->finished) {
        (void)unlinkat(writer->folder, TEMPORARY, 0);
        (void)unlinkat(writer->folder, SNAPSHOT_MANIFEST, 0); // renamed, and then not synced
        const int base =
            writer->place.base ? open(writer->base, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : AT_FDCWD;
        if (writer->made)
            (void)unlinkat(base, writer->name, AT_REMOVEDIR);
        if (base >= 0)
            close(base);
    }
    if (writer->folder >= 0)
        close(writer->folder);
    mem_free(writer->files);
    mem_free(writer);
    *writer_pointer = NULL;
}
