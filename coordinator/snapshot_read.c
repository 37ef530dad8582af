// SPDX-License-Identifier: Apache-2.0
// Reading a snapshot: first the manifest and all checksums, then the records.

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "coordinator/meta.h"
#include "coordinator/snapshot_internal.h"
#include "proto/base/hash.h"
#include "proto/base/json.h"
#include "proto/base/mem.h"

#define MANIFEST_BYTES_MAX (16u << 20) // 65,536 files have about 9 MiB
#define CHUNK_BYTES (1u << 20)
#define READ_BYTES (8u << 20)

struct snapshot_reader {
    struct snapshot_place place;
    char base[SNAPSHOT_PATH_BYTES];
    char name[SNAPSHOT_PATH_BYTES];
    int folder;
    struct snapshot_about about;
    struct snapshot_file *files;
    size_t count;

    size_t at; // the file that is read
    int file;  // -1: not open yet
    uint64_t left;
    struct buffer pending; // of the file, not given out yet
    size_t taken;          // of that, given out by the last call
};

static enum status corrupt(const struct snapshot_reader *reader, const char *file,
                           const char *reason, struct reason *why)
{
    return reason_set(why, STATUS_CORRUPT, "directory", "%s/%s: %s", reader->place.name, file,
                      reason);
}

// ---------------------------------------------------------------- the manifest

static enum status bad_manifest(const char *member, const char *wanted, struct reason *why)
{
    return reason_set(why, STATUS_CORRUPT, member, "it must be %s", wanted);
}

static bool take_text(const struct json *object, const char *name, char *out, size_t room)
{
    const struct text text = json_text(json_member(object, name));
    if (text.bytes == 0 || text.bytes >= room || memchr(text.data, '\0', text.bytes))
        return false;
    memcpy(out, text.data, text.bytes);
    out[text.bytes] = '\0';
    return true;
}

static bool take_number(const struct json *object, const char *name, int64_t min, int64_t max,
                        uint64_t *out)
{
    int64_t value = 0;
    if (!json_int(json_member(object, name), &value) || value < min || value > max)
        return false;
    *out = (uint64_t)value;
    return true;
}

static bool is_hex(const char *text, size_t count)
{
    return strlen(text) == count && strspn(text, "0123456789abcdef") == count;
}

static enum status read_about(const struct json *document, struct snapshot_about *out,
                              struct reason *why)
{
    uint64_t number = 0;
    char kind[32];
    if (!take_text(document, "kind", kind, sizeof(kind)) || strcmp(kind, SNAPSHOT_KIND) != 0)
        return bad_manifest("kind", "\"" SNAPSHOT_KIND "\"", why);
    if (!take_number(document, "format", 1, INT64_MAX, &number))
        return bad_manifest("format", "a number from 1", why);
    if (number > SNAPSHOT_FORMAT)
        return reason_set(why, STATUS_FAILED_PRECONDITION, "format",
                          "it is %" PRIu64 " and this program reads up to %d: use a newer one",
                          number, SNAPSHOT_FORMAT);
    uint32_t dimension = 0;
    if (!take_text(document, "memory", out->memory, sizeof(out->memory)) ||
        meta_check_name(text_of(out->memory), NULL) != STATUS_OK)
        return bad_manifest("memory", "the name of a memory", why);
    if (!take_text(document, "space", out->space, sizeof(out->space)) ||
        meta_parse_space(text_of(out->space), &dimension, NULL) != STATUS_OK)
        return bad_manifest("space", "NAME:DIMENSION", why);
    if (!take_number(document, "generation", 1, UINT32_MAX, &number))
        return bad_manifest("generation", "a number from 1", why);
    out->generation = (uint32_t)number;
    if (!take_number(document, "dimension", 1, DIMENSION_MAX, &number) || number != dimension)
        return bad_manifest("dimension", "that of the space", why);
    out->dimension = dimension;
    if (!take_number(document, "vshards", 1, VSHARDS_MAX, &number))
        return bad_manifest("vshards", "1..4096", why);
    out->vshards = (uint32_t)number;
    if (!take_number(document, "records", 0, INT64_MAX, &out->records) ||
        !take_number(document, "hidden", 0, INT64_MAX, &out->hidden) || out->hidden > out->records)
        return bad_manifest("records", "a number, and hidden no larger one", why);
    if (!take_text(document, "content_hash", out->content_hash, sizeof(out->content_hash)) ||
        !is_hex(out->content_hash, CONTENT_HASH_BYTES))
        return bad_manifest("content_hash", "32 hexadecimal digits", why);
    return STATUS_OK;
}

static enum status read_files(const struct json *list, struct snapshot_about *about,
                              struct snapshot_file *files, struct reason *why)
{
    for (size_t i = 0; i < json_count(list); i++) {
        const struct json *entry = json_element(list, i);
        char expected[SNAPSHOT_NAME_BYTES];
        char name[SNAPSHOT_NAME_BYTES];
        snapshot_file_name(i, expected);
        if (!take_text(entry, "name", name, sizeof(name)) || strcmp(name, expected) != 0)
            return reason_set(why, STATUS_CORRUPT, "files", "number %zu must be named %s", i,
                              expected);
        if (!take_number(entry, "bytes", SNAPSHOT_MAGIC_BYTES + 1, INT64_MAX, &files[i].bytes) ||
            about->bytes + files[i].bytes > INT64_MAX ||
            !take_text(entry, "sha256", files[i].sha256, sizeof(files[i].sha256)) ||
            !is_hex(files[i].sha256, 64))
            return reason_set(why, STATUS_CORRUPT, "files",
                              "%s must have bytes and a sha256 of 64 hexadecimal digits", name);
        about->bytes += files[i].bytes;
    }
    return STATUS_OK;
}

enum status snapshot_parse_manifest(struct bytes manifest, struct snapshot_about *out,
                                    struct snapshot_file **files, size_t *count, struct reason *why)
{
    struct json *document = NULL;
    struct snapshot_about about = {.records = 0};
    struct snapshot_file *found = NULL;
    enum status status = json_parse(manifest.data, manifest.count, &document, why);
    if (status == STATUS_INVALID)
        status = STATUS_CORRUPT;
    if (status == STATUS_OK)
        status = read_about(document, &about, why);
    const struct json *list = status == STATUS_OK ? json_member(document, "files") : NULL;
    if (status == STATUS_OK && (!json_is_array(list) || json_count(list) > SNAPSHOT_FILES_MAX))
        status = bad_manifest("files", "an array of at most 65536", why);
    if (status == STATUS_OK) {
        found = mem_alloc_array(json_count(list) + 1, sizeof(*found));
        status = read_files(list, &about, found, why);
    }
    if (status == STATUS_OK) {
        *out = about;
        *files = found;
        *count = json_count(list);
    } else {
        mem_free(found);
    }
    json_destroy(&document);
    return status;
}

// ---------------------------------------------------------------- files

// Opens one and checks that it is a file of the length it should have (0: any).
static enum status open_file(const struct snapshot_reader *reader, const char *name, uint64_t bytes,
                             int *fd, struct reason *why)
{
    const int file = openat(reader->folder, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (file < 0 && errno == ENOENT)
        return corrupt(reader, name, "it is not there", why);
    if (file < 0 && errno == ELOOP)
        return corrupt(reader, name, "it is a link", why);
    if (file < 0)
        return snapshot_error(&reader->place, name, "open", why);
    struct stat about;
    enum status status = STATUS_OK;
    if (fstat(file, &about) != 0)
        status = snapshot_error(&reader->place, name, "look at", why);
    else if (!S_ISREG(about.st_mode))
        status = corrupt(reader, name, "it is no file", why);
    else if (bytes > 0 && (uint64_t)about.st_size != bytes)
        status = reason_set(why, STATUS_CORRUPT, "directory",
                            "%s/%s: it has %lld bytes, and the manifest says %" PRIu64,
                            reader->place.name, name, (long long)about.st_size, bytes);
    if (status != STATUS_OK)
        close(file);
    else
        *fd = file;
    return status;
}

// Appends at most `most` bytes; none at the end of the file.
static enum status read_some(const struct snapshot_reader *reader, int fd, const char *name,
                             size_t most, struct buffer *out, struct reason *why)
{
    if (buffer_reserve(out, most) != STATUS_OK)
        return reason_set(why, STATUS_NO_MEMORY, NULL, "no memory to read %s", name);
    ssize_t got = 0;
    do {
        got = read(fd, out->data + out->count, most);
    } while (got < 0 && errno == EINTR);
    if (got < 0)
        return snapshot_error(&reader->place, name, "read", why);
    out->count += (size_t)got;
    return STATUS_OK;
}

// Whether the manifest ends with its own checksum; a newer one is told so by its format all the
// same.
static bool is_sealed(const struct buffer *text)
{
    char hex[HASH_SHA256_HEX_BYTES];
    char tail[SNAPSHOT_TAIL_BYTES + 1];
    if (text->count < SNAPSHOT_TAIL_BYTES)
        return false;
    const size_t rest = text->count - SNAPSHOT_TAIL_BYTES;
    snapshot_sha256((struct bytes){text->data, rest}, hex);
    (void)snprintf(tail, sizeof(tail), ",\"sha256\":\"%s\"}", hex);
    return memcmp(text->data + rest, tail, SNAPSHOT_TAIL_BYTES) == 0;
}

static enum status read_manifest(struct snapshot_reader *reader, struct reason *why)
{
    int fd = -1;
    struct buffer text = {.count_max = MANIFEST_BYTES_MAX + CHUNK_BYTES};
    if (faccessat(reader->folder, SNAPSHOT_MANIFEST, F_OK, AT_SYMLINK_NOFOLLOW) != 0 &&
        errno == ENOENT)
        return corrupt(reader, SNAPSHOT_MANIFEST,
                       "it is not there: this is no snapshot, or one that was not finished", why);
    enum status status = open_file(reader, SNAPSHOT_MANIFEST, 0, &fd, why);
    size_t before = SIZE_MAX; // of the last reading
    while (status == STATUS_OK && text.count != before && text.count <= MANIFEST_BYTES_MAX) {
        before = text.count;
        status = read_some(reader, fd, SNAPSHOT_MANIFEST, CHUNK_BYTES, &text, why);
    }
    if (status == STATUS_OK && text.count > MANIFEST_BYTES_MAX)
        status = corrupt(reader, SNAPSHOT_MANIFEST, "it is longer than it can be", why);
    struct reason inner = {0};
    if (status == STATUS_OK) {
        status = snapshot_parse_manifest((struct bytes){text.data, text.count}, &reader->about,
                                         &reader->files, &reader->count, &inner);
        if (status != STATUS_OK)
            (void)reason_set(why, status, "directory", "%s/%s: %s%s%s", reader->place.name,
                             SNAPSHOT_MANIFEST, inner.field, inner.field[0] ? ": " : "",
                             inner.text);
    }
    if (status == STATUS_OK && !is_sealed(&text))
        status = corrupt(reader, SNAPSHOT_MANIFEST,
                         "its SHA-256 is not its last member: it was damaged", why);
    if (fd >= 0)
        close(fd);
    buffer_deinit(&text);
    return status;
}

static enum status check_file(struct snapshot_reader *reader, size_t index, const atomic_bool *stop,
                              struct reason *why)
{
    char name[SNAPSHOT_NAME_BYTES];
    int fd = -1;
    snapshot_file_name(index, name);
    enum status status = open_file(reader, name, reader->files[index].bytes, &fd, why);
    if (status != STATUS_OK)
        return status;
    struct hash_sha256 sha;
    hash_sha256_init(&sha);
    bool is_first = true;
    size_t got = 1;
    while (got > 0 && status == STATUS_OK) {
        reader->pending.count = 0;
        status = read_some(reader, fd, name, CHUNK_BYTES, &reader->pending, why);
        got = reader->pending.count;
        if (status == STATUS_OK && is_first &&
            (got < SNAPSHOT_MAGIC_BYTES ||
             memcmp(reader->pending.data, SNAPSHOT_MAGIC, SNAPSHOT_MAGIC_BYTES) != 0))
            status = corrupt(reader, name, "it is no file of records", why);
        is_first = false;
        hash_sha256_update(&sha, reader->pending.data, reader->pending.count);
        if (stop && atomic_load(stop))
            status = reason_set(why, STATUS_CANCELLED, NULL, "cancelled");
    }
    close(fd);
    uint8_t digest[HASH_SHA256_BYTES];
    char hex[HASH_SHA256_HEX_BYTES];
    hash_sha256_final(&sha, digest);
    hash_hex(digest, sizeof(digest), hex);
    if (status == STATUS_OK && strcmp(hex, reader->files[index].sha256) != 0)
        status = corrupt(reader, name, "its SHA-256 is not the manifest's: it was damaged", why);
    reader->pending.count = 0;
    return status;
}

enum status snapshot_reader_open(const struct snapshot_place *place, const atomic_bool *stop,
                                 struct snapshot_reader **out, struct reason *why)
{
    struct snapshot_reader *reader = mem_alloc(sizeof(*reader));
    bool made = false;
    reader->folder = -1;
    reader->file = -1;
    (void)snprintf(reader->base, sizeof(reader->base), "%s", place->base ? place->base : "");
    (void)snprintf(reader->name, sizeof(reader->name), "%s", place->name);
    reader->place =
        (struct snapshot_place){.base = place->base ? reader->base : NULL, .name = reader->name};
    enum status status = snapshot_open_folder(&reader->place, false, &reader->folder, &made, why);
    if (status == STATUS_OK)
        status = read_manifest(reader, why);
    for (size_t i = 0; i < reader->count && status == STATUS_OK; i++)
        status = check_file(reader, i, stop, why);
    if (status != STATUS_OK) {
        snapshot_reader_close(&reader);
        return status;
    }
    *out = reader;
    return STATUS_OK;
}

void snapshot_reader_close(struct snapshot_reader **reader_pointer)
{
    struct snapshot_reader *reader = *reader_pointer;
    if (!reader)
        return;
    if (reader->file >= 0)
        close(reader->file);
    if (reader->folder >= 0)
        close(reader->folder);
    buffer_deinit(&reader->pending);
    mem_free(reader->files);
    mem_free(reader);
    *reader_pointer = NULL;
}

const struct snapshot_about *snapshot_about(const struct snapshot_reader *reader)
{
    return &reader->about;
}

// ---------------------------------------------------------------- records

// Whether a whole record, as its length says, lies at the start of what is pending from `at` on.
static bool has_record(const struct snapshot_reader *reader, size_t at)
{
    const size_t rest = reader->pending.count - at;
    return rest >= PACKED_LENGTH_BYTES &&
           rest - PACKED_LENGTH_BYTES >= bytes_get_u32_le(reader->pending.data + at);
}

// Opens the next file behind its first bytes; false when there is none.
static bool next_file(struct snapshot_reader *reader, enum status *status, struct reason *why)
{
    char name[SNAPSHOT_NAME_BYTES];
    if (reader->at == reader->count)
        return false;
    snapshot_file_name(reader->at, name);
    *status = open_file(reader, name, reader->files[reader->at].bytes, &reader->file, why);
    if (*status == STATUS_OK &&
        lseek(reader->file, SNAPSHOT_MAGIC_BYTES, SEEK_SET) != SNAPSHOT_MAGIC_BYTES)
        *status = snapshot_error(&reader->place, name, "read", why);
    reader->left = reader->files[reader->at].bytes - SNAPSHOT_MAGIC_BYTES;
    return *status == STATUS_OK;
}

// Reads on until there is enough, or the file has no more.
static enum status fill(struct snapshot_reader *reader, struct reason *why)
{
    char name[SNAPSHOT_NAME_BYTES];
    snapshot_file_name(reader->at, name);
    while (reader->left > 0 && reader->pending.count < READ_BYTES) {
        const size_t before = reader->pending.count;
        const size_t most = reader->left < CHUNK_BYTES ? (size_t)reader->left : CHUNK_BYTES;
        const enum status status =
            read_some(reader, reader->file, name, most, &reader->pending, why);
        if (status != STATUS_OK)
            return status;
        if (reader->pending.count == before)
            return corrupt(reader, name, "it became shorter while it was read", why);
        reader->left -= reader->pending.count - before;
    }
    if (reader->left == 0 && reader->pending.count > 0 && !has_record(reader, 0))
        return corrupt(reader, name, "it ends in the middle of a record", why);
    return STATUS_OK;
}

enum status snapshot_read(struct snapshot_reader *reader, size_t most, struct bytes *packed,
                          size_t *count, struct reason *why)
{
    enum status status = STATUS_OK;
    struct buffer *pending = &reader->pending;
    if (reader->taken > 0) {
        memmove(pending->data, pending->data + reader->taken, pending->count - reader->taken);
        pending->count -= reader->taken;
        reader->taken = 0;
    }
    *count = 0;
    *packed = (struct bytes){0};
    if (pending->count == 0 && reader->left == 0) {
        if (reader->file >= 0) {
            close(reader->file);
            reader->file = -1;
            reader->at++;
        }
        if (!next_file(reader, &status, why))
            return status;
    }
    status = fill(reader, why);
    size_t at = 0;
    while (status == STATUS_OK && *count < most && has_record(reader, at)) {
        struct bytes rest = {pending->data + at, pending->count - at};
        struct packed_record record;
        struct reason inner = {0};
        if (packed_take(&rest, reader->about.dimension, &record, &inner) != STATUS_OK) {
            char name[SNAPSHOT_NAME_BYTES];
            char text[REASON_TEXT_BYTES + REASON_FIELD_BYTES + 32];
            snapshot_file_name(reader->at, name);
            (void)snprintf(text, sizeof(text), "a record that is none: %s: %s", inner.field,
                           inner.text);
            status = corrupt(reader, name, text, why);
        }
        at = pending->count - rest.count;
        *count += status == STATUS_OK;
    }
    if (status == STATUS_OK && *count == 0)
        status = corrupt(reader, SNAPSHOT_MANIFEST, "a record is longer than it can be", why);
    if (status != STATUS_OK)
        return status;
    reader->taken = at;
    *packed = (struct bytes){pending->data, at};
    return STATUS_OK;
}
