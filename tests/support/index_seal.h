// SPDX-License-Identifier: Apache-2.0
// index_seal.h - gives a changed checkpoint of an index the length and checksums of what it has
// become, so that a test reaches what is behind them.
//
// Thread-safety: the caller's memory.

#ifndef RECO_TESTS_SUPPORT_INDEX_SEAL_H
#define RECO_TESTS_SUPPORT_INDEX_SEAL_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "proto/base/hash.h"
#include "shard_node/index/codes.h"

// The head of shard_node/index/index_file.c, byte by byte.
#define SEAL_HEAD_BYTES 192
#define SEAL_AT_FORMAT 8
#define SEAL_AT_DIMENSION 16
#define SEAL_AT_EXTRA_BITS 20
#define SEAL_AT_END 36
#define SEAL_AT_VECTORS 64
#define SEAL_AT_BYTES 72
#define SEAL_AT_GROUPS 80
#define SEAL_AT_LISTS 84
#define SEAL_AT_TABLES_CRC 88
#define SEAL_AT_RECALL 92
#define SEAL_AT_CRC 188

static inline uint32_t seal_get(const uint8_t *file, size_t at)
{
    uint32_t value;
    memcpy(&value, file + at, sizeof(value));
    return value;
}

static inline void seal_set(uint8_t *file, size_t at, uint32_t value)
{
    memcpy(file + at, &value, sizeof(value));
}

static inline uint64_t seal_padded(uint64_t bytes, uint64_t to)
{
    return (bytes + to - 1) / to * to;
}

// Where the blocks begin.
static inline uint64_t seal_blocks(const uint8_t *file)
{
    const uint64_t lists = seal_get(file, SEAL_AT_LISTS);
    const uint64_t groups = seal_get(file, SEAL_AT_GROUPS);
    const uint64_t centre_bytes = 2 * (uint64_t)codes_dimensions(seal_get(file, SEAL_AT_DIMENSION));
    const uint64_t counts = seal_padded(SEAL_HEAD_BYTES + 8 * lists, CODES_ALIGNMENT);
    const uint64_t centres = seal_padded(counts + 4 * groups, CODES_ALIGNMENT);
    return seal_padded(centres + (groups + lists) * centre_bytes, 4096);
}

static inline void seal_lists(uint8_t *file, size_t bytes, uint64_t at)
{
    const struct codes_shape shape = {.dimensions =
                                          codes_dimensions(seal_get(file, SEAL_AT_DIMENSION)),
                                      .extra_bits = seal_get(file, SEAL_AT_EXTRA_BITS)};
    const uint64_t block = codes_block_bytes(&shape) + codes_extra_bytes(&shape);
    for (uint64_t i = 0; i < seal_get(file, SEAL_AT_LISTS); i++) {
        const uint64_t count = seal_get(file, SEAL_HEAD_BYTES + 8 * i);
        const uint64_t list = (count + CODES_BLOCK - 1) / CODES_BLOCK * block;
        if (list > bytes - at)
            return;
        seal_set(file, SEAL_HEAD_BYTES + 8 * i + 4, hash_crc32c(0, file + at, list));
        at += list;
    }
}

static inline void seal(uint8_t *file, size_t bytes)
{
    if (bytes < SEAL_HEAD_BYTES)
        return;
    const uint64_t length = bytes;
    const uint64_t blocks = seal_blocks(file);
    memcpy(file + SEAL_AT_BYTES, &length, sizeof(length));
    if (seal_get(file, SEAL_AT_DIMENSION) <= CODES_DIMENSIONS_MAX &&
        seal_get(file, SEAL_AT_EXTRA_BITS) <= CODES_EXTRA_BITS_FINE && blocks <= bytes) {
        seal_lists(file, bytes, blocks);
        seal_set(file, SEAL_AT_TABLES_CRC,
                 hash_crc32c(0, file + SEAL_HEAD_BYTES, blocks - SEAL_HEAD_BYTES));
    }
    seal_set(file, SEAL_AT_CRC, hash_crc32c(0, file, SEAL_AT_CRC));
}

#endif
