// SPDX-License-Identifier: Apache-2.0
// The spaces of models that were opened before, so that their weights need not be hashed again.
//
// The small files of a model are hashed into a key each time. Of the weights the key has what git's
// index believes: device, inode, size, and both times in nanoseconds; the kernel sets the second
// one at every change, and nobody can set it back. What this cannot see are two changes within one
// tick of the file system's clock, so a file that was changed within the last TICK_NS before its
// hashing began is hashed again next time.
//
//     bytes  0..7    "recospa1"
//            8..     entries of 68 bytes, the newest first: key, 32; the space's hash, 32; its dimension, u32
//     last 8         XXH3-64 of all before
//
// Numbers are little-endian.

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/cache_file.h"
#include "proto/base/hash.h"
#include "proto/base/log.h"
#include "shaders/models/clip_internal.h"

#define MAGIC "recospa1"
#define MAGIC_BYTES 8u
#define AT_DIMENSION ((size_t)2 * HASH_SHA256_BYTES)
#define ENTRY_BYTES (AT_DIMENSION + 4u)
#define CHECK_BYTES 8u
#define FILE_BYTES_MAX (MAGIC_BYTES + CLIP_SPACE_CACHE_ENTRIES * ENTRY_BYTES + CHECK_BYTES)
#define TICK_NS                                                                                    \
    INT64_C(3000000000) // the coarsest times of a file that are known are two seconds apart

// --- the file's content

// Its entries, or none where anything in it is wrong.
static struct bytes entries_of(struct bytes file)
{
    const struct bytes none = {NULL, 0};
    if (file.count < MAGIC_BYTES + CHECK_BYTES || file.count > FILE_BYTES_MAX ||
        (file.count - MAGIC_BYTES - CHECK_BYTES) % ENTRY_BYTES != 0 ||
        memcmp(file.data, MAGIC, MAGIC_BYTES) != 0)
        return none;
    size_t end = file.count - CHECK_BYTES;
    if (bytes_get_u64_le(file.data + end) != hash_id(file.data, end))
        return none;
    return (struct bytes){file.data + MAGIC_BYTES, end - MAGIC_BYTES};
}

bool clip_space_cache_find(struct bytes file, struct clip_space_entry *entry)
{
    struct bytes entries = entries_of(file);
    for (size_t at = 0; at < entries.count; at += ENTRY_BYTES) {
        const uint8_t *found = entries.data + at;
        if (memcmp(found, entry->key, sizeof(entry->key)) != 0)
            continue;
        memcpy(entry->digest, found + sizeof(entry->key), sizeof(entry->digest));
        entry->dimension = bytes_get_u32_le(found + AT_DIMENSION);
        return true;
    }
    return false;
}

enum status clip_space_cache_add(struct bytes file, const struct clip_space_entry *added,
                                 struct buffer *out)
{
    struct bytes entries = entries_of(file);
    uint8_t entry[ENTRY_BYTES];
    memcpy(entry, added->key, HASH_SHA256_BYTES);
    memcpy(entry + HASH_SHA256_BYTES, added->digest, HASH_SHA256_BYTES);
    bytes_put_u32_le(entry + AT_DIMENSION, added->dimension);

    out->count_max = FILE_BYTES_MAX;
    enum status status = buffer_append(out, MAGIC, MAGIC_BYTES);
    if (status == STATUS_OK)
        status = buffer_append(out, entry, sizeof(entry));
    for (size_t at = 0; at < entries.count && status == STATUS_OK; at += ENTRY_BYTES) {
        bool is_full = out->count + ENTRY_BYTES + CHECK_BYTES > FILE_BYTES_MAX;
        if (!is_full && memcmp(entries.data + at, added->key, HASH_SHA256_BYTES) != 0)
            status = buffer_append(out, entries.data + at, ENTRY_BYTES);
    }
    if (status != STATUS_OK)
        return status;
    uint8_t check[CHECK_BYTES];
    bytes_put_u64_le(check, hash_id(out->data, out->count));
    return buffer_append(out, check, sizeof(check));
}

// --- a model's

static void add_number(struct hash_sha256 *hash, uint64_t number)
{
    uint8_t bytes[8];
    bytes_put_u64_le(bytes, number);
    hash_sha256_update(hash, bytes, sizeof(bytes));
}

// A file that is not there is another thing than an empty one.
static void add_file(struct hash_sha256 *hash, struct bytes file)
{
    add_number(hash, file.data ? (uint64_t)file.count + 1 : 0);
    if (file.count > 0)
        hash_sha256_update(hash, file.data, file.count);
}

static void make_key(const struct clip_files *files, const struct weights_identity *identity,
                     uint8_t key[HASH_SHA256_BYTES])
{
    struct hash_sha256 hash;
    hash_sha256_init(&hash);
    hash_sha256_update(&hash, CLIP_SPACE_VERSION, sizeof(CLIP_SPACE_VERSION));
    add_number(&hash, files->openclip);
    add_file(&hash, files->config);
    add_file(&hash, files->preprocessor);
    add_file(&hash, files->vocab);
    add_file(&hash, files->merges);
    add_file(&hash, files->tokenizer);
    add_number(&hash, identity->device);
    add_number(&hash, identity->inode);
    add_number(&hash, identity->bytes);
    add_number(&hash, (uint64_t)identity->modified_ns);
    add_number(&hash, (uint64_t)identity->changed_ns);
    hash_sha256_final(&hash, key);
}

static bool find_path(char path[CACHE_FILE_PATH_BYTES])
{
    char folder[CACHE_FILE_FOLDER_BYTES];
    return cache_file_folder(folder) &&
           snprintf(path, CACHE_FILE_PATH_BYTES, "%s/spaces.cache", folder) < CACHE_FILE_PATH_BYTES;
}

void clip_space_recall(struct clip_space_memo *memo, const struct clip_files *files,
                       const struct weights *weights, int64_t now_ns)
{
    struct weights_identity *identity = &memo->identity;
    *memo = (struct clip_space_memo){.known = false};
    if (!weights_identity(weights, identity) || identity->bytes < CLIP_SPACE_CACHE_BYTES_MIN)
        return;
    int64_t old = now_ns - TICK_NS;
    memo->may_keep = identity->modified_ns < old && identity->changed_ns < old;
    make_key(files, identity, memo->entry.key);
    char path[CACHE_FILE_PATH_BYTES];
    struct buffer file = {0};
    if (find_path(path) && cache_file_read(path, FILE_BYTES_MAX, &file))
        memo->known = clip_space_cache_find((struct bytes){file.data, file.count}, &memo->entry);
    buffer_deinit(&file);
}

void clip_space_keep(const struct clip_space_memo *memo, const struct weights *weights)
{
    struct weights_identity now;
    char path[CACHE_FILE_PATH_BYTES];
    if (memo->known || !memo->may_keep || !weights_identity(weights, &now) ||
        memcmp(&now, &memo->identity, sizeof(now)) != 0 || !find_path(path))
        return;
    struct buffer before = {0};
    struct buffer after = {0};
    (void)cache_file_read(path, FILE_BYTES_MAX, &before);
    enum status status =
        clip_space_cache_add((struct bytes){before.data, before.count}, &memo->entry, &after);
    if (status == STATUS_OK)
        status = bytes_replace_file(path, after.data, after.count);
    char quoted[LOG_QUOTE_BYTES];
    if (status != STATUS_OK)
        log_info("space_cache_not_written", "file=%s", log_quote(path, quoted));
    buffer_deinit(&before);
    buffer_deinit(&after);
}
