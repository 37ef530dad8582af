// SPDX-License-Identifier: Apache-2.0
// fusion_head.h - a trained fusion transformer: its file, and what it makes of a query and
// neighbours.
//
// A head belongs to one embedding space and has two sets of numbers: `image` refines embeddings of
// pictures with those of texts, `text` the other way round. What they compute: fusion_config.h.
//
// Only the query's token is read out, so only it pays for queries, output and MLP; keys and values
// of neighbours are never made: a head's query is carried to the side of the tokens (Wk^T q), and
// the tokens are summed before Wv. That is the same function up to rounding, and 32 d^2
// multiplications become 12.
//
// Promises: the result depends on the query and the set of neighbours alone, to the last bit: not
// on their order, on the other queries of a batch, nor on the number of threads.
//
// The file is safetensors: tensors `image.NAME` and `text.NAME` with the names of fusion_config.h,
// and texts in __metadata__: format ("reco-head-1"), space, dimension, k, config (JSON: {"image":
// {...}, "text": {...}}), data, seed, steps, curve (JSON), gate (JSON).
//
// Thread-safety: an open head may be used by many threads; they take turns.

#ifndef RECO_SHADERS_MODELS_FUSION_HEAD_H
#define RECO_SHADERS_MODELS_FUSION_HEAD_H

#include <stddef.h>
#include <stdint.h>

#include "proto/base/bytes.h"
#include "proto/base/embedding.h"
#include "proto/base/limits.h"
#include "proto/base/reason.h"
#include "proto/base/status.h"
#include "shaders/models/fusion.h"
#include "shaders/models/fusion_config.h"

#define FUSION_HEAD_FORMAT "reco-head-1"
#define FUSION_HEAD_SIDES 2u // by enum modality: what is refined
#define FUSION_HEAD_DATA_BYTES_MAX 128u
// Of any number of a head, both ways; the largest of reco-tiny's is 44. Up to here a forward pass
// makes no NaN, whatever dimension and MLP, so that what can be opened can answer. (A row whose
// squares leave the range of a float is normalised to 0.)
#define FUSION_HEAD_NUMBER_MAX 10000.0f

struct fusion_head;

struct fusion_head_info {
    char space[SPACE_BYTES_MAX + 1];
    uint32_t dimension;                             // the same in both configs
    uint32_t k;                                     // neighbours it was trained with, 1..K_WIRE_MAX
    struct fusion_config config[FUSION_HEAD_SIDES]; // by enum modality
    char data[FUSION_HEAD_DATA_BYTES_MAX + 1];      // hash of the training data; "": not known
    uint64_t seed;
    uint64_t steps;
    struct text curve; // one JSON value: how training went; {NULL, 0}: not known
    struct text gate;  // one JSON value, as fusion_gate.h reads it; {NULL, 0}: it has no gate
};

// Opens a head for embeddings of `space`, NULL for whatever it is of; `threads` as ops_open().
// STATUS_NOT_FOUND, STATUS_IO; STATUS_FAILED_PRECONDITION for a head of another space, which names
// both; STATUS_CORRUPT for a file that is none of ours, lacks a tensor, has one of the wrong shape
// or a number that is not finite or beyond FUSION_HEAD_NUMBER_MAX; STATUS_UNSUPPORTED for another
// format; STATUS_NO_MEMORY.
enum status fusion_head_open(const char *path, const char *space, uint32_t threads,
                             struct fusion_head **out, struct reason *why) MUST_CHECK;
enum status fusion_head_open_bytes(struct bytes file, const char *space, uint32_t threads,
                                   struct fusion_head **out, struct reason *why) MUST_CHECK;

// The file of the head for the embedded model, reco-tiny: a part of the program.
struct bytes fusion_head_embedded(void);

// A head of numbers in memory, one array for each side as fusion_layout_of() says; all is copied.
// STATUS_INVALID, STATUS_NO_MEMORY.
enum status fusion_head_create(const struct fusion_head_info *info,
                               const float *const numbers[FUSION_HEAD_SIDES], uint32_t threads,
                               struct fusion_head **out, struct reason *why) MUST_CHECK;

// Frees *head and sets it to NULL. NULL is allowed.
void fusion_head_close(struct fusion_head **head);

// What the file says. It and its texts live as long as the head.
const struct fusion_head_info *fusion_head_info(const struct fusion_head *head);

// The numbers of one side as fusion_layout_of() says; they live as long as the head.
const float *fusion_head_numbers(const struct fusion_head *head, enum modality side);

// Writes a head's file, by bytes_replace_file(), or appends its bytes. STATUS_INVALID when `info`
// or a number would not be read again, STATUS_IO, STATUS_NO_MEMORY.
enum status fusion_head_save(const char *path, const struct fusion_head_info *info,
                             const float *const numbers[FUSION_HEAD_SIDES],
                             struct reason *why) MUST_CHECK;
enum status fusion_head_pack(const struct fusion_head_info *info,
                             const float *const numbers[FUSION_HEAD_SIDES], struct buffer *out,
                             struct reason *why) MUST_CHECK;

// One query of a batch. Scores and payload are finite; their number may be larger than the head's
// k.
struct fusion_head_query {
    const float *query; // [dimension], unit
    struct fusion_neighbours neighbours;
    float *refined;     // [dimension]; may be `query`
    enum status status; // written: STATUS_OK, or STATUS_INVALID when nothing was left to normalise
};

// Writes the refined unit embedding of each query; without neighbours it is the query's bits. The
// gate is not applied: fusion_refine() does. A query whose status is not STATUS_OK keeps its
// `refined` as it was. Another failure than of one query (STATUS_NO_MEMORY, a lost device) is
// returned.
enum status fusion_head_refine_batch(struct fusion_head *head, enum modality side,
                                     struct fusion_head_query *queries, size_t count,
                                     struct reason *why) MUST_CHECK;

// The same for one query; its own failure is returned too.
enum status fusion_head_refine(struct fusion_head *head, enum modality side,
                               struct fusion_head_query *query) MUST_CHECK;

#endif
