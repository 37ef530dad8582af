// SPDX-License-Identifier: Apache-2.0
// rows_internal.h - what rows.c and rows_file.c share.

#ifndef RECO_SHARD_NODE_ROWS_INTERNAL_H
#define RECO_SHARD_NODE_ROWS_INTERNAL_H

#include <pthread.h>
#include <sys/types.h>

#include "shard_node/rows.h"

#define ROWS_PATH_BYTES 4096
#define ROWS_FILES 3

enum rows_file_kind {
    ROWS_IMAGE = MODALITY_IMAGE,
    ROWS_TEXT = MODALITY_TEXT,
    ROWS_SLOTS = 2,
};

// A file that only grows, written at its end and read through one mapping that is made once, as
// large as the file may ever get. What lies behind the end is never touched.
struct rows_file {
    int fd;
    void *map;
    size_t map_bytes;
    size_t item_bytes;
    uint64_t unsynced_from; // write-back of everything before was begun
};

struct rows {
    char directory[ROWS_PATH_BYTES];
    uint32_t generation;
    uint32_t dimension;
    uint64_t store_identity;
    uint32_t slots_max;
    struct rows_file file[ROWS_FILES];
    uint32_t slots_crc; // of all slots; the writer's
    bool lacks_space;   // the writer's; the last write found none

    // Read by anyone, changed by the writer under the lock.
    atomic_uint_least32_t slot_count;
    atomic_uint_least32_t covered; // slots of the last checkpoint
    void *bits_map;
    size_t bits_bytes;
    _Atomic uint64_t *live;    // [words of slots_max], in the mapping
    _Atomic uint64_t *visible; // live and not hidden

    // Read by anyone under the lock, changed by the writer under the lock; the writer
    // reads without it.
    pthread_mutex_t lock;
    uint64_t live_count;
    uint64_t hidden_count;
    struct rows_map map;
};

// `bytes` at index `index`, whole. STATUS_IO.
struct iovec;
enum status rows_file_open(struct rows *rows, enum rows_file_kind kind, bool create,
                           struct reason *why) MUST_CHECK;
void rows_file_close(struct rows_file *file);
enum status rows_file_write(struct rows *rows, enum rows_file_kind kind, struct iovec *parts,
                            size_t part_count, uint64_t first, struct reason *why) MUST_CHECK;
enum status rows_file_sync(struct rows *rows, enum rows_file_kind kind,
                           struct reason *why) MUST_CHECK;
// STATUS_CORRUPT when it is shorter than `count` items.
enum status rows_file_check(struct rows *rows, enum rows_file_kind kind, uint64_t count,
                            struct reason *why) MUST_CHECK;

// The file `head`: what is fixed, the live bits, a checksum.
struct rows_head {
    uint64_t sequence;
    uint64_t count;
    uint32_t slots_crc;
    uint64_t *live; // mem_free()
};
enum status rows_head_read(const struct rows *rows, struct rows_head *out,
                           struct reason *why) MUST_CHECK;
enum status rows_head_write(const struct rows *rows, uint64_t sequence,
                            struct reason *why) MUST_CHECK;
enum status rows_head_remove(const struct rows *rows, struct reason *why) MUST_CHECK;

static inline size_t rows_words_of(uint64_t count)
{
    return (size_t)((count + 63) / 64);
}

#endif
