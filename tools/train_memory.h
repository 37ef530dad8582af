// SPDX-License-Identifier: Apache-2.0
// train_memory.h - the embeddings of all shown records of a memory, and where each id's are.
//
// Thread-safety: one thread reads it in; then it is constant.

#ifndef RECO_TOOLS_TRAIN_MEMORY_H
#define RECO_TOOLS_TRAIN_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/limits.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "tools/client.h"
#include "tools/memories.h"
#include "tools/train_rows.h"

struct train_memory_place {
    uint64_t id;
    uint32_t row;
};

struct train_memory {
    char pin[MEMORIES_PIN_BYTES]; // NAME@GENERATION
    char space[SPACE_BYTES_MAX + 1];
    uint32_t dimension;
    uint64_t records; // as it described itself, hidden ones too
    struct train_rows rows;
    struct train_memory_place *places; // [rows.count], by id
    char digest[HASH_SHA256_HEX_BYTES];
};

// What the memory says of itself. STATUS_FAILED_PRECONDITION when it has no record; else as the
// call fails.
enum status train_memory_describe(struct train_memory *memory, struct client *client,
                                  const char *name, struct reason *why) MUST_CHECK;

// Reads its records into a file beside `out`. STATUS_FAILED_PRECONDITION when all are hidden; else
// as the export and the file fail. Whatever comes, the caller ends *memory with
// train_memory_deinit().
enum status train_memory_read(struct train_memory *memory, struct client *client, const char *out,
                              struct reason *why) MUST_CHECK;
void train_memory_deinit(struct train_memory *memory);

// The row of a record; false for one that is not there.
bool train_memory_find(const struct train_memory *memory, uint64_t id, uint32_t *row) MUST_CHECK;

#endif
