// SPDX-License-Identifier: Apache-2.0
// The files of rows: growing, mapping, syncing, and the head.
//
// Rows are written with pwritev, never through the mapping: a full disk is then an error here and
// not a SIGBUS, and the kernel does not read a page that is about to be overwritten. The
// mapping sees the same page cache.
//
// Head: "RECOROWS", then little-endian format u32, generation u32, dimension u32, slots_crc u32,
// store identity u64, sequence u64, count u64, the live bits in 64-bit words, CRC-32C u32.

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "proto/base/bytes.h"
#include "proto/base/hash.h"
#include "proto/base/mem.h"
#include "shard_node/disk_error.h"
#include "shard_node/rows_internal.h"

#define HEAD_MAGIC_BYTES 8
#define HEAD_FIXED_BYTES 48
#define HEAD_BYTES_MAX ((1ull << 29) + 64) // 2^32 live bits
#define WRITE_BACK_BYTES (8u << 20)
#define FILES_REMOVED_MAX 4096

static const char head_magic[HEAD_MAGIC_BYTES] = {'R', 'E', 'C', 'O', 'R', 'O', 'W', 'S'};
static const char *const file_names[ROWS_FILES] = {"image", "text", "slots"};

static void path_of(const struct rows *rows, const char *name, char path[ROWS_PATH_BYTES + 16])
{
    (void)snprintf(path, ROWS_PATH_BYTES + 16, "%s/%s", rows->directory, name);
}

static enum status io_error(const struct rows *rows, const char *doing, const char *name,
                            struct reason *why)
{
    char path[ROWS_PATH_BYTES + 16];
    path_of(rows, name, path);
    return disk_error("rows", doing, path, why);
}

enum status rows_file_open(struct rows *rows, enum rows_file_kind kind, bool create,
                           struct reason *why)
{
    char path[ROWS_PATH_BYTES + 16];
    path_of(rows, file_names[kind], path);
    struct rows_file *file = &rows->file[kind];
    file->item_bytes =
        kind == ROWS_SLOTS ? sizeof(struct rows_slot) : (size_t)rows->dimension * sizeof(uint16_t);
    file->fd = open(path, O_RDWR | O_CLOEXEC | (create ? O_CREAT | O_TRUNC : 0), 0600);
    if (file->fd < 0) {
        if (errno == ENOENT)
            return reason_set(why, STATUS_NOT_FOUND, "rows", "there is no %s", path);
        return io_error(rows, "open", file_names[kind], why);
    }
    file->map_bytes = file->item_bytes * rows->slots_max;
    void *map = mmap(NULL, file->map_bytes, PROT_READ, MAP_SHARED | MAP_NORESERVE, file->fd, 0);
    if (map == MAP_FAILED)
        return io_error(rows, "map", file_names[kind], why);
    file->map = map;
    return STATUS_OK;
}

void rows_file_close(struct rows_file *file)
{
    if (file->map)
        munmap(file->map, file->map_bytes);
    if (file->fd >= 0)
        close(file->fd);
    *file = (struct rows_file){.fd = -1};
}

// Takes `written` bytes off the front of the parts.
static void advance(struct iovec **parts, size_t *count, size_t written)
{
    while (*count > 0 && written >= (*parts)->iov_len) {
        written -= (*parts)->iov_len;
        (*parts)++;
        (*count)--;
    }
    if (*count > 0) {
        (*parts)->iov_base = (uint8_t *)(*parts)->iov_base + written;
        (*parts)->iov_len -= written;
    }
}

enum status rows_file_write(struct rows *rows, enum rows_file_kind kind, struct iovec *parts,
                            size_t part_count, uint64_t first, struct reason *why)
{
    struct rows_file *file = &rows->file[kind];
    uint64_t offset = first * file->item_bytes;
    while (part_count > 0) {
        const ssize_t written = pwritev(file->fd, parts, (int)part_count, (off_t)offset);
        if (written < 0 && errno == EINTR)
            continue;
        rows->lacks_space = written < 0 && (errno == ENOSPC || errno == EDQUOT);
        if (written < 0)
            return io_error(rows, "write", file_names[kind], why);
        offset += (uint64_t)written;
        advance(&parts, &part_count, (size_t)written);
    }
    // The disk starts early, so that the final sync is short. Only a hint; the sync tells errors.
    if (offset >= file->unsynced_from + WRITE_BACK_BYTES) {
        (void)sync_file_range(file->fd, (off_t)file->unsynced_from,
                              (off_t)(offset - file->unsynced_from), SYNC_FILE_RANGE_WRITE);
        file->unsynced_from = offset;
    }
    return STATUS_OK;
}

enum status rows_file_sync(struct rows *rows, enum rows_file_kind kind, struct reason *why)
{
    if (fdatasync(rows->file[kind].fd) == 0)
        return STATUS_OK;
    // Whatever the reason: what is on the disk now is not known.
    return io_error(rows, "sync", file_names[kind], why) == STATUS_OK ? STATUS_OK : STATUS_IO;
}

enum status rows_file_check(struct rows *rows, enum rows_file_kind kind, uint64_t count,
                            struct reason *why)
{
    const struct rows_file *file = &rows->file[kind];
    struct stat about;
    if (fstat(file->fd, &about) != 0)
        return io_error(rows, "look at", file_names[kind], why);
    if ((uint64_t)about.st_size < count * file->item_bytes)
        return reason_set(why, STATUS_CORRUPT, "rows",
                          "%s/%s has %lld bytes, fewer than its %" PRIu64 " slots need",
                          rows->directory, file_names[kind], (long long)about.st_size, count);
    rows->file[kind].unsynced_from = count * file->item_bytes;
    return STATUS_OK;
}

// --- head

static enum status head_damaged(const struct rows *rows, const char *what, struct reason *why)
{
    return reason_set(why, STATUS_CORRUPT, "rows", "%s/head: %s", rows->directory, what);
}

static enum status head_decode(const struct rows *rows, struct bytes head, struct rows_head *out,
                               struct reason *why)
{
    if (head.count < HEAD_FIXED_BYTES + 4 || memcmp(head.data, head_magic, HEAD_MAGIC_BYTES) != 0 ||
        bytes_get_u32_le(head.data + head.count - 4) != hash_crc32c(0, head.data, head.count - 4))
        return head_damaged(rows, "it is damaged", why);
    if (bytes_get_u32_le(head.data + 8) != ROWS_FORMAT ||
        bytes_get_u32_le(head.data + 12) != rows->generation ||
        bytes_get_u32_le(head.data + 16) != rows->dimension ||
        bytes_get_u64_le(head.data + 24) != rows->store_identity)
        return head_damaged(rows, "it belongs to another store, generation or format", why);

    const uint64_t count = bytes_get_u64_le(head.data + 40);
    if (count > rows->slots_max || head.count != HEAD_FIXED_BYTES + 8 * rows_words_of(count) + 4)
        return head_damaged(rows, "its length does not fit its count", why);
    uint64_t *live = mem_try_alloc_array(rows_words_of(count) + 1, sizeof(*live));
    if (!live)
        return reason_set(why, STATUS_NO_MEMORY, "rows", "no memory for %" PRIu64 " live bits",
                          count);
    for (size_t w = 0; w < rows_words_of(count); w++)
        live[w] = bytes_get_u64_le(head.data + HEAD_FIXED_BYTES + 8 * w);
    *out = (struct rows_head){.sequence = bytes_get_u64_le(head.data + 32),
                              .count = count,
                              .slots_crc = bytes_get_u32_le(head.data + 20),
                              .live = live};
    return STATUS_OK;
}

enum status rows_head_read(const struct rows *rows, struct rows_head *out, struct reason *why)
{
    char path[ROWS_PATH_BYTES + 16];
    path_of(rows, "head", path);
    struct buffer file = {0};
    enum status status = bytes_read_file(path, HEAD_BYTES_MAX, &file);
    if (status == STATUS_OK)
        status = head_decode(rows, (struct bytes){file.data, file.count}, out, why);
    else if (status == STATUS_INVALID)
        status = head_damaged(rows, "it is longer than it can be", why);
    else
        reason_set(why, status, "rows", "cannot read %s: %s", path, status_text(status));
    buffer_deinit(&file);
    return status;
}

enum status rows_head_write(const struct rows *rows, uint64_t sequence, struct reason *why)
{
    const uint32_t slots = rows_slot_count(rows);
    const size_t words = rows_words_of(slots);
    const size_t bytes = HEAD_FIXED_BYTES + 8 * words + 4;
    uint8_t *head = mem_try_alloc(bytes);
    if (!head)
        return reason_set(why, STATUS_NO_MEMORY, "rows", "no memory for a head of %zu bytes",
                          bytes);
    memcpy(head, head_magic, HEAD_MAGIC_BYTES);
    bytes_put_u32_le(head + 8, ROWS_FORMAT);
    bytes_put_u32_le(head + 12, rows->generation);
    bytes_put_u32_le(head + 16, rows->dimension);
    bytes_put_u32_le(head + 20, rows->slots_crc);
    bytes_put_u64_le(head + 24, rows->store_identity);
    bytes_put_u64_le(head + 32, sequence);
    bytes_put_u64_le(head + 40, slots);
    for (size_t w = 0; w < words; w++)
        bytes_put_u64_le(head + HEAD_FIXED_BYTES + 8 * w, atomic_load(&rows->live[w]));
    bytes_put_u32_le(head + bytes - 4, hash_crc32c(0, head, bytes - 4));

    char path[ROWS_PATH_BYTES + 16];
    path_of(rows, "head", path);
    enum status status = bytes_replace_file(path, head, bytes);
    mem_free(head);
    if (status == STATUS_IO && (errno == ENOSPC || errno == EDQUOT))
        status = STATUS_EXHAUSTED; // the old one is as it was
    if (status != STATUS_OK)
        return reason_set(why, status, "rows", "cannot replace %s", path);
    return STATUS_OK;
}

enum status rows_head_remove(const struct rows *rows, struct reason *why)
{
    char path[ROWS_PATH_BYTES + 16];
    path_of(rows, "head", path);
    if (unlink(path) != 0 && errno != ENOENT)
        return io_error(rows, "remove", "head", why);
    return STATUS_OK;
}

enum status rows_delete_files(const char *directory, struct reason *why)
{
    DIR *folder = opendir(directory);
    if (!folder) {
        if (errno == ENOENT)
            return STATUS_OK;
        return disk_error("rows", "open", directory, why);
    }
    const struct dirent *entry = readdir(folder); // NOLINT(concurrency-mt-unsafe): a stream of ours
    for (int i = 0; entry && i < FILES_REMOVED_MAX; i++) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            (void)unlinkat(dirfd(folder), entry->d_name, 0); // what stays makes rmdir fail
        entry = readdir(folder);                             // NOLINT(concurrency-mt-unsafe)
    }
    closedir(folder);
    if (rmdir(directory) != 0 && errno != ENOENT)
        return disk_error("rows", "remove", directory, why);
    return STATUS_OK;
}
